//! The command line: what can be asked of the program, and how its answers are bounded.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use mainstay_chaos::{
    plants::{self, PLANTS, Plant},
    scenarios::{self, SCENARIOS, Scenario},
};

/// Runs whole clusters of the real node in a simulated world. The same seed always tells the same
/// story.
#[derive(Debug, Parser)]
#[command(name = "chaos", version, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Names the scenarios and the bugs that can be planted
    List,
    /// Runs scenarios and says what was violated
    Run(RunArguments),
    /// Runs one seed again and prints what happened, as text
    Replay(ReplayArguments),
    /// Carries out runs that another process asks for
    #[command(hide = true)]
    Worker,
}

#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// The scenario, or `all`, which leaves out those that last for an hour
    #[arg(long, value_name = "NAME", default_value = "all", value_parser = scenario_or_all)]
    pub(crate) scenario: Scenarios,
    /// The seed
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    pub(crate) seed: Option<u64>,
    /// The seeds from A to B, both included
    #[arg(long, value_name = "A..B", value_parser = seeds)]
    pub(crate) seeds: Option<Seeds>,
    /// A bug to plant in the node: then a violation is what is hoped for
    #[arg(long, value_name = "BUG", value_parser = plant)]
    pub(crate) plant: Option<&'static Plant>,
    /// Where to write all runs as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Where to write a report as one HTML page
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,
    /// How many processes run seeds at the same time; a report needs one
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) jobs: u16,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArguments {
    /// The seed
    #[arg(long, value_name = "N")]
    pub(crate) seed: u64,
    /// The scenario
    #[arg(long, value_name = "NAME", value_parser = scenario)]
    pub(crate) scenario: &'static Scenario,
    /// The bug that was planted
    #[arg(long, value_name = "BUG", value_parser = plant)]
    pub(crate) plant: Option<&'static Plant>,
    /// Where to write a line for every message, disk call and note
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
}

/// Which scenarios to run.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scenarios {
    All,
    One(&'static Scenario),
}

impl Scenarios {
    pub(crate) fn list(self) -> Vec<&'static Scenario> {
        match self {
            Self::All => SCENARIOS.iter().collect(),
            Self::One(scenario) => vec![scenario],
        }
    }
}

/// A range of seeds, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seeds {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

/// Most seeds of one command.
const SEEDS_MAX: u64 = 10_000_000;

fn scenario_or_all(text: &str) -> Result<Scenarios, String> {
    if text == "all" { Ok(Scenarios::All) } else { scenario(text).map(Scenarios::One) }
}

fn scenario(text: &str) -> Result<&'static Scenario, String> {
    scenarios::find(text).ok_or_else(|| {
        let known: Vec<_> = scenarios::every().map(|scenario| scenario.name).collect();
        format!("there is no such scenario; there are {}", known.join(", "))
    })
}

fn plant(text: &str) -> Result<&'static Plant, String> {
    plants::find(text).ok_or_else(|| {
        let known: Vec<_> = PLANTS.iter().map(|plant| plant.name).collect();
        format!("there is no such bug; there are {}", known.join(", "))
    })
}

fn seeds(text: &str) -> Result<Seeds, String> {
    let Some((first, last)) = text.split_once("..") else {
        return Err("a range of seeds is written A..B, both included".to_owned());
    };
    let number =
        |text: &str| text.parse::<u64>().map_err(|error| format!("{text:?} is no seed: {error}"));
    let (first, last) = (number(first)?, number(last.strip_prefix('=').unwrap_or(last))?);
    if last < first {
        return Err(format!("the range is empty: {last} comes before {first}"));
    }
    if last - first >= SEEDS_MAX {
        return Err(format!("at most {SEEDS_MAX} seeds at a time"));
    }
    Ok(Seeds { first, last })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(arguments: &[&str]) -> String {
        let words = ["chaos", "run"].iter().chain(arguments);
        Arguments::try_parse_from(words).expect_err("cannot be used").to_string()
    }

    #[test]
    fn a_range_of_seeds_includes_both_ends() {
        assert_eq!(seeds("3..7"), Ok(Seeds { first: 3, last: 7 }));
        assert_eq!(seeds("3..3"), Ok(Seeds { first: 3, last: 3 }));
    }

    #[test]
    fn a_range_that_cannot_be_used_says_why() {
        assert!(refusal(&["--seeds", "7..3"]).contains("3 comes before 7"));
        assert!(refusal(&["--seeds", "7"]).contains("written A..B"));
        assert!(refusal(&["--seeds", "a..3"]).contains("\"a\" is no seed"));
        assert!(refusal(&["--seeds", "0..99999999999"]).contains("at most"));
    }

    #[test]
    fn an_unknown_scenario_or_bug_names_the_known_ones() {
        assert!(refusal(&["--scenario", "nonsense"]).contains("isolate-the-leader"));
        assert!(refusal(&["--plant", "nonsense"]).contains("ack-before-sync"));
    }
}
