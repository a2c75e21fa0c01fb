//! The query of a request: strict, and bytes rather than text.
//!
//! Names that a route does not know, and names that come twice, are refused: a misspelt condition
//! must not be passed over. Values are percent-decoded to bytes; `+` stands for itself.

use base64::{
    Engine as _,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;

use crate::http::problem::Problem;

const ANY_PADDING: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_encode_padding(false);
const ANY_STANDARD: GeneralPurpose = GeneralPurpose::new(&STANDARD, ANY_PADDING);
/// Base64 for URLs, without padding.
pub(crate) const FOR_URLS: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, ANY_PADDING);

/// Most parameters of a request.
const PARAMETERS_MAX: usize = 32;

/// The parameters of one request, still encoded.
#[derive(Debug, Default)]
pub(crate) struct Query<'a> {
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Query<'a> {
    /// Splits `raw`, which may have only names in `known`.
    pub(crate) fn parse(raw: Option<&'a str>, known: &[&str]) -> Result<Self, Problem> {
        let mut parameters = Vec::new();
        for part in raw.unwrap_or_default().split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            if !known.contains(&name) {
                let why = if known.is_empty() {
                    "is not known: this route takes none".to_owned()
                } else {
                    format!("is not known here; the route takes {}", known.join(", "))
                };
                return Err(Problem::bad_parameter(name, &why));
            }
            if parameters.iter().any(|(other, _value)| *other == name) {
                return Err(Problem::bad_parameter(name, "is given twice"));
            }
            if parameters.len() == PARAMETERS_MAX {
                return Err(Problem::bad_parameter(name, "is one too many"));
            }
            parameters.push((name, value));
        }
        Ok(Self { parameters })
    }

    /// Splits `raw` as the probes of others send it: whatever they say is kept, and passed over if
    /// nobody asks for it. A probe that is refused for a word too many would have a healthy node
    /// restarted.
    pub(crate) fn of_probe(raw: Option<&'a str>) -> Self {
        let parts = raw.unwrap_or_default().split('&').filter(|part| !part.is_empty());
        let parameters = parts.map(|part| part.split_once('=').unwrap_or((part, "")));
        Self { parameters: parameters.take(PARAMETERS_MAX).collect() }
    }

    /// Words of a parameter that may come several times, and holds several between commas.
    pub(crate) fn words(&self, name: &str) -> impl Iterator<Item = &'a str> {
        let values = self.parameters.iter().filter(move |(other, _value)| *other == name);
        values.flat_map(|(_name, value)| value.split(',')).filter(|word| !word.is_empty())
    }

    /// The value of `name` as it was sent.
    fn raw(&self, name: &str) -> Option<&'a str> {
        self.parameters.iter().find(|(other, _value)| *other == name).map(|(_name, value)| *value)
    }

    /// A word, as it was sent.
    pub(crate) fn text(&self, name: &str) -> Option<&'a str> {
        self.raw(name)
    }

    /// Whether the parameter is there at all.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.raw(name).is_some()
    }

    /// The bytes of `name`, or of the parameter `name_base64`; both is a mistake.
    pub(crate) fn bytes(&self, name: &str, base64_name: &str) -> Result<Option<Bytes>, Problem> {
        match (self.raw(name), self.raw(base64_name)) {
            (Some(_), Some(_)) => Err(Problem::bad_parameter(
                base64_name,
                &format!("and {name:?} exclude each other"),
            )),
            (Some(value), None) => percent_decode(value).map(Some).map_err(|_malformed| {
                Problem::bad_parameter(name, "has a % that is not followed by two hex digits")
            }),
            (None, Some(_)) => self.base64(base64_name),
            (None, None) => Ok(None),
        }
    }

    /// The bytes of a parameter in base64, of either alphabet, padded or not.
    pub(crate) fn base64(&self, name: &str) -> Result<Option<Bytes>, Problem> {
        let Some(value) = self.raw(name) else { return Ok(None) };
        percent_decode(value)
            .ok()
            .and_then(|value| {
                let standard = ANY_STANDARD.decode(&value).ok();
                standard.or_else(|| FOR_URLS.decode(&value).ok())
            })
            .map(|decoded| Some(Bytes::from(decoded)))
            .ok_or_else(|| Problem::bad_parameter(name, "is not base64"))
    }

    /// A number.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Problem> {
        self.raw(name)
            .map(|value| {
                value
                    .parse()
                    .map_err(|_error| Problem::bad_parameter(name, "is not a whole number"))
            })
            .transpose()
    }

    /// How many of `what` are asked for: `default` if nothing says it, at most `max`.
    pub(crate) fn limit(&self, what: &str, default: usize, max: u64) -> Result<usize, Problem> {
        match self.number("limit")? {
            None => Ok(default),
            Some(limit) if limit <= max => Ok(usize::try_from(limit).unwrap_or(usize::MAX)),
            Some(_) => Err(Problem::bad_parameter("limit", &format!("is 0 to {max} {what}"))),
        }
    }

    /// `true` or `false`; the name alone is true.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.raw(name) {
            None | Some("false") => Ok(false),
            Some("" | "true") => Ok(true),
            Some(_) => Err(Problem::bad_parameter(name, "is neither true nor false")),
        }
    }

    /// One of some words, and its place among them.
    pub(crate) fn choice(&self, name: &str, words: &[&str]) -> Result<Option<usize>, Problem> {
        let Some(value) = self.raw(name) else { return Ok(None) };
        match words.iter().position(|word| *word == value) {
            Some(at) => Ok(Some(at)),
            None => Err(Problem::bad_parameter(name, &format!("is one of {}", words.join(", ")))),
        }
    }
}

