//! Configs as people write them.

use super::*;
use crate::config::show::From;

fn load(texts: &[&str]) -> Result<Config> {
    let mut files = Files::default();
    for (number, text) in texts.iter().enumerate() {
        files.add(format!("{number}.toml").into(), (*text).to_owned());
    }
    Config::of(files)
}

/// What is wrong with a text: line and message.
#[track_caller]
fn wrong(text: &str) -> Vec<(usize, String)> {
    match load(&[text]) {
        Err(Error::Wrong(complaints)) => complaints.into_iter().map(|one| (one.line, one.message)).collect(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("nothing is wrong with {text}"),
    }
}

const GOOD: &str = r#"
[repositories.main]
place = "/backup/vault"
password_file = "/etc/keepstone/password"

[profiles.base]
repository = "main"
schedule = "0 2 * * *"
tags = ["base"]
limits = { attempts = 5 }

[profiles.base.retention]
daily = 7

[profiles.web]
inherit = "base"
tags = ["web", "production"]

[profiles.web.sources]
paths = ["/etc", "/srv"]

[profiles.web.sources.postgres.shop]
url = "postgres://backup@db1/shop"
password_env = "SHOP"

[profiles.web.retention]
weekly = 4
"#;

#[test]
fn a_profile_is_laid_onto_what_it_inherits() {
    let config = load(&[GOOD]).unwrap();
    assert_eq!((config.repositories(), config.profiles()), (vec!["main"], vec!["web"]));
    let web = config.profile("web").unwrap();
    assert_eq!(web.tags, ["web", "production"], "a list takes the place of a list");
    let retention = web.retention.unwrap();
    assert_eq!((retention.keep_daily, retention.keep_weekly), (7, 4), "a table is laid onto a table");
    assert_eq!((web.limits.attempts, web.limits.max_parallel), (5, 3));
    assert_eq!(web.schedule.unwrap().text(), "0 2 * * *");
    assert_eq!(web.databases[0].link.password, Some(meant::Origin::PasswordVariable("SHOP".to_owned())));
    assert!(web.prune.is_some(), "what is forgotten is pruned");
    assert!(config.profile("base").unwrap_err().to_string().contains("there to be inherited from"));
    let error = config.profile("wob").unwrap_err().to_string();
    assert!(error.contains("did you mean `web`?"), "{error}");
}

#[test]
fn what_a_later_file_says_counts_more() {
    let over = "[repositories.main]\nplace = \"/elsewhere\"\n[profiles.web]\nhost = \"alpha\"\n";
    let web = load(&[GOOD, over]).unwrap().profile("web").unwrap();
    assert_eq!(web.repository.place, Path::new("/elsewhere"));
    assert_eq!(web.host.as_deref(), Some("alpha"));
    assert!(web.repository.origin.is_some());
}

#[test]
fn every_key_can_be_said_and_is_read() {
    // Reading asserts that each key of each table was asked for.
    let all = r#"
state_dir = "/var/lib/elsewhere"
history_keep = "2y"
log_file = "/var/log/keepstone.jsonl"
log_keep = "30d"
log_size = "1M"
forecast = { method = "ets", level = "95%", days = 365 }
reports = { channels = "ops", daily = "30 7 * * *", weekly = "off", monthly = "@monthly" }
notify.command.ops.run = "true"
prices.cold = { storage = 0.004, currency = "EUR" }
prices.warm = { storage = "0.02" }
[repositories.main]
place = "s3:https://s3.example.org/vault/team"
identity_file = "/etc/keepstone/identity"
cache_dir = "/var/cache/keepstone"
cache_size = 1000000000
quota = "2T"
price = "cold"
limit_upload = 500
limit_download = "2M"
[repositories.main.s3]
region = "eu"
ca = "/etc/ca.pem"
path_style = true
checksums = "when-required"
connections = 8
tries = 3
storage_class = "STANDARD_IA"
tags = ["team=a"]
encryption = "AES256"
object_lock = "governance:30"
allow_plain_http = true
[profiles.all]
repository = "main"
host = "alpha"
description = "all of it"
tags = "one"
schedule = "@daily"
sources.paths = "/etc"
sources.exclude = ["*.tmp"]
sources.exclude_larger_than = "2G"
sources.command.crontab.run = "crontab -l"
sources.mysql.wiki = { url = "mysql://backup@db2/wiki", content = "data", globals = false }
sources.postgres.shop = { url = "shop", content = "schema", workers = 4, lock_timeout = "5min", schema = "s*" }
backup = { compression = 9, deltas = false, base_cache = 0 }
limits = { attempts = 1, parallel = 2, source_timeout = "2h", timeout = 7200, min_free = "10G", ignore_free_space = true }
load = { nice = 10, ionice = "idle", cpu = "60%", memory = "20%", io = "50%", replication_lag = "30s", longest_pause = "5min" }
retention = { last = 3, within = "1y6m", tags = ["a,b", "c"] }
verify = { schedule = "0 6 * * *", newer_than = "7d", share = "1/30", budget = "5G", max_time = "30min" }
prune = { schedule = "0 5 * * SUN", max_unused = "10%", max_repack = "5G", keep_log = "5y" }
drill.schedule = "0 4 1 * *"
drill.full = true
drill.jobs = 4
drill.temp_dir = "/srv/scratch"
drill.search_path = ["public"]
drill.databases = ["shop"]
hooks = { before = "true", after = ["a", "b"], failed = "f", finally = "g", timeout = 60 }
[profiles.all.drill.postgres]
url = "postgres://drill@spare/postgres"
programs = "/usr/lib/postgresql/15/bin"
[profiles.all.drill.mysql]
url = "mysql://drill@spare/"
password_command = "pass spare"
"#;
    let config = load(&[all]).unwrap();
    let all = config.profile("all").unwrap();
    assert_eq!((all.repository.quota_bytes, all.repository.price.as_deref()), (Some(2 << 40), Some("cold")));
    assert_eq!(config.prices()["cold"], meant::Price { storage: 0.004, currency: "EUR".into() });
    assert_eq!(config.prices()["warm"], meant::Price { storage: 0.02, currency: "USD".into() });
    let reports = config.reports();
    let due: Vec<(&str, String)> = reports.due.iter().map(|(sort, schedule)| (sort.name(), schedule.text())).collect();
    assert_eq!(reports.channels, ["ops"]);
    assert_eq!((due.len(), due[0].clone(), due[1].0), (2, ("daily", "30 7 * * *".to_owned()), "monthly"));
    let outlook = config.outlook();
    assert_eq!((outlook.options.level, outlook.options.method.name(), outlook.days), (0.95, "ets", 365));
    assert_eq!((all.repository.limit_upload, all.repository.limit_download), (Some(500 << 10), Some(2 << 20)));
    assert_eq!((all.databases.len(), all.commands.len(), all.files.paths.len()), (2, 1, 1));
    assert!(
        all.databases[0].parts.schema_only && all.databases[1].parts.data_only && all.databases[1].parts.no_globals
    );
    assert_eq!(all.databases[0].lock_timeout.as_secs(), 300);
    assert_eq!((all.load.cpu, all.load.ionice), (Some(60.0), Some(super::meant::IoClass::Idle)));
    assert_eq!(all.verify.unwrap().part.unwrap().most_seconds, Some(1800));
    assert_eq!(all.retention.unwrap().keep_tags, [vec!["a".to_owned(), "b".to_owned()], vec!["c".to_owned()]]);
    assert_eq!((all.drills[0].servers.len(), all.hooks.after.len()), (2, 2));
}

#[test]
fn mistakes_are_named_with_their_lines_and_what_was_meant() {
    let text = r#"[repositories.main]
plaec = "/backup/vault"
[profiles.web]
inherit = "bsae"
repository = "mian"
schedule = "0 25 * * *"
[profiles.web.sources]
path = "/etc"
exclude_caches = "yes"
[profiles.web.limits]
attempts = 0
[profiles.web.backup]
compression = "maximal"
"#;
    let wrong = wrong(text);
    let lines: Vec<usize> = wrong.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [2, 6, 8, 9, 11, 13], "{wrong:?}");
    assert!(wrong[0].1.contains("did you mean `place`?") && wrong[2].1.contains("did you mean `paths`?"), "{wrong:?}");
    assert!(wrong[3].1.contains("write true or false") && wrong[4].1.contains("from 1 to"), "{wrong:?}");
}

