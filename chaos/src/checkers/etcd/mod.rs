//! What etcd's protocol promises beyond the native one.
//!
//! Streams of watchers are judged message by message, as they came; that no event is missing or
//! comes twice is judged with all other watches. Compaction is judged by what is refused because of
//! it, and refusals by their codes.

mod compaction;
mod previous;
mod status;
mod streams;

use super::{Violation, writes::Writes};
use crate::history::History;

/// Checks what came over etcd's protocol.
#[must_use]
pub fn check(history: &History) -> Vec<Violation> {
    let mut violations = streams::check(history);
    violations.extend(compaction::check(history));
    violations.extend(status::check(history));
    if !history.streamed.is_empty() {
        let (writes, _contradictions) = Writes::gather(history);
        violations.extend(previous::check(history, &writes));
    }
    violations
}
