//! The door: every operation that a client can ask for.
//!
//! Each method says first whether the caller may, then reads or writes. Writes go through
//! [`Writes`]; linearizable reads wait for a read index and are then answered from this node's own
//! store; stale reads skip the wait and say how old the store may be.

use std::sync::Arc;

use bytes::Bytes;
use mainstay_consensus::{Consensus, HandOver, MemberChange, MemberRequest, MembershipError};
use mainstay_kv::{
    Changes, Command, Delete, DeleteOutcome, Import, KeepAlive, KeyRange, KeyValue, LeaseView,
    Operation, Origin, Outcome, Put, PutOutcome, QueryError, RangeAnswer, RangeQuery, Refusal,
    Settings, Store, Txn, TxnOutcome,
};
use mainstay_world::{Buggify, World};

use crate::{
    admission::{Admission, Limits},
    audit::Audit,
    authorization::{Access, authorize},
    caller::{Caller, Consistency, Freshness, Read, Written},
    error::{DoorError, MembersError, SnapshotError, TransferError},
    gate::{OpenGate, WriteGate},
    history::History,
    keep_alive::KeepAlives,
    reads::{PageBounds, RangeRead},
    validation::check_range,
    watch::{CancelReason, Watch, WatchRequest},
    watch_hub::{ChangeSource, WatchHub},
    writes::Writes,
};

/// The one door to the store; cheap to clone.
#[derive(Clone)]
pub struct Door(Arc<Inner>);

struct Inner {
    writes: Arc<Writes>,
    admission: Arc<Admission>,
    hub: Arc<WatchHub>,
    keep_alives: KeepAlives,
}

/// The answer to a transaction; one that only reads was not written anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxnAnswer {
    /// What it did.
    pub outcome: TxnOutcome,
    /// The store's revision after it.
    pub revision: u64,
    /// Whether this is the answer to an earlier request with the same number or key.
    pub repeated: bool,
    /// How fresh it is; a transaction that writes is linearizable.
    pub freshness: Freshness,
}

/// What is in the store, and where it is from while that is not all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportState {
    /// The source of the import that is going on, if one is.
    pub source: Option<u64>,
    /// Keys in the store.
    pub keys: u64,
    /// Leases in the store.
    pub leases: u64,
}

impl Door {
    /// Opens the door to `consensus` and starts its tasks; they end with consensus or the door.
    #[must_use]
    pub fn open(consensus: Consensus, world: &World, limits: Limits) -> Self {
        Self::open_with_gate(consensus, world, limits, Arc::new(OpenGate))
    }

    /// As [`Door::open`], with a gate for writes.
    #[must_use]
    pub fn open_with_gate(
        consensus: Consensus,
        world: &World,
        limits: Limits,
        gate: Arc<dyn WriteGate>,
    ) -> Self {
        let admission = Arc::new(Admission::new(limits));
        let hub = Arc::new(WatchHub::new(
            Box::new(consensus.clone()),
            Arc::clone(&admission),
            world.buggify.clone(),
        ));
        mainstay_world::spawn(Arc::clone(&hub).run(consensus.applied()));
        let writes = Arc::new(Writes {
            consensus,
            admission: Arc::clone(&admission),
            gate,
            history: Arc::clone(&world.history),
            audit: Audit::new(),
        });
        let keep_alives = KeepAlives::start(Arc::clone(&writes));
        Self(Arc::new(Inner { writes, admission, hub, keep_alives }))
    }

    /// Writes one key.
    ///
    /// # Errors
    /// [`DoorError`]; nothing took effect, unless it is of unknown outcome.
    pub async fn put(&self, caller: Caller, put: Put) -> Result<Written<PutOutcome>, DoorError> {
        self.allow(&caller, "put", |principal| authorize_put(principal, &put))?;
        let written = self.0.writes.write("put", caller, Command::Put(put)).await?;
        Ok(written.map(|outcome| match outcome {
            Outcome::Put(outcome) => outcome,
            other => wrong_kind(&other),
        }))
    }

    /// Deletes a range of keys.
    ///
    /// # Errors
    /// As [`Door::put`].
    pub async fn delete(
        &self,
        caller: Caller,
        delete: Delete,
    ) -> Result<Written<DeleteOutcome>, DoorError> {
        self.allow(&caller, "delete", |principal| authorize_delete(principal, &delete))?;
        self.store(|store| check_range(&delete.range, store.settings()))?;
        let written = self.0.writes.write("delete", caller, Command::Delete(delete)).await?;
        Ok(written.map(|outcome| match outcome {
            Outcome::Deleted(outcome) => outcome,
            other => wrong_kind(&other),
        }))
    }

