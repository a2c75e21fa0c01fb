//! All peers of one node: who is taken for what, and when to ask again.
//!
//! The caller owns the clock, the timer and the wire. It hands in what arrives, asks
//! [`poll`](FailureDetector::poll) until nothing has changed, and comes back no later than it is
//! told. Coming back much later means that this very node was paused (a stopped process, a frozen
//! machine, a starved runtime) while heartbeats may have piled up unread; then every peer's wait
//! starts again. A clock that goes backwards is treated the same way.
//!
//! It deliberately knows nothing of leaders, terms and votes: it judges every peer alike.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    health::{Adaptation, Levels, OwnHealth, Thresholds},
    heartbeat::{Heard, Heartbeat, Ignored},
    nanos::nanos,
    peer::Peer,
    reading::{Change, Level, OwnReading, Reading},
    settings::{Settings, SettingsError},
};

/// The most peers that are watched.
pub const PEERS_MAX: usize = 64;

/// Judges the peers of one node.
///
/// `now` is the time since an origin that the caller keeps; it should not go backwards, and nothing
/// worse than a restarted wait happens when it does.
#[derive(Debug)]
pub struct FailureDetector {
    settings: Settings,
    tick: u64,
    local_pause: u64,
    thresholds: Thresholds,
    levels: Levels,
    peers: BTreeMap<u64, Peer>,
    own: OwnHealth,
    adaptation: Adaptation,
    latest: u64,
    ask_again_at: u64,
    silent: usize,
    local_pauses: u64,
    unknown_peers: u64,
}

impl FailureDetector {
    /// A detector that watches nobody yet.
    ///
    /// # Errors
    /// [`SettingsError`] when the settings contradict themselves.
    pub fn new(settings: Settings, now: Duration) -> Result<Self, SettingsError> {
        let thresholds = Thresholds::new(&settings)?;
        let (now, tick) = (clock(now), nanos(settings.tick));
        Ok(Self {
            tick,
            local_pause: nanos(settings.local_pause),
            levels: thresholds.in_force(Adaptation::WELL),
            ask_again_at: now.saturating_add(tick),
            settings,
            thresholds,
            peers: BTreeMap::new(),
            own: OwnHealth::default(),
            adaptation: Adaptation::WELL,
            latest: now,
            silent: 0,
            local_pauses: 0,
            unknown_peers: 0,
        })
    }

    /// Begins to watch a peer, which then has the join wait to be heard for the first time.
    /// Watching it already changes nothing.
    ///
    /// # Errors
    /// [`WatchError`] when [`PEERS_MAX`] peers are watched.
    pub fn watch(&mut self, peer: u64, now: Duration) -> Result<(), WatchError> {
        let now = self.observe(now);
        if self.peers.contains_key(&peer) {
            return Ok(());
        }
        if self.peers.len() >= PEERS_MAX {
            return Err(WatchError { peer });
        }
        let join_by = now.saturating_add(nanos(self.settings.join_wait));
        self.peers.insert(peer, Peer::new(now, join_by));
        self.adapt();
        Ok(())
    }

    /// Stops watching a peer and forgets what was learned of it; answers whether it was watched.
    ///
    /// Forgetting and watching again is also how a peer is accepted whose incarnation number went
    /// backwards.
    pub fn forget(&mut self, peer: u64) -> bool {
        let watched = self.peers.remove(&peer).is_some();
        self.adapt();
        watched
    }

    /// Takes in a heartbeat that arrived `now`.
    ///
    /// # Errors
    /// [`Ignored`] when it was counted and not used.
    pub fn heartbeat(
        &mut self,
        peer: u64,
        heartbeat: &Heartbeat,
        now: Duration,
    ) -> Result<Heard, Ignored> {
        let now = self.observe(now);
        let Some(watched) = self.peers.get_mut(&peer) else {
            self.unknown_peers += 1;
            return Err(Ignored::UnknownPeer { peer });
        };
        let heard = watched.heartbeat(heartbeat, now, &self.levels);
        if self.silent > 0 {
            self.adapt();
        }
        heard
    }

    /// Notes a sign of life other than a heartbeat: it restarts the wait and is not sampled.
    /// Answers what the peer was taken for until now; `None` for one that is not watched.
    ///
    /// Means nothing for a peer whose heartbeat was never heard, which stays what it is.
    pub fn contact(&mut self, peer: u64, now: Duration) -> Option<Level> {
        let now = self.observe(now);
        let was = self.peers.get_mut(&peer)?.contact(now);
        if self.silent > 0 {
            self.adapt();
        }
        Some(was)
    }

    /// Takes in how well this node is, and puts the thresholds in force that follow.
    pub fn own_health(&mut self, own: OwnHealth, now: Duration) {
        self.observe(now);
        self.own = own;
        self.adapt();
    }

