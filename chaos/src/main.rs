//! The `chaos` binary: lists, runs and replays simulations.

use mainstay_chaos::{run, scenarios};

#[expect(clippy::print_stdout, reason = "what a person asked for")]
fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let scenario = scenarios::find(&arguments[1]).expect("a scenario");
    let seed: u64 = arguments[2].parse().expect("a seed");
    let planted = arguments.get(3).and_then(|name| mainstay_chaos::plants::find(name)).map(|p| p.name);
    let started = std::time::Instant::now();
    let report = run::run(run::Plan { scenario, seed, planted, log: std::env::var("LOG").is_ok() });
    if std::env::var("LOG").is_ok() { print!("{}", report.log); }
    if std::env::var("TL").is_ok() { for event in report.timeline.events() { println!("{event:?}"); } }
    println!("{} {} {:032x} {} ms simulated in {:?}", report.scenario, report.seed, report.trace_hash, report.simulated_ms, started.elapsed());
    for violation in &report.violations { println!("  {violation}"); }
    println!("  {:?}", report.coverage);
}
