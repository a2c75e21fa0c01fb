//! A service that registers under a lease, and a program that follows who is registered.
//!
//! ```sh
//! cargo run -p mainstay-client --example registration -- http://127.0.0.1:2379
//! ```

#![expect(clippy::print_stdout, reason = "a program that tells what it does")]

use std::{error::Error, sync::Arc, time::Duration};

use mainstay_client::{
    Client, ClientOptions, Endpoint, EventKind, PutRequest, Watch, WatchMessage, WatchRequest,
};
use mainstay_world::RealNet;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let endpoints = std::env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    run(endpoints).await
}

/// The example.
pub(crate) async fn run(endpoints: Vec<Endpoint>) -> Result<(), Box<dyn Error>> {
    let client = Client::new(Arc::new(RealNet), ClientOptions::new(endpoints));

    // Sees everything that is written from here on, whatever happens to the nodes meanwhile.
    let mut watch = client.watch(WatchRequest::prefix("example/services/")).await?;

    // Renewed every third of its time for as long as this value lives.
    let lease = client.keep_lease(Duration::from_secs(6)).await?;
    let address = PutRequest::new("example/services/mail/1", "10.0.0.1:25");
    client.put(PutRequest { lease: lease.id(), ..address }).await?;
    println!("came: {}", next_change(&mut watch).await?);

    // A service that ends in good order takes its key along; one that dies, when its time is over.
    lease.revoke().await?;
    println!("went: {}", next_change(&mut watch).await?);
    Ok(())
}

/// The next change in words.
async fn next_change(watch: &mut Watch) -> Result<String, Box<dyn Error>> {
    loop {
        // Nodes tell their progress as well; nothing is to be done about it.
        let WatchMessage::Change(change) = watch.next().await? else { continue };
        let words = change.events.iter().map(|event| match event.kind {
            EventKind::Put => format!("{:?} at {:?}", event.pair.key, event.pair.value),
            EventKind::Delete => format!("{:?} is gone", event.pair.key),
        });
        return Ok(words.collect::<Vec<_>>().join(", "));
    }
}
