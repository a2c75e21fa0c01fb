//! A reader of bbolt files that believes nothing: every page has to be used, and used once.

use std::collections::BTreeSet;

pub(crate) const PAGE: usize = 4_096;

const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;

/// The entries of a bucket, in the order of the file.
pub(crate) type Entries = Vec<(Vec<u8>, Vec<u8>)>;

/// What is in a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) buckets: Vec<(String, Entries)>,
    /// The levels of the highest tree.
    pub(crate) levels: usize,
}

struct Walk<'a> {
    file: &'a [u8],
    /// Pages that were reached.
    used: BTreeSet<u64>,
    levels: usize,
}

/// A leaf's element.
struct Found<'a> {
    flags: u32,
    key: &'a [u8],
    value: &'a [u8],
}

/// Reads a whole file.
pub(crate) fn read(file: &[u8]) -> Content {
    assert_eq!(file.len() % PAGE, 0, "a file is whole pages");
    let metas = [0, 1].map(|id| meta(file, id));
    assert_eq!((metas[0].3, metas[1].3), (0, 1), "the newer head is page 1");
    let (root, free_list, pages, _) = metas[1];
    assert_eq!((root, free_list, pages), (metas[0].0, metas[0].1, metas[0].2));
    assert_eq!(pages, (file.len() / PAGE) as u64, "pages that are counted and not there");
    let free = page(file, free_list);
    assert_eq!((half(free, 8), half(free, 10), u32_at(free, 12)), (0x10, 0, 0));
    let mut walk = Walk { file, used: BTreeSet::from([0, 1, free_list]), levels: 0 };
    let mut named = Vec::new();
    walk.tree(root, 0, &mut named);
    assert!(named.windows(2).all(|two| two[0].1 < two[1].1), "buckets are in order");
    let buckets = named.into_iter().map(|(flags, name, value)| {
        assert_eq!(flags, 1, "only buckets stand at the root");
        (String::from_utf8(name).expect("names are text"), walk.bucket(&value))
    });
    let buckets = buckets.collect();
    assert_eq!(walk.used, (0..pages).collect(), "every page is used");
    Content { buckets, levels: walk.levels }
}

impl Walk<'_> {
    fn bucket(&mut self, value: &[u8]) -> Entries {
        let (root, sequence) = (u64_at(value, 0), u64_at(value, 8));
        assert_eq!(sequence, 0);
        let mut found = Vec::new();
        if root == 0 {
            let inline = &value[16..];
            assert!(inline.len() <= PAGE / 4, "an inline bucket is small");
            assert_eq!((u64_at(inline, 0), half(inline, 8), u32_at(inline, 12)), (0, LEAF, 0));
            let elements = leaf(inline);
            found.extend(elements.map(|found| (found.flags, found.key.into(), found.value.into())));
        } else {
            assert_eq!(value.len(), 16);
            self.tree(root, 0, &mut found);
        }
        assert!(found.windows(2).all(|two| two[0].1 < two[1].1), "keys are in order");
        found
            .into_iter()
            .map(|(flags, key, value)| {
                assert_eq!(flags, 0);
                (key, value)
            })
            .collect()
    }

    /// The elements below a page; its first key.
    fn tree(&mut self, id: u64, depth: usize, found: &mut Vec<(u32, Vec<u8>, Vec<u8>)>) -> Vec<u8> {
        self.levels = self.levels.max(depth + 1);
        let page = page(self.file, id);
        assert_eq!(u64_at(page, 0), id, "a page knows its id");
        for covered in id..=id + u64::from(u32_at(page, 12)) {
            assert!(self.used.insert(covered), "page {covered} is used twice");
        }
        let count = usize::from(half(page, 10));
        match half(page, 8) {
            LEAF => {
                let before = found.len();
                found.extend(
                    leaf(page).map(|found| (found.flags, found.key.into(), found.value.into())),
                );
                assert_eq!(found.len() - before, count);
                let alone = count == 1 || depth == 0;
                let covers = 1 + u32_at(page, 12) as usize;
                assert!(covers == 1 || alone, "an entry that is large has pages for itself");
                assert_eq!(covers, end_of_leaf(page).div_ceil(PAGE));
                found.get(before).map(|first| first.1.clone()).unwrap_or_default()
            }
            BRANCH => {
                assert!(count >= 2, "a branch of one child, which bbolt cannot merge");
                for at in 0..count {
                    let element = 16 + at * 16;
                    let (key, child) = (
                        bytes(
                            page,
                            element + u32_at(page, element) as usize,
                            u32_at(page, element + 4),
                        ),
                        u64_at(page, element + 8),
                    );
                    assert_eq!(self.tree(child, depth + 1, found), key, "a branch names a child");
                }
                bytes(page, 16 + u32_at(page, 16) as usize, u32_at(page, 20)).to_vec()
            }
            kind => panic!("page {id} is of kind {kind:x}"),
        }
    }
}

/// Root, free list, pages and transaction.
fn meta(file: &[u8], id: u64) -> (u64, u64, u64, u64) {
    let page = page(file, id);
    assert_eq!((u64_at(page, 0), half(page, 8)), (id, 0x04));
    assert_eq!((u32_at(page, 16), u32_at(page, 20)), (0xED0C_DAED, 2));
    assert_eq!((u32_at(page, 24) as usize, u32_at(page, 28)), (PAGE, 0));
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in &page[16..72] {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    assert_eq!(u64_at(page, 72), hash, "the checksum of head {id}");
    assert_eq!(u64_at(page, 40), 0);
    (u64_at(page, 32), u64_at(page, 48), u64_at(page, 56), u64_at(page, 64))
}

fn leaf(page: &[u8]) -> impl Iterator<Item = Found<'_>> {
    (0..usize::from(half(page, 10))).map(|at| {
        let element = 16 + at * 16;
        let key_at = element + u32_at(page, element + 4) as usize;
        let (key_len, value_len) = (u32_at(page, element + 8), u32_at(page, element + 12));
        Found {
            flags: u32_at(page, element),
            key: bytes(page, key_at, key_len),
            value: bytes(page, key_at + key_len as usize, value_len),
        }
    })
}

fn end_of_leaf(page: &[u8]) -> usize {
    let ends = leaf(page).map(|found| found.value.as_ptr_range().end as usize);
    ends.max().map_or(16, |end| end - page.as_ptr() as usize)
}

/// The file from a page on.
fn page(file: &[u8], id: u64) -> &[u8] {
    &file[usize::try_from(id).expect("fits") * PAGE..]
}

fn bytes(page: &[u8], at: usize, len: u32) -> &[u8] {
    &page[at..at + len as usize]
}

fn half(page: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([page[at], page[at + 1]])
}

fn u32_at(page: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(page[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(page: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(page[at..at + 8].try_into().expect("eight bytes"))
}
