//! After everything is written: a second walk through snapshot and target side by side, and what it removes.

use super::super::browse::reader;
use super::super::fetch::is_damage;
use super::super::walk::{Step, Walk};
use super::super::{Context, Result};
use super::sieve::{Choice, Sieve, Trails};
use super::write::{Shared, add};
use super::{Options, Subject};
use crate::base::{BlobId, counted};
use crate::format::meta::Meta;
use crate::format::snapshot::Snapshot;
use crate::format::tree::Node;
use crate::repo::blob_reader::BlobReader;
use crate::repo::trees::Nodes;
use crate::target::files::{Folder, Target};

/// What is done at each place of the second walk.
pub(super) trait Visit {
    /// A directory that is in snapshot and target.
    fn directory(
        &mut self,
        path: &[u8],
        tree: BlobId,
        folder: &Folder,
        meta: Option<&Meta>,
        trails: &Trails,
    ) -> Result<()>;
    /// A directory or another entry whose place is `folder`; for directories that are missing too.
    fn entry(&mut self, path: &[u8], node: &Node, meta: Meta, folder: &Folder) -> Result<()>;
}

struct Level {
    folder: Folder,
    trails: Trails,
}

/// Walks through snapshot and target side by side. What cannot be read in the snapshot was told before.
pub(super) fn walk(
    context: &Context,
    shared: &Shared,
    sieve: &Sieve<'_>,
    subject: &Subject,
    visit: &mut dyn Visit,
) -> Result<()> {
    let Some(target) = &shared.target else { return Ok(()) };
    let Some(tree) = subject.node.tree else {
        let meta = shared.meta(&subject.node, (b"", b""));
        return visit.entry(&subject.path, &subject.node, meta, target.root());
    };
    let mut trees = reader(context).walking();
    let mut walk = Walk::begin(tree, &subject.path, &mut trees)?;
    let mut levels = vec![Level { folder: target.root().clone(), trails: sieve.begin(&subject.path) }];
    visit.directory(&subject.path, tree, target.root(), subject.target_meta(shared).as_ref(), &levels[0].trails)?;
    while walk.depth() > 0 {
        context.check_stop()?;
        let node = match walk.next(&mut trees) {
            Ok(Some(Step::Entry(node))) => node,
            Ok(Some(Step::Leave)) => {
                levels.pop();
                continue;
            }
            Ok(None) => break,
            Err(error) if is_damage(&error) => continue,
            Err(error) => return Err(error.into()),
        };
        let level = levels.last().expect("the top is there as long as the walk goes on");
        let choice = sieve.choose(&level.trails, &node.name.0);
        if choice == Choice::Skip {
            continue;
        }
        let folder = &level.folder;
        let meta = shared.meta(&node, walk.owners(&node));
        let Some(tree) = node.tree else {
            if choice == Choice::Take {
                visit.entry(walk.path(), &node, meta, folder)?;
            }
            continue;
        };
        if choice == Choice::Take {
            visit.entry(walk.path(), &node, meta.clone(), folder)?;
        }
        let there = target.existing_directory(folder, &node.name.0).unwrap_or(None);
        let trails = sieve.enter(&level.trails, &node.name.0);
        let Some(there) = there else { continue };
        match walk.enter(tree, &mut trees) {
            Ok(()) => {}
            Err(error) if is_damage(&error) => continue,
            Err(error) => return Err(error.into()),
        }
        visit.directory(walk.directory(), tree, &there, Some(&meta), &trails)?;
        levels.push(Level { folder: there, trails });
    }
    Ok(())
}

/// Removes what is in the restored directories and not in the snapshot. Only where the snapshot knows what belongs:
/// in what was backed up, not in the directories above it.
pub(super) fn delete(
    context: &Context,
    snapshot: &Snapshot,
    options: &Options,
    shared: &Shared,
    subject: &Subject,
) -> Result<()> {
    let problems = shared.problems().count;
    if problems > 0 {
        shared.note(format!("nothing was removed, because {} could not be restored", counted(problems, "entry")));
        return Ok(());
    }
    let Some(target) = &shared.target else { return Ok(()) };
    let sieve = Sieve::new(options);
    let trees = reader(context).walking();
    let mut visit = Delete { shared, target, snapshot, sieve: &sieve, trees, dry_run: options.dry_run };
    walk(context, shared, &sieve, subject, &mut visit)
}

struct Delete<'d> {
    shared: &'d Shared,
    target: &'d Target,
    snapshot: &'d Snapshot,
    sieve: &'d Sieve<'d>,
    trees: BlobReader,
    dry_run: bool,
}

impl Delete<'_> {
    fn is_covered(&self, path: &[u8]) -> bool {
        self.snapshot.paths.iter().any(|covered| {
            let covered = covered.0.strip_suffix(b"/").unwrap_or(&covered.0);
            path.strip_prefix(covered).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        })
    }

    /// The names in `folder` that `tree` does not have: both are sorted.
    fn others(&mut self, tree: BlobId, folder: &Folder) -> Result<Vec<Vec<u8>>> {
        let there = match self.target.others(folder, |_| false) {
            Ok(names) => names,
            Err(error) => {
                self.shared.refused(error);
                return Ok(Vec::new());
            }
        };
        let mut nodes = Nodes::open(tree, &mut self.trees)?;
        let mut node = nodes.next(&mut self.trees)?;
        let mut others = Vec::new();
        for name in there {
            while node.as_ref().is_some_and(|node| node.name.0 < name) {
                node = nodes.next(&mut self.trees)?;
            }
            if node.as_ref().is_none_or(|node| node.name.0 != name) {
                others.push(name);
            }
        }
        Ok(others)
    }
}

impl Visit for Delete<'_> {
    fn directory(
        &mut self,
        path: &[u8],
        tree: BlobId,
        folder: &Folder,
        meta: Option<&Meta>,
        trails: &Trails,
    ) -> Result<()> {
        if !self.is_covered(path) {
            return Ok(());
        }
        let mut removed = 0;
        for name in self.others(tree, folder)? {
            if self.sieve.choose(trails, &name) != Choice::Take {
                continue;
            }
            let result = if self.dry_run { Ok(()) } else { self.target.remove(folder, &name) };
            match result {
                Ok(()) => removed += 1,
                Err(error) => self.shared.refused(error),
            }
        }
        add(&self.shared.counts.deleted, removed);
        if let (Some(meta), true) = (meta, removed > 0 && !self.dry_run)
            && let Err(error) = self.target.finish_directory(folder, meta)
        {
            self.shared.refused(error);
        }
        Ok(())
    }

    fn entry(&mut self, _: &[u8], _: &Node, _: Meta, _: &Folder) -> Result<()> {
        Ok(())
    }
}
