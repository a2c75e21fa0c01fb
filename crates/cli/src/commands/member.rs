//! `mainstay member`: who is in the cluster, and changing it.

use std::{fmt::Write as _, io::Write as _};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use mainstay_client::{Client, Cluster, Member, MemberChange, NewMember, TookEffect};

use crate::{arguments::Output, exit::Exit, screen::Screen, table::Table};

#[derive(Debug, Args)]
#[command(
    after_help = "A node joins by itself when it is started with an empty folder and --join URL, \
    and gets a vote\nwhen it has kept up for ten seconds. With the name of a member that is gone it \
    takes its place."
)]
pub(crate) struct MemberArguments {
    #[command(subcommand)]
    command: MemberCommand,
}

#[derive(Debug, Subcommand)]
enum MemberCommand {
    /// Add the node that waits at a peer address, as a learner
    Add {
        /// Where its peers dial it
        #[arg(value_name = "HOST:PORT")]
        peer_address: String,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Give a learner a vote now; it gets one by itself when it keeps up
    Promote {
        /// The name or the id of the learner
        #[arg(value_name = "MEMBER")]
        member: String,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Remove a member for ever; refused if fewer failures would be tolerated
    Remove {
        /// The name or the id of the member
        #[arg(value_name = "MEMBER")]
        member: String,
        /// Remove it even if fewer failures are tolerated then
        #[arg(long)]
        force: bool,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// List the members
    List,
}

impl MemberArguments {
    /// Whether it is more than a look.
    pub(crate) const fn changes_something(&self) -> bool {
        match self.command {
            MemberCommand::Add { dry_run, .. }
            | MemberCommand::Promote { dry_run, .. }
            | MemberCommand::Remove { dry_run, .. } => !dry_run,
            MemberCommand::List => false,
        }
    }
}

/// Nobody knows whether the members were changed; what to do about it is another thing than with a
/// write.
#[derive(Debug, thiserror::Error)]
#[error("it is unknown who is a member now")]
pub(crate) struct MembersUnknown;

pub(crate) async fn run(
    arguments: &MemberArguments,
    client: &Client,
    output: Output,
) -> anyhow::Result<Exit> {
    let changed = match &arguments.command {
        MemberCommand::Add { peer_address, dry_run } => {
            let member = NewMember { peer_address: peer_address.clone(), id: None };
            client.add_member(&member, *dry_run).await
        }
        MemberCommand::Promote { member, dry_run } => client.promote_member(member, *dry_run).await,
        MemberCommand::Remove { member, force, dry_run } => {
            client.remove_member(member, *force, *dry_run).await
        }
        MemberCommand::List => return list(client, output).await,
    };
    let change = match changed {
        Ok(answer) => answer.value,
        Err(error) if error.took_effect == TookEffect::Unknown => {
            return Err(error).context(MembersUnknown);
        }
        Err(error) => return Err(error.into()),
    };
    let mut screen = Screen::new();
    match output {
        Output::Simple => writeln!(screen, "{}", sentence(&change))?,
        Output::Table => screen.write_all(table(&change).as_bytes())?,
        Output::Json => screen.json(&change)?,
    }
    screen.finish()?;
    Ok(Exit::Done)
}

async fn list(client: &Client, output: Output) -> anyhow::Result<Exit> {
    let mut cluster = client.cluster().await?.value;
    cluster.members.sort_by(|one, other| (&one.name, one.id).cmp(&(&other.name, other.id)));
    let mut screen = Screen::new();
    match output {
        Output::Simple => {
            for member in &cluster.members {
                writeln!(screen, "{}", line(member))?;
            }
        }
        Output::Table => screen.write_all(members_table(&cluster).as_bytes())?,
        Output::Json => screen.json(&json(&cluster))?,
    }
    screen.finish()?;
    Ok(Exit::Done)
}

/// What happened, or would, in one sentence.
fn sentence(change: &MemberChange) -> String {
    let MemberChange { id, name, replaces, .. } = change;
    let (before, after) = (change.failures_tolerated_before, change.failures_tolerated_after);
    let mut text = if change.dry_run { "dry run: ".to_owned() } else { String::new() };
    let told = match (change.change.as_str(), replaces) {
        ("unchanged", _) => format!("nothing to do: {name} (node {id}) is so already"),
        ("added", Some(old)) => format!(
            "{name} (node {id}) is a learner; when it has kept up for ten seconds it takes the \
             place of node {old}"
        ),
        ("added", None) => format!(
            "{name} (node {id}) is a learner; it gets a vote when it has kept up for ten seconds"
        ),
        ("promoted", _) => format!("{name} (node {id}) has a vote"),
        ("replaced", old) => {
            let old = old.map_or_else(String::new, |old| format!(" of node {old}"));
            format!("{name} (node {id}) has a vote, in the place{old}")
        }
        ("removed", _) => format!("{name} (node {id}) is no member any more"),
        (other, _) => format!("{name} (node {id}): {other}"),
    };
    write!(text, "{told}; failures tolerated: {before} before, {after} after")
        .expect("a string takes all that is written");
    text
}

fn table(change: &MemberChange) -> String {
    let head = ["CHANGE", "NAME", "ID", "REPLACES", "DRY RUN", "TOLERATED BEFORE", "AFTER"];
    let mut table = Table::new(&head);
    table.row([
        change.change.clone(),
        change.name.clone(),
        change.id.to_string(),
        change.replaces.map_or_else(|| "-".to_owned(), |id| id.to_string()),
        if change.dry_run { "yes" } else { "no" }.to_owned(),
        change.failures_tolerated_before.to_string(),
        change.failures_tolerated_after.to_string(),
    ]);
    table.render()
}

fn line(member: &Member) -> String {
    let Member { name, id, role, peer_address, .. } = member;
    let clients = member.client_urls.join(",");
    format!("{name} {id} {role} {peer_address} {clients}")
}

fn members_table(cluster: &Cluster) -> String {
    let mut table =
        Table::new(&["NAME", "ID", "ROLE", "VOTE", "HEALTHY", "ZONE", "PEERS", "CLIENTS"]);
    let yes_or_no = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    for member in &cluster.members {
        table.row([
            member.name.clone(),
            member.id.to_string(),
            member.role.clone(),
            yes_or_no(member.voter),
            yes_or_no(member.healthy),
            member.zone.clone(),
            member.peer_address.clone(),
            member.client_urls.join(","),
        ]);
    }
    table.render()
}

fn json(cluster: &Cluster) -> serde_json::Value {
    let member = |member: &Member| {
        serde_json::json!({
            "id": member.id.to_string(),
            "name": member.name,
            "role": member.role,
            "voter": member.voter,
            "healthy": member.healthy,
            "zone": member.zone,
            "peer_address": member.peer_address,
            "client_urls": member.client_urls,
        })
    };
    serde_json::json!({
        "failures_tolerated": cluster.failures_tolerated,
        "members": cluster.members.iter().map(member).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(word: &str, replaces: Option<u64>) -> MemberChange {
        MemberChange {
            change: word.to_owned(),
            id: 4,
            name: "n4".to_owned(),
            replaces,
            dry_run: false,
            failures_tolerated_before: 0,
            failures_tolerated_after: 1,
            cluster_id: 7,
            epoch: 1,
            took_ms: 3,
        }
    }

    #[test]
    fn one_sentence_says_what_happened_and_what_is_tolerated_now() {
        for (change, said) in [
            (
                change("added", None),
                "n4 (node 4) is a learner; it gets a vote when it has kept up for ten seconds; \
                 failures tolerated: 0 before, 1 after",
            ),
            (
                change("replaced", Some(3)),
                "n4 (node 4) has a vote, in the place of node 3; failures tolerated: 0 before, 1 \
                 after",
            ),
            (
                MemberChange { dry_run: true, ..change("removed", None) },
                "dry run: n4 (node 4) is no member any more; failures tolerated: 0 before, 1 after",
            ),
        ] {
            assert_eq!(sentence(&change), said);
        }
    }
}
