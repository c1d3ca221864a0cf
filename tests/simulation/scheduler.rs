//! One request at a time: a scheduler that lets clients make their requests in an order that a seed decides.
//!
//! Each client runs on a thread of its own with the program's real code, and waits at each request until it is its turn.
//! Between two requests only one client runs. When all sleep, the clock jumps to whoever wakes up first.

use super::gate::{Fate, Order, matters, unavailable};
use keepstone::base::Clock;
use keepstone::store::{Error, Operation};
use std::cell::Cell;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// Random numbers that a seed decides: xorshift64*.
#[derive(Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..8 {
            dice.next();
        }
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 16) % end.max(1)
    }

    /// True so many times in a thousand.
    pub fn chance(&mut self, in_thousand: u64) -> bool {
        self.below(1000) < in_thousand
    }
}

/// What may happen to the requests of a client, in so many of a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fortune {
    /// It does nothing and fails.
    pub fails: u64,
    /// A change takes effect and its answer is lost.
    pub loses: u64,
    /// The client stops for ever, before or after it.
    pub crashes: u64,
    /// The client sleeps for more than a day before it.
    pub sleeps: u64,
}

struct Client {
    fortune: Fortune,
    wakes_ns: i64,
    waiting: bool,
    finished: bool,
    crashed: bool,
    slept: bool,
    hurt: bool,
    clock: Clock,
}

struct State {
    dice: Dice,
    clients: Vec<Client>,
    granted: Option<usize>,
    running: bool,
    trace: Vec<String>,
}

/// Shared by all clients of one schedule.
pub struct Scheduler {
    state: Mutex<State>,
    changed: Condvar,
    clock: Clock,
}

thread_local! {
    /// Whether this thread is a client's own, not one that its work has started.
    static MAIN: Cell<bool> = const { Cell::new(false) };
}

fn now_ns(clock: &Clock) -> i64 {
    clock.now().as_nanosecond() as i64
}

impl Scheduler {
    pub fn new(seed: u64, clock: Clock, fortunes: &[(Fortune, Clock)]) -> Arc<Scheduler> {
        let client = |(fortune, clock): &(Fortune, Clock)| Client {
            fortune: *fortune,
            wakes_ns: 0,
            waiting: false,
            finished: false,
            crashed: false,
            slept: false,
            hurt: false,
            clock: clock.clone(),
        };
        let clients = fortunes.iter().map(client).collect();
        let state = State { dice: Dice::new(seed), clients, granted: None, running: false, trace: Vec::new() };
        Arc::new(Scheduler { state: Mutex::new(state), changed: Condvar::new(), clock })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Makes this thread the one of a client, and waits for its first turn.
    pub fn begin(&self, client: usize) {
        MAIN.set(true);
        drop(self.turn(client, 0));
    }

    /// Lets time pass for a client that does nothing.
    pub fn rest(&self, client: usize, hours: u64) {
        let state = self.state();
        if !state.clients[client].crashed {
            drop(state);
            drop(self.turn(client, hours as i64 * 3600 * 1_000_000_000));
        }
    }

    /// Waits for the client's turn, not before some time has passed.
    fn turn(&self, client: usize, pause_ns: i64) -> MutexGuard<'_, State> {
        let mut state = self.state();
        let now = now_ns(&self.clock);
        state.clients[client].waiting = true;
        state.clients[client].wakes_ns = now + pause_ns;
        state.running = false;
        self.choose(&mut state);
        state = self.changed.wait_while(state, |state| state.granted != Some(client)).unwrap();
        state.granted = None;
        state.running = true;
        state.clients[client].waiting = false;
        state
    }

    /// Chooses who goes on, once nobody runs and all who have not finished wait.
    fn choose(&self, state: &mut State) {
        if state.running || state.granted.is_some() || !state.clients.iter().all(|one| one.waiting || one.finished) {
            return;
        }
        loop {
            let now = now_ns(&self.clock);
            let waiting: Vec<usize> = (0..state.clients.len()).filter(|one| state.clients[*one].waiting).collect();
            let awake: Vec<usize> = waiting.iter().copied().filter(|one| state.clients[*one].wakes_ns <= now).collect();
            if awake.is_empty() {
                let Some(first) = waiting.iter().map(|one| state.clients[*one].wakes_ns).min() else { return };
                self.advance(state, (first - now).max(0));
                continue;
            }
            let chosen = awake[state.dice.below(awake.len() as u64) as usize];
            let seconds = 1 + state.dice.below(40) as i64;
            self.advance(state, seconds * 1_000_000_000);
            if state.dice.chance(state.clients[chosen].fortune.sleeps) {
                let hours = 25 + state.dice.below(60) as i64;
                state.clients[chosen].wakes_ns = now + hours * 3600 * 1_000_000_000;
                state.clients[chosen].slept = true;
                state.trace.push(format!("{chosen} sleeps for {hours} hours"));
                continue;
            }
            state.granted = Some(chosen);
            self.changed.notify_all();
            return;
        }
    }

    fn advance(&self, state: &State, by_ns: i64) {
        let by = Duration::from_nanos(by_ns as u64);
        self.clock.advance(by);
        state.clients.iter().for_each(|client| client.clock.advance(by));
    }

    /// The client does nothing more.
    pub fn finish(&self, client: usize) {
        let mut state = self.state();
        state.clients[client].finished = true;
        state.running = false;
        self.choose(&mut state);
    }

    /// Whether the client slept, or one of its requests failed, since it was asked last.
    pub fn was_hurt(&self, client: usize) -> bool {
        let mut state = self.state();
        let client = &mut state.clients[client];
        std::mem::take(&mut client.slept) | std::mem::take(&mut client.hurt) | client.crashed
    }

    pub fn has_crashed(&self, client: usize) -> bool {
        self.state().clients[client].crashed
    }

    pub fn note(&self, line: String) {
        self.state().trace.push(line);
    }

    /// What happened, the latest last.
    pub fn trace(&self) -> Vec<String> {
        self.state().trace.clone()
    }
}

impl Order for Scheduler {
    fn enter(&self, client: usize, operation: Operation, subject: &str) -> Result<Fate, Error> {
        if self.has_crashed(client) {
            return Err(unavailable(operation, subject, "it has crashed"));
        }
        // Threads that a client has started read beside it; only what changes something has its turn.
        let alone = MAIN.get() || operation.changes();
        if !alone || !matters(subject) {
            return Ok(Fate::Goes);
        }
        let mut state = self.turn(client, 0);
        let fate = fate(&mut state, client, operation);
        let word = match fate {
            Fate::Goes => "",
            Fate::Fails => " (fails)",
            Fate::Loses => " (answer lost)",
            Fate::Crashes { .. } => " (crashes)",
        };
        state.trace.push(format!("{client} {operation:?} {subject}{word}"));
        state.clients[client].hurt |= fate != Fate::Goes;
        state.clients[client].crashed |= matches!(fate, Fate::Crashes { .. });
        Ok(fate)
    }

    fn leave(&self, _: usize, _: Operation, _: &str) {}
}

fn fate(state: &mut State, client: usize, operation: Operation) -> Fate {
    let fortune = state.clients[client].fortune;
    let dice = &mut state.dice;
    if dice.chance(fortune.crashes) {
        return Fate::Crashes { after: dice.chance(500) };
    }
    if dice.chance(fortune.fails) {
        return Fate::Fails;
    }
    if operation.changes() && dice.chance(fortune.loses) {
        return Fate::Loses;
    }
    Fate::Goes
}
