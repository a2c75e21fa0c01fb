//! A change of voters whose leader dies between its two entries: the old and the new voters decide
//! together until a successor completes it, by itself and whatever it is set to.
//!
//! The leader is cut off by the ways to the others, which stop its log right behind the first entry
//! of the change. Nothing in the program knows of it.

use std::time::Duration;

use mainstay_tests::{Cluster, CommandLine, PeerRoute, Writer, until};
use serde_json::Value;

use crate::PROGRAM;

const LOAD: usize = 6;
const SOME: usize = 100;

/// Stands in the record of the fourth node, and so in every entry about members that has it.
const MARK: &str = "marked-zone";

/// Exit code of the command line: it is unknown whether it took effect.
const UNKNOWN: i32 = 5;

/// Three nodes whose peers reach them by way of the test.
async fn three_with_routes() -> (Cluster, Vec<PeerRoute>) {
    let mut cluster = Cluster::planned(PROGRAM, 3).await;
    let mut routes = Vec::new();
    let mut list = Vec::new();
    for at in 0..3 {
        let route = PeerRoute::to(cluster[at].plan.peer_address()).await;
        list.push(format!("{}={}", cluster[at].plan.name, route.address()));
        routes.push(route);
    }
    for at in 0..3 {
        cluster[at].plan.bootstrap = list.join(",");
        advertise(&mut cluster, at, &routes[at]);
    }
    cluster.start_all();
    cluster.serves().await;
    (cluster, routes)
}

fn advertise(cluster: &mut Cluster, at: usize, route: &PeerRoute) {
    cluster[at].plan.extra.extend(["--advertise-peer-addr".to_owned(), route.address()]);
}

async fn configure(cluster: &Cluster, at: usize, settings: &str) {
    let request = cluster[at].client().request("PUT", "/v1/cluster/settings");
    request.body(settings).answer().await.expect_status(200);
}

/// What node `at` says of the cluster.
async fn view(cluster: &Cluster, at: usize) -> Result<Value, String> {
    let answer = cluster[at].client().cluster().await.map_err(|error| error.to_string())?;
    Ok(answer.json())
}

/// The names of the members, those with a vote, and the failures tolerated.
fn members(view: &Value) -> (Vec<String>, Vec<String>, i64) {
    let members = view["members"].as_array().into_iter().flatten();
    let name = |member: &Value| member["name"].as_str().unwrap_or_default().to_owned();
    let mut all: Vec<_> = members.clone().map(name).collect();
    let mut voters: Vec<_> = members.filter(|member| member["voter"] == true).map(name).collect();
    all.sort_unstable();
    voters.sort_unstable();
    (all, voters, view["failures_tolerated"].as_i64().unwrap_or(i64::MIN))
}

