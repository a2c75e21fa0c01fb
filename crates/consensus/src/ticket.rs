//! Who decides whether a queued proposal is still wanted: whoever comes first.
//!
//! A caller whose deadline passes must know whether its proposal can still take effect. The task
//! that sends it claims the ticket first; a caller that gives up revokes it first. Only one of the
//! two succeeds, so a revoked proposal was certainly not sent and never will be.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

const WAITING: u8 = 0;
const CLAIMED: u8 = 1;
const REVOKED: u8 = 2;

/// One proposal's ticket; both sides hold it.
#[derive(Debug, Clone)]
pub(crate) struct Ticket(Arc<AtomicU8>);

impl Ticket {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicU8::new(WAITING)))
    }

    /// Claims the proposal for sending; `false` if its caller gave up before.
    pub(crate) fn claim(&self) -> bool {
        self.decide(CLAIMED)
    }

    /// Gives the proposal up; `false` if it may have been sent.
    pub(crate) fn revoke(&self) -> bool {
        self.decide(REVOKED)
    }

    fn decide(&self, decision: u8) -> bool {
        self.0.compare_exchange(WAITING, decision, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_decision_counts() {
        let sent = Ticket::new();
        assert!(sent.claim() && !sent.revoke());
        let given_up = Ticket::new();
        assert!(given_up.revoke() && !given_up.claim());
    }
}
