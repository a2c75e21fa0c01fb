//! How keys, values and numbers look in JSON: base64 and decimal strings.
//!
//! 64-bit numbers are strings because many JSON readers round them. Reading is strict about
//! fields; a number is also taken when it comes as a JSON number.

use std::{fmt::Write as _, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use mainstay_kv::KeyValue;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error, Unexpected, Visitor},
};

use crate::http::problem::Problem;

/// Bytes, as standard base64 with padding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Base64(pub(crate) Bytes);

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Base64;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("a string of base64 with padding")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Base64, E> {
                let bytes = STANDARD
                    .decode(text)
                    .map_err(|_error| E::invalid_value(Unexpected::Other("other text"), &self))?;
                Ok(Base64(Bytes::from(bytes)))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// A whole number that is not negative, as a decimal string.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Decimal(pub(crate) u64);

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrNumber;
        impl Visitor<'_> for TextOrNumber {
            type Value = Decimal;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("a whole number that is not negative, as a decimal string")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Decimal, E> {
                text.parse()
                    .map(Decimal)
                    .map_err(|_error| E::invalid_value(Unexpected::Str(text), &self))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Decimal, E> {
                Ok(Decimal(number))
            }
        }
        deserializer.deserialize_any(TextOrNumber)
    }
}

/// Reads a request's JSON; no bytes at all are an empty object.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let body = if body.is_empty() { b"{}" } else { body };
    let parsed = serde_json::from_slice(body).map_err(|error| {
        // serde_json ends its message with the place; it is said once, in front.
        let text = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        let why = in_words(text.strip_suffix(&place).unwrap_or(&text));
        Problem::bad_request(
            "malformed_json",
            format!("the JSON is wrong at line {}, column {}: {why}", error.line(), error.column()),
        )
    })?;
    // serde takes a list for the fields of an object in their order; people never mean that.
    if body.trim_ascii_start().starts_with(b"[") {
        let detail = "the JSON is wrong at line 1, column 1: a list, expected an object";
        return Err(Problem::bad_request("malformed_json", detail));
    }
    Ok(parsed)
}

/// serde's message without the names that things have in this program.
fn in_words(why: &str) -> String {
    let mut words = Vec::new();
    let mut rest = why.split(' ');
    while let Some(word) = rest.next() {
        words.push(match word {
            // The word that follows is the type's name.
            "struct" if words.last() == Some(&"expected") => match rest.next() {
                Some(_name) => "an object",
                None => word,
            },
            "u64" | "u32" | "u8" if words.last() == Some(&"expected") => {
                "a whole number that is not negative"
            }
            _ => word,
        });
    }
    words.join(" ")
}

/// Reads the body of a request that has nothing to say: no bytes, or an empty object.
pub(crate) fn parse_nothing(body: &[u8]) -> Result<(), Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}
    parse(body).map(|Nothing {}| ())
}

/// Writes a JSON document by hand, in order. Names and words are our own and need no escaping.
#[derive(Debug)]
pub(crate) struct Document(String);

