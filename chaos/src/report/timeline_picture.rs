//! A run as a picture: a lane a node with its roles and terms, the faults above and across, the
//! acknowledged writes below.
//!
//! Whatever is drawn carries its words as a tooltip. Writes are counted in columns of equal time,
//! so a picture has a bounded size however long the run was.

use std::fmt::Write as _;

use super::html::Escaped;
use crate::timeline::{EventKind, FaultWindow, Role, Seconds, Span, Standing, Timeline};

const WIDTH: f64 = 1_120.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
/// A row of fault labels.
const LABEL_ROW: f64 = 17.0;
/// A lane: the bar of roles, the writes under it, and air.
const LANE: f64 = 54.0;
const ROLE_BAR: f64 = 20.0;
const WRITES_BAR: f64 = 18.0;
/// Columns that acknowledged writes are counted in.
const COLUMNS: usize = 264;
/// Rows of fault labels; faults that find no room there are only drawn across the lanes.
const LABEL_ROWS_MAX: usize = 7;
/// How wide a letter is, about.
const LETTER: f64 = 6.2;

/// What the colours mean.
pub(super) const LEGEND: &str = "<p class=\"legend\">\
    <span class=\"key role-leader\"></span>leader \
    <span class=\"key role-candidate\"></span>candidate \
    <span class=\"key role-follower\"></span>follower \
    <span class=\"key role-learner\"></span>learner \
    <span class=\"key role-outsider\"></span>no member \
    <span class=\"key down\"></span>down \
    <span class=\"key fault\"></span>fault and the nodes it strikes \
    <span class=\"key writes\"></span>acknowledged writes \
    <span class=\"key over\"></span>all faults over \
    <span class=\"key wrong\"></span>violation</p>\n";

/// Draws a timeline.
pub(super) fn draw(timeline: &Timeline) -> String {
    let labels = place_labels(timeline);
    let rows = labels.iter().filter_map(|label| label.row).max().map_or(0, |row| row + 1);
    let picture = Picture {
        timeline,
        end_us: timeline.end_us().max(1),
        lanes_top: 10.0 + LABEL_ROW * rows as f64,
    };
    let height = picture.lanes_bottom() + 30.0;
    let mut out = format!(
        "<svg class=\"timeline\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"roles, terms, faults and acknowledged writes of each node over time\">\n\
         <defs><pattern id=\"hatch\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" \
         patternTransform=\"rotate(45)\"><rect width=\"6\" height=\"6\" fill=\"#eceae6\"/>\
         <line x1=\"0\" y1=\"0\" x2=\"0\" y2=\"6\" stroke=\"#b9b4aa\" stroke-width=\"2\"/></pattern></defs>\n"
    );
    picture.axis(&mut out);
    picture.lanes(&mut out);
    picture.writes(&mut out);
    picture.faults(&mut out, &labels);
    picture.marks(&mut out);
    out.push_str("</svg>\n");
    out
}

struct Picture<'a> {
    timeline: &'a Timeline,
    end_us: u64,
    lanes_top: f64,
}

/// A fault and where its label stands.
struct Label {
    window: FaultWindow,
    text: String,
    row: Option<usize>,
}

