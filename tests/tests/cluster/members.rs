//! Nodes that join, are replaced and are removed while clients write: nothing acknowledged is lost,
//! and what cannot be done is refused with the reason.

use mainstay_tests::{Cluster, CommandLine, Finished, Writer, until};
use serde_json::Value;

use crate::PROGRAM;

const LOAD: usize = 12;
const SOME: usize = 300;

/// The cluster as node `at` sees it.
async fn view(cluster: &Cluster, at: usize) -> Result<Value, String> {
    let answer = cluster[at].client().cluster().await.map_err(|error| error.to_string())?;
    Ok(answer.json())
}

/// The members as node `at` sees them, `name:role` each, and the failures tolerated.
async fn roles(cluster: &Cluster, at: usize) -> Result<(Vec<String>, i64), String> {
    let view = view(cluster, at).await?;
    let member = |member: &Value| {
        let text = |name: &str| member[name].as_str().unwrap_or_default().to_owned();
        let role = if member["voter"] == true { "voter" } else { "learner" };
        format!("{}:{role}", text("name"))
    };
    let mut members: Vec<_> =
        view["members"].as_array().into_iter().flatten().map(member).collect();
    members.sort_unstable();
    Ok((members, view["failures_tolerated"].as_i64().unwrap_or(i64::MIN)))
}

