//! Sessions, what they have seen, how they end, and the numbered records of what prune will delete.

use super::cbor::{numbered, record};
use super::vouch::Voucher;
use crate::base::{PackId, SegmentId, SessionId, SnapshotId};

numbered! {
    /// What a session does.
    SessionKind {
        /// Adds to the repository.
        Writer = 1,
        /// Reads from it and does not want anything swept under its feet.
        Reader = 2,
        /// Prunes.
        Pruner = 3,
    }
}

record! {
    /// The mark that somebody leaves while at work. Equal to the object's name.
    Session {
        /// Its name.
        1 => id: SessionId,
        /// What it does.
        2 => kind: SessionKind,
        /// Which host.
        3 => host: String,
        /// Which process there.
        4 => process: u32,
        /// Which boot of that host, if known.
        5 => boot: String,
        /// When that process began, in the kernel's ticks since boot.
        6 => process_began: u64,
        /// When the session began, nanoseconds since 1970.
        7 => begun_ns: i64,
        /// The program and its version.
        8 => program: String,
        /// The operation.
        9 => operation: String,
    }
}

record! {
    /// Which condemned records a session has seen: `sessions/ID.seen`.
    Seen {
        /// The session.
        1 => session: SessionId,
        /// The records' numbers, ascending.
        2 => records: Vec<u64>,
    } checked by Seen::check
}

/// The highest number that a condemned record may have: ten digits name it.
pub const MAX_CONDEMNED: u64 = 9_999_999_999;

impl Seen {
    fn check(&self) -> Result<(), String> {
        let sound = self.records.is_sorted_by(|a, b| a < b) && self.records.iter().all(|n| is_record_number(*n));
        if sound { Ok(()) } else { Err("its records are not in order".to_owned()) }
    }
}

fn is_record_number(number: u64) -> bool {
    (1..=MAX_CONDEMNED).contains(&number)
}

record! {
    /// The end of a session that committed nothing: `sessions/ID.end`.
    End {
        /// The session.
        1 => session: SessionId,
        /// When, nanoseconds since 1970.
        2 => at_ns: i64,
    }
}

record! {
    /// What prune will delete once nobody can need it: `condemned/NUMBER`.
    Condemned {
        /// Its number, from 1 to [`MAX_CONDEMNED`]; it saw every record below.
        1 => number: u64,
        /// The session that prunes.
        2 => session: SessionId,
        /// When, nanoseconds since 1970.
        3 => at_ns: i64,
        /// The packs.
        4 => packs: Vec<PackId>,
        /// The segments.
        5 => segments: Vec<SegmentId>,
        /// The snapshots that the plan saw.
        6 => snapshots: Vec<SnapshotId>,
        /// The segments that the plan saw, besides those named above.
        7 => kept_segments: Vec<SegmentId>,
        /// Says that a full client put it.
        8 => voucher: Option<Voucher>,
    } checked by Condemned::check
}

impl Condemned {
    fn check(&self) -> Result<(), String> {
        if is_record_number(self.number) { Ok(()) } else { Err(format!("no record has the number {}", self.number)) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::format::cbor::{Cbor, Unknown};

    fn seen(records: &[u64]) -> Seen {
        let mut unknown = Unknown::none();
        unknown.keep(3, &[0xf5]);
        Seen { session: SessionId([1; 16]), records: records.to_vec(), unknown }
    }

    fn condemned(number: u64) -> Condemned {
        Condemned {
            number,
            session: SessionId([1; 16]),
            at_ns: 2,
            packs: vec![PackId([3; 32])],
            segments: Vec::new(),
            snapshots: Vec::new(),
            kept_segments: vec![SegmentId([4; 32])],
            voucher: None,
            unknown: Unknown::none(),
        }
    }

    #[test]
    fn what_was_seen_comes_back_in_order() {
        for records in [&[][..], &[1], &[1, 2, MAX_CONDEMNED]] {
            assert_eq!(Seen::from_cbor(&seen(records).to_cbor(), "seen").unwrap(), seen(records));
        }
        for records in [&[0][..], &[2, 1], &[1, 1], &[MAX_CONDEMNED + 1]] {
            assert!(Seen::from_cbor(&seen(records).to_cbor(), "seen").is_err(), "{records:?}");
        }
    }

    #[test]
    fn a_condemned_record_has_a_number_that_ten_digits_name() {
        for (number, fits) in [(0, false), (1, true), (MAX_CONDEMNED, true), (MAX_CONDEMNED + 1, false)] {
            let read = Condemned::from_cbor(&condemned(number).to_cbor(), "condemned");
            assert_eq!(read.is_ok(), fits, "{number}");
        }
        assert_eq!(MAX_CONDEMNED.to_string().len(), 10);
    }

    #[test]
    fn a_session_of_an_unknown_kind_is_refused() {
        assert_eq!(SessionKind::from_number(1), Some(SessionKind::Writer));
        for number in [0, 4, u64::MAX] {
            assert!(SessionKind::from_cbor(&number.to_cbor(), "session").is_err());
        }
    }

    #[test]
    fn an_end_comes_back() {
        let end = End { session: SessionId([1; 16]), at_ns: i64::MIN, unknown: Unknown::none() };
        assert_eq!(End::from_cbor(&end.to_cbor(), "end").unwrap(), end);
    }
}
