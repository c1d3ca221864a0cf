//! Files that already are dumps, back to PostgreSQL: archives through `pg_restore`, SQL through `psql`.
//!
//! Either is all or nothing: one transaction, ended by the first error. SQL is a program that runs with the rights of the
//! role that restores it; whoever asks for that trusts the file. Even so `psql` runs in its restricted mode, in which it
//! takes no commands of its own, so that a name in a dump cannot run a shell (CVE-2025-8714).

use super::place::{NewDatabase, connect_for_databases, held_fast, holds_fast};
use super::plan::OBJECTS;
use super::programs::{From, PgRestore, is_ahead};
use super::{Destination, Target};
use crate::base::child::Ended;
use crate::base::{Kind, random};
use crate::db::postgres::facts::ServerFacts;
use crate::db::postgres::{Address, Connection, Tool, Tools, literal};
use crate::db::{Error, Result, Watch};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};

/// How much is fed to `psql` at once.
const PIECE_BYTES: usize = 256 << 10;
/// A dump that restricts `psql` by itself does so within so many bytes.
/// What lifts a restriction of `psql`. A value with it in it is refused as well: better than to follow all that `psql` knows.
const UNRESTRICT: &[u8] = b"\\unrestrict";
/// Longer lines are nothing that matters here.
const LINE_BYTES: usize = 256;
const OPENING_BYTES: usize = 4096;
/// The most of its words that a message repeats, in characters.
const SAID_LETTERS: usize = 600;

/// What a dump is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An archive of `pg_dump`, in custom or in tar format.
    Archive,
    /// SQL of `pg_dump`.
    Sql,
}

/// What the restore of an imported dump needs and found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Product and version of the server.
    pub server: String,
    /// The program that restores: `pg_restore 15.18`, `psql 15.18`.
    pub client: String,
    tools: Tools,
    version_number: u32,
}

/// What became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Whether the database was made.
    pub created: bool,
    /// Whether one was there and was dropped.
    pub replaced: bool,
    /// What somebody should know.
    pub notes: Vec<String>,
    /// The database that was replaced, if it could not be dropped, and why.
    pub left_behind: Option<String>,
}

/// Looks at the server and the programs; writes nothing.
pub fn check(target: &Target, form: Form, watch: &Watch) -> Result<Ready> {
    let address = &target.address;
    let mut connection = match target.options.destination {
        Destination::Existing => Connection::connect(address, None, watch)?.as_target(),
        Destination::Create | Destination::Replace => connect_for_databases(address, watch)?,
    };
    let server = ServerFacts::read(&mut connection)?;
    if server.standby {
        let message = "it is a standby, which takes no writes; give the address of the primary server";
        return Err(address.error(Kind::Target, message));
    }
    let sql = format!("SELECT 1 FROM pg_catalog.pg_database WHERE datname = {}", literal(&address.database));
    let exists = connection.value(&sql)?.is_some();
    if exists && target.options.destination == Destination::Create {
        let message = "there is such a database already; leave --create out to restore into it";
        return Err(address.error(Kind::Refused, message).database(&address.database));
    }
    if exists
        && target.options.destination == Destination::Replace
        && let Some(by) = holds_fast(&mut connection, &address.database, server.version_number)?
    {
        return Err(held_fast(address, &by));
    }
    let programs = &target.programs;
    let tools = Tools::find(server.version_number, programs.folder.as_deref(), &programs.surroundings, watch)
        .map_err(|error| address.lacks_tools(error))?;
    if let (Form::Sql, Some(warning)) = (form, tools.warning()) {
        let message = format!("SQL is not fed to a program with known holes: {warning}");
        return Err(address.error(Kind::Refused, message));
    }
    let name = if form == Form::Sql { Tool::Psql } else { Tool::Restore }.name();
    if !tools.path(if form == Form::Sql { Tool::Psql } else { Tool::Restore }).is_file() {
        let message = format!("{name} is missing; install the client programs (postgresql-client)");
        return Err(address.error(Kind::Unsupported, message));
    }
    let client = format!("{name} {}.{}", tools.major, tools.minor);
    Ok(Ready { server: format!("PostgreSQL {}", server.version), client, tools, version_number: server.version_number })
}

/// Something that the database holds already, if it is not to be made.
pub fn held(target: &Target, watch: &Watch) -> Result<Option<String>> {
    match target.options.destination {
        Destination::Existing => Connection::connect(&target.address, None, watch)?.as_target().value(OBJECTS),
        Destination::Create | Destination::Replace => Ok(None),
    }
}

