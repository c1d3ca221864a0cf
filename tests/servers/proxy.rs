//! A proxy in front of an HTTP server that does harm on purpose: errors, broken connections, lost answers, cut bodies,
//! slowness, words that the real server never says.
//!
//! One request a connection, both held whole in memory; the server's own connection is closed after each, so that a fate
//! concerns one request and no other.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What becomes of a request.
pub enum Fate {
    /// The server answers.
    Pass,
    /// We answer: status, headers, body. The server never hears of it.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// The connection breaks before the server hears of it.
    Break,
    /// The server does it, and its answer is lost.
    Lose,
    /// The server does it, and half of its answer's body comes.
    Cut,
    /// The server answers after a while.
    Slow(Duration),
    /// The server answers, and this is done to the body; it must stay as long.
    Change(fn(Vec<u8>) -> Vec<u8>),
    /// The server answers, and this is told of the status.
    Seen(Box<dyn FnOnce(u16) -> Option<Fate> + Send>),
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`, `PUT`, …
    pub method: String,
    /// The path with the query.
    pub path: String,
    /// Headers, their names in small letters.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }
}

type Decide = dyn Fn(&Request) -> Fate + Send + Sync;

/// A proxy at work until the test program ends.
pub struct Proxy {
    /// Where it listens.
    pub port: u16,
    book: Arc<Book>,
}

#[derive(Default)]
struct Book {
    seen: Mutex<Vec<Request>>,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
}

impl Proxy {
    /// Listens in front of the server at `server_port`; `decide` says what becomes of each request.
    pub fn before(server_port: u16, decide: impl Fn(&Request) -> Fate + Send + Sync + 'static) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (book, decide): (Arc<Book>, Arc<Decide>) = (Arc::default(), Arc::new(decide));
        let listening = book.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (book, decide) = (listening.clone(), decide.clone());
                // A connection that breaks is what we are for.
                std::thread::spawn(move || drop(serve(client, server_port, &*decide, &book)));
            }
        });
        Proxy { port, book }
    }

    /// The requests that came so far, without their bodies.
    pub fn seen(&self) -> Vec<Request> {
        self.book.seen.lock().unwrap().clone()
    }

    /// The most requests that were at work at once.
    pub fn most_at_once(&self) -> usize {
        self.book.most_at_once.load(Ordering::SeqCst)
    }

    /// An address that leads through it to the same bucket and prefix as `place` does directly.
    pub fn place(&self, place: &str) -> String {
        let rest = place.strip_prefix("s3:http://127.0.0.1:").unwrap();
        let (_, path) = rest.split_once('/').unwrap();
        format!("s3:http://127.0.0.1:{}/{path}", self.port)
    }
}

fn serve(mut client: TcpStream, server_port: u16, decide: &Decide, book: &Book) -> io::Result<()> {
    let request = read_request(&mut client)?;
    book.seen.lock().unwrap().push(Request { body: Vec::new(), ..request.clone() });
    let now = book.at_once.fetch_add(1, Ordering::SeqCst) + 1;
    book.most_at_once.fetch_max(now, Ordering::SeqCst);
    let fate = decide(&request);
    let done = fulfil(&request, fate, server_port);
    // Before the answer: who has it may ask the next thing at once.
    book.at_once.fetch_sub(1, Ordering::SeqCst);
    match done? {
        Some(answer) => client.write_all(&answer),
        None => reset(client),
    }
}

/// What the client gets; nothing at all for a connection that breaks.
fn fulfil(request: &Request, fate: Fate, server_port: u16) -> io::Result<Option<Vec<u8>>> {
    match fate {
        Fate::Pass => ask(request, server_port).map(Some),
        Fate::Answer(status, headers, body) => Ok(Some(answer(request, status, &headers, &body))),
        Fate::Break => Ok(None),
        Fate::Lose => ask(request, server_port).map(|_| None),
        Fate::Cut => ask(request, server_port).map(cut),
        Fate::Slow(time) => {
            std::thread::sleep(time);
            ask(request, server_port).map(Some)
        }
        Fate::Change(change) => {
            let whole = ask(request, server_port)?;
            let (head, body) = whole.split_at(body_of(&whole));
            Ok(Some([head, &change(body.to_vec())].concat()))
        }
        Fate::Seen(judge) => {
            let whole = ask(request, server_port)?;
            let status = String::from_utf8_lossy(&whole[9..12]).parse().unwrap();
            match judge(status) {
                Some(fate) => fulfil(request, fate, server_port),
                None => Ok(Some(whole)),
            }
        }
    }
}

/// The answer without the second half of its body; nothing where there is no body.
fn cut(whole: Vec<u8>) -> Option<Vec<u8>> {
    let body = body_of(&whole);
    let half = body + (whole.len() - body) / 2;
    (half > body).then(|| whole[..half].to_vec())
}

fn body_of(whole: &[u8]) -> usize {
    whole.windows(4).position(|four| four == b"\r\n\r\n").map_or(whole.len(), |at| at + 4)
}

fn answer(request: &Request, status: u16, headers: &[(&'static str, String)], body: &str) -> Vec<u8> {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let body = if request.method == "HEAD" { "" } else { body };
    let length = body.len();
    format!("HTTP/1.1 {status} So\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}").into_bytes()
}

fn ask(request: &Request, server_port: u16) -> io::Result<Vec<u8>> {
    let mut server = TcpStream::connect(("127.0.0.1", server_port))?;
    let mut head = format!("{} {} HTTP/1.1\r\n", request.method, request.path);
    for (name, value) in request.headers.iter().filter(|(name, _)| name != "connection" && name != "expect") {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("connection: close\r\n\r\n");
    server.write_all(head.as_bytes())?;
    server.write_all(&request.body)?;
    let mut whole = Vec::new();
    server.read_to_end(&mut whole)?;
    if whole.len() < 12 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(whole)
}

fn read_request(client: &mut TcpStream) -> io::Result<Request> {
    let mut came = Vec::new();
    let mut piece = [0; 64 << 10];
    while body_of(&came) == came.len() && !came.ends_with(b"\r\n\r\n") {
        match client.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => came.extend_from_slice(&piece[..length]),
        }
    }
    let at = body_of(&came);
    let head = String::from_utf8_lossy(&came[..at]).into_owned();
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
    let mut request = Request { method, path, headers, body: came.split_off(at) };
    if request.header("expect").is_some() {
        client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let length: usize = request.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let have = request.body.len();
    request.body.resize(length.max(have), 0);
    client.read_exact(&mut request.body[have..])?;
    Ok(request)
}

/// Closes with a reset, as a machine does that was switched off and on.
fn reset(client: TcpStream) -> io::Result<()> {
    rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO))?;
    Ok(())
}

/// An error as S3 says it.
pub fn error(status: u16, code: &str, message: &str) -> Fate {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>\
         <RequestId>4442587FB7D0A2F9</RequestId><HostId>host</HostId></Error>"
    );
    Fate::Answer(status, vec![("Content-Type", "application/xml".to_owned())], body)
}

/// Harm of every sort to so many of a hundred requests, drawn from `seed`.
pub fn faults(seed: u64, of_hundred: u64) -> impl Fn(&Request) -> Fate + Send + Sync + 'static {
    let state = Mutex::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    move |_| {
        let mut state = state.lock().unwrap();
        let mut below = |bound: u64| {
            *state ^= *state << 13;
            *state ^= *state >> 7;
            *state ^= *state << 17;
            (*state >> 16) % bound
        };
        if below(100) >= of_hundred {
            return Fate::Pass;
        }
        match below(7) {
            0 => error(500, "InternalError", "We encountered an internal error. Please try again."),
            1 => error(503, "SlowDown", "Please reduce your request rate."),
            2 => Fate::Answer(502, Vec::new(), "<html>Bad Gateway</html>".to_owned()),
            3 => Fate::Break,
            4 => Fate::Lose,
            5 => Fate::Cut,
            _ => Fate::Slow(Duration::from_millis(50)),
        }
    }
}
