//! `mainstay read-only`: the data of the cluster stays as it is until an operator ends that.

use std::io::Write;

use clap::{Args, ValueEnum};
use mainstay_client::Client;

use crate::{arguments::Output, exit::Exit, screen::Screen, table::Table};

#[derive(Debug, Args)]
pub(crate) struct ReadOnlyArguments {
    /// Whether writes are to be held back [default: show how it is]
    #[arg(value_enum)]
    switch: Option<Switch>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    /// Refuse what clients begin; leases live on, and so do stale and fresh reads and watches
    On,
    /// Take writes again
    Off,
}

impl ReadOnlyArguments {
    /// Whether it is more than a look.
    pub(crate) const fn changes_something(&self) -> bool {
        self.switch.is_some()
    }
}

pub(crate) async fn run(
    arguments: &ReadOnlyArguments,
    client: &Client,
    output: Output,
) -> anyhow::Result<Exit> {
    let is_on = match arguments.switch {
        Some(switch) => client.set_read_only(switch == Switch::On).await?.value.read_only,
        None => {
            let cluster = client.cluster().await?.value;
            cluster.settings.get("read_only").and_then(serde_json::Value::as_bool).unwrap_or(false)
        }
    };
    // Writes can be refused for other reasons on the node that answers. What was switched is not
    // denied because nobody tells about that.
    let other = match client.cluster().await {
        Ok(cluster) => cluster.value.node.read_only.filter(|reason| reason != "operator"),
        Err(_untold) if arguments.switch.is_some() => None,
        Err(error) => return Err(error.into()),
    };
    let mut screen = Screen::new();
    match output {
        Output::Simple => writeln!(screen, "{}", sentence(is_on, other.as_deref()))?,
        Output::Table => {
            let mut table = Table::new(&["READ-ONLY", "OTHER REASON"]);
            table.row([is_on.to_string(), other.unwrap_or_default()]);
            screen.write_all(table.render().as_bytes())?;
        }
        Output::Json => screen.json(&serde_json::json!({
            "read_only": is_on,
            "other_reason": other,
        }))?,
    }
    screen.finish()?;
    Ok(Exit::Done)
}

fn sentence(is_on: bool, other: Option<&str>) -> String {
    let mut text = if is_on {
        "read-only: writes are refused until `mainstay read-only off`; reads, watches and living \
         leases go on"
            .to_owned()
    } else {
        "writable: no operator holds writes back".to_owned()
    };
    if let Some(reason) = other {
        text.push_str(&format!("; but the asked node refuses writes: {reason}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sentence_says_how_it_is_and_what_else_is_in_the_way() {
        assert!(sentence(true, None).starts_with("read-only:"));
        assert!(sentence(false, None).starts_with("writable"));
        assert!(sentence(false, Some("quota")).ends_with("refuses writes: quota"));
    }
}