impl Picture<'_> {
    fn x(&self, us: u64) -> f64 {
        x(us, self.end_us)
    }

    fn lane_top(&self, node: usize) -> f64 {
        self.lanes_top + LANE * node as f64
    }

    fn lanes_bottom(&self) -> f64 {
        self.lane_top(self.timeline.node_count() as usize)
    }

    fn axis(&self, out: &mut String) {
        let step_us = tick_us(self.end_us);
        let bottom = self.lanes_bottom();
        for us in (0..=self.end_us).step_by(usize::try_from(step_us).unwrap_or(usize::MAX)) {
            let x = self.x(us);
            let _ = writeln!(
                out,
                "<line class=\"grid\" x1=\"{x:.1}\" y1=\"{:.1}\" x2=\"{x:.1}\" y2=\"{bottom:.1}\"/>\
                 <text class=\"axis\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                self.lanes_top,
                bottom + 18.0,
                tick_label(us)
            );
        }
    }

    fn lanes(&self, out: &mut String) {
        for (node, spans) in self.timeline.spans().iter().enumerate() {
            let top = self.lane_top(node) + 6.0;
            let _ = writeln!(
                out,
                "<text class=\"label\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">node {node}</text>",
                LEFT - 10.0,
                top + 14.0
            );
            for span in spans {
                self.span(out, span, top);
            }
        }
    }

    fn span(&self, out: &mut String, span: &Span, top: f64) {
        let (class, what, label) = match span.standing {
            Standing::Absent => return,
            Standing::Down => ("down", "down".to_owned(), String::new()),
            Standing::Up { role, term } => {
                let label = match role {
                    Role::Leader => format!("term {term}"),
                    _ => String::new(),
                };
                (role_class(role), format!("{}, term {term}", role.as_str()), label)
            }
        };
        let from = self.x(span.from_us);
        let width = (self.x(span.until_us) - from).max(0.6);
        let _ = write!(
            out,
            "<rect class=\"{class}\" x=\"{from:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" \
             height=\"{ROLE_BAR}\"><title>{what}, {} to {}</title></rect>",
            Seconds(span.from_us),
            Seconds(span.until_us)
        );
        if !label.is_empty() && width > LETTER * label.len() as f64 + 6.0 {
            let _ = write!(
                out,
                "<text class=\"term\" x=\"{:.1}\" y=\"{:.1}\">{label}</text>",
                from + 5.0,
                top + 14.0
            );
        }
        out.push('\n');
    }

    /// Columns of acknowledged writes under each lane, all on one scale.
    fn writes(&self, out: &mut String) {
        let nodes = self.timeline.node_count() as usize;
        let mut counts = vec![[0_u32; COLUMNS]; nodes];
        for event in self.timeline.events() {
            if let (EventKind::Acknowledged { .. }, Some(node)) = (&event.kind, event.node) {
                let column = u128::from(event.at_us) * COLUMNS as u128 / u128::from(self.end_us);
                let column = usize::try_from(column).unwrap_or(COLUMNS).min(COLUMNS - 1);
                counts[node as usize][column] += 1;
            }
        }
        let highest = counts.iter().flatten().copied().max().unwrap_or(0).max(1);
        let width = (WIDTH - LEFT - RIGHT) / COLUMNS as f64;
        for (node, counts) in counts.iter().enumerate() {
            let bottom = self.lane_top(node) + 6.0 + ROLE_BAR + 4.0 + WRITES_BAR;
            let mut path = String::new();
            for (column, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                let height = (WRITES_BAR * f64::from(*count) / f64::from(highest)).max(1.5);
                let _ = write!(
                    path,
                    "M{:.1} {bottom:.1}v-{height:.1}h{:.1}v{height:.1}z",
                    LEFT + width * column as f64,
                    width - 0.6
                );
            }
            let total: u32 = counts.iter().sum();
            let _ = writeln!(
                out,
                "<path class=\"writes\" d=\"{path}\"><title>node {node} acknowledged {total} \
                 writes</title></path>\
                 <line class=\"base\" x1=\"{LEFT}\" y1=\"{bottom:.1}\" x2=\"{:.1}\" y2=\"{bottom:.1}\"/>",
                WIDTH - RIGHT
            );
        }
    }

    fn faults(&self, out: &mut String, labels: &[Label]) {
        for label in labels {
            let window = &label.window;
            let from = self.x(window.began_us);
            let until = self.x(window.ended_us.unwrap_or(self.end_us));
            let width = (until - from).max(1.5);
            let title = format!(
                "{}, {} to {}",
                label.text,
                Seconds(window.began_us),
                window.ended_us.map_or_else(|| "the end".to_owned(), |us| Seconds(us).to_string())
            );
            out.push_str("<g class=\"fault\">");
            let _ = write!(out, "<title>{}</title>", Escaped(&title));
            for node in &window.fault.nodes {
                let _ = write!(
                    out,
                    "<rect class=\"across\" x=\"{from:.1}\" y=\"{:.1}\" width=\"{width:.1}\" \
                     height=\"{:.1}\"/>",
                    self.lane_top(*node as usize) + 2.0,
                    LANE - 4.0
                );
            }
            if let Some(row) = label.row {
                let y = 6.0 + LABEL_ROW * row as f64;
                let anchor = if leans_left(from, &label.text) { "end" } else { "start" };
                let text_x = if anchor == "end" { from - 4.0 } else { from };
                let _ = write!(
                    out,
                    "<rect class=\"extent\" x=\"{from:.1}\" y=\"{:.1}\" width=\"{width:.1}\" \
                     height=\"2.5\"/><text class=\"fault-label\" x=\"{text_x:.1}\" y=\"{:.1}\" \
                     text-anchor=\"{anchor}\">{}</text>",
                    y + 12.0,
                    y + 9.0,
                    Escaped(&label.text)
                );
            }
            out.push_str("</g>\n");
        }
    }

    /// The moments that go through all lanes: healing, and what was wrong.
    fn marks(&self, out: &mut String) {
        let bottom = self.lanes_bottom();
        for event in self.timeline.events() {
            let (class, what) = match &event.kind {
                EventKind::Healed => ("healed", "all faults are over"),
                EventKind::Violation { what } => ("wrong", what.as_str()),
                _ => continue,
            };
            let x = self.x(event.at_us);
            let _ = writeln!(
                out,
                "<line class=\"{class}\" x1=\"{x:.1}\" y1=\"{:.1}\" x2=\"{x:.1}\" y2=\"{bottom:.1}\">\
                 <title>{}, {}</title></line>",
                self.lanes_top,
                Escaped(what),
                Seconds(event.at_us)
            );
        }
    }
}

