//! A queue of programs that all want the same thing: the recipe behind locks and elections.
//!
//! Each program writes one key under the queue's name, attached to a lease that it keeps alive. The
//! key with the lowest creation revision is the first. Everybody else watches only the key right
//! before its own, so one departure wakes one program. A program that dies gives up its place when
//! its lease ends. The creation revision of the key is the *fencing token*: whoever comes to the
//! front later has a higher one, so a store outside this cluster that remembers the highest token
//! it has seen can refuse a program which does not know yet that its time is over.
//!
//! The keys are the same as those of etcd's recipes (`name/lease-in-hex`), so both can queue up
//! together.

use std::time::Duration;

use bytes::Bytes;
use mainstay_kv::{
    EventKind,
    command::{Compare, KeyRange, Operand, Operation, Put, Relation, Txn},
    query::KeyValue,
};
use mainstay_world::{spawn, timeout};

use crate::{
    client::Client,
    error::CallError,
    kept_lease::KeptLease,
    keys::{Condition, PageRequest, PutRequest},
    txn::TxnRequest,
    watch::{WatchError, WatchMessage, WatchRequest},
};

/// The time to live of a place unless another is asked for.
pub(crate) const TTL: Duration = Duration::from_secs(10);

/// A place that was not taken, or was lost.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// Others were before this program for longer than it wanted to wait. It has left the queue.
    #[error("others were first for {} ms", .waited.as_millis())]
    Taken {
        /// How long it waited.
        waited: Duration,
    },
    /// The lease ended, or the key was deleted by somebody: another program may be first now.
    #[error("the place in the queue is lost: its lease ended or its key was deleted")]
    Lost,
    /// A request failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The watch on the program before ended for good.
    #[error(transparent)]
    Watch(#[from] WatchError),
}

/// A place in the queue; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    /// `None` once the place was given back.
    lease: Option<KeptLease>,
    prefix: Bytes,
    key: Bytes,
    token: u64,
}

impl Place {
    /// Takes the last place of the queue `name`, with `value` to be read by others, and waits until
    /// it is the first, at most for `patience` (`None`: for as long as it takes).
    pub(crate) async fn first(
        client: &Client,
        name: &Bytes,
        value: Bytes,
        ttl: Duration,
        patience: Option<Duration>,
    ) -> Result<Self, QueueError> {
        let mut place = Self::last(client, name, value, ttl).await?;
        let came = match patience {
            Some(patience) => timeout(patience, place.comes_to_the_front())
                .await
                .unwrap_or(Err(QueueError::Taken { waited: patience })),
            None => place.comes_to_the_front().await,
        };
        match came {
            Ok(()) => Ok(place),
            Err(error) => {
                // Nobody is to wait for a program that has given up.
                place.leave_in_background();
                Err(error)
            }
        }
    }

    async fn last(
        client: &Client,
        name: &Bytes,
        value: Bytes,
        ttl: Duration,
    ) -> Result<Self, QueueError> {
        let lease = client.keep_lease(ttl).await?;
        let prefix = prefix(name);
        let mut key = prefix.to_vec();
        key.extend_from_slice(format!("{:x}", lease.id()).as_bytes());
        let key = Bytes::from(key);
        let mut place = Self { lease: Some(lease), prefix, key, token: 0 };
        let request = PutRequest {
            lease: place.lease().id(),
            condition: Some(Condition::Absent),
            ..PutRequest::new(place.key.clone(), value)
        };
        place.token = client.put(request).await?.value.revision;
        Ok(place)
    }

    /// Waits until nobody is before this place.
    async fn comes_to_the_front(&self) -> Result<(), QueueError> {
        let lease = self.lease();
        let client = lease.client();
        loop {
            let (waiting, revision) = all(client, &self.prefix).await?;
            if !waiting.iter().any(|pair| self.is_own(pair)) {
                return Err(QueueError::Lost);
            }
            let before = waiting.into_iter().filter(|pair| pair.create_revision < self.token);
            let Some(before) = before.max_by_key(|pair| pair.create_revision) else {
                return Ok(());
            };
            tokio::select! {
                gone = is_gone(client, before.key, revision + 1) => gone?,
                () = lease.lost() => return Err(QueueError::Lost),
            }
        }
    }

