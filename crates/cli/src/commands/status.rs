//! `mainstay status`: the members as the asked node sees them, and how far each one is.
//!
//! The first endpoint that answers tells who the members are. Each of them is then asked for its
//! own revision, because only a node itself knows how far it is.

use std::{collections::BTreeMap, fmt::Write as _, io::Write as _, time::Duration};

use mainstay_client::{Client, ClientOptions, Cluster, Endpoint, Member};
use mainstay_world::{RealNet, spawn};

use crate::{arguments::Output, exit::Exit, screen::Screen, table::Table};

/// How long a single member is waited for.
const MEMBER_TIMEOUT: Duration = Duration::from_secs(1);

pub(crate) async fn run(client: &Client, output: Output) -> anyhow::Result<Exit> {
    let cluster = client.cluster().await?.value;
    let revisions = revisions(client, &cluster.members).await;
    let mut screen = Screen::new();
    match output {
        Output::Simple | Output::Table => {
            screen.write_all(headline(&cluster).as_bytes())?;
            screen.write_all(b"\n")?;
            screen.write_all(members_table(&cluster.members, &revisions).as_bytes())?;
        }
        Output::Json => screen.json(&json(&cluster, &revisions))?,
    }
    screen.finish()?;
    Ok(Exit::Done)
}

/// The revision of every member that tells it in time.
async fn revisions(client: &Client, members: &[Member]) -> BTreeMap<u64, u64> {
    let asked: Vec<_> = members
        .iter()
        .filter_map(|member| {
            let endpoint: Endpoint = member.client_urls.first()?.parse().ok()?;
            let timeout = client.options().timeout.min(MEMBER_TIMEOUT);
            let options = ClientOptions { timeout, ..ClientOptions::new(vec![endpoint]) };
            let client = Client::new(std::sync::Arc::new(RealNet), options);
            let id = member.id;
            Some(spawn(async move {
                // Another node may live at that address by now.
                let answer = client.cluster().await.ok()?;
                (answer.header.member_id == id).then_some((id, answer.value.revision))
            }))
        })
        .collect();
    let mut revisions = BTreeMap::new();
    for answer in asked {
        revisions.extend(answer.await.ok().flatten());
    }
    revisions
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

fn members_table(members: &[Member], revisions: &BTreeMap<u64, u64>) -> String {
    let mut table =
        Table::new(&["NAME", "ID", "ROLE", "HEALTHY", "REVISION", "LAG", "CLIENTS", "PEERS"]);
    let newest = revisions.values().max().copied().unwrap_or(0);
    for member in members {
        let unknown = || "-".to_owned();
        let revision = revisions.get(&member.id);
        table.row([
            member.name.clone(),
            member.id.to_string(),
            member.role.clone(),
            if member.healthy { "yes" } else { "no" }.to_owned(),
            revision.map_or_else(unknown, u64::to_string),
            revision.map_or_else(unknown, |revision| (newest - revision).to_string()),
            member.client_urls.iter().map(|url| bare(url)).collect::<Vec<_>>().join(","),
            member.peer_address.clone(),
        ]);
    }
    table.render()
}

/// A client URL without the scheme that all of them have.
fn bare(url: &str) -> &str {
    url.strip_prefix("http://").unwrap_or(url)
}

/// What `GET /v1/cluster` answers, with each member's own revision.
fn json(cluster: &Cluster, revisions: &BTreeMap<u64, u64>) -> serde_json::Value {
    let member = |member: &Member| {
        serde_json::json!({
            "id": member.id.to_string(),
            "name": member.name,
            "role": member.role,
            "voter": member.voter,
            "healthy": member.healthy,
            "revision": revisions.get(&member.id).map(u64::to_string),
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
        }
    }

    #[test]
    fn the_table_shows_lag_and_missing_members_and_fits_a_terminal() {
        let revisions = BTreeMap::from([(u64::MAX - 1, 1_000_000), (2, 999_990)]);
        let text = members_table(&cluster().members, &revisions);
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[1].contains("n1") && lines[1].contains("leader") && lines[1].contains(" 0 "));
        assert!(lines[2].contains("999990") && lines[2].contains(" 10 "));
        assert!(lines[3].contains(" no ") && lines[3].contains(" - "));
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
