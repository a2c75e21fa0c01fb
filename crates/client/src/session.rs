//! Sessions: writes with numbers, so that each takes effect once however often it is sent.
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
use serde::Deserialize;

use crate::{
    answer::Answer,
    call::Call,
    client::Client,
    error::CallError,
    json::Decimal,
    keys::{DeleteRequest, Deleted, PutRequest, Written},
    txn::{TxnAnswer, TxnRequest},
};

/// A session of numbered writes; cheap to clone, clones number together.
#[derive(Debug, Clone)]
pub struct Session {
    client: Client,
    id: u64,
    ttl: Duration,
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
            id: opened.session.0,
            ttl: Duration::from_millis(opened.ttl_ms),
            numbers: Arc::default(),
        })
    }
}

impl Session {
    /// The session's id.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.id
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
        let number = self.take_number();
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
        let number = self.take_number();
        self.client.delete(DeleteRequest { origin: number.origin(), ..request.into() }).await
    }

    /// Carries out a transaction; `request.origin` is replaced by the next number.
    ///
    /// # Errors
    /// As [`Client::txn`], and code `session_ended`.
    pub async fn txn(&self, request: TxnRequest) -> Result<Answer<TxnAnswer>, CallError> {
        let number = self.take_number();
        self.client.txn(TxnRequest { origin: number.origin(), ..request }).await
    }

    fn take_number(&self) -> TakenNumber<'_> {
        let mut numbers = self.lock();
        numbers.last += 1;
        let number = numbers.last;
        numbers.awaited.insert(number);
        TakenNumber { session: self, number }
    }

    fn lock(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A number that is awaited until this is dropped, however the call ends.
struct TakenNumber<'a> {
    session: &'a Session,
    number: u64,
}

impl TakenNumber<'_> {
    fn origin(&self) -> Origin {
        let lowest_awaited = self.session.lock().awaited.first().copied().unwrap_or(self.number);
        Origin::Session { session: self.session.id, number: self.number, lowest_awaited }
    }
}

impl Drop for TakenNumber<'_> {
    fn drop(&mut self) {
        self.session.lock().awaited.remove(&self.number);
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
    use crate::client::ClientOptions;
    use mainstay_world::RealNet;

    fn session() -> Session {
        let endpoint = "127.0.0.1:1".parse().expect("an endpoint");
        Session {
            client: Client::new(Arc::new(RealNet), ClientOptions::new(vec![endpoint])),
            id: 12,
            ttl: Duration::from_secs(600),
            numbers: Arc::default(),
        }
    }

    #[test]
    fn a_number_is_awaited_until_its_call_ends() {
        let session = session();
        let origin =
            |number, lowest_awaited| Origin::Session { session: 12, number, lowest_awaited };
        let first = session.take_number();
        let second = session.take_number();
        assert_eq!(first.origin(), origin(1, 1));
        assert_eq!(second.origin(), origin(2, 1));
        drop(first);
        assert_eq!(session.take_number().origin(), origin(3, 2));
        drop(second);
        assert_eq!(session.take_number().origin(), origin(4, 4));
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
