//! Why a folder is not opened.
//!
//! Each message says what was found, that nothing was changed, and what to do.

use std::io;

use crate::{
    damage::{Damage, DamageKind},
    entry::LogPosition,
    failure::is_full,
    identity::ForeignFile,
};

/// A folder that this node must not run on, and why.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk refuses a call.
    #[error("cannot {action} {file}")]
    File {
        /// What was tried: a verb.
        action: &'static str,
        /// The file's name.
        file: String,
        /// What the disk says.
        #[source]
        source: io::Error,
    },
    /// There is no room for the segment or the vote that a start writes.
    #[error("no room to {action} {file}; free some space and start again, nothing was lost")]
    NoRoom {
        /// What was tried: a verb.
        action: &'static str,
        /// The file's name.
        file: String,
        /// What the disk says.
        #[source]
        source: io::Error,
    },
    /// A file of another node, cluster or epoch, of a newer format, or of another program.
    #[error("{file} cannot be used; nothing was changed, {}", source.advice())]
    Foreign {
        /// The file's name.
        file: String,
        /// What is wrong with it.
        #[source]
        source: ForeignFile,
    },
    /// A file that was once sound is not any more.
    #[error(
        "{file} is damaged at byte {offset} and acknowledged writes may be missing; nothing was \
         changed, keep the folder aside and let this node join again with an empty one"
    )]
    Damaged {
        /// The file's name.
        file: String,
        /// Where in the file, in bytes.
        offset: u64,
        /// What is wrong there.
        #[source]
        source: Damage,
    },
    /// A file that must be there is not.
    #[error(
        "the folder has no {missing} though it has {present}; a file was removed or lost, keep \
         the folder aside and let this node join again with an empty one"
    )]
    Missing {
        /// What is missing.
        missing: &'static str,
        /// What proves that it was there.
        present: &'static str,
    },
    /// The oldest segments are gone and no snapshot covers what was in them.
    #[error(
        "the log begins after {purged}, but the snapshot covers {}; a file was removed or lost, \
         keep the folder aside and let this node join again with an empty one",
        covered.map_or_else(|| "nothing".to_owned(), |covered| covered.to_string())
    )]
    BeginningMissing {
        /// Where the log begins.
        purged: LogPosition,
        /// What the newest snapshot covers.
        covered: Option<LogPosition>,
    },
}

impl OpenError {
    pub(crate) fn file(action: &'static str, file: &str, source: io::Error) -> Self {
        let file = file.to_owned();
        if is_full(&source) {
            Self::NoRoom { action, file, source }
        } else {
            Self::File { action, file, source }
        }
    }

    pub(crate) fn foreign(file: &str, source: ForeignFile) -> Self {
        Self::Foreign { file: file.to_owned(), source }
    }

    pub(crate) fn damaged(file: &str, offset: u64, damage: DamageKind) -> Self {
        Self::Damaged { file: file.to_owned(), offset, source: Damage(damage) }
    }
}
