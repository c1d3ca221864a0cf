//! Keeps watch over the repository's own sources: doors, arrows, one clock, first lines, licences, foreign names.
//!
//! Each rule is a function from a source to complaints, a test that no file gives it reason to complain, and a
//! test that it can. If a rule stops you, first ask whether the rule is right; each is a table or a line below.

mod licence;
mod rust_text;

use rust_text::{Token, below, find, test_lines, tokens};
use std::path::{Path, PathBuf};
use std::process::Command;

// ------------------------------------------------------------------------------------------------ the tables

/// The rooms and the floors they stand on. A room uses lower floors and itself.
const FLOORS: &[(&str, u8)] = &[
    ("base", 0),
    ("store", 1),
    ("crypto", 1),
    ("chunk", 1),
    ("compress", 1),
    ("parity", 1),
    ("db", 1),
    ("format", 2),
    ("repo", 3),
    ("source", 3),
    ("target", 3),
    ("history", 3),
    ("ops", 4),
    ("report", 5),
    ("notify", 5),
    ("config", 6),
    ("job", 7),
    ("daemon", 8),
    ("cli", 9),
];

/// The door of each outside package: the beginnings of the paths below `src/` that may name it.
const DOORS: &[(&str, &[&str])] = &[
    ("aes", &["crypto"]),
    ("argon2", &["crypto"]),
    ("augurs_core", &["report/forecast"]),
    ("augurs_ets", &["report/forecast"]),
    ("aws_config", &["store/s3"]),
    ("aws_sdk_s3", &["store/s3"]),
    ("aws_smithy_http_client", &["store/s3"]),
    ("aws_types", &["store/s3"]),
    ("backon", &["ops/backup/limits", "store/retry"]),
    ("bech32", &["crypto"]),
    ("blake3", &["crypto"]),
    ("bytes", &["store/s3"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("croner", &["config/schedule.rs"]),
    ("ed25519_dalek", &["crypto"]),
    ("fastcdc", &["chunk"]),
    ("flate2", &["source"]),
    ("futures_util", &["db", "source/postgres", "target/postgres"]),
    ("getrandom", &["base/random.rs"]),
    ("hpke", &["crypto"]),
    ("http_body", &["store/s3"]),
    ("indicatif", &["cli"]),
    // Everybody else says `base::Timestamp`.
    ("jiff", &["base/clock.rs", "cli"]),
    ("lettre", &["notify/mail.rs"]),
    ("minicbor", &["format"]),
    ("qrcode", &["cli"]),
    // The verbs and the vault decide what runs side by side; the rooms below compute one thing at a time.
    ("rayon", &["ops", "repo"]),
    ("reed_solomon_simd", &["parity"]),
    ("rpassword", &["cli"]),
    ("rusqlite", &["repo/index", "history"]),
    ("rustix", LOCAL_FILES),
    ("rustls", &["db", "notify/http.rs"]),
    ("rustls_native_certs", &["db", "notify/http.rs"]),
    ("serde", ANYWHERE),
    ("serde_json", ANYWHERE),
    ("signal_hook", &["cli"]),
    ("strsim", &["base/like.rs"]),
    ("tar", &["ops"]),
    ("thiserror", ANYWHERE),
    ("tokio", &["db", "store/s3"]),
    ("tokio_postgres", &["db", "source/postgres", "target/postgres"]),
    ("tokio_postgres_rustls", &["db"]),
    ("toml", &["config"]),
    ("ureq", &["notify/http.rs"]),
    ("url", &["db"]),
    ("xattr", LOCAL_FILES),
    ("zeroize", ANYWHERE),
    ("zip", &["ops"]),
    ("zstd", &["compress"]),
];

/// Vocabulary that carries no decision with it.
const ANYWHERE: &[&str] = &[""];

/// Where local files are opened, locked, measured or described. Of the vault only what is a cache or a spool.
const LOCAL_FILES: &[&str] = &[
    "base",
    "cli",
    "config",
    "repo/base_cache",
    "repo/index",
    "repo/pack_cache",
    "repo/pack_writer",
    "repo/spool",
    "source",
    "store",
    "target",
];

/// Words of code that only some paths below `src/` may say, and what the others do instead.
const RESERVED: &[(&[&str], &[&str], &str)] = &[
    (&["SystemTime", "::", "now"], CLOCK, "ask a `base::Clock`"),
    (&["Instant", "::", "now"], CLOCK, "start a `Stopwatch`"),
    (&["Timestamp", "::", "now"], CLOCK, "ask a `base::Clock`"),
    (&["Zoned", "::", "now"], CLOCK, "ask a `base::Clock`"),
    (&["print", "!"], PRINTS, "tell a `base::Monitor`"),
    (&["println", "!"], PRINTS, "tell a `base::Monitor`"),
    (&["eprint", "!"], PRINTS, "tell a `base::Monitor`"),
    (&["eprintln", "!"], PRINTS, "tell a `base::Monitor`"),
    (&["dbg", "!"], &[], "tell a `base::Monitor`"),
    (&["env", "::", "args"], ASKS, "take it as a value"),
    (&["env", "::", "args_os"], ASKS, "take it as a value"),
    (&["env", "::", "var"], ASKS, "take it as a value"),
    (&["env", "::", "var_os"], ASKS, "take it as a value"),
    (&["env", "::", "vars"], ASKS, "take it as a value"),
    (&["env", "::", "vars_os"], ASKS, "take it as a value"),
    (&["env", "::", "home_dir"], ASKS, "take it as a value"),
    (&["env", "::", "temp_dir"], ASKS, "take it as a value"),
    (&["Command", "::", "new"], CHILDREN, "start a `base::child::Program`"),
    (&["async", "fn"], ASYNC, "show a plain function"),
    (&["async", "move"], ASYNC, "show a plain function"),
    (&["async", "{"], ASYNC, "show a plain function"),
    (&[".", "await"], ASYNC, "show a plain function"),
    (&[".", "unwrap", "(", ")"], &[], "return the error, or `expect` a proven fact"),
    (&["allow", "(", "unsafe_code", ")"], FOREIGN_CALLS, "find a safe way: there is one exception, and it is small"),
    (&["todo", "!"], &[], "finish it or leave it out"),
    (&["unimplemented", "!"], &[], "finish it or leave it out"),
];

const CLOCK: &[&str] = &["base/clock.rs"];
const FOREIGN_CALLS: &[&str] = &["compress/sequences.rs"];
const CHILDREN: &[&str] = &["base/child.rs"];
const PRINTS: &[&str] = &["cli"];
const ASKS: &[&str] = &["cli", "config"];
const ASYNC: &[&str] = &["daemon", "db", "notify", "store/s3"];

/// Marks of unfinished work, in code or in comments.
const UNFINISHED: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

/// Longer files hide a second thing.
const LINES_AT_MOST: usize = 900;

/// Hosts and folders that belong to one machine or one registry and not to the project.
const FOREIGN: &[&str] = &[
    concat!("crates", ".io"),
    concat!("pypi", ".org"),
    concat!("files.python", "hosted.org"),
    concat!("npmjs", ".org"),
    concat!("npmjs", ".com"),
    concat!("deb.debian", ".org"),
    concat!("security.debian", ".org"),
    concat!("archive.ubuntu", ".com"),
    concat!("proxy.golang", ".org"),
    concat!("/wo", "rk"),
    concat!("/ro", "ot"),
    concat!("/tm", "p/"),
];

/// Written by cargo, which has its own words for where things come from.
const NOT_OURS: &[&str] = &["Cargo.lock", "fuzz/Cargo.lock"];

// ------------------------------------------------------------------------------------------------- the tests

#[test]
fn every_file_begins_with_its_story() {
    let mut complaints = Vec::new();
    for folder in ["src", "tests", "benches", "fuzz", "tools"] {
        for (path, text) in rust_files(folder) {
            complaints.extend(first_line(&path, &text));
        }
    }
    none(complaints);
}

#[test]
fn every_room_has_a_floor_and_the_map_shows_it() {
    let map = read("src/lib.rs");
    let tokens = tokens(&map);
    let rooms = words_after(&tokens, "mod");
    assert!(rooms.len() > 5, "src/lib.rs shows the rooms: {rooms:?}");
    none(rooms.iter().filter_map(|room| room_on_map(room, &map)).collect());
}

#[test]
fn arrows_lead_down() {
    check_sources(arrows);
}

#[test]
fn each_outside_package_comes_in_through_its_door() {
    check_sources(doors);
}

#[test]
fn every_dependency_has_a_door() {
    none(missing_doors(&read("Cargo.toml")));
}

#[test]
fn one_clock_one_voice_and_nothing_unfinished() {
    check_sources(reserved_words);
    check_sources(unfinished);
}

#[test]
fn no_test_is_ignored_that_nobody_runs() {
    let mut complaints = Vec::new();
    for folder in ["src", "tests"] {
        for (path, text) in rust_files(folder) {
            complaints.extend(ignored_tests(&path, &text));
        }
    }
    none(complaints);
}

#[test]
fn no_file_is_too_long() {
    check_sources(length);
}

#[test]
fn the_repository_names_no_foreign_place() {
    let mut complaints = Vec::new();
    for path in repository_files() {
        if let Ok(text) = std::fs::read_to_string(root().join(&path)) {
            complaints.extend(foreign_places(&path, &text));
        }
    }
    none(complaints);
}

#[test]
fn every_dependency_has_a_permissive_licence() {
    none(unfit_licences(&cargo_metadata()));
}

// ------------------------------------------------------------------------------------------------- the rules

/// The file begins with `//!` and a sentence; only attributes of the crate may stand above.
fn first_line(path: &str, text: &str) -> Vec<String> {
    let story: Vec<&str> = text
        .lines()
        .skip_while(|line| line.starts_with("#![") || line.is_empty())
        .map_while(|line| line.strip_prefix("//!"))
        .map(str::trim)
        .take_while(|line| !line.is_empty())
        .collect();
    let story = story.join(" ");
    if story.is_empty() {
        vec![format!("{path}:1: no `//!` line; say what the file is for")]
    } else if story.split_whitespace().count() < 3 || !story.ends_with(['.', '!', '?', ':']) {
        vec![format!("{path}:1: `{story}` is not a sentence")]
    } else {
        Vec::new()
    }
}

/// Code names rooms below its own and nothing else of the crate; `main.rs` only the front door.
fn arrows(path: &str, text: &str) -> Vec<String> {
    let tokens = tokens(text);
    let complain = |token: &Token, what: &str| format!("src/{path}:{}: {what}", token.line);
    let mut complaints = Vec::new();
    if path == "main.rs" {
        complaints.extend(
            below(&tokens, "keepstone")
                .iter()
                .filter(|token| token.text != "cli")
                .map(|token| complain(token, "the program may only use `keepstone::cli`")),
        );
    }
    for token in below(&tokens, "crate") {
        match token.text {
            "*" => complaints.push(complain(token, "`crate::*` hides arrows; name the rooms")),
            "self" => complaints.push(complain(token, "`crate` itself is no room")),
            to => complaints.extend(arrow(room_of(path), to).map(|what| complain(token, &what))),
        }
    }
    complaints.extend(
        climbs(path, &tokens)
            .iter()
            .map(|token| complain(token, "`super` reaches the crate's root; say `crate::room`")),
    );
    complaints
}

/// What is missing where a room is declared: its floor here, or its line in the map.
fn room_on_map(room: &str, map: &str) -> Option<String> {
    let Some(floor) = floor(room) else {
        return Some(format!("src/lib.rs: `{room}` has no floor; give it one in FLOORS"));
    };
    let line = format!("//! | {floor} | [`{room}`]");
    (!map.contains(&line)).then(|| format!("src/lib.rs: the map has no line `{line} …`"))
}

/// What is wrong with an arrow between two rooms, if anything.
fn arrow(from: &str, to: &str) -> Option<String> {
    match (floor(from), floor(to)) {
        // `lib.rs` and `main.rs` stand outside the house.
        (_, _) if from == to || from.is_empty() => None,
        (None, _) => Some(format!("room `{from}` has no floor; give it one in FLOORS")),
        (_, None) => Some(format!("`crate::{to}` is no room; name a room of FLOORS")),
        (Some(above), Some(under)) if under < above => None,
        (Some(above), Some(under)) => Some(format!(
            "`{from}` (floor {above}) must not know `{to}` (floor {under}): pass a value, or move the shared \
             piece one floor lower"
        )),
    }
}

/// The `super` that reaches the crate's root, where all rooms are in sight.
fn climbs<'t, 'a>(path: &str, tokens: &'t [Token<'a>]) -> Vec<&'t Token<'a>> {
    let file_depth = match path {
        "lib.rs" | "main.rs" => 0,
        _ => path.trim_end_matches("/mod.rs").matches('/').count() + 1,
    };
    let mut braces = 0_usize;
    let mut modules = Vec::new(); // brace depths at which inline modules were opened
    let mut supers = 0;
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let opens_module = at >= 2 && tokens[at - 2].text == "mod";
        match token.text {
            "{" => {
                braces += 1;
                modules.extend(opens_module.then_some(braces));
            }
            "}" => {
                modules.pop_if(|depth| *depth == braces);
                braces = braces.saturating_sub(1);
            }
            _ => {}
        }
        match token.text {
            "super" => supers += 1,
            "::" => {}
            _ => supers = 0,
        }
        if supers > 0 && token.text == "super" && supers >= file_depth + modules.len() {
            found.push(token);
        }
    }
    found
}

