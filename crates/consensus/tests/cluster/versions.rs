//! Two versions of the program in one cluster: nodes that announce different ranges.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use mainstay_consensus::{
    MemberRequest, MemberWish, MembershipError, StartError, Survivor, SurvivorError, Versions,
};
use mainstay_kv::{Envelope, Proposal, Stamp, command::Command};
use mainstay_storage::{
    Folder, FolderReading, Identity, LogEntry, LogPosition, Storage, StorageOptions,
};
use mainstay_world::{Buggify, Disk, Instant, RealDisk, Scope};

use crate::node::{Cluster, DEADLINE, block_on, put, wait_for};

/// A program that speaks and applies what is given, oldest and newest of each.
const fn program(protocols: (u16, u16), formats: (u64, u64)) -> Versions {
    Versions { protocols, formats }
}

const PRESENT: Versions = program((1, 1), (1, 1));
const NEXT: Versions = program((1, 2), (1, 2));
const AFTER_NEXT: Versions = program((2, 3), (2, 3));

fn format_at(cluster: &Cluster, at: usize) -> u64 {
    cluster.node(at).read(|store| store.settings().format)
}

/// Stops one node, and starts it again as another version.
fn upgrade(cluster: &mut Cluster, at: usize, to: Versions) {
    cluster.kill(at);
    cluster.versions[at] = to;
    cluster.start(at);
    cluster.leader();
}

/// Which protocols node `at` speaks with the others.
fn protocols(cluster: &Cluster, at: usize) -> Vec<u16> {
    cluster.node(at).counters().peer_versions.values().map(|told| told.protocol).collect()
}

/// Adds the node at place `at`, through a node that does not lead: what the leader goes on doing
/// afterwards must not end with the caller.
fn add(cluster: &Cluster, at: usize) -> Result<(), MembershipError> {
    let peer_address = cluster.list[at].peer_address.clone();
    let wish = MemberWish::Add { peer_address, id: None };
    let request = MemberRequest { wish, force: false, dry_run: false };
    let through = (0..3).find(|at| {
        let status = cluster.node(*at).status();
        status.leader.is_some_and(|leader| leader != status.node_id)
    });
    let through = cluster.node(through.expect("two of the three follow"));
    block_on(through.change_members(&request, Instant::now() + DEADLINE)).map(drop)
}

#[test]
fn a_rolling_upgrade_goes_over_to_the_new_format_when_the_last_node_can_follow() {
    let mut cluster = Cluster::of(3, PRESENT);
    let mut written = Vec::new();
    let mut write = |cluster: &Cluster, key: &str| {
        let leader = cluster.leader();
        for at in 0..3 {
            let key = format!("{key} through {at}");
            cluster.put(at, &key, "v").expect("is written");
            written.push(key);
        }
        assert_eq!(cluster.get(leader, written.last().expect("some")).as_deref(), Some("v"));
    };
    write(&cluster, "before");
    for at in 0..2 {
        upgrade(&mut cluster, at, NEXT);
        write(&cluster, &format!("with {} upgraded", at + 1));
        assert!((0..3).all(|at| format_at(&cluster, at) == 1), "one node cannot follow yet");
    }
    // An upgraded leader says who holds the new format up.
    let old = cluster.node(2).status().node_id;
    let to = Some(cluster.node(0).status().node_id);
    let through = cluster.node(2);
    let _either = block_on(through.hand_over(to, Instant::now() + DEADLINE));
    wait_for("an upgraded leader that waits for the last node", || {
        let held = cluster.node(cluster.leader()).held_up_format()?;
        (held.format == 2 && held.by.contains(&old)).then_some(())
    });
    upgrade(&mut cluster, 2, NEXT);
    wait_for("the new format on all nodes", || {
        (0..3).all(|at| format_at(&cluster, at) == 2).then_some(())
    });
    write(&cluster, "after");
    wait_for("the new protocol between all nodes", || {
        (0..3).all(|at| protocols(&cluster, at).iter().all(|spoken| *spoken == 2)).then_some(())
    });
    wait_for("a leader that waits for nobody", || {
        cluster.node(cluster.leader()).held_up_format().is_none().then_some(())
    });
    let leader = cluster.leader();
    for key in &written {
        assert_eq!(cluster.get(leader, key).as_deref(), Some("v"), "{key}");
    }

    // There is no way back for a node, with the raise in its log or in its snapshot.
    for snapshot in [false, true] {
        if snapshot {
            cluster.start(2);
            cluster.leader();
            block_on(cluster.node(2).take_snapshot()).expect("a snapshot is taken");
        }
        cluster.kill(2);
        cluster.versions[2] = PRESENT;
        let sentence = why_it_stops(&cluster, 2);
        assert!(sentence.contains("follows format 2"), "{sentence}");
        assert!(sentence.contains("knows 1 only"), "{sentence}");
        assert!(sentence.contains("start this node with the version"), "{sentence}");
        cluster.versions[2] = NEXT;
    }
    // The one after can come, when the log of the old rules is gone: it still speaks what is spoken and applies what is in force.
    cluster.versions[2] = AFTER_NEXT;
    cluster.start(2);
    cluster.leader();
    assert_eq!(cluster.get(2, &written[0]).as_deref(), Some("v"));
    assert_eq!(format_at(&cluster, 2), 2, "the others cannot follow further");
}