fn x(us: u64, end_us: u64) -> f64 {
    LEFT + (WIDTH - LEFT - RIGHT) * (us.min(end_us) as f64 / end_us as f64)
}

const fn role_class(role: Role) -> &'static str {
    match role {
        Role::Outsider => "role-outsider",
        Role::Learner => "role-learner",
        Role::Follower => "role-follower",
        Role::Candidate => "role-candidate",
        Role::Leader => "role-leader",
    }
}

/// Gives each fault the first row of labels in which it finds room.
fn place_labels(timeline: &Timeline) -> Vec<Label> {
    let end_us = timeline.end_us().max(1);
    let mut taken: Vec<Vec<(f64, f64)>> = Vec::new();
    let mut labels = Vec::new();
    for window in timeline.faults() {
        let nodes: Vec<_> = window.fault.nodes.iter().map(ToString::to_string).collect();
        let text = format!("{} {}", window.fault.kind.as_str(), nodes.join(" "));
        let from = x(window.began_us, end_us);
        let until = x(window.ended_us.unwrap_or(end_us), end_us);
        let text_width = LETTER * text.len() as f64;
        let (left, right) = if leans_left(from, &text) {
            (from - text_width - 8.0, until)
        } else {
            (from, until.max(from + text_width) + 8.0)
        };
        let row = (0..LABEL_ROWS_MAX).find(|row| {
            taken.get(*row).is_none_or(|spans| {
                spans.iter().all(|(begins, ends)| right < *begins || left > *ends)
            })
        });
        if let Some(row) = row {
            taken.resize_with(taken.len().max(row + 1), Vec::new);
            taken[row].push((left, right));
        }
        labels.push(Label { window, text, row });
    }
    labels
}

/// Whether a label that began here would run out of the picture.
fn leans_left(from: f64, text: &str) -> bool {
    from + LETTER * text.len() as f64 > WIDTH - RIGHT
}

/// The distance of ticks that gives about ten of them.
fn tick_us(end_us: u64) -> u64 {
    const STEPS_US: [u64; 10] = [
        10_000, 50_000, 100_000, 500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000, 30_000_000,
        60_000_000,
    ];
    let step = STEPS_US.into_iter().find(|step_us| end_us / step_us <= 14);
    step.unwrap_or_else(|| end_us.div_ceil(10))
}

fn tick_label(us: u64) -> String {
    if us.is_multiple_of(1_000_000) {
        format!("{} s", us / 1_000_000)
    } else {
        format!("{}.{:02} s", us / 1_000_000, us / 10_000 % 100)
    }
}
