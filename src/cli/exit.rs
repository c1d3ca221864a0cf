//! Exit codes: decided here, by the kind of the failure alone.

use crate::base::Kind;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All was done.
    Done = 0,
    /// It failed.
    Failed = 1,
    /// The command line is malformed.
    Usage = 2,
    /// It was done, but some sources could not be read; the snapshot is marked partial.
    Partial = 3,
    /// Stored bytes are damaged.
    Damage = 4,
    /// There is no repository.
    NoRepository = 10,
    /// Refused in order to protect something, or because somebody else is at it.
    Refused = 11,
    /// The password or key is wrong.
    WrongKey = 12,
    /// Somebody should look soon: only `health` says so.
    Warning = 20,
    /// Somebody should look now: only `health` says so.
    Critical = 21,
    /// Stopped by the user or by a signal.
    Interrupted = 130,
}

impl Exit {
    /// What a failure of this kind amounts to.
    pub fn of(kind: Kind) -> Exit {
        match kind {
            Kind::Usage => Exit::Usage,
            Kind::Damaged => Exit::Damage,
            Kind::NoRepository => Exit::NoRepository,
            Kind::Refused => Exit::Refused,
            Kind::WrongKey => Exit::WrongKey,
            Kind::Interrupted => Exit::Interrupted,
            Kind::NotFound
            | Kind::Exists
            | Kind::Denied
            | Kind::Full
            | Kind::Unavailable
            | Kind::Unsupported
            | Kind::Source
            | Kind::Target
            | Kind::Internal => Exit::Failed,
        }
    }

    /// The number that the shell sees.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// What JSON calls it.
    pub fn name(self) -> &'static str {
        match self {
            Exit::Done => "done",
            Exit::Failed => "failed",
            Exit::Usage => "usage",
            Exit::Partial => "partial",
            Exit::Damage => "damage",
            Exit::NoRepository => "no_repository",
            Exit::Refused => "refused",
            Exit::WrongKey => "wrong_key",
            Exit::Warning => "warning",
            Exit::Critical => "critical",
            Exit::Interrupted => "interrupted",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_those_that_scripts_rely_on() {
        let kinds = [
            (Kind::Usage, 2),
            (Kind::Damaged, 4),
            (Kind::NoRepository, 10),
            (Kind::Refused, 11),
            (Kind::WrongKey, 12),
            (Kind::Interrupted, 130),
            (Kind::Full, 1),
        ];
        for (kind, code) in kinds {
            assert_eq!(Exit::of(kind).code(), code, "{kind:?}");
        }
    }
}
