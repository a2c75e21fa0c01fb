//! A case on one side: every step is done, and what it answers becomes lines.
//!
//! Each case begins with nothing in the store and the same distance to every revision. What the
//! order of is not promised is put in an order: a stream tells of its watches one after the other.

use std::collections::BTreeMap;

use prost_reflect::{DynamicMessage, ReflectMessage as _, Value};

use crate::{
    calls::{Call, Came},
    commands::{self, RunningCommand},
    http_calls, messages,
    script::{Action, Case},
    side::Side,
};

/// The watch whose event says that all others have told everything before it.
const BARRIER_WATCH: i64 = 999;

/// The key of that event, which others that watch it do not tell of.
const BARRIER_KEY: &str = "~barrier";

/// The key that ends what is told of a random history.
const MARK_KEY: &str = "~mark";

/// What a case is played on.
pub(crate) struct Stage<'a> {
    side: &'a Side,
    node: usize,
    base: i64,
    running: BTreeMap<String, Running>,
    marks: usize,
}

/// What goes on while other steps are done.
enum Running {
    Call(Stream),
    Command(RunningCommand),
}

/// A call with what has come of it and was not asked for yet.
struct Stream {
    call: Call,
    waiting: Vec<(i64, String)>,
    has_barrier: bool,
}

impl<'a> Stage<'a> {
    /// An empty store, asked through node `node`.
    pub(crate) async fn set(side: &'a Side, node: usize) -> Self {
        let base = clean(side).await;
        Self { side, node: node % side.nodes.len(), base, running: BTreeMap::new(), marks: 0 }
    }

    /// Plays a case; the lines of each step.
    pub(crate) async fn play(mut self, case: &Case) -> Vec<Vec<String>> {
        let mut all = Vec::new();
        for step in &case.steps {
            let lines = self.step(&step.action).await;
            all.push(lines.into_iter().map(|line| shortened(&line)).collect());
        }
        all
    }

    /// Calls a method through another node than the last time; the lines of its answer.
    pub(crate) async fn call_next_node(&mut self, method: &str, message: &str) -> Vec<String> {
        self.node = (self.node + 1) % self.side.nodes.len();
        self.call(method, message).await
    }

    /// Does one step; what it answers.
    pub(crate) async fn step(&mut self, action: &Action) -> Vec<String> {
        match action {
            Action::Call { method, message } => self.call(method, &lengthened(message)).await,
            Action::Open { name, method, message } => {
                let mut call = self.side.nodes[self.node].begin(method);
                if let Some(message) = message {
                    call.send(&lengthened(message), self.base);
                }
                let stream = Stream { call, waiting: Vec::new(), has_barrier: false };
                self.running.insert(name.clone(), Running::Call(stream));
                Vec::new()
            }
            Action::OpenCommand { name, words } => {
                let command = RunningCommand::start(&self.words(words), self.base);
                self.running.insert(name.clone(), Running::Command(command));
                Vec::new()
            }
            Action::Send { name, message } => {
                let base = self.base;
                self.stream(name).call.send(&lengthened(message), base);
                Vec::new()
            }
            Action::Take { name, lines } => self.take(name, *lines).await,
            Action::Settle { name } => self.settle(name).await,
            Action::Quiet { name } => {
                let base = self.base;
                let stream = self.stream(name);
                let soon = stream.call.next_soon().await;
                stream.keep(soon, base);
                stream.lines(usize::MAX)
            }
            Action::Progress { name } => self.progress(name).await,
            Action::Close { name } => self.close(name).await,
            Action::Http { verb, path, body, lines } => {
                let url = format!("http://{}{path}", self.side.addresses[self.node]);
                http_calls::call((verb, &url), body, *lines, self.base).await
            }
            Action::Command { words, input } => {
                commands::run(&self.words(words), input, self.base).await
            }
        }
    }

