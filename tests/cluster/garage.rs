//! A repository on a cluster of Garage. Every node can be asked, and none of them honours put-if-absent.

use super::*;
use crate::s3::faults::live;
use crate::servers::garage::{self, Garage, NODES, REGION};
use crate::servers::proxy::faults;
use keepstone::base::Kind;
use keepstone::store::{Area, Key, ObjectStore, Put, S3};
use std::sync::mpsc;
use std::time::Duration;

/// Until a program that was started has come to the moment that is waited for, at most.
const PATIENCE: Duration = Duration::from_secs(120);

/// A fresh cluster, if these tests are to run and can.
fn scene() -> Option<Scene<Garage>> {
    is_long().then(garage::cluster).flatten().map(Scene::of)
}

#[test]
fn nodes_may_go_during_backup_restore_and_prune_and_nothing_is_lost() {
    let Some(scene) = scene() else { return };
    let line = Line::to(scene.cluster.port(0));
    scene.begin(line.port());
    scene.loses_in_a_backup(&line, 1);
    scene.loses_in_a_restore(&line, 2);
    scene.loses_in_a_prune(&line, 1);
}

#[test]
fn the_node_that_is_asked_may_go_and_the_next_run_goes_well_at_another() {
    let Some(scene) = scene() else { return };
    let line = Line::to(scene.cluster.port(0));
    let (first, other) = (line.port(), scene.cluster.port(1));
    let tries = ["--s3-tries", "2"];
    scene.begin(first);

    scene.fails_when_these_go(&line, &[0], 0);
    scene.run(other, &["verify", "--all"]).expect(0);
    scene.run(other, &["backup", "source"]).expect(0);
    scene.is_whole(other, "backed-up");
    // It comes back without having heard of any of it, and is asked at once.
    scene.cluster.switch_on(0);
    scene.is_whole(first, "known-to-the-first");

    line.plan(gets_of_a_pack, 1, scene.off(&[0]));
    scene.run(first, &[&["restore", "latest", "--target", "back"], &tries[..]].concat()).expect(1);
    line.has_struck();
    scene.run(other, &["restore", "latest", "--target", "back"]).expect(0);
    scene.cluster.switch_on(0);

    fs::remove_file(scene.place.path("source/0-0.bin")).unwrap();
    scene.write(1);
    scene.run(first, &["backup", "source"]).expect(0);
    scene.run(first, &["forget", "--keep-last", "1"]).expect(0);
    line.plan(deletes, 0, scene.off(&[0]));
    let prune = ["prune", "--max-unused", "0", "--json"];
    scene.run(first, &[&prune, &tries[..]].concat()).expect(1);
    line.has_struck();
    scene.is_whole(other, "half-pruned");
    // The mark of the prune that failed is that of a process which is gone: it keeps nobody away.
    scene.run(other, &prune).expect(0);
    scene.cluster.switch_on(0);
    // Its listings still show what was deleted meanwhile; nobody relies on that.
    scene.is_whole(first, "pruned");
    scene.write(2);
    scene.run(first, &["backup", "source"]).expect(0);
    scene.is_whole(other, "backed-up-again");
    let pruned = scene.run(first, &prune).expect(0).json().remove(0);
    assert_eq!((&pruned["packs_deleted"], &pruned["snapshots"]), (&0.into(), &2.into()), "{pruned}");
    scene.is_whole(first, "pruned-again");
}

#[test]
fn a_node_that_is_away_for_a_moment_costs_a_run_nothing_but_time() {
    let Some(scene) = scene() else { return };
    let line = Line::to(scene.cluster.port(0));
    scene.begin(line.port());
    scene.write(0);
    let (off, (gone, is_gone)) = (scene.off(&[0]), mpsc::channel());
    line.plan(puts_a_pack, 1, move || {
        off();
        gone.send(()).unwrap();
    });
    let backup = scene.command(line.port(), &["backup", "source", "--json"]).spawn().unwrap();
    is_gone.recv_timeout(PATIENCE).unwrap();
    scene.cluster.switch_on(0);
    let done = Run::of(backup).expect(0);
    let store = &done.json()[0]["store"];
    assert!(store["retries"].as_u64().unwrap() > 0, "{store}");
    scene.is_whole(line.port(), "back");
}

