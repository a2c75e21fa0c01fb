//! One call in etcd's words, and what came back in the checkers'.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use mainstay_etcd_protocol::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest,
    LeaseRevokeRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest, RequestOp,
    ResponseHeader, TxnRequest, compare::TargetUnion, kv_client::KvClient,
    lease_client::LeaseClient, request_op,
};
use mainstay_world::{self as world, Net};
use tonic::{Code, Request, Status};

use super::channel::{Broken, Channel};
use crate::{
    dice::Dice,
    history::{self, Answer, Call, Consistency, Expected, Found, Outcome, Staleness},
    record::SharedRecord,
    workload::caller::now_us,
};

/// How long a call may take, as the node is told.
const TIMEOUT: Duration = Duration::from_millis(1_000);

/// How long a client waits for an answer, which is a little longer.
const PATIENCE: Duration = Duration::from_millis(1_300);

const MS_PER_SECOND: u64 = 1_000;

/// Texts of `Unavailable` that say that nothing was done.
const NOT_TAKEN: [&str; 2] = ["etcdserver: no leader", "etcdserver: unhealthy cluster"];

/// Codes that say that nothing was done.
const REFUSED: [Code; 5] = [
    Code::InvalidArgument,
    Code::NotFound,
    Code::FailedPrecondition,
    Code::OutOfRange,
    Code::ResourceExhausted,
];

/// A client of each node.
pub(in crate::workload) struct EtcdCalls {
    channels: Vec<Channel>,
    net: Arc<dyn Net>,
    record: SharedRecord,
}

type Came = Result<(Option<ResponseHeader>, Answer), Status>;

impl EtcdCalls {
    pub(in crate::workload) fn new(places: u32, net: Arc<dyn Net>, record: SharedRecord) -> Self {
        let channels = (0..places).map(|node| Channel::new(Arc::clone(&net), node)).collect();
        Self { channels, net, record }
    }

    /// A way to the node that nobody shares.
    pub(super) fn channel_of_its_own(&self, node: u32) -> Channel {
        Channel::new(Arc::clone(&self.net), node)
    }

    /// Carries a call out; its outcome, and the member that answered.
    pub(in crate::workload) async fn carry_out(
        &self,
        node: u32,
        call: &Call,
        dice: &mut Dice,
    ) -> (Outcome, Option<u64>) {
        let channel = &self.channels[node as usize];
        let came = world::timeout(PATIENCE, Box::pin(self.send(channel, call, dice))).await;
        let writes = !matches!(call, Call::Get { .. } | Call::LeaseTimeToLive { .. });
        match came {
            Ok(Ok((header, answer))) => {
                let header = header.unwrap_or_default();
                let revision = unsigned(header.revision);
                (Outcome::Ok { revision, repeated: false, answer }, Some(header.member_id))
            }
            Ok(Err(status)) => {
                let outcome = failed(&status, writes);
                note_status(&self.record, node, &status);
                (outcome, None)
            }
            Err(_elapsed) => {
                channel.forget();
                let outcome = if writes {
                    Outcome::Unknown
                } else {
                    Outcome::Refused { code: "no answer".to_owned() }
                };
                (outcome, None)
            }
        }
    }

    async fn send(&self, channel: &Channel, call: &Call, dice: &mut Dice) -> Came {
        match call {
            Call::Put { .. } | Call::Get { .. } | Call::Delete { .. } | Call::Compact { .. } => {
                key_value(channel, call).await
            }
            Call::CompareAndSet { key, expected, value, lease, .. } => {
                let past = dice.percent(20).then(|| self.some_past_revision(dice));
                let txn = compare_and_set(key, expected, value, *lease, past);
                let mut client = KvClient::with_origin(channel.clone(), channel.origin());
                let came = client.txn(request(txn)).await?.into_inner();
                Ok((came.header, Answer::Compared { succeeded: came.succeeded }))
            }
            Call::LeaseGrant { .. }
            | Call::LeaseKeepAlive { .. }
            | Call::LeaseRevoke { .. }
            | Call::LeaseTimeToLive { .. } => lease(channel, call).await,
        }
    }

    /// A revision of the recent past that may have been compacted.
    fn some_past_revision(&self, dice: &mut Dice) -> u64 {
        let compacted = self.record.lock().compacted();
        (compacted + dice.below(6)).saturating_sub(3).max(1)
    }
}

async fn key_value(channel: &Channel, call: &Call) -> Came {
    let mut client = KvClient::with_origin(channel.clone(), channel.origin());
    match call {
        Call::Put { key, value, lease, .. } => {
            let put = PutRequest { prev_kv: true, ..put(key, value, *lease) };
            let came = client.put(request(put)).await?.into_inner();
            Ok((came.header, Answer::Put { created: came.prev_kv.is_none() }))
        }
        Call::Get { key, consistency } => {
            let range = RangeRequest {
                key: key.clone(),
                serializable: *consistency == Consistency::Stale,
                revision: match consistency {
                    Consistency::Past(revision) => signed(*revision),
                    Consistency::Linearizable | Consistency::Stale => 0,
                },
                ..RangeRequest::default()
            };
            let came = client.range(request(range)).await?.into_inner();
            let found = came
                .kvs
                .into_iter()
                .next()
                .map(|pair| Found { value: pair.value, mod_revision: unsigned(pair.mod_revision) });
            // etcd does not say how old the answer to a serializable read is.
            let staleness = (*consistency == Consistency::Stale).then_some(Staleness::Unknown);
            Ok((came.header, Answer::Got { found, staleness }))
        }
        Call::Delete { key, .. } => {
            let delete = DeleteRangeRequest { key: key.clone(), ..DeleteRangeRequest::default() };
            let came = client.delete_range(request(delete)).await?.into_inner();
            Ok((came.header, Answer::Deleted { deleted: came.deleted > 0 }))
        }
        Call::Compact { revision } => {
            let compaction =
                CompactionRequest { revision: signed(*revision), ..CompactionRequest::default() };
            let came = client.compact(request(compaction)).await?.into_inner();
            Ok((came.header, Answer::Compacted))
        }
        other => unreachable!("{other} is not about keys"),
    }
}

