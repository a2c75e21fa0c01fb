//! `POST /v1/cluster/leader`: another node is to lead.
//!
//! Any node takes the request; the leader decides. It answers when it is known who leads.

use std::{fmt, time::Duration};

use mainstay_consensus::{HandOver, HandOverError};
use mainstay_kv::Origin;
use mainstay_service::TransferError;
use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};

use crate::{
    http::{
        answer,
        front::{Answered, Asked, Front, SMALL_BODY_BYTES_MAX, SharedFront},
        json::{self, Document},
        problem::Problem,
        query::Query,
        terms::Terms,
    },
    member_names::MemberNames,
};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Form {
    to: Option<MemberWord>,
}

/// A member's name or id; an id may come as a number, as ids may everywhere.
#[derive(Debug, PartialEq, Eq)]
struct MemberWord(String);

impl<'de> Deserialize<'de> for MemberWord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrNumber;
        impl Visitor<'_> for TextOrNumber {
            type Value = MemberWord;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("the name or the id of a member")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<MemberWord, E> {
                Ok(MemberWord(text.to_owned()))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<MemberWord, E> {
                Ok(MemberWord(number.to_string()))
            }
        }
        deserializer.deserialize_any(TextOrNumber)
    }
}

/// `POST /v1/cluster/leader`.
pub(crate) async fn transfer(front: SharedFront, request: Asked) -> Answered {
    let (head, body) = request.into_parts();
    Query::parse(head.uri.query(), &[])?;
    let caller = Terms::read(&head.headers)?.writer()?;
    if caller.origin != Origin::Unnumbered {
        let detail = "a change of leader is not stored and cannot be recognised when it is \
            repeated; leave Idempotency-Key and the session headers out";
        return Err(Problem::bad_request("bad_header", detail));
    }
    let body = front.read_body(body, SMALL_BODY_BYTES_MAX).await?;
    let form: Form = json::parse(&body)?;
    let names = member_names(&front);
    if names.is_empty() {
        return Err(Problem::hand_over(&HandOverError::NotReady, &names));
    }
    let to = match &form.to {
        Some(MemberWord(word)) => {
            Some(names.find(word).ok_or_else(|| Problem::unknown_member(word, &names))?)
        }
        None => None,
    };
    let done = front.door.transfer_leadership(&caller, to).await;
    // Who is a member may have become known only now, on a node that has just started.
    let names = member_names(&front);
    let document = match done {
        Ok(done) => document(&done, true, &names),
        Err(TransferError::HandOver(HandOverError::AlreadyLeads { id })) => {
            let term = front.door.consensus().term();
            let took = Duration::ZERO;
            let leads = HandOver { from: id, leader: id, term, took, wanted: id };
            document(&leads, false, &names)
        }
        Err(TransferError::HandOver(error)) => return Err(Problem::hand_over(&error, &names)),
        Err(TransferError::Denied(denied)) => {
            return Err(mainstay_service::DoorError::from(denied).into());
        }
    };
    Ok(answer::json(front.stamp.now(), document))
}

fn member_names(front: &Front) -> MemberNames {
    MemberNames::of(&front.door.consensus().status())
}

fn document(done: &HandOver, changed: bool, names: &MemberNames) -> Document {
    let took_ms = u64::try_from(done.took.as_millis()).unwrap_or(u64::MAX);
    let mut document = Document::with_capacity(256);
    document.text("{").flag("changed", changed).text(",");
    names.write(&mut document, "from", Some(done.from));
    document.text(",");
    names.write(&mut document, "leader", Some(done.leader));
    document.text(",").decimal("term", done.term).text(",").number("took_ms", took_ms).text(",");
    names.write(&mut document, "wanted", Some(done.wanted));
    document.text("}");
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_named_by_text_or_number_or_not_at_all() {
        let to = |body: &str| json::parse::<Form>(body.as_bytes()).map(|form| form.to);
        let word = |text: &str| Some(MemberWord(text.to_owned()));
        assert_eq!(to(""), Ok(None));
        assert_eq!(to("{}"), Ok(None));
        assert_eq!(to(r#"{"to":null}"#), Ok(None));
        assert_eq!(to(r#"{"to":"n2"}"#), Ok(word("n2")));
        assert_eq!(to(r#"{"to":12}"#), Ok(word("12")));
        for body in [r#"{"to":-1}"#, r#"{"to":[]}"#, r#"{"too":"n2"}"#, "[]", "n2"] {
            assert_eq!(to(body).expect_err(body).code(), "malformed_json");
        }
    }

    #[test]
    fn the_answer_tells_who_leads_and_who_was_wanted() {
        let names = MemberNames::for_tests(&[(11, "n1"), (12, "n2"), (13, "n3")]);
        let took = Duration::from_micros(12_700);
        let done = HandOver { from: 11, leader: 13, term: 5, took, wanted: 12 };
        assert_eq!(
            document(&done, true, &names).finish(),
            r#"{"changed":true,"from":"11","from_name":"n1","leader":"13","leader_name":"n3","term":"5","took_ms":12,"wanted":"12","wanted_name":"n2"}"#
        );
    }
}
