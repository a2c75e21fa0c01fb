//! Who is in the cluster: the rules of changing that, and how a change is carried out.
//!
//! [`rules`] is pure: a view of the cluster and a wish give a plan, or a refusal with the command
//! that would work. [`changes`] makes the view and carries the plan out, on the leader, one at a
//! time. [`readiness`] says which learners keep up, [`silence`] who has not answered for how long,
//! [`advice`] what the leader does by itself. A node id names one data folder for ever, so an id that
//! was removed is never admitted again: that is kept with the state machine (see `state_machine`),
//! derived from the membership entries themselves.

pub(crate) mod advice;
pub(crate) mod changes;
pub(crate) mod readiness;
pub(crate) mod refusal;
pub(crate) mod rules;
pub(crate) mod silence;

pub use advice::{Advice, AutopilotAction};
pub use changes::{MemberChange, MemberChangeKind, MemberRequest, MemberWish};
pub use refusal::MembershipError;
