//! What the leader does about the members by itself.

use serde::{Deserialize, Serialize};

use crate::{
    answer::Answer,
    call::Call,
    client::Client,
    error::CallError,
    json::{decimal, optional_decimal},
};

/// What the leader makes of the members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Autopilot {
    /// Whether it acts, or only says what it would do.
    pub enabled: bool,
    /// The leader, whose view this is.
    #[serde(with = "decimal")]
    pub leader: u64,
    /// Its name.
    pub leader_name: Option<String>,
    /// What there is to do or to wait for.
    pub advice: Vec<AutopilotAdvice>,
    /// What that node decided as a leader, newest first.
    pub decisions: Vec<AutopilotDecision>,
}

/// What is to be done about one member, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutopilotAdvice {
    /// `complete`, `replace`, `promote`, `remove` or `wait`.
    pub action: String,
    /// The member.
    #[serde(with = "decimal")]
    pub id: u64,
    /// Its name.
    pub name: String,
    /// The member whose place it takes.
    #[serde(with = "optional_decimal")]
    pub replaces: Option<u64>,
    /// Why, as a sentence without its end.
    pub why: String,
}

/// Something that the leader did, or tried, by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutopilotDecision {
    /// The leader's wall clock, in milliseconds since 1970.
    pub at_ms: u64,
    /// Its term.
    #[serde(with = "decimal")]
    pub term: u64,
    /// What was to be done, and why.
    #[serde(flatten)]
    pub advice: AutopilotAdvice,
    /// Why it was not done, if it was not.
    pub error: Option<String>,
}

impl Client {
    /// What the leader makes of the members, with its newest `limit` decisions, at most 1,000.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn autopilot(&self, limit: usize) -> Result<Answer<Autopilot>, CallError> {
        self.call_json(&Call::read(format!("/v1/cluster/autopilot?limit={limit}"))).await
    }
}