/// Outside packages are named only behind their doors.
fn doors(path: &str, text: &str) -> Vec<String> {
    let tokens = tokens(text);
    DOORS
        .iter()
        .filter(|(_, allowed)| !is_allowed(path, allowed))
        .flat_map(|(package, allowed)| {
            uses_of(&tokens, package).into_iter().map(move |token| {
                format!(
                    "src/{path}:{}: `{package}` comes in through {} only; ask that room for what you need",
                    token.line,
                    allowed.join(", ")
                )
            })
        })
        .collect()
}

/// Where a package is named: `package::…`, `use package;`, `use package as …`; not a module of ours of that name.
fn uses_of<'t, 'a>(tokens: &'t [Token<'a>], package: &str) -> Vec<&'t Token<'a>> {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    (0..tokens.len())
        .filter(|&at| tokens[at].text == package)
        .filter(|&at| {
            let before = at.checked_sub(1).map_or("", text);
            let before_that = at.checked_sub(2).map_or("", text);
            let inside_a_path = before == "::" && before_that != "use" && before_that.ends_with(char::is_alphanumeric);
            let begins_a_path = text(at + 1) == "::" && !inside_a_path;
            begins_a_path || before == "use" || before_that == "extern" && before == "crate"
        })
        .map(|at| &tokens[at])
        .collect()
}

