//! A client that reads and writes shared keys at random.

use std::time::Duration;

use bytes::Bytes;
use mainstay_world as world;

use super::{Orders, Workload, caller::Caller};
use crate::history::{Answer, Call, Consistency, Expected, Origin, Outcome};

/// Calls until told to stop.
pub(super) async fn run(mut caller: Caller, workload: Workload, orders: Orders) {
    let mut written = 0;
    let mut seen: Option<(Bytes, u64, Bytes)> = None;
    while !orders.is_stopped() {
        let think_ms = caller.dice.between(workload.think_ms.clone());
        world::sleep(Duration::from_millis(think_ms)).await;
        let key = key(caller.dice.below(workload.keys));
        written += 1;
        let value = value(caller.number, written, workload.value_len);
        let stale = caller.dice.percent(workload.stale_percent);
        let call = match caller.dice.below(100) {
            _ if stale => Call::Get { key, consistency: Consistency::Stale },
            0..41 => {
                let origin = caller.next_origin().await;
                Call::Put { key, value, lease: 0, origin }
            }
            41..78 => Call::Get { key, consistency: Consistency::Linearizable },
            78..85 => Call::Delete { key, origin: caller.next_origin().await },
            _ => {
                let origin = caller.next_origin().await;
                let (key, expected) = expectation(&mut caller, key, seen.take());
                Call::CompareAndSet { key, expected, value, lease: 0, origin }
            }
        };
        let outcome = call_and_perhaps_again(&mut caller, call.clone()).await;
        if let (
            Call::Get { key, .. },
            Outcome::Ok { answer: Answer::Got { found: Some(found), .. }, .. },
        ) = (call, outcome)
        {
            seen = Some((key, found.mod_revision, found.value));
        }
    }
    orders.one_stopped();
}

/// A recognisable write is repeated when nobody knows what became of it, and sometimes for no
/// reason at all.
async fn call_and_perhaps_again(caller: &mut Caller, call: Call) -> Outcome {
    let outcome = caller.call(call.clone()).await;
    if call.origin() == &Origin::Unnumbered {
        return outcome;
    }
    if let Outcome::Refused { code } = &outcome
        && code == "session_ended"
    {
        caller.drop_session();
    }
    let again = match outcome {
        Outcome::Unknown => caller.dice.percent(80),
        _ => caller.dice.percent(5),
    };
    if again { caller.call(call).await } else { outcome }
}

fn expectation(
    caller: &mut Caller,
    key: Bytes,
    seen: Option<(Bytes, u64, Bytes)>,
) -> (Bytes, Expected) {
    match seen {
        Some((key, _revision, value)) if caller.dice.percent(30) => (key, Expected::Value(value)),
        Some((key, revision, _value)) => (key, Expected::ModRevision(revision)),
        None => (key, Expected::Absent),
    }
}

/// Reads every key through every node, so that each acknowledged write is looked for.
pub(super) async fn read_all(mut caller: Caller, workload: &Workload, orders: &Orders) {
    let nodes = caller.record.lock().in_use.clone();
    for node in nodes {
        caller.stay_with(node);
        for number in 0..workload.keys {
            let call = Call::Get { key: key(number), consistency: Consistency::Linearizable };
            if matches!(caller.call(call).await, Outcome::Ok { .. }) {
                orders.one_checked();
            } else {
                break;
            }
            caller.stay_with(node);
        }
    }
    orders.check_ended();
}

fn key(number: u64) -> Bytes {
    Bytes::from(format!("k/{number}"))
}

/// No two writes of a run have the same value.
fn value(client: u32, written: u64, len: usize) -> Bytes {
    Bytes::from(format!("{client}-{written}-{}", "x".repeat(len)))
}
