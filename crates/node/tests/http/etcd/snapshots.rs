//! Snapshots on their way: pieces and hash, how many at a time, and what ends them.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use mainstay_etcd_protocol::etcdserverpb::{PutRequest, SnapshotRequest, SnapshotResponse};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tonic::{Code, Streaming};

use super::{Api, put, refused, says};
use crate::harness::with_node;

impl Api {
    async fn snapshot(&mut self) -> Result<Streaming<SnapshotResponse>, tonic::Status> {
        let begun = self.maintenance.snapshot(SnapshotRequest {}).await;
        begun.map(tonic::Response::into_inner)
    }

    /// More than waits on a connection whose other end does not read.
    async fn put_much(&mut self) {
        for number in 0..8 {
            let value = Bytes::from(vec![number; 1_000_000]);
            let key = Bytes::from(vec![b'k', number]);
            let request = PutRequest { key, value, ..PutRequest::default() };
            self.kv.put(request).await.expect("is written");
        }
    }
}

async fn pieces(mut stream: Streaming<SnapshotResponse>) -> Vec<SnapshotResponse> {
    let mut pieces = Vec::new();
    while let Some(piece) = stream.message().await.expect("goes on") {
        pieces.push(piece);
    }
    pieces
}

/// What the pieces carry: those of the file, and its hash.
async fn blobs(stream: Streaming<SnapshotResponse>) -> Vec<Bytes> {
    pieces(stream).await.into_iter().map(|piece| piece.blob).collect()
}

/// The file of a snapshot whose hash is right.
fn file(blobs: &[Bytes]) -> Vec<u8> {
    let (hash, blobs) = blobs.split_last().expect("there is a hash");
    assert!(blobs.iter().all(|blob| blob.len() <= 32 * 1024));
    let file = blobs.concat();
    assert_eq!(&hash[..], &Sha256::digest(&file)[..]);
    assert_eq!(file.len() % 4_096, 0, "whole pages");
    assert_eq!(file[16..20], 0xED0C_DAED_u32.to_le_bytes(), "a file of bbolt");
    file
}

#[test]
fn a_snapshot_comes_in_pieces_that_say_what_is_left_and_its_hash_comes_last() {
    with_node(async |node| {
        let mut api = Api::of(&node);
        api.put_much().await;
        let stream = api.snapshot().await.expect("begins");
        let pieces = pieces(stream).await;
        let blobs: Vec<Bytes> = pieces.iter().map(|piece| piece.blob.clone()).collect();
        let mut left = file(&blobs).len() as u64;
        assert!(left > 8_000_000);
        for piece in &pieces[..pieces.len() - 1] {
            left -= piece.blob.len() as u64;
            assert_eq!((piece.remaining_bytes, &piece.version[..]), (left, "3.5.0"));
        }
        assert_eq!((left, pieces[pieces.len() - 1].remaining_bytes), (0, 0));
        node
    });
}

#[test]
fn a_snapshot_is_of_the_moment_at_which_it_was_asked_for() {
    with_node(async |node| {
        let mut api = Api::of(&node);
        api.put("early", "said before").await;
        api.put_much().await;
        let stream = api.snapshot().await.expect("begins");
        // It goes on beside writes, deletions and compaction, which are not in it.
        api.kv.put(put("late", "said after")).await.expect("is written");
        api.kv.delete_range(super::delete("early")).await.expect("is deleted");
        let revision = api.put("late", "said again").await;
        let compact =
            mainstay_etcd_protocol::etcdserverpb::CompactionRequest { revision, physical: true };
        api.kv.compact(compact).await.expect("is compacted");
        let file = file(&blobs(stream).await);
        let has = |text: &str| file.windows(text.len()).any(|found| found == text.as_bytes());
        assert_eq!(
            (has("said before"), has("said after"), has("said again")),
            (true, false, false)
        );
        assert!(!has("scheduledCompactRev"));
        node
    });
}

#[test]
fn a_third_snapshot_at_a_time_is_refused_and_a_client_that_goes_leaves_its_place() {
    with_node(async |node| {
        let mut api = Api::of(&node);
        api.put_much().await;
        let first = api.snapshot().await.expect("begins");
        let _second = api.snapshot().await.expect("begins");
        let refusal = "this node is sending as many snapshots as it may; ask another one, or later";
        let third = refused(api.snapshot().await);
        assert_eq!(third, says(Code::ResourceExhausted, refusal));
        drop(first);
        node.until("the place is free", async |_node| api.snapshot().await.is_ok()).await;
        node
    });
}

#[test]
fn a_snapshot_ends_with_a_word_when_the_node_stops() {
    with_node(async |mut node| {
        let mut api = Api::of(&node);
        api.put_much().await;
        let mut stream = api.snapshot().await.expect("begins");
        stream.message().await.expect("goes on").expect("has a first piece");
        node.begin_to_stop();
        let ended = loop {
            match stream.message().await {
                Ok(Some(_piece)) => {}
                Ok(None) => panic!("the node sent everything before it stopped"),
                Err(status) => break status,
            }
        };
        assert_eq!(
            (ended.code(), ended.message()),
            (Code::Unavailable, "etcdserver: server stopped")
        );
        node
    });
}

#[test]
fn a_node_that_takes_no_writes_gives_a_snapshot_and_an_import_lets_it_wait() {
    with_node(async |node| {
        let mut api = Api::of(&node);
        api.put("a", "1").await;
        for settings in [r#"{"read_only":true}"#, r#"{"read_only":false,"quota_bytes":"1"}"#] {
            let switched = node.put("/v1/cluster/settings", settings).await;
            assert_eq!(switched.status.as_u16(), 200, "{:?}", switched.body);
            api.kv.put(put("a", "2")).await.expect_err("no writes are taken");
            let stream = api.snapshot().await.expect("begins");
            file(&blobs(stream).await);
        }
        node
    });
    with_node(async |node| {
        let mut api = Api::of(&node);
        node.until("an import to begin", async |node| {
            let begun = node.post("/v1/cluster/import", r#"{"begin":{"source":"77"}}"#).await;
            begun.status.as_u16() == 200
        })
        .await;
        let (code, text) = refused(api.snapshot().await);
        assert_eq!(code, Code::FailedPrecondition);
        assert!(text.contains("import"), "{text}");
        node
    });
}

#[test]
fn the_gateway_sends_a_snapshot_line_by_line() {
    with_node(async |node| {
        Api::of(&node).put("a", "1").await;
        let answer = node.post("/v3/maintenance/snapshot", "{}").await;
        assert_eq!(answer.status.as_u16(), 200);
        let text = String::from_utf8(answer.body.to_vec()).expect("is text");
        let lines = text.lines().map(|line| serde_json::from_str(line).expect("is JSON"));
        let lines: Vec<Value> = lines.collect();
        let blob = |line: &Value| {
            let blob = line["result"]["blob"].as_str().expect("a piece");
            Bytes::from(BASE64.decode(blob).expect("is base64"))
        };
        let whole = file(&lines.iter().map(blob).collect::<Vec<_>>());
        let left = whole.len() - blob(&lines[0]).len();
        let told = lines[0]["result"]
            .get("remaining_bytes")
            .map_or("0", |left| left.as_str().expect("a number of 64 bits is text"));
        assert_eq!(told, left.to_string());
        node
    });
}
