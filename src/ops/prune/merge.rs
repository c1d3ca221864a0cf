//! Merging index segments, in levels.
//!
//! What a writer stores has level 0. More than [`MOST_OF_A_LEVEL`] segments of one level become one of the next, so an
//! entry is written anew once per level and there are never many segments, however many nights there were. A segment
//! that names packs which go is written anew without them, at its own level, together with the others of that level.
//! One that was replaced earlier and that the store refused to delete is not read again: it goes once more.

use super::super::{Context, Error, Result};
use super::plan::Plan;
use crate::base::monitor::Event;
use crate::base::{PackId, SegmentId, SessionId, SortedSet};
use crate::format::segment::MAX_LEVEL;
use crate::repo::index::{Origin, Vouching, each_segment, merge_segments, present_segments};
use std::collections::BTreeSet;

/// More segments of one level than this become one of the next.
const MOST_OF_A_LEVEL: usize = 16;

/// Which segments are replaced, and by what.
#[derive(Default)]
pub struct Merge {
    /// Segments that go.
    pub replaced: Vec<SegmentId>,
    /// Segments that stay, new ones included.
    pub kept: Vec<SegmentId>,
    /// How many are new.
    pub written: u64,
}

/// What a segment says of itself, as far as merging needs it.
struct Member {
    id: SegmentId,
    bytes: u64,
    level: u32,
    /// It names packs that go.
    going: bool,
    /// It names packs that stay.
    staying: bool,
    /// Whether somebody vouches for what it says.
    vouching: Vouching,
}

/// One segment to be written: its level, and those in whose place it comes, by their places in the list.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    level: u32,
    members: Vec<usize>,
}

/// Stores segments in the place of those that name packs that go, and of those of levels that are too full.
pub fn merge(context: &Context, plan: &Plan<'_>, session: SessionId, condemned_seen: u64) -> Result<Merge> {
    let (store, keyring) = (&**context.repository.store(), context.repository.keyring());
    let went = context.index.went()?;
    let (replaced, present): (Vec<_>, Vec<_>) =
        present_segments(store)?.into_iter().partition(|(id, _)| went.contains(id));
    let (members, proven) = look_at(context, plan, &present)?;
    let mut merge = Merge { replaced: replaced.into_iter().map(|(id, _)| id).collect(), ..Merge::default() };
    for group in &all_groups(&members) {
        let vouching = members[group.members[0]].vouching;
        context.check_stop()?;
        context.monitor.event(Event::Phase("merging the index"));
        let sized: Vec<(SegmentId, u64)> =
            group.members.iter().map(|place| (members[*place].id, members[*place].bytes)).collect();
        let replaced: Vec<SegmentId> = sized.iter().map(|(id, _)| *id).collect();
        if group.members.iter().any(|place| members[*place].staying) {
            let origin = Origin {
                session,
                level: group.level,
                supersedes: replaced.clone(),
                previous: Vec::new(),
                condemned_seen,
                written_ns: context.repository.now_ns(),
            };
            let stays = |pack: &PackId| !plan.goes(pack) && (vouching == Vouching::Vouched || !proven.contains(pack));
            merge.kept.push(merge_segments(store, keyring, origin, (&sized, vouching), &stays)?);
        }
        merge.replaced.extend(replaced);
        merge.written = merge.kept.len() as u64;
    }
    let replaced: BTreeSet<&SegmentId> = merge.replaced.iter().collect();
    merge.kept.extend(members.iter().map(|member| member.id).filter(|id| !replaced.contains(id)));
    Ok(merge)
}

/// What the segments in the store say of themselves; and the packs for which somebody vouches, if there are segments for
/// which nobody does. What these say of such packs counts for nothing: it is no reason for them to stay.
fn look_at(
    context: &Context,
    plan: &Plan<'_>,
    present: &[(SegmentId, u64)],
) -> Result<(Vec<Member>, SortedSet<PackId>)> {
    let (store, keyring) = (&**context.repository.store(), context.repository.keyring());
    let mut sizes = present.iter().map(|(_, bytes)| *bytes);
    let mut members = Vec::with_capacity(present.len());
    let mut proven = None;
    each_segment(store, keyring, present, |id, mut reader| {
        let bytes = sizes.next().expect("as many readers as segments");
        let vouching = if reader.is_proven() { Vouching::Vouched } else { Vouching::Unvouched };
        if let (Vouching::Unvouched, None) = (vouching, &proven) {
            proven = Some(proven_packs(context)?);
        }
        let proven = proven.as_ref().filter(|_| vouching == Vouching::Unvouched);
        let mut member = Member { id, bytes, level: reader.head.level, going: false, staying: false, vouching };
        while let Some(pack) = reader.next_pack()? {
            match plan.goes(&pack.id) || proven.is_some_and(|proven| proven.contains(&pack.id)) {
                true => member.going = true,
                false => member.staying = true,
            }
        }
        members.push(member);
        Ok::<_, Error>(())
    })?;
    Ok((members, proven.unwrap_or_default()))
}

