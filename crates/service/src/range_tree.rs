//! Which of many ranges hold a key: an interval tree.
//!
//! A treap (Seidel and Aragon 1996) ordered by the ranges' starts, each node knowing the furthest
//! end below it, so that a key is answered in O(log n) and the number of answers, however many
//! ranges lie elsewhere. Equal ranges share one node. Priorities come from a counter through
//! SplitMix64: the tree is balanced in expectation, and the same in every run.

use std::{cmp::Ordering, collections::BTreeSet};

use bytes::Bytes;

/// An exclusive end of a range; `None` is the end of all keys.
type End = Option<Bytes>;

/// Ids by the range they belong to.
#[derive(Debug, Default)]
pub(crate) struct RangeTree {
    root: Link,
    nodes_made: u64,
}

type Link = Option<Box<Node>>;

#[derive(Debug)]
struct Node {
    start: Bytes,
    end: End,
    /// The furthest end of this node and everything below it.
    end_max: End,
    ids: BTreeSet<u64>,
    priority: u64,
    left: Link,
    right: Link,
}

impl RangeTree {
    /// Adds `id` to the range from `start` to before `end`.
    pub(crate) fn insert(&mut self, start: &Bytes, end: &End, id: u64) {
        if let Some(node) = find(&mut self.root, start, end) {
            node.ids.insert(id);
            return;
        }
        self.nodes_made += 1;
        let node = Box::new(Node {
            start: start.clone(),
            end: end.clone(),
            end_max: end.clone(),
            ids: BTreeSet::from([id]),
            priority: scramble(self.nodes_made),
            left: None,
            right: None,
        });
        let (left, right) = split(self.root.take(), start, end);
        self.root = merge(merge(left, Some(node)), right);
    }

    /// Takes `id` from the range again.
    pub(crate) fn remove(&mut self, start: &Bytes, end: &End, id: u64) {
        let Some(node) = find(&mut self.root, start, end) else { return };
        node.ids.remove(&id);
        if node.ids.is_empty() {
            remove_node(&mut self.root, start, end);
        }
    }

    /// Calls `found` with the id of every range that holds `key`.
    pub(crate) fn holding(&self, key: &[u8], found: &mut impl FnMut(u64)) {
        visit(&self.root, key, found);
    }
}

fn visit(link: &Link, key: &[u8], found: &mut impl FnMut(u64)) {
    let Some(node) = link else { return };
    if !before(key, &node.end_max) {
        return;
    }
    visit(&node.left, key, found);
    if node.start[..] <= *key {
        if before(key, &node.end) {
            node.ids.iter().copied().for_each(&mut *found);
        }
        visit(&node.right, key, found);
    }
}

fn find<'a>(link: &'a mut Link, start: &Bytes, end: &End) -> Option<&'a mut Node> {
    let node = link.as_deref_mut()?;
    match order(start, end, node) {
        Ordering::Less => find(&mut node.left, start, end),
        Ordering::Greater => find(&mut node.right, start, end),
        Ordering::Equal => Some(node),
    }
}

/// Splits into what comes before (`start`, `end`) and what comes after.
fn split(link: Link, start: &Bytes, end: &End) -> (Link, Link) {
    let Some(mut node) = link else { return (None, None) };
    if order(start, end, &node) == Ordering::Less {
        let (left, right) = split(node.left.take(), start, end);
        node.left = right;
        node.measure();
        (left, Some(node))
    } else {
        let (left, right) = split(node.right.take(), start, end);
        node.right = left;
        node.measure();
        (Some(node), right)
    }
}

/// Joins two trees of which `left` comes wholly before `right`.
fn merge(left: Link, right: Link) -> Link {
    match (left, right) {
        (None, one) | (one, None) => one,
        (Some(mut left), Some(mut right)) => {
            if left.priority > right.priority {
                left.right = merge(left.right.take(), Some(right));
                left.measure();
                Some(left)
            } else {
                right.left = merge(Some(left), right.left.take());
                right.measure();
                Some(right)
            }
        }
    }
}

fn remove_node(link: &mut Link, start: &Bytes, end: &End) {
    let Some(node) = link.as_deref_mut() else { return };
    match order(start, end, node) {
        Ordering::Less => remove_node(&mut node.left, start, end),
        Ordering::Greater => remove_node(&mut node.right, start, end),
        Ordering::Equal => {
            *link = merge(node.left.take(), node.right.take());
            return;
        }
    }
    node.measure();
}

impl Node {
    fn measure(&mut self) {
        let mut end_max = &self.end;
        for below in [&self.left, &self.right].into_iter().flatten() {
            if order_ends(&below.end_max, end_max) == Ordering::Greater {
                end_max = &below.end_max;
            }
        }
        self.end_max = end_max.clone();
    }
}

fn order(start: &Bytes, end: &End, node: &Node) -> Ordering {
    start.cmp(&node.start).then_with(|| order_ends(end, &node.end))
}

fn order_ends(left: &End, right: &End) -> Ordering {
    match (left, right) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(left), Some(right)) => left.cmp(right),
    }
}

fn before(key: &[u8], end: &End) -> bool {
    end.as_ref().is_none_or(|end| *key < end[..])
}

/// SplitMix64's finisher (Steele, Lea, Flood 2014).
const fn scramble(count: u64) -> u64 {
    let z = count.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn depth(link: &Link) -> usize {
        link.as_ref().map_or(0, |node| 1 + depth(&node.left).max(depth(&node.right)))
    }

    fn holding(tree: &RangeTree, key: &[u8]) -> Vec<u64> {
        let mut ids = Vec::new();
        tree.holding(key, &mut |id| ids.push(id));
        ids.sort_unstable();
        ids
    }

    #[test]
    fn ten_thousand_ascending_ranges_make_a_shallow_tree() {
        let mut tree = RangeTree::default();
        for id in 0..10_000_u64 {
            let start = Bytes::copy_from_slice(&id.to_be_bytes());
            let end = Some(Bytes::copy_from_slice(&(id + 1).to_be_bytes()));
            tree.insert(&start, &end, id);
        }
        assert!(depth(&tree.root) < 60, "the depth is {}", depth(&tree.root));
        assert_eq!(holding(&tree, &77_u64.to_be_bytes()), [77]);
    }

    proptest! {
        #[test]
        fn the_tree_answers_as_a_list_would(
            steps in prop::collection::vec(
                (any::<bool>(), 0_u8..12, prop::option::of(0_u8..12), 0_u64..6), 0..200),
            keys in prop::collection::vec(0_u8..12, 1..12),
        ) {
            let mut tree = RangeTree::default();
            let mut list: Vec<(Bytes, End, u64)> = Vec::new();
            for (insert, start, end, id) in steps {
                let start = Bytes::from(vec![start]);
                let end = end.map(|end| Bytes::from(vec![end]));
                list.retain(|entry| *entry != (start.clone(), end.clone(), id));
                if insert {
                    tree.insert(&start, &end, id);
                    list.push((start, end, id));
                } else {
                    tree.remove(&start, &end, id);
                }
            }
            for key in keys {
                let key = [key];
                let mut wanted: Vec<u64> = list
                    .iter()
                    .filter(|(start, end, _id)| start[..] <= key[..] && before(&key, end))
                    .map(|(_start, _end, id)| *id)
                    .collect();
                wanted.sort_unstable();
                prop_assert_eq!(holding(&tree, &key), wanted);
            }
        }
    }
}
