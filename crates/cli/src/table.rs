//! Tables for people: columns as wide as they must be, lines no longer than a terminal.

use std::fmt::Write as _;

/// The widest line of a table in characters.
const WIDTH_MAX: usize = 100;
/// What stands between two columns.
const GAP: &str = "  ";
/// No column is cut below this many characters.
const COLUMN_MIN: usize = 12;

/// Rows under a head.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|cell| (*cell).to_owned()).collect()] }
    }

    /// Adds a row; it has as many cells as the head.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(cells.len(), self.rows[0].len(), "a row is as long as the head");
        self.rows.push(cells.into());
    }

    /// The table as text. While it is too wide, its widest column is cut.
    pub(crate) fn render(&self) -> String {
        let width = |column: usize| {
            self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
        };
        let mut widths: Vec<_> = (0..self.rows[0].len()).map(width).collect();
        let gaps = GAP.len() * widths.len().saturating_sub(1);
        while gaps + widths.iter().sum::<usize>() > WIDTH_MAX {
            let Some(widest) = widths.iter_mut().max().filter(|widest| **widest > COLUMN_MIN)
            else {
                break;
            };
            *widest -= 1;
        }
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                write!(line, "{:<width$}{GAP}", cut(cell, *width), width = *width)
                    .expect("a string takes all that is written");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// `cell` in at most `width` characters, with an ellipsis where it was cut.
pub(crate) fn cut(cell: &str, width: usize) -> String {
    if cell.chars().count() <= width {
        return cell.to_owned();
    }
    let mut shown: String = cell.chars().take(width.saturating_sub(1)).collect();
    shown.push('…');
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_have_no_trailing_blanks() {
        let mut table = Table::new(&["NAME", "ROLE"]);
        table.row(["n1".to_owned(), "leader".to_owned()]);
        table.row(["longer".to_owned(), String::new()]);
        assert_eq!(table.render(), "NAME    ROLE\nn1      leader\nlonger\n");
    }

    #[test]
    fn the_widest_column_gives_way_until_the_line_fits() {
        let mut table = Table::new(&["KEY", "VALUE", "VERSION"]);
        table.row(["k".repeat(30), "v".repeat(500), "3".to_owned()]);
        let text = table.render();
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH_MAX), "{text}");
        assert!(text.contains(&"k".repeat(30)), "the narrower column is whole: {text}");
        assert!(text.contains("v…"));
    }

    #[test]
    fn a_cell_is_cut_between_characters_not_bytes() {
        assert_eq!(cut("äöüß", 3), "äö…");
        assert_eq!(cut("äöü", 3), "äöü");
    }
}
