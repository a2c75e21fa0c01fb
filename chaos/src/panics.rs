//! Panics of simulated nodes: kept for the report instead of printed.
//!
//! A node that panics takes its simulated machine down with it, and that may panic once more while
//! the first panic unwinds, which ends the process; then both are printed after all.

use std::sync::{Mutex, PoisonError};

static FIRST: Mutex<Option<String>> = Mutex::new(None);

/// Keeps panics from the screen from now on; [`take`] tells what they said.
pub fn keep() {
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.to_string().replace('\n', " ");
        let mut first = FIRST.lock().unwrap_or_else(PoisonError::into_inner);
        // The standard library's words for a panic inside a panic; there is no stable way to ask.
        if text.contains("panic in a destructor") || text.contains("cannot unwind") {
            print(first.as_deref().unwrap_or_default());
            print(&text);
        }
        first.get_or_insert(text);
    }));
}

/// What the first panic since the last call said, and where it was.
#[must_use]
pub fn take() -> Option<String> {
    FIRST.lock().unwrap_or_else(PoisonError::into_inner).take()
}

#[expect(clippy::print_stderr, reason = "the last words of a process that is about to abort")]
fn print(text: &str) {
    eprintln!("{text}");
}
