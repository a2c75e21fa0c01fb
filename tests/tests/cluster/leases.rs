//! Leases across leader changes: they neither start again at an election nor end early.

use std::time::{Duration, Instant};

use mainstay_tests::{Client, Cluster, Message, PATIENCE, ResumingWatch, Watch, until};
use serde_json::Value;

use crate::PROGRAM;

/// What the lease of a test may end early by its client's clock: the leader's clock lags a little
/// when it is granted.
const EARLY_MAX: Duration = Duration::from_millis(500);

/// What may lie between the end of a lease and the news of it, on a busy machine.
const LATE_MAX: Duration = Duration::from_millis(2_500);

async fn put_leased(client: &Client, key: &str, lease: &str) -> u64 {
    let request = client.request("PUT", &format!("/v1/kv/{key}?lease={lease}")).body("held");
    request.answer().await.expect_status(200).revision()
}

/// The lease as a node that answers sees it.
async fn lease(clients: &[Client], id: &str) -> Value {
    until("a look at the lease", async || {
        let mut last = String::new();
        for client in clients {
            let request = client.request("GET", &format!("/v1/leases/{id}"));
            match request.within(Duration::from_secs(3)).send().await {
                Ok(answer) if answer.status == 200 => return Ok(answer.json()),
                Ok(answer) if answer.status == 404 => panic!("it is gone: {}", answer.text()),
                Ok(answer) => last = answer.text(),
                Err(error) => last = error.to_string(),
            }
        }
        Err(last)
    })
    .await
}

#[tokio::test]
async fn a_lease_is_not_restarted_by_an_election_and_its_keys_go_once_and_in_time() {
    let mut cluster = Cluster::three(PROGRAM).await;
    let leader = cluster.leader().await;
    let survivors: Vec<_> =
        cluster.others(leader).into_iter().map(|at| cluster[at].client().clone()).collect();
    let ttl = Duration::from_secs(6);
    let granted = Instant::now();
    let id = survivors[0].grant_lease(6_000).await;
    let first = put_leased(&survivors[0], "lease/a", &id).await;
    put_leased(&survivors[1], "lease/b", &id).await;
    let watch = ResumingWatch::start(&survivors, "lease/", first);

    until("half of the lease's time", async || {
        let remaining_ms = lease(&survivors, &id).await["remaining_ms"].as_u64();
        if remaining_ms.is_some_and(|ms| ms < 3_000) {
            Ok(())
        } else {
            Err(format!("{remaining_ms:?}"))
        }
    })
    .await;
    cluster[leader].kill().await;
    let killed = Instant::now();
    until("a write after the election", async || match survivors[0].put("x", "y").send().await {
        Ok(answer) if answer.status == 200 => Ok(()),
        Ok(answer) => Err(answer.text()),
        Err(error) => Err(error.to_string()),
    })
    .await;
    let outage = killed.elapsed();
    let left_ms = lease(&survivors, &id).await["remaining_ms"].as_u64().expect("a number");
    assert!(left_ms < 3_000, "the election gave the lease {left_ms} ms");

    let deleted_at = until("the end of the lease", async || {
        let answer = survivors[1].get("lease/a").answer().await;
        if answer.status == 404 { Ok(Instant::now()) } else { Err(answer.text()) }
    })
    .await;
    let lived = deleted_at - granted;
    assert!(lived + EARLY_MAX >= ttl, "the lease of 6 s lived {lived:?}");
    assert!(lived <= ttl + outage + LATE_MAX, "the lease lived {lived:?}, the outage {outage:?}");

    let missing = survivors[0].request("GET", &format!("/v1/leases/{id}")).answer().await;
    missing.expect_problem(404, "lease_not_found");
    let end = survivors[0].put("lease/after", "1").answer().await.revision();
    watch.reaches(end).await;
    let (changes, _resumed) = watch.stop();
    let deleted: Vec<_> = changes
        .iter()
        .flat_map(|change| &change.events)
        .filter(|event| event.kind == "delete")
        .map(|event| (event.key.as_str(), event.mod_revision))
        .collect();
    let [("lease/a", one), ("lease/b", other)] = deleted[..] else {
        panic!("each key goes once: {deleted:?}")
    };
    assert_eq!(one, other, "a lease ends at one revision");
}

#[tokio::test]
async fn keys_stay_while_their_lease_is_kept_alive_across_leader_changes() {
    let mut cluster = Cluster::three(PROGRAM).await;
    let id = cluster[0].client().grant_lease(3_000).await;
    let revision = put_leased(cluster[0].client(), "held", &id).await;
    let query = format!("key=held&from_revision={}&progress_ms=100", revision + 1);
    let started = Instant::now();
    // Two leaders die, and the lease lives more than twice its time.
    let mut deaths = 0;
    while started.elapsed() < Duration::from_secs(7) || deaths < 2 {
        let clients = cluster.clients();
        until("a keep-alive", async || {
            let mut last = String::new();
            for client in &clients {
                let path = format!("/v1/leases/{id}/keep-alive");
                match client.request("POST", &path).within(Duration::from_secs(2)).send().await {
                    Ok(answer) if answer.status == 200 => return Ok(()),
                    Ok(answer) if answer.status == 404 => {
                        panic!("the lease ended: {}", answer.text())
                    }
                    Ok(answer) => last = answer.text(),
                    Err(error) => last = error.to_string(),
                }
            }
            Err(last)
        })
        .await;
        if deaths < 2 && started.elapsed() > Duration::from_secs(1 + 3 * deaths) {
            let leader = cluster.leader().await;
            cluster[leader].kill().await;
            cluster.start(leader);
            deaths += 1;
        }
    }
    cluster.serves().await;
    let read = cluster[1].client().get("held").answer().await;
    assert_eq!(read.expect_status(200).number("Mainstay-Mod-Revision"), revision);

    // Kept alive no longer, it goes, with one event.
    let mut watch = Watch::open(cluster[2].client(), &query, None).await.expect("opens");
    let gone = watch.change().await;
    assert_eq!((gone.events.len(), gone.events[0].kind.as_str()), (1, "delete"));
    let after = cluster[2].client().put("other", "1").answer().await.revision();
    loop {
        match watch.next(PATIENCE).await.expect("the watch goes on") {
            Message::Progress { revision } if revision >= after => break,
            Message::Progress { .. } => {}
            other => panic!("the key was gone already: {other:?}"),
        }
    }
}

#[tokio::test]
async fn an_outage_takes_nothing_from_a_lease_and_gives_it_nothing() {
    let mut cluster = Cluster::three(PROGRAM).await;
    let id = cluster[0].client().grant_lease(4_000).await;
    put_leased(cluster[0].client(), "held", &id).await;
    let before = lease(&cluster.clients(), &id).await["remaining_ms"].as_u64().expect("a number");
    cluster.kill_all().await;
    // A node without a quorum works on this for longer than the lease has.
    cluster.start(0);
    cluster[0].answers().await;
    let alone = cluster[0].client().put("alone", "1").timeout_ms(4_500).answer().await;
    assert_eq!(alone.status, 503, "{}", alone.text());
    cluster.start_all();
    cluster.serves().await;
    let after = lease(&cluster.clients(), &id).await["remaining_ms"].as_u64().expect("a number");
    assert!(after <= before, "a restart gave the lease time: {before} ms, then {after} ms");
    cluster[0].client().get("held").answer().await.expect_status(200);
}
