//! The lock service: one holder at a time, in the order in which they came.

use etcd_client::{Client, GetOptions, LockOptions};
use mainstay_tests::until;
use tonic::Code;

use crate::{client, cluster, in_time, refusal};

async fn leased(client: &mut Client) -> i64 {
    client.lease_grant(60, None).await.expect("is granted").id()
}

/// Waits until so many hold or wait.
async fn queue_of(client: &Client, name: &str, wanted: i64) {
    until("the queue", async || {
        let options = GetOptions::new().with_prefix().with_count_only();
        let read = client.kv_client().get(format!("{name}/"), Some(options)).await;
        match read.map_err(|error| error.to_string())?.count() {
            count if count == wanted => Ok(()),
            count => Err(format!("{count} in it")),
        }
    })
    .await;
}

#[tokio::test]
async fn a_lock_has_one_holder_and_goes_to_the_next() {
    let cluster = cluster().await;
    let (mut one, other) = (client(&cluster).await, client(&cluster).await);
    let lease = leased(&mut one).await;
    let held = one.lock("job", Some(LockOptions::new().with_lease(lease))).await.expect("is free");
    assert_eq!(held.key(), format!("job/{lease:x}").as_bytes());
    let next = tokio::spawn({
        let mut other = other.clone();
        async move { other.lock("job", None).await }
    });
    queue_of(&one, "job", 2).await;
    assert!(!next.is_finished(), "it is held");
    one.unlock(held.key()).await.expect("is given back");
    let next = in_time("the lock", next).await.expect("does not panic").expect("is free");
    assert_ne!(next.key(), held.key());

    // The holder's lease ends, and with it the lock.
    let options = GetOptions::new();
    let mut owner = other.clone();
    let key = owner.get(next.key(), Some(options)).await.expect("is read");
    let last = tokio::spawn({
        let mut one = one.clone();
        async move { one.lock("job", Some(LockOptions::new().with_lease(lease))).await }
    });
    queue_of(&one, "job", 2).await;
    assert!(!last.is_finished(), "it is held");
    owner.lease_revoke(key.kvs()[0].lease()).await.expect("is revoked");
    let last = in_time("the lock", last).await.expect("does not panic").expect("is free");
    assert_eq!(last.key(), held.key());
    let nobody = LockOptions::new().with_lease(12_345);
    let refused = refusal(one.lock("job", Some(nobody)).await);
    assert_eq!(refused, (Code::NotFound, "etcdserver: requested lease not found".to_owned()));
}

#[tokio::test]
async fn who_holds_the_lock_counts_alone() {
    const CLIENTS: usize = 4;
    const ROUNDS: usize = 10;
    let cluster = cluster().await;
    let counting = async || {
        let mut client = client(&cluster).await;
        let lease = leased(&mut client).await;
        for _round in 0..ROUNDS {
            let options = LockOptions::new().with_lease(lease);
            let held = in_time("the lock", client.lock("count", Some(options))).await;
            let held = held.expect("is free");
            let read = client.get("counter", None).await.expect("is read");
            let count: usize = read
                .kvs()
                .first()
                .map_or(0, |pair| pair.value_str().expect("is text").parse().expect("is a number"));
            client.put("counter", (count + 1).to_string(), None).await.expect("is written");
            client.unlock(held.key()).await.expect("is given back");
        }
    };
    tokio::join!(counting(), counting(), counting(), counting());
    let read = client(&cluster).await.get("counter", None).await.expect("is read");
    assert_eq!(read.kvs()[0].value(), (CLIENTS * ROUNDS).to_string().as_bytes());
}
