//! Keys: writing, reading, changing only what nobody else has changed, and many at once.
//!
//! ```sh
//! cargo run -p mainstay-client --example keys -- http://127.0.0.1:2379
//! ```

#![expect(clippy::print_stdout, reason = "a program that tells what it does")]

use std::{error::Error, sync::Arc};

use mainstay_client::{
    Client, ClientOptions, Condition, Endpoint, PageRequest, PutRequest, TxnRequest,
    command::{Compare, KeyRange, Operand, Operation, Put, Relation, Txn},
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

    // Should the answer be lost, the client asks again, and the write still takes effect once.
    let written = client.put(PutRequest::new("example/colour", "blue")).await?.value;
    println!("written at revision {}", written.revision);

    let pair = client.get("example/colour").await?.value.ok_or("it was just written")?;
    println!("it is {:?} since revision {}", pair.value, pair.mod_revision);

    // Only if nobody wrote it since: otherwise the error has the code `compare_failed`.
    let condition = Some(Condition::ModRevision(pair.mod_revision));
    client.put(PutRequest { condition, ..PutRequest::new("example/colour", "green") }).await?;
    let stale = client.put(PutRequest { condition, ..PutRequest::new("example/colour", "red") });
    let error = stale.await.err().ok_or("the condition does not hold any more")?;
    println!("a second time: {}", error.code().unwrap_or_default());

    // Two keys at once, or neither.
    let put = |key: &str, value: &str| {
        let (key, value) = (key.to_owned().into(), Some(value.to_owned().into()));
        Operation::Put(Put { key, value, lease: Some(0), want_previous: false })
    };
    let exists = Compare {
        range: KeyRange::key("example/colour".into()),
        relation: Relation::Greater,
        operand: Operand::Version(0),
    };
    let txn = Txn {
        compares: vec![exists],
        success: vec![put("example/left", "1"), put("example/right", "1")],
        failure: Vec::new(),
    };
    let outcome = client.txn(TxnRequest::new(txn)).await?.value.outcome;
    println!("both were written: {}", outcome.succeeded);

    let mut pages =
        client.pages(PageRequest { prefix: "example/".into(), ..PageRequest::default() });
    while let Some(page) = pages.next().await? {
        for pair in page.pairs {
            println!("{:?} = {:?}", pair.key, pair.value);
        }
    }
    Ok(())
}
