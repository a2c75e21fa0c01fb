//! Transactions and compaction: calls that change much at once, and what of them may be repeated.

use http::Method;
use mainstay_kv::{
    Origin,
    command::{Operation, Txn},
    outcome::TxnOutcome,
};
use serde::{Deserialize, Serialize};

use crate::{
    answer::Answer,
    call::{Call, unsendable},
    client::Client,
    error::CallError,
    json::{Decimal, to_bytes},
    keys::{Consistency, Query},
    session::fresh_key,
    txn_json::{TxnJson, TxnOutcomeJson},
};

/// A transaction to carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxnRequest {
    /// The conditions and the two lists of operations.
    pub txn: Txn,
    /// How fresh the answer must be, if the transaction only reads.
    pub consistency: Consistency,
    /// What makes a repeated write recognisable. Unnumbered, it gets a number of the client's own
    /// session, see [`ClientOptions::sessions`](crate::ClientOptions::sessions).
    pub origin: Origin,
}

/// What a transaction did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxnAnswer {
    /// The store's revision after it.
    pub revision: u64,
    /// Which list was done, and what its operations did.
    pub outcome: TxnOutcome,
}

/// What a compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    /// The store's revision.
    pub revision: u64,
    /// The lowest readable revision from now on.
    pub compact_revision: u64,
}

impl TxnRequest {
    /// A transaction without an origin, linearizable if it only reads.
    #[must_use]
    pub const fn new(txn: Txn) -> Self {
        Self { txn, consistency: Consistency::Linearizable, origin: Origin::Unnumbered }
    }
}

impl Client {
    /// Carries out a transaction. Conditions that do not hold are no error.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn txn(&self, request: TxnRequest) -> Result<Answer<TxnAnswer>, CallError> {
        #[derive(Deserialize)]
        struct AnswerJson {
            revision: Decimal,
            #[serde(flatten)]
            outcome: TxnOutcomeJson,
        }
        let Some(json) = TxnJson::from_txn(&request.txn) else {
            return Err(unsendable(
                "a read inside a transaction can be neither sorted nor filtered by revision",
            ));
        };
        let mut path = String::from("/v1/txn");
        Query::new(&mut path).consistency(request.consistency);
        let call = Call::write(Method::POST, path).json(to_bytes(&json));
        let answer = if reads_only(&request.txn) {
            self.call_json::<AnswerJson>(&call.reads_only()).await?
        } else {
            self.write_json::<AnswerJson>(call, &request.origin).await?
        };
        Ok(answer.map(|answer| TxnAnswer {
            revision: answer.revision.0,
            outcome: TxnOutcome::from(answer.outcome),
        }))
    }

    /// Forgets what is older than `revision`.
    ///
    /// # Errors
    /// [`CallError`]; a revision that is compacted already is code `compacted`.
    pub async fn compact(&self, revision: u64) -> Result<Answer<Compacted>, CallError> {
        #[derive(Serialize)]
        struct RequestJson {
            revision: Decimal,
        }
        #[derive(Deserialize)]
        struct AnswerJson {
            revision: Decimal,
            compact_revision: Decimal,
        }
        let call = Call::write(Method::POST, "/v1/compact".to_owned())
            .json(to_bytes(&RequestJson { revision: Decimal(revision) }))
            .origin(&fresh_key())?;
        let answer = self.call_json::<AnswerJson>(&call).await?;
        Ok(answer.map(|json| Compacted {
            revision: json.revision.0,
            compact_revision: json.compact_revision.0,
        }))
    }
}

/// Whether no list of the transaction holds a write.
fn reads_only(txn: &Txn) -> bool {
    txn.success.iter().chain(&txn.failure).all(|operation| match operation {
        Operation::Range(_) => true,
        Operation::Put(_) | Operation::Delete(_) => false,
        Operation::Txn(nested) => reads_only(nested),
    })
}
