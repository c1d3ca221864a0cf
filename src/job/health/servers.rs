//! The servers that a profile talks with: whether its databases can be dumped, and when certificates end.

use super::{Facts, HOUR_NS};
use crate::db::Watch;
use crate::db::certificate::{self, Before};
use crate::db::probe::{Check, Verdict};
use crate::job::databases::{self, Wanted};
use crate::job::due;
use crate::job::place::Location;
use crate::ops::backup::{Limits, Source};
use crate::source::dump::DumpSource;
use std::collections::BTreeSet;
use std::time::Duration;

/// Whether databases can be dumped: connection, rights, client programs, room for sessions.
pub(super) fn of_databases(facts: &Facts<'_>) -> Vec<Check> {
    const NAME: &str = "databases";
    if facts.profile.databases.is_empty() {
        return Vec::new();
    }
    let context = facts.context;
    let watch = Watch { stop: context.stop.clone(), monitor: context.monitor.clone() };
    let sources = Wanted::of(&facts.profile.databases, facts.surroundings.clone())
        .and_then(|wanted| wanted.sources(context, &Limits { attempts: 1, ..facts.profile.limits.clone() }));
    let sources = match sources {
        Ok(sources) => sources,
        Err(error) => return vec![Check::failed(NAME, error.to_string(), "mend the config: `keepstone config check`")],
    };
    let look = |source: &Source| match source {
        Source::Dump(dump) => Some(of_database(&**dump, &watch)),
        _ => None,
    };
    sources.iter().filter_map(look).collect()
}

/// The gravest of what a look at a database finds.
fn of_database(dump: &dyn DumpSource, watch: &Watch) -> Check {
    const NAME: &str = "databases";
    let label = dump.label();
    match dump.probe(watch) {
        Err(error) => {
            let check = Check::of_error(NAME, &error);
            Check { message: format!("{label}: {}", check.message), ..check }
        }
        Ok(None) => Check::ok(NAME, format!("{label} can be read")),
        Ok(Some(probe)) => match probe.checks.into_iter().max_by_key(|check| check.verdict) {
            Some(bad) if bad.verdict != Verdict::Ok => {
                Check { name: NAME, message: format!("{label}: {}: {}", bad.name, bad.message), ..bad }
            }
            _ => Check::ok(NAME, format!("{label} can be dumped ({})", probe.server)),
        },
    }
}

/// How long before its end a certificate is told.
const CERTIFICATE_NS: i64 = 14 * 24 * HOUR_NS;
/// How long a server may take to show its certificate.
const CERTIFICATE_WAIT: Duration = Duration::from_secs(10);

/// When the certificates of the servers end that the profile talks with: its bucket's, and those of PostgreSQL. That a server
/// cannot be reached is said elsewhere.
pub(super) fn certificates(facts: &Facts<'_>) -> Vec<Check> {
    let mut places = BTreeSet::new();
    let bucket = Location::parse(&facts.profile.repository.place, facts.profile.repository.bucket.plain_http);
    if let Ok(Location::Bucket(address)) = bucket {
        places.extend(address.endpoint.as_deref().and_then(certificate::place_of).map(|place| (place, false)));
    }
    places.extend(
        databases::tls_places(&facts.profile.databases, facts.surroundings).into_iter().map(|place| (place, true)),
    );
    let look = |((host, port), is_postgres): &((String, u16), bool)| {
        let before = if *is_postgres { Before::Postgres } else { Before::Nothing };
        let ends = certificate::ends(host, *port, before, CERTIFICATE_WAIT).ok().flatten()?;
        let ends_ns = i64::try_from(ends.as_nanosecond()).unwrap_or(i64::MAX);
        Some(of_certificate(&format!("{host}:{port}"), ends_ns, facts.now_ns))
    };
    places.iter().filter_map(look).collect()
}

fn of_certificate(place: &str, ends_ns: i64, now_ns: i64) -> Check {
    const NAME: &str = "certificates";
    const REMEDY: &str = "renew it on the server";
    let ends = due::local(ends_ns).date();
    match ends_ns.saturating_sub(now_ns) {
        i64::MIN..=0 => Check::failed(NAME, format!("the certificate of {place} ended on {ends}"), REMEDY),
        1..CERTIFICATE_NS => Check::warning(NAME, format!("the certificate of {place} ends on {ends}"), REMEDY),
        _ => Check::ok(NAME, format!("the certificate of {place} is good until {ends}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_told_two_weeks_before_its_end() {
        let verdict = |days: i64| of_certificate("db1:5432", days * 24 * HOUR_NS, 0).verdict;
        assert_eq!([-1, 0, 13, 15].map(verdict), [Verdict::Failed, Verdict::Failed, Verdict::Warning, Verdict::Ok]);
    }
}
