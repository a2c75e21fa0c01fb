//! The house rules, as a test: what a reader may rely on without reading everything.
//!
//! Crates depend downwards only; the names of openraft, bincode and sled stay behind one crate
//! each; every crate inherits the lints; every file says what it is; nothing half-done is left
//! behind; links in the documents lead somewhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// What each crate may depend on: the drawing in `docs/architecture.md`, as a table.
const MAY_DEPEND_ON: &[(&str, &[&str])] = &[
    ("bbolt", &[]),
    ("codec", &[]),
    ("world", &[]),
    ("failure-detector", &[]),
    ("kv", &["codec"]),
    ("storage", &["codec", "world"]),
    ("consensus", &["codec", "world", "kv", "storage", "failure-detector"]),
    ("service", &["codec", "world", "kv", "consensus"]),
    ("client", &["codec", "world", "kv"]),
    ("etcd-protocol", &[]),
    ("etcd", &["bbolt", "world", "kv", "consensus", "service", "etcd-protocol"]),
    ("node", &["world", "kv", "storage", "consensus", "service", "etcd", "client"]),
    ("cli", &["world", "kv", "client", "etcd-protocol", "node"]),
    ("tests", &["world", "node", "cli"]),
    ("chaos", &["codec", "world", "kv", "storage", "consensus", "node", "client", "etcd-protocol"]),
];

/// Crates that know no I/O, clock, thread, async or log.
const PURE: &[&str] = &["bbolt", "codec", "kv", "failure-detector"];

/// Names that may stand in the source of one crate only.
const KEPT_BEHIND: &[(&str, &str)] =
    &[("openraft::", "consensus"), ("bincode::", "codec"), ("sled::", "world")];

#[test]
fn crates_depend_downwards_only() {
    let allowed: BTreeMap<_, BTreeSet<_>> =
        MAY_DEPEND_ON.iter().map(|(name, may)| (*name, may.iter().copied().collect())).collect();
    for manifest in manifests() {
        let name = crate_name(&manifest);
        let may = allowed.get(name.as_str()).unwrap_or_else(|| {
            panic!("crate {name} is not in the table; a crate is earned, see docs/architecture.md")
        });
        let parsed: toml::Table = read(&manifest).parse().expect("a manifest is TOML");
        let Some(dependencies) = parsed.get("dependencies").and_then(toml::Value::as_table) else {
            continue;
        };
        for dependency in dependencies.keys().filter_map(|key| key.strip_prefix("mainstay-")) {
            assert!(may.contains(dependency), "{name} may not depend on {dependency}");
        }
    }
}

#[test]
fn every_crate_inherits_the_lints_and_takes_its_dependencies_from_the_workspace() {
    for manifest in manifests() {
        let text = read(&manifest);
        let parsed: toml::Table = text.parse().expect("a manifest is TOML");
        let inherits = parsed
            .get("lints")
            .and_then(|lints| lints.get("workspace"))
            .and_then(toml::Value::as_bool);
        assert_eq!(inherits, Some(true), "{} does not inherit the lints", manifest.display());
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(table) = parsed.get(section).and_then(toml::Value::as_table) else { continue };
            for (name, value) in table {
                let inherited = value.get("workspace").and_then(toml::Value::as_bool);
                assert_eq!(
                    inherited,
                    Some(true),
                    "{}: {name} has a version of its own",
                    manifest.display()
                );
            }
        }
    }
}

#[test]
fn pure_crates_ban_the_machine_and_depend_on_nothing_that_touches_it() {
    let bans = read(&root().join("crates/codec/clippy.toml"));
    for name in PURE {
        let folder = root().join("crates").join(name);
        assert_eq!(read(&folder.join("clippy.toml")), bans, "the bans of {name} differ");
        let parsed: toml::Table =
            read(&folder.join("Cargo.toml")).parse().expect("a manifest is TOML");
        let dependencies = parsed["dependencies"].as_table().expect("has dependencies");
        for machine in ["tokio", "tracing", "libc", "hyper", "axum", "sled", "rand"] {
            assert!(!dependencies.contains_key(machine), "{name} depends on {machine}");
        }
    }
}

#[test]
fn names_that_may_change_stay_behind_one_crate() {
    for file in sources() {
        let relative = relative(&file);
        if relative.starts_with("tests/") {
            continue;
        }
        for (number, line) in code_lines(&read(&file)) {
            for (name, home) in KEPT_BEHIND {
                let at_home = relative.starts_with(&format!("crates/{home}/"));
                assert!(
                    at_home || !line.contains(name),
                    "{relative}:{number} names {name}, which belongs to {home}"
                );
            }
            assert!(
                relative.starts_with("crates/world/")
                    || relative == "chaos/src/cluster/task_ids.rs"
                    || relative.contains("/tests/")
                    || relative.contains("/benches/")
                    || relative.contains("/examples/")
                    || !line.contains("tokio::spawn("),
                "{relative}:{number}: tasks start through world::spawn, which hands the scope on"
            );
        }
    }
}

#[test]
fn every_file_says_what_it_is() {
    for file in sources() {
        let text = read(&file);
        let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        assert!(
            first.starts_with("//!"),
            "{} does not open with a module comment",
            relative(&file)
        );
        let words = text
            .lines()
            .take_while(|line| line.starts_with("//!"))
            .flat_map(str::split_whitespace)
            .count();
        assert!(words >= 5, "the module comment of {} says nothing", relative(&file));
    }
}

