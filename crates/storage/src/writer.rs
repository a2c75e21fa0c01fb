//! The one task that writes log and vote.
//!
//! It takes everything that waits, writes it as one frame, syncs once, and tells everybody; what
//! arrives meanwhile is the next batch (group commit). Write and sync are submitted together and
//! waited for once, so a batch costs one wakeup.
//!
//! After a failed write or sync of a segment that file is never touched again. A full disk is no
//! failure: the batch stays in hand, unacknowledged, until a new segment can be had. Anything else
//! ends the writer: the failure is published at once, callers hear of it a moment later.

use std::{io, sync::Arc};

use bytes::Bytes;
use mainstay_world::{FileId, Instant, sleep, timeout};

use crate::{
    entry::LogPosition,
    failure::{StorageFailure, is_full},
    frame::SECTOR_LEN,
    outline::Outline,
    record::{Predecessor, Record},
    seal::ActiveSegment,
    shared::{Phase, Shared},
    vote::{Vote, VoteFile, VoteWriteError},
    write_queue::{Batch, SyncCallback},
};

/// The writer's own knowledge: the log as written so far, and the files it writes.
pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) active: ActiveSegment,
    /// Where the last good frame ends.
    pub(crate) end: Predecessor,
    /// The log as written, in the order of the disk.
    pub(crate) written: Outline,
    pub(crate) committed: Option<LogPosition>,
    pub(crate) vote_file: VoteFile,
    pub(crate) probe: Probe,
}

/// A small file that is written when nothing else is.
pub(crate) struct Probe {
    pub(crate) file: FileId,
    pub(crate) name: &'static str,
}

/// Why the writer ends, and the callbacks of what was in hand.
struct End {
    failure: StorageFailure,
    waiting: Vec<SyncCallback>,
}

impl Writer {
    /// Writes until storage is closed or fails.
    pub(crate) async fn run(mut self) {
        let End { failure, waiting } = loop {
            if let Err(end) = self.turn().await {
                break end;
            }
        };
        if !matches!(failure, StorageFailure::Stopped) {
            self.shared.fail(failure.clone());
            // A leader hands over in this time: it still answers, and promises nothing new.
            sleep(self.shared.options.failure_report_delay).await;
        }
        let abandoned = {
            let mut state = self.shared.state();
            state.phase = Phase::Ended(failure.clone());
            state.unfinished_since = None;
            state.queue.abandon()
        };
        for callback in waiting.into_iter().chain(abandoned) {
            callback(Err(failure.clone()));
        }
        self.shared.supply_work.notify_one();
        self.shared.ended.send_replace(true);
    }

    /// One batch, or one wait.
    async fn turn(&mut self) -> Result<(), End> {
        if let Some(failure) = self.shared.failed() {
            return Err(End { failure, waiting: Vec::new() });
        }
        let (batch, is_closing) = {
            let mut state = self.shared.state();
            let is_closing = !state.is_running();
            (state.queue.take(self.shared.options.batch_bytes_max, is_closing), is_closing)
        };
        match batch {
            Some(Batch::Frame { records, callbacks }) => self.write(records, callbacks).await,
            Some(Batch::Vote(vote, callback)) => self.save_vote(vote, callback).await,
            None if is_closing && self.noted_commit().is_some() => {
                self.write(Vec::new(), Vec::new()).await
            }
            None if is_closing => {
                Err(End { failure: StorageFailure::Stopped, waiting: Vec::new() })
            }
            None => {
                let wait = self.shared.options.probe_interval;
                match timeout(wait, self.shared.work.notified()).await {
                    Ok(()) => Ok(()),
                    Err(_elapsed) => self.probe().await,
                }
            }
        }
    }

    /// Writes one batch, syncs it, and tells those who wait for it.
    async fn write(
        &mut self,
        records: Vec<Record>,
        mut callbacks: Vec<SyncCallback>,
    ) -> Result<(), End> {
        // Without a record there is nothing to wait for: what came before is durable already.
        if !records.is_empty() || callbacks.is_empty() {
            let prepared = self.prepare(records);
            if let Err(failure) = self.store(prepared, &mut callbacks).await {
                return Err(End { failure, waiting: callbacks });
            }
        }
        for callback in callbacks {
            callback(Ok(()));
        }
        Ok(())
    }

    /// Writes the vote and syncs it, then tells the caller, then writes its second copy.
    async fn save_vote(&mut self, vote: Vote, callback: SyncCallback) -> Result<(), End> {
        let shared = Arc::clone(&self.shared);
        if shared.buggify.is_planted("forget-vote") {
            shared.state().vote = Some(vote);
            callback(Ok(()));
            return Ok(());
        }
        shared.buggify.pause("storage.before-vote-sync").await;
        let started = Instant::now();
        let synced_frame = {
            let mut state = shared.state();
            state.unfinished_since = Some(started);
            state.synced_frame
        };
        let record = match self.vote_file.save(vote, synced_frame).await {
            Ok(record) => record,
            Err(error) => {
                let failure = self.vote_failure(error);
                return Err(End { failure, waiting: vec![callback] });
            }
        };
        shared.state().vote = Some(vote);
        shared.buggify.pause("storage.after-vote-sync").await;
        callback(Ok(()));
        if let Err(error) = self.vote_file.copy(&record).await {
            return Err(End { failure: self.vote_failure(error), waiting: Vec::new() });
        }
        shared.state().unfinished_since = None;
        Ok(())
    }

    fn vote_failure(&self, error: VoteWriteError) -> StorageFailure {
        match error {
            VoteWriteError::Write { offset, source } => {
                StorageFailure::write(self.vote_file.name(), offset, source)
            }
            VoteWriteError::Sync(source) => StorageFailure::sync(self.vote_file.name(), source),
        }
    }

    /// Shows whether the disk still answers when nobody else does.
    async fn probe(&mut self) -> Result<(), End> {
        let Probe { file, name } = self.probe;
        self.shared.state().unfinished_since = Some(Instant::now());
        let written = self.shared.log_disk.write_at(file, 0, Bytes::from_static(&[0; SECTOR_LEN]));
        let synced = self.shared.log_disk.sync_data(file).await;
        let outcome = written
            .await
            .or_else(|error: io::Error| if is_full(&error) { Ok(()) } else { Err(error) })
            .map_err(|error| StorageFailure::write(name, 0, error))
            .and_then(|()| synced.map_err(|error| StorageFailure::sync(name, error)));
        self.shared.state().unfinished_since = None;
        outcome.map_err(|failure| End { failure, waiting: Vec::new() })
    }
}
