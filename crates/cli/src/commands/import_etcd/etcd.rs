//! A server of the etcd v3 API, read: keys of one revision page by page, leases, and what else it
//! has that an import cannot take along.
//!
//! Calls that fail for a reason that may pass are repeated at the next endpoint, a few times. All
//! pages are of one revision, so a store that is written meanwhile gives one picture; if that
//! revision is compacted while it is read the caller has to begin anew.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use mainstay_client::KeyValue;
use mainstay_etcd_protocol::etcdserverpb::{
    AuthRoleListRequest, AuthStatusRequest, AuthUserListRequest, LeaseLeasesRequest,
    LeaseTimeToLiveRequest, MemberListRequest, RangeRequest, RangeResponse, ResponseHeader,
    StatusRequest, auth_client::AuthClient, cluster_client::ClusterClient, kv_client::KvClient,
    lease_client::LeaseClient, maintenance_client::MaintenanceClient,
};
use mainstay_world as world;
use tonic::{Code, Response, Status};

use super::channel::Channel;

/// How long a call may take.
const CALL_DEADLINE: Duration = Duration::from_secs(30);

/// How often a call is tried.
const ATTEMPTS_MAX: u32 = 10;

/// The first wait before another attempt; the n-th is n times as long.
const WAIT: Duration = Duration::from_millis(100);

/// Keys asked for first, and at most.
const PAGE_KEYS_MIN: i64 = 16;
const PAGE_KEYS_MAX: i64 = 2_048;

/// Pages are made to have about as many bytes.
const PAGE_BYTES: usize = 1024 * 1024;

/// The largest answer that is read: a page whose keys are much larger than those before it.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Why a server could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum EtcdError {
    /// No endpoint answers.
    #[error("{0}")]
    Unavailable(String),
    /// It says no.
    #[error("{address} refuses to {what}: {message}")]
    Refused {
        /// Who.
        address: String,
        /// What was asked for.
        what: &'static str,
        /// What kind of a no.
        code: Code,
        /// Its words.
        message: String,
    },
    /// The revision that was being read is gone.
    #[error("revision {revision} was compacted while it was read")]
    Compacted {
        /// That revision.
        revision: u64,
    },
}

/// What a server says about itself, and what cannot be taken along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct About {
    pub(super) cluster_id: u64,
    /// Its version of etcd.
    pub(super) version: String,
    pub(super) members: usize,
    /// What is wrong with it, in its words.
    pub(super) errors: Vec<String>,
    /// Whether it asks for passwords; `None` if it is too old to say so.
    pub(super) auth: Option<bool>,
    pub(super) users: usize,
    pub(super) roles: usize,
}

/// A lease of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) id: u64,
    pub(super) ttl_ms: u64,
    pub(super) remaining_ms: u64,
}

/// A server, by its endpoints.
#[derive(Debug)]
pub(super) struct Etcd {
    addresses: Vec<String>,
    /// The endpoint that is asked.
    at: usize,
    clients: Clients,
}

#[derive(Debug, Clone)]
struct Clients {
    kv: KvClient<Channel>,
    lease: LeaseClient<Channel>,
    cluster: ClusterClient<Channel>,
    maintenance: MaintenanceClient<Channel>,
    auth: AuthClient<Channel>,
}

impl Etcd {
    /// Connects to the first endpoint that can be reached.
    pub(super) async fn connect(addresses: Vec<String>) -> Result<Self, EtcdError> {
        let mut failures = Vec::new();
        for (at, address) in addresses.iter().enumerate() {
            match Clients::connect(address).await {
                Ok(clients) => return Ok(Self { at, clients, addresses }),
                Err(error) => failures.push(format!("{address}: {error}")),
            }
        }
        let failures = failures.join("; ");
        Err(EtcdError::Unavailable(format!("no endpoint can be reached: {failures}")))
    }

