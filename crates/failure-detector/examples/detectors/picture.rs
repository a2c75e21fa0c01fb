//! The comparison as a picture: mean detection time over all traces against mistakes on the worst
//! one, a line for each kind of detector over its thresholds. Nearer to the lower left is better.
//!
//! It writes SVG by hand: a few lines, marks and words need no library.

use std::fmt::Write as _;

use crate::comparison::{Comparison, Row};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 530.0;

/// The field between the axes.
const LEFT: f64 = 80.0;
const RIGHT: f64 = 830.0;
const TOP: f64 = 76.0;
const BOTTOM: f64 = 470.0;

/// Detection times on the horizontal axis, in milliseconds.
const DETECTION_MAX: f64 = 700.0;

/// Mistakes per million heartbeats on the vertical axis, as powers of ten.
const MISTAKES_POWER_MAX: i32 = 5;

/// The most mistakes per million heartbeats that the suspect level may make.
const MISTAKES_BAR: f64 = 300.0;

/// A kind of detector: what its rows are called, and how it is drawn.
struct Series {
    name: &'static str,
    starts: &'static str,
    ends: &'static str,
    colour: &'static str,
    dash: &'static str,
    width: u32,
    /// The thresholds that are marked, and where the label stands beside the mark.
    labelled: &'static [(&'static str, (f64, f64))],
}

const SERIES: [Series; 4] = [
    Series {
        name: "this detector, levels 4 to 20",
        starts: "phi ",
        ends: ", hybrid",
        colour: "#0b57a4",
        dash: "",
        width: 3,
        labelled: &[
            ("4", (-4.0, 20.0)),
            ("8", (-4.0, 20.0)),
            ("16", (-8.0, -10.0)),
            ("20", (-8.0, -10.0)),
        ],
    },
    Series {
        name: "fixed timeouts, in ms",
        starts: "fixed ",
        ends: " ms",
        colour: "#444444",
        dash: "",
        width: 2,
        labelled: &[
            ("100", (7.0, -6.0)),
            ("200", (-2.0, -14.0)),
            ("300", (7.0, -6.0)),
            ("400", (-12.0, 20.0)),
            ("500", (-12.0, 20.0)),
            ("600", (7.0, -6.0)),
        ],
    },
    Series {
        name: "phi with a normal distribution, no pause",
        starts: "phi ",
        ends: ", Gaussian",
        colour: "#b3261e",
        dash: "6 4",
        width: 2,
        labelled: &[("1", (7.0, -6.0)), ("8", (-14.0, 8.0)), ("16", (-22.0, 14.0))],
    },
    Series {
        name: "the same with a pause of two periods",
        starts: "phi ",
        ends: ", Gaussian, pause 2 T",
        colour: "#9a5b00",
        dash: "2 3",
        width: 2,
        labelled: &[("1", (7.0, -6.0)), ("8", (12.0, -12.0)), ("16", (7.0, 10.0))],
    },
];

/// The picture as SVG.
pub(crate) fn draw(comparison: &Comparison) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"13\" fill=\"#222222\">\n\
         <title>Detection time against mistakes, ten traces, one configuration each</title>\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n"
    );
    text(&mut svg, LEFT, 26.0, "start", "Detection time against mistakes, over ten traces");
    axes(&mut svg);
    // No line of the axes runs through the legend.
    let _infallible = writeln!(
        svg,
        "<rect x=\"{}\" y=\"{}\" width=\"320\" height=\"90\" fill=\"#ffffff\"/>",
        RIGHT - 320.0,
        TOP + 4.0
    );
    for (number, series) in SERIES.iter().enumerate() {
        draw_series(&mut svg, series, comparison);
        let y = TOP + 18.0 + 20.0 * number as f64;
        line(
            &mut svg,
            [RIGHT - 310.0, y - 4.0, RIGHT - 280.0, y - 4.0],
            series.colour,
            series.dash,
        );
        text(&mut svg, RIGHT - 272.0, y + 4.0, "start", series.name);
    }
    svg.push_str("</svg>\n");
    svg
}

