//! The config: TOML as it was written, checked to the last key, laid together and made into profiles as they are meant.
//!
//! `describe` and `keys` say what may stand in it; from them come reading, checking, `config show`, the schema for editors
//! and the reference. `tree` keeps the place of every value, `meant` is what the rest of the house works with. Secrets never
//! stand in it: `secrets` brings them from files, commands and the environment.

mod check;
pub mod describe;
mod error;
mod files;
pub mod init;
pub mod keys;
mod links;
pub mod meant;
mod read;
pub mod schedule;
pub mod schema;
pub mod secrets;
pub mod show;
mod surroundings;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod tree;
pub mod values;
mod warn;

pub use error::{Complaint, Error, Result};
pub use files::{own_place, places};
pub use surroundings::{cache_top, surroundings, user_name, variable};

use crate::base::child::keep_from_children;
use crate::base::like;
use check::Check;
use keys::outlook::PRICE;
use keys::telling::{METRICS, NOTIFY, REPORTS, TOKENS, URLS};
use keys::{PROFILE, REPOSITORY, ROOT};
use meant::{Channel, Metrics, Outlook, Price, Profile, Reports, Repository, State};
use read::Reader;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tree::{At, Entry, Files, Table, Value, inherited, overlay};

/// A config that was read and in which nothing is wrong.
pub struct Config {
    files: Files,
    root: Table,
    /// The profiles with all that they inherit.
    profiles: BTreeMap<String, Table>,
    /// Profiles that others inherit from, which need not be whole.
    parents: BTreeSet<String>,
}

impl Config {
    /// Reads these files; if there are none, those of the system and of the user. What is said later counts more.
    pub fn load(given: &[PathBuf]) -> Result<Config> {
        Config::of(files::read(given)?)
    }

    /// The same of a text that is to stand at `path`.
    pub fn of_text(path: &Path, text: &str) -> Result<Config> {
        let mut files = Files::default();
        files.add(path.to_owned(), text.to_owned());
        Config::of(files)
    }

    fn of(files: Files) -> Result<Config> {
        let mut check = Check::new(&files);
        let mut root = Table::new();
        for number in 0..files.paths().count() {
            let (table, mistakes) = tree::parse(&files, number);
            check.complaints.extend(mistakes);
            check.table(&table, &ROOT);
            overlay(&mut root, table);
        }
        let mut profiles = BTreeMap::new();
        let mut parents = BTreeSet::new();
        // What is laid together is looked at only when each part is what it should be.
        if check.complaints.is_empty() {
            for entry in tables(&root, "repositories").map(|(_, entry)| entry) {
                check.whole(table_of(entry), &REPOSITORY, &entry.key_at);
            }
            for (name, section) in [("notify", &NOTIFY), ("reports", &REPORTS), ("metrics", &METRICS)] {
                if let Some(entry) = root.get(name) {
                    check.whole(table_of(entry), section, &entry.key_at);
                }
            }
            let lay = Lay { root: &root };
            lay.channels(&mut check);
            lay.reports(&mut check);
            for (name, entry) in tables(&root, "profiles") {
                let table = lay.profile(&mut check, name, &mut Vec::new());
                check.whole(&table, &PROFILE, &entry.key_at);
                parents.extend(lay.parents(name).into_iter().map(|(parent, _)| parent));
                profiles.insert(name.to_owned(), table);
            }
            lay.prices(&mut check);
            lay.apart(&mut check);
            for (name, table) in &profiles {
                lay.meaning(&mut check, name, table, parents.contains(name));
            }
        }
        keep_variables_from_children(&root);
        match check.complaints.is_empty() {
            true => Ok(Config { root, profiles, parents, files }),
            false => Err(Error::Wrong(sorted(check.complaints))),
        }
    }

