//! `GET /v1/failure-detector`: who is alive as this node sees it, and the last elections.
//!
//! It answers from what the node knows itself, without asking anybody, so two nodes may well say
//! different things of a third.

use mainstay_consensus::{
    Adaptation, Detection, Election, ElectionCause, ElectionPhases, IgnoredCounts, Level, Reading,
    Reason, Status,
};

use crate::{
    http::{
        answer,
        front::{Answered, Asked, SharedFront},
        json::Document,
        problem::Problem,
        query::Query,
        terms::Terms,
    },
    member_names::MemberNames,
};

/// Elections that are told unless a number is asked for.
const ELECTIONS_DEFAULT: usize = 20;

/// Most elections that can be asked for: all that a node keeps.
const ELECTIONS_MAX: u64 = 1_000;

/// `GET /v1/failure-detector`.
pub(crate) async fn get(front: SharedFront, request: Asked) -> Answered {
    let query = Query::parse(request.uri().query(), &["limit"])?;
    Terms::read(request.headers())?;
    let limit = query.limit("elections", ELECTIONS_DEFAULT, ELECTIONS_MAX)?;
    let consensus = front.door.consensus();
    let Some(detection) = consensus.detection() else {
        let detail = "this node is not in a cluster yet: it watches nobody";
        return Err(Problem::unavailable("not_ready", detail));
    };
    let status = consensus.status();
    let names = MemberNames::of(&status);
    let mut document = Document::with_capacity(4_096);
    document.text("{\"node\":");
    write_node(&mut document, &detection, &status, &names);
    document.text(",\"peers\":").list(&detection.peers, |document, peer| {
        write_peer(document, peer, &names);
    });
    document.text(",\"elections\":").list(consensus.elections(limit), |document, election| {
        write_election(document, &election, &names);
    });
    document.text("}");
    Ok(answer::json(front.stamp.now(), document))
}

fn write_node(
    document: &mut Document,
    detection: &Detection,
    status: &Status,
    names: &MemberNames,
) {
    let Detection { own, own_health, stall_budget, .. } = detection;
    document.text("{");
    names.write_identity(document, status.node_id);
    document.text(",");
    names.write(document, "leader", status.leader);
    document.text(",");
    write_adaptation(document, own.adaptation);
    for (name, time) in [
        ("scheduling_lag_ms", own_health.scheduling_lag),
        ("oldest_sync_ms", own_health.oldest_sync_age),
        ("stall_budget_ms", *stall_budget),
    ] {
        document.text(",").duration_ms(name, time);
    }
    document.text(",").number("silent_peers", own.silent as u64).text(",");
    document.decimal("local_pauses", own.local_pauses).text(",");
    document.decimal("unknown_heartbeats", own.unknown_peers).text("}");
}

fn write_peer(document: &mut Document, peer: &Reading, names: &MemberNames) {
    document.text("{");
    names.write_identity(document, peer.peer);
    document.text(",\"level\":\"").text(level_word(peer.level)).text("\",");
    match peer.phi {
        Some(phi) => document.float("phi", phi),
        None => document.text("\"phi\":null"),
    };
    document.text(",").float("suspect_threshold", peer.suspect_threshold).text(",");
    document.float("failed_threshold", peer.failed_threshold).text(",");
    write_adaptation(document, peer.adaptation);
    for (name, time) in [
        ("mean_ms", peer.mean),
        ("deviation_ms", peer.deviation),
        ("acceptable_pause_ms", peer.acceptable_pause),
        ("tail_scale_ms", peer.tail_scale),
        ("period_ms", peer.period),
        ("silence_ms", peer.silence),
        ("oldest_sync_ms", peer.oldest_sync_age),
        ("scheduling_lag_ms", peer.scheduling_lag),
    ] {
        document.text(",").duration_ms(name, time);
    }
    document.text(",").float("tail_share", peer.tail_share);
    for (name, count) in [
        ("samples", peer.samples as u64),
        ("incarnation", peer.incarnation),
        ("heartbeats", peer.heartbeats),
        ("missed", peer.missed),
        ("mistakes", peer.mistakes),
    ] {
        document.text(",").decimal(name, count);
    }
    let IgnoredCounts { duplicate, reordered, old_incarnation, absurd } = peer.ignored;
    document.text(",\"ignored\":{").decimal("duplicate", duplicate).text(",");
    document.decimal("reordered", reordered).text(",");
    document.decimal("old_incarnation", old_incarnation).text(",");
    document.decimal("absurd", absurd).text("}}");
}

