//! `mainstay detector`: who is alive as the asked node sees it, and why leaders changed.

use std::{fmt::Write as _, io::Write as _};

use clap::Args;
use mainstay_client::{Client, Election, ElectionPhases, FailureDetector, OwnReading, PeerReading};

use crate::{arguments::Output, encoding::show_time, exit::Exit, screen::Screen, table::Table};

#[derive(Debug, Args)]
pub(crate) struct DetectorArguments {
    /// How many of the last elections to show
    #[arg(long, env = "MAINSTAY_LIMIT", default_value_t = 20, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=1_000))]
    limit: u32,
}

pub(crate) async fn run(
    arguments: &DetectorArguments,
    client: &Client,
    output: Output,
) -> anyhow::Result<Exit> {
    let mut detector = client.failure_detector(arguments.limit).await?.value;
    if output != Output::Json {
        detector.peers.sort_by(|one, other| one.name.cmp(&other.name));
    }
    let mut screen = Screen::new();
    match output {
        Output::Json => screen.json(&detector)?,
        Output::Simple => screen.write_all(lines(&detector).as_bytes())?,
        Output::Table => {
            screen.write_all(headline(&detector.node).as_bytes())?;
            screen.write_all(b"\n")?;
            screen.write_all(peers_table(&detector).as_bytes())?;
            screen.write_all(b"\n")?;
            screen.write_all(elections_table(&detector.elections).as_bytes())?;
        }
    }
    screen.finish()?;
    Ok(Exit::Done)
}

/// One thing a line: this node, each peer, each election; tabs between the columns.
fn lines(detector: &FailureDetector) -> String {
    let mut text = String::new();
    let mut line = |cells: &[String]| {
        text.push_str(&cells.join("\t"));
        text.push('\n');
    };
    let node = &detector.node;
    line(&[
        "node".to_owned(),
        name(node.name.as_deref(), node.id),
        format!(
            "leader={}",
            node.leader.map_or_else(dash, |id| name(node.leader_name.as_deref(), id))
        ),
        format!("score={}", node.score),
        format!("reason={}", node.reason),
        format!("lag_ms={}", tenths(node.scheduling_lag_ms)),
        format!("oldest_sync_ms={}", tenths(node.oldest_sync_ms)),
        format!("stall_budget_ms={}", tenths(node.stall_budget_ms)),
    ]);
    for peer in &detector.peers {
        line(&[
            "peer".to_owned(),
            name(peer.name.as_deref(), peer.id),
            peer.level.clone(),
            format!("phi={}", peer.phi.map_or_else(dash, tenths)),
            format!("suspect={}", tenths(peer.suspect_threshold)),
            format!("failed={}", tenths(peer.failed_threshold)),
            format!("mean_ms={}", tenths(peer.mean_ms)),
            format!("deviation_ms={}", tenths(peer.deviation_ms)),
            format!("pause_ms={}", tenths(peer.acceptable_pause_ms)),
            format!("silence_ms={}", tenths(peer.silence_ms)),
            format!("heartbeats={}", peer.heartbeats),
            format!("missed={}", peer.missed),
            format!("mistakes={}", peer.mistakes),
            format!("ignored={}", peer.ignored.total()),
            format!("oldest_sync_ms={}", tenths(peer.oldest_sync_ms)),
            format!("lag_ms={}", tenths(peer.scheduling_lag_ms)),
        ]);
    }
    for election in &detector.elections {
        line(&[
            "election".to_owned(),
            format!("term={}", election.term),
            format!("leader={}", name(election.leader_name.as_deref(), election.leader)),
            format!("previous={}", previous(election)),
            format!("at={}", show_time(election.at_ms)),
            format!("cause={}", election.cause),
            format!("phases_ms={}", phases(&election.phases).join("+")),
            election.why.clone(),
        ]);
    }
    text
}

