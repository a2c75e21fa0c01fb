//! Commands of etcd's own client, from their words to their exit code.
//!
//! Of what they print, times, ids and addresses are replaced: they are never the same.

use std::{
    fs::File,
    io::{Seek as _, SeekFrom, Write as _},
    path::PathBuf,
};

use mainstay_tests::{Process, Signal, until};
use tempfile::TempDir;

use crate::{messages::relative, side::named_or_on_path};

/// A command that goes on.
pub(crate) struct RunningCommand {
    process: Process,
    /// What was typed; it names the node too.
    words: String,
    base: i64,
    taken: usize,
    _folder: TempDir,
}

/// etcd's client, if this machine has it.
///
/// # Errors
/// Why it has not.
pub(crate) fn etcdctl() -> Result<PathBuf, String> {
    named_or_on_path("ETCDCTL", "etcdctl")
}

/// Runs a command to its end; what it printed, and its exit code if that is not 0.
pub(crate) async fn run(words: &[String], input: &str, base: i64) -> Vec<String> {
    let (mut process, _folder) = start(words, input);
    let lines = finished(&mut process, base).await;
    let shows_columns = words.iter().any(|word| word == "endpoint" || word == "member");
    if !shows_columns {
        return lines;
    }
    let mut shapes: Vec<_> = lines.iter().map(|line| shape(line)).collect();
    // One member of three looks like the only one.
    shapes.dedup();
    shapes
}

impl RunningCommand {
    /// Starts a command.
    pub(crate) fn start(words: &[String], base: i64) -> Self {
        let (process, folder) = start(words, "");
        Self { process, words: words.join(" "), base, taken: 0, _folder: folder }
    }

    /// The next so many lines.
    pub(crate) async fn take(&mut self, lines: usize) -> Vec<String> {
        let (from, to) = (self.taken, self.taken + lines);
        let process = &self.process;
        let all = until(&format!("{to} lines"), async || {
            let stdout = process.stdout();
            let complete = stdout.bytes().filter(|byte| *byte == b'\n').count();
            if complete >= to { Ok(stdout) } else { Err(stdout + &process.stderr()) }
        })
        .await;
        self.taken = to;
        all.lines().take(to).skip(from).map(|text| line(text, self.base)).collect()
    }

    /// Ends it as a person does; what it printed since.
    pub(crate) async fn end(mut self) -> Vec<String> {
        self.process.signal(Signal::Interrupt);
        let process = &mut self.process;
        until(&format!("the end of the interrupted `{}`", self.words), async || {
            process.ended().ok_or_else(|| process.stdout() + &process.stderr())
        })
        .await;
        let lines = finished(&mut self.process, self.base).await;
        lines.into_iter().skip(self.taken).collect()
    }
}

fn start(words: &[String], input: &str) -> (Process, TempDir) {
    let folder = tempfile::tempdir().expect("the system has a temporary folder");
    let (program, words) = words.split_first().expect("a command has words");
    assert_eq!(program, "etcdctl", "cases know no other command");
    let program = etcdctl().expect("whoever plays such a case has looked");
    let mut file = File::options()
        .create_new(true)
        .read(true)
        .write(true)
        .open(folder.path().join("in"))
        .expect("the folder is ours");
    file.write_all(input.as_bytes()).expect("the folder is ours");
    file.seek(SeekFrom::Start(0)).expect("a file can be read again");
    let (stdout, stderr) = (folder.path().join("out"), folder.path().join("err"));
    let process = Process::start_with_input(&program, words, file, &stdout, &stderr);
    (process, folder)
}

async fn finished(process: &mut Process, base: i64) -> Vec<String> {
    let code = process.exit_code().await;
    let mut lines: Vec<_> = process.stdout().lines().map(|text| line(text, base)).collect();
    lines.extend(process.stderr().lines().filter_map(|text| complaint(text, base)));
    if code != 0 {
        lines.push(format!("! exit {code}"));
    }
    lines
}

/// Columns in which nothing can be the same but what they are.
fn shape(line: &str) -> String {
    let kind = |column: &str| {
        match column.trim() {
            "" => "",
            "true" | "false" => "BOOL",
            number if number.contains(|letter: char| letter.is_ascii_digit()) => "NUMBER",
            _ => column,
        }
        .trim()
        .to_owned()
    };
    line.split(", ").map(kind).collect::<Vec<_>>().join(", ")
}

fn line(text: &str, base: i64) -> String {
    format!("= {}", replaced(text, base)).trim_end().to_owned()
}

/// What is written to standard error, without the lines of the client's own log.
fn complaint(text: &str, base: i64) -> Option<String> {
    let is_log = text.starts_with('{') && text.contains("\"level\"");
    (!is_log).then(|| format!("! {}", replaced(text, base)).trim_end().to_owned())
}

/// A line with what cannot be the same replaced.
fn replaced(text: &str, base: i64) -> String {
    if text.starts_with("\"RaftTerm\"") {
        return "\"RaftTerm\" : TERM".to_owned();
    }
    let of_revisions = text.contains("evision");
    let word = |word: &str| match word.parse() {
        Ok(revision) if of_revisions => relative(revision, base).to_string(),
        _ => without_ids(&without_times(word)),
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

fn without_times(word: &str) -> String {
    let inner = word.trim_matches(|letter: char| !letter.is_ascii_alphanumeric());
    if inner.contains("127.0.0.1:") {
        word.replacen(inner, "ADDRESS", 1)
    } else if is_duration(inner) || inner.starts_with("remaining(") {
        word.replacen(inner, "TIME", 1)
    } else {
        word.to_owned()
    }
}

/// Long runs of hexadecimal digits are ids that the server has drawn.
fn without_ids(word: &str) -> String {
    const SHORTEST: usize = 12;
    let mut kept = String::new();
    let mut run = String::new();
    for letter in word.chars().chain(['\0']) {
        if letter.is_ascii_hexdigit() {
            run.push(letter);
            continue;
        }
        kept += if run.len() < SHORTEST { &run } else { "ID" };
        run.clear();
        if letter != '\0' {
            kept.push(letter);
        }
    }
    kept
}

fn is_duration(text: &str) -> bool {
    let number = ["ms", "µs", "s"].iter().find_map(|unit| text.strip_suffix(unit));
    number.is_some_and(|number| number.contains('.') && number.parse::<f64>().is_ok())
}
