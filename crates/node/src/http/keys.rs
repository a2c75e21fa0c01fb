//! `GET`, `PUT` and `DELETE` of one key, the routes that carry almost all traffic.
//!
//! A plain write is a plain command. A conditional one is a transaction: compare, then write, or
//! else read what is there, so that the refusal can say it.

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, ETAG},
};
use mainstay_kv::{
    Compare, Delete, KeyRange, KeyValue, Operand, Operation, OperationOutcome, Put, RangeQuery,
    Relation, Txn,
};
use mainstay_service::Consistency;

use crate::http::{
    answer,
    body::Body,
    front::{Answered, Front, without_body},
    json::Document,
    problem::Problem,
    query::{Query, percent_decode},
    route::{KEY_PREFIX, Route},
    terms::{Condition, Terms},
};

const CREATE_REVISION: HeaderName = HeaderName::from_static("mainstay-create-revision");
const MOD_REVISION: HeaderName = HeaderName::from_static("mainstay-mod-revision");
const VERSION: HeaderName = HeaderName::from_static("mainstay-version");
const LEASE: HeaderName = HeaderName::from_static("mainstay-lease");

/// The words of `?consistency=`, in the order of [`consistency`].
const CONSISTENCIES: [&str; 2] = ["linearizable", "stale"];

/// Answers a request for one key.
pub(crate) async fn answer<B>(front: &Front, request: Request<B>) -> Answered
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let (head, body) = request.into_parts();
    let raw_key = head.uri.path().strip_prefix(KEY_PREFIX).unwrap_or_default();
    let raw_query = head.uri.query();
    let terms = Terms::read(&head.headers)?;
    match head.method {
        Method::PUT => {
            let query = Query::parse(raw_query, &["key_base64", "lease"])?;
            let key = key(raw_key, &query)?;
            put(front, key, &query, &terms, body).await
        }
        Method::GET | Method::HEAD => {
            let known = ["key_base64", "revision", "consistency"];
            let query = Query::parse(raw_query, &known)?;
            let response = get(front, key(raw_key, &query)?, &query, &terms).await?;
            Ok(if head.method == Method::HEAD { without_body(response) } else { response })
        }
        Method::DELETE => {
            let query = Query::parse(raw_query, &["key_base64"])?;
            delete(front, key(raw_key, &query)?, &terms).await
        }
        Method::OPTIONS => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            *response.headers_mut() = front.stamp.now();
            let methods = Route::KEY.methods().unwrap_or_default();
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
            Ok(response)
        }
        other => Err(Problem::method_not_allowed(other.as_str(), Route::KEY.methods())),
    }
}

/// The key: what the path says, or the parameter.
fn key(raw_key: &str, query: &Query<'_>) -> Result<Bytes, Problem> {
    let of_path = percent_decode(raw_key).map_err(|_malformed| {
        let detail = "the key has a % in the path that is not followed by two hex digits";
        Problem::bad_request("bad_request", detail)
    })?;
    match query.base64("key_base64")? {
        None => Ok(of_path),
        Some(key) if of_path.is_empty() => Ok(key),
        Some(_) => Err(Problem::bad_parameter(
            "key_base64",
            "stands for the key, so the path ends with /v1/kv/",
        )),
    }
}

/// How fresh a read must be.
pub(crate) fn consistency(query: &Query<'_>) -> Result<Consistency, Problem> {
    Ok(match query.choice("consistency", &CONSISTENCIES)? {
        Some(1) => Consistency::Stale,
        _ => Consistency::Linearizable,
    })
}

async fn get(front: &Front, key: Bytes, query: &Query<'_>, terms: &Terms<'_>) -> Answered {
    let revision = query.number("revision")?.unwrap_or_default();
    let known = terms.known_mod_revision()?;
    let caller = terms.reader(consistency(query)?);
    let read = front.door.get(&caller, key, revision).await?;
    let mut headers = front.stamp.read(read.revision, read.freshness);
    let Some(pair) = read.answer else {
        let at = if revision == 0 { read.revision } else { revision };
        let detail = format!("the key does not exist at revision {at}");
        let problem = Problem::new(StatusCode::NOT_FOUND, "not_found", "No such key", detail);
        return Ok(problem.respond(headers));
    };
    headers.insert(ETAG, entity_tag(pair.mod_revision));
    headers.insert(CREATE_REVISION, HeaderValue::from(pair.create_revision));
    headers.insert(MOD_REVISION, HeaderValue::from(pair.mod_revision));
    headers.insert(VERSION, HeaderValue::from(pair.version));
    headers.insert(LEASE, HeaderValue::from(pair.lease));
    if known == Some(pair.mod_revision) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.headers_mut() = headers;
        return Ok(response);
    }
    Ok(answer::bytes(headers, "application/octet-stream", pair.value))
}

