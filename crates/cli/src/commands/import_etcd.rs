//! `mainstay import-etcd`: the keys and leases of a running etcd in an empty cluster, with the
//! revisions that they have there.
//!
//! Three parts, and nothing of one begins before the one before it is done: the source is read
//! whole, at one revision, into a file (`etcd`, `spool`); what was read is looked at (`survey`); it
//! is written to the cluster step by step (`destination`), read back from there through the same
//! API as the source, and compared. What the steps do to the store, and what an interrupted import
//! leaves behind, is decided in the store itself: `mainstay_kv::Import`.

mod channel;
mod destination;
mod etcd;
mod report;
mod spool;
mod survey;

use std::{collections::BTreeSet, path::PathBuf};

use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use mainstay_client::{Client, Import, ImportedLease};

use crate::{
    arguments::{ClusterArguments, Output},
    exit::{Exit, Refusal, Unavailable},
    screen::{Screen, line, note},
};

use destination::Destination;
use etcd::{About, Etcd, EtcdError, Lease};
use report::{Report, Side};
use spool::{Filling, Fingerprint, Spool};
use survey::Survey;

/// How often reading begins anew when the revision that is read is compacted meanwhile.
const READINGS_MAX: u32 = 5;

#[derive(Debug, Args)]
#[command(
    after_help = "The cluster of --endpoints must be empty. While the import lasts it refuses \
    writes; when it was\ninterrupted, the same command goes on with it. Nothing is written to \
    etcd, and programs may use it\nuntil they are told the new address: what they write after it \
    was read does not come along.\ndocs/migration.md has the whole procedure."
)]
pub(crate) struct ImportEtcdArguments {
    /// The etcd to read: endpoints of one cluster, separated by commas
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',', value_parser = parse_address)]
    #[arg(env = "MAINSTAY_FROM", hide_env_values = true, required_unless_present = "abandon")]
    from: Vec<String>,
    /// Read and check everything, say what would be done, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// End an interrupted import: what has arrived stays, and writes are taken again
    #[arg(long, conflicts_with_all = ["from", "dry_run"])]
    abandon: bool,
    /// Where to keep what was read until it is written; it needs the room that the data needs
    /// [default: the system's folder for temporary files]
    #[arg(long, value_name = "DIR", env = "MAINSTAY_SPOOL_DIR", hide_env_values = true)]
    spool_dir: Option<PathBuf>,
}

/// What was read of the source.
struct Reading {
    revision: u64,
    spool: Spool,
    leases: Vec<ImportedLease>,
    /// Leases that keys have and that had ended when they were asked for.
    ended_leases: usize,
}

pub(crate) async fn run(
    arguments: ImportEtcdArguments,
    cluster: &ClusterArguments,
) -> anyhow::Result<Exit> {
    let client = cluster.client();
    if arguments.abandon {
        return abandon(&client, cluster.output).await;
    }
    let spool_dir = arguments.spool_dir.clone().unwrap_or_else(std::env::temp_dir);
    let mut source = Etcd::connect(arguments.from.clone()).await.map_err(of_source)?;
    let about = source.about().await.map_err(of_source)?;
    if about.auth == Some(true) {
        let why = "the etcd to read asks for passwords, and an import has none to give: allow it \
            for the time of the import with `etcdctl auth disable`; nothing was done";
        return Err(Refusal(why.to_owned()).into());
    }
    let mut destination = Destination::look(&client, &cluster.endpoints).await?;
    destination.check(&about)?;
    let mut reading = read(&mut source, &destination, &spool_dir).await?;
    let survey = Survey::of(&mut reading, &destination)?;
    survey.check()?;
    destination.check_revision(survey.first_revision, reading.revision)?;
    let mut report = Report::new(&about, &reading);
    if !arguments.dry_run {
        write(&client, &mut destination, &about, &mut reading).await?;
        let side = verify(&mut destination, &reading).await?;
        report.here = Some(side);
    }
    print(&report, cluster.output)?;
    Ok(Exit::Done)
}

