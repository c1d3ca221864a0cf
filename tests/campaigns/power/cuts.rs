//! Where the power is cut, what is lost then, and what comes of looking at what is left.

use super::super::Dice;
use super::disk::{Disk, Fate, Image, Node, What};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What is left of changes that were not flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nothing.
    Everything,
    /// Names, lengths and times, but only a beginning of the bytes.
    NamesThenBeginnings,
    /// The same, but zeros for bytes.
    NamesThenZeros,
    /// The same, but only some pages.
    NamesThenPages,
    /// Some of them, each by chance.
    Chance,
    /// What a journal keeps that writes names, lengths and times in their order, bytes of new files before their length,
    /// and bytes of a file before it takes another's name (ext4 as it comes).
    Journal,
    /// Nothing of the repository, all of the local cache: it knows of what is gone.
    EverythingButTheCache,
    /// All of the repository, nothing of the local cache.
    TheCache,
    /// All of them: nothing is lost, as when the program is killed.
    Nothing,
}

const LOSSES: [Loss; 11] = [
    Loss::Everything,
    Loss::NamesThenBeginnings,
    Loss::NamesThenZeros,
    Loss::NamesThenPages,
    Loss::Chance,
    Loss::Chance,
    Loss::Journal,
    Loss::Journal,
    Loss::EverythingButTheCache,
    Loss::TheCache,
    Loss::Nothing,
];

/// One power cut.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Before this line of the trace.
    pub at: usize,
    /// What is lost.
    pub loss: Loss,
    /// Decides all that is left to chance.
    pub seed: u64,
    /// Whether the program had said by then that it was done.
    pub done: bool,
}

/// What is done with an image; an error says what was lost.
pub type Check<'c> = &'c dyn Fn(&Image, Cut) -> Result<(), String>;

/// A command that was traced, and what has to hold wherever the power is cut.
pub struct Story<'c> {
    /// What it is called.
    pub name: &'static str,
    /// What it did.
    pub disk: Disk,
    /// Folders of which every flush is a boundary.
    pub areas: &'static [&'static str],
    /// What it writes when it is done.
    pub done: String,
    /// Cut the power after every change too: it flushes little.
    pub at_every_change: bool,
    /// What is looked at.
    pub check: Check<'c>,
}

/// What came of it.
pub struct Tally {
    /// Flushes of what counts.
    pub boundaries: usize,
    /// Images that differ.
    pub images: usize,
    /// What was lost in which.
    pub lost: Vec<String>,
}

impl Story<'_> {
    /// Looks at so many images, chosen by the seed; always at the end with everything lost that may be.
    pub fn run(&self, seed: u64, at_most: u64) -> Tally {
        let mut cuts = self.cuts(seed);
        let mut dice = Dice(seed);
        for at in (1..cuts.len().saturating_sub(1)).rev() {
            cuts.swap(at, 1 + dice.below(at as u64) as usize);
        }
        let mut seen = BTreeSet::new();
        let mut tally = Tally { boundaries: self.boundaries().len(), images: 0, lost: Vec::new() };
        for cut in cuts {
            if tally.images as u64 >= at_most || tally.lost.len() >= 5 {
                break;
            }
            let image = self.disk.image(&fates(&self.disk, cut));
            if seen.insert((digest(&image), cut.done)) {
                tally.images += 1;
                let looked = catch_unwind(AssertUnwindSafe(|| (self.check)(&image, cut)));
                let reason = match looked {
                    Ok(Ok(())) => continue,
                    Ok(Err(reason)) => reason,
                    Err(panic) => format!("a panic: {}", text_of(&*panic)),
                };
                tally.lost.push(format!("{}, {cut:?}: {reason}", self.name));
            }
        }
        tally
    }

    /// The same, prints the figures and demands that nothing was lost.
    pub fn survives(&self, seed: u64, at_most: u64) {
        let tally = self.run(seed, at_most);
        let (boundaries, images, lost) = (tally.boundaries, tally.images, tally.lost.len());
        println!("{}: seed {seed}, {boundaries} boundaries, {images} images, {lost} lost", self.name);
        assert!(tally.lost.is_empty(), "{}", tally.lost.join("\n"));
        assert!(boundaries > 0 && images > 1, "{}: nothing was tried", self.name);
    }

    /// Where flushes of what counts begin and end.
    fn boundaries(&self) -> Vec<(usize, usize)> {
        let counts = |area: &str| area.is_empty() || self.areas.contains(&area);
        self.disk.flushes.iter().filter(|one| counts(&one.area)).map(|one| (one.begun, one.ended)).collect()
    }

    /// Right before and right after each flush and somewhere between two, with every loss; the end comes first.
    fn cuts(&self, seed: u64) -> Vec<Cut> {
        let mut dice = Dice(seed);
        let mut moments = vec![self.disk.end + 1];
        let mut last = 0;
        for (begun, ended) in self.boundaries() {
            let between = last + dice.below(begun.saturating_sub(last) as u64) as usize;
            moments.extend([between, begun, ended + 1]);
            last = ended + 1;
        }
        moments.push(last + dice.below(self.disk.end.saturating_sub(last) as u64) as usize);
        if self.at_every_change {
            let changes = self.disk.changes.iter().filter(|change| self.areas.contains(&change.area.as_str()));
            moments.extend(changes.map(|change| change.ended + 1));
        }
        let mut cuts = Vec::new();
        for at in moments {
            let done = self.disk.has_said(&self.done, at);
            cuts.extend(LOSSES.map(|loss| Cut { at, loss, seed: dice.below(u64::MAX), done }));
        }
        cuts
    }
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

