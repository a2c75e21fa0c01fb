//! One client: calls through the Rust client, every call noted with what became of it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use mainstay_client::{
    AnswerHeader, CallError, Client, ClientOptions, Consistency as AskedConsistency, DeleteRequest,
    GetRequest, Origin as AskedOrigin, PutRequest, Staleness as ToldStaleness, TookEffect,
    TxnRequest,
    command::{Compare, KeyRange, Operand, Operation, Put, Relation, Txn},
};
use mainstay_world::Net;

use crate::{
    cluster::client_url,
    dice::Dice,
    history::{
        Answer, Call, Consistency, Expected, Found, OperationId, Origin, Outcome, Staleness,
    },
    record::SharedRecord,
    workload::etcd::EtcdCalls,
};

/// How long a call may take in all.
const TIMEOUT: Duration = Duration::from_millis(3_000);

/// How long a client waits for the answer of one node.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(800);

/// See the module comment.
pub(super) struct Caller {
    pub(super) number: u32,
    pub(super) dice: Dice,
    pub(super) record: SharedRecord,
    /// One client for each place, and one that knows all nodes.
    of_node: Vec<Client>,
    roaming: Option<Client>,
    /// Set if it speaks etcd's protocol instead.
    etcd: Option<EtcdCalls>,
    node: u32,
    session: Option<Numbered>,
}

/// A session whose writes this client numbers by itself, so that it can repeat one.
#[derive(Debug, Clone, Copy)]
struct Numbered {
    session: u64,
    last: u64,
}

/// How a call ended, and what it says of the node that answered.
type Ended = (Outcome, Option<u64>);

impl Caller {
    pub(super) fn new(
        number: u32,
        places: u32,
        mut dice: Dice,
        net: Arc<dyn Net>,
        record: SharedRecord,
    ) -> Self {
        let client =
            |order: &[u32], discover| client(Arc::clone(&net), order, ATTEMPT_TIMEOUT, discover);
        let mut order = record.lock().in_use.clone();
        dice.shuffle(&mut order);
        // Where nodes come and go, whoever knows all of them has to find the new ones.
        let discover = places as usize > order.len();
        Self {
            number,
            of_node: (0..places).map(|node| client(&[node], false)).collect(),
            roaming: (number % 2 == 1).then(|| client(&order, discover)),
            etcd: None,
            node: order[0],
            dice,
            record,
            session: None,
        }
    }

    /// The same client, over etcd's protocol: one node at a time, and nothing is sent twice.
    pub(super) fn over_etcd(mut self, places: u32, net: Arc<dyn Net>) -> Self {
        self.etcd = Some(EtcdCalls::new(places, net, self.record.clone()));
        self
    }

    /// Whether it speaks etcd's protocol.
    pub(super) const fn is_over_etcd(&self) -> bool {
        self.etcd.is_some()
    }

    /// Its calls over etcd's protocol.
    ///
    /// # Panics
    /// If it speaks the native one.
    pub(super) const fn etcd(&self) -> &EtcdCalls {
        self.etcd.as_ref().expect("a client of etcd's protocol has its calls")
    }

    /// The node that it asks.
    pub(super) const fn node(&self) -> u32 {
        self.node
    }

    /// Asks another node from now on.
    pub(super) fn move_on(&mut self) {
        let record = self.record.lock();
        let after = record.in_use.iter().find(|node| **node > self.node);
        self.node = after.or(record.in_use.first()).copied().unwrap_or(self.node);
    }

    /// Asks this node from now on, and no other.
    pub(super) fn stay_with(&mut self, node: u32) {
        self.roaming = None;
        self.node = node;
    }

    pub(super) fn client(&self) -> Client {
        self.roaming.clone().unwrap_or_else(|| self.of_node[self.node as usize].clone())
    }

    /// Carries out `call`; its outcome is noted.
    pub(super) async fn call(&mut self, call: Call) -> Outcome {
        let id = self.begin(call.clone());
        let (outcome, member) = match &self.etcd {
            Some(etcd) => etcd.carry_out(self.node, &call, &mut self.dice).await,
            None => self.carry_out(&call).await,
        };
        let settled = matches!(outcome, Outcome::Ok { .. });
        self.end(id, member, outcome.clone());
        // Whoever asks one node only would never see another one lag.
        if !settled || self.etcd.is_some() && self.dice.percent(10) {
            self.move_on();
        }
        outcome
    }