impl Document {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self(String::with_capacity(bytes))
    }

    /// Appends text as it is.
    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.0.push_str(text);
        self
    }

    /// Appends `"name":"number"`.
    pub(crate) fn decimal(&mut self, name: &str, number: u64) -> &mut Self {
        let _infallible = write!(self.0, "\"{name}\":\"{number}\"");
        self
    }

    /// Appends `"name":number`.
    pub(crate) fn number(&mut self, name: &str, number: u64) -> &mut Self {
        let _infallible = write!(self.0, "\"{name}\":{number}");
        self
    }

    /// Appends `"name":number` in thousandths; null for what is no number.
    pub(crate) fn float(&mut self, name: &str, number: f64) -> &mut Self {
        let thousandths = (number * 1_000.0).round() / 1_000.0;
        let _infallible = if thousandths.is_finite() {
            write!(self.0, "\"{name}\":{thousandths}")
        } else {
            write!(self.0, "\"{name}\":null")
        };
        self
    }

    /// Appends a time in milliseconds, to the microsecond.
    pub(crate) fn duration_ms(&mut self, name: &str, duration: Duration) -> &mut Self {
        self.float(name, duration.as_secs_f64() * 1_000.0)
    }

    /// Appends `"name":true`.
    pub(crate) fn flag(&mut self, name: &str, flag: bool) -> &mut Self {
        let _infallible = write!(self.0, "\"{name}\":{flag}");
        self
    }

    /// Appends a string, escaped.
    pub(crate) fn string(&mut self, text: &str) -> &mut Self {
        self.0.push('"');
        for character in text.chars() {
            match character {
                '"' => self.0.push_str("\\\""),
                '\\' => self.0.push_str("\\\\"),
                control if control.is_control() => {
                    let _infallible = write!(self.0, "\\u{:04x}", u32::from(control));
                }
                other => self.0.push(other),
            }
        }
        self.0.push('"');
        self
    }

    /// Appends bytes as a string of base64.
    pub(crate) fn base64(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.push('"');
        STANDARD.encode_string(bytes, &mut self.0);
        self.0.push('"');
        self
    }

    /// Appends the members of a pair, without braces.
    pub(crate) fn pair_members(&mut self, pair: &KeyValue) -> &mut Self {
        self.text("\"key\":").base64(&pair.key).text(",\"value\":").base64(&pair.value);
        let KeyValue { create_revision, mod_revision, version, lease, .. } = pair;
        let _infallible = write!(
            self.0,
            ",\"create_revision\":\"{create_revision}\",\"mod_revision\":\"{mod_revision}\",\
             \"version\":\"{version}\",\"lease\":\"{lease}\"",
        );
        self
    }

    /// Appends a pair, or null.
    pub(crate) fn pair_or_null(&mut self, pair: Option<&KeyValue>) -> &mut Self {
        match pair {
            Some(pair) => self.text("{").pair_members(pair).text("}"),
            None => self.text("null"),
        }
    }

    /// Appends `[...]`, each item by `write`.
    pub(crate) fn list<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Self, T),
    ) -> &mut Self {
        self.0.push('[');
        for (at, item) in items.into_iter().enumerate() {
            if at > 0 {
                self.0.push(',');
            }
            write(self, item);
        }
        self.0.push(']');
        self
    }

    pub(crate) fn pairs(&mut self, pairs: &[KeyValue]) -> &mut Self {
        self.list(pairs, |document, pair| {
            document.pair_or_null(Some(pair));
        })
    }

    /// Bytes written so far.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn finish(self) -> Bytes {
        Bytes::from(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        #[serde(default)]
        key: Base64,
        #[serde(default)]
        revision: Decimal,
    }

    #[test]
    fn numbers_come_as_strings_or_numbers_and_keys_as_base64() {
        let wanted: Wanted =
            parse(br#"{"key":"YQ==","revision":"18446744073709551615"}"#).expect("parses");
        assert_eq!(wanted, Wanted { key: Base64("a".into()), revision: Decimal(u64::MAX) });
        let wanted: Wanted = parse(br#"{"revision":7}"#).expect("parses");
        assert_eq!(wanted.revision, Decimal(7));
        assert!(parse::<Wanted>(b"").is_ok());
    }

    #[test]
    fn fractions_have_three_digits_and_what_is_no_number_is_null() {
        for (number, written) in [
            (8.0, "8"),
            (8.254_6, "8.255"),
            (0.000_4, "0"),
            (300.0, "300"),
            (f64::INFINITY, "null"),
            (f64::NAN, "null"),
        ] {
            let mut document = Document::with_capacity(16);
            document.float("n", number);
            assert_eq!(document.finish(), format!("\"n\":{written}"));
        }
        let mut document = Document::with_capacity(16);
        document.duration_ms("t", Duration::from_nanos(1_234_567));
        assert_eq!(document.finish(), "\"t\":1.235");
    }

    #[test]
    fn mistakes_are_said_with_their_place() {
        for (body, wanted) in [
            ("{\n \"kye\": \"\"}", "line 2, column 6: unknown field `kye`"),
            (
                "{\"key\": \"a\"}",
                "line 1, column 11: invalid value: other text, expected a string of base64",
            ),
            ("{\"revision\": -1}", "line 1, column 15: "),
            ("{\"revision\": \"x\"}", "expected a whole number that is not negative"),
            ("{\"key\":", "line 1, column 7: EOF while parsing"),
            ("[] x", "line 1, column 4: trailing characters"),
            (" []", "line 1, column 1: a list, expected an object"),
            ("[\"YQ==\", 7]", "line 1, column 1: a list, expected an object"),
        ] {
            let problem = parse::<Wanted>(body.as_bytes()).expect_err(body);
            assert_eq!(problem.code(), "malformed_json");
            assert!(problem.detail().contains(wanted), "{body}: {}", problem.detail());
        }
    }
}