fn entity_tag(mod_revision: u64) -> HeaderValue {
    let quoted = Bytes::from(format!("\"{mod_revision}\""));
    HeaderValue::from_maybe_shared(quoted).expect("digits and quotes are allowed in a header")
}

async fn put<B>(
    front: &Front,
    key: Bytes,
    query: &Query<'_>,
    terms: &Terms<'_>,
    body: B,
) -> Answered
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let lease = Some(query.number("lease")?.unwrap_or_default());
    let condition = terms.condition()?;
    let caller = terms.writer()?;
    let limit = front.door.store(|store| store.settings().value_bytes_max);
    let value = front.read_body(body, usize::try_from(limit).unwrap_or(usize::MAX)).await?;
    let put = Put { key, value: Some(value), lease, want_previous: false };
    let (revision, created, repeated) = match condition {
        None => {
            let written = front.door.put(caller, put).await?;
            (written.revision, written.outcome.created, written.repeated)
        }
        Some(condition) => {
            let key = put.key.clone();
            let txn = conditional(condition, key, Operation::Put(put));
            let written = front.door.txn(caller, txn).await?;
            let created = match single(written.outcome.operations) {
                Some(OperationOutcome::Put(outcome)) => outcome.created,
                other => {
                    return Err(condition_failed(condition, other).repeated(written.repeated));
                }
            };
            (written.revision, created, written.repeated)
        }
    };
    let mut document = Document::with_capacity(48);
    document.text("{").decimal("revision", revision).text(",").flag("created", created).text("}");
    Ok(answer::repeated(answer::json(front.stamp.at(revision), document), repeated))
}

async fn delete(front: &Front, key: Bytes, terms: &Terms<'_>) -> Answered {
    let condition = terms.condition()?;
    let caller = terms.writer()?;
    let delete = Delete { range: KeyRange::key(key), want_previous: false };
    let (revision, deleted, repeated) = match condition {
        None => {
            let written = front.door.delete(caller, delete).await?;
            (written.revision, written.outcome.deleted, written.repeated)
        }
        Some(condition) => {
            let key = delete.range.start.clone();
            let txn = conditional(condition, key, Operation::Delete(delete));
            let written = front.door.txn(caller, txn).await?;
            let deleted = match single(written.outcome.operations) {
                Some(OperationOutcome::Deleted(outcome)) => outcome.deleted,
                other => {
                    return Err(condition_failed(condition, other).repeated(written.repeated));
                }
            };
            (written.revision, deleted, written.repeated)
        }
    };
    let mut document = Document::with_capacity(48);
    document.text("{").decimal("deleted", deleted).text(",").decimal("revision", revision);
    document.text("}");
    Ok(answer::repeated(answer::json(front.stamp.at(revision), document), repeated))
}

/// Does `operation` if the condition holds for `key`, and else reads the key.
fn conditional(condition: Condition, key: Bytes, operation: Operation) -> Txn {
    let (relation, operand) = match condition {
        // No key was ever written at a revision beyond what the operand holds.
        Condition::ModRevision(revision) => {
            (Relation::Equal, Operand::ModRevision(i64::try_from(revision).unwrap_or(i64::MAX)))
        }
        Condition::Exists => (Relation::Greater, Operand::Version(0)),
        Condition::Absent => (Relation::Equal, Operand::Version(0)),
    };
    Txn {
        compares: vec![Compare { range: KeyRange::key(key.clone()), relation, operand }],
        success: vec![operation],
        failure: vec![Operation::Range(RangeQuery {
            keys_only: true,
            ..RangeQuery::new(KeyRange::key(key))
        })],
    }
}

fn single(mut operations: Vec<OperationOutcome>) -> Option<OperationOutcome> {
    operations.pop()
}

/// The condition did not hold; `found` is what the failure branch read.
fn condition_failed(condition: Condition, found: Option<OperationOutcome>) -> Problem {
    let found: Option<KeyValue> = match found {
        Some(OperationOutcome::Range(answer)) => answer.pairs.into_iter().next(),
        _ => None,
    };
    if condition == Condition::Absent {
        let since = found.map_or(0, |pair| pair.create_revision);
        let detail = format!("the key exists since revision {since}; nothing was written");
        return Problem::new(StatusCode::CONFLICT, "exists", "The key already exists", detail);
    }
    let detail = match found {
        Some(pair) => {
            format!("the key is at revision {}; nothing was written", pair.mod_revision)
        }
        None => "the key does not exist; nothing was written".to_owned(),
    };
    let title = "The condition does not hold";
    Problem::new(StatusCode::PRECONDITION_FAILED, "compare_failed", title, detail)
}
