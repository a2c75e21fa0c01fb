//! `mainstay get`: one key, or the keys of a prefix page by page.

use std::io::Write;

use anyhow::bail;
use bytes::Bytes;
use clap::{Args, ValueEnum};
use mainstay_client::{
    AnswerHeader, CallError, Client, Consistency, GetRequest, KeyValue, Page, PageRequest,
    Staleness, pair_json,
};

use crate::{
    arguments::Output,
    encoding::Encoding,
    exit::{Exit, UsageError},
    screen::{Screen, note},
    table::Table,
};

/// The most keys that a node gives in one page.
const PAGE_MAX: u64 = 10_000;
/// Keys of a page when no limit is given.
const PAGE: u32 = 1_000;
/// Rows between two heads of a table.
const TABLE_ROWS: usize = 1_000;

#[derive(Debug, Args)]
pub(crate) struct GetArguments {
    /// The key; with --prefix what the keys start with, '' for all
    key: String,
    /// Read all keys that start with KEY
    #[arg(long, env = "MAINSTAY_PREFIX")]
    prefix: bool,
    /// Read at most this many keys
    #[arg(long, env = "MAINSTAY_LIMIT", requires = "prefix", value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Leave the values out
    #[arg(long, env = "MAINSTAY_KEYS_ONLY", requires = "prefix")]
    keys_only: bool,
    /// Print how many keys there are, and nothing else
    #[arg(long, env = "MAINSTAY_COUNT_ONLY", requires = "prefix", conflicts_with = "keys_only")]
    count_only: bool,
    /// Read as of this revision
    #[arg(long, env = "MAINSTAY_REVISION", value_name = "REVISION")]
    revision: Option<u64>,
    /// How fresh the answer must be
    #[arg(long, env = "MAINSTAY_CONSISTENCY", value_enum, default_value_t, value_name = "KIND")]
    consistency: ConsistencyArgument,
    #[command(flatten)]
    encoding: EncodingArguments,
    /// Print the value exactly, without a line end
    #[arg(long, env = "MAINSTAY_RAW", conflicts_with_all = ["prefix", "hex", "base64"])]
    raw: bool,
}

/// How fresh an answer must be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ConsistencyArgument {
    /// Holds every write acknowledged before.
    #[default]
    Linearizable,
    /// What the asked node has, however old.
    Stale,
}

/// How keys and values are shown.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct EncodingArguments {
    /// Show keys and values in hexadecimal
    #[arg(long, env = "MAINSTAY_HEX", conflicts_with = "base64")]
    hex: bool,
    /// Show keys and values in base64
    #[arg(long, env = "MAINSTAY_BASE64")]
    base64: bool,
}

impl From<ConsistencyArgument> for Consistency {
    fn from(argument: ConsistencyArgument) -> Self {
        match argument {
            ConsistencyArgument::Linearizable => Self::Linearizable,
            ConsistencyArgument::Stale => Self::Stale,
        }
    }
}

impl EncodingArguments {
    pub(crate) const fn encoding(self) -> Encoding {
        if self.hex {
            Encoding::Hex
        } else if self.base64 {
            Encoding::Base64
        } else {
            Encoding::Text
        }
    }
}

pub(crate) async fn run(
    arguments: GetArguments,
    client: &Client,
    output: Output,
) -> anyhow::Result<Exit> {
    if arguments.count_only {
        count(arguments, client, output).await
    } else if arguments.prefix {
        many(arguments, client, output).await
    } else if arguments.key.is_empty() {
        bail!(UsageError("a key is not empty; --prefix '' reads all keys".to_owned()));
    } else {
        one(arguments, client, output).await
    }
}

async fn one(arguments: GetArguments, client: &Client, output: Output) -> anyhow::Result<Exit> {
    let request = GetRequest {
        revision: arguments.revision,
        consistency: arguments.consistency.into(),
        ..GetRequest::new(arguments.key)
    };
    let answer = client.get(request).await?;
    tell_staleness(&answer.header);
    let mut screen = Screen::new();
    let pairs = answer.value.as_slice();
    match (output, &answer.value) {
        (Output::Json, _) => {
            screen.json(&serde_json::json!({
                "revision": answer.header.revision.to_string(),
                "count": pairs.len().to_string(),
                "pairs": pairs.iter().map(pair_json).collect::<Vec<_>>(),
            }))?;
        }
        (_, None) => {}
        (Output::Simple, Some(pair)) => match arguments.encoding.encoding() {
            Encoding::Text => {
                screen.write_all(&pair.value)?;
                if !arguments.raw {
                    screen.write_all(b"\n")?;
                }
            }
            encoding => writeln!(screen, "{}", encoding.show(&pair.value))?,
        },
        (Output::Table, Some(_)) => {
            screen.write_all(table(pairs, arguments.encoding.encoding()).as_bytes())?;
        }
    }
    screen.finish()?;
    if answer.value.is_none() {
        note("there is no such key");
        return Ok(Exit::NotHeld);
    }
    Ok(Exit::Done)
}

