//! Leases that are renewed by themselves, for as long as somebody holds on to them.
//!
//! A task renews the lease every third of its time to live. What it learns is told in one way only:
//! until when the lease certainly lives. That is counted from the moment before the last renewal
//! that was acknowledged was *sent*, with a tenth of the time to live to spare for clocks of
//! different speed, so whoever stops working then stops before the cluster takes the keys away. The
//! cluster itself may keep the lease longer: an outage takes nothing from it.

use std::time::Duration;

use mainstay_world::{Instant, sleep, sleep_until, spawn};
use tokio::sync::watch;

use crate::{client::Client, error::CallError};

/// How many renewals fit into a time to live.
const RENEWALS: u32 = 3;

/// The pause after a renewal that failed.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// What of a time to live is not counted on.
const SPARE: u32 = 10;

/// A lease that is renewed until this is dropped; then it ends with its time to live.
#[derive(Debug)]
pub struct KeptLease {
    client: Client,
    id: u64,
    ttl: Duration,
    life: watch::Receiver<Life>,
    /// The task ends with it.
    _stop: watch::Sender<()>,
}

/// What is known of the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// It lives at least until then.
    Until(Instant),
    /// The cluster says that it is over.
    Over,
}

impl Client {
    /// Grants a lease and keeps it alive. A time to live below the smallest allowed is raised.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn keep_lease(&self, ttl: Duration) -> Result<KeptLease, CallError> {
        let asked = Instant::now();
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
        let granted = self.lease_grant(ttl_ms, 0).await?.value;
        let ttl = Duration::from_millis(granted.ttl_ms);
        let (told, life) = watch::channel(Life::Until(sure_until(asked, ttl)));
        let (stop, stopped) = watch::channel(());
        spawn(renew(self.clone(), granted.id, ttl, told, stopped));
        Ok(KeptLease { client: self.clone(), id: granted.id, ttl, life, _stop: stop })
    }
}

impl KeptLease {
    /// The lease, to attach keys to.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// Its time to live.
    #[must_use]
    pub const fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Whether the lease certainly lives at this moment.
    #[must_use]
    pub fn is_sure(&self) -> bool {
        match *self.life.borrow() {
            Life::Until(until) => Instant::now() < until,
            Life::Over => false,
        }
    }

    /// Returns when the lease may be over: when the cluster said so, or could not be asked for so
    /// long. In the second case it may live on, and is renewed when the cluster answers again.
    pub async fn lost(&self) {
        let mut life = self.life.clone();
        loop {
            let Life::Until(until) = *life.borrow_and_update() else { return };
            if Instant::now() >= until {
                return;
            }
            tokio::select! {
                () = sleep_until(until) => {}
                changed = life.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Ends the lease now; its keys are deleted.
    ///
    /// # Errors
    /// [`CallError`]; then it ends with its time to live.
    pub async fn revoke(self) -> Result<(), CallError> {
        let Self { client, id, .. } = self;
        match client.lease_revoke(id).await {
            Err(error) if !is_over(&error) => Err(error),
            _ => Ok(()),
        }
    }

    pub(crate) const fn client(&self) -> &Client {
        &self.client
    }
}

/// Renews until nobody holds on to the lease, or it is over.
async fn renew(
    client: Client,
    id: u64,
    ttl: Duration,
    told: watch::Sender<Life>,
    mut stopped: watch::Receiver<()>,
) {
    let mut pause = ttl / RENEWALS;
    loop {
        tokio::select! {
            _dropped = stopped.changed() => return,
            () = sleep(pause) => {}
        }
        let asked = Instant::now();
        let renewed = tokio::select! {
            _dropped = stopped.changed() => return,
            renewed = client.lease_keep_alive(id) => renewed,
        };
        match renewed {
            Ok(_granted) => {
                told.send_replace(Life::Until(sure_until(asked, ttl)));
                pause = (ttl / RENEWALS).saturating_sub(asked.elapsed());
            }
            Err(error) if is_over(&error) => {
                tracing::warn!(lease = id, "a lease that was to be kept alive is over");
                told.send_replace(Life::Over);
                return;
            }
            Err(error) => {
                tracing::debug!(lease = id, %error, "a lease was not renewed");
                pause = AFTER_FAILURE.min(ttl / RENEWALS);
            }
        }
    }
}

/// Until when a lease that was asked for then certainly lives.
fn sure_until(asked: Instant, ttl: Duration) -> Instant {
    asked + (ttl - ttl / SPARE)
}

fn is_over(error: &CallError) -> bool {
    error.code() == Some("lease_not_found")
}
