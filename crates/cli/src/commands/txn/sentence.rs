//! Transactions in short sentences.
//!
//! ```text
//! condition = target "(" word ")" relation word
//! target    = version | create_revision | mod_revision | lease | value
//! relation  = "=" | "!=" | "<" | ">"
//! operation = put word word [lease] | get word | get-prefix word | del word | del-prefix word
//! word      = characters without blanks, or "text in double quotes"
//! ```
//!
//! Inside quotes `\"` and `\\` are a quote and a backslash. What cannot be said here (other
//! ranges, nesting, keys that are no text) can be said in JSON.

use bytes::Bytes;
use mainstay_client::RangeQuery;
use mainstay_client::command::{Compare, Delete, KeyRange, Operand, Operation, Put, Relation};

const CONDITION: &str = "a condition is TARGET(KEY) RELATION VALUE, as in 'version(lock) = 0'";
const TARGETS: &str = "the target is version, create_revision, mod_revision, lease or value";

pub(super) fn parse_condition(text: &str) -> Result<Compare, String> {
    let wrong = || CONDITION.to_owned();
    let (target, rest) = text.split_once('(').ok_or_else(wrong)?;
    let (key, rest) = take_word(rest, |character| character == ')')?.ok_or_else(wrong)?;
    let rest = rest.trim_start().strip_prefix(')').ok_or_else(wrong)?.trim_start();
    let relations = [
        ("!=", Relation::NotEqual),
        ("=", Relation::Equal),
        ("<", Relation::Less),
        (">", Relation::Greater),
    ];
    let (relation, rest) = relations
        .into_iter()
        .find_map(|(sign, relation)| Some((relation, rest.strip_prefix(sign)?)))
        .ok_or_else(|| "the relation is =, !=, < or >".to_owned())?;
    let (operand, rest) = take_word(rest, char::is_whitespace)?.ok_or_else(wrong)?;
    if !rest.trim().is_empty() {
        return Err(format!("'{}' is too much; {CONDITION}", rest.trim()));
    }
    let number =
        || operand.parse::<i64>().map_err(|_not_a_number| format!("'{operand}' is not a number"));
    let operand = match target.trim() {
        "version" => Operand::Version(number()?),
        "create_revision" => Operand::CreateRevision(number()?),
        "mod_revision" => Operand::ModRevision(number()?),
        "lease" => Operand::Lease(number()?),
        "value" => Operand::Value(Bytes::from(operand)),
        _ => return Err(TARGETS.to_owned()),
    };
    Ok(Compare { range: KeyRange::key(Bytes::from(key)), relation, operand })
}

pub(super) fn parse_operation(text: &str) -> Result<Operation, String> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some((word, after)) = take_word(rest, char::is_whitespace)? {
        words.push(word);
        rest = after;
    }
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let key = |word: &str| KeyRange::key(Bytes::from(word.to_owned()));
    let prefix = |word: &str| KeyRange::prefix(Bytes::from(word.to_owned()));
    let delete = |range| Operation::Delete(Delete { range, want_previous: false });
    let put = |key: &str, value: &str, lease: u64| {
        Operation::Put(Put {
            key: Bytes::from(key.to_owned()),
            value: Some(Bytes::from(value.to_owned())),
            lease: Some(lease),
            want_previous: false,
        })
    };
    match words[..] {
        ["put", key, value] => Ok(put(key, value, 0)),
        ["put", key, value, lease] => {
            let lease = lease.parse().map_err(|_not_a_number| format!("'{lease}' is no lease"))?;
            Ok(put(key, value, lease))
        }
        ["get", word] => Ok(Operation::Range(RangeQuery::new(key(word)))),
        ["get-prefix", word] => Ok(Operation::Range(RangeQuery::new(prefix(word)))),
        ["del", word] => Ok(delete(key(word))),
        ["del-prefix", word] if !word.is_empty() => Ok(delete(prefix(word))),
        _ => Err("an operation is put KEY VALUE [LEASE], get KEY, get-prefix PREFIX, del KEY or \
            del-prefix PREFIX"
            .to_owned()),
    }
}

/// The first word of `text`, which ends before a character that `ends`, and what follows it.
fn take_word(text: &str, ends: impl Fn(char) -> bool) -> Result<Option<(String, &str)>, String> {
    let text = text.trim_start();
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|character: char| ends(character)).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        let word = word.trim_end();
        return Ok((!word.is_empty()).then(|| (word.to_owned(), rest)));
    };
    let mut word = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok(Some((word, &quoted[at + 1..]))),
            '\\' => match characters.next() {
                Some((_, escaped @ ('"' | '\\'))) => word.push(escaped),
                _ => return Err("inside quotes only \\\" and \\\\ are escaped".to_owned()),
            },
            other => word.push(other),
        }
    }
    Err("a quote is not closed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &'static str) -> KeyRange {
        KeyRange::key(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn conditions_are_understood() {
        for (text, range, relation, operand) in [
            ("version(lock) = 0", key("lock"), Relation::Equal, Operand::Version(0)),
            ("mod_revision(a/b)>7", key("a/b"), Relation::Greater, Operand::ModRevision(7)),
            ("create_revision( a ) < 3", key("a"), Relation::Less, Operand::CreateRevision(3)),
            ("lease(a) != 9", key("a"), Relation::NotEqual, Operand::Lease(9)),
            (
                r#"value("a (b)") = "x \"y\"""#,
                key("a (b)"),
                Relation::Equal,
                Operand::Value(Bytes::from_static(b"x \"y\"")),
            ),
            ("value(a) = \"\"", key("a"), Relation::Equal, Operand::Value(Bytes::new())),
        ] {
            assert_eq!(parse_condition(text), Ok(Compare { range, relation, operand }), "{text}");
        }
    }

    #[test]
    fn other_conditions_are_refused_with_the_reason() {
        for (text, expected) in [
            ("version", CONDITION),
            ("version() = 1", CONDITION),
            ("version(a = 1", CONDITION),
            ("version(a) =", CONDITION),
            ("version(a) ~ 1", "the relation is"),
            ("version(a) = x", "'x' is not a number"),
            ("age(a) = 1", TARGETS),
            ("version(a) = 1 2", "'2' is too much"),
            ("value(a) = \"x", "not closed"),
            ("value(a) = \"\\n\"", "only"),
        ] {
            let error = parse_condition(text).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn operations_are_understood() {
        let put = |value: &'static str, lease| {
            Operation::Put(Put {
                key: Bytes::from_static(b"a"),
                value: Some(Bytes::from_static(value.as_bytes())),
                lease: Some(lease),
                want_previous: false,
            })
        };
        let delete = |range| Operation::Delete(Delete { range, want_previous: false });
        for (text, operation) in [
            ("put a 1", put("1", 0)),
            ("put a \"1 2\" 77", put("1 2", 77)),
            ("put a \"\"", put("", 0)),
            ("  get   a ", Operation::Range(RangeQuery::new(key("a")))),
            ("get-prefix \"\"", Operation::Range(RangeQuery::new(KeyRange::all()))),
            ("del a", delete(key("a"))),
            ("del-prefix a/", delete(KeyRange::prefix(Bytes::from_static(b"a/")))),
        ] {
            assert_eq!(parse_operation(text), Ok(operation), "{text}");
        }
    }

    #[test]
    fn other_operations_are_refused() {
        for text in ["", "put a", "put a b c", "put a b 1 2", "get", "drop a", "del-prefix \"\""] {
            assert!(parse_operation(text).is_err(), "{text}");
        }
    }
}
