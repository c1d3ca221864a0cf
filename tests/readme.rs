//! The README shows what the program really prints: its `console` blocks are run and compared.
//!
//! What differs from run to run is made equal on both sides first: ids, numbers, sizes, times, the width of columns,
//! the host's name and the folder.

use super::program::{PASSWORD, Place};
use super::servers::{postgres, seaweed};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Where the README's user works, and on what machine.
const FOLDER: &str = "/home/ann/keepstone";
const HOST: &str = "web1";

/// The servers of the section on databases, as the README calls them.
const SHOP_SERVER: &str = "db1.example.org:5432";
const SPARE_SERVER: &str = "spare.example.org:5432";

/// The place in a bucket of the section on buckets.
const BUCKET: &str = "s3:https://s3.example.org/vault/team";

/// What lies in the database of that section.
const SHOP: &str = "
    CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL);
    CREATE TABLE orders (id serial PRIMARY KEY, customer int REFERENCES customers, total numeric(10, 2));
    INSERT INTO customers SELECT n, 'customer ' || n FROM generate_series(1, 400) n;
    INSERT INTO orders (customer, total) SELECT 1 + n % 400, n * 1.25 FROM generate_series(1, 5000) n;";

/// A command and what is shown beneath it.
pub struct Step {
    /// The command.
    pub command: String,
    /// What it printed.
    pub shown: Vec<String>,
}

/// The two servers: the one whose databases are backed up and the one for drills.
struct Servers {
    shop: &'static postgres::Server,
    spare: postgres::Server,
}

impl Servers {
    fn start() -> Option<Servers> {
        let (shop, spare) = (postgres::server()?, postgres::another(&[])?);
        shop.create_named("webshop", SHOP);
        Some(Servers { shop, spare })
    }