    fn begin(&self, call: Call) -> OperationId {
        self.record.lock().invoked(now_us(), self.number, self.node, call)
    }

    fn end(&self, id: OperationId, member: Option<u64>, outcome: Outcome) {
        let mut record = self.record.lock();
        let node = member.and_then(|member| record.node_of(member));
        record.returned(now_us(), id, node, outcome);
    }

    async fn carry_out(&self, call: &Call) -> Ended {
        let client = self.client();
        match call {
            Call::Put { key, value, lease, origin } => {
                let request = PutRequest {
                    lease: *lease,
                    origin: asked(origin),
                    ..PutRequest::new(key.clone(), value.clone())
                };
                let answer = client.put(request).await.map(|answer| {
                    let created = answer.value.created;
                    (answer.header, answer.value.revision, Answer::Put { created })
                });
                ended(answer, true)
            }
            Call::Get { key, consistency } => {
                let consistency = match consistency {
                    Consistency::Linearizable => AskedConsistency::Linearizable,
                    Consistency::Stale => AskedConsistency::Stale,
                    Consistency::Past(_) => unreachable!("only etcd's clients read the past"),
                };
                let request = GetRequest { consistency, ..GetRequest::new(key.clone()) };
                let answer = client.get(request).await.map(|answer| {
                    let found = answer
                        .value
                        .map(|pair| Found { value: pair.value, mod_revision: pair.mod_revision });
                    let staleness = answer.header.staleness.map(|staleness| match staleness {
                        ToldStaleness::Ms(ms) => Staleness::Ms(ms),
                        ToldStaleness::Unknown => Staleness::Unknown,
                    });
                    (answer.header, answer.header.revision, Answer::Got { found, staleness })
                });
                ended(answer, false)
            }
            Call::Delete { key, origin } => {
                let request = DeleteRequest {
                    key: key.clone(),
                    if_mod_revision: None,
                    origin: asked(origin),
                };
                let answer = client.delete(request).await.map(|answer| {
                    let deleted = answer.value.deleted > 0;
                    (answer.header, answer.value.revision, Answer::Deleted { deleted })
                });
                ended(answer, true)
            }
            Call::CompareAndSet { key, expected, value, lease, origin } => {
                let txn = compare_and_set(key, expected, value, *lease);
                let request = TxnRequest { origin: asked(origin), ..TxnRequest::new(txn) };
                let answer = client.txn(request).await.map(|answer| {
                    let succeeded = answer.value.outcome.succeeded;
                    (answer.header, answer.value.revision, Answer::Compared { succeeded })
                });
                ended(answer, true)
            }
            Call::LeaseGrant { ttl_ms } => {
                let answer = client.lease_grant(*ttl_ms, 0).await.map(|answer| {
                    let granted = Answer::LeaseGranted {
                        lease: answer.value.id,
                        ttl_ms: answer.value.ttl_ms,
                    };
                    (answer.header, answer.header.revision, granted)
                });
                ended(answer, true)
            }
            Call::LeaseKeepAlive { lease } => kept_alive(client.lease_keep_alive(*lease).await),
            Call::LeaseRevoke { lease } => {
                let answer = client.lease_revoke(*lease).await.map(|answer| {
                    let deleted = answer.value.deleted;
                    (answer.header, answer.value.revision, Answer::LeaseRevoked { deleted })
                });
                ended(answer, true)
            }
            Call::LeaseTimeToLive { .. } | Call::Compact { .. } => {
                unreachable!("only etcd's clients ask for this")
            }
        }
    }

