//! `config`: what it says, what is wrong with it, and a first one.

use crate::base::Clock;
use crate::base::clock::{TimeZone, Zoned};
use crate::cli::app::App;
use crate::cli::args::{Config as Given, ConfigCommand, ConfigInit, Global, Named};
use crate::cli::error::{Error, Result};
use crate::cli::exit::Exit;
use crate::cli::print::table::Table;
use crate::cli::print::{human, say};
use crate::cli::secrets;
use crate::config::init::{Answers, file};
use crate::config::show::{From, Shown};
use crate::config::{self, Complaint, Config, schema};
use crate::db::{mysql, postgres};
use serde::Serialize;
use std::env;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{BufRead, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf, absolute};

#[derive(Serialize)]
struct JsonCheck {
    message_type: &'static str,
    /// Whether nothing is wrong.
    good: bool,
    files: Vec<String>,
    repositories: Vec<String>,
    profiles: Vec<String>,
    complaints: Vec<JsonComplaint>,
    /// What is not wrong and cannot be what somebody wants.
    warnings: Vec<JsonComplaint>,
}

#[derive(Serialize)]
struct JsonComplaint {
    file: String,
    line: usize,
    column: usize,
    message: String,
}

#[derive(Serialize)]
struct JsonProfile {
    message_type: &'static str,
    profile: String,
    repository: String,
    place: String,
    schedule: Option<String>,
    /// When it should run next.
    next: Option<String>,
    /// What holds; empty in a list of all.
    values: Vec<JsonValue>,
}

#[derive(Serialize)]
struct JsonValue {
    table: String,
    key: &'static str,
    /// As TOML; null if there is none.
    value: Option<String>,
    /// Null for what holds where nobody says anything.
    file: Option<String>,
    line: Option<usize>,
    inherited_from: Option<String>,
}

#[derive(Serialize)]
struct JsonInit {
    message_type: &'static str,
    file: String,
    profile: String,
    /// A key file that was made.
    key_file: Option<String>,
}

/// Does what is to be done with the config.
pub fn run(app: &App, given: &Given) -> Result<Exit> {
    match &given.command {
        ConfigCommand::Check => check(app),
        ConfigCommand::Show { name: Some(name) } => show(app, name),
        ConfigCommand::Show { name: None } => list(app),
        ConfigCommand::Schema => {
            let text = serde_json::to_string_pretty(&schema::schema());
            app.out.line(text.map_err(|error| Error::io("write the schema", error.into()))?);
            Ok(Exit::Done)
        }
        ConfigCommand::Init(given) => init(app, given),
    }
}

fn load(app: &App) -> Result<Config> {
    Ok(Config::load(&app.global.config)?)
}

fn check(app: &App) -> Result<Exit> {
    let config = match Config::load(&app.global.config) {
        Ok(config) => config,
        Err(config::Error::Wrong(complaints)) if app.out.is_json() => {
            let complaints = complaints.iter().map(JsonComplaint::from).collect();
            app.out.object(&JsonCheck { complaints, ..JsonCheck::good(false) });
            return Ok(Exit::Usage);
        }
        Err(error) => return Err(error.into()),
    };
    let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect::<Vec<_>>();
    let files: Vec<String> = config.paths().map(|path| path.display().to_string()).collect();
    let (repositories, profiles) = (owned(config.repositories()), owned(config.profiles()));
    if app.out.is_json() {
        let warnings = config.warnings(&now()).iter().map(JsonComplaint::from).collect();
        app.out.object(&JsonCheck { files, repositories, profiles, warnings, ..JsonCheck::good(true) });
        return Ok(Exit::Done);
    }
    for file in &files {
        app.out.line(format!("read {}", human::name(file.as_bytes())));
    }
    let repositories = human::counted(repositories.len() as u64, "repository");
    let profiles = human::counted(profiles.len() as u64, "profile");
    for warning in config.warnings(&now()) {
        app.out.line(format!("warning: {warning}"));
    }
    app.out.line(format!("nothing is wrong: {repositories}, {profiles} that can be run"));
    Ok(Exit::Done)
}

