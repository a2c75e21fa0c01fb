//! The folder of a development cluster: who its nodes are, where they listen, and `dev.json`.
//!
//! Names and ports are written to `layout.json` before the first start and never change, because
//! the members know each other by their addresses. `dev.json` is for scripts and tests: it holds
//! what is running, and is replaced as a whole when all nodes have started.

use std::{
    fs, io,
    net::TcpListener,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::exit::UsageError;

/// Where the first node serves clients unless told otherwise.
const BASE_PORT: u16 = 2379;
/// From the ports of one node to those of the next.
const PORT_STEP: u16 = 10;
const NODES: u16 = 3;
/// The file that says who the nodes are.
const LAYOUT_JSON: &str = "layout.json";

/// The nodes of a cluster and the folder they live in.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) folder: PathBuf,
    pub(super) nodes: Vec<Plan>,
    /// The folder has no cluster yet.
    is_new: bool,
}

/// One node: its name and addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) name: String,
    /// `host:port` for clients.
    pub(super) client_addr: String,
    /// `host:port` for peers.
    pub(super) peer_addr: String,
}

/// A node that runs.
#[derive(Debug)]
pub(super) struct StartedNode {
    pub(super) id: u64,
    pub(super) pid: u32,
    pub(super) plan: Plan,
}

#[derive(Serialize, Deserialize)]
struct LayoutJson {
    nodes: Vec<Plan>,
}

impl Layout {
    /// The layout of `folder`; a new one is planned if there is none, and nothing written.
    pub(super) fn open(
        folder: &Path,
        nodes: Option<u16>,
        base_port: Option<u16>,
    ) -> anyhow::Result<Self> {
        if fs::metadata(folder).is_ok_and(|found| !found.is_dir()) {
            bail!(UsageError(format!(
                "{} is not a folder; name another one with --data-dir",
                folder.display()
            )));
        }
        let file = folder.join(LAYOUT_JSON);
        let (nodes, is_new) = match fs::read(&file) {
            Ok(text) => {
                let json: LayoutJson = serde_json::from_slice(&text)
                    .with_context(|| format!("read {}", file.display()))?;
                check_unchanged(folder, &json.nodes, nodes, base_port)?;
                (json.nodes, false)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                (plan(nodes.unwrap_or(NODES), base_port.unwrap_or(BASE_PORT))?, true)
            }
            Err(error) => {
                return Err(error).with_context(|| format!("read {}", file.display()));
            }
        };
        Ok(Self { folder: folder.to_owned(), nodes, is_new })
    }