/// Each name below `[dependencies]` stands in [`DOORS`], and each door belongs to a dependency.
fn missing_doors(manifest: &str) -> Vec<String> {
    let dependencies: Vec<String> = manifest
        .lines()
        .skip_while(|line| *line != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split(['=', '.']).next())
        .map(|name| name.trim().replace('-', "_"))
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .collect();
    let has_door = |name: &str| DOORS.iter().any(|(package, _)| *package == name);
    let without = dependencies
        .iter()
        .filter(|name| !has_door(name))
        .map(|name| format!("Cargo.toml: `{name}` has no door; give it one in DOORS"));
    let unused = DOORS
        .iter()
        .filter(|(package, _)| !dependencies.iter().any(|name| name == package))
        .map(|(package, _)| format!("DOORS: `{package}` is no dependency any more"));
    without.chain(unused).collect()
}

/// Words of [`RESERVED`] stand only where they may; tests may say them.
fn reserved_words(path: &str, text: &str) -> Vec<String> {
    if is_test_file(path) {
        return Vec::new();
    }
    let tokens = tokens(text);
    RESERVED
        .iter()
        .filter(|(_, allowed, _)| !is_allowed(path, allowed))
        .flat_map(|(words, _, instead)| {
            find(&tokens, words)
                .filter(|token| !token.in_test)
                .map(|token| {
                    let said = words.concat();
                    format!("src/{path}:{}: no `{said}` here; {instead}", token.line)
                })
                .collect::<Vec<_>>()
        })
        .collect()
}

