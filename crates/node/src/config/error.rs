//! Configuration that cannot be used: which option, where it stands, and why.

use std::path::PathBuf;

/// A configuration that cannot be used. The node has done nothing yet.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration file {} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the OS says.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{}, line {line}, column {column}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line of the mistake, from 1.
        line: usize,
        /// Column of the mistake in characters, from 1.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// A key that no option has.
    #[error("{}, line {line}: there is no option {key:?}{}", path.display(), suggestion.map_or_else(String::new, |name| format!("; did you mean {name:?}?")))]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// Line of the key, from 1.
        line: usize,
        /// The key.
        key: String,
        /// The option that looks most like it.
        suggestion: Option<&'static str>,
    },
    /// A value of another type than the option has.
    #[error("{}, line {line}: {key:?} must be {wanted}, not {found}", path.display())]
    WrongType {
        /// The file.
        path: PathBuf,
        /// Line of the value, from 1.
        line: usize,
        /// The key.
        key: &'static str,
        /// What the option wants, with its article.
        wanted: &'static str,
        /// What was found.
        found: String,
    },
    /// An environment variable that cannot be used.
    #[error("the environment variable {variable} cannot be {value:?}: {why}")]
    Environment {
        /// The variable.
        variable: String,
        /// Its value.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// A value that cannot be used, wherever it came from.
    #[error("the option {option} cannot be {value:?}: {why}")]
    Invalid {
        /// The option's name.
        option: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl ConfigError {
    pub(super) fn invalid(option: &'static str, value: &str, why: &'static str) -> Self {
        Self::Invalid { option, value: value.to_owned(), why }
    }
}
