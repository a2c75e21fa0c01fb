//! Files as a reader finds them that shares nothing with the writer.

mod files;
mod reader;