#[test]
fn nothing_half_done_is_left_behind() {
    let markers = ["todo!(", "unimplemented!(", "#[ignore", "FIXME", "XXX", "dbg!("];
    for file in sources().filter(|file| !file.ends_with("tests/tests/tidy.rs")) {
        for (number, line) in read(&file).lines().enumerate() {
            for marker in markers {
                assert!(!line.contains(marker), "{}:{} has {marker}", relative(&file), number + 1);
            }
        }
    }
}

#[test]
fn files_are_named_after_the_domain() {
    let banned = ["utils", "util", "common", "helpers", "helper", "manager", "misc", "types"];
    for file in sources() {
        let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        assert!(!banned.contains(&stem), "{} is named after nothing", relative(&file));
    }
}

#[test]
fn links_in_the_documents_lead_somewhere() {
    for document in documents() {
        let text = read(&document);
        let folder = document.parent().expect("a file is in a folder");
        for target in links(&text) {
            let path = target.split('#').next().unwrap_or_default();
            if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
                continue;
            }
            assert!(
                folder.join(path).exists(),
                "{} links to {target}, which is not there",
                relative(&document)
            );
        }
    }
}

#[test]
fn documents_have_one_title() {
    for document in documents() {
        let mut fenced = false;
        let mut titles = 0;
        for line in read(&document).lines() {
            if line.starts_with("```") {
                fenced = !fenced;
            }
            titles += usize::from(!fenced && line.starts_with("# "));
        }
        assert_eq!(titles, 1, "{} has {titles} titles", relative(&document));
    }
}

/// A workspace of its own, whose lints and versions cargo cannot inherit from this one.
#[test]
fn the_workspace_of_etcd_client_keeps_the_same_rules() {
    let folder = root().join("tests/etcd-client");
    let parsed = |path: &Path| -> toml::Table { read(path).parse().expect("is TOML") };
    let lints = |path: &Path| parsed(path)["workspace"]["lints"].clone();
    assert_eq!(lints(&folder.join("Cargo.toml")), lints(&root().join("Cargo.toml")));
    let ours = locked(&root().join("Cargo.lock"));
    for (name, versions) in locked(&folder.join("Cargo.lock")) {
        let Some(ours) = ours.get(&name) else { continue };
        assert!(versions.is_subset(ours), "{name} is {versions:?} there and {ours:?} here");
    }
}

#[test]
fn banned_dependencies_are_not_in_the_lock_files() {
    let deny: toml::Table = read(&root().join("deny.toml")).parse().expect("deny.toml is TOML");
    let banned: BTreeSet<&str> = deny["bans"]["deny"]
        .as_array()
        .expect("a list of bans")
        .iter()
        .filter_map(|ban| ban.get("crate").and_then(toml::Value::as_str))
        .collect();
    assert!(!banned.is_empty(), "deny.toml bans nothing");
    for lock in ["Cargo.lock", "tests/etcd-client/Cargo.lock"] {
        for name in locked(&root().join(lock)).keys() {
            assert!(!banned.contains(name.as_str()), "{name} is banned in deny.toml and in {lock}");
        }
    }
}

/// The packages of a lock file with their versions.
fn locked(path: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let lock: toml::Table = read(path).parse().expect("a lock file is TOML");
    let mut versions: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for package in lock["package"].as_array().expect("a list of packages") {
        let text = |key| package[key].as_str().expect("is text").to_owned();
        versions.entry(text("name")).or_default().insert(text("version"));
    }
    versions
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lie in the root").to_path_buf()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).to_string_lossy().into_owned()
}

fn crate_name(manifest: &Path) -> String {
    let parsed: toml::Table = read(manifest).parse().expect("a manifest is TOML");
    let name = parsed["package"]["name"].as_str().expect("a package has a name");
    name.strip_prefix("mainstay-").unwrap_or(name).to_owned()
}

fn manifests() -> Vec<PathBuf> {
    let mut found: Vec<_> = ["crates", "chaos"]
        .into_iter()
        .flat_map(|folder| walk(&root().join(folder)))
        .filter(|path| path.file_name().is_some_and(|name| name == "Cargo.toml"))
        .collect();
    found.push(root().join("tests/Cargo.toml"));
    assert!(found.len() > 5, "the crates were not found");
    found
}

fn sources() -> impl Iterator<Item = PathBuf> {
    ["chaos", "crates", "tests"]
        .into_iter()
        .flat_map(|folder| walk(&root().join(folder)))
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
}

fn documents() -> Vec<PathBuf> {
    let mut found: Vec<_> = walk(&root().join("docs"));
    found.extend(["README.md", "CHANGELOG.md", "CONTRIBUTING.md"].map(|name| root().join(name)));
    found.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    found
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for entry in entries {
            let path = entry.expect("a folder can be listed").path();
            if path.is_dir() {
                if !path.ends_with("target") && !path.ends_with("proptest-regressions") {
                    folders.push(path);
                }
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Lines of code with their numbers; comments are left out.
fn code_lines(text: &str) -> Vec<(usize, &str)> {
    text.lines()
        .enumerate()
        .filter(|(_number, line)| !line.trim_start().starts_with("//"))
        .map(|(number, line)| (number + 1, line))
        .collect()
}

/// The targets of Markdown links outside code.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        let mut rest = line;
        while let Some(at) = rest.find("](") {
            rest = &rest[at + 2..];
            let Some(end) = rest.find(')') else { break };
            found.push(rest[..end].to_owned());
            rest = &rest[end..];
        }
    }
    found
}
