//! How long until the next write, and how much was lost: both as distributions over all runs.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{
    Run,
    html::{Escaped, Section, Table, duration, grouped},
    overview::counted,
};
use crate::recovery_time::{Blow, Distribution, distributions};

/// Points of one row that are drawn; more would cover each other.
const POINTS_MAX: usize = 400;

const WIDTH: f64 = 1_120.0;
const LEFT: f64 = 250.0;
const RIGHT: f64 = 90.0;
const ROW: f64 = 30.0;
const TOP: f64 = 26.0;

pub(super) fn section(runs: &[Run]) -> String {
    let recoveries = || runs.iter().flat_map(|run| &run.recoveries);
    let times = distributions(recoveries());
    let mut section = Section::new("Recovery");
    section.raw("<h3>Recovery time: from a fault to the next acknowledged write</h3>\n");
    if times.is_empty() {
        section.text("No fault struck alone in these runs.");
    } else {
        let overlapping = recoveries().filter(|recovery| !recovery.alone).count();
        section.text(&format!(
            "Each point is a fault that struck while no other one was on ({} more overlapped and \
             are left out). A fault that leaves no quorum counts from its end. The mark in the box \
             is the median, the box ends at the 90th percentile, the line at the longest.",
            grouped(overlapping as u64)
        ));
        section.raw(&picture(&times));
        section.raw(&super::html::details("The same in numbers", false, &table(&times)));
    }
    section.raw("<h3>Recovery point: acknowledged writes that were lost</h3>\n");
    section.raw(&losses(runs));
    section.end()
}

fn table(times: &BTreeMap<Blow, Distribution>) -> String {
    let mut table =
        Table::new(&["fault", "struck", "faults", "p50 ms", "p90 ms", "p99 ms", "longest ms"]);
    for (blow, times) in times {
        let ms = |us: Option<u64>| grouped(us.unwrap_or(0) / 1_000);
        table.row(
            "",
            &[
                blow.kind.as_str().to_owned(),
                struck(*blow).to_owned(),
                grouped(times.times_us().len() as u64),
                ms(times.percentile_us(50)),
                ms(times.percentile_us(90)),
                ms(times.percentile_us(99)),
                ms(times.max_us()),
            ],
        );
    }
    table.end()
}

const fn struck(blow: Blow) -> &'static str {
    if blow.leader { "leader" } else { "others" }
}

/// One row a kind of blow, on a logarithmic scale of time.
fn picture(times: &BTreeMap<Blow, Distribution>) -> String {
    let longest = times.values().filter_map(Distribution::max_us).max().unwrap_or(1_000);
    let scale = LogScale::up_to(longest);
    let height = TOP + ROW * times.len() as f64 + 12.0;
    let mut out = format!(
        "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"recovery times by kind of fault\">\n"
    );
    for decade_us in scale.decades() {
        let x = scale.x(decade_us);
        let _ = writeln!(
            out,
            "<line class=\"grid\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{:.1}\"/>\
             <text class=\"axis\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            height - 8.0,
            TOP - 10.0,
            axis_label(decade_us)
        );
    }
    for (row, (blow, times)) in times.iter().enumerate() {
        out.push_str(&picture_row(*blow, times, TOP + ROW * (row as f64 + 0.5), &scale));
    }
    out.push_str("</svg>\n");
    out
}

