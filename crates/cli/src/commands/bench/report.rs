//! What was counted, and how it is told.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use hdrhistogram::Histogram;

use super::Plan;

/// Latencies are told apart to three digits, from a microsecond to this.
const LATENCY_US_MAX: u64 = 120_000_000;
const DIGITS: u8 = 3;
/// What CPU time is told for.
const OPERATIONS: f64 = 100_000.0;

/// What the clients count while they run.
#[derive(Debug)]
pub(super) struct Tally {
    latency_us: Histogram<u64>,
    errors: BTreeMap<String, u64>,
    /// Conditional writes that held and that did not.
    committed: u64,
    conflicts: u64,
}

impl Tally {
    pub(super) fn new() -> Self {
        let latency_us = Histogram::new_with_bounds(1, LATENCY_US_MAX, DIGITS)
            .expect("the bounds are constants that a histogram takes");
        Self { latency_us, errors: BTreeMap::new(), committed: 0, conflicts: 0 }
    }

    /// Counts an operation that was done.
    pub(super) fn done(&mut self, latency: Duration) {
        self.latency_us.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    /// Counts a conditional write that was done.
    pub(super) const fn conditional(&mut self, is_committed: bool) {
        if is_committed {
            self.committed += 1;
        } else {
            self.conflicts += 1;
        }
    }

    /// Counts an operation that failed.
    pub(super) fn failed(&mut self, why: String) {
        *self.errors.entry(why).or_default() += 1;
    }

    pub(super) fn operations(&self) -> u64 {
        self.latency_us.len()
    }
}

/// What was found of the writes of a load when it was over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Checked {
    pub(super) acknowledged: u64,
    /// Acknowledged writes that are not there.
    pub(super) lost: u64,
    /// Keys that were written more than once.
    pub(super) took_effect_twice: u64,
}

/// The outcome of a measurement.
#[derive(Debug)]
pub(super) struct Report {
    plan: Plan,
    tally: Tally,
    elapsed: Duration,
    cpu: Duration,
    pub(super) checked: Option<Checked>,
}

impl Report {
    pub(super) const fn new(plan: Plan, tally: Tally, elapsed: Duration, cpu: Duration) -> Self {
        Self { plan, tally, elapsed, cpu, checked: None }
    }

    pub(super) fn operations(&self) -> u64 {
        self.tally.operations()
    }

    /// Whether the cluster broke its word.
    pub(super) fn is_broken(&self) -> bool {
        self.checked.is_some_and(|checked| checked.lost + checked.took_effect_twice > 0)
    }

