//! Every parser of what people and servers write: the config, patterns, times, sizes, addresses, lists of paths, rows of a
//! dump. No bytes make one of them panic, and what it says of itself it reads again. Shared, as `entry.rs` is, by the
//! bounded cases of `tests/decoders.rs` and by a target in `fuzz/`.

use super::entry::{Decoder, Outcome};
use keepstone::base::{Clock, TimeZone, Timestamp};
use keepstone::cli::args::values as arguments;
use keepstone::compress::Level;
use keepstone::config::schedule::Schedule;
use keepstone::config::{Config, values};
use keepstone::crypto::slots::Recipient;
use keepstone::db::mysql::rows::{Piece, Scanner};
use keepstone::db::{Surroundings, mysql, postgres};
use keepstone::format::parity::Share;
use keepstone::ops::prune::MaxUnused;
use keepstone::ops::retention::{GroupBy, Period};
use keepstone::ops::select;
use keepstone::source::files::{Filter, paths_from_lines, paths_from_raw};
use keepstone::store::S3Address;
use std::path::Path;

/// A parser whose whole answer is what it read.
macro_rules! read {
    ($parse:path) => {
        |bytes| text(bytes, |text| $parse(text).is_ok())
    };
}

/// The parsers, each with texts that it reads.
pub const TEXTS: [(&str, Decoder, &[&str]); 25] = [
    ("config", |bytes| text(bytes, |text| Config::of_text(Path::new("/etc/keepstone.toml"), text).is_ok()), &[CONFIG]),
    ("filter", filter, &["*.tmp\n!keep.tmp\n/var/**/cache\n[!a-cx]?\\*é\n# a name"]),
    ("schedule", |bytes| text(bytes, schedule), &["0 2 * * *", "30 3 * * SUN", "@daily", "*/5 1-3,7 1 JAN-MAR MON#2"]),
    ("time", read!(arguments::time), &["2025-03-10T14:00:00Z", "2025-03-10 14:00:00+01:00", "2025-03-10 14:00"]),
    ("age", |bytes| text(bytes, age), &["30d", "1y6m", "2w3h4min5s"]),
    ("period", |bytes| text(bytes, |text| text.parse::<Period>().is_ok()), &["30d", "1y6m2w"]),
    ("duration", read!(values::duration), &["30min", "2h", "90s"]),
    ("size", read!(values::size), &["20GiB", "64M", "4096"]),
    ("rate", read!(values::rate), &["500", "10M"]),
    ("share", read!(values::share), &["1/30", "1/1"]),
    ("percentage", read!(values::percent), &["2.5%", "100%"]),
    ("price", read!(values::price), &["0.023"]),
    ("count", read!(values::count), &["3"]),
    ("header", read!(values::header), &["X-Token: a b c"]),
    ("kept log", read!(values::log_age), &["2y"]),
    (
        "lock",
        |bytes| text(bytes, |text| values::lock(text).is_ok() | values::encryption(text).is_ok()),
        &["governance:30", "AES256"],
    ),
    ("unused share", |bytes| text(bytes, |text| text.parse::<MaxUnused>().is_ok()), &["5%", "2k", "unlimited"]),
    ("parity share", |bytes| text(bytes, |text| text.parse::<Share>().is_ok()), &["5%", "50%"]),
    ("words", |bytes| text(bytes, words), &["host,paths", "best", "a, b ,c"]),
    ("named database", read!(arguments::named), &["shop=postgres://h/shop", "host=h dbname=shop"]),
    ("recipient", |bytes| text(bytes, |text| text.parse::<Recipient>().is_ok()), &[RECIPIENT]),
    ("address of a bucket", |bytes| text(bytes, |text| S3Address::parse(text, true).is_ok()), &BUCKETS),
    ("address of a database", |bytes| text(bytes, database), &DATABASES),
    ("list of paths", paths, &["/srv\n  /home/a b \n# no path\n\n", "a\0b\n\0"]),
    ("rows of MySQL", rows, &[ROWS]),
];

const CONFIG: &str = r#"
[repositories.main]
place = "s3://backups/main"
password_file = "/etc/keepstone/password"
[repositories.main.keys]
rotate = "0 3 1 * *"
[profiles.base]
schedule = "30 1 * * *"
retention = { last = 3, daily = 7, within = "2y" }
[profiles.shop]
inherit = "base"
repository = "main"
sources.paths = ["/srv", "/home"]
sources.exclude = ["*.tmp", "!/srv/keep.tmp"]
tags = ["shop"]
"#;
const RECIPIENT: &str = "age1snr3s4spslrk04kglt50rcx76uva3sccas9j8xtj4ws77d0erdcscetppf";
const BUCKETS: [&str; 3] = ["s3://bucket/prefix", "s3:https://host:9000/bucket/a/b", "s3:http://[::1]:8333/bucket"];
const DATABASES: [&str; 4] = [
    "postgres://me:p%40ss@[::1]:5433/shop?sslmode=verify-full&application_name=x",
    "host='a b' port=5432 dbname=shop user=me password='it\\'s'",
    "mysql://me:secret@h:3307/shop?ssl-mode=REQUIRED",
    "mariadb://me@/shop?socket=/run/mysqld.sock",
];
const ROWS: &str = "/*M!999999\\- enable the sandbox mode */ \n-- MariaDB dump\nCREATE TABLE `t``s` (a int);\n\
                    INSERT INTO `t` VALUES (1,'a\\'(,)''b',0x41),(2,\"c\",NULL);\n/*!40101 SET x=1 */;\n-- Dump completed\n";