    /// Runs a transaction; one that only reads is answered as a read.
    ///
    /// # Errors
    /// As [`Door::put`] and [`Door::range`].
    pub async fn txn(&self, caller: Caller, txn: Txn) -> Result<TxnAnswer, DoorError> {
        self.allow(&caller, "txn", |principal| authorize_txn(principal, &txn))?;
        if txn.is_read_only() && caller.origin == Origin::Unnumbered {
            let read = self.read(&caller, |store| store.read(&txn)).await?;
            return Ok(TxnAnswer {
                outcome: read.answer?,
                revision: read.revision,
                repeated: false,
                freshness: read.freshness,
            });
        }
        let written = self.0.writes.write("txn", caller, Command::Txn(txn)).await?;
        let (revision, repeated) = (written.revision, written.repeated);
        let outcome = match written.outcome {
            Outcome::Txn(outcome) => outcome,
            other => wrong_kind(&other),
        };
        Ok(TxnAnswer { outcome, revision, repeated, freshness: Freshness::Linearizable })
    }

    /// Forgets versions that are not the newest of their key at `revision`; answers with the
    /// lowest readable revision.
    ///
    /// # Errors
    /// As [`Door::put`].
    pub async fn compact(&self, caller: Caller, revision: u64) -> Result<Written<u64>, DoorError> {
        self.allow(&caller, "compact", |principal| authorize(principal, Access::Compact))?;
        let command = Command::Compact { revision };
        let written = self.0.writes.write("compact", caller, command).await?;
        Ok(written.map(|outcome| match outcome {
            Outcome::Compacted { compact_revision } => compact_revision,
            other => wrong_kind(&other),
        }))
    }

    /// Grants a lease, with the wanted id or (0) one of the store's choice; answers with id and
    /// time to live in milliseconds.
    ///
    /// # Errors
    /// As [`Door::put`].
    pub async fn lease_grant(
        &self,
        caller: Caller,
        id: u64,
        ttl_ms: u64,
    ) -> Result<Written<(u64, u64)>, DoorError> {
        self.allow(&caller, "lease_grant", |principal| authorize(principal, Access::LeaseGrant))?;
        let command = Command::LeaseGrant { id, ttl_ms };
        let written = self.0.writes.write("lease_grant", caller, command).await?;
        Ok(written.map(|outcome| match outcome {
            Outcome::LeaseGranted { id, ttl_ms } => (id, ttl_ms),
            other => wrong_kind(&other),
        }))
    }

    /// Ends a lease and deletes its keys; answers with their number.
    ///
    /// # Errors
    /// As [`Door::put`].
    pub async fn lease_revoke(&self, caller: Caller, id: u64) -> Result<Written<u64>, DoorError> {
        self.allow(&caller, "lease_revoke", |principal| {
            authorize(principal, Access::LeaseRevoke(id))
        })?;
        let command = Command::LeaseRevoke { id };
        let written = self.0.writes.write("lease_revoke", caller, command).await?;
        Ok(written.map(|outcome| match outcome {
            Outcome::LeaseRevoked { deleted } => deleted,
            other => wrong_kind(&other),
        }))
    }

    /// Renews a lease to its full time to live, which is answered in milliseconds.
    ///
    /// # Errors
    /// As [`Door::put`]; a lease that does not exist is [`Refusal::LeaseNotFound`].
    pub async fn lease_keep_alive(
        &self,
        caller: Caller,
        id: u64,
    ) -> Result<Written<u64>, DoorError> {
        self.allow(&caller, "lease_keep_alive", |principal| {
            authorize(principal, Access::LeaseKeepAlive(id))
        })?;
        let written = self.0.keep_alives.keep_alive(caller, id).await?;
        match written.outcome {
            KeepAlive { ttl_ms: Some(ttl_ms), .. } => Ok(written.with(ttl_ms)),
            KeepAlive { ttl_ms: None, .. } => Err(Refusal::LeaseNotFound { id }.into()),
        }
    }

    /// Shows a lease; `None` if there is none.
    ///
    /// # Errors
    /// As [`Door::range`].
    pub async fn lease(
        &self,
        caller: &Caller,
        id: u64,
    ) -> Result<Read<Option<LeaseView>>, DoorError> {
        self.allow(caller, "lease", |principal| authorize(principal, Access::LeaseRead(id)))?;
        self.read(caller, |store| store.lease(id)).await
    }

