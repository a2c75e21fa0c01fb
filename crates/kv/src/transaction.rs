//! Carrying out puts, deletes and transactions.
//!
//! A transaction goes through three steps, as in etcd:
//!
//! 1. Choose: all compares, nested ones included, are evaluated against the state before the
//!    transaction, which gives the path through the branches.
//! 2. Check: everything on that path that could be refused is looked at now. From here on
//!    nothing fails, so nothing ever has to be undone.
//! 3. Run: the operations of the path, in order; reads of the present see earlier writes.

use crate::{
    command::{Compare, Delete, Operand, Operation, Put, RangeEnd, Relation, Txn},
    keyspace::{Keyspace, Writing},
    lease::LeaseTable,
    outcome::{DeleteOutcome, OperationOutcome, PutOutcome, Refusal, TxnOutcome},
    query::{RangeAnswer, RangeQuery},
    range::Counting,
    settings::Settings,
    space::Space,
    version::{ROW_OVERHEAD_BYTES, Version},
};

/// The most bytes of pairs that the outcome of one command may carry, about.
///
/// Outcomes are sent between nodes and kept for repeated requests. The bound is checked before
/// the command runs; operations of one transaction that shift what a later limited read returns
/// are not foreseen.
pub const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What checking a command looks at.
pub(crate) struct Check<'a> {
    pub(crate) keyspace: &'a Keyspace,
    pub(crate) leases: &'a LeaseTable,
    pub(crate) settings: &'a Settings,
    pub(crate) clock_ms: u64,
    pub(crate) space: Space,
}

/// What running a command changes.
pub(crate) struct Run<'a> {
    pub(crate) keyspace: &'a mut Keyspace,
    pub(crate) leases: &'a mut LeaseTable,
}

/// The branches that a transaction takes: its own first, then those of the nested transactions
/// on its path, in order.
pub(crate) type Choices = Vec<bool>;

