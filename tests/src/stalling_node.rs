//! A node on a real disk that hangs when it is told to: SIGUSR1 stalls it, SIGUSR2 lets it go on.
//!
//! It is the shipped node in everything but its disk: the same options, the same sockets, the same
//! folder, in front of which the syncs wait while it is stalled. It takes `serve` and the options of
//! `mainstay serve`, each with its value. Tests and `scripts/bench-failover.sh` use it.

use std::{process::ExitCode, sync::Arc};

use anyhow::{Context as _, bail};
use mainstay_node::{Config, Listeners, Options};
use mainstay_world::{
    Buggify, Disk, DiskCall, FolderLock, InterposedDisk, Interposer, Intervention, RealDisk,
    RealNet, Scope, SledHistory, World, spawn,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

fn main() -> anyhow::Result<ExitCode> {
    let config = config(std::env::args().skip(1))?;
    let runtime = mainstay_node::runtime(config.runtime).context("start the event loop")?;
    let code = runtime.block_on(Scope::production().run(Box::pin(serve(config))))?;
    Ok(ExitCode::from(code))
}

/// The options that the words give, in the form that they have in the environment.
fn config(mut words: impl Iterator<Item = String>) -> anyhow::Result<Config> {
    if words.next().as_deref() != Some("serve") {
        bail!("the first word is serve");
    }
    let mut variables = Vec::new();
    while let Some(flag) = words.next() {
        let name = flag.strip_prefix("--").with_context(|| format!("{flag} is no option"))?;
        let value = words.next().with_context(|| format!("{flag} needs a value"))?;
        let variable = format!("MAINSTAY_{}", name.replace('-', "_").to_uppercase());
        variables.push((variable, value));
    }
    let options = Options::from_environment(variables)?;
    Ok(Config::resolve(options, Options::default(), Options::default())?)
}

async fn serve(config: Config) -> anyhow::Result<u8> {
    let (stall, stalled) = watch::channel(false);
    obey(stall)?;
    let _lock = FolderLock::take(&config.data_dir)?;
    let disk = |name| -> anyhow::Result<Arc<dyn Disk>> {
        let disk = RealDisk::start(&config.data_dir, name).context("start a disk thread")?;
        Ok(Arc::new(InterposedDisk::new(Arc::new(disk), Stall(stalled.clone()))))
    };
    let world = World {
        log_disk: disk("log-disk")?,
        snapshot_disk: disk("snapshot-disk")?,
        net: Arc::new(RealNet),
        history: Arc::new(SledHistory::open(&config.data_dir.join("history"))?),
        buggify: Buggify::none(),
    };
    let listeners = Listeners::bind(world.net.as_ref(), &config).await?;
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let shutdown = async move {
        terminate.recv().await;
    };
    Ok(mainstay_node::run_in(world, listeners, config, shutdown).await?.exit_code())
}

/// Stalls the disk and lets it go on, as the signals say.
fn obey(stall: watch::Sender<bool>) -> anyhow::Result<()> {
    let listen = |kind| -> anyhow::Result<Signal> { signal(kind).context("listen for a signal") };
    let mut begin = listen(SignalKind::user_defined1())?;
    let mut end = listen(SignalKind::user_defined2())?;
    spawn(async move {
        loop {
            tokio::select! {
                _ = begin.recv() => stall.send_replace(true),
                _ = end.recv() => stall.send_replace(false),
            };
        }
    });
    Ok(())
}

/// Has syncs wait while the disk is stalled.
struct Stall(watch::Receiver<bool>);

impl Interposer for Stall {
    fn intervene(&self, call: DiskCall) -> Intervention {
        if !matches!(call, DiskCall::SyncData | DiskCall::SyncDirectory) {
            return Intervention::Pass;
        }
        let mut stalled = self.0.clone();
        Intervention::Wait(Box::pin(async move {
            // Without the task that obeys signals nothing is stalled.
            drop(stalled.wait_for(|stalled| !*stalled).await);
        }))
    }
}
