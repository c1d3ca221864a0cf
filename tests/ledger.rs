//! What was read back, as a user sees it: states of snapshots, parts of a night, and the host of the storage without a key.

use crate::program::{CHEAP, Place, noise};
use crate::servers::seaweed;
use serde_json::Value;
use std::fs;
use std::process::Command;

fn only(place: &Place, args: &[&str], code: i32) -> Value {
    let run = place.run(args).expect(code);
    let mut objects: Vec<Value> = run.json();
    assert_eq!(objects.len(), 1, "{}", run.text());
    objects.remove(0)
}

fn states(place: &Place) -> Vec<String> {
    let listed = only(place, &["snapshots", "--json"], 0);
    let state = |snapshot: &Value| snapshot["verification"]["state"].as_str().unwrap().to_owned();
    listed["snapshots"].as_array().unwrap().iter().map(state).collect()
}

#[test]
fn a_snapshot_goes_from_unverified_to_verified_to_drilled_to_damaged_and_everybody_sees_it() {
    let place = Place::with_snapshot();
    fs::write(place.path("source/more.bin"), noise(100_000)).unwrap();
    place.run(&["backup", "source"]).expect(0);
    assert_eq!(states(&place), ["unverified", "unverified"]);
    assert!(place.run(&["verify", "latest-verified"]).expect(1).err.contains("no snapshot that was verified"));
    place.run(&["verify", "latest~1"]).expect(0);
    assert_eq!(states(&place), ["verified", "unverified"]);
    let older = only(&place, &["snapshots", "--state", "verified", "--json"], 0);
    assert_eq!(older["snapshots"].as_array().unwrap().len(), 1);
    assert!(place.run(&["snapshots"]).expect(0).text().contains("verified <1h"));
    assert!(place.run(&["show", "latest"]).expect(0).text().contains("never verified"));
    place.run(&["drill", "latest"]).expect(0);
    assert_eq!(states(&place), ["verified", "drilled"]);
    let shown = only(&place, &["show", "latest", "--json"], 0);
    assert!(shown["verification"]["drilled"].is_string() && shown["verified"].is_null(), "{shown}");
    // Another machine sees the same: it lies in the repository.
    fs::remove_dir_all(place.path("cache")).unwrap();
    assert_eq!(states(&place), ["verified", "drilled"]);
    let packs = crate::vault::files_below(&place.path("vault/packs"));
    let largest = packs.iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
    let mut bytes = largest.1.clone();
    bytes[2000] ^= 1;
    fs::write(place.path("vault/packs").join(largest.0), bytes).unwrap();
    let found = only(&place, &["verify", "--all", "--json"], 4);
    assert!(found["hurt_snapshots"].as_array().is_some_and(|hurt| !hurt.is_empty()), "{found}");
    assert!(found["objects_damaged"].as_u64() > Some(0) && found["blobs_damaged"].as_u64() > Some(0), "{found}");
    assert!(states(&place).contains(&"damaged".to_owned()), "{:?}", states(&place));
    assert!(place.run(&["snapshots", "--state", "damaged"]).expect(0).text().contains("damaged <1h"));
}

#[test]
fn a_share_each_night_says_when_all_is_read_and_then_it_is() {
    let place = Place::with_snapshot();
    for night in 0..3 {
        fs::write(place.path(&format!("source/{night}.bin")), &noise(200_000 + night)[night..]).unwrap();
        place.run(&["backup", "source"]).expect(0);
    }
    let first = only(&place, &["verify", "--share", "1/3", "--json"], 0);
    assert_eq!((&first["depth"], &first["snapshots"]), (&"part".into(), &4.into()));
    let nights = first["coverage"]["nights"].as_u64().unwrap();
    assert!((1..=3).contains(&nights) && first["coverage"]["unread_packs"].as_u64() > Some(0), "{first}");
    let text = place.run(&["verify", "--share", "1/3"]).expect(0).text();
    assert!(text.contains("all packs read within") && text.contains("night"), "{text}");
    let last = only(&place, &["verify", "--share", "1/3", "--json"], 0);
    assert_eq!(last["coverage"]["unread_packs"], 0, "{last}");
    assert_eq!(last["proven_snapshots"], 4, "{last}");
    assert_eq!(states(&place), ["verified"; 4]);
    place.run(&["verify", "--budget", "1K", "--max-time", "2h"]).expect(0);
    place.run(&["verify", "--newer-than", "7d"]).expect(0);
    place.run(&["verify", "--presence"]).expect(0);
    assert!(place.run(&["verify", "--max-time", "2m"]).expect(2).err.contains("too long"));
}

#[test]
fn the_host_of_the_storage_needs_no_password_and_finds_what_a_disk_does() {
    let place = Place::with_snapshot();
    let host = |args: &[&str]| {
        let change = |command: &mut Command| {
            command.env_remove("KEEPSTONE_PASSWORD").env_remove("KEEPSTONE_REPOSITORY");
        };
        place.run_with(args, change, b"")
    };
    let sound = host(&["verify-packs", "vault"]).expect(0).text();
    assert!(sound.contains("100.0 %") && sound.contains("none") && sound.contains("-r vault verify"), "{sound}");
    let packs = crate::vault::files_below(&place.path("vault/packs"));
    let (name, bytes) = packs.iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
    let mut altered = bytes.clone();
    altered[bytes.len() - 3] ^= 128;
    fs::write(place.path("vault/packs").join(name), altered).unwrap();
    let found = host(&["verify-packs", "vault", "--json", "--jobs", "2"]).expect(4).json().pop().unwrap();
    assert_eq!((&found["message_type"], &found["damage_count"]), (&"verify_packs".into(), &1.into()));
    assert!(found["damages"][0]["object"].as_str().unwrap().ends_with(name), "{found}");
    assert!(host(&["verify-packs", "source"]).expect(10).err.contains("no repository"));
    assert!(host(&["verify-packs"]).expect(2).err.contains("which repository"));
}

#[test]
fn credentials_that_may_only_read_a_bucket_are_enough_to_check_it() {
    let Some(server) = seaweed::server() else { return };
    let (place, vault) = (Place::new(), server.place());
    place.make_tree();
    let run = |args: &[&str], more: &[(&str, &str)]| {
        let change = |command: &mut Command| {
            command.env("KEEPSTONE_REPOSITORY", &vault).envs(server.environment()).envs(more.iter().copied());
        };
        place.run_with(args, change, b"")
    };
    run(&[&["backup", "--init"], &CHEAP[..], &["source"]].concat(), &[]).expect(0);
    let reader = [("AWS_ACCESS_KEY_ID", seaweed::READER_KEY), ("KEEPSTONE_PASSWORD", "")];
    let found = run(&["verify-packs", &vault, "--json"], &reader).expect(0).json().pop().unwrap();
    assert!(found["packs"].as_u64() > Some(0) && found["store"]["writes"] == 0, "{found}");
}
