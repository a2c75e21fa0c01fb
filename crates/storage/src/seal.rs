//! The end of a start: what was read becomes durable before anybody is told of it.
//!
//! The last frames found may only be in the machine's memory: the process may have died between
//! write and sync, or the sync may have failed. Syncing their file again would prove nothing (a
//! kernel reports a failed write-back once and forgets it), so the frames are written again, into a
//! new segment that is synced, renamed and entered in the folder durably. The old segments are not
//! touched.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use mainstay_world::{Buggify, Disk, FileId, random_u64};

use crate::{
    damage::DamageKind,
    entry::LogPosition,
    frame::{FRAME_HEADER_LEN, FrameBuilder, FramePlace, SECTOR_LEN, SealedFrame},
    identity::Identity,
    open_error::OpenError,
    options::StorageOptions,
    record::{Predecessor, Record, read_records},
    recovery::{Newest, Unsealed},
    replay::Replay,
    segment::{FRAMES_AT, segment_header, segment_name},
};

/// The segment that is being written.
#[derive(Debug)]
pub(crate) struct ActiveSegment {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) file: FileId,
    pub(crate) len: u64,
    /// Seed of its frames' checksums.
    pub(crate) seed: u32,
    /// Where the next frame goes.
    pub(crate) offset: u64,
}

/// Suffix of files that do not count yet.
pub(crate) const TEMPORARY: &str = ".tmp";

/// Writes the unsealed frames into segment `id` and makes it durable under its name.
///
/// `restart_after` empties the log that does not agree with an installed snapshot.
pub(crate) async fn seal(
    place: &SealPlace<'_>,
    unsealed: &Unsealed,
    restart_after: Option<LogPosition>,
    replay: &mut Replay,
) -> Result<(ActiveSegment, Predecessor), OpenError> {
    let mut image = Image::new(place, unsealed);
    image.frame(|payload| Record::Base(unsealed.base).write(payload));
    for payload in &unsealed.payloads {
        let (offset, len) = image.frame(|bytes| bytes.extend_from_slice(payload));
        let records = read_records(payload.clone()).map_err(DamageKind::from);
        records
            .and_then(|records| replay.frame(place.id, offset, len, records))
            .map_err(|damage| image.damaged(damage))?;
    }
    if let Some(upto) = restart_after {
        let (offset, len) = image.frame(|payload| Record::Purge(upto).write(payload));
        replay
            .frame(place.id, offset, len, vec![Record::Purge(upto)])
            .map_err(|damage| image.damaged(damage))?;
    }
    image.store(place).await
}

/// Where the new segment comes to stand.
pub(crate) struct SealPlace<'a> {
    pub(crate) disk: &'a Arc<dyn Disk>,
    pub(crate) identity: &'a Identity,
    pub(crate) options: &'a StorageOptions,
    pub(crate) buggify: &'a Buggify,
    pub(crate) id: u64,
}

/// A whole segment in memory.
struct Image {
    id: u64,
    seed: u32,
    bytes: BytesMut,
    end: Predecessor,
}

impl Image {
    fn new(place: &SealPlace<'_>, unsealed: &Unsealed) -> Self {
        let (sector, seed) = segment_header(place.identity, place.id, random_u64());
        let before = unsealed.base.predecessor.map_or(0, |end| end.checksum);
        let end = Predecessor {
            segment: place.id,
            sequence: unsealed.sequence,
            end: FRAMES_AT,
            checksum: before,
        };
        Self { id: place.id, seed, bytes: BytesMut::from(sector), end }
    }

    /// Appends a frame; where it stands and how long it is.
    fn frame(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> (u64, usize) {
        let mut builder = FrameBuilder::with_capacity(SECTOR_LEN - FRAME_HEADER_LEN);
        write(builder.payload());
        let offset = self.end.end;
        let sequence = self.end.sequence + 1;
        let place = FramePlace { segment: self.id, sequence, offset, previous: self.end.checksum };
        // The bytes are collected and written as one, so nothing is filled up in between.
        let SealedFrame { bytes, len, checksum } = builder.seal(place, self.seed, 0);
        self.bytes.put_slice(&bytes);
        let end = offset + len as u64;
        self.end = Predecessor { segment: self.id, sequence, end, checksum };
        (offset, len)
    }

    fn damaged(&self, damage: DamageKind) -> OpenError {
        OpenError::damaged(&segment_name(self.id), self.end.end, damage)
    }

    async fn store(self, place: &SealPlace<'_>) -> Result<(ActiveSegment, Predecessor), OpenError> {
        let (disk, options) = (place.disk, place.options);
        let name = segment_name(self.id);
        let temporary = format!("{name}{TEMPORARY}");
        let failed = |action| {
            let file = name.clone();
            move |source| OpenError::file(action, &file, source)
        };
        // Room for some batches, so that the next segment has time to get ready.
        let used = self.bytes.len() as u64;
        let len = (used + options.first_segment_bytes).next_multiple_of(SECTOR_LEN as u64);
        let file = disk.create(&temporary).await.map_err(failed("create"))?;
        disk.allocate(file, len).await.map_err(failed("fill"))?;
        disk.write_at(file, 0, self.bytes.freeze()).await.map_err(failed("write"))?;
        place.buggify.pause("storage.before-seal-sync").await;
        disk.sync_data(file).await.map_err(failed("sync"))?;
        disk.rename(&temporary, &name).await.map_err(failed("rename"))?;
        place.buggify.pause("storage.after-seal-rename").await;
        if !place.buggify.is_planted("skip-dir-sync") {
            disk.sync_directory().await.map_err(failed("enter in its folder"))?;
        }
        let active =
            ActiveSegment { id: self.id, name, file, len, seed: self.seed, offset: self.end.end };
        Ok((active, self.end))
    }
}

/// The planted bug `trust-recovered-tail`: goes on in the segment that was found, as if what it
/// held were durable.
pub(crate) async fn trust(
    disk: &Arc<dyn Disk>,
    newest: Newest,
    replay: &mut Replay,
) -> Result<(ActiveSegment, Predecessor), OpenError> {
    let name = segment_name(newest.segment);
    for (offset, len, payload) in newest.frames {
        read_records(payload)
            .map_err(DamageKind::from)
            .and_then(|records| replay.frame(newest.segment, offset, len, records))
            .map_err(|damage| OpenError::damaged(&name, offset, damage))?;
    }
    let opened = disk.open(&name).await;
    let file = opened.map_err(|source| OpenError::file("open", &name, source))?;
    let active = ActiveSegment {
        id: newest.segment,
        name,
        file,
        len: newest.len,
        seed: newest.seed,
        offset: newest.end.end,
    };
    Ok((active, newest.end))
}