    /// The ids of all leases, ascending.
    ///
    /// # Errors
    /// As [`Door::range`].
    pub async fn leases(&self, caller: &Caller) -> Result<Read<Vec<u64>>, DoorError> {
        self.allow(caller, "leases", |principal| authorize(principal, Access::LeaseList))?;
        self.read(caller, Store::lease_ids).await
    }

    /// Opens a session of numbered writes; answers with its id.
    ///
    /// # Errors
    /// As [`Door::put`].
    pub async fn session_open(&self, caller: Caller) -> Result<Written<u64>, DoorError> {
        self.allow(&caller, "session_open", |principal| authorize(principal, Access::SessionOpen))?;
        let written = self.0.writes.write("session_open", caller, Command::SessionOpen).await?;
        Ok(written.map(|outcome| match outcome {
            Outcome::SessionOpened { session } => session,
            other => wrong_kind(&other),
        }))
    }

    /// Replaces the replicated settings; of two changes at the same time the later one counts.
    ///
    /// # Errors
    /// As [`Door::put`].
    pub async fn configure(
        &self,
        caller: Caller,
        settings: Settings,
    ) -> Result<Written<()>, DoorError> {
        self.allow(&caller, "configure", |principal| authorize(principal, Access::Configure))?;
        let command = Command::Configure(settings);
        let written = self.0.writes.write("configure", caller, command).await?;
        Ok(written.map(|_outcome| ()))
    }

    /// Carries out a step of an import; answers with the keys and leases that are in the store.
    ///
    /// # Errors
    /// As [`Door::put`].
    pub async fn import(
        &self,
        caller: Caller,
        step: Import,
    ) -> Result<Written<(u64, u64)>, DoorError> {
        self.allow(&caller, "import", |principal| authorize(principal, Access::Import))?;
        let written = self.0.writes.write("import", caller, Command::Import(step)).await?;
        Ok(written.map(|outcome| match outcome {
            Outcome::Imported { keys, leases } => (keys, leases),
            other => wrong_kind(&other),
        }))
    }

    /// Whether an import is going on, and what is in the store.
    ///
    /// # Errors
    /// As [`Door::range`].
    pub async fn import_state(&self, caller: &Caller) -> Result<Read<ImportState>, DoorError> {
        self.allow(caller, "import_state", |principal| authorize(principal, Access::Import))?;
        self.read(caller, |store| ImportState {
            source: store.import_source(),
            keys: store.key_count(),
            leases: store.lease_count(),
        })
        .await
    }

    /// Has this node take a snapshot now; answers with the last log index in it.
    ///
    /// # Errors
    /// [`SnapshotError`]; nothing is lost, the log is kept until a snapshot succeeds.
    pub async fn snapshot(&self, caller: &Caller) -> Result<u64, SnapshotError> {
        authorize(&caller.principal, Access::Snapshot)?;
        Ok(self.consensus().take_snapshot().await?)
    }

    /// Reads every version of the keys, and the leases, as this node has them now. It needs no
    /// quorum, and goes on while the store changes.
    ///
    /// # Errors
    /// [`DoorError::Overloaded`] when too many are being read; [`Refusal::Importing`] while an
    /// import fills the store.
    pub fn history(&self, caller: &Caller) -> Result<History, DoorError> {
        self.allow(caller, "history", |principal| authorize(principal, Access::ReadHistory))?;
        History::begin(self.consensus(), Arc::clone(&self.0.admission))
    }

    /// Has another node lead: member `to`, or (`None`) the healthiest voter that is caught up.
    /// Whoever leads in the end is in the answer: when `to` dies on the way, an ordinary election
    /// decides.
    ///
    /// # Errors
    /// [`TransferError`]; the leader carries on, unless the outcome is unknown.
    pub async fn transfer_leadership(
        &self,
        caller: &Caller,
        to: Option<u64>,
    ) -> Result<HandOver, TransferError> {
        let outcome = match authorize(&caller.principal, Access::TransferLeadership) {
            Ok(()) => self.consensus().hand_over(to, caller.deadline).await.map_err(Into::into),
            Err(denied) => Err(TransferError::from(denied)),
        };
        if let Err(error) = &outcome
            && error.is_refusal()
        {
            let Caller { principal, trace_id, .. } = caller;
            self.0.writes.refused("transfer_leadership", principal, *trace_id, error);
        }
        outcome
    }