    /// Tells one change, or that there is none, and when to ask again. To be asked until there is
    /// none, then at [`Poll::ask_again_at`] or earlier.
    ///
    /// A peer is told of once a level; from alive to failed in one step when nobody asked between.
    /// What was told stays until the peer is heard. What was not told yet may still be taken back
    /// by worse own health: it is handed in before the poll, so that a node does not suspect others
    /// for what it did itself.
    pub fn poll(&mut self, now: Duration) -> Poll {
        let now = self.observe(now);
        let mut next = now.saturating_add(self.tick);
        let mut change = None;
        for (id, peer) in &mut self.peers {
            if peer.next_at() <= now {
                change = peer.change(*id, now, self.adaptation, &self.levels);
                if change.is_some() {
                    next = now;
                    break;
                }
            }
            next = next.min(peer.next_at());
        }
        self.ask_again_at = next;
        if change.is_some() {
            self.adapt();
        }
        Poll { change, ask_again_at: Duration::from_nanos(next) }
    }

    /// What a peer is taken for; `None` for one that is not watched.
    ///
    /// A comparison with moments known before, for readers in between. It does not see a pause of
    /// this node: whoever decides something by it polls at the same `now` first.
    #[must_use]
    pub fn level(&self, peer: u64, now: Duration) -> Option<Level> {
        self.peers.get(&peer).map(|peer| peer.level(clock(now)))
    }

    /// Phi of a peer's present silence, from 0 to [`PHI_MAX`](crate::PHI_MAX); `None` for one that
    /// is not watched or was never heard.
    #[must_use]
    pub fn phi(&self, peer: u64, now: Duration) -> Option<f64> {
        self.peers.get(&peer)?.phi(clock(now))
    }

    /// When a peer passes the levels if nothing more is heard; `None` for one that is not watched
    /// or was never heard. A heartbeat, a sign of life, own health or a pause changes the answer.
    #[must_use]
    pub fn deadlines(&self, peer: u64) -> Option<Deadlines> {
        let (suspect_at, failed_at) = self.peers.get(&peer)?.deadlines()?;
        Some(Deadlines {
            suspect_at: Duration::from_nanos(suspect_at),
            failed_at: Duration::from_nanos(failed_at),
        })
    }

    /// Everything that is known of one peer; `None` for one that is not watched.
    #[must_use]
    pub fn reading(&self, peer: u64, now: Duration) -> Option<Reading> {
        let watched = self.peers.get(&peer)?;
        Some(watched.reading(peer, clock(now), self.adaptation, &self.levels))
    }

    /// Everything that is known of every peer, in the order of their ids.
    pub fn readings(&self, now: Duration) -> impl Iterator<Item = Reading> {
        self.peers
            .iter()
            .map(move |(id, peer)| peer.reading(*id, clock(now), self.adaptation, &self.levels))
    }

    /// What is known of this node itself.
    #[must_use]
    pub fn own_reading(&self) -> OwnReading {
        OwnReading {
            adaptation: self.adaptation,
            peers: self.peers.len(),
            silent: self.silent,
            local_pauses: self.local_pauses,
            unknown_peers: self.unknown_peers,
        }
    }

    /// Looks at the clock: whoever comes much later than asked, or earlier than before, did not
    /// listen, and the peers' silence may be its own.
    #[inline]
    fn observe(&mut self, now: Duration) -> u64 {
        let now = clock(now);
        let late = now.saturating_sub(self.ask_again_at);
        if late >= self.local_pause || now < self.latest {
            self.paused(now);
        }
        self.latest = now;
        now
    }

    #[cold]
    fn paused(&mut self, now: u64) {
        self.local_pauses += 1;
        self.ask_again_at = now.saturating_add(self.tick);
        for peer in self.peers.values_mut() {
            peer.restart(now);
        }
    }

    /// Puts the thresholds in force that own health and the number of silent peers ask for.
    fn adapt(&mut self) {
        self.silent = self.peers.values().filter(|peer| peer.told() >= Level::Suspect).count();
        let adaptation = Adaptation::of(&self.settings, self.own, self.silent, self.peers.len());
        let changed = adaptation.score != self.adaptation.score;
        self.adaptation = adaptation;
        if changed {
            self.levels = self.thresholds.in_force(adaptation);
            for peer in self.peers.values_mut() {
                peer.adapt(&self.levels);
            }
        }
    }
}

/// The caller's clock in nanoseconds. It is taken to stand still after 292 years, so that every
/// moment computed from it lies ahead.
#[inline]
fn clock(now: Duration) -> u64 {
    nanos(now).min(u64::MAX / 2)
}

/// What [`FailureDetector::poll`] answers.
#[derive(Debug, Clone, Copy, PartialEq)]
#[must_use]
pub struct Poll {
    /// A peer that passed a level since it was last told of.
    pub change: Option<Change>,
    /// When to ask again: at once after a change.
    pub ask_again_at: Duration,
}

/// The moments at which a peer passes the levels, on the caller's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// When it is suspected.
    pub suspect_at: Duration,
    /// When it has failed.
    pub failed_at: Duration,
}

/// As many peers are watched as there can be; this one is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("peer {peer} is not watched: {PEERS_MAX} others are, the most there can be; forget one")]
pub struct WatchError {
    /// The peer.
    pub peer: u64,
}
