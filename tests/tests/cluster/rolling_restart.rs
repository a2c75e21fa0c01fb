//! Nodes that are told to stop and started again, one after the other, while programs write, read
//! and watch through the Rust client: no request fails, nothing is lost, nothing happens twice.

use std::sync::Arc;

use mainstay_client::{Client, ClientOptions, Watch, WatchMessage, WatchRequest};
use mainstay_tests::{Cluster, Signal, until};
use mainstay_world::RealNet;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    PROGRAM,
    programs::{Programs, Written, assert_holds},
};

/// 500 requests a second in all.
const PROGRAMS: usize = 10;

/// Requests between two restarts.
const SOME: usize = 400;

fn client(cluster: &Cluster) -> Client {
    let endpoint = |client: &mainstay_tests::Client| client.url().parse().expect("an endpoint");
    let options = ClientOptions::new(cluster.clients().iter().map(endpoint).collect());
    Client::new(Arc::new(RealNet), options)
}

/// Sees every change below `rolling/`, in order, until it has seen `last`.
async fn watch_until(mut watch: Watch, last: Arc<std::sync::OnceLock<u64>>) -> Written {
    let (mut seen, mut revision) = (Written::new(), 0);
    loop {
        match watch.next().await.expect("a watch goes on by itself") {
            WatchMessage::Change(change) => {
                assert!(change.revision > revision, "{change:?} after revision {revision}");
                revision = change.revision;
                for event in change.events {
                    let key = String::from_utf8(event.pair.key.to_vec()).expect("keys are text");
                    let before = seen.insert(key.clone(), change.revision);
                    assert_eq!(before, None, "{key} was written twice");
                }
            }
            WatchMessage::Progress { revision: passed } => revision = revision.max(passed),
        }
        if last.get().is_some_and(|last| revision >= *last) {
            return seen;
        }
    }
}

#[tokio::test]
async fn a_rolling_restart_loses_nothing_and_fails_no_request_of_the_client() {
    let mut cluster = Cluster::three(PROGRAM).await;
    let client = client(&cluster);
    let watch = client.watch(WatchRequest::prefix("rolling/")).await.expect("a watch");
    let last = Arc::default();
    let watcher = tokio::spawn(watch_until(watch, Arc::clone(&last)));
    let programs = Programs::start("rolling/", vec![client; PROGRAMS]);
    programs.write_more(SOME).await;

    // Twice round, so that each node is restarted as a leader or right after having been one.
    let leader = cluster.leader().await;
    for step in 0..6 {
        let at = (leader + step) % 3;
        cluster[at].signal(Signal::Terminate);
        assert_eq!(cluster[at].ended().await, 0, "{} did not end in good order", at + 1);
        programs.write_more(SOME).await;
        cluster.start(at);
        cluster.serves().await;
        programs.write_more(SOME).await;
    }

    let written = programs.stop().await;
    let newest = written.values().copied().max().expect("something was written");
    last.set(newest).expect("set once");
    let seen = watcher.await.expect("the watch saw everything");
    assert_eq!(seen, written, "the watch and the programs differ");
    for reader in cluster.clients() {
        assert_holds(&reader, "rolling/", &written).await;
    }
}

#[tokio::test]
async fn a_leader_that_stops_hands_over_before_it_has_finished_what_runs() {
    let mut cluster = Cluster::three(PROGRAM).await;
    let leader = cluster.leader().await;
    let others = cluster.others(leader);
    let address = cluster[leader].client().url().trim_start_matches("http://").to_owned();

    // A request whose body is still on its way, and a connection on which nothing runs.
    let mut slow = TcpStream::connect(&address).await.expect("connects");
    let head = "PUT /v1/kv/slow HTTP/1.1\r\nhost: n\r\ncontent-length: 2\r\n\r\n1";
    slow.write_all(head.as_bytes()).await.expect("writes");
    let mut kept = TcpStream::connect(&address).await.expect("connects");
    let get = b"GET /v1/kv/none HTTP/1.1\r\nhost: n\r\n\r\n";
    kept.write_all(get).await.expect("writes");
    let answer = read_some(&mut kept).await;
    assert!(answer.starts_with("HTTP/1.1 404") && !answer.contains("connection: close"));
    let observer = cluster[leader].client().clone();
    until("both requests to have arrived", async || {
        let page = observer.request("GET", "/metrics").answer().await.text();
        // The request for the metrics is the other one.
        if page.contains("mainstay_http_requests_running 2\n") { Ok(()) } else { Err("not yet") }
    })
    .await;

    cluster[leader].signal(Signal::Terminate);
    // Kept connections are told in words, and then closed.
    until("a refusal", async || {
        let refused = observer.put("new", "1").send().await.map_err(|error| error.to_string())?;
        let problem = refused.problem().ok_or_else(|| refused.text())?;
        assert_eq!((problem.code.as_str(), problem.took_effect.as_str()), ("shutting_down", "no"));
        assert_eq!((refused.status, refused.header("retry-after")), (503, "1"));
        assert_eq!(refused.header("connection"), "close");
        Ok::<_, String>(())
    })
    .await;
    kept.write_all(get).await.expect("it is not closed under a request that may be on its way");
    let answer = read_some(&mut kept).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("connection: close"), "{answer}");
    assert_eq!(read_some(&mut kept).await, "", "closed after the word");
    let ready = observer.request("GET", "/health/ready").answer().await;
    assert_eq!(ready.status, 503, "{}", ready.text());
    let live = observer.request("GET", "/health/live").answer().await;
    assert_eq!(live.status, 200, "a node that finishes its work is not to be killed");

    // The others have a leader while the old one still has a request to finish.
    let next = cluster.leader_of(&others).await;
    let put = cluster[next].client().put("while", "1").answer().await;
    put.expect_status(200);
    let elections = cluster[next].client().request("GET", "/v1/failure-detector").answer().await;
    assert_eq!(elections.json()["elections"][0]["cause"], "shutdown", "{}", elections.text());
    assert!(cluster[leader].process().ended().is_none(), "it left a request unfinished");

    // It goes through with the next leader, and then the node ends.
    slow.write_all(b"2").await.expect("writes");
    let answer = read_some(&mut slow).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"), "{answer}");
    assert_eq!(cluster[leader].ended().await, 0);
    cluster[next].client().get("slow").answer().await.expect_status(200);
}

async fn read_some(stream: &mut TcpStream) -> String {
    let mut answer = vec![0; 4096];
    let read = stream.read(&mut answer).await.expect("reads");
    String::from_utf8_lossy(&answer[..read]).into_owned()
}
