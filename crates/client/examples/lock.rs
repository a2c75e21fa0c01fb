//! A lock: workers take turns, and one whose time is over cannot write any more.
//!
//! ```sh
//! cargo run -p mainstay-client --example lock -- http://127.0.0.1:2379
//! ```

#![expect(clippy::print_stdout, reason = "a program that tells what it does")]

use std::{error::Error, sync::Arc, time::Duration};

use mainstay_client::{Client, ClientOptions, Endpoint, LockRequest, PutRequest, QueueError};
use mainstay_world::RealNet;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let endpoints = std::env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    run(endpoints).await
}

/// The example.
pub(crate) async fn run(endpoints: Vec<Endpoint>) -> Result<(), Box<dyn Error>> {
    let client = Client::new(Arc::new(RealNet), ClientOptions::new(endpoints));

    // It outlives a worker that died by 5 seconds; meanwhile it is renewed by itself.
    let wanted = LockRequest { ttl: Duration::from_secs(5), ..LockRequest::new("example/jobs") };
    let first = client.lock(wanted.clone()).await?;
    println!("the first worker holds the lock with token {}", first.fencing_token());

    // Another one does not wait for long.
    let impatient = LockRequest { patience: Some(Duration::from_millis(200)), ..wanted.clone() };
    match client.lock(impatient).await {
        Err(QueueError::Taken { waited }) => println!("taken for {} ms", waited.as_millis()),
        other => return Err(format!("the lock is taken: {other:?}").into()),
    }

    // Work stops when the lock may be lost; what it writes is written only while it is held.
    tokio::select! {
        written = first.put(PutRequest::new("example/job", "by the first")) => {
            println!("written at revision {}", written?);
        }
        () = first.lost() => println!("the lock may be somebody else's: nothing more is done"),
    }
    first.release().await?;

    let second = client.lock(wanted).await?;
    println!("the second worker holds the lock with token {}", second.fencing_token());
    second.put(PutRequest::new("example/job", "by the second")).await?;
    second.release().await?;
    Ok(())
}
