//! Questions about the cluster and its nodes; the asked node answers from what it knows itself.

use std::collections::BTreeMap;

use http::StatusCode;
use mainstay_world::{Instant, spawn};
use serde::{Deserialize, Serialize};

use crate::{answer::Answer, call::Call, client::Client, error::CallError, json::Decimal};

/// The cluster as one node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// The cluster.
    pub cluster_id: u64,
    /// Its epoch; a restore starts a new one.
    pub epoch: u64,
    /// The term.
    pub term: u64,
    /// The leader, if one is known.
    pub leader: Option<u64>,
    /// The revision of the asked node's store.
    pub revision: u64,
    /// Healthy voters minus quorum; negative when writes cannot succeed.
    pub failures_tolerated: i64,
    /// The replicated settings, as the API writes them.
    pub settings: BTreeMap<String, serde_json::Value>,
    /// The members.
    pub members: Vec<Member>,
    /// What only the asked node can tell.
    pub node: NodeState,
}

/// What a node tells about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeState {
    /// The node id.
    pub id: u64,
    /// The revision of its store.
    pub revision: u64,
    /// Index of the last committed entry it knows of.
    pub committed_index: u64,
    /// Index of the last entry in its store.
    pub applied_index: u64,
    /// Why it refuses writes, if it does; as `reason` of code `read_only`.
    pub read_only: Option<String>,
    /// What keeps it from serving, as a sentence, if anything does.
    pub trouble: Option<String>,
}

/// One member of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The node id.
    pub id: u64,
    /// The name that people use.
    pub name: String,
    /// `leader`, `follower`, `candidate` or `learner`.
    pub role: String,
    /// Whether it has a vote.
    pub voter: bool,
    /// Where peers dial it.
    pub peer_address: String,
    /// Where clients find it.
    pub client_urls: Vec<String>,
    /// The failure zone, or empty.
    pub zone: String,
    /// Whether the asked node hears from it.
    pub healthy: bool,
}

/// How well a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// `healthy`, `degraded` or `unhealthy`.
    pub status: String,
    /// `"true"` only if writes can succeed; follows etcd.
    pub health: String,
    /// What is wrong, or empty.
    #[serde(default)]
    pub reason: String,
    /// The single checks.
    #[serde(default)]
    pub checks: Vec<HealthCheck>,
}

/// One check of a node's health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// What is checked.
    pub name: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was found.
    #[serde(default)]
    pub detail: String,
}

/// The versions that a node speaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The program.
    pub mainstay: String,
    /// The etcd version whose protocol it follows.
    #[serde(default)]
    pub etcdserver: String,
}

#[derive(Deserialize)]
struct ClusterJson {
    cluster_id: Decimal,
    epoch: Decimal,
    term: Decimal,
    leader: Option<Decimal>,
    revision: Decimal,
    failures_tolerated: i64,
    #[serde(default)]
    settings: BTreeMap<String, serde_json::Value>,
    members: Vec<MemberJson>,
    #[serde(default)]
    node: NodeJson,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NodeJson {
    id: Decimal,
    revision: Decimal,
    committed_index: Decimal,
    applied_index: Decimal,
    read_only: Option<String>,
    trouble: Option<String>,
}

#[derive(Deserialize)]
struct MemberJson {
    id: Decimal,
    name: String,
    role: String,
    voter: bool,
    peer_address: String,
    client_urls: Vec<String>,
    #[serde(default)]
    zone: String,
    healthy: bool,
}

impl From<ClusterJson> for Cluster {
    fn from(json: ClusterJson) -> Self {
        Self {
            cluster_id: json.cluster_id.0,
            epoch: json.epoch.0,
            term: json.term.0,
            leader: json.leader.map(|id| id.0),
            revision: json.revision.0,
            failures_tolerated: json.failures_tolerated,
            settings: json.settings,
            members: json.members.into_iter().map(Member::from).collect(),
            node: NodeState::from(json.node),
        }
    }
}

impl From<NodeJson> for NodeState {
    fn from(json: NodeJson) -> Self {
        Self {
            id: json.id.0,
            revision: json.revision.0,
            committed_index: json.committed_index.0,
            applied_index: json.applied_index.0,
            read_only: json.read_only,
            trouble: json.trouble,
        }
    }
}

impl From<MemberJson> for Member {
    fn from(json: MemberJson) -> Self {
        Self {
            id: json.id.0,
            name: json.name,
            role: json.role,
            voter: json.voter,
            peer_address: json.peer_address,
            client_urls: json.client_urls,
            zone: json.zone,
            healthy: json.healthy,
        }
    }
}

impl Client {
    /// Asks for the members in the background, if it is time to.
    pub(crate) fn refresh_members_if_due(&self, now: Instant) {
        if self.shared.endpoints.is_refresh_due(now) {
            let client = self.clone();
            spawn(async move { client.refresh_members().await });
        }
    }

    /// Asks one node after the other for the members, until one tells.
    async fn refresh_members(&self) {
        let shared = &*self.shared;
        let call = Call::read("/v1/cluster".to_owned());
        let mut tried = Vec::new();
        let told = loop {
            let now = Instant::now();
            let Some(node) = shared.endpoints.pick(&tried, now) else { break None };
            tried.push(node.endpoint().clone());
            match shared.attempt(&node, &call, now + shared.options.attempt_timeout).await {
                Ok(answer) => match serde_json::from_slice::<ClusterJson>(&answer.body) {
                    Ok(json) => break Some(Cluster::from(json)),
                    Err(error) => tracing::debug!(%error, "the members cannot be read"),
                },
                Err(error) => tracing::debug!(%error, "the members were not told"),
            }
        };
        shared.endpoints.refreshed(told.as_ref(), Instant::now());
    }

    /// The cluster as the asked node sees it.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn cluster(&self) -> Result<Answer<Cluster>, CallError> {
        let call = Call::read("/v1/cluster".to_owned());
        Ok(self.call_json::<ClusterJson>(&call).await?.map(Cluster::from))
    }

    /// How well the asked node is; a node that serves nothing answers too.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn health(&self) -> Result<Answer<Health>, CallError> {
        let call = Call::read("/health".to_owned()).also_answers(StatusCode::SERVICE_UNAVAILABLE);
        self.call_json(&call).await
    }

    /// The versions that the asked node speaks.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn version(&self) -> Result<Answer<Version>, CallError> {
        self.call_json(&Call::read("/version".to_owned())).await
    }
}
