//! How bytes are shown to people, and how people write durations.

use std::{fmt::Write as _, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};

/// How keys and values are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// As text, with what cannot be shown escaped.
    #[default]
    Text,
    /// As hexadecimal digits.
    Hex,
    /// As standard base64.
    Base64,
}

impl Encoding {
    pub(crate) fn show(self, bytes: &[u8]) -> String {
        match self {
            Self::Text => escaped(bytes),
            Self::Hex => {
                let mut text = String::with_capacity(bytes.len() * 2);
                for byte in bytes {
                    write!(text, "{byte:02x}").expect("a string takes all that is written");
                }
                text
            }
            Self::Base64 => STANDARD.encode(bytes),
        }
    }
}

/// Text on one line: control characters, backslashes and bytes that are no text are escaped, so
/// that different bytes look different and none of them steers the terminal.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                shown if !shown.is_control() => text.push(shown),
                control => push_bytes(&mut text, control.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        push_bytes(&mut text, chunk.invalid());
    }
    text
}

fn push_bytes(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        write!(text, "\\x{byte:02x}").expect("a string takes all that is written");
    }
}

/// Reads `500ms`, `10s`, `2m`, `1h`; a bare number is seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is not a duration; write 500ms, 10s, 2m or 1h");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_not_a_number| wrong())?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" | "" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(wrong)
}

/// The duration in the largest unit that divides it.
pub(crate) fn show_ms(ms: u64) -> String {
    match ms {
        0 => "0s".to_owned(),
        _ if ms.is_multiple_of(3_600_000) => format!("{}h", ms / 3_600_000),
        _ if ms.is_multiple_of(60_000) => format!("{}m", ms / 60_000),
        _ if ms.is_multiple_of(1_000) => format!("{}s", ms / 1_000),
        _ => format!("{ms}ms"),
    }
}

/// A time in milliseconds since 1970 as `2026-11-21 12:03:44`, in UTC.
pub(crate) fn show_time(ms: u64) -> String {
    let (days, second) = (ms / 86_400_000, ms / 1_000 % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// Year, month and day of a day since 1970, in the Gregorian calendar.
///
/// Years are counted from March, so that the leap day is a year's last; 400 years, which have
/// 146,097 days, repeat themselves.
const fn date(days: u64) -> (u64, u64, u64) {
    // From 0000-03-01 to 1970-01-01.
    let days = days + 719_468;
    let (cycle, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months from March have 31, 30, 31, 30, 31 days, again and again.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, turn) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (cycle * 400 + year + turn, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_on_one_line_and_told_apart() {
        for (bytes, shown) in [
            (&b"config/a"[..], "config/a"),
            ("grün".as_bytes(), "grün"),
            (b"a\nb\tc\\", "a\\nb\\tc\\\\"),
            (b"\x1b[31m", "\\x1b[31m"),
            ("\u{85}".as_bytes(), "\\xc2\\x85"),
            (b"\xff\x00k", "\\xff\\x00k"),
        ] {
            assert_eq!(Encoding::Text.show(bytes), shown);
        }
        assert_eq!(Encoding::Hex.show(b"\x00\xffk"), "00ff6b");
        assert_eq!(Encoding::Base64.show(b"a"), "YQ==");
    }

    #[test]
    fn durations_are_read_and_shown() {
        for (text, ms) in [("500ms", 500), ("10s", 10_000), ("60", 60_000), ("2m", 120_000)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in
            ["", "s", "-1s", "1.5s", "1d", "10 s", "99999999999999999999s", "9999999999999999999h"]
        {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        let shown = [500, 10_000, 120_000, 7_200_000, 61_000, 0].map(show_ms);
        assert_eq!(shown, ["500ms", "10s", "2m", "2h", "61s", "0s"]);
    }

    #[test]
    fn times_are_shown_as_dates() {
        for (seconds, shown) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_399, "2000-02-28 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (951_868_800, "2000-03-01 00:00:00"),
            (1_700_000_000, "2023-11-14 22:13:20"),
            (4_107_542_400, "2100-03-01 00:00:00"),
            (1_798_761_599, "2026-12-31 23:59:59"),
        ] {
            assert_eq!(show_time(seconds * 1_000 + 999), shown);
        }
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut last = date(0);
        for days in 1..200_000 {
            let (year, month, day) = date(days);
            let follows = match last {
                _ if day > 1 => (year, month, day - 1) == last,
                (last_year, 12, 31) => (year, month) == (last_year + 1, 1),
                (last_year, last_month, 28..=31) => (year, month) == (last_year, last_month + 1),
                _ => false,
            };
            assert!(follows, "{last:?} before {year}-{month}-{day}");
            last = (year, month, day);
        }
    }
}