    /// Writes a new layout down: from now on the folder belongs to a cluster on these ports. Done
    /// when nothing stands in its way any more, so that whoever is told to choose other ports can.
    pub(super) fn keep(&self) -> anyhow::Result<()> {
        if !self.is_new {
            return Ok(());
        }
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("create the folder {}", self.folder.display()))?;
        write_whole(&self.folder.join(LAYOUT_JSON), &LayoutJson { nodes: self.nodes.clone() })
    }

    /// Refuses to start on ports that somebody else has.
    pub(super) fn check_ports(&self) -> anyhow::Result<()> {
        for plan in &self.nodes {
            for (address, whose) in [(&plan.client_addr, "clients"), (&plan.peer_addr, "peers")] {
                match TcpListener::bind(address) {
                    Ok(_free) => {}
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse => bail!(
                        "port {} is in use, and {} needs it for {whose}; stop what uses it (another \
                         `mainstay dev`?), or start a cluster elsewhere with --base-port and \
                         --data-dir",
                        port(address),
                        plan.name
                    ),
                    Err(error) => {
                        return Err(error).with_context(|| format!("listen on {address}"));
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn data_dir(&self, plan: &Plan) -> PathBuf {
        self.folder.join(&plan.name)
    }

    /// Beside the data folder, not in it: whoever wipes a node's folder keeps its log.
    pub(super) fn log(&self, plan: &Plan) -> PathBuf {
        self.folder.join(format!("{}.log", plan.name))
    }

    /// `NAME=PEER,...`, the same list for every node.
    pub(super) fn bootstrap(&self) -> String {
        let entry = |plan: &Plan| format!("{}={}", plan.name, plan.peer_addr);
        self.nodes.iter().map(entry).collect::<Vec<_>>().join(",")
    }

    /// Replaces `dev.json`.
    pub(super) fn write_dev_json(&self, started: &[StartedNode]) -> anyhow::Result<()> {
        let node = |node: &StartedNode| {
            let data_dir = self.data_dir(&node.plan);
            serde_json::json!({
                "id": node.id.to_string(),
                "name": node.plan.name,
                "pid": node.pid,
                "client_url": url(&node.plan),
                "peer_address": node.plan.peer_addr,
                "data_dir": fs::canonicalize(&data_dir).unwrap_or(data_dir),
            })
        };
        let nodes: Vec<_> = started.iter().map(node).collect();
        write_whole(&self.folder.join("dev.json"), &serde_json::json!({ "nodes": nodes }))
    }

    /// Where the nodes are, and what to try first.
    pub(super) fn welcome(&self) -> String {
        let mut text = String::new();
        for plan in &self.nodes {
            let log = self.log(plan);
            text.push_str(&format!("  {}  {}  log {}\n", plan.name, url(plan), log.display()));
        }
        let urls = self.nodes.iter().map(url).collect::<Vec<_>>().join(",");
        let program = program();
        let curl_at = self.nodes.last().map(url).unwrap_or_default();
        text.push_str(&format!(
            "\nIn another terminal:\n  \
             export MAINSTAY_ENDPOINTS={urls}\n  \
             {program} put greeting hello\n  \
             {program} get greeting\n  \
             curl {curl_at}/v1/kv/greeting\n\n\
             Ctrl-C ends the cluster; the same command continues it."
        ));
        text
    }
}

/// A new cluster's nodes.
fn plan(nodes: u16, base_port: u16) -> anyhow::Result<Vec<Plan>> {
    let ports = if base_port == 0 { free_ports(nodes)? } else { stepped_ports(nodes, base_port)? };
    let node = |(index, (client, peer))| Plan {
        name: format!("n{}", index + 1),
        client_addr: format!("127.0.0.1:{client}"),
        peer_addr: format!("127.0.0.1:{peer}"),
    };
    Ok(ports.into_iter().enumerate().map(node).collect())
}

fn stepped_ports(nodes: u16, base_port: u16) -> anyhow::Result<Vec<(u16, u16)>> {
    let port = |index: u16| base_port.checked_add(index * PORT_STEP);
    let pair = |index| port(index).and_then(|client| Some((client, client.checked_add(1)?)));
    match (0..nodes).map(pair).collect() {
        Some(ports) => Ok(ports),
        None => bail!(UsageError(format!(
            "{nodes} nodes from --base-port {base_port} on need ports above 65535"
        ))),
    }
}

/// Ports that nobody has right now.
fn free_ports(nodes: u16) -> anyhow::Result<Vec<(u16, u16)>> {
    // All are held until all are known, so that none is given twice.
    let mut held = Vec::new();
    for _ in 0..nodes * 2 {
        held.push(TcpListener::bind("127.0.0.1:0").context("find a free port")?);
    }
    let mut ports = Vec::new();
    for listener in &held {
        ports.push(listener.local_addr().context("find a free port")?.port());
    }
    Ok(ports.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

/// Refuses to give an existing cluster another size or other ports.
fn check_unchanged(
    folder: &Path,
    plans: &[Plan],
    nodes: Option<u16>,
    base_port: Option<u16>,
) -> anyhow::Result<()> {
    let folder = folder.display();
    if let Some(nodes) = nodes.filter(|nodes| usize::from(*nodes) != plans.len()) {
        bail!(UsageError(format!(
            "{folder} has a cluster of {} nodes, not {nodes}; leave --nodes out to continue it, or \
             choose another --data-dir",
            plans.len()
        )));
    }
    let first = plans.first().map_or("", |plan| port(&plan.client_addr));
    let wanted = base_port.filter(|port| *port != 0).map(|port| port.to_string());
    if let Some(wanted) = wanted.filter(|wanted| wanted != first) {
        bail!(UsageError(format!(
            "{folder} has a cluster from port {first} on, not {wanted}; leave --base-port out to \
             continue it, or choose another --data-dir"
        )));
    }
    Ok(())
}

pub(super) fn url(plan: &Plan) -> String {
    format!("http://{}", plan.client_addr)
}

fn port(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(_host, port)| port)
}

/// Replaces a file so that readers see the old content or the new, never a part.
fn write_whole(file: &Path, content: &impl Serialize) -> anyhow::Result<()> {
    let beside = file.with_extension("json.new");
    let mut text = serde_json::to_string_pretty(content).context("write JSON")?;
    text.push('\n');
    fs::write(&beside, text)
        .and_then(|()| fs::rename(&beside, file))
        .with_context(|| format!("write {}", file.display()))
}

/// How to call this program: by name if the shell finds it by that.
pub(super) fn program() -> String {
    let Ok(program) = std::env::current_exe() else { return "mainstay".to_owned() };
    let name = program.file_name().unwrap_or_default().to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|folder| folder.join(&name) == program) {
        return name.to_string_lossy().into_owned();
    }
    let here = std::env::current_dir().unwrap_or_default();
    match program.strip_prefix(&here) {
        Ok(below) => Path::new(".").join(below).display().to_string(),
        Err(_elsewhere) => program.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary folder")
    }

    fn error_of(result: anyhow::Result<Layout>) -> String {
        result.expect_err("an error").to_string()
    }

    #[test]
    fn the_documented_ports_are_ten_apart_with_peers_one_above() {
        let folder = folder();
        let layout = Layout::open(folder.path(), None, None).expect("a layout");
        let ports: Vec<_> = layout
            .nodes
            .iter()
            .map(|plan| (plan.name.as_str(), port(&plan.client_addr), port(&plan.peer_addr)))
            .collect();
        assert_eq!(ports, [("n1", "2379", "2380"), ("n2", "2389", "2390"), ("n3", "2399", "2400")]);
        assert_eq!(layout.bootstrap(), "n1=127.0.0.1:2380,n2=127.0.0.1:2390,n3=127.0.0.1:2400");
    }

    #[test]
    fn a_folder_keeps_its_nodes_and_ports() {
        let folder = folder();
        let first = Layout::open(folder.path(), Some(2), Some(0)).expect("a layout");
        first.keep().expect("written");
        let first = first.nodes;
        for (nodes, base_port) in [(None, None), (Some(2), Some(0))] {
            let again = Layout::open(folder.path(), nodes, base_port).expect("the same").nodes;
            assert_eq!(again, first);
        }
        let error = error_of(Layout::open(folder.path(), Some(3), None));
        assert!(error.contains("cluster of 2 nodes, not 3"), "{error}");
        let error = error_of(Layout::open(folder.path(), None, Some(1)));
        assert!(error.contains("leave --base-port out"), "{error}");
    }

    #[test]
    fn a_port_in_use_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("an address").to_string();
        let plan = Plan {
            name: "n1".to_owned(),
            client_addr: "127.0.0.1:0".to_owned(),
            peer_addr: address.clone(),
        };
        let layout = Layout { folder: PathBuf::new(), nodes: vec![plan], is_new: true };
        let error = layout.check_ports().expect_err("the port is in use").to_string();
        assert!(error.contains(port(&address)) && error.contains("--base-port"), "{error}");
    }

    #[test]
    fn a_cluster_that_did_not_start_leaves_the_folder_free_for_other_ports() {
        let outer = folder();
        let folder = outer.path().join("dev");
        Layout::open(&folder, None, Some(4_000)).expect("a layout");
        assert!(!folder.exists(), "nothing is written before the ports are known to be free");
        let other = Layout::open(&folder, None, Some(5_000)).expect("other ports");
        other.keep().expect("written");
        assert!(error_of(Layout::open(&folder, None, Some(4_000))).contains("from port 5000"));
    }

    #[test]
    fn a_file_in_the_place_of_the_folder_is_told() {
        let outer = folder();
        let file = outer.path().join("file");
        fs::write(&file, "").expect("written");
        assert!(error_of(Layout::open(&file, None, None)).contains("is not a folder"));
    }

    #[test]
    fn ports_beyond_the_last_are_a_usage_error() {
        let folder = folder();
        let error = Layout::open(folder.path(), Some(3), Some(65_530)).expect_err("too high");
        assert!(error.is::<UsageError>());
        assert!(!folder.path().join("layout.json").exists());
    }

    #[test]
    fn dev_json_holds_what_scripts_need() {
        let folder = folder();
        let layout = Layout::open(folder.path(), Some(1), Some(0)).expect("a layout");
        let plan = layout.nodes[0].clone();
        let started = StartedNode { id: u64::MAX, pid: 7, plan: plan.clone() };
        layout.write_dev_json(&[started]).expect("written");
        let text = fs::read(folder.path().join("dev.json")).expect("a file");
        let json: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        let node = &json["nodes"][0];
        assert_eq!(node["id"], "18446744073709551615");
        assert_eq!((&node["name"], &node["pid"]), (&"n1".into(), &7.into()));
        assert_eq!(node["client_url"], format!("http://{}", plan.client_addr));
        assert_eq!(node["peer_address"], plan.peer_addr);
        assert!(node["data_dir"].as_str().expect("text").ends_with("n1"));
    }
}