    /// Whether a call of this name goes on.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.running.contains_key(name)
    }

    /// Everything that a stream tells until now; its watch 0 must be one of every key from some
    /// key on.
    pub(crate) async fn told_until_now(&mut self, name: &str) -> Vec<String> {
        self.marks += 1;
        let (base, mark) = (self.base, format!("value:\"{}\"", self.marks));
        let put = format!("key: \"{MARK_KEY}\" value: \"{}\"", self.marks);
        self.side.nodes[self.node].answer("KV/Put", &put).await;
        let stream = self.stream(name);
        let has_come = |(watch, line): &(i64, String)| {
            *watch == 0 && line.contains(MARK_KEY) && line.contains(&mark)
        };
        while !stream.waiting.iter().any(has_come) {
            let came = stream.call.next().await;
            if !stream.keep(came, base) {
                break;
            }
        }
        stream.lines(usize::MAX)
    }

    async fn call(&self, method: &str, message: &str) -> Vec<String> {
        let came = self.side.nodes[self.node].call(method, message, self.base).await;
        came.into_iter().flat_map(|came| told(came, self.base)).map(|(_watch, line)| line).collect()
    }

    async fn take(&mut self, name: &str, lines: usize) -> Vec<String> {
        let base = self.base;
        if let Some(Running::Command(command)) = self.running.get_mut(name) {
            return command.take(lines).await;
        }
        let stream = self.stream(name);
        while stream.waiting.len() < lines {
            let came = stream.call.next().await;
            // How often it says that is not promised.
            if unasked_progress(&came).is_none() && !stream.keep(came, base) {
                break;
            }
        }
        stream.lines(lines)
    }

    async fn progress(&mut self, name: &str) -> Vec<String> {
        let (base, node) = (self.base, self.side.nodes[self.node].clone());
        let now = node.answer("KV/Range", r#"key: "any""#).await;
        let now = messages::number(&now, &["header", "revision"]);
        let stream = self.stream(name);
        loop {
            let came = stream.call.next().await;
            match unasked_progress(&came) {
                Some(earlier) if earlier < now => {}
                Some(_all) => {
                    stream.keep(came, base);
                    break;
                }
                None if stream.keep(came, base) => {}
                None => break,
            }
        }
        stream.lines(usize::MAX)
    }

    async fn settle(&mut self, name: &str) -> Vec<String> {
        let (base, node) = (self.base, self.side.nodes[self.node].clone());
        let stream = self.stream(name);
        if !stream.has_barrier {
            stream.has_barrier = true;
            let watch = format!("key: \"{BARRIER_KEY}\" watch_id: {BARRIER_WATCH}");
            stream.call.send(&format!("create_request {{ {watch} }}"), base);
            stream.keep_until_barrier(base).await;
        }
        node.answer("KV/Put", &format!("key: \"{BARRIER_KEY}\"")).await;
        stream.keep_until_barrier(base).await;
        stream.lines(usize::MAX)
    }

    async fn close(&mut self, name: &str) -> Vec<String> {
        match self.running.remove(name) {
            Some(Running::Call(mut stream)) => {
                for came in stream.call.finish().await {
                    stream.waiting.extend(told(came, self.base));
                }
                stream.waiting.into_iter().map(|(_watch, line)| line).collect()
            }
            Some(Running::Command(command)) => command.end().await,
            None => panic!("nothing is called {name}"),
        }
    }

    fn stream(&mut self, name: &str) -> &mut Stream {
        match self.running.get_mut(name) {
            Some(Running::Call(stream)) => stream,
            _ => panic!("no call is called {name}"),
        }
    }

    /// A command's words, told whom to ask; `ADDRESS` in them is that node.
    fn words(&self, words: &[String]) -> Vec<String> {
        let (program, rest) = words.split_first().expect("a command has words");
        let address = &self.side.addresses[self.node];
        let word = |word: &String| match word.as_str() {
            "ADDRESS" => address.clone(),
            word => http_calls::with_revisions(word, self.base),
        };
        let mut all = vec![program.clone(), format!("--endpoints={address}")];
        all.extend(rest.iter().map(word));
        all
    }
}

impl Stream {
    /// Keeps what came; whether more can come.
    fn keep(&mut self, came: Came, base: i64) -> bool {
        let goes_on = matches!(came, Came::Answer(_));
        self.waiting.extend(told(came, base));
        goes_on
    }

    /// Keeps what comes before the next message of the barrier's watch.
    async fn keep_until_barrier(&mut self, base: i64) {
        loop {
            let came = self.call.next().await;
            let passed_over = unasked_progress(&came).is_some();
            if is_of_barrier(&came) || !(passed_over || self.keep(came, base)) {
                return;
            }
        }
    }

    /// Up to so many lines of those that wait, watch by watch.
    fn lines(&mut self, count: usize) -> Vec<String> {
        let count = count.min(self.waiting.len());
        let mut taken: Vec<_> = self.waiting.drain(..count).collect();
        taken.sort_by_key(|(watch, _line)| *watch);
        taken.into_iter().map(|(_watch, line)| line).collect()
    }
}

