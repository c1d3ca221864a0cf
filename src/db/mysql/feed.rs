//! SQL into the client program: how streams of a dump go back.
//!
//! The client runs in its binary mode: it takes bytes as they are and knows no commands of its own but `DELIMITER`, so
//! that nothing in a dump can make it run a shell or read a file. What was fed is committed only when the whole stream
//! was fed: a stream that cannot be read to its end, or lacks its last line, leaves no rows behind.

use super::script::is_complete;
use super::{Session, explain};
use crate::base::{Kind, Stop};
use crate::db::Result;
use std::io::{self, Read, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How much is fed at once.
const PIECE_BYTES: usize = 256 << 10;
/// The last line of a dump is looked for in so many bytes.
const END_BYTES: usize = 256;
/// How often somebody looks whether to stop while the client is busy.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What every session of a restore is like: as dump programs have it. `system_versioning_alter_history` lets the counter of
/// a table be set that keeps its history. A table whose engine is not there is not made with another one, unless the text
/// says so itself.
const SESSION: &str = "--init-command=SET SESSION autocommit=0, foreign_key_checks=0, unique_checks=0, \
    /*M!100300 system_versioning_alter_history=1, */ time_zone='+00:00', sql_mode='NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION'";

/// Whether a stream must end with the last line of a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It must.
    Trailer,
    /// Any end is good.
    Any,
}

/// Feeds all of `source` to a client on the session's database and commits. A failure names the line of the stream.
pub fn feed(session: &Session, source: &mut (dyn Read + Send), ending: Ending) -> Result<u64> {
    let program = session.client().args(["--batch", "--binary-mode", "--unbuffered", SESSION]).with_input();
    // Raised if the source fails, so that the client does not take what it has got for all there is.
    let stop = Stop::new();
    let mut child = session.start_with(program, &stop)?;
    let (mut input, output) = (child.take_input(), child.take_output());
    let failed: Mutex<Option<io::Error>> = Mutex::new(None);
    let fed = Mutex::new(0_u64);
    let over = AtomicBool::new(false);
    let ended = std::thread::scope(|scope| {
        scope.spawn(|| {
            let Some(pipe) = &mut input else { return };
            match pour(source, pipe, ending) {
                Ok(bytes) => *lock(&fed) = bytes,
                Err(Poured::Source(error)) => {
                    *lock(&failed) = Some(error);
                    stop.raise();
                }
                // The client's own words say why it does not listen any more.
                Err(Poured::Client) => {}
            }
            if !stop.raised() {
                input = None;
            }
        });
        scope.spawn(|| {
            if let Some(mut output) = output {
                let _ = io::copy(&mut output, &mut io::sink());
            }
        });
        let guard = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                if session.stop().raised() {
                    stop.raise();
                }
                std::thread::park_timeout(LOOK_EVERY);
            }
        });
        let ended = child.finish();
        over.store(true, Ordering::Relaxed);
        // Small tables are many: nobody waits for a look that is not needed any more.
        guard.thread().unpark();
        ended
    });
    if let Some(error) = lock(&failed).take() {
        return Err(session.error(Kind::of_io(&error), format!("the stream cannot be read: {error}")));
    }
    let ended = ended.map_err(|error| session.error(Kind::Unavailable, error.to_string()))?;
    if ended.stopped || session.stop().raised() {
        return Err(session.error(Kind::Interrupted, "stopped"));
    }
    match ended.status.success() {
        true => Ok(*lock(&fed)),
        false => Err(explain::failure(session.address(), &ended.errors, session.otherwise())),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Whole values are put in: nothing can be half done.
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Why not all was poured.
enum Poured {
    Source(io::Error),
    Client,
}

fn pour(source: &mut dyn Read, pipe: &mut impl Write, ending: Ending) -> std::result::Result<u64, Poured> {
    let mut piece = vec![0; PIECE_BYTES];
    let mut end: Vec<u8> = Vec::new();
    let mut bytes = 0;
    loop {
        let length = match source.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Poured::Source(error)),
        };
        end.extend_from_slice(&piece[length.saturating_sub(END_BYTES)..length]);
        let excess = end.len().saturating_sub(END_BYTES);
        end.drain(..excess);
        pipe.write_all(&piece[..length]).map_err(|_| Poured::Client)?;
        bytes += length as u64;
    }
    if ending == Ending::Trailer && !is_complete(&end) {
        let message = "it ends without the last line of a dump: it was cut off";
        return Err(Poured::Source(io::Error::new(io::ErrorKind::UnexpectedEof, message)));
    }
    pipe.write_all(b"\nCOMMIT;\n").and_then(|()| pipe.flush()).map_err(|_| Poured::Client)?;
    Ok(bytes)
}
