//! What is written is what is read, at every size that matters, and planned to the byte.

use mainstay_bbolt::{FilePlan, FilePlanner, FileWriter, KEY_LEN_MAX, PAGE_BYTES, Unplanned};
use proptest::{collection::btree_map, prelude::*};

use crate::reader::{Entries, read};

type Buckets = Vec<(String, Entries)>;

fn plan(buckets: &Buckets) -> FilePlan {
    let mut planner = FilePlanner::new();
    for (name, entries) in buckets {
        planner.bucket(name);
        entries.iter().for_each(|(key, value)| planner.entry(key, value.len()));
    }
    planner.finish()
}

/// The file, with what was held at most between two entries.
fn write(buckets: &Buckets, plan: FilePlan) -> Result<(Vec<u8>, usize), Unplanned> {
    let mut writer = FileWriter::new(plan);
    let (mut file, mut most) = (writer.take(), 0);
    for (name, entries) in buckets {
        writer.bucket(name);
        for (key, value) in entries {
            writer.entry(key, value);
            let bytes = writer.take();
            most = most.max(bytes.len());
            file.extend(bytes);
        }
    }
    file.extend(writer.finish()?);
    Ok((file, most))
}

/// Writes and reads buckets; the levels of their highest tree.
fn hold(buckets: &Buckets) -> usize {
    let plan = plan(buckets);
    let (file, _most) = write(buckets, plan).expect("as planned");
    assert_eq!(file.len() as u64, plan.file_len());
    let found = read(&file);
    assert_eq!(&found.buckets, buckets);
    found.levels
}

fn numbered(count: u64, value_len: usize) -> Entries {
    let value = |number: u64| vec![number.to_le_bytes()[0]; value_len];
    (0..count).map(|number| (number.to_be_bytes().into(), value(number))).collect()
}

fn one(entries: Entries) -> Buckets {
    vec![("bucket".to_owned(), entries)]
}

#[test]
fn a_file_without_buckets_has_an_empty_root() {
    assert_eq!(hold(&vec![]), 1);
    assert_eq!(plan(&vec![]).file_len(), 4 * PAGE_BYTES as u64);
}

#[test]
fn empty_buckets_take_no_page_of_their_own() {
    let names = ["a", "b", "c"].map(|name| (name.to_owned(), vec![]));
    hold(&names.to_vec());
    assert_eq!(plan(&names.to_vec()).file_len(), 4 * PAGE_BYTES as u64);
}

#[test]
fn a_bucket_gets_a_page_when_it_is_longer_than_a_quarter_of_one() {
    // Headers of the page and of one element, and a key of eight bytes.
    let beside = 16 + 16 + 8;
    for (value_len, pages) in [(1_024 - beside, 4), (1_025 - beside, 5)] {
        let buckets = one(numbered(1, value_len));
        hold(&buckets);
        assert_eq!(plan(&buckets).file_len(), pages * PAGE_BYTES as u64, "{value_len}");
    }
}

#[test]
fn values_around_the_size_of_pages_are_whole() {
    for pages in 1..4 {
        let full = pages * PAGE_BYTES - 16 - 16 - 8;
        for value_len in [full - 1, full, full + 1] {
            for count in [1, 2, 5] {
                hold(&one(numbered(count, value_len)));
            }
        }
    }
}

#[test]
fn trees_of_every_number_of_pages_up_to_three_levels_are_whole() {
    // One entry a leaf, so that each number of leaves comes, those too at which a branch is full.
    let full = PAGE_BYTES - 16 - 16 - 8;
    let levels: Vec<usize> = (1..700).map(|count| hold(&one(numbered(count, full)))).collect();
    assert_eq!((levels[0], levels[1], levels[698]), (1, 2, 3));
    assert!(levels.is_sorted());
}

#[test]
fn many_keys_make_several_levels_and_are_never_held_together() {
    let buckets = one(numbered(150_000, 40));
    let plan = plan(&buckets);
    let (file, most) = write(&buckets, plan).expect("as planned");
    assert!(most <= 3 * PAGE_BYTES, "{most} bytes at once");
    let found = read(&file);
    assert_eq!(found.levels, 3);
    assert_eq!(found.buckets, buckets);
}

#[test]
fn the_longest_keys_still_leave_branches_with_children() {
    let entries = (0..200_u8).map(|number| (vec![number; KEY_LEN_MAX], vec![number; 3_000]));
    assert!(hold(&one(entries.collect())) >= 3);
}

#[test]
fn a_file_that_is_not_the_planned_one_is_said_to_be_none() {
    let (planned, written) = (one(numbered(10, 4_000)), one(numbered(11, 4_000)));
    assert_eq!(write(&written, plan(&planned)), Err(Unplanned));
}

#[test]
#[should_panic(expected = "does not come after")]
fn keys_out_of_order_are_a_bug_of_the_caller() {
    let mut planner = FilePlanner::new();
    planner.bucket("bucket");
    planner.entry(b"b", 0);
    planner.entry(b"b", 0);
}

#[test]
fn the_bytes_of_a_small_file_stay_what_they_are() {
    let buckets = vec![
        ("key".to_owned(), vec![(b"k".to_vec(), b"value".to_vec())]),
        ("meta".to_owned(), vec![]),
    ];
    let (file, _most) = write(&buckets, plan(&buckets)).expect("as planned");
    for page in 0..4 {
        let bytes = &file[page * PAGE_BYTES..(page + 1) * PAGE_BYTES];
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let hex: String = bytes[..end].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, GOLDEN[page], "page {page}");
    }
}

/// The pages of that file without the zeros at their ends.
const GOLDEN: [&str; 4] = [
    concat!(
        "00000000000000000400000000000000edda0ced020000000010000000000000",
        "0300000000000000000000000000000002000000000000000400000000000000",
        "0000000000000000eefd8946116e5107",
    ),
    concat!(
        "01000000000000000400000000000000edda0ced020000000010000000000000",
        "0300000000000000000000000000000002000000000000000400000000000000",
        "01000000000000000f4879511a354c26",
    ),
    "020000000000000010",
    concat!(
        "0300000000000000020002000000000001000000200000000300000036000000",
        "010000004900000004000000200000006b657900000000000000000000000000",
        "0000000000000000000000020001000000000000000000100000000100000005",
        "0000006b76616c75656d65746100000000000000000000000000000000000000",
        "000000000002",
    ),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_buckets_are_read_as_they_were_written(
        buckets in btree_map(
            "[a-z]{1,40}",
            btree_map(
                prop::collection::vec(any::<u8>(), 1..60),
                prop_oneof![
                    4 => prop::collection::vec(any::<u8>(), 0..200),
                    1 => prop::collection::vec(any::<u8>(), 3_000..10_000),
                ],
                0..200,
            ),
            0..8,
        )
    ) {
        let buckets: Buckets = buckets
            .into_iter()
            .map(|(name, entries)| (name, entries.into_iter().collect()))
            .collect();
        hold(&buckets);
    }
}
