//! Leaders that are changed, stopped, killed and frozen: nothing is lost, and every change says why
//! it happened.

use mainstay_tests::{
    Answer, Client, Cluster, Observer, Problem, Signal, Writer, assert_never_back, until,
};
use serde_json::{Value, json};

use crate::PROGRAM;

/// Logical clients of a load.
const LOAD: usize = 16;

/// Acknowledged writes before and after something happens.
const SOME: usize = 300;

/// Writes that a node misses before it is asked to lead, and the bytes of each.
const BACKLOG: usize = 320;
const BACKLOG_VALUE_BYTES: usize = 128 * 1024;

/// What a node tells at `GET /v1/failure-detector`.
async fn detector(client: &Client) -> Value {
    client.request("GET", "/v1/failure-detector").answer().await.expect_status(200).json()
}

/// Asks for another leader.
async fn transfer(client: &Client, to: &str) -> Answer {
    client.post("/v1/cluster/leader", &json!({ "to": to })).answer().await
}

/// The same until the target has caught up with the load.
async fn transferred(client: &Client, to: &str) -> Value {
    until("a transfer", async || {
        let answer = transfer(client, to).await;
        match answer.problem() {
            None => Ok(answer.expect_status(200).json()),
            Some(problem) if problem.took_effect == "no" => Err(format!("{problem:?}")),
            Some(problem) => panic!("{problem:?}"),
        }
    })
    .await
}

/// The election of a term as the node tells it, once it tells it with this cause or one of them.
pub(crate) async fn election_of(client: &Client, term: u64, causes: &[&str]) -> Value {
    let term = term.to_string();
    until(&format!("an election in term {term} because of {causes:?}"), async || {
        let told = detector(client).await;
        let elections = told["elections"].as_array().expect("a list").clone();
        let found = elections.iter().find(|election| election["term"] == term);
        match found {
            Some(election) if causes.iter().any(|cause| election["cause"] == *cause) => {
                Ok(election.clone())
            }
            _ => Err(told["elections"].clone()),
        }
    })
    .await
}

/// The term that a node is in.
pub(crate) async fn term_at(client: &Client) -> u64 {
    client.request("GET", "/v1/cluster").answer().await.number("Mainstay-Term")
}

/// Waits until the node takes the peer for one of these.
async fn peer_is(client: &Client, peer: &str, levels: &[&str]) {
    until(&format!("{peer} to be one of {levels:?}"), async || {
        let told = detector(client).await;
        let peers = told["peers"].as_array().expect("a list").clone();
        let found = peers.iter().find(|known| known["name"] == peer);
        match found {
            Some(known) if levels.iter().any(|level| known["level"] == *level) => Ok(()),
            _ => Err(told["peers"].clone()),
        }
    })
    .await;
}

#[tokio::test]
async fn a_planned_transfer_under_writes_loses_nothing_and_says_that_an_operator_asked() {
    let cluster = Cluster::three(PROGRAM).await;
    let writer = Writer::start(&cluster.clients(), "load", LOAD);
    writer.acknowledges(SOME).await;
    let leader = cluster.leader().await;
    let [wanted, other] = cluster.others(leader)[..] else { panic!("three nodes") };
    let names = |at: usize| cluster[at].plan.name.clone();

    // Any node takes the request, this one is neither the old leader nor the new one.
    let change = transferred(cluster[other].client(), &names(wanted)).await;
    assert_eq!(change["changed"], true, "{change}");
    assert_eq!(
        (&change["from_name"], &change["wanted_name"]),
        (&names(leader).into(), &names(wanted).into())
    );
    assert_eq!(change["leader_name"], names(wanted), "another one won: {change}");
    assert!(change["took_ms"].is_u64(), "{change}");
    writer.acknowledges(SOME).await;
    assert_eq!(cluster.leader().await, wanted);

    let term = change["term"].as_str().and_then(|term| term.parse().ok()).expect("a term");
    for client in cluster.clients() {
        let election = election_of(&client, term, &["operator"]).await;
        assert_eq!(election["leader_name"], names(wanted), "{election}");
        assert_eq!(election["previous_name"], names(leader), "{election}");
        assert_eq!(election["why"], "an operator asked for it");
    }

    // Nobody in particular: it is not the one that leads now.
    let anybody = until("a transfer to anybody", async || {
        let answer = cluster[other].client().request("POST", "/v1/cluster/leader").answer().await;
        if answer.status == 200 { Ok(answer.json()) } else { Err(answer.text()) }
    })
    .await;
    assert_eq!((&anybody["changed"], &anybody["from_name"]), (&true.into(), &names(wanted).into()));
    assert_ne!(anybody["leader"], anybody["from"], "{anybody}");
    writer.acknowledges(SOME).await;
    let ledger = writer.stop().await;
    for client in cluster.clients() {
        ledger.assert_kept_by(&client).await;
    }
}