fn proven_packs(context: &Context) -> Result<SortedSet<PackId>> {
    let mut proven = Vec::new();
    context.index.each_pack::<Error>(&mut |pack| {
        proven.extend(pack.proven.then_some(pack.id));
        Ok(())
    })?;
    Ok(proven.into_iter().collect())
}

/// Which segments are written anew, and together with which: never those for which somebody vouches with others.
fn all_groups(members: &[Member]) -> Vec<Group> {
    let of = |vouching| (0..members.len()).filter(move |place| members[*place].vouching == vouching);
    let vouched: Vec<usize> = of(Vouching::Vouched).collect();
    let levels: Vec<(u32, bool)> = vouched.iter().map(|place| (members[*place].level, members[*place].going)).collect();
    let mut groups = group(&levels);
    for group in &mut groups {
        group.members.iter_mut().for_each(|member| *member = vouched[*member]);
    }
    // Others are few: a prune vouches for what they say, and then they go.
    let going: Vec<usize> = of(Vouching::Unvouched).filter(|place| members[*place].going).collect();
    if !going.is_empty() {
        groups.push(Group { level: 0, members: going });
    }
    groups
}

/// Which segments, given by level and by whether they name packs that go, are written anew, and together with which.
fn group(segments: &[(u32, bool)]) -> Vec<Group> {
    let mut groups = Vec::new();
    // What comes up from the level below, to be one segment of this one.
    let mut rising: Vec<usize> = Vec::new();
    for level in 0..=MAX_LEVEL {
        let here: Vec<usize> = (0..segments.len()).filter(|place| segments[*place].0 == level).collect();
        let count = here.len() + usize::from(!rising.is_empty());
        let anew: Vec<usize> = here.iter().copied().filter(|place| segments[*place].1).collect();
        if count > MOST_OF_A_LEVEL && level < MAX_LEVEL {
            rising.extend(here);
            continue;
        }
        // There is no level above the highest.
        rising.extend(if count > MOST_OF_A_LEVEL { here } else { anew });
        if !rising.is_empty() {
            groups.push(Group { level, members: std::mem::take(&mut rising) });
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(level: u32, members: std::ops::Range<usize>) -> Group {
        Group { level, members: members.collect() }
    }

    #[test]
    fn a_level_that_is_too_full_becomes_one_of_the_next() {
        let level = |level: u32, count: usize| vec![(level, false); count];
        assert_eq!(group(&level(0, 16)), []);
        assert_eq!(group(&level(0, 17)), [of(1, 0..17)]);
        assert_eq!(group(&[level(0, 17), level(1, 15)].concat()), [of(1, 0..17)]);
        assert_eq!(group(&[level(0, 17), level(1, 16)].concat()), [of(2, 0..33)]);
        assert_eq!(group(&level(MAX_LEVEL, 17)), [of(MAX_LEVEL, 0..17)]);
    }

    #[test]
    fn what_names_packs_that_go_is_written_anew_at_its_level() {
        assert_eq!(group(&[(0, true)]), [of(0, 0..1)]);
        assert_eq!(group(&[(0, true), (0, false), (0, true), (3, true)]).len(), 2);
        assert_eq!(group(&[(0, true), (0, true), (3, true)]), [of(0, 0..2), of(3, 2..3)]);
        // Together with what comes up from below.
        let mut mixed = vec![(0, false); 17];
        mixed.push((1, true));
        assert_eq!(group(&mixed), [of(1, 0..18)]);
    }

    #[test]
    fn five_years_of_nights_from_fifty_machines_are_few_segments_and_little_is_written_twice() {
        // Each segment counts the nights in it.
        let mut segments: Vec<(u32, u64)> = Vec::new();
        let mut written = 0;
        let nights = 5 * 365 * 50;
        for week in 0..nights / 350 {
            segments.extend(std::iter::repeat_n((0, 1), 350));
            let levels: Vec<(u32, bool)> = segments.iter().map(|(level, _)| (*level, false)).collect();
            let mut merged: Vec<(u32, u64)> = Vec::new();
            let mut gone = vec![false; segments.len()];
            for group in group(&levels) {
                let nights = group.members.iter().map(|place| segments[*place].1).sum();
                group.members.iter().for_each(|place| gone[*place] = true);
                written += nights;
                merged.push((group.level, nights));
            }
            let mut stays = gone.iter();
            segments.retain(|_| stays.next() == Some(&false));
            segments.extend(merged);
            for level in 0..=MAX_LEVEL {
                let count = segments.iter().filter(|(of, _)| *of == level).count();
                assert!(count <= MOST_OF_A_LEVEL, "week {week}: {count} of level {level}");
            }
        }
        assert_eq!(segments.iter().map(|(_, nights)| nights).sum::<u64>(), nights / 350 * 350);
        assert!(segments.len() < 100 && written < 4 * nights, "{} segments, {written} written", segments.len());
    }
}
