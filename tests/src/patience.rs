//! Waiting for what must come, with a deadline.
//!
//! This is the only place of the black-box tests where time passes by itself.

use std::time::{Duration, Instant};

/// How long whatever must come may take. Far longer than it should: a test says what must happen,
/// a benchmark how fast.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Looks until there is something to see, and returns it. An error says what was seen instead.
///
/// # Panics
/// After [`PATIENCE`], with `what` and what was seen last.
pub async fn until<T, E: std::fmt::Display>(
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let started = Instant::now();
    loop {
        match look().await {
            Ok(seen) => return seen,
            Err(instead) if started.elapsed() > PATIENCE => {
                panic!("waited {} s for {what}; at last: {instead}", PATIENCE.as_secs())
            }
            Err(_not_yet) => pause().await,
        }
    }
}

/// A breath between two tries.
pub(crate) async fn pause() {
    tokio::time::sleep(PAUSE).await;
}
