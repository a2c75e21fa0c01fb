//! How a node with an empty folder joins a running cluster.
//!
//! It asks the member that it was pointed to, over the client port, to add it as a learner; the
//! member's answer names the cluster, which is stored in the folder before anything else. What
//! passes by itself is waited for, up to a limit; a refusal ends the node with the reason. A folder
//! that is in a cluster already only has its cluster compared, as far as the member answers.

use std::{sync::Arc, time::Duration};

use mainstay_client::{
    CallError, Client, ClientOptions, Endpoint, EndpointError, Failure, NewMember,
};
use mainstay_consensus::Consensus;
use mainstay_world::{self as world, Instant, Net};
use tracing::{info, warn};

/// How long joining may take, until the cluster has taken this node as a learner.
const PATIENCE: Duration = Duration::from_secs(60);

/// The pause between two attempts; it grows up to the longest one.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(5);

/// How long a member may take to say which cluster it is in.
const COMPARING: Duration = Duration::from_secs(2);

/// A node that could not join. The cluster is as it was, unless it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The URL is none.
    #[error("the option join cannot be used")]
    Url(#[from] EndpointError),
    /// The cluster does not take this node.
    #[error("the cluster behind {url} does not take this node: {why}")]
    Refused {
        /// The member that was asked.
        url: String,
        /// What it says.
        why: String,
    },
    /// Nobody answered, or nobody could help, in time.
    #[error(
        "this node could not join through {url} within {} s: {why}; give --join the client URL of \
         a member that runs",
        PATIENCE.as_secs()
    )]
    TimedOut {
        /// The member that was asked.
        url: String,
        /// What came of the last attempt.
        why: String,
    },
    /// The folder is in another cluster.
    #[error(
        "the data folder belongs to cluster {folder:016x}, but {url} is in cluster {found:016x}; \
         start this node without --join to go on in its own cluster, or with an empty folder to \
         join the other one"
    )]
    OtherCluster {
        /// The cluster in the folder.
        folder: u64,
        /// The member that was asked.
        url: String,
        /// Its cluster.
        found: u64,
    },
    /// The cluster took this node, and the folder could not be written.
    #[error("the cluster took this node, which cannot take part: {why}")]
    Enter {
        /// What happened.
        why: String,
    },
}

/// Joins the cluster of the member at `url`; ends when the folder is in that cluster.
pub(crate) async fn join(
    consensus: &Consensus,
    net: Arc<dyn Net>,
    url: &str,
) -> Result<(), JoinError> {
    let endpoint: Endpoint = url.parse()?;
    let options = ClientOptions { timeout: ATTEMPT, ..ClientOptions::new(vec![endpoint]) };
    let client = Client::new(net, options);
    let folder = consensus.status().cluster_id;
    if folder != 0 {
        return compare(folder, &client, url).await;
    }
    consensus.set_trouble(&format!("this node is joining the cluster of {url}"));
    let record = consensus.own_record();
    let member = NewMember { peer_address: record.peer_address, id: Some(record.folder_id) };
    let give_up = Instant::now() + PATIENCE;
    let mut pause = PAUSE;
    loop {
        let error = match client.add_member(&member, false).await {
            Ok(answer) => {
                let change = answer.value;
                let entered = consensus.enter_cluster(change.cluster_id, change.epoch).await;
                entered.map_err(|why| JoinError::Enter { why })?;
                info!(cluster = %format_args!("{:016x}", change.cluster_id),
                    replaces = ?change.replaces, "this node is a learner of the cluster");
                return Ok(());
            }
            Err(error) => error,
        };
        let why = sentence(&error);
        if is_final(&error) {
            return Err(JoinError::Refused { url: url.to_owned(), why });
        }
        if give_up.since(Instant::now()) <= pause {
            return Err(JoinError::TimedOut { url: url.to_owned(), why });
        }
        warn!(url, why, "this node could not join yet, and tries again");
        consensus.set_trouble(&format!("this node is joining the cluster of {url}: {why}"));
        world::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Refuses a folder of another cluster than the one that the member is in.
async fn compare(folder: u64, client: &Client, url: &str) -> Result<(), JoinError> {
    // A member that does not answer proves nothing: the folder knows its cluster.
    if let Ok(Ok(answer)) = world::timeout(COMPARING, client.cluster()).await {
        let found = answer.value.cluster_id;
        if found != 0 && found != folder {
            return Err(JoinError::OtherCluster { folder, url: url.to_owned(), found });
        }
    }
    Ok(())
}

/// Whether asking again cannot help.
fn is_final(error: &CallError) -> bool {
    match &error.failure {
        Failure::Refused(problem) => {
            let passes = problem.retry_after_ms.is_some() || problem.code == "unreachable";
            (400..500).contains(&problem.status) && !passes
        }
        Failure::Malformed { .. } | Failure::Unsendable { .. } => true,
        _nobody_answered => false,
    }
}

fn sentence(error: &CallError) -> String {
    let mut text = error.failure.to_string();
    let mut cause = std::error::Error::source(&error.failure);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
