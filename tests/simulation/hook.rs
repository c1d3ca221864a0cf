//! A store that does something of somebody else's between two requests.

use keepstone::store::{Area, Error, Key, Listed, ObjectStore, Operation, Put, Upload};
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

/// Says of a request by its number, its sort and the path of what it concerns whether this is the moment.
type Moment = Box<dyn FnMut(u64, Operation, &str) -> bool + Send>;
/// What is done then.
type Act = Box<dyn FnOnce() + Send>;

/// Wraps a store; before the request that is the moment, `act` is done.
#[derive(Clone)]
pub struct Hook {
    inner: Arc<dyn ObjectStore>,
    state: Arc<Mutex<State>>,
}

struct State {
    requests: u64,
    moment: Moment,
    act: Option<Act>,
}

impl Hook {
    pub fn new(
        inner: Arc<dyn ObjectStore>,
        moment: impl FnMut(u64, Operation, &str) -> bool + Send + 'static,
        act: impl FnOnce() + Send + 'static,
    ) -> Hook {
        let state = State { requests: 0, moment: Box::new(moment), act: Some(Box::new(act)) };
        Hook { inner, state: Arc::new(Mutex::new(state)) }
    }

    /// Whether the moment has come.
    pub fn has_struck(&self) -> bool {
        self.state.lock().unwrap().act.is_none()
    }

    fn before(&self, operation: Operation, subject: &str) {
        let act = {
            let mut state = self.state.lock().unwrap();
            state.requests += 1;
            let number = state.requests;
            match state.act.is_some() && (state.moment)(number, operation, subject) {
                true => state.act.take(),
                false => None,
            }
        };
        // Not while the state is held: what is done may come here too.
        if let Some(act) = act {
            act();
        }
    }
}

impl ObjectStore for Hook {
    keepstone::store::forward!(inner: location, free_bytes);

    fn put(&self, key: &Key, bytes: &[u8]) -> Result<Put, Error> {
        self.before(Operation::Put, &key.path());
        self.inner.put(key, bytes)
    }
    fn begin(&self) -> Result<Box<dyn Upload>, Error> {
        Ok(Box::new(HookUpload { hook: self.clone(), inner: self.inner.begin()? }))
    }
    fn replace(&self, key: &Key, bytes: &[u8]) -> Result<(), Error> {
        self.before(Operation::Replace, &key.path());
        self.inner.replace(key, bytes)
    }
    fn get(&self, key: &Key, limit_bytes: u64) -> Result<Vec<u8>, Error> {
        self.before(Operation::Get, &key.path());
        self.inner.get(key, limit_bytes)
    }
    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
        self.before(Operation::GetRange, &key.path());
        self.inner.get_range(key, offset, length)
    }
    fn size(&self, key: &Key) -> Result<u64, Error> {
        self.before(Operation::Size, &key.path());
        self.inner.size(key)
    }
    fn list(&self, area: Area, each: &mut dyn FnMut(Listed)) -> Result<(), Error> {
        self.before(Operation::List, area.folder());
        self.inner.list(area, each)
    }
    fn delete(&self, key: &Key) -> Result<(), Error> {
        self.before(Operation::Delete, &key.path());
        self.inner.delete(key)
    }
}

struct HookUpload {
    hook: Hook,
    inner: Box<dyn Upload>,
}

impl Write for HookUpload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Upload for HookUpload {
    fn finish(self: Box<Self>, key: &Key) -> Result<Put, Error> {
        self.hook.before(Operation::Finish, &key.path());
        self.inner.finish(key)
    }
}