impl JsonCheck {
    fn good(good: bool) -> JsonCheck {
        let (repositories, profiles) = (Vec::new(), Vec::new());
        JsonCheck {
            message_type: "config_check",
            good,
            files: Vec::new(),
            repositories,
            profiles,
            complaints: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

impl std::convert::From<&Complaint> for JsonComplaint {
    fn from(complaint: &Complaint) -> JsonComplaint {
        let Complaint { file, line, column, message, .. } = complaint.clone();
        JsonComplaint { file, line, column, message }
    }
}

fn now() -> Zoned {
    Clock::System.now().to_zoned(TimeZone::system())
}

fn profile(config: &Config, name: &str, shown: &[Shown]) -> Result<JsonProfile> {
    let profile = config.profile(name)?;
    let next = profile.schedule.as_ref().and_then(|schedule| schedule.next(&now()));
    Ok(JsonProfile {
        message_type: "profile",
        profile: profile.name,
        repository: profile.repository.name,
        place: profile.repository.place.display().to_string(),
        schedule: profile.schedule.map(|schedule| schedule.text()),
        next: next.map(|next| next.timestamp().to_string()),
        values: shown.iter().map(JsonValue::from).collect(),
    })
}

impl std::convert::From<&Shown> for JsonValue {
    fn from(shown: &Shown) -> JsonValue {
        let (file, line, inherited_from) = match &shown.from {
            From::Default | From::Environment => (None, None, None),
            From::File { file, line, profile } => (Some(file.display().to_string()), Some(*line), profile.clone()),
        };
        JsonValue { table: shown.table.clone(), key: shown.key, value: shown.value.clone(), file, line, inherited_from }
    }
}

fn list(app: &App) -> Result<Exit> {
    let config = load(app)?;
    let mut table = Table::new(&["Profile", "Repository", "Place", "Next"]);
    for name in config.profiles() {
        let profile = profile(&config, name, &[])?;
        if app.out.is_json() {
            app.out.object(&profile);
            continue;
        }
        let next = config.profile(name)?.schedule.and_then(|schedule| schedule.next(&now()));
        let next = next.map_or("when it is started".to_owned(), |next| next.strftime("%Y-%m-%d %H:%M").to_string());
        table.row(vec![profile.profile, profile.repository, human::name(profile.place.as_bytes()), next]);
    }
    if !app.out.is_json() {
        table.print(&app.out);
    }
    Ok(Exit::Done)
}

fn show(app: &App, name: &str) -> Result<Exit> {
    let config = load(app)?;
    let shown = config.shown(name)?;
    if app.out.is_json() {
        app.out.object(&profile(&config, name, &shown)?);
        return Ok(Exit::Done);
    }
    let mut table = "";
    for value in &shown {
        if value.table != table {
            table = &value.table;
            app.out.line(format!("\n[{table}]"));
        }
        let from = match &value.from {
            From::Default => "by default".to_owned(),
            From::Environment => "from the environment and the user".to_owned(),
            From::File { file, line, profile } => {
                let inherited = profile.as_ref().map_or(String::new(), |name| format!(", inherited from {name}"));
                format!("{}:{line}{inherited}", human::name(file.as_os_str().as_encoded_bytes()))
            }
        };
        app.out.line(match &value.value {
            Some(said) => format!("{:<44} # {from}", format!("{} = {said}", value.key)),
            None => format!("{:<44} # none", format!("# {}", value.key)),
        });
    }
    Ok(Exit::Done)
}

fn init(app: &App, given: &ConfigInit) -> Result<Exit> {
    let path = match app.global.config.as_slice() {
        [] => config::own_place()?,
        [path] => absolute_path(path)?,
        _ => return Err(Error::usage("--config is said more than once: one file is written")),
    };
    if path.exists() {
        let text = format!(
            "{} is there already: it is never overwritten. Look at it with `keepstone config show`",
            path.display()
        );
        return Err(Error::Said(crate::base::Kind::Exists, text));
    }
    let answers = answers(app, given, &path)?;
    let key_file = missing_key(&answers);
    let text = file(&answers);
    // What was answered may be what no config takes: better said before anything is written.
    Config::of_text(&path, &text)?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| Error::io(format!("make {}", folder.display()), source))?;
    if let Some(key_file) = &key_file {
        secrets::make_key_file(key_file)?;
    }
    let failed = |source| Error::io(format!("write {}", path.display()), source);
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
    out.write_all(text.as_bytes()).and_then(|()| out.sync_all()).map_err(failed)?;
    tell(app, &path, &answers, key_file.as_deref());
    Ok(Exit::Done)
}

fn tell(app: &App, path: &Path, answers: &Answers, key_file: Option<&Path>) {
    if app.out.is_json() {
        return app.out.object(&JsonInit {
            message_type: "config_init",
            file: path.display().to_string(),
            profile: answers.profile.clone(),
            key_file: key_file.map(|path| path.display().to_string()),
        });
    }
    app.out.line(format!("wrote {}", human::name(path.as_os_str().as_encoded_bytes())));
    if let Some(key_file) = key_file {
        let key_file = human::name(key_file.as_os_str().as_encoded_bytes());
        app.out.line(format!("made {key_file}, which opens the repository: keep a copy in a second place"));
    }
    app.out.line("");
    let config = match app.global.config.is_empty() {
        true => String::new(),
        false => format!("--config {} ", human::shell_word(&path.to_string_lossy())),
    };
    app.out.line(format!(
        "next      keepstone {config}--profile {} init   (if the repository is not there yet)",
        answers.profile
    ));
    app.out.line(format!("          keepstone {config}run {}", answers.profile));
}

/// The key file that is named and not there.
fn missing_key(answers: &Answers) -> Option<PathBuf> {
    let (key, path) = &answers.opened_by;
    (*key == "key_file" && !Path::new(path).exists()).then(|| PathBuf::from(path))
}

fn answers(app: &App, given: &ConfigInit, config: &Path) -> Result<Answers> {
    let mut ask = Ask { quiet: given.yes };
    let is_root = rustix::process::geteuid().is_root();
    let home = env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let place = match &app.global.repository {
        Some(place) if !place.as_os_str().is_empty() => place.to_string_lossy().into_owned(),
        _ => {
            let usual = match (is_root, &home) {
                (false, Some(home)) => home.join("keepstone-vault"),
                _ => PathBuf::from("/var/backups/keepstone"),
            };
            ask.line(
                "Where is the repository, or where is it to be made? (a folder, s3://BUCKET/PREFIX)",
                &usual.to_string_lossy(),
            )?
        }
    };
    let place =
        if place.starts_with("s3:") { place } else { absolute_path(Path::new(&place))?.to_string_lossy().into_owned() };
    let opened_by = match opened_by(&app.global)? {
        Some(said) => said,
        None => {
            let usual = config.with_extension("key");
            let said = ask.line("Which key file opens it? (made if it is not there)", &usual.to_string_lossy())?;
            ("key_file", absolute_path(Path::new(&said))?.to_string_lossy().into_owned())
        }
    };
    let named = |named: &[Named], own: fn(&str) -> Result<String>| {
        let one = |one: &Named| Ok((one.name.clone().map_or_else(|| own(&one.address), Ok)?, one.address.clone()));
        named.iter().map(one).collect::<Result<Vec<_>>>()
    };
    let (postgres, mysql) = (named(&given.postgres, own_postgres)?, named(&given.mysql, own_mysql)?);
    let mut paths = given.paths.iter().map(|path| absolute_path(path)).collect::<Result<Vec<_>>>()?;
    if paths.is_empty() && postgres.is_empty() && mysql.is_empty() && given.command.is_empty() {
        let usual = match (is_root, home) {
            (false, Some(home)) => home.to_string_lossy().into_owned(),
            _ => "/etc /home".to_owned(),
        };
        let said = ask.line("What is to be backed up? (paths with blanks between them)", &usual)?;
        paths = said.split_whitespace().map(|path| absolute_path(Path::new(path))).collect::<Result<Vec<_>>>()?;
    }
    let (profile, commands) = (given.name.clone(), given.command.clone());
    let (min_free, critical) = (given.min_free.clone(), given.critical);
    Ok(Answers { profile, place, opened_by, paths, postgres, mysql, commands, min_free, critical })
}

/// The name of the database itself.
fn own_postgres(url: &str) -> Result<String> {
    let address = postgres::Address::parse(url, &config::surroundings()).map_err(crate::ops::Error::from)?;
    Ok(address.database)
}

fn own_mysql(url: &str) -> Result<String> {
    let address = mysql::Address::parse(url, &config::surroundings()).map_err(crate::ops::Error::from)?;
    Ok(address.database)
}

/// What opens the repository, if the command line says it.
fn opened_by(global: &Global) -> Result<Option<(&'static str, String)>> {
    let path = |key, path: &Option<PathBuf>| {
        let path = path.as_ref().map(|path| absolute_path(path)).transpose()?;
        Ok::<_, Error>(path.map(|path| (key, path.to_string_lossy().into_owned())))
    };
    let files = [
        path("password_file", &global.password_file)?,
        path("key_file", &global.key_file)?,
        path("identity_file", &global.identity_file)?,
        global.password_command.clone().map(|command| ("password_command", command)),
        global.key_command.clone().map(|command| ("key_command", command)),
    ];
    Ok(files.into_iter().flatten().next())
}

fn absolute_path(path: &Path) -> Result<PathBuf> {
    absolute(path).map_err(|source| Error::io(format!("find {}", path.display()), source))
}

/// Asks line by line.
struct Ask {
    quiet: bool,
}

impl Ask {
    /// The answer, or `usual` if there is none.
    fn line(&mut self, question: &str, usual: &str) -> Result<String> {
        if self.quiet {
            return Ok(usual.to_owned());
        }
        say(format!("{question}\n  [{usual}]"));
        let mut line = String::new();
        let failed = |source| Error::io("read the answer", source);
        let read = std::io::stdin().lock().read_line(&mut line).map_err(failed)?;
        // Nobody answers any more.
        self.quiet |= read == 0;
        Ok(Some(line.trim()).filter(|line| !line.is_empty()).unwrap_or(usual).to_owned())
    }
}
