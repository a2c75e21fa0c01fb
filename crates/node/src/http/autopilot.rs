//! `GET /v1/cluster/autopilot`: what the leader does about the members by itself, and why.
//!
//! Any node takes the request and asks the leader; the answer is the leader's view. While the
//! setting `autopilot` is off it is a dry run: what would be done.

use mainstay_consensus::{Advice, AutopilotDecision, AutopilotState};

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

/// Decisions that are told unless a number is asked for.
const DECISIONS_DEFAULT: usize = 20;

/// Most decisions that can be asked for: all that a node keeps.
const DECISIONS_MAX: u64 = 1_000;

/// `GET /v1/cluster/autopilot`.
pub(crate) async fn get(front: SharedFront, request: Asked) -> Answered {
    let query = Query::parse(request.uri().query(), &["limit"])?;
    let caller = Terms::read(request.headers())?.writer()?;
    let limit = query.limit("decisions", DECISIONS_DEFAULT, DECISIONS_MAX)?;
    let consensus = front.door.consensus();
    let state = consensus.autopilot(limit, caller.deadline).await;
    let state = state.map_err(|error| Problem::membership(&error))?;
    let names = MemberNames::of(&consensus.status());
    Ok(answer::json(front.stamp.now(), document(&state, &names)))
}

fn document(state: &AutopilotState, names: &MemberNames) -> Document {
    let mut document = Document::with_capacity(1_024);
    document.text("{").flag("enabled", state.enabled).text(",");
    names.write(&mut document, "leader", Some(state.leader));
    document.text(",\"advice\":").list(&state.advice, |document, advice| {
        document.text("{");
        write_advice(document, advice);
        document.text("}");
    });
    document.text(",\"decisions\":").list(&state.decisions, write_decision);
    document.text("}");
    document
}

fn write_decision(document: &mut Document, decision: &AutopilotDecision) {
    document.text("{").number("at_ms", decision.wall_ms).text(",");
    document.decimal("term", decision.term).text(",");
    write_advice(document, &decision.advice);
    document.text(",\"error\":");
    match &decision.outcome {
        Ok(_tolerated) => document.text("null}"),
        Err(error) => document.string(error).text("}"),
    };
}

fn write_advice(document: &mut Document, advice: &Advice) {
    document.text("\"action\":\"").text(advice.action.as_str()).text("\",");
    document.decimal("id", advice.id).text(",\"name\":").string(&advice.name);
    document.text(",\"replaces\":");
    match advice.replaces {
        Some(id) => document.text(&format!("\"{id}\"")),
        None => document.text("null"),
    };
    document.text(",\"why\":").string(&advice.why);
}

#[cfg(test)]
mod tests {
    use mainstay_consensus::AutopilotAction;

    use super::*;

    #[test]
    fn what_is_done_and_what_was_decided_is_told_with_the_reason() {
        let names = MemberNames::for_tests(&[(11, "n1"), (13, "n3"), (14, "n3")]);
        let advice = Advice {
            action: AutopilotAction::Replace,
            id: 14,
            name: "n3".to_owned(),
            replaces: Some(13),
            why: "it keeps up".to_owned(),
        };
        let decision = AutopilotDecision {
            wall_ms: 5,
            term: 2,
            advice: advice.clone(),
            outcome: Err("busy".to_owned()),
        };
        let state = AutopilotState {
            enabled: true,
            leader: 11,
            advice: vec![advice],
            decisions: vec![decision],
        };
        assert_eq!(
            document(&state, &names).finish(),
            r#"{"enabled":true,"leader":"11","leader_name":"n1","advice":[{"action":"replace","id":"14","name":"n3","replaces":"13","why":"it keeps up"}],"decisions":[{"at_ms":5,"term":"2","action":"replace","id":"14","name":"n3","replaces":"13","why":"it keeps up","error":"busy"}]}"#
        );
    }
}
