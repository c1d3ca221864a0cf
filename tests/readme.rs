//! The README shows what the program really prints: its `console` blocks are run and compared.
//!
//! What differs from run to run is made equal on both sides first: ids, numbers, sizes, times, the width of columns,
//! the host's name and the folder.

use super::program::{PASSWORD, Place};
use super::servers::postgres::another;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Where the README's user works, and on what machine.
const FOLDER: &str = "/home/ann/keepstone";
const HOST: &str = "web1";

struct Step {
    command: String,
    shown: Vec<String>,
}

#[test]
fn the_outputs_in_the_readme_are_real() {
    let place = Place::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    copy_tree(&root.join("src"), &place.path("src"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let steps = steps(&readme, "```console");
    assert!(steps.len() > 8, "the README has examples: {}", steps.len());
    compare(steps, |command| run(&place, command, &[]));
}

const SHOP: &str = "CREATE TABLE customers (id int PRIMARY KEY, name text);
    INSERT INTO customers SELECT i, 'customer ' || i FROM generate_series(1, 1000) i;
    CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer int REFERENCES customers,
        placed timestamptz DEFAULT '2026-11-22', total numeric(10, 2));
    INSERT INTO orders (customer, total) SELECT 1 + i % 1000, i % 97 FROM generate_series(1, 50000) i";

/// The servers of the README: where its databases are, and where they come back.
const SERVERS: [&str; 2] = ["db1", "spare"];

#[test]
fn the_outputs_on_databases_in_the_readme_are_real() {
    let (Some(first), Some(second)) = (another(&[]), another(&[])) else { return };
    for server in [&first, &second] {
        let role = format!("CREATE ROLE backup SUPERUSER LOGIN PASSWORD '{PASSWORD}'");
        server.connect("postgres").execute(&role).unwrap();
    }
    first.create_named("shop", SHOP);
    second.create_named("shop_prod", "CREATE TABLE precious (a int)");
    let place = Place::new();
    let path = format!("{}:{}", first.programs.display(), std::env::var("PATH").unwrap());
    let ports = [first.port, second.port];
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let steps = steps(&readme, "```console databases");
    assert!(steps.len() > 8, "the README has examples of databases: {}", steps.len());
    compare(steps, |command| {
        let mut command = command.to_owned();
        for (name, port) in SERVERS.iter().zip(ports) {
            command = command.replace(&format!("@{name}/"), &format!("@127.0.0.1:{port}/"));
        }
        let (mut text, code) = run(&place, &command, &[("PATH", &path), ("PGPASSWORD", PASSWORD)]);
        for (name, port) in SERVERS.iter().zip(ports) {
            text = text.replace(&format!("127.0.0.1:{port}"), &format!("{name}:5432"));
            text = text.replace(&format!("-h 127.0.0.1 -p {port}"), &format!("-h {name} -p 5432"));
        }
        (text, code)
    });
}

fn compare(steps: Vec<Step>, mut run: impl FnMut(&str) -> (String, i32)) {
    let mut last_code = 0;
    for step in steps {
        let printed = match step.command.as_str() {
            "echo $?" => last_code.to_string(),
            command => {
                let (text, code) = run(command);
                last_code = code;
                text
            }
        };
        let printed: Vec<String> = printed.lines().map(str::to_owned).collect();
        let (left, right) = (normal(&step.shown), normal(&printed));
        assert_eq!(left, right, "\n$ {}\nreally prints:\n{}", step.command, printed.join("\n"));
    }
}

#[test]
fn the_readme_shows_every_state() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let steps = steps(&readme, "```console");
    let codes: Vec<&str> =
        steps.iter().filter(|step| step.command == "echo $?").map(|step| step.shown[0].as_str()).collect();
    for code in ["0", "3", "4", "11"] {
        assert!(codes.contains(&code), "no example ends with {code}: {codes:?}");
    }
}

/// The commands in blocks that begin with `opening`, each with what is shown beneath it.
fn steps(readme: &str, opening: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in readme.lines() {
        match line {
            _ if line == opening => inside = true,
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

fn run(place: &Place, command: &str, variables: &[(&str, &str)]) -> (String, i32) {
    let program = Path::new(env!("CARGO_BIN_EXE_keepstone"));
    let of_tests = std::env::var("PATH").unwrap_or_default();
    let path = variables.iter().find(|(name, _)| *name == "PATH").map_or(of_tests.as_str(), |(_, path)| path);
    let output = Command::new("sh")
        .args(["-c", &format!("exec 2>&1; {command}")])
        .current_dir(place.path(""))
        .env_clear()
        .envs(variables.iter().copied())
        .env("PATH", format!("{}:{path}", program.parent().unwrap().display()))
        .env("USER", "ann")
        .env("KEEPSTONE_PASSWORD", PASSWORD)
        .env("KEEPSTONE_CACHE_DIR", place.path("cache"))
        .output()
        .unwrap();
    let folder = place.path("").canonicalize().unwrap();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let text = String::from_utf8_lossy(&output.stdout).replace(folder.to_str().unwrap(), FOLDER);
    let words = |line: &str| {
        let words = line
            .split(' ')
            .map(|word| if word.trim_end_matches(',') == host { word.replace(&host, HOST) } else { word.to_owned() });
        words.collect::<Vec<_>>().join(" ")
    };
    (text.lines().map(words).collect::<Vec<_>>().join("\n"), output.status.code().unwrap_or(-1))
}

/// Lines without what differs from run to run; blank lines at the end do not count.
fn normal(lines: &[String]) -> Vec<String> {
    let mut lines: Vec<String> = lines
        .iter()
        .map(|line| without_packager(line).split_whitespace().map(normal_word).collect::<Vec<_>>().join(" "))
        .collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

/// `15.18 (Debian 15.18-0+deb12u1)` is `15.18` elsewhere.
fn without_packager(line: &str) -> String {
    match line.split_once(" (Debian ") {
        Some((before, after)) => format!("{before}{}", after.split_once(')').map_or("", |(_, rest)| rest)),
        None => line.to_owned(),
    }
}

fn normal_word(word: &str) -> String {
    let bare = word.trim_end_matches([',', ':', ';', '.']);
    let rest = &word[bare.len()..];
    if let Some((id, path)) = word.split_once(':').filter(|(_, path)| !path.is_empty())
        && normal_word(id) == "ID"
    {
        return format!("ID:{path}");
    }
    let is_id = matches!(bare.len(), 8 | 32 | 64) && bare.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_number = bare.bytes().any(|byte| byte.is_ascii_digit())
        && bare.bytes().all(|byte| byte.is_ascii_digit() || b"-:.,".contains(&byte));
    // A place in the log of a server.
    let is_hex = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_place = bare.split_once('/').is_some_and(|(file, at)| is_hex(file) && is_hex(at));
    match bare {
        "B" | "KiB" | "MiB" | "GiB" => format!("SIZE{rest}"),
        _ if bare.contains("packs/") => format!("PACK{rest}"),
        _ if is_id => format!("ID{rest}"),
        _ if is_number || is_place => format!("N{rest}"),
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
