//! A reader of everything, who has one of few places while it reads.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
};

use mainstay_consensus::{Consensus, PinnedHistory};
use mainstay_kv::Refusal;

use crate::{admission::Admission, error::DoorError};

/// The history of one moment, and the place among those who read; both end with this value.
pub struct History {
    pinned: PinnedHistory,
    _place: Place,
}

/// A place that is given back when dropped.
#[derive(Debug)]
struct Place(Arc<Admission>);

impl History {
    pub(crate) fn begin(
        consensus: &Consensus,
        admission: Arc<Admission>,
    ) -> Result<Self, DoorError> {
        admission.history_started()?;
        let place = Place(admission);
        let pinned = consensus.pin_history();
        if pinned.moment().is_importing() {
            return Err(Refusal::Importing.into());
        }
        Ok(Self { pinned, _place: place })
    }
}

impl Deref for History {
    type Target = PinnedHistory;

    fn deref(&self) -> &PinnedHistory {
        &self.pinned
    }
}

impl DerefMut for History {
    fn deref_mut(&mut self) -> &mut PinnedHistory {
        &mut self.pinned
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.history_ended();
    }
}
