//! Writing to standard output: exact bytes, and an orderly end when the reader goes away.
//!
//! `println!` panics when the reader of a pipe has gone; here that is an error like any other,
//! which the program takes for a reason to stop quietly.

use std::io::{self, BufWriter, ErrorKind, Write};

use serde::Serialize;

/// Buffered standard output; flushed by [`Screen::finish`].
pub(crate) struct Screen(BufWriter<io::StdoutLock<'static>>);

impl Screen {
    pub(crate) fn new() -> Self {
        Self(BufWriter::new(io::stdout().lock()))
    }

    /// Writes one JSON document and ends the line.
    pub(crate) fn json(&mut self, document: &impl Serialize) -> anyhow::Result<()> {
        serde_json::to_writer(&mut self.0, document).map_err(io::Error::from)?;
        Ok(writeln!(self.0)?)
    }

    /// Shows everything that was written.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        Ok(self.0.flush()?)
    }
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
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

/// Whether the error says that whoever read our output has gone.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}
