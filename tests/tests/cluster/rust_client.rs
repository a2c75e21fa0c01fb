//! The Rust client against real nodes: its examples, what it learns of the members, and what its
//! locks and leases hold when nodes die.

use std::{sync::Arc, time::Duration};

use mainstay_client::{Client, ClientOptions, Endpoint, LockRequest, PutRequest, QueueError};
use mainstay_tests::{Cluster, until};
use mainstay_world::RealNet;

use crate::PROGRAM;

#[path = "../../../crates/client/examples/election.rs"]
#[expect(dead_code, reason = "its main is for people")]
mod election;
#[path = "../../../crates/client/examples/keys.rs"]
#[expect(dead_code, reason = "its main is for people")]
mod keys;
#[path = "../../../crates/client/examples/lock.rs"]
#[expect(dead_code, reason = "its main is for people")]
mod lock;
#[path = "../../../crates/client/examples/registration.rs"]
#[expect(dead_code, reason = "its main is for people")]
mod registration;

fn endpoints(cluster: &Cluster) -> Vec<Endpoint> {
    let endpoint = |client: &mainstay_tests::Client| client.url().parse().expect("an endpoint");
    cluster.clients().iter().map(endpoint).collect()
}

fn client(endpoints: Vec<Endpoint>) -> Client {
    Client::new(Arc::new(RealNet), ClientOptions::new(endpoints))
}

#[tokio::test]
async fn the_examples_run() {
    let cluster = Cluster::three(PROGRAM).await;
    keys::run(endpoints(&cluster)).await.expect("keys");
    lock::run(endpoints(&cluster)).await.expect("lock");
    election::run(endpoints(&cluster)).await.expect("election");
    registration::run(endpoints(&cluster)).await.expect("registration");
}

#[tokio::test]
async fn a_client_that_knows_one_node_learns_the_others_and_survives_its_death() {
    let mut cluster = Cluster::three(PROGRAM).await;
    let all = endpoints(&cluster);
    let leader = cluster.leader().await;
    let known = cluster.others(leader)[0];
    let client = client(vec![all[known].clone()]);
    until("the members", async || {
        client.put(PutRequest::new("k", "before")).await.map_err(|error| format!("{error:?}"))?;
        match client.endpoints() {
            learnt if learnt.len() == 3 => Ok(()),
            learnt => Err(format!("{learnt:?}")),
        }
    })
    .await;
    assert_eq!(client.endpoints()[0], all[known], "what it was given comes first");
    // It asks the leader now: that one stamps its answers.
    let leader_id = cluster[leader].client().cluster().await.expect("answers");
    let answer = client.get("k").await.expect("read");
    assert_eq!(answer.header.member_id, leader_id.number("Mainstay-Member-Id"));

    cluster[known].kill().await;
    client.put(PutRequest::new("k", "without it")).await.expect("the others are known");
    // And the leader, so that the last one is left with the first back.
    cluster.start(known);
    cluster.serves().await;
    cluster[leader].kill().await;
    until("a write at the next leader", async || {
        let written = client.put(PutRequest::new("k", "after")).await;
        written.map(|_written| ()).map_err(|error| format!("{error:?}"))
    })
    .await;
}

#[tokio::test]
async fn a_lock_is_kept_across_leader_changes_and_lost_with_its_lease() {
    let mut cluster = Cluster::three(PROGRAM).await;
    let client = client(endpoints(&cluster));
    let wanted = LockRequest { ttl: Duration::from_secs(5), ..LockRequest::new("jobs") };
    let held = client.lock(wanted.clone()).await.expect("nobody holds it");
    let leader = cluster.leader().await;
    cluster[leader].kill().await;
    let impatient = LockRequest { patience: Some(Duration::from_secs(2)), ..wanted.clone() };
    let refused = client.lock(impatient).await.expect_err("it is held");
    assert!(matches!(refused, QueueError::Taken { .. }), "{refused:?}");
    held.put(PutRequest::new("work", "1")).await.expect("it is held still");
    assert!(held.is_sure());
    cluster.start(leader);
    cluster.serves().await;

    // Somebody takes the lease away: the holder learns it, writes nothing more, and the next comes.
    let next = tokio::spawn({
        let (client, wanted) = (client.clone(), wanted.clone());
        async move { client.lock(wanted).await }
    });
    client.lease_revoke(held.lease()).await.expect("revoked");
    let next = next.await.expect("does not panic").expect("it is free");
    assert!(next.fencing_token() > held.fencing_token());
    let refused = held.put(PutRequest::new("work", "2")).await.expect_err("it is lost");
    assert!(matches!(refused, QueueError::Lost), "{refused:?}");
    held.lost().await;
    next.put(PutRequest::new("work", "3")).await.expect("it is held");
    // Dropped, it is free again without waiting for its time to live.
    drop(next);
    let last = client.lock(LockRequest { patience: Some(Duration::from_secs(4)), ..wanted }).await;
    last.expect("it was given back").release().await.expect("released");
    let value = client.get("work").await.expect("read").value.expect("there").value;
    assert_eq!(value, "3");
}
