//! The longest time without an acknowledged write, while the leadership is handed over, a process
//! is frozen and goes on again, or somebody else interrupts the cluster.
//!
//! One client writes steadily, one write after the other, as in `failover`. The time between two
//! acknowledgements counts from the moment before the interruption until writes have gone well for
//! a whole second again.

use std::time::Duration;

use anyhow::Context as _;
use mainstay_client::Client;
use mainstay_world::{Instant, spawn};

use super::{Plan, failover::Writer};
use crate::{
    exit::Exit,
    process::{Signal, send_signal},
    screen::line,
};

/// Hands the leadership over to whom the cluster chooses.
pub(super) async fn transfer(plan: &Plan, client: &Client) -> anyhow::Result<Exit> {
    let mut writer = Writer::new(plan);
    writer.until_steady(plan).await.context("nothing was handed over")?;
    let client = client.clone();
    let transfer = spawn(async move { client.transfer_leadership(None).await });
    let mut longest = writer.until_steady(plan).await?;
    while !transfer.is_finished() {
        longest = longest.max(writer.until_steady(plan).await?);
    }
    let change = transfer.await.context("wait for the transfer")??.value;
    let json = serde_json::json!({
        "longest_gap_ms": ms(longest),
        "took_ms": change.took_ms,
        "as_wanted": change.leader == change.wanted,
    });
    line(&json.to_string())?;
    Ok(Exit::Done)
}

/// Freezes the process until writes go well without it, then lets it go on.
pub(super) async fn freeze(plan: &Plan, pid: u32) -> anyhow::Result<Exit> {
    let mut writer = Writer::new(plan);
    writer.until_steady(plan).await.context("nothing was frozen")?;
    let frozen = Frozen::new(pid).with_context(|| format!("freeze process {pid}"))?;
    let without_it = writer.until_steady(plan).await?;
    drop(frozen);
    let after_it = writer.until_steady(plan).await?;
    let json = serde_json::json!({
        "longest_gap_ms": ms(without_it.max(after_it)),
        "after_waking_ms": ms(after_it),
    });
    line(&json.to_string())?;
    Ok(Exit::Done)
}

/// Writes for as long as was asked for; whoever measures interrupts the cluster meanwhile.
pub(super) async fn gap(plan: &Plan) -> anyhow::Result<Exit> {
    let mut writer = Writer::new(plan);
    writer.until_steady(plan).await.context("nothing was measured")?;
    let begun = Instant::now();
    let mut longest = Duration::ZERO;
    while begun.elapsed() < plan.duration {
        longest = longest.max(writer.until_steady(plan).await?);
    }
    line(&serde_json::json!({ "longest_gap_ms": ms(longest) }).to_string())?;
    Ok(Exit::Done)
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

/// A process that stands still, and goes on whatever becomes of the measurement.
struct Frozen(u32);

impl Frozen {
    fn new(pid: u32) -> std::io::Result<Self> {
        send_signal(pid, Signal::Stop)?;
        Ok(Self(pid))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // It fails only for a process that is gone.
        let _gone = send_signal(self.0, Signal::Continue);
    }
}
