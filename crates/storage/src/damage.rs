//! What can be wrong with bytes that were once written and synced.

use crate::{
    frame::FrameFault, outline::Gap, record::RecordFault, segment::SegmentHeaderFault,
    snapshot_format::SnapshotFault, vote::VoteFault,
};

/// Why a file counts as damaged and not as torn by a loss of power.
#[derive(Debug, Clone, thiserror::Error)]
#[error(transparent)]
pub struct Damage(pub(crate) DamageKind);

#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum DamageKind {
    #[error(transparent)]
    SegmentHeader(#[from] SegmentHeaderFault),
    #[error(transparent)]
    Frame(#[from] FrameFault),
    #[error("{fault}, but a sound frame follows at byte {frame_at}")]
    FrameFollows { fault: FrameFault, frame_at: u64 },
    #[error("{fault}, but the log went on in a later segment")]
    SegmentFollows { fault: FrameFault },
    #[error("the log ends with frame {last}, but frame {proven} is known to have been synced")]
    SyncedFrameMissing { last: u64, proven: u64 },
    #[error("the log ends at another place than the next segment says")]
    OtherEnd,
    #[error("a segment that does not begin with where the log stood")]
    NoBase,
    #[error("a record that may only stand at the beginning of a segment")]
    BaseInside,
    #[error("the segment does not go on where the one before it ends")]
    OtherBase,
    #[error(transparent)]
    Record(#[from] RecordFault),
    #[error(transparent)]
    Gap(#[from] Gap),
    #[error("an entry that should be here is not")]
    EntryMissing,
    #[error(transparent)]
    Vote(#[from] VoteFault),
    #[error(transparent)]
    Snapshot(#[from] SnapshotFault),
}