    /// Has the members changed, or says what would be done.
    ///
    /// # Errors
    /// [`MembersError`]; nothing changed, unless the outcome is unknown.
    pub async fn change_members(
        &self,
        caller: &Caller,
        request: &MemberRequest,
    ) -> Result<MemberChange, MembersError> {
        let outcome = match authorize(&caller.principal, Access::ChangeMembers) {
            Ok(()) => {
                let changed = self.consensus().change_members(request, caller.deadline).await;
                changed.map_err(Into::into)
            }
            Err(denied) => Err(MembersError::from(denied)),
        };
        if let Err(error) = &outcome
            && !matches!(error, MembersError::Membership(MembershipError::OutcomeUnknown))
        {
            let Caller { principal, trace_id, .. } = caller;
            self.0.writes.refused("change_members", principal, *trace_id, error);
        }
        outcome
    }

    /// Reads one key at `revision`, 0 for the present; `None` if it does not exist there.
    ///
    /// # Errors
    /// As [`Door::range`].
    pub async fn get(
        &self,
        caller: &Caller,
        key: Bytes,
        revision: u64,
    ) -> Result<Read<Option<KeyValue>>, DoorError> {
        let range = KeyRange::key(key);
        self.allow(caller, "get", |principal| authorize(principal, Access::Read(&range)))?;
        let query = RangeQuery { revision, ..RangeQuery::new(range) };
        let read = self
            .read(caller, |store| {
                check_range(&query.range, store.settings())?;
                Ok::<_, DoorError>(store.range(&query)?)
            })
            .await?;
        Ok(Read {
            answer: read.answer?.pairs.pop(),
            revision: read.revision,
            freshness: read.freshness,
        })
    }

    /// Reads a range of keys.
    ///
    /// # Errors
    /// [`DoorError`]: refused, compacted, in the future, too large, no leader, or not in time.
    pub async fn range(
        &self,
        caller: &Caller,
        query: &RangeQuery,
    ) -> Result<Read<RangeAnswer>, DoorError> {
        self.range_or_page(caller, query, None).await
    }

    /// As [`Door::range`], but the answer may be cut, and need not count what was cut off.
    ///
    /// # Errors
    /// As [`Door::range`].
    pub async fn page(
        &self,
        caller: &Caller,
        query: &RangeQuery,
        bounds: PageBounds,
    ) -> Result<Read<RangeAnswer>, DoorError> {
        self.range_or_page(caller, query, Some(bounds)).await
    }

    async fn range_or_page(
        &self,
        caller: &Caller,
        query: &RangeQuery,
        page: Option<PageBounds>,
    ) -> Result<Read<RangeAnswer>, DoorError> {
        self.allow(caller, "range", |principal| authorize(principal, Access::Read(&query.range)))?;
        self.store(|store| check_range(&query.range, store.settings()))?;
        let _place = self.0.admission.read()?;
        let freshness = self.catch_up(caller).await?;
        let (admission, deadline) = (&*self.0.admission, caller.deadline);
        let read = RangeRead { query, admission, deadline, page };
        let (answer, revision) = read.run(self.consensus()).await?;
        Ok(Read { answer, revision, freshness })
    }

    /// Starts a watch on this node's store. It needs no quorum: what this node has not yet
    /// applied is told when it is.
    ///
    /// # Errors
    /// [`DoorError::Overloaded`] when too many are open; refusals of the range. A start that is
    /// compacted is told by the watch itself.
    pub fn watch(&self, caller: &Caller, request: WatchRequest) -> Result<Watch, DoorError> {
        self.allow(caller, "watch", |principal| {
            if request.previous {
                authorize(principal, Access::Read(&request.range))?;
            }
            authorize(principal, Access::Watch(&request.range))
        })?;
        self.store(|store| check_range(&request.range, store.settings()))?;
        self.0.admission.watch_started()?;
        Ok(Watch::start(Arc::clone(&self.0.hub), request))
    }

    /// The revision up to which changes were handed out to watches that are up to date; see
    /// [`WatchPosition`](crate::WatchPosition).
    #[must_use]
    pub fn watched_revision(&self) -> u64 {
        self.0.hub.dispatched_revision()
    }

    /// Ends all watches, and those that are still to start, because the node is stopping.
    pub fn close_watches(&self) {
        self.0.hub.close(CancelReason::ShuttingDown);
    }

