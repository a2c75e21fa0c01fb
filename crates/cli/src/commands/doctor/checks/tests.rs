//! Each threshold from both sides.

use std::collections::BTreeMap;

use mainstay_client::{DiskReport, HeldUpFormat, NodeState, PeerReport, Span, StoreReport};

use super::*;
use crate::commands::doctor::report::Verdict;

fn told(id: u64) -> Told {
    let member = |id: u64| Member {
        id,
        name: format!("n{id}"),
        role: "follower".to_owned(),
        voter: true,
        peer_address: String::new(),
        client_urls: vec![format!("http://n{id}:2379")],
        zone: String::new(),
        healthy: true,
    };
    let peer = |id: u64| PeerReport {
        id,
        name: Some(format!("n{id}")),
        healthy: true,
        round_trip_ms: 0.5,
        failures: 0,
        protocol: Some(1),
        formats: Some(Span { oldest: 1, newest: 1 }),
    };
    Told {
        cluster: Cluster {
            cluster_id: 7,
            epoch: 1,
            term: 2,
            leader: Some(1),
            revision: 100,
            failures_tolerated: 1,
            settings: BTreeMap::from([("heartbeat_ms".to_owned(), 50.into())]),
            members: vec![member(1), member(2), member(3)],
            node: NodeState {
                id,
                committed_index: 100,
                applied_index: 100,
                ..NodeState::default()
            },
        },
        node: NodeReport {
            id,
            name: Some(format!("n{id}")),
            version: "1.0.0".to_owned(),
            protocols: Some(Span { oldest: 1, newest: 1 }),
            formats: Some(FormatReport { oldest: 1, newest: 1, in_force: 1, held_up: None }),
            wall_clock_ms: 0,
            disk: DiskReport {
                syncs: 10,
                sync_p99_ms: Some(1.0),
                oldest_sync_ms: 0.0,
                log_bytes: 1,
                free_bytes: Some(1 << 40),
                reserve_in_use: false,
            },
            store: StoreReport { bytes: 1, quota_bytes: 100, keys: 1, warning: false, full: false },
            peers: (1..=3).filter(|peer| *peer != id).map(peer).collect(),
        },
        clock: Clock { offset_ms: 0, uncertainty_ms: 1 },
        detector: None,
    }
}

fn examined(change: impl FnOnce(&mut [Told])) -> Examined {
    let mut told: Vec<Told> = (1..=3).map(told).collect();
    change(&mut told);
    let asked = told
        .into_iter()
        .map(|told| Asked { endpoint: format!("http://n{}:2379", told.node.id), told: Ok(told) });
    Examined { asked: asked.collect(), now_ms: 1_000_000_000 }
}

/// The worst verdict of one check.
fn verdict(findings: &[Finding], check: &str) -> Verdict {
    let of_check = findings.iter().filter(|finding| finding.check == check);
    of_check.map(|finding| finding.verdict).max().unwrap_or_else(|| panic!("{check} is missing"))
}

#[track_caller]
fn assert_verdict(check: &str, wanted: Verdict, change: impl FnOnce(&mut [Told])) {
    let findings = judge(&examined(change));
    assert_eq!(verdict(&findings, check), wanted, "{findings:#?}");
    for finding in &findings {
        let is_ok = finding.verdict == Verdict::Ok;
        assert_eq!(is_ok, finding.remedy.is_empty(), "what is wrong has a remedy: {finding:?}");
        assert!(is_ok || finding.check == check, "only {check} is wrong: {finding:?}");
    }
}

#[test]
fn a_well_cluster_has_nothing_but_oks() {
    let findings = judge(&examined(|_told| {}));
    assert!(findings.iter().all(|finding| finding.verdict == Verdict::Ok), "{findings:#?}");
    for check in ["reach", "cluster", "quorum", "version", "format", "clock", "elections"] {
        verdict(&findings, check);
    }
    for check in ["serving", "sync", "disk", "quota", "processor", "link", "lag"] {
        verdict(&findings, check);
    }
}

#[test]
fn numbers_are_judged_by_their_thresholds() {
    use Verdict::{Fail, Ok, Warn};
    for (p99_ms, wanted) in [(9.9, Ok), (10.0, Warn), (99.9, Warn), (100.0, Fail)] {
        assert_verdict("sync", wanted, |told| told[1].node.disk.sync_p99_ms = Some(p99_ms));
    }
    assert_verdict("sync", Fail, |told| told[1].node.disk.oldest_sync_ms = 1_000.0);
    for (offset_ms, wanted) in [(502, Ok), (503, Warn), (30_001, Warn), (30_002, Fail)] {
        assert_verdict("clock", if offset_ms == 502 { Warn } else { wanted }, |told| {
            told[2].clock.offset_ms = offset_ms;
        });
    }
    assert_verdict("clock", Ok, |told| told[2].clock.offset_ms = 501);
    for (round_trip_ms, wanted) in [(12.4, Ok), (12.5, Warn), (37.4, Warn), (37.5, Fail)] {
        assert_verdict("link", wanted, |told| told[0].node.peers[0].round_trip_ms = round_trip_ms);
    }
    for (behind, wanted) in [(9_999, Ok), (10_000, Warn)] {
        assert_verdict("lag", wanted, |told| told[0].cluster.node.committed_index = 100 + behind);
    }
    for (free_bytes, wanted) in [(1 << 30, Ok), ((1 << 30) - 1, Warn)] {
        assert_verdict("disk", wanted, |told| told[0].node.disk.free_bytes = Some(free_bytes));
    }
}

