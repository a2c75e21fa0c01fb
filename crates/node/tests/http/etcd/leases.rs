//! Leases: granted, renewed, shown, ended.

use futures_util::{StreamExt as _, stream};
use mainstay_etcd_protocol::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest, PutRequest,
};
use tonic::Code;

use super::{Api, from, put, refused, says};
use crate::harness::with_node;

#[test]
fn a_lease_is_granted_renewed_shown_and_ends_with_its_keys() {
    with_node(async |node| {
        let mut api = Api::of(&node);
        let grant = LeaseGrantRequest { ttl: 60, id: 7 };
        let granted = api.lease.lease_grant(grant).await.expect("is granted").into_inner();
        assert_eq!((granted.id, granted.ttl), (7, 60));
        let chosen = LeaseGrantRequest { ttl: -5, id: 0 };
        let chosen = api.lease.lease_grant(chosen).await.expect("is granted").into_inner();
        assert!(chosen.id > 0 && chosen.ttl >= 1, "{chosen:?}");
        for key in ["a", "b"] {
            let request = PutRequest { lease: 7, ..put(key, "v") };
            api.kv.put(request).await.expect("is written");
        }
        let show = LeaseTimeToLiveRequest { id: 7, keys: true };
        let shown = api.lease.lease_time_to_live(show).await.expect("is shown").into_inner();
        assert_eq!((shown.id, shown.granted_ttl, shown.keys.len()), (7, 60, 2));
        assert!((55..=60).contains(&shown.ttl), "{shown:?}");
        let all = api.lease.lease_leases(LeaseLeasesRequest {}).await.expect("are listed");
        assert_eq!(all.into_inner().leases.len(), 2);

        let revoke = LeaseRevokeRequest { id: 7 };
        let before = api.put("c", "v").await;
        let revoked = api.lease.lease_revoke(revoke).await.expect("is ended").into_inner();
        // All keys go at one revision.
        assert_eq!(revoked.header.expect("has a header").revision, before + 1);
        let left = api.kv.range(from("\0")).await.expect("is read").into_inner();
        assert_eq!(left.kvs.len(), 1);
        let missing = says(Code::NotFound, "requested lease not found");
        assert_eq!(refused(api.lease.lease_revoke(revoke).await), missing);
        // A lease that is no more is no error here.
        let shown = api.lease.lease_time_to_live(show).await.expect("is shown").into_inner();
        assert_eq!((shown.id, shown.ttl, shown.granted_ttl), (7, -1, 0));
        node
    });
}

#[test]
fn renewals_are_answered_in_order_and_the_dead_get_no_time() {
    with_node(async |node| {
        let mut api = Api::of(&node);
        for id in [1, 2] {
            let grant = LeaseGrantRequest { ttl: 30 * id, id };
            api.lease.lease_grant(grant).await.expect("is granted");
        }
        let revision = api.put("a", "v").await;
        let ids = [1, 99, 2, 1, 2, 98];
        let asked = stream::iter(ids.map(|id| LeaseKeepAliveRequest { id }));
        let answers = api.lease.lease_keep_alive(asked).await.expect("is a stream").into_inner();
        let answers: Vec<(i64, i64)> = answers
            .map(|answer| {
                let answer = answer.expect("is answered");
                assert_eq!(answer.header.expect("has a header").revision, revision);
                (answer.id, answer.ttl)
            })
            .collect()
            .await;
        assert_eq!(answers, [(1, 30), (99, 0), (2, 60), (1, 30), (2, 60), (98, 0)]);
        node
    });
}

#[test]
fn leases_that_cannot_be_are_refused_in_etcds_words() {
    with_node(async |node| {
        let mut api = Api::of(&node);
        let grant = LeaseGrantRequest { ttl: 10, id: 5 };
        api.lease.lease_grant(grant).await.expect("is granted");
        let taken = says(Code::FailedPrecondition, "lease already exists");
        assert_eq!(refused(api.lease.lease_grant(grant).await), taken);
        for ttl in [9_000_000_001, i64::MAX] {
            let long = LeaseGrantRequest { ttl, id: 0 };
            let too_long = says(Code::OutOfRange, "too large lease TTL");
            assert_eq!(refused(api.lease.lease_grant(long).await), too_long);
        }
        node
    });
}
