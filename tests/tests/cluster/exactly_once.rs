//! Writes that are repeated because their first answer was lost: each takes effect once.

use std::time::Duration;

use mainstay_tests::{Answer, Client, Cluster, Request, until};
use tokio::task::JoinSet;

use crate::PROGRAM;

/// Writes on their way when the leader dies.
const WRITES: u64 = 48;

/// Repeats a write at one node after the other until it is answered.
async fn repeated(clients: &[Client], request: impl Fn(&Client) -> Request) -> Answer {
    until("an answer to a repeated write", async || {
        let mut last = String::new();
        for client in clients {
            match request(client).within(Duration::from_secs(6)).send().await {
                Ok(answer) if answer.status == 200 => return Ok(answer),
                Ok(answer) => {
                    let problem = answer.problem();
                    let status = answer.status;
                    assert!(matches!(status, 429 | 503 | 504), "{status}: {problem:?}");
                    last = answer.text();
                }
                Err(error) => last = error.to_string(),
            }
        }
        Err(last)
    })
    .await
}

/// Sends `WRITES` of `request` to all nodes at once, kills the leader in the middle of them,
/// repeats every one until it is answered, then once more at every node.
async fn writes_survive_a_leader_change(
    cluster: &mut Cluster,
    request: impl Fn(&Client, u64) -> Request,
) {
    let leader = cluster.leader().await;
    let clients = cluster.clients();
    let mut on_their_way = JoinSet::new();
    for (number, client) in (1..=WRITES).zip(clients.iter().cycle()) {
        on_their_way.spawn(request(client, number).within(Duration::from_secs(6)).send());
    }
    // One was answered, so the others are on their way.
    let answered = on_their_way.join_next().await.expect("there are writes");
    answered.expect("sending does not panic").expect("all nodes are there");
    cluster[leader].kill().await;
    on_their_way.join_all().await;

    let survivors: Vec<_> =
        cluster.others(leader).into_iter().map(|at| cluster[at].client().clone()).collect();
    let mut first = Vec::new();
    for number in 1..=WRITES {
        first.push(repeated(&survivors, |client| request(client, number)).await);
    }
    let is_repeated = |answer: &Answer| answer.header("Mainstay-Repeated") == "true";
    assert!(first.iter().any(is_repeated), "no write was on its way when the leader died");

    cluster.start(leader);
    cluster.serves().await;
    for (number, first) in (1..=WRITES).zip(&first) {
        for client in &clients {
            let again = request(client, number).answer().await;
            assert!(is_repeated(again.expect_status(200)), "it does not say so: {}", again.text());
            assert_eq!(again.text(), first.text(), "the same write, another answer");
        }
        let read = clients[leader].get(&format!("once/{number}")).answer().await;
        assert_eq!(read.expect_status(200).number("Mainstay-Version"), 1, "applied twice");
        assert_eq!(read.number("Mainstay-Mod-Revision"), first.revision());
    }
}

#[tokio::test]
async fn a_keyed_write_repeated_across_a_leader_change_takes_effect_once() {
    let mut cluster = Cluster::three(PROGRAM).await;
    writes_survive_a_leader_change(&mut cluster, |client, number| {
        client.put(&format!("once/{number}"), number.to_string()).key(&format!("key-{number}"))
    })
    .await;
}

#[tokio::test]
async fn a_session_write_repeated_across_a_leader_change_takes_effect_once() {
    let mut cluster = Cluster::three(PROGRAM).await;
    let opened = cluster[0].client().request("POST", "/v1/sessions").answer().await;
    let session = opened.expect_status(200).json()["session"].as_str().expect("an id").to_owned();
    let put = |client: &Client, number: u64| {
        client.put(&format!("once/{number}"), number.to_string()).session(&session, number)
    };
    // The lowest awaited stays 1: nothing may be forgotten while it can be asked for again.
    writes_survive_a_leader_change(&mut cluster, |client, number| {
        put(client, number).header("Mainstay-Session-Lowest-Awaited", "1")
    })
    .await;
    // The client awaits no older write any more: their answers are forgotten, and a repeat is not
    // taken for a new write.
    put(cluster[0].client(), WRITES + 1).answer().await.expect_status(200);
    put(cluster[1].client(), 1).answer().await.expect_problem(400, "session_number");
    let read = cluster[2].client().get("once/1").answer().await;
    assert_eq!(read.expect_status(200).number("Mainstay-Version"), 1);
}

#[tokio::test]
async fn what_was_refused_is_remembered_too_and_a_key_belongs_to_its_request() {
    let cluster = Cluster::one(PROGRAM).await;
    let client = cluster[0].client();
    client.put("k", "1").answer().await.expect_status(200);
    let create = || client.put("k", "2").header("If-None-Match", "*").key("create");
    let first = create().answer().await;
    assert_eq!(first.expect_problem(409, "exists").took_effect, "no");
    client.delete("k").answer().await.expect_status(200);
    // The condition would hold now, but this write was answered already.
    let again = create().answer().await;
    again.expect_problem(409, "exists");
    assert_eq!(again.header("Mainstay-Repeated"), "true");
    client.get("k").answer().await.expect_problem(404, "not_found");

    let other = client.put("k", "3").key("create").answer().await;
    assert_eq!(other.expect_problem(422, "key_reused").took_effect, "no");
    client.get("k").answer().await.expect_problem(404, "not_found");
}
