//! `/v1/cluster/members...`: who is in the cluster is changed.
//!
//! Any node takes the request; the leader decides, and says what it did to the number of failures
//! tolerated. `?dry_run=true` only says what would be done. Members are listed by
//! `GET /v1/cluster`.

use mainstay_consensus::{MemberChange, MemberRequest, MemberWish, MembershipError};
use mainstay_kv::Origin;
use mainstay_service::MembersError;
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use crate::{
    http::{
        answer,
        front::{Answered, Asked, SMALL_BODY_BYTES_MAX, SharedFront},
        json::{self, Decimal, Document},
        problem::Problem,
        query::Query,
        terms::Terms,
    },
    member_names::MemberNames,
};

/// Longest peer address that is taken.
const ADDRESS_BYTES_MAX: usize = 512;

const MEMBERS_PATH: &str = "/v1/cluster/members/";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AddForm {
    peer_address: String,
    id: Option<Decimal>,
}

/// `POST /v1/cluster/members`: the node at a peer address becomes a learner.
pub(crate) async fn add(front: SharedFront, request: Asked) -> Answered {
    change(front, request, |_path, _names, body| {
        let form: AddForm = json::parse(body)?;
        let is_address = form.peer_address.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty()
                && !host.contains('/')
                && port.parse::<u16>().is_ok_and(|port| port != 0)
        });
        if !is_address || form.peer_address.len() > ADDRESS_BYTES_MAX {
            let detail = "peer_address is written host:port, as in 127.0.0.1:2380";
            return Err(Problem::bad_request("bad_request", detail));
        }
        Ok(MemberWish::Add { peer_address: form.peer_address, id: form.id.map(|id| id.0) })
    })
    .await
}

/// `POST /v1/cluster/members/{id}/promote`: a learner gets a vote.
pub(crate) async fn promote(front: SharedFront, request: Asked) -> Answered {
    change(front, request, |path, names, body| {
        json::parse_nothing(body)?;
        let word = path.strip_suffix("/promote").unwrap_or(path);
        Ok(MemberWish::Promote { id: member(word, names)? })
    })
    .await
}

/// `DELETE /v1/cluster/members/{id}`: a member goes, for ever.
pub(crate) async fn remove(front: SharedFront, request: Asked) -> Answered {
    change(front, request, |path, names, body| {
        json::parse_nothing(body)?;
        Ok(MemberWish::Remove { id: member(path, names)? })
    })
    .await
}

async fn change(
    front: SharedFront,
    request: Asked,
    wish: impl FnOnce(&str, &MemberNames, &[u8]) -> Result<MemberWish, Problem>,
) -> Answered {
    let (head, body) = request.into_parts();
    let query = Query::parse(head.uri.query(), &["dry_run", "force"])?;
    let (dry_run, force) = (query.flag("dry_run")?, query.flag("force")?);
    let caller = Terms::read(&head.headers)?.writer()?;
    if caller.origin != Origin::Unnumbered {
        let detail = "a change of members is recognised by the member, not by a number or a key; \
            leave Idempotency-Key and the session headers out";
        return Err(Problem::bad_request("bad_header", detail));
    }
    let body = front.read_body(body, SMALL_BODY_BYTES_MAX).await?;
    let names = MemberNames::of(&front.door.consensus().status());
    if names.is_empty() {
        return Err(Problem::membership(&MembershipError::NotReady));
    }
    let path = head.uri.path().strip_prefix(MEMBERS_PATH).unwrap_or_default();
    let request = MemberRequest { wish: wish(path, &names, &body)?, force, dry_run };
    match front.door.change_members(&caller, &request).await {
        Ok(change) => Ok(answer::json(front.stamp.now(), document(&change))),
        Err(MembersError::Membership(error)) => Err(Problem::membership(&error)),
        Err(MembersError::Denied(denied)) => Err(mainstay_service::DoorError::from(denied).into()),
    }
}

/// The member that a word of a path means: by its name, or else by its id. A number that is no
/// member may be one that was removed: the leader tells.
fn member(word: &str, names: &MemberNames) -> Result<u64, Problem> {
    let unknown = || Problem::membership(&MembershipError::UnknownMember { word: word.to_owned() });
    let word = percent_decode_str(word).decode_utf8().map_err(|_not_text| unknown())?;
    match names.all_of(&word)[..] {
        [id] => Ok(id),
        [] => word.parse().map_err(|_no_id| unknown()),
        [one, other, ..] => {
            let detail = format!(
                "{word} is the name of node {one} and of node {other}, which replaces the first \
                 one; say which you mean by its id"
            );
            Err(Problem::bad_request("ambiguous_member", detail))
        }
    }
}

fn document(change: &MemberChange) -> Document {
    let took_ms = u64::try_from(change.took.as_millis()).unwrap_or(u64::MAX);
    let mut document = Document::with_capacity(256);
    document.text("{\"change\":\"").text(change.kind.as_str()).text("\",");
    document.decimal("id", change.id).text(",\"name\":").string(&change.name);
    document.text(",\"replaces\":");
    match change.replaces {
        Some(id) => document.text(&format!("\"{id}\"")),
        None => document.text("null"),
    };
    document.text(",").flag("dry_run", change.dry_run);
    let (before, after) = (change.failures_tolerated_before, change.failures_tolerated_after);
    document.text(&format!(
        ",\"failures_tolerated_before\":{before},\"failures_tolerated_after\":{after},"
    ));
    document.decimal("cluster_id", change.cluster_id).text(",");
    document.decimal("epoch", change.epoch).text(",").number("took_ms", took_ms).text("}");
    document
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mainstay_consensus::MemberChangeKind;

    use super::*;

    #[test]
    fn a_member_is_meant_by_its_name_or_its_id_and_one_of_two_by_its_id_alone() {
        let names = MemberNames::for_tests(&[(11, "n1"), (12, "n2"), (13, "n2"), (14, "a b")]);
        for (word, id) in [("n1", 11), ("12", 12), ("99", 99), ("a%20b", 14)] {
            assert_eq!(member(word, &names), Ok(id), "{word}");
        }
        assert_eq!(member("n2", &names).expect_err("two").code(), "ambiguous_member");
        for word in ["n3", "", "-1", "%ff"] {
            assert_eq!(member(word, &names).expect_err(word).code(), "unknown_member");
        }
    }

    #[test]
    fn the_answer_tells_what_was_done_and_what_is_tolerated_then() {
        let change = MemberChange {
            kind: MemberChangeKind::Replaced,
            id: 14,
            name: "n3".to_owned(),
            replaces: Some(13),
            dry_run: false,
            failures_tolerated_before: 0,
            failures_tolerated_after: 1,
            cluster_id: 7,
            epoch: 1,
            took: Duration::from_millis(12),
        };
        assert_eq!(
            document(&change).finish(),
            r#"{"change":"replaced","id":"14","name":"n3","replaces":"13","dry_run":false,"failures_tolerated_before":0,"failures_tolerated_after":1,"cluster_id":"7","epoch":"1","took_ms":12}"#
        );
    }
}
