//! What a reader must find on the page, whatever the runs were.

use super::*;
use crate::{
    checkers::{Rule, elections},
    history::History,
    timeline::{EventKind, Fault, FaultKind, Role},
};

/// A run in which node 0 led, was cut off, and node 1 took over.
fn timeline() -> Timeline {
    let mut timeline = Timeline::default();
    for node in 0..3 {
        timeline.record(0, Some(node), EventKind::Started { incarnation: 0 });
    }
    timeline.record(200_000, Some(0), EventKind::Role { role: Role::Leader, term: 1 });
    for number in 0..100 {
        let invoked_us = 200_000 + number * 10_000;
        let kind = EventKind::Acknowledged { client: 1, invoked_us, revision: 2 + number };
        timeline.record(invoked_us + 4_000, Some(0), kind);
    }
    let fault = Fault {
        id: 1,
        kind: FaultKind::Partition,
        nodes: vec![0],
        quorum_left: true,
        detail: String::new(),
    };
    timeline.record(2_000_000, None, EventKind::FaultBegan(fault));
    timeline.record(2_400_000, Some(1), EventKind::Role { role: Role::Leader, term: 2 });
    let invoked_us = 2_010_000;
    timeline.record(
        2_450_000,
        Some(1),
        EventKind::Acknowledged { client: 1, invoked_us, revision: 200 },
    );
    timeline.record(3_000_000, None, EventKind::FaultEnded { id: 1 });
    timeline.record(4_000_000, None, EventKind::Healed);
    timeline
}

fn run(seed: u64, violations: Vec<Violation>) -> Run {
    let timeline = timeline();
    let elections = elections::elections(&timeline);
    Run {
        scenario: "split-brain".to_owned(),
        seed,
        planted: None,
        trace_hash: 0xfeed,
        simulated_ms: 4_000,
        violations,
        coverage: Coverage::of(&timeline, &History::default(), &elections),
        recoveries: crate::recovery_time::recoveries(&timeline),
        loss: Loss { acknowledged: 101, lost: 0, lost_span_us: 0 },
        timeline: Some(timeline),
    }
}

fn violation() -> Violation {
    Violation {
        at_us: 2_500_000,
        rule: Rule::OneLeaderPerTerm,
        node: Some(1),
        what: "it leads where <node 0> led".to_owned(),
    }
}

fn page(runs: Vec<Run>) -> String {
    let mut report = Report::new(Provenance {
        commit: "0123abc".to_owned(),
        toolchain: "rustc 1.95".to_owned(),
    });
    for run in runs {
        report.add(run);
    }
    report.page()
}

#[test]
fn a_clean_sweep_says_so_first() {
    let page = page(vec![run(1, Vec::new()), run(2, Vec::new())]);
    assert!(page.contains("<h1 class=\"good\">2 runs, no violation</h1>"));
    assert!(!page.contains("<h2>Violations</h2>"));
    assert!(page.contains("0123abc") && page.contains("rustc 1.95"));
}

#[test]
fn violations_come_before_everything_else_with_the_command_that_shows_them_again() {
    let page = page(vec![run(1, Vec::new()), run(7, vec![violation()])]);
    assert!(page.contains("<h1 class=\"bad\">1 violation in 1 of 2 runs</h1>"));
    let violations = page.find("<h2>Violations</h2>").expect("a section of violations");
    let recovery = page.find("<h2>Recovery</h2>").expect("a section of recoveries");
    assert!(violations < recovery);
    assert!(page.contains("chaos replay --scenario split-brain --seed 7"));
    assert!(page.contains("it leads where &lt;node 0&gt; led"));
}

#[test]
fn recovery_times_and_losses_are_shown() {
    let mut lossy = run(3, vec![violation()]);
    lossy.loss.lost = 5;
    let page = page(vec![run(1, Vec::new()), lossy]);
    assert!(page.contains("partition, leader: 2 faults, median 450 ms"));
    assert!(page.contains("Worst: split-brain, seed 3: 5 acknowledged writes lost"));
}

#[test]
fn the_picture_has_roles_terms_faults_and_writes() {
    let picture = timeline_picture::draw(&timeline());
    for part in ["term 1", "partition 0", "node 0 acknowledged 100 writes", "role-leader", "healed"]
    {
        assert!(picture.contains(part), "{part} in {picture}");
    }
}

#[test]
fn the_page_needs_nothing_from_outside() {
    let page = page(vec![run(1, Vec::new()), run(7, vec![violation()])]);
    for outside in ["<script", "http://", "https://", "@import", "src="] {
        assert!(!page.contains(outside), "{outside}");
    }
    for tag in ["section", "table", "svg", "details", "div", "g", "title", "text"] {
        let opened =
            page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "every {tag} ends");
    }
}

#[test]
fn a_large_sweep_draws_few_pictures() {
    let mut report = Report::default();
    for seed in 0..40 {
        report.add(run(seed, vec![violation()]));
        report.add(run(100 + seed, Vec::new()));
    }
    let drawn = report.runs.iter().filter(|run| run.timeline.is_some());
    assert_eq!(drawn.count(), FAILING_PICTURES_MAX + 1);
}

#[test]
fn an_empty_sweep_and_an_empty_timeline_have_a_page_too() {
    assert!(page(Vec::new()).contains("No run"));
    let mut empty = run(1, Vec::new());
    empty.timeline = Some(Timeline::default());
    empty.recoveries.clear();
    assert!(page(vec![empty]).contains("No fault struck alone"));
}

#[test]
fn a_report_is_written_into_a_new_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("a/b");
    let path = write(&dir, Provenance::default(), [run(1, Vec::new())]).expect("it is written");
    let page = fs::read_to_string(path).expect("it is there");
    assert!(page.starts_with("<!doctype html>"));
}

#[test]
fn a_report_that_cannot_be_written_says_where() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("file");
    fs::write(&dir, "in the way").expect("a file");
    let error = Report::default().write(&dir).expect_err("a file is no folder");
    assert!(error.to_string().contains("file/index.html was not written"));
}