fn digest(image: &Image) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{:?}", image.keys()).hash(&mut hasher);
    for item in image.values() {
        match item {
            super::disk::Item::File(bytes, time) => (bytes, time).hash(&mut hasher),
            super::disk::Item::Link(target) => target.hash(&mut hasher),
            super::disk::Item::Folder => {}
        }
    }
    hasher.finish()
}

/// What becomes of every change in a power cut.
pub fn fates(disk: &Disk, cut: Cut) -> Vec<Fate> {
    if cut.loss == Loss::Journal {
        return in_a_journal(disk, cut);
    }
    let mut dice = Dice(cut.seed);
    let durable = disk.durable(cut.at);
    let fate = |(change, durable): (&super::disk::Change, bool)| {
        if durable {
            return Fate::Whole;
        }
        if change.begun >= cut.at {
            return Fate::Lost;
        }
        let is_cache = change.area == "cache";
        match cut.loss {
            Loss::Everything => Fate::Lost,
            Loss::Nothing => Fate::Whole,
            Loss::EverythingButTheCache => if_kept(is_cache),
            Loss::TheCache => if_kept(!is_cache),
            Loss::Chance if dice.below(3) == 0 => Fate::Lost,
            Loss::Chance => {
                let kind = dice.below(4);
                torn(&change.what, kind, &mut dice)
            }
            Loss::NamesThenBeginnings => torn(&change.what, 1, &mut dice),
            Loss::NamesThenZeros => torn(&change.what, 2, &mut dice),
            Loss::NamesThenPages => torn(&change.what, 3, &mut dice),
            Loss::Journal => unreachable!("it was seen to above"),
        }
    };
    disk.changes.iter().zip(durable).map(fate).collect()
}

fn if_kept(kept: bool) -> Fate {
    if kept { Fate::Whole } else { Fate::Lost }
}

fn torn(what: &What, kind: u64, dice: &mut Dice) -> Fate {
    let What::Bytes { bytes, .. } = what else { return Fate::Whole };
    match kind {
        0 => Fate::Whole,
        1 => Fate::Prefix(dice.below(bytes.len() as u64) as usize),
        2 => Fate::Zeros,
        _ => Fate::Pages(dice.below(u64::MAX)),
    }
}

fn in_a_journal(disk: &Disk, cut: Cut) -> Vec<Fate> {
    let mut dice = Dice(cut.seed);
    let begun = disk.changes.iter().take_while(|change| change.begun < cut.at).count();
    let certain = disk.journalled(cut.at).min(begun);
    let mut written = certain + dice.below((begun - certain + 1) as u64) as usize;
    // Both halves of a renaming are one entry of the journal.
    while written > 0 && written < begun && disk.changes[written - 1].ended == disk.changes[written].ended {
        written += 1;
    }
    let durable = disk.durable(cut.at);
    let ends = ends_of_bytes(disk, written);
    let limits: BTreeMap<Node, (usize, u64)> =
        ends.iter().map(|(node, end)| (*node, (dice.below(*end as u64 + 1) as usize, dice.below(u64::MAX)))).collect();
    let lengthened: BTreeSet<Node> = disk.changes[..written]
        .iter()
        .filter_map(|change| match change.what {
            What::Length { node, .. } => Some(node),
            _ => None,
        })
        .collect();
    let fate = |(number, change): (usize, &super::disk::Change)| match &change.what {
        _ if durable[number] => Fate::Whole,
        What::Bytes { .. } if change.begun >= cut.at => Fate::Lost,
        What::Bytes { node, .. } if takes_a_name(disk, *node, number, written) => Fate::Whole,
        What::Bytes { node, offset, bytes } => match limits.get(node) {
            None => Fate::Lost,
            // What was there before, or has its length already, is written in any order.
            Some((_, bits)) if lengthened.contains(node) || disk.was_there(*node) => Fate::Pages(*bits),
            Some((limit, _)) if *limit <= *offset => Fate::Lost,
            Some((limit, _)) => Fate::Prefix((*limit - *offset).min(bytes.len())),
        },
        _ => if_kept(number < written),
    };
    disk.changes.iter().enumerate().map(fate).collect()
}

/// Up to where each file was written by changes that the journal has reached.
fn ends_of_bytes(disk: &Disk, written: usize) -> BTreeMap<Node, usize> {
    let mut ends = BTreeMap::new();
    for change in &disk.changes[..written] {
        if let What::Bytes { node, offset, bytes } = &change.what {
            let end: &mut usize = ends.entry(*node).or_default();
            *end = (*end).max(offset + bytes.len());
        }
    }
    ends
}

/// Whether a file takes the name of another after the change of that number, as far as the journal goes.
fn takes_a_name(disk: &Disk, file: Node, number: usize, written: usize) -> bool {
    disk.changes[..written]
        .iter()
        .skip(number)
        .any(|change| matches!(&change.what, What::Name { node: Some(node), replaces: true, .. } if *node == file))
}