fn print(report: &Report, output: Output) -> anyhow::Result<()> {
    match output {
        Output::Simple | Output::Table => line(report.text().trim_end()),
        Output::Json => {
            let mut screen = Screen::new();
            screen.json(&report.json())?;
            screen.finish()
        }
    }
}

/// Reads all of the source at one revision.
async fn read(
    source: &mut Etcd,
    destination: &Destination,
    spool_dir: &std::path::Path,
) -> anyhow::Result<Reading> {
    for _ in 1..READINGS_MAX {
        match read_once(source, destination, spool_dir).await {
            Err(error) if matches!(error.downcast_ref(), Some(EtcdError::Compacted { .. })) => {
                note(&format!("note: {error}; reading begins anew"));
            }
            reading => return reading.map_err(of_reading),
        }
    }
    read_once(source, destination, spool_dir).await.map_err(of_reading)
}

async fn read_once(
    source: &mut Etcd,
    destination: &Destination,
    spool_dir: &std::path::Path,
) -> anyhow::Result<Reading> {
    let revision = source.revision().await?;
    let bar = bar("read", 0);
    let mut filling = Filling::new(spool_dir)?;
    let mut attached = BTreeSet::new();
    let walked = source.walk(revision, |pair, all| {
        bar.set_length(all);
        bar.inc(1);
        if pair.lease != 0 {
            attached.insert(pair.lease);
        }
        filling.push(&pair).context("write the keys that were read")
    });
    walked.await?;
    bar.finish_and_clear();
    // Leases have no revisions, so they are read after the keys: one that is missing has ended
    // since, and its keys with it.
    let present = source.leases().await?;
    let ids: BTreeSet<u64> = present.iter().map(|lease| lease.id).collect();
    let ended: Vec<u64> = attached.difference(&ids).copied().collect();
    let shortest = destination.limits().lease_ttl_ms_min;
    let leases = present.iter().map(|lease| ImportedLease { id: lease.id, ttl_ms: lease.ttl_ms });
    let shortly = ended.iter().map(|id| ImportedLease { id: *id, ttl_ms: shortest });
    Ok(Reading {
        revision,
        spool: filling.finish()?,
        leases: leases.chain(shortly).collect(),
        ended_leases: ended.len(),
    })
}

/// Writes what was read.
async fn write(
    client: &Client,
    destination: &mut Destination,
    about: &About,
    reading: &mut Reading,
) -> anyhow::Result<()> {
    destination.wait_for_format(client).await?;
    destination.begin(client, about.cluster_id).await?;
    let interrupted = |error: anyhow::Error| {
        error.context(
            "the import is not complete, and the cluster refuses writes until it is: repeat the \
             command to go on, or give it up with --abandon",
        )
    };
    fill(client, destination, reading).await.map_err(interrupted)
}

async fn fill(
    client: &Client,
    destination: &mut Destination,
    reading: &mut Reading,
) -> anyhow::Result<()> {
    if !destination.is_empty() {
        let bar = bar("compare", reading.spool.by_key().len() as u64);
        destination.forget_what_changed(client, reading, &bar).await?;
        bar.finish_and_clear();
    }
    destination.write_leases(client, &reading.leases).await?;
    let places = reading.spool.by_revision();
    let bar = bar("write", places.len() as u64);
    destination.write_pairs(client, &mut reading.spool, &places, &bar).await?;
    bar.finish_and_clear();
    destination.end(client, reading.revision).await
}