    /// What it says about itself.
    pub(super) async fn about(&mut self) -> Result<About, EtcdError> {
        let status = self
            .call("show its status", |mut clients: Clients| async move {
                clients.maintenance.status(StatusRequest {}).await
            })
            .await?;
        let members = self
            .call("list its members", |mut clients: Clients| async move {
                clients.cluster.member_list(MemberListRequest::default()).await
            })
            .await?;
        let auth = self
            .call("say whether it asks for passwords", |mut clients: Clients| async move {
                clients.auth.auth_status(AuthStatusRequest {}).await
            })
            .await;
        let auth = match auth {
            Ok(status) => Some(status.enabled),
            Err(EtcdError::Refused { code: Code::Unimplemented, .. }) => None,
            Err(error) => return Err(error),
        };
        let users = self
            .call("list its users", |mut clients: Clients| async move {
                clients.auth.user_list(AuthUserListRequest {}).await
            })
            .await;
        let roles = self
            .call("list its roles", |mut clients: Clients| async move {
                clients.auth.role_list(AuthRoleListRequest {}).await
            })
            .await;
        Ok(About {
            cluster_id: status.header.unwrap_or_default().cluster_id,
            version: status.version,
            members: members.members.len(),
            errors: status.errors,
            auth,
            // Who may not ask is told so when the keys are read.
            users: users.map_or(0, |list| list.users.len()),
            roles: roles.map_or(0, |list| list.roles.len()),
        })
    }

    /// The present revision.
    pub(super) async fn revision(&mut self) -> Result<u64, EtcdError> {
        let key = Bytes::from_static(b"\0");
        let request = RangeRequest { key, count_only: true, ..RangeRequest::default() };
        let header: ResponseHeader = self.range(request).await?.header.unwrap_or_default();
        Ok(header.revision.unsigned_abs())
    }

