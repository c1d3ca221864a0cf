//! A restore into a folder that has older files: the power goes, and under every name is the old file or the new one, and
//! the same restore, run again, finishes.
//!
//! No file is flushed but a large one that is changed itself. So a disk that keeps names before bytes may lose a new file;
//! what it must not do then is look finished to a restore that goes by size and time.

use super::cuts::{Cut, Loss, Story};
use super::disk::{Image, Item, unpack};
use super::look::{Found, Verdict, demand, told};
use super::{Scene, can_watch, images};
use crate::campaigns::first_seed;
use crate::program::noise;
use crate::vault::{Files, files_below};
use keepstone::ops::restore::{Options, restore};
use keepstone::repo::snapshots;
use keepstone::target::files::Overwrite;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A file from the size on from which it is changed itself where blocks cannot be shared.
const LARGE: &str = "large";

/// What was there, and what is to be there; with the time at which each file was last changed.
struct Wanted {
    top: String,
    old: Files,
    new: Files,
}

fn write_old(source: &Path) {
    let bytes = noise(9 << 20);
    fs::write(source.join(LARGE), &bytes).unwrap();
    fs::write(source.join("changed"), &bytes[..50_000]).unwrap();
    fs::write(source.join("shorter"), &bytes[1_000..41_000]).unwrap();
    fs::write(source.join("same"), &bytes[7_000..27_000]).unwrap();
}

fn write_new(source: &Path) {
    let mut bytes = noise(9 << 20);
    for place in 0..6 {
        bytes[place * 1_500_000..][..40].fill(place as u8);
    }
    fs::write(source.join(LARGE), &bytes).unwrap();
    fs::write(source.join("changed"), &bytes[20_000..70_000]).unwrap();
    fs::write(source.join("shorter"), &bytes[1_000..9_000]).unwrap();
    fs::write(source.join("of/fresh"), &bytes[300_000..1_600_000]).unwrap();
}

impl Wanted {
    /// Under each name the old file or the new one; a mixed one never looks finished.
    fn check(&self, image: &Image, cut: Cut, time_of: impl Fn(&str) -> i128) -> Verdict {
        let in_order = matches!(cut.loss, Loss::Journal | Loss::Nothing);
        for (name, new) in &self.new {
            let old = self.old.get(name);
            let Some(Item::File(bytes, time)) = image.get(&format!("{}/{name}", self.top)) else {
                demand(old.is_none(), || format!("{name} is gone"))?;
                continue;
            };
            if **bytes == *new || Some(&**bytes) == old {
                continue;
            }
            let looks_finished = bytes.len() == new.len() && *time == Some(time_of(name));
            demand(!looks_finished || !(in_order || name == LARGE), || format!("{name} is torn and looks finished"))?;
            demand(!in_order || name == LARGE || old.is_none(), || {
                format!("{name} is neither the old nor the new file")
            })?;
        }
        Ok(())
    }
}

#[test]
fn a_restore_whose_power_goes_anywhere_leaves_old_or_new_files_and_finishes_when_it_is_run_again() {
    if !can_watch() {
        return;
    }
    let mut scene = Scene::new(&[]);
    let source = scene.path("source");
    write_old(&source);
    scene.run(&super::BACKUP);
    scene.run(&["restore", "latest", "--target", "back"]);
    let old = files_below(&source);
    write_new(&source);
    let run = scene.run(&super::BACKUP);
    let id = scene.remember(&run);
    let (disk, _) = scene.watch(&["restore", "latest", "--target", "back", "--json"]);
    let inside = source.strip_prefix("/").unwrap();
    let wanted = Wanted { top: format!("back/{}", inside.display()), old, new: scene.snapshots[&id].clone() };
    let time_of = |name: &str| {
        let meta = fs::metadata(source.join(name)).unwrap();
        i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec())
    };
    // The repository is none of the images' business: one is enough for all.
    let nowhere = Cut { at: 0, loss: Loss::Nothing, seed: 1, done: false };
    let vault = Found::new(
        &disk.image(&vec![super::disk::Fate::Lost; disk.changes.len()]),
        "vault",
        &scene.key("vault.key"),
        nowhere,
    );
    let context = vault.open().unwrap();
    let snapshot = snapshots::list(&context.repository).unwrap().0.into_iter().find(|one| one.id == id).unwrap();
    let check = |image: &Image, cut: Cut| {
        wanted.check(image, cut, time_of)?;
        let target = tempfile::tempdir().unwrap();
        unpack(image, "back", target.path());
        let mut options = Options::new(target.path().to_owned());
        if cut.loss == Loss::Journal && cut.seed.is_multiple_of(2) {
            options.overwrite = Overwrite::IfChanged;
        }
        let outcome = restore(&context, &snapshot, &options).map_err(told("restored again"))?;
        demand(outcome.problem_count == 0, || format!("restored again: {:?}", outcome.problems))?;
        let mut there = files_below(&target.path().join(inside));
        there.retain(|name, _| {
            !name.rsplit('/').next().unwrap().starts_with(keepstone::target::files::TEMPORARY_PREFIX)
        });
        for (name, new) in &wanted.new {
            demand(there.get(name) == Some(new), || format!("restored again, {name} differs"))?;
        }
        demand(there.len() == wanted.new.len(), || format!("more than was restored: {:?}", there.keys()))
    };
    let story = Story {
        name: "restore in place",
        disk,
        areas: &["back"],
        done: "\"restore\"".to_owned(),
        at_every_change: true,
        check: &check,
    };
    story.survives(first_seed(), images());
}