/// What the node knows of itself, in two sentences.
fn headline(node: &OwnReading) -> String {
    let mut text = format!("as {} sees it", name(node.name.as_deref(), node.id));
    match node.leader {
        Some(id) => write!(text, "; {} leads", name(node.leader_name.as_deref(), id)),
        None => write!(text, "; no leader is known"),
    }
    .expect("a string takes all that is written");
    let health = match (node.score, node.reason.as_str()) {
        (0, _) => "it is well itself".to_owned(),
        (score, "scheduling_lag") => format!("its own timers are late (score {score} of 8)"),
        (score, "sync_age") => format!("its own disk is slow (score {score} of 8)"),
        (score, "alone") => {
            format!("it hears less than half of the others (score {score} of 8)")
        }
        (score, reason) => format!("it is not well itself: {reason} (score {score} of 8)"),
    };
    writeln!(
        text,
        "\n{health}: timers late by {} ms, oldest sync {} ms, stall budget {} ms",
        tenths(node.scheduling_lag_ms),
        tenths(node.oldest_sync_ms),
        tenths(node.stall_budget_ms),
    )
    .expect("a string takes all that is written");
    text
}

/// Limits are phi of suspect and failed; times are in milliseconds.
fn peers_table(detector: &FailureDetector) -> String {
    let head = [
        "PEER", "LEVEL", "PHI", "LIMITS", "MEAN", "DEV", "PAUSE", "SILENCE", "MISSED", "MISTAKES",
        "IGNORED", "SYNC", "LAG",
    ];
    let mut table = Table::new(&head);
    for peer in &detector.peers {
        let PeerReading { level, phi, missed, mistakes, ignored, .. } = peer;
        table.row([
            name(peer.name.as_deref(), peer.id),
            level.clone(),
            phi.map_or_else(dash, tenths),
            format!("{}/{}", tenths(peer.suspect_threshold), tenths(peer.failed_threshold)),
            whole(peer.mean_ms),
            whole(peer.deviation_ms),
            whole(peer.acceptable_pause_ms),
            whole(peer.silence_ms),
            missed.to_string(),
            mistakes.to_string(),
            ignored.total().to_string(),
            whole(peer.oldest_sync_ms),
            whole(peer.scheduling_lag_ms),
        ]);
    }
    table.render()
}

/// Phases are in milliseconds.
fn elections_table(elections: &[Election]) -> String {
    if elections.is_empty() {
        return "no elections are known\n".to_owned();
    }
    let head = ["TERM", "LEADER", "BEFORE", "UTC", "WHY", "SILENCE", "PRE-VOTE", "VOTE", "READY"];
    let mut table = Table::new(&head);
    for election in elections {
        let [silence, pre_vote, vote, ready] = phases(&election.phases);
        table.row([
            election.term.to_string(),
            name(election.leader_name.as_deref(), election.leader),
            previous(election),
            // Without the year: what is asked about is recent, and the line is short.
            show_time(election.at_ms).chars().skip("2026-".len()).collect(),
            reason(election),
            silence,
            pre_vote,
            vote,
            ready,
        ]);
    }
    table.render()
}

/// The cause with its numbers, short enough for a column.
fn reason(election: &Election) -> String {
    let number = |of: &str| election.numbers.get(of).copied().map_or_else(dash, tenths);
    match election.cause.as_str() {
        "silence" => format!("silence: phi {} of {}", number("phi"), number("threshold")),
        "stall" => format!("stall: {} of {} ms", number("oldest_sync_ms"), number("budget_ms")),
        "lag" => format!("lag: {} ms", number("lag_ms")),
        word => word.replace('_', " "),
    }
}

fn phases(phases: &ElectionPhases) -> [String; 4] {
    let ElectionPhases { silence_ms, pre_vote_ms, vote_ms, ready_ms } = phases;
    [silence_ms, pre_vote_ms, vote_ms, ready_ms]
        .map(|phase_ms| phase_ms.map_or_else(dash, |phase_ms| phase_ms.to_string()))
}

fn previous(election: &Election) -> String {
    election.previous.map_or_else(dash, |id| name(election.previous_name.as_deref(), id))
}

/// A node's name; a node that is no member any more has none.
fn name(known: Option<&str>, id: u64) -> String {
    known.map_or_else(|| format!("({id})"), str::to_owned)
}

fn dash() -> String {
    "-".to_owned()
}

