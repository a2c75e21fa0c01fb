//! How JSON carries what it has no type for: 64-bit numbers as decimal strings, bytes as standard
//! base64 with padding. Answers may hold fields that this client does not know; requests may not.

use std::{borrow::Cow, fmt};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use mainstay_kv::query::KeyValue;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Visitor},
};

/// A 64-bit number, as a decimal string.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Decimal(pub(crate) u64);

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    /// Takes a JSON number too: people write them, and requests may hold them.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Decimal;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a decimal number of 64 bits")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Decimal, E> {
                Ok(Decimal(number))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Decimal, E> {
                text.parse().map(Decimal).map_err(|_not_a_number| {
                    E::custom(format_args!("'{text}' is not a decimal number of 64 bits"))
                })
            }
        }

        deserializer.deserialize_any(Text)
    }
}

/// How a 64-bit number travels that a public type holds bare.
pub(crate) mod decimal {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Decimal;

    pub(crate) fn serialize<S: Serializer>(number: &u64, to: S) -> Result<S::Ok, S::Error> {
        Decimal(*number).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        Decimal::deserialize(from).map(|number| number.0)
    }
}

/// The same for one that may be missing: null.
pub(crate) mod optional_decimal {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Decimal;

    pub(crate) fn serialize<S: Serializer>(number: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
        number.map(Decimal).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
        Ok(Option::<Decimal>::deserialize(from)?.map(|number| number.0))
    }
}

/// Bytes, as standard base64 with padding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Base64(pub(crate) Bytes);

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let decoded = STANDARD.decode(text.as_bytes());
        decoded.map(|bytes| Self(Bytes::from(bytes))).map_err(|error| {
            D::Error::custom(format_args!("'{text}' is not standard base64: {error}"))
        })
    }
}

/// A key with its value and its history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PairJson {
    key: Base64,
    /// Left out where only keys were asked for.
    #[serde(default)]
    value: Base64,
    create_revision: Decimal,
    mod_revision: Decimal,
    version: Decimal,
    #[serde(default)]
    lease: Decimal,
}

impl From<PairJson> for KeyValue {
    fn from(pair: PairJson) -> Self {
        Self {
            key: pair.key.0,
            value: pair.value.0,
            create_revision: pair.create_revision.0,
            mod_revision: pair.mod_revision.0,
            version: pair.version.0,
            lease: pair.lease.0,
        }
    }
}

impl From<&KeyValue> for PairJson {
    fn from(pair: &KeyValue) -> Self {
        Self {
            key: Base64(pair.key.clone()),
            value: Base64(pair.value.clone()),
            create_revision: Decimal(pair.create_revision),
            mod_revision: Decimal(pair.mod_revision),
            version: Decimal(pair.version),
            lease: Decimal(pair.lease),
        }
    }
}

/// A pair as the API writes it: base64 and decimal strings.
#[must_use]
pub fn pair_json(pair: &KeyValue) -> serde_json::Value {
    to_value(&PairJson::from(pair))
}

pub(crate) fn pairs(pairs: Vec<PairJson>) -> Vec<KeyValue> {
    pairs.into_iter().map(KeyValue::from).collect()
}

/// The bytes of a request body.
pub(crate) fn to_bytes(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).expect("the types of this crate have string keys and cannot fail")
}

/// The same as a value, for programs that print it.
pub(crate) fn to_value(body: &impl Serialize) -> serde_json::Value {
    serde_json::to_value(body).expect("the types of this crate have string keys and cannot fail")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_travels_as_the_api_page_shows_it() {
        let text = r#"{"key":"YQ==","value":"MQ==","create_revision":"2","mod_revision":"7","version":"3","lease":"18446744073709551615"}"#;
        let pair: PairJson = serde_json::from_str(text).expect("reads");
        let pair = KeyValue::from(pair);
        assert_eq!((&pair.key[..], &pair.value[..], pair.lease), (&b"a"[..], &b"1"[..], u64::MAX));
        assert_eq!(serde_json::to_string(&PairJson::from(&pair)).expect("writes"), text);
    }

    #[test]
    fn bare_numbers_travel_as_strings_too() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Bare {
            #[serde(with = "decimal")]
            id: u64,
            #[serde(with = "optional_decimal")]
            leader: Option<u64>,
        }
        for (bare, text) in [
            (Bare { id: u64::MAX, leader: None }, r#"{"id":"18446744073709551615","leader":null}"#),
            (Bare { id: 0, leader: Some(7) }, r#"{"id":"0","leader":"7"}"#),
        ] {
            assert_eq!(serde_json::to_string(&bare).expect("writes"), text);
            assert_eq!(serde_json::from_str::<Bare>(text).expect("reads"), bare);
        }
    }

    #[test]
    fn numbers_and_bytes_of_the_wrong_form_are_refused_with_the_text() {
        for (text, expected) in [
            (r#""-1""#, "'-1' is not a decimal number"),
            (r#""18446744073709551616""#, "is not a decimal number"),
            ("-7", "expected a decimal number"),
            ("true", "expected a decimal number"),
        ] {
            let error = serde_json::from_str::<Decimal>(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert_eq!(serde_json::from_str::<Decimal>("7").expect("a number"), Decimal(7));
        let error = serde_json::from_str::<Base64>(r#""a""#).expect_err("no base64").to_string();
        assert!(error.contains("'a' is not standard base64"), "{error}");
    }
}
