//! What an import came to: what there was, what is here now, and what could not come along.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Reading, etcd::About};
use crate::table::Table;

/// The report.
pub(super) struct Report {
    about: About,
    source: Side,
    /// What was read back; `None` of a dry run.
    pub(super) here: Option<Side>,
    /// What is not kept, a sentence each.
    not_kept: Vec<String>,
}

/// What is on one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Side {
    pub(super) keys: u64,
    pub(super) bytes: u64,
    pub(super) leases: u64,
    pub(super) revision: u64,
}

impl Side {
    const fn rows(&self) -> [(&'static str, u64); 4] {
        [
            ("keys", self.keys),
            ("bytes", self.bytes),
            ("leases", self.leases),
            ("revision", self.revision),
        ]
    }
}

impl Report {
    pub(super) fn new(about: &About, reading: &Reading) -> Self {
        let fingerprint = reading.spool.fingerprint();
        let source = Side {
            keys: fingerprint.keys(),
            bytes: fingerprint.bytes(),
            leases: (reading.leases.len() - reading.ended_leases) as u64,
            revision: reading.revision,
        };
        let not_kept = not_kept(about, &source, reading.ended_leases);
        Self { about: about.clone(), source, here: None, not_kept }
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = match self.here {
            Some(_) => "imported: every key was read back and is the same, with its revisions, \
                its count of writes and its lease\n\n"
                .to_owned(),
            None => "dry run: everything fits, and nothing was written\n\n".to_owned(),
        };
        let mut table = Table::new(&["", "SOURCE", "HERE"]);
        let here = self.here.map(|side| side.rows());
        for (at, (name, source)) in self.source.rows().into_iter().enumerate() {
            let here = here.map_or_else(String::new, |rows| rows[at].1.to_string());
            table.row([name.to_owned(), source.to_string(), here]);
        }
        text.push_str(&table.render());
        text.push_str("\nnot kept:\n");
        for sentence in &self.not_kept {
            writeln!(text, "- {sentence}").expect("a string takes all that is written");
        }
        text
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        json!({
            "dry_run": self.here.is_none(),
            "verified": self.here.is_some(),
            "source": {
                "cluster_id": self.about.cluster_id.to_string(),
                "version": self.about.version,
                "keys": self.source.keys.to_string(),
                "bytes": self.source.bytes.to_string(),
                "leases": self.source.leases.to_string(),
                "revision": self.source.revision.to_string(),
            },
            "here": self.here.map(|side| json!({
                "keys": side.keys.to_string(),
                "bytes": side.bytes.to_string(),
                "leases": side.leases.to_string(),
                "revision": side.revision.to_string(),
            })),
            "not_kept": self.not_kept,
        })
    }
}

fn not_kept(about: &About, source: &Side, ended_leases: usize) -> Vec<String> {
    let mut lost = vec![format!(
        "history before revision {}: it reads as compacted, and a watch that resumes after it \
         misses nothing",
        source.revision
    )];
    if source.leases > 0 {
        lost.push(
            "what was left of each lease: it has its whole time to live from now on".to_owned(),
        );
    }
    if ended_leases > 0 {
        lost.push(format!(
            "{ended_leases} leases ended while the source was read: their keys end here shortly, too"
        ));
    }
    let (users, roles) = (about.users, about.roles);
    if users + roles > 0 {
        lost.push(format!("{users} users and {roles} roles: Mainstay has none yet"));
    }
    if about.auth.is_none() {
        lost.push(format!(
            "whether etcd {} asks for passwords, which it does not tell",
            about.version
        ));
    }
    for error in &about.errors {
        lost.push(format!("an alarm of the source: {error}"));
    }
    lost.push(format!("its {} members: clients need the addresses of this cluster", about.members));
    lost
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_kept_is_said_only_where_there_is_something() {
        let about = About {
            cluster_id: 7,
            version: "3.4.23".to_owned(),
            members: 3,
            errors: Vec::new(),
            auth: Some(false),
            users: 0,
            roles: 0,
        };
        let side = Side { keys: 2, bytes: 10, leases: 0, revision: 9 };
        let plain = not_kept(&about, &side, 0).join("\n");
        assert!(plain.contains("before revision 9") && plain.contains("3 members"), "{plain}");
        for word in ["lease", "users", "alarm", "passwords"] {
            assert!(!plain.contains(word), "{plain}");
        }
        let about = About { users: 2, errors: vec!["NOSPACE".to_owned()], auth: None, ..about };
        let all = not_kept(&about, &Side { leases: 1, ..side }, 3).join("\n");
        for word in ["whole time to live", "3 leases ended", "2 users", "NOSPACE", "passwords"] {
            assert!(all.contains(word), "{word}: {all}");
        }
    }
}