    /// Runs a short read of this node's store as it is, for status and metrics.
    pub fn store<T>(&self, read: impl FnOnce(&Store) -> T) -> T {
        self.consensus().read(read)
    }

    /// What a simulation injects; nothing in production.
    #[must_use]
    pub fn buggify(&self) -> &Buggify {
        self.0.hub.buggify()
    }

    /// Where writes are held.
    pub(crate) fn gate(&self) -> &dyn WriteGate {
        self.0.writes.gate.as_ref()
    }

    /// Consensus, for status and metrics.
    #[must_use]
    pub fn consensus(&self) -> &Consensus {
        &self.0.writes.consensus
    }

    /// Open watches, and watches that were cancelled as too slow since the start.
    #[must_use]
    pub fn watch_counts(&self) -> (usize, u64) {
        (self.0.admission.watches(), self.0.hub.slow_total())
    }

    /// Reads the store at once, after catching up as far as the caller wants.
    async fn read<T>(
        &self,
        caller: &Caller,
        read: impl FnOnce(&Store) -> T,
    ) -> Result<Read<T>, DoorError> {
        let _place = self.0.admission.read()?;
        let freshness = self.catch_up(caller).await?;
        let (answer, revision) = self.store(|store| (read(store), store.revision()));
        Ok(Read { answer, revision, freshness })
    }

    /// Waits until this node's store is as fresh as the caller wants.
    async fn catch_up(&self, caller: &Caller) -> Result<Freshness, DoorError> {
        match caller.consistency {
            Consistency::Linearizable => {
                self.consensus().read_index(caller.deadline).await?;
                Ok(Freshness::Linearizable)
            }
            Consistency::Stale => Ok(Freshness::Stale(self.consensus().staleness())),
        }
    }

    /// Asks whether the caller may, and notes it if not.
    fn allow(
        &self,
        caller: &Caller,
        operation: &'static str,
        ask: impl FnOnce(&str) -> Result<(), crate::authorization::Denied>,
    ) -> Result<(), DoorError> {
        ask(&caller.principal).map_err(|denied| {
            let error = DoorError::from(denied);
            self.0.writes.refused(operation, &caller.principal, caller.trace_id, &error);
            error
        })
    }
}

impl ChangeSource for Consensus {
    fn changes_of(
        &self,
        range: &KeyRange,
        from_revision: u64,
        bytes_max: usize,
    ) -> Result<Changes, QueryError> {
        self.read(|store| store.changes_of(range, from_revision, bytes_max))
    }

    fn unread_changes(&self, from_revision: u64, bytes_max: usize) -> Result<Changes, QueryError> {
        Self::unread_changes(self, from_revision, bytes_max)
    }

    fn bounds(&self) -> (u64, u64) {
        self.read(|store| (store.revision(), store.compact_revision()))
    }

    fn skip_changes(&self) -> u64 {
        Self::skip_changes(self)
    }
}

fn authorize_put(principal: &str, put: &Put) -> Result<(), crate::authorization::Denied> {
    authorize(principal, Access::Write(&put.key))?;
    if put.want_previous {
        authorize(principal, Access::Read(&KeyRange::key(put.key.clone())))?;
    }
    match put.lease {
        Some(lease) if lease != 0 => authorize(principal, Access::LeaseAttach(lease)),
        _ => Ok(()),
    }
}

fn authorize_delete(principal: &str, delete: &Delete) -> Result<(), crate::authorization::Denied> {
    if delete.want_previous {
        authorize(principal, Access::Read(&delete.range))?;
    }
    authorize(principal, Access::Delete(&delete.range))
}

fn authorize_txn(principal: &str, txn: &Txn) -> Result<(), crate::authorization::Denied> {
    for compare in &txn.compares {
        authorize(principal, Access::Read(&compare.range))?;
    }
    for operation in txn.success.iter().chain(&txn.failure) {
        match operation {
            Operation::Range(query) => authorize(principal, Access::Read(&query.range))?,
            Operation::Put(put) => authorize_put(principal, put)?,
            Operation::Delete(delete) => authorize_delete(principal, delete)?,
            Operation::Txn(nested) => authorize_txn(principal, nested)?,
        }
    }
    Ok(())
}

/// The store answers a command with an outcome of its kind; anything else is a bug.
fn wrong_kind(outcome: &Outcome) -> ! {
    unreachable!("an outcome of another kind of command: {outcome:?}")
}
