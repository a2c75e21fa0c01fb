//! `mainstay completion`: the completion script of a shell.

use std::io::Write;

use clap::Args;
use clap_complete::Shell;

use crate::{arguments::command_line, exit::Exit, screen::Screen};

#[derive(Debug, Args)]
pub(crate) struct CompletionArguments {
    /// The shell, as in: source <(mainstay completion bash)
    shell: Shell,
}

pub(crate) fn run(arguments: &CompletionArguments) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command_line(), "mainstay", &mut script);
    let mut screen = Screen::new();
    screen.write_all(&script)?;
    screen.finish()?;
    Ok(Exit::Done)
}