#[test]
fn a_key_that_is_called_as_its_option_is_told_its_name() {
    let wrong =
        wrong(&GOOD.replace(
            "[profiles.web.retention]",
            "[profiles.web.retention]\nkeep_daily = 3\nkeep-within-daily = \"7d\"",
        ));
    let messages: Vec<&str> = wrong.iter().map(|(_, message)| message.as_str()).collect();
    assert!(messages[0].ends_with("did you mean `daily`?"), "{messages:?}");
    assert!(messages[1].ends_with("did you mean `within_daily`?"), "{messages:?}");
}

#[test]
fn names_that_mean_nothing_are_found_when_all_else_is_right() {
    let text = GOOD.replace("inherit = \"base\"", "inherit = [\"bsae\"]\nrepository = \"mian\"");
    let text = text.replace("place = ", "# place = ");
    let messages: Vec<String> = wrong(&text).into_iter().map(|(_, message)| message).collect();
    for part in
        ["`place` is missing", "no profile `bsae`: did you mean `base`?", "no repository `mian`: did you mean `main`?"]
    {
        assert!(messages.iter().any(|message| message.contains(part)), "{part}: {messages:?}");
    }
}

#[test]
fn what_would_do_nothing_or_contradicts_itself_is_refused() {
    let with = |more: &str| {
        wrong(&format!("{GOOD}{more}")).into_iter().map(|(_, message)| message).collect::<Vec<_>>().join("\n")
    };
    assert!(with("[profiles.web.verify]\n").contains("reads nothing back"));
    assert!(with("[profiles.other]\nrepository = \"main\"\n").contains("nothing to back up"));
    assert!(with("[profiles.other]\nsources.paths = \"/etc\"\n").contains("`repository` is missing"));
    assert!(
        with("[profiles.other]\ninherit = \"base\"\nsources.paths = \"/x\"\nretention = { daily = 0 }\n")
            .contains("keeps nothing")
    );
    assert!(with("[profiles.a]\ninherit = \"b\"\n[profiles.b]\ninherit = \"a\"\n").contains("a circle"));
    assert!(with("[profiles.web.drill]\n").contains("drill.postgres"));
    let both = GOOD.replace("password_file", "key_file = \"/k\"\npassword_file");
    assert!(wrong(&both)[0].1.contains("exclude each other"));
}