/// Waits until node `at` sees these members, all with a vote, and so many failures tolerated.
async fn sees(cluster: &Cluster, at: usize, names: &[&str], tolerated: i64) {
    until(&format!("{names:?} as node {at} sees it"), async || {
        let seen = members(&view(cluster, at).await?);
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        if seen == (names.clone(), names, tolerated) { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
}

/// The names that `mainstay member list` shows at node `at`, with their roles.
async fn listed(cluster: &Cluster, at: usize) -> Vec<(String, String)> {
    let commands = CommandLine::new(PROGRAM);
    let url = cluster[at].plan.url();
    let list = commands.run(&["member", "list", "-o", "simple", "--endpoints", &url]).await;
    let line = |line: &str| {
        let words: Vec<_> = line.split(' ').collect();
        (words[0].to_owned(), words[2].to_owned())
    };
    list.expect_exit(0).stdout.lines().map(line).collect()
}

fn index(view: &Value, name: &str) -> u64 {
    let text = view["node"][name].as_str().unwrap_or_else(|| panic!("no {name} in {view}"));
    text.parse().expect("a decimal")
}

/// The newest decision of the leader, as node `at` is told.
async fn newest_decision(cluster: &Cluster, at: usize) -> Result<Value, String> {
    let request = cluster[at].client().request("GET", "/v1/cluster/autopilot?limit=1");
    let answer = request.within(Duration::from_secs(2)).send().await;
    let answer = answer.map_err(|error| error.to_string())?;
    Ok(answer.json()["decisions"][0].clone())
}

#[tokio::test]
async fn a_successor_completes_a_change_that_its_leader_left_half_done() {
    let (mut cluster, mut routes) = three_with_routes().await;
    let writer = Writer::start(&cluster.clients(), "load", LOAD);
    configure(&cluster, 0, r#"{"learner_stable_ms":"1"}"#).await;
    let fourth = cluster.plan_joining("n4", 0);
    routes.push(PeerRoute::to(cluster[fourth].plan.peer_address()).await);
    advertise(&mut cluster, fourth, &routes[fourth]);
    cluster[fourth].plan.extra.extend(["--zone".to_owned(), MARK.to_owned()]);
    cluster.start(fourth);
    cluster[fourth].answers().await;
    let four = ["n1", "n2", "n3", "n4"];
    for at in 0..4 {
        sees(&cluster, at, &four, 1).await;
    }
    // It completes what is half done even if it is to do nothing else.
    configure(&cluster, 0, r#"{"autopilot":false}"#).await;
    writer.acknowledges(SOME).await;
    let ledger = writer.stop().await;

    // The fourth is to go again. Its leader gets as far as the first entry with everybody.
    let leader = cluster.leader().await;
    let others = cluster.others(leader);
    let before = view(&cluster, leader).await.expect("it answers");
    for at in &others {
        routes[*at].close_after(MARK.as_bytes());
    }
    let commands = CommandLine::new(PROGRAM);
    let url = cluster[leader].plan.url();
    let words = ["member", "remove", "n4", "--timeout", "30s", "--endpoints", &url];
    let mut removing = commands.start(&words);
    until("the second entry of the change, at its leader alone", async || {
        let now = view(&cluster, leader).await?;
        let (committed, last) = (index(&now, "committed_index"), index(&now, "last_log_index"));
        let cut_off = others.iter().all(|at| routes[*at].is_closed());
        let committed_first = committed > index(&before, "committed_index") && last > committed;
        if cut_off && committed_first { Ok(()) } else { Err(format!("{cut_off}, {now}")) }
    })
    .await;
    cluster[leader].kill().await;
    // Whoever asked for it is told the truth: nobody knows.
    assert_eq!(removing.exit_code().await, UNKNOWN, "{}", removing.stderr());
    let told = removing.stderr();
    assert!(told.contains("mainstay member list"), "{told}");

    // The others have a leader by both sides' votes. It cannot get anything through yet; they all
    // say that the fourth is a member with a vote, and how many more may fail.
    let successor = cluster.leader_of(&others).await;
    for at in &others {
        sees(&cluster, *at, &four, 0).await;
        let roles = listed(&cluster, *at).await;
        assert_eq!(roles.len(), 4, "{roles:?}");
        let fourth = roles.iter().find(|(name, _role)| name == "n4");
        assert!(fourth.is_some_and(|(_name, role)| role != "learner"), "{roles:?}");
    }

    for route in &routes {
        route.open();
    }
    let left: Vec<usize> = others.iter().copied().filter(|at| *at != fourth).collect();
    for at in &left {
        sees(&cluster, *at, &["n1", "n2", "n3"], 0).await;
    }
    assert_eq!(cluster[fourth].ended().await, 0, "the one that is out ends in good order");
    let told_by = cluster.leader_of(&left).await;
    if told_by == successor {
        let decision = until("the decision", async || {
            let decision = newest_decision(&cluster, left[0]).await?;
            if decision["action"] == "complete" { Ok(decision) } else { Err(decision.to_string()) }
        })
        .await;
        assert_eq!(decision["error"], Value::Null, "{decision}");
        assert_eq!(decision["why"], "a former leader left a change of voters half done");
    }

    // The old leader comes back without the entry that it alone had, and another change goes through.
    cluster.start(leader);
    sees(&cluster, leader, &["n1", "n2", "n3"], 1).await;
    cluster.leader_of(&[leader, left[0], left[1]]).await;
    let twice = CommandLine::new(PROGRAM);
    let url = cluster[leader].plan.url();
    let twice = twice.run(&["member", "remove", "n4", "--endpoints", &url]).await;
    assert!(twice.expect_exit(1).stderr.contains("no member n4"), "{}", twice.stderr);
    for at in [leader, left[0], left[1]] {
        ledger.assert_kept_by(cluster[at].client()).await;
    }
}
