//! `chaos worker`: carries out the runs that are asked for on standard input, a line each.

use std::{
    io::{BufRead, Write},
    process::ExitCode,
};

use anyhow::{Context, bail};
use mainstay_chaos::{
    panics, plants,
    run::{Plan, run},
    scenarios,
};

pub(crate) fn work() -> anyhow::Result<ExitCode> {
    panics::keep();
    let mut output = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line.context("read a question")?;
        let words: Vec<_> = line.split(' ').collect();
        let &[scenario, seed, planted] = words.as_slice() else {
            bail!("a question is SCENARIO SEED BUG, not {line:?}");
        };
        let plan = Plan {
            scenario: scenarios::find(scenario).context("find the scenario")?,
            seed: seed.parse().context("read the seed")?,
            planted: plants::find(planted).map(|plant| plant.name),
            log: false,
        };
        serde_json::to_writer(&mut output, &run(plan).to_json()).context("write an answer")?;
        writeln!(output).and_then(|()| output.flush()).context("write an answer")?;
    }
    Ok(ExitCode::SUCCESS)
}
