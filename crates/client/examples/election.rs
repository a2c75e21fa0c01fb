//! An election among programs: one is elected and publishes its address, the others follow.
//!
//! ```sh
//! cargo run -p mainstay-client --example election -- http://127.0.0.1:2379
//! ```

#![expect(clippy::print_stdout, reason = "a program that tells what it does")]

use std::{error::Error, sync::Arc};

use mainstay_client::{Candidacy, Client, ClientOptions, Endpoint};
use mainstay_world::RealNet;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let endpoints = std::env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    run(endpoints).await
}

/// The example.
pub(crate) async fn run(endpoints: Vec<Endpoint>) -> Result<(), Box<dyn Error>> {
    let client = Client::new(Arc::new(RealNet), ClientOptions::new(endpoints));
    let mut follower = client.follow_election("example/scheduler");
    println!("at first: {:?}", follower.next().await?);

    let office = client.campaign(Candidacy::new("example/scheduler", "10.0.0.1:7000")).await?;
    println!("elected with token {}", office.fencing_token());
    let elected = follower.next().await?.ok_or("somebody is elected")?;
    println!("a follower reads {:?}", elected.value);

    // The address moves, the office stays.
    office.proclaim("10.0.0.1:7001").await?;
    let moved = follower.next().await?.ok_or("somebody is elected")?;
    println!("a follower reads {:?}", moved.value);

    // The next in line is elected as soon as this one resigns (or dies, after its time to live).
    let next = client.campaign(Candidacy::new("example/scheduler", "10.0.0.2:7000"));
    let (resigned, next) = tokio::join!(office.resign(), next);
    resigned?;
    let next = next?;
    println!("the next one is elected with token {}", next.fencing_token());
    next.resign().await?;
    Ok(())
}