    fn errors(&self) -> u64 {
        self.tally.errors.values().sum()
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
    fn throughput(&self) -> f64 {
        self.operations() as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    #[expect(clippy::cast_precision_loss, reason = "a mean needs no more than 52 bits")]
    fn cpu_seconds_per_100_000(&self) -> f64 {
        self.cpu.as_secs_f64() * OPERATIONS / self.operations().max(1) as f64
    }

    #[expect(clippy::cast_precision_loss, reason = "latencies are far below 52 bits")]
    fn latency_ms(&self, quantile: f64) -> f64 {
        self.tally.latency_us.value_at_quantile(quantile) as f64 / 1_000.0
    }

    pub(super) fn text(&self) -> String {
        let Plan { clients, value_size, keys, endpoints, .. } = &self.plan;
        let latency = |quantile| format!("{:.2}", self.latency_ms(quantile));
        let mut text = format!(
            "{}: clients {clients}, endpoints {}, values of {value_size} B, {keys} keys, {:.1} s\n",
            self.plan.mode.name(),
            endpoints.len(),
            self.elapsed.as_secs_f64(),
        );
        let mut push = |name: &str, line: String| {
            writeln!(text, "  {name:<11} {line}").expect("a string takes all that is written");
        };
        push(
            "throughput",
            format!(
                "{:.0} per second ({} done, {} failed)",
                self.throughput(),
                self.operations(),
                self.errors()
            ),
        );
        push(
            "latency ms",
            format!(
                "p50 {}  p95 {}  p99 {}  p99.9 {}  max {}",
                latency(0.5),
                latency(0.95),
                latency(0.99),
                latency(0.999),
                latency(1.0)
            ),
        );
        let Tally { committed, conflicts, errors, .. } = &self.tally;
        if committed + conflicts > 0 {
            push(
                "conditional",
                format!("{committed} committed, {conflicts} lost to another writer"),
            );
        }
        push(
            "own CPU",
            format!(
                "{:.2} s, {:.2} s for 100,000",
                self.cpu.as_secs_f64(),
                self.cpu_seconds_per_100_000()
            ),
        );
        if let Some(Checked { acknowledged, lost, took_effect_twice }) = self.checked {
            let line =
                format!("{acknowledged} acknowledged, {lost} lost, {took_effect_twice} done twice");
            push("checked", line);
        }
        for (why, count) in errors {
            push("failed", format!("{count} x {why}"));
        }
        text.truncate(text.trim_end().len());
        text
    }

    pub(super) fn json(&self) -> serde_json::Value {
        let mut json = serde_json::json!({
            "mode": self.plan.mode.name(),
            "clients": self.plan.clients,
            "endpoints": self.plan.endpoints.len(),
            "value_bytes": self.plan.value_size,
            "keys": self.plan.keys,
            "seconds": self.elapsed.as_secs_f64(),
            "operations": self.operations(),
            "throughput": self.throughput(),
            "latency_ms": {
                "p50": self.latency_ms(0.5),
                "p95": self.latency_ms(0.95),
                "p99": self.latency_ms(0.99),
                "p99_9": self.latency_ms(0.999),
                "max": self.latency_ms(1.0),
            },
            "committed": self.tally.committed,
            "conflicts": self.tally.conflicts,
            "failed": self.errors(),
            "errors": self.tally.errors,
            "cpu_seconds": self.cpu.as_secs_f64(),
            "cpu_seconds_per_100000": self.cpu_seconds_per_100_000(),
        });
        if let Some(checked) = self.checked {
            json["acknowledged"] = checked.acknowledged.into();
            json["lost"] = checked.lost.into();
            json["took_effect_twice"] = checked.took_effect_twice.into();
        }
        json
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::bench::Mode;

    fn report() -> Report {
        let plan = Plan {
            mode: Mode::Cas,
            endpoints: vec!["a:1".parse().expect("an endpoint")],
            clients: 8,
            value_size: 256,
            keys: 100,
            duration: Duration::from_secs(2),
            warm_up: Duration::ZERO,
            rate: None,
            timeout: Duration::from_secs(5),
        };
        let mut tally = Tally::new();
        for us in 1..=1_000 {
            tally.done(Duration::from_micros(us * 10));
        }
        tally.conditional(true);
        tally.conditional(false);
        tally.failed("503 no_leader".to_owned());
        Report::new(plan, tally, Duration::from_secs(2), Duration::from_millis(30))
    }

    #[test]
    fn people_read_rate_latency_errors_and_cpu() {
        let text = report().text();
        assert!(text.starts_with("cas: clients 8, endpoints 1, values of 256 B"), "{text}");
        assert!(text.contains("500 per second (1000 done, 1 failed)"), "{text}");
        assert!(text.contains("p50 5.00  p95 9.50"), "{text}");
        assert!(text.contains("1 committed, 1 lost to another writer"), "{text}");
        assert!(text.contains("0.03 s, 3.00 s for 100,000"), "{text}");
        assert!(text.contains("1 x 503 no_leader"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }

    #[test]
    fn programs_read_the_same() {
        let json = report().json();
        assert_eq!(json["mode"], "cas");
        assert_eq!(json["operations"], 1000);
        assert_eq!(json["throughput"], 500.0);
        let p50 = json["latency_ms"]["p50"].as_f64().expect("a number");
        assert!((4.99..5.01).contains(&p50), "{p50}");
        assert_eq!(json["errors"]["503 no_leader"], 1);
        assert_eq!(json["cpu_seconds"], 0.03);
    }
}
