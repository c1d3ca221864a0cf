//! Several servers in one address, of which one is meant: the first that answers and is what was asked for.
//!
//! As `libpq` does it (`host=a,b target_session_attrs=primary`). It is settled once for each piece of work, so that all
//! its sessions and programs are at the same server.

use super::{Address, Connection};
use crate::base::Kind;
use crate::db::{Error, Result, Watch};

/// What a server has to be, in the words of `target_session_attrs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionAttrs {
    /// Whatever answers.
    #[default]
    Any,
    /// It takes writes.
    ReadWrite,
    /// It takes none.
    ReadOnly,
    /// It is no standby.
    Primary,
    /// It is one.
    Standby,
    /// It is one, if any is.
    PreferStandby,
}

const WORDS: [(&str, SessionAttrs); 6] = [
    ("any", SessionAttrs::Any),
    ("read-write", SessionAttrs::ReadWrite),
    ("read-only", SessionAttrs::ReadOnly),
    ("primary", SessionAttrs::Primary),
    ("standby", SessionAttrs::Standby),
    ("prefer-standby", SessionAttrs::PreferStandby),
];

impl SessionAttrs {
    /// As a word, if it is one.
    pub fn of(word: &str) -> Option<SessionAttrs> {
        WORDS.iter().find(|(name, _)| *name == word).map(|(_, attrs)| *attrs)
    }

    fn fits(self, is_standby: bool, takes_writes: bool) -> bool {
        match self {
            SessionAttrs::Any => true,
            SessionAttrs::ReadWrite => takes_writes,
            SessionAttrs::ReadOnly => !takes_writes,
            SessionAttrs::Primary => !is_standby,
            SessionAttrs::Standby | SessionAttrs::PreferStandby => is_standby,
        }
    }
}

impl Address {
    /// The one server that is meant. Asks nobody where only one is named, whatever it is.
    pub fn settled(&self, watch: &Watch) -> Result<Address> {
        let attrs = self.session_attrs;
        if self.others.is_empty() && attrs == SessionAttrs::Any {
            return Ok(self.clone());
        }
        let alone =
            |address: &Address| Address { others: Vec::new(), session_attrs: SessionAttrs::Any, ..address.clone() };
        let mut others = Vec::new();
        let mut unfit = None;
        for address in std::iter::once(self).chain(&self.others).map(alone) {
            match look(&address, watch) {
                Ok((is_standby, takes_writes)) if attrs.fits(is_standby, takes_writes) => return Ok(address),
                Ok((is_standby, _)) => {
                    let what = if is_standby { "a standby" } else { "no standby" };
                    others.push(format!("{} is {what}", address.server()));
                    unfit = unfit.or(Some(address));
                }
                Err(error) if matches!(error.kind(), Kind::Unavailable | Kind::NotFound) => {
                    others.push(format!("{}: {}", address.server(), error.message));
                }
                // A password that is refused is refused everywhere; who is stopped asks nobody any more.
                Err(error) => return Err(error),
            }
        }
        match unfit {
            Some(address) if attrs == SessionAttrs::PreferStandby => Ok(address),
            _ => Err(self.none_fits(&others)),
        }
    }

    fn none_fits(&self, found: &[String]) -> Error {
        let word = WORDS.iter().find(|(_, attrs)| *attrs == self.session_attrs).map_or("any", |(word, _)| word);
        let message = format!("no server fits target_session_attrs={word}: {}", found.join("; "));
        self.error(Kind::Unavailable, message).database(&self.database)
    }
}

/// Whether a server is a standby, and whether its sessions take writes.
fn look(address: &Address, watch: &Watch) -> Result<(bool, bool)> {
    let mut connection = Connection::connect(address, None, watch)?;
    let sql = "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('transaction_read_only') = 'off'";
    let row = connection.query(sql)?.into_iter().next().unwrap_or_default();
    let is = |at: usize| row.get(at).and_then(Option::as_deref) == Some("t");
    Ok((is(0), is(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_mean_what_they_mean_to_libpq() {
        let fits = |word: &str| {
            let attrs = SessionAttrs::of(word).unwrap_or_else(|| panic!("{word}"));
            // A primary, one whose sessions only read, a standby.
            [(false, true), (false, false), (true, false)].map(|(standby, writes)| attrs.fits(standby, writes))
        };
        assert_eq!(fits("any"), [true; 3]);
        assert_eq!(fits("read-write"), [true, false, false]);
        assert_eq!(fits("read-only"), [false, true, true]);
        assert_eq!(fits("primary"), [true, true, false]);
        assert_eq!(fits("standby"), [false, false, true]);
        assert_eq!(fits("prefer-standby"), [false, false, true]);
        assert_eq!(SessionAttrs::of("master"), None);
    }
}
