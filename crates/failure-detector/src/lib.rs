//! Who is alive, judged from the heartbeats of every other node.
//!
//! Each peer sends heartbeats and says in each when the next is due. What arrives fills a window;
//! from the window follows *phi*, how surprising the present silence is: phi 8 means that such a
//! silence is expected once in 10^8 heartbeats if the model holds. Phi passes two levels, suspect
//! (8) and failed (16). Between two heartbeats phi only grows, so the moment at which it reaches a
//! level is computed once, when a heartbeat arrives, and asking later is a comparison.
//!
//! ```text
//!  heartbeat ──> window (200 intervals) ──> model: body and tail ──> suspect at, failed at
//!                                                                        ^
//!  own health ──> score 0..8 ──> thresholds in force ────────────────────┘
//! ```
//!
//! The detector advises and nothing more: it reads no clock, sends nothing, starts no election and
//! removes no member. `now` comes from outside, as the time since an origin that the caller keeps;
//! no input makes it panic, a clock that goes backwards included.
//!
//! Start reading at [`FailureDetector`], then `model.rs`. `docs/failure-detector.md` has the model
//! for users and how it compares with fixed timeouts.

mod detector;
mod health;
mod heartbeat;
mod model;
mod nanos;
mod peer;
mod reading;
mod rhythm;
mod settings;
mod tail;
mod window;

pub use detector::{Deadlines, FailureDetector, PEERS_MAX, Poll, WatchError};
pub use health::{Adaptation, OwnHealth, Reason, SCORE_MAX};
pub use heartbeat::{
    Heard, Heartbeat, Ignored, IgnoredCounts, PERIOD_MAX, PERIOD_MIN, SEQUENCE_GAP_MAX,
    SEQUENCE_MAX,
};
pub use reading::{Change, Level, OwnReading, Reading};
pub use settings::{Settings, SettingsError};
pub use tail::PHI_MAX;
pub use window::WINDOW;
