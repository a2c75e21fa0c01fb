//! Writing to standard output: exact bytes, and an orderly end when the reader goes away.
//!
//! `println!` panics when the reader of a pipe has gone; here that is an error like any other,
//! which the program takes for a reason to stop quietly. Every other failure to write is marked as
//! one ([`Unwritten`]): what was asked for is done by then, and the exit code must not deny it.

use std::io::{self, BufWriter, ErrorKind, Write};

use serde::Serialize;

/// Standard output does not take the answer. It travels inside of the `io::Error`, which keeps its
/// kind.
#[derive(Debug, thiserror::Error)]
#[error("the answer cannot be written to standard output: {0}")]
pub(crate) struct Unwritten(io::Error);

/// Buffered standard output; flushed by [`Screen::finish`].
pub(crate) struct Screen(BufWriter<io::StdoutLock<'static>>);

impl Screen {
    pub(crate) fn new() -> Self {
        Self(BufWriter::new(io::stdout().lock()))
    }

    /// Writes one JSON document and ends the line.
    pub(crate) fn json(&mut self, document: &impl Serialize) -> anyhow::Result<()> {
        serde_json::to_writer(&mut *self, document).map_err(io::Error::from)?;
        Ok(writeln!(self)?)
    }

    /// Shows everything that was written.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        Ok(self.flush()?)
    }
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(unwritten)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(unwritten)
    }
}

/// Writes one line to standard output at once.
pub(crate) fn line(text: &str) -> anyhow::Result<()> {
    let mut screen = Screen::new();
    writeln!(screen, "{text}")?;
    screen.finish()
}

/// Writes one line to standard error; there is nobody left to tell if that fails.
pub(crate) fn note(text: &str) {
    let _closed = writeln!(io::stderr().lock(), "{text}");
}

fn unwritten(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), Unwritten(error))
}

/// Whether the error says that whoever read our output has gone.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    is_unwritten(error)
        && error
            .downcast_ref()
            .is_some_and(|error: &io::Error| error.kind() == ErrorKind::BrokenPipe)
}

/// Whether the error says that standard output does not take what was written.
pub(crate) fn is_unwritten(error: &anyhow::Error) -> bool {
    let cause = error.downcast_ref().and_then(|error: &io::Error| error.get_ref());
    cause.is_some_and(|cause| cause.is::<Unwritten>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_standard_output_does_not_take_counts_as_unwritten() {
        let of = |kind: ErrorKind| anyhow::Error::from(unwritten(kind.into()));
        assert!(is_unwritten(&of(ErrorKind::StorageFull)));
        assert!(!is_closed_pipe(&of(ErrorKind::StorageFull)));
        assert!(is_closed_pipe(&of(ErrorKind::BrokenPipe)));
        // A connection that breaks is no reason to stop quietly.
        let connection = anyhow::Error::from(io::Error::from(ErrorKind::BrokenPipe));
        assert!(!is_unwritten(&connection) && !is_closed_pipe(&connection));
    }
}