    fn is_own(&self, pair: &KeyValue) -> bool {
        pair.key == self.key && pair.create_revision == self.token
    }

    pub(crate) fn lease(&self) -> &KeptLease {
        self.lease.as_ref().expect("a place has its lease until it is given back")
    }

    pub(crate) const fn key(&self) -> &Bytes {
        &self.key
    }

    /// The revision that created the key.
    pub(crate) const fn token(&self) -> u64 {
        self.token
    }

    /// Holds while the key is the one that was created then.
    pub(crate) fn is_kept(&self) -> Compare {
        Compare {
            range: KeyRange::key(self.key.clone()),
            relation: Relation::Equal,
            operand: Operand::CreateRevision(i64::try_from(self.token).unwrap_or(i64::MAX)),
        }
    }

    /// Writes a key, unless the place is lost; the store's revision.
    pub(crate) async fn put(
        &self,
        key: Bytes,
        value: Bytes,
        lease: u64,
    ) -> Result<u64, QueueError> {
        let put = Put { key, value: Some(value), lease: Some(lease), want_previous: false };
        let txn = Txn {
            compares: vec![self.is_kept()],
            success: vec![Operation::Put(put)],
            failure: Vec::new(),
        };
        let answer = self.lease().client().txn(TxnRequest::new(txn)).await?.value;
        if answer.outcome.succeeded { Ok(answer.revision) } else { Err(QueueError::Lost) }
    }

    /// Gives the place back.
    pub(crate) async fn leave(mut self) -> Result<(), CallError> {
        match self.lease.take() {
            Some(lease) => lease.revoke().await,
            None => Ok(()),
        }
    }

    fn leave_in_background(&mut self) {
        let Some(lease) = self.lease.take() else { return };
        // Outside a runtime nobody can be told: the lease then ends with its time to live.
        if tokio::runtime::Handle::try_current().is_ok() {
            spawn(async move {
                if let Err(error) = lease.revoke().await {
                    tracing::debug!(%error, "a place was not given back and ends with its lease");
                }
            });
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave_in_background();
    }
}

/// What the keys of the queue `name` start with.
pub(crate) fn prefix(name: &Bytes) -> Bytes {
    let mut prefix = name.to_vec();
    prefix.push(b'/');
    Bytes::from(prefix)
}

/// All keys of the queue without their values, and the revision that they were read at.
async fn all(client: &Client, prefix: &Bytes) -> Result<(Vec<KeyValue>, u64), CallError> {
    let request = PageRequest { prefix: prefix.clone(), keys_only: true, ..PageRequest::default() };
    let mut pages = client.pages(request);
    let (mut pairs, mut revision) = (Vec::new(), 0);
    while let Some(page) = pages.next().await? {
        revision = page.revision;
        pairs.extend(page.pairs);
    }
    Ok((pairs, revision))
}

/// Waits until `key` is deleted at `from_revision` or later. What was compacted meanwhile is looked
/// at anew by the caller.
async fn is_gone(client: &Client, key: Bytes, from_revision: u64) -> Result<(), QueueError> {
    let request = WatchRequest { from_revision: Some(from_revision), ..WatchRequest::key(key) };
    let mut watch = client.watch(request).await?;
    loop {
        match watch.next().await {
            Ok(WatchMessage::Change(change)) => {
                if change.events.iter().any(|event| event.kind == EventKind::Delete) {
                    return Ok(());
                }
            }
            Ok(WatchMessage::Progress { .. }) => {}
            Err(WatchError::Compacted { .. } | WatchError::StoreReplaced) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_holds_no_keys_of_another_whose_name_begins_alike() {
        let jobs = prefix(&Bytes::from_static(b"jobs"));
        assert!(prefix(&Bytes::from_static(b"jobs")).starts_with(&jobs));
        assert!(!prefix(&Bytes::from_static(b"jobs-2")).starts_with(&jobs));
    }
}
