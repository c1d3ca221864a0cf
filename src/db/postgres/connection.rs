//! Connections to PostgreSQL that wait for their answers.
//!
//! A `Connection` belongs to one thread at a time and brings the little machine that drives it; nothing moves on it
//! while nobody waits, so that a slow reader slows the server down and not the memory up. Every wait ends when
//! somebody asks to stop. Statements are written and answered in UTF-8; COPY data comes as the server keeps it if the
//! statement says so (`ENCODING`).

use super::copy::{CopyIn, CopyOut};
use super::{Address, Tls};
use super::{explain, tls};
use crate::base::{Kind, Stop};
use crate::db::{Error, Result, Watch};
use futures_util::FutureExt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio_postgres::config::{ChannelBinding, SslMode};
use tokio_postgres::{AsyncMessage, CancelToken, Client, Config, NoTls, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

/// A row of an answer: each value as text, none for NULL.
pub type Row = Vec<Option<String>>;

/// How often a wait looks whether somebody asked to stop.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long a good-bye or a cancellation may take.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// A connection without a sign of life is asked after this long, and given up after three such questions.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Notices that are kept.
const MAX_NOTICES: usize = 1000;

/// A session at a server.
pub struct Connection {
    /// There until the connection is dropped, which needs it gone to say good-bye.
    client: Option<Client>,
    driver: Option<JoinHandle<()>>,
    heard: Arc<Mutex<Heard>>,
    tls: MakeRustlsConnect,
    runtime: Runtime,
    stop: Stop,
    address: Address,
    blame: Kind,
}

/// What came without being asked for.
#[derive(Default)]
struct Heard {
    notices: Vec<String>,
    /// Why the connection ended.
    ended: Option<String>,
}

impl Connection {
    /// Logs in at the server of `address`, to `database` or else the one it names.
    pub fn connect(address: &Address, database: Option<&str>, watch: &Watch) -> Result<Connection> {
        let address = database.map_or_else(|| address.clone(), |database| address.with_database(database));
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| address.error(Kind::Internal, format!("cannot wait for the server: {error}")))?;
        let tls = tls::connector(&address)?;
        let heard = Arc::new(Mutex::new(Heard::default()));
        let attempt = log_in(&address, tls.clone(), heard.clone());
        let attempt = tokio_timeout(address.connect_timeout, attempt);
        let (client, driver) = match runtime.block_on(until_stopped(attempt, &watch.stop)) {
            None => return Err(interrupted(&address)),
            Some(None) => return Err(address.error(Kind::Unavailable, explain::timed_out(&address))),
            Some(Some(Err(error))) => return Err(explain::connecting(&address, &error, Kind::Source)),
            Some(Some(Ok(pair))) => pair,
        };
        Ok(Connection {
            client: Some(client),
            driver: Some(driver),
            heard,
            tls,
            runtime,
            stop: watch.stop.clone(),
            address,
            blame: Kind::Source,
        })
    }

    /// The same, as a target: what the server refuses is of kind `Target` then.
    pub fn as_target(self) -> Connection {
        self.blaming(Kind::Target)
    }

    fn blaming(mut self, blame: Kind) -> Connection {
        self.blame = blame;
        self
    }

    /// Where it is connected to; the database is the one it logged in to.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Executes one or more statements and gives the rows of the last that has any.
    pub fn query(&mut self, sql: &str) -> Result<Vec<Row>> {
        let messages = self.wait(self.client().simple_query(sql))?;
        let mut rows = Vec::new();
        for message in messages {
            match message {
                SimpleQueryMessage::RowDescription(_) => rows.clear(),
                SimpleQueryMessage::Row(row) => {
                    let value = |at| row.try_get(at).map(|value| value.map(str::to_owned));
                    let row = (0..row.len()).map(value).collect::<Result<Row, _>>();
                    rows.push(row.map_err(|error| self.failed(&error))?);
                }
                _ => {}
            }
        }
        Ok(rows)
    }

    /// The first value of the first row; none if there is no row or it is NULL.
    pub fn value(&mut self, sql: &str) -> Result<Option<String>> {
        Ok(self.query(sql)?.into_iter().next().and_then(|row| row.into_iter().next().flatten()))
    }

    /// Executes one or more statements and tells how many rows the last of them touched.
    pub fn execute(&mut self, sql: &str) -> Result<u64> {
        let messages = self.wait(self.client().simple_query(sql))?;
        let touched = messages.into_iter().rev().find_map(|message| match message {
            SimpleQueryMessage::CommandComplete(rows) => Some(rows),
            _ => None,
        });
        Ok(touched.unwrap_or(0))
    }

    /// Reads what `COPY … TO STDOUT` gives. The reader ends only if the server said that all is there.
    pub fn copy_out(&mut self, sql: &str) -> Result<CopyOut<'_>> {
        let stream = self.wait(self.client().copy_out(sql))?;
        Ok(CopyOut::new(self, Box::pin(stream)))
    }

    /// Writes what `COPY … FROM STDIN` takes. Nothing is kept unless [`CopyIn::finish`] was called.
    pub fn copy_in(&mut self, sql: &str) -> Result<CopyIn<'_>> {
        let sink = self.wait(self.client().copy_in(sql))?;
        Ok(CopyIn::new(self, Box::pin(sink)))
    }

    /// What the server has mentioned since the last call, oldest first.
    pub fn notices(&mut self) -> Vec<String> {
        std::mem::take(&mut lock(&self.heard).notices)
    }

    /// The number of the server's process for this session.
    pub fn backend(&mut self) -> Result<u32> {
        let pid = self.value("SELECT pg_catalog.pg_backend_pid()")?;
        pid.and_then(|pid| pid.parse().ok()).ok_or_else(|| self.strange("pg_backend_pid() is no number"))
    }

    /// Something with which another thread can end the statement that runs here.
    pub fn canceller(&self) -> Canceller {
        Canceller { token: self.client().cancel_token(), tls: self.tls.clone() }
    }

    /// A failure because of an answer that makes no sense.
    pub fn strange(&self, message: impl Into<String>) -> Error {
        self.address.error(self.blame, message).database(&self.address.database)
    }

    pub(super) fn client(&self) -> &Client {
        self.client.as_ref().expect("only drop takes it")
    }

    /// Waits for an answer. If somebody asks to stop, what runs at the server is cancelled.
    pub(super) fn wait<T>(&self, work: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T> {
        match self.runtime.block_on(until_stopped(work, &self.stop)) {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(error)) => Err(self.failed(&error)),
            None => {
                self.cancel();
                Err(interrupted(&self.address))
            }
        }
    }

    /// Asks the server to end what runs; whether it does shows in the next answer.
    pub(super) fn cancel(&self) {
        let cancel = self.client().cancel_token();
        let _ = self.runtime.block_on(tokio_timeout(LAST_WORDS, cancel.cancel_query(self.tls.clone())));
    }

    fn failed(&self, error: &tokio_postgres::Error) -> Error {
        // The driver knows why the connection ended, but may not have been asked yet.
        let lost = error.is_closed() && self.driver.as_ref().is_some_and(|driver| !driver.is_finished());
        if lost {
            self.runtime.block_on(tokio_timeout(LAST_WORDS, tokio::task::yield_now()));
        }
        let ended = lock(&self.heard).ended.clone();
        explain::statement(&self.address, error, ended.as_deref(), self.blame)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Without its client the driver says good-bye and ends.
        self.client = None;
        if let Some(driver) = self.driver.take() {
            let _ = self.runtime.block_on(tokio_timeout(LAST_WORDS, driver));
        }
    }
}