/// A `%` without two hex digits after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The bytes that `raw` stands for (RFC 3986, 2.1).
pub(crate) fn percent_decode(raw: &str) -> Result<Bytes, Malformed> {
    let Some(first) = raw.find('%') else { return Ok(Bytes::copy_from_slice(raw.as_bytes())) };
    let mut decoded = Vec::with_capacity(raw.len());
    decoded.extend_from_slice(&raw.as_bytes()[..first]);
    let mut rest = &raw.as_bytes()[first..];
    while let Some((byte, after)) = rest.split_first() {
        if *byte != b'%' {
            decoded.push(*byte);
            rest = after;
            continue;
        }
        let Some((digits, after)) = after.split_first_chunk::<2>() else { return Err(Malformed) };
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let (Some(high), Some(low)) = (digit(digits[0]), digit(digits[1])) else {
            return Err(Malformed);
        };
        decoded.push(u8::try_from(high * 16 + low).map_err(|_error| Malformed)?);
        rest = after;
    }
    Ok(Bytes::from(decoded))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_can_be_percent_encoded_and_a_stray_percent_is_refused() {
        for byte in 0..=255_u8 {
            let decoded = percent_decode(&format!("a%{byte:02X}%{byte:02x}/b")).expect("decodes");
            assert_eq!(decoded, [b"a", &[byte, byte][..], b"/b"].concat());
        }
        assert_eq!(percent_decode("a+b").expect("decodes"), "a+b");
        for raw in ["%", "a%1", "%zz", "%+1", "%1g"] {
            assert_eq!(percent_decode(raw), Err(Malformed), "{raw}");
        }
    }

    #[test]
    fn a_query_is_strict() {
        let known = ["revision", "prefix", "prefix_base64", "on"];
        let refused = |raw| {
            let query = Query::parse(Some(raw), &known)?;
            query.bytes("prefix", "prefix_base64")?;
            query.number("revision")?;
            query.flag("on")?;
            query.choice("on", &["true"])
        };
        for (raw, wanted) in [
            ("limit=3", "\"limit\" is not known here; the route takes revision, prefix"),
            ("on=true&on=true", "\"on\" is given twice"),
            ("revision=seven", "\"revision\" is not a whole number"),
            ("revision=-1", "\"revision\" is not a whole number"),
            ("on=yes", "\"on\" is neither true nor false"),
            ("prefix=%4", "\"prefix\" has a % that is not followed by two hex digits"),
            ("prefix=a&prefix_base64=YQ==", "exclude each other"),
            ("prefix_base64=%%%", "\"prefix_base64\" is not base64"),
        ] {
            let problem = refused(raw).expect_err(raw);
            assert_eq!(problem.code(), "bad_parameter");
            assert!(problem.detail().contains(wanted), "{raw}: {}", problem.detail());
        }
    }

    #[test]
    fn the_query_of_a_probe_may_say_anything() {
        let query = Query::of_probe(Some("exclude=a,b&verbose&other=%4&exclude=c&exclude=&=x"));
        assert_eq!(query.words("exclude").collect::<Vec<_>>(), ["a", "b", "c"]);
        assert!(query.has("verbose") && !query.has("none"));
        assert_eq!(Query::of_probe(None).words("exclude").count(), 0);
    }

    #[test]
    fn base64_comes_in_either_alphabet_with_or_without_padding() {
        for raw in ["b=--8=", "b=++8", "b=%2B%2B8%3D", "b=--8"] {
            let query = Query::parse(Some(raw), &["b"]).expect("parses");
            assert_eq!(query.base64("b").expect("decodes").expect("is there"), [0xfb, 0xef][..]);
        }
        let query = Query::parse(Some("b="), &["b"]).expect("parses");
        assert_eq!(query.base64("b").expect("decodes").expect("is there"), "");
    }
}
