//! Changing who is in the cluster.

use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use crate::{
    answer::Answer,
    call::Call,
    client::Client,
    error::CallError,
    json::{Decimal, decimal, optional_decimal, to_bytes},
};

/// A node that is to become a learner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMember {
    /// Where its peers dial it, `host:port`.
    pub peer_address: String,
    /// The node that must answer there, if it is known.
    pub id: Option<u64>,
}

/// What a change of members did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberChange {
    /// `added`, `promoted`, `replaced`, `removed`, `described` or `unchanged`.
    pub change: String,
    /// The member.
    #[serde(with = "decimal")]
    pub id: u64,
    /// Its name.
    pub name: String,
    /// The member of the same name that it replaces, or will when it is promoted.
    #[serde(with = "optional_decimal")]
    pub replaces: Option<u64>,
    /// Whether nothing was done, because only the plan was asked for.
    pub dry_run: bool,
    /// Failures tolerated before.
    pub failures_tolerated_before: i64,
    /// Failures tolerated after.
    pub failures_tolerated_after: i64,
    /// The cluster.
    #[serde(with = "decimal")]
    pub cluster_id: u64,
    /// Its epoch.
    #[serde(with = "decimal")]
    pub epoch: u64,
    /// How long it took, from the request at the leader.
    pub took_ms: u64,
}

#[derive(Serialize)]
struct AddJson<'a> {
    peer_address: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Decimal>,
}

impl Client {
    /// Adds the node at a peer address as a learner; adding one twice is adding it once. It gets a
    /// vote by itself when it has kept up for a while, and takes the place of the member of its
    /// name that does not answer any more.
    ///
    /// # Errors
    /// [`CallError`]; a refusal has a [`code`](CallError::code) that says why.
    pub async fn add_member(
        &self,
        member: &NewMember,
        dry_run: bool,
    ) -> Result<Answer<MemberChange>, CallError> {
        let path = with_flags("/v1/cluster/members".to_owned(), false, dry_run);
        let NewMember { peer_address, id } = member;
        let body = to_bytes(&AddJson { peer_address, id: id.map(Decimal) });
        self.call_json(&Call::write(Method::POST, path).json(body).repeatable()).await
    }

    /// Gives a learner, named by its name or id, a vote; doing it twice is doing it once.
    ///
    /// # Errors
    /// As [`Client::add_member`].
    pub async fn promote_member(
        &self,
        member: &str,
        dry_run: bool,
    ) -> Result<Answer<MemberChange>, CallError> {
        let path = with_flags(format!("{}/promote", path_of(member)), false, dry_run);
        self.call_json(&Call::write(Method::POST, path).repeatable()).await
    }

    /// Removes a member, named by its name or id, for ever. Unless forced, only if no fewer
    /// failures are tolerated then.
    ///
    /// # Errors
    /// As [`Client::add_member`]; of a member that is gone already the code is `removed`.
    pub async fn remove_member(
        &self,
        member: &str,
        force: bool,
        dry_run: bool,
    ) -> Result<Answer<MemberChange>, CallError> {
        let path = with_flags(path_of(member), force, dry_run);
        self.call_json(&Call::write(Method::DELETE, path)).await
    }
}

fn path_of(member: &str) -> String {
    format!("/v1/cluster/members/{}", utf8_percent_encode(member, NON_ALPHANUMERIC))
}

fn with_flags(path: String, force: bool, dry_run: bool) -> String {
    match (force, dry_run) {
        (false, false) => path,
        (true, false) => path + "?force=true",
        (false, true) => path + "?dry_run=true",
        (true, true) => path + "?force=true&dry_run=true",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_read_and_written_as_the_api_has_it() {
        let text = r#"{"change":"replaced","id":"14","name":"n3","replaces":"13","dry_run":false,"failures_tolerated_before":0,"failures_tolerated_after":1,"cluster_id":"7","epoch":"1","took_ms":12}"#;
        let change: MemberChange = serde_json::from_str(text).expect("is read");
        assert_eq!((change.id, change.replaces), (14, Some(13)));
        assert_eq!(serde_json::to_string(&change).expect("is written"), text);
    }

    #[test]
    fn a_name_of_any_kind_stays_one_part_of_the_path() {
        assert_eq!(path_of("n1"), "/v1/cluster/members/n1");
        assert_eq!(path_of("a/b?c"), "/v1/cluster/members/a%2Fb%3Fc");
        assert_eq!(with_flags("/m".to_owned(), true, true), "/m?force=true&dry_run=true");
    }
}
