//! A place where writes of the whole node can be held.
//!
//! A site that may have lost its title to another one must not acknowledge writes; disaster
//! recovery closes the gate then. It is asked before a write is proposed, and again before it is
//! acknowledged, because the title may be lost in between. A closed gate is one of the reasons of
//! [read-only mode](crate::WriteMode).

/// Why writes are held, as a clause for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("writes are held: {why}; the data is safe, reads go on")]
pub struct GateClosed {
    /// What happened.
    pub why: &'static str,
}

/// Decides whether writes may pass.
pub trait WriteGate: Send + Sync + 'static {
    /// Whether a write may be proposed now.
    ///
    /// # Errors
    /// [`GateClosed`] if not; the write then certainly does not take effect.
    fn may_propose(&self) -> Result<(), GateClosed>;

    /// Whether a write that was applied may be acknowledged now.
    ///
    /// # Errors
    /// [`GateClosed`] if not; the caller is then told that the outcome is unknown.
    fn may_acknowledge(&self) -> Result<(), GateClosed>;
}

/// The gate of a node without disaster recovery: always open.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenGate;

impl WriteGate for OpenGate {
    fn may_propose(&self) -> Result<(), GateClosed> {
        Ok(())
    }

    fn may_acknowledge(&self) -> Result<(), GateClosed> {
        Ok(())
    }
}