/// Reads the destination back, through the same API as the source, and compares.
async fn verify(destination: &mut Destination, reading: &Reading) -> anyhow::Result<Side> {
    let expected = reading.spool.fingerprint();
    let bar = bar("verify", expected.keys());
    let mut found = Fingerprint::default();
    let walked = destination.etcd().walk(reading.revision, |pair, _all| {
        found.add(&pair);
        bar.inc(1);
        Ok(())
    });
    walked.await.context("the import is complete; reading it back failed")?;
    bar.finish_and_clear();
    let leases = destination.etcd().leases().await.context("read the leases back")?;
    let has = |wanted: &&ImportedLease| {
        leases.iter().any(|lease: &Lease| (lease.id, lease.ttl_ms) == (wanted.id, wanted.ttl_ms))
    };
    let alive = reading.leases.len() - reading.ended_leases;
    let arrived = reading.leases[..alive].iter().filter(has).count();
    if found.value() != expected.value() {
        anyhow::bail!(
            "the import ended, but {} keys were read back at revision {} and are not the {} keys \
             that were read from etcd: do not use this cluster, and begin again with new data \
             folders",
            found.keys(),
            reading.revision,
            expected.keys()
        );
    }
    Ok(Side {
        keys: found.keys(),
        bytes: found.bytes(),
        leases: arrived as u64,
        revision: reading.revision,
    })
}

async fn abandon(client: &Client, output: Output) -> anyhow::Result<Exit> {
    let state = client.import_state().await?.value;
    if state.source.is_none() {
        let why = "no import is going on: there is nothing to abandon, and nothing was done";
        return Err(Refusal(why.to_owned()).into());
    }
    let end = Import::End { after_revision: state.revision, revision: state.revision };
    let left = client.import(&end).await?.value;
    match output {
        Output::Simple | Output::Table => line(&format!(
            "the import was given up: {} keys and {} leases of it are here, and writes are taken \
             again; `mainstay del --all` deletes them, and for another import take new data folders",
            left.keys, left.leases
        ))?,
        Output::Json => {
            let mut screen = Screen::new();
            screen.json(&left)?;
            screen.finish()?;
        }
    }
    Ok(Exit::Done)
}

/// A progress bar on standard error; hidden where that is no terminal.
fn bar(what: &'static str, len: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:>8} [{bar:40}] {pos} of {len} keys, {eta} left")
        .expect("the template is a constant");
    ProgressBar::new(len).with_style(style.progress_chars("=> ")).with_message(what)
}

/// A source that cannot be read leaves everything as it is.
fn of_source(error: EtcdError) -> anyhow::Error {
    match error {
        EtcdError::Unavailable(why) => {
            Unavailable(format!("etcd cannot be read: {why}; nothing was done")).into()
        }
        EtcdError::Refused { .. } | EtcdError::Compacted { .. } => {
            Refusal(format!("etcd cannot be read: {error}; nothing was done")).into()
        }
    }
}

fn of_reading(error: anyhow::Error) -> anyhow::Error {
    match error.downcast::<EtcdError>() {
        Ok(error) => of_source(error),
        Err(error) => error,
    }
}

/// `host:port`, with or without `http://`.
fn parse_address(text: &str) -> Result<String, String> {
    if text.starts_with("https://") {
        return Err(
            "TLS is not there yet: read etcd over a plain connection, for example through \
            a tunnel or a listener of its own on this machine (--listen-client-urls)"
                .to_owned(),
        );
    }
    let address = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let port = address.rsplit_once(':').and_then(|(host, port)| {
        let is_host = !host.is_empty() && !host.contains('/');
        port.parse::<u16>().ok().filter(|port| is_host && *port != 0)
    });
    match port {
        Some(_) => Ok(address.to_owned()),
        None => Err(format!("'{text}' is not host:port")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_plain_and_tls_is_refused_with_a_way_out() {
        for text in ["127.0.0.1:2379", "http://127.0.0.1:2379", "http://127.0.0.1:2379/"] {
            assert_eq!(parse_address(text), Ok("127.0.0.1:2379".to_owned()));
        }
        assert_eq!(parse_address("[::1]:2379"), Ok("[::1]:2379".to_owned()));
        for text in ["", "host", "host:", "host:0", ":2379", "host:port", "a/b:1"] {
            assert!(parse_address(text).is_err(), "{text}");
        }
        let refused = parse_address("https://etcd:2379").expect_err("no TLS");
        assert!(refused.contains("TLS"), "{refused}");
    }
}