    /// What makes the next write recognisable: nothing, a key, or a number of the session, which
    /// is opened first.
    pub(super) async fn next_origin(&mut self) -> Origin {
        if self.etcd.is_some() {
            return Origin::Unnumbered;
        }
        match self.dice.below(3) {
            0 => Origin::Unnumbered,
            1 => Origin::Key(Bytes::from(format!("{:016x}", self.dice.next_u64()))),
            _ => {
                if self.session.is_none() {
                    let opened = self.client().open_session().await.ok();
                    self.session =
                        opened.map(|session| Numbered { session: session.id(), last: 0 });
                }
                match &mut self.session {
                    Some(numbered) => {
                        numbered.last += 1;
                        Origin::Session { session: numbered.session, number: numbered.last }
                    }
                    None => Origin::Unnumbered,
                }
            }
        }
    }

    /// Lets go of the session, which the store ended.
    pub(super) const fn drop_session(&mut self) {
        self.session = None;
    }
}

/// A client that knows these nodes, in this order, and finds out about others if told to.
pub(super) fn client(
    net: Arc<dyn Net>,
    order: &[u32],
    attempt_timeout: Duration,
    discover: bool,
) -> Client {
    let endpoints = order
        .iter()
        .map(|node| client_url(*node).parse().expect("a simulated address is well formed"))
        .collect();
    // The checkers know what kind of write it was.
    let options = ClientOptions {
        discover,
        sessions: false,
        timeout: TIMEOUT,
        attempt_timeout,
        connect_timeout: Duration::from_millis(250),
        watch_silence_max: Duration::from_millis(2_000),
        watch_patience: Duration::from_secs(3600),
        ..ClientOptions::new(endpoints)
    };
    Client::new(net, options)
}

/// Simulated time on this host.
pub(super) fn now_us() -> u64 {
    turmoil::sim_elapsed()
        .map_or(0, |elapsed| u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX))
}

fn ended(answer: Result<(AnswerHeader, u64, Answer), CallError>, writes: bool) -> Ended {
    match answer {
        Ok((header, revision, answer)) => {
            let outcome = Outcome::Ok { revision, repeated: header.repeated, answer };
            (outcome, Some(header.member_id))
        }
        Err(error) => (failed(&error, writes), None),
    }
}

fn failed(error: &CallError, writes: bool) -> Outcome {
    if !writes || error.took_effect == TookEffect::No {
        Outcome::Refused { code: error.code().unwrap_or("not_sent").to_owned() }
    } else {
        Outcome::Unknown
    }
}

fn kept_alive(
    answer: Result<mainstay_client::Answer<mainstay_client::LeaseGranted>, CallError>,
) -> Ended {
    match answer {
        Err(error) if error.code() == Some("lease_not_found") => {
            let answer = Answer::LeaseKeptAlive { ttl_ms: None };
            (Outcome::Ok { revision: 0, repeated: false, answer }, None)
        }
        answer => ended(
            answer.map(|answer| {
                let ttl_ms = Some(answer.value.ttl_ms);
                (answer.header, answer.header.revision, Answer::LeaseKeptAlive { ttl_ms })
            }),
            true,
        ),
    }
}

fn asked(origin: &Origin) -> AskedOrigin {
    match origin {
        Origin::Unnumbered => AskedOrigin::Unnumbered,
        Origin::Key(key) => AskedOrigin::Key(key.clone()),
        // A worker waits for one answer at a time, and may repeat the last number.
        Origin::Session { session, number } => {
            AskedOrigin::Session { session: *session, number: *number, lowest_awaited: *number }
        }
    }
}

fn compare_and_set(key: &Bytes, expected: &Expected, value: &Bytes, lease: u64) -> Txn {
    let operand = match expected {
        Expected::Absent => Operand::Version(0),
        Expected::ModRevision(revision) => {
            Operand::ModRevision(i64::try_from(*revision).unwrap_or(i64::MAX))
        }
        Expected::Value(value) => Operand::Value(value.clone()),
    };
    Txn {
        compares: vec![Compare {
            range: KeyRange::key(key.clone()),
            relation: Relation::Equal,
            operand,
        }],
        success: vec![Operation::Put(Put {
            key: key.clone(),
            value: Some(value.clone()),
            lease: Some(lease),
            want_previous: false,
        })],
        failure: Vec::new(),
    }
}
