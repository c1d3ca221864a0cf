//! A server that takes whatever it is told by HTTP, remembers it, and answers as the test wants.

use super::proxy::{Fate, Proxy, Request};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

/// At work until the test program ends.
pub struct Receiver {
    /// Where it listens.
    pub port: u16,
    book: Arc<Mutex<Vec<Request>>>,
    status: Arc<AtomicU16>,
}

impl Receiver {
    /// Answers with 200, and with `location` in a header.
    pub fn start(location: &str) -> Receiver {
        let (book, status): (Arc<Mutex<Vec<Request>>>, Arc<AtomicU16>) =
            (Arc::default(), Arc::new(AtomicU16::new(200)));
        let (written, now, location) = (book.clone(), status.clone(), location.to_owned());
        let proxy = Proxy::before(0, move |request| {
            written.lock().unwrap().push(request.clone());
            let headers = vec![("Location", location.clone())];
            Fate::Answer(now.load(Ordering::SeqCst), headers, "{\"ok\": true}".to_owned())
        });
        Receiver { port: proxy.port, book, status }
    }

    /// From now on it answers with this status.
    pub fn answer(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// What came so far.
    pub fn requests(&self) -> Vec<Request> {
        self.book.lock().unwrap().clone()
    }

    /// An address here.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}
