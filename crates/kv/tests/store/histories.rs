//! Random histories: the store against the naive model, against itself, and against its own
//! snapshots.

use bytes::Bytes;
use mainstay_kv::{
    Applied, Command, ENVELOPE_FORMAT, EPOCH_JUMP, Envelope, KeyRange, Operation, Proposal, Put,
    RangeQuery, RevisionChanges, Scrub, ScrubProgress, Stamp, Store, StoreRestore, Txn,
};
use proptest::{collection::vec, prelude::*};

use crate::{
    model::Model,
    steps::{Director, Step, import, query, revision, steps},
};

/// Everything that can be asked of both, beside ranges and changes.
fn compare_summaries(store: &Store, model: &Model) -> Result<(), TestCaseError> {
    prop_assert_eq!(store.sequence(), model.sequence);
    prop_assert_eq!(store.revision(), model.revision);
    prop_assert_eq!(store.compact_revision(), model.compact_revision);
    prop_assert_eq!(store.clock_ms(), model.clock_ms);
    prop_assert_eq!(store.settings(), &model.settings);
    prop_assert_eq!(store.import_source(), model.import_source);
    prop_assert_eq!(store.key_count(), model.key_count());
    prop_assert_eq!(store.version_count(), model.version_count());
    prop_assert_eq!(store.session_count(), model.session_count());
    prop_assert_eq!(store.idempotency_key_count(), model.idempotency_key_count());
    prop_assert_eq!(store.space().bytes, model.bytes());
    prop_assert_eq!(store.space().full, model.bytes() >= model.settings.quota_bytes);
    prop_assert_eq!(store.next_deadline_ms(), model.next_deadline_ms());
    prop_assert_eq!(store.lease_ids(), model.lease_ids());
    for id in model.lease_ids() {
        let keys = store.lease(id).map(|lease| lease.keys);
        prop_assert_eq!(keys, Some(model.lease_keys(id)));
    }
    Ok(())
}

fn compare_ranges(
    store: &Store,
    model: &Model,
    queries: &[RangeQuery],
) -> Result<(), TestCaseError> {
    for query in queries {
        prop_assert_eq!(store.range(query), model.range(query), "{:?}", query);
    }
    Ok(())
}

/// Reads the changes page by page, as a watch does.
fn compare_changes(store: &Store, model: &Model, from: u64) -> Result<(), TestCaseError> {
    let expected = match model.changes(from) {
        Ok(changes) => changes,
        Err(error) => {
            prop_assert_eq!(store.changes(from, 1_000), Err(error));
            return Ok(());
        }
    };
    let mut found = vec![];
    let mut next = from;
    loop {
        let page = store.changes(next, 150).expect("it was readable just before");
        prop_assert!(page.next_revision > next || page.revisions.is_empty());
        next = page.next_revision;
        if page.revisions.is_empty() {
            break;
        }
        found.extend(
            page.revisions
                .into_iter()
                .map(|RevisionChanges { revision, events }| (revision, events)),
        );
    }
    prop_assert_eq!(next, from.max(store.revision() + 1));
    prop_assert_eq!(found, expected);
    Ok(())
}

/// Reads the changes of some keys page by page: they are those among all changes.
fn compare_changes_of(
    store: &Store,
    range: &KeyRange,
    from: u64,
    bytes_max: usize,
) -> Result<(), TestCaseError> {
    let all = match store.changes(from, usize::MAX) {
        Ok(all) => all,
        Err(error) => {
            prop_assert_eq!(store.changes_of(range, from, bytes_max), Err(error));
            return Ok(());
        }
    };
    let wanted = |mut changes: RevisionChanges| {
        changes.events.retain(|event| range.contains(&event.pair.key));
        (!changes.events.is_empty()).then_some(changes)
    };
    let expected: Vec<RevisionChanges> = all.revisions.into_iter().filter_map(wanted).collect();
    let (mut found, mut next) = (vec![], from);
    loop {
        let page = store.changes_of(range, next, bytes_max).expect("it was readable just before");
        let is_last = page.next_revision == all.next_revision;
        prop_assert!(is_last || page.next_revision > next);
        next = page.next_revision;
        found.extend(page.revisions);
        if is_last {
            break;
        }
    }
    prop_assert_eq!(found, expected);
    Ok(())
}