impl Check<'_> {
    pub(crate) fn put(&self, put: &Put) -> Result<(), Refusal> {
        self.put_on_path(put)?;
        self.room_to_grow()
    }

    pub(crate) fn delete(&self, delete: &Delete) -> Result<(), Refusal> {
        if !delete.want_previous || delete.range.end == RangeEnd::Single {
            return Ok(());
        }
        let mut left = ANSWER_BYTES_MAX;
        take_all(&mut left, self.keyspace.present(&delete.range))
    }

    /// Chooses the path of a transaction and checks what is on it.
    pub(crate) fn txn(&self, txn: &Txn) -> Result<Choices, Refusal> {
        let mut choices = Vec::with_capacity(1);
        self.choose(txn, &mut choices);
        let mut path = Vec::new();
        collect_path(txn, &mut choices.iter().copied(), &mut path);
        let mut grows = false;
        for operation in &path {
            match operation {
                Operation::Put(put) => {
                    self.put_on_path(put)?;
                    grows = true;
                }
                Operation::Range(query) => {
                    self.keyspace.end_of(query.revision)?;
                }
                Operation::Delete(_) | Operation::Txn(_) => {}
            }
        }
        self.answer_size(&path)?;
        if grows {
            self.room_to_grow()?;
        }
        Ok(choices)
    }

    fn put_on_path(&self, put: &Put) -> Result<(), Refusal> {
        let keeps = put.value.is_none() || put.lease.is_none();
        if keeps && self.keyspace.get(&put.key).is_none() {
            return Err(Refusal::KeyNotFound);
        }
        match put.lease {
            Some(id) if id != 0 && !self.leases.is_alive(id, self.clock_ms) => {
                Err(Refusal::LeaseNotFound { id })
            }
            _ => Ok(()),
        }
    }

    const fn room_to_grow(&self) -> Result<(), Refusal> {
        if self.space.full {
            let Space { bytes, quota_bytes, .. } = self.space;
            return Err(Refusal::SpaceExceeded { bytes, quota_bytes });
        }
        Ok(())
    }

    fn choose(&self, txn: &Txn, choices: &mut Choices) {
        let holds = txn.compares.iter().all(|compare| self.holds(compare));
        choices.push(holds);
        for operation in if holds { &txn.success } else { &txn.failure } {
            if let Operation::Txn(nested) = operation {
                self.choose(nested, choices);
            }
        }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let mut present = self.keyspace.present(&compare.range).peekable();
        if present.peek().is_none() {
            return holds_for(compare, None);
        }
        present.all(|version| holds_for(compare, Some(version)))
    }

    /// Checks that what the path returns stays within [`ANSWER_BYTES_MAX`].
    fn answer_size(&self, path: &[&Operation]) -> Result<(), Refusal> {
        let pair_max = self.settings.key_bytes_max + self.settings.value_bytes_max;
        let most = |count: u64| count.saturating_mul(pair_max + ROW_OVERHEAD_BYTES);
        let worst = |operation: &&Operation| match operation {
            Operation::Range(query) if query.count_only => 0,
            Operation::Range(query) if query.range.end == RangeEnd::Single => most(1),
            Operation::Range(query) if query.limit > 0 => most(query.limit),
            Operation::Range(_) => u64::MAX,
            Operation::Put(put) => most(u64::from(put.want_previous)),
            Operation::Delete(delete) if !delete.want_previous => 0,
            Operation::Delete(delete) if delete.range.end == RangeEnd::Single => most(1),
            Operation::Delete(_) => u64::MAX,
            Operation::Txn(_) => 0,
        };
        if path.iter().map(worst).fold(0, u64::saturating_add) <= ANSWER_BYTES_MAX {
            return Ok(());
        }
        let mut left = ANSWER_BYTES_MAX;
        for operation in path {
            match operation {
                Operation::Range(query) => {
                    let selection = self.keyspace.select(query, Counting::Returned)?;
                    let len = |version: &&Version| match query.keys_only {
                        true => version.key.len() as u64 + ROW_OVERHEAD_BYTES,
                        false => version.logical_bytes(),
                    };
                    take(&mut left, selection.versions.iter().map(len).sum())?;
                    take(&mut left, written_in(path, query))?;
                }
                Operation::Put(put) if put.want_previous => {
                    take_all(&mut left, self.keyspace.get(&put.key).into_iter())?;
                }
                Operation::Delete(delete) if delete.want_previous => {
                    take_all(&mut left, self.keyspace.present(&delete.range))?;
                }
                Operation::Put(_) | Operation::Delete(_) | Operation::Txn(_) => {}
            }
        }
        Ok(())
    }
}

impl Run<'_> {
    pub(crate) fn put(&mut self, writing: &mut Writing, put: Put) -> PutOutcome {
        let previous =
            if put.want_previous { self.keyspace.get(&put.key).map(Version::pair) } else { None };
        let replaced = self.keyspace.put(writing, &put.key, put.value, put.lease);
        self.leases.move_key(replaced.key, replaced.lease_before, replaced.lease);
        PutOutcome { created: replaced.created, previous }
    }

    pub(crate) fn delete(&mut self, writing: &mut Writing, delete: &Delete) -> DeleteOutcome {
        let previous = if delete.want_previous {
            self.keyspace.present(&delete.range).map(Version::pair).collect()
        } else {
            Vec::new()
        };
        let removed = self.keyspace.delete(writing, &delete.range);
        for gone in removed.iter().filter(|gone| gone.lease != 0) {
            self.leases.detach(&gone.key, gone.lease);
        }
        DeleteOutcome { deleted: removed.len() as u64, previous }
    }

    /// Removes a lease and deletes its keys; says how many, or `None` if there is no such lease.
    pub(crate) fn end_lease(&mut self, id: u64) -> Option<u64> {
        let keys = self.leases.remove(id)?;
        let mut writing = self.keyspace.begin();
        for key in &keys {
            self.keyspace.delete_key(&mut writing, key);
        }
        self.keyspace.end(writing);
        Some(keys.len() as u64)
    }

    /// Runs a transaction along a path that was checked.
    pub(crate) fn txn(
        &mut self,
        writing: &mut Writing,
        txn: Txn,
        choices: &mut impl Iterator<Item = bool>,
    ) -> TxnOutcome {
        let succeeded = choices.next().expect("a choice was made for every transaction");
        let branch = if succeeded { txn.success } else { txn.failure };
        let operations = branch
            .into_iter()
            .map(|operation| match operation {
                Operation::Range(query) => OperationOutcome::Range(read(self.keyspace, &query)),
                Operation::Put(put) => OperationOutcome::Put(self.put(writing, put)),
                Operation::Delete(delete) => {
                    OperationOutcome::Deleted(self.delete(writing, &delete))
                }
                Operation::Txn(nested) => OperationOutcome::Txn(self.txn(writing, nested, choices)),
            })
            .collect();
        TxnOutcome { succeeded, operations }
    }
}

