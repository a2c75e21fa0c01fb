//! The node's clock, as hyper wants to see one.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant as StdInstant},
};

use mainstay_world::Instant;

/// Timers on the node's clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WorldTimer;

impl hyper::rt::Timer for WorldTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(WorldSleep(Box::pin(mainstay_world::sleep(duration))))
    }

    fn sleep_until(&self, deadline: StdInstant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        let deadline = Instant::from_std(deadline);
        Box::pin(WorldSleep(Box::pin(mainstay_world::sleep_until(deadline))))
    }

    fn now(&self) -> StdInstant {
        Instant::now().into_std()
    }
}

struct WorldSleep(Pin<Box<tokio::time::Sleep>>);

impl Future for WorldSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(context)
    }
}

impl hyper::rt::Sleep for WorldSleep {}
