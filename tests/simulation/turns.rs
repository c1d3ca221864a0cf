//! Who goes on when, as it is written down: one client works until it is about to make a certain request, then another.
//!
//! Each client runs on a thread of its own with the program's real code, and nobody makes a request while it is somebody
//! else's turn. Within a turn time stands still; a minute passes from one to the next.

use super::gate::{Fate, Order, matters, unavailable};
use keepstone::base::Clock;
use keepstone::store::{Error, Operation};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// A request at which a client stops: it is not made before the client's next turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The one of this number since the turn began, counted from 1, of those that change something or list.
    Step(u64),
    /// The same, of all: what is read counts too.
    Request(u64),
    /// The first that stores something whose path begins so.
    Puts(&'static str),
    /// The first after something was stored whose path begins so.
    HasPut(&'static str),
    /// The first that deletes something whose path begins so.
    Deletes(&'static str),
    /// The first that lists this area.
    Lists(&'static str),
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// A client works until a moment, or to its end.
    Until(usize, Moment),
    /// A client works to its end.
    End(usize),
    /// A client's process is gone, wherever it was: whatever else it asks for fails.
    Crash(usize),
    /// Time passes for all.
    Hours(u64),
    /// The store's clock jumps ahead, and nobody else's.
    StoreHours(u64),
}

impl Turn {
    fn client(self) -> Option<usize> {
        match self {
            Turn::Until(client, _) | Turn::End(client) => Some(client),
            _ => None,
        }
    }
}

/// The clocks of a world.
#[derive(Clone)]
pub struct Clocks {
    /// The clients'.
    pub own: Clock,
    /// The store's.
    pub store: Clock,
}

impl Clocks {
    /// Both go on by so many seconds.
    pub fn pass(&self, seconds: u64) {
        let length = Duration::from_secs(seconds);
        self.own.advance(length);
        self.store.advance(length);
    }
}

#[derive(Clone, Default)]
struct Client {
    finished: bool,
    crashed: bool,
    /// Requests under way.
    under_way: u32,
    /// Requests in this turn: those that change or list, and all.
    steps: u64,
    requests: u64,
    /// What it has put in this turn.
    put: Vec<String>,
}

struct State {
    turns: VecDeque<Turn>,
    clients: Vec<Client>,
    /// The turns that ended at their moments, and not because the client had come to its end before.
    struck: Vec<Turn>,
    trace: Vec<String>,
}

/// Shared by all clients of one run.
pub struct Turns {
    state: Mutex<State>,
    changed: Condvar,
    clocks: Clocks,
}

impl Turns {
    /// Whoever is not finished when all turns are over works to its end, in order.
    pub fn new(clients: usize, turns: &[Turn], clocks: Clocks) -> Arc<Turns> {
        let clients = vec![Client::default(); clients];
        let turns = turns.iter().copied().collect();
        let state = State { turns, clients, struck: Vec::new(), trace: Vec::new() };
        let turns = Turns { state: Mutex::new(state), changed: Condvar::new(), clocks };
        turns.settle(&mut turns.state(), true);
        Arc::new(turns)
    }

    /// Waits for the client's first turn.
    pub fn begin(&self, client: usize) {
        let waits = |state: &mut State| !state.clients[client].crashed && !state.may_go(client);
        drop(self.changed.wait_while(self.state(), waits).unwrap());
    }

    /// The client does nothing more.
    pub fn finish(&self, client: usize) {
        let mut state = self.state();
        state.clients[client].finished = true;
        self.settle(&mut state, false);
        self.changed.notify_all();
    }

    pub fn has_crashed(&self, client: usize) -> bool {
        self.state().clients[client].crashed
    }

    /// The turns that ended at their moments, and not because the client had come to its end before.
    pub fn struck(&self) -> Vec<Turn> {
        self.state().struck.clone()
    }

    pub fn note(&self, line: String) {
        self.state().trace.push(line);
    }

    /// What happened, the latest last.
    pub fn trace(&self) -> Vec<String> {
        self.state().trace.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Does what needs no client, until it is somebody's turn who has something left to do. `begins`: whatever comes next
    /// is a new turn.
    fn settle(&self, state: &mut State, mut begins: bool) {
        loop {
            match state.turns.front().copied() {
                Some(Turn::Hours(hours)) => self.clocks.pass(hours * 3600),
                Some(Turn::StoreHours(hours)) => self.clocks.store.advance(Duration::from_secs(hours * 3600)),
                Some(Turn::Crash(client)) => state.clients[client].crashed = true,
                Some(turn) => match turn.client() {
                    Some(client) if !state.is_over(client) => {
                        if begins {
                            self.clocks.pass(60);
                            state.begin_turn(client);
                        }
                        return;
                    }
                    _ => {}
                },
                None => match (0..state.clients.len()).find(|client| !state.is_over(*client)) {
                    Some(client) => {
                        state.turns.push_back(Turn::End(client));
                        begins = true;
                        continue;
                    }
                    None => return,
                },
            }
            if let Some(turn) = state.turns.pop_front() {
                state.trace.push(format!("-- {turn:?} is over"));
            }
            begins = true;
        }
    }
}

impl State {
    fn is_over(&self, client: usize) -> bool {
        self.clients[client].finished || self.clients[client].crashed
    }

    fn begin_turn(&mut self, client: usize) {
        let client = &mut self.clients[client];
        (client.steps, client.requests) = (0, 0);
        client.put.clear();
    }

    /// Whether it is the client's turn and nobody else's requests are still under way.
    fn may_go(&self, client: usize) -> bool {
        let others = self.clients.iter().enumerate().filter(|(other, _)| *other != client);
        self.turns.front().and_then(|turn| turn.client()) == Some(client)
            && others.map(|(_, other)| other.under_way).sum::<u32>() == 0
    }

    /// Counts a request in this turn, and says whether it is the moment at which the turn ends.
    fn ends_turn(&mut self, client: usize, operation: Operation, subject: &str) -> bool {
        let one = &mut self.clients[client];
        one.requests += 1;
        let is_step = operation.changes() || operation == Operation::List;
        one.steps += u64::from(is_step);
        let Some(Turn::Until(_, moment)) = self.turns.front() else { return false };
        let stores = matches!(operation, Operation::Put | Operation::Finish);
        match moment {
            Moment::Step(number) => is_step && one.steps == *number,
            Moment::Request(number) => one.requests == *number,
            Moment::Puts(path) => stores && subject.starts_with(path),
            Moment::HasPut(path) => one.put.iter().any(|put| put.starts_with(path)),
            Moment::Deletes(path) => operation == Operation::Delete && subject.starts_with(path),
            Moment::Lists(folder) => operation == Operation::List && subject == *folder,
        }
    }
}

impl Order for Turns {
    fn enter(&self, client: usize, operation: Operation, subject: &str) -> Result<Fate, Error> {
        let mut state = self.state();
        // A request ends one turn at most: then it is made in the next.
        let mut counted = !matters(subject);
        loop {
            if state.clients[client].crashed {
                return Err(unavailable(operation, subject, "it has crashed"));
            }
            if !state.may_go(client) {
                state = self.changed.wait(state).unwrap();
                continue;
            }
            if std::mem::replace(&mut counted, true) || !state.ends_turn(client, operation, subject) {
                break;
            }
            if let Some(turn) = state.turns.pop_front() {
                state.trace.push(format!("-- {turn:?} struck before {operation:?} {subject}"));
                state.struck.push(turn);
            }
            self.settle(&mut state, true);
            self.changed.notify_all();
        }
        state.clients[client].under_way += 1;
        if matters(subject) {
            state.trace.push(format!("{client} {operation:?} {subject}"));
        }
        Ok(Fate::Goes)
    }

    fn leave(&self, client: usize, operation: Operation, subject: &str) {
        let mut state = self.state();
        let one = &mut state.clients[client];
        one.under_way -= 1;
        if matches!(operation, Operation::Put | Operation::Finish) {
            one.put.push(subject.to_owned());
        }
        self.changed.notify_all();
    }
}