    /// The files it was read from.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.paths()
    }

    /// The names of the repositories.
    pub fn repositories(&self) -> Vec<&str> {
        tables(&self.root, "repositories").map(|(name, _)| name).collect()
    }

    /// The names of the profiles that can be run: those that have a repository and something to back up.
    pub fn profiles(&self) -> Vec<&str> {
        let is_whole = |name: &&String| !self.parents.contains(*name) || self.profile(name).is_ok();
        self.profiles.keys().filter(is_whole).map(String::as_str).collect()
    }

    /// A profile, with all that it inherits.
    pub fn profile(&self, name: &str) -> Result<Profile> {
        let table = self.laid(name)?;
        let read = Reader::new(Some(table), &PROFILE);
        let lacks =
            |what: &str| Error::usage(format!("profile `{name}` has no {what}: it is there to be inherited from"));
        let repository = read.text("repository").ok_or_else(|| lacks("repository"))?;
        let repository = self.repository(&repository)?;
        let mut profile = Profile::read(name.to_owned(), repository, self.state(), read);
        profile.protected.extend(self.protected());
        if profile.has_sources() { Ok(profile) } else { Err(lacks("sources")) }
    }

    /// Patterns of databases that no restore on this machine writes over or replaces.
    pub fn protected(&self) -> Vec<String> {
        Reader::new(Some(&self.root), &ROOT).list("protected")
    }

    /// How people can be told.
    pub fn channels(&self) -> Vec<Channel> {
        meant::channels(Reader::new(self.root.get("notify").map(table_of), &NOTIFY))
    }

    /// Which reports are sent by themselves.
    pub fn reports(&self) -> Reports {
        meant::reports(Reader::new(self.root.get("reports").map(table_of), &REPORTS))
    }

    /// Where metrics go.
    pub fn metrics(&self) -> Metrics {
        meant::metrics(Reader::new(self.root.get("metrics").map(table_of), &METRICS))
    }

    /// The channel of this name.
    pub fn channel(&self, name: &str) -> Result<Channel> {
        let mut channels = self.channels();
        match channels.iter().position(|channel| channel.told.name == name) {
            Some(at) => Ok(channels.swap_remove(at)),
            None => Err(Error::usage(unknown("channel", name, channels.iter().map(|one| one.told.name.as_str())))),
        }
    }

    /// A repository.
    pub fn repository(&self, name: &str) -> Result<Repository> {
        let entry = tables(&self.root, "repositories").find(|(known, _)| *known == name).map(|(_, entry)| entry);
        let entry = entry.ok_or_else(|| Error::usage(unknown("repository", name, self.repositories().into_iter())))?;
        Ok(Repository::read(name.to_owned(), Reader::new(Some(table_of(entry)), &REPOSITORY)))
    }

    /// How the future is guessed.
    pub fn outlook(&self) -> Outlook {
        Outlook::read(Reader::new(Some(&self.root), &ROOT).part("forecast"))
    }

    /// What storage costs, by name.
    pub fn prices(&self) -> BTreeMap<String, Price> {
        Price::read_all(&Reader::new(Some(&self.root), &ROOT))
    }

    /// What this machine remembers of its runs.
    pub fn state(&self) -> State {
        let mut state = State::read(&Reader::new(Some(&self.root), &ROOT));
        state.folder = state.folder.or_else(files::own_state);
        state
    }

    /// The keys of a profile with all that it inherits.
    fn laid(&self, name: &str) -> Result<&Table> {
        self.profiles.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.profiles.keys().map(String::as_str).collect();
            Error::usage(unknown("profile", name, names.into_iter()))
        })
    }
}

/// No program that is started inherits a variable that is said to hold a password; whoever needs it gets it.
fn keep_variables_from_children(table: &Table) {
    for (name, entry) in table {
        match &entry.item.value {
            Value::Table(below) => keep_variables_from_children(below),
            Value::Text(variable) if name.ends_with("_env") => keep_from_children(variable),
            _ => {}
        }
    }
}

/// In the order of the files and their lines.
fn sorted(mut complaints: Vec<Complaint>) -> Vec<Complaint> {
    complaints.sort_by(|one, other| (&one.file, one.line, one.column).cmp(&(&other.file, other.line, other.column)));
    complaints.dedup();
    complaints
}

/// The tables with names below a key of the whole file.
fn tables<'t>(root: &'t Table, name: &str) -> impl Iterator<Item = (&'t str, &'t Entry)> {
    root.get(name).into_iter().flat_map(table_of).map(|(name, entry)| (name.as_str(), entry))
}