/// No mark of unfinished work outside tests.
fn unfinished(path: &str, text: &str) -> Vec<String> {
    if is_test_file(path) {
        return Vec::new();
    }
    let tested = test_lines(&tokens(text));
    text.lines()
        .enumerate()
        .map(|(at, line)| (at + 1, line))
        .filter(|(number, _)| !tested.iter().any(|lines| lines.contains(number)))
        .filter_map(|(number, line)| {
            let word = line.split(|c: char| !c.is_alphanumeric()).find(|word| UNFINISHED.contains(word))?;
            Some(format!("src/{path}:{number}: `{word}`: finish it or leave it out"))
        })
        .collect()
}

/// A test may be ignored when it is a measurement, or when another test runs it in a process of its own; any other
/// would be a test that nobody runs.
fn ignored_tests(path: &str, text: &str) -> Vec<String> {
    let reasons = ["= \"a measurement", " runs it\"", " runs this\""];
    text.lines()
        .enumerate()
        .filter(|(_, line)| line.trim_start().starts_with("#[ignore"))
        .filter(|(_, line)| !reasons.iter().any(|reason| line.contains(reason)))
        .map(|(at, _)| {
            format!(
                "{path}:{}: ignored, and neither \"a measurement\" nor said which test \"runs it\"; else print \
                 `skipped: REASON`",
                at + 1
            )
        })
        .collect()
}

