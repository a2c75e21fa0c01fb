//! `mainstay status`: the members as the asked node sees them, and how far each one is.
//!
//! The first endpoint that answers tells who the members are. Each of them is then asked how far it
//! is itself, because only a node knows that: revision, applied index, and the lag, which is what
//! it has yet to apply of the entries that any member knows to be committed.

use std::{collections::BTreeMap, fmt::Write as _, io::Write as _, sync::Arc, time::Duration};

use mainstay_client::{
    Autopilot, AutopilotAdvice, Client, ClientOptions, Cluster, Endpoint, Member, NodeState,
};
use mainstay_world::{RealNet, spawn};

use crate::{arguments::Output, exit::Exit, screen::Screen, table::Table};

/// How long a single member is waited for.
const MEMBER_TIMEOUT: Duration = Duration::from_secs(1);

pub(crate) async fn run(client: &Client, output: Output) -> anyhow::Result<Exit> {
    let mut cluster = client.cluster().await?.value;
    cluster.members.sort_by(|one, other| one.name.cmp(&other.name));
    let states = states(client, &cluster.members).await;
    let mut screen = Screen::new();
    match output {
        Output::Simple | Output::Table => {
            screen.write_all(headline(&cluster).as_bytes())?;
            screen.write_all(b"\n")?;
            screen.write_all(members_table(&cluster.members, &states).as_bytes())?;
            screen.write_all(troubles(&cluster.members, &states).as_bytes())?;
            // Without a leader there is nobody to do anything.
            if let Ok(autopilot) = client.autopilot(0).await {
                screen.write_all(advice(&autopilot.value).as_bytes())?;
            }
        }
        Output::Json => screen.json(&json(&cluster, &states))?,
    }
    screen.finish()?;
    Ok(Exit::Done)
}

/// What every member that answers in time tells about itself.
async fn states(client: &Client, members: &[Member]) -> BTreeMap<u64, NodeState> {
    let asked: Vec<_> = members
        .iter()
        .filter_map(|member| {
            let endpoint: Endpoint = member.client_urls.first()?.parse().ok()?;
            let timeout = client.options().timeout.min(MEMBER_TIMEOUT);
            let options = ClientOptions { timeout, ..ClientOptions::new(vec![endpoint]) };
            let client = Client::new(Arc::new(RealNet), options);
            let id = member.id;
            Some(spawn(async move {
                let node = client.cluster().await.ok()?.value.node;
                // Another node may live at that address by now.
                (node.id == id).then_some((id, node))
            }))
        })
        .collect();
    let mut states = BTreeMap::new();
    for answer in asked {
        states.extend(answer.await.ok().flatten());
    }
    states
}

fn headline(cluster: &Cluster) -> String {
    let leader = cluster.leader.map_or_else(
        || "none".to_owned(),
        |id| {
            let named = cluster.members.iter().find(|member| member.id == id);
            named.map_or_else(|| id.to_string(), |member| member.name.clone())
        },
    );
    let mut text = format!(
        "cluster {}  epoch {}  term {}  revision {}  leader {leader}\n",
        cluster.cluster_id, cluster.epoch, cluster.term, cluster.revision
    );
    let tolerated = cluster.failures_tolerated;
    let verdict = match tolerated {
        ..0 => ": writes cannot succeed until more members are back",
        0 => ": the next one stops writes",
        _ => "",
    };
    writeln!(text, "failures tolerated now: {}{verdict}", tolerated.max(0))
        .expect("a string takes all that is written");
    text
}

fn members_table(members: &[Member], states: &BTreeMap<u64, NodeState>) -> String {
    let head = ["NAME", "ID", "ROLE", "HEALTHY", "REVISION", "APPLIED", "LAG", "CLIENTS"];
    let mut table = Table::new(&head);
    for member in members {
        let state = states.get(&member.id);
        let told = |number: fn(&NodeState) -> u64| {
            state.map_or_else(|| "-".to_owned(), |state| number(state).to_string())
        };
        table.row([
            member.name.clone(),
            member.id.to_string(),
            member.role.clone(),
            if member.healthy { "yes" } else { "no" }.to_owned(),
            told(|state| state.revision),
            told(|state| state.applied_index),
            state.map_or_else(|| "-".to_owned(), |state| lag(state, states).to_string()),
            member.client_urls.iter().map(|url| bare(url)).collect::<Vec<_>>().join(","),
        ]);
    }
    table.render()
}

/// Committed entries that the node has yet to apply.
fn lag(state: &NodeState, states: &BTreeMap<u64, NodeState>) -> u64 {
    let committed = states.values().map(|state| state.committed_index).max().unwrap_or(0);
    committed.saturating_sub(state.applied_index)
}

/// What nodes say keeps them from serving or writing, a line each.
fn troubles(members: &[Member], states: &BTreeMap<u64, NodeState>) -> String {
    let mut text = String::new();
    for member in members {
        let Some(state) = states.get(&member.id) else { continue };
        let read_only = state.read_only.as_ref().map(|reason| format!("refuses writes ({reason})"));
        for trouble in state.trouble.iter().chain(&read_only) {
            writeln!(text, "{}: {trouble}", member.name)
                .expect("a string takes all that is written");
        }
    }
    text
}

