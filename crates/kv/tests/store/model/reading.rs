//! How the model answers queries and conditions: everything first, then what is asked for.

use bytes::Bytes;
use mainstay_kv::{
    Compare, KeyValue, Operand, RangeAnswer, RangeQuery, Relation, SortOrder, SortTarget,
};

use super::Pairs;

pub(super) fn range(pairs: &Pairs, query: &RangeQuery) -> RangeAnswer {
    let mut found: Vec<KeyValue> =
        pairs.values().filter(|pair| query.range.contains(&pair.key)).cloned().collect();
    let count = found.len() as u64;
    if query.count_only {
        return RangeAnswer { pairs: vec![], more: false, count };
    }
    let limit = if query.limit == 0 {
        usize::MAX
    } else {
        usize::try_from(query.limit).unwrap_or(usize::MAX)
    };
    let bounds = [
        query.min_mod_revision,
        query.max_mod_revision,
        query.min_create_revision,
        query.max_create_revision,
    ];
    let filtered = bounds.iter().any(|bound| *bound != 0);
    // etcd fetches one pair more than asked for and leaves the rest alone, unless it has to sort
    // or filter everything.
    let default_order = query.order == SortOrder::None
        || (query.target == SortTarget::Key && query.order == SortOrder::Ascend);
    if default_order && !filtered {
        found.truncate(limit.saturating_add(1));
    }
    found.retain(|pair| {
        pair.mod_revision >= bounds[0]
            && (bounds[1] == 0 || pair.mod_revision <= bounds[1])
            && pair.create_revision >= bounds[2]
            && (bounds[3] == 0 || pair.create_revision <= bounds[3])
    });
    // Stable sorts of what is in the order of keys; descending is ascending of the opposite.
    let descend = query.order == SortOrder::Descend;
    let number = |number: u64| if descend { u64::MAX - number } else { number };
    match query.target {
        SortTarget::Key if descend => found.reverse(),
        SortTarget::Key => {}
        SortTarget::Version => found.sort_by_key(|pair| number(pair.version)),
        SortTarget::CreateRevision => found.sort_by_key(|pair| number(pair.create_revision)),
        SortTarget::ModRevision => found.sort_by_key(|pair| number(pair.mod_revision)),
        SortTarget::Value if descend => found.sort_by(|left, right| right.value.cmp(&left.value)),
        SortTarget::Value => found.sort_by(|left, right| left.value.cmp(&right.value)),
    }
    let more = found.len() > limit;
    found.truncate(limit);
    if query.keys_only {
        found.iter_mut().for_each(|pair| pair.value = Bytes::new());
    }
    RangeAnswer { pairs: found, more, count }
}

pub(super) fn holds(compare: &Compare, pairs: &Pairs) -> bool {
    let found: Vec<&KeyValue> =
        pairs.values().filter(|pair| compare.range.contains(&pair.key)).collect();
    if found.is_empty() {
        let missing = KeyValue {
            key: Bytes::new(),
            value: Bytes::new(),
            create_revision: 0,
            mod_revision: 0,
            version: 0,
            lease: 0,
        };
        return !matches!(compare.operand, Operand::Value(_)) && holds_for(compare, &missing);
    }
    found.into_iter().all(|pair| holds_for(compare, pair))
}

fn holds_for(compare: &Compare, pair: &KeyValue) -> bool {
    let number = |attribute: u64| i64::try_from(attribute).expect("small in tests");
    let ordering = match &compare.operand {
        Operand::Version(operand) => number(pair.version).cmp(operand),
        Operand::CreateRevision(operand) => number(pair.create_revision).cmp(operand),
        Operand::ModRevision(operand) => number(pair.mod_revision).cmp(operand),
        Operand::Lease(operand) => number(pair.lease).cmp(operand),
        Operand::Value(operand) => pair.value.cmp(operand),
    };
    match compare.relation {
        Relation::Equal => ordering.is_eq(),
        Relation::Greater => ordering.is_gt(),
        Relation::Less => ordering.is_lt(),
        Relation::NotEqual => ordering.is_ne(),
    }
}