/// A file of more than [`LINES_AT_MOST`] lines, tests included, wants to be two.
fn length(path: &str, text: &str) -> Vec<String> {
    let lines = text.lines().count();
    (lines > LINES_AT_MOST)
        .then(|| format!("src/{path}: {lines} lines; split it by what it does (at most {LINES_AT_MOST})"))
        .into_iter()
        .collect()
}

/// No host of a package registry and no folder of one machine.
fn foreign_places(path: &str, text: &str) -> Vec<String> {
    if NOT_OURS.contains(&path) {
        return Vec::new();
    }
    text.lines()
        .enumerate()
        .flat_map(|(at, line)| {
            FOREIGN
                .iter()
                .filter(|place| names_place(line, place))
                .map(move |place| format!("{path}:{}: names `{place}`", at + 1))
        })
        .collect()
}

/// Whether `line` says `place` as a whole word: a folder only at the beginning of a path.
fn names_place(line: &str, place: &str) -> bool {
    let is_path = place.starts_with('/');
    line.match_indices(place).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + place.len()..].chars().next();
        let joins = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '}');
        let extends = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
        let begins = !is_path || !before.is_some_and(joins);
        begins && (place.ends_with('/') || !after.is_some_and(extends))
    })
}

/// Packages whose licence does not let everybody use, change and pass on the whole.
fn unfit_licences(metadata: &serde_json::Value) -> Vec<String> {
    let packages = metadata["packages"].as_array().map_or(&[][..], Vec::as_slice);
    let mut complaints: Vec<String> = packages
        .iter()
        .filter_map(|package| {
            let expression = package["license"].as_str().unwrap_or("");
            (!licence::is_permissive(expression)).then(|| {
                format!(
                    "{} {}: licence `{expression}` is not on the list in tests/tidy/licence.rs",
                    package["name"], package["version"]
                )
            })
        })
        .collect();
    if packages.is_empty() {
        complaints.push("cargo metadata names no package at all".to_owned());
    }
    complaints
}

