//! How a node with an empty folder joins a running cluster.
//!
//! It asks who answers at the URL that it was given, and then has that member add it as a learner;
//! the member's answer names the cluster, which is stored in the folder before anything else. What
//! may pass by itself is waited for, up to a limit, and told at once; what cannot pass ends the node
//! with the reason. A folder that is in a cluster already only has its cluster compared, as far as
//! the member answers.

mod obstacle;

use std::{sync::Arc, time::Duration};

use mainstay_client::{
    CallError, Client, ClientOptions, Endpoint, EndpointError, MemberChange, NewMember,
};
use mainstay_consensus::Consensus;
use mainstay_world::{self as world, Instant, Net};
use tracing::info;

use self::obstacle::Obstacle;

/// The pause between two attempts; it grows up to the longest one.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How long whoever is at the URL may take to say who it is.
const INTRODUCTION: Duration = Duration::from_secs(1);

/// How long one attempt to be added may take.
const ATTEMPT: Duration = Duration::from_secs(5);

/// How often the same obstacle is told again.
const REMINDER: Duration = Duration::from_secs(10);

/// How long a member may take to say which cluster it is in.
const COMPARING: Duration = Duration::from_secs(2);

/// A node that could not join. The cluster is as it was, unless it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The URL is none.
    #[error("the option join cannot be used")]
    Url(#[from] EndpointError),
    /// Whatever answers at the URL can never add a node.
    #[error(
        "{why}; start this node again with --join and the client URL of a member (mainstay member \
         list shows them)"
    )]
    NoMember {
        /// Who answers there instead, as a clause that names the URL.
        why: String,
    },
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
        "nothing came of it within {} s, at last: {why}; start this node again with --join and the \
         client URL of a member that runs (mainstay member list shows them), its data folder may \
         stay as it is",
        waited.as_secs_f64()
    )]
    TimedOut {
        /// How long it was tried.
        waited: Duration,
        /// What came of the last attempt, as a clause that names the URL.
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

/// Joins the cluster of the member at `url`; ends when the folder is in that cluster. Goes on for
/// `patience` against what may pass by itself.
pub(crate) async fn join(
    consensus: &Consensus,
    net: Arc<dyn Net>,
    url: &str,
    patience: Duration,
) -> Result<(), JoinError> {
    let endpoint: Endpoint = url.parse()?;
    let options = ClientOptions { timeout: ATTEMPT, ..ClientOptions::new(vec![endpoint.clone()]) };
    let client = Client::new(Arc::clone(&net), options);
    let folder = consensus.status().cluster_id;
    if folder != 0 {
        return compare(folder, &client, url).await;
    }
    consensus.set_trouble(&format!("this node is joining the cluster of {url}"));
    let record = consensus.own_record();
    let member = NewMember { peer_address: record.peer_address, id: Some(record.folder_id) };
    let mut joining = Joining { net, client, endpoint, member, version: None };
    let give_up = Instant::now() + patience;
    let mut pause = PAUSE;
    let mut told: Option<(String, Instant)> = None;
    loop {
        let why = match joining.attempt().await {
            Ok(change) => {
                let entered = consensus.enter_cluster(change.cluster_id, change.epoch).await;
                entered.map_err(|why| JoinError::Enter { why })?;
                info!(cluster = %format_args!("{:016x}", change.cluster_id),
                    replaces = ?change.replaces, "this node is a learner of the cluster");
                return Ok(());
            }
            Err(Obstacle::NoMember(why)) => return Err(JoinError::NoMember { why }),
            Err(Obstacle::Refusal(why)) => {
                return Err(JoinError::Refused { url: url.to_owned(), why });
            }
            Err(Obstacle::Passing(why)) => why,
        };
        let now = Instant::now();
        let left = give_up.since(now);
        if left.is_zero() {
            return Err(JoinError::TimedOut { waited: patience, why });
        }
        let is_news =
            told.as_ref().is_none_or(|(before, at)| *before != why || now.since(*at) >= REMINDER);
        if is_news {
            // Whole seconds, and not fewer than there are.
            let left_s = left.as_millis().div_ceil(1000);
            consensus.set_trouble(&format!(
                "this node could not join yet: {why}; it goes on trying for {left_s} s"
            ));
            told = Some((why, now));
        }
        world::sleep(pause.min(left)).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// What an attempt needs.
struct Joining {
    net: Arc<dyn Net>,
    client: Client,
    endpoint: Endpoint,
    /// This node.
    member: NewMember,
    /// The version of the member at the URL, once it has introduced itself.
    version: Option<String>,
}

impl Joining {
    async fn attempt(&mut self) -> Result<MemberChange, Obstacle> {
        let version = match &self.version {
            Some(known) => known,
            None => &*self.version.insert(self.introduction().await?),
        };
        match self.client.add_member(&self.member, false).await {
            Ok(answer) => Ok(answer.value),
            Err(error) => Err(Obstacle::of_member(&error, version)),
        }
    }

    /// The version of the node at the URL, which is a member or may become one.
    async fn introduction(&self) -> Result<String, Obstacle> {
        let options = ClientOptions {
            discover: false,
            timeout: INTRODUCTION,
            attempt_timeout: INTRODUCTION,
            unreachable_patience: Duration::ZERO,
            ..ClientOptions::new(vec![self.endpoint.clone()])
        };
        match Client::new(Arc::clone(&self.net), options).version().await {
            Ok(answer) if self.member.id == Some(answer.header.member_id) => {
                let why = format!("{} is this node itself", self.endpoint);
                Err(Obstacle::NoMember(why))
            }
            Ok(answer) => Ok(answer.value.mainstay),
            Err(error) => Err(Obstacle::of_stranger(&error, &self.net, &self.endpoint).await),
        }
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

fn sentence(error: &CallError) -> String {
    let mut text = error.failure.to_string();
    let mut cause = std::error::Error::source(&error.failure);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
