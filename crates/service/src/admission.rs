//! How much the door lets in at a time.
//!
//! Each kind of work has its own bound, so that one kind cannot starve another: a flood of writes
//! leaves room for reads, ten thousand watchers leave room for both. What does not fit is refused
//! at once, with a time to come back; nothing queues here.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::DoorError;

/// Bounds of one door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Reads running at a time.
    pub reads_max: usize,
    /// Writes running at a time.
    pub writes_max: usize,
    /// Bytes of the writes running at a time.
    pub write_bytes_max: usize,
    /// Watches open at a time.
    pub watches_max: usize,
    /// Histories read at a time: for each of them memory is kept that compaction frees.
    pub histories_max: usize,
    /// Bytes of keys and values in one answer.
    pub answer_bytes_max: usize,
    /// Bytes of keys and values in all answers that are being gathered.
    pub answers_bytes_max: usize,
    /// Revisions that wait for one watcher before it is cancelled as too slow.
    pub watch_queue_revisions_max: usize,
    /// Bytes that wait for one watcher before it is cancelled as too slow.
    pub watch_queue_bytes_max: usize,
    /// Bytes of changes that wait for all watchers together, each counted once however many it
    /// waits for. Beyond that a watcher is too slow if anything waits for it.
    pub watch_changes_bytes_max: usize,
}

impl Default for Limits {
    /// Enough for ten thousand watchers and as many clients on one node.
    fn default() -> Self {
        Self {
            reads_max: 16_384,
            writes_max: 16_384,
            write_bytes_max: 256 * 1024 * 1024,
            watches_max: 16_384,
            histories_max: 2,
            answer_bytes_max: 64 * 1024 * 1024,
            answers_bytes_max: 256 * 1024 * 1024,
            watch_queue_revisions_max: 1_024,
            watch_queue_bytes_max: 4 * 1024 * 1024,
            watch_changes_bytes_max: 256 * 1024 * 1024,
        }
    }
}

/// What is running right now.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    limits: Limits,
    reads: AtomicUsize,
    writes: AtomicUsize,
    write_bytes: AtomicUsize,
    watches: AtomicUsize,
    histories: AtomicUsize,
    answers_bytes: AtomicUsize,
}

impl Admission {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    pub(crate) const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Lets one read in.
    pub(crate) fn read(&self) -> Result<Permit<'_>, DoorError> {
        Permit::take(&self.reads, 1, self.limits.reads_max, "reads")
    }

    /// Lets one write of `bytes` in.
    pub(crate) fn write(&self, bytes: usize) -> Result<(Permit<'_>, Permit<'_>), DoorError> {
        Ok((
            Permit::take(&self.writes, 1, self.limits.writes_max, "writes")?,
            Permit::take(&self.write_bytes, bytes, self.limits.write_bytes_max, "bytes of writes")?,
        ))
    }

    /// Lets one watch in; [`Admission::watch_ended`] gives its place back.
    pub(crate) fn watch_started(&self) -> Result<(), DoorError> {
        reserve(&self.watches, 1, self.limits.watches_max, "watches")
    }

    pub(crate) fn watch_ended(&self) {
        self.watches.fetch_sub(1, Ordering::Relaxed);
    }

    /// Lets one reader of the history in; [`Admission::history_ended`] gives its place back.
    pub(crate) fn history_started(&self) -> Result<(), DoorError> {
        reserve(&self.histories, 1, self.limits.histories_max, "readers of the whole history")
    }

    pub(crate) fn history_ended(&self) {
        self.histories.fetch_sub(1, Ordering::Relaxed);
    }

    /// Room for an answer that grows as it is gathered.
    pub(crate) const fn answer(&self) -> AnswerRoom<'_> {
        AnswerRoom { admission: self, bytes: 0 }
    }

    pub(crate) fn watches(&self) -> usize {
        self.watches.load(Ordering::Relaxed)
    }
}

/// A place that is given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit<'a> {
    counter: &'a AtomicUsize,
    amount: usize,
}

impl<'a> Permit<'a> {
    fn take(
        counter: &'a AtomicUsize,
        amount: usize,
        limit: usize,
        what: &'static str,
    ) -> Result<Self, DoorError> {
        reserve(counter, amount, limit, what).map(|()| Self { counter, amount })
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.counter.fetch_sub(self.amount, Ordering::Relaxed);
    }
}

fn reserve(
    counter: &AtomicUsize,
    amount: usize,
    limit: usize,
    what: &'static str,
) -> Result<(), DoorError> {
    if counter.fetch_add(amount, Ordering::Relaxed).saturating_add(amount) > limit {
        counter.fetch_sub(amount, Ordering::Relaxed);
        return Err(DoorError::overloaded(what));
    }
    Ok(())
}

/// Bytes taken by one answer, given back when dropped.
#[derive(Debug)]
pub(crate) struct AnswerRoom<'a> {
    admission: &'a Admission,
    bytes: usize,
}

impl AnswerRoom<'_> {
    /// Bytes taken so far.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes `bytes` more.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), DoorError> {
        let limits = &self.admission.limits;
        if self.bytes + bytes > limits.answer_bytes_max {
            return Err(DoorError::AnswerTooLarge { limit: limits.answer_bytes_max });
        }
        let together = &self.admission.answers_bytes;
        reserve(together, bytes, limits.answers_bytes_max, "bytes of answers")?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for AnswerRoom<'_> {
    fn drop(&mut self) {
        self.admission.answers_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission() -> Admission {
        Admission::new(Limits {
            reads_max: 1,
            writes_max: 2,
            write_bytes_max: 10,
            watches_max: 1,
            answer_bytes_max: 8,
            answers_bytes_max: 10,
            ..Limits::default()
        })
    }

    fn overloaded(result: Result<impl Sized, DoorError>) -> Option<&'static str> {
        match result {
            Err(DoorError::Overloaded { what, .. }) => Some(what),
            Err(_) | Ok(_) => None,
        }
    }

    #[test]
    fn one_kind_of_work_leaves_room_for_the_others_and_gives_its_place_back() {
        let admission = admission();
        let read = admission.read().expect("fits");
        assert_eq!(overloaded(admission.read()), Some("reads"));
        admission.write(1).expect("reads do not count");
        drop(read);
        admission.read().expect("the place was given back");
    }

    #[test]
    fn writes_are_bounded_by_number_and_by_bytes() {
        let admission = admission();
        let first = admission.write(6).expect("fits");
        assert_eq!(overloaded(admission.write(5)), Some("bytes of writes"));
        let second = admission.write(4).expect("what was refused took nothing");
        assert_eq!(overloaded(admission.write(0)), Some("writes"));
        drop((first, second));
        admission.write(10).expect("all places were given back");
    }

    #[test]
    fn a_watch_holds_its_place_until_it_ends() {
        let admission = admission();
        admission.watch_started().expect("fits");
        assert_eq!(overloaded(admission.watch_started()), Some("watches"));
        admission.watch_ended();
        admission.watch_started().expect("the place was given back");
    }

    #[test]
    fn an_answer_is_bounded_alone_and_together_with_others() {
        let admission = admission();
        let mut first = admission.answer();
        first.grow(8).expect("fits");
        assert_eq!(first.grow(1), Err(DoorError::AnswerTooLarge { limit: 8 }));
        let mut second = admission.answer();
        assert_eq!(overloaded(second.grow(3)), Some("bytes of answers"));
        drop(first);
        second.grow(3).expect("the first gave its bytes back");
    }
}
