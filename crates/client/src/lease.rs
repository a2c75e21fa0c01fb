//! Leases: grant, renew, look at, revoke.
//!
//! Grants and revocations carry an idempotency key of their own, so that they can be repeated when
//! an answer is lost. For a lease that is renewed by itself see `kept_lease.rs`.

use bytes::Bytes;
use http::Method;
use serde::{Deserialize, Serialize};

use crate::{
    answer::Answer,
    call::Call,
    client::Client,
    error::CallError,
    json::{Base64, Decimal, to_bytes},
    keys::Deleted,
    session::fresh_key,
};

/// A lease as it was granted or renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseGranted {
    /// The lease.
    pub id: u64,
    /// Its time to live in milliseconds.
    pub ttl_ms: u64,
}

/// A lease as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The lease.
    pub id: u64,
    /// Its full time to live in milliseconds.
    pub ttl_ms: u64,
    /// What is left of it in milliseconds of the replicated clock.
    pub remaining_ms: u64,
    /// The keys that end with it.
    pub keys: Vec<Bytes>,
}

#[derive(Deserialize)]
struct GrantedJson {
    id: Decimal,
    ttl_ms: u64,
}

impl From<GrantedJson> for LeaseGranted {
    fn from(json: GrantedJson) -> Self {
        Self { id: json.id.0, ttl_ms: json.ttl_ms }
    }
}

impl Client {
    /// Grants a lease. `id` 0 has one made up; a time to live below the smallest allowed is raised.
    ///
    /// # Errors
    /// [`CallError`]; an id that is taken is code `lease_exists`.
    pub async fn lease_grant(
        &self,
        ttl_ms: u64,
        id: u64,
    ) -> Result<Answer<LeaseGranted>, CallError> {
        #[derive(Serialize)]
        struct GrantJson {
            ttl_ms: u64,
            id: Decimal,
        }
        let call = Call::write(Method::POST, "/v1/leases".to_owned())
            .json(to_bytes(&GrantJson { ttl_ms, id: Decimal(id) }))
            .origin(&fresh_key())?;
        Ok(self.call_json::<GrantedJson>(&call).await?.map(LeaseGranted::from))
    }

    /// Renews a lease to its full time to live.
    ///
    /// # Errors
    /// [`CallError`]; a lease that ended is code `lease_not_found`.
    pub async fn lease_keep_alive(&self, id: u64) -> Result<Answer<LeaseGranted>, CallError> {
        let path = format!("/v1/leases/{id}/keep-alive");
        let call = Call::write(Method::POST, path).repeatable();
        Ok(self.call_json::<GrantedJson>(&call).await?.map(LeaseGranted::from))
    }

    /// Ends a lease and deletes its keys.
    ///
    /// # Errors
    /// [`CallError`]; a lease that ended is code `lease_not_found`.
    pub async fn lease_revoke(&self, id: u64) -> Result<Answer<Deleted>, CallError> {
        #[derive(Deserialize)]
        struct RevokedJson {
            deleted: Decimal,
            revision: Decimal,
        }
        let call = Call::write(Method::DELETE, format!("/v1/leases/{id}")).origin(&fresh_key())?;
        let answer = self.call_json::<RevokedJson>(&call).await?;
        Ok(answer.map(|json| Deleted { deleted: json.deleted.0, revision: json.revision.0 }))
    }

    /// Looks at a lease.
    ///
    /// # Errors
    /// [`CallError`]; a lease that ended is code `lease_not_found`.
    pub async fn lease(&self, id: u64) -> Result<Answer<Lease>, CallError> {
        #[derive(Deserialize)]
        struct LeaseJson {
            id: Decimal,
            ttl_ms: u64,
            remaining_ms: u64,
            keys: Vec<Base64>,
        }
        let call = Call::read(format!("/v1/leases/{id}"));
        let answer = self.call_json::<LeaseJson>(&call).await?;
        Ok(answer.map(|lease| Lease {
            id: lease.id.0,
            ttl_ms: lease.ttl_ms,
            remaining_ms: lease.remaining_ms,
            keys: lease.keys.into_iter().map(|key| key.0).collect(),
        }))
    }

    /// The ids of all leases.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn leases(&self) -> Result<Answer<Vec<u64>>, CallError> {
        #[derive(Deserialize)]
        struct LeasesJson {
            leases: Vec<Decimal>,
        }
        let answer = self.call_json::<LeasesJson>(&Call::read("/v1/leases".to_owned())).await?;
        Ok(answer.map(|json| json.leases.into_iter().map(|id| id.0).collect()))
    }
}
