//! Random histories: the same operations on both sides, answer by answer, and then what watches
//! say of them.
//!
//! Few keys, few values and few leases, so that operations meet. Each operation goes to another
//! node than the one before: whoever is asked, the answers are those of one store.

use crate::{comparison::Comparison, script::Action, stage::Stage};

/// Operations of a history.
const OPERATIONS: usize = 300;

/// Leases that are granted first.
const LEASES: u64 = 3;

/// A small generator of numbers (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        let at = self.below(from.len() as u64);
        from[usize::try_from(at).expect("a place in a list")]
    }

    fn flag(&mut self, name: &str) -> String {
        if self.one_in(3) { format!(" {name}: true") } else { String::new() }
    }

    fn key(&mut self) -> &'static str {
        self.pick(&["a", "b", "c", "ca", "d"])
    }

    /// A key or a range of them.
    fn range(&mut self) -> String {
        let key = self.key();
        let end = self.pick(&["", "", "b", "c", "cb", "\\0", "z"]);
        if end.is_empty() {
            format!("key: \"{key}\"")
        } else {
            format!("key: \"{key}\" range_end: \"{end}\"")
        }
    }

    /// A revision near those of the history so far, or none.
    fn revision(&mut self, field: &str, operations: u64) -> String {
        if self.one_in(2) {
            return String::new();
        }
        format!(" {field}: {}", 1_000 + self.below(operations + 3))
    }
}

