//! Free ports on the loopback address.
//!
//! They lie below the range from which the system picks ports of outgoing connections, so that a
//! node which was killed finds its port free again.

use std::{
    net::TcpListener,
    sync::atomic::{AtomicU32, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

const FIRST: u32 = 20_000;
const COUNT: u32 = 12_000;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A port that nobody listens on, and that nobody else of this process is given soon.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn free_port() -> u16 {
    free_stretch(1, 0)
}

/// The first of `count` free ports, from each of which it is `step` to the next.
///
/// # Panics
/// If there are none.
#[must_use]
pub fn free_stretch(count: u16, step: u16) -> u16 {
    let len = u32::from(count) * u32::from(step.max(1));
    for _try in 0..1_000 {
        let at = NEXT.fetch_add(len, Ordering::Relaxed).wrapping_add(start());
        let first = FIRST + at % (COUNT - len);
        let first = u16::try_from(first).expect("the range ends below 32768");
        let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if (0..count).all(|index| is_free(first + index * step)) {
            return first;
        }
    }
    panic!("no {count} free ports from {FIRST} on")
}

/// Another one for each test process, so that two of them rarely ask for the same ports.
fn start() -> u32 {
    static START: AtomicU32 = AtomicU32::new(u32::MAX);
    let started = START.load(Ordering::Relaxed);
    if started != u32::MAX {
        return started;
    }
    let nanoseconds =
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    let picked = (nanoseconds ^ std::process::id().wrapping_mul(2_654_435_761)) % COUNT;
    START.store(picked, Ordering::Relaxed);
    picked
}
