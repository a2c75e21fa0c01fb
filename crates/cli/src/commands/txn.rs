//! `mainstay txn`: compare, then do one of two lists of operations, all at one revision.
//!
//! A transaction comes as JSON, exactly as `POST /v1/txn` takes it, or as short sentences on the
//! command line, see `txn/sentence.rs`.

mod sentence;

use std::{fs::File, io, io::Write, path::PathBuf};

use anyhow::bail;
use clap::Args;
use mainstay_client::{
    Client, TxnRequest,
    command::{Compare, Operation, Txn},
    outcome::{OperationOutcome, TxnOutcome},
    txn_from_json, txn_outcome_json,
};

use crate::{
    arguments::Output,
    commands::{
        get::ConsistencyArgument,
        put::{RepeatArguments, read_input},
    },
    encoding::escaped,
    exit::{Exit, UsageError},
    screen::Screen,
};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    mainstay txn --if 'version(lock) = 0' --then 'put lock me' --else 'get lock'\n  \
    mainstay txn --if 'mod_revision(a) = 7' --if 'value(b) != \"x y\"' --then 'del a'\n  \
    mainstay txn transaction.json\n\n\
    Conditions: version, create_revision, mod_revision, lease or value (KEY), =, !=, < or >.\n\
    Operations: put KEY VALUE [LEASE], get KEY, get-prefix PREFIX, del KEY, del-prefix PREFIX.\n\
    Words with blanks stand in double quotes.")]
pub(crate) struct TxnArguments {
    /// A file with the transaction as JSON, '-' for standard input
    #[arg(required_unless_present_any = ["conditions", "success", "failure"])]
    #[arg(conflicts_with_all = ["conditions", "success", "failure"])]
    file: Option<PathBuf>,
    /// A condition; all must hold
    #[arg(long = "if", env = "MAINSTAY_IF", value_parser = sentence::parse_condition)]
    #[arg(value_name = "CONDITION")]
    conditions: Vec<Compare>,
    /// An operation to do if they hold
    #[arg(long = "then", env = "MAINSTAY_THEN", value_parser = sentence::parse_operation)]
    #[arg(value_name = "OPERATION")]
    success: Vec<Operation>,
    /// An operation to do if one does not
    #[arg(long = "else", env = "MAINSTAY_ELSE", value_parser = sentence::parse_operation)]
    #[arg(value_name = "OPERATION")]
    failure: Vec<Operation>,
    /// How fresh the answer must be, if the transaction only reads
    #[arg(long, env = "MAINSTAY_CONSISTENCY", value_enum, default_value_t, value_name = "KIND")]
    consistency: ConsistencyArgument,
    #[command(flatten)]
    repeat: RepeatArguments,
}

/// Exit code 3 means that the conditions did not hold.
pub(crate) async fn run(
    arguments: TxnArguments,
    client: &Client,
    output: Output,
) -> anyhow::Result<Exit> {
    let txn = match &arguments.file {
        Some(file) => read(file)?,
        None => Txn {
            compares: arguments.conditions,
            success: arguments.success,
            failure: arguments.failure,
        },
    };
    let request = TxnRequest {
        txn,
        consistency: arguments.consistency.into(),
        origin: arguments.repeat.origin(),
    };
    let answer = client.txn(request).await?.value;
    let mut screen = Screen::new();
    match output {
        Output::Simple | Output::Table => {
            let verdict = if answer.outcome.succeeded { "succeeded" } else { "failed" };
            writeln!(screen, "{verdict}, revision {}", answer.revision)?;
            print_outcome(&mut screen, &answer.outcome, 1)?;
        }
        Output::Json => {
            let mut json = txn_outcome_json(&answer.outcome);
            json["revision"] = answer.revision.to_string().into();
            screen.json(&json)?;
        }
    }
    screen.finish()?;
    Ok(if answer.outcome.succeeded { Exit::Done } else { Exit::NotHeld })
}

fn read(file: &PathBuf) -> anyhow::Result<Txn> {
    let name = if file.as_os_str() == "-" { "standard input" } else { &file.display().to_string() };
    let text = if file.as_os_str() == "-" {
        read_input(io::stdin().lock(), name)?
    } else {
        let opened = File::open(file);
        let Ok(opened) = opened else {
            let error = opened.expect_err("it was not opened");
            bail!(UsageError(format!("{name} cannot be read: {error}")));
        };
        read_input(opened, name)?
    };
    match txn_from_json(&text) {
        Ok(txn) => Ok(txn),
        Err(error) => bail!(UsageError(format!("{name} is not a transaction: {error}"))),
    }
}

/// One line for each operation, nested ones further in.
fn print_outcome(
    screen: &mut impl Write,
    outcome: &TxnOutcome,
    depth: usize,
) -> anyhow::Result<()> {
    let indent = "  ".repeat(depth);
    for operation in &outcome.operations {
        match operation {
            OperationOutcome::Put(put) => {
                let what = if put.created { "created" } else { "replaced" };
                writeln!(screen, "{indent}put: {what}")?;
            }
            OperationOutcome::Deleted(delete) => {
                writeln!(screen, "{indent}del: deleted {}", delete.deleted)?;
            }
            OperationOutcome::Range(range) => {
                writeln!(screen, "{indent}get: {} of {}", range.pairs.len(), range.count)?;
                for pair in &range.pairs {
                    let (key, value) = (escaped(&pair.key), escaped(&pair.value));
                    writeln!(screen, "{indent}  {key}\t{value}")?;
                }
            }
            OperationOutcome::Txn(nested) => {
                let verdict = if nested.succeeded { "succeeded" } else { "failed" };
                writeln!(screen, "{indent}txn: {verdict}")?;
                print_outcome(screen, nested, depth + 1)?;
            }
        }
    }
    Ok(())
}
