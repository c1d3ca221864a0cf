//! What is done now and then besides the backup, as it is meant: drills, upkeep of databases, new keys.

use super::{Database, Family, Link, Origin, opener, schedule, small};
use crate::config::read::Reader;
use crate::config::schedule::Schedule;
use crate::config::values;
use crate::db::upkeep::Chore;
use crate::ops::drill::Sample;
use std::path::PathBuf;
use std::time::Duration;

/// What a drill plays through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Databases and files.
    Whole,
    /// Whole databases.
    Database,
    /// Some tables, by name, or one by lot.
    Table(Vec<String>),
    /// Files.
    Files,
    /// All of it, on a machine that knows nothing and has only this to open the repository; or what opens it always.
    Machine(Option<Origin>),
}

impl Scenario {
    /// The phase of a night that it is.
    pub fn phase(&self) -> &'static str {
        match self {
            Scenario::Whole => "drill",
            Scenario::Database => "drill_database",
            Scenario::Table(_) => "drill_table",
            Scenario::Files => "drill_files",
            Scenario::Machine(_) => "drill_machine",
        }
    }
}

/// A test restore.
#[derive(Clone, Debug)]
pub struct Drill {
    /// What it plays through.
    pub scenario: Scenario,
    /// When it is due; none for every run.
    pub schedule: Option<Schedule>,
    /// How much is compared byte for byte.
    pub sample: Sample,
    /// Whether files are tried.
    pub files: bool,
    /// Only these dumps.
    pub databases: Vec<String>,
    /// Also on the server that a dump was taken from.
    pub allow_source_server: bool,
    /// So many tables at once.
    pub jobs: usize,
    /// Where files lie for a moment.
    pub temp_dir: Option<PathBuf>,
    /// Where PostgreSQL looks for names that have no schema.
    pub search_path: Vec<String>,
    /// Servers to try on.
    pub servers: Vec<Link>,
}

impl Drill {
    /// One, or those of the scenarios.
    pub(super) fn read_all(read: Reader<'_>) -> Vec<Drill> {
        let postgres = read.optional("postgres").map(|read| {
            let link =
                Link { programs: read.text("programs").map(PathBuf::from), ..Link::read(Family::Postgres, &read) };
            read.finish();
            link
        });
        let mysql = read.optional("mysql").map(|read| {
            let link = Link::read(Family::Mysql, &read);
            read.finish();
            link
        });
        let percent = read.value("sample", values::percent).unwrap_or(100.0);
        let whole = Drill {
            scenario: Scenario::Whole,
            schedule: schedule(&read),
            sample: if read.switch("full") { Sample::Full } else { Sample::Percent(percent) },
            files: read.switch("files"),
            databases: read.list("databases"),
            allow_source_server: read.switch("allow_source_server"),
            jobs: small(&read, "jobs").unwrap_or(1),
            temp_dir: read.text("temp_dir").map(PathBuf::from),
            search_path: read.list("search_path"),
            servers: postgres.into_iter().chain(mysql).collect(),
        };
        let scenarios = read.optional("scenarios");
        read.finish();
        match scenarios.map(|scenarios| whole.scenarios(scenarios)) {
            Some(drills) => drills,
            None => vec![whole],
        }
    }

    fn scenarios(&self, read: Reader<'_>) -> Vec<Drill> {
        let of = |name: &str, scenario: &dyn Fn(&Reader<'_>) -> Scenario| {
            let read = read.optional(name)?;
            let drill = Drill {
                files: self.files && name == "machine" || name == "files",
                ..self.played(scenario(&read), &read)
            };
            read.finish();
            Some(drill)
        };
        let drills = [
            of("database", &|_| Scenario::Database),
            of("table", &|read| Scenario::Table(read.list("tables"))),
            of("files", &|_| Scenario::Files),
            of("machine", &|read| Scenario::Machine(opener(read))),
        ];
        read.finish();
        drills.into_iter().flatten().collect()
    }

    /// The same drill as a scenario, with what its table says otherwise.
    fn played(&self, scenario: Scenario, read: &Reader<'_>) -> Drill {
        let mut drill = Drill { scenario, ..self.clone() };
        drill.schedule = schedule(read).or(drill.schedule);
        if read.has("sample") {
            drill.sample = match (read.switch("full"), read.value("sample", values::percent)) {
                (true, _) => Sample::Full,
                (false, Some(percent)) => Sample::Percent(percent),
                // `full = false` takes back what `drill` says, and nothing leaves it.
                (false, None) if read.is_said("full") && drill.sample == Sample::Full => Sample::Percent(10.0),
                (false, None) => drill.sample,
            };
        }
        if read.has("databases") && read.is_said("databases") {
            drill.databases = read.list("databases");
        }
        drill
    }
}

/// Upkeep of databases.
#[derive(Clone, Debug)]
pub struct Maintenance {
    /// When it is due; none for every run.
    pub schedule: Option<Schedule>,
    /// Stop after so long.
    pub timeout: Duration,
    /// Wait so long for a table that somebody else has locked.
    pub lock_timeout: Duration,
    /// The databases.
    pub databases: Vec<Maintained>,
}

/// A database that is kept in good order.
#[derive(Clone, Debug)]
pub struct Maintained {
    /// What the config calls it.
    pub name: String,
    /// Where it is.
    pub link: Link,
    /// Every database of the server.
    pub all_databases: bool,
    /// What is done.
    pub chores: Vec<Chore>,
}

impl Maintenance {
    pub(super) fn read(read: Reader<'_>, sources: &[Database]) -> Maintenance {
        let mut databases = Vec::new();
        for (table, family) in [("postgres", Family::Postgres), ("mysql", Family::Mysql)] {
            databases.extend(
                read.named(table).into_iter().map(|(name, read)| Maintained::read(name, family, read, sources)),
            );
        }
        let maintenance = Maintenance {
            schedule: schedule(&read),
            timeout: read.value("timeout", values::duration).unwrap_or_default(),
            lock_timeout: read.value("lock_timeout", values::duration).unwrap_or_default(),
            databases,
        };
        read.finish();
        maintenance
    }
}

impl Maintained {
    fn read(name: String, family: Family, read: Reader<'_>, sources: &[Database]) -> Maintained {
        let is_meant = |one: &&Database| one.link.family == family && one.name.as_deref() == Some(name.as_str());
        let source = sources.iter().find(is_meant);
        let said = Link::read(family, &read);
        let all_databases = said.url.is_empty() && source.is_some_and(|source| source.parts.all_databases);
        let link = match (said.url.is_empty(), source) {
            (true, Some(source)) => source.link.clone(),
            _ => said,
        };
        let chores: Vec<Chore> = read.list("run").iter().filter_map(|word| Chore::of_name(word)).collect();
        let usual: &[Chore] = match family {
            Family::Postgres => &[Chore::Vacuum, Chore::Analyze],
            Family::Mysql => &[Chore::Analyze],
        };
        read.finish();
        let chores = if chores.is_empty() { usual.to_vec() } else { chores };
        Maintained { name, link, all_databases, chores }
    }
}

/// New keys by the calendar.
#[derive(Clone, Debug)]
pub struct Keys {
    /// When a new epoch is opened.
    pub rotate: Option<Schedule>,
    /// How many bytes of packs are sealed anew in a night.
    pub reseal_bytes: Option<u64>,
}

impl Keys {
    pub(super) fn read(read: Reader<'_>) -> Keys {
        let keys =
            Keys { rotate: read.value("rotate", Schedule::parse), reseal_bytes: read.value("reseal", values::size) };
        read.finish();
        keys
    }
}
