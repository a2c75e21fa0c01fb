//! Clients that each send one request after the other.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use mainstay_world::{Instant, sleep, sleep_until, spawn, timeout};
use tokio::signal::ctrl_c;

use super::{
    Mode, Plan,
    connection::{Answer, Connection},
    progress_bar,
    report::{Report, Tally},
    request::{Random, Request, value},
};
use crate::process::cpu_time;

/// How long a client waits after a failure: a dead node must not be asked a million times.
const AFTER_FAILURE: Duration = Duration::from_millis(10);
/// How often the progress bar moves.
pub(super) const PROGRESS: Duration = Duration::from_millis(250);
/// Reads among ten operations of the mixed mode.
const READS_OF_TEN: u64 = 8;

/// What all clients of a load share.
pub(super) struct Shared {
    pub(super) plan: Plan,
    pub(super) tally: Mutex<Tally>,
    pub(super) start: Instant,
    /// From here on operations count.
    pub(super) measure_from: Instant,
    end: Instant,
    /// Whether it was interrupted, which ends it before its time.
    interrupted: AtomicBool,
}

impl Shared {
    pub(super) fn new(plan: &Plan) -> Arc<Self> {
        let start = Instant::now();
        let measure_from = start + plan.warm_up;
        Arc::new(Self {
            plan: plan.clone(),
            tally: Mutex::new(Tally::new()),
            start,
            measure_from,
            end: measure_from + plan.duration,
            interrupted: AtomicBool::new(false),
        })
    }

    pub(super) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something that is done at `now` counts.
    pub(super) fn counts(&self, now: Instant) -> bool {
        now >= self.measure_from && now < self.end
    }

    /// Whether the load ends.
    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.end || self.interrupted.load(Ordering::Relaxed)
    }

    /// What is left of the planned time.
    pub(super) fn left(&self) -> Duration {
        self.end.since(Instant::now())
    }

    /// Shows progress until the end, or until the program is interrupted (SIGINT); CPU time used
    /// while operations counted.
    pub(super) async fn attend(&self) -> Duration {
        let total_ms = u64::try_from(self.plan.duration.as_millis()).unwrap_or(u64::MAX);
        let bar = progress_bar(total_ms, "{elapsed:>4} [{bar:50}] {msg}");
        sleep_until(self.measure_from).await;
        let cpu_before = cpu_time();
        while !self.is_over() {
            tokio::select! {
                () = sleep(PROGRESS.min(self.left())) => {}
                interrupted = ctrl_c() => {
                    self.interrupted.store(interrupted.is_ok(), Ordering::Relaxed);
                }
            }
            let passed = self.measure_from.elapsed();
            bar.set_position(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX));
            bar.set_message(format!("{} done", self.tally().operations()));
        }
        let cpu = cpu_time() - cpu_before;
        bar.finish_and_clear();
        cpu
    }

    /// The report, once nobody counts any more.
    pub(super) fn report(&self, cpu: Duration) -> Report {
        let tally = std::mem::replace(&mut *self.tally(), Tally::new());
        let elapsed = self.measure_from.elapsed().min(self.plan.duration);
        Report::new(self.plan.clone(), tally, elapsed, cpu)
    }
}

/// Runs the load of `plan`.
pub(super) async fn run(plan: &Plan) -> anyhow::Result<Report> {
    let shared = Shared::new(plan);
    let clients: Vec<_> = (0..plan.clients)
        .map(|index| spawn(Client::new(index, Arc::clone(&shared)).run()))
        .collect();
    let cpu = shared.attend().await;
    let report = shared.report(cpu);
    for client in clients {
        client.await?;
    }
    Ok(report)
}

/// When a client's operations are due.
#[derive(Debug)]
pub(super) enum Pace {
    /// The next when the last is done.
    Closed,
    /// The next so long after the last was due.
    Open { due: Instant, interval: Duration },
}

/// One client.
struct Client {
    shared: Arc<Shared>,
    /// Its place among the endpoints; moves on after a failure.
    place: usize,
    connection: Option<Connection>,
    random: Random,
    get: Request,
    put: Request,
    value: Vec<u8>,
    pace: Pace,
}

/// What one operation came to.
enum Done {
    Plain,
    Conditional { is_committed: bool },
}

impl Client {
    fn new(index: usize, shared: Arc<Shared>) -> Self {
        let plan = &shared.plan;
        let host = plan.endpoint(index).address();
        let value = value(plan.value_size);
        let get = Request::get(host, plan.mode == Mode::StaleGet);
        let put = Request::put(host, &value);
        Self {
            place: index,
            connection: None,
            random: Random::new(),
            get,
            put,
            value,
            pace: Pace::new(plan, index, shared.start),
            shared,
        }
    }

    async fn run(mut self) {
        while !self.shared.is_over() {
            let due = self.pace.next().await;
            let limit = self.shared.plan.timeout;
            let outcome = match timeout(limit, self.operate()).await {
                Ok(Ok(Ok(done))) => Ok(done),
                Ok(Ok(Err(refused))) => Err(refused),
                Ok(Err(error)) => Err(describe(&error)),
                Err(_elapsed) => Err(format!("no answer within {} ms", limit.as_millis())),
            };
            self.count(outcome.as_ref(), due, Instant::now());
            if outcome.is_err() {
                self.connection = None;
                self.place += 1;
                sleep(AFTER_FAILURE).await;
            }
        }
    }