/// The outcome of a transaction that writes nothing, along a path that was checked.
pub(crate) fn read_only(
    keyspace: &Keyspace,
    txn: &Txn,
    choices: &mut impl Iterator<Item = bool>,
) -> TxnOutcome {
    let succeeded = choices.next().expect("a choice was made for every transaction");
    let branch = if succeeded { &txn.success } else { &txn.failure };
    let outcome = |operation: &Operation| match operation {
        Operation::Range(query) => OperationOutcome::Range(read(keyspace, query)),
        Operation::Txn(nested) => OperationOutcome::Txn(read_only(keyspace, nested, choices)),
        Operation::Put(_) | Operation::Delete(_) => {
            unreachable!("the caller asked whether the transaction is read-only")
        }
    };
    TxnOutcome { succeeded, operations: branch.iter().map(outcome).collect() }
}

fn read(keyspace: &Keyspace, query: &RangeQuery) -> RangeAnswer {
    keyspace.range(query).expect("the revision was checked and cannot change meanwhile")
}

/// The operations on the chosen path, nested ones in place of their transaction.
fn collect_path<'a>(
    txn: &'a Txn,
    choices: &mut impl Iterator<Item = bool>,
    path: &mut Vec<&'a Operation>,
) {
    let succeeded = choices.next().expect("a choice was made for every transaction");
    for operation in if succeeded { &txn.success } else { &txn.failure } {
        match operation {
            Operation::Txn(nested) => collect_path(nested, choices, path),
            Operation::Range(_) | Operation::Put(_) | Operation::Delete(_) => path.push(operation),
        }
    }
}

/// Bytes that the path itself writes into the range of a read.
fn written_in(path: &[&Operation], query: &RangeQuery) -> u64 {
    let written = |operation: &&Operation| match operation {
        Operation::Put(put) if query.range.contains(&put.key) => {
            put.value.as_ref().map_or(0, |value| value.len() as u64)
        }
        _ => 0,
    };
    path.iter().map(written).sum()
}

fn take(left: &mut u64, bytes: u64) -> Result<(), Refusal> {
    *left = left.checked_sub(bytes).ok_or(Refusal::AnswerTooLarge { limit: ANSWER_BYTES_MAX })?;
    Ok(())
}

fn take_all<'a>(
    left: &mut u64,
    mut versions: impl Iterator<Item = &'a Version>,
) -> Result<(), Refusal> {
    versions.try_for_each(|version| take(left, version.logical_bytes()))
}

/// Whether a condition holds for a version, or for a key that does not exist.
fn holds_for(compare: &Compare, version: Option<&Version>) -> bool {
    let attribute = |of: fn(&Version) -> u64| version.map_or(0, of).cast_signed();
    let ordering = match &compare.operand {
        Operand::Version(operand) => attribute(|version| version.version).cmp(operand),
        Operand::CreateRevision(operand) => {
            attribute(|version| version.create_revision).cmp(operand)
        }
        Operand::ModRevision(operand) => attribute(|version| version.mod_revision).cmp(operand),
        Operand::Lease(operand) => attribute(|version| version.lease).cmp(operand),
        Operand::Value(operand) => match version {
            Some(version) => version.value.as_slice().cmp(operand),
            None => return false,
        },
    };
    match compare.relation {
        Relation::Equal => ordering.is_eq(),
        Relation::Greater => ordering.is_gt(),
        Relation::Less => ordering.is_lt(),
        Relation::NotEqual => ordering.is_ne(),
    }
}
