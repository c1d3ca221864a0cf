//! Being alone: who else is at work on the repository, and fencing those who are not any more.
//!
//! What prune and rebuild do must not happen under somebody's hands. Other sessions are listed after our own mark is
//! there, so of two that want to be alone at least one sees the other.

use super::super::{Context, Error, Result};
use crate::base::clock::Timestamp;
use crate::base::monitor::Event;
use crate::format::session::SessionKind;
use crate::repo::session::{self, OpenSession};
use crate::repo::{Repository, Session};
use crate::store::{Area, Key};

/// A session whose mark the store received this much earlier than ours is taken for dead, wherever it ran. Both
/// times are the store's, so no clock of any machine can make it wrong.
pub const SAFETY_HOURS: i64 = 24;

/// Our own session, and what it found.
pub struct Alone<'r> {
    /// The session.
    pub session: Session<'r>,
    /// When the store received its mark, nanoseconds since 1970 by the store's clock.
    pub stored_ns: i64,
    /// How many dead sessions were fenced.
    pub fenced: u64,
}

/// Begins a session that wants to be alone: fences dead ones, refuses while others live.
pub fn begin<'r>(context: &'r Context, operation: &str) -> Result<Alone<'r>> {
    let session = Session::begin(&context.repository, SessionKind::Pruner, operation)?;
    let open = session::open_sessions(&context.repository)?;
    let own = open.iter().find(|other| other.mark.id == session.id());
    let stored_ns = own.map(|own| own.stored_ns).ok_or_else(|| {
        let problem = "the mark of this very session is not listed: the store does not show what was just written";
        Error::Refused(format!("{problem}, so it cannot be told who else is at work"))
    })?;
    let mut alone = Alone { session, stored_ns, fenced: 0 };
    alone.fence_dead(context, &open)?;
    Ok(alone)
}

impl Alone<'_> {
    /// Looks again; refuses if somebody is at work now.
    pub fn check(&mut self, context: &Context) -> Result<()> {
        let open = session::open_sessions(&context.repository)?;
        self.fence_dead(context, &open)
    }

    fn fence_dead(&mut self, context: &Context, open: &[OpenSession]) -> Result<()> {
        let others = open.iter().filter(|other| other.mark.id != self.session.id());
        let (dead, alive): (Vec<_>, Vec<_>) = others.partition(|other| self.is_dead(other));
        if let Some(other) = alive.first() {
            return Err(Error::Refused(self.describe(other, alive.len())));
        }
        for other in dead {
            if session::fence(&context.repository, other.mark.id, self.session.id())? {
                self.fenced += 1;
                let note = format!(
                    "fenced the dead session {} ({} on {}): what it stored without a snapshot may go",
                    other.mark.id.short(),
                    other.mark.operation,
                    other.mark.host
                );
                context.monitor.event(Event::Note(&note));
            }
        }
        Ok(())
    }

    fn is_dead(&self, other: &OpenSession) -> bool {
        other.dead || self.age_ns(other) > SAFETY_HOURS * 3600 * 1_000_000_000
    }

    fn age_ns(&self, other: &OpenSession) -> i64 {
        self.stored_ns.saturating_sub(other.stored_ns)
    }

    fn describe(&self, other: &OpenSession, count: usize) -> String {
        let mark = &other.mark;
        let minutes = self.age_ns(other).max(0) / 60_000_000_000;
        let others = if count > 1 { format!(" (and {} more)", count - 1) } else { String::new() };
        let since = Timestamp::from_nanosecond(i128::from(other.stored_ns)).unwrap_or(Timestamp::UNIX_EPOCH);
        format!(
            "somebody else is at work: {} on host {} (process {}, session {}) since {since:.0}, {} h {} min ago{others}. \
             Nothing was deleted. Run this again when it has ended; if that process is gone, run it on that host, or \
             wait until the session is {SAFETY_HOURS} hours old: it is then fenced",
            mark.operation,
            mark.host,
            mark.process,
            mark.id.short(),
            minutes / 60,
            minutes % 60,
        )
    }
}

/// Takes away the marks of all sessions that have ended, and the tombstones of those whose processes are known to be
/// gone. Other tombstones stay: a machine that sleeps may still wake up and want to commit.
pub fn clear_closed(repository: &Repository) -> Result<u64> {
    let store = &**repository.store();
    let closed = session::closed_sessions(store)?;
    for id in &closed {
        let gone = session::is_gone(repository, *id)?;
        session::clear_session(store, *id)?;
        if gone && session::is_fenced(repository, *id)? {
            store.delete(&Key::new(Area::Snapshots, id))?;
        }
    }
    Ok(closed.len() as u64)
}