// ------------------------------------------------------------------------------------------------- the means

fn floor(room: &str) -> Option<u8> {
    let found = FLOORS.iter().find(|(name, _)| *name == room);
    found.map(|(_, floor)| *floor)
}

/// The room of a path below `src/`; empty for `lib.rs` and `main.rs`.
fn room_of(path: &str) -> &str {
    match path {
        "lib.rs" | "main.rs" => "",
        _ => path.split('/').next().expect("split yields one").trim_end_matches(".rs"),
    }
}

/// Whether a whole file is `mod tests` of the room it lies in.
fn is_test_file(path: &str) -> bool {
    ["/tests.rs", "/testing.rs"].iter().any(|name| path.ends_with(name)) || path.contains("/tests/")
}

/// Whether a path below `src/` begins with one of `allowed`, ending at a folder, a file or the `.rs` of one.
fn is_allowed(path: &str, allowed: &[&str]) -> bool {
    allowed.iter().any(|beginning| {
        path.strip_prefix(beginning)
            .is_some_and(|rest| beginning.is_empty() || rest.is_empty() || rest.starts_with('/') || rest == ".rs")
    })
}

/// The tokens that directly follow `word`.
fn words_after<'a>(tokens: &[Token<'a>], word: &str) -> Vec<&'a str> {
    tokens.windows(2).filter(|pair| pair[0].text == word).map(|pair| pair[1].text).collect()
}

fn check_sources(rule: fn(&str, &str) -> Vec<String>) {
    let files = rust_files("src");
    assert!(files.len() > 5, "the sources are where we look for them");
    none(files.iter().flat_map(|(path, text)| rule(path.strip_prefix("src/").expect("below src"), text)).collect());
}

fn none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// The checkout, as cargo names it now: a shared target folder may hold a program built in another one.
fn root() -> PathBuf {
    let now = std::env::var_os("CARGO_MANIFEST_DIR");
    now.map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Path from the root and text of every Rust file below `folder`, which need not be there.
fn rust_files(folder: &str) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for name in names_in(&root().join(&folder)) {
            let path = format!("{folder}/{name}");
            if root().join(&path).is_dir() {
                folders.extend((name != "target").then_some(path));
            } else if name.ends_with(".rs") {
                let text = read(&path);
                files.push((path, text));
            }
        }
    }
    files.sort();
    files
}

fn names_in(folder: &Path) -> Vec<String> {
    std::fs::read_dir(folder)
        .map_or(Vec::new(), |entries| entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect())
}

/// What git keeps, and what it would keep if it were told: new files are looked at before they are committed.
fn repository_files() -> Vec<String> {
    let output = Command::new("git")
        // The repository may belong to somebody else than the one who tests it.
        .args(["-c", "safe.directory=*", "ls-files", "-z"])
        .args(["--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git is installed");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git cannot list the repository: {complaint}");
    let list = String::from_utf8(output.stdout).expect("our file names are UTF-8");
    list.split_terminator('\0').map(str::to_owned).collect()
}

/// What cargo knows of the packages that are built for this machine; asks nobody, since they are all here.
fn cargo_metadata() -> serde_json::Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let ask = |program: &std::ffi::OsStr, arguments: &[&str]| {
        let output = Command::new(program)
            .args(arguments)
            .current_dir(root())
            .output()
            .unwrap_or_else(|error| panic!("{program:?}: {error}"));
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program:?} {arguments:?}: {complaint}");
        String::from_utf8(output.stdout).unwrap()
    };
    let version = ask("rustc".as_ref(), &["-vV"]);
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let metadata =
        ask(&cargo, &["metadata", "--offline", "--locked", "--format-version", "1", "--filter-platform", host]);
    serde_json::from_str(&metadata).expect("cargo writes JSON")
}

