//! A program with all endpoints goes on when leaders die, and loses nothing that was acknowledged.

use std::time::Duration;

use etcd_client::{Client, ConnectOptions, GetOptions, LeaseTimeToLiveOptions, PutOptions};
use mainstay_tests::until;

use crate::{client, cluster, passes};

#[tokio::test]
async fn a_client_of_all_nodes_goes_on_when_leaders_die() {
    let mut cluster = cluster().await;
    let urls: Vec<_> = (0..3).map(|at| cluster[at].plan.url()).collect();
    // As somebody would set it for production.
    let options = ConnectOptions::new()
        .with_require_leader(true)
        .with_connect_timeout(Duration::from_secs(2))
        .with_timeout(Duration::from_secs(5))
        .with_keep_alive(Duration::from_secs(10), Duration::from_secs(3));
    let mut client = Client::connect(urls, Some(options)).await.expect("URLs are all it takes");
    let lease = client.lease_grant(60, None).await.expect("is granted").id();
    let mut last = 0;
    for number in 0..240 {
        if number % 80 == 40 {
            let leader = cluster.leader().await;
            cluster[leader].kill().await;
            // It is back for the next one.
            cluster.start(leader);
        }
        let key = format!("k/{number:03}");
        // The same write again, until it is acknowledged.
        let put = until("a write", async || {
            let options = PutOptions::new().with_lease(lease);
            let put = client.put(key.as_str(), number.to_string(), Some(options)).await;
            put.inspect_err(|error| assert!(passes(error), "{error:?}"))
        })
        .await;
        let revision = put.header().expect("has a header").revision();
        assert!(revision > last, "{revision} after {last}");
        last = revision;
        // Whichever node answers, it knows what was acknowledged.
        let read = until("a read", async || {
            let read = client.get(key.as_str(), None).await;
            read.inspect_err(|error| assert!(passes(error), "{error:?}"))
        })
        .await;
        assert_eq!(read.kvs()[0].value(), number.to_string().as_bytes());
    }
    cluster.serves().await;
    let keys = read_all(&cluster).await;
    let wanted: Vec<_> = (0..240).map(|number| format!("k/{number:03}")).collect();
    assert_eq!(keys, wanted);
    let options = LeaseTimeToLiveOptions::new().with_keys();
    let asked =
        until("the lease", async || client.lease_time_to_live(lease, Some(options.clone())).await)
            .await;
    assert_eq!(asked.keys().len(), 240);
    assert!(asked.ttl() > 0, "it lives on");
}

async fn read_all(cluster: &mainstay_tests::Cluster) -> Vec<String> {
    let options = GetOptions::new().with_prefix().with_keys_only();
    let mut client = client(cluster).await;
    let read = client.get("k/", Some(options)).await.expect("is read");
    read.kvs().iter().map(|pair| pair.key_str().expect("is text").to_owned()).collect()
}
