//! `mainstay watch`: changes as they happen, across failures of nodes.

use std::io::Write;

use anyhow::bail;
use clap::Args;
use mainstay_client::{
    Client, Event, EventKind, RevisionChanges, WatchMessage, WatchRequest, pair_json,
};

use crate::{
    arguments::Output,
    commands::get::EncodingArguments,
    encoding::Encoding,
    exit::{Exit, UsageError},
    screen::Screen,
    table::cut,
};

/// Widths of the columns of keys and values in the table, which cannot know what is to come.
const KEY_WIDTH: usize = 32;
const VALUE_WIDTH: usize = 44;

#[derive(Debug, Args)]
pub(crate) struct WatchArguments {
    /// The key; with --prefix what the keys start with, '' for all
    key: String,
    /// Watch all keys that start with KEY
    #[arg(long, env = "MAINSTAY_PREFIX")]
    prefix: bool,
    /// Start with the changes of this revision instead of now
    #[arg(long, env = "MAINSTAY_FROM_REVISION", value_name = "REVISION")]
    from_revision: Option<u64>,
    /// Show what was there before
    #[arg(long, env = "MAINSTAY_PREVIOUS")]
    previous: bool,
    /// End after this many events, those of the last revision included
    #[arg(long, env = "MAINSTAY_LIMIT", value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    #[command(flatten)]
    encoding: EncodingArguments,
}

pub(crate) async fn run(
    arguments: WatchArguments,
    client: &Client,
    output: Output,
) -> anyhow::Result<Exit> {
    if arguments.key.is_empty() && !arguments.prefix {
        bail!(UsageError("a key is not empty; --prefix '' watches all keys".to_owned()));
    }
    let request = WatchRequest {
        is_prefix: arguments.prefix,
        from_revision: arguments.from_revision,
        previous: arguments.previous,
        ..WatchRequest::key(arguments.key)
    };
    let encoding = arguments.encoding.encoding();
    let mut watch = client.watch(request).await?;
    if output == Output::Table {
        print_row("REVISION", "EVENT", "KEY", "VALUE")?;
    }
    let mut remaining = arguments.limit.unwrap_or(u64::MAX);
    while remaining > 0 {
        let WatchMessage::Change(change) = watch.next().await? else { continue };
        print_change(&change, output, encoding, arguments.previous)?;
        remaining = remaining.saturating_sub(change.events.len() as u64);
    }
    Ok(Exit::Done)
}

/// Prints the events of a revision at once: whoever reads a pipe should not wait for more.
fn print_change(
    change: &RevisionChanges,
    output: Output,
    encoding: Encoding,
    previous: bool,
) -> anyhow::Result<()> {
    let mut screen = Screen::new();
    match output {
        Output::Simple => {
            for event in &change.events {
                let (revision, key) = (change.revision, encoding.show(&event.pair.key));
                write!(screen, "{revision}\t{}\t{key}", word(event.kind))?;
                if event.kind == EventKind::Put {
                    write!(screen, "\t{}", encoding.show(&event.pair.value))?;
                }
                if previous && let Some(before) = &event.previous {
                    write!(screen, "\twas\t{}", encoding.show(&before.value))?;
                }
                writeln!(screen)?;
            }
        }
        Output::Table => {
            for event in &change.events {
                let mut value = encoding.show(&event.pair.value);
                if previous && let Some(before) = &event.previous {
                    value = format!("{value} (was {})", encoding.show(&before.value));
                }
                let revision = change.revision.to_string();
                print_row(&revision, word(event.kind), &encoding.show(&event.pair.key), &value)?;
            }
        }
        Output::Json => screen.json(&change_json(change))?,
    }
    screen.finish()
}

fn print_row(revision: &str, event: &str, key: &str, value: &str) -> anyhow::Result<()> {
    let (key, value) = (cut(key, KEY_WIDTH), cut(value, VALUE_WIDTH));
    let line = format!("{revision:<10}  {event:<6}  {key:<KEY_WIDTH$}  {value}");
    crate::screen::line(line.trim_end())
}

/// A revision as the API writes it, on one line.
fn change_json(change: &RevisionChanges) -> serde_json::Value {
    let event = |event: &Event| {
        let mut json = pair_json(&event.pair);
        json["type"] = word(event.kind).into();
        json["previous"] = event.previous.as_ref().map(pair_json).into();
        json
    };
    serde_json::json!({
        "revision": change.revision.to_string(),
        "events": change.events.iter().map(event).collect::<Vec<_>>(),
    })
}

const fn word(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Put => "put",
        EventKind::Delete => "delete",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use mainstay_client::KeyValue;

    #[test]
    fn a_change_is_one_json_object_with_all_its_events() {
        let pair = |value: &'static str| KeyValue {
            key: Bytes::from_static(b"a"),
            value: Bytes::from_static(value.as_bytes()),
            create_revision: 2,
            mod_revision: 7,
            version: 3,
            lease: 0,
        };
        let event = Event { kind: EventKind::Put, pair: pair("2"), previous: Some(pair("1")) };
        let json = change_json(&RevisionChanges { revision: 7, events: vec![event] });
        assert_eq!(json["revision"], "7");
        assert_eq!(json["events"][0]["type"], "put");
        assert_eq!(json["events"][0]["value"], "Mg==");
        assert_eq!(json["events"][0]["previous"]["value"], "MQ==");
    }
}
