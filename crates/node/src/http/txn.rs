//! `POST /v1/txn`: transactions as JSON.

use bytes::Bytes;
use mainstay_kv::{
    Compare, Delete, ENVELOPE_BYTES_MAX, KeyRange, Operand, Operation, OperationOutcome, Put,
    RangeEnd, RangeQuery, Relation, Txn, TxnOutcome,
};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};

use crate::http::{
    answer,
    front::{Answered, Asked, SharedFront},
    json::{self, Base64, Decimal, Document},
    keys::consistency,
    problem::Problem,
    query::Query,
    terms::Terms,
};

/// Largest transaction as JSON: what a log entry takes, in base64 and with room for the rest.
const BODY_BYTES_MAX: usize = ENVELOPE_BYTES_MAX / 3 * 4 + 1024 * 1024;

/// `POST /v1/txn`.
pub(crate) async fn post(front: SharedFront, request: Asked) -> Answered {
    let (head, body) = request.into_parts();
    let query = Query::parse(head.uri.query(), &["consistency"])?;
    let terms = Terms::read(&head.headers)?;
    let caller = terms.writer_or_reader(consistency(&query)?)?;
    let body = front.read_body(body, BODY_BYTES_MAX).await?;
    let txn = Txn::try_from(json::parse::<TxnForm>(&body)?)?;
    // The JSON is not needed while the transaction waits.
    drop(body);
    let done = front.door.txn(caller, txn).await?;
    let mut document = Document::with_capacity(256);
    document.text("{").decimal("revision", done.revision).text(",");
    txn_members(&mut document, &done.outcome);
    document.text("}");
    let headers = front.stamp.read(done.revision, done.freshness);
    Ok(answer::repeated(answer::json(headers, document), done.repeated))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TxnForm {
    #[serde(default)]
    compares: Vec<CompareForm>,
    #[serde(default)]
    success: Vec<OperationForm>,
    #[serde(default)]
    failure: Vec<OperationForm>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CompareForm {
    #[serde(default)]
    key: Option<Base64>,
    #[serde(default)]
    range_end: Option<Base64>,
    #[serde(default)]
    prefix: Option<Base64>,
    #[serde(default)]
    from_key: bool,
    target: Target,
    relation: RelationForm,
    operand: String,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Target {
    Version,
    CreateRevision,
    ModRevision,
    Lease,
    Value,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RelationForm {
    Equal,
    NotEqual,
    Greater,
    Less,
}

#[derive(Debug)]
enum OperationForm {
    Put(PutForm),
    Delete(DeleteForm),
    Range(RangeForm),
    Txn(TxnForm),
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OperationKind {
    Put,
    Delete,
    Range,
    Txn,
}

/// By hand, because serde says no more than "expected value" where there is none or a second one.
impl<'de> Deserialize<'de> for OperationForm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOf;
        impl<'de> Visitor<'de> for OneOf {
            type Value = OperationForm;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(ONE_OPERATION)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<OperationForm, A::Error> {
                let one_of = || A::Error::custom(format_args!("expected {ONE_OPERATION}"));
                let form = match map.next_key()?.ok_or_else(one_of)? {
                    OperationKind::Put => OperationForm::Put(map.next_value()?),
                    OperationKind::Delete => OperationForm::Delete(map.next_value()?),
                    OperationKind::Range => OperationForm::Range(map.next_value()?),
                    OperationKind::Txn => OperationForm::Txn(map.next_value()?),
                };
                match map.next_key::<OperationKind>()? {
                    None => Ok(form),
                    Some(_second) => Err(one_of()),
                }
            }
        }
        deserializer.deserialize_map(OneOf)
    }
}

const ONE_OPERATION: &str = "an object with one of put, delete, range, txn";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PutForm {
    key: Base64,
    #[serde(default)]
    value: Option<Base64>,
    #[serde(default)]
    keep_value: bool,
    #[serde(default)]
    lease: Option<Decimal>,
    #[serde(default)]
    keep_lease: bool,
    #[serde(default)]
    want_previous: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeleteForm {
    #[serde(default)]
    key: Option<Base64>,
    #[serde(default)]
    range_end: Option<Base64>,
    #[serde(default)]
    prefix: Option<Base64>,
    #[serde(default)]
    from_key: bool,
    #[serde(default)]
    want_previous: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RangeForm {
    #[serde(default)]
    key: Option<Base64>,
    #[serde(default)]
    range_end: Option<Base64>,
    #[serde(default)]
    prefix: Option<Base64>,
    #[serde(default)]
    from_key: bool,
    #[serde(default)]
    limit: Decimal,
    #[serde(default)]
    revision: Decimal,
    #[serde(default)]
    keys_only: bool,
    #[serde(default)]
    count_only: bool,
}

fn refuse(why: &str) -> Problem {
    Problem::bad_request("bad_request", format!("the transaction is not well formed: {why}"))
}

/// A key alone, up to an end, from a key on, or a prefix.
fn range(
    key: Option<Base64>,
    range_end: Option<Base64>,
    prefix: Option<Base64>,
    from_key: bool,
) -> Result<KeyRange, Problem> {
    let start_to = |key: Option<Base64>, end| {
        let start = key.map(|key| key.0);
        start.map(|start| KeyRange { start, end }).ok_or_else(|| refuse("a range has no key"))
    };
    match (prefix, range_end, from_key) {
        (Some(prefix), None, false) if key.is_none() => Ok(KeyRange::prefix(prefix.0)),
        (None, None, true) => start_to(key, RangeEnd::Unbounded),
        (None, Some(end), false) => start_to(key, RangeEnd::Before(end.0)),
        (None, None, false) => start_to(key, RangeEnd::Single),
        _ => Err(refuse(
            "a range is key alone, key and range_end, key and from_key, or prefix alone",
        )),
    }
}

impl TryFrom<TxnForm> for Txn {
    type Error = Problem;

    fn try_from(form: TxnForm) -> Result<Self, Problem> {
        let operations = |forms: Vec<OperationForm>| {
            forms.into_iter().map(Operation::try_from).collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            compares: form.compares.into_iter().map(Compare::try_from).collect::<Result<_, _>>()?,
            success: operations(form.success)?,
            failure: operations(form.failure)?,
        })
    }
}

impl TryFrom<CompareForm> for Compare {
    type Error = Problem;

    fn try_from(form: CompareForm) -> Result<Self, Problem> {
        let number = || {
            form.operand
                .parse::<i64>()
                .map_err(|_error| refuse("the operand of a number is a decimal string"))
        };
        let operand = match form.target {
            Target::Version => Operand::Version(number()?),
            Target::CreateRevision => Operand::CreateRevision(number()?),
            Target::ModRevision => Operand::ModRevision(number()?),
            Target::Lease => Operand::Lease(number()?),
            Target::Value => {
                use base64::{Engine as _, engine::general_purpose::STANDARD};
                let value = STANDARD
                    .decode(&form.operand)
                    .map_err(|_error| refuse("the operand of a value is base64 with padding"))?;
                Operand::Value(Bytes::from(value))
            }
        };
        let relation = match form.relation {
            RelationForm::Equal => Relation::Equal,
            RelationForm::NotEqual => Relation::NotEqual,
            RelationForm::Greater => Relation::Greater,
            RelationForm::Less => Relation::Less,
        };
        let range = range(form.key, form.range_end, form.prefix, form.from_key)?;
        Ok(Self { range, relation, operand })
    }
}

impl TryFrom<OperationForm> for Operation {
    type Error = Problem;

    fn try_from(form: OperationForm) -> Result<Self, Problem> {
        Ok(match form {
            OperationForm::Put(form) => Self::Put(Put::try_from(form)?),
            OperationForm::Delete(form) => Self::Delete(Delete {
                range: range(form.key, form.range_end, form.prefix, form.from_key)?,
                want_previous: form.want_previous,
            }),
            OperationForm::Range(form) => Self::Range(RangeQuery {
                revision: form.revision.0,
                limit: form.limit.0,
                keys_only: form.keys_only,
                count_only: form.count_only,
                ..RangeQuery::new(range(form.key, form.range_end, form.prefix, form.from_key)?)
            }),
            OperationForm::Txn(form) => Self::Txn(Txn::try_from(form)?),
        })
    }
}

impl TryFrom<PutForm> for Put {
    type Error = Problem;

    fn try_from(form: PutForm) -> Result<Self, Problem> {
        let value = match (form.value, form.keep_value) {
            (Some(value), false) => Some(value.0),
            (None, true) => None,
            _ => return Err(refuse("a put has either a value or \"keep_value\": true")),
        };
        let lease = match (form.lease, form.keep_lease) {
            (lease, false) => Some(lease.unwrap_or_default().0),
            (None, true) => None,
            (Some(_), true) => return Err(refuse("lease and keep_lease exclude each other")),
        };
        Ok(Self { key: form.key.0, value, lease, want_previous: form.want_previous })
    }
}

/// Writes what a transaction did, without braces.
fn txn_members(document: &mut Document, outcome: &TxnOutcome) {
    document.flag("succeeded", outcome.succeeded).text(",\"operations\":");
    document.list(&outcome.operations, |document, operation| match operation {
        OperationOutcome::Put(outcome) => {
            document.text("{\"put\":{").flag("created", outcome.created).text(",\"previous\":");
            document.pair_or_null(outcome.previous.as_ref()).text("}}");
        }
        OperationOutcome::Deleted(outcome) => {
            document.text("{\"delete\":{").decimal("deleted", outcome.deleted);
            document.text(",\"previous\":").pairs(&outcome.previous).text("}}");
        }
        OperationOutcome::Range(answer) => {
            document.text("{\"range\":{\"pairs\":").pairs(&answer.pairs).text(",");
            document.flag("more", answer.more).text(",").decimal("count", answer.count);
            document.text("}}");
        }
        OperationOutcome::Txn(outcome) => {
            document.text("{\"txn\":{");
            txn_members(document, outcome);
            document.text("}}");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_kv::{DeleteOutcome, KeyValue, PutOutcome, RangeAnswer};

    fn read(text: &str) -> Result<Txn, Problem> {
        Txn::try_from(json::parse::<TxnForm>(text.as_bytes())?)
    }

    #[test]
    fn a_whole_transaction_is_read() {
        let txn = read(
            r#"{
            "compares": [
                {"key": "YQ==", "target": "mod_revision", "relation": "equal", "operand": "7"},
                {"prefix": "YQ==", "target": "value", "relation": "not_equal", "operand": "Yg=="}
            ],
            "success": [
                {"put": {"key": "YQ==", "value": "Mg==", "lease": "9", "want_previous": true}},
                {"put": {"key": "Yg==", "keep_value": true, "keep_lease": true}},
                {"delete": {"key": "YQ==", "range_end": "Yg=="}},
                {"txn": {"failure": [{"delete": {"prefix": ""}}]}}
            ],
            "failure": [{"range": {"key": "YQ==", "from_key": true, "limit": "3"}}]
        }"#,
        )
        .expect("reads");
        let key = |key: &'static str| Bytes::from_static(key.as_bytes());
        assert_eq!(txn.compares[0].operand, Operand::ModRevision(7));
        assert_eq!(txn.compares[1].range, KeyRange::prefix(key("a")));
        assert_eq!(txn.compares[1].operand, Operand::Value(key("b")));
        let put = |key, value, lease, want_previous| {
            Operation::Put(Put { key, value, lease, want_previous })
        };
        assert_eq!(txn.success[0], put(key("a"), Some(key("2")), Some(9), true));
        assert_eq!(txn.success[1], put(key("b"), None, None, false));
        let Operation::Delete(delete) = &txn.success[2] else { panic!("the third deletes") };
        assert_eq!(delete.range.end, RangeEnd::Before(key("b")));
        let Operation::Txn(nested) = &txn.success[3] else { panic!("the fourth is nested") };
        let Operation::Delete(delete) = &nested.failure[0] else { panic!("it deletes") };
        assert_eq!(delete.range, KeyRange::all());
        let Operation::Range(query) = &txn.failure[0] else { panic!("the failure reads") };
        assert_eq!((&query.range.end, query.limit), (&RangeEnd::Unbounded, 3));
    }

    #[test]
    fn incomplete_and_misspelt_transactions_are_refused() {
        for (text, code) in [
            (r#"{"sucess": []}"#, "malformed_json"),
            (r#"{"success": [{"put": {"key": "YQ==", "val": "x"}}]}"#, "malformed_json"),
            (r#"{"success": [{"puts": {}}]}"#, "malformed_json"),
            (r#"{"success": [{"put": {"key": "YQ=="}}]}"#, "bad_request"),
            (
                r#"{"success": [{"put": {"key": "YQ==", "value": "", "keep_value": true}}]}"#,
                "bad_request",
            ),
            (r#"{"success": [{"delete": {}}]}"#, "bad_request"),
            (r#"{"success": [{"delete": {"key": "YQ==", "prefix": "YQ=="}}]}"#, "bad_request"),
            (
                r#"{"compares": [{"key": "YQ==", "target": "version", "relation": "equal", "operand": "x"}]}"#,
                "bad_request",
            ),
            (
                r#"{"compares": [{"key": "YQ==", "target": "mod_revison", "relation": "equal", "operand": "1"}]}"#,
                "malformed_json",
            ),
        ] {
            let problem = read(text).expect_err(text);
            assert_eq!(problem.code(), code, "{text}: {}", problem.detail());
        }
    }

    #[test]
    fn every_kind_of_outcome_is_written() {
        let pair = KeyValue {
            key: "a".into(),
            value: "1".into(),
            create_revision: 2,
            mod_revision: 3,
            version: 2,
            lease: 0,
        };
        let outcome = TxnOutcome {
            succeeded: true,
            operations: vec![
                OperationOutcome::Put(PutOutcome { created: false, previous: Some(pair.clone()) }),
                OperationOutcome::Deleted(DeleteOutcome { deleted: 1, previous: vec![] }),
                OperationOutcome::Range(RangeAnswer { pairs: vec![pair], more: true, count: 5 }),
                OperationOutcome::Txn(TxnOutcome { succeeded: false, operations: vec![] }),
            ],
        };
        let mut document = Document::with_capacity(0);
        document.text("{");
        txn_members(&mut document, &outcome);
        document.text("}");
        let value: serde_json::Value = serde_json::from_slice(&document.finish()).expect("is JSON");
        let pair = serde_json::json!({
            "key": "YQ==", "value": "MQ==", "create_revision": "2", "mod_revision": "3",
            "version": "2", "lease": "0",
        });
        assert_eq!(
            value,
            serde_json::json!({"succeeded": true, "operations": [
                {"put": {"created": false, "previous": pair}},
                {"delete": {"deleted": "1", "previous": []}},
                {"range": {"pairs": [pair], "more": true, "count": "5"}},
                {"txn": {"succeeded": false, "operations": []}},
            ]})
        );
    }
}
