//! What a receiver sees of a sender's heartbeats on ten networks.
//!
//! A trace is a list of heartbeats with the moments at which each was sent and arrived. Heartbeats
//! of one sender share a connection, so none overtakes another. The networks are synthetic and
//! seeded: seven of one kind throughout, three that change every five minutes, as a detector with
//! a single configuration meets them.

use crate::random::Random;

/// Nanoseconds of a millisecond.
pub(crate) const MS: f64 = 1e6;

/// The usual period in milliseconds.
const PERIOD: f64 = 50.0;

/// How long a changing network stays the same, in milliseconds.
const REGIME: f64 = 300_000.0;

/// One heartbeat; times in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    /// When it was sent.
    pub(crate) at: u64,
    /// When the next one was sent.
    pub(crate) next_at: u64,
    /// When it arrived; `None` if it was lost.
    pub(crate) arrived_at: Option<u64>,
    /// When the next one is due, as it says.
    pub(crate) period: u64,
    /// Which of a changing network's two states it fell in.
    pub(crate) regime: usize,
}

/// A kind of network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    CleanLan,
    SchedulingDelays,
    LossOnePercent,
    LossFivePercent,
    DiskStalls,
    BurstyWan,
    Jitter,
    LanAndWan,
    LossAppearing,
    PeriodChanging,
}

impl Network {
    pub(crate) const ALL: [Self; 10] = [
        Self::CleanLan,
        Self::SchedulingDelays,
        Self::LossOnePercent,
        Self::LossFivePercent,
        Self::DiskStalls,
        Self::BurstyWan,
        Self::Jitter,
        Self::LanAndWan,
        Self::LossAppearing,
        Self::PeriodChanging,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CleanLan => "clean LAN",
            Self::SchedulingDelays => "LAN, scheduling delays",
            Self::LossOnePercent => "LAN, 1 % loss",
            Self::LossFivePercent => "5 % loss, 10 ms jitter",
            Self::DiskStalls => "LAN, stalls of 100-600 ms",
            Self::BurstyWan => "bursty WAN",
            Self::Jitter => "30 % jitter",
            Self::LanAndWan => "drifting: LAN and WAN",
            Self::LossAppearing => "drifting: 8 % loss appears",
            Self::PeriodChanging => "drifting: period 50, 100 ms",
        }
    }

    /// `heartbeats` heartbeats on this network.
    pub(crate) fn trace(self, heartbeats: usize, seed: u64) -> Vec<Sent> {
        let mut random = Random::new(seed);
        let mut trace = Vec::with_capacity(heartbeats);
        let (mut at, mut newest) = (0.0, 0.0_f64);
        let mut stall_at = self.next_stall(0.0, &mut random);
        while trace.len() < heartbeats {
            if at > stall_at {
                // The sender does nothing for a while, then goes on where it stopped.
                at += 100.0 + 500.0 * random.uniform();
                stall_at = self.next_stall(at, &mut random);
            }
            let changed = self.drifts() && at / REGIME % 2.0 >= 1.0;
            let period =
                if self == Self::PeriodChanging && changed { 2.0 * PERIOD } else { PERIOD };
            let delay = self.delay(changed, &mut random);
            if let Some(delay) = delay {
                newest = newest.max(at + delay);
            }
            let jitter = if self == Self::Jitter { 0.6 * random.uniform() - 0.3 } else { 0.0 };
            let next_at = at + period * (1.0 + jitter);
            trace.push(Sent {
                at: nanos(at),
                next_at: nanos(next_at),
                arrived_at: delay.map(|_delay| nanos(newest)),
                period: nanos(period),
                regime: usize::from(changed),
            });
            at = next_at;
        }
        trace
    }

    fn drifts(self) -> bool {
        matches!(self, Self::LanAndWan | Self::LossAppearing | Self::PeriodChanging)
    }

    /// When the sender next stalls: on average every 1,000 seconds, or never.
    fn next_stall(self, now: f64, random: &mut Random) -> f64 {
        if self == Self::DiskStalls { now + 1e6 * random.exponential() } else { f64::INFINITY }
    }

    /// How long a heartbeat travels, in milliseconds; `None` when it is lost.
    fn delay(self, changed: bool, random: &mut Random) -> Option<f64> {
        match self {
            Self::CleanLan => Some((2.0 + random.normal()).max(0.1)),
            Self::SchedulingDelays | Self::PeriodChanging => Some(scheduled_lan(random)),
            Self::LossOnePercent if random.happens(0.01) => None,
            Self::LossOnePercent => Some((2.0 + random.normal()).max(0.1)),
            Self::LossFivePercent if random.happens(0.05) => None,
            Self::LossFivePercent => Some(5.0 + 10.0 * random.normal().abs()),
            Self::DiskStalls => Some(lan(random)),
            Self::BurstyWan => wan(random),
            Self::Jitter => Some(0.3 * PERIOD * random.uniform()),
            Self::LanAndWan if changed => wan(random),
            Self::LossAppearing if changed && random.happens(0.08) => None,
            Self::LossAppearing if changed => Some(5.0 + 25.0 * random.normal().abs()),
            Self::LanAndWan | Self::LossAppearing => Some(lan(random)),
        }
    }
}

/// A quiet network with a long-tailed delay of 0.3 ms.
fn lan(random: &mut Random) -> f64 {
    0.3 * libm::exp(0.5 * random.normal())
}

/// The same, where one heartbeat in 500 waits for a processor.
fn scheduled_lan(random: &mut Random) -> f64 {
    let wait = if random.happens(0.002) { 20.0 * random.exponential() } else { 0.0 };
    lan(random) + wait
}

/// 40 ms, give or take 8, where one heartbeat in 200 stands in a queue and one in 500 is lost.
fn wan(random: &mut Random) -> Option<f64> {
    if random.happens(0.002) {
        return None;
    }
    let queue = if random.happens(0.005) { 58.0 * random.exponential() } else { 0.0 };
    Some((40.0 + 8.0 * random.normal()).max(5.0) + queue)
}

fn nanos(ms: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "traces last days, start at zero and never go back"
    )]
    let whole = (ms * MS) as u64;
    whole
}