#[test]
fn what_nodes_say_is_wrong_is_wrong() {
    use Verdict::{Fail, Warn};
    assert_verdict("disk", Fail, |told| told[0].node.disk.reserve_in_use = true);
    assert_verdict("disk", Warn, |told| told[0].node.disk.free_bytes = None);
    assert_verdict("quota", Warn, |told| told[0].node.store.warning = true);
    assert_verdict("quota", Fail, |told| told[0].node.store.full = true);
    assert_verdict("version", Warn, |told| "1.1.0".clone_into(&mut told[0].node.version));
    assert_verdict("link", Fail, |told| told[0].node.peers[0].healthy = false);
    assert_verdict("serving", Fail, |told| {
        told[0].cluster.node.trouble = Some("its folder is new".to_owned());
    });
    assert_verdict("serving", Fail, |told| {
        told[0].cluster.node.read_only = Some("disk_reserve".to_owned());
    });
    assert_verdict("serving", Warn, |told| {
        told[0].cluster.node.read_only = Some("operator".to_owned());
    });
    assert_verdict("cluster", Fail, |told| told[0].cluster.epoch = 2);
    assert_verdict("quorum", Warn, |told| {
        told.iter_mut().for_each(|told| told.cluster.failures_tolerated = 0);
    });
    assert_verdict("quorum", Fail, |told| {
        told.iter_mut().for_each(|told| told.cluster.leader = None);
    });
}

#[test]
fn a_format_that_somebody_cannot_follow_is_told_with_who_it_is() {
    use Verdict::{Fail, Ok, Warn};
    let knows = |told: &mut Told, oldest, newest, in_force| {
        told.node.formats = Some(FormatReport { oldest, newest, in_force, held_up: None });
    };
    let all = |told: &mut [Told], oldest, newest, in_force| {
        told.iter_mut().for_each(|told| knows(told, oldest, newest, in_force));
    };
    assert_verdict("format", Ok, |told| all(told, 1, 2, 2));
    // A node that is too old to say what it knows.
    assert_verdict("format", Ok, |told| told[2].node.formats = None);
    assert_verdict("format", Warn, |told| knows(&mut told[0], 1, 2, 1));
    assert_verdict("format", Fail, |told| {
        all(told, 1, 2, 2);
        knows(&mut told[1], 1, 1, 1);
    });
    let held = examined(|told| {
        knows(&mut told[0], 1, 2, 1);
        let by = vec!["n3".to_owned()];
        let held_up = Some(HeldUpFormat { newest: 2, for_ms: 7_200_000.0, by });
        told[0].node.formats.as_mut().expect("is there").held_up = held_up;
    });
    let findings = judge(&held);
    assert_eq!(verdict(&findings, "format"), Warn);
    let found = &findings.iter().find(|finding| finding.check == "format").expect("some").found;
    assert!(found.contains("n3 holds format 2 up, for 120 min"), "{found}");
}

#[test]
fn silence_fails_and_members_nobody_can_ask_are_told() {
    let mut silent = examined(|_told| {});
    silent.asked[1].told = Err("connection refused".to_owned());
    let findings = judge(&silent);
    assert_eq!(verdict(&findings, "reach"), Verdict::Fail);
    let mut unknown = examined(|told| {
        told[0].cluster.members[2].client_urls = vec!["http://elsewhere:1".to_owned()];
    });
    unknown.asked.pop();
    assert_eq!(verdict(&judge(&unknown), "reach"), Verdict::Warn);
    let nobody = Examined {
        asked: vec![Asked { endpoint: "http://a".to_owned(), told: Err("no".to_owned()) }],
        now_ms: 0,
    };
    assert_eq!(judge(&nobody).len(), 1);
}

#[test]
fn an_offset_is_measured_from_the_middle_of_the_round_trip() {
    let mut report = told(1).node;
    report.wall_clock_ms = 10_600;
    let clock = Clock::of(&report, 10_000, Duration::from_millis(200));
    assert_eq!(clock, Clock { offset_ms: 500, uncertainty_ms: 101 });
}