fn text(bytes: &[u8], reads: impl Fn(&str) -> bool) -> Outcome {
    match std::str::from_utf8(bytes) {
        Ok(text) if reads(text) => Outcome::Accepted,
        _ => Outcome::Refused,
    }
}

/// What a schedule says of itself is the same schedule, and its times lie on the right side of now.
fn schedule(text: &str) -> bool {
    let Ok(schedule) = Schedule::parse(text) else { return false };
    let now = "2025-03-10T14:00:00Z".parse::<Timestamp>().expect("a time").to_zoned(TimeZone::UTC);
    let next = schedule.next(&now);
    assert!(next.as_ref().is_none_or(|next| *next > now), "{text:?}: {next:?}");
    assert!(schedule.last(&now).is_none_or(|last| last <= now), "{text:?}");
    let again = Schedule::parse(&schedule.text()).unwrap_or_else(|why| panic!("{text:?}: {why}"));
    assert_eq!(again.next(&now), next, "{text:?}");
    true
}

fn age(text: &str) -> bool {
    let now = Clock::System.now().as_nanosecond() as i64;
    select::parse_age(text).is_ok_and(|age| age.before(now) <= now)
}

fn words(text: &str) -> bool {
    let tags = select::parse_tags(text);
    assert!(tags.iter().all(|tag| !tag.is_empty() && !tag.contains(',')), "{tags:?}");
    text.parse::<GroupBy>().is_ok() | text.parse::<Level>().is_ok() | !tags.is_empty()
}

/// Nothing but the address counts: there is no home folder and no variable.
fn database(text: &str) -> bool {
    let nothing = Surroundings::default();
    postgres::Address::parse(text, &nothing).is_ok() | mysql::Address::parse(text, &nothing).is_ok()
}

/// A filter says the same of an entry whether its directory is entered by name or by path.
fn filter(bytes: &[u8]) -> Outcome {
    let mut filter = Filter::new();
    for (number, pattern) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let add = [Filter::add, Filter::add_ignoring_case][number % 2];
        if add(&mut filter, pattern).is_err() {
            return Outcome::Refused;
        }
    }
    for path in [&b"var/lib/cache"[..], b"a", "Ä/é/\u{10ffff}".as_bytes(), &[0xff, b'/', 0x80]] {
        let by_name = path.split(|byte| *byte == b'/').fold(filter.start(), |trail, name| filter.enter(&trail, name));
        let by_path = filter.enter_path(path);
        for name in [&b"x.tmp"[..], b"keep.tmp", &[0xfe], b"b"] {
            assert_eq!(filter.judge(&by_name, name), filter.judge(&by_path, name), "{bytes:?}");
        }
    }
    Outcome::Accepted
}

/// Paths of both kinds of list.
fn paths(bytes: &[u8]) -> Outcome {
    assert!(paths_from_lines(bytes).iter().all(|path| !path.as_os_str().is_empty()), "{bytes:?}");
    let _ = paths_from_raw(bytes);
    Outcome::Accepted
}

/// Rows are the same however the bytes come.
fn rows(bytes: &[u8]) -> Outcome {
    let whole = pieces(bytes, bytes.len());
    assert_eq!(whole, pieces(bytes, 1), "{bytes:?}");
    if whole.is_some() { Outcome::Accepted } else { Outcome::Refused }
}

/// The pieces of a stream of which `step` bytes come at a time; none if it is malformed.
fn pieces(bytes: &[u8], step: usize) -> Option<Vec<(u8, Vec<u8>)>> {
    let (mut scanner, mut pieces) = (Scanner::new(), Vec::<(u8, Vec<u8>)>::new());
    for mut input in bytes.chunks(step.max(1)) {
        loop {
            let (taken, piece) = scanner.next(input).ok()?;
            assert!(taken <= input.len());
            input = &input[taken..];
            let Some(piece) = piece else { break };
            let (kind, bytes) = match piece {
                Piece::Statement(bytes) => (0, bytes),
                Piece::Comment(bytes) => (1, bytes),
                Piece::Insert(bytes) => (2, bytes),
                Piece::Row(bytes) => (3, bytes),
                Piece::RowEnd => (4, &b""[..]),
                Piece::InsertEnd => (5, &b""[..]),
            };
            match pieces.last_mut() {
                // A row may come in several pieces.
                Some((3, row)) if kind == 3 => row.extend_from_slice(bytes),
                _ => pieces.push((kind, bytes.to_vec())),
            }
        }
        assert!(input.is_empty(), "all is taken before more is asked for");
    }
    Some(pieces)
}
