//! The one binary, `mainstay`: nodes, clusters for trying out, and the client's commands.
//!
//! This crate parses, sets up, calls and prints. What a node is lives in `mainstay_node`, what a
//! client may do in `mainstay_client`; each command is one file that turns its arguments into calls
//! and the answers into text. Whatever goes wrong arrives here as one error, is printed once with
//! its whole chain of causes, and becomes an exit code that says whether anything took effect
//! (`exit.rs`).
//!
//! It is a library so that tests can ship the program under a name of their own; [`main`] is all
//! that it offers.
//!
//! Start reading at `arguments.rs`, then at any command.

mod arguments;
mod commands;
mod complaint;
mod encoding;
mod exit;
mod process;
mod screen;
mod table;

use std::process::ExitCode;

use clap::{
    FromArgMatches,
    builder::StyledStr,
    error::{ContextKind, ContextValue},
};

use crate::{
    arguments::Arguments,
    exit::{DoneUnseen, Exit},
};

/// Runs the program: parses the process's arguments, does what they say and prints what came of
/// it. The exit code is one of the documented ones, see `docs/cli.md`.
#[must_use]
pub fn main() -> ExitCode {
    let matches = arguments::command_line().try_get_matches().unwrap_or_else(|error| refuse(error));
    let parsed = Arguments::from_arg_matches(&matches);
    let arguments = parsed.unwrap_or_else(|error| refuse(error));
    if let Some(misplaced) = arguments.misplaced(&matches) {
        misplaced.exit();
    }
    let output = arguments.cluster.output;
    let changes = arguments.command.changes_something();
    let exit = match commands::run(arguments) {
        Ok(exit) => exit,
        Err(error) if screen::is_closed_pipe(&error) => Exit::Done,
        Err(error) if changes && screen::is_unwritten(&error) => {
            complaint::print(&error.context(DoneUnseen), output);
            Exit::Unknown
        }
        Err(error) => {
            complaint::print(&error, output);
            Exit::of(&error)
        }
    };
    ExitCode::from(exit)
}

/// Ends with what is wrong with the command line, or with the help that was asked for.
fn refuse(mut error: clap::Error) -> ! {
    let words: Vec<_> =
        std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let is_set = |name: &str| std::env::var_os(name).is_some();
    if let Some(variable) = arguments::variable_behind(&error, &words, is_set) {
        let tip = StyledStr::from(format!("it comes from the environment variable {variable}"));
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
    }
    error.exit()
}
