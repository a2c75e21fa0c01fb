//! The headers that every answer carries: cluster, member, epoch, revision, term.
//!
//! All but the revision change rarely: they are kept formatted, and made anew in a new term.

use std::sync::{Mutex, PoisonError};

use http::{HeaderMap, HeaderName, HeaderValue};
use mainstay_consensus::{AppliedPosition, Consensus};
use mainstay_service::Freshness;
use tokio::sync::watch;

const CLUSTER_ID: HeaderName = HeaderName::from_static("mainstay-cluster-id");
const MEMBER_ID: HeaderName = HeaderName::from_static("mainstay-member-id");
const EPOCH: HeaderName = HeaderName::from_static("mainstay-epoch");
const REVISION: HeaderName = HeaderName::from_static("mainstay-revision");
const TERM: HeaderName = HeaderName::from_static("mainstay-term");
const STALENESS_MS: HeaderName = HeaderName::from_static("mainstay-staleness-ms");

/// Makes the headers of answers.
pub(crate) struct Stamp {
    consensus: Consensus,
    applied: watch::Receiver<AppliedPosition>,
    formatted: Mutex<Formatted>,
}

#[derive(Default)]
struct Formatted {
    /// The term that this was made in; `None` while it must be made anew each time.
    term: Option<u64>,
    headers: HeaderMap,
}

impl Stamp {
    pub(crate) fn new(consensus: Consensus) -> Self {
        Self { applied: consensus.applied(), consensus, formatted: Mutex::default() }
    }

    /// The headers of an answer at `revision`, with room for a few more.
    pub(crate) fn at(&self, revision: u64) -> HeaderMap {
        let mut headers = self.identity();
        headers.insert(REVISION, HeaderValue::from(revision));
        headers
    }

    /// The headers of an answer at the store's present revision.
    pub(crate) fn now(&self) -> HeaderMap {
        self.at(self.applied.borrow().revision)
    }

    /// The headers of an answer to a read.
    pub(crate) fn read(&self, revision: u64, freshness: Freshness) -> HeaderMap {
        let mut headers = self.at(revision);
        if let Freshness::Stale(behind) = freshness {
            let value = behind.map_or(HeaderValue::from_static("unknown"), |behind| {
                HeaderValue::from(u64::try_from(behind.as_millis()).unwrap_or(u64::MAX))
            });
            headers.insert(STALENESS_MS, value);
        }
        headers
    }

    fn identity(&self) -> HeaderMap {
        let term = self.consensus.term();
        let mut formatted = self.formatted.lock().unwrap_or_else(PoisonError::into_inner);
        if formatted.term != Some(term) {
            let status = self.consensus.status();
            let mut headers = HeaderMap::with_capacity(16);
            headers.insert(CLUSTER_ID, HeaderValue::from(status.cluster_id));
            headers.insert(MEMBER_ID, HeaderValue::from(status.node_id));
            headers.insert(EPOCH, HeaderValue::from(status.epoch));
            headers.insert(TERM, HeaderValue::from(term));
            // Before the birth of the cluster its id may come at any time.
            let term = (status.cluster_id != 0).then_some(term);
            *formatted = Formatted { term, headers };
        }
        formatted.headers.clone()
    }
}