/// Waits until node `at` sees these members and so many failures tolerated.
async fn sees(cluster: &Cluster, at: usize, members: &[&str], tolerated: i64) {
    until(&format!("{members:?} as node {at} sees it"), async || {
        let seen = roles(cluster, at).await?;
        let wanted = (members.iter().map(|member| (*member).to_owned()).collect(), tolerated);
        if seen == wanted { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
}

/// Runs `mainstay member` against node `at`.
async fn member(cluster: &Cluster, at: usize, words: &[&str]) -> Finished {
    let commands = CommandLine::new(PROGRAM);
    let url = cluster[at].plan.url();
    commands.run(&[&["member"], words, &["--endpoints", &url, "--timeout", "15s"]].concat()).await
}

fn id(view: &Value, name: &str) -> String {
    let members = view["members"].as_array().into_iter().flatten();
    let named = members.clone().find(|member| member["name"] == name);
    let named = named.unwrap_or_else(|| panic!("no {name} in {view}"));
    named["id"].as_str().expect("an id is a string").to_owned()
}

#[tokio::test]
async fn a_fourth_node_joins_holds_every_key_gets_a_vote_by_itself_and_is_removed_again() {
    let mut cluster = Cluster::three(PROGRAM).await;
    let writer = Writer::start(&cluster.clients(), "load", LOAD);
    writer.acknowledges(SOME).await;
    let leader = cluster.leader().await;
    let through = cluster.others(leader)[0];
    let fourth = cluster.plan_joining("n4", through);
    cluster.start(fourth);
    cluster[fourth].answers().await;
    sees(&cluster, leader, &["n1:voter", "n2:voter", "n3:voter", "n4:learner"], 1).await;
    until("the leader to say what it waits for", async || {
        let request = cluster[through].client().request("GET", "/v1/cluster/autopilot");
        let state = request.answer().await.expect_status(200).json();
        let why = state["advice"][0]["why"].as_str().unwrap_or_default();
        let waits = state["advice"][0]["action"] == "wait" && why.contains("kept up for");
        if waits { Ok(()) } else { Err(state.to_string()) }
    })
    .await;
    let status = CommandLine::new(PROGRAM);
    let status = status.run(&["status", "--endpoints", &cluster[through].plan.url()]).await;
    assert!(status.expect_exit(0).stdout.contains("autopilot: wait n4"), "{}", status.stdout);
    sees(&cluster, fourth, &["n1:voter", "n2:voter", "n3:voter", "n4:voter"], 1).await;
    writer.acknowledges(SOME).await;

    // Why it was promoted is kept.
    let request = cluster[fourth].client().request("GET", "/v1/cluster/autopilot?limit=1");
    let state = request.answer().await.expect_status(200).json();
    let decision = &state["decisions"][0];
    assert_eq!((&decision["action"], &decision["name"]), (&"promote".into(), &"n4".into()));
    assert!(decision["why"].as_str().is_some_and(|why| why.contains("keeps up")), "{decision}");

    // It is found by clients where it says it is.
    let seen = view(&cluster, leader).await.expect("the leader answers");
    let urls = |view: &Value| {
        let members = view["members"].as_array().into_iter().flatten();
        let fourth = members.clone().find(|member| member["name"] == "n4").cloned();
        fourth.expect("it is a member")["client_urls"][0].clone()
    };
    assert_eq!(urls(&seen), cluster[fourth].plan.url().as_str());

    // A dry run does nothing; the removal of a spare voter is granted; its process ends.
    let dry = member(&cluster, through, &["remove", "n4", "--dry-run"]).await;
    assert!(dry.expect_exit(0).stdout.starts_with("dry run: n4"), "{}", dry.stdout);
    sees(&cluster, leader, &["n1:voter", "n2:voter", "n3:voter", "n4:voter"], 1).await;
    let fourth_id = id(&seen, "n4");
    let removed = member(&cluster, through, &["remove", "n4"]).await;
    assert!(removed.expect_exit(0).stdout.contains("1 before, 1 after"), "{}", removed.stdout);
    sees(&cluster, leader, &["n1:voter", "n2:voter", "n3:voter"], 1).await;
    assert_eq!(cluster[fourth].ended().await, 0, "a removed node ends in good order");
    assert!(cluster[fourth].log().contains("removed"), "and says why");

    // Removed twice is refused, and its folder never comes back.
    let twice = member(&cluster, leader, &["remove", &fourth_id]).await;
    assert!(twice.expect_exit(1).stderr.contains("was removed already"), "{}", twice.stderr);
    cluster.start(fourth);
    assert_eq!(cluster[fourth].ended().await, 1);
    assert!(cluster[fourth].log().contains("was removed from its cluster"), "it says so again");

    let ledger = writer.stop().await;
    for at in 0..3 {
        ledger.assert_kept_by(cluster[at].client()).await;
    }
}

#[tokio::test]
async fn a_wiped_node_takes_its_own_place_with_one_command_and_no_write_is_lost() {
    let mut cluster = Cluster::three(PROGRAM).await;
    let writer = Writer::start(&cluster.clients(), "load", LOAD);
    writer.acknowledges(SOME).await;
    let leader = cluster.leader().await;
    let lost = cluster.others(leader)[0];
    let name = cluster[lost].plan.name.clone();
    let before = id(&view(&cluster, leader).await.expect("the leader answers"), &name);

    // While it answers nobody takes its name.
    let namesake = cluster.plan_joining(&name, leader);
    cluster.start(namesake);
    assert_eq!(cluster[namesake].ended().await, 1);
    let log = cluster[namesake].log();
    assert!(log.contains("is a member already") && log.contains("--name"), "{log}");

    cluster[lost].kill().await;
    cluster[lost].wipe();
    let url = cluster[leader].plan.url();
    cluster[lost].joins_through(&url);
    cluster.start(lost);
    cluster[lost].answers().await;
    sees(&cluster, lost, &["n1:voter", "n2:voter", "n3:voter"], 1).await;
    let after = id(&view(&cluster, leader).await.expect("the leader answers"), &name);
    assert_ne!(before, after, "a folder is a node");
    writer.acknowledges(SOME).await;

    // It counts: with another one gone the cluster goes on, and everything is there.
    let gone = cluster.others(leader).into_iter().find(|at| ![lost, namesake].contains(at));
    cluster[gone.expect("a third one")].kill().await;
    cluster.leader_of(&[leader, lost]).await;
    writer.acknowledges(SOME).await;
    let ledger = writer.stop().await;
    for at in [leader, lost] {
        ledger.assert_kept_by(cluster[at].client()).await;
    }
}

#[tokio::test]
async fn what_would_make_it_worse_is_refused_with_the_command_that_would_work() {
    let mut cluster = Cluster::three(PROGRAM).await;
    let leader = cluster.leader().await;
    let [one, other] = cluster.others(leader)[..] else { panic!("three nodes") };
    let [leader_name, one_name, other_name] =
        [leader, one, other].map(|at| cluster[at].plan.name.clone());

    let lowered = member(&cluster, one, &["remove", &one_name]).await;
    let text = &lowered.expect_exit(1).stderr;
    assert!(text.contains("tolerates 1 failures") && text.contains("--force"), "{text}");
    let unknown = member(&cluster, one, &["remove", "nobody"]).await;
    assert!(unknown.expect_exit(1).stderr.contains("no member nobody"), "{}", unknown.stderr);
    let unreachable = member(&cluster, one, &["add", "127.0.0.1:1"]).await;
    let text = &unreachable.expect_exit(1).stderr;
    assert!(text.contains("no node answers at the peer address 127.0.0.1:1"), "{text}");
    let itself = member(&cluster, one, &["add", &cluster[one].plan.peer_address()]).await;
    assert!(itself.expect_exit(0).stdout.contains("nothing to do"), "{}", itself.stdout);

    // A node of another cluster, over the API as over the command line.
    let mut stranger = Cluster::one(PROGRAM).await;
    let refused = member(&cluster, one, &["add", &stranger[0].plan.peer_address()]).await;
    assert!(refused.expect_exit(1).stderr.contains("is in cluster"), "{}", refused.stderr);
    let url = cluster[one].plan.url();
    stranger[0].kill().await;
    stranger[0].joins_through(&url);
    stranger.start(0);
    assert_eq!(stranger[0].ended().await, 1);
    let log = stranger[0].log();
    assert!(log.contains("start this node without --join"), "{log}");

    // By force one may go, and then the other is needed; the last voter is never removed.
    let forced = member(&cluster, leader, &["remove", &one_name, "--force"]).await;
    assert!(forced.expect_exit(0).stdout.contains("1 before, 0 after"), "{}", forced.stdout);
    cluster[other].kill().await;
    until("the death of a voter to be noticed", async || {
        let (_members, tolerated) = roles(&cluster, leader).await?;
        if tolerated == -1 { Ok(()) } else { Err(tolerated.to_string()) }
    })
    .await;
    let hopeless = member(&cluster, leader, &["remove", &other_name, "--force"]).await;
    assert!(!hopeless.expect_exit(4).stderr.is_empty());
    cluster.start(other);
    cluster.leader_of(&[leader, other]).await;
    let two_left = member(&cluster, leader, &["remove", &other_name]).await;
    assert!(two_left.expect_exit(0).stdout.contains("0 before, 0 after"), "{}", two_left.stdout);
    let last = member(&cluster, leader, &["remove", &leader_name, "--force"]).await;
    assert!(last.expect_exit(1).stderr.contains("is the last voter"), "{}", last.stderr);
}

#[tokio::test]
async fn a_leader_that_is_removed_hands_over_first() {
    let mut cluster = Cluster::three(PROGRAM).await;
    let leader = cluster.leader().await;
    let name = cluster[leader].plan.name.clone();
    let writer = Writer::start(&cluster.clients(), "load", LOAD);
    writer.acknowledges(SOME).await;
    let removed = member(&cluster, leader, &["remove", &name, "--force"]).await;
    assert!(removed.expect_exit(0).stdout.contains("1 before, 0 after"), "{}", removed.stdout);
    assert_eq!(cluster[leader].ended().await, 0);
    let left = cluster.others(leader);
    cluster.leader_of(&left).await;
    writer.acknowledges(SOME).await;
    let ledger = writer.stop().await;
    for at in left {
        ledger.assert_kept_by(cluster[at].client()).await;
    }
}
