//! Being at work beside others: our own session, who else is there, and fencing those who are not any more.
//!
//! A session is fenced at once when its process is known to be gone, and after a day by the store's clock otherwise.
//! Fencing never costs data: whoever was only asleep notices when it wants to commit, and commits anew.

use super::super::{Context, Error, Result};
use crate::base::clock::Timestamp;
use crate::base::monitor::Event;
use crate::format::session::SessionKind;
use crate::repo::Session;
use crate::repo::session::{self, OpenSession};

/// A session whose mark the store received this much earlier than ours is taken for dead, wherever it ran. Both
/// times are the store's, so no clock of any machine can make it wrong.
pub const SAFETY_HOURS: i64 = 24;
/// If the store's clock and ours differ by more than this, nobody is fenced for being old: one of the two is wrong, and
/// when it is the store's, its times do not tell how old a session is.
pub const MOST_SKEW_MINUTES: i64 = 60;

const HOUR_NS: i64 = 3600 * 1_000_000_000;
const MINUTE_NS: i64 = 60 * 1_000_000_000;

/// Our own session, and what it found.
pub struct Presence<'r> {
    /// The session.
    pub session: Session<'r>,
    /// When the store received its mark, nanoseconds since 1970 by the store's clock.
    pub stored_ns: i64,
    /// How many dead sessions were fenced.
    pub fenced: u64,
    /// How far the store's clock is ahead of ours.
    skew_ns: i64,
    operation: String,
}

impl<'r> Presence<'r> {
    /// Begins a session.
    pub fn begin(context: &'r Context, operation: &str) -> Result<Presence<'r>> {
        let begun_ns = context.repository.now_ns();
        let session = Session::begin(&context.repository, SessionKind::Pruner, operation)?;
        let open = session::open_sessions(&context.repository)?;
        let own = open.iter().find(|other| other.mark.id == session.id());
        let stored_ns = own.map(|own| own.stored_ns).ok_or_else(|| {
            let problem = "the mark of this very session is not listed: the store does not show what was just written";
            Error::Refused(format!("{problem}, so it cannot be told who else is at work"))
        })?;
        let (skew_ns, operation) = (stored_ns.saturating_sub(begun_ns), operation.to_owned());
        Ok(Presence { session, stored_ns, fenced: 0, skew_ns, operation })
    }

    /// Begins another session in the place of this one: it has seen what was condemned meanwhile.
    pub fn renew(&mut self, context: &'r Context) -> Result<()> {
        let fresh = Presence::begin(context, &self.operation)?;
        let before = std::mem::replace(self, Presence { fenced: self.fenced, ..fresh });
        Ok(before.session.end()?)
    }

    /// All other sessions that are open, the dead ones fenced.
    pub fn others(&mut self, context: &Context) -> Result<Vec<OpenSession>> {
        let mut alive = Vec::new();
        for other in session::open_sessions(&context.repository)? {
            if other.mark.id == self.session.id() {
                continue;
            }
            match self.is_dead(&other)? {
                // Its snapshot may have been quicker: either way it is closed now.
                true => self.fence(context, &other)?,
                false => alive.push(other),
            }
        }
        Ok(alive)
    }

    fn is_dead(&self, other: &OpenSession) -> Result<bool> {
        if other.dead {
            return Ok(true);
        }
        let old = self.age_ns(other) > SAFETY_HOURS * HOUR_NS;
        if old && self.skew_ns.saturating_abs() > MOST_SKEW_MINUTES * MINUTE_NS {
            let minutes = self.skew_ns / MINUTE_NS;
            let ahead = if minutes > 0 { "ahead of" } else { "behind" };
            return Err(Error::Refused(format!(
                "the store's clock is {} minutes {ahead} this machine's, so it cannot be told whether {} on host {} \
                 (session {}) is dead. Nothing was deleted. Set the clock that is wrong, then run this again",
                minutes.abs(),
                other.mark.operation,
                other.mark.host,
                other.mark.id.short()
            )));
        }
        Ok(old)
    }

    fn fence(&mut self, context: &Context, other: &OpenSession) -> Result<()> {
        if session::fence(&context.repository, other.mark.id, self.session.id())? {
            self.fenced += 1;
            let note = format!(
                "fenced the dead session {} ({} on {}): should it wake up, it has to look whether what it stored is \
                 still there",
                other.mark.id.short(),
                other.mark.operation,
                other.mark.host
            );
            context.monitor.event(Event::Note(&note));
        }
        Ok(())
    }

    /// How long before ours the store received its mark.
    pub fn age_ns(&self, other: &OpenSession) -> i64 {
        self.stored_ns.saturating_sub(other.stored_ns)
    }

    /// Who is at work, where and since when.
    pub fn describe(&self, other: &OpenSession) -> String {
        let mark = &other.mark;
        let minutes = self.age_ns(other).max(0) / MINUTE_NS;
        let since = Timestamp::from_nanosecond(i128::from(other.stored_ns)).unwrap_or(Timestamp::UNIX_EPOCH);
        format!(
            "{} on host {} (process {}, session {}) since {since:.0}, {} h {} min ago",
            mark.operation,
            mark.host,
            mark.process,
            mark.id.short(),
            minutes / 60,
            minutes % 60,
        )
    }
}
