//! What Patroni does with its store, told by a Python program without any package.

use std::path::{Path, PathBuf};

use mainstay_tests::Process;

use crate::{comparison::Comparison, side::named_or_on_path};

/// The program, which says itself what it does.
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance/patroni.py");

/// What it prints of a store that is right.
const RIGHT: &str = "\
members have addresses
authentication: 9 etcdserver: authentication is not enabled
one takes: True two takes: False
one: updated two: lost
alive: 30 30
leader: one under its lease: True
two deletes what is not its own: False
dead: None leader: None
members/one: None
refused: 5 etcdserver: requested lease not found
two: taken updated
leader: two
two gives it up: True twice: False
left: /service/demo/initialize 7000
left: /service/demo/members/two running
left: /service/demo/status {\"optime\": 1}
seen: deleted leader deleted leader deleted members/one end=1 leader=one leader=one leader=two \
leader=two members/one=running members/two=running status={\"optime\": 1}
";

/// Python, if this machine has it.
///
/// # Errors
/// Why it has not.
pub(crate) fn python() -> Result<PathBuf, String> {
    named_or_on_path("PYTHON", "python3")
}

/// Runs the program against both sides.
///
/// # Panics
/// If it finds something wrong, or prints something else.
pub(crate) async fn hold(comparison: &Comparison, python: &Path) {
    for side in comparison.sides() {
        let folder = tempfile::tempdir().expect("the system has a temporary folder");
        let (stdout, stderr) = (folder.path().join("out"), folder.path().join("err"));
        let words = [PROGRAM.to_owned(), side.addresses.join(",")];
        let mut process = Process::start(python, words, &stdout, &stderr);
        let code = process.exit_code().await;
        assert_eq!(process.stdout(), RIGHT, "{}: {}", side.name, process.stderr());
        assert_eq!(code, 0, "{}: {}", side.name, process.stderr());
    }
}
