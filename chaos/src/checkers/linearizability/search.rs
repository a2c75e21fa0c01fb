//! Looks for an order of calls, one at a time, that explains every answer.
//!
//! The algorithm is Wing and Gong's (1993) with Lowe's memory of what was tried (2017): take a call
//! that may come next, change the state as it would, go on; when nothing may come next, take the
//! last one back. A call may come next if it was invoked before every answer that is still to be
//! explained. Calls of unknown outcome may come at any time after their invocation, or never.
//!
//! Two things keep the search short. Answers carry the store's revision, so those calls can only
//! come in its order ([`Interval::rank`]); and the state is a set of possible states, so that what
//! a call leaves open (did the lease end before it?) branches the state and not the search. A
//! search that takes too many steps gives up and says so: it proves nothing then.
//!
//! It knows nothing of keys and values: the model does.

use std::collections::BTreeSet;

/// What calls do to a state.
pub(super) trait Model {
    /// The state; equal states have the same future.
    type State: Clone + Ord;
    /// A call with what is known of its answer.
    type Call;

    /// The state before the first call.
    fn initial(&self) -> Self::State;

    /// Adds to `after` every state that `state` can be in after the call, which came at
    /// `latest_us` at the latest; none if its answer could not come from this state.
    fn step(
        &self,
        state: &Self::State,
        call: &Self::Call,
        latest_us: u64,
        after: &mut Vec<Self::State>,
    );
}

/// A call and when it may have come.
#[derive(Debug, Clone)]
pub(super) struct Interval<C> {
    /// The call.
    pub(super) call: C,
    /// Not before this.
    pub(super) invoked_us: u64,
    /// Not after this; `None` if it need not have come at all.
    pub(super) settled_us: Option<u64>,
    /// Calls of a lower rank came before this one; `None` if its place is not known.
    pub(super) rank: Option<u64>,
}

/// What a search found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict<S> {
    /// An order exists.
    Explained,
    /// None exists.
    Contradicted {
        /// The call that could not be placed when the most calls were.
        stuck: usize,
        /// The states it could not be explained from.
        states: Vec<S>,
    },
    /// Not known: the search was cut off.
    GaveUp,
}

/// Looks for an order of `calls`, which stand in the order of their invocation.
pub(super) fn search<M: Model>(
    model: &M,
    calls: &[Interval<M::Call>],
    steps_max: u64,
) -> Verdict<M::State> {
    Search::new(model, calls).run(steps_max)
}

struct Search<'a, M: Model> {
    model: &'a M,
    calls: &'a [Interval<M::Call>],
    waiting: Waiting,
    /// The ranks of all calls that have one, ascending. Those that are placed are a prefix of it.
    ranks: Vec<u64>,
    ranked_placed: usize,
    /// Calls that must be placed and are not.
    owed: usize,
    states: Vec<M::State>,
    tried: BTreeSet<(Vec<u64>, Vec<M::State>)>,
    deepest: Option<Deepest<M::State>>,
}

/// The furthest that the search came.
struct Deepest<S> {
    owed: usize,
    stuck: usize,
    states: Vec<S>,
}

/// One placed call, with what to try instead of the next one.
struct Frame<S> {
    placed: usize,
    states_before: Vec<S>,
    siblings: Choices,
}

/// Calls that may come next, the likeliest last.
struct Choices {
    calls: Vec<usize>,
    latest_us: u64,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(model: &'a M, calls: &'a [Interval<M::Call>]) -> Self {
        let mut ranks: Vec<u64> = calls.iter().filter_map(|call| call.rank).collect();
        ranks.sort_unstable();
        Self {
            model,
            calls,
            waiting: Waiting::new(calls.len()),
            ranks,
            ranked_placed: 0,
            owed: calls.iter().filter(|call| call.settled_us.is_some()).count(),
            states: vec![model.initial()],
            tried: BTreeSet::new(),
            deepest: None,
        }
    }