/// The table behind a key; an empty one for what is none.
fn table_of(entry: &Entry) -> &Table {
    static EMPTY: Table = Table::new();
    match &entry.item.value {
        Value::Table(table) => table,
        _ => &EMPTY,
    }
}

/// There is no such thing; what somebody may have meant, or what there is.
fn unknown<'n>(what: &str, name: &str, names: impl Iterator<Item = &'n str> + Clone) -> String {
    match like(name, names.clone()) {
        Some(near) => format!("there is no {what} `{name}`: did you mean `{near}`?"),
        None => match names.collect::<Vec<_>>().join(", ").as_str() {
            "" => format!("there is no {what} `{name}`, and no other"),
            names => format!("there is no {what} `{name}`; there is {names}"),
        },
    }
}

/// Lays profiles onto those that they inherit from.
struct Lay<'t> {
    root: &'t Table,
}

impl<'t> Lay<'t> {
    fn entry(&self, name: &str) -> Option<&'t Entry> {
        tables(self.root, "profiles").find(|(known, _)| *known == name).map(|(_, entry)| entry)
    }

    /// Those that a profile inherits from, and where it says so.
    fn parents(&self, name: &str) -> Vec<(String, &'t At)> {
        let entry = self.entry(name).and_then(|entry| table_of(entry).get("inherit"));
        let text = |item: &'t tree::Item| match &item.value {
            Value::Text(text) => Some((text.clone(), &item.at)),
            _ => None,
        };
        match entry.map(|entry| &entry.item) {
            Some(tree::Item { value: Value::List(list), .. }) => list.iter().filter_map(text).collect(),
            Some(item) => text(item).into_iter().collect(),
            None => Vec::new(),
        }
    }

    /// A profile on all that it inherits. `below` are those that are being laid already.
    fn profile(&self, check: &mut Check<'_>, name: &str, below: &mut Vec<String>) -> Table {
        let Some(entry) = self.entry(name) else { return Table::new() };
        below.push(name.to_owned());
        let mut laid = Table::new();
        for (parent, at) in self.parents(name) {
            if below.contains(&parent) {
                check.complain(
                    at,
                    format!("`{parent}` inherits from this very profile: a circle of profiles has no beginning"),
                );
            } else if self.entry(&parent).is_none() {
                let others: Vec<&str> =
                    tables(self.root, "profiles").map(|(other, _)| other).filter(|other| *other != name).collect();
                check.complain(at, unknown("profile", &parent, others.into_iter()));
            } else {
                let mut table = self.profile(check, &parent, below);
                table.remove("inherit");
                inherited(&mut table, &parent);
                overlay(&mut laid, table);
            }
        }
        below.pop();
        overlay(&mut laid, table_of(entry).clone());
        laid
    }

    /// The sorts of channels, each with those of its name.
    fn sorts(&self) -> impl Iterator<Item = (&'t str, &'t str, &'t Entry)> {
        let each = |(sort, entry): (&'t str, &'t Entry)| {
            table_of(entry).iter().map(move |(name, entry)| (sort, name.as_str(), entry))
        };
        tables(self.root, "notify").flat_map(each)
    }

    /// Looks at what only the whole of a channel can be asked.
    fn channels(&self, check: &mut Check<'_>) {
        let mut names = BTreeSet::new();
        for (sort, name, entry) in self.sorts() {
            let table = table_of(entry);
            let says = |keys: &[&str]| keys.iter().any(|key| table.contains_key(*key));
            let text = |key: &str| match table.get(key).map(|entry| &entry.item.value) {
                Some(Value::Text(text)) => text.as_str(),
                _ => "",
            };
            if !names.insert(name) {
                check.complain(&entry.key_at, format!("another channel is called `{name}` already: take another name"));
            }
            let form = NOTIFY.key(sort).and_then(|key| key.form.section());
            let wants = |keys: &[&str]| form.is_some_and(|section| section.one_of == keys);
            if wants(&URLS) && !says(&URLS) {
                check.complain(&entry.key_at, "where is it? Say `url_file`, `url_command` or `url_env`");
            }
            if wants(&TOKENS) && !says(&TOKENS) {
                check.complain(&entry.key_at, "it wants a token: say `token_file`, `token_command` or `token_env`");
            }
            if sort == "mail" {
                let has_password = says(&["password_file", "password_command", "password_env"]);
                if says(&["user"]) != has_password {
                    check.complain(&entry.key_at, "a `user` and a password belong together: say both or none");
                }
                if has_password && text("encryption") == "none" {
                    check.complain(
                        &entry.key_at,
                        "a password is not sent without encryption: leave out `encryption = \"none\"`",
                    );
                }
                if matches!(table.get("to").map(|entry| &entry.item.value), Some(Value::List(list)) if list.is_empty())
                {
                    check.complain(&entry.key_at, "nobody gets it: name somebody in `to`");
                }
            }
        }
    }

    /// Looks whether the prices that repositories name are there, and each price is whole.
    fn prices(&self, check: &mut Check<'_>) {
        let names: Vec<&str> = tables(self.root, "prices").map(|(name, _)| name).collect();
        for entry in tables(self.root, "prices").map(|(_, entry)| entry) {
            check.whole(table_of(entry), &PRICE, &entry.key_at);
        }
        for (_, entry) in tables(self.root, "repositories") {
            if let Some(entry) = table_of(entry).get("price")
                && let Value::Text(name) = &entry.item.value
                && !names.contains(&name.as_str())
            {
                check.complain(&entry.item.at, unknown("price", name, names.iter().copied()));
            }
        }
    }

    /// Looks whether what the machine remembers lies in no repository, where nobody but keepstone's own objects may lie.
    fn apart(&self, check: &mut Check<'_>) {
        let Some(entry) = self.root.get("state_dir") else { return };
        let Value::Text(state_dir) = &entry.item.value else { return };
        for (name, repository) in tables(self.root, "repositories") {
            if let Some(Value::Text(place)) = table_of(repository).get("place").map(|entry| &entry.item.value)
                && Path::new(state_dir).starts_with(place)
            {
                let text = format!("this lies within the repository `{name}` ({place}): name a folder outside of it");
                check.complain(&entry.item.at, text);
            }
        }
    }

    /// Looks whether the channels that a profile names are there.
    fn told(&self, check: &mut Check<'_>, table: &Table) {
        let lists = ["channels", "critical", "warning", "info", "night"];
        let route = table.get("notify").map(table_of);
        for entry in lists.iter().filter_map(|list| route?.get(*list)) {
            self.are_there(check, entry);
        }
    }

    /// Looks whether the channels that get reports are there, and can say more than that something is wrong.
    fn reports(&self, check: &mut Check<'_>) {
        let entry = self.root.get("reports").map(table_of).and_then(|table| table.get("channels"));
        for (sort, name, item) in entry.map_or(Vec::new(), |entry| self.are_there(check, entry)) {
            if matches!(sort, "ping" | "pagerduty") {
                let text =
                    format!("`{name}` ({sort}) cannot carry a report: name mail, a chat, a webhook or a command");
                check.complain(&item.at, text);
            }
        }
    }

    /// The channels of a list with their sorts; complains about those that there are not.
    fn are_there<'e>(&self, check: &mut Check<'_>, entry: &'e Entry) -> Vec<(&'t str, &'t str, &'e tree::Item)> {
        let items = match &entry.item.value {
            Value::List(list) => list.iter().collect(),
            _ => vec![&entry.item],
        };
        let mut found = Vec::new();
        for item in items {
            let Value::Text(wanted) = &item.value else { continue };
            match self.sorts().find(|(_, name, _)| name == wanted) {
                Some((sort, name, _)) => found.push((sort, name, item)),
                None => {
                    let names: Vec<&str> = self.sorts().map(|(_, name, _)| name).collect();
                    check.complain(&item.at, unknown("channel", wanted, names.into_iter()));
                }
            }
        }
        found
    }

    /// Looks at what only the whole of a profile can be asked.
    fn meaning(&self, check: &mut Check<'_>, name: &str, table: &Table, is_parent: bool) {
        let Some(entry) = self.entry(name) else { return };
        self.told(check, table);
        let read = Reader::new(Some(table), &PROFILE);
        match (read.text("repository"), table.get("repository")) {
            (Some(repository), Some(said)) => {
                let names: Vec<&str> = tables(self.root, "repositories").map(|(name, _)| name).collect();
                if !names.contains(&repository.as_str()) {
                    check.complain(&said.item.at, unknown("repository", &repository, names.into_iter()));
                }
            }
            _ if is_parent => {}
            _ => check.complain(&entry.key_at, "`repository` is missing here: name one of [repositories]"),
        }
        let sources = read.part("sources");
        let has_sources = !sources.list("paths").is_empty()
            || ["postgres", "mysql", "command"].iter().any(|kind| !sources.named(kind).is_empty());
        if !has_sources && !is_parent {
            check.complain(
                &entry.key_at,
                "there is nothing to back up: name `paths`, databases or commands below `sources`",
            );
        }
        if let (Some(drill), Some(entry)) = (read.optional("drill"), table.get("drill")) {
            drills(check, &drill, &sources, &entry.key_at);
        }
        if let (Some(maintenance), Some(entry)) = (read.optional("maintenance"), table.get("maintenance")) {
            maintained(check, &maintenance, &sources, entry);
        }
        let says = |name: &str, keys: &[&str]| match table.get(name) {
            Some(entry) if keys.iter().all(|key| !table_of(entry).contains_key(*key)) => Some(&entry.key_at),
            _ => None,
        };
        if let Some(at) = says("verify", &["newer_than", "budget", "share", "max_time"]) {
            check.complain(at, "this reads nothing back: say `newer_than`, `budget`, `share` or `max_time`");
        }
        let keeps_nothing = read.optional("retention").is_some_and(|retention| meant::policy(retention).is_empty());
        if let (true, Some(entry)) = (keeps_nothing, table.get("retention")) {
            check.complain(&entry.key_at, "this keeps nothing: say what stays, for example `daily = 7`");
        }
    }
}

