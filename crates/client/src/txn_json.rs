//! Transactions as JSON, both ways, as `docs/http-api.md` writes them.
//!
//! Reading is strict: an unknown field is refused, because a condition with a misspelt name must
//! not be ignored. [`TxnJson`] is the form on the wire and [`Txn`] the meaning; a range can be
//! written in four ways, and the last value that a condition needs depends on its target.

use mainstay_kv::{
    command::{Compare, Delete, KeyRange, Operand, Operation, Put, RangeEnd, Relation, Txn},
    outcome::{DeleteOutcome, OperationOutcome, PutOutcome, TxnOutcome},
    query::{KeyValue, RangeAnswer, RangeQuery},
};
use serde::{Deserialize, Serialize, de::Error};

use crate::json::{Base64, Decimal, PairJson, pairs, to_value};

/// Reads a transaction.
///
/// # Errors
/// What is wrong with the text, with line and column.
pub fn txn_from_json(text: &[u8]) -> Result<Txn, serde_json::Error> {
    let json: TxnJson = serde_json::from_slice(text)?;
    json.into_txn().map_err(serde_json::Error::custom)
}

/// The outcome of a transaction as the API writes it.
#[must_use]
pub fn txn_outcome_json(outcome: &TxnOutcome) -> serde_json::Value {
    to_value(&TxnOutcomeJson::from(outcome))
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TxnJson {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    compares: Vec<CompareJson>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    success: Vec<OperationJson>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    failure: Vec<OperationJson>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CompareJson {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<Base64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    range_end: Option<Base64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prefix: Option<Base64>,
    #[serde(default, skip_serializing_if = "is_false")]
    from_key: bool,
    target: TargetJson,
    relation: RelationJson,
    operand: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum TargetJson {
    Version,
    CreateRevision,
    ModRevision,
    Lease,
    Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RelationJson {
    Equal,
    NotEqual,
    Greater,
    Less,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OperationJson {
    Put(PutJson),
    Delete(DeleteJson),
    Range(RangeJson),
    Txn(TxnJson),
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PutJson {
    key: Base64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<Base64>,
    #[serde(default, skip_serializing_if = "is_false")]
    keep_value: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lease: Option<Decimal>,
    #[serde(default, skip_serializing_if = "is_false")]
    keep_lease: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    want_previous: bool,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeleteJson {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<Base64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    range_end: Option<Base64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prefix: Option<Base64>,
    #[serde(default, skip_serializing_if = "is_false")]
    from_key: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    want_previous: bool,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RangeJson {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<Base64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    range_end: Option<Base64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prefix: Option<Base64>,
    #[serde(default, skip_serializing_if = "is_false")]
    from_key: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    limit: Option<Decimal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revision: Option<Decimal>,
    #[serde(default, skip_serializing_if = "is_false")]
    keys_only: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    count_only: bool,
}

/// What a transaction did, on the wire.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TxnOutcomeJson {
    succeeded: bool,
    #[serde(default)]
    operations: Vec<OperationOutcomeJson>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OperationOutcomeJson {
    Put {
        created: bool,
        previous: Option<PairJson>,
    },
    Delete {
        deleted: Decimal,
        #[serde(default)]
        previous: Vec<PairJson>,
    },
    Range {
        #[serde(default)]
        pairs: Vec<PairJson>,
        more: bool,
        count: Decimal,
    },
    Txn(TxnOutcomeJson),
}

/// The four ways to write a range.
struct RangeFields {
    key: Option<Base64>,
    range_end: Option<Base64>,
    prefix: Option<Base64>,
    from_key: bool,
}

impl RangeFields {
    fn into_range(self) -> Result<KeyRange, &'static str> {
        match self {
            Self { key: None, range_end: None, prefix: Some(prefix), from_key: false } => {
                Ok(KeyRange::prefix(prefix.0))
            }
            Self { key: Some(key), range_end: None, prefix: None, from_key: false } => {
                Ok(KeyRange::key(key.0))
            }
            Self { key: Some(key), range_end: Some(end), prefix: None, from_key: false } => {
                Ok(KeyRange { start: key.0, end: RangeEnd::Before(end.0) })
            }
            Self { key: Some(key), range_end: None, prefix: None, from_key: true } => {
                Ok(KeyRange { start: key.0, end: RangeEnd::Unbounded })
            }
            Self { .. } => Err(
                "a range is `key`, `key` and `range_end`, `key` and `from_key`, or `prefix` alone",
            ),
        }
    }

    fn from_range(range: &KeyRange) -> Self {
        let (range_end, from_key) = match &range.end {
            RangeEnd::Single => (None, false),
            RangeEnd::Before(end) => (Some(Base64(end.clone())), false),
            RangeEnd::Unbounded => (None, true),
        };
        Self { key: Some(Base64(range.start.clone())), range_end, prefix: None, from_key }
    }
}

impl TxnJson {
    /// `None` if the transaction holds what the wire form cannot say.
    pub(crate) fn from_txn(txn: &Txn) -> Option<Self> {
        let list = |operations: &[Operation]| -> Option<Vec<_>> {
            operations.iter().map(OperationJson::from_operation).collect()
        };
        Some(Self {
            compares: txn.compares.iter().map(CompareJson::from_compare).collect(),
            success: list(&txn.success)?,
            failure: list(&txn.failure)?,
        })
    }

    fn into_txn(self) -> Result<Txn, String> {
        let list = |operations: Vec<OperationJson>| -> Result<Vec<_>, String> {
            operations.into_iter().map(OperationJson::into_operation).collect()
        };
        Ok(Txn {
            compares: self
                .compares
                .into_iter()
                .map(CompareJson::into_compare)
                .collect::<Result<_, _>>()?,
            success: list(self.success)?,
            failure: list(self.failure)?,
        })
    }
}

impl CompareJson {
    fn into_compare(self) -> Result<Compare, String> {
        let Self { key, range_end, prefix, from_key, target, relation, operand } = self;
        let number = || {
            operand.parse::<i64>().map_err(|_not_a_number| {
                format!("the operand '{operand}' of a compare is not a decimal number")
            })
        };
        let operand = match target {
            TargetJson::Version => Operand::Version(number()?),
            TargetJson::CreateRevision => Operand::CreateRevision(number()?),
            TargetJson::ModRevision => Operand::ModRevision(number()?),
            TargetJson::Lease => Operand::Lease(number()?),
            TargetJson::Value => {
                let text = serde_json::Value::String(operand);
                let value: Base64 =
                    serde_json::from_value(text).map_err(|error| error.to_string())?;
                Operand::Value(value.0)
            }
        };
        let relation = match relation {
            RelationJson::Equal => Relation::Equal,
            RelationJson::NotEqual => Relation::NotEqual,
            RelationJson::Greater => Relation::Greater,
            RelationJson::Less => Relation::Less,
        };
        let range = RangeFields { key, range_end, prefix, from_key }.into_range()?;
        Ok(Compare { range, relation, operand })
    }

    fn from_compare(compare: &Compare) -> Self {
        let RangeFields { key, range_end, prefix, from_key } =
            RangeFields::from_range(&compare.range);
        let (target, operand) = match &compare.operand {
            Operand::Version(number) => (TargetJson::Version, number.to_string()),
            Operand::CreateRevision(number) => (TargetJson::CreateRevision, number.to_string()),
            Operand::ModRevision(number) => (TargetJson::ModRevision, number.to_string()),
            Operand::Lease(number) => (TargetJson::Lease, number.to_string()),
            Operand::Value(value) => {
                let serde_json::Value::String(text) = to_value(&Base64(value.clone())) else {
                    unreachable!("base64 is written as a string")
                };
                (TargetJson::Value, text)
            }
        };
        let relation = match compare.relation {
            Relation::Equal => RelationJson::Equal,
            Relation::NotEqual => RelationJson::NotEqual,
            Relation::Greater => RelationJson::Greater,
            Relation::Less => RelationJson::Less,
        };
        Self { key, range_end, prefix, from_key, target, relation, operand }
    }
}

impl OperationJson {
    fn into_operation(self) -> Result<Operation, String> {
        Ok(match self {
            Self::Put(put) => Operation::Put(put.into_put()?),
            Self::Delete(DeleteJson { key, range_end, prefix, from_key, want_previous }) => {
                let range = RangeFields { key, range_end, prefix, from_key }.into_range()?;
                Operation::Delete(Delete { range, want_previous })
            }
            Self::Range(json) => {
                let RangeJson { key, range_end, prefix, from_key, .. } = json;
                let range = RangeFields { key, range_end, prefix, from_key }.into_range()?;
                Operation::Range(RangeQuery {
                    revision: json.revision.unwrap_or_default().0,
                    limit: json.limit.unwrap_or_default().0,
                    keys_only: json.keys_only,
                    count_only: json.count_only,
                    ..RangeQuery::new(range)
                })
            }
            Self::Txn(txn) => Operation::Txn(txn.into_txn()?),
        })
    }

    fn from_operation(operation: &Operation) -> Option<Self> {
        Some(match operation {
            Operation::Put(put) => Self::Put(PutJson::from_put(put)),
            Operation::Delete(delete) => {
                let RangeFields { key, range_end, prefix, from_key } =
                    RangeFields::from_range(&delete.range);
                let want_previous = delete.want_previous;
                Self::Delete(DeleteJson { key, range_end, prefix, from_key, want_previous })
            }
            Operation::Range(query) => {
                let RangeFields { key, range_end, prefix, from_key } =
                    RangeFields::from_range(&query.range);
                let sayable = RangeQuery {
                    revision: query.revision,
                    limit: query.limit,
                    keys_only: query.keys_only,
                    count_only: query.count_only,
                    ..RangeQuery::new(query.range.clone())
                };
                if *query != sayable {
                    return None;
                }
                Self::Range(RangeJson {
                    key,
                    range_end,
                    prefix,
                    from_key,
                    limit: (query.limit != 0).then_some(Decimal(query.limit)),
                    revision: (query.revision != 0).then_some(Decimal(query.revision)),
                    keys_only: query.keys_only,
                    count_only: query.count_only,
                })
            }
            Operation::Txn(txn) => Self::Txn(TxnJson::from_txn(txn)?),
        })
    }
}

impl PutJson {
    fn into_put(self) -> Result<Put, &'static str> {
        let value = match (self.value, self.keep_value) {
            (Some(value), false) => Some(value.0),
            (None, true) => None,
            (Some(_), true) | (None, false) => {
                return Err("a put has either `value` or `\"keep_value\": true`");
            }
        };
        let lease = match (self.lease, self.keep_lease) {
            (lease, false) => Some(lease.unwrap_or_default().0),
            (None, true) => None,
            (Some(_), true) => return Err("a put has either `lease` or `\"keep_lease\": true`"),
        };
        Ok(Put { key: self.key.0, value, lease, want_previous: self.want_previous })
    }

    fn from_put(put: &Put) -> Self {
        Self {
            key: Base64(put.key.clone()),
            value: put.value.clone().map(Base64),
            keep_value: put.value.is_none(),
            lease: put.lease.filter(|lease| *lease != 0).map(Decimal),
            keep_lease: put.lease.is_none(),
            want_previous: put.want_previous,
        }
    }
}

impl From<TxnOutcomeJson> for TxnOutcome {
    fn from(json: TxnOutcomeJson) -> Self {
        let operation = |operation| match operation {
            OperationOutcomeJson::Put { created, previous } => OperationOutcome::Put(PutOutcome {
                created,
                previous: previous.map(KeyValue::from),
            }),
            OperationOutcomeJson::Delete { deleted, previous } => {
                OperationOutcome::Deleted(DeleteOutcome {
                    deleted: deleted.0,
                    previous: pairs(previous),
                })
            }
            OperationOutcomeJson::Range { pairs: found, more, count } => {
                OperationOutcome::Range(RangeAnswer { pairs: pairs(found), more, count: count.0 })
            }
            OperationOutcomeJson::Txn(nested) => OperationOutcome::Txn(Self::from(nested)),
        };
        Self {
            succeeded: json.succeeded,
            operations: json.operations.into_iter().map(operation).collect(),
        }
    }
}

impl From<&TxnOutcome> for TxnOutcomeJson {
    fn from(outcome: &TxnOutcome) -> Self {
        let all = |pairs: &[KeyValue]| pairs.iter().map(PairJson::from).collect();
        let operation = |operation: &OperationOutcome| match operation {
            OperationOutcome::Put(put) => OperationOutcomeJson::Put {
                created: put.created,
                previous: put.previous.as_ref().map(PairJson::from),
            },
            OperationOutcome::Deleted(delete) => OperationOutcomeJson::Delete {
                deleted: Decimal(delete.deleted),
                previous: all(&delete.previous),
            },
            OperationOutcome::Range(range) => OperationOutcomeJson::Range {
                pairs: all(&range.pairs),
                more: range.more,
                count: Decimal(range.count),
            },
            OperationOutcome::Txn(nested) => OperationOutcomeJson::Txn(Self::from(nested)),
        };
        Self {
            succeeded: outcome.succeeded,
            operations: outcome.operations.iter().map(operation).collect(),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands fields over by reference")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const DOCUMENTED: &str = r#"{
      "compares": [{"key": "YQ==", "target": "mod_revision", "relation": "equal", "operand": "7"}],
      "success": [{"put": {"key": "YQ==", "value": "Mg==", "lease": "0", "want_previous": false}}],
      "failure": [{"range": {"key": "YQ=="}}]
    }"#;

    fn everything() -> Txn {
        let key = |text: &'static str| Bytes::from_static(text.as_bytes());
        let compare = |operand| Compare {
            range: KeyRange { start: key("a"), end: RangeEnd::Unbounded },
            relation: Relation::NotEqual,
            operand,
        };
        let keep = Put { key: key("k"), value: None, lease: None, want_previous: true };
        let write =
            Put { key: key("l"), value: Some(key("v")), lease: Some(9), want_previous: false };
        let delete = Delete { range: KeyRange::prefix(key("p")), want_previous: true };
        let mut range = RangeQuery::new(KeyRange::key(key("a")));
        (range.revision, range.limit, range.keys_only) = (3, 4, true);
        Txn {
            compares: vec![
                compare(Operand::Version(1)),
                compare(Operand::CreateRevision(-2)),
                compare(Operand::ModRevision(3)),
                compare(Operand::Lease(4)),
                compare(Operand::Value(key("v"))),
            ],
            success: vec![Operation::Put(keep), Operation::Put(write), Operation::Delete(delete)],
            failure: vec![Operation::Txn(Txn {
                compares: Vec::new(),
                success: vec![Operation::Range(range)],
                failure: Vec::new(),
            })],
        }
    }

    #[test]
    fn the_documented_transaction_is_understood() {
        let txn = txn_from_json(DOCUMENTED.as_bytes()).expect("reads");
        assert_eq!(txn.compares[0].operand, Operand::ModRevision(7));
        let Operation::Put(put) = &txn.success[0] else { panic!("a put") };
        assert_eq!((&put.key[..], put.value.as_deref()), (&b"a"[..], Some(&b"2"[..])));
        assert_eq!(put.lease, Some(0));
        assert!(matches!(&txn.failure[0], Operation::Range(query) if query.range.start == "a"));
    }

    #[test]
    fn every_kind_of_operation_and_condition_goes_there_and_back() {
        let json = TxnJson::from_txn(&everything()).expect("can be said");
        let text = serde_json::to_vec(&json).expect("writes");
        assert_eq!(txn_from_json(&text).expect("reads"), everything());
    }

    #[test]
    fn a_sorted_read_cannot_be_said() {
        let mut query = RangeQuery::new(KeyRange::all());
        query.min_mod_revision = 7;
        let txn = Txn {
            compares: Vec::new(),
            success: vec![Operation::Range(query)],
            failure: Vec::new(),
        };
        assert!(TxnJson::from_txn(&txn).is_none());
    }

    #[test]
    fn bad_transactions_are_refused_with_the_reason() {
        for (text, expected) in [
            (r#"{"compare": []}"#, "unknown field `compare`"),
            (r#"{"success": [{"put": {"key": "YQ=="}}]}"#, "either `value`"),
            (
                r#"{"success": [{"put": {"key": "YQ==", "value": "", "lease": "1", "keep_lease": true}}]}"#,
                "either `lease`",
            ),
            (r#"{"success": [{"delete": {}}]}"#, "a range is"),
            (r#"{"success": [{"range": {"key": "YQ==", "prefix": "YQ=="}}]}"#, "a range is"),
            (r#"{"success": [{"range": {"key": "a"}}]}"#, "not standard base64"),
            (
                r#"{"compares": [{"key": "YQ==", "target": "version", "relation": "equal", "operand": "x"}]}"#,
                "'x' of a compare is not a decimal",
            ),
            ("{\n  \"success\": [,]}", "line 2 column"),
        ] {
            let error = txn_from_json(text.as_bytes()).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn the_documented_outcomes_are_understood_and_written_again() {
        let text = r#"{"succeeded":true,"operations":[{"put":{"created":false,"previous":null}},{"delete":{"deleted":"1","previous":[]}},{"range":{"pairs":[],"more":false,"count":"0"}},{"txn":{"succeeded":true,"operations":[]}}]}"#;
        let json: TxnOutcomeJson = serde_json::from_str(text).expect("reads");
        let outcome = TxnOutcome::from(json);
        assert!(outcome.succeeded);
        assert_eq!(outcome.operations.len(), 4);
        let again = serde_json::to_string(&TxnOutcomeJson::from(&outcome)).expect("writes");
        assert_eq!(again, text);
    }
}