/// Leaves nothing in the store but its past; the revision after that.
async fn clean(side: &Side) -> i64 {
    let node = &side.nodes[0];
    let leases = node.answer("Lease/LeaseLeases", "").await;
    if let Some(Value::List(leases)) = leases.get_field_by_name("leases").as_deref() {
        for lease in leases.iter().filter_map(Value::as_message) {
            let id = messages::number(lease, &["ID"]);
            // One that has just ended by itself is gone, too.
            let _gone = node.call("Lease/LeaseRevoke", &format!("ID: {id}"), 0).await;
        }
    }
    let all = r#"key: "\0" range_end: "\0""#;
    let deleted = node.answer("KV/DeleteRange", all).await;
    let revision = messages::number(&deleted, &["header", "revision"]);
    // Refused if nothing was done since the last time.
    let _compacted = node.call("KV/Compact", &format!("revision: {revision}"), 1_000).await;
    revision
}

/// What came as lines, each with the watch it is of.
fn told(came: Came, base: i64) -> Vec<(i64, String)> {
    match came {
        Came::Answer(answer) if answer.descriptor().name() == "WatchResponse" => {
            told_by_watch(&answer, base)
        }
        Came::Answer(answer) => {
            vec![(0, format!("= {}", messages::write(answer, base)).trim_end().to_owned())]
        }
        Came::Refusal(status) => {
            let text = format!("! {:?} {}", status.code(), status.message());
            vec![(i64::MAX, text.trim_end().to_owned())]
        }
        Came::End => vec![(i64::MAX, "end".to_owned())],
        Came::Nothing => vec![(i64::MAX, "nothing more".to_owned())],
    }
}

/// One line an event: how many come in one message is not promised.
fn told_by_watch(answer: &DynamicMessage, base: i64) -> Vec<(i64, String)> {
    let watch = messages::number(answer, &["watch_id"]);
    let events = answer.get_field_by_name("events");
    let events = match events.as_deref() {
        Some(Value::List(events)) if !events.is_empty() => events,
        _ => return vec![(watch, format!("= {}", messages::write(answer.clone(), base)))],
    };
    let reached = messages::number(answer, &["header", "revision"]);
    let line = |event: &DynamicMessage| {
        let late = messages::number(event, &["kv", "mod_revision"]) > reached;
        let late = if late { " later than its header" } else { "" };
        format!("= {watch}: {}{late}", messages::write(event.clone(), base))
    };
    let barrier = format!("key:\"{BARRIER_KEY}\"");
    let lines = events.iter().filter_map(Value::as_message).map(line);
    lines.filter(|line| !line.contains(&barrier)).map(|line| (watch, line)).collect()
}

/// The revision up to which a watch says that it has told everything, without having been asked.
fn unasked_progress(came: &Came) -> Option<i64> {
    let Came::Answer(answer) = came else { return None };
    let is_empty = |field: &str| {
        let number = answer.get_field_by_name(field);
        number.as_deref().is_none_or(|value| match value {
            Value::List(all) => all.is_empty(),
            value => *value == Value::Bool(false),
        })
    };
    let is_progress = answer.descriptor().name() == "WatchResponse"
        && messages::number(answer, &["watch_id"]) >= 0
        && ["created", "canceled", "events"].iter().all(|field| is_empty(field));
    is_progress.then(|| messages::number(answer, &["header", "revision"]))
}

fn is_of_barrier(came: &Came) -> bool {
    match came {
        Came::Answer(answer) => messages::number(answer, &["watch_id"]) == BARRIER_WATCH,
        _ => false,
    }
}

/// `%x*700000%` in a message is that many letters.
fn lengthened(text: &str) -> String {
    let mut parts = text.split('%');
    let mut long = parts.next().unwrap_or_default().to_owned();
    for (at, part) in parts.enumerate() {
        match part.split_once('*').filter(|_| at % 2 == 0) {
            Some((letter, count)) => {
                long += &letter.repeat(count.parse().expect("a count follows the asterisk"));
            }
            None => long += part,
        }
    }
    long
}

/// The same the other way round, for runs that nobody wants to read.
fn shortened(text: &str) -> String {
    const LONG: usize = 60;
    let mut short = String::new();
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let after = rest.trim_start_matches(letter);
        let run = &rest[..rest.len() - after.len()];
        if run.len() > LONG {
            short += &format!("%{letter}*{}%", run.len());
        } else {
            short += run;
        }
        rest = after;
    }
    short
}
