//! Members and maintenance, as a program that looks after an etcd asks for them.

use std::collections::BTreeSet;

use etcd_client::{AlarmAction, AlarmType};
use mainstay_tests::until;
use tonic::Code;

use crate::{client, client_of, cluster, refusal};

#[tokio::test]
async fn every_node_tells_the_same_of_the_cluster() {
    let cluster = cluster().await;
    let put = client(&cluster).await.put("k", "v", None).await.expect("is written");
    let revision = put.header().expect("has a header").revision();
    let (mut ids, mut leaders, mut hashes) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for at in 0..3 {
        let mut client = client_of(&cluster, &[at]).await;
        // A follower has applied the write a moment later.
        let hash = until("a hash", async || client.hash_kv(revision).await).await;
        assert_eq!(hash.hash_revision(), revision);
        hashes.insert(hash.hash());
        let status = client.status().await.expect("is shown");
        let header = status.header().expect("has a header");
        assert!(status.version().starts_with("3.6."), "{}", status.version());
        assert!(status.raft_term() > 0 && status.raft_applied_index() > 0, "{status:?}");
        assert!(status.db_size() > 0 && !status.is_learner(), "{status:?}");
        assert!(status.errors().is_empty(), "{:?}", status.errors());
        ids.push(header.member_id());
        leaders.insert(status.leader());
        client.defragment().await.expect("there is nothing to do");
        client.hash().await.expect("is made");
        let alarms = client.alarm(AlarmAction::Get, AlarmType::None, None).await;
        assert!(alarms.expect("are shown").alarms().is_empty());
    }
    assert_eq!((leaders.len(), hashes.len()), (1, 1), "{leaders:?} {hashes:?}");
    assert!(ids.contains(leaders.first().expect("one leads")));

    let list = client(&cluster).await.member_list().await.expect("are listed");
    for (at, id) in ids.iter().enumerate() {
        let member = list.members().iter().find(|member| member.id() == *id).expect("is a member");
        assert_eq!(member.name(), cluster[at].plan.name);
        assert_eq!(member.client_urls(), [cluster[at].plan.url()]);
        let peer = format!("http://{}", cluster[at].plan.peer_address());
        assert_eq!(member.peer_urls(), [peer]);
        assert!(!member.is_learner());
    }
    assert_eq!(list.members().len(), 3);
}

#[tokio::test]
async fn the_leadership_is_moved_through_the_leader_only() {
    let cluster = cluster().await;
    let leader = cluster.leader().await;
    let [one, other] = cluster.others(leader)[..] else { panic!("three nodes") };
    let mut at_one = client_of(&cluster, &[one]).await;
    let status = at_one.status().await.expect("is shown");
    let target = status.header().expect("has a header").member_id();
    let refused = refusal(client_of(&cluster, &[other]).await.move_leader(target).await);
    assert_eq!(refused, (Code::FailedPrecondition, "etcdserver: not leader".to_owned()));
    client_of(&cluster, &[leader]).await.move_leader(target).await.expect("is moved");
    until("the next leader", async || {
        let status = at_one.status().await.map_err(|error| error.to_string())?;
        if status.leader() == target { Ok(()) } else { Err(format!("{}", status.leader())) }
    })
    .await;
    // A program notices nothing of it.
    client(&cluster).await.put("k", "v", None).await.expect("is written");
}
