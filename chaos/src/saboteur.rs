//! What sits inside a simulated node and listens: planted bugs, delays where order matters, traps
//! that tell the world when a node is at a certain place, and the notes that the checkers read.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mainstay_world::{Buggify, Saboteur};

use crate::dice::Dice;

/// A node that steps into a trap stands still there for longer than any scenario lasts.
const TRAPPED: Duration = Duration::from_secs(3600);

/// How long a delay of order is.
const DELAY_MS_MAX: u64 = 20;

/// The saboteur of one node; lives as long as the run.
#[derive(Clone)]
pub struct NodeSaboteur {
    state: Arc<Mutex<State>>,
}

/// Something that the node did, in its own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Its place among the notes of all nodes: they live in one thread.
    pub order: u64,
    /// The step.
    pub step: &'static str,
    /// What describes it; see where it is noted.
    pub numbers: Vec<u64>,
}

struct State {
    dice: Dice,
    seed: u64,
    planted: Option<&'static str>,
    /// How often of a thousand an active site holds its task up.
    delays_per_mille: u64,
    delays: u64,
    passes: BTreeMap<&'static str, u64>,
    trap: Option<&'static str>,
    sprung: Option<&'static str>,
    notes: Vec<Note>,
    order: Arc<AtomicU64>,
}

impl NodeSaboteur {
    /// The saboteur of `node` with the planted bug of this run, if any; `order` counts the notes of
    /// all nodes.
    #[must_use]
    pub fn new(seed: u64, node: u32, planted: Option<&'static str>, order: Arc<AtomicU64>) -> Self {
        let state = State {
            dice: Dice::derive(seed, "saboteur", u64::from(node)),
            seed,
            planted,
            delays_per_mille: 0,
            delays: 0,
            passes: BTreeMap::new(),
            trap: None,
            sprung: None,
            notes: Vec::new(),
            order,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// What the node is given.
    #[must_use]
    pub fn buggify(&self) -> Buggify {
        Buggify::with(Arc::new(self.clone()))
    }

    /// From now on a quarter of all sites, chosen by the seed, hold a task up so often.
    pub fn delay(&self, per_mille: u64) {
        self.state().delays_per_mille = per_mille;
    }

    /// The next task that passes `site` stands still there; [`Self::sprung`] tells.
    pub fn set_trap(&self, site: &'static str) {
        let mut state = self.state();
        state.trap = Some(site);
        state.sprung = None;
    }

    /// The site where a task stepped into the trap, once.
    #[must_use]
    pub fn sprung(&self) -> Option<&'static str> {
        self.state().sprung.take()
    }

    /// Takes the trap away.
    pub fn disarm(&self) {
        let mut state = self.state();
        state.trap = None;
        state.sprung = None;
    }

    /// What the node did since the last call, in order.
    #[must_use]
    pub fn take_notes(&self) -> Vec<Note> {
        std::mem::take(&mut self.state().notes)
    }

    /// How often a task was held up, traps not counted.
    #[must_use]
    pub fn delays(&self) -> u64 {
        self.state().delays
    }

    /// How often each site was passed.
    #[must_use]
    pub fn passes(&self) -> BTreeMap<&'static str, u64> {
        self.state().passes.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Saboteur for NodeSaboteur {
    fn is_planted(&self, bug: &'static str) -> bool {
        self.state().planted == Some(bug)
    }

    fn delay(&self, site: &'static str) -> Option<Duration> {
        let mut state = self.state();
        *state.passes.entry(site).or_default() += 1;
        if state.trap == Some(site) {
            state.trap = None;
            state.sprung = Some(site);
            return Some(TRAPPED);
        }
        if state.delays_per_mille == 0 || !is_active(state.seed, site) {
            return None;
        }
        let per_mille = state.delays_per_mille;
        if !state.dice.per_mille(per_mille) {
            return None;
        }
        state.delays += 1;
        Some(Duration::from_millis(state.dice.between(1..=DELAY_MS_MAX)))
    }

    fn note(&self, step: &'static str, numbers: &[u64]) {
        let mut state = self.state();
        let order = state.order.fetch_add(1, Ordering::Relaxed);
        state.notes.push(Note { order, step, numbers: numbers.to_vec() });
    }
}

impl std::fmt::Debug for NodeSaboteur {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("NodeSaboteur").finish_non_exhaustive()
    }
}

fn is_active(seed: u64, site: &str) -> bool {
    Dice::derive(seed, site, 0).percent(25)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trap_holds_one_task_and_tells() {
        let saboteur = NodeSaboteur::new(1, 0, None, Arc::default());
        saboteur.set_trap("here");
        assert_eq!(Saboteur::delay(&saboteur, "there"), None);
        assert_eq!(saboteur.sprung(), None);
        assert_eq!(Saboteur::delay(&saboteur, "here"), Some(TRAPPED));
        assert_eq!(Saboteur::delay(&saboteur, "here"), None);
        assert_eq!((saboteur.sprung(), saboteur.sprung()), (Some("here"), None));
        assert_eq!(saboteur.passes()["here"], 2);
    }

    #[test]
    fn only_a_part_of_the_sites_is_active_in_a_run() {
        let sites = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
        let active = sites.iter().filter(|site| is_active(3, site)).count();
        assert!((1..8).contains(&active), "{active} of 12");
    }

    #[test]
    fn only_the_planted_bug_is_there() {
        let saboteur = NodeSaboteur::new(1, 0, Some("forget-vote"), Arc::default());
        assert!(saboteur.is_planted("forget-vote"));
        assert!(!saboteur.is_planted("skip-dir-sync"));
    }
}
