//! The election service: campaigned, observed, proclaimed, resigned.

use etcd_client::{
    CampaignResponse, Client, GetOptions, ObserveStream, ProclaimOptions, ResignOptions,
};
use mainstay_tests::until;

use crate::{client, cluster, in_time};

async fn campaign(mut client: Client, value: &'static str) -> CampaignResponse {
    let lease = client.lease_grant(60, None).await.expect("is granted").id();
    client.campaign("boss", value, lease).await.expect("is elected")
}

async fn observed(stream: &mut ObserveStream, wanted: &str) {
    in_time("what is observed", async {
        loop {
            let told = stream.message().await.expect("goes on").expect("has not ended");
            if told.kv().expect("has a leader").value() == wanted.as_bytes() {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn an_election_has_one_leader_whom_everybody_sees() {
    let cluster = cluster().await;
    let mut client = client(&cluster).await;
    let nobody = client.leader("boss").await.expect_err("nobody was elected");
    assert!(nobody.to_string().contains("election: no leader"), "{nobody}");
    let first = campaign(client.clone(), "first").await;
    let mut stream = client.observe("boss").await.expect("is observed");
    observed(&mut stream, "first").await;

    let second = tokio::spawn(campaign(client.clone(), "second"));
    until("a second candidate", async || {
        let options = GetOptions::new().with_prefix();
        let read = client.kv_client().get("boss/", Some(options)).await;
        match read.map_err(|error| error.to_string())?.kvs().len() {
            2 => Ok(()),
            count => Err(format!("{count} candidates")),
        }
    })
    .await;
    assert!(!second.is_finished(), "there is a leader");
    let leader = first.leader().expect("is elected").clone();
    assert_eq!(leader.name(), b"boss");
    let options = ProclaimOptions::new().with_leader(leader.clone());
    client.proclaim("first, still", Some(options.clone())).await.expect("it leads");
    observed(&mut stream, "first, still").await;
    let asked = client.leader("boss").await.expect("there is one");
    assert_eq!(asked.kv().expect("has a leader").key(), leader.key());

    let resigns = ResignOptions::new().with_leader(leader);
    client.resign(Some(resigns)).await.expect("it led");
    let second = in_time("the second", second).await.expect("does not panic");
    observed(&mut stream, "second").await;
    let refused = client.proclaim("first, again", Some(options)).await;
    let refused = refused.expect_err("it leads no more");
    assert!(refused.to_string().contains("election: not leader"), "{refused}");

    // A leader whose lease ends leads no more.
    let lease = second.leader().expect("is elected").lease();
    let third = tokio::spawn(campaign(client.clone(), "third"));
    client.lease_revoke(lease).await.expect("is revoked");
    in_time("the third", third).await.expect("does not panic");
    observed(&mut stream, "third").await;
}
