//! Sessions: writes with numbers, so that each takes effect once however often it is sent.
//!
//! A client opens one by itself for the writes that have no origin of their own; a program that
//! wants one for itself opens a [`Session`].
//!
//! The cluster keeps the outcomes of a session's writes from the lowest number that the client
//! still awaits; the session therefore remembers which of its numbers are on their way. A write
//! that ended in an unknown outcome is no longer awaited: once a later write says so, the cluster
//! refuses whatever copy of it still travels.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::Method;
use mainstay_kv::Origin;
use mainstay_world::random_bytes;
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    answer::Answer,
    call::Call,
    client::Client,
    error::{CallError, TookEffect},
    json::Decimal,
    keys::{DeleteRequest, Deleted, PutRequest, Written},
    txn::{TxnAnswer, TxnRequest},
};

/// How far the client's own session may be ahead of the lowest number that it still awaits: the
/// cluster keeps 1,024 outcomes of a session.
const WINDOW: u64 = 1_000;

/// A session of numbered writes; cheap to clone, clones number together.
#[derive(Debug, Clone)]
pub struct Session {
    client: Client,
    ttl: Duration,
    numbering: Numbering,
}

/// A session's id and the numbers of its writes; clones number together.
#[derive(Debug, Clone)]
pub(crate) struct Numbering {
    session: u64,
    numbers: Arc<Mutex<Numbers>>,
}

/// Which numbers were given, and which are on their way.
#[derive(Debug, Default)]
struct Numbers {
    last: u64,
    awaited: BTreeSet<u64>,
}

impl Client {
    /// Opens a session. It ends by itself when it has written nothing for its time to live.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn open_session(&self) -> Result<Session, CallError> {
        #[derive(Deserialize)]
        struct SessionJson {
            session: Decimal,
            ttl_ms: u64,
        }
        // Opening twice leaves one session behind that nobody uses, and it ends.
        let call = Call::write(Method::POST, "/v1/sessions".to_owned()).repeatable();
        let opened = self.call_json::<SessionJson>(&call).await?.value;
        Ok(Session {
            client: self.clone(),
            ttl: Duration::from_millis(opened.ttl_ms),
            numbering: Numbering { session: opened.session.0, numbers: Arc::default() },
        })
    }

    /// Makes a write that carries `origin`, or else the next number of the client's own session.
    pub(crate) async fn write_json<T: DeserializeOwned>(
        &self,
        call: Call,
        origin: &Origin,
    ) -> Result<Answer<T>, CallError> {
        if *origin != Origin::Unnumbered || !self.options().sessions {
            return self.call_json(&call.origin(origin)?).await;
        }
        for is_last in [false, true] {
            let numbering = self.numbering().await?;
            let Some(number) = numbering.take_within(WINDOW) else {
                // So much is on its way that a number would be refused; a key does as well.
                return self.call_json(&call.origin(&fresh_key())?).await;
            };
            match self.call_json(&call.clone().origin(&number.origin())?).await {
                // It ended because nothing was written for long; the write had no effect.
                Err(error) if has_ended(&error) && !is_last => self.forget(&numbering).await,
                outcome => return outcome,
            }
        }
        unreachable!("the last attempt returns")
    }

    /// The client's own session, opened when it is first needed.
    async fn numbering(&self) -> Result<Numbering, CallError> {
        let mut own = self.shared.numbering.lock().await;
        match &*own {
            Some(numbering) => Ok(numbering.clone()),
            None => Ok(own.insert(self.open_session().await?.numbering).clone()),
        }
    }

    /// Has the next write open another session.
    async fn forget(&self, ended: &Numbering) {
        let mut own = self.shared.numbering.lock().await;
        if own.as_ref().is_some_and(|own| own.session == ended.session) {
            *own = None;
        }
    }
}

/// Whether the session is over and the write certainly had no effect.
fn has_ended(error: &CallError) -> bool {
    error.code() == Some("session_ended") && error.took_effect == TookEffect::No
}

