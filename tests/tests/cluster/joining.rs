//! A node that joins through a URL behind which nobody can help: what may pass is told at once and
//! waited for, what cannot is refused at once, both with the reason and what would work.

use std::path::Path;

use mainstay_tests::{Cluster, CommandLine, Finished, free_port, until};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::{PROGRAM, bad_starts::assert_refused};

/// Exit codes of the command line.
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const UNAVAILABLE: i32 = 4;

/// Runs a node that joins through `url` to its end; `more` are further words.
async fn join(commands: &CommandLine, url: &str, more: &[&str]) -> Finished {
    let client_addr = format!("127.0.0.1:{}", free_port());
    join_from(commands, &client_addr, url, more).await
}

async fn join_from(
    commands: &CommandLine,
    client_addr: &str,
    url: &str,
    more: &[&str],
) -> Finished {
    let peer_addr = format!("127.0.0.1:{}", free_port());
    let data_dir = commands.folder().join(format!("data-{}", free_port()));
    let data_dir = data_dir.to_str().expect("temporary folders have plain names");
    let mut words = vec!["serve", "--name", "n4", "--data-dir", data_dir];
    words.extend(["--client-addr", client_addr, "--peer-addr", &peer_addr, "--join", url]);
    words.extend(more);
    commands.run(&words).await
}

/// The lines in which a node says that it could not join yet.
fn notices(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.contains("could not join yet")).collect()
}

/// Somebody who takes connections and gives each request the answer that `answer` has for it.
struct Stranger {
    url: String,
    serving: JoinHandle<()>,
}