async fn lease(channel: &Channel, call: &Call) -> Came {
    let mut client = LeaseClient::with_origin(channel.clone(), channel.origin());
    match call {
        Call::LeaseGrant { ttl_ms } => {
            let ttl = signed(ttl_ms.div_ceil(MS_PER_SECOND));
            let came = client.lease_grant(request(LeaseGrantRequest { ttl, id: 0 })).await?;
            let came = came.into_inner();
            let (lease, ttl_ms) = (unsigned(came.id), unsigned(came.ttl) * MS_PER_SECOND);
            Ok((came.header, Answer::LeaseGranted { lease, ttl_ms }))
        }
        Call::LeaseKeepAlive { lease } => {
            let once = stream::iter([LeaseKeepAliveRequest { id: signed(*lease) }]);
            let mut answers = client.lease_keep_alive(Request::new(once)).await?.into_inner();
            let came = answers.message().await?.ok_or_else(broken)?;
            let ttl_ms = (came.ttl > 0).then(|| unsigned(came.ttl) * MS_PER_SECOND);
            Ok((came.header, Answer::LeaseKeptAlive { ttl_ms }))
        }
        Call::LeaseRevoke { lease } => {
            let revocation = LeaseRevokeRequest { id: signed(*lease) };
            let came = client.lease_revoke(request(revocation)).await?.into_inner();
            Ok((came.header, Answer::LeaseRevoked { deleted: 0 }))
        }
        Call::LeaseTimeToLive { lease } => {
            let question = LeaseTimeToLiveRequest { id: signed(*lease), keys: false };
            let came = client.lease_time_to_live(request(question)).await?.into_inner();
            let left_ms = u64::try_from(came.ttl).ok().map(|ttl| ttl * MS_PER_SECOND);
            Ok((came.header, Answer::LeaseTold { left_ms }))
        }
        other => unreachable!("{other} is not about leases"),
    }
}

/// Notes what a node refused; a connection that broke is no word of the node.
pub(super) fn note_status(record: &SharedRecord, node: u32, status: &Status) {
    if std::error::Error::source(status).is_some() {
        return;
    }
    let status = history::Status {
        at_us: now_us(),
        node,
        code: format!("{:?}", status.code()),
        text: status.message().to_owned(),
    };
    record.lock().history.statuses.push(status);
}

fn failed(status: &Status, writes: bool) -> Outcome {
    let refused = || Outcome::Refused { code: status.message().to_owned() };
    let Some(source) = std::error::Error::source(status) else {
        let not_taken = REFUSED.contains(&status.code())
            || status.code() == Code::Unavailable && NOT_TAKEN.contains(&status.message());
        return if !writes || not_taken { refused() } else { Outcome::Unknown };
    };
    let unsent = source.downcast_ref::<Broken>().is_some_and(|broken| !broken.sent);
    if !writes || unsent { refused() } else { Outcome::Unknown }
}

/// A stream that ended without an answer.
fn broken() -> Status {
    let mut status = Status::unavailable("no answer");
    status.set_source(Arc::new(Broken { sent: true }));
    status
}

fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(TIMEOUT);
    request
}

fn put(key: &Bytes, value: &Bytes, lease: u64) -> PutRequest {
    PutRequest {
        key: key.clone(),
        value: value.clone(),
        lease: signed(lease),
        ..PutRequest::default()
    }
}

/// Writes if the key is as expected; may read a past revision beside it, which was perhaps
/// compacted: then nothing is written.
fn compare_and_set(
    key: &Bytes,
    expected: &Expected,
    value: &Bytes,
    lease: u64,
    past: Option<u64>,
) -> TxnRequest {
    use mainstay_etcd_protocol::etcdserverpb::compare::{CompareResult, CompareTarget};

    let (target, operand) = match expected {
        Expected::Absent => (CompareTarget::Create, TargetUnion::CreateRevision(0)),
        Expected::ModRevision(revision) => {
            (CompareTarget::Mod, TargetUnion::ModRevision(signed(*revision)))
        }
        Expected::Value(value) => (CompareTarget::Value, TargetUnion::Value(value.clone())),
    };
    let compare = Compare {
        result: CompareResult::Equal.into(),
        target: target.into(),
        key: key.clone(),
        target_union: Some(operand),
        ..Compare::default()
    };
    let operation = |request| RequestOp { request: Some(request) };
    let read = |revision: u64| {
        let range = RangeRequest {
            key: key.clone(),
            revision: signed(revision),
            ..RangeRequest::default()
        };
        operation(request_op::Request::RequestRange(range))
    };
    let write = operation(request_op::Request::RequestPut(put(key, value, lease)));
    TxnRequest {
        compare: vec![compare],
        success: [write].into_iter().chain(past.map(read)).collect(),
        failure: vec![read(0)],
    }
}

pub(super) const fn unsigned(number: i64) -> u64 {
    number.cast_unsigned()
}

pub(super) const fn signed(number: u64) -> i64 {
    number.cast_signed()
}
