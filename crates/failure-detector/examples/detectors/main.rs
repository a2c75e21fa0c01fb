//! Compares the detector with fixed timeouts and a plain Gaussian phi on seeded traces.
//!
//! `cargo run --release -p mainstay-failure-detector --example detectors -- --svg PATH` prints the
//! table and draws detection time against mistakes; `--heartbeats N` makes the traces shorter, and
//! `--seed N` makes others.
//! The bars that the detector must reach are tests of this example, on shorter traces.

#![expect(clippy::print_stdout, reason = "a program that prints a table")]

use std::{env, error::Error, fs};

mod comparison;
mod contender;
mod picture;
mod quality;
mod random;
mod trace;

#[cfg(test)]
mod bars;

use comparison::Comparison;

/// A day of heartbeats of 50 ms.
const HEARTBEATS: usize = 1_728_000;

/// The seed of the table in `docs/failure-detector.md`.
const SEED: u64 = 1;

fn main() -> Result<(), Box<dyn Error>> {
    let (mut heartbeats, mut seed, mut svg) = (HEARTBEATS, SEED, None);
    let mut arguments = env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--heartbeats" => heartbeats = value.parse()?,
            "--seed" => seed = value.parse()?,
            "--svg" => svg = Some(value),
            _ => {
                return Err(
                    format!("unknown option {name}: --heartbeats N, --seed N, --svg PATH").into()
                );
            }
        }
    }
    let comparison = Comparison::run(heartbeats, seed);
    print!("{}", comparison.table());
    print!("{}", comparison.summary());
    if let Some(path) = svg {
        fs::write(&path, picture::draw(&comparison))?;
        println!("picture written to {path}");
    }
    Ok(())
}
