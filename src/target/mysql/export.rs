//! A dump as one stream of SQL that `mariadb` or `mysql` loads.

use super::COUNTERS;
use crate::base::Kind;
use crate::db::mysql::script::without_sandbox_line;
use crate::db::{Error, Result, Watch};
use crate::format::dump::StreamRole;
use crate::target::dump::{Exported, StoredDump};
use std::io::{self, BufRead, BufReader, Read, Write};

/// What stands before and behind everything, so that the session that loads it is afterwards as it was.
const BEFORE: &str = "/*!40014 SET @KEEPSTONE_UNIQUE_CHECKS=@@UNIQUE_CHECKS, UNIQUE_CHECKS=0 */;\n\
    /*!40014 SET @KEEPSTONE_FOREIGN_KEY_CHECKS=@@FOREIGN_KEY_CHECKS, FOREIGN_KEY_CHECKS=0 */;\n\
    /*!40101 SET @KEEPSTONE_SQL_MODE=@@SQL_MODE, SQL_MODE='NO_AUTO_VALUE_ON_ZERO' */;\n\
    /*!40103 SET @KEEPSTONE_TIME_ZONE=@@TIME_ZONE, TIME_ZONE='+00:00' */;\n\
    /*M!100300 SET system_versioning_alter_history=1 */;\n";
const AFTER: &str = "/*!40103 SET TIME_ZONE=@KEEPSTONE_TIME_ZONE */;\n\
    /*!40101 SET SQL_MODE=@KEEPSTONE_SQL_MODE */;\n\
    /*!40014 SET FOREIGN_KEY_CHECKS=@KEEPSTONE_FOREIGN_KEY_CHECKS */;\n\
    /*!40014 SET UNIQUE_CHECKS=@KEEPSTONE_UNIQUE_CHECKS */;\n-- Dump completed\n";
/// MariaDB's client runs no commands of a shell behind this line. MySQL's does not know it, and stumbles.
const SANDBOX: &str = "/*M!999999\\- enable the sandbox mode */ \n";

/// What makes a client fail that would take the end of its input for the end of the dump; within quotes as well.
const BROKEN: &str = "\n;\nSIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'the dump breaks off here';\n";

/// Writes the streams in the order of a restore: definitions, rows, counters, routines, views. Users are left out. What
/// breaks off ends with an error for whoever loads it.
pub fn sql(stored: &dyn StoredDump, out: &mut dyn Write, watch: &Watch) -> Result<Exported> {
    let written = streams(stored, out, watch);
    if written.is_err() {
        // The failure is told anyway; this is for a client at the other end of a pipe.
        let _ = out.write_all(BROKEN.as_bytes()).and_then(|()| out.flush());
    }
    written
}

fn streams(stored: &dyn StoredDump, out: &mut dyn Write, watch: &Watch) -> Result<Exported> {
    let manifest = stored.manifest();
    let mut exported = Exported::default();
    if manifest.server.product == "MariaDB" {
        write(out, SANDBOX.as_bytes())?;
    }
    write(out, BEFORE.as_bytes())?;
    let roles = [StreamRole::PreData, StreamRole::Data, StreamRole::PostData];
    let mut paths: Vec<&str> =
        roles.iter().flat_map(|role| manifest.streams_of(*role)).map(|stream| stream.path.as_str()).collect();
    // Counters go right behind the rows, and what the session is like with them.
    if let Some(at) = paths.iter().position(|path| *path == COUNTERS) {
        let counters = paths.remove(at);
        let behind = manifest.streams_of(StreamRole::PreData).count() + manifest.streams_of(StreamRole::Data).count();
        paths.insert(behind.min(paths.len()), counters);
    }
    for path in paths {
        if watch.stop.raised() {
            return Err(Error::new("mysql dump", Kind::Interrupted, "stopped"));
        }
        let bytes = copy(stored, path, out)?;
        if let Some(table) = manifest.tables.iter().find(|table| table.stream.as_deref() == Some(path)) {
            exported.add(table, bytes);
        }
    }
    write(out, AFTER.as_bytes())?;
    out.flush().map_err(unwritten)?;
    Ok(exported)
}

fn copy(stored: &dyn StoredDump, path: &str, out: &mut dyn Write) -> Result<u64> {
    let unread = |error: io::Error| {
        Error::new("mysql dump", Kind::of_io(&error), format!("the stream cannot be read: {error}")).object(path)
    };
    let mut reader = BufReader::with_capacity(256 << 10, stored.open(path).map_err(unread)?);
    let mut first = Vec::new();
    // The line is short; another first line may be long.
    (&mut reader).take(1 << 10).read_until(b'\n', &mut first).map_err(unread)?;
    let text = std::str::from_utf8(&first).map_or(&first[..], |text| without_sandbox_line(text).as_bytes());
    write(out, text)?;
    let mut bytes = text.len() as u64;
    loop {
        let ready = reader.fill_buf().map_err(unread)?;
        if ready.is_empty() {
            return Ok(bytes);
        }
        write(out, ready)?;
        let length = ready.len();
        bytes += length as u64;
        reader.consume(length);
    }
}

fn write(out: &mut dyn Write, bytes: &[u8]) -> Result<()> {
    out.write_all(bytes).map_err(unwritten)
}

fn unwritten(error: io::Error) -> Error {
    Error::new("mysql dump", Kind::Target, format!("cannot write the SQL: {error}"))
}