impl Session {
    /// The session's id.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.numbering.session
    }

    /// The time without a write after which the session ends.
    #[must_use]
    pub const fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Writes a key; `request.origin` is replaced by the next number.
    ///
    /// # Errors
    /// As [`Client::put`], and code `session_ended`.
    pub async fn put(&self, request: PutRequest) -> Result<Answer<Written>, CallError> {
        let number = self.numbering.take();
        self.client.put(PutRequest { origin: number.origin(), ..request }).await
    }

    /// Deletes a key; `request.origin` is replaced by the next number.
    ///
    /// # Errors
    /// As [`Client::delete`], and code `session_ended`.
    pub async fn delete(
        &self,
        request: impl Into<DeleteRequest>,
    ) -> Result<Answer<Deleted>, CallError> {
        let number = self.numbering.take();
        self.client.delete(DeleteRequest { origin: number.origin(), ..request.into() }).await
    }

    /// Carries out a transaction; `request.origin` is replaced by the next number.
    ///
    /// # Errors
    /// As [`Client::txn`], and code `session_ended`.
    pub async fn txn(&self, request: TxnRequest) -> Result<Answer<TxnAnswer>, CallError> {
        let number = self.numbering.take();
        self.client.txn(TxnRequest { origin: number.origin(), ..request }).await
    }
}

impl Numbering {
    /// The next number.
    fn take(&self) -> TakenNumber {
        let mut numbers = self.lock();
        numbers.take(self)
    }

    /// The next number, unless it would be `window` or more above the lowest that is awaited.
    fn take_within(&self, window: u64) -> Option<TakenNumber> {
        let mut numbers = self.lock();
        let lowest = numbers.awaited.first().copied().unwrap_or(numbers.last + 1);
        (numbers.last + 1 - lowest < window).then(|| numbers.take(self))
    }

    fn lock(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Numbers {
    fn take(&mut self, numbering: &Numbering) -> TakenNumber {
        self.last += 1;
        self.awaited.insert(self.last);
        TakenNumber { numbering: numbering.clone(), number: self.last }
    }
}

/// A number that is awaited until this is dropped, however the call ends.
struct TakenNumber {
    numbering: Numbering,
    number: u64,
}

impl TakenNumber {
    fn origin(&self) -> Origin {
        let session = self.numbering.session;
        let lowest_awaited = self.numbering.lock().awaited.first().copied();
        let lowest_awaited = lowest_awaited.unwrap_or(self.number);
        Origin::Session { session, number: self.number, lowest_awaited }
    }
}

impl Drop for TakenNumber {
    fn drop(&mut self) {
        self.numbering.lock().awaited.remove(&self.number);
    }
}

/// An idempotency key that was never used, 128 random bits: with it a write can be repeated without
/// a session, for as long as the cluster keeps such keys.
#[must_use]
pub fn fresh_key() -> Origin {
    let mut random = [0; 16];
    random_bytes(&mut random);
    Origin::Key(Bytes::from(format!("{:032x}", u128::from_le_bytes(random))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbering() -> Numbering {
        Numbering { session: 12, numbers: Arc::default() }
    }

    #[test]
    fn a_number_is_awaited_until_its_call_ends() {
        let numbering = numbering();
        let origin =
            |number, lowest_awaited| Origin::Session { session: 12, number, lowest_awaited };
        let first = numbering.take();
        let second = numbering.take();
        assert_eq!(first.origin(), origin(1, 1));
        assert_eq!(second.origin(), origin(2, 1));
        drop(first);
        assert_eq!(numbering.take().origin(), origin(3, 2));
        drop(second);
        assert_eq!(numbering.take().origin(), origin(4, 4));
    }

    #[test]
    fn numbers_do_not_run_ahead_of_what_the_cluster_keeps() {
        let numbering = numbering();
        let first = numbering.take_within(3).expect("nothing is awaited");
        for _ in 0..2 {
            drop(numbering.take_within(3).expect("within the window"));
        }
        assert!(numbering.take_within(3).is_none(), "4 is 3 above 1");
        drop(first);
        assert!(numbering.take_within(3).is_some());
    }

    #[test]
    fn fresh_keys_differ_and_are_within_the_limit() {
        let (Origin::Key(one), Origin::Key(other)) = (fresh_key(), fresh_key()) else {
            panic!("both are keys")
        };
        assert_ne!(one, other);
        assert_eq!(one.len(), 32);
    }
}
