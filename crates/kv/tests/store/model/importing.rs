//! Imports, naively: every pair is an event of its own at the place that it names, and what is
//! forgotten is taken out of every state and every event that has it.

use mainstay_kv::{Event, EventKind, Import, ImportRefusal, KeyValue, Outcome, Refusal};

use super::Model;

impl Model {
    pub(super) fn import(&mut self, step: &Import) -> Result<Outcome, Refusal> {
        if self.settings.format < 2 {
            return Err(Refusal::Unsupported);
        }
        self.check_import(step)?;
        match step {
            Import::Begin { source } => self.import_begin(*source)?,
            _ if self.import_source.is_none() => return Err(ImportRefusal::NotBegun.into()),
            Import::Forget { keys } => {
                for key in keys {
                    let newest = self.states[&self.revision].get(key).cloned();
                    if let Some(pair) = newest {
                        self.forget(&pair);
                    }
                }
            }
            Import::Leases { ended, granted } => {
                for (at, id) in ended.iter().enumerate() {
                    if self.leases.contains_key(id) && !self.lease_keys(*id).is_empty() {
                        return Err(impossible(at, "a lease that ended has keys"));
                    }
                }
                for (at, lease) in granted.iter().enumerate() {
                    let present = self.leases.get(&lease.id);
                    let differs = present.is_some_and(|(ttl_ms, _)| *ttl_ms != lease.ttl_ms);
                    if differs && !ended.contains(&lease.id) {
                        let why = "the lease is there with another time to live";
                        return Err(impossible(at, why));
                    }
                }
                for id in ended {
                    self.leases.remove(id);
                }
                for lease in granted {
                    let row = (lease.ttl_ms, self.clock_ms + 9_000_000_000_000);
                    self.leases.entry(lease.id).or_insert(row);
                }
            }
            Import::Pairs { after_revision, pairs } => self.import_pairs(*after_revision, pairs)?,
            Import::End { after_revision, revision } => {
                self.follows(*after_revision)?;
                if revision < after_revision {
                    let (wanted, revision) = (*revision, *after_revision);
                    return Err(ImportRefusal::OutOfPlace { wanted, revision }.into());
                }
                let pairs = self.states[&self.revision].clone();
                self.states.insert(*revision, pairs);
                self.revision = *revision;
                if *revision > self.compact_revision {
                    let from = (self.compact_revision, 0);
                    self.sweep = Some(self.sweep.map_or(from, |pending| pending.min(from)));
                    self.compact_revision = *revision;
                }
                for (ttl_ms, deadline_ms) in self.leases.values_mut() {
                    *deadline_ms = self.clock_ms + *ttl_ms;
                }
                self.import_source = None;
            }
        }
        Ok(Outcome::Imported { keys: self.key_count(), leases: self.leases.len() as u64 })
    }

    /// What can be said against a step whatever the store holds.
    fn check_import(&self, step: &Import) -> Result<(), Refusal> {
        match step {
            Import::Begin { source: 0 } => Err(impossible(0, "a source has an id")),
            Import::Leases { granted, .. } => {
                for (at, lease) in granted.iter().enumerate() {
                    if lease.id == 0 || lease.ttl_ms == 0 {
                        return Err(impossible(at, "a lease has an id and a time to live"));
                    }
                    let (ttl_ms, limit_ms) = (lease.ttl_ms, 9_000_000_000_000);
                    if ttl_ms > limit_ms {
                        return Err(Refusal::LeaseTtlTooLarge { ttl_ms, limit_ms });
                    }
                }
                Ok(())
            }
            Import::Pairs { after_revision, pairs } => {
                let mut before = *after_revision;
                for (at, pair) in pairs.iter().enumerate() {
                    self.check_import_sizes(pair)?;
                    let is_first = at == 0 && pair.mod_revision == before;
                    if pair.mod_revision < before || is_first || pair.mod_revision > (1 << 62) - 1 {
                        let why = "its revision does not come after those before it";
                        return Err(impossible(at, why));
                    }
                    let KeyValue { create_revision, mod_revision, version, .. } = pair;
                    let fits = (1..=*mod_revision).contains(create_revision)
                        && (1..=*mod_revision).contains(version);
                    if !fits {
                        let why = "its revisions and its count of writes do not fit";
                        return Err(impossible(at, why));
                    }
                    before = *mod_revision;
                }
                Ok(())
            }
            Import::End { revision, .. } if *revision > (1 << 62) - 1 => {
                Err(impossible(0, "nobody has counted that far"))
            }
            Import::Begin { .. } | Import::Forget { .. } | Import::End { .. } => Ok(()),
        }
    }

