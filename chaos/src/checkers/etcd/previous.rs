//! Whether an event tells truly what was there before.
//!
//! A creation has nothing before it; what was before a later write is of the same life of the key,
//! one version younger, and the newest known write below. It may be left out, since it may be
//! compacted.

use crate::{
    checkers::{
        Rule, Violation,
        writes::{Writes, shown},
    },
    history::{History, Shown, StreamEvent, StreamMessage},
};

pub(super) fn check(history: &History, writes: &Writes<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for streamed in &history.streamed {
        let StreamMessage::Events(events) = &streamed.message else { continue };
        violations.extend(events.iter().filter_map(|event| {
            let what = wrong(event, writes)?;
            let (key, revision) = (Shown(&event.pair.key), event.pair.mod_revision);
            Some(Violation {
                at_us: streamed.at_us,
                rule: Rule::WatchPrevious,
                node: Some(streamed.node),
                what: format!("stream {}: revision {revision} of {key} {what}", streamed.stream),
            })
        }));
    }
    violations
}

fn wrong(event: &StreamEvent, writes: &Writes<'_>) -> Option<String> {
    let StreamEvent { pair, deleted, previous } = event;
    if !deleted && (pair.version == 1) != (pair.create_revision == pair.mod_revision) {
        let (version, created) = (pair.version, pair.create_revision);
        return Some(format!("is version {version}, created at {created}"));
    }
    let previous = previous.as_ref()?;
    if !deleted && pair.version == 1 {
        return Some(format!("created it over revision {}", previous.mod_revision));
    }
    let same_life =
        pair.version == previous.version + 1 && pair.create_revision == previous.create_revision;
    if previous.key != pair.key || !deleted && !same_life {
        return Some(format!(
            "is version {} of {}, but was version {} of {} before",
            pair.version, pair.create_revision, previous.version, previous.create_revision
        ));
    }
    let (newest, write) = writes.newest(&pair.key, pair.mod_revision - 1)?;
    let stands = newest < previous.mod_revision
        || newest == previous.mod_revision && write.value == Some(&previous.value);
    (!stands).then(|| {
        format!(
            "says that it was {} of revision {} before; but revision {newest} is {} by {}",
            Shown(&previous.value),
            previous.mod_revision,
            shown(write.value),
            write.witness
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checkers::story::{bytes, created, history, overwritten, put},
        history::{StreamPair, Streamed},
    };

    fn pair(value: &str, mod_revision: u64, version: u64) -> StreamPair {
        StreamPair {
            key: bytes("a"),
            value: bytes(value),
            create_revision: 2,
            mod_revision,
            version,
        }
    }

    fn told(pair: StreamPair, previous: Option<StreamPair>) -> Vec<Violation> {
        let mut history = history(vec![
            (0, 1, put("a", "1"), created(2)),
            (2, 3, put("a", "2"), overwritten(3)),
            (4, 5, put("a", "3"), overwritten(4)),
        ]);
        let message = StreamMessage::Events(vec![StreamEvent { pair, deleted: false, previous }]);
        let (stream, watch_id, node, at_us, header_revision) = (0, Some(0), 0, 9, 4);
        history.streamed.push(Streamed { stream, watch_id, node, at_us, header_revision, message });
        let (writes, _contradictions) = Writes::gather(&history);
        check(&history, &writes)
    }

    #[test]
    fn what_was_there_before_is_the_write_before() {
        assert_eq!(told(pair("3", 4, 3), Some(pair("2", 3, 2))), []);
        assert_eq!(told(pair("3", 4, 3), None), []);
        assert_eq!(told(pair("1", 2, 1), None), []);
    }

    #[test]
    fn an_older_write_or_another_value_is_found() {
        for previous in [pair("1", 2, 1), pair("1", 2, 2), pair("x", 3, 2)] {
            let violations = told(pair("3", 4, 3), Some(previous));
            assert_eq!(violations[0].rule, Rule::WatchPrevious);
        }
        assert_eq!(told(pair("1", 2, 1), Some(pair("0", 1, 1))).len(), 1);
    }
}