    fn run(mut self, steps_max: u64) -> Verdict<M::State> {
        let mut path: Vec<Frame<M::State>> = Vec::new();
        let mut choices = self.choices();
        let mut steps = 0;
        while self.owed > 0 {
            let Some(call) = choices.calls.pop() else {
                let Some(frame) = path.pop() else { break };
                self.take_back(frame.placed, frame.states_before);
                choices = frame.siblings;
                continue;
            };
            if steps == steps_max {
                return Verdict::GaveUp;
            }
            steps += 1;
            if let Some(states_before) = self.place(call, choices.latest_us) {
                let next = self.choices();
                let siblings = std::mem::replace(&mut choices, next);
                path.push(Frame { placed: call, states_before, siblings });
            }
        }
        match self.deepest {
            Some(Deepest { stuck, states, .. }) if self.owed > 0 => {
                Verdict::Contradicted { stuck, states }
            }
            _ => Verdict::Explained,
        }
    }

    /// The calls that may come next, and until when they must have.
    fn choices(&mut self) -> Choices {
        let lowest_rank = self.ranks.get(self.ranked_placed).copied();
        let mut latest_us = u64::MAX;
        let mut first_to_settle = None;
        let mut calls = Vec::new();
        for index in self.waiting.iter() {
            let call = &self.calls[index];
            if call.invoked_us > latest_us {
                break;
            }
            if let Some(settled_us) = call.settled_us
                && (first_to_settle.is_none() || settled_us < latest_us)
            {
                latest_us = settled_us;
                first_to_settle = Some(index);
            }
            if call.rank.is_none() || call.rank == lowest_rank {
                calls.push(index);
            }
        }
        calls.retain(|index| self.calls[*index].invoked_us <= latest_us);
        // What was answered is likelier to have happened than what was not, and what settled
        // first to have happened first.
        calls.sort_by_key(|index| {
            let call = &self.calls[*index];
            std::cmp::Reverse((call.settled_us.is_none(), call.rank.is_none(), call.settled_us))
        });
        if let Some(stuck) = first_to_settle
            && self.deepest.as_ref().is_none_or(|deepest| self.owed < deepest.owed)
        {
            self.deepest = Some(Deepest { owed: self.owed, stuck, states: self.states.clone() });
        }
        Choices { calls, latest_us }
    }

    /// Places a call next and returns the states before it; `None` if it cannot be explained, or
    /// if the same was tried before.
    fn place(&mut self, index: usize, latest_us: u64) -> Option<Vec<M::State>> {
        let call = &self.calls[index];
        let mut after = Vec::new();
        for state in &self.states {
            self.model.step(state, &call.call, latest_us, &mut after);
        }
        if after.is_empty() {
            return None;
        }
        after.sort_unstable();
        after.dedup();
        self.waiting.remove(index);
        if !self.tried.insert((self.waiting.placed.clone(), after.clone())) {
            self.waiting.put_back(index);
            return None;
        }
        self.owed -= usize::from(call.settled_us.is_some());
        self.ranked_placed += usize::from(call.rank.is_some());
        Some(std::mem::replace(&mut self.states, after))
    }

    fn take_back(&mut self, index: usize, states_before: Vec<M::State>) {
        let call = &self.calls[index];
        self.waiting.put_back(index);
        self.owed += usize::from(call.settled_us.is_some());
        self.ranked_placed -= usize::from(call.rank.is_some());
        self.states = states_before;
    }
}

/// The calls that are not placed, in order, as a linked list; and the others as a bitset.
struct Waiting {
    /// By index + 1; 0 is the end of the ring.
    next: Vec<usize>,
    previous: Vec<usize>,
    placed: Vec<u64>,
}

impl Waiting {
    fn new(len: usize) -> Self {
        Self {
            next: (0..=len).map(|at| if at == len { 0 } else { at + 1 }).collect(),
            previous: (0..=len).map(|at| if at == 0 { len } else { at - 1 }).collect(),
            placed: vec![0; len.div_ceil(64)],
        }
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(self.next[0]), |at| Some(self.next[*at]))
            .take_while(|at| *at != 0)
            .map(|at| at - 1)
    }

    fn remove(&mut self, index: usize) {
        let (next, previous) = (self.next[index + 1], self.previous[index + 1]);
        self.next[previous] = next;
        self.previous[next] = previous;
        self.placed[index / 64] |= 1 << (index % 64);
    }

    /// Calls are put back in the opposite order of their removal, so their neighbours are those
    /// that they had.
    fn put_back(&mut self, index: usize) {
        let (next, previous) = (self.next[index + 1], self.previous[index + 1]);
        self.next[previous] = index + 1;
        self.previous[next] = index + 1;
        self.placed[index / 64] &= !(1 << (index % 64));
    }
}
