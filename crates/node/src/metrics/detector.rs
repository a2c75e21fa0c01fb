//! Who is alive and who leads, in numbers: phi of every peer, heartbeats, elections by cause.

use std::fmt;

use mainstay_consensus::{Level, Reading};

use super::{page::Page, sources::Sources};
use crate::member_names::MemberNames;

/// The labels of a peer: its id, as etcd's own metrics of peers have it, and its name.
type OfPeer = [(&'static str, String); 2];

/// A number of a peer, with its name and what it means.
type PeerGauge = (&'static str, &'static str, fn(&Reading) -> Option<f64>);

const PEER_GAUGES: [PeerGauge; 5] = [
    ("mainstay_peer_phi", "How surprising a peer's silence is; from 8 it is suspected", |peer| {
        peer.phi
    }),
    ("mainstay_peer_suspect_threshold", "Phi from which on a peer is suspected now", |peer| {
        Some(peer.suspect_threshold)
    }),
    (
        "mainstay_peer_level",
        "What a peer is taken for: 0 never heard, 1 alive, 2 suspect, 3 failed",
        |peer| Some(level(peer.level)),
    ),
    (
        "mainstay_peer_oldest_sync_seconds",
        "Age of a peer's oldest unfinished sync, as it says",
        |peer| Some(peer.oldest_sync_age.as_secs_f64()),
    ),
    ("mainstay_peer_scheduling_lag_seconds", "How late a peer's timers are, as it says", |peer| {
        Some(peer.scheduling_lag.as_secs_f64())
    }),
];

/// A count of a peer, with its name and what it means.
type PeerCounter = (&'static str, &'static str, fn(&Reading) -> u64);

const PEER_COUNTERS: [PeerCounter; 3] = [
    ("mainstay_peer_heartbeats", "Heartbeats of a peer that were used", |peer| peer.heartbeats),
    ("mainstay_peer_heartbeats_missed", "Heartbeats of a peer that never came", |peer| peer.missed),
    (
        "mainstay_peer_mistakes",
        "How often a peer was suspected and then heard again in the same incarnation",
        |peer| peer.mistakes,
    ),
];

impl Sources {
    /// What this node makes of itself and of the others; nothing before it is in a cluster.
    pub(super) fn detector(&self, page: &mut Page<'_>) -> fmt::Result {
        let consensus = self.door.consensus();
        let Some(detection) = consensus.detection() else { return Ok(()) };
        page.gauges(&[
            (
                "mainstay_health_score",
                "How unwell this node finds itself, 0 to 8; it raises the thresholds",
                detection.own.adaptation.score.into(),
            ),
            ("mainstay_silent_peers", "Peers suspected or failed", detection.own.silent as u64),
        ])?;
        page.float_gauges(&[
            (
                "mainstay_scheduling_lag_seconds",
                "By how much this node's timers are late",
                detection.own_health.scheduling_lag.as_secs_f64(),
            ),
            (
                "mainstay_stall_budget_seconds",
                "Age of the oldest sync from which on a leader hands over",
                detection.stall_budget.as_secs_f64(),
            ),
        ])?;
        page.counters(&[
            (
                "mainstay_local_pauses",
                "How often this node was found to have stood still",
                detection.own.local_pauses,
            ),
            (
                "mainstay_unknown_heartbeats",
                "Heartbeats of nodes that are not watched",
                detection.own.unknown_peers,
            ),
        ])?;
        let names = MemberNames::of(&consensus.status());
        for (name, help, value) in PEER_GAUGES {
            let of = |peer| value(peer).map(|value| (labels(peer.peer, &names), value));
            page.labelled_gauge((name, help), detection.peers.iter().filter_map(of))?;
        }
        for (name, help, count) in PEER_COUNTERS {
            let of = |peer: &Reading| (labels(peer.peer, &names), count(peer));
            page.labelled_counter((name, help), detection.peers.iter().map(of))?;
        }
        self.heartbeats(page, &names)
    }

    fn heartbeats(&self, page: &mut Page<'_>, names: &MemberNames) -> fmt::Result {
        let counters = self.door.consensus().counters();
        let name = "mainstay_heartbeats_sent";
        page.counters(&[(name, "Heartbeats sent to all peers", counters.heartbeats_sent)])?;
        let ignored = counters.heartbeats_ignored.iter().flat_map(|(peer, ignored)| {
            [
                ("duplicate", ignored.duplicate),
                ("reordered", ignored.reordered),
                ("old_incarnation", ignored.old_incarnation),
                ("absurd", ignored.absurd),
            ]
            .map(|(reason, count)| {
                let [id, name] = labels(*peer, names);
                ([id, name, ("reason", reason.to_owned())], count)
            })
        });
        let name = "mainstay_peer_heartbeats_ignored";
        page.labelled_counter((name, "Heartbeats of a peer that were ignored"), ignored)
    }

    /// Elections and what led to them.
    pub(super) fn elections(&self, page: &mut Page<'_>) -> fmt::Result {
        let counters = self.door.consensus().counters();
        // Every cause is there from the start: a rate needs the zero before the first one.
        let by_cause = mainstay_consensus::ElectionCause::WORDS.map(|cause| {
            let count = counters.elections_by_cause.get(cause).copied().unwrap_or(0);
            ([("cause", cause.to_owned())], count)
        });
        let name = ("mainstay_elections", "Changes of leader that this node saw, by cause");
        page.labelled_counter(name, by_cause)?;
        page.counters(&[
            ("mainstay_campaigns", "How often this node asked for an election", counters.campaigns),
            (
                "mainstay_hand_overs_refused",
                "Hand-overs of the leadership that this node refused",
                counters.hand_overs_refused,
            ),
        ])
    }
}

fn labels(peer: u64, names: &MemberNames) -> OfPeer {
    [("To", peer.to_string()), ("name", names.name(peer).unwrap_or_default().to_owned())]
}

const fn level(level: Level) -> f64 {
    match level {
        Level::Unheard => 0.0,
        Level::Alive => 1.0,
        Level::Suspect => 2.0,
        Level::Failed => 3.0,
    }
}