/// Restores what `content` gives.
pub fn restore<'c>(
    target: &Target,
    ready: &Ready,
    form: Form,
    content: Box<dyn Read + Send + 'c>,
    watch: &Watch,
) -> Result<Done> {
    let address = &target.address;
    if target.options.destination == Destination::Existing {
        fill(target, ready, address, form, content, watch)?;
        return Ok(Done { notes: analyze(target, address, watch), ..Done::default() });
    }
    let replaced = target.options.destination == Destination::Replace && exists(address, watch)?;
    let new = NewDatabase::create(address, &BTreeMap::new(), None, ready.version_number, watch)?;
    if let Err(error) = fill(target, ready, new.address(), form, content, watch) {
        return Err(new.give_up(error));
    }
    let notes = analyze(target, new.address(), watch);
    let left_behind = new.put_in_place(replaced)?;
    Ok(Done { created: true, replaced, notes, left_behind })
}

fn exists(address: &Address, watch: &Watch) -> Result<bool> {
    let sql = format!("SELECT 1 FROM pg_catalog.pg_database WHERE datname = {}", literal(&address.database));
    Ok(connect_for_databases(address, watch)?.value(&sql)?.is_some())
}

fn fill<'c>(
    target: &Target,
    ready: &Ready,
    address: &Address,
    form: Form,
    content: Box<dyn Read + Send + 'c>,
    watch: &Watch,
) -> Result<()> {
    match form {
        Form::Archive => {
            let (tools, options) = (&ready.tools, &target.options);
            let is_ahead = is_ahead(tools.major, ready.version_number / 10_000);
            let program = PgRestore { tools, address, options, without_tablespaces: true, is_ahead, watch };
            program.fed(None, From::Stream(content), true)
        }
        Form::Sql => {
            let is_in_place = target.options.destination == Destination::Existing;
            psql(&ready.tools, address, content, is_in_place, watch)
        }
    }
}

/// Statistics are no part of a dump. That they cannot be gathered is no reason to call a restore failed.
fn analyze(target: &Target, address: &Address, watch: &Watch) -> Vec<String> {
    if !target.options.analyze {
        return Vec::new();
    }
    let done = Connection::connect(address, None, watch).and_then(|mut connection| connection.execute("ANALYZE"));
    done.err().map(|error| format!("no statistics were gathered: {error}")).into_iter().collect()
}

/// Feeds SQL to `psql`. It sees the end of its input only after all was fed: at an end it would commit.
fn psql<'c>(
    tools: &Tools,
    address: &Address,
    mut content: Box<dyn Read + Send + 'c>,
    is_in_place: bool,
    watch: &Watch,
) -> Result<()> {
    let options = ["--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1"];
    let program = tools.program(Tool::Psql, address, &address.database).args(options);
    let program = program.args(["--output=/dev/null", "--file=-"]).with_input();
    let failed = |what: &str, cause: io::Error| {
        address.error(Kind::Unsupported, format!("cannot {what} psql: {cause}")).database(&address.database)
    };
    let stop = watch.stop.child();
    let mut commits = false;
    let mut child = program.start(&stop).map_err(|cause| failed("start", cause))?;
    let mut input = child.take_input();
    let (fed, ended) = std::thread::scope(|scope| {
        let feeder = scope.spawn(|| {
            let Some(pipe) = &mut input else { return Ok(()) };
            let fed = pour(&mut *content, pipe, &mut commits);
            match &fed {
                Ok(()) => input = None,
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                Err(_) => stop.raise(),
            }
            fed
        });
        let ended = child.finish();
        let fed = feeder.join().unwrap_or_else(|_| Err(io::Error::other("the thread that feeds it panicked")));
        (fed, ended)
    });
    judge(address, fed, ended.map_err(|cause| failed("wait for", cause))?, watch).map_err(|error| {
        let kept = match (is_in_place, commits) {
            (true, false) => "; nothing was kept",
            (true, true) => {
                "; the dump has a COMMIT of its own, and what comes before it was kept: empty the database before the next \
                 attempt"
            }
            (false, _) => "",
        };
        Error { message: format!("{}{kept}", error.message), ..error }
    })
}

/// What a script does besides SQL, looked at while it passes.
#[derive(Default)]
struct Script {
    /// It ends transactions itself, as `pg_dump` does behind large objects: then not all of it is one.
    commits: bool,
    /// The key with which it restricts `psql` itself, and lifts that at its end.
    key: Option<Vec<u8>>,
    /// The line so far, as much as may matter.
    line: Vec<u8>,
    /// How often the lifting of a restriction occurs anywhere, and how often as a line of its own with the key.
    liftings: usize,
    ends: usize,
    /// The last bytes, in which it may begin.
    tail: Vec<u8>,
    /// Something stands behind the end, or lifts the restriction elsewhere.
    is_foreign: bool,
}

