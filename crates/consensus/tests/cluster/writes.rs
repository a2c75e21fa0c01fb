//! Writes and linearizable reads through any node.

use mainstay_consensus::{NotTaken, ProposeError, ReadIndexError, ReadOnlyReason};
use mainstay_world::Instant;

use crate::node::{Cluster, block_on, put};

#[test]
fn a_write_through_any_node_is_read_through_every_other() {
    let cluster = Cluster::three();
    for writer in 0..3 {
        let value = format!("by {writer}");
        cluster.put(writer, "k", &value).expect("is written");
        for reader in 0..3 {
            assert_eq!(cluster.get(reader, "k").as_deref(), Some(value.as_str()));
        }
    }
}

#[test]
fn many_writers_on_all_nodes_each_get_a_revision_of_their_own() {
    let cluster = Cluster::three();
    let mut revisions = Vec::new();
    for round in 0..5 {
        let writes: Vec<_> = (0..120)
            .map(|number| (number % 3, put(&format!("k{number}"), &format!("{round}"))))
            .collect();
        let outcomes =
            block_on(futures_util::future::join_all(writes.iter().map(|(node, proposal)| {
                let deadline = Instant::now() + crate::node::DEADLINE;
                cluster.node(*node).propose(proposal, deadline)
            })));
        revisions.extend(outcomes.into_iter().map(|outcome| outcome.expect("is written").revision));
    }
    let count = revisions.len();
    revisions.sort_unstable();
    revisions.dedup();
    assert_eq!(revisions.len(), count, "two writes got one revision");
    let hashes: Vec<_> = (0..3)
        .map(|at| {
            block_on(cluster.node(at).read_index(Instant::now() + crate::node::DEADLINE))
                .expect("a read index");
            cluster.node(at).read(|store| (store.sequence(), store.hash()))
        })
        .collect();
    for pair in hashes.windows(2) {
        if pair[0].0 == pair[1].0 {
            assert_eq!(pair[0].1, pair[1].1, "replicas differ at one sequence");
        }
    }
}

#[test]
fn without_a_quorum_nothing_is_acknowledged_and_nothing_read() {
    let mut cluster = Cluster::three();
    let leader = cluster.leader();
    for at in (0..3).filter(|at| *at != leader) {
        cluster.kill(at);
    }
    let soon = || Instant::now() + std::time::Duration::from_secs(2);
    let outcome = block_on(cluster.node(leader).propose(&put("k", "v"), soon()));
    assert!(outcome.is_err(), "a minority acknowledged a write");
    let again = block_on(cluster.node(leader).propose(&put("k", "v"), soon()));
    assert!(
        matches!(
            again,
            Err(ProposeError::NotTaken(NotTaken::ReadOnly { reason: ReadOnlyReason::NoQuorum }))
        ),
        "after the lease a write is refused, not attempted: {again:?}"
    );
    let read = block_on(cluster.node(leader).read_index(soon()));
    assert!(matches!(read, Err(ReadIndexError::Timeout | ReadIndexError::NoLeader)), "{read:?}");
}
