//! Exit codes: whether a command did what it should, and if not, what it left behind.

use std::process::ExitCode;

use mainstay_client::{CallError, Failure, Problem, TookEffect, WatchError};
use mainstay_node::{JoinError, RunError};

/// How the program ends. The numbers are promised to scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// Failed, without effect.
    Failed = 1,
    /// The command line, or a file it names, is wrong.
    Usage = 2,
    /// No such key or lease, or a condition that does not hold.
    NotHeld = 3,
    /// Nobody could do it now; trying again later can help.
    Unavailable = 4,
    /// It is unknown whether it took effect, or it did and nobody could be told.
    Unknown = 5,
    /// The node's storage failed (`EX_IOERR` of sysexits.h); a supervisor should start it again.
    StorageFailed = 74,
}

impl Exit {
    /// The code that tells a script about `error`.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        if error.is::<UsageError>() {
            return Self::Usage;
        }
        if error.is::<Unavailable>() {
            return Self::Unavailable;
        }
        if let Some(RunError::Join(JoinError::TimedOut { .. })) = error.downcast_ref() {
            return Self::Unavailable;
        }
        if let Some(error) = error.downcast_ref::<CallError>() {
            return Self::of_call(error);
        }
        match error.downcast_ref::<WatchError>() {
            Some(WatchError::Ended { source, .. }) => Self::of_call(source),
            Some(WatchError::Compacted { .. } | WatchError::StoreReplaced) | None => Self::Failed,
        }
    }

    fn of_call(error: &CallError) -> Self {
        match (error.took_effect, &error.failure) {
            (TookEffect::Unknown, _) => Self::Unknown,
            (_, Failure::Refused(problem)) => Self::of_problem(problem),
            (
                _,
                Failure::Unreachable { .. }
                | Failure::NotSent { .. }
                | Failure::Lost { .. }
                | Failure::TimedOut { .. }
                | Failure::Cancelled { .. }
                | Failure::Busy { .. },
            ) => Self::Unavailable,
            (_, Failure::Malformed { .. } | Failure::Unsendable { .. }) => Self::Failed,
        }
    }

    fn of_problem(problem: &Problem) -> Self {
        match (problem.status, problem.code.as_str()) {
            (_, "not_found" | "lease_not_found" | "exists" | "lease_exists" | "compare_failed") => {
                Self::NotHeld
            }
            (429 | 503 | 504, _) => Self::Unavailable,
            _ => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What was asked for cannot be meant, found out after the arguments were parsed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UsageError(pub(crate) String);

/// A command that does not go on, with the reason and what would work. Nothing took effect.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refusal(pub(crate) String);

/// What was asked for was done, and then its answer could not be shown.
#[derive(Debug, thiserror::Error)]
#[error("the request was carried out, but what it did cannot be shown")]
pub(crate) struct DoneUnseen;

/// Somebody else than a node who cannot be reached. Nothing took effect.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unavailable(pub(crate) String);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use anyhow::Context;

    fn refused(status: u16, code: &str, took_effect: TookEffect) -> anyhow::Error {
        let problem = Problem {
            status,
            code: code.to_owned(),
            title: String::new(),
            detail: "a detail".to_owned(),
            took_effect,
            retry_after_ms: None,
            reason: None,
            compact_revision: None,
        };
        let failure = Failure::Refused(Box::new(problem));
        CallError { took_effect, attempts: 1, failure }.into()
    }

    #[test]
    fn each_family_of_refusals_has_its_code() {
        for (status, code, exit) in [
            (404, "not_found", Exit::NotHeld),
            (404, "lease_not_found", Exit::NotHeld),
            (409, "exists", Exit::NotHeld),
            (412, "compare_failed", Exit::NotHeld),
            (400, "key_too_large", Exit::Failed),
            (410, "compacted", Exit::Failed),
            (413, "too_large", Exit::Failed),
            (429, "overloaded", Exit::Unavailable),
            (503, "no_leader", Exit::Unavailable),
            (504, "timeout", Exit::Unavailable),
        ] {
            assert_eq!(Exit::of(&refused(status, code, TookEffect::No)), exit, "{code}");
        }
    }

    #[test]
    fn an_unknown_outcome_comes_before_every_other_reading() {
        let error = refused(503, "no_leader", TookEffect::Unknown);
        assert_eq!(Exit::of(&error), Exit::Unknown);
        assert_eq!(Exit::of(&error.context("write the key")), Exit::Unknown);
    }

    #[test]
    fn the_end_of_a_watch_tells_why() {
        let CallError { took_effect, attempts, failure } =
            refused(503, "no_leader", TookEffect::No).downcast().expect("a call error");
        let source = Box::new(CallError { took_effect, attempts, failure });
        let ended = WatchError::Ended { next_revision: 7, source };
        assert_eq!(Exit::of(&ended.into()), Exit::Unavailable);
        let compacted = WatchError::Compacted { compact_revision: 7 };
        assert_eq!(Exit::of(&compacted.into()), Exit::Failed);
    }

    #[test]
    fn a_wrong_command_line_is_told_from_everything_else() {
        let usage = Err::<(), _>(UsageError("no".to_owned())).context("read the file");
        assert_eq!(Exit::of(&usage.expect_err("an error")), Exit::Usage);
        assert_eq!(Exit::of(&anyhow::anyhow!("anything")), Exit::Failed);
        assert_eq!(Exit::of(&Unavailable("nobody".to_owned()).into()), Exit::Unavailable);
    }

    #[test]
    fn a_node_that_could_not_join_in_time_may_be_started_again_and_one_that_was_refused_not() {
        let why = "nobody".to_owned();
        let timed_out = JoinError::TimedOut { waited: Duration::from_secs(1), why: why.clone() };
        assert_eq!(Exit::of(&RunError::Join(timed_out).into()), Exit::Unavailable);
        assert_eq!(Exit::of(&RunError::Join(JoinError::NoMember { why }).into()), Exit::Failed);
    }

    #[test]
    fn the_numbers_are_the_promised_ones() {
        let all = [
            Exit::Done,
            Exit::Failed,
            Exit::Usage,
            Exit::NotHeld,
            Exit::Unavailable,
            Exit::Unknown,
            Exit::StorageFailed,
        ];
        assert_eq!(all.map(|exit| exit as u8), [0, 1, 2, 3, 4, 5, 74]);
    }
}
