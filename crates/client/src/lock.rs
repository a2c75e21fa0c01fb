//! Locks: one holder at a time, in the order of asking, each with a fencing token.
//!
//! A lock is held as long as its lease lives, and a program cannot know by itself that it does: it
//! may have been standing still. So there are three ways to be safe, from weak to strong:
//! [`Lock::lost`] ends work when the lock may be over; a transaction with [`Lock::is_kept`] among
//! its compares, or [`Lock::put`], writes to this cluster only while the lock is held; and a store
//! elsewhere can refuse every [`Lock::fencing_token`] below the highest it has seen.

use std::time::Duration;

use bytes::Bytes;
use mainstay_kv::command::Compare;

use crate::{
    client::Client,
    error::CallError,
    keys::PutRequest,
    queue::{Place, QueueError, TTL},
};

/// Which lock, and how it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockRequest {
    /// The lock's name; its keys are below the name and a slash.
    pub name: Bytes,
    /// How long the lock outlives a holder that died.
    pub ttl: Duration,
    /// How long to wait while others hold it; `None` is for as long as it takes.
    pub patience: Option<Duration>,
}

/// A lock that is held. Dropped, it is given back in the background.
#[derive(Debug)]
pub struct Lock {
    place: Place,
}

impl LockRequest {
    /// A lock that outlives its holder by 10 seconds, waited for as long as it takes.
    #[must_use]
    pub fn new(name: impl Into<Bytes>) -> Self {
        Self { name: name.into(), ttl: TTL, patience: None }
    }
}

impl Client {
    /// Waits until the lock is free and takes it; who asked first gets it first.
    ///
    /// # Errors
    /// [`QueueError::Taken`] after the patience, [`QueueError::Lost`] when the lease ended while
    /// waiting, or what a request met with. In no case is the lock held or queued for.
    pub async fn lock(&self, request: LockRequest) -> Result<Lock, QueueError> {
        let LockRequest { name, ttl, patience } = request;
        let place = Place::first(self, &name, Bytes::new(), ttl, patience).await?;
        Ok(Lock { place })
    }
}

impl Lock {
    /// A number that rises from holder to holder: the revision that created the lock's key.
    #[must_use]
    pub const fn fencing_token(&self) -> u64 {
        self.place.token()
    }

    /// The key that stands for this holder.
    #[must_use]
    pub const fn key(&self) -> &Bytes {
        self.place.key()
    }

    /// The lease that the lock hangs on; keys attached to it end with the lock.
    #[must_use]
    pub fn lease(&self) -> u64 {
        self.place.lease().id()
    }

    /// Whether the lock is certainly held at this moment.
    #[must_use]
    pub fn is_sure(&self) -> bool {
        self.place.lease().is_sure()
    }

    /// Returns when the lock may be somebody else's: stop working then.
    pub async fn lost(&self) {
        self.place.lease().lost().await;
    }

    /// Holds in a transaction while the lock is held.
    #[must_use]
    pub fn is_kept(&self) -> Compare {
        self.place.is_kept()
    }

    /// Writes a key while the lock is held; condition and origin of the request are not used. The
    /// revision of the write.
    ///
    /// # Errors
    /// [`QueueError::Lost`] if the lock is over: nothing was written. Otherwise as [`Client::put`].
    pub async fn put(&self, request: PutRequest) -> Result<u64, QueueError> {
        self.place.put(request.key, request.value, request.lease).await
    }

    /// Gives the lock to the next.
    ///
    /// # Errors
    /// [`CallError`]; then it is given back when its lease ends.
    pub async fn release(self) -> Result<(), CallError> {
        self.place.leave().await
    }
}