#[test]
fn the_changes_of_one_key_are_found_among_thousands_of_others() {
    let mut store = Store::new();
    let key = |number: u64| Bytes::from(format!("key{number}"));
    let mut apply = |command: Command| {
        let envelope = Envelope {
            format: ENVELOPE_FORMAT,
            epoch: 1,
            stamp: Stamp { term: 1, time_ms: 0 },
            wall_ms: 0,
            proposal: Proposal::unattributed(command),
        };
        store.apply(envelope, 1)
    };
    let put = |key: Bytes| Put { key, value: None, lease: None, want_previous: false };
    for number in 0..20_000 {
        // Close together, far apart, and once among many of one revision.
        let of_ours = (number < 5_000 && number % 2 == 0) || number % 6_000 == 0;
        apply(Command::Put(put(key(if of_ours { 0 } else { 1 + number % 50 }))));
        if number == 15_000 {
            let many = (0..100).map(|number| Operation::Put(put(key(number)))).collect();
            apply(Command::Txn(Txn { compares: vec![], success: many, failure: vec![] }));
        }
    }
    apply(Command::Compact { revision: 30 });
    for (from, bytes_max) in [(1, 0), (30, 5_000), (31, 1_000_000), (4_321, 0), (19_000, 1_000)] {
        for range in [KeyRange::key(key(0)), KeyRange::key(key(7)), KeyRange::prefix(key(4))] {
            compare_changes_of(&store, &range, from, bytes_max).expect("they agree");
        }
    }
}

/// Whether the hash is what the rows add up to when all are hashed anew.
fn is_sound(store: &Store) -> bool {
    let mut scrub = Scrub::begin(store);
    loop {
        match scrub.step(store, 500) {
            ScrubProgress::Running { .. } => {}
            ScrubProgress::Sound { .. } => return true,
            ScrubProgress::Damaged(_) => return false,
        }
    }
}

/// Applies the same envelopes to two stores that should be equal before, and so after each.
fn feed(left: &mut Store, right: &mut Store, entries: &[(Envelope, u64)]) -> Vec<Applied> {
    let apply = |(envelope, term): &(Envelope, u64)| {
        let applied = left.apply(envelope.clone(), *term);
        assert_eq!(right.apply(envelope.clone(), *term), applied);
        assert_eq!(left.hash(), right.hash(), "after {envelope:?}");
        assert_eq!(left.next_deadline_ms(), right.next_deadline_ms());
        applied
    };
    entries.iter().map(apply).collect()
}

pub(crate) fn entries(steps: &[Step]) -> Vec<(Envelope, u64)> {
    let mut director = Director::default();
    let mut entries = vec![];
    for step in steps {
        entries.extend(director.entries(step, entries.len() as u64 + 1));
    }
    entries
}

/// A command of nobody in particular, at no time in particular.
fn plain(command: Command) -> (Envelope, u64) {
    (crate::world::envelope(0, Proposal::unattributed(command)), crate::world::TERM)
}

/// Takes up to `count` chunks.
fn take(
    store: &Store,
    walk: &mut mainstay_kv::SnapshotWalk,
    count: usize,
    budget: usize,
) -> Vec<Bytes> {
    std::iter::from_fn(|| store.snapshot_next(walk, budget)).take(count).collect()
}

fn restore(chunks: &[Bytes]) -> Store {
    let mut restore = StoreRestore::new();
    chunks.iter().for_each(|chunk| restore.push(chunk).expect("a chunk as it was handed out"));
    restore.finish().expect("all chunks of a snapshot")
}