#[tokio::test]
async fn a_transfer_to_a_node_that_cannot_lead_is_refused_and_the_leader_carries_on() {
    let mut cluster = Cluster::three(PROGRAM).await;
    let leader = cluster.leader().await;
    let client = cluster[leader].client().clone();
    let name = cluster[leader].plan.name.clone();
    let [victim, other] = cluster.others(leader)[..] else { panic!("three nodes") };
    let victim_name = cluster[victim].plan.name.clone();
    let term = term_at(&client).await;

    let asked = cluster[other].client().clone();
    let unknown = transfer(&asked, "n9").await.expect_problem(404, "unknown_member");
    assert!(unknown.detail.contains("n9") && unknown.detail.contains(&name), "{unknown:?}");
    let same = transfer(&asked, &name).await;
    assert_eq!(same.expect_status(200).json()["changed"], false, "{}", same.text());

    // A node that stands still is heard for a moment longer, but does not answer when it is asked.
    cluster[victim].signal(Signal::Stop);
    let frozen = transfer(&client, &victim_name).await.expect_problem(409, "not_healthy");
    assert_eq!(frozen.took_effect, "no");
    assert!(frozen.detail.contains(&victim_name), "{frozen:?}");
    assert!(frozen.detail.contains("the leader stays"), "{frozen:?}");
    cluster[victim].signal(Signal::Continue);

    cluster[victim].kill().await;
    peer_is(&client, &victim_name, &["suspect", "failed"]).await;
    for client in [&asked, &client] {
        let dead = transfer(client, &victim_name).await.expect_problem(409, "not_healthy");
        assert_eq!(dead.took_effect, "no");
        assert!(dead.detail.contains(&victim_name), "{dead:?}");
    }
    client.put("k", "v").answer().await.expect_status(200);
    assert_eq!(term_at(&client).await, term, "a refusal cost an election");
    assert_eq!(cluster.leader_of(&[leader, other]).await, leader);
}

/// Kills a follower, writes what takes a while to send, starts it again, and asks for it at once;
/// `None` if it had caught up before it was heard.
async fn asked_while_it_lags(cluster: &mut Cluster) -> Option<Problem> {
    let leader = cluster.leader().await;
    let client = cluster[leader].client().clone();
    let victim = cluster.others(leader)[0];
    let name = cluster[victim].plan.name.clone();
    cluster[victim].kill().await;
    for number in 0..BACKLOG {
        let value = vec![b'v'; BACKLOG_VALUE_BYTES];
        client.put(&format!("backlog/{}", number % 16), value).answer().await.expect_status(200);
    }
    cluster.start(victim);
    until("an answer about the node that lags", async || {
        let answer = transfer(&client, &name).await;
        match answer.problem() {
            None => Ok(None),
            Some(problem) if problem.code == "lagging" => Ok(Some(problem)),
            Some(problem) => Err(format!("{problem:?}")),
        }
    })
    .await
}

#[tokio::test]
async fn a_transfer_to_a_node_that_lags_is_refused_and_the_leader_carries_on() {
    let mut cluster = Cluster::three(PROGRAM).await;
    let mut refused = None;
    for _round in 0..5 {
        let leader = cluster.leader().await;
        let term = term_at(cluster[leader].client()).await;
        refused = asked_while_it_lags(&mut cluster).await;
        if let Some(problem) = &refused {
            assert_eq!((problem.status, problem.took_effect.as_str()), (409, "no"), "{problem:?}");
            assert!(problem.detail.contains("entries behind; the leader stays"), "{problem:?}");
            cluster[leader].client().put("k", "v").answer().await.expect_status(200);
            assert_eq!(term_at(cluster[leader].client()).await, term, "it cost an election");
            break;
        }
        cluster.serves().await;
    }
    assert!(refused.is_some(), "it caught up before it was heard, five times");
    // Once it has caught up nothing stands in the way.
    let leader = cluster.leader().await;
    let name = cluster[cluster.others(leader)[0]].plan.name.clone();
    assert_eq!(transferred(cluster[leader].client(), &name).await["leader_name"], name);
}