impl Stranger {
    async fn who_says(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("the system has a port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let serving = tokio::spawn(async move {
            while let Ok((mut stream, _from)) = listener.accept().await {
                let request = request(&mut stream).await;
                // Whoever asked may be gone.
                let _said = stream.write_all(&answer(&request)).await;
            }
        });
        Self { url, serving }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// What was asked, head and body, as far as it came at once.
async fn request(stream: &mut TcpStream) -> String {
    let mut bytes = vec![0; 4096];
    let read = stream.read(&mut bytes).await.unwrap_or(0);
    String::from_utf8_lossy(&bytes[..read]).into_owned()
}

fn http(status: &str, body: &str) -> Vec<u8> {
    let len = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {len}\r\nconnection: close\r\n\r\n{body}")
        .into_bytes()
}

#[tokio::test]
async fn a_dead_url_is_told_at_once_tried_for_a_while_and_given_up_with_the_reason() {
    let commands = CommandLine::new(PROGRAM);
    let url = format!("http://127.0.0.1:{}", free_port());
    let finished = join(&commands, &url, &["--join-timeout-ms", "2500"]).await;
    let told = notices(&finished.stderr);
    let refused = format!("nobody listens at {url} (connection refused)");
    assert_eq!(told.len(), 1, "one reason is told once: {}", finished.stderr);
    assert!(told[0].contains(&refused), "{}", told[0]);
    assert!(told[0].contains("it goes on trying for 3 s"), "{}", told[0]);
    let remedy = "with --join and the client URL of a member that runs (mainstay member list";
    assert_refused(&finished, UNAVAILABLE, &["cannot join", "within 2.5 s", &refused, remedy]);

    // Without patience it is one attempt, and nothing is promised.
    let finished = join(&commands, &url, &["--join-timeout-ms", "0"]).await;
    assert_refused(&finished, UNAVAILABLE, &[&refused]);
    assert!(notices(&finished.stderr).is_empty(), "{}", finished.stderr);
}

#[tokio::test]
async fn who_is_silent_or_stands_before_nodes_that_are_away_is_waited_for() {
    let commands = CommandLine::new(PROGRAM);
    let soon = &["--join-timeout-ms", "1500"];
    // The system takes connections for it; nobody ever reads.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("the system has a port");
    let url = format!("http://{}", silent.local_addr().expect("it is bound"));
    let finished = join(&commands, &url, soon).await;
    assert!(!notices(&finished.stderr).is_empty(), "{}", finished.stderr);
    assert_refused(&finished, UNAVAILABLE, &["takes connections and does not answer", &url]);
    let proxy = Stranger::who_says(|_request| http("502 Bad Gateway", "<html>no backend")).await;
    let finished = join(&commands, &proxy.url, soon).await;
    assert!(!notices(&finished.stderr).is_empty(), "{}", finished.stderr);
    assert_refused(&finished, UNAVAILABLE, &[&proxy.url, "status 502"]);
    let mute = Stranger::who_says(|_request| Vec::new()).await;
    let finished = join(&commands, &mute.url, soon).await;
    assert_refused(&finished, UNAVAILABLE, &[&mute.url, "closes them without an answer"]);
}

#[tokio::test]
async fn who_can_never_add_a_node_is_refused_at_once_and_called_what_it_is() {
    let commands = CommandLine::new(PROGRAM);
    let remedy = "with --join and the client URL of a member (mainstay member list";
    let etcd = r#"{"etcdserver":"3.6.0","etcdcluster":"3.6.0"}"#;
    let alert = b"\x15\x03\x01\x00\x02\x02\x46".to_vec();
    let plain = "Client sent an HTTP request to an HTTPS server.\n";
    for (said, words) in [
        (http("404 Not Found", "404 page not found\n"), "is no Mainstay node (status 404"),
        (http("200 OK", "<html>welcome"), "is no Mainstay node"),
        (http("200 OK", etcd), "is no Mainstay node (missing field `mainstay`"),
        (b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(), "does not speak HTTP"),
        (alert, "wants TLS"),
        (http("400 Bad Request", plain), "wants TLS"),
    ] {
        let stranger = Stranger::who_says(move |_request| said.clone()).await;
        let finished = join(&commands, &stranger.url, &[]).await;
        assert_refused(&finished, FAILED, &["cannot join", &stranger.url, words, remedy]);
        assert!(notices(&finished.stderr).is_empty(), "{}", finished.stderr);
    }

    // A node of another version says which, beside what could not be read.
    let newer = Stranger::who_says(|request| {
        http(
            "200 OK",
            if request.starts_with("GET /version ") {
                r#"{"mainstay":"99.0.0"}"#
            } else {
                r#"{"members":"are another thing there"}"#
            },
        )
    })
    .await;
    let finished = join(&commands, &newer.url, &[]).await;
    assert_refused(&finished, FAILED, &[&newer.url, "not of this API", "of version 99.0.0"]);

    // The other port of a node, and the node itself.
    let cluster = Cluster::one(PROGRAM).await;
    let peer_port = format!("http://{}", cluster[0].plan.peer_address());
    let finished = join(&commands, &peer_port, &[]).await;
    let words = "is the peer port of the node n1, which has another port for clients";
    assert_refused(&finished, FAILED, &[&peer_port, words, remedy]);
    let own = format!("127.0.0.1:{}", free_port());
    let finished = join_from(&commands, &own, &format!("http://{own}"), &[]).await;
    assert_refused(&finished, FAILED, &[&own, "is this node itself", remedy]);
}

#[tokio::test]
async fn a_url_that_no_node_can_have_is_a_mistake_in_the_command_line() {
    let commands = CommandLine::new(PROGRAM);
    for (url, words) in [
        ("n1", "http://host:port"),
        ("http://n1:2379/v1", "http://host:port"),
        ("http://n1:0", "http://host:port"),
        ("https://n1:2379", "speaks no TLS; write http://host:port"),
    ] {
        assert_refused(&join(&commands, url, &[]).await, USAGE, &["join", url, words]);
    }
    let day = ["--join-timeout-ms", "86400001"];
    let finished = join(&commands, "http://127.0.0.1:1", &day).await;
    assert_refused(&finished, USAGE, &["join_timeout_ms", "at most a day", "supervisor"]);
    let made = std::fs::read_dir(commands.folder()).expect("the folder is ours");
    let made: Vec<_> = made.map(|entry| entry.expect("it can be listed").path()).collect();
    assert!(made.iter().all(|path| !Path::is_dir(path)), "a folder was made: {made:?}");
}

#[tokio::test]
async fn a_node_may_be_started_before_the_member_that_it_joins_through() {
    let mut cluster = Cluster::planned(PROGRAM, 3).await;
    let fourth = cluster.plan_joining("n4", 0);
    cluster.start(fourth);
    cluster[fourth].answers().await;
    // Whoever looks at it meanwhile learns what it waits for.
    let health = until("its health to say what it waits for", async || {
        let health = cluster[fourth].client().request("GET", "/health");
        let text = health.send().await.map_err(|error| error.to_string())?.text();
        if text.contains("nobody listens") { Ok(text) } else { Err(text) }
    })
    .await;
    let url = cluster[0].plan.url();
    assert!(health.contains("could not join yet") && health.contains(&url), "{health}");
    for at in 0..3 {
        cluster.start(at);
    }
    until("the fourth to be a member", async || {
        let seen = cluster[fourth].client().cluster().await.map_err(|error| error.to_string())?;
        let members = seen.json()["members"].as_array().map_or(0, Vec::len);
        if members == 4 { Ok(()) } else { Err(seen.text()) }
    })
    .await;
    cluster.serves().await;
    let log = cluster[fourth].log();
    assert!(log.contains("this node is a learner of the cluster"), "{log}");
}
