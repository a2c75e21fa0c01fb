//! Leases: granted, asked after, kept alive, revoked, and ended by time.

use etcd_client::{
    Client, Error, EventType, LeaseGrantOptions, LeaseTimeToLiveOptions, PutOptions,
};
use tonic::Code;

use crate::{client, client_of, cluster, in_time, refusal};

/// Waits until what is under a lease of one second is deleted with it.
async fn a_lease_ends(client: &mut Client, key: &str) {
    let lease = client.lease_grant(1, None).await.expect("is granted").id();
    let mut watch = client.watch(key, None).await.expect("is watched");
    let options = PutOptions::new().with_lease(lease);
    client.put(key, "v", Some(options)).await.expect("is written");
    in_time("a deletion", async {
        loop {
            let told = watch.message().await.expect("goes on").expect("has not ended");
            if told.events().iter().any(|event| event.event_type() == EventType::Delete) {
                return;
            }
        }
    })
    .await;
    assert!(client.get(key, None).await.expect("is read").kvs().is_empty());
    let asked = client.lease_time_to_live(lease, None).await.expect("is answered");
    assert_eq!(asked.ttl(), -1, "it is gone");
}

#[tokio::test]
async fn a_lease_tells_its_time_and_its_keys_and_takes_them_along() {
    let cluster = cluster().await;
    let mut client = client(&cluster).await;
    let granted = client.lease_grant(60, Some(LeaseGrantOptions::new().with_id(77))).await;
    let granted = granted.expect("is granted");
    assert_eq!((granted.id(), granted.ttl()), (77, 60));
    let drawn = client.lease_grant(60, None).await.expect("is granted").id();
    assert!(drawn != 0 && drawn != 77, "{drawn}");
    let again = client.lease_grant(60, Some(LeaseGrantOptions::new().with_id(77))).await;
    let text = "etcdserver: lease already exists";
    assert_eq!(refusal(again), (Code::FailedPrecondition, text.to_owned()));

    for key in ["s/1", "s/2"] {
        let options = PutOptions::new().with_lease(77);
        client.put(key, "v", Some(options)).await.expect("is written");
    }
    let options = LeaseTimeToLiveOptions::new().with_keys();
    let asked = client.lease_time_to_live(77, Some(options)).await.expect("is answered");
    assert_eq!(asked.granted_ttl(), 60);
    assert!((1..=60).contains(&asked.ttl()), "{asked:?}");
    let mut keys = asked.keys().to_vec();
    keys.sort();
    assert_eq!(keys, [b"s/1", b"s/2"]);
    let all = client.leases().await.expect("are listed");
    let ids: Vec<_> = all.leases().iter().map(|lease| lease.id()).collect();
    assert!(ids.contains(&77) && ids.contains(&drawn), "{ids:?}");

    client.lease_revoke(77).await.expect("is revoked");
    for key in ["s/1", "s/2"] {
        assert!(client.get(key, None).await.expect("is read").kvs().is_empty(), "{key} is there");
    }
    let text = "etcdserver: requested lease not found";
    assert_eq!(refusal(client.lease_revoke(77).await), (Code::NotFound, text.to_owned()));
    let asked = client.lease_time_to_live(77, None).await.expect("is answered");
    assert_eq!((asked.ttl(), asked.granted_ttl()), (-1, 0));
    match client.lease_keep_alive(77).await {
        Err(Error::LeaseKeepAliveError(said)) => assert_eq!(said, "lease not found"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_lease_that_is_kept_alive_outlives_those_that_are_not() {
    let cluster = cluster().await;
    let mut client = client(&cluster).await;
    let kept = client.lease_grant(5, None).await.expect("is granted").id();
    client.put("kept", "v", Some(PutOptions::new().with_lease(kept))).await.expect("is written");
    // Through one node all the time, as a program has its stream.
    let mut keeping = client_of(&cluster, &[1]).await;
    let (mut keeper, mut answers) = keeping.lease_keep_alive(kept).await.expect("is kept");
    assert_eq!(keeper.id(), kept);
    // Six seconds and more, by the clock that leases live by.
    for number in 0..6 {
        a_lease_ends(&mut client, &format!("short/{number}")).await;
        keeper.keep_alive().await.expect("is asked");
        let answer = in_time("an answer", answers.message()).await;
        let answer = answer.expect("goes on").expect("has not ended");
        assert_eq!((answer.id(), answer.ttl()), (kept, 5));
    }
    assert_eq!(client.get("kept", None).await.expect("is read").kvs().len(), 1);
    client.lease_revoke(kept).await.expect("is revoked");
    // The stream stays and says that there is nothing to keep.
    keeper.keep_alive().await.expect("is asked");
    let answer = in_time("an answer", answers.message()).await;
    assert_eq!(answer.expect("goes on").expect("has not ended").ttl(), 0);
}
