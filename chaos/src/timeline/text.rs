//! The timeline as text, for a replay: one line an event, no wider than 100 columns.
