//! `chaos replay`: one seed again, with everything that happened as text.

use std::process::ExitCode;

use anyhow::Context;
use mainstay_chaos::{
    panics,
    run::{Plan, run},
};

use crate::arguments::ReplayArguments;

#[expect(clippy::print_stdout, reason = "this is what was asked for")]
pub(crate) fn replay(arguments: &ReplayArguments) -> anyhow::Result<ExitCode> {
    panics::keep();
    let report = run(Plan {
        scenario: arguments.scenario,
        seed: arguments.seed,
        planted: arguments.plant.map(|plant| plant.name),
        log: arguments.trace.is_some(),
    });
    print!("{}", report.timeline);
    println!(
        "\n{} with seed {}: {} ms, trace {:032x}, toolchain {}",
        report.scenario,
        report.seed,
        report.simulated_ms,
        report.trace_hash,
        env!("CHAOS_TOOLCHAIN"),
    );
    for (name, count) in report.coverage.iter() {
        println!("  {name} {count}");
    }
    for violation in &report.violations {
        println!("VIOLATION {violation}");
    }
    if let Some(path) = &arguments.trace {
        std::fs::write(path, &report.log).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
