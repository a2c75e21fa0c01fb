//! How a node leaves: on purpose, and without a request noticing.
//!
//! A node that is told to stop first gives up what others count on, and only then ends. It hands
//! leadership over at once, while its own requests are still being finished: whatever waits in its
//! queue goes on to the next leader. From then on it neither asks to lead nor takes leadership
//! from another. Before consensus ends, it waits for two things, each for a moment only: that every
//! living peer has heard of the next leader and so sends nothing here any more, and that what peers
//! passed on is answered and the answers are written. What is still on its way after that loses
//! its answer, and whoever passed it on says so.
//!
//! Nothing here is needed for safety: a node that ends in the middle of it is a node that died.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use mainstay_world::{self as world, Instant};
use tokio::sync::Notify;
use tracing::{info, warn};

use crate::{
    core::Core, election::ElectionCause, handover::HandOverError, observation::Leadership,
    running::Running,
};

/// How long one hand-over may take.
const HAND_OVER_DEADLINE: Duration = Duration::from_secs(1);

/// How long a leader tries to find a successor when others live but cannot take over yet.
const HAND_OVER_PATIENCE: Duration = Duration::from_secs(5);

/// How long it tries when nobody lives who could: they may be stopping as well.
const NOBODY_PATIENCE: Duration = Duration::from_millis(500);

/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// How long peers may take to hear of the next leader.
const TOLD_MAX: Duration = Duration::from_millis(500);

/// How long the answers to peers may take.
const ANSWERS_MAX: Duration = Duration::from_secs(1);

/// Gives up leadership, if this node has it, and takes none from now on.
pub(crate) async fn step_down(core: &Core) {
    core.leaving.send_replace(true);
    let Some(running) = core.running() else { return };
    let started = Instant::now();
    let mut leadership = core.leadership.subscribe();
    loop {
        let now = *leadership.borrow_and_update();
        if !now.leads || now.alone {
            return;
        }
        let deadline = Instant::now() + HAND_OVER_DEADLINE;
        let error = match running.hand_overs.run(None, ElectionCause::Shutdown, deadline).await {
            Ok(_handed_over) => return,
            Err(error) => error,
        };
        let patience = match error {
            HandOverError::NoCandidate => NOBODY_PATIENCE,
            _ => HAND_OVER_PATIENCE,
        };
        if started.elapsed() >= patience {
            warn!(%error, "this node leads to its end: the others will elect a leader");
            return;
        }
        tokio::select! {
            changed = leadership.changed() => if changed.is_err() { return },
            () = world::sleep(PAUSE) => {}
        }
    }
}

/// Waits until no peer counts on this node any more.
pub(crate) async fn part(core: &Core, running: &Running) {
    let leadership = *core.leadership.borrow();
    let told = async {
        while !all_have_heard(running, leadership) {
            world::sleep(PAUSE / 5).await;
        }
    };
    if !leadership.alone && world::timeout(TOLD_MAX, told).await.is_err() {
        info!("a peer has not heard of the next leader yet");
    }
    if world::timeout(ANSWERS_MAX, core.peer_calls.idle()).await.is_err() {
        warn!("what peers passed on is not answered yet; its outcome is unknown to them");
    }
}

/// Whether every peer that answers is in this node's term, in which another one leads.
fn all_have_heard(running: &Running, leadership: Leadership) -> bool {
    !leadership.leads
        && running.links.all().iter().filter(|link| link.is_healthy()).all(|link| {
            let pong = link.pulse().pong;
            pong.is_some_and(|pong| pong.term >= leadership.term)
        })
}

/// Calls of peers that are being answered; an answer that is not written yet counts.
#[derive(Debug, Default)]
pub(crate) struct PeerCalls {
    running: AtomicUsize,
    none: Notify,
}

/// A call that is being answered, until this is dropped.
#[derive(Debug)]
pub(crate) struct PeerCall(Arc<PeerCalls>);

impl PeerCalls {
    /// Counts a call in.
    pub(crate) fn enter(self: &Arc<Self>) -> PeerCall {
        self.running.fetch_add(1, Ordering::AcqRel);
        PeerCall(Arc::clone(self))
    }

    /// Returns when none is being answered.
    async fn idle(&self) {
        loop {
            let none = self.none.notified();
            if self.running.load(Ordering::Acquire) == 0 {
                return;
            }
            none.await;
        }
    }
}

impl Drop for PeerCall {
    fn drop(&mut self) {
        if self.0.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_node_waits_for_the_last_answer_to_a_peer() {
        let calls = Arc::new(PeerCalls::default());
        calls.idle().await;
        let (first, second) = (calls.enter(), calls.enter());
        let waiter = {
            let calls = Arc::clone(&calls);
            world::spawn(async move { calls.idle().await })
        };
        drop(first);
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        drop(second);
        waiter.await.expect("returns");
    }
}
