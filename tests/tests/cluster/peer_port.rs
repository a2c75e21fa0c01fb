//! Strangers on the peer port: their connection is closed, and nothing else happens.

use std::time::Duration;

use mainstay_tests::{Cluster, Ledger, PATIENCE, Writer, crc32c, until};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::PROGRAM;

/// The kind of a greeting, and of the answer to one.
const HELLO: u8 = 1;
const HELLO_ANSWER: u8 = 2;

/// Where a greeting has its protocol range: behind length, checksum, kind and magic.
const PROTOCOL_AT: usize = 9 + 8;

/// A frame as peers send them, with a right checksum.
fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let checked = [&[kind], body].concat();
    let len = u32::try_from(checked.len()).expect("frames of tests are short");
    [&len.to_le_bytes()[..], &crc32c(&checked).to_le_bytes(), &checked].concat()
}

/// Sends `bytes` to the peer port at `address` and reads until the node closes the connection.
async fn answer_to(address: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.expect("the node listens");
    // The node may close before it has read all.
    let _sent = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let closed = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    assert!(closed.is_ok(), "the node keeps a stranger's connection open");
    answer
}

/// The cluster still serves, in `term`, and holds what was written.
async fn assert_undisturbed(cluster: &mut Cluster, term: u64, ledger: &Ledger) {
    cluster.serves().await;
    for client in cluster.clients() {
        ledger.assert_kept_by(&client).await;
        let now = client.get("none").answer().await.number("Mainstay-Term");
        assert_eq!(now, term, "strangers made an election");
    }
}