/// Starts node `at`, which cannot go on; what it says about that, and that others stay.
fn why_it_stops(cluster: &Cluster, at: usize) -> String {
    match cluster.try_start(at) {
        Err(error) => {
            assert!(matches!(error, StartError::Unusable { .. }), "{error:?}");
            error.to_string()
        }
        // The raise is in its log, and it does not know yet that it is committed.
        Ok(node) => {
            let mut failure = node.consensus.storage_failure();
            let told = wait_for("a node that says why it stops", || {
                let trouble = || node.consensus.status().trouble.map(|text| text.to_string());
                failure.borrow_and_update().clone().or_else(trouble)
            });
            node.kill();
            told
        }
    }
}

#[test]
fn nodes_without_a_common_protocol_do_not_talk_and_the_others_go_on() {
    let mut cluster = Cluster::of(3, PRESENT);
    cluster.put(0, "k", "v").expect("is written");
    cluster.kill(2);
    cluster.versions[2] = program((2, 3), (1, 1));
    let node = cluster.try_start(2).expect("its log is its own affair");
    let trouble = wait_for("a node that says why nobody talks to it", || {
        node.consensus.status().trouble.map(|text| text.to_string())
    });
    assert!(trouble.contains("peer protocol 1 only, this node 2 to 3"), "{trouble}");
    assert!(trouble.contains("upgrade the older"), "{trouble}");
    cluster.put(0, "k", "w").expect("is written");
    assert!(node.consensus.status().leader.is_none(), "it follows nobody");
    let id = node.consensus.status().node_id;
    wait_for("a node that is not heard", || {
        (!cluster.node(0).status().members[&id].healthy).then_some(())
    });
    node.kill();
    cluster.versions[2] = PRESENT;
    cluster.start(2);
    cluster.leader();
    assert_eq!(cluster.get(2, "k").as_deref(), Some("w"));

    // One that has forgotten the rules of its own log says so.
    cluster.kill(2);
    cluster.versions[2] = program((1, 1), (2, 3));
    let error = cluster.try_start(2).err().expect("the log begins with format 1").to_string();
    assert!(error.contains("follows format 1") && error.contains("knows 2 to 3"), "{error}");
}

#[test]
fn a_node_that_cannot_follow_does_not_join_and_one_that_can_does() {
    let mut cluster = Cluster::of(3, NEXT);
    wait_for("the newest format", || (format_at(&cluster, 0) == 2).then_some(()));
    let cases = [
        (PRESENT, "the cluster follows format 2, and n4 knows 1 to 1"),
        (program((1, 2), (3, 4)), "the cluster follows format 2, and n4 knows 3 to 4"),
        (program((3, 4), (2, 3)), "speaks peer protocol 3 to 4, this node 1 to 2"),
    ];
    for (versions, said) in cases {
        let at = cluster.start_waiting_as("n4", versions);
        let refusal = add(&cluster, at).expect_err("it cannot follow").to_string();
        assert!(refusal.contains(said), "{refusal}");
        cluster.kill(at);
    }
    // What is sent to a newer one must not begin with rules that it does not know any more.
    let purged = |cluster: &Cluster| {
        let status = cluster.node(0).status();
        let leader = (0..3).find(|at| status.leader == Some(cluster.node(*at).status().node_id))?;
        cluster.node(leader).standing().purged.map(drop)
    };
    wait_for("the log before the raise to be gone", || purged(&cluster));
    let at = cluster.start_waiting_as("n4", AFTER_NEXT);
    let node = cluster.node(at).clone();
    add(&cluster, at).expect("it can follow");
    wait_for("the log at the new member", || {
        node.read(|store| (store.settings().format == 2).then_some(()))
    });
}

