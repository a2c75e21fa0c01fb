//! What was read, looked at before anything is written: whether all of it fits.

use anyhow::Context;
use mainstay_client::KeyValue;

use super::{
    Reading,
    destination::{Destination, Limits, STEP_BYTES_MAX},
    spool::KEY_OVERHEAD_BYTES,
};
use crate::{encoding::escaped, exit::Refusal};

/// What the numbers of a pair take in a step, written as JSON.
const PAIR_OVERHEAD_BYTES: usize = 160;

/// Keys that are named when they do not fit.
const NAMED_MAX: usize = 10;

/// What there is.
pub(super) struct Survey {
    /// The lowest revision that is written; `None` without keys.
    pub(super) first_revision: Option<u64>,
    limits: Limits,
    /// Logical bytes in the destination.
    bytes: u64,
    oversized: Misfits,
    crowded: Misfits,
}

/// What does not fit: the first few, and how many there are.
#[derive(Default)]
struct Misfits {
    named: Vec<String>,
    count: u64,
}

impl Misfits {
    fn add(&mut self, name: impl FnOnce() -> String) {
        self.count += 1;
        if self.named.len() < NAMED_MAX {
            self.named.push(name());
        }
    }

    fn list(&self) -> String {
        let rest = self.count - self.named.len() as u64;
        let more = if rest > 0 { format!(", and {rest} more") } else { String::new() };
        format!("{}{more}", self.named.join(", "))
    }
}

impl Survey {
    /// Looks at all keys.
    pub(super) fn of(reading: &mut Reading, destination: &Destination) -> anyhow::Result<Self> {
        let places = reading.spool.by_revision();
        let mut survey = Self {
            first_revision: places.first().map(|place| place.mod_revision),
            limits: destination.limits(),
            bytes: reading.leases.len() as u64 * KEY_OVERHEAD_BYTES,
            oversized: Misfits::default(),
            crowded: Misfits::default(),
        };
        let mut revision = (0, 0_usize);
        for place in places {
            let pair = reading.spool.read(place).context("look at what was read")?;
            survey.look_at(&pair);
            // A revision is written by one step.
            let bytes = step_bytes(&pair);
            revision = if revision.0 == place.mod_revision {
                (revision.0, revision.1 + bytes)
            } else {
                (place.mod_revision, bytes)
            };
            if revision.1 > STEP_BYTES_MAX && revision.1 - bytes <= STEP_BYTES_MAX {
                survey.crowded.add(|| format!("revision {}", place.mod_revision));
            }
        }
        Ok(survey)
    }

    fn look_at(&mut self, pair: &KeyValue) {
        let (key, value) = (pair.key.len() as u64, pair.value.len() as u64);
        self.bytes += key + value + KEY_OVERHEAD_BYTES;
        if key > self.limits.key_bytes_max {
            self.oversized.add(|| format!("{} (a key of {key} bytes)", shown(&pair.key)));
        } else if value > self.limits.value_bytes_max {
            self.oversized.add(|| format!("{} (a value of {value} bytes)", shown(&pair.key)));
        }
    }

    /// Refuses what does not fit.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        let Limits { key_bytes_max, value_bytes_max, quota_bytes, .. } = self.limits;
        if self.oversized.count > 0 {
            return Err(Refusal(format!(
                "{} keys are larger than this cluster takes (key_bytes_max {key_bytes_max}, \
                 value_bytes_max {value_bytes_max}), and nothing was written: {}; raise the \
                 settings with PUT /v1/cluster/settings, or make the keys smaller",
                self.oversized.count,
                self.oversized.list()
            )));
        }
        if self.crowded.count > 0 {
            return Err(Refusal(format!(
                "what single transactions wrote is more than a step of an import takes \
                 ({STEP_BYTES_MAX} bytes), and nothing was written: {}; write some of these keys \
                 once more",
                self.crowded.list()
            )));
        }
        if self.bytes >= quota_bytes {
            return Err(Refusal(format!(
                "the keys make up {} bytes, and the quota of this cluster is {quota_bytes}; \
                 nothing was written: raise the setting quota_bytes",
                self.bytes
            )));
        }
        Ok(())
    }
}

/// What a pair takes in a step, about.
pub(super) fn step_bytes(pair: &KeyValue) -> usize {
    pair.key.len() + pair.value.len() + PAIR_OVERHEAD_BYTES
}

/// A key as a person can read it, cut.
fn shown(key: &[u8]) -> String {
    const BYTES_MAX: usize = 60;
    let ellipsis = if key.len() > BYTES_MAX { "…" } else { "" };
    format!("{}{ellipsis}", escaped(&key[..key.len().min(BYTES_MAX)]))
}
