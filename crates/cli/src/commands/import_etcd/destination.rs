//! The cluster that is filled: what is in it, what it takes, and the steps of filling it.
//!
//! It is written through the native API, one replicated step after the other, and read through its
//! etcd API, by the same code that reads the source.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context;
use bytes::Bytes;
use indicatif::ProgressBar;
use mainstay_client::{
    Client, Cluster, Endpoint, IMPORT_FORMAT, Import, ImportState, ImportedLease, KeyValue,
};
use mainstay_world as world;

use super::{
    Reading,
    etcd::{About, Etcd, EtcdError},
    spool::{Place, Spool},
    survey::step_bytes,
};
use crate::exit::{Refusal, Unavailable};

/// The most bytes of pairs in a step: what an entry of the log takes, with room to spare.
pub(super) const STEP_BYTES_MAX: usize = 7 * 1024 * 1024;

/// Bytes of a step, unless one revision has more.
const STEP_BYTES: usize = 1024 * 1024;

/// Keys or leases in a step, unless one revision has more.
const STEP_ROWS: usize = 2_000;

/// How long to wait for the format that knows imports; a new cluster begins with an older one.
const FORMAT_LOOKS_MAX: u32 = 50;
const FORMAT_INTERVAL: Duration = Duration::from_millis(200);

/// The cluster.
pub(super) struct Destination {
    cluster: Cluster,
    state: ImportState,
    limits: Limits,
    etcd: Etcd,
}

/// What it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) key_bytes_max: u64,
    pub(super) value_bytes_max: u64,
    pub(super) quota_bytes: u64,
    pub(super) lease_ttl_ms_min: u64,
}

impl Destination {
    /// Asks it.
    pub(super) async fn look(client: &Client, endpoints: &[Endpoint]) -> anyhow::Result<Self> {
        let cluster = client.cluster().await?.value;
        let state = client.import_state().await?.value;
        let addresses = endpoints.iter().map(|endpoint| endpoint.address().to_owned()).collect();
        let etcd = Etcd::connect(addresses).await.map_err(|error| match error {
            EtcdError::Unavailable(why) => anyhow::Error::from(Unavailable(why)),
            other => other.into(),
        })?;
        let limits = Limits {
            key_bytes_max: setting(&cluster, "key_bytes_max")?,
            value_bytes_max: setting(&cluster, "value_bytes_max")?,
            quota_bytes: setting(&cluster, "quota_bytes")?,
            lease_ttl_ms_min: setting(&cluster, "lease_ttl_ms_min")?,
        };
        Ok(Self { cluster, state, limits, etcd })
    }

    /// What it takes.
    pub(super) const fn limits(&self) -> Limits {
        self.limits
    }

    /// It, as a server of the etcd API.
    pub(super) const fn etcd(&mut self) -> &mut Etcd {
        &mut self.etcd
    }

    /// Whether nothing of this import has arrived before.
    pub(super) const fn is_empty(&self) -> bool {
        self.state.keys == 0 && self.state.leases == 0
    }

    /// Refuses what could only go wrong.
    pub(super) fn check(&self, source: &About) -> Result<(), Refusal> {
        let ImportState { keys, leases, .. } = self.state;
        if source.cluster_id == self.cluster.cluster_id {
            return Err(Refusal(
                "--from and --endpoints are the same cluster: name the etcd to read with --from, \
                 and the new cluster with --endpoints; nothing was done"
                    .to_owned(),
            ));
        }
        match self.state.source {
            Some(present) if present == source.cluster_id => Ok(()),
            Some(present) => Err(Refusal(format!(
                "this cluster is being filled from another one, {present:x}, and not from \
                 {:x}: go on with that import, give it up with --abandon, or take new data \
                 folders; nothing was done",
                source.cluster_id
            ))),
            None if keys == 0 && leases == 0 => Ok(()),
            None => Err(Refusal(format!(
                "this cluster has {keys} keys and {leases} leases, and an import needs an empty \
                 one: start a new cluster, or delete what is here (mainstay del --all, mainstay \
                 lease revoke); nothing was done"
            ))),
        }
    }

    /// Refuses a source whose revisions lie behind.
    pub(super) fn check_revision(&self, first: Option<u64>, last: u64) -> Result<(), Refusal> {
        let here = self.state.revision;
        let goes_on = self.state.source.is_some();
        let fits = here <= last && (goes_on || first.is_none_or(|first| here < first));
        if fits {
            return Ok(());
        }
        let first = first.unwrap_or(last);
        Err(Refusal(format!(
            "this cluster is at revision {here} already, the oldest key of the source was written \
             at {first} and the source is at {last}; revisions never go back: start a cluster \
             with new data folders; nothing was done"
        )))
    }

    /// Waits until the cluster knows imports.
    pub(super) async fn wait_for_format(&mut self, client: &Client) -> anyhow::Result<()> {
        for _ in 0..FORMAT_LOOKS_MAX {
            if setting(&self.cluster, "format")? >= IMPORT_FORMAT {
                return Ok(());
            }
            world::sleep(FORMAT_INTERVAL).await;
            self.cluster = client.cluster().await?.value;
        }
        let format = setting(&self.cluster, "format")?;
        Err(Refusal(format!(
            "the cluster follows format {format}, and imports are known from format \
             {IMPORT_FORMAT} on: `mainstay doctor` says which members hold it up; nothing was \
             done"
        ))
        .into())
    }

