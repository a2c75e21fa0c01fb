//! A cluster whose nodes are all replaced, one after the other, while programs use it through the
//! Rust client: no request fails, nothing acknowledged is lost, and the client is where the cluster
//! is, although nothing listens any more at the endpoints that it was given.

use std::sync::Arc;

use mainstay_client::{Client, ClientOptions, Endpoint, PutRequest};
use mainstay_tests::{Cluster, CommandLine, until};
use mainstay_world::RealNet;

use crate::{
    PROGRAM,
    programs::{Programs, assert_holds},
};

/// Programs of each client.
const PROGRAMS: usize = 4;

/// Requests between two steps.
const SOME: usize = 150;

fn endpoint(cluster: &Cluster, at: usize) -> Endpoint {
    cluster[at].plan.url().parse().expect("an endpoint")
}

fn client(endpoints: Vec<Endpoint>) -> Client {
    Client::new(Arc::new(RealNet), ClientOptions::new(endpoints))
}

/// Waits until node `at` sees `name` with a vote, or sees no such member.
async fn sees(cluster: &Cluster, at: usize, name: &str, is_voter: bool) {
    until(&format!("{name} with a vote: {is_voter}"), async || {
        let seen = cluster[at].client().cluster().await.map_err(|error| error.to_string())?.json();
        let members = seen["members"].as_array().into_iter().flatten();
        let member = members.clone().find(|member| member["name"] == name);
        let (is_member, votes) =
            (member.is_some(), member.is_some_and(|member| member["voter"] == true));
        if (is_member, votes) == (is_voter, is_voter) { Ok(()) } else { Err(seen.to_string()) }
    })
    .await;
}

#[tokio::test]
async fn clients_follow_a_cluster_whose_nodes_are_all_replaced_and_no_request_fails() {
    let mut cluster = Cluster::three(PROGRAM).await;
    // Ten seconds each is what operations have time for.
    let settings = cluster[0].client().request("PUT", "/v1/cluster/settings");
    settings.body(r#"{"learner_stable_ms":"100"}"#).answer().await.expect_status(200);
    let knows_one = client(vec![endpoint(&cluster, 0)]);
    let knows_all = client((0..3).map(|at| endpoint(&cluster, at)).collect());
    let programs =
        [&knows_one, &knows_all].into_iter().flat_map(|client| vec![client.clone(); PROGRAMS]);
    let programs = Programs::start("replaced/", programs);
    programs.write_more(SOME).await;

    // The leader goes first, and whoever leads then; the node that a client was given goes as well.
    let mut old = vec![0, 1, 2];
    let mut new = Vec::new();
    let commands = CommandLine::new(PROGRAM);
    while !old.is_empty() {
        let members = [&old[..], &new[..]].concat();
        let leader = cluster.leader_of(&members).await;
        let leaving = if old.contains(&leader) { leader } else { old[0] };
        let through = members.iter().copied().find(|at| *at != leaving).expect("there are three");
        let name = format!("n{}", cluster.len() + 1);
        let joining = cluster.plan_joining(&name, through);
        cluster.start(joining);
        cluster[joining].answers().await;
        sees(&cluster, through, &name, true).await;
        programs.write_more(SOME).await;

        let leaving_name = cluster[leaving].plan.name.clone();
        let url = cluster[through].plan.url();
        let words = ["member", "remove", &leaving_name, "--timeout", "15s", "--endpoints", &url];
        let removed = commands.run(&words).await;
        assert!(removed.expect_exit(0).stdout.contains("1 before, 1 after"), "{}", removed.stdout);
        assert_eq!(cluster[leaving].ended().await, 0, "{leaving_name} ends in good order");
        sees(&cluster, through, &leaving_name, false).await;
        programs.write_more(SOME).await;
        old.retain(|at| *at != leaving);
        new.push(joining);
    }

    // Both know the new nodes, and nobody who is gone but those they were given.
    for (client, given) in [(&knows_one, 1), (&knows_all, 3)] {
        until("the endpoints of the new nodes", async || {
            client
                .put(PutRequest::new("known", "yes"))
                .await
                .map_err(|error| format!("{error:?}"))?;
            let mut known = client.endpoints().split_off(given);
            known.sort_unstable();
            let mut wanted: Vec<_> = new.iter().map(|at| endpoint(&cluster, *at)).collect();
            wanted.sort_unstable();
            if known == wanted { Ok(()) } else { Err(format!("{known:?}, not {wanted:?}")) }
        })
        .await;
    }
    let written = programs.stop().await;
    for at in new {
        assert_holds(cluster[at].client(), "replaced/", &written).await;
    }
}