#[test]
fn without_a_majority_runs_fail_nothing_is_taken_for_damaged_and_nothing_is_lost() {
    let Some(scene) = scene() else { return };
    let line = Line::to(scene.cluster.port(0));
    let port = line.port();
    scene.begin(port);
    scene.fails_when_these_go(&line, &[1, 2], 0);
    for command in [&["verify", "--all"][..], &["restore", "latest", "--target", "no-restore"], &["prune"]] {
        let failed = scene.run(port, &[command, &["--s3-tries", "2"]].concat()).expect(1);
        let said = format!("{}{}", failed.text(), failed.err);
        assert!(!said.contains("damage"), "{command:?}: {said}");
    }
    scene.cluster.switch_on(1);
    scene.run(port, &["verify", "--all"]).expect(0);
    scene.run(port, &["backup", "source"]).expect(0);
    scene.is_whole(port, "with-two");
    scene.cluster.switch_on(2);
    scene.is_whole(scene.cluster.port(2), "with-three");
    scene.run(port, &["prune", "--max-unused", "0"]).expect(0);
    scene.is_whole(port, "pruned");
}

#[test]
fn a_whole_life_goes_well_through_a_line_that_harms_every_fifth_request() {
    let Some(Scene { cluster, .. }) = scene() else { return };
    for seed in 1..6 {
        println!("seed {seed}");
        let place = Place::new();
        let proxy = Proxy::before(cluster.port(0), faults(seed, 20));
        let run = |port: u16, args: &[&str]| {
            let repository = format!("s3:http://127.0.0.1:{port}/vault/seed-{seed}");
            let lead = |command: &mut Command| {
                command.env("KEEPSTONE_REPOSITORY", repository).envs(cluster.environment());
            };
            place.run_with(args, lead, b"")
        };
        live(&place, |args| run(proxy.port, args));
        // What was stored through it is whole for those who come another way.
        run(cluster.port(1), &["verify", "--all"]).expect(0);
    }
}

#[test]
fn that_it_overwrites_what_is_there_is_found_out_and_prune_stays_alone() {
    let Some(scene) = scene() else { return };
    let line = Line::to(scene.cluster.port(0));
    let (slow, other) = (line.port(), scene.cluster.port(1));
    let probed = scene.run(other, &["store", "probe"]).expect(0).text();
    assert!(probed.contains("warning  put-if-absent"), "{probed}");
    for well in ["list-after-write", "range reads", "clock", "delete", "versions"] {
        assert!(probed.contains(&format!("ok       {well}")), "{probed}");
    }
    let made = scene.run(other, &[&["init"], &CHEAP[..]].concat()).expect(0);
    assert!(made.err.contains("does not honour put-if-absent"), "{}", made.err);

    // Prunes keep away while a backup is at work at another node, and backups do not wait for each other.
    scene.write(0);
    let (held, is_held) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    line.plan(puts_a_pack, 0, move || {
        held.send(()).unwrap();
        // It goes on as well when this test has failed.
        _ = may_go_on.recv_timeout(PATIENCE);
    });
    let backup = scene.command(slow, &["backup", "source", "--host", "web1"]).spawn().unwrap();
    is_held.recv_timeout(PATIENCE).unwrap();
    scene.run(other, &["backup", "source", "--host", "web2"]).expect(0);
    let refused = scene.run(other, &["prune"]).expect(11);
    assert!(refused.err.contains("somebody else is at work: backup"), "{}", refused.err);
    go_on.send(()).unwrap();
    Run::of(backup).expect(0);
    scene.is_whole(other, "back");
    scene.run(other, &["forget", "--keep-last", "1"]).expect(0);
    scene.run(other, &["prune", "--max-unused", "0"]).expect(0);
    scene.is_whole(slow, "pruned");
}

/// Whether a listing shows an object.
fn shows(store: &S3, key: &Key) -> bool {
    let mut shown = false;
    store.list(Area::Sessions, &mut |listed| shown |= listed.name == key.name()).unwrap();
    shown
}