impl Script {
    /// One that begins like this. Its own restriction counts if nothing comes before but comments.
    fn of(opening: &[u8]) -> Script {
        let opening = opening.strip_prefix(b"\xef\xbb\xbf").unwrap_or(opening);
        let lines = opening.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
        let mut lines = lines.filter(|line| !line.is_empty() && !line.starts_with(b"--"));
        let key = lines.next().and_then(|line| line.strip_prefix(b"\\restrict "));
        let key = key.filter(|key| !key.is_empty() && key.iter().all(u8::is_ascii_alphanumeric));
        Script { key: key.map(<[u8]>::to_vec), ..Script::default() }
    }

    fn look(&mut self, piece: &[u8]) {
        let lifting = self.key.as_ref().map(|key| [UNRESTRICT, b" ", key].concat());
        for (number, part) in piece.split(|byte| *byte == b'\n').enumerate() {
            if number > 0 {
                self.end_line(lifting.as_deref());
            }
            self.line.extend(part.iter().take(LINE_BYTES.saturating_sub(self.line.len())));
        }
        let Some(lifting) = lifting else { return };
        let seen = [&self.tail[..], piece].concat();
        let begins = seen.iter().enumerate().filter(|(_, byte)| **byte == b'\\');
        self.liftings += begins.filter(|(at, _)| seen[*at..].starts_with(UNRESTRICT)).count();
        self.tail = seen[seen.len().saturating_sub(UNRESTRICT.len() - 1)..].to_vec();
        let line = self.line.trim_ascii_end();
        let is_coming = line.starts_with(UNRESTRICT) && lifting.starts_with(line);
        self.is_foreign |= self.liftings != self.ends + usize::from(is_coming);
        self.is_foreign |= self.ends > 0 && !line.is_empty() && !line.starts_with(b"-");
    }

    fn end_line(&mut self, lifting: Option<&[u8]>) {
        let line = self.line.trim_ascii();
        self.commits |= line.eq_ignore_ascii_case(b"COMMIT;");
        self.is_foreign |= self.ends > 0 && !line.is_empty() && !line.starts_with(b"--");
        self.ends += usize::from(Some(line) == lifting);
        self.line.clear();
    }
}

/// All of a dump, in restricted mode unless it sees to that itself. What would lift that before the end, or stands behind it,
/// never reaches `psql`.
fn pour(content: &mut dyn Read, pipe: &mut impl Write, commits: &mut bool) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    let mut opening = Vec::new();
    content.take(OPENING_BYTES as u64).read_to_end(&mut opening)?;
    let mut script = Script::of(&opening);
    let key = random::bytes::<16>().map(|byte| format!("{byte:02x}")).concat();
    if script.key.is_none() {
        writeln!(pipe, "\\restrict {key}")?;
    }
    let mut pass = |bytes: &[u8]| {
        script.look(bytes);
        *commits = script.commits;
        match script.is_foreign {
            true => Err(io::Error::other("it lifts the restriction to SQL before its end, or goes on behind that")),
            false => pipe.write_all(bytes),
        }
    };
    pass(&opening)?;
    loop {
        match content.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => pass(&piece[..length])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    if script.key.is_none() {
        write!(pipe, "\n\\unrestrict {key}\n")?;
    }
    pipe.flush()
}

fn judge(address: &Address, fed: io::Result<()>, ended: Ended, watch: &Watch) -> Result<()> {
    let error = |kind, message: String| -> Error { address.error(kind, message).database(&address.database) };
    if watch.stop.raised() {
        return Err(error(Kind::Interrupted, "stopped".to_owned()));
    }
    match fed {
        Err(cause) if cause.kind() != io::ErrorKind::BrokenPipe => {
            let message = format!("psql could not be fed from the snapshot: {cause}");
            return Err(error(Kind::of_io(&cause), message));
        }
        _ if ended.status.success() => return Ok(()),
        _ => {}
    }
    let words = String::from_utf8_lossy(&ended.errors);
    let said = words.lines().find(|line| line.contains("ERROR:") || line.contains("error:"));
    let said: String = said.unwrap_or(words.trim()).chars().take(SAID_LETTERS).collect();
    let kind = if words.contains("permission denied") { Kind::Denied } else { Kind::Target };
    Err(error(kind, format!("psql failed ({}): {said}", ended.status)))
}