/// Ends the statement that runs on a connection, from another thread.
pub struct Canceller {
    token: CancelToken,
    tls: MakeRustlsConnect,
}

impl Canceller {
    /// Asks the server to end the statement; says nothing about whether it heard.
    pub fn cancel(&self) {
        if let Ok(runtime) = Builder::new_current_thread().enable_all().build() {
            let _ = runtime.block_on(tokio_timeout(LAST_WORDS, self.token.cancel_query(self.tls.clone())));
        }
    }
}

/// The work of connecting; gives the client and what drives it.
async fn log_in(
    address: &Address,
    tls: MakeRustlsConnect,
    heard: Arc<Mutex<Heard>>,
) -> Result<(Client, JoinHandle<()>), tokio_postgres::Error> {
    let config = config(address);
    // Sockets of this machine are never encrypted.
    if address.is_socket() || address.tls == Tls::Disable {
        let (client, connection) = config.connect(NoTls).await?;
        Ok((client, tokio::spawn(drive(connection, heard))))
    } else {
        let (client, connection) = config.connect(tls).await?;
        Ok((client, tokio::spawn(drive(connection, heard))))
    }
}

fn config(address: &Address) -> Config {
    let mut config = Config::new();
    config.host(&address.host).port(address.port).user(&address.user).dbname(&address.database);
    config.application_name(&address.application_name).connect_timeout(address.connect_timeout);
    config.keepalives(true).keepalives_idle(KEEPALIVE).keepalives_interval(KEEPALIVE).keepalives_retries(3);
    if let Some(host_address) = address.host_address {
        config.hostaddr(host_address);
    }
    if let Some(password) = &address.password {
        config.password(password.expose());
    }
    if let Some(options) = &address.options {
        config.options(options);
    }
    if address.require_channel_binding {
        config.channel_binding(ChannelBinding::Require);
    }
    config.ssl_mode(match address.tls {
        _ if address.is_socket() => SslMode::Disable,
        Tls::Disable => SslMode::Disable,
        Tls::Prefer => SslMode::Prefer,
        Tls::Unverified | Tls::VerifyCa | Tls::VerifyFull => SslMode::Require,
    });
    config
}

/// Moves bytes while somebody waits, and takes down what comes unasked.
async fn drive<S, T>(mut connection: tokio_postgres::Connection<S, T>, heard: Arc<Mutex<Heard>>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    loop {
        match poll_fn(|context| connection.poll_message(context)).await {
            Some(Ok(AsyncMessage::Notice(notice))) => {
                let mut heard = lock(&heard);
                // FATAL notices come when a session is ended from outside.
                if heard.notices.len() < MAX_NOTICES {
                    heard.notices.push(format!("{}: {}", notice.severity(), notice.message()));
                }
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                lock(&heard).ended = Some(explain::chain(&error));
                return;
            }
            None => return,
        }
    }
}

/// The outcome of `work`, or none if somebody asked to stop before.
async fn until_stopped<F: Future>(work: F, stop: &Stop) -> Option<F::Output> {
    let mut work = pin!(work);
    loop {
        if stop.raised() {
            return None;
        }
        if let Ok(outcome) = tokio::time::timeout(LOOK_EVERY, &mut work).await {
            return Some(outcome);
        }
    }
}

/// The outcome of `work`, or none if it takes longer.
async fn tokio_timeout<F: Future>(at_most: Duration, work: F) -> Option<F::Output> {
    tokio::time::timeout(at_most, work).map(Result::ok).await
}

pub(super) fn interrupted(address: &Address) -> Error {
    address.error(Kind::Interrupted, "stopped").database(&address.database)
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    // Appending a line cannot leave it half done.
    heard.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
