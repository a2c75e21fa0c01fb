//! A range in pieces, so that neither side holds the whole of a large one.
//!
//! All pieces are of the revision that the first one fixed. Merged, they are the answer to the
//! same request of one piece: pairs in each, and header, count and whether there is more with the
//! last. If the revision is compacted before the end, the stream says so and the client asks again.

use std::sync::Arc;

use futures_util::stream;
use mainstay_etcd_protocol::etcdserverpb::{RangeRequest, RangeStreamResponse};
use mainstay_kv::RangeQuery;
use mainstay_service::{Caller, PageBounds};
use tonic::Status;

use crate::{
    api::{Shared, signed},
    caller::serializable,
    error,
    kv::{range_query, range_response},
    stop::{Answers, until_stopped},
};

/// Bytes of pairs in one piece.
const PIECE_BYTES: usize = 512 * 1024;

/// The pieces of a range.
pub(crate) type Pieces = Answers<RangeStreamResponse>;

/// A range that is being read.
struct Reading {
    api: Arc<Shared>,
    caller: Caller,
    query: RangeQuery,
    /// What the first piece said of the whole: the keys of the range, and the store's revision.
    whole: Option<(u64, u64)>,
    ended: bool,
}

/// Reads a range in pieces.
///
/// # Errors
/// As a range in one piece; sorted and filtered ones are not served this way.
pub(crate) fn pieces(
    api: Arc<Shared>,
    caller: Caller,
    request: RangeRequest,
) -> Result<Pieces, Status> {
    let caller = if request.serializable { serializable(caller) } else { caller };
    let query = range_query(request)?;
    if !query.is_plain() {
        return Err(Status::unimplemented(
            "etcdserver: a sorted or filtered range is not streamed",
        ));
    }
    let stopping = api.stopping();
    let reading = Reading { api, caller, query, whole: None, ended: false };
    let pieces = stream::try_unfold(reading, |mut reading| async move {
        Ok(reading.next_piece().await?.map(|piece| (piece, reading)))
    });
    Ok(until_stopped(pieces, stopping))
}

impl Reading {
    async fn next_piece(&mut self) -> Result<Option<RangeStreamResponse>, Status> {
        if self.ended {
            return Ok(None);
        }
        // Only the first piece knows the whole range.
        let bounds = PageBounds { bytes_max: PIECE_BYTES, counted: self.whole.is_none() };
        let read = self.api.door.page(&self.caller, &self.query, bounds).await;
        let read = read.map_err(error::of_door)?;
        let (count, revision) = *self.whole.get_or_insert((read.answer.count, read.revision));
        let got = read.answer.pairs.len() as u64;
        let limited = self.query.limit > 0;
        let last = read.answer.pairs.last().map(|pair| pair.key.clone());
        let mut piece = range_response(read.answer);
        let rest = last.filter(|_last| piece.more && !(limited && got >= self.query.limit));
        if let Some(last) = rest {
            (piece.more, piece.count) = (false, 0);
            if limited {
                self.query.limit -= got;
            }
            if self.query.revision == 0 {
                self.query.revision = revision;
            }
            self.query.range.start_after(&last);
            // The rest is in this node's own store, at a revision that it has; and a client may
            // take its time to read.
            self.caller = serializable(self.api.caller_on_stream());
        } else {
            self.ended = true;
            piece.header = Some(self.api.header_at(revision));
            piece.count = signed(count);
        }
        Ok(Some(RangeStreamResponse { range_response: Some(piece) }))
    }
}
