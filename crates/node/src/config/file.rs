//! The configuration file: flat TOML, one key an option.
//!
//! It is read by hand from the parser's tree, not derived: every mistake is answered with the
//! file, the line, the key and what was expected there.

use std::path::Path;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{ConfigError, Options};

/// What kind of value an option's key has in the file.
enum Kind {
    Text,
    Number,
    List,
}

impl Kind {
    fn of(name: &str) -> Self {
        match name {
            "quota_bytes" | "join_timeout_ms" | "watch_progress_interval_ms" => Self::Number,
            "advertise_client_urls" | "bootstrap" => Self::List,
            _ => Self::Text,
        }
    }

    const fn wanted(&self) -> &'static str {
        match self {
            Self::Text => "a string",
            Self::Number => "a whole number that is not negative",
            Self::List => "a list of strings",
        }
    }
}

impl Options {
    /// Reads the configuration file at `path`.
    ///
    /// # Errors
    /// [`ConfigError`]: unreadable, not TOML, an unknown key, a wrong type, an unknown choice.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_path_buf(), source })?;
        Self::from_toml(&text, path)
    }

    /// Reads the text of a configuration file; `path` is for messages.
    ///
    /// # Errors
    /// As [`Options::from_file`].
    pub fn from_toml(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let table = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(text.len(), |span| span.start);
            let (line, column) = line_and_column(text, at);
            let message = error.message().trim_end_matches('.').to_owned();
            ConfigError::Syntax { path: path.to_path_buf(), line, column, message }
        })?;
        let mut options = Self::default();
        for (key, value) in table.get_ref() {
            let line = line_and_column(text, key.span().start).0;
            let Some(name) = Self::NAMES.iter().copied().find(|name| *name == key.get_ref()) else {
                let key = key.get_ref().to_string();
                let suggestion = nearest(&key);
                return Err(ConfigError::UnknownKey {
                    path: path.to_path_buf(),
                    line,
                    key,
                    suggestion,
                });
            };
            let wrong = |wanted, found| ConfigError::WrongType {
                path: path.to_path_buf(),
                line: line_and_column(text, value.span().start).0,
                key: name,
                wanted,
                found,
            };
            options.set_value(name, value).map_err(|(wanted, found)| wrong(wanted, found))?;
        }
        Ok(options)
    }

    /// Sets the option `name`; the error says what was wanted and what was found.
    fn set_value(
        &mut self,
        name: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<(), (&'static str, String)> {
        let kind = Kind::of(name);
        let wrong = |found: &DeValue<'_>| (kind.wanted(), describe(found));
        let text = match (&kind, value.get_ref()) {
            (Kind::Text, DeValue::String(text)) => text.to_string(),
            (Kind::Number, DeValue::Integer(number)) => {
                let digits = number.as_str();
                u64::from_str_radix(digits, number.radix())
                    .map_err(|_error| (kind.wanted(), digits.to_owned()))?
                    .to_string()
            }
            (Kind::List, DeValue::Array(parts)) => {
                let parts = parts.iter().map(|part| match part.get_ref() {
                    DeValue::String(text) => Ok(text.as_ref()),
                    other => Err(wrong(other)),
                });
                parts.collect::<Result<Vec<_>, _>>()?.join(",")
            }
            // A list of one may be written as a string, as in a flag.
            (Kind::List, DeValue::String(text)) => text.to_string(),
            (_, other) => return Err(wrong(other)),
        };
        let choices = match name {
            "profile" => "\"lan\" or \"wan\"",
            "log_format" => "\"text\" or \"json\"",
            _ => "\"current_thread\" or \"multi_thread\"",
        };
        self.set_text(name, &text).map_err(|_why| (choices, format!("{text:?}")))
    }
}

fn describe(value: &DeValue<'_>) -> String {
    let article = match value {
        DeValue::Integer(_) | DeValue::Array(_) => "an",
        _ => "a",
    };
    format!("{article} {}", value.type_str())
}

/// Line and column, both from 1, of the byte `at`.
fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let mut end = at.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = &text[..end];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// The option whose name is within two edits of `key`, dashes counted as underscores.
fn nearest(key: &str) -> Option<&'static str> {
    let key = key.replace('-', "_").to_ascii_lowercase();
    Options::NAMES
        .iter()
        .map(|name| (edits(&key, name), *name))
        .min()
        .filter(|(distance, _name)| *distance <= 2)
        .map(|(_distance, name)| name)
}

/// Edit distance (Levenshtein 1966), one row at a time.
fn edits(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (at, left_byte) in left.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (column, right_byte) in right.bytes().enumerate() {
            let replaced = diagonal + usize::from(left_byte != right_byte);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}