#[test]
fn what_one_node_has_stored_the_others_show_at_once() {
    const ROUNDS: usize = 120;
    let Some(scene) = scene() else { return };
    let stores: Vec<S3> = (0..NODES).map(|node| scene.cluster.store(node, "shown")).collect();
    for round in 0..ROUNDS {
        // With all nodes, and then with one that is off.
        if round == ROUNDS / 2 {
            scene.cluster.switch_off(2);
        }
        let on = if round < ROUNDS / 2 { NODES } else { NODES - 1 };
        let (one, another) = (&stores[round % on], &stores[(round + 1) % on]);
        let key = Key::new(Area::Sessions, format!("{round:032x}"));
        assert_eq!(one.put(&key, b"here").unwrap(), Put::Stored);
        assert!(shows(another, &key), "round {round}");
        assert_eq!(another.get(&key, 64).unwrap(), b"here");
        another.delete(&key).unwrap();
        assert_eq!(one.get(&key, 64).unwrap_err().kind(), Kind::NotFound, "round {round}");
        // A listing is in no such hurry.
        assert!(comes_about(|| !shows(one, &key)), "round {round}");
    }
    // The node that missed half of it knows all the same.
    let last = Key::new(Area::Sessions, "last");
    stores[0].put(&last, b"here").unwrap();
    scene.cluster.switch_on(2);
    assert!(shows(&stores[2], &last));
    let gone = Key::new(Area::Sessions, format!("{:032x}", ROUNDS - 1));
    assert_eq!(stores[2].get(&gone, 64).unwrap_err().kind(), Kind::NotFound);
    assert!(comes_about(|| !shows(&stores[2], &gone)));
}

#[test]
fn what_is_wrong_with_a_bucket_is_said_with_its_remedy() {
    let Some(scene) = scene() else { return };
    let port = scene.cluster.port(0);
    scene.begin(port);
    let vault = scene.cluster.place(port);
    let stranger = scene.cluster.stranger();
    let (access, secret) = (stranger.0.as_str(), stranger.1.as_str());
    for (repository, changed, code, words) in [
        (vault.replace("vault", "nowhere"), vec![], 10, "make the bucket first"),
        (vault.clone(), vec![("AWS_REGION", "us-east-1")], 2, REGION),
        (vault.clone(), vec![("AWS_SECRET_ACCESS_KEY", "wrong")], 1, "secret key"),
        (vault.clone(), vec![("AWS_ACCESS_KEY_ID", "GK000000000000000000000000")], 1, "does not know this access key"),
        (vault.clone(), vec![("AWS_ACCESS_KEY_ID", access), ("AWS_SECRET_ACCESS_KEY", secret)], 1, "s3:GetObject"),
    ] {
        let lead = |command: &mut Command| {
            scene.lead(command, port);
            command.env("KEEPSTONE_REPOSITORY", &repository).envs(changed.iter().copied());
        };
        let done = scene.place.run_with(&["backup", "source"], lead, b"").expect(code);
        assert!(done.err.contains(words), "{repository} {changed:?}: {}", done.err);
    }

    // A quota that is used up, and then raised.
    scene.cluster.limit("5MB");
    scene.write(0);
    let full = scene.run(port, &["backup", "source"]).expect(1);
    assert!(full.err.contains("quota") && full.err.contains("make room"), "{}", full.err);
    assert!(!full.err.contains("need the right"), "{}", full.err);
    scene.cluster.limit("none");
    scene.run(port, &["backup", "source"]).expect(0);
    scene.is_whole(port, "back");

    // It takes objects that are to be locked and does not lock them.
    let lock = ["--s3-object-lock", "governance:3"];
    let probed = scene.run(port, &[&["store", "probe"], &lock[..]].concat()).expect(1);
    assert!(probed.text().contains("failed   object lock"), "{}", probed.text());
    let refused = scene.run(port, &[&["backup", "source"], &lock[..]].concat()).expect(1);
    assert!(refused.err.contains("--s3-object-lock"), "{}", refused.err);
}
