//! `mainstay dev`: a real cluster of child processes on this machine, for trying things out.
//!
//! The nodes are this same program with `serve`. This process starts them, tells what happens to
//! them and ends them; it never starts a dead node again, because seeing what a cluster does
//! without one is what people come here for. Nodes die with it, even when it is killed.

mod layout;
mod narrator;
mod node;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use clap::Args;
use mainstay_world::{Instant, sleep, timeout};
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};

use crate::{
    commands::dev::{
        layout::{Layout, StartedNode},
        narrator::{Leader, Narrator},
        node::{Death, Node},
    },
    exit::Exit,
    process::Signal,
    screen::{line, note},
};

/// How long the nodes may take to answer and to elect their first leader.
const START_MAX: Duration = Duration::from_secs(20);
/// How long the nodes may take to end in good order.
const END_MAX: Duration = Duration::from_secs(15);
/// How often a starting node is asked whether it is there.
const START_POLL: Duration = Duration::from_millis(5);

#[derive(Debug, Args)]
pub(crate) struct DevArguments {
    /// How many nodes, 1 to 9 [default: 3, or as many as the folder has]
    #[arg(long, env = "MAINSTAY_NODES", value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: Option<u16>,
    /// Port for clients of the first node; the next nodes are 10 further each, peers one above; 0
    /// picks free ports [default: 2379, or the ports that the folder has]
    #[arg(long, env = "MAINSTAY_BASE_PORT", value_name = "PORT")]
    base_port: Option<u16>,
    /// Where the nodes keep their data; a folder that has a cluster continues it
    #[arg(long, env = "MAINSTAY_DATA_DIR", default_value = "./mainstay-dev")]
    #[arg(hide_env_values = true, value_name = "DIR")]
    data_dir: PathBuf,
}

pub(crate) async fn run(arguments: DevArguments) -> anyhow::Result<Exit> {
    let mut signals = Signals::new()?;
    let start = Instant::now();
    let layout = Layout::open(&arguments.data_dir, arguments.nodes, arguments.base_port)?;
    layout.check_ports()?;
    layout.keep()?;
    let mut nodes = Vec::new();
    for plan in &layout.nodes {
        let node = Node::start(plan, &layout)?;
        nodes.push(node);
    }
    let leader = tokio::select! {
        started = start_all(&layout, &mut nodes, start) => match started {
            Ok(leader) => leader,
            Err(error) => {
                end_all(&mut nodes, &mut signals).await;
                return Err(error);
            }
        },
        () = signals.next() => {
            end_all(&mut nodes, &mut signals).await;
            return Ok(Exit::Done);
        }
    };
    narrate(&layout, &mut nodes, &mut signals, Narrator::new(leader), start).await?;
    note("ending the nodes");
    end_all(&mut nodes, &mut signals).await;
    Ok(Exit::Done)
}

/// Waits until every node answers and there is a leader, writes `dev.json` and says so.
async fn start_all(
    layout: &Layout,
    nodes: &mut [Node],
    start: Instant,
) -> anyhow::Result<Option<Leader>> {
    let mut started = Vec::new();
    for node in nodes.iter_mut() {
        let id = loop {
            if let Some(death) = node.death() {
                bail!("{}", death_at_start(node, &death));
            }
            if let Ok(answer) = node.client().cluster().await {
                break answer.header.member_id;
            }
            if start.elapsed() > START_MAX {
                bail!("{} does not answer; its log is {}", node.name(), node.log().display());
            }
            sleep(START_POLL).await;
        };
        started.push(StartedNode { id, pid: node.pid().unwrap_or(0), plan: node.plan().clone() });
    }
    let leader = timeout(START_MAX.saturating_sub(start.elapsed()), first_leader(nodes)).await;
    // Whoever waits for this file finds a cluster that outlives the loss of any node.
    layout.write_dev_json(&started)?;
    let whole =
        format!("{} node{} up", nodes.len(), if nodes.len() == 1 { " is" } else { "s are" });
    let took = start.elapsed().as_millis();
    let leads = leader.as_ref().map_or_else(
        |_elapsed| "but no leader was elected yet".to_owned(),
        |leader| format!("{} leads", leader.name),
    );
    line(&format!("{whole} after {took} ms, {leads}"))?;
    line(&layout.welcome())?;
    Ok(leader.ok())
}

/// Waits until every node names one leader and knows all members: only then does the cluster exist
/// on more disks than its founder's, and outlives the loss of any node.
async fn first_leader(nodes: &[Node]) -> Leader {
    loop {
        let mut leaders = Vec::new();
        for node in nodes {
            let Ok(answer) = node.client().cluster().await else { break };
            let knows_all = answer.value.members.len() == nodes.len();
            leaders.extend(narrator::leader_of(&answer.value).filter(|_leader| knows_all));
        }
        if leaders.len() == nodes.len() && leaders.iter().all(|leader| *leader == leaders[0]) {
            return leaders.swap_remove(0);
        }
        sleep(START_POLL).await;
    }
}

/// Tells what happens until a signal comes.
async fn narrate(
    layout: &Layout,
    nodes: &mut [Node],
    signals: &mut Signals,
    mut narrator: Narrator,
    start: Instant,
) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            () = signals.next() => return Ok(()),
            () = sleep(narrator::POLL) => {}
        }
        for node in nodes.iter_mut() {
            if let Some(death) = node.new_death() {
                let text = death_later(node, &death, layout);
                line(&format!("[{}] {text}", since(start)))?;
            }
        }
        if let Some(text) = narrator.look(nodes).await {
            line(&format!("[{}] {text}", since(start)))?;
        }
    }
}

/// Ends the nodes in good order, and by force those that take too long or when told twice.
async fn end_all(nodes: &mut [Node], signals: &mut Signals) {
    for node in nodes.iter() {
        node.signal(Signal::Terminate);
    }
    let all_ended = async {
        for node in nodes.iter_mut() {
            node.ended().await;
        }
    };
    let patient = timeout(END_MAX, all_ended);
    let in_order = tokio::select! {
        ended = patient => ended.is_ok(),
        () = signals.next() => false,
    };
    if !in_order {
        for node in nodes.iter_mut() {
            node.signal(Signal::Kill);
            node.ended().await;
        }
    }
}

fn death_at_start(node: &Node, death: &Death) -> String {
    let name = node.name();
    let mut text = format!("{name} did not start: it {}", death.what);
    push_log(&mut text, node, death);
    text
}

fn death_later(node: &Node, death: &Death, layout: &Layout) -> String {
    let mut text = format!("{} died: it {}", node.name(), death.what);
    if !death.was_killed {
        push_log(&mut text, node, death);
    }
    text.push_str("\n  start it again: ");
    text.push_str(&node::command_line(node.plan(), layout));
    text
}

fn push_log(text: &mut String, node: &Node, death: &Death) {
    for last in &death.last_lines {
        text.push_str("\n  | ");
        text.push_str(last);
    }
    text.push_str(&format!("\n  its log is {}", node.log().display()));
}

/// Time since the start, as people read it.
fn since(start: Instant) -> String {
    format!("+{:.1}s", start.elapsed().as_secs_f64())
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: SignalStream,
    terminate: SignalStream,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context("listen for SIGINT")?,
            terminate: signal(SignalKind::terminate()).context("listen for SIGTERM")?,
        })
    }

    /// Waits for the next one.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
