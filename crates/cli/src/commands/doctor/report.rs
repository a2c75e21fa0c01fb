//! How findings are shown: a table for people, lines for scripts, JSON for programs.

use serde_json::{Value, json};

use crate::table::Table;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// As it should be.
    Ok,
    /// Not as it should be; nothing is refused yet.
    Warn,
    /// Something does not work, or data is in danger.
    Fail,
}

impl Verdict {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) verdict: Verdict,
    /// What was looked at, in one word.
    pub(super) check: &'static str,
    /// Which node or file; `-` for the whole.
    pub(super) subject: String,
    /// What was found.
    pub(super) found: String,
    /// What to do; empty if it is as it should be.
    pub(super) remedy: String,
}

impl Finding {
    pub(super) fn ok(check: &'static str, subject: &str, found: String) -> Self {
        let subject = subject.to_owned();
        Self { verdict: Verdict::Ok, check, subject, found, remedy: String::new() }
    }

    pub(super) fn warn(check: &'static str, subject: &str, found: String, remedy: &str) -> Self {
        let (subject, remedy) = (subject.to_owned(), remedy.to_owned());
        Self { verdict: Verdict::Warn, check, subject, found, remedy }
    }

    pub(super) fn fail(check: &'static str, subject: &str, found: String, remedy: &str) -> Self {
        let (subject, remedy) = (subject.to_owned(), remedy.to_owned());
        Self { verdict: Verdict::Fail, check, subject, found, remedy }
    }
}

/// One finding a line, columns separated by tabs.
pub(super) fn lines(findings: &[Finding]) -> String {
    let line = |finding: &Finding| {
        let Finding { verdict, check, subject, found, remedy } = finding;
        format!("{}\t{check}\t{subject}\t{found}\t{remedy}\n", verdict.as_str())
    };
    findings.iter().map(line).collect()
}

/// A table, and under it what to do, the worst first.
pub(super) fn table(findings: &[Finding]) -> String {
    let mut table = Table::new(&["STATUS", "CHECK", "NODE", "FOUND"]);
    for finding in findings {
        table.row([
            finding.verdict.as_str().to_owned(),
            finding.check.to_owned(),
            finding.subject.clone(),
            finding.found.clone(),
        ]);
    }
    let mut text = table.render();
    let mut wrong: Vec<_> =
        findings.iter().filter(|finding| finding.verdict != Verdict::Ok).collect();
    wrong.sort_by_key(|finding| std::cmp::Reverse(finding.verdict));
    if wrong.is_empty() {
        text.push_str("\nAll is well.\n");
        return text;
    }
    text.push_str("\nWhat to do:\n");
    for Finding { verdict, check, subject, found, remedy } in wrong {
        text.push_str(&format!("{} {check} {subject}: {found}\n     {remedy}\n", verdict.as_str()));
    }
    text
}

/// The findings, and the worst of them.
pub(super) fn json(findings: &[Finding]) -> Value {
    let worst = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok);
    let one = |finding: &Finding| {
        json!({
            "status": finding.verdict.as_str(),
            "check": finding.check,
            "node": finding.subject,
            "found": finding.found,
            "remedy": finding.remedy,
        })
    };
    json!({"status": worst.as_str(), "findings": findings.iter().map(one).collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Vec<Finding> {
        vec![
            Finding::ok("quorum", "-", "3 of 3 voters answer".to_owned()),
            Finding::warn("clock", "n2", "1 s ahead".to_owned(), "synchronise it"),
            Finding::fail("sync", "n1", "2,000 ms".to_owned(), "look at its disk"),
        ]
    }

    #[test]
    fn the_worst_is_told_first_under_the_table() {
        let text = table(&findings());
        let (above, below) = text.split_once("What to do:\n").expect("something is wrong");
        assert!(above.lines().nth(1).is_some_and(|line| line.starts_with("ok")), "{text}");
        assert!(below.starts_with("fail sync n1: 2,000 ms\n     look at its disk\n"), "{text}");
        assert!(table(&findings()[..1]).ends_with("All is well.\n"));
    }

    #[test]
    fn scripts_get_five_columns_and_programs_the_worst() {
        for line in lines(&findings()).lines() {
            assert_eq!(line.split('\t').count(), 5, "{line}");
        }
        let document = json(&findings());
        assert_eq!(document["status"], "fail");
        assert_eq!(document["findings"][1]["remedy"], "synchronise it");
    }
}