    /// Hands over every key of `revision`, in order; how many there are is told with each page.
    pub(super) async fn walk(
        &mut self,
        revision: u64,
        mut take: impl FnMut(KeyValue, u64) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut key = Bytes::from_static(b"\0");
        let mut limit = PAGE_KEYS_MIN;
        let mut seen = 0_u64;
        loop {
            let request = RangeRequest {
                key: key.clone(),
                range_end: Bytes::from_static(b"\0"),
                revision: i64::try_from(revision).unwrap_or(i64::MAX),
                limit,
                ..RangeRequest::default()
            };
            let page = match self.range(request).await {
                Err(EtcdError::Refused { code: Code::OutOfRange, message, .. })
                    if message.contains("compacted") =>
                {
                    return Err(EtcdError::Compacted { revision }.into());
                }
                Err(EtcdError::Refused { code: Code::OutOfRange, message, .. })
                    if message.contains("too large") && limit > 1 =>
                {
                    limit = (limit / 8).max(1);
                    continue;
                }
                page => page?,
            };
            let Some(last) = page.kvs.last() else { return Ok(()) };
            key = Bytes::from([&last.key[..], &[0]].concat());
            limit = next_limit(limit, &page);
            // The count is of the keys from the start of the page on.
            let all = seen + page.count.unsigned_abs();
            seen += page.kvs.len() as u64;
            let more = page.more;
            for pair in page.kvs {
                take(
                    KeyValue {
                        key: pair.key,
                        value: pair.value,
                        create_revision: pair.create_revision.unsigned_abs(),
                        mod_revision: pair.mod_revision.unsigned_abs(),
                        version: pair.version.unsigned_abs(),
                        lease: pair.lease.cast_unsigned(),
                    },
                    all,
                )?;
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// All leases that have not ended.
    pub(super) async fn leases(&mut self) -> Result<Vec<Lease>, EtcdError> {
        let listed = self
            .call("list its leases", |mut clients: Clients| async move {
                clients.lease.lease_leases(LeaseLeasesRequest {}).await
            })
            .await?;
        let mut leases = Vec::new();
        for lease in listed.leases {
            let request = LeaseTimeToLiveRequest { id: lease.id, keys: false };
            let shown = self
                .call("show a lease", |mut clients: Clients| async move {
                    clients.lease.lease_time_to_live(request).await
                })
                .await?;
            // It may have ended since it was listed.
            if let (Ok(remaining), Ok(granted)) =
                (u64::try_from(shown.ttl), u64::try_from(shown.granted_ttl))
                && granted > 0
            {
                leases.push(Lease {
                    id: lease.id.cast_unsigned(),
                    ttl_ms: granted.saturating_mul(1_000),
                    remaining_ms: remaining.saturating_mul(1_000),
                });
            }
        }
        leases.sort_unstable_by_key(|lease| lease.id);
        Ok(leases)
    }

    async fn range(&mut self, request: RangeRequest) -> Result<RangeResponse, EtcdError> {
        self.call("be read", |mut clients: Clients| {
            let request = request.clone();
            async move { clients.kv.range(request).await }
        })
        .await
    }

    async fn call<R, F>(
        &mut self,
        what: &'static str,
        ask: impl Fn(Clients) -> F,
    ) -> Result<R, EtcdError>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let mut last = String::new();
        for attempt in 0..ATTEMPTS_MAX {
            if attempt > 0 {
                world::sleep(WAIT * attempt).await;
                self.go_on_elsewhere().await;
            }
            let answer = world::timeout(CALL_DEADLINE, ask(self.clients.clone())).await;
            let status = match answer {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) => status,
                Err(_elapsed) => Status::deadline_exceeded("no answer in time"),
            };
            let address = self.addresses[self.at].clone();
            let (code, message) = (status.code(), status.message().to_owned());
            let may_pass =
                [Code::Unavailable, Code::Unknown, Code::Cancelled, Code::DeadlineExceeded];
            if !may_pass.contains(&code) {
                return Err(EtcdError::Refused { address, what, code, message });
            }
            last = format!("{address} does not {what}: {message}");
        }
        Err(EtcdError::Unavailable(format!("{last}; given up after {ATTEMPTS_MAX} attempts")))
    }

    /// Goes on with the next endpoint that can be reached, or stays if there is none.
    async fn go_on_elsewhere(&mut self) {
        for step in 1..=self.addresses.len() {
            let at = (self.at + step) % self.addresses.len();
            if let Ok(clients) = Clients::connect(&self.addresses[at]).await {
                (self.at, self.clients) = (at, clients);
                return;
            }
        }
    }
}

impl Clients {
    async fn connect(address: &str) -> std::io::Result<Self> {
        let channel = Channel::open(address).await?;
        let origin: http::Uri =
            format!("http://{address}").parse().map_err(std::io::Error::other)?;
        Ok(Self {
            kv: KvClient::with_origin(channel.clone(), origin.clone())
                .max_decoding_message_size(ANSWER_BYTES_MAX),
            lease: LeaseClient::with_origin(channel.clone(), origin.clone())
                .max_decoding_message_size(ANSWER_BYTES_MAX),
            cluster: ClusterClient::with_origin(channel.clone(), origin.clone()),
            maintenance: MaintenanceClient::with_origin(channel.clone(), origin.clone()),
            auth: AuthClient::with_origin(channel, origin),
        })
    }
}

/// As many keys as make a page of about [`PAGE_BYTES`], and not many more than the last time.
fn next_limit(limit: i64, page: &RangeResponse) -> i64 {
    let bytes: usize = page.kvs.iter().map(|pair| pair.key.len() + pair.value.len() + 32).sum();
    let keys = page.kvs.len().max(1);
    let wanted = i64::try_from(PAGE_BYTES * keys / bytes.max(1)).unwrap_or(PAGE_KEYS_MAX);
    wanted.min(limit * 2).clamp(1, PAGE_KEYS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_etcd_protocol::mvccpb;

    #[test]
    fn pages_grow_slowly_towards_their_bytes_and_shrink_at_once() {
        let page = |keys: usize, value: usize| {
            let pair = mvccpb::KeyValue {
                key: Bytes::from_static(b"key"),
                value: Bytes::from(vec![0; value]),
                ..mvccpb::KeyValue::default()
            };
            RangeResponse { kvs: vec![pair; keys], ..RangeResponse::default() }
        };
        assert_eq!(next_limit(16, &page(16, 10)), 32, "twice as many at most");
        assert_eq!(next_limit(PAGE_KEYS_MAX, &page(2_048, 10)), PAGE_KEYS_MAX);
        assert_eq!(next_limit(512, &page(512, 100_000)), 10, "a page has about a megabyte");
        assert_eq!(next_limit(16, &page(16, 1_500_000)), 1, "one key at least");
    }
}