    fn count(&self, outcome: Result<&Done, &String>, due: Instant, now: Instant) {
        if !self.shared.counts(now) {
            return;
        }
        let mut tally = self.shared.tally();
        match outcome {
            Ok(done) => {
                tally.done(now.since(due));
                if let Done::Conditional { is_committed } = done {
                    tally.conditional(*is_committed);
                }
            }
            Err(why) => tally.failed(why.clone()),
        }
    }

    /// One operation; the inner error is a refusal.
    async fn operate(&mut self) -> io::Result<Result<Done, String>> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => {
                let endpoint = self.shared.plan.endpoint(self.place);
                none.insert(Connection::open(endpoint).await?)
            }
        };
        let key = self.random.below(self.shared.plan.keys);
        let request = match self.shared.plan.mode {
            Mode::Get | Mode::StaleGet => self.get.about(key),
            Mode::Mixed if self.random.below(10) < READS_OF_TEN => self.get.about(key),
            Mode::Cas => {
                let host = self.shared.plan.endpoint(self.place).address();
                return compare_and_set(connection, &mut self.get, host, key, &self.value).await;
            }
            Mode::Put
            | Mode::Mixed
            | Mode::Watch
            | Mode::Checked
            | Mode::Failover
            | Mode::Freeze
            | Mode::Gap
            | Mode::Transfer
            | Mode::FirstWrite => self.put.about(key),
        };
        let answer = connection.exchange(request).await?;
        Ok(match answer.status {
            200 => Ok(Done::Plain),
            _ => Err(refusal(connection, &answer)),
        })
    }
}

/// Reads a key and writes it over what was read.
async fn compare_and_set(
    connection: &mut Connection,
    get: &mut Request,
    host: &str,
    key: u64,
    value: &[u8],
) -> io::Result<Result<Done, String>> {
    let read = connection.exchange(get.about(key)).await?;
    let revision = match (read.status, read.entity_tag) {
        (200, Some(revision)) => Some(revision),
        (404, _) => None,
        _ => return Ok(Err(refusal(connection, &read))),
    };
    let written = connection.exchange(Request::put_over(host, revision, value).about(key)).await?;
    Ok(match written.status {
        200 => Ok(Done::Conditional { is_committed: true }),
        409 | 412 => Ok(Done::Conditional { is_committed: false }),
        _ => Err(refusal(connection, &written)),
    })
}

impl Pace {
    /// Waits until the next operation is due; when it was.
    pub(super) async fn next(&mut self) -> Instant {
        match self {
            Self::Closed => Instant::now(),
            Self::Open { due, interval } => {
                let this = *due;
                *due += *interval;
                sleep_until(this).await;
                this
            }
        }
    }

    pub(super) fn new(plan: &Plan, index: usize, start: Instant) -> Self {
        let Some(rate) = plan.rate else { return Self::Closed };
        let clients = u32::try_from(plan.clients).unwrap_or(u32::MAX);
        let place = u32::try_from(index).unwrap_or(u32::MAX);
        // Clients take turns, so that the whole is as even as one client would be.
        let between = Duration::from_secs(1) / rate;
        Self::Open { due: start + between * place, interval: between * clients }
    }
}

/// A refusal in few words: status and code.
fn refusal(connection: &Connection, answer: &Answer) -> String {
    let problem = serde_json::from_slice::<serde_json::Value>(connection.body(answer));
    let code = problem.ok().and_then(|problem| Some(problem.get("code")?.as_str()?.to_owned()));
    format!("{} {}", answer.status, code.unwrap_or_default())
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => "connection lost".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(rate: Option<u32>) -> Plan {
        Plan {
            mode: Mode::Put,
            endpoints: vec!["a:1".parse().expect("an endpoint")],
            clients: 4,
            value_size: 0,
            keys: 1,
            duration: Duration::from_secs(1),
            warm_up: Duration::from_millis(500),
            rate,
            timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn an_open_loop_spreads_its_requests_evenly_over_the_clients() {
        let start = Instant::now();
        let mut due: Vec<_> = (0..4)
            .flat_map(|index| match Pace::new(&plan(Some(1_000)), index, start) {
                Pace::Open { due, interval } => [due, due + interval],
                Pace::Closed => panic!("a rate makes an open loop"),
            })
            .collect();
        due.sort_unstable();
        let gaps = due.windows(2).map(|pair| pair[1].since(pair[0]));
        assert!(gaps.into_iter().all(|gap| gap == Duration::from_millis(1)));
    }

    #[test]
    fn only_what_is_done_in_the_measured_time_counts() {
        let shared = Shared::new(&plan(None));
        let at = |ms| shared.start + Duration::from_millis(ms);
        let counted = [499, 500, 1_499, 1_500].map(|ms| shared.counts(at(ms)));
        assert_eq!(counted, [false, true, true, false]);
    }
}
