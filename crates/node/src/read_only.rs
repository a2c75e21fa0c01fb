//! Read-only mode, as people are told of it: that it began, why, and that it is over.
//!
//! Whether writes are taken, and why not, is the door's to say ([`Door::write_mode`]).

use std::{convert::Infallible, time::Duration};

use mainstay_service::Door;
use tracing::{info, warn};

/// The time between two looks; what passes sooner is not worth a line.
const LOOK: Duration = Duration::from_secs(1);

/// Logs when writes begin to be refused and when they are taken again, for as long as it is polled.
pub(crate) async fn tell(door: &Door) -> Infallible {
    let mut told = None;
    loop {
        mainstay_world::sleep(LOOK).await;
        let now = door.write_mode().reason();
        if now == told {
            continue;
        }
        match now {
            Some(reason) => warn!(
                reason = reason.as_str(),
                "this node refuses writes: {}; the data is safe, stale reads and watches go on; {}",
                reason.why(),
                reason.remedy()
            ),
            None => info!("this node takes writes again"),
        }
        told = now;
    }
}
