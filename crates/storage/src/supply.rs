//! Segments ahead of need, and away with those that nobody needs.
//!
//! A task beside the writer keeps one spare segment ready: filled with zeros, synced, named and
//! entered in the folder, so that going on in it costs the writer nothing. It works on the second
//! lane of the disk, in small steps with a sync each, and never stands in front of a log write.
//!
//! The same task removes purged segments and watches the free space. The reserve is the spare
//! segment and room for one snapshot; when it is being used up that is published, and again when
//! it is back.

use std::{io, sync::Arc};

use mainstay_world::{FileId, random_u64, timeout};

use crate::{
    failure::{SpaceState, StorageFailure, is_full},
    seal::TEMPORARY,
    segment::{segment_header, segment_name},
    shared::{Phase, Shared},
};

/// A segment that is ready and empty.
#[derive(Debug)]
pub(crate) struct Spare {
    pub(crate) id: u64,
    /// Open on the log's lane.
    pub(crate) file: FileId,
    pub(crate) len: u64,
    pub(crate) seed: u32,
}

/// The task.
pub(crate) struct Supply {
    pub(crate) shared: Arc<Shared>,
    /// The id of the next segment to be made.
    pub(crate) next_id: u64,
}

/// A call that failed, with what was tried on which file.
struct Trouble {
    action: &'static str,
    file: String,
    source: io::Error,
}

impl Supply {
    /// Works until the writer ends.
    pub(crate) async fn run(mut self) {
        loop {
            if self.shared.failed().is_some()
                || matches!(self.shared.state().phase, Phase::Ended(_))
            {
                return;
            }
            self.remove_purged().await;
            let spare = self.keep_spare().await;
            let has_spare_room = match spare {
                Ok(()) => true,
                Err(trouble) if is_full(&trouble.source) => false,
                Err(Trouble { action, file, source }) => {
                    return self.shared.fail(StorageFailure::file(action, &file, source));
                }
            };
            self.publish_space(has_spare_room).await;
            let wait = self.shared.options.space_check_interval;
            // Time over is a reason to look as good as any.
            let _ = timeout(wait, self.shared.supply_work.notified()).await;
        }
    }

    /// Makes a spare segment if there is none, or one that is large enough.
    async fn keep_spare(&mut self) -> Result<(), Trouble> {
        let (len, too_small) = {
            let mut state = self.shared.state();
            let wanted = state.spare_bytes;
            let too_small = state.spare.take_if(|spare| spare.len < wanted);
            if state.spare.is_some() {
                return Ok(());
            }
            (wanted, too_small)
        };
        if let Some(spare) = too_small {
            drop(self.shared.log_disk.close(spare.file));
            let name = segment_name(spare.id);
            let removed = self.shared.side_disk.remove(&name).await;
            removed.map_err(|source| Trouble { action: "remove", file: name, source })?;
        }
        let id = self.next_id;
        self.next_id += 1;
        let name = segment_name(id);
        let made = match self.make_segment(id, &name, len).await {
            Ok(spare) => spare,
            Err(trouble) => {
                let temporary = format!("{name}{TEMPORARY}");
                // What is left of it is removed at the next start, if not now.
                let _ = self.shared.side_disk.remove(&temporary).await;
                return Err(trouble);
            }
        };
        self.shared.state().spare = Some(made);
        self.shared.work.notify_one();
        Ok(())
    }

    async fn make_segment(&self, id: u64, name: &str, len: u64) -> Result<Spare, Trouble> {
        let disk = &self.shared.side_disk;
        let temporary = format!("{name}{TEMPORARY}");
        let trouble = |action| move |source| Trouble { action, file: name.to_owned(), source };
        let identity = self.shared.state().identity;
        let (sector, seed) = segment_header(&identity, id, random_u64());
        let file = disk.create(&temporary).await.map_err(trouble("create"))?;
        let filled = async {
            let mut filled = 0;
            while filled < len {
                filled = len.min(filled + self.shared.options.preallocate_step_bytes);
                disk.allocate(file, filled).await.map_err(trouble("fill"))?;
                disk.sync_data(file).await.map_err(trouble("sync"))?;
            }
            disk.write_at(file, 0, sector).await.map_err(trouble("write"))?;
            disk.sync_data(file).await.map_err(trouble("sync"))
        };
        let filled = filled.await;
        drop(disk.close(file));
        filled?;
        disk.rename(&temporary, name).await.map_err(trouble("rename"))?;
        self.shared.buggify.pause("storage.after-segment-rename").await;
        let entered = self.shared.sync_directory(disk).await;
        entered.map_err(trouble("enter in its folder"))?;
        let file = self.shared.log_disk.open(name).await.map_err(trouble("open"))?;
        Ok(Spare { id, file, len, seed })
    }

    /// Removes the segments that hold no entry of the log any more.
    async fn remove_purged(&self) {
        let mut removed = false;
        while let Some(id) = self.next_purged() {
            let name = segment_name(id);
            match self.shared.side_disk.remove(&name).await {
                Ok(()) => removed = true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // It takes room and does no harm; the next start tries again.
                Err(error) => tracing::warn!(%name, %error, "cannot remove a purged segment"),
            }
        }
        if removed && let Err(error) = self.shared.sync_directory(&self.shared.side_disk).await {
            tracing::warn!(%error, "cannot sync the folder after segments were removed");
        }
    }

    /// Takes the oldest segment off the list if nothing of it is needed.
    fn next_purged(&self) -> Option<u64> {
        let mut state = self.shared.state();
        let oldest = state.segments.front()?.id;
        let active = state.segments.back()?.id;
        let needed = state.frames.oldest_segment().unwrap_or(active).min(active);
        // What a segment held must be in a snapshot before it goes: a start checks that.
        let purged = state.log.purged()?.index;
        let covered = state.snapshot.as_ref().and_then(|snapshot| snapshot.info.last)?.index;
        if oldest >= needed || purged > covered {
            return None;
        }
        state.segments.pop_front();
        Some(oldest)
    }

    /// Publishes whether the reserve is intact.
    async fn publish_space(&self, has_spare_room: bool) {
        let free = match self.shared.side_disk.free_bytes().await {
            Ok(free) => free,
            Err(error) => {
                tracing::warn!(%error, "cannot ask for the free space");
                u64::MAX
            }
        };
        let (unfinished, newest) = {
            let state = self.shared.state();
            let newest = state.snapshot.as_ref().map_or(0, |snapshot| snapshot.info.bytes);
            (state.snapshot_bytes_unfinished, newest)
        };
        // The next snapshot may be a quarter larger than the last one.
        let reserve = self.shared.options.snapshot_reserve_bytes.max(newest + newest / 4);
        let is_intact = has_spare_room && free.saturating_add(unfinished) >= reserve;
        let now = if is_intact { SpaceState::Ok } else { SpaceState::ReserveUsed };
        let changed = self.shared.space.send_if_modified(|state| {
            let changed = *state != now;
            *state = now;
            changed
        });
        if changed {
            match now {
                SpaceState::Ok => tracing::info!(
                    free_bytes = free,
                    reserve_bytes = reserve,
                    "the disk of the data folder has room again"
                ),
                SpaceState::ReserveUsed => tracing::warn!(
                    free_bytes = free,
                    reserve_bytes = reserve,
                    "the disk of the data folder is nearly full: its reserve is in use"
                ),
            }
            self.shared.work.notify_one();
        }
    }
}
