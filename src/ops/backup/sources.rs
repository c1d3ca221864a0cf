//! What is backed up: paths and streams that the walk meets, databases and commands that are fed in.

use super::feed::{COMMANDS, Fed, Origin};
use super::roots::{self, Way};
use super::{Options, Source, StreamKind};
use crate::format::tree::is_name;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::super::{Error, Result};

/// A source that the walk meets.
#[derive(Clone, Debug)]
pub enum Walked {
    /// A file or a directory, an absolute path.
    Path(PathBuf),
    /// A single stream: its name at the top, and where it comes from.
    Stream(String, StreamKind),
}

/// The sources, by how they get into the snapshot.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Paths and single streams: the walk meets them in the order of the tree.
    pub walked: Vec<Walked>,
    /// Databases and commands: read first, several at once.
    pub fed: Vec<Fed>,
}

impl Sources {
    /// The sources of a backup; refuses what cannot be one.
    pub fn of(options: &Options) -> Result<Sources> {
        if options.sources.is_empty() {
            let text = "nothing to back up: name at least one path, a database (--postgres, --mysql), a --command, or \
                        --stdin";
            return Err(Error::Usage(text.to_owned()));
        }
        let mut sources = Sources::default();
        let mut named = BTreeSet::new();
        for source in &options.sources {
            match source {
                Source::Path(path) => {
                    let path = roots::absolute(path)?;
                    if named.insert(path.clone()) {
                        sources.walked.push(Walked::Path(path));
                    }
                }
                Source::Stream { name, kind } => {
                    check_name(name, "a stream: give a plain file name")?;
                    sources.walked.push(Walked::Stream(name.clone(), kind.clone()));
                }
                Source::Dump(dump) => {
                    check_name(dump.name(), "a database in a snapshot: give it a plain one, NAME=URL")?;
                    let (folder, name) = (dump.kind().folder(), dump.name().to_owned());
                    sources.fed.push(Fed { folder, name, origin: Origin::Dump(dump.clone()) });
                }
                Source::Command { name, command } => {
                    check_name(name, "the output of a command: give a plain file name, NAME=COMMAND")?;
                    let origin = Origin::Command(command.clone());
                    sources.fed.push(Fed { folder: COMMANDS, name: name.clone(), origin });
                }
            }
        }
        check_unique(&sources.fed)?;
        Ok(sources)
    }

    /// Paths and single streams as one tree, by their number among those that the walk meets.
    pub fn ways(&self) -> Way {
        roots::ways(&self.walked.iter().map(place).collect::<Vec<_>>())
    }

    /// Whether the same can be read once more: all but standard input.
    pub fn can_be_read_again(&self) -> bool {
        !self.walked.iter().any(|source| matches!(source, Walked::Stream(_, StreamKind::Stdin)))
    }

    /// What kinds of sources there are, sorted.
    pub fn kinds(&self) -> Vec<String> {
        let walked = self.walked.iter().map(|source| match source {
            Walked::Path(_) => "files",
            Walked::Stream(..) => "command",
        });
        let fed = self.fed.iter().map(|fed| match fed.origin {
            Origin::Dump(_) => "db",
            Origin::Command(_) => "command",
        });
        walked.chain(fed).collect::<BTreeSet<_>>().into_iter().map(str::to_owned).collect()
    }
}

fn check_name(name: &str, what: &str) -> Result<()> {
    if is_name(name.as_bytes()) {
        return Ok(());
    }
    Err(Error::Usage(format!("{name:?} cannot be the name of {what}")))
}

fn check_unique(fed: &[Fed]) -> Result<()> {
    let mut labels = BTreeSet::new();
    for one in fed {
        if !labels.insert(one.label()) {
            let remedy = match one.origin {
                Origin::Dump(_) => "give each a name of its own, NAME=URL",
                Origin::Command(_) => "give each a name of its own, NAME=COMMAND",
            };
            return Err(Error::Usage(format!("two sources would be {} in the snapshot: {remedy}", one.label())));
        }
    }
    Ok(())
}

fn place(source: &Walked) -> PathBuf {
    match source {
        Walked::Path(path) => path.clone(),
        Walked::Stream(name, _) => PathBuf::from("/").join(name),
    }
}

/// The place of each source in the snapshot.
pub fn places(sources: &Sources) -> Vec<PathBuf> {
    let fed = sources.fed.iter().map(|fed| PathBuf::from(OsStr::from_bytes(&fed.place())));
    sources.walked.iter().map(place).chain(fed).collect()
}
