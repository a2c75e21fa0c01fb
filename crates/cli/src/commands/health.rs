//! `mainstay health`: every endpoint asked for itself.

use std::{io::Write, time::Duration};

use mainstay_client::{Client, Endpoint, Failure, Health};
use mainstay_world::{Instant, spawn};

use crate::{
    arguments::Output,
    exit::Exit,
    screen::{Screen, note},
    table::Table,
};

/// What one endpoint said, or why it said nothing.
struct Finding {
    endpoint: Endpoint,
    took: Duration,
    said: Result<Health, String>,
}

impl Finding {
    fn is_well(&self) -> bool {
        self.said.as_ref().is_ok_and(|health| health.health == "true")
    }

    fn status(&self) -> &str {
        self.said.as_ref().map_or("unreachable", |health| &health.status)
    }

    fn reason(&self) -> String {
        match &self.said {
            Err(reason) => reason.clone(),
            Ok(health) if health.reason.is_empty() => "-".to_owned(),
            Ok(health) => health.reason.clone(),
        }
    }
}

/// Exit code 0 means that writes succeed at every endpoint.
pub(crate) async fn run(client: &Client, output: Output) -> anyhow::Result<Exit> {
    let asked: Vec<_> = client
        .options()
        .endpoints
        .iter()
        .map(|endpoint| spawn(ask(client.only(endpoint.clone()), endpoint.clone())))
        .collect();
    let mut findings = Vec::new();
    for finding in asked {
        findings.push(finding.await?);
    }
    let mut screen = Screen::new();
    match output {
        Output::Simple => {
            for finding in &findings {
                let (endpoint, status) = (&finding.endpoint, finding.status());
                write!(screen, "{endpoint} {status} in {} ms", finding.took.as_millis())?;
                match finding.reason().as_str() {
                    "-" => writeln!(screen)?,
                    reason => writeln!(screen, ": {reason}")?,
                }
            }
        }
        Output::Table => screen.write_all(table(&findings).as_bytes())?,
        Output::Json => {
            let json = |finding: &Finding| {
                serde_json::json!({
                    "endpoint": finding.endpoint.to_string(),
                    "took_ms": u64::try_from(finding.took.as_millis()).unwrap_or(u64::MAX),
                    "status": finding.status(),
                    "health": if finding.is_well() { "true" } else { "false" },
                    "reason": finding.reason(),
                    "checks": finding.said.as_ref().map(|health| &health.checks).ok(),
                })
            };
            screen.json(&findings.iter().map(json).collect::<Vec<_>>())?;
        }
    }
    screen.finish()?;
    let sick = findings.iter().filter(|finding| !finding.is_well()).count();
    if sick > 0 {
        note(&format!("{sick} of {} endpoints cannot serve writes", findings.len()));
        return Ok(Exit::Unavailable);
    }
    Ok(Exit::Done)
}

async fn ask(client: Client, endpoint: Endpoint) -> Finding {
    let start = Instant::now();
    let said = client.health().await;
    let took = start.elapsed();
    let said = said.map(|answer| answer.value).map_err(|error| match error.failure {
        Failure::Unreachable { source, .. } => source.to_string(),
        failure => failure.to_string(),
    });
    Finding { endpoint, took, said }
}

fn table(findings: &[Finding]) -> String {
    let mut table = Table::new(&["ENDPOINT", "STATUS", "WRITES", "TOOK MS", "REASON"]);
    for finding in findings {
        table.row([
            finding.endpoint.to_string(),
            finding.status().to_owned(),
            if finding.is_well() { "yes" } else { "no" }.to_owned(),
            finding.took.as_millis().to_string(),
            finding.reason(),
        ]);
    }
    table.render()
}
