//! What a failed command tells the person in front of it: what happened, whether anything took
//! effect, and what to do now. With `--output json` the same as one JSON object.

use std::fmt::Write as _;

use mainstay_client::{CallError, Failure, ReadOnly, TookEffect, WatchError};
use serde::Serialize;

use crate::{
    arguments::Output,
    commands::{leader::LeaderUnknown, member::MembersUnknown},
    exit::{DoneUnseen, UsageError},
    screen,
};

/// The parts of a complaint.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Complaint {
    error: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    took_effect: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

/// Prints `error` to standard error.
pub(crate) fn print(error: &anyhow::Error, output: Output) {
    let complaint = Complaint::of(error);
    let text = match output {
        Output::Json => {
            serde_json::to_string(&complaint).expect("a complaint has string keys and cannot fail")
        }
        Output::Simple | Output::Table => complaint.text(),
    };
    screen::note(&text);
}

impl Complaint {
    fn of(error: &anyhow::Error) -> Self {
        let call = error.downcast_ref::<CallError>().or_else(|| match error.downcast_ref() {
            Some(WatchError::Ended { source, .. }) => Some(&**source),
            _ => None,
        });
        let advice = match (call, error.downcast_ref::<WatchError>()) {
            (_, Some(WatchError::Compacted { compact_revision })) => Some(format!(
                "read the keys again, then watch with --from-revision {compact_revision} or later"
            )),
            (_, Some(WatchError::StoreReplaced)) => Some(
                "read the keys again, and watch from the revision that comes with them".to_owned(),
            ),
            (_, Some(WatchError::Ended { next_revision, .. })) => {
                Some(format!("go on with --from-revision {next_revision}"))
            }
            (Some(_), None) if error.is::<LeaderUnknown>() => Some(
                "`mainstay status` shows who leads; ask again if that is not who should".to_owned(),
            ),
            (Some(_), None) if error.is::<MembersUnknown>() => Some(
                "`mainstay member list` shows who is a member; ask again if that is not as it should be"
                    .to_owned(),
            ),
            (Some(call), None) => advice(call),
            (None, None) if error.is::<DoneUnseen>() => {
                Some("do not repeat it; look at what is there now instead".to_owned())
            }
            (None, None) => {
                error.is::<UsageError>().then(|| "see --help of the command".to_owned())
            }
        };
        Self {
            error: chain(error),
            code: call.and_then(|call| call.code()).map(str::to_owned),
            took_effect: match call {
                Some(call) => Some(match call.took_effect {
                    TookEffect::Yes => "yes",
                    TookEffect::No => "no",
                    TookEffect::Unknown => "unknown",
                }),
                None => error.is::<DoneUnseen>().then_some("yes"),
            },
            advice,
        }
    }

    fn text(&self) -> String {
        let mut text = format!("error: {}", self.error);
        if let Some(advice) = &self.advice {
            write!(text, "\n  help: {advice}").expect("a string takes all that is written");
        }
        text
    }
}

/// The error and its causes, each at its own level, without saying anything twice.
pub(crate) fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    let mut last = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if last.contains(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
        last = cause;
    }
    text
}

/// What to do about a failed call.
fn advice(error: &CallError) -> Option<String> {
    if error.took_effect == TookEffect::Unknown {
        let text = "read before you write again, or repeat the very same command with the same \
            --idempotency-key: it takes effect once";
        return Some(text.to_owned());
    }
    let text = match &error.failure {
        Failure::Unreachable { .. } => {
            "start a cluster with `mainstay dev`, or name its nodes with --endpoints"
        }
        Failure::TimedOut { .. } | Failure::Lost { .. } | Failure::NotSent { .. } => {
            "try again, name more nodes with --endpoints, or allow more time with --timeout"
        }
        Failure::Malformed { .. } => {
            "check --endpoints: something else than a Mainstay node answers there"
        }
        Failure::Refused(problem) => match problem.code.as_str() {
            "no_leader" | "not_ready" | "shutting_down" => {
                "try again shortly; `mainstay status` shows which nodes are missing"
            }
            "read_only" => match problem.read_only() {
                Some(ReadOnly::Operator) => "`mainstay read-only off` lets writes in again",
                _ => "`mainstay health` shows what holds writes back; reads go on",
            },
            "unknown_member" => "`mainstay status` shows the members",
            "not_healthy" | "lagging" | "no_candidate" => {
                "`mainstay detector` shows who is well; try again, or name another node"
            }
            "exists" | "compare_failed" => "read the key again and decide anew",
            "compacted" => "name a newer revision; a read without one is of the present",
            "overloaded" | "idempotency_full" => "try again later, or send less at a time",
            _ => return None,
        },
        Failure::Busy { .. } | Failure::Cancelled { .. } | Failure::Unsendable { .. } => {
            return None;
        }
    };
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};
    use mainstay_client::Problem;

    fn refused(code: &str, took_effect: TookEffect) -> CallError {
        let problem = Problem {
            status: 503,
            code: code.to_owned(),
            title: String::new(),
            detail: "there is no leader right now".to_owned(),
            took_effect,
            retry_after_ms: None,
            reason: None,
            compact_revision: None,
        };
        CallError { took_effect, attempts: 1, failure: Failure::Refused(Box::new(problem)) }
    }

    #[test]
    fn a_complaint_says_what_happened_whether_it_took_effect_and_what_to_do() {
        let text = Complaint::of(&refused("no_leader", TookEffect::No).into()).text();
        assert_eq!(
            text,
            "error: the request failed and had no effect: there is no leader right now\n  \
             help: try again shortly; `mainstay status` shows which nodes are missing"
        );
        let text = Complaint::of(&refused("no_leader", TookEffect::Unknown).into()).text();
        assert!(text.contains("it is unknown whether it took effect"), "{text}");
        assert!(text.contains("--idempotency-key"), "{text}");
    }

    #[test]
    fn a_lost_transfer_is_not_advised_to_be_repeated_with_a_key() {
        let lost = Err::<(), _>(refused("outcome_unknown", TookEffect::Unknown));
        let error = lost.context(LeaderUnknown).expect_err("an error");
        let text = Complaint::of(&error).text();
        assert!(
            text.starts_with("error: it is unknown who leads now: the request failed"),
            "{text}"
        );
        assert!(text.contains("mainstay status") && !text.contains("--idempotency-key"), "{text}");
    }

    #[test]
    fn programs_get_the_same_as_json() {
        let complaint = Complaint::of(&refused("no_leader", TookEffect::No).into());
        let json = serde_json::to_value(&complaint).expect("writes");
        assert_eq!(json["code"], "no_leader");
        assert_eq!(json["took_effect"], "no");
    }

    #[test]
    fn what_was_done_and_cannot_be_shown_is_not_denied() {
        let error = anyhow::Error::from(std::io::Error::other("no space")).context(DoneUnseen);
        let complaint = Complaint::of(&error);
        assert_eq!(complaint.took_effect, Some("yes"));
        let text = complaint.text();
        assert!(text.starts_with("error: the request was carried out, but"), "{text}");
        assert!(text.contains("no space") && text.contains("do not repeat it"), "{text}");
    }

    #[test]
    fn each_cause_is_said_once() {
        let error =
            Err::<(), _>(anyhow!("no such file")).context("no such file").context("read it");
        assert_eq!(chain(&error.expect_err("an error")), "read it: no such file");
    }
}
