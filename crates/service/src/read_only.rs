//! Read-only mode: the one place that says whether this node takes writes, and if not, why.
//!
//! The reasons come from everywhere: consensus knows of quorum, disk reserve and failed storage, the
//! store of its quota, of an import and of the operator's wish, the write gate of the permit that disaster
//! recovery gives. Who asks, for a person, a probe or a metric, asks here; what a refused write is
//! told is the same reason ([`DoorError::read_only`]).
//!
//! Refusing itself happens where the write would otherwise take effect: in `apply` for quota and
//! operator, so that all replicas agree on the first write that is refused, and at the door for the
//! rest.

use mainstay_consensus::{NotTaken, ReadOnlyReason};
use mainstay_kv::Refusal;

use crate::{door::Door, error::DoorError};

/// Whether writes are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteMode {
    /// They are.
    Writable,
    /// They are refused; stale reads and watches go on. Of several reasons the one that is told is
    /// the one that takes the most to pass.
    ReadOnly(ReadOnlyReason),
}

/// What there is to know about taking writes.
#[derive(Debug, Clone, Copy)]
struct Look {
    consensus: Option<ReadOnlyReason>,
    permitted: bool,
    operator: bool,
    importing: bool,
    full: bool,
}

impl WriteMode {
    /// Why writes are refused, if they are.
    #[must_use]
    pub const fn reason(self) -> Option<ReadOnlyReason> {
        match self {
            Self::Writable => None,
            Self::ReadOnly(reason) => Some(reason),
        }
    }

    fn of(look: Look) -> Self {
        let Look { consensus, permitted, operator, importing, full } = look;
        let reason = match consensus {
            Some(reason @ ReadOnlyReason::StorageFailed) => Some(reason),
            _ if !permitted => Some(ReadOnlyReason::DisasterRecovery),
            Some(reason) => Some(reason),
            None if operator => Some(ReadOnlyReason::Operator),
            None if importing => Some(ReadOnlyReason::Import),
            None if full => Some(ReadOnlyReason::Quota),
            None => None,
        };
        reason.map_or(Self::Writable, Self::ReadOnly)
    }
}

impl Door {
    /// Whether this node takes writes now, and if not, why.
    #[must_use]
    pub fn write_mode(&self) -> WriteMode {
        let (operator, importing, full) = self.store(|store| {
            let importing = store.import_source().is_some();
            (store.settings().read_only, importing, store.space().full)
        });
        WriteMode::of(Look {
            consensus: self.consensus().read_only_reason(),
            permitted: self.gate().may_propose().is_ok(),
            operator,
            importing,
            full,
        })
    }
}

impl DoorError {
    /// Why writes are refused, if that is what it says.
    #[must_use]
    pub const fn read_only(&self) -> Option<ReadOnlyReason> {
        match self {
            Self::NotTaken(NotTaken::ReadOnly { reason }) => Some(*reason),
            Self::Held(_) => Some(ReadOnlyReason::DisasterRecovery),
            Self::Refused(Refusal::SpaceExceeded { .. }) => Some(ReadOnlyReason::Quota),
            Self::Refused(Refusal::ReadOnly) => Some(ReadOnlyReason::Operator),
            Self::Refused(Refusal::Importing) => Some(ReadOnlyReason::Import),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::GateClosed;

    const WELL: Look =
        Look { consensus: None, permitted: true, operator: false, importing: false, full: false };

    #[test]
    fn of_several_reasons_the_one_that_takes_the_most_to_pass_is_told() {
        use ReadOnlyReason::{DisasterRecovery, DiskReserve, Import, NoQuorum, Operator, Quota};
        let all = Look {
            consensus: Some(ReadOnlyReason::StorageFailed),
            permitted: false,
            operator: true,
            importing: true,
            full: true,
        };
        for (look, reason) in [
            (WELL, None),
            (Look { full: true, ..WELL }, Some(Quota)),
            (Look { operator: true, full: true, ..WELL }, Some(Operator)),
            (Look { importing: true, full: true, ..WELL }, Some(Import)),
            (Look { consensus: Some(DiskReserve), operator: true, ..WELL }, Some(DiskReserve)),
            (Look { consensus: Some(NoQuorum), full: true, ..WELL }, Some(NoQuorum)),
            (Look { consensus: Some(NoQuorum), ..all }, Some(DisasterRecovery)),
            (all, Some(ReadOnlyReason::StorageFailed)),
        ] {
            assert_eq!(WriteMode::of(look).reason(), reason, "{look:?}");
        }
    }

    #[test]
    fn every_reason_has_a_refusal_that_says_so_and_that_the_data_is_safe() {
        let full = Refusal::SpaceExceeded { bytes: 2, quota_bytes: 1 };
        let mut refusals = vec![
            (DoorError::Refused(full), ReadOnlyReason::Quota),
            (DoorError::Refused(Refusal::ReadOnly), ReadOnlyReason::Operator),
            (DoorError::Refused(Refusal::Importing), ReadOnlyReason::Import),
            (
                DoorError::Held(GateClosed { why: "the permit has run out" }),
                ReadOnlyReason::DisasterRecovery,
            ),
        ];
        for reason in ReadOnlyReason::ALL {
            refusals.push((NotTaken::ReadOnly { reason }.into(), reason));
        }
        for (error, reason) in refusals {
            assert_eq!(error.read_only(), Some(reason), "{error:?}");
            assert!(error.to_string().contains("the data is safe"), "{error}");
        }
        assert_eq!(DoorError::ReadTimeout.read_only(), None);
        assert_eq!(DoorError::Refused(Refusal::KeyEmpty).read_only(), None);
    }
}
