//! Filling an empty cluster with the keys and leases of another one, step by step.
//!
//! Every step carries an idempotency key of its own, so it can be repeated when an answer is lost.
//! What the steps are and must be is [`Import`]; who reads the source is the caller.

use http::Method;
use mainstay_kv::Import;
use serde::{Deserialize, Serialize};

use crate::{
    answer::Answer,
    call::Call,
    client::Client,
    error::CallError,
    json::{Base64, Decimal, PairJson, decimal, optional_decimal, to_bytes},
    session::fresh_key,
};

/// The import that is going on, if one is, and what is in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportState {
    /// What is being imported: the source's cluster id.
    #[serde(with = "optional_decimal")]
    pub source: Option<u64>,
    /// The store's revision.
    #[serde(with = "decimal")]
    pub revision: u64,
    /// Keys in the store.
    #[serde(with = "decimal")]
    pub keys: u64,
    /// Leases in the store.
    #[serde(with = "decimal")]
    pub leases: u64,
}

/// What is in the store after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportProgress {
    /// The store's revision.
    #[serde(with = "decimal")]
    pub revision: u64,
    /// Keys in the store.
    #[serde(with = "decimal")]
    pub keys: u64,
    /// Leases in the store.
    #[serde(with = "decimal")]
    pub leases: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum ImportJson {
    Begin { source: Decimal },
    Forget { keys: Vec<Base64> },
    Leases { ended: Vec<Decimal>, granted: Vec<LeaseJson> },
    Pairs { after_revision: Decimal, pairs: Vec<PairJson> },
    End { after_revision: Decimal, revision: Decimal },
}

#[derive(Debug, Serialize)]
struct LeaseJson {
    id: Decimal,
    ttl_ms: u64,
}

impl From<&Import> for ImportJson {
    fn from(step: &Import) -> Self {
        match step {
            Import::Begin { source } => Self::Begin { source: Decimal(*source) },
            Import::Forget { keys } => {
                Self::Forget { keys: keys.iter().cloned().map(Base64).collect() }
            }
            Import::Leases { ended, granted } => Self::Leases {
                ended: ended.iter().copied().map(Decimal).collect(),
                granted: granted
                    .iter()
                    .map(|lease| LeaseJson { id: Decimal(lease.id), ttl_ms: lease.ttl_ms })
                    .collect(),
            },
            Import::Pairs { after_revision, pairs } => Self::Pairs {
                after_revision: Decimal(*after_revision),
                pairs: pairs.iter().map(PairJson::from).collect(),
            },
            Import::End { after_revision, revision } => {
                Self::End { after_revision: Decimal(*after_revision), revision: Decimal(*revision) }
            }
        }
    }
}

impl Client {
    /// Whether an import is going on, and what is in the store.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn import_state(&self) -> Result<Answer<ImportState>, CallError> {
        self.call_json(&Call::read("/v1/cluster/import".to_owned())).await
    }

    /// Has the cluster carry out a step of an import.
    ///
    /// # Errors
    /// [`CallError`]; a cluster with something in it is code `not_empty`, another import
    /// `import_running`.
    pub async fn import(&self, step: &Import) -> Result<Answer<ImportProgress>, CallError> {
        let call = Call::write(Method::POST, "/v1/cluster/import".to_owned())
            .json(to_bytes(&ImportJson::from(step)))
            .origin(&fresh_key())?;
        self.call_json(&call).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_travel_as_the_api_page_shows_them() {
        for (step, json) in [
            (Import::Begin { source: 7 }, r#"{"begin":{"source":"7"}}"#),
            (Import::Forget { keys: vec!["a".into()] }, r#"{"forget":{"keys":["YQ=="]}}"#),
            (
                Import::End { after_revision: 8, revision: 9 },
                r#"{"end":{"after_revision":"8","revision":"9"}}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&ImportJson::from(&step)).expect("writes"), json);
        }
    }
}
