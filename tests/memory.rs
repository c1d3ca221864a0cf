//! Memory of whole runs: what prune and copy take of a repository of many blobs, and of four times as many; and what every
//! command takes of one whose index names more blobs than anybody stores in a test.

use crate::program::{CHEAP, PASSWORD, Place};
use crate::synthetic::{BLOBS_PER_SEGMENT, pack_row, packs_of_segment, write_segments};
use keepstone::base::{Clock, RunId, Secret};
use keepstone::crypto::slots::Unlock;
use keepstone::repo::SealedRepository;
use keepstone::repo::ledger::{self, Known, News};
use keepstone::store::Local;
use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

/// What one blob more may take: bits in filters and sets, not its name or its place.
const BYTES_PER_BLOB: u64 = 48;
/// What may differ for other reasons: buffers that are not full yet in a small repository.
const SLACK_KIB: u64 = 24 << 10;
/// The most that a prune may take; and a copy, which has two repositories open and reads and packs at once.
const MOST_OF_PRUNE_KIB: u64 = 128 << 10;
const MOST_OF_COPY_KIB: u64 = 192 << 10;
/// So many ledgers are read before one says all that they say.
const LEDGERS: u64 = 16;
/// Runs a program and writes down the most memory that it had, in KiB.
const MEASURE: &str = "import resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
open(sys.argv[1], 'w').write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(code)";

/// A repository with two nights of so many files, each a blob of its own, of which a half changed.
fn nights(files: u64) -> Place {
    let place = Place::new();
    for night in 0..2 {
        for file in 0..files {
            let folder = place.path(&format!("source/{}", file / 500));
            if file % 500 == 0 {
                fs::create_dir_all(&folder).unwrap();
            }
            if night == 0 || file % 2 == 0 {
                // Longer than what lies in its node.
                let line =
                    format!("{file:08} {night} {:016x}\n", (file + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15 + night));
                fs::write(folder.join(format!("{file}")), line.repeat(24)).unwrap();
            }
        }
        let init = if night == 0 { &["--init"][..] } else { &[] };
        let cheap = if night == 0 { &CHEAP[..] } else { &[] };
        place.run(&[&["backup", "source"], init, cheap].concat()).expect(0);
    }
    place
}

/// The most memory of a run, in KiB.
fn peak_kib(place: &Place, args: &[&str]) -> u64 {
    let program = crate::program::binary();
    let plain = place.command(&[] as &[&str]);
    let mut measured = std::process::Command::new("python3");
    measured.args(["-c", MEASURE, "peak"]).arg(program).args(args).current_dir(place.path(""));
    measured.env_clear().envs(plain.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))));
    measured.env("KEEPSTONE_FROM_PASSWORD", PASSWORD);
    let done = measured.output().unwrap();
    assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    fs::read_to_string(place.path("peak")).unwrap().trim().parse().unwrap()
}

#[test]
fn prune_and_copy_take_hardly_more_memory_for_many_more_blobs() {
    let long = std::env::var_os("KEEPSTONE_LONG").is_some();
    let few: u64 = if long { 100_000 } else { 4_000 };
    let mut peaks: Vec<Vec<(&str, u64)>> = Vec::new();
    for files in [few, 4 * few] {
        let place = nights(files);
        place.run(&[&["-r", "site", "init"], &CHEAP[..]].concat()).expect(0);
        let from = |command: &mut std::process::Command| {
            command.env("KEEPSTONE_FROM_PASSWORD", PASSWORD);
        };
        let twin = [&["-r", "twin", "init", "--from", "vault"], &CHEAP[..]].concat();
        place.run_with(&twin, from, b"").expect(0);
        let copy = peak_kib(&place, &["-r", "site", "copy", "--from", "vault", "-q"]);
        let shared = peak_kib(&place, &["-r", "twin", "copy", "--from", "vault", "-q"]);
        place.run(&["forget", "--keep-last", "1"]).expect(0);
        let prune = peak_kib(&place, &["prune", "--max-unused", "0", "-q"]);
        let blobs = place.run(&["prune", "--dry-run", "--json"]).expect(0).json().remove(0);
        assert!(blobs["live_blobs"].as_u64().unwrap() > files, "{blobs}");
        peaks.push(vec![("copy with names of its own", copy), ("copy", shared), ("prune", prune)]);
    }
    println!("KiB with {few} and {} files: {peaks:?}", 4 * few);
    let more_kib = 3 * few * 3 / 2 * BYTES_PER_BLOB / 1024;
    for ((what, small), (_, large)) in peaks[0].iter().zip(&peaks[1]) {
        let most_kib = if *what == "prune" { MOST_OF_PRUNE_KIB } else { MOST_OF_COPY_KIB };
        assert!(*large <= most_kib, "{what} takes {large} KiB");
        // With few files what copy writes and reads does not even fill its buffers.
        let full = long || *what == "prune";
        assert!(!full || *large <= small + more_kib + SLACK_KIB, "{what}: {small} KiB, then {large} KiB");
    }
}