    fn check_import_sizes(&self, pair: &KeyValue) -> Result<(), Refusal> {
        let (len, limit) = (pair.key.len() as u64, self.settings.key_bytes_max);
        if len == 0 {
            return Err(Refusal::KeyEmpty);
        }
        if len > limit {
            return Err(Refusal::KeyTooLarge { len, limit });
        }
        let (len, limit) = (pair.value.len() as u64, self.settings.value_bytes_max);
        if len > limit {
            return Err(Refusal::ValueTooLarge { len, limit });
        }
        Ok(())
    }

    fn import_begin(&mut self, source: u64) -> Result<(), Refusal> {
        let (keys, leases) = (self.key_count(), self.leases.len() as u64);
        match self.import_source {
            Some(present) if present == source => {}
            Some(source_id) => return Err(ImportRefusal::OtherSource { source_id }.into()),
            None if keys > 0 || leases > 0 => {
                return Err(ImportRefusal::NotEmpty { keys, leases }.into());
            }
            None => self.import_source = Some(source),
        }
        Ok(())
    }

    fn import_pairs(&mut self, after: u64, pairs: &[KeyValue]) -> Result<(), Refusal> {
        self.follows(after)?;
        for (at, pair) in pairs.iter().enumerate() {
            if pair.lease != 0 && !self.leases.contains_key(&pair.lease) {
                return Err(impossible(at, "its lease is not there"));
            }
            let twice = pairs[..at].iter().any(|other| other.key == pair.key);
            if twice || self.states[&self.revision].contains_key(&pair.key) {
                return Err(impossible(at, "its key exists already"));
            }
        }
        if self.bytes() >= self.settings.quota_bytes {
            let (bytes, quota_bytes) = (self.bytes(), self.settings.quota_bytes);
            return Err(Refusal::SpaceExceeded { bytes, quota_bytes });
        }
        for pair in pairs {
            let revision = pair.mod_revision;
            let mut state = self.states[&self.revision].clone();
            state.insert(pair.key.clone(), pair.clone());
            self.states.insert(revision, state);
            let events = self.events.entry(revision).or_default();
            let place = events.len() as u64;
            let event = Event { kind: EventKind::Put, pair: pair.clone(), previous: None };
            events.push(event);
            let bytes = (pair.key.len() + pair.value.len()) as u64 + 64;
            self.versions.insert((revision, place), (pair.key.clone(), bytes, false));
            self.revision = revision;
        }
        Ok(())
    }

    fn follows(&self, after: u64) -> Result<(), Refusal> {
        if after == self.revision {
            return Ok(());
        }
        let (wanted, revision) = (after, self.revision);
        Err(ImportRefusal::OutOfPlace { wanted, revision }.into())
    }

    fn forget(&mut self, pair: &KeyValue) {
        for state in self.states.values_mut() {
            if state.get(&pair.key) == Some(pair) {
                state.remove(&pair.key);
            }
        }
        let revision = pair.mod_revision;
        let mut there = self.versions.range((revision, 0)..=(revision, u64::MAX));
        let found = there.find(|(_, (key, ..))| *key == pair.key).map(|(at, _)| *at);
        self.versions.remove(&found.expect("what is there has a version"));
        if let Some(events) = self.events.get_mut(&revision) {
            events.retain(|event| event.pair.key != pair.key);
            if events.is_empty() {
                self.events.remove(&revision);
            }
        }
    }
}

fn impossible(at: usize, why: &str) -> Refusal {
    ImportRefusal::Impossible { at: at as u64, why: why.to_owned() }.into()
}