async fn count(arguments: GetArguments, client: &Client, output: Output) -> anyhow::Result<Exit> {
    let request = PageRequest { count_only: true, ..page_request(&arguments) };
    let answer = client.page(&request).await?;
    tell_staleness(&answer.header);
    let mut screen = Screen::new();
    let Page { revision, count, .. } = answer.value;
    match output {
        Output::Simple => writeln!(screen, "{count}")?,
        Output::Table => {
            let mut table = Table::new(&["COUNT", "REVISION"]);
            table.row([count.to_string(), revision.to_string()]);
            screen.write_all(table.render().as_bytes())?;
        }
        Output::Json => screen.json(&serde_json::json!({
            "revision": revision.to_string(),
            "count": count.to_string(),
        }))?,
    }
    screen.finish()?;
    Ok(Exit::Done)
}

/// Prints page after page, so that a store of any size passes through without being held.
async fn many(arguments: GetArguments, client: &Client, output: Output) -> anyhow::Result<Exit> {
    let mut pages = Pages::new(client, &arguments);
    let mut screen = Screen::new();
    let encoding = arguments.encoding.encoding();
    let mut is_first = true;
    while let Some(page) = pages.next().await? {
        match output {
            Output::Simple => {
                for pair in &page.pairs {
                    let key = encoding.show(&pair.key);
                    if arguments.keys_only {
                        writeln!(screen, "{key}")?;
                    } else {
                        writeln!(screen, "{key}\t{}", encoding.show(&pair.value))?;
                    }
                }
            }
            Output::Table => {
                for rows in page.pairs.chunks(TABLE_ROWS) {
                    screen.write_all(table(rows, encoding).as_bytes())?;
                }
            }
            Output::Json => {
                if is_first {
                    let (revision, count) = (page.revision, page.count);
                    write!(screen, r#"{{"revision":"{revision}","count":"{count}","pairs":["#)?;
                }
                for (index, pair) in page.pairs.iter().enumerate() {
                    if !(is_first && index == 0) {
                        screen.write_all(b",")?;
                    }
                    serde_json::to_writer(&mut screen, &pair_json(pair))
                        .map_err(std::io::Error::from)?;
                }
            }
        }
        is_first = false;
    }
    if output == Output::Json {
        screen.write_all(b"]}\n")?;
    }
    screen.finish()?;
    Ok(Exit::Done)
}

/// The pages of a request, up to the limit that was asked for.
struct Pages<'a> {
    client: &'a Client,
    request: PageRequest,
    /// Pairs that may still be read.
    remaining: u64,
    is_done: bool,
}

impl<'a> Pages<'a> {
    fn new(client: &'a Client, arguments: &GetArguments) -> Self {
        Self {
            client,
            request: page_request(arguments),
            remaining: arguments.limit.unwrap_or(u64::MAX),
            is_done: false,
        }
    }

    async fn next(&mut self) -> Result<Option<Page>, CallError> {
        if self.is_done {
            return Ok(None);
        }
        let limit = u32::try_from(self.remaining.min(PAGE_MAX)).unwrap_or(PAGE);
        self.request.limit = Some(if self.remaining == u64::MAX { PAGE } else { limit });
        let answer = self.client.page(&self.request).await?;
        if self.request.cursor.is_none() {
            tell_staleness(&answer.header);
        }
        let page = answer.value;
        if self.remaining != u64::MAX {
            self.remaining = self.remaining.saturating_sub(page.pairs.len() as u64);
        }
        self.is_done = page.cursor.is_none() || self.remaining == 0;
        self.request.cursor.clone_from(&page.cursor);
        Ok(Some(page))
    }
}

fn page_request(arguments: &GetArguments) -> PageRequest {
    PageRequest {
        prefix: Bytes::copy_from_slice(arguments.key.as_bytes()),
        keys_only: arguments.keys_only,
        revision: arguments.revision,
        consistency: arguments.consistency.into(),
        ..PageRequest::default()
    }
}

fn table(pairs: &[KeyValue], encoding: Encoding) -> String {
    let mut table = Table::new(&["KEY", "VALUE", "CREATED", "MODIFIED", "VERSION", "LEASE"]);
    for pair in pairs {
        table.row([
            encoding.show(&pair.key),
            encoding.show(&pair.value),
            pair.create_revision.to_string(),
            pair.mod_revision.to_string(),
            pair.version.to_string(),
            if pair.lease == 0 { "-".to_owned() } else { pair.lease.to_string() },
        ]);
    }
    table.render()
}

/// A stale answer is never given in silence.
fn tell_staleness(header: &AnswerHeader) {
    match header.staleness {
        Some(Staleness::Ms(ms)) => note(&format!("stale by at most {ms} ms")),
        Some(Staleness::Unknown) => note("stale by an unknown time: the node hears no leader"),
        None => {}
    }
}