/// Makes the vault name so many blobs more, in packs that take no room on the disk; gives how many packs.
fn name_more_blobs(place: &Place, blobs: u64) -> u64 {
    let store = Arc::new(Local::open(place.path("vault")).unwrap());
    let unlock = Unlock::Passphrase(Secret::new(PASSWORD.as_bytes().to_vec()));
    let repository = SealedRepository::open(store.clone()).unwrap().unlock(&unlock, Clock::System).unwrap();
    write_segments(&*store, repository.keyring(), blobs);
    let mut packs = 0;
    for first in (0..blobs).step_by(BLOBS_PER_SEGMENT as usize) {
        for row in packs_of_segment(first, blobs) {
            let name = row.id.to_string();
            let folder = place.path("vault/packs").join(&name[..2]);
            fs::create_dir_all(&folder).unwrap();
            fs::File::create(folder.join(&name)).unwrap().set_len(row.size_bytes).unwrap();
            packs += 1;
        }
    }
    packs
}

/// Leaves ledgers that say together of so many packs when they were read, as many as are read before one says it all.
fn remember_packs(place: &Place, packs: u64) {
    let store = Arc::new(Local::open(place.path("vault")).unwrap());
    let unlock = Unlock::Passphrase(Secret::new(PASSWORD.as_bytes().to_vec()));
    let repository = SealedRepository::open(store).unwrap().unlock(&unlock, Clock::System).unwrap();
    for night in 0..LEDGERS {
        let read = (0..packs / LEDGERS).map(|number| pack_row(night * packs + number).id).collect();
        let news = News { packs: read, ..News::default() };
        let (run, now_ns) = (RunId([night as u8 + 1; 16]), repository.now_ns());
        ledger::save(&repository, run, now_ns, &news, &mut Known::default(), &|_| true, &BTreeSet::new()).unwrap();
    }
}

#[test]
fn every_command_has_room_enough_whatever_a_ledger_says() {
    let long = std::env::var_os("KEEPSTONE_LONG").is_some();
    let packs = if long { 1_000_000 } else { 100_000 };
    let place = Place::with_snapshot();
    let before = peak_kib(&place, &["snapshots"]);
    remember_packs(&place, packs);
    let mut peaks = Vec::new();
    for args in [&["snapshots"][..], &["show", "latest"], &["verify", "-q"], &["snapshots"], &["prune", "-q"]] {
        let peak = peak_kib(&place, args);
        println!("a ledger of {packs} packs: {} takes {} MiB", args.join(" "), peak >> 10);
        peaks.push(peak);
    }
    assert!(peaks[0] > before, "{peaks:?} and {before}: it was not read");
    assert!(peaks.iter().all(|peak| *peak <= MOST_OF_PRUNE_KIB), "{peaks:?}");
}

#[test]
fn every_command_has_room_enough_whatever_the_index_names() {
    let long = std::env::var_os("KEEPSTONE_LONG").is_some();
    let usual: u64 = if long { 50_000_000 } else { 400_000 };
    let asked = std::env::var("KEEPSTONE_BLOBS").map(|blobs| blobs.parse().expect("a number of blobs"));
    let blobs = asked.unwrap_or(usual);
    let place = Place::with_snapshot();
    let packs = name_more_blobs(&place, blobs);
    fs::write(place.path("source/later"), "something new").unwrap();
    let mut peaks = Vec::new();
    for args in [
        &["backup", "source", "-q"][..],
        &["backup", "source", "-q"],
        &["snapshots"],
        &["stats"],
        &["restore", "latest", "--target", "back", "-q"],
        &["verify", "-q"],
        &["verify", "--structure", "-q"],
        &["forget", "--keep-last", "1", "-q"],
        &["prune", "--dry-run", "-q"],
        &["prune", "-q"],
        &["backup", "source", "-q"],
        &["verify", "--all", "-q"],
    ] {
        let peak = peak_kib(&place, args);
        println!("{blobs} blobs in {packs} packs: {} takes {} MiB", args.join(" "), peak >> 10);
        peaks.push((args.join(" "), peak));
    }
    let stored = fs::read_dir(place.path("vault/packs")).unwrap();
    let left: usize = stored.map(|folder| fs::read_dir(folder.unwrap().path()).unwrap().count()).sum();
    assert!(left < 16, "{left} packs are left of {packs}");
    assert!(peaks.iter().all(|(_, peak)| *peak <= MOST_OF_PRUNE_KIB), "{peaks:?}");
}