/// What the leader is about to do, or waits for, a line each.
fn advice(autopilot: &Autopilot) -> String {
    let mut text = String::new();
    for AutopilotAdvice { action, name, id, why, .. } in &autopilot.advice {
        let would = if autopilot.enabled { "" } else { "would " };
        writeln!(text, "autopilot: {would}{action} {name} (node {id}): {why}")
            .expect("a string takes all that is written");
    }
    text
}

/// A client URL without the scheme that all of them have.
fn bare(url: &str) -> &str {
    url.strip_prefix("http://").unwrap_or(url)
}

/// What `GET /v1/cluster` answers, with what each member tells about itself.
fn json(cluster: &Cluster, states: &BTreeMap<u64, NodeState>) -> serde_json::Value {
    let member = |member: &Member| {
        let state = states.get(&member.id);
        serde_json::json!({
            "id": member.id.to_string(),
            "name": member.name,
            "role": member.role,
            "voter": member.voter,
            "healthy": member.healthy,
            "revision": state.map(|state| state.revision.to_string()),
            "applied_index": state.map(|state| state.applied_index.to_string()),
            "lag": state.map(|state| lag(state, states).to_string()),
            "read_only": state.and_then(|state| state.read_only.clone()),
            "trouble": state.and_then(|state| state.trouble.clone()),
            "client_urls": member.client_urls,
            "peer_address": member.peer_address,
            "zone": member.zone,
        })
    };
    serde_json::json!({
        "cluster_id": cluster.cluster_id.to_string(),
        "epoch": cluster.epoch.to_string(),
        "term": cluster.term.to_string(),
        "leader": cluster.leader.map(|id| id.to_string()),
        "revision": cluster.revision.to_string(),
        "failures_tolerated": cluster.failures_tolerated,
        "settings": cluster.settings,
        "members": cluster.members.iter().map(member).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> Cluster {
        let member = |id: u64, name: &str, role: &str, healthy| Member {
            id,
            name: name.to_owned(),
            role: role.to_owned(),
            voter: true,
            peer_address: "127.0.0.1:2380".to_owned(),
            client_urls: vec!["http://127.0.0.1:2379".to_owned()],
            zone: String::new(),
            healthy,
        };
        Cluster {
            cluster_id: u64::MAX,
            epoch: 1,
            term: 2,
            leader: Some(u64::MAX - 1),
            revision: 1_000_000,
            failures_tolerated: 0,
            settings: BTreeMap::new(),
            members: vec![
                member(u64::MAX - 1, "n1", "leader", true),
                member(2, "n2", "follower", true),
                member(3, "n3", "follower", false),
            ],
            node: NodeState::default(),
        }
    }

    fn state(id: u64, applied_index: u64) -> (u64, NodeState) {
        let node = NodeState {
            id,
            revision: 1_000_000,
            committed_index: applied_index,
            applied_index,
            ..NodeState::default()
        };
        (id, node)
    }

    #[test]
    fn the_table_shows_lag_and_missing_members_and_fits_a_terminal() {
        let states = BTreeMap::from([state(u64::MAX - 1, 1_000_000), state(2, 999_990)]);
        let text = members_table(&cluster().members, &states);
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[1].contains("n1") && lines[1].contains("leader") && lines[1].contains(" 0 "));
        assert!(lines[2].contains("999990") && lines[2].contains(" 10 "));
        assert!(lines[3].contains(" no ") && lines[3].contains(" - "));
    }

    #[test]
    fn what_a_node_says_is_wrong_is_told_under_the_table() {
        let (id, mut node) = state(2, 7);
        node.read_only = Some("quota".to_owned());
        let text = troubles(&cluster().members, &BTreeMap::from([(id, node)]));
        assert_eq!(text, "n2: refuses writes (quota)\n");
    }

    #[test]
    fn what_the_leader_is_about_to_do_is_told_and_what_it_would_do_if_it_may_not() {
        let advice_of = |enabled| Autopilot {
            enabled,
            leader: 1,
            leader_name: None,
            advice: vec![AutopilotAdvice {
                action: "promote".to_owned(),
                id: 4,
                name: "n4".to_owned(),
                replaces: None,
                why: "it keeps up".to_owned(),
            }],
            decisions: Vec::new(),
        };
        assert_eq!(advice(&advice_of(true)), "autopilot: promote n4 (node 4): it keeps up\n");
        assert_eq!(
            advice(&advice_of(false)),
            "autopilot: would promote n4 (node 4): it keeps up\n"
        );
    }

    #[test]
    fn the_headline_says_how_many_failures_are_tolerated() {
        let mut cluster = cluster();
        let text = headline(&cluster);
        assert!(text.contains("leader n1") && text.contains("0: the next one stops writes"));
        (cluster.failures_tolerated, cluster.leader) = (-1, None);
        let text = headline(&cluster);
        assert!(text.contains("leader none") && text.contains("0: writes cannot succeed"));
        assert!(headline(&cluster).lines().all(|line| line.chars().count() <= 100));
        cluster.failures_tolerated = 1;
        assert!(headline(&cluster).contains("failures tolerated now: 1\n"));
    }
}
