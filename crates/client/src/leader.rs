//! Having another node lead.

use http::Method;
use serde::{Deserialize, Serialize};

use crate::{
    answer::Answer,
    call::Call,
    client::Client,
    error::CallError,
    json::{decimal, to_bytes},
};

/// Who leads after a transfer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderChange {
    /// Whether anything was done: not when the wanted node led already.
    pub changed: bool,
    /// Who led before.
    #[serde(with = "decimal")]
    pub from: u64,
    /// Its name.
    pub from_name: Option<String>,
    /// Who leads now.
    #[serde(with = "decimal")]
    pub leader: u64,
    /// Its name.
    pub leader_name: Option<String>,
    /// The term in which it leads.
    #[serde(with = "decimal")]
    pub term: u64,
    /// How long it took, from the request at the leader.
    pub took_ms: u64,
    /// Who was to lead; when another does, the wanted node died on the way and an ordinary
    /// election decided.
    #[serde(with = "decimal")]
    pub wanted: u64,
    /// Its name.
    pub wanted_name: Option<String>,
}

#[derive(Serialize)]
struct TransferJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'a str>,
}

impl Client {
    /// Has another node lead: the member of this name or id, or the healthiest voter that is
    /// caught up.
    ///
    /// A transfer that was begun is not repeated: when its answer is lost, the error's
    /// [`took_effect`](CallError::took_effect) is unknown, and [`Client::cluster`] tells who
    /// leads.
    ///
    /// # Errors
    /// [`CallError`]; a refusal, after which the leader carries on, has a
    /// [`code`](CallError::code) that says why.
    pub async fn transfer_leadership(
        &self,
        to: Option<&str>,
    ) -> Result<Answer<LeaderChange>, CallError> {
        let call = Call::write(Method::POST, "/v1/cluster/leader".to_owned());
        self.call_json(&call.json(to_bytes(&TransferJson { to }))).await
    }
}
