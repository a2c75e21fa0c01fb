//! One call of the program's command line, from its words to its exit code.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::process::Process;

/// Runs commands of the program.
#[derive(Debug)]
pub struct CommandLine {
    program: PathBuf,
    folder: TempDir,
}

/// What a command came to.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code; 128 and the number for a signal.
    pub exit: i32,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl CommandLine {
    /// Runs commands of `program`.
    ///
    /// # Panics
    /// If there is no temporary folder to be had.
    #[must_use]
    pub fn new(program: &str) -> Self {
        let folder = tempfile::tempdir().expect("the system has a temporary folder");
        Self { program: PathBuf::from(program), folder }
    }

    /// Runs the program with `words` to its end.
    ///
    /// # Panics
    /// If it does not end.
    pub async fn run(&self, words: &[&str]) -> Finished {
        let mut process = self.start(words);
        let exit = process.exit_code().await;
        Finished { exit, stdout: process.stdout(), stderr: process.stderr() }
    }

    /// Starts the program with `words` and leaves it running.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(&self, words: &[&str]) -> Process {
        let stdout = self.file();
        let stderr = stdout.with_extension("err");
        Process::start(&self.program, words, &stdout, &stderr)
    }

    /// A folder for files of the test.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A file for one command's output.
    fn file(&self) -> PathBuf {
        let taken = std::fs::read_dir(self.folder.path()).expect("the folder is ours").count();
        self.folder.path().join(format!("command-{taken}.out"))
    }
}

impl Finished {
    /// The exit code, after the whole was shown if it is not `wanted`.
    ///
    /// # Panics
    /// If it is another one.
    pub fn expect_exit(&self, wanted: i32) -> &Self {
        assert_eq!(self.exit, wanted, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Standard output as one JSON document.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {}", self.stdout))
    }
}
