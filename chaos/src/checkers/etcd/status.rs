//! Whether refusals have a code that clients can act on.
//!
//! etcd's clients repeat what was `Unavailable` and give up on what is `Unknown` or `Internal`; a
//! state that passes must never look like one of those.

use crate::{
    checkers::{Rule, Violation},
    history::History,
};

/// Codes that no client can act on, and that no call of the scenarios can earn.
const NEVER: [&str; 6] =
    ["Unknown", "Internal", "DataLoss", "Unimplemented", "Unauthenticated", "Aborted"];

pub(super) fn check(history: &History) -> Vec<Violation> {
    let wrong = history.statuses.iter().filter(|status| NEVER.contains(&status.code.as_str()));
    wrong
        .map(|status| Violation {
            at_us: status.at_us,
            rule: Rule::EtcdStatus,
            node: Some(status.node),
            what: format!("a call was refused as {}: {}", status.code, status.text),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Status;

    fn refused_as(code: &str) -> Vec<Violation> {
        let text = "etcdserver: no leader".to_owned();
        let status = Status { at_us: 5, node: 1, code: code.to_owned(), text };
        check(&History { statuses: vec![status], ..History::default() })
    }

    #[test]
    fn a_state_that_passes_is_unavailable_and_never_unknown() {
        assert_eq!(refused_as("Unavailable"), []);
        assert_eq!(refused_as("OutOfRange"), []);
        assert_eq!(refused_as("Unknown")[0].rule, Rule::EtcdStatus);
        assert_eq!(refused_as("Internal")[0].node, Some(1));
    }
}