fn picture_row(blow: Blow, times: &Distribution, y: f64, scale: &LogScale) -> String {
    let at = |us: Option<u64>| scale.x(us.unwrap_or(0));
    let [first, median, p90] = [0, 50, 90].map(|percent| at(times.percentile_us(percent)));
    let longest = at(times.max_us());
    let class = if blow.leader { "leader" } else { "others" };
    let mut out =
        format!("<g class=\"{class}\">\n<title>{}</title>\n", Escaped(&in_words(blow, times)));
    let _ = writeln!(
        out,
        "<text class=\"label\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}<tspan class=\"dim\"> \
         {}</tspan></text>",
        LEFT - 14.0,
        y + 4.0,
        blow.kind.as_str(),
        struck(blow)
    );
    let _ = writeln!(
        out,
        "<line class=\"whisker\" x1=\"{first:.1}\" y1=\"{y:.1}\" x2=\"{longest:.1}\" y2=\"{y:.1}\"/>\
         <rect class=\"box\" x=\"{first:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"14\" rx=\"3\"/>",
        y - 7.0,
        (p90 - first).max(1.0)
    );
    let step = times.times_us().len().div_ceil(POINTS_MAX);
    for (number, us) in times.times_us().iter().enumerate().step_by(step) {
        // Points of the same time stand beside each other.
        let jitter = (number * 7 % 11) as f64 - 5.0;
        let _ = write!(
            out,
            "<circle class=\"point\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"1.8\"/>",
            scale.x(*us),
            y + jitter
        );
    }
    let _ = writeln!(
        out,
        "\n<line class=\"median\" x1=\"{median:.1}\" y1=\"{:.1}\" x2=\"{median:.1}\" y2=\"{:.1}\"/>\
         <text class=\"figure\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\n</g>",
        y - 9.0,
        y + 9.0,
        longest + 8.0,
        y + 4.0,
        duration(times.max_us().unwrap_or(0))
    );
    out
}

fn in_words(blow: Blow, times: &Distribution) -> String {
    let at = |percent| times.percentile_us(percent).map_or_else(String::new, duration);
    format!(
        "{blow}: {}, median {}, p90 {}, p99 {}, longest {}",
        counted(times.times_us().len() as u64, "fault"),
        at(50),
        at(90),
        at(99),
        times.max_us().map_or_else(String::new, duration)
    )
}

fn axis_label(us: u64) -> String {
    if us < 1_000_000 { format!("{} ms", us / 1_000) } else { format!("{} s", us / 1_000_000) }
}

/// A logarithmic scale from one millisecond on.
struct LogScale {
    decades: u32,
}

impl LogScale {
    const FIRST_US: u64 = 1_000;

    fn up_to(longest_us: u64) -> Self {
        let decades = (1..7).find(|decades| Self::FIRST_US * 10_u64.pow(*decades) >= longest_us);
        Self { decades: decades.unwrap_or(7) }
    }

    fn decades(&self) -> impl Iterator<Item = u64> {
        (0..=self.decades).map(|decade| Self::FIRST_US * 10_u64.pow(decade))
    }

    fn x(&self, us: u64) -> f64 {
        let decade = (us.max(Self::FIRST_US) as f64 / Self::FIRST_US as f64).log10();
        let part = (decade / f64::from(self.decades)).min(1.0);
        LEFT + (WIDTH - LEFT - RIGHT) * part
    }
}

/// How many runs lost how many acknowledged writes.
fn losses(runs: &[Run]) -> String {
    const BUCKETS: [(&str, u64, u64); 5] = [
        ("none", 0, 0),
        ("1", 1, 1),
        ("2 to 10", 2, 10),
        ("11 to 100", 11, 100),
        ("more", 101, u64::MAX),
    ];
    let judged: Vec<_> = runs.iter().filter(|run| run.loss.acknowledged > 0).collect();
    let mut table = format!(
        "<table class=\"bars\"><caption>{} whose replicas were read whole after healing</caption>\n",
        counted(judged.len() as u64, "run")
    );
    for (name, low, high) in BUCKETS {
        let count = judged.iter().filter(|run| (low..=high).contains(&run.loss.lost)).count();
        if low > 0 && count == 0 {
            continue;
        }
        let percent = 100.0 * count as f64 / judged.len().max(1) as f64;
        let class = if low == 0 { "good" } else { "bad" };
        let _ = writeln!(
            table,
            "<tr><th>{name}</th><td class=\"bar\"><span class=\"{class}\" \
             style=\"width:{percent:.1}%\"></span></td><td class=\"number\">{}</td></tr>",
            counted(count as u64, "run")
        );
    }
    table.push_str("</table>\n");
    let worst =
        judged.iter().max_by_key(|run| run.loss.lost_span_us).filter(|run| run.loss.lost > 0);
    if let Some(run) = worst {
        let _ = writeln!(
            table,
            "<p>Worst: {}, seed {}: {} lost, over {}.</p>",
            Escaped(&run.scenario),
            run.seed,
            counted(run.loss.lost, "acknowledged write"),
            duration(run.loss.lost_span_us)
        );
    }
    table
}