#[tokio::test]
async fn garbage_on_the_peer_port_closes_that_connection_only() {
    let mut cluster = Cluster::three(PROGRAM).await;
    let term = cluster[0].client().get("none").answer().await.number("Mainstay-Term");
    let writer = Writer::start(&cluster.clients(), "load", 8);
    let mut damaged = frame(HELLO, b"MSTYPEER");
    damaged[4] ^= 1;
    let strangers = [
        ("an HTTP request", b"GET /v1/kv/a HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("a TLS greeting", b"\x16\x03\x01\x00\xf1\x01\x00\x00\xed\x03\x03".to_vec()),
        ("bytes of ones", vec![0xff; 100_000]),
        ("zeros", vec![0; 100_000]),
        ("a frame over the limit", (32 * 1024 * 1024 + 1_u32).to_le_bytes().repeat(2)),
        ("a frame with a wrong checksum", damaged),
        ("a greeting of garbage", frame(HELLO, &[0xfd; 64])),
        ("a greeting with another magic", frame(HELLO, &[b'X'; 64])),
        ("a call before a greeting", frame(3, &[0; 16])),
        ("half a frame and silence", frame(HELLO, &[0; 64])[..20].to_vec()),
        ("silence", Vec::new()),
    ];
    for (at, (name, bytes)) in strangers.iter().enumerate() {
        let address = cluster[at % 3].plan.peer_address();
        let answer = answer_to(&address, bytes).await;
        assert!(answer.is_empty(), "{name} was answered: {answer:?}");
    }
    let ledger = writer.stop().await;
    assert!(ledger.acknowledged() > 0, "writes stood still");
    assert_undisturbed(&mut cluster, term, &ledger).await;
}

/// What the other nodes greet node `at` with, learnt by taking its place.
async fn greeting_to(cluster: &mut Cluster, at: usize) -> Vec<u8> {
    cluster[at].kill().await;
    let address = cluster[at].plan.peer_address();
    let listener = until("the dead node's port", async || TcpListener::bind(&address).await).await;
    let accepted = timeout(PATIENCE, listener.accept()).await.expect("a node dials");
    let (mut stream, _from) = accepted.expect("accepts");
    let mut head = [0; 8];
    stream.read_exact(&mut head).await.expect("a greeting begins");
    let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    let mut rest = vec![0; usize::try_from(len).expect("fits")];
    stream.read_exact(&mut rest).await.expect("a greeting is whole");
    [&head[..], &rest].concat()
}

/// The greeting with its body changed and its checksum right again.
fn forged(greeting: &[u8], change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut greeting = greeting.to_vec();
    change(&mut greeting);
    frame(greeting[8], &greeting[9..])
}

#[tokio::test]
async fn peers_of_another_cluster_or_protocol_are_turned_away_by_name() {
    let mut cluster = Cluster::three(PROGRAM).await;
    let answer = cluster[0].client().put("k", "v").answer().await;
    let cluster_id = answer.expect_status(200).number("Mainstay-Cluster-Id").to_le_bytes();
    let leader = cluster.leader().await;
    let [gone, other] = cluster.others(leader)[..] else { panic!("three nodes") };
    let answer = cluster[leader].client().get("k").answer().await;
    let leader_id = answer.expect_status(200).number("Mainstay-Member-Id").to_le_bytes();
    let greeting = greeting_to(&mut cluster, gone).await;
    // Both survivors dial the one that is gone; a greeting is shown to the one that did not send it.
    let from_leader = greeting.windows(8).any(|eight| eight == leader_id);
    let asked = if from_leader { other } else { leader };
    assert_eq!((greeting[8], &greeting[9..17]), (HELLO, &b"MSTYPEER"[..]));
    let id_at = greeting.windows(8).position(|eight| eight == cluster_id);
    let id_at = id_at.expect("a greeting names the cluster");
    let address = cluster[asked].plan.peer_address();

    // As it is, the greeting is welcome: what is refused below is refused for what was changed.
    let mut stream = TcpStream::connect(&address).await.expect("connects");
    stream.write_all(&greeting).await.expect("sends");
    let mut head = [0; 9];
    timeout(PATIENCE, stream.read_exact(&mut head)).await.expect("in time").expect("an answer");
    assert_eq!(head[8], HELLO_ANSWER);
    assert!(!cluster[asked].log().contains("turned away"), "a member was turned away");
    drop(stream);

    let other_cluster = forged(&greeting, |bytes| bytes[id_at] ^= 1);
    let newer = forged(&greeting, |bytes| {
        bytes[PROTOCOL_AT..PROTOCOL_AT + 4].copy_from_slice(&[9, 0, 9, 0]);
    });
    for (stranger, said) in [(other_cluster, "belongs to cluster"), (newer, "peer protocol 9 only")]
    {
        let answer = answer_to(&address, &stranger).await;
        assert_eq!(answer.get(8), Some(&HELLO_ANSWER), "a sentence is owed: {answer:?}");
        let node = &cluster[asked];
        until("a line in the log", async || {
            let log = node.log();
            if log.contains("turned away") && log.contains(said) { Ok(()) } else { Err(log) }
        })
        .await;
    }
    cluster.start(gone);
    cluster.serves().await;
    let read = cluster[asked].client().get("k").answer().await;
    assert_eq!(read.expect_status(200).text(), "v");
}

#[tokio::test]
async fn a_node_of_another_cluster_at_a_members_address_joins_nothing() {
    let mut cluster = Cluster::three(PROGRAM).await;
    let leader = cluster.leader().await;
    let gone = cluster.others(leader)[0];
    cluster[leader].client().put("ours", "1").answer().await.expect_status(200);
    cluster[gone].kill().await;

    let mut stranger = Cluster::planned(PROGRAM, 1).await;
    let plan = &mut stranger[0].plan;
    plan.peer_port = cluster[gone].plan.peer_port;
    plan.bootstrap = format!("n1={}", plan.peer_address());
    stranger.start(0);
    stranger.serves().await;
    stranger[0].client().put("theirs", "1").answer().await.expect_status(200);
    let stranger_id = stranger[0].client().get("theirs").answer().await;
    let stranger_id = stranger_id.number("Mainstay-Cluster-Id");

    let survivors = cluster.others(gone);
    for at in survivors.iter().copied() {
        let client = cluster[at].client();
        client.put("ours", "2").answer().await.expect_status(200);
        let read = client.get("theirs").answer().await;
        read.expect_problem(404, "not_found");
        assert_ne!(read.number("Mainstay-Cluster-Id"), stranger_id);
    }
    stranger[0].client().get("ours").answer().await.expect_problem(404, "not_found");
    until("a node that turns strangers away", async || {
        let log = stranger[0].log();
        if log.contains("turned away") { Ok(()) } else { Err(log) }
    })
    .await;
    stranger[0].kill().await;
    cluster.start(gone);
    cluster.serves().await;
    let read = cluster[gone].client().get("ours").within(Duration::from_secs(6)).answer().await;
    assert_eq!(read.expect_status(200).text(), "2");
}
