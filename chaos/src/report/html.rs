//! The bits of HTML that the sections are made of.

use std::fmt::{self, Write as _};

/// The whole page.
pub(super) fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{}</title>\n<style>\n{}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n\
         </html>\n",
        Escaped(title),
        include_str!("style.css"),
    )
}

/// Text that goes into HTML.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => formatter.write_str("&amp;")?,
                '<' => formatter.write_str("&lt;")?,
                '>' => formatter.write_str("&gt;")?,
                '"' => formatter.write_str("&quot;")?,
                '\'' => formatter.write_str("&#39;")?,
                character => formatter.write_char(character)?,
            }
        }
        Ok(())
    }
}

/// A part of the page under a heading.
pub(super) struct Section {
    out: String,
    len_when_empty: usize,
}

impl Section {
    pub(super) fn new(heading: &str) -> Self {
        let out = format!("<section>\n<h2>{}</h2>\n", Escaped(heading));
        Self { len_when_empty: out.len(), out }
    }

    /// A paragraph.
    pub(super) fn text(&mut self, text: &str) {
        self.raw(&format!("<p>{}</p>\n", Escaped(text)));
    }

    /// Something that is HTML already.
    pub(super) fn raw(&mut self, html: &str) {
        self.out.push_str(html);
    }

    pub(super) fn end(mut self) -> String {
        self.out.push_str("</section>\n");
        self.out
    }

    /// The section, or nothing if it has nothing but its heading.
    pub(super) fn end_unless_empty(self) -> String {
        if self.out.len() == self.len_when_empty { String::new() } else { self.end() }
    }
}

/// Something that can be folded away.
pub(super) fn details(summary: &str, open: bool, html: &str) -> String {
    let open = if open { " open" } else { "" };
    format!("<details{open}><summary>{}</summary>\n{html}</details>\n", Escaped(summary))
}

/// A table. Cells that look like numbers are set to the right.
pub(super) struct Table(String);

impl Table {
    pub(super) fn new(columns: &[&str]) -> Self {
        let mut out = String::from("<div class=\"scroll\"><table>\n<thead><tr>");
        for column in columns {
            let _ = write!(out, "<th>{}</th>", Escaped(column));
        }
        out.push_str("</tr></thead>\n<tbody>\n");
        Self(out)
    }

    pub(super) fn row(&mut self, class: &str, cells: &[String]) {
        let _ = write!(self.0, "<tr class=\"{class}\">");
        for cell in cells {
            let number = cell.starts_with(|first: char| first.is_ascii_digit());
            let class = if number { " class=\"number\"" } else { "" };
            let _ = write!(self.0, "<td{class}>{}</td>", Escaped(cell));
        }
        self.0.push_str("</tr>\n");
    }

    pub(super) fn end(mut self) -> String {
        self.0.push_str("</tbody></table></div>\n");
        self.0
    }
}

/// A number with a thin space between groups of three digits.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('\u{2009}');
        }
        out.push(digit);
    }
    out
}

/// A simulated time as people say it.
pub(super) fn duration(us: u64) -> String {
    match us {
        0..1_000 => "under 1 ms".to_owned(),
        1_000..1_000_000 => format!("{} ms", us / 1_000),
        1_000_000..60_000_000 => format!("{}.{:02} s", us / 1_000_000, us / 10_000 % 100),
        60_000_000..7_200_000_000 => format!("{} min", us / 60_000_000),
        _ => format!("{}.{} h", us / 3_600_000_000, us / 360_000_000 % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(
            Escaped("<a href=\"x\">&'").to_string(),
            "&lt;a href=&quot;x&quot;&gt;&amp;&#39;"
        );
    }

    #[test]
    fn numbers_and_times_are_readable() {
        assert_eq!(grouped(1), "1");
        assert_eq!(grouped(1_234_567), "1\u{2009}234\u{2009}567");
        assert_eq!(duration(420_000), "420 ms");
        assert_eq!(duration(1_450_000), "1.45 s");
        assert_eq!(duration(65_000_000), "1 min");
        assert_eq!(duration(9_000_000_000), "2.5 h");
    }

    #[test]
    fn an_empty_section_is_left_out() {
        assert_eq!(Section::new("x").end_unless_empty(), "");
    }
}
