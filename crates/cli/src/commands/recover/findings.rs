//! What a recovery shows before it is done, and after: what was found, what may be lost, what is
//! decided, and what comes next.

use std::{fmt::Write as _, path::Path};

use mainstay_node::{
    LogPosition,
    recovery::{Findings, FolderFinding, MemberFinding, NewCluster},
};
use serde_json::{Value, json};

use crate::table::Table;

/// Everything that a person needs to decide.
pub(super) fn text(findings: &Findings, into: &Path) -> String {
    let best = &findings.folders[findings.best];
    format!(
        "Folders of cluster {}, epoch {}:\n{}\nMembers of the cluster as {} knew it:\n{}\n{}\n{}",
        findings.cluster_id,
        findings.epoch,
        folders_table(findings),
        best.name,
        members_table(findings),
        losses(findings),
        plan(findings, into),
    )
}

fn folders_table(findings: &Findings) -> String {
    let mut table = Table::new(&["FOLDER", "NODE", "LAST ENTRY", "SAVED COMMIT", "NOTES"]);
    for (at, folder) in findings.folders.iter().enumerate() {
        let mut notes = Vec::new();
        if at == findings.best {
            notes.push("goes furthest");
        }
        if folder.torn {
            notes.push("last write cut short");
        }
        if folder.removed {
            notes.push("was removed from the cluster");
        }
        table.row([
            folder.path.display().to_string(),
            folder.name.clone(),
            place(folder.last),
            place(folder.committed),
            notes.join(", "),
        ]);
    }
    table.render()
}

fn members_table(findings: &Findings) -> String {
    let mut table = Table::new(&["NAME", "ID", "VOTER", "PEER", "FOLDER"]);
    for member in &findings.members {
        table.row([
            member.record.name.clone(),
            member.id.to_string(),
            if member.voter { "yes" } else { "no" }.to_owned(),
            member.record.peer_address.clone(),
            if member.is_given { "given" } else { "missing" }.to_owned(),
        ]);
    }
    table.render()
}

/// What may be gone, and what the recovery decides.
fn losses(findings: &Findings) -> String {
    let best = &findings.folders[findings.best];
    let mut text = String::new();
    let mut say = |line: String| {
        writeln!(text, "{line}").expect("a string takes all that is written");
    };
    if findings.is_quorum {
        say("Nothing is lost: the folders of a majority of the voters are here.".to_owned());
    } else {
        say(format!(
            "What may be lost: every write that the cluster acknowledged after {} of {}.\n\
             How many that are cannot be told from here: {} may know.",
            place(best.last),
            best.name,
            missing(findings),
        ));
    }
    if findings.wall_ms > 0 {
        say(format!("The last write there is {} old.", age(findings.wall_ms)));
    }
    if best.torn {
        say(format!(
            "The last batch in the log of {} was cut short; it is lost, too, if it was acknowledged.",
            best.name
        ));
    }
    if findings.undecided > 0 {
        say(format!(
            "What is decided about the last {} of the log, which may not be committed:\n\
             they count from now on, whether they were acknowledged or not.",
            count(findings.undecided, "entry", "entries"),
        ));
    }
    text
}

/// What the recovery makes.
fn plan(findings: &Findings, into: &Path) -> String {
    let best = &findings.folders[findings.best];
    format!(
        "The new cluster: {} as of revision {}, in epoch {}, with a new id and one node, in\n  {}\n\
         It begins at revision {}; everything below reads as compacted, leases get their whole\n\
         time to live, and sessions and idempotency keys stay. {} stays as it is.\n",
        count(findings.keys, "key", "keys"),
        findings.revision,
        findings.epoch + 1,
        into.display(),
        findings.revision_new,
        best.path.display(),
    )
}

/// What was made, and how to go on.
pub(super) fn done(new: &NewCluster, into: &Path) -> String {
    format!(
        "Cluster {} is in {}: epoch {}, revision {}.\n\
         Start its first node, with the addresses that it is to have:\n  \
         mainstay serve --name {} --data-dir {} --client-addr HOST:PORT --peer-addr HOST:PORT\n\
         Then let others join it, each with an empty folder:\n  \
         mainstay serve --name NAME --data-dir DIR --client-addr HOST:PORT --peer-addr HOST:PORT \
         --join URL\n\
         Keep the old folders until you are sure that nothing in them is needed.\n",
        new.cluster_id,
        into.display(),
        new.epoch,
        new.revision,
        new.name,
        into.display(),
    )
}

