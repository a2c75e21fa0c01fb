//! A leader whose real disk hangs: it gives its title away, writes go on, and nothing is lost,
//! whether the disk comes back or the node dies with it.

use mainstay_tests::{Cluster, Signal, Writer};

use crate::leader_changes::{election_of, term_at};

/// A node whose disk hangs when it is told to.
const PROGRAM: &str = env!("CARGO_BIN_EXE_mainstay-on-a-stalling-disk");

/// Logical clients of a load.
const LOAD: usize = 8;

/// Acknowledged writes before and after something happens.
const SOME: usize = 300;

/// Stalls the disk of the leader under load until another node leads; both, the old one first.
async fn stalled(cluster: &Cluster, writer: &Writer) -> (usize, usize) {
    writer.acknowledges(SOME).await;
    let leader = cluster.leader().await;
    let name = cluster[leader].plan.name.clone();
    cluster[leader].signal(Signal::StallDisk);
    let survivors = cluster.others(leader);
    let next = cluster.leader_of(&survivors).await;
    writer.acknowledges(SOME).await;
    let term = term_at(cluster[next].client()).await;
    for at in survivors {
        let election = election_of(cluster[at].client(), term, &["stall"]).await;
        assert_eq!(election["previous_name"], name, "{election}");
        assert_eq!(election["leader_name"], cluster[next].plan.name, "{election}");
        let number = |name: &str| election["numbers"][name].as_u64().expect("a number");
        assert!(number("oldest_sync_ms") >= number("budget_ms"), "{election}");
    }
    (leader, next)
}

#[tokio::test]
async fn a_leader_whose_disk_hangs_hands_over_and_comes_back_as_a_follower() {
    let mut cluster = Cluster::three(PROGRAM).await;
    let writer = Writer::start(&cluster.clients(), "load", LOAD);
    let (leader, next) = stalled(&cluster, &writer).await;
    let term = term_at(cluster[next].client()).await;

    cluster[leader].signal(Signal::ReleaseDisk);
    cluster.serves().await;
    writer.acknowledges(SOME).await;
    assert_eq!(cluster.leader().await, next, "the old leader took the title back");
    assert_eq!(term_at(cluster[leader].client()).await, term, "it cost another election");
    let ledger = writer.stop().await;
    for client in cluster.clients() {
        ledger.assert_kept_by(&client).await;
    }
}

#[tokio::test]
async fn a_leader_that_dies_while_its_disk_hangs_has_acknowledged_nothing_that_is_lost() {
    let mut cluster = Cluster::three(PROGRAM).await;
    let writer = Writer::start(&cluster.clients(), "load", LOAD);
    let (leader, _next) = stalled(&cluster, &writer).await;

    cluster[leader].kill().await;
    writer.acknowledges(SOME).await;
    cluster.start(leader);
    cluster.serves().await;
    let ledger = writer.stop().await;
    for client in cluster.clients() {
        ledger.assert_kept_by(&client).await;
    }
}
