//! A first config: some answers made into a file that can be run.

use super::show::quoted;
use std::fmt::Write;
use std::path::PathBuf;

/// What somebody answered.
#[derive(Clone, Debug)]
pub struct Answers {
    /// What the profile is called.
    pub profile: String,
    /// Where the repository is.
    pub place: String,
    /// What opens it: a key of the repository's table, and its value.
    pub opened_by: (&'static str, String),
    /// Files and directories.
    pub paths: Vec<PathBuf>,
    /// Databases of PostgreSQL: name and address.
    pub postgres: Vec<(String, String)>,
    /// Databases of MySQL or MariaDB: name and address.
    pub mysql: Vec<(String, String)>,
    /// Commands whose output is kept: name and command.
    pub commands: Vec<(String, String)>,
    /// How much has to be free before anything begins.
    pub min_free: String,
    /// The snapshots of a critical profile are read back within a day.
    pub critical: bool,
}

/// The file.
pub fn file(answers: &Answers) -> String {
    let mut text = String::from(
        "# What must be safe. `keepstone config check` looks for mistakes, `keepstone config show` says what holds.\n\
         # Passwords and keys never stand here: only the files, commands or variables that hold them.\n\n",
    );
    let _ = write!(
        text,
        "[repositories.main]\nplace = {}\n{} = {}\nkeys.rotate = \"0 3 1 * *\"    # new keys with the first run of a month\n\n",
        quoted(&answers.place),
        answers.opened_by.0,
        quoted(&answers.opened_by.1)
    );
    let profile = &answers.profile;
    let _ = write!(
        text,
        "[profiles.{profile}]\nrepository = \"main\"\nschedule = \"0 2 * * *\"   # every night at two\n\
         whole = \"0 3 * * SUN\"    # the first run after that reads everything, also what looks unchanged\n\n\
         [profiles.{profile}.sources]\n"
    );
    if !answers.paths.is_empty() {
        let paths: Vec<String> = answers.paths.iter().map(|path| quoted(&path.to_string_lossy())).collect();
        let _ = write!(text, "paths = [{}]\nexclude_caches = true\n", paths.join(", "));
    }
    text.push('\n');
    for (kind, key, sources) in [
        ("postgres", "url", &answers.postgres),
        ("mysql", "url", &answers.mysql),
        ("command", "run", &answers.commands),
    ] {
        for (name, said) in sources {
            let _ = write!(text, "[profiles.{profile}.sources.{kind}.{}]\n{key} = {}\n\n", quoted(name), quoted(said));
        }
    }
    let min_free = quoted(&answers.min_free);
    let (age, said) = if answers.critical { ("24h", "of the last day") } else { ("7d", "of the last week") };
    let _ = write!(
        text,
        "[profiles.{profile}.limits]\nattempts = 3\nparallel = 3\nsource_timeout = 3600   # seconds\nmin_free = {min_free}\n\n\
         [profiles.{profile}.retention]\ndaily = 7\nweekly = 4\nmonthly = 6\n\n\
         [profiles.{profile}.verify]\nschedule = \"0 6 * * *\"    # by a timer of its own, or else by the first night after it\nnewer_than = \"{age}\"      # every snapshot {said} is read back\n\n"
    );
    text.push_str(&drill(answers));
    text.push_str(REPORTS);
    text
}

/// Nobody was asked for a channel.
const REPORTS: &str = "\n[reports]                      # sent by `keepstone report due`, which a timer starts\ndaily = \"0 8 * * *\"\n\
                       weekly = \"0 8 * * SUN\"\nmonthly = \"0 8 1 * *\"\n# channels = [\"ops\"]           # once there is one in [notify]\n";

/// The first run of a month tries a restore. Databases need a server for that, which nobody was asked for.
fn drill(answers: &Answers) -> String {
    let profile = &answers.profile;
    let table =
        format!("[profiles.{profile}.drill]\nschedule = \"0 3 1 * *\"    # the first run of a month tries a restore\n");
    let server = |kind: &str, scheme: &str| {
        format!("[profiles.{profile}.drill.{kind}]\nurl = \"{scheme}://drill@spare.example.org/\"\n")
    };
    let servers = [
        answers.postgres.first().map(|_| server("postgres", "postgres")),
        answers.mysql.first().map(|_| server("mysql", "mysql")),
    ];
    let servers: String = servers.into_iter().flatten().collect();
    if servers.is_empty() {
        return table;
    }
    let example: String = format!("{table}{servers}").lines().map(|line| format!("# {line}\n")).collect();
    format!("# With a server on which databases may be tried, not the one that they are taken from:\n{example}")
}
