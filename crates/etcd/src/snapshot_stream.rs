//! A snapshot on its way to a client: etcd's database file in pieces, and at last its hash.
//!
//! The moment is pinned and walked twice, once for the plan of the file and once for its bytes,
//! by a task that never holds more than a few pieces. The client sets the pace; one that takes
//! nothing for [`PIECE_TAKEN_MAX`] is given up, since memory is kept for its moment.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use mainstay_consensus::HistoryError;
use mainstay_etcd_protocol::etcdserverpb::SnapshotResponse;
use mainstay_service::{Caller, DoorError, History};
use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;
use tracing::debug;

use crate::{
    api::Shared,
    database::{DatabasePlanner, DatabaseWriter, Frame},
    error,
    stop::{Answers, until_stopped},
    version::SNAPSHOT_VERSION,
};

/// Bytes of one piece, as in etcd.
const PIECE_BYTES: usize = 32 * 1024;

/// Pieces that wait for the client.
const PIECES_WAITING_MAX: usize = 4;

/// How long a client may take for the next piece.
const PIECE_TAKEN_MAX: Duration = Duration::from_secs(60);

/// Logical bytes of versions that are read at a time: of small ones a quarter of a millisecond's
/// work.
const SLICE_BYTES: u64 = 64 * 1024;

/// Sends a snapshot of this moment.
///
/// # Errors
/// Too many are being sent, or an import is going on.
pub(crate) fn blobs(
    api: &Arc<Shared>,
    caller: &Caller,
) -> Result<Answers<SnapshotResponse>, Status> {
    let history = api.door.history(caller).map_err(|error| match error {
        DoorError::Overloaded { .. } => error::too_many_snapshots(),
        other => error::of_door(other),
    })?;
    let (pieces, waiting) = mpsc::channel(PIECES_WAITING_MAX);
    let (outcome, ended) = oneshot::channel();
    mainstay_world::spawn(async move {
        // A client that is gone does not ask how it ended.
        let _gone = outcome.send(send(history, pieces).await);
    });
    let stream = stream::unfold(Some((waiting, ended)), |state| async move {
        let (mut waiting, ended) = state?;
        if let Some(piece) = waiting.recv().await {
            return Some((Ok(piece), Some((waiting, ended))));
        }
        match ended.await {
            Ok(Ok(())) => None,
            Ok(Err(status)) => Some((Err(status), None)),
            Err(_task_ended) => Some((Err(error::server_stopped()), None)),
        }
    });
    Ok(until_stopped(stream, api.stopping()))
}

/// Sends everything; what the client is told after the last piece.
async fn send(mut history: History, pieces: mpsc::Sender<SnapshotResponse>) -> Result<(), Status> {
    let frame = Frame::new(history.moment(), history.applied_index(), history.applied_term());
    let mut planner = DatabasePlanner::new(frame);
    while history.next(SLICE_BYTES, |version| planner.version(version)).await.map_err(of_history)? {
        if pieces.is_closed() {
            return Ok(());
        }
    }
    let (plan, frame) = planner.finish();
    history.rewind();
    let mut writer = DatabaseWriter::new(plan, frame);
    let remaining = plan.file_len();
    let mut sending = Sending { pieces, rest: BytesMut::new(), hash: Sha256::new(), remaining };
    while history.next(SLICE_BYTES, |version| writer.version(version)).await.map_err(of_history)? {
        sending.whole_pieces(&writer.take()).await?;
    }
    let revision = history.moment().revision();
    // Nothing more is read, so nothing needs to be kept.
    drop(history);
    while writer.some_leases() {
        sending.whole_pieces(&writer.take()).await?;
    }
    let last = writer.finish().map_err(|_unplanned| {
        Status::internal("etcdserver: the snapshot came out other than planned; ask again")
    })?;
    sending.end(&last).await?;
    debug!(revision, bytes = plan.file_len(), "a snapshot was sent as a database file");
    Ok(())
}