proptest! {

    #[test]
    fn the_store_agrees_with_a_naive_model(
        steps in steps(120),
        queries in vec(query(), 24),
        from in vec(revision(), 4),
    ) {
        let mut store = Store::new();
        let mut model = Model::new();
        // A check that never ends, in slices between the entries.
        let mut scrub = Scrub::begin(&store);
        for (at, (envelope, term)) in entries(&steps).into_iter().enumerate() {
            let expected = model.apply(&envelope, term);
            let applied = store.apply(envelope.clone(), term);
            prop_assert_eq!(&applied, &expected, "entry {}: {:?}", at, envelope);
            compare_summaries(&store, &model)?;
            match scrub.step(&store, 200) {
                ScrubProgress::Running { .. } => {}
                ScrubProgress::Sound { .. } => scrub = Scrub::begin(&store),
                ScrubProgress::Damaged(damage) => prop_assert!(false, "{:?}", damage),
            }
            let some = at % queries.len();
            compare_ranges(&store, &model, &queries[some..=some])?;
        }
        compare_ranges(&store, &model, &queries)?;
        for from in from {
            compare_changes(&store, &model, from)?;
            for query in &queries {
                compare_changes_of(&store, &query.range, from, 150)?;
            }
        }
        compare_changes(&store, &model, model.compact_revision)?;
        prop_assert!(is_sound(&store));
    }

    #[test]
    fn a_snapshot_taken_meanwhile_is_the_state_of_its_moment(
        steps in steps(120),
        begin in any::<prop::sample::Index>(),
        budget in prop_oneof![Just(1_usize), 50..400_usize, Just(1_000_000)],
        chunks_an_entry in 0..4_usize,
        extra in steps(30),
    ) {
        let meanwhile = entries(&steps).len();
        let entries = entries(&steps.into_iter().chain(extra).collect::<Vec<_>>());
        let begin = begin.index(meanwhile);
        let mut store = Store::new();
        let mut twin = Store::new();
        feed(&mut store, &mut twin, &entries[..begin]);
        // Only one of the two is walked: that must not show in the hash.
        let hash = store.hash();
        let mut walk = store.snapshot_begin();
        prop_assert_eq!(walk.hash(), hash);
        let mut chunks = vec![];
        let mut applied = vec![];
        for at in begin..meanwhile {
            applied.extend(feed(&mut store, &mut twin, &entries[at..=at]));
            chunks.extend(take(&store, &mut walk, chunks_an_entry, budget));
        }
        chunks.extend(take(&store, &mut walk, usize::MAX, budget));
        prop_assert!(walk.is_finished());
        store.snapshot_end(walk);

        let mut restored = restore(&chunks);
        prop_assert_eq!(restored.hash(), hash);
        prop_assert_eq!(restored.sequence(), begin as u64);
        prop_assert!(is_sound(&restored));
        for ((envelope, term), expected) in entries[begin..].iter().zip(&applied) {
            prop_assert_eq!(&restored.apply(envelope.clone(), *term), expected);
        }
        feed(&mut store, &mut restored, &entries[meanwhile..]);
        prop_assert_eq!(store.space(), restored.space());
        prop_assert_eq!(store.version_count(), restored.version_count());
        for id in store.lease_ids() {
            prop_assert_eq!(store.lease(id), restored.lease(id));
        }
    }

    #[test]
    fn a_new_epoch_agrees_with_the_model_and_with_its_own_snapshot(
        before in steps(60),
        after in steps(60),
        queries in vec(query(), 12),
    ) {
        let mut store = Store::new();
        let mut model = Model::new();
        let mut director = Director::default();
        for step in &before {
            for (envelope, term) in director.entries(step, model.sequence + 1) {
                store.apply(envelope.clone(), term);
                model.apply(&envelope, term);
            }
        }
        let (sequence, revision) = (store.sequence(), store.revision());
        store.begin_epoch();
        model.begin_epoch();
        prop_assert!(store.sequence() >= sequence + EPOCH_JUMP);
        prop_assert!(store.revision() >= revision + EPOCH_JUMP);
        compare_summaries(&store, &model)?;
        compare_ranges(&store, &model, &queries)?;
        compare_changes(&store, &model, revision)?;
        prop_assert!(is_sound(&store));

        let mut walk = store.snapshot_begin();
        let chunks = take(&store, &mut walk, usize::MAX, 500);
        store.snapshot_end(walk);
        let mut restored = restore(&chunks);
        prop_assert_eq!(restored.hash(), store.hash());
        for step in &after {
            for (envelope, term) in director.entries(step, model.sequence + 1) {
                let expected = model.apply(&envelope, term);
                prop_assert_eq!(&store.apply(envelope.clone(), term), &expected);
                prop_assert_eq!(restored.apply(envelope, term), expected);
                prop_assert_eq!(restored.hash(), store.hash());
                compare_summaries(&store, &model)?;
            }
        }
        compare_ranges(&store, &model, &queries)?;
        compare_changes(&store, &model, model.compact_revision)?;
        prop_assert!(is_sound(&store));
    }

    #[test]
    fn an_import_agrees_with_the_model_and_with_its_own_snapshot(
        commands in import(),
        after in steps(40),
        queries in vec(query(), 12),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut store = Store::new();
        let mut model = Model::new();
        let mut entries: Vec<_> = commands.into_iter().map(plain).collect();
        let cut = cut.index(entries.len());
        entries.extend(crate::histories::entries(&after));
        let mut twin = None;
        for (at, (envelope, term)) in entries.into_iter().enumerate() {
            let expected = model.apply(&envelope, term);
            let applied = store.apply(envelope.clone(), term);
            prop_assert_eq!(&applied, &expected, "entry {}: {:?}", at, envelope);
            compare_summaries(&store, &model)?;
            if let Some(twin) = &mut twin {
                let twin: &mut Store = twin;
                prop_assert_eq!(&twin.apply(envelope, term), &expected);
                prop_assert_eq!(twin.hash(), store.hash());
            }
            if at == cut {
                let mut walk = store.snapshot_begin();
                let chunks = take(&store, &mut walk, usize::MAX, 200);
                store.snapshot_end(walk);
                twin = Some(restore(&chunks));
            }
            let some = at % queries.len();
            compare_ranges(&store, &model, &queries[some..=some])?;
            prop_assert!(is_sound(&store));
        }
        compare_ranges(&store, &model, &queries)?;
        compare_changes(&store, &model, model.compact_revision)?;
    }

    #[test]
    fn any_decodable_envelope_is_applied_without_a_panic(
        steps in steps(20),
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut store = Store::new();
        for (envelope, term) in entries(&steps) {
            let mut bytes = envelope.to_bytes().expect("encodes").to_vec();
            for (at, byte) in &flips {
                let at = at.index(bytes.len());
                bytes[at] ^= byte;
            }
            if let Ok(damaged) = Envelope::from_bytes(&bytes) {
                store.apply(damaged, term);
            }
            store.apply(envelope, term);
        }
        prop_assert!(is_sound(&store));
    }
}
