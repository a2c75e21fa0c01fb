//! Planted bugs and extra delays, for simulations only.
//!
//! A checker that has never seen a violation proves nothing, so the node carries a few places
//! where a simulation may ask it to misbehave (after FoundationDB's Buggify). In production the
//! value is empty, no code in the node can fill it, and each place costs one test of an option.
//! It is never a cargo feature: features are unified across a workspace and would reach the
//! shipped binary.

use std::{sync::Arc, time::Duration};

/// Decides which planted bugs are on and where a task is held up.
pub trait Saboteur: Send + Sync {
    /// Whether the bug of this name is planted in this run.
    fn is_planted(&self, bug: &'static str) -> bool;

    /// How long the task that passes `site` is to be held up now, if at all.
    fn delay(&self, site: &'static str) -> Option<Duration>;

    /// Is told that the node has just taken `step`, with the numbers that describe it; what they
    /// mean stands where the step is noted. For checkers that watch a run from outside.
    fn note(&self, _step: &'static str, _numbers: &[u64]) {}
}

/// A saboteur, or none.
#[derive(Clone, Default)]
pub struct Buggify(Option<Arc<dyn Saboteur>>);

impl Buggify {
    /// No bugs, no delays: what production uses.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// The given saboteur decides. Only simulations and tests call this.
    #[must_use]
    pub fn with(saboteur: Arc<dyn Saboteur>) -> Self {
        Self(Some(saboteur))
    }

    /// Whether the bug of this name is planted.
    #[must_use]
    #[inline]
    pub fn is_planted(&self, bug: &'static str) -> bool {
        self.0.as_ref().is_some_and(|saboteur| saboteur.is_planted(bug))
    }

    /// Whether anybody is told what the node does.
    #[must_use]
    #[inline]
    pub const fn is_watched(&self) -> bool {
        self.0.is_some()
    }

    /// Tells whoever watches that `step` was just taken. Without a watcher the numbers are not even
    /// computed.
    #[inline]
    pub fn note<const N: usize>(&self, step: &'static str, numbers: impl FnOnce() -> [u64; N]) {
        if let Some(saboteur) = &self.0 {
            saboteur.note(step, &numbers());
        }
    }

    /// As [`Self::note`], for a step that takes more numbers than can be told beforehand.
    #[inline]
    pub fn note_all(&self, step: &'static str, numbers: impl FnOnce() -> Vec<u64>) {
        if let Some(saboteur) = &self.0 {
            saboteur.note(step, &numbers());
        }
    }

    /// Holds the calling task up if the saboteur wants it at `site`.
    #[inline]
    pub async fn pause(&self, site: &'static str) {
        if let Some(delay) = self.0.as_ref().and_then(|saboteur| saboteur.delay(site)) {
            crate::sleep(delay).await;
        }
    }
}

impl std::fmt::Debug for Buggify {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(if self.0.is_some() { "Buggify(on)" } else { "Buggify(none)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct OneBug;

    impl Saboteur for OneBug {
        fn is_planted(&self, bug: &'static str) -> bool {
            bug == "ack-before-sync"
        }

        fn delay(&self, _site: &'static str) -> Option<Duration> {
            None
        }
    }

    #[test]
    fn production_has_no_bugs() {
        assert!(!Buggify::none().is_planted("ack-before-sync"));
    }

    #[test]
    fn a_saboteur_plants_by_name() {
        let buggify = Buggify::with(Arc::new(OneBug));
        assert!(buggify.is_planted("ack-before-sync"));
        assert!(!buggify.is_planted("forget-vote"));
    }
}