#[test]
fn secrets_do_not_stand_in_the_config() {
    let text = GOOD.replace("password_file = \"/etc/keepstone/password\"", "password = \"hunter2\"");
    let text = text.replace("backup@db1", "backup:hunter2@db1");
    let error = load(&[&text]).err().unwrap().to_string();
    assert!(!error.contains("hunter2"), "{error}");
    assert_eq!(error.matches("only its owner can read").count(), 2, "{error}");
}

#[test]
fn each_value_says_where_it_comes_from() {
    let config = load(&[GOOD, "[repositories.main]\nkey_command = \"echo hunter2\"\n"]);
    let Err(error) = config else { panic!("two ways to open it") };
    assert!(error.to_string().contains("exclude each other") && !error.to_string().contains("hunter2"), "{error}");
    let config =
        load(&[&GOOD.replace("password_file = \"/etc/keepstone/password\"", "key_command = 'echo hunter2'")]).unwrap();
    let shown = config.shown("web").unwrap();
    let one = |table: &str, key: &str| shown.iter().find(|one| one.table == table && one.key == key).unwrap();
    let at =
        |line, profile: Option<&str>| From::File { file: "0.toml".into(), line, profile: profile.map(str::to_owned) };
    assert_eq!(one("profiles.web", "schedule").from, at(8, Some("base")));
    assert_eq!(one("profiles.web", "tags").value.as_deref(), Some(r#"["web", "production"]"#));
    assert_eq!(one("profiles.web", "tags").from, at(17, None));
    assert_eq!(one("profiles.web.retention", "daily").from, at(13, Some("base")));
    assert_eq!(
        (one("profiles.web.limits", "parallel").value.as_deref(), &one("profiles.web.limits", "parallel").from),
        (Some("3"), &From::Default)
    );
    assert_eq!(one("repositories.main", "key_command").value.as_deref(), Some("\"…\""));
    assert_eq!(one("profiles.web.sources.postgres.shop", "url").from, at(23, None));
    assert!(shown.iter().all(|one| one.table != "profiles.web.drill"), "what is not there is not shown");
}

#[test]
fn the_first_config_can_be_used() {
    let answers = init::Answers {
        profile: "nightly".to_owned(),
        place: "/backup/vault".to_owned(),
        opened_by: ("key_file", "/etc/keepstone/a \"key\"".to_owned()),
        paths: vec!["/etc".into(), "/srv/a b".into()],
        postgres: vec![("shop".to_owned(), "postgres://backup@db1/shop".to_owned())],
        mysql: Vec::new(),
        commands: vec![("crontab".to_owned(), "crontab -l".to_owned())],
        min_free: "10G".to_owned(),
        critical: false,
    };
    let nightly = load(&[&init::file(&answers)]).unwrap().profile("nightly").unwrap();
    assert_eq!(nightly.files.paths, answers.paths);
    assert_eq!(nightly.repository.origin, Some(meant::Origin::KeyFile("/etc/keepstone/a \"key\"".into())));
    let retention = nightly.retention.unwrap();
    assert_eq!((retention.keep_daily, retention.keep_weekly, retention.keep_monthly), (7, 4, 6));
    assert_eq!(nightly.min_free_bytes, 10 << 30);
    assert_eq!(nightly.repository.keys.unwrap().rotate.unwrap().text(), "0 3 1 * *");
    assert!(nightly.drills.is_empty(), "a drill of databases needs a server");
    let files_only = init::Answers { postgres: Vec::new(), ..answers };
    assert!(load(&[&init::file(&files_only)]).unwrap().profile("nightly").unwrap().drills.len() == 1);
}
