//! The cases as text: what is asked, and what must be answered.
//!
//! ```text
//! # A remark.
//! case a-put-tells-what-was-there            (`since 3.6.0`: older etcds are not
//!                                            asked; `only here`: none is)
//! KV/Put key: "a" value: "1"                 a call: method and message
//!   prev_kv: true                            (continued)
//!   = header { ... }                         its answer, if the case says it
//!   ! NotFound etcdserver: ...               or its refusal
//! open w Watch/Watch                         a call that goes on, called w
//! w> create_request { key: "a" }             sends a message over it
//! w< 2                                       waits for two lines of it
//! settle w                                   waits for all events of the watches on it
//! quiet w                                    nothing comes over it for now
//! progress w                                 waits until a watch on it says, unasked, that it has
//!                                            told everything
//! close w                                    ends it and waits for everything that is left
//! POST /v3/kv/range {"key":"YQ=="}           JSON; `POST/2` for the first two lines of a stream
//! GET /version
//! $ etcdctl txn                              a command; `open c $ ...` for one that goes on
//!   | input                                  what it is told
//! ```

use crate::side::Version;

/// One case.
#[derive(Debug)]
pub(crate) struct Case {
    /// Its name.
    pub(crate) name: String,
    /// The first etcd that answers so; older ones are not asked, and none if no etcd does.
    pub(crate) since: Option<Version>,
    /// What happens, in order.
    pub(crate) steps: Vec<Step>,
}

/// One thing that is asked.
#[derive(Debug)]
pub(crate) struct Step {
    /// The line of the file it begins in, from 1.
    pub(crate) line: usize,
    /// As it is written.
    pub(crate) text: String,
    /// What to do.
    pub(crate) action: Action,
    /// What must be answered, if the case says it.
    pub(crate) expected: Option<Vec<String>>,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Calls a method and waits for the end of it.
    Call { method: String, message: String },
    /// Begins a call.
    Open { name: String, method: String, message: Option<String> },
    /// Begins a command.
    OpenCommand { name: String, words: Vec<String> },
    /// Sends a message over a call.
    Send { name: String, message: String },
    /// Waits for lines of a call.
    Take { name: String, lines: usize },
    /// Waits until all watches of a call have told everything so far.
    Settle { name: String },
    /// Looks whether something comes.
    Quiet { name: String },
    /// Waits until a watch of a call says by itself that it has told everything so far.
    Progress { name: String },
    /// Ends a call.
    Close { name: String },
    /// An HTTP request; with a number, only so many lines of its answer.
    Http { verb: String, path: String, body: String, lines: Option<usize> },
    /// A command.
    Command { words: Vec<String>, input: String },
}

/// The cases of a file.
///
/// # Panics
/// If a line is none of the above.
pub(crate) fn cases(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut raw: Option<Raw> = None;
    for (at, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with(' ') {
            let raw = raw.as_mut().unwrap_or_else(|| panic!("line {}: no step before", at + 1));
            raw.continues(line.trim());
            continue;
        }
        finish(&mut cases, raw.take());
        if let Some(name) = line.strip_prefix("case ") {
            let (name, since) = since(name);
            assert!(cases.iter().all(|case| case.name != name), "{name} is there twice");
            cases.push(Case { name: name.to_owned(), since, steps: Vec::new() });
        } else {
            raw = Some(Raw::new(at + 1, line));
        }
    }
    finish(&mut cases, raw);
    cases
}

/// A case's name, and the first etcd that answers so.
fn since(name: &str) -> (&str, Option<Version>) {
    if let Some(name) = name.strip_suffix(" only here") {
        return (name, None);
    }
    let (name, since) = name.split_once(" since ").unwrap_or((name, "3.4.0"));
    (name, Some(Version::parse(since).expect("a version is three numbers")))
}

fn finish(cases: &mut [Case], raw: Option<Raw>) {
    let Some(raw) = raw else { return };
    let step = raw.step();
    let line = step.line;
    let case = cases.last_mut().unwrap_or_else(|| panic!("line {line}: a step before any case"));
    case.steps.push(step);
}

/// A step while it is read.
struct Raw {
    line: usize,
    text: String,
    input: Vec<String>,
    expected: Vec<String>,
}

impl Raw {
    fn new(line: usize, text: &str) -> Self {
        Self { line, text: text.trim().to_owned(), input: Vec::new(), expected: Vec::new() }
    }

    fn continues(&mut self, line: &str) {
        if let Some(input) = line.strip_prefix('|') {
            self.input.push(input.strip_prefix(' ').unwrap_or(input).to_owned());
        } else if line.starts_with("= ") || line.starts_with("! ") || line == "." || line == "=" {
            self.expected.push(line.to_owned());
        } else {
            self.text.push(' ');
            self.text.push_str(line);
        }
    }

    fn step(self) -> Step {
        let Self { line, text, input, expected } = self;
        let expected = (!expected.is_empty()).then_some(expected);
        let action = action(&text, &input).unwrap_or_else(|| panic!("line {line}: {text:?}?"));
        Step { line, text, action, expected }
    }
}

fn action(text: &str, input: &[String]) -> Option<Action> {
    let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
    let rest = rest.trim();
    let name = rest.to_owned();
    if let Some(name) = first.strip_suffix('>') {
        return Some(Action::Send { name: name.to_owned(), message: rest.to_owned() });
    }
    if let Some(name) = first.strip_suffix('<') {
        return Some(Action::Take { name: name.to_owned(), lines: rest.parse().ok()? });
    }
    Some(match first {
        "open" => open(rest)?,
        "settle" => Action::Settle { name },
        "quiet" => Action::Quiet { name },
        "progress" => Action::Progress { name },
        "close" => Action::Close { name },
        "$" => Action::Command { words: words(rest), input: with_newlines(input) },
        _ if first.starts_with("POST") || first == "GET" || first == "PUT" => {
            let (verb, lines) = first.split_once('/').unwrap_or((first, ""));
            let lines = if lines.is_empty() { None } else { Some(lines.parse().ok()?) };
            let (path, body) = rest.split_once(' ').unwrap_or((rest, ""));
            let (verb, path, body) = (verb.to_owned(), path.to_owned(), body.trim().to_owned());
            Action::Http { verb, path, body, lines }
        }
        method if method.contains('/') => {
            Action::Call { method: method.to_owned(), message: rest.to_owned() }
        }
        _ => return None,
    })
}

fn open(rest: &str) -> Option<Action> {
    let (name, rest) = rest.split_once(' ')?;
    let name = name.to_owned();
    if let Some(command) = rest.strip_prefix("$ ") {
        return Some(Action::OpenCommand { name, words: words(command) });
    }
    let (method, message) = match rest.split_once(' ') {
        Some((method, message)) => (method, Some(message.trim().to_owned())),
        None => (rest, None),
    };
    Some(Action::Open { name, method: method.to_owned(), message })
}

/// Words of a command line; quotes hold words together.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for letter in text.chars() {
        match letter {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            letter => words.last_mut().expect("there is always one").push(letter),
        }
    }
    words
}

fn with_newlines(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}
