//! `mainstay leader`: having another node lead.

use std::io::Write;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use mainstay_client::{Client, LeaderChange, TookEffect};

use crate::{arguments::Output, exit::Exit, screen::Screen, table::Table};

#[derive(Debug, Args)]
pub(crate) struct LeaderArguments {
    #[command(subcommand)]
    command: LeaderCommand,
}

#[derive(Debug, Subcommand)]
enum LeaderCommand {
    /// Have another node lead; nothing changes unless it is ready to take over
    Transfer {
        /// The name or the id of the node [default: the healthiest one that is caught up]
        node: Option<String>,
    },
}

/// Nobody knows who leads; what to do about it is another thing than with a write.
#[derive(Debug, thiserror::Error)]
#[error("it is unknown who leads now")]
pub(crate) struct LeaderUnknown;

pub(crate) async fn run(
    arguments: &LeaderArguments,
    client: &Client,
    output: Output,
) -> anyhow::Result<Exit> {
    let LeaderCommand::Transfer { node } = &arguments.command;
    let change = match client.transfer_leadership(node.as_deref()).await {
        Ok(answer) => answer.value,
        Err(error) if error.took_effect == TookEffect::Unknown => {
            return Err(error).context(LeaderUnknown);
        }
        Err(error) => return Err(error.into()),
    };
    let mut screen = Screen::new();
    match output {
        Output::Simple => writeln!(screen, "{}", sentence(&change))?,
        Output::Table => screen.write_all(table(&change).as_bytes())?,
        Output::Json => screen.json(&change)?,
    }
    screen.finish()?;
    Ok(exit(&change, node.is_some()))
}

/// Done means: who was named leads, or, when nobody was named, who led does no more.
fn exit(change: &LeaderChange, named: bool) -> Exit {
    let is_done = if named { change.leader == change.wanted } else { change.leader != change.from };
    // A named leader that leads already is done too.
    if is_done || !change.changed { Exit::Done } else { Exit::NotHeld }
}

/// What happened, in one sentence.
fn sentence(change: &LeaderChange) -> String {
    let [from, leader, wanted] = names(change);
    let LeaderChange { term, took_ms, .. } = change;
    if !change.changed {
        return format!("{leader} leads already, in term {term}; nothing was done");
    }
    if change.leader == change.wanted {
        return format!("{leader} leads since term {term}, after {took_ms} ms; it was {from}");
    }
    let missed = format!("{wanted} was to lead and did not take over");
    if change.leader == change.from {
        return format!("{leader} leads again, since term {term}, after {took_ms} ms; {missed}");
    }
    format!("{leader} leads since term {term}, after {took_ms} ms; it was {from}; {missed}")
}

fn table(change: &LeaderChange) -> String {
    let [from, leader, wanted] = names(change);
    let mut table = Table::new(&["LEADER", "TERM", "BEFORE", "WANTED", "TOOK MS"]);
    table.row([leader, change.term.to_string(), from, wanted, change.took_ms.to_string()]);
    table.render()
}

/// The names of who led, who leads and who was to lead.
fn names(change: &LeaderChange) -> [String; 3] {
    [
        (&change.from_name, change.from),
        (&change.leader_name, change.leader),
        (&change.wanted_name, change.wanted),
    ]
    .map(|(name, id)| name.clone().unwrap_or_else(|| format!("node {id}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(leader: u64, wanted: u64) -> LeaderChange {
        let name = |id: u64| Some(format!("n{id}"));
        LeaderChange {
            changed: true,
            from: 1,
            from_name: name(1),
            leader,
            leader_name: name(leader),
            term: 5,
            took_ms: 12,
            wanted,
            wanted_name: name(wanted),
        }
    }

    #[test]
    fn one_sentence_says_who_leads_and_whether_that_was_wanted() {
        for (change, said) in [
            (change(2, 2), "n2 leads since term 5, after 12 ms; it was n1"),
            (
                change(3, 2),
                "n3 leads since term 5, after 12 ms; it was n1; n2 was to lead and did not take \
                 over",
            ),
            (
                change(1, 2),
                "n1 leads again, since term 5, after 12 ms; n2 was to lead and did not take over",
            ),
            (
                LeaderChange { changed: false, ..change(1, 1) },
                "n1 leads already, in term 5; nothing was done",
            ),
        ] {
            assert_eq!(sentence(&change), said);
        }
    }

    #[test]
    fn done_means_that_who_was_named_leads_or_that_somebody_else_does() {
        assert_eq!(exit(&change(2, 2), true), Exit::Done);
        assert_eq!(exit(&change(3, 2), true), Exit::NotHeld);
        assert_eq!(exit(&change(3, 2), false), Exit::Done);
        assert_eq!(exit(&change(1, 2), false), Exit::NotHeld);
        let already = LeaderChange { changed: false, ..change(1, 1) };
        assert_eq!(exit(&already, true), Exit::Done);
    }
}