#[test]
fn founders_that_begin_at_different_formats_found_nothing_and_say_so() {
    let mut cluster = Cluster::of(1, PRESENT);
    let newer = program((1, 1), (2, 3));
    let at = cluster.start_waiting_as("n2", newer);
    cluster.kill(0);
    cluster.kill(at);
    cluster.versions = vec![PRESENT, newer];
    cluster.folders = (0..2).map(|_| tempfile::tempdir().expect("a folder")).collect();
    for at in 0..2 {
        cluster.start(at);
    }
    let trouble = wait_for("a founder that says what is wrong", || {
        cluster.node(0).status().trouble.map(|text| text.to_string())
    });
    assert!(trouble.contains("n2 applies format 2 to 3 of the log and this node 1 only"));
}

/// Appends an entry to the log of the stopped node of `folder`, as a newer program would.
async fn append(folder: &Path, payload: Bytes, committed: bool) -> u64 {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::start(folder, "disk").expect("a thread"));
    let record = Folder::load(&disk).await.expect("reads").expect("is a data folder");
    let Folder { cluster_id, node_id, epoch, .. } = record;
    let identity = Identity { cluster_id, node_id, epoch };
    let (storage, recovered) = Storage::open(
        Arc::clone(&disk),
        disk,
        identity,
        StorageOptions::default(),
        Buggify::none(),
    )
    .await
    .expect("opens");
    let LogPosition { index, term } = recovered.last.expect("the log is not empty");
    let (synced, told) = tokio::sync::oneshot::channel();
    let entry = LogEntry { index: index + 1, term, payload };
    storage.append(
        vec![entry],
        Box::new(|outcome| {
            let _heard = synced.send(outcome.is_ok());
        }),
    );
    assert!(told.await.expect("is told"), "is synced");
    if committed {
        storage.save_committed(LogPosition { index: index + 1, term });
    }
    storage.shutdown().await;
    index + 1
}

#[test]
fn an_entry_of_a_newer_program_stops_the_node_with_a_sentence_and_never_in_silence() {
    // Of rules that nobody knows: the node's own, and those of the reader of a stopped node's folder.
    let newer = Versions::default().formats.1 + 1;
    let proposal = Proposal::unattributed(Command::RaiseFormat { format: newer });
    let body = proposal.to_bytes().expect("encodes");
    let stamp = Stamp { term: 1, time_ms: 0 };
    let rules = Envelope::stamp_bytes(1, stamp, 0, &body);
    let mut layout = rules.to_vec();
    layout[0] = 2;
    let unknown_rules = format!("follows format {newer}, and this program knows 1 only");
    let cases = [
        (rules, unknown_rules.as_str()),
        (layout.into(), "envelope format 2 is newer than this program knows (1)"),
    ];
    for (payload, said) in cases {
        for committed in [false, true] {
            let mut cluster = Cluster::of(1, PRESENT);
            cluster.put(0, "k", "v").expect("is written");
            cluster.kill(0);
            let folder = cluster.folders[0].path();
            let appended = append(folder, payload.clone(), committed);
            let index = block_on(Scope::production().run(appended));
            let sentence = why_it_stops(&cluster, 0);
            assert!(sentence.contains(said), "{sentence}");
            assert!(sentence.contains(&format!("entry {index} of the log")), "{sentence}");
            assert!(sentence.contains("start this node with the version"), "{sentence}");
            let reading = async {
                let disk: Arc<dyn Disk> =
                    Arc::new(RealDisk::start(folder, "disk").expect("a thread"));
                let reading = FolderReading::open(disk).await.expect("reads");
                Survivor::of(&reading).await.expect_err("nothing of it may be used")
            };
            let error = block_on(Scope::production().run(reading));
            let named = matches!(
                error,
                SurvivorError::Rules { index: at, .. } | SurvivorError::Entry { index: at, .. }
                    if at == index
            );
            assert!(named, "{error:?}");
        }
    }
}

#[test]
fn a_node_that_cannot_apply_goes_on_serving_what_it_has_and_answers_no_peer() {
    let mut cluster = Cluster::of(1, PRESENT);
    cluster.put(0, "k", "v").expect("is written");
    cluster.kill(0);
    let proposal = Proposal::unattributed(Command::RaiseFormat { format: 2 });
    let body = proposal.to_bytes().expect("encodes");
    let payload = Envelope::stamp_bytes(1, Stamp { term: 1, time_ms: 0 }, 0, &body);
    block_on(Scope::production().run(append(cluster.folders[0].path(), payload, false)));
    cluster.start(0);
    let node = cluster.node(0);
    let mut failure = node.storage_failure();
    wait_for("a node that says why it stops", || failure.borrow_and_update().clone());
    assert_eq!(crate::node::stale(node, "k").as_deref(), Some("v"));
    let refused = block_on(node.propose(&put("k", "w"), Instant::now() + DEADLINE));
    let refused = refused.expect_err("it takes no writes").to_string();
    assert!(refused.contains("storage_failed"), "{refused}");
}
