//! Killed at any step while others are at work: nothing is lost, nobody who lives is hurt, and nothing is left lying.
//!
//! What one alone leaves when it is killed is in `tests/crash.rs`.

use super::liar::Lie;
use super::plans::{ANY_STEP, Act, Broken, Client, Files, HONEST, Plan, does, tries};
use super::turns::Moment::{Lists, Puts};
use super::turns::Turn::{self, Crash, End, Until};

const OLD: Act = Act::BackUp("old", Files::Old);
const AGAIN: Act = Act::BackUp("again", Files::Old);
const FORGET_AND_PRUNE: [Act; 2] = [Act::Forget("night-0"), Act::Prune];

/// Tries a plan everywhere; gives how many places there are.
#[track_caller]
fn goes_well(clients: impl IntoIterator<Item = Client>, turns: &[Turn], broken: Broken<'_>) -> u64 {
    let plan = Plan { clients: clients.into_iter().collect(), turns: turns.to_vec() };
    let tried = plan.try_out(broken);
    if let Some(story) = tried.story() {
        panic!("{story}\n{plan:?}");
    }
    tried.places
}

#[test]
fn a_backup_that_stores_again_what_is_condemned_may_be_killed_at_any_step() {
    // 1 leaves a record open for 0. 2 finds what it names and stores it again; killed, it has not said that it is over.
    let clients = [
        does([Act::BackUp("new", Files::New)]),
        does(FORGET_AND_PRUNE),
        does([OLD]),
        does([Act::Prune]),
        does([AGAIN]),
    ];
    let turns = [Until(0, Puts("packs/")), End(1), End(0), Until(2, ANY_STEP), Crash(2), End(3), End(4)];
    let places = goes_well(clients.clone(), &turns, HONEST);
    assert!(places > 10, "{places}");
    // The next backup comes before the sweep, or in its middle.
    let turns = [Until(0, Puts("packs/")), End(1), End(0), Until(2, ANY_STEP), Crash(2), End(4), End(3)];
    goes_well(clients.clone(), &turns, HONEST);
    let middle = Until(3, Puts("condemned/0000000001.spared"));
    let turns = [Until(0, Puts("packs/")), End(1), End(0), Until(2, ANY_STEP), Crash(2), middle, End(4), End(3)];
    goes_well(clients, &turns, HONEST);
}

#[test]
fn a_prune_that_spares_what_is_needed_after_all_may_be_killed_at_any_step() {
    // 0 counts on what 1 condemns and commits. 2 spares it and is killed; 3 finds it known, and 4 sweeps the rest.
    let clients = [does([OLD]), does(FORGET_AND_PRUNE), does([Act::Prune]), does([AGAIN]), does([Act::Prune])];
    let before = [Until(0, Puts("snapshots/")), End(1), End(0), Until(2, ANY_STEP), Crash(2)];
    let places = goes_well(clients.clone(), &[&before[..], &[End(3), End(4)]].concat(), HONEST);
    assert!(places > 20, "{places}");
    // 4 sweeps while 3 is about to commit.
    goes_well(clients, &[&before[..], &[Until(3, Puts("snapshots/")), End(4), End(3)]].concat(), HONEST);
}

#[test]
fn a_sweep_beside_an_open_writer_may_be_killed_at_any_step_and_is_taken_up_by_the_next_prune() {
    // 2 has begun after the record was there, and is open while 3 sweeps and is killed; 4 takes it up.
    let clients = [
        does([Act::BackUp("new", Files::New)]),
        does(FORGET_AND_PRUNE),
        does([OLD]),
        does([Act::Prune]),
        does([Act::Prune]),
    ];
    let turns = [
        Until(0, Puts("packs/")),
        End(1),
        End(0),
        Until(2, Puts("packs/")),
        Until(3, ANY_STEP),
        Crash(3),
        End(4),
        End(2),
    ];
    let places = goes_well(clients, &turns, HONEST);
    assert!(places > 20, "{places}");
}

#[test]
fn a_prune_that_is_killed_at_any_step_is_taken_up_beside_a_writer_that_began_before_or_after() {
    let clients = [does([OLD]), does(FORGET_AND_PRUNE), does([Act::Prune])];
    let before = [Until(0, Puts("snapshots/")), Until(1, ANY_STEP), Crash(1), End(2), End(0)];
    let after = [Until(1, ANY_STEP), Crash(1), Until(0, Puts("snapshots/")), End(2), End(0)];
    for turns in [before, after] {
        let places = goes_well(clients.clone(), &turns, HONEST);
        assert!(places > 20, "{places}");
    }
}

// ------------------------------------------------------------- a store that only looks before it puts: alone or not at all

/// Everybody's store.
const EVERYWHERE: Broken<'static> = Broken {
    lies: &[(0, &[Lie::PutsAreNotAtomic]), (1, &[Lie::PutsAreNotAtomic]), (2, &[Lie::PutsAreNotAtomic])],
    in_the_end: &[Lie::PutsAreNotAtomic],
};

#[test]
fn an_exclusive_prune_refuses_beside_a_writer_or_takes_nothing_from_it() {
    goes_well([does([OLD]), tries(FORGET_AND_PRUNE)], &[Until(0, ANY_STEP), End(1), End(0)], EVERYWHERE);
    goes_well([tries(FORGET_AND_PRUNE), does([OLD])], &[Until(0, ANY_STEP), End(1), End(0)], EVERYWHERE);
}

#[test]
fn an_exclusive_prune_beside_another_takes_nothing_that_is_needed() {
    let clients = [tries(FORGET_AND_PRUNE), tries([Act::PruneUnneeded])];
    goes_well(clients, &[Until(0, ANY_STEP), End(1), End(0)], EVERYWHERE);
}

#[test]
fn an_exclusive_prune_may_be_killed_at_any_step() {
    // Its session is open until it is old: whoever prunes before that refuses.
    let clients = [does(FORGET_AND_PRUNE), does([OLD]), tries([Act::Prune])];
    let places = goes_well(clients, &[Until(0, ANY_STEP), Crash(0), End(1), End(2)], EVERYWHERE);
    assert!(places > 20, "{places}");
}

#[test]
fn an_exclusive_prune_does_not_go_on_while_somebody_is_at_work() {
    let plan = Plan {
        clients: vec![does([OLD]), does(FORGET_AND_PRUNE)],
        turns: vec![Until(0, Lists("snapshots")), End(1), End(0)],
    };
    let ran = plan.try_out(EVERYWHERE).last;
    assert_eq!(ran.wrong.len(), 1, "{:?}", ran.wrong);
    assert!(ran.wrong[0].starts_with("Prune fails: somebody else is at work: backup on host "), "{:?}", ran.wrong);
}
