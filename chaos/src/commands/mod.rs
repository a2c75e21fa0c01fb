//! The commands of the binary.

pub(crate) mod replay;
pub(crate) mod run;
pub(crate) mod worker;

use std::process::ExitCode;

use mainstay_chaos::{plants::PLANTS, scenarios};

/// Prints the names of scenarios and bugs, one a line, and what each does under it.
#[expect(clippy::unnecessary_wraps, reason = "commands have one shape")]
#[expect(clippy::print_stdout, reason = "this is what was asked for")]
pub(crate) fn list() -> anyhow::Result<ExitCode> {
    for scenario in scenarios::every() {
        println!("scenario {}\n    {}", scenario.name, scenario.summary);
    }
    for plant in PLANTS {
        println!("plant {}\n    {}", plant.name, plant.summary);
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what went wrong with the command itself.
#[expect(clippy::print_stderr, reason = "a program's last words")]
pub(crate) fn complain(error: &anyhow::Error) {
    eprintln!("chaos: {error:#}");
}
