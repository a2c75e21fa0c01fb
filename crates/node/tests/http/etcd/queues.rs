//! Locks and elections that the server waits for.

use std::time::Duration;

use mainstay_etcd_protocol::{
    etcdserverpb::{LeaseGrantRequest, LeaseRevokeRequest},
    v3electionpb::{CampaignRequest, LeaderKey, LeaderRequest, ProclaimRequest, ResignRequest},
    v3lockpb::{LockRequest, UnlockRequest},
};
use tonic::Code;

use super::{Api, bytes, from, refused};
use crate::harness::with_node;

async fn grant(api: &mut Api, id: i64) {
    let grant = LeaseGrantRequest { ttl: 60, id };
    api.lease.lease_grant(grant).await.expect("is granted");
}

fn lock(lease: i64) -> LockRequest {
    LockRequest { name: bytes("door"), lease }
}

fn campaign(lease: i64, value: &'static str) -> CampaignRequest {
    CampaignRequest { name: bytes("boss"), lease, value: bytes(value) }
}

#[test]
fn a_lock_has_one_owner_and_goes_to_who_waits_longest() {
    with_node(async |node| {
        let mut api = Api::of(&node);
        for id in [1, 2, 3] {
            grant(&mut api, id).await;
        }
        let first = api.lock.lock(lock(1)).await.expect("is free").into_inner();
        assert_eq!(first.key, "door/1");
        // The same lease has it already.
        assert_eq!(api.lock.lock(lock(1)).await.expect("is held").into_inner().key, first.key);
        let mut other = api.clone();
        let second = mainstay_world::spawn(async move { other.lock.lock(lock(2)).await });
        until_keys(&mut api, 2).await;
        let mut other = api.clone();
        let third = mainstay_world::spawn(async move { other.lock.lock(lock(3)).await });
        until_keys(&mut api, 3).await;
        assert!(!second.is_finished() && !third.is_finished());
        api.lock.unlock(UnlockRequest { key: first.key }).await.expect("is let go");
        let second = second.await.expect("ends").expect("is next").into_inner();
        assert_eq!(second.key, "door/2");
        assert!(!third.is_finished());
        // The end of a lease lets go, too.
        api.lease.lease_revoke(LeaseRevokeRequest { id: 2 }).await.expect("is ended");
        let third = third.await.expect("ends").expect("is next").into_inner();
        assert_eq!(third.key, "door/3");
        node
    });
}

#[test]
fn who_stops_waiting_for_a_lock_leaves_the_queue() {
    with_node(async |node| {
        let mut api = Api::of(&node);
        for id in [1, 2] {
            grant(&mut api, id).await;
        }
        api.lock.lock(lock(1)).await.expect("is free");
        let mut other = api.clone();
        let second = mainstay_world::spawn(async move { other.lock.lock(lock(2)).await });
        until_keys(&mut api, 2).await;
        second.abort();
        until_keys(&mut api, 1).await;
        // Who lost the lease while waiting is told.
        let mut other = api.clone();
        let second = mainstay_world::spawn(async move { other.lock.lock(lock(2)).await });
        until_keys(&mut api, 2).await;
        api.lease.lease_revoke(LeaseRevokeRequest { id: 2 }).await.expect("is ended");
        api.lease.lease_revoke(LeaseRevokeRequest { id: 1 }).await.expect("is ended");
        let (code, text) = refused(second.await.expect("ends"));
        assert_eq!((code, &text[..]), (Code::Unknown, "mutex: session is expired"));
        node
    });
}

#[test]
fn an_election_has_one_leader_who_proclaims_and_resigns() {
    with_node(async |node| {
        let mut api = Api::of(&node);
        for id in [16, 17] {
            grant(&mut api, id).await;
        }
        let who = LeaderRequest { name: bytes("boss") };
        let (_, text) = refused(api.election.leader(who.clone()).await);
        assert_eq!(text, "election: no leader");
        let observed = api.election.observe(who.clone()).await.expect("is a stream");
        let mut observed = observed.into_inner();
        let mut next = async || {
            let waited = mainstay_world::timeout(Duration::from_secs(10), observed.message()).await;
            let answer = waited.expect("comes in time").expect("goes on").expect("has not ended");
            answer.kv.expect("has a pair").value
        };
        let first = api.election.campaign(campaign(16, "one")).await.expect("leads").into_inner();
        let title = first.leader.expect("has a title");
        assert_eq!((&title.key[..], title.lease), (&b"boss/10"[..], 16));
        assert_eq!(next().await, "one");
        let mut other = api.clone();
        let second =
            mainstay_world::spawn(
                async move { other.election.campaign(campaign(17, "two")).await },
            );
        until_keys(&mut api, 2).await;
        let proclaim = ProclaimRequest { leader: Some(title.clone()), value: bytes("uno") };
        api.election.proclaim(proclaim.clone()).await.expect("leads");
        assert_eq!(next().await, "uno");
        let leader = api.election.leader(who).await.expect("there is one").into_inner();
        assert_eq!(leader.kv.expect("has a pair").value, "uno");
        api.election.resign(ResignRequest { leader: Some(title) }).await.expect("resigns");
        let second = second.await.expect("ends").expect("leads").into_inner();
        let second: LeaderKey = second.leader.expect("has a title");
        assert_eq!(second.key, "boss/11");
        assert_eq!(next().await, "two");
        // Who resigned proclaims nothing any more.
        let (_, text) = refused(api.election.proclaim(proclaim).await);
        assert_eq!(text, "election: not leader");
        node
    });
}

/// Waits until there are `count` keys.
async fn until_keys(api: &mut Api, count: i64) {
    let waited = mainstay_world::timeout(Duration::from_secs(10), async {
        while api.kv.range(from("\0")).await.expect("is read").into_inner().count != count {
            mainstay_world::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "{count} keys: not within 10 seconds");
}
