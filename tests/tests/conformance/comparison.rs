//! Two sides side by side: what they answer must be the same, or be listed as a difference.

use std::{
    collections::BTreeSet,
    io::{self, Write as _},
    sync::{Mutex, PoisonError},
};

use crate::{
    differences::{DIFFERENCES, Difference},
    script::{self, Case},
    side::{Etcd, Side, Version},
    stage::Stage,
};

/// What is held against what.
pub(crate) struct Comparison {
    mainstay: Side,
    etcd: Option<(Side, Version)>,
}

impl Comparison {
    /// Starts both sides; without an etcd on this machine, the one.
    pub(crate) async fn start() -> Self {
        let mainstay = Side::mainstay().await;
        let etcd = match Etcd::find() {
            Ok(etcd) => {
                say(&format!("compared with etcd {} ({})", etcd.version, etcd.program.display()));
                Some((Side::etcd(&etcd).await, etcd.version))
            }
            Err(why) => {
                say(&format!("skipped: comparison with etcd ({why})"));
                None
            }
        };
        Self { mainstay, etcd }
    }

    /// Both sides, or the one, with Mainstay in front.
    pub(crate) fn sides(&self) -> impl Iterator<Item = &Side> {
        std::iter::once(&self.mainstay).chain(self.etcd.iter().map(|(side, _version)| side))
    }

    /// Plays all cases of a file and compares.
    ///
    /// # Panics
    /// If an answer is neither the expected one nor etcd's, and not listed as a difference; or if
    /// a difference is listed that is none.
    pub(crate) async fn hold(&self, text: &str) {
        let cases = script::cases(text);
        let mut wrong = Vec::new();
        for (at, case) in cases.iter().enumerate() {
            let ours = Stage::set(&self.mainstay, at).await.play(case).await;
            wrong.extend(unexpected(case, &ours));
            if let Some((etcd, version)) = &self.etcd {
                let Some(since) = case.since else { continue };
                if *version < since {
                    say(&format!("skipped: {} (etcd {version} is before {since})", case.name));
                    continue;
                }
                let theirs = Stage::set(etcd, at).await.play(case).await;
                wrong.extend(differing(case, &ours, &theirs, *version));
            }
        }
        assert!(wrong.is_empty(), "{} differences:\n\n{}", wrong.len(), wrong.join("\n"));
    }
}

/// Where the answers are not those that the case says.
fn unexpected(case: &Case, ours: &[Vec<String>]) -> Vec<String> {
    let steps = case.steps.iter().zip(ours);
    let wrong = steps.filter_map(|(step, ours)| {
        let expected = step.expected.as_ref()?;
        (expected != ours).then(|| {
            report(case, step.line, &step.text, ("expected", expected), ("Mainstay", ours))
        })
    });
    wrong.collect()
}

/// Where the answers are not etcd's, nor listed; and what is listed and is not so.
fn differing(
    case: &Case,
    ours: &[Vec<String>],
    theirs: &[Vec<String>],
    version: Version,
) -> Vec<String> {
    let listed: Vec<_> = DIFFERENCES
        .iter()
        .filter(|known| known.case == case.name && known.is_of(version))
        .collect();
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    for ((step, ours), theirs) in case.steps.iter().zip(ours).zip(theirs) {
        let same = ours.len() == theirs.len()
            && ours.iter().zip(theirs).all(|(ours, theirs)| {
                ours == theirs || explained(&listed, ours, theirs, &mut seen)
            });
        if !same {
            let (etcd, ours) = (("etcd", theirs.as_slice()), ("Mainstay", ours.as_slice()));
            wrong.push(report(case, step.line, &step.text, etcd, ours));
        }
    }
    let gone = listed.iter().enumerate().filter(|(at, _known)| !seen.contains(at));
    wrong.extend(gone.map(|(_at, known)| {
        format!(
            "{}: etcd {version} does not say {:?} here: the list is wrong",
            case.name, known.etcd
        )
    }));
    wrong
}

/// Whether listed differences make one line of the other.
fn explained(listed: &[&Difference], ours: &str, theirs: &str, seen: &mut BTreeSet<usize>) -> bool {
    let mut line = theirs.to_owned();
    let mut used = Vec::new();
    for (at, known) in listed.iter().enumerate() {
        let replaced = line.replace(known.etcd, known.ours);
        if replaced != line {
            used.push(at);
            line = replaced;
        }
    }
    let explains = line == ours;
    if explains {
        seen.extend(used);
    }
    explains
}

/// A difference as a person reads it.
pub(crate) fn report(
    case: &Case,
    line: usize,
    step: &str,
    first: (&str, &[String]),
    second: (&str, &[String]),
) -> String {
    let mut text = format!("case {} (line {line}): {step}\n", case.name);
    for (name, lines) in [first, second] {
        for line in lines {
            text += &format!("  {name:>8} {line}\n");
        }
        if lines.is_empty() {
            text += &format!("  {name:>8} nothing\n");
        }
    }
    text
}

/// Tells whoever runs the tests, past the runner's capture, once.
pub(crate) fn say(text: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if said.insert(text.to_owned()) {
        // Nobody reads it; that is no reason to fail.
        let _told = writeln!(io::stderr(), "{text}");
    }
}