    /// Begins, or goes on.
    pub(super) async fn begin(&mut self, client: &Client, source: u64) -> anyhow::Result<()> {
        client.import(&Import::Begin { source }).await?;
        self.state = client.import_state().await?.value;
        Ok(())
    }

    /// Forgets what an interrupted import brought and the source does not have any more, and ends
    /// the leases that it does not have any more.
    pub(super) async fn forget_what_changed(
        &mut self,
        client: &Client,
        reading: &mut Reading,
        bar: &ProgressBar,
    ) -> anyhow::Result<()> {
        let revision = self.state.revision;
        let mut changed: Vec<Bytes> = Vec::new();
        let mut same = 0_u64;
        let places = reading.spool.by_key().to_vec();
        let mut rest = places.iter();
        let mut next: Option<KeyValue> = None;
        let spool = &mut reading.spool;
        let walked = self.etcd.walk(revision, |here, _all| {
            loop {
                if next.is_none() {
                    let Some(place) = rest.next() else { break };
                    bar.inc(1);
                    next = Some(spool.read(*place)?);
                }
                match &next {
                    Some(there) if there.key < here.key => next = None,
                    _ => break,
                }
            }
            if next.as_ref() == Some(&here) {
                same += 1;
            } else {
                changed.push(here.key);
            }
            Ok(())
        });
        walked.await?;
        let wanted = places.iter().filter(|place| place.mod_revision <= revision).count() as u64;
        if same != wanted {
            return Err(Refusal(format!(
                "what an interrupted import left behind is not the beginning of what the source \
                 has now ({same} keys up to revision {revision} are the same, of {wanted}): it \
                 cannot be gone on with; give it up with --abandon and take new data folders"
            ))
            .into());
        }
        for keys in changed.chunks(STEP_ROWS) {
            client.import(&Import::Forget { keys: keys.to_vec() }).await?;
        }
        self.end_leases(client, &reading.leases).await
    }

    async fn end_leases(
        &mut self,
        client: &Client,
        wanted: &[ImportedLease],
    ) -> anyhow::Result<()> {
        let wanted: BTreeMap<u64, u64> =
            wanted.iter().map(|lease| (lease.id, lease.ttl_ms)).collect();
        let here = self.etcd.leases().await?;
        let is_other = |id: u64, ttl_ms: u64| wanted.get(&id) != Some(&ttl_ms);
        let ended: Vec<u64> = here
            .iter()
            .filter(|lease| is_other(lease.id, lease.ttl_ms))
            .map(|lease| lease.id)
            .collect();
        for ended in ended.chunks(STEP_ROWS) {
            let step = Import::Leases { ended: ended.to_vec(), granted: Vec::new() };
            client.import(&step).await?;
        }
        Ok(())
    }

    /// Takes over the leases.
    pub(super) async fn write_leases(
        &self,
        client: &Client,
        leases: &[ImportedLease],
    ) -> anyhow::Result<()> {
        for granted in leases.chunks(STEP_ROWS) {
            let step = Import::Leases { ended: Vec::new(), granted: granted.to_vec() };
            client.import(&step).await?;
        }
        Ok(())
    }

    /// Takes over the keys that have not arrived, whole revisions in a step.
    pub(super) async fn write_pairs(
        &mut self,
        client: &Client,
        spool: &mut Spool,
        places: &[Place],
        bar: &ProgressBar,
    ) -> anyhow::Result<()> {
        let arrived = places.partition_point(|place| place.mod_revision <= self.state.revision);
        bar.inc(arrived as u64);
        let mut pairs: Vec<KeyValue> = Vec::new();
        let mut bytes = 0;
        for revision in places[arrived..].chunk_by(|a, b| a.mod_revision == b.mod_revision) {
            let mut group = Vec::with_capacity(revision.len());
            for place in revision {
                group.push(spool.read(*place)?);
            }
            let group_bytes: usize = group.iter().map(step_bytes).sum();
            let is_full = bytes + group_bytes > STEP_BYTES || pairs.len() >= STEP_ROWS;
            if is_full && !pairs.is_empty() {
                self.write_step(client, std::mem::take(&mut pairs), bar).await?;
                bytes = 0;
            }
            pairs.extend(group);
            bytes += group_bytes;
        }
        if pairs.is_empty() {
            return Ok(());
        }
        self.write_step(client, pairs, bar).await
    }

    async fn write_step(
        &mut self,
        client: &Client,
        pairs: Vec<KeyValue>,
        bar: &ProgressBar,
    ) -> anyhow::Result<()> {
        let count = pairs.len() as u64;
        let step = Import::Pairs { after_revision: self.state.revision, pairs };
        let written = client.import(&step).await?.value;
        self.state.revision = written.revision;
        bar.inc(count);
        Ok(())
    }

    /// Ends the import at the revision of the source.
    pub(super) async fn end(&mut self, client: &Client, revision: u64) -> anyhow::Result<()> {
        let step = Import::End { after_revision: self.state.revision, revision };
        self.state.revision = client.import(&step).await?.value.revision;
        Ok(())
    }
}

/// A replicated setting that is a number, written as one or as a decimal string.
fn setting(cluster: &Cluster, name: &'static str) -> anyhow::Result<u64> {
    let value = cluster.settings.get(name);
    let number = value.and_then(|value| {
        value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok()))
    });
    number.with_context(|| format!("the cluster does not say what its setting {name} is"))
}