/// With one digit after the point, unless that is zero.
fn tenths(number: f64) -> String {
    let text = format!("{number:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

fn whole(number: f64) -> String {
    format!("{number:.0}")
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::collections::BTreeMap;

    use mainstay_client::IgnoredHeartbeats;

    fn peer(id: u64, name: Option<&str>) -> PeerReading {
        PeerReading {
            id,
            name: name.map(str::to_owned),
            level: "suspect".to_owned(),
            phi: Some(287.25),
            suspect_threshold: 12.0,
            failed_threshold: 24.0,
            score: 4,
            reason: "alone".to_owned(),
            mean_ms: 250.4,
            deviation_ms: 25.0,
            acceptable_pause_ms: 480.0,
            tail_scale_ms: 50.0,
            period_ms: 250.0,
            silence_ms: 123_456.7,
            oldest_sync_ms: 1_234.0,
            scheduling_lag_ms: 15.5,
            tail_share: 0.02,
            samples: 200,
            incarnation: 1,
            heartbeats: 1_000_000,
            missed: 12_345,
            mistakes: 12,
            ignored: IgnoredHeartbeats {
                duplicate: 1,
                reordered: 2,
                old_incarnation: 3,
                absurd: 4,
            },
        }
    }

    fn election(cause: &str, numbers: &[(&str, f64)]) -> Election {
        Election {
            term: 12_345,
            leader: 12,
            leader_name: Some("node-2".to_owned()),
            previous: Some(11),
            previous_name: Some("node-1".to_owned()),
            at_ms: 1_700_000_000_000,
            cause: cause.to_owned(),
            why: format!("because of {cause}"),
            numbers: numbers.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect(),
            phases: ElectionPhases {
                silence_ms: Some(312),
                vote_ms: Some(6),
                ..Default::default()
            },
        }
    }

    fn detector() -> FailureDetector {
        FailureDetector {
            node: OwnReading {
                id: 11,
                name: Some("n1".to_owned()),
                leader: Some(12),
                leader_name: Some("n2".to_owned()),
                score: 0,
                reason: "well".to_owned(),
                scheduling_lag_ms: 0.24,
                oldest_sync_ms: 3.0,
                stall_budget_ms: 300.0,
                silent_peers: 0,
                local_pauses: 0,
                unknown_heartbeats: 0,
            },
            peers: vec![peer(12, Some("node-2")), peer(13, Some("node-3"))],
            elections: vec![
                election("silence", &[("phi", 8.25), ("threshold", 8.0)]),
                election("stall", &[("oldest_sync_ms", 1_234.0), ("budget_ms", 1_000.0)]),
            ],
        }
    }

    #[test]
    fn both_tables_fit_a_terminal_and_cut_nothing() {
        let detector = detector();
        let text = headline(&detector.node)
            + &peers_table(&detector)
            + &elections_table(&detector.elections);
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        assert!(!text.contains('…'), "{text}");
        for part in ["node-3", "suspect", "287.2", "silence: phi 8.2 of 8", "11-14 22:13:20", "312"]
        {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }

    #[test]
    fn the_headline_says_who_leads_and_how_the_node_is_itself() {
        let mut node = detector().node;
        assert_eq!(
            headline(&node),
            "as n1 sees it; n2 leads\nit is well itself: timers late by 0.2 ms, oldest sync 3 ms, \
             stall budget 300 ms\n"
        );
        (node.leader, node.score, node.reason) = (None, 4, "alone".to_owned());
        let text = headline(&node);
        assert!(text.contains("no leader is known"), "{text}");
        assert!(text.contains("it hears less than half of the others (score 4 of 8)"), "{text}");
    }

    #[test]
    fn plain_lines_begin_with_what_they_are_about() {
        let mut detector = detector();
        detector.peers = vec![PeerReading { phi: None, ..peer(13, None) }];
        detector.elections = vec![Election { previous: None, ..election("operator", &[]) }];
        let text = lines(&detector);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("node\tn1\tleader=n2\tscore=0\t"), "{text}");
        assert!(lines[1].starts_with("peer\t(13)\tsuspect\tphi=-\tsuspect=12\t"), "{text}");
        assert_eq!(
            lines[2],
            "election\tterm=12345\tleader=node-2\tprevious=-\tat=2023-11-14 22:13:20\t\
             cause=operator\tphases_ms=312+-+6+-\tbecause of operator"
        );
    }

    #[test]
    fn a_cluster_without_elections_says_so() {
        assert_eq!(elections_table(&[]), "no elections are known\n");
        let unknown = Election { numbers: BTreeMap::new(), ..election("lag", &[]) };
        assert_eq!(reason(&unknown), "lag: - ms");
        assert_eq!(reason(&election("no_leader", &[])), "no leader");
    }
}