fn write_adaptation(document: &mut Document, adaptation: Adaptation) {
    document.number("score", adaptation.score.into()).text(",\"reason\":\"");
    document.text(reason_word(adaptation.reason)).text("\"");
}

fn write_election(document: &mut Document, election: &Election, names: &MemberNames) {
    document.text("{").decimal("term", election.term).text(",");
    names.write(document, "leader", Some(election.leader));
    document.text(",");
    names.write(document, "previous", election.previous);
    document.text(",").number("at_ms", election.wall_ms).text(",\"cause\":\"");
    document.text(election.cause.as_str()).text("\",\"why\":");
    document.string(&election.cause.to_string()).text(",\"numbers\":");
    write_numbers(document, &election.cause);
    let ElectionPhases { silence_ms, pre_vote_ms, vote_ms, ready_ms } = election.phases;
    document.text(",\"phases\":{");
    for (at, (name, phase_ms)) in [
        ("silence_ms", silence_ms),
        ("pre_vote_ms", pre_vote_ms),
        ("vote_ms", vote_ms),
        ("ready_ms", ready_ms),
    ]
    .into_iter()
    .enumerate()
    {
        document.text(if at > 0 { "," } else { "" });
        match phase_ms {
            Some(phase_ms) => document.number(name, phase_ms),
            None => document.text("\"").text(name).text("\":null"),
        };
    }
    document.text("}}");
}

/// The numbers of a cause, by name.
fn write_numbers(document: &mut Document, cause: &ElectionCause) {
    document.text("{");
    match cause {
        ElectionCause::Silence { phi, threshold } => {
            document.float("phi", *phi).text(",").float("threshold", *threshold)
        }
        ElectionCause::Stall { oldest_sync_ms, budget_ms } => document
            .number("oldest_sync_ms", *oldest_sync_ms)
            .text(",")
            .number("budget_ms", *budget_ms),
        ElectionCause::NoQuorum { quorum_age_ms } => {
            document.number("quorum_age_ms", *quorum_age_ms)
        }
        ElectionCause::Lag { lag_ms } => document.number("lag_ms", *lag_ms),
        ElectionCause::NoLeader
        | ElectionCause::LeaseExpired
        | ElectionCause::StorageFailed
        | ElectionCause::Operator
        | ElectionCause::Shutdown
        | ElectionCause::Untold => document,
    };
    document.text("}");
}

const fn level_word(level: Level) -> &'static str {
    match level {
        Level::Unheard => "unheard",
        Level::Alive => "alive",
        Level::Suspect => "suspect",
        Level::Failed => "failed",
    }
}

const fn reason_word(reason: Reason) -> &'static str {
    match reason {
        Reason::Well => "well",
        Reason::SchedulingLag => "scheduling_lag",
        Reason::SyncAge => "sync_age",
        Reason::Alone => "alone",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(election: &Election) -> serde_json::Value {
        let names = MemberNames::for_tests(&[(11, "n1"), (12, "n2")]);
        let mut document = Document::with_capacity(256);
        write_election(&mut document, election, &names);
        serde_json::from_slice(&document.finish()).expect("is JSON")
    }

    #[test]
    fn an_election_is_told_by_names_words_and_numbers() {
        let phases =
            ElectionPhases { silence_ms: Some(312), vote_ms: Some(6), ..Default::default() };
        let cause = ElectionCause::Silence { phi: 8.254_32, threshold: 8.0 };
        let election =
            Election { wall_ms: 1_700, term: 5, leader: 12, previous: Some(11), cause, phases };
        assert_eq!(
            told(&election),
            serde_json::json!({
                "term": "5", "leader": "12", "leader_name": "n2",
                "previous": "11", "previous_name": "n1", "at_ms": 1_700,
                "cause": "silence", "why": "the leader was silent (phi 8.3 of 8.0)",
                "numbers": {"phi": 8.254, "threshold": 8},
                "phases": {"silence_ms": 312, "pre_vote_ms": null, "vote_ms": 6, "ready_ms": null},
            })
        );
    }

    #[test]
    fn a_node_that_has_left_keeps_its_id_and_loses_its_name() {
        let election = Election {
            wall_ms: 0,
            term: 1,
            leader: 99,
            previous: None,
            cause: ElectionCause::NoLeader,
            phases: ElectionPhases::default(),
        };
        let told = told(&election);
        assert_eq!((&told["leader"], &told["leader_name"]), (&"99".into(), &().into()));
        assert_eq!((&told["previous"], &told["previous_name"]), (&().into(), &().into()));
        assert_eq!(told["numbers"], serde_json::json!({}));
    }
}
