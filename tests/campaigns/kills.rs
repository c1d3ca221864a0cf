//! `kill -9` of the real program, again and again, while it backs up, prunes and verifies, in a folder and in a bucket:
//! afterwards all that was committed verifies and restores, and the next backup goes well.
//!
//! The moment is chosen by what has happened in the repository so far, not by a clock.

use super::{Dice, first_seed, rounds};
use crate::program::{CHEAP, Place, describe, noise};
use crate::servers::seaweed;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// A repository somewhere, and how the program reaches it.
struct Somewhere {
    repository: String,
    environment: Vec<(&'static str, String)>,
    /// How many objects are there now.
    objects: Box<dyn Fn() -> u64>,
}

impl Somewhere {
    fn dress(&self, command: &mut Command) {
        command.env("KEEPSTONE_REPOSITORY", &self.repository).envs(self.environment.clone());
    }

    fn run(&self, place: &Place, args: &[&str]) -> crate::program::Run {
        place.run_with(args, |command| self.dress(command), b"")
    }

    /// Starts a command and kills it when so many objects more or fewer are there than before, if it lives so long.
    fn kill(&self, place: &Place, args: &[&str], changes: u64) -> bool {
        let before = (self.objects)();
        let mut command = place.command(args);
        self.dress(&mut command);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        loop {
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            if (self.objects)().abs_diff(before) >= changes {
                // SIGKILL.
                child.kill().unwrap();
                child.wait().unwrap();
                return true;
            }
        }
    }
}

fn files_in(folder: &Path) -> u64 {
    let mut files = 0;
    let mut folders = vec![folder.to_path_buf()];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(at).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                _ => files += 1,
            }
        }
    }
    files
}

/// Files whose backup takes a while: a series of packs, with what came of earlier ones as bases.
fn change(place: &Place, round: u64) {
    let mut dump = fs::read(place.path("source/dump")).unwrap_or_else(|_| noise(3_000_000));
    for at in 0..20 {
        let at = (round as usize * 7_919 + at * 150_000) % (dump.len() - 8);
        dump[at..at + 8].copy_from_slice(&round.to_le_bytes());
    }
    fs::write(place.path("source/dump"), dump).unwrap();
    let new: Vec<u8> = noise(2_000_000).iter().map(|byte| byte ^ (round as u8)).collect();
    fs::write(place.path("source/new"), new).unwrap();
}

fn kill_often(somewhere: &Somewhere, kills: u64) {
    let place = Place::new();
    place.make_tree();
    let mut dice = Dice(first_seed());
    somewhere.run(&place, &[&["init"], &CHEAP[..]].concat()).expect(0);
    somewhere.run(&place, &["backup", "source"]).expect(0);
    let mut killed = 0;
    for round in 0..kills {
        change(&place, round);
        let args: &[&str] = match round % 4 {
            0 | 1 => &["backup", "source"],
            2 => &["prune", "--max-unused", "0"],
            _ => &["verify", "--all"],
        };
        killed += u64::from(somewhere.kill(&place, args, 1 + dice.below(4)));
        if round % 4 == 1 {
            somewhere.run(&place, &["forget", "--keep-last", "2"]).expect(0);
        }
        if round % 4 == 3 {
            somewhere.run(&place, &["backup", "source"]).expect(0);
            somewhere.run(&place, &["verify", "--all"]).expect(0);
        }
    }
    println!("{killed} of {kills} commands were killed");
    assert!(killed * 3 >= kills, "only {killed} of {kills} lived until they were to be killed");
    change(&place, kills);
    somewhere.run(&place, &["backup", "source"]).expect(0);
    somewhere.run(&place, &["forget", "--keep-last", "1", "--prune"]).expect(0);
    somewhere.run(&place, &["verify", "--all"]).expect(0);
    somewhere.run(&place, &["restore", "latest", "--target", "back"]).expect(0);
    let source = place.path("source").canonicalize().unwrap();
    assert_eq!(describe(&place.path("back").join(source.strip_prefix("/").unwrap())), describe(&source));
}

#[test]
fn a_folder_survives_kill_9_whenever_it_comes() {
    let folder = tempfile::tempdir().unwrap();
    let repository = folder.path().join("vault");
    let counted = repository.clone();
    let somewhere = Somewhere {
        repository: repository.to_str().unwrap().to_owned(),
        environment: Vec::new(),
        objects: Box::new(move || files_in(&counted)),
    };
    kill_often(&somewhere, rounds(12, 1000));
}

#[test]
fn a_bucket_survives_kill_9_whenever_it_comes() {
    let Some(server) = seaweed::server() else { return };
    let repository = server.place();
    let prefix = format!("{}/", repository.rsplit('/').next().unwrap());
    let objects = move || {
        server.ask(async |client| {
            let mut pages = client.list_objects_v2().bucket("vault").prefix(&prefix).into_paginator().send();
            let mut objects = 0;
            while let Some(page) = pages.next().await {
                objects += page.unwrap().contents().len() as u64;
            }
            objects
        })
    };
    let somewhere = Somewhere { repository, environment: server.environment().to_vec(), objects: Box::new(objects) };
    kill_often(&somewhere, rounds(8, 200));
}