/// The same for programs.
pub(super) fn json(findings: &Findings, into: &Path, new: Option<&NewCluster>) -> Value {
    let position = |position: Option<LogPosition>| {
        position.map(|at| json!({"index": at.index.to_string(), "term": at.term.to_string()}))
    };
    let folder = |folder: &FolderFinding| {
        json!({
            "path": folder.path.display().to_string(),
            "node_id": folder.node_id.to_string(),
            "name": folder.name,
            "last": position(folder.last),
            "committed": position(folder.committed),
            "torn": folder.torn,
            "removed": folder.removed,
        })
    };
    let member = |member: &MemberFinding| {
        json!({
            "id": member.id.to_string(),
            "name": member.record.name,
            "voter": member.voter,
            "peer_address": member.record.peer_address,
            "client_urls": member.record.client_urls,
            "folder_given": member.is_given,
        })
    };
    let best = &findings.folders[findings.best];
    json!({
        "cluster_id": findings.cluster_id.to_string(),
        "epoch": findings.epoch.to_string(),
        "best": best.path.display().to_string(),
        "folders": findings.folders.iter().map(folder).collect::<Vec<_>>(),
        "members": findings.members.iter().map(member).collect::<Vec<_>>(),
        "may_lose_writes": !findings.is_quorum,
        "undecided_entries": findings.undecided.to_string(),
        "keys": findings.keys.to_string(),
        "revision": findings.revision.to_string(),
        "into": into.display().to_string(),
        "new_cluster": new.map(|new| json!({
            "cluster_id": new.cluster_id.to_string(),
            "epoch": new.epoch.to_string(),
            "node_id": new.node_id.to_string(),
            "name": new.name,
            "revision": new.revision.to_string(),
        })),
    })
}

/// The names of the voters whose folders are missing.
fn missing(findings: &Findings) -> String {
    let missing = findings.members.iter().filter(|member| member.voter && !member.is_given);
    missing.map(|member| member.record.name.as_str()).collect::<Vec<_>>().join(" and ")
}

/// The time since a moment, roughly.
fn age(wall_ms: u64) -> String {
    let seconds = mainstay_world::wall_clock_ms().saturating_sub(wall_ms) / 1_000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn place(position: Option<LogPosition>) -> String {
    position.map_or_else(|| "none".to_owned(), |position| position.to_string())
}

fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use mainstay_node::recovery::MemberRecord;

    /// One of three nodes is left, two entries ahead of its saved commit index.
    pub(in super::super) fn findings() -> Findings {
        let at = |index| Some(LogPosition { index, term: 4 });
        let member = |id: u64, name: &str| MemberFinding {
            id,
            record: MemberRecord {
                name: name.to_owned(),
                peer_address: format!("{name}:2380"),
                ..MemberRecord::default()
            },
            voter: true,
            is_given: id == 1,
        };
        Findings {
            cluster_id: 7,
            epoch: 1,
            folders: vec![FolderFinding {
                path: "/data/n1".into(),
                node_id: 1,
                name: "n1".to_owned(),
                last: at(812),
                committed: at(810),
                torn: false,
                removed: false,
            }],
            best: 0,
            members: vec![member(1, "n1"), member(2, "n2"), member(3, "n3")],
            is_quorum: false,
            undecided: 2,
            keys: 1,
            revision: 100,
            revision_new: 100 + (1 << 20),
            wall_ms: 0,
        }
    }

    #[test]
    fn what_may_be_lost_and_what_is_decided_is_said_plainly() {
        let text = text(&findings(), Path::new("/data/n1.recovered"));
        for wanted in [
            "index 812 of term 4",
            "n2 and n3 may know",
            "the last 2 entries of the log, which may not be committed",
            "1 key as of revision 100, in epoch 2",
            "begins at revision 1048676",
        ] {
            assert!(text.contains(wanted), "{wanted} is missing in\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }

    #[test]
    fn nothing_is_said_to_be_lost_when_a_majority_is_there() {
        let findings = Findings { is_quorum: true, undecided: 0, ..findings() };
        let text = losses(&findings);
        assert!(text.starts_with("Nothing is lost"), "{text}");
        assert!(!text.contains("decided"), "{text}");
    }

    #[test]
    fn ids_in_json_are_strings() {
        let json = json(&findings(), Path::new("/new"), None);
        assert_eq!(json["cluster_id"], "7");
        assert_eq!(json["folders"][0]["last"]["index"], "812");
        assert_eq!(json["new_cluster"], Value::Null);
        assert_eq!(json["members"][2]["folder_given"], false);
    }
}
