//! How a cluster comes to be, and who is kept out of it.

use mainstay_consensus::{Role, StartError};

use crate::node::{Cluster, Node, stale, wait_for};

#[test]
fn three_nodes_with_the_same_list_become_one_cluster() {
    let cluster = Cluster::three();
    let first = cluster.node(0).status();
    assert_ne!(first.cluster_id, 0);
    for node in cluster.running() {
        let status = node.status();
        assert_eq!((status.cluster_id, status.epoch), (first.cluster_id, 1));
        let names: Vec<_> =
            status.members.values().map(|member| member.record.name.as_str()).collect();
        assert_eq!(names.len(), 3, "{names:?}");
        assert!(status.members.values().all(|member| member.voter));
    }
    wait_for("one failure to be tolerated", || {
        (cluster.node(0).status().failures_tolerated == 1).then_some(())
    });
}

#[test]
fn a_wiped_node_says_so_and_changes_nothing() {
    let mut cluster = Cluster::three();
    let leader = cluster.leader();
    cluster.put(leader, "k", "before").expect("is written");
    let wiped = cluster.follower();
    cluster.kill(wiped);
    cluster.folders[wiped] = tempfile::tempdir().expect("an empty folder");
    cluster.start(wiped);
    wait_for("the wiped node to say that its folder is new", || {
        let trouble = cluster.node(wiped).status().trouble?;
        trouble.contains("is new").then_some(())
    });
    let status = cluster.node(wiped).status();
    assert_eq!((status.cluster_id, status.role), (0, Role::Outsider));
    let leader = (0..3)
        .find(|at| {
            let status = cluster.node(*at).status();
            status.leader == Some(status.node_id)
        })
        .expect("the leader leads on");
    cluster.put(leader, "k", "after").expect("the other two go on");
    assert_eq!(stale(cluster.node(wiped), "k"), None);
    assert_eq!(cluster.get(leader, "k").as_deref(), Some("after"));
    let members = &cluster.node(leader).status().members;
    assert!(!members.contains_key(&status.node_id), "the wiped node was let in");
}

#[test]
fn a_folder_of_another_node_is_refused_by_name() {
    let mut cluster = Cluster::three();
    cluster.kill(0);
    cluster.kill(1);
    let started = Node::start(cluster.folders[0].path(), "n2", &cluster.list);
    let Err(StartError::OtherNode { folder, wanted }) = started else {
        panic!("a folder of n1 was taken by n2");
    };
    assert_eq!((folder.as_str(), wanted.as_str()), ("n1", "n2"));
}