/// Looks whether drills have the servers that they need, and whether scenarios are any.
fn drills(check: &mut Check<'_>, drill: &Reader<'_>, sources: &Reader<'_>, at: &At) {
    let scenarios = drill.optional("scenarios");
    let is_played = |name: &str| scenarios.as_ref().is_none_or(|scenarios| scenarios.optional(name).is_some());
    let all = ["database", "table", "files", "machine"];
    if scenarios.is_some() && !all.iter().any(|name| is_played(name)) {
        check.complain(at, "no scenario is named below `scenarios`: say `database`, `table`, `files` or `machine`");
    }
    let tries_databases = ["database", "table", "machine"].iter().any(|name| is_played(name));
    if !tries_databases || !drill.list("databases").is_empty() {
        return;
    }
    for family in ["postgres", "mysql"] {
        if !sources.named(family).is_empty() && drill.optional(family).is_none() {
            let text = format!(
                "there are databases to try: name a server for that in `drill.{family}`, or say which `databases`"
            );
            check.complain(at, text);
        }
    }
}

/// Looks whether it can be known where databases are that are to be kept in good order.
fn maintained(check: &mut Check<'_>, maintenance: &Reader<'_>, sources: &Reader<'_>, entry: &Entry) {
    let mut is_empty = true;
    for family in ["postgres", "mysql"] {
        let known: Vec<String> = sources.named(family).into_iter().map(|(name, _)| name).collect();
        let tables = table_of(entry).get(family).map(table_of).into_iter().flatten();
        let places: BTreeMap<&str, &At> = tables.map(|(name, entry)| (name.as_str(), &entry.key_at)).collect();
        for (name, read) in maintenance.named(family) {
            is_empty = false;
            let at = places.get(name.as_str()).copied().unwrap_or(&entry.key_at);
            let has_password =
                ["password_file", "password_command", "password_env"].iter().any(|key| read.is_said(key));
            match (read.is_said("url"), known.contains(&name)) {
                (true, _) => {}
                (false, true) if has_password => {
                    check.complain(at, "a password belongs to a `url`: say with which role, or leave both out");
                }
                (false, true) => {}
                (false, false) => {
                    let text = format!(
                        "where is it? There is no `sources.{family}.{name}`: say `url`, or call it like a source"
                    );
                    check.complain(at, text);
                }
            }
        }
    }
    if is_empty {
        check.complain(&entry.key_at, "this keeps nothing in order: name databases in `postgres` or `mysql`");
    }
}
