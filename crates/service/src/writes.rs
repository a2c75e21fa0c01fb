//! The way of every write: room, gate, proposal, gate again, answer.

use std::{fmt, sync::Arc};

use mainstay_consensus::Consensus;
use mainstay_kv::{Command, Import, Operation, Origin, Outcome, Proposal, Refusal, Settings};
use mainstay_world::History;

use crate::{
    admission::Admission,
    audit::Audit,
    caller::{Caller, Written},
    error::DoorError,
    gate::WriteGate,
};

/// What writes need; shared by the door and its batching tasks.
pub(crate) struct Writes {
    pub(crate) consensus: Consensus,
    pub(crate) admission: Arc<Admission>,
    pub(crate) gate: Arc<dyn WriteGate>,
    pub(crate) history: Arc<dyn History>,
    pub(crate) audit: Audit,
}

impl Writes {
    /// Has `command` committed and applied, and answers with what it did. The caller is authorized
    /// already.
    pub(crate) async fn write(
        &self,
        operation: &'static str,
        caller: Caller,
        command: Command,
    ) -> Result<Written<Outcome>, DoorError> {
        let Caller { principal, auth_revision, trace_id, deadline, origin, .. } = caller;
        let proposal = Proposal { principal, auth_revision, origin, trace_id, command };
        let written = self.propose(&proposal, deadline).await;
        if let Err(error) = &written
            && !matches!(error, DoorError::OutcomeUnknown { .. })
        {
            self.refused(operation, &proposal.principal, trace_id, error);
        }
        written
    }

    async fn propose(
        &self,
        proposal: &Proposal,
        deadline: mainstay_world::Instant,
    ) -> Result<Written<Outcome>, DoorError> {
        // Bad input must not cost a log entry; `apply` checks again, by the settings at its place.
        self.consensus.read(|store| check(proposal, store.settings()))?;
        let _room = self.admission.write(command_bytes(&proposal.command))?;
        self.gate.may_propose()?;
        let applied = self.consensus.propose(proposal, deadline).await?;
        if let Err(closed) = self.gate.may_acknowledge() {
            return Err(DoorError::OutcomeUnknown { why: closed.why });
        }
        let outcome = match applied.result {
            Err(refusal) if applied.repeated => return Err(DoorError::RefusedBefore(refusal)),
            outcome => outcome?,
        };
        Ok(Written {
            outcome,
            revision: applied.revision,
            sequence: applied.sequence,
            repeated: applied.repeated,
        })
    }

    /// Notes a request that was refused.
    pub(crate) fn refused(
        &self,
        operation: &'static str,
        principal: &str,
        trace_id: [u8; 16],
        error: &dyn fmt::Display,
    ) {
        self.audit.refused(self.history.as_ref(), operation, principal, trace_id, error);
    }
}

/// What `apply` would certainly say now.
fn check(proposal: &Proposal, settings: &Settings) -> Result<(), Refusal> {
    // One that can be recognised may be the repetition of a write that was done before.
    let is_new = proposal.origin == Origin::Unnumbered;
    if settings.read_only && is_new && proposal.command.is_held_back() {
        return Err(Refusal::ReadOnly);
    }
    proposal.command.check(settings)
}

/// Bytes of keys and values that a command carries.
fn command_bytes(command: &Command) -> usize {
    fn operation_bytes(operation: &Operation) -> usize {
        match operation {
            Operation::Range(query) => query.range.start.len(),
            Operation::Put(put) => put.key.len() + put.value.as_ref().map_or(0, |v| v.len()),
            Operation::Delete(delete) => delete.range.start.len(),
            Operation::Txn(txn) => txn_bytes(txn),
        }
    }
    fn txn_bytes(txn: &mainstay_kv::Txn) -> usize {
        txn.compares.iter().map(|compare| compare.range.start.len()).sum::<usize>()
            + txn.success.iter().chain(&txn.failure).map(operation_bytes).sum::<usize>()
    }
    match command {
        Command::Put(put) => put.key.len() + put.value.as_ref().map_or(0, |v| v.len()),
        Command::Txn(txn) => txn_bytes(txn),
        Command::LeaseKeepAlive { ids } => ids.len() * size_of::<u64>(),
        Command::Import(Import::Forget { keys }) => keys.iter().map(|key| key.len()).sum(),
        Command::Import(Import::Pairs { pairs, .. }) => {
            pairs.iter().map(|pair| pair.key.len() + pair.value.len()).sum()
        }
        _ => 0,
    }
}