#[tokio::test]
async fn a_leader_that_is_told_to_stop_hands_over_first() {
    let mut cluster = Cluster::three(PROGRAM).await;
    let writer = Writer::start(&cluster.clients(), "load", 4);
    writer.acknowledges(SOME).await;
    let leader = cluster.leader().await;
    let name = cluster[leader].plan.name.clone();
    let survivors = cluster.others(leader);

    cluster[leader].signal(Signal::Terminate);
    assert_eq!(cluster[leader].ended().await, 0, "SIGTERM is not an error");
    let next = cluster.leader_of(&survivors).await;
    let term = term_at(cluster[next].client()).await;
    for at in &survivors {
        let election = election_of(cluster[*at].client(), term, &["shutdown"]).await;
        assert_eq!(election["previous_name"], name, "{election}");
        assert_eq!(election["leader_name"], cluster[next].plan.name, "{election}");
    }
    writer.acknowledges(SOME).await;
    cluster.start(leader);
    cluster.serves().await;
    let ledger = writer.stop().await;
    for client in cluster.clients() {
        ledger.assert_kept_by(&client).await;
    }
}

#[tokio::test]
async fn a_killed_leader_leaves_an_election_that_says_why_and_survives_a_restart() {
    let mut cluster = Cluster::three(PROGRAM).await;
    let leader = cluster.leader().await;
    let name = cluster[leader].plan.name.clone();
    let survivors = cluster.others(leader);
    cluster[leader].kill().await;
    let next = cluster.leader_of(&survivors).await;
    let winner = cluster[next].client().clone();
    let term = term_at(&winner).await;

    let causes = ["silence", "lease_expired"];
    let election = election_of(&winner, term, &causes).await;
    assert_eq!(election["previous_name"], name, "{election}");
    assert_eq!(election["leader_name"], cluster[next].plan.name, "{election}");
    assert!(election["phases"]["vote_ms"].is_u64(), "{election}");
    if election["cause"] == "silence" {
        let number = |name: &str| election["numbers"][name].as_f64().expect("a number");
        assert!(number("phi") >= number("threshold") && number("threshold") >= 8.0, "{election}");
        assert!(election["why"].as_str().is_some_and(|why| why.contains("phi")), "{election}");
    }
    let other = survivors.into_iter().find(|at| *at != next).expect("another one");
    let heard = election_of(cluster[other].client(), term, &causes).await;
    assert_eq!((&heard["cause"], &heard["numbers"]), (&election["cause"], &election["numbers"]));
    peer_is(&winner, &name, &["failed"]).await;

    cluster.start(leader);
    cluster.serves().await;
    peer_is(&winner, &name, &["alive"]).await;
    let told = election_of(&winner, term, &causes).await;
    cluster[next].signal(Signal::Terminate);
    assert_eq!(cluster[next].ended().await, 0);
    cluster.start(next);
    cluster.serves().await;
    assert_eq!(election_of(&winner, term, &causes).await, told, "the restart changed the past");
}

#[tokio::test]
async fn a_frozen_leader_is_replaced_and_serves_nothing_stale_when_it_wakes() {
    let mut cluster = Cluster::three(PROGRAM).await;
    let clients = cluster.clients();
    let writer = Writer::start(&clients, "load", LOAD);
    let keys: Vec<_> = (0..LOAD).map(|number| writer.overwritten_key(number)).collect();
    let observer = Observer::start(&clients, &keys);
    writer.acknowledges(SOME).await;
    let leader = cluster.leader().await;
    let name = cluster[leader].plan.name.clone();
    let term = term_at(cluster[leader].client()).await;

    cluster[leader].signal(Signal::Stop);
    let survivors = cluster.others(leader);
    let next = cluster.leader_of(&survivors).await;
    writer.acknowledges(SOME).await;
    let causes = ["silence", "lease_expired"];
    let now = term_at(cluster[next].client()).await;
    assert!(now > term, "another leader in the same term");
    let election = election_of(cluster[next].client(), now, &causes).await;
    assert_eq!(election["previous_name"], name, "{election}");

    cluster[leader].signal(Signal::Continue);
    // At once, and by reader `leader` all the while: whatever it answers must not be old.
    observer.reads(leader, SOME).await;
    cluster.serves().await;
    writer.acknowledges(SOME).await;
    let ledger = writer.stop().await;
    assert_never_back(&observer.stop().await, &ledger);
    for client in &clients {
        ledger.assert_kept_by(client).await;
    }
}