/// The pieces of a file that is being sent.
struct Sending {
    pieces: mpsc::Sender<SnapshotResponse>,
    /// Less than a piece.
    rest: BytesMut,
    hash: Sha256,
    /// Bytes of the file that are not sent.
    remaining: u64,
}

impl Sending {
    async fn whole_pieces(&mut self, bytes: &[u8]) -> Result<(), Status> {
        self.rest.extend_from_slice(bytes);
        while self.rest.len() >= PIECE_BYTES {
            let piece = self.rest.split_to(PIECE_BYTES).freeze();
            self.piece(piece).await?;
        }
        Ok(())
    }

    async fn end(mut self, bytes: &[u8]) -> Result<(), Status> {
        self.whole_pieces(bytes).await?;
        if !self.rest.is_empty() {
            let last = self.rest.split().freeze();
            self.piece(last).await?;
        }
        let hash = std::mem::take(&mut self.hash).finalize();
        self.send(Bytes::copy_from_slice(&hash)).await
    }

    async fn piece(&mut self, piece: Bytes) -> Result<(), Status> {
        self.hash.update(&piece);
        self.remaining = self.remaining.saturating_sub(piece.len() as u64);
        self.send(piece).await
    }

    async fn send(&self, blob: Bytes) -> Result<(), Status> {
        let piece = SnapshotResponse {
            header: None,
            remaining_bytes: self.remaining,
            blob,
            version: SNAPSHOT_VERSION.to_owned(),
        };
        match mainstay_world::timeout(PIECE_TAKEN_MAX, self.pieces.send(piece)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_client_gone)) => Err(Status::cancelled("the client is gone")),
            Err(_elapsed) => Err(Status::deadline_exceeded(format!(
                "etcdserver: the client took nothing of the snapshot for {} s",
                PIECE_TAKEN_MAX.as_secs()
            ))),
        }
    }
}

fn of_history(error: HistoryError) -> Status {
    match error {
        // A node that lagged was given the store of another one; the next snapshot has it.
        HistoryError::Lost(_) => Status::unavailable(format!("etcdserver: {error}")),
        HistoryError::TooSlow { .. } => Status::resource_exhausted(format!("etcdserver: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    fn sending(waiting_max: usize) -> (Sending, mpsc::Receiver<SnapshotResponse>) {
        let (pieces, waiting) = mpsc::channel(waiting_max);
        let remaining = 2 * PIECE_BYTES as u64 + 10;
        (Sending { pieces, rest: BytesMut::new(), hash: Sha256::new(), remaining }, waiting)
    }

    #[tokio::test]
    async fn pieces_are_full_but_for_the_last_and_the_hash_is_of_all() {
        let (mut sending, mut waiting) = sending(10);
        let file: Vec<u8> = (0..=255).cycle().take(2 * PIECE_BYTES + 10).collect();
        let (first, second) = file.split_at(PIECE_BYTES + 7);
        sending.whole_pieces(first).await.expect("there is room");
        sending.end(second).await.expect("there is room");
        for (len, left) in [(PIECE_BYTES, PIECE_BYTES + 10), (PIECE_BYTES, 10), (10, 0)] {
            let piece = waiting.recv().await.expect("was sent");
            assert_eq!((piece.blob.len(), piece.remaining_bytes), (len, left as u64));
        }
        let hash = waiting.recv().await.expect("was sent");
        assert_eq!(&hash.blob[..], &Sha256::digest(&file)[..]);
        assert_eq!(hash.remaining_bytes, 0);
        assert_eq!(waiting.recv().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_for_a_minute_is_given_up() {
        let (mut sending, _waiting) = sending(1);
        let given_up = sending.whole_pieces(&vec![0; 2 * PIECE_BYTES]).await;
        assert_eq!(given_up.expect_err("is given up").code(), Code::DeadlineExceeded);
    }

    #[tokio::test]
    async fn a_client_that_is_gone_ends_the_work() {
        let (mut sending, waiting) = sending(1);
        drop(waiting);
        let gone = sending.whole_pieces(&vec![0; PIECE_BYTES]).await;
        assert_eq!(gone.expect_err("nobody takes it").code(), Code::Cancelled);
    }
}