// -------------------------------------------------------------------------------------- each rule can say no

#[test]
fn a_file_without_a_sentence_is_noticed() {
    for bad in ["", "fn a() {}", "// Not a doc.", "//!", "//! words", "//! a few words here\n\n"] {
        assert_eq!(first_line("x.rs", bad).len(), 1, "{bad:?}");
    }
    for good in ["//! The one clock.", "#![no_std]\n\n//! Says what\n//! it is.\n//!\n//! and more"] {
        none(first_line("x.rs", good));
    }
}

#[test]
fn a_room_without_a_floor_or_a_line_in_the_map_is_noticed() {
    let map = "//! | 3 | [`repo`] | the vault |";
    assert_eq!(room_on_map("repo", map), None);
    assert!(room_on_map("source", map).is_some());
    assert!(room_on_map("attic", map).is_some());
}

#[test]
fn an_arrow_that_leads_up_or_sideways_is_noticed() {
    for (path, bad) in [
        ("store/local.rs", "use crate::crypto::Seal;"),
        ("store/mod.rs", "use crate::{base::{Kind, Clock}, format::Pack};"),
        ("compress/mod.rs", "fn a() { crate::cli::run() }"),
        ("format/mod.rs", "use crate::*;"),
        ("format/mod.rs", "use crate::{self as house};"),
        ("format/mod.rs", "use super::store;"),
        ("repo/pack.rs", "use super::super::source::Source;"),
        ("repo/pack.rs", "#[cfg(test)] mod tests { use super::super::super::ops; }"),
        ("attic/mod.rs", "use crate::base::Kind;"),
        ("ops/mod.rs", "use crate::Everything;"),
        ("main.rs", "use keepstone::ops::backup;"),
        ("main.rs", "use keepstone::{cli, base::Kind};"),
    ] {
        assert_eq!(arrows(path, bad).len(), 1, "{path}: {bad}");
    }
}

#[test]
fn an_arrow_that_leads_down_is_not() {
    for (path, good) in [
        ("store/local.rs", "use crate::base::Kind; use crate::store::Key; use super::Error;"),
        ("store/mod.rs", "/// See [`crate::cli`].\n// use crate::cli;\nconst A: &str = \"crate::cli\";"),
        ("cli/commands/list.rs", "use crate::ops::list; pub(crate) fn a() { super::super::b() }"),
        ("store/mod.rs", "mod a { use super::b; } #[cfg(test)] mod tests { use super::*; }"),
        ("main.rs", "fn main() { keepstone::cli::main() }"),
        ("lib.rs", "pub mod base; pub use crate::cli::run;"),
    ] {
        none(arrows(path, good));
    }
}

#[test]
fn a_package_beside_its_door_is_noticed() {
    for (path, bad) in [
        ("repo/pack.rs", "use zstd::bulk;"),
        ("repo/mod.rs", "fn a() { rusqlite::Connection::open(b) }"),
        ("repo/indexed.rs", "use rusqlite as sql;"),
        ("base/ids.rs", "use ::getrandom::fill;"),
        ("cli/mod.rs", "use minicbor;"),
        ("ops/mod.rs", "#[derive(clap::Parser)] struct A;"),
    ] {
        assert_eq!(doors(path, bad).len(), 1, "{path}: {bad}");
    }
    for (path, good) in [
        ("repo/index/cache.rs", "use rusqlite::Connection;"),
        ("repo/index.rs", "use rusqlite::Connection;"),
        ("compress/mod.rs", "use zstd::bulk;"),
        ("cli/mod.rs", "use crate::ops::tar::Archive; // zstd::bulk"),
    ] {
        none(doors(path, good));
    }
}

