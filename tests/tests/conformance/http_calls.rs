//! Calls of the JSON gateway and of what else is served over HTTP.
//!
//! Bodies are compared as JSON, with the names in order, after the same replacements as in
//! messages: there revisions are strings.

use futures_util::StreamExt as _;
use mainstay_tests::PATIENCE;
use serde_json::Value;

use crate::messages::{absolute, names_a_revision, relative};

/// What only has to be there.
const THERE_OR_NOT: &[&str] = &[
    "cluster_id",
    "member_id",
    "raft_term",
    "dbSize",
    "dbSizeInUse",
    "dbSizeQuota",
    "storageVersion",
    "leader",
    "raftIndex",
    "raftTerm",
    "raftAppliedIndex",
    "hash",
    "etcdserver",
    "etcdcluster",
    "name",
    "peerURLs",
    "clientURLs",
];

/// Sends a request and returns the status and what the body says, or its first `lines`.
pub(crate) async fn call(
    (verb, url): (&str, &str),
    body: &str,
    lines: Option<usize>,
    base: i64,
) -> Vec<String> {
    let verb = verb.parse().expect("a case names a method of HTTP");
    let request = reqwest::Client::new()
        .request(verb, url)
        .header("Content-Type", "application/json")
        .body(with_revisions(body, base));
    let answer = match request.send().await {
        Ok(answer) => answer,
        Err(error) => return vec![format!("! no answer: {error}")],
    };
    let status = answer.status().as_u16();
    let mut body = Vec::new();
    let mut parts = answer.bytes_stream();
    let complete = |body: &[u8]| {
        lines.is_some_and(|lines| body.iter().filter(|byte| **byte == b'\n').count() >= lines)
    };
    while !complete(&body) {
        match tokio::time::timeout(PATIENCE, parts.next()).await {
            Ok(Some(Ok(part))) => body.extend_from_slice(&part),
            Ok(Some(Err(error))) => return vec![format!("! broken answer: {error}")],
            Ok(None) => break,
            Err(_elapsed) => return vec![format!("! nothing more after {body:?}")],
        }
    }
    let text = String::from_utf8_lossy(&body);
    let mut said: Vec<_> =
        text.lines().map(|line| format!("= {status} {}", json(line, base))).collect();
    if said.is_empty() {
        said.push(format!("= {status}"));
    }
    said
}

/// `@1002` in a body is a revision of the case.
pub(crate) fn with_revisions(body: &str, base: i64) -> String {
    let mut parts = body.split('@');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let revision: i64 = part[..digits].parse().expect("a revision follows an @");
        text += &absolute(revision, base).to_string();
        text += &part[digits..];
    }
    text
}

/// A line as it is compared.
fn json(line: &str, base: i64) -> String {
    match serde_json::from_str(line) {
        Ok(mut value) => {
            replace(&mut value, base);
            value.to_string()
        }
        Err(_no_json) => line.to_owned(),
    }
}

fn has_dots(text: &str) -> bool {
    text.contains('.')
}

fn replace(value: &mut Value, base: i64) {
    match value {
        Value::Object(fields) => {
            // Versions of etcd give them or do not; they say nothing.
            if fields.get("details").is_some_and(|details| *details == Value::Array(Vec::new())) {
                fields.remove("details");
            }
            if fields.get("error").is_some_and(|error| Some(error) == fields.get("message")) {
                fields.remove("error");
            }
            for (name, value) in fields {
                replace(value, base);
                let is_version = name == "version" && value.as_str().is_some_and(has_dots);
                if is_version || THERE_OR_NOT.contains(&name.as_str()) {
                    *value = Value::from("there");
                } else if names_a_revision(name)
                    && let Some(revision) = value.as_str().and_then(|text| text.parse().ok())
                {
                    *value = Value::from(relative(revision, base).to_string());
                }
            }
        }
        Value::Array(values) => {
            for value in values.iter_mut() {
                replace(value, base);
            }
            let are_members = values.iter().all(|value| value.get("peerURLs").is_some());
            if are_members {
                for member in values.iter_mut() {
                    member["ID"] = Value::from("there");
                }
                values.dedup();
            }
        }
        _ => {}
    }
}
