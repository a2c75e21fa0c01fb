//! The pages of the runbook as programs: their fenced commands, and how each must end.

use std::{fs, path::PathBuf};

/// One fenced block of shell commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The heading it stands under.
    pub section: String,
    /// The line of the page that it begins at.
    pub line: usize,
    /// Its lines, continuations joined.
    pub commands: Vec<String>,
    /// Exit codes that are as they should be.
    pub exits: Vec<i32>,
    /// Whether it is repeated until it succeeds.
    pub until: bool,
}

/// One page.
#[derive(Debug)]
pub struct Page {
    /// Its file name.
    pub name: String,
    /// Its headings of the second level, in order.
    pub sections: Vec<String>,
    /// Its commands, in order.
    pub steps: Vec<Step>,
}

impl Page {
    /// Reads the page `name` of the runbook.
    ///
    /// # Panics
    /// If there is no such page, or a fence that is none of `sh`, `sh exit=N,...` and `sh until`.
    #[must_use]
    pub fn read(name: &str) -> Self {
        let path = folder().join(name);
        let text =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self::parse(name, &text)
    }

    fn parse(name: &str, text: &str) -> Self {
        let mut page = Self { name: name.to_owned(), sections: Vec::new(), steps: Vec::new() };
        let mut lines = text.lines().enumerate();
        while let Some((at, line)) = lines.next() {
            if let Some(section) = line.strip_prefix("## ") {
                page.sections.push(section.to_owned());
            }
            let Some(info) = line.strip_prefix("```") else { continue };
            let block = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```");
            let block: Vec<&str> = block.collect();
            if info != "sh" && !info.starts_with("sh ") {
                continue;
            }
            let mut step = Step {
                section: page.sections.last().cloned().unwrap_or_default(),
                line: at + 1,
                commands: commands(&block),
                exits: vec![0],
                until: false,
            };
            for word in info.split_whitespace().skip(1) {
                match word.strip_prefix("exit=") {
                    Some(codes) => step.exits = codes.split(',').map(exit_code).collect(),
                    None if word == "until" => step.until = true,
                    None => panic!("{name}, line {}: a fence cannot be {word:?}", at + 1),
                }
            }
            page.steps.push(step);
        }
        page
    }
}

/// The names of all pages.
///
/// # Panics
/// If there is no runbook.
#[must_use]
pub fn pages() -> Vec<String> {
    let entries = fs::read_dir(folder()).expect("there is a runbook");
    let names = entries.map(|entry| entry.expect("it can be listed").file_name());
    let mut names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/runbook")
}

/// The lines of a block, those that end in a backslash joined with the next.
fn commands(block: &[&str]) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let mut open = String::new();
    for line in block {
        match line.strip_suffix('\\') {
            Some(part) => open.push_str(part),
            None => commands.push(std::mem::take(&mut open) + line),
        }
    }
    assert!(open.is_empty(), "a block ends within a command: {block:?}");
    commands.retain(|command| !command.trim().is_empty());
    commands
}

fn exit_code(text: &str) -> i32 {
    text.parse().unwrap_or_else(|error| panic!("an exit code cannot be {text:?}: {error}"))
}
