//! The README shows what the program really prints: its `console` blocks are run and compared.
//!
//! What differs from run to run is made equal on both sides first: ids, numbers, sizes, times, the width of columns,
//! the host's name and the folder.

use super::program::{PASSWORD, Place};
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
    let steps = steps(&readme);
    assert!(steps.len() > 8, "the README has examples: {}", steps.len());
    let mut last_code = 0;
    for step in steps {
        let printed = match step.command.as_str() {
            "echo $?" => last_code.to_string(),
            command => {
                let (text, code) = run(&place, command);
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
    let steps = steps(&readme);
    let codes: Vec<&str> =
        steps.iter().filter(|step| step.command == "echo $?").map(|step| step.shown[0].as_str()).collect();
    for code in ["0", "3", "4", "11"] {
        assert!(codes.contains(&code), "no example ends with {code}: {codes:?}");
    }
}

/// The commands in `console` blocks, each with what is shown beneath it.
fn steps(readme: &str) -> Vec<Step> {
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

fn run(place: &Place, command: &str) -> (String, i32) {
    let program = Path::new(env!("CARGO_BIN_EXE_keepstone"));
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("sh")
        .args(["-c", &format!("exec 2>&1; {command}")])
        .current_dir(place.path(""))
        .env_clear()
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
    let mut lines: Vec<String> =
        lines.iter().map(|line| line.split_whitespace().map(normal_word).collect::<Vec<_>>().join(" ")).collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

fn normal_word(word: &str) -> String {
    let bare = word.trim_end_matches([',', ':', ';', '.']);
    let rest = &word[bare.len()..];
    let is_id = matches!(bare.len(), 8 | 32 | 64) && bare.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_number = bare.bytes().any(|byte| byte.is_ascii_digit())
        && bare.bytes().all(|byte| byte.is_ascii_digit() || b"-:.,".contains(&byte));
    match bare {
        "B" | "KiB" | "MiB" | "GiB" => format!("SIZE{rest}"),
        _ if bare.contains("packs/") => format!("PACK{rest}"),
        _ if is_id => format!("ID{rest}"),
        _ if is_number => format!("N{rest}"),
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