    /// The URLs that the README's user has in his environment.
    fn environment(&self) -> [(&'static str, String); 3] {
        [
            ("SHOP", self.shop.url("webshop")),
            ("STOCK", self.shop.url("stock")),
            ("SPARE", self.spare.url("").trim_end_matches('/').to_owned()),
        ]
    }

    fn rename(&self, text: &str) -> String {
        let address = |server: &postgres::Server| format!("127.0.0.1:{}", server.port);
        let arguments = |address: &str| format!("-h {}", address.replace(':', " -p "));
        text.replace(&address(self.shop), SHOP_SERVER)
            .replace(&address(&self.spare), SPARE_SERVER)
            .replace(&arguments(&address(self.shop)), &arguments(SHOP_SERVER))
    }
}

#[test]
fn the_outputs_in_the_readme_are_real() {
    let place = Place::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    copy_tree(&root.join("src"), &place.path("src"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let steps = steps(&readme);
    assert!(steps.len() > 8, "the README has examples: {}", steps.len());
    let servers = Servers::start();
    let bucket = seaweed::server().map(|server| (server, server.place()));
    let mut last_code = 0;
    let mut differences = String::new();
    for step in steps {
        let printed = match step.command.as_str() {
            "echo $?" => last_code.to_string(),
            // The section on databases is the last one.
            command if servers.is_none() && command.contains("SHOP") => break,
            command if bucket.is_none() && command.contains(BUCKET) => continue,
            command => {
                let (text, code) = run(&place, command, servers.as_ref(), bucket.as_ref());
                last_code = code;
                text
            }
        };
        let printed: Vec<String> = printed.lines().map(str::to_owned).collect();
        if normal(&step.shown) != normal(&printed) {
            differences.push_str(&format!("\n$ {}\n{}\n", step.command, printed.join("\n")));
        }
    }
    assert!(differences.is_empty(), "what is really printed:\n{differences}");
}

#[test]
fn a_span_of_time_is_as_good_as_a_longer_one_and_as_nothing_else() {
    let normal = |line: &str| normal(&[line.to_owned()]).remove(0);
    assert_eq!(normal("RPO  1 min 3 s, target 24 h 0 min: met"), "RPO SPAN, target SPAN: met");
    assert_eq!(normal("RPO  3.0 s, target 24 h 0 min: met"), "RPO SPAN, target SPAN: met");
    assert_eq!(normal("took 12 files in 850 ms"), "took N files in SPAN");
}

#[test]
fn the_readme_shows_every_state() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let steps = steps(&readme);
    let codes: Vec<&str> =
        steps.iter().filter(|step| step.command == "echo $?").map(|step| step.shown[0].as_str()).collect();
    for code in ["0", "3", "4", "11"] {
        assert!(codes.contains(&code), "no example ends with {code}: {codes:?}");
    }
}

/// The commands in `console` blocks, each with what is shown beneath it.
pub fn steps(readme: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in readme.lines() {
        match line {
            "```console" => inside = true,
            "```" => inside = false,
            _ if !inside => {}
            _ => match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => steps.push(Step { command: command.to_owned(), shown: Vec::new() }),
                (None, Some(step)) => step.shown.push(line.to_owned()),
                (None, None) => panic!("a block begins with a command: {line}"),
            },
        }
    }
    steps
}

/// The server of a bucket, and the place in it that is [`BUCKET`] here.
type InBucket = (&'static seaweed::Server, String);

fn run(place: &Place, command: &str, servers: Option<&Servers>, bucket: Option<&InBucket>) -> (String, i32) {
    let command = bucket.map_or(command.to_owned(), |(_, real)| command.replace(BUCKET, real));
    let program = crate::program::binary();
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("sh")
        .args(["-c", &format!("exec 2>&1; {command}")])
        .current_dir(place.path(""))
        .env_clear()
        .env("PATH", format!("{}:{path}", program.parent().unwrap().display()))
        .env("USER", "ann")
        .env("KEEPSTONE_PASSWORD", PASSWORD)
        .env("KEEPSTONE_CACHE_DIR", place.path("cache"))
        .env("KEEPSTONE_STATE_DIR", place.path("state"))
        .envs(servers.iter().flat_map(|servers| servers.environment()))
        .envs(bucket.iter().flat_map(|(server, _)| server.environment()))
        .output()
        .unwrap();
    let folder = place.path("").canonicalize().unwrap();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let text = String::from_utf8_lossy(&output.stdout).replace(folder.to_str().unwrap(), FOLDER);
    let text = servers.map_or(text.clone(), |servers| servers.rename(&text));
    let text = bucket.map_or(text.clone(), |(_, real)| text.replace(real, BUCKET));
    let words = |line: &str| {
        let words = line.split(' ').map(|word| {
            if word.trim_end_matches([',', ':']) == host { word.replace(&host, HOST) } else { word.to_owned() }
        });
        words.collect::<Vec<_>>().join(" ")
    };
    (text.lines().map(words).collect::<Vec<_>>().join("\n"), output.status.code().unwrap_or(-1))
}

/// Lines without what differs from run to run; blank lines at the end do not count.
pub fn normal(lines: &[String]) -> Vec<String> {
    let mut lines: Vec<String> =
        lines.iter().map(|line| spans(line.split_whitespace().map(normal_word).collect()).join(" ")).collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

/// Words in which every span of time is one: `1 min 3 s` is as long as `59.2 s` on a busy day.
fn spans(words: Vec<String>) -> Vec<String> {
    let mut spans: Vec<String> = Vec::new();
    let mut words = words.into_iter().peekable();
    while let Some(word) = words.next() {
        let is_unit = |next: &String| {
            matches!(next.trim_end_matches([',', ':', ';', '.', ')']), "ms" | "s" | "min" | "h" | "days")
        };
        match (word == "N").then(|| words.next_if(is_unit)).flatten() {
            None => spans.push(word),
            Some(unit) => {
                let rest = unit.trim_start_matches(char::is_alphabetic);
                match spans.last_mut().filter(|last| *last == "SPAN") {
                    Some(last) => last.push_str(rest),
                    None => spans.push(format!("SPAN{rest}")),
                }
            }
        }
    }
    spans
}

fn normal_word(word: &str) -> String {
    let bare = word.trim_end_matches([',', ':', ';', '.', ')']);
    let rest = &word[bare.len()..];
    let is_id = matches!(bare.len(), 8 | 16 | 32 | 64) && bare.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_number = bare.bytes().any(|byte| byte.is_ascii_digit())
        && bare.bytes().all(|byte| byte.is_ascii_digit() || b"-:.,".contains(&byte));
    // A moment as programs write it.
    let is_moment = bare.len() == 20 && bare.ends_with('Z') && bare.as_bytes()[10] == b'T';
    let is_version = bare.starts_with(|first: char| first.is_ascii_digit()) && bare.contains('.');
    match bare {
        "B" | "KiB" | "MiB" | "GiB" | "TiB" => format!("SIZE{rest}"),
        _ if bare.contains("packs/") => format!("PACK{rest}"),
        _ if is_id => format!("ID{rest}"),
        _ if is_number || is_version || is_moment => format!("N{rest}"),
        _ => word.to_owned(),
    }
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_tree(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}