/// Plays the history of a seed on both sides.
///
/// # Panics
/// At the first answer that differs.
pub(crate) async fn hold(comparison: &Comparison, seed: u64) {
    let mut stages = Vec::new();
    for side in comparison.sides() {
        stages.push(Stage::set(side, 0).await);
    }
    let mut dice = Dice(seed);
    let mut history = Vec::new();
    for stage in &mut stages {
        for text in [r#"key: "a" range_end: "\0" prev_kv: true"#, r#"key: "c" filters: NOPUT"#] {
            watch(stage, "from-the-start", text).await;
        }
        stage.step(&take("from-the-start", 2)).await;
        for lease in 1..=LEASES {
            let grant = format!("ID: {lease} TTL: 1000");
            stage.call_next_node("Lease/LeaseGrant", &grant).await;
        }
    }
    for at in 0..OPERATIONS {
        let (method, message) = operation(&mut dice, at as u64);
        history.push(format!("{method} {message}"));
        let mut answers = Vec::new();
        for stage in &mut stages {
            answers.push(stage.call_next_node(method, &message).await);
        }
        compare(seed, &history, &answers);
    }
    for (name, text) in [
        ("from-the-start", ""),
        ("late", r#"key: "\0" range_end: "\0" prev_kv: true start_revision: 1080"#),
        ("later", r#"key: "b" range_end: "\0" start_revision: 1120"#),
    ] {
        history.push(format!("watch {name}"));
        let mut answers = Vec::new();
        for stage in &mut stages {
            let mut told = Vec::new();
            if !text.is_empty() {
                watch(stage, name, text).await;
                // What is written from here on comes after it was created, on both sides.
                told = stage.step(&take(name, 1)).await;
            }
            told.extend(stage.told_until_now(name).await);
            answers.push(told);
        }
        compare(seed, &history, &answers);
    }
}

async fn watch(stage: &mut Stage<'_>, name: &str, text: &str) {
    if !stage.has(name) {
        let (name, method) = (name.to_owned(), "Watch/Watch".to_owned());
        stage.step(&Action::Open { name, method, message: None }).await;
    }
    let message = format!("create_request {{ {text} }}");
    stage.step(&Action::Send { name: name.to_owned(), message }).await;
}

fn take(name: &str, lines: usize) -> Action {
    Action::Take { name: name.to_owned(), lines }
}

fn compare(seed: u64, history: &[String], answers: &[Vec<String>]) {
    let Some((ours, others)) = answers.split_first() else { return };
    for theirs in others {
        if tells_another_error(ours, theirs) {
            continue;
        }
        let first = ours.iter().zip(theirs).position(|(ours, theirs)| ours != theirs);
        let first = first.unwrap_or_else(|| ours.len().min(theirs.len()));
        assert!(
            ours == theirs,
            "seed {seed}, after\n  {}\nMainstay says, from line {first} on\n  {}\nand etcd\n  {}",
            history.join("\n  "),
            ours[first..].join("\n  "),
            theirs[first..].join("\n  "),
        );
    }
}

/// Of several errors of one request another may be told: that is in the document.
fn tells_another_error(ours: &[String], theirs: &[String]) -> bool {
    const OF_OPERATIONS: [&str; 4] = [
        "! InvalidArgument etcdserver: key not found",
        "! NotFound etcdserver: requested lease not found",
        "! OutOfRange etcdserver: mvcc: required revision is a future revision",
        "! OutOfRange etcdserver: mvcc: required revision has been compacted",
    ];
    let is_one =
        |lines: &[String]| matches!(lines, [line] if OF_OPERATIONS.contains(&line.as_str()));
    is_one(ours) && is_one(theirs)
}

/// One operation of a history that has so many so far.
fn operation(dice: &mut Dice, so_far: u64) -> (&'static str, String) {
    match dice.below(20) {
        0..6 => ("KV/Put", put(dice)),
        6..9 => ("KV/DeleteRange", delete(dice)),
        9..13 => ("KV/Range", range(dice, so_far)),
        13..18 => ("KV/Txn", txn(dice, so_far, 2)),
        18 => match dice.below(4) {
            0 => ("Lease/LeaseRevoke", format!("ID: {}", 1 + dice.below(LEASES))),
            1 => ("Lease/LeaseGrant", format!("ID: {} TTL: 1000", 1 + dice.below(LEASES))),
            _ => ("Lease/LeaseTimeToLive", format!("ID: {} keys: true", 1 + dice.below(LEASES))),
        },
        // The past goes slowly, so that there is always some.
        _ => ("KV/Compact", format!("revision: {}", 1_000 + dice.below(so_far / 4 + 1))),
    }
}

fn put(dice: &mut Dice) -> String {
    let mut text = format!("key: \"{}\"", dice.key());
    if dice.one_in(6) {
        text += " ignore_value: true";
    } else {
        text += &format!(" value: \"{}\"", dice.pick(&["", "1", "2", "x"]));
    }
    match dice.below(6) {
        0 => text += " ignore_lease: true",
        1 | 2 => text += &format!(" lease: {}", 1 + dice.below(LEASES + 1)),
        _ => {}
    }
    text + &dice.flag("prev_kv")
}

fn delete(dice: &mut Dice) -> String {
    dice.range() + &dice.flag("prev_kv")
}

fn range(dice: &mut Dice, so_far: u64) -> String {
    let mut text = dice.range();
    if dice.one_in(3) {
        text += &dice.revision("revision", so_far);
    }
    if dice.one_in(3) {
        text += &format!(" limit: {}", dice.below(4));
    }
    if dice.one_in(2) {
        text += &format!(" sort_order: {}", dice.pick(&["NONE", "ASCEND", "DESCEND"]));
        // The order of equals is nobody's promise, so only what differs from key to key.
        text += &format!(" sort_target: {}", dice.pick(&["KEY", "CREATE", "MOD"]));
    }
    if dice.one_in(4) {
        text += &dice.revision("min_mod_revision", so_far);
        text += &dice.revision("max_mod_revision", so_far);
        text += &dice.revision("min_create_revision", so_far);
        text += &dice.revision("max_create_revision", so_far);
    }
    text + &dice.flag("keys_only") + &dice.flag("count_only")
}

fn txn(dice: &mut Dice, so_far: u64, depth: u32) -> String {
    let mut text = String::new();
    for _compare in 0..dice.below(3) {
        text += &format!(" compare {{ {} }}", compare_of(dice, so_far));
    }
    for branch in ["success", "failure"] {
        for _operation in 0..dice.below(4) {
            let operation = match dice.below(8) {
                0..3 => format!("request_put {{ {} }}", put(dice)),
                // A delete without an end counts here and not there, see `differences`.
                3 | 4 => format!("request_delete_range {{ {} }}", delete(dice).replace("\\0", "z")),
                5 | 6 => format!("request_range {{ {} }}", range(dice, so_far)),
                // One for each branch: what two of them may do to a key differs, see `differences`.
                _ if depth > 0 && !text.contains("request_txn") => {
                    format!("request_txn {{ {} }}", txn(dice, so_far, depth - 1))
                }
                _ => "request_range { key: \"a\" }".to_owned(),
            };
            text += &format!(" {branch} {{ {operation} }}");
        }
    }
    if !text.contains("request_") {
        // A transaction of nothing is answered without the leader, there and here, and so by a node
        // that may not have heard of the last write.
        text += " success { request_range { key: \"a\" } }";
    }
    text
}

fn compare_of(dice: &mut Dice, so_far: u64) -> String {
    let operand = match dice.below(5) {
        0 => format!("target: VERSION version: {}", dice.below(3)),
        1 => format!("target: CREATE{}", dice.revision("create_revision", so_far)),
        2 => format!("target: MOD{}", dice.revision("mod_revision", so_far)),
        3 => format!("target: VALUE value: \"{}\"", dice.pick(&["", "1", "2", "x"])),
        _ => format!("target: LEASE lease: {}", dice.below(LEASES + 1)),
    };
    let result = dice.pick(&["EQUAL", "GREATER", "LESS", "NOT_EQUAL"]);
    format!("{} result: {result} {operand}", dice.range())
}
