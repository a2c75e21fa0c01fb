//! The names of members, because people know nodes by their names and not by their ids.

use std::{collections::BTreeMap, sync::Arc};

use mainstay_consensus::{MemberStatus, Status};

use crate::http::json::Document;

/// The names of the present members.
#[derive(Debug, Clone)]
pub(crate) struct MemberNames(Arc<BTreeMap<u64, MemberStatus>>);

impl MemberNames {
    pub(crate) fn of(status: &Status) -> Self {
        Self(Arc::clone(&status.members))
    }

    /// The name of a member; `None` for a node that is no member any more.
    pub(crate) fn name(&self, id: u64) -> Option<&str> {
        self.0.get(&id).map(|member| member.record.name.as_str())
    }

    /// Appends `"leader":"11","leader_name":"n1"`, null for what is not known.
    pub(crate) fn write(&self, document: &mut Document, member: &str, id: Option<u64>) {
        match id {
            Some(id) => document.decimal(member, id),
            None => document.text("\"").text(member).text("\":null"),
        };
        document.text(",\"").text(member).text("_name\":");
        self.write_name(document, id);
    }

    /// Appends `"id":"11","name":"n1"`.
    pub(crate) fn write_identity(&self, document: &mut Document, id: u64) {
        document.decimal("id", id).text(",\"name\":");
        self.write_name(document, Some(id));
    }

    fn write_name(&self, document: &mut Document, id: Option<u64>) {
        match id.and_then(|id| self.name(id)) {
            Some(name) => document.string(name),
            None => document.text("null"),
        };
    }

    /// How a sentence calls a node.
    pub(crate) fn spoken(&self, id: u64) -> String {
        self.name(id).map_or_else(|| format!("node {id}, which is no member"), str::to_owned)
    }

    /// The member that `word` means: by its name, or else by its id.
    pub(crate) fn find(&self, word: &str) -> Option<u64> {
        let named = self.0.values().find(|member| member.record.name == word);
        let by_id = || word.parse().ok().filter(|id| self.0.contains_key(id));
        named.map(|member| member.id).or_else(by_id)
    }

    /// All members of this name: while one is replaced there are two.
    pub(crate) fn all_of(&self, name: &str) -> Vec<u64> {
        let named = self.0.values().filter(|member| member.record.name == name);
        named.map(|member| member.id).collect()
    }

    /// Whether there are none: the node is not in a cluster yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All names, for people to choose from.
    pub(crate) fn all(&self) -> String {
        let mut names: Vec<_> = self.0.values().map(|member| member.record.name.as_str()).collect();
        names.sort_unstable();
        names.join(", ")
    }
}

#[cfg(test)]
impl MemberNames {
    /// Members of these ids and names.
    pub(crate) fn for_tests(members: &[(u64, &str)]) -> Self {
        let member = |(id, name): &(u64, &str)| {
            let record = mainstay_consensus::MemberRecord {
                name: (*name).to_owned(),
                folder_id: *id,
                ..Default::default()
            };
            (*id, MemberStatus { id: *id, record, voter: true, healthy: true })
        };
        Self(Arc::new(members.iter().map(member).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_comes_before_an_id_that_looks_the_same() {
        let names = MemberNames::for_tests(&[(11, "n1"), (12, "n2"), (13, "11")]);
        for (word, id) in [
            ("n2", Some(12)),
            ("12", Some(12)),
            ("11", Some(13)),
            ("14", None),
            ("", None),
            ("N1", None),
        ] {
            assert_eq!(names.find(word), id, "{word:?}");
        }
        assert_eq!(names.all(), "11, n1, n2");
        assert_eq!(names.spoken(14), "node 14, which is no member");
    }
}
