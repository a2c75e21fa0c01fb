//! The data folder of a stopped node, checked from front to back.

use std::{path::Path, sync::Arc};

use mainstay_node::{Examination, recovery::Progress};

use super::report::Finding;
use crate::commands::recover::Bar;

/// Reads everything in the folder; a finding for each part, or the one that ends it.
pub(super) async fn check(data_dir: &Path) -> Vec<Finding> {
    let progress: Arc<dyn Progress> = Arc::new(Bar::default());
    let subject = data_dir.display().to_string();
    match Examination::of(data_dir, &progress).await {
        Ok(examination) => findings(&subject, &examination),
        Err(error) => {
            let remedy = if error.is_in_use() {
                "stop the node first, or ask it: mainstay doctor --endpoints URL"
            } else {
                "keep the folder aside and let the node join again with an empty one; \
                 docs/runbook/wiped-node.md"
            };
            let found = crate::complaint::chain(&error.into());
            vec![Finding::fail("folder", &subject, found, remedy)]
        }
    }
}

fn findings(subject: &str, examination: &Examination) -> Vec<Finding> {
    let Examination { folder, members, .. } = examination;
    let mut findings = vec![Finding::ok(
        "folder",
        subject,
        format!(
            "node {} ({}) of cluster {} in epoch {}, with {members} members",
            folder.name, folder.node_id, examination.cluster_id, examination.epoch
        ),
    )];
    if folder.removed {
        findings.push(Finding::warn(
            "folder",
            subject,
            "its node was removed from the cluster".to_owned(),
            "start it with an empty folder to join again as a new node",
        ));
    }
    let place = |position: Option<mainstay_node::LogPosition>| {
        position.map_or_else(|| "nothing".to_owned(), |position| position.to_string())
    };
    findings.push(Finding::ok(
        "log",
        subject,
        format!(
            "{} bytes, sound up to {}; saved commit {}",
            examination.log_bytes,
            place(folder.last),
            place(folder.committed)
        ),
    ));
    if folder.torn {
        findings.push(Finding::warn(
            "log",
            subject,
            "the last write was cut short by a loss of power, and is cut off at the next start"
                .to_owned(),
            "nothing, unless the machine did not lose power: then look at its disk",
        ));
    }
    findings.push(Finding::ok(
        "snapshot",
        subject,
        match examination.snapshot_bytes {
            Some(bytes) => format!("{bytes} bytes, sound, up to {}", place(examination.snapshot)),
            None => "there is none yet".to_owned(),
        },
    ));
    findings.push(Finding::ok(
        "store",
        subject,
        format!(
            "{} keys at revision {}, after {} entries on top of the snapshot",
            examination.keys, examination.revision, examination.entries
        ),
    ));
    findings
}
