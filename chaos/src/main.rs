//! The `chaos` binary: lists, runs and replays simulations.
//!
//! Exit codes: 0 nothing was violated, 1 something was, 2 what was asked for cannot be done.

mod arguments;
mod commands;

use std::process::ExitCode;

use clap::Parser;
use mainstay_chaos::watchdog;

use crate::arguments::{Arguments, Command};

fn main() -> ExitCode {
    if let Err(error) = watchdog::start() {
        commands::complain(&error.into());
        return ExitCode::from(2);
    }
    let outcome = match Arguments::parse().command {
        Command::List => commands::list(),
        Command::Run(arguments) => commands::run::run(&arguments),
        Command::Replay(arguments) => commands::replay::replay(&arguments),
        Command::Worker => commands::worker::work(),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            commands::complain(&error);
            ExitCode::from(2)
        }
    }
}
