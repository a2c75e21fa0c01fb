//! Somebody who does what the runbook says, on three machines that are folders.
//!
//! A page's commands run in a shell as they stand; only what belongs to the machines is put in their
//! place: addresses, `/etc/mainstay`, `/var/lib/mainstay`, and `systemctl`, which starts and stops
//! real processes of the program under test.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use tokio::sync::SemaphorePermit;

use crate::{
    client::Client,
    cluster::place,
    command_line::{CommandLine, Finished},
    page::{Page, Step},
    patience::until,
    port::free_port,
    process::{Process, Signal},
};

/// The nodes of the runbook.
const NODES: [&str; 3] = ["n1", "n2", "n3"];

/// Three machines with a node each.
pub struct Operator {
    program: PathBuf,
    folder: TempDir,
    shell: CommandLine,
    processes: BTreeMap<String, Process>,
    /// What stands in the pages, and what it is here.
    places: Vec<(String, String)>,
    ports: BTreeMap<String, u16>,
    _place: SemaphorePermit<'static>,
}

impl Operator {
    /// A cluster of three nodes that serve, each with a file of options that `options` ends.
    ///
    /// # Panics
    /// If it does not get that far.
    pub async fn three(program: &str, options: &str) -> Self {
        let place = place().await;
        let folder = tempfile::tempdir().expect("the system has a temporary folder");
        let (etc, data) = (folder.path().join("etc"), folder.path().join("data"));
        let bin = folder.path().join("bin");
        for made in [&etc, &data, &bin] {
            fs::create_dir(made).expect("the folder is ours");
        }
        std::os::unix::fs::symlink(program, bin.join("mainstay")).expect("the folder is ours");
        let mut places = vec![
            ("/etc/mainstay".to_owned(), etc.display().to_string()),
            ("/var/lib/mainstay".to_owned(), data.display().to_string()),
        ];
        let mut ports = BTreeMap::new();
        let mut bootstrap = Vec::new();
        for (at, name) in NODES.iter().enumerate() {
            let (client, peer) = (free_port(), free_port());
            for (port, here) in [(2379, client), (2380, peer)] {
                places.push((format!("10.0.0.{}:{port}", at + 1), format!("127.0.0.1:{here}")));
            }
            ports.insert((*name).to_owned(), client);
            bootstrap.push(format!("\"{name}=127.0.0.1:{peer}\""));
            let file = format!(
                "name = \"{name}\"\ndata_dir = \"{}\"\nclient_addr = \"127.0.0.1:{client}\"\n\
                 peer_addr = \"127.0.0.1:{peer}\"\nlog = \"info,openraft=warn\"\n{options}",
                data.join(name).display(),
            );
            fs::write(etc.join(format!("{name}.toml")), file).expect("the folder is ours");
        }
        for name in NODES {
            let file = etc.join(format!("{name}.toml"));
            let text = fs::read_to_string(&file).expect("it was written");
            let list = format!("bootstrap = [{}]\n{text}", bootstrap.join(", "));
            fs::write(&file, list).expect("the folder is ours");
        }
        let mut operator = Self {
            program: PathBuf::from(program),
            shell: CommandLine::new("/bin/sh"),
            processes: BTreeMap::new(),
            places,
            ports,
            folder,
            _place: place,
        };
        for name in NODES {
            operator.start(name);
        }
        for name in NODES {
            let client = operator.client(name);
            until(&format!("a write through {name}"), async || {
                let written = client.put("operator/serves", "yes").send().await;
                written.map_err(|error| error.to_string()).and_then(|answer| match answer.status {
                    200 => Ok(()),
                    _ => Err(answer.text()),
                })
            })
            .await;
        }
        operator
    }

    /// A caller of a node.
    ///
    /// # Panics
    /// If there is no such node.
    #[must_use]
    pub fn client(&self, name: &str) -> Client {
        Client::new(&format!("http://127.0.0.1:{}", self.ports[name]))
    }