#[test]
fn a_dependency_without_a_door_and_a_door_without_one_are_noticed() {
    let all: String = DOORS.iter().map(|(package, _)| format!("{package} = \"1\"\n")).collect();
    none(missing_doors(&format!("[dependencies]\n# why\n{all}\n[dev-dependencies]\nx = \"1\"\n")));
    assert_eq!(missing_doors(&format!("[dependencies]\nnew-thing = \"1\"\n{all}")).len(), 1);
    assert_eq!(missing_doors("[dependencies]\n").len(), DOORS.len());
}

#[test]
fn a_second_clock_a_second_voice_and_a_loose_end_are_noticed() {
    for bad in [
        "fn a() { std::time::SystemTime::now(); }",
        "fn a() { Instant::now(); }",
        "fn a() { eprintln!(\"b\"); }",
        "fn a() { std::env::var(\"HOME\"); }",
        "async fn a() {}",
        "fn a() { b().unwrap(); }",
        "#[allow(unsafe_code)] fn a() {}",
        "fn a() { todo!() }",
    ] {
        assert_eq!(reserved_words("repo/mod.rs", bad).len(), 1, "{bad}");
        none(reserved_words("repo/mod.rs", &format!("#[cfg(test)] mod tests {{ {bad} }}")));
    }
    for word in UNFINISHED {
        let bad = format!("/// {word}: later\nfn a() {{}}");
        assert_eq!(unfinished("repo/mod.rs", &bad).len(), 1, "{bad}");
        none(unfinished("repo/mod.rs", &format!("#[cfg(test)]\nmod tests {{\n// {word}\n}}")));
    }
    for (path, good) in [
        ("base/clock.rs", "fn a() { Instant::now(); }"),
        ("cli/print.rs", "fn a() { println!(\"b\"); std::env::var(\"HOME\"); }"),
        ("store/s3.rs", "async fn a() { b().await }"),
        (
            "repo/mod.rs",
            "fn a() { b().unwrap_or(1); env!(\"CARGO_PKG_VERSION\"); self.eprintln(); key.unwrap(&wrapped); }",
        ),
    ] {
        none(reserved_words(path, good));
    }
}

#[test]
fn an_ignored_test_that_nobody_runs_is_noticed() {
    assert_eq!(ignored_tests("x.rs", "    #[ignore]\n").len(), 1);
    assert_eq!(ignored_tests("x.rs", "#[ignore = \"too slow\"]").len(), 1);
    none(ignored_tests("x.rs", "#[ignore = \"a measurement\"] // not #[ignore]"));
    none(ignored_tests("x.rs", "#[ignore = \"dies; another_test runs it\"]"));
}

#[test]
fn a_file_that_is_too_long_is_noticed() {
    assert_eq!(length("repo/mod.rs", &"\n".repeat(LINES_AT_MOST + 1)).len(), 1);
    none(length("repo/mod.rs", &"\n".repeat(LINES_AT_MOST)));
}

#[test]
fn a_foreign_place_is_noticed() {
    for place in FOREIGN {
        let bad = format!("see `{place}{}`", if place.ends_with('/') { "x" } else { "" });
        assert_eq!(foreign_places("README.md", &bad).len(), 1, "{bad}");
        none(foreign_places("Cargo.lock", &bad));
        if place.starts_with('/') {
            none(foreign_places("README.md", &format!("src{place} and $HOME{place}")));
        }
    }
    none(foreign_places("README.md", concat!("/wo", "rkshop, ./wo", "rk, /ro", "ots")));
}

#[test]
fn a_package_with_an_unfit_licence_is_noticed() {
    let with = |licence: serde_json::Value| serde_json::json!({"packages": [{"name": "a", "version": "1.0.0", "license": licence}]});
    none(unfit_licences(&with("MIT OR Apache-2.0".into())));
    assert_eq!(unfit_licences(&with("GPL-3.0-only".into())).len(), 1);
    assert_eq!(unfit_licences(&with(serde_json::Value::Null)).len(), 1);
    assert_eq!(unfit_licences(&serde_json::json!({"packages": []})).len(), 1);
}
