//! Whether streams of watchers keep etcd's order.
//!
//! A watcher is created, told of events from its start on, and ended, each in this order; no header
//! of a stream is below the one before, or below the events under it. A progress for the whole
//! stream says that every watcher that is there was told everything up to its revision.

use std::collections::BTreeMap;

use crate::{
    checkers::{Rule, Violation},
    history::{History, StreamEvent, StreamMessage, Streamed},
};

pub(super) fn check(history: &History) -> Vec<Violation> {
    let mut streams: BTreeMap<u32, Stream> = BTreeMap::new();
    let mut violations = Vec::new();
    for streamed in &history.streamed {
        let stream = streams.entry(streamed.stream).or_default();
        violations.extend(stream.follow(streamed).map(|what| Violation {
            at_us: streamed.at_us,
            rule: Rule::WatchStream,
            node: Some(streamed.node),
            what: format!("stream {} {what}", streamed.stream),
        }));
    }
    violations
}

#[derive(Default)]
struct Stream {
    header_revision: u64,
    /// The watchers that are there, with the lowest revision that may be told.
    watchers: BTreeMap<i64, u64>,
}

impl Stream {
    fn follow(&mut self, streamed: &Streamed) -> Option<String> {
        let Streamed { header_revision, watch_id, .. } = *streamed;
        let wrong = match (&streamed.message, watch_id) {
            // etcd names no revision there but the one that can be watched from.
            (StreamMessage::Compacted { .. }, Some(id)) => return self.ends(id),
            (StreamMessage::Cancelled, Some(id)) => {
                // A watcher that was refused was never there.
                self.watchers.remove(&id);
                None
            }
            (StreamMessage::Created { from_revision }, Some(id)) => {
                let from = match from_revision {
                    0 => header_revision + 1,
                    from => *from,
                };
                let before = self.watchers.insert(id, from);
                (id >= 0 && before.is_some()).then(|| format!("created watcher {id} again"))
            }
            (StreamMessage::Events(events), Some(id)) => self.events(id, events, header_revision),
            (StreamMessage::Progress, id) => {
                for (of, next) in &mut self.watchers {
                    if id.is_none_or(|id| id == *of) {
                        *next = (*next).max(header_revision + 1);
                    }
                }
                None
            }
            (_, None) => Some("told of no watcher".to_owned()),
        };
        let last = self.header_revision;
        self.header_revision = last.max(header_revision);
        let back = || format!("went back from revision {last} to {header_revision}");
        wrong.or_else(|| (header_revision < last).then(back))
    }

    fn ends(&mut self, id: i64) -> Option<String> {
        let known = self.watchers.remove(&id).is_some();
        (!known).then(|| format!("ended watcher {id}, which was not there"))
    }

    fn events(&mut self, id: i64, events: &[StreamEvent], header: u64) -> Option<String> {
        let Some(next) = self.watchers.get_mut(&id) else {
            return Some(format!("told of events of watcher {id}, which was not there"));
        };
        for event in events {
            let revision = event.pair.mod_revision;
            if revision < *next {
                return Some(format!(
                    "told watcher {id} of revision {revision} when {next} was to come"
                ));
            }
            // Several keys may change at one revision.
            *next = revision;
            if revision > header {
                return Some(format!("told of revision {revision} under a header of {header}"));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{checkers::story::bytes, history::StreamPair};

    fn events(revisions: &[u64]) -> StreamMessage {
        let event = |revision: &u64| StreamEvent {
            pair: StreamPair {
                key: bytes("k"),
                value: bytes("v"),
                create_revision: 2,
                mod_revision: *revision,
                version: revision - 1,
            },
            deleted: false,
            previous: None,
        };
        StreamMessage::Events(revisions.iter().map(event).collect())
    }

    const fn created(from_revision: u64) -> StreamMessage {
        StreamMessage::Created { from_revision }
    }

    /// Messages of watcher 1, or of all watchers, with the revision of their header.
    fn said(messages: Vec<(Option<i64>, u64, StreamMessage)>) -> Vec<String> {
        let streamed = messages.into_iter().map(|(watch_id, header_revision, message)| Streamed {
            stream: 4,
            watch_id,
            node: 2,
            at_us: 9,
            header_revision,
            message,
        });
        let history = History { streamed: streamed.collect(), ..History::default() };
        check(&history).into_iter().map(|violation| violation.what).collect()
    }

    #[test]
    fn a_stream_in_order_holds() {
        let told = said(vec![
            (Some(1), 5, created(3)),
            (Some(1), 5, events(&[3, 4])),
            (Some(1), 5, events(&[5, 5])),
            (None, 5, StreamMessage::Progress),
            (Some(1), 6, events(&[6])),
            (Some(1), 0, StreamMessage::Compacted { compact_revision: 9 }),
        ]);
        assert_eq!(told, [] as [&str; 0]);
    }

    #[test]
    fn progress_ahead_of_events_is_found() {
        let told = said(vec![
            (Some(1), 5, created(0)),
            (None, 8, StreamMessage::Progress),
            (Some(1), 8, events(&[7])),
        ]);
        assert_eq!(told, ["stream 4 told watcher 1 of revision 7 when 9 was to come"]);
    }

    #[test]
    fn a_header_that_goes_back_is_found() {
        let told = said(vec![(Some(1), 5, created(0)), (None, 4, StreamMessage::Progress)]);
        assert_eq!(told, ["stream 4 went back from revision 5 to 4"]);
    }

    #[test]
    fn old_events_for_a_watcher_of_the_future_are_found() {
        let told = said(vec![(Some(1), 5, created(9)), (Some(1), 6, events(&[6]))]);
        assert_eq!(told, ["stream 4 told watcher 1 of revision 6 when 9 was to come"]);
    }

    #[test]
    fn a_watcher_that_is_not_there_is_told_nothing() {
        let unknown = said(vec![(Some(1), 5, events(&[5]))]);
        assert_eq!(unknown, ["stream 4 told of events of watcher 1, which was not there"]);
        let ended = said(vec![
            (Some(1), 5, created(0)),
            (Some(1), 5, StreamMessage::Cancelled),
            (Some(1), 6, events(&[6])),
        ]);
        assert_eq!(ended.len(), 1);
    }
}
