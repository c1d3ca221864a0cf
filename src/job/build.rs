//! Options of verbs, built from what is meant: for a night and for the command line alike.

use super::databases;
use super::error::{Error, Result};
use super::place::Location;
use crate::base::clock::TimeZone;
use crate::base::{Event, Kind, Monitor, SnapshotId};
use crate::config;
use crate::config::meant::{Drill, Files, Profile, Prune, Scenario};
use crate::db::Surroundings;
use crate::ops::backup::{self, Parent, Source};
use crate::ops::drill::{Back, Dumps};
use crate::ops::forget::{self, Selection};
use crate::ops::retention::Policy;
use crate::ops::{Context, drill, prune};
use crate::source::files::filter::{lines_without_comments, with_variables};
use crate::source::files::{BadPattern, Filter, Marker, ScanOptions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// No list of patterns is longer.
const MAX_LIST_BYTES: u64 = 256 << 20;

/// What of files is left out, and the patterns as they were given; `read` reads a file of patterns.
pub fn scan<E: From<Error>>(
    files: &Files,
    read: impl Fn(&Path) -> Result<Vec<u8>, E>,
) -> Result<(ScanOptions, Vec<Vec<u8>>), E> {
    let (mut excludes, mut texts) = (Filter::new(), Vec::new());
    let bad = |error: BadPattern| E::from(Error::usage(error.to_string()));
    for (patterns, ignoring_case) in [(&files.exclude, false), (&files.iexclude, true)] {
        for pattern in patterns {
            add(&mut excludes, pattern.as_bytes(), ignoring_case).map_err(bad)?;
            texts.push(pattern.as_bytes().to_vec());
        }
    }
    for (lists, ignoring_case) in [(&files.exclude_file, false), (&files.iexclude_file, true)] {
        for list in lists {
            for line in lines_without_comments(&read(list)?) {
                let pattern = with_variables(line, config::variable);
                add(&mut excludes, &pattern, ignoring_case).map_err(bad)?;
                texts.push(pattern);
            }
        }
    }
    let scan = ScanOptions {
        excludes,
        one_file_system: files.one_file_system,
        exclude_caches: files.exclude_caches,
        exclude_larger_than: files.exclude_larger_than,
        exclude_if_present: files.exclude_if_present.iter().map(|name| Marker::parse(name.as_bytes())).collect(),
        ..ScanOptions::default()
    };
    Ok((scan, texts))
}

fn add(filter: &mut Filter, pattern: &[u8], ignoring_case: bool) -> Result<(), BadPattern> {
    if ignoring_case { filter.add_ignoring_case(pattern) } else { filter.add(pattern) }
}

/// Reads a file of patterns.
fn read_list(path: &Path) -> Result<Vec<u8>> {
    let failed = |source| Error::io(format!("read {}", path.display()), source);
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_LIST_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    match bytes.len() as u64 > MAX_LIST_BYTES {
        true => Err(Error::usage(format!("{} is larger than 256 MiB: that is no list of patterns", path.display()))),
        false => Ok(bytes),
    }
}

/// A backup of all sources of a profile. Databases are asked for their names only if all of them are wanted.
pub fn backup(profile: &Profile, tags: Vec<String>, user: String) -> Result<backup::Options> {
    let (scan, exclude_texts) = scan(&profile.files, read_list)?;
    let commands = profile.commands.iter();
    let commands = commands.map(|(name, command)| Source::Command { name: name.clone(), command: command.clone() });
    Ok(backup::Options {
        sources: profile.files.paths.iter().cloned().map(Source::Path).chain(commands).collect(),
        scan,
        exclude_texts,
        host: profile.host.clone(),
        user,
        tags,
        description: profile.description.clone(),
        time: None,
        parent: Parent::Newest,
        level: profile.storing.level,
        deltas: profile.storing.deltas,
        ignore_inode: profile.storing.ignore_inode,
        ignore_ctime: profile.storing.ignore_ctime,
        dry_run: false,
        validate_dumps: profile.validate_dumps,
        base_cache_bytes: profile.storing.base_cache_bytes,
        limits: profile.limits.clone(),
    })
}

/// Forgetting by a policy, among the snapshots that `filter` takes; `fresh` was made a moment ago.
pub fn forget(policy: &Policy, filter: forget::Filter, fresh: Option<SnapshotId>) -> Result<forget::Options> {
    // A profile is one series, also when its paths change.
    let group_by = "host".parse().map_err(|error| Error::usage(format!("{error}")))?;
    let selection = Selection::Policy { policy: Box::new(policy.clone()), filter, group_by };
    Ok(forget::Options { selection, zone: TimeZone::system(), dry_run: false, fresh })
}

/// Freeing space.
pub fn prune(given: &Prune) -> prune::Options {
    prune::Options {
        max_unused: given.max_unused,
        max_repack_bytes: given.max_repack_bytes,
        keep_log: given.keep_log,
        gone: prune::Gone::Refused,
        ..prune::Options::default()
    }
}

/// A test restore; `scratch` is where files lie for a moment, `back` what other drills have brought back of the snapshot.
pub fn drill(
    given: &Drill,
    surroundings: &Surroundings,
    scratch: &Path,
    monitor: &dyn Monitor,
    back: Back,
) -> Result<drill::Options> {
    Ok(drill::Options {
        servers: databases::servers(given, surroundings, scratch, monitor)?,
        dumps: match &given.scenario {
            Scenario::Files => Dumps::None,
            Scenario::Table(tables) => Dumps::Tables { databases: given.databases.clone(), tables: tables.clone() },
            Scenario::Whole | Scenario::Database | Scenario::Machine(_) => Dumps::Whole(given.databases.clone()),
        },
        allow_source_server: given.allow_source_server,
        sample: given.sample,
        files: given.files,
        temp_dir: scratch.to_owned(),
        back,
    })
}

/// A repository that lies in one of its sources is left out, and so is its local cache: they would change while they
/// are read. A source that lies in the repository is refused.
pub fn keep_out(location: &Location, context: &Context, options: &mut backup::Options) -> Result<()> {
    let repository = location.folder().and_then(|folder| folder.canonicalize().ok());
    let cache = context.cache_dir.as_ref().and_then(|folder| folder.canonicalize().ok());
    // A bind mount has another path and is the same directory.
    let own = [&repository, &cache].map(|folder| folder.as_deref().and_then(identity));
    options.scan.own = own.into_iter().flatten().collect();
    for source in &options.sources {
        let Source::Path(path) = source else { continue };
        let Ok(real) = path.canonicalize() else { continue };
        let lies_in_it = repository.as_ref().is_some_and(|repository| real.starts_with(repository));
        if lies_in_it || (own[0].is_some() && own[0] == identity(&real)) {
            let text = format!("cannot back up {}: it is the repository itself, or lies in it", path.display());
            return Err(Error::Said(Kind::Refused, text));
        }
        // The walk sees the path as it was named, with `..` resolved.
        let named =
            std::path::absolute(path).map_err(|source| Error::io(format!("find {}", path.display()), source))?;
        let seen = if named.components().any(|part| part.as_os_str() == "..") { &real } else { &named };
        for (ours, what) in [(&repository, "repository"), (&cache, "cache")] {
            let Some(beneath) = ours.as_ref().and_then(|ours| ours.strip_prefix(&real).ok()) else { continue };
            // One that was named itself is taken.
            if beneath.as_os_str().is_empty() {
                continue;
            }
            let left_out = seen.join(beneath);
            let added = options.scan.excludes.add(&literally(&left_out));
            added.map_err(|error| Error::Said(Kind::Refused, error.to_string()))?;
            let note = format!("{} is left out: it is this {what}", left_out.display());
            context.monitor.event(Event::Note(&note));
        }
    }
    Ok(())
}

/// Device and inode of a directory.
fn identity(folder: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(folder).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// A pattern that matches this path and no other.
fn literally(path: &Path) -> Vec<u8> {
    let escape = |&byte: &u8| match byte {
        b'*' | b'?' | b'[' | b']' | b'\\' | b'!' => vec![b'\\', byte],
        _ => vec![byte],
    };
    path.as_os_str().as_bytes().iter().flat_map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_wildcards_is_meant_literally() {
        assert_eq!(literally(Path::new("/a*b/[c]/!d")), br"/a\*b/\[c\]/\!d");
    }
}
