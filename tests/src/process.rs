//! One process of the program under test.
//!
//! What it prints goes to files. It ends with its handle, and on Linux also with the thread that
//! started it, whatever becomes of the test: start it on the test's own thread.

use std::{
    ffi::OsStr,
    fs::{File, OpenOptions},
    io,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use crate::patience::until;

/// What a process is told from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// End now: SIGKILL, `kill -9`.
    Kill,
    /// End in good order: SIGTERM.
    Terminate,
    /// End as Ctrl-C asks for it: SIGINT.
    Interrupt,
    /// Stand still: SIGSTOP.
    Stop,
    /// Go on: SIGCONT.
    Continue,
    /// To a node on a stalling disk: let syncs hang, SIGUSR1.
    StallDisk,
    /// To the same: let them go on, SIGUSR2.
    ReleaseDisk,
}

/// A running process.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Starts `program` with `arguments`; what it prints is appended to the two files.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start<S: AsRef<OsStr>>(
        program: &Path,
        arguments: impl IntoIterator<Item = S>,
        stdout: &Path,
        stderr: &Path,
    ) -> Self {
        Self::start_with_input(program, arguments, Stdio::null(), stdout, stderr)
    }

    /// The same with something to read on its standard input.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start_with_input<S: AsRef<OsStr>>(
        program: &Path,
        arguments: impl IntoIterator<Item = S>,
        input: impl Into<Stdio>,
        stdout: &Path,
        stderr: &Path,
    ) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).stdin(input).stdout(append_to(stdout)).stderr(append_to(stderr));
        // Whoever runs the tests may have set some of these for another cluster.
        for (name, _value) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"MAINSTAY_") {
                command.env_remove(name);
            }
        }
        die_with_this_thread(&mut command);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", program.display()));
        Self { child, stdout: stdout.to_owned(), stderr: stderr.to_owned() }
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal; a process that has ended already takes no notice.
    pub fn signal(&self, signal: Signal) {
        send(self.child.id(), signal);
    }

    /// How it ended, if it has.
    ///
    /// # Panics
    /// If the system does not tell.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child of this process can be asked for its end")
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// If it does not come.
    pub async fn end(&mut self) -> ExitStatus {
        let what = format!("the end of process {}", self.id());
        let look = async || self.ended().ok_or("it runs");
        until(&what, look).await
    }

    /// The exit code, waited for; 128 and the number for a signal, as in a shell.
    ///
    /// # Panics
    /// If the end does not come.
    pub async fn exit_code(&mut self) -> i32 {
        let status = self.end().await;
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
    }

    /// Everything that was printed to standard output, by earlier processes too if they had the
    /// same file.
    #[must_use]
    pub fn stdout(&self) -> String {
        text(&self.stdout)
    }

    /// Everything that was printed to standard error.
    #[must_use]
    pub fn stderr(&self) -> String {
        text(&self.stderr)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ended = self.child.kill();
        let _waited = self.child.wait();
    }
}

/// Sends `signal` to the process `id`, which a test must have learnt from a process of its own.
///
/// # Panics
/// If the id is none that a signal may go to.
pub fn send(id: u32, signal: Signal) {
    let id = libc::pid_t::try_from(id).expect("a process id is a small number");
    assert!(id > 1, "signals go to single processes that a test has started");
    let number = match signal {
        Signal::Kill => libc::SIGKILL,
        Signal::Terminate => libc::SIGTERM,
        Signal::Interrupt => libc::SIGINT,
        Signal::Stop => libc::SIGSTOP,
        Signal::Continue => libc::SIGCONT,
        Signal::StallDisk => libc::SIGUSR1,
        Signal::ReleaseDisk => libc::SIGUSR2,
    };
    #[expect(unsafe_code, reason = "the system call has no safe form; it touches no memory")]
    // SAFETY: no pointers are passed.
    unsafe {
        libc::kill(id, number);
    }
}

/// A test that is killed takes its processes along.
fn die_with_this_thread(command: &mut Command) {
    #[cfg(target_os = "linux")]
    {
        let die = || {
            #[expect(unsafe_code, reason = "the system call has no safe form")]
            // SAFETY: prctl with these arguments touches no memory.
            let set = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
        };
        #[expect(unsafe_code, reason = "the only way to be told apart from a dead parent")]
        // SAFETY: between fork and exec only one system call runs, which allocates nothing.
        unsafe {
            command.pre_exec(die);
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ended_by_its_handle_only = command;
}

fn append_to(path: &Path) -> File {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .unwrap_or_else(|error| panic!("{} cannot be written: {error}", path.display()))
}

fn text(path: &Path) -> String {
    let bytes = std::fs::read(path)
        .unwrap_or_else(|error: io::Error| panic!("{}: {error}", path.display()));
    String::from_utf8_lossy(&bytes).into_owned()
}
