//! One node of a development cluster: a child process with a log file.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use mainstay_client::{Client, ClientOptions};
use mainstay_world::RealNet;
use tokio::process::{Child, Command};

use crate::{
    commands::dev::layout::{Layout, Plan, program, url},
    process::{self, Signal},
};

/// A log that is longer than this when its node starts is set aside.
const LOG_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Lines of the log that are shown when a node dies.
const LAST_LINES: usize = 8;
/// The end of the log in which those lines are looked for.
const LAST_BYTES: u64 = 16 * 1024;
/// How long a node may take to say what it knows.
const ANSWER_MAX: Duration = Duration::from_millis(200);

/// Options of a node that make no sense for several on one machine, should the environment have
/// them: all nodes would take them over.
const NOT_FOR_ALL: [&str; 5] = [
    "MAINSTAY_JOIN",
    "MAINSTAY_CONFIG",
    "MAINSTAY_ADVERTISE_CLIENT_URLS",
    "MAINSTAY_ADVERTISE_PEER_ADDR",
    "MAINSTAY_ZONE",
];

/// A child process, running or dead.
pub(super) struct Node {
    plan: Plan,
    log: PathBuf,
    child: Child,
    client: Client,
    death_was_told: bool,
}

/// How a node ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Death {
    /// What happened, as a clause after "it".
    pub(super) what: String,
    /// Whether somebody sent it a signal; its log then knows nothing about that.
    pub(super) was_killed: bool,
    /// The end of its log.
    pub(super) last_lines: Vec<String>,
}

impl Node {
    pub(super) fn start(plan: &Plan, layout: &Layout) -> anyhow::Result<Self> {
        let log = layout.log(plan);
        let output = open_log(&log).with_context(|| format!("open {}", log.display()))?;
        let errors = output.try_clone().with_context(|| format!("open {}", log.display()))?;
        let program = std::env::current_exe().context("find this program")?;
        let mut command = Command::new(program);
        command
            .args(arguments(plan, layout))
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            // Ctrl-C goes to the whole group of the terminal; the nodes are to end when we say so.
            .process_group(0)
            .kill_on_drop(true);
        for name in NOT_FOR_ALL {
            command.env_remove(name);
        }
        process::die_with_parent(&mut command);
        let child = command.spawn().with_context(|| format!("start {}", plan.name))?;
        let endpoint = url(plan).parse().context("read the address of a node")?;
        let options = ClientOptions {
            timeout: ANSWER_MAX,
            attempt_timeout: ANSWER_MAX,
            unreachable_patience: Duration::ZERO,
            ..ClientOptions::new(vec![endpoint])
        };
        let client = Client::new(Arc::new(RealNet), options);
        Ok(Self { plan: plan.clone(), log, child, client, death_was_told: false })
    }

    pub(super) fn name(&self) -> &str {
        &self.plan.name
    }

    pub(super) const fn plan(&self) -> &Plan {
        &self.plan
    }

    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    /// A client of this node alone, for short questions.
    pub(super) const fn client(&self) -> &Client {
        &self.client
    }

    /// The process id; `None` once it is dead.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    pub(super) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            // It may have ended by itself just now, which is as good.
            let _ended = process::send_signal(pid, signal);
        }
    }

    /// Waits until the process has ended.
    pub(super) async fn ended(&mut self) {
        // An error means that it was waited for already.
        let _status = self.child.wait().await;
    }

    /// How the node died, if it did.
    pub(super) fn death(&mut self) -> Option<Death> {
        let status = self.child.try_wait().ok().flatten()?;
        let last_lines = last_lines(&self.log).unwrap_or_default();
        Some(Death { what: describe(status), was_killed: status.signal().is_some(), last_lines })
    }

    /// The same, the first time it is noticed.
    pub(super) fn new_death(&mut self) -> Option<Death> {
        if self.death_was_told {
            return None;
        }
        let death = self.death();
        self.death_was_told = death.is_some();
        death
    }
}

/// What a node is started with.
fn arguments(plan: &Plan, layout: &Layout) -> [String; 11] {
    let data_dir = layout.data_dir(plan).display().to_string();
    let [name, client, peer] = [&plan.name, &plan.client_addr, &plan.peer_addr].map(String::clone);
    let flags = ["--name", "--data-dir", "--client-addr", "--peer-addr", "--bootstrap"];
    let values = [name, data_dir, client, peer, layout.bootstrap()];
    let mut words = vec!["serve".to_owned()];
    for (flag, value) in flags.into_iter().zip(values) {
        words.extend([flag.to_owned(), value]);
    }
    words.try_into().expect("one word and five pairs are eleven words")
}

/// The command that starts the node again by hand.
pub(super) fn command_line(plan: &Plan, layout: &Layout) -> String {
    let mut text = program();
    for word in arguments(plan, layout) {
        text.push(' ');
        text.push_str(&word);
    }
    text
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (_, Some(libc::SIGKILL)) => "was killed (SIGKILL)".to_owned(),
        (_, Some(libc::SIGTERM)) => "was ended (SIGTERM)".to_owned(),
        (_, Some(signal)) => format!("ended with signal {signal}"),
        (Some(74), None) => "ended because its storage failed (exit code 74)".to_owned(),
        (Some(code), None) => format!("ended with exit code {code}"),
        (None, None) => "ended".to_owned(),
    }
}

fn open_log(log: &Path) -> io::Result<File> {
    if fs::metadata(log).is_ok_and(|metadata| metadata.len() > LOG_BYTES_MAX) {
        fs::rename(log, log.with_extension("log.old"))?;
    }
    OpenOptions::new().create(true).append(true).open(log)
}

fn last_lines(log: &Path) -> io::Result<Vec<String>> {
    let mut file = File::open(log)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(LAST_BYTES)))?;
    let mut end = Vec::new();
    file.take(LAST_BYTES).read_to_end(&mut end)?;
    let end = String::from_utf8_lossy(&end);
    let lines: Vec<_> = end.lines().filter(|line| !line.trim().is_empty()).collect();
    let first = lines.len().saturating_sub(LAST_LINES);
    Ok(lines[first..].iter().map(|line| (*line).to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_lines_of_a_log_are_shown() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log = folder.path().join("n1.log");
        let text: String = (0..10_000).map(|number| format!("line {number}\n\n")).collect();
        fs::write(&log, text).expect("written");
        let lines = last_lines(&log).expect("read");
        assert_eq!(lines.len(), LAST_LINES);
        assert_eq!(lines.last().map(String::as_str), Some("line 9999"));
    }

    #[test]
    fn a_log_that_grew_too_long_is_set_aside() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log = folder.path().join("n1.log");
        fs::write(&log, "short").expect("written");
        open_log(&log).expect("opened");
        assert!(!folder.path().join("n1.log.old").exists());
        File::create(&log).and_then(|file| file.set_len(LOG_BYTES_MAX + 1)).expect("grown");
        open_log(&log).expect("opened");
        assert!(folder.path().join("n1.log.old").exists());
        assert_eq!(fs::metadata(&log).expect("a file").len(), 0);
    }

    #[test]
    fn an_end_is_told_in_words() {
        for (raw, words) in [
            (libc::SIGKILL, "was killed (SIGKILL)"),
            (74 << 8, "ended because its storage failed (exit code 74)"),
            (2 << 8, "ended with exit code 2"),
            (libc::SIGABRT, "ended with signal 6"),
        ] {
            assert_eq!(describe(ExitStatus::from_raw(raw)), words);
        }
    }
}
