//! Each rule broken, one at a time, by a switch ([`Lie`]): then something that must hold does not. With the rule kept, the
//! very same schedules lose nothing. Where a rule is broken and nothing comes of it, another one stands behind it: then
//! that is broken too.
//!
//! The table in `src/repo/session.rs` names for each rule the test here that breaks it; the last test holds it complete.

use super::crowd::{Crowd, run_many};
use super::liar::{Liar, Lie};
use super::plans::{ANY_REQUEST, ANY_STEP, Act, Broken, Client, Files, HONEST, Plan, does, tries};
use super::turns::Moment::{Deletes, HasPut, Lists, Puts, Step};
use super::turns::Turn::{Crash, End, Hours, StoreHours, Until};
use keepstone::base::Clock;
use keepstone::store::{Memory, ObjectStore};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

/// Who breaks which rules.
type Lies<'l> = &'l [(usize, &'l [Lie])];

fn broken(lies: Lies<'_>) -> Broken<'_> {
    Broken { lies, ..Broken::default() }
}

/// With all rules kept nothing is wrong, wherever the open place is; gives how many places there are.
#[track_caller]
fn goes_well(plan: &Plan) -> u64 {
    let tried = plan.try_out(HONEST);
    if let Some(story) = tried.story() {
        panic!("no rule is broken, and {story}\n{plan:?}");
    }
    tried.places
}

#[track_caller]
fn goes_wrong(plan: &Plan, broken: Broken<'_>) {
    let tried = plan.try_out(broken);
    let Some(story) = tried.story() else {
        let trace = tried.last.trace.join("\n");
        panic!("{broken:?}: nothing is wrong at any of {} places of {plan:?}; the last:\n{trace}", tried.places);
    };
    println!("{broken:?}: {}", story.lines().next().unwrap_or_default());
}

/// A rule that nothing else stands behind.
#[track_caller]
fn is_needed(plan: &Plan, lies: Lies<'_>) {
    goes_well(plan);
    goes_wrong(plan, broken(lies));
}

/// A rule that another one stands behind, or that only saves work.
#[track_caller]
fn is_harmless(plan: &Plan, lies: Lies<'_>) {
    let tried = plan.try_out(broken(lies));
    if let Some(story) = tried.story() {
        panic!(
            "{lies:?}: {story}
{plan:?}"
        );
    }
}

const FORGET_AND_PRUNE: [Act; 2] = [Act::Forget("night-0"), Act::Prune];
const FORGET_ALL_AND_PRUNE: [Act; 4] =
    [Act::Forget("night-0"), Act::Forget("night-1"), Act::Forget("night-2"), Act::Prune];

/// 0 finds known what 1 takes away, anywhere in between.
fn a_prune_beside_a_backup() -> Plan {
    Plan {
        clients: vec![does([Act::BackUp("old", Files::Old)]), does(FORGET_AND_PRUNE)],
        turns: vec![Until(0, ANY_STEP), End(1), End(0)],
    }
}

/// The same, and 0 sleeps for a day.
fn a_writer_that_sleeps() -> Plan {
    let turns = vec![Until(0, ANY_STEP), Hours(26), End(1), End(0)];
    Plan { turns, ..a_prune_beside_a_backup() }
}

/// 1 leaves a record open for 0, who ends; 2 finds what it names, and 3 sweeps it, anywhere in between.
fn a_backup_beside_an_open_record() -> Plan {
    Plan {
        clients: vec![
            does([Act::BackUp("new", Files::New)]),
            does(FORGET_AND_PRUNE),
            does([Act::BackUp("old", Files::Old)]),
            does([Act::Prune]),
        ],
        turns: vec![Until(0, Puts("packs/")), End(1), End(0), Until(2, ANY_STEP), End(3), End(2)],
    }
}

/// 0 counts on what 1 condemns, and commits: `x` is a snapshot that the open record did not see, and what it needs is to
/// be spared. Then `clients` do what they do, from number 2 on, in `turns`.
fn after_a_late_commit(clients: impl IntoIterator<Item = Client>, turns: &[super::turns::Turn]) -> Plan {
    let mut all = vec![does([Act::BackUp("x", Files::Old)]), does(FORGET_AND_PRUNE)];
    all.extend(clients);
    Plan { clients: all, turns: [&[Until(0, Puts("snapshots/")), End(1), End(0)], turns].concat() }
}

/// 0 stores a difference, anywhere beside which 1 condemns what it hangs on; it dies without a snapshot, and 2 sweeps.
/// Then 3 finds the difference known.
fn a_difference_without_a_snapshot() -> Plan {
    Plan {
        clients: vec![
            does([Act::BackUp("lost", Files::Next)]),
            does(FORGET_ALL_AND_PRUNE),
            does([Act::Prune]),
            does([Act::BackUp("again", Files::Next)]),
        ],
        turns: vec![
            Until(0, ANY_STEP),
            End(1),
            Until(0, Puts("snapshots/")),
            Crash(0),
            Hours(26),
            // It does not come to a plan of its own.
            Until(2, HasPut("condemned/0000000001.done")),
            Crash(2),
            End(3),
        ],
    }
}

/// 0 sleeps, anywhere, while 1 takes away what its difference hangs on; it wakes up, stores its segment and dies. Then 2
/// finds the difference.
fn a_late_difference() -> Plan {
    Plan {
        clients: vec![
            tries([Act::BackUp("late", Files::Next)]),
            does(FORGET_ALL_AND_PRUNE),
            does([Act::BackUp("again", Files::Next)]),
        ],
        turns: vec![Until(0, ANY_STEP), Hours(26), End(1), Until(0, Puts("snapshots/")), Crash(0), End(2)],
    }
}

// ------------------------------------------------------------------------------------------- 1. mark, then look

#[test]
fn a_writer_that_looks_before_it_leaves_its_mark_is_found_out() {
    is_needed(&a_prune_beside_a_backup(), &[(0, &[Lie::MarksTooLate])]);
}

#[test]
fn a_writer_that_relies_on_what_it_says_it_has_seen_condemned_is_found_out() {
    is_needed(&a_backup_beside_an_open_record(), &[(2, &[Lie::RecordsAreNotHeeded])]);
}

#[test]
fn a_parent_that_is_taken_at_its_word_beside_a_record_that_did_not_see_it_is_found_out() {
    let clients = [does([Act::BackUpBeside("beside", Files::Old)]), does([Act::Forget("x"), Act::Prune])];
    let plan = after_a_late_commit(clients, &[Until(2, ANY_STEP), End(3), End(2)]);
    is_needed(&plan, &[(2, &[Lie::ParentsAreTakenAtTheirWord])]);
}

#[test]
fn a_tag_that_says_what_it_has_seen_is_found_out() {
    let clients = [tries([Act::Tag("x", "gold")]), does([Act::Forget("x"), Act::Prune])];
    let plan = after_a_late_commit(clients, &[Until(2, ANY_STEP), End(3), End(2)]);
    is_needed(&plan, &[(2, &[Lie::TagsSayWhatTheyHaveSeen])]);
}

// ------------------------------------------------------------------------- 2. nothing is deleted but by a record

#[test]
fn a_plan_that_lists_segments_before_snapshots_is_found_out() {
    let plan = Plan {
        clients: vec![does([Act::BackUp("new", Files::New)]), does(FORGET_AND_PRUNE)],
        turns: vec![Until(1, ANY_STEP), End(0), End(1)],
    };
    is_needed(&plan, &[(1, &[Lie::SegmentsAreListedFirst])]);
}

#[test]
fn a_snapshot_before_its_segments_is_found_out() {
    let plan =
        Plan { clients: vec![does([Act::BackUp("new", Files::New)])], turns: vec![Until(0, ANY_STEP), Crash(0)] };
    is_needed(&plan, &[(0, &[Lie::SegmentsFollowTheSnapshot])]);
}

#[test]
fn a_segment_before_its_packs_is_found_out() {
    let plan = Plan {
        clients: vec![does([Act::BackUp("new", Files::New)]), does([Act::BackUp("again", Files::New)])],
        turns: vec![Until(0, ANY_STEP), Crash(0), End(1)],
    };
    is_needed(&plan, &[(0, &[Lie::PacksFollowTheSegment])]);
}

#[test]
fn a_record_before_the_copies_is_found_out() {
    let plan = Plan { clients: vec![does(FORGET_AND_PRUNE)], turns: vec![Until(0, ANY_STEP), Crash(0)] };
    is_needed(&plan, &[(0, &[Lie::CopiesFollowTheRecord])]);
}

#[test]
fn what_is_held_and_how_old_a_pack_is_only_saves_work() {
    for lie in [Lie::NothingIsHeld, Lie::PacksSeemOld] {
        is_harmless(&a_prune_beside_a_backup(), &[(1, &[lie])]);
    }
}

// ------------------------------------------------------------------------------------ 3. fencing costs no data

#[test]
fn a_fenced_writer_that_commits_all_the_same_is_found_out() {
    is_needed(&a_writer_that_sleeps(), &[(0, &[Lie::TombstonesDoNotHold])]);
}

#[test]
fn a_fenced_writer_that_does_not_look_what_is_left_is_found_out() {
    goes_wrong(&a_writer_that_sleeps(), broken(&[(0, &[Lie::WhoWasFencedDoesNotLook])]));
}

#[test]
fn a_prune_that_clears_the_tombstones_of_those_who_may_wake_up_is_found_out() {
    goes_wrong(&a_writer_that_sleeps(), broken(&[(1, &[Lie::TombstonesAreCleared])]));
}

#[test]
fn a_late_segment_that_is_believed_after_the_record_was_closed_is_found_out() {
    is_needed(&a_late_difference(), &[(2, &[Lie::LateSegmentsAreBelieved])]);
}

#[test]
fn a_late_segment_that_is_believed_while_the_record_is_open_is_found_out() {
    let plan = Plan {
        clients: vec![
            tries([Act::BackUp("late", Files::Next)]),
            does(FORGET_ALL_AND_PRUNE),
            does([Act::Prune]),
            does([Act::BackUp("again", Files::Next)]),
        ],
        turns: vec![
            Until(0, ANY_STEP),
            End(1),
            Hours(26),
            Until(2, Puts("condemned/0000000001.done")),
            Crash(2),
            Until(0, Puts("snapshots/")),
            Crash(0),
            End(3),
        ],
    };
    is_needed(&plan, &[(3, &[Lie::SegmentsOfTheFencedAreBelieved])]);
}

/// 0 is about to commit, and each time somebody prunes.
fn a_writer_beside_many_prunes(between: &[super::turns::Turn], prune: Client) -> Plan {
    let mut turns = Vec::new();
    for other in 1..5 {
        turns.push(Until(0, Puts("snapshots/")));
        turns.extend(between);
        turns.push(End(other));
    }
    turns.push(End(0));
    let mut clients = vec![does([Act::BackUp("new", Files::New)])];
    clients.extend(std::iter::repeat_n(prune, 4));
    Plan { clients, turns }
}

#[test]
fn a_prune_that_fences_the_living_is_found_out() {
    let plan = a_writer_beside_many_prunes(&[], does([Act::Prune]));
    let lies: Vec<(usize, &[Lie])> = (1..5).map(|client| (client, &[Lie::EverybodySeemsDead][..])).collect();
    is_needed(&plan, &lies);
}

#[test]
fn fencing_the_living_costs_nobody_his_data() {
    let found = crowd_with(Lie::EverybodySeemsDead, false, 20);
    let lost = found.iter().find(|(_, what)| what.lines().next().is_some_and(|first| !first.contains("was fenced")));
    assert!(lost.is_none(), "{:?}", lost.map(|(seed, what)| (seed, what.lines().take(30).collect::<Vec<_>>())));
}

#[test]
fn a_prune_that_does_not_compare_the_clocks_is_found_out() {
    let honest = tries([Act::Prune]);
    goes_well(&a_writer_beside_many_prunes(&[StoreHours(30)], honest.clone()));
    let credulous = Client { by_the_store: true, ..honest };
    goes_wrong(&a_writer_beside_many_prunes(&[StoreHours(30)], credulous), HONEST);
}

#[test]
fn a_prune_for_which_nobody_grows_old_is_found_out() {
    let plan = Plan {
        clients: vec![does([Act::BackUp("new", Files::New)])],
        turns: vec![Until(0, Puts("snapshots/")), Crash(0)],
    };
    goes_well(&plan);
    goes_wrong(&plan, Broken { lies: &[], in_the_end: &[Lie::NobodyGrowsOld] });
}

// --------------------------------------------------------------------------------------------------- 4. sweeping

#[test]
fn a_prune_that_does_not_look_for_sessions_is_found_out() {
    goes_wrong(&a_prune_beside_a_backup(), broken(&[(1, &[Lie::NobodyElseIsThere])]));
    is_found_by_a_crowd(Lie::NobodyElseIsThere);
}

/// 0 counts on what 1 condemns, anywhere beside it, and commits; 2 sweeps.
fn a_commit_before_the_sweep() -> Plan {
    Plan {
        clients: vec![does([Act::BackUp("x", Files::Old)]), does(FORGET_AND_PRUNE), does([Act::Prune])],
        turns: vec![Until(0, ANY_STEP), End(1), End(0), End(2)],
    }
}

#[test]
fn a_sweep_that_does_not_look_at_new_snapshots_is_found_out() {
    is_needed(&a_commit_before_the_sweep(), &[(2, &[Lie::NewSnapshotsAreNotLookedAt])]);
    is_found_by_a_crowd(Lie::NewSnapshotsAreNotLookedAt);
}

#[test]
fn a_sweep_that_does_not_look_at_new_segments_is_found_out() {
    goes_wrong(&a_commit_before_the_sweep(), broken(&[(2, &[Lie::NewSegmentsAreNotLookedAt])]));
    // Of a run that left no snapshot it makes no difference: what the sweep did not see stands on no roster, is late, and
    // nobody counts on it.
    let plan = a_difference_without_a_snapshot();
    is_harmless(&plan, &[(2, &[Lie::NewSegmentsAreNotLookedAt])]);
    goes_wrong(&plan, broken(&[(2, &[Lie::NewSegmentsAreNotLookedAt]), (3, &[Lie::LateSegmentsAreBelieved])]));
}

#[test]
fn a_sweep_that_does_not_spare_what_new_segments_hang_on_is_found_out() {
    is_needed(&a_difference_without_a_snapshot(), &[(2, &[Lie::BasesAreNotSpared])]);
}

#[test]
fn a_sweep_that_lists_snapshots_before_sessions_is_found_out() {
    let plan = Plan {
        clients: vec![does([Act::BackUp("x", Files::Old)]), does(FORGET_AND_PRUNE), does([Act::Prune])],
        turns: vec![Until(0, Puts("snapshots/")), End(1), Until(2, ANY_STEP), End(0), End(2)],
    };
    is_needed(&plan, &[(2, &[Lie::SnapshotsAreListedFirst])]);
}

#[test]
fn a_decision_in_the_place_of_an_earlier_one_is_found_out() {
    let clients = [does([Act::Prune]), does([Act::BackUp("beside", Files::Old)]), does([Act::Forget("x"), Act::Prune])];
    let turns = [Until(2, Deletes("index/")), Crash(2), Until(3, ANY_STEP), End(4), End(3)];
    is_needed(&after_a_late_commit(clients, &turns), &[(4, &[Lie::DecisionsDoNotCount])]);
}

#[test]
fn a_sweep_that_brings_back_what_is_spared_after_segments_have_gone_is_found_out() {
    let plan = after_a_late_commit([does([Act::Prune])], &[Until(2, ANY_STEP), Crash(2)]);
    is_needed(&plan, &[(2, &[Lie::BringsBackTooLate])]);
}

#[test]
fn segments_go_before_packs_for_those_who_do_not_heed_the_record() {
    // A prune dies after it has deleted a pack, and a backup comes.
    let plan = Plan {
        clients: vec![does(FORGET_AND_PRUNE), does([Act::BackUp("old", Files::Old)])],
        turns: vec![Until(0, Deletes("packs/")), Until(0, Step(1)), Crash(0), End(1)],
    };
    goes_well(&plan);
    is_harmless(&plan, &[(0, &[Lie::SegmentsGoLast])]);
    is_harmless(&plan, &[(1, &[Lie::CondemnedPacksAreNotHeeded])]);
    goes_wrong(&plan, broken(&[(0, &[Lie::SegmentsGoLast]), (1, &[Lie::CondemnedPacksAreNotHeeded])]));
}

#[test]
fn a_writer_that_takes_no_notice_of_what_was_swept_is_found_out() {
    // 1 stores a merged segment that names what 0 has condemned meanwhile, and sweeps that: its segment still names it.
    let plan = Plan {
        clients: vec![
            does([Act::Prune]),
            does([Act::Forget("night-0"), Act::PruneUnneeded]),
            does([Act::BackUp("old", Files::Old)]),
        ],
        turns: vec![Until(1, Puts("index/")), End(0), Until(1, HasPut("condemned/0000000001.done")), Crash(1), End(2)],
    };
    is_needed(&plan, &[(2, &[Lie::SweptPacksAreNotHeeded])]);
}

// ------------------------------------------------------------------------------------------- what cannot be read

/// 0 meets a pack that it cannot read, and goes on beside it; 1 backs something up, anywhere in between. Then the pack is
/// as it was, and 2 prunes.
fn a_prune_beside_damage(prunes: impl Fn([Act; 3]) -> Client) -> Plan {
    let prune = prunes([Act::Forget("night-0"), Act::Forget("night-1"), Act::Prune]);
    Plan {
        clients: vec![
            Client { always: &[Lie::APackCannotBeRead], ..prune },
            does([Act::BackUp("next", Files::Next)]),
            does([Act::Prune]),
        ],
        turns: vec![Until(0, ANY_STEP), End(1), End(0), Hours(26), End(2)],
    }
}

#[test]
fn a_prune_that_lets_go_of_what_it_cannot_read_or_of_what_hangs_together_with_it_is_found_out() {
    let plan = a_prune_beside_damage(does);
    let tried = plan.try_out(HONEST);
    assert!(tried.story().is_none(), "{:?}", tried.story());
    let trace = &tried.last.trace;
    assert!(trace.iter().any(|line| line.contains("0 leaves packs/")), "{trace:#?}");
    assert!(trace.iter().any(|line| line.starts_with("0 Delete packs/")), "{trace:#?}");
    // Whether he fails is all one: snapshots are lost by it.
    let plan = a_prune_beside_damage(tries);
    for lie in [Lie::WhatCannotBeReadGoes, Lie::WhatItHangsOnGoes, Lie::WhatHangsOnItGoes] {
        goes_wrong(&plan, broken(&[(0, &[lie])]));
    }
}

// ----------------------------------------------------------------------------------------- one record at a time

#[test]
fn two_records_of_one_number_are_found_out() {
    let plan = Plan {
        clients: vec![
            does([Act::BackUp("new", Files::New)]),
            does(FORGET_AND_PRUNE),
            does([Act::PruneUnneeded]),
            does([Act::BackUp("old", Files::Old)]),
        ],
        turns: vec![
            Until(0, Puts("packs/")),
            // Its plan is made, and nobody can see it.
            Until(1, Puts("packs/")),
            End(2),
            Until(3, ANY_STEP),
            End(0),
            End(1),
            End(3),
        ],
    };
    is_needed(&plan, &[(1, &[Lie::NumbersDoNotCount])]);
}

#[test]
fn a_record_that_comes_too_late_is_withdrawn_and_if_it_is_not_its_decision_is() {
    let plan = Plan {
        clients: vec![tries(FORGET_AND_PRUNE), does([Act::PruneUnneeded]), does([Act::BackUp("old", Files::Old)])],
        turns: vec![
            Until(0, Puts("packs/")),
            Hours(26),
            End(1),
            Until(0, ANY_STEP),
            Until(2, Puts("snapshots/")),
            End(0),
            End(2),
        ],
    };
    goes_well(&plan);
    is_harmless(&plan, &[(0, &[Lie::LateRecordsStay])]);
    is_harmless(&plan, &[(0, &[Lie::LateDecisionsStay])]);
    goes_wrong(&plan, broken(&[(0, &[Lie::LateRecordsStay, Lie::LateDecisionsStay])]));
}

#[test]
fn a_decision_that_comes_too_late_and_is_not_withdrawn_is_found_out() {
    let clients =
        [does([Act::Prune]), does([Act::Forget("x")]), tries([Act::Prune]), does([Act::BackUp("beside", Files::Old)])];
    let turns = [
        Until(2, Puts("condemned/0000000001.spared")),
        End(3),
        Until(4, Puts("condemned/0000000001.spared")),
        Until(2, HasPut("condemned/0000000001.done")),
        Until(2, Lists("condemned")),
        Crash(2),
        Until(5, ANY_STEP),
        End(4),
        End(5),
    ];
    is_needed(&after_a_late_commit(clients, &turns), &[(4, &[Lie::LateDecisionsStay])]);
}

// ----------------------------------------------------------------------------------- 5. caches and 6. readers

#[test]
fn a_writer_that_does_not_compare_its_index_with_the_store_is_found_out() {
    let old = does([Act::BackUpWithCache("old", Files::Old)]);
    let plan = Plan { clients: vec![old, does(FORGET_AND_PRUNE)], ..a_prune_beside_a_backup() };
    is_needed(&plan, &[(0, &[Lie::NothingIsCompared])]);
}

#[test]
fn a_reader_that_leaves_no_mark_is_found_out() {
    for act in [Act::Restore("night-0"), Act::Verify] {
        let plan = Plan {
            clients: vec![does([act]), does(FORGET_AND_PRUNE)],
            // It looks at the records when it opens the index, and after its mark.
            turns: vec![
                Until(0, Lists("condemned")),
                Until(0, Lists("condemned")),
                Until(0, ANY_REQUEST),
                End(1),
                End(0),
            ],
        };
        is_needed(&plan, &[(0, &[Lie::NoMarkIsLeft])]);
    }
}

// ------------------------------------------------------------------------------------------------------- crowds

fn crowd_with(lie: Lie, hurts: bool, schedules: u64) -> Vec<(u64, String)> {
    let clock = Clock::manual("2031-05-02T12:00:00Z".parse().unwrap());
    let view = move |_: usize, inner: Memory| -> Arc<dyn ObjectStore> {
        Arc::new(Liar::new(Arc::new(inner.clone()), inner, &[lie], clock.clone()))
    };
    run_many(1..schedules + 1, &Crowd { clients: 4, actions: 4, view: &view, hurts }, 1, None)
}

/// A crowd finds the coarsest mistakes without being told where to look: so it does look.
#[track_caller]
fn is_found_by_a_crowd(lie: Lie) {
    let found = crowd_with(lie, true, 1500);
    let (seed, what) = found.first().unwrap_or_else(|| panic!("{lie:?}: nothing was wrong in any schedule"));
    println!("{lie:?}: seed {seed}: {}", what.lines().next().unwrap_or_default());
}

// ---------------------------------------------------------------------------------------------------- the table

fn read(path: &str) -> String {
    let root = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    std::fs::read_to_string(root.join(path)).unwrap()
}

/// The names of the tests in a file of the simulation.
fn tests_in(file: &str) -> BTreeSet<String> {
    let text = read(&format!("tests/simulation/{file}"));
    let after = text.split("#[test]\n").skip(1).filter_map(|rest| rest.split_once("fn "));
    after.map(|(_, rest)| rest.split('(').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn the_table_of_rules_names_every_test_that_breaks_one_and_every_test_it_names_is_there() {
    let head: String = read("src/repo/session.rs").lines().take_while(|line| line.starts_with("//!")).collect();
    let words = head.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let named: BTreeSet<String> = words.filter(|word| word.matches('_').count() > 3).map(str::to_owned).collect();
    let own = "the_table_of_rules_names_every_test_that_breaks_one_and_every_test_it_names_is_there";
    let breaking: BTreeSet<String> = tests_in("mutations.rs").into_iter().filter(|name| name != own).collect();
    let unnamed: Vec<&String> = breaking.difference(&named).collect();
    assert!(breaking.len() > 25 && unnamed.is_empty(), "src/repo/session.rs does not name {unnamed:?}");
    let all: BTreeSet<String> = breaking.into_iter().chain(tests_in("pairs.rs")).collect();
    let absent: Vec<&String> = named.difference(&all).collect();
    assert!(absent.is_empty(), "src/repo/session.rs names tests that are not there: {absent:?}");
    let lies = read("tests/simulation/liar.rs");
    let lies = lies.split_once("pub enum Lie {").and_then(|(_, rest)| rest.split_once('}')).unwrap().0;
    let lies = lies.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
    let used = read("tests/simulation/mutations.rs") + &read("tests/simulation/killed.rs");
    let unused: Vec<&str> = lies.filter(|lie| !used.contains(&format!("Lie::{}", lie.trim_end_matches(',')))).collect();
    assert!(unused.is_empty(), "nobody tells these lies: {unused:?}");
}