fn axes(svg: &mut String) {
    for power in 0..=MISTAKES_POWER_MAX {
        let y = y_of(10_f64.powi(power));
        line(svg, [LEFT, y, RIGHT, y], "#dddddd", "");
        text(svg, LEFT - 8.0, y + 4.0, "end", &format!("{}", 10_u64.pow(power.unsigned_abs())));
    }
    let mut detection = 0.0;
    while detection <= DETECTION_MAX {
        let x = x_of(detection);
        line(svg, [x, BOTTOM, x, BOTTOM + 5.0], "#222222", "");
        text(svg, x, BOTTOM + 20.0, "middle", &format!("{detection}"));
        detection += 100.0;
    }
    line(svg, [LEFT, BOTTOM, RIGHT, BOTTOM], "#222222", "");
    let bar = y_of(MISTAKES_BAR);
    line(svg, [LEFT, bar, RIGHT, bar], "#222222", "1 3");
    text(svg, RIGHT, bar - 6.0, "end", "bar for the suspect level: 300");
    text(svg, LEFT, TOP - 26.0, "start", "mistakes per million heartbeats, worst trace");
    let middle = f64::midpoint(LEFT, RIGHT);
    text(svg, middle, BOTTOM + 44.0, "middle", "mean detection time over all traces, ms");
}

fn draw_series(svg: &mut String, series: &Series, comparison: &Comparison) {
    // What made no mistake at all has no place on a logarithmic axis.
    let mut rows: Vec<(&str, &Row)> = comparison
        .rows
        .iter()
        .filter(|row| row.mistakes_per_million_worst() >= 1.0)
        .filter_map(|row| {
            let threshold = row.name.strip_prefix(series.starts)?.strip_suffix(series.ends)?;
            Some((threshold, row))
        })
        .filter(|(_threshold, row)| row.detection_mean_ms() <= DETECTION_MAX)
        .collect();
    rows.sort_by(|(_, a), (_, b)| a.detection_mean_ms().total_cmp(&b.detection_mean_ms()));
    let mut points = String::new();
    for (_threshold, row) in &rows {
        let (x, y) = place(row);
        let _infallible = write!(points, "{x:.1},{y:.1} ");
    }
    polyline(svg, points.trim_end(), series);
    let colour = series.colour;
    for (threshold, row) in rows {
        if let Some((_, (right, down))) = series.labelled.iter().find(|(of, _)| *of == threshold) {
            let (x, y) = place(row);
            let _infallible =
                writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/>");
            let (x, y) = (x + right, y + down);
            let _infallible = writeln!(
                svg,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"{colour}\">{threshold}</text>"
            );
        }
    }
}

fn place(row: &Row) -> (f64, f64) {
    (x_of(row.detection_mean_ms()), y_of(row.mistakes_per_million_worst()))
}

fn x_of(detection_ms: f64) -> f64 {
    LEFT + (RIGHT - LEFT) * detection_ms / DETECTION_MAX
}

fn y_of(mistakes_per_million: f64) -> f64 {
    let share = mistakes_per_million.max(1.0).log10() / f64::from(MISTAKES_POWER_MAX);
    BOTTOM - (BOTTOM - TOP) * share.min(1.0)
}

fn polyline(svg: &mut String, points: &str, series: &Series) {
    let Series { colour, dash, width, .. } = series;
    let _infallible = writeln!(
        svg,
        "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" \
         stroke-width=\"{width}\" stroke-dasharray=\"{dash}\"/>"
    );
}

fn line(svg: &mut String, [x1, y1, x2, y2]: [f64; 4], colour: &str, dash: &str) {
    let _infallible = writeln!(
        svg,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\" \
         stroke-dasharray=\"{dash}\"/>"
    );
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let _infallible =
        writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>");
}
