//! `docs/OPERATIONS.md` shows what a fleet's night really looks like: its commands are run as they stand there, three
//! machines at once on one bucket, and what they print is compared.

use super::program::Place;
use super::readme::{normal, steps};
use super::servers::seaweed::{self, Server};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The section whose commands are run.
const SECTION: &str = "### A night of three machines";
/// The place in a bucket, as the handbook calls it.
const BUCKET: &str = "s3:https://s3.example.org/vault/fleet";
/// What the handbook calls the machine on which the tests run.
const HOST: &str = "db1";
/// … and the folder in which it works.
const FOLDER: &str = "/srv";
/// How often is looked whether a backup has begun; each look takes a while.
const LOOKS: usize = 300;

struct Fleet {
    place: Place,
    server: &'static Server,
    bucket: String,
}

impl Fleet {
    /// Starts a command as it stands in the handbook: what comes before it in a pipe is ours to write, and what follows
    /// `#` says where it is run.
    fn start(&self, command: &str) -> Child {
        let command = command.split('#').next().unwrap().trim();
        let command = command.rsplit_once(" | ").map_or(command, |(_, last)| last);
        let program = crate::program::binary();
        let path = std::env::var("PATH").unwrap_or_default();
        Command::new("sh")
            .args(["-c", &format!("exec 2>&1; {command}")])
            .current_dir(self.place.path(""))
            .env_clear()
            .env("PATH", format!("{}:{path}", program.parent().unwrap().display()))
            .env("USER", "ann")
            .env("KEEPSTONE_REPOSITORY", &self.bucket)
            .env("KEEPSTONE_PASSWORD", super::program::PASSWORD)
            .env("KEEPSTONE_CACHE_DIR", self.place.path("cache"))
            .envs(self.server.environment())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn end(&self, child: Child) -> String {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).replace(&self.bucket, BUCKET);
        assert!(output.status.success(), "{text}");
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let folder = self.place.path("").canonicalize().unwrap();
        text.replace(&format!("on host {host} "), &format!("on host {HOST} ")).replace(folder.to_str().unwrap(), FOLDER)
    }

    fn run(&self, command: &str) -> String {
        self.end(self.start(command))
    }

    /// How many marks of sessions there are.
    fn marks(&self) -> usize {
        let listed = self.run("keepstone store ls --kind sessions --json");
        listed.lines().filter(|line| line.contains("\"kind\":\"sessions\"")).count()
    }

    /// Starts a backup of what we write, writes half of it and waits until the backup has left its mark.
    fn start_and_wait(&self, command: &str) -> Child {
        let before = self.marks();
        let mut child = self.start(command);
        child.stdin.as_mut().unwrap().write_all(&dump()[..400_000]).unwrap();
        for _ in 0..LOOKS {
            // One when it begins and one when it has looked around.
            if self.marks() >= before + 2 {
                return child;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        panic!("the backup does not begin");
    }
}

fn dump() -> Vec<u8> {
    (0..60_000u32)
        .flat_map(|row| format!("{row}\t{:08x}\tpaid\n", row.wrapping_mul(2_654_435_761)).into_bytes())
        .collect()
}

/// The web server's files on one of two days.
fn write_site(place: &Place, day: u8) {
    fs::create_dir_all(place.path("www")).unwrap();
    for page in 0..20u8 {
        fs::write(place.path(&format!("www/page-{page}.html")), format!("<p>page {page}</p>\n").repeat(200)).unwrap();
    }
    let upload: Vec<u8> = super::program::noise(400_000).iter().map(|byte| byte ^ day).collect();
    fs::write(place.path("www/upload.jpg"), upload).unwrap();
}

#[test]
fn a_night_of_the_fleet_looks_as_the_handbook_shows_it() {
    let Some(server) = seaweed::server() else { return };
    let handbook = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/OPERATIONS.md")).unwrap();
    let section = handbook.split(SECTION).nth(1).expect("the handbook has the section");
    let shown = steps(section.split("\n## ").next().unwrap().split("\n### ").next().unwrap());
    let fleet = Fleet { place: Place::new(), server, bucket: server.place() };
    write_site(&fleet.place, 1);
    let (mut printed, mut under_way): (Vec<String>, Option<(usize, Child)>) = (Vec::new(), None);
    for (number, step) in shown.iter().enumerate() {
        let command = step.command.as_str();
        printed.push(String::new());
        match command {
            // It is at work until all others have run that are said to run beside it.
            _ if command.contains(" | ") => under_way = Some((number, fleet.start_and_wait(command))),
            _ => printed[number] = fleet.run(command),
        }
        if command.contains("# on web1, the evening before") {
            write_site(&fleet.place, 2);
        }
        let beside = |step: &&super::readme::Step| step.command.contains("at the same time");
        if !shown.get(number + 1).iter().any(beside)
            && shown[number].command.contains("at the same time")
            && let Some((of, mut child)) = under_way.take()
        {
            child.stdin.take().unwrap().write_all(&dump()[400_000..]).unwrap();
            printed[of] = fleet.end(child);
        }
    }
    assert!(under_way.is_none() && shown.len() >= 7, "the section shows a night");
    let mut differences = String::new();
    for (step, printed) in shown.iter().zip(&printed) {
        let printed: Vec<String> = printed.lines().map(str::to_owned).collect();
        if normal(&step.shown) != normal(&printed) {
            differences.push_str(&format!("\n$ {}\n{}\n", step.command, printed.join("\n")));
        }
    }
    assert!(differences.is_empty(), "what is really printed:\n{differences}");
}