    /// The data folder of a node, as it was at first.
    #[must_use]
    pub fn data_dir(&self, name: &str) -> PathBuf {
        self.folder.path().join("data").join(name)
    }

    /// Ends a node as `kill -9` does.
    ///
    /// # Panics
    /// If it does not run.
    pub async fn kill(&mut self, name: &str) {
        let mut process = self.processes.remove(name).expect("the node runs");
        process.signal(Signal::Kill);
        process.end().await;
    }

    /// Does everything that the page says, in its order.
    ///
    /// # Panics
    /// If a command does not end as the page says.
    pub async fn follow(&mut self, page: &Page) {
        for step in &page.steps {
            self.take(page, step).await;
        }
    }

    async fn take(&mut self, page: &Page, step: &Step) {
        for command in &step.commands {
            let what = format!("{}, line {}: {command}", page.name, step.line);
            if let Some(words) = command.strip_prefix("systemctl ") {
                self.systemctl(&what, words).await;
            } else if step.until {
                until(&what, async || {
                    let finished = self.run(command).await;
                    if step.exits.contains(&finished.exit) {
                        return Ok(());
                    }
                    Err(format!("{}: {}{}", finished.exit, finished.stdout, finished.stderr))
                })
                .await;
            } else {
                let finished = self.run(command).await;
                let Finished { exit, stdout, stderr } = &finished;
                let wanted = &step.exits;
                assert!(
                    wanted.contains(exit),
                    "{what}\nended with {exit}, not {wanted:?}\n{stdout}\n{stderr}"
                );
            }
        }
    }

    /// Runs one command as it stands, in its machine's stead.
    async fn run(&self, command: &str) -> Finished {
        let mut command = command.to_owned();
        for (there, here) in &self.places {
            command = command.replace(there, here);
        }
        let endpoints: Vec<_> =
            self.ports.values().map(|port| format!("127.0.0.1:{port}")).collect();
        let script = format!(
            "export PATH='{}':\"$PATH\" MAINSTAY_ENDPOINTS={}\n{command}",
            self.folder.path().join("bin").display(),
            endpoints.join(",")
        );
        self.shell.run(&["-euc", &script]).await
    }

    async fn systemctl(&mut self, what: &str, words: &str) {
        let words: Vec<_> = words.split_whitespace().collect();
        let [verb, unit] = words[..] else { panic!("{what}: a verb and a unit") };
        let name = unit.strip_prefix("mainstay@").unwrap_or_else(|| panic!("{what}: which unit?"));
        assert!(NODES.contains(&name), "{what}: there is no node {name}");
        match verb {
            "start" => self.start(name),
            "stop" => self.stop(name).await,
            "restart" => {
                self.stop(name).await;
                self.start(name);
            }
            other => panic!("{what}: systemctl {other}"),
        }
    }

    fn start(&mut self, name: &str) {
        let file = self.folder.path().join("etc").join(format!("{name}.toml"));
        let log = self.log(name);
        let words = ["serve".as_ref(), "--config".as_ref(), file.as_os_str()];
        let process = Process::start(&self.program, words, &log, &log);
        let before = self.processes.insert(name.to_owned(), process);
        assert!(before.is_none(), "{name} runs already");
    }

    async fn stop(&mut self, name: &str) {
        let mut process = self.processes.remove(name).expect("a unit that is stopped runs");
        process.signal(Signal::Terminate);
        process.end().await;
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.log"))
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in NODES {
                print_end_of(&self.log(name));
            }
        }
    }
}

#[expect(clippy::print_stderr, reason = "the test runner shows it beside the failure")]
fn print_end_of(log: &Path) {
    let text = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
    let lines: Vec<_> = text.lines().collect();
    eprintln!("--- the end of {}", log.display());
    for line in &lines[lines.len().saturating_sub(40)..] {
        eprintln!("{line}");
    }
}
