//! People are told what happened in a night, by real receivers of HTTP and mail.

use crate::nights;
use crate::program::Place;
use crate::servers::proxy::Request;
use crate::servers::receiver::Receiver;
use crate::servers::smtp::Smtp;
use crate::servers::tunnel::Tunnel;
use keepstone::base::{Machine, RunId, SessionId, Timestamp};
use keepstone::history::{By, Entry, History, Outcome, Phase, figure};
use serde_json::{Value, json};
use std::fs;
use std::net::TcpListener;
use std::path::Path;

/// A part of every secret here: it must never be seen anywhere but in a request.
const SECRET: &str = "s3cr3t";

fn night(place: &Place, code: i32) -> (Value, String) {
    let run = nights::run(place, &["run", "web", "--by", "schedule", "--json"]).expect(code);
    let shown = format!("{}{}", run.text(), run.err);
    (run.json().remove(0), shown)
}

fn phase<'n>(night: &'n Value, name: &str) -> &'n Value {
    night["phases"].as_array().unwrap().iter().find(|phase| phase["name"] == name).unwrap_or(&Value::Null)
}

/// A command whose failure makes a night partial while the file `HERE/bad` is there.
const SOMETIMES_BAD: &str = "sources.command.list.run = \"echo half; ! test -e HERE/bad\"\n";

fn body(request: &Request) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

/// All files below a folder, as text.
fn everything_in(folder: &Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => all.push_str(&everything_in(&entry.path())),
            false => all.push_str(&String::from_utf8_lossy(&fs::read(entry.path()).unwrap())),
        }
    }
    all
}

/// The file of an address or a token.
fn secret(place: &Place, name: &str, text: &str) {
    fs::write(place.path(name), format!("{text}\n")).unwrap();
}

#[test]
fn every_channel_hears_of_a_bad_night_in_its_own_shape_and_no_secret_is_shown() {
    let receiver = Receiver::start("");
    let place = nights::place(&format!(
        "{SOMETIMES_BAD}notify.critical = [\"slack\", \"teams\", \"discord\", \"telegram\", \"ntfy\", \"duty\", \"hook\", \"own\"]\n\
         notify.night = \"ping\"\nalerts.critical.rpo = \"off\"\n\
         [notify.slack.slack]\nurl_file = \"HERE/slack\"\n[notify.teams.teams]\nurl_command = \"cat HERE/teams\"\n\
         [notify.discord.discord]\nurl_file = \"HERE/discord\"\n\
         [notify.telegram.telegram]\nserver = \"{server}\"\nchat = \"@ops\"\ntoken_file = \"HERE/token\"\n\
         [notify.ntfy.ntfy]\nurl_file = \"HERE/ntfy\"\ntoken_file = \"HERE/token\"\n\
         [notify.pagerduty.duty]\nserver = \"{server}\"\ntoken_file = \"HERE/token\"\n\
         [notify.webhook.hook]\nurl_file = \"HERE/hook\"\ntoken_file = \"HERE/token\"\nmethod = \"PUT\"\nheaders = \"X-Team: a\"\n\
         template = '{{\"what\": \"{{title}}\", \"added\": \"{{added_bytes}}\"}}'\n\
         [notify.ping.ping]\nurl_file = \"HERE/ping\"\n\
         [notify.command.own]\nrun = \"cat > HERE/told; echo $KEEPSTONE_STATE $KEEPSTONE_PROFILE >> HERE/told\"\n",
        server = receiver.url("")
    ));
    for name in ["slack", "teams", "discord", "ntfy", "hook", "ping"] {
        secret(&place, name, &receiver.url(&format!("/{name}/{SECRET}")));
    }
    secret(&place, "token", &format!("token-{SECRET}"));
    fs::write(place.path("bad"), "").unwrap();
    let (night, shown) = night(&place, 3);
    let announce = phase(&night, "announce");
    assert_eq!(announce["outcome"], "done", "{announce}");
    assert!(!shown.contains(SECRET) && !everything_in(&place.path("state")).contains(SECRET), "{shown}");
    let requests = receiver.requests();
    let find = |path: &str| {
        let found: Vec<&Request> = requests.iter().filter(|request| request.path == path).collect();
        assert_eq!(found.len(), 1, "{path}: {:?}", requests.iter().map(|one| &one.path).collect::<Vec<_>>());
        found[0]
    };
    let of = |name: &str| find(&format!("/{name}/{SECRET}"));
    assert!(body(of("slack"))["text"].as_str().unwrap().starts_with("CRITICAL: web on "));
    assert_eq!(body(of("teams"))["attachments"][0]["content"]["type"], "AdaptiveCard");
    assert!(body(of("discord"))["embeds"][0]["description"].as_str().unwrap().contains("command"));
    let telegram = find(&format!("/bottoken-{SECRET}/sendMessage"));
    assert_eq!(body(telegram)["chat_id"], "@ops");
    let ntfy = find("/ntfy/");
    assert_eq!((body(ntfy)["topic"].as_str(), body(ntfy)["priority"].as_u64()), (Some(SECRET), Some(5)));
    let bearer = format!("Bearer token-{SECRET}");
    assert_eq!(ntfy.header("authorization"), Some(bearer.as_str()));
    let event = body(find("/v2/enqueue"));
    assert_eq!((&event["event_action"], &event["payload"]["class"]), (&json!("trigger"), &json!("error")));
    let hook = of("hook");
    assert_eq!((hook.method.as_str(), hook.header("x-team")), ("PUT", Some("a")));
    assert_eq!(hook.header("authorization"), Some(bearer.as_str()));
    assert_eq!(body(hook)["added"], phase(&night, "backup")["figures"]["added_bytes"]);
    find(&format!("/ping/{SECRET}/start"));
    let end = find(&format!("/ping/{SECRET}/fail"));
    assert!(String::from_utf8_lossy(&end.body).contains("outcome    partial, started by schedule"));
    let told = fs::read_to_string(place.path("told")).unwrap();
    let (message, words) = told.split_once('\n').unwrap();
    let message: Value = serde_json::from_str(message).unwrap();
    assert_eq!(words, "critical web\n");
    for name in ["duration_ms", "content_bytes", "ratio", "free_before_bytes", "free_after_bytes"] {
        assert!(message[name].is_number(), "{name}: {message}");
    }
    assert_eq!(message["snapshot"], night["snapshot"]["short_id"]);
}

#[test]
fn a_mail_comes_encrypted_with_a_password_as_text_and_as_a_page_and_only_to_a_server_that_is_trusted() {
    let place = nights::place(
        "notify.night = \"mail\"\nalerts.warning.savings = \"off\"\n[notify.mail.mail]\nserver = \"localhost:1\"\nuser = \"backup\"\npassword_file = \"HERE/mail-password\"\n\
         from = \"Keepstone <backup@example.org>\"\nto = [\"ann@example.org\", \"Bob <bob@example.org>\"]\n",
    );
    let Some(server) = Smtp::start(&place.path("")) else { return };
    secret(&place, "mail-password", "hunter2");
    let config = place.path("keepstone.toml");
    let text = fs::read_to_string(&config).unwrap().replace("localhost:1", &format!("localhost:{}", server.port));
    fs::write(&config, &text).unwrap();
    let (first, _) = night(&place, 1);
    assert_eq!(
        (&phase(&first, "backup")["outcome"], &phase(&first, "announce")["outcome"]),
        (&json!("done"), &json!("failed"))
    );
    assert!(server.mails().is_empty(), "nobody vouches for the server");
    fs::write(&config, format!("{text}ca = \"{}\"\n", server.authority.display())).unwrap();
    nights::run(&place, &["notify", "flush"]).expect(0);
    let mails = server.mails();
    assert_eq!(mails.len(), 1);
    let mail = &mails[0];
    assert!(mail.encrypted && mail.from.contains("<backup@example.org>"), "{mail:?}");
    assert_eq!(mail.login.as_deref(), Some("PLAIN AGJhY2t1cABodW50ZXIy"));
    assert_eq!(mail.to.len(), 2);
    let data = mail.data.replace("=\n", "");
    let (text, page) = data.split_once("text/html").unwrap();
    assert!(text.contains("Subject: OK: web on ") && text.contains("Auto-Submitted: auto-generated"), "{text}");
    assert!(text.contains("started by schedule") && page.contains("<table"), "{}", mail.data);
    let told = nights::run(&place, &["notify", "test", "mail"]).expect(0);
    assert!(told.text().contains("mail: a test message was sent") && server.mails().len() == 2, "{}", told.text());
}

#[test]
fn a_night_goes_on_when_nobody_listens_and_what_it_had_to_say_is_said_later() {
    let receiver = Receiver::start("");
    receiver.answer(500);
    // It takes a connection and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = nights::place(&format!(
        "notify.night = [\"hook\", \"hangs\", \"mail\"]\n[notify.webhook.hook]\nurl_file = \"HERE/hook\"\n\
         [notify.webhook.hangs]\nurl_file = \"HERE/hangs\"\ntimeout = 1\n\
         [notify.mail.mail]\nserver = \"127.0.0.1:{}\"\nencryption = \"none\"\ntimeout = 1\nfrom = \"a@example.org\"\nto = \"b@example.org\"\n",
        nobody.local_addr().unwrap().port()
    ));
    drop(nobody);
    secret(&place, "hook", &receiver.url(&format!("/{SECRET}")));
    secret(&place, "hangs", &format!("http://{}/{SECRET}", silent.local_addr().unwrap()));
    let (first, shown) = night(&place, 1);
    assert_eq!(phase(&first, "backup")["outcome"], "done");
    let announce = phase(&first, "announce");
    assert_eq!(
        (&announce["outcome"], announce["problems"].as_array().unwrap().len()),
        (&json!("failed"), 3),
        "{announce}"
    );
    assert!(announce["message"].as_str().unwrap().contains("3 of 3 messages not sent"), "{announce}");
    let problems = announce["problems"].to_string();
    assert!(problems.contains("did not answer in time") && problems.contains("answered with 500"), "{problems}");
    let listed = nights::run(&place, &["notify", "list", "--json"]).expect(0);
    assert_eq!(listed.json().iter().filter(|one| one["message_type"] == "waiting").count(), 3);
    let again = nights::run(&place, &["notify", "flush", "--due"]).expect(0);
    assert!(again.text().contains("3 messages wait on"), "they pause: {}", again.text());
    for shown in [shown, listed.text(), again.text(), everything_in(&place.path("state"))] {
        assert!(!shown.contains(SECRET), "{shown}");
    }
    receiver.answer(200);
    secret(&place, "hangs", &receiver.url("/second"));
    let flushed = nights::run(&place, &["notify", "flush", "--json"]).expect(1).json();
    let sent: Vec<(&Value, &Value)> = flushed.iter().map(|one| (&one["channel"], &one["sent"])).collect();
    assert!(
        sent.contains(&(&json!("hook"), &json!(true))) && sent.contains(&(&json!("mail"), &json!(false))),
        "{sent:?}"
    );
    let ids: Vec<Value> =
        receiver.requests().iter().filter(|one| one.path.contains(SECRET)).map(|one| body(one)["id"].clone()).collect();
    assert!(ids.len() == 2 && ids[0] == ids[1], "it is the same message: {ids:?}");
    let left = nights::run(&place, &["notify", "list"]).expect(0).text();
    assert!(left.contains("mail") && !left.contains("hook"), "{left}");
}

#[test]
fn an_alert_is_told_once_and_so_is_its_end() {
    let receiver = Receiver::start("");
    let place = nights::place(&format!(
        "{SOMETIMES_BAD}notify.channels = \"hook\"\nalerts.info.size_change = \"off\"\nalerts.warning.savings = \"off\"\n\
         [notify.webhook.hook]\nurl_env = \"HOOK\"\n"
    ));
    let told = |code| {
        let before = receiver.requests().len();
        let mut command = place.command(&["run", "web"]);
        for name in ["KEEPSTONE_REPOSITORY", "KEEPSTONE_PASSWORD", "KEEPSTONE_CACHE_DIR"] {
            command.env_remove(name);
        }
        command.env("KEEPSTONE_CONFIG", place.path("keepstone.toml")).env("HOOK", receiver.url("/"));
        let run = crate::program::Run::of(command.spawn().unwrap()).expect(code);
        let news: Vec<Value> = receiver.requests()[before..].iter().map(body).collect();
        (news, run.text())
    };
    assert_eq!(told(0).0, Vec::<Value>::new(), "a good night is no news");
    fs::write(place.path("bad"), "").unwrap();
    let (news, text) = told(3);
    assert_eq!((news.len(), &news[0]["state"]), (1, &json!("critical")), "{news:?}");
    assert!(text.contains("1 message sent through hook"), "{text}");
    let (news, text) = told(3);
    assert!(news.is_empty() && text.contains("there is nothing to tell"), "{news:?}\n{text}");
    fs::remove_file(place.path("bad")).unwrap();
    let (news, _) = told(0);
    assert_eq!((news.len(), &news[0]["state"]), (1, &json!("recovered")), "{news:?}");
    assert_eq!(news[0]["alerts"][0]["rule"], "error");
    assert_eq!(told(0).0, Vec::<Value>::new());
}

/// A run that was begun so many hours ago, as the history has it.
fn past_run(place: &Place, hours: i64, outcome: Outcome, content_bytes: u64) {
    past_run_with(place, hours, outcome, &[(figure::CONTENT_BYTES, content_bytes)]);
}

fn past_run_with(place: &Place, hours: i64, outcome: Outcome, figures: &[(&str, u64)]) {
    let now_ns = i64::try_from(Timestamp::now().as_nanosecond()).unwrap();
    let begun_ns = now_ns - hours * 3600 * 1_000_000_000;
    let id = RunId(keepstone::base::random::bytes());
    let mut entry = Entry::begun(id, "web", "main", "alpha", By::Schedule, begun_ns);
    (entry.ended_ns, entry.outcome, entry.snapshot) = (Some(begun_ns + 1), outcome, Some(SessionId(id.0)));
    let done = Phase { name: "backup".to_owned(), outcome: "done".to_owned(), ..Phase::default() };
    entry.phases.push(done);
    figures.iter().for_each(|(name, value)| entry.figures.set(name, *value));
    let (mut history, _) = History::open(&place.path("state"), now_ns).unwrap();
    history.begin(&entry, &Machine::this()).unwrap();
    history.end(&entry).unwrap();
}

#[test]
fn what_earlier_nights_say_counts_too_missed_runs_rates_and_changes() {
    let receiver = Receiver::start("");
    let place = nights::place(
        "schedule = \"0 * * * *\"\nnotify.channels = \"hook\"\nalerts.warning.savings = \"off\"\n\
         [notify.webhook.hook]\nurl_file = \"HERE/hook\"\n",
    );
    secret(&place, "hook", &receiver.url("/"));
    for hours in 20..32 {
        past_run(&place, hours, if hours < 23 { Outcome::Failed } else { Outcome::Done }, 1 << 30);
    }
    night(&place, 0);
    let told = receiver.requests().iter().map(body).next().unwrap();
    let rules: Vec<(&str, &str)> = told["alerts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|alert| (alert["rule"].as_str().unwrap(), alert["severity"].as_str().unwrap()))
        .collect();
    assert_eq!(rules, [("missed", "critical"), ("success_rate", "critical"), ("size_change", "info")], "{told}");
    assert!(told["alerts"][1]["text"].as_str().unwrap().contains("10 of the last 13 runs"), "{told}");
    night(&place, 0);
    let told = receiver.requests().iter().map(body).next_back().unwrap();
    assert_eq!(told["alerts"][0]["rule"], "missed", "{told}");
    assert_eq!((told["alerts"].as_array().unwrap().len(), &told["state"]), (1, &json!("recovered")), "{told}");
}

#[test]
fn a_message_goes_out_even_where_it_cannot_be_kept() {
    let receiver = Receiver::start("");
    let place = nights::place("notify.night = \"hook\"\n[notify.webhook.hook]\nurl_file = \"HERE/hook\"\n");
    secret(&place, "hook", &receiver.url("/"));
    // As a disk that is full: nothing can be made below it.
    fs::create_dir_all(place.path("state")).unwrap();
    fs::write(place.path("state/outbox"), "").unwrap();
    let (_, _) = night(&place, 1);
    assert_eq!(receiver.requests().len(), 1);
}

#[test]
fn an_answer_that_points_elsewhere_is_not_followed_and_plain_http_only_within_the_machine() {
    let other = Receiver::start("");
    let receiver = Receiver::start(&other.url("/elsewhere"));
    let place = nights::place("[notify.webhook.hook]\nurl_file = \"HERE/hook\"\n");
    secret(&place, "hook", &receiver.url(&format!("/{SECRET}")));
    for status in [302, 307, 308] {
        receiver.answer(status);
        let told = nights::run(&place, &["notify", "test"]).expect(1);
        assert!(
            told.text().contains(&format!("answered with {status}")) && !told.text().contains(SECRET),
            "{}",
            told.text()
        );
    }
    assert!(other.requests().is_empty());
    for (url, why) in [
        ("http://chat.example.org/x", "without encryption"),
        ("chat", "not the address"),
        ("ftp://127.0.0.1/x", "not the address"),
    ] {
        secret(&place, "hook", &format!("{url}{SECRET}"));
        let told = nights::run(&place, &["notify", "test", "hook"]).expect(1);
        assert!(told.text().contains(why) && !told.text().contains(SECRET), "{}", told.text());
    }
}

/// Runs with a proxy in its environment.
fn through(place: &Place, proxy: &str, more: &[(&str, &str)], arguments: &[&str]) -> crate::program::Run {
    let mut command = place.command(arguments);
    for name in ["KEEPSTONE_REPOSITORY", "KEEPSTONE_PASSWORD", "KEEPSTONE_CACHE_DIR"] {
        command.env_remove(name);
    }
    command.env("KEEPSTONE_CONFIG", place.path("keepstone.toml")).env("HTTPS_PROXY", proxy).envs(more.iter().copied());
    crate::program::Run::of(command.spawn().unwrap())
}

#[test]
fn a_proxy_of_the_environment_opens_the_way_and_what_stays_here_never_goes_through_it() {
    let receiver = Receiver::start("");
    let tunnel = Tunnel::to(receiver.port);
    let place = nights::place("[notify.webhook.hook]\nurl_file = \"HERE/hook\"\nallow_plain_http = true\n");
    let proxy = format!("http://ann:{SECRET}@127.0.0.1:{}", tunnel.port);
    secret(&place, "hook", &format!("http://hooks.example.org/{SECRET}"));
    through(&place, &proxy, &[], &["notify", "test"]).expect(0);
    assert_eq!(receiver.requests().iter().map(|one| one.path.as_str()).collect::<Vec<_>>(), [format!("/{SECRET}")]);
    assert_eq!(tunnel.asked(), ["CONNECT hooks.example.org:80 HTTP/1.1"], "the proxy learns the host and no more");
    // Its owner says who is asked without it: an address of this machine by which it is not known.
    secret(&place, "hook", &format!("http://0.0.0.0:{}/around", receiver.port));
    through(&place, &proxy, &[("NO_PROXY", "0.0.0.0")], &["notify", "test"]).expect(0);
    assert_eq!((receiver.requests().len(), tunnel.asked().len()), (2, 1));
    secret(&place, "hook", &receiver.url("/here"));
    through(&place, &proxy, &[], &["notify", "test"]).expect(0);
    assert_eq!((receiver.requests().len(), tunnel.asked().len()), (3, 1), "this machine is reached without it");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    secret(&place, "hook", &format!("https://hooks.example.org/{SECRET}"));
    let proxy = format!("http://ann:{SECRET}@127.0.0.1:{nobody}");
    let told = through(&place, &proxy, &[], &["notify", "test"]).expect(1);
    assert!(told.text().contains("NOT SENT") && !told.text().contains(SECRET), "{}", told.text());
}

#[test]
fn what_time_alone_brings_is_noticed_between_nights_told_once_and_so_is_its_end() {
    let receiver = Receiver::start("");
    let place = nights::place(
        "schedule = \"0 * * * *\"\nnotify.channels = \"hook\"\nalerts.warning.savings = \"off\"\nalerts.info.size_change = \"off\"\n\
         [notify.webhook.hook]\nurl_file = \"HERE/hook\"\n",
    );
    secret(&place, "hook", &receiver.url("/"));
    let check = |code| nights::run(&place, &["notify", "check"]).expect(code).text();
    // Its timer is off since then.
    past_run(&place, 30, Outcome::Done, 1 << 20);
    let said = check(0);
    assert!(
        said.contains("web: CRITICAL missed: there was no run at ") && said.contains("hook: a message was sent"),
        "{said}"
    );
    assert!(said.contains("web: CRITICAL rpo: the newest snapshot that is known to come back is "), "{said}");
    let told = receiver.requests().iter().map(body).next_back().unwrap();
    let rules: Vec<&str> = told["alerts"].as_array().unwrap().iter().map(|one| one["rule"].as_str().unwrap()).collect();
    assert_eq!((rules, &told["outcome"]), (vec!["missed", "rpo"], &json!(null)), "{told}");
    let again = check(0);
    assert!(again.contains("CRITICAL missed") && !again.contains("sent"), "it is told once: {again}");
    assert_eq!(receiver.requests().len(), 1);
    // The night that comes at last is news of what is over; a look between nights tells the rest.
    night(&place, 0);
    let after = check(0);
    assert!(after.contains("web: nothing is wrong"), "{after}");
    let over: Vec<Value> = receiver.requests()[1..].iter().map(body).collect();
    let over: Vec<(&str, &str)> = over
        .iter()
        .flat_map(|told| told["alerts"].as_array().unwrap())
        .map(|one| (one["rule"].as_str().unwrap(), one["change"].as_str().unwrap()))
        .collect();
    assert_eq!(over, [("rpo", "recovered"), ("missed", "recovered")]);
    let log = fs::read_to_string(place.path("state/operations.jsonl")).unwrap();
    assert_eq!(log.lines().filter(|line| line.contains("\"operation\":\"notify\"")).count(), 2, "{log}");
}

#[test]
fn a_history_that_cannot_be_read_is_told_as_that_and_brings_no_other_alert() {
    let place = nights::place("schedule = \"0 * * * *\"\nalerts.warning.free = \"off\"\n");
    past_run(&place, 30, Outcome::Done, 1 << 20);
    let check = || nights::run(&place, &["notify", "check"]).expect(0).text();
    let before = check();
    assert!(before.contains("CRITICAL missed") && before.contains("CRITICAL rpo"), "{before}");
    fs::write(place.path("state/history.sqlite"), "these are not the bytes of a database ".repeat(300)).unwrap();
    let said = check();
    assert!(said.contains("web: CRITICAL error: ") && said.contains("history rebuild"), "{said}");
    assert!(!said.contains("RECOVERED") && !said.contains("CRITICAL rpo"), "{said}");
}

#[test]
fn a_snapshot_whose_verification_is_to_come_at_its_own_time_is_no_alert_until_then() {
    let place =
        nights::place("verify.newer_than = \"7d\"\nverify.schedule = \"0 */4 * * *\"\nalerts.warning.free = \"off\"\n");
    // Whenever it is now: the next fourth hour after a run of an hour ago, and two hours of patience, are not over.
    past_run(&place, 1, Outcome::Done, 1 << 20);
    let check = || nights::run(&place, &["notify", "check"]).expect(0).text();
    assert!(check().contains("web: nothing is wrong"), "{}", check());
    // One of eleven hours ago should have been read back.
    fs::remove_dir_all(place.path("state")).unwrap();
    past_run(&place, 11, Outcome::Done, 1 << 20);
    assert!(check().contains("CRITICAL rpo: there is no snapshot that is known to come back"), "{}", check());
    // A schedule that reads back more seldom than snapshots have to be good excuses nothing.
    fs::remove_dir_all(place.path("state")).unwrap();
    past_run(&place, 1, Outcome::Done, 1 << 20);
    let config = place.path("keepstone.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("0 */4 * * *", "0 6 1 1 *")).unwrap();
    assert!(check().contains("CRITICAL rpo"), "{}", check());
}

#[test]
fn several_looks_and_reports_at_once_tell_it_once() {
    let receiver = Receiver::start("");
    let place = nights::place(
        "notify.critical = \"hook\"\n[reports]\nchannels = \"hook\"\ndaily = \"0 0 1 1 *\"\nweekly = \"off\"\nmonthly = \"off\"\n\
         [notify.webhook.hook]\nurl_file = \"HERE/hook\"\n",
    );
    secret(&place, "hook", &receiver.url("/"));
    fs::create_dir_all(place.path("state")).unwrap();
    // Reported long ago, and nothing was ever backed up.
    fs::write(place.path("state/reports.json"), "{\"daily\": 1700000000}").unwrap();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let arguments = if number % 2 == 0 { ["notify", "check"] } else { ["report", "due"] };
            let place = &place;
            scope.spawn(move || nights::run(place, &arguments).expect(0));
        }
    });
    let bodies: Vec<Value> = receiver.requests().iter().map(body).collect();
    let alerts = bodies.iter().filter(|told| told["alerts"][0]["rule"] == "rpo").count();
    let reports = bodies.iter().filter(|told| told["title"].as_str().unwrap().contains("daily report")).count();
    assert_eq!((bodies.len(), alerts, reports), (2, 1, 1), "{bodies:?}");
}

#[test]
fn a_disk_that_will_be_full_is_an_alert_before_the_next_night_and_what_is_not_taken_is_tried_again() {
    let receiver = Receiver::start("");
    receiver.answer(503);
    let place = nights::place(
        "notify.warning = \"hook\"\nalerts.critical.rpo = \"off\"\n[notify.webhook.hook]\nurl_file = \"HERE/hook\"\n",
    );
    secret(&place, "hook", &receiver.url("/"));
    for day in 1..15 {
        past_run_with(&place, day * 24, Outcome::Done, &[(figure::REPOSITORY_BYTES, (100 - day as u64) << 50)]);
    }
    // One that goes on is neither good nor bad.
    let now_ns = i64::try_from(Timestamp::now().as_nanosecond()).unwrap();
    let running = Entry::begun(RunId([99; 16]), "web", "main", "alpha", By::Schedule, now_ns);
    History::open(&place.path("state"), now_ns).unwrap().0.begin(&running, &Machine::this()).unwrap();
    let failed = nights::run(&place, &["notify", "check", "--json"]).expect(1).json();
    assert_eq!((&failed[0]["message_type"], &failed[0]["alerts"][0]["rule"]), (&json!("checked"), &json!("forecast")));
    assert_eq!((&failed[1]["channel"], &failed[1]["sent"]), (&json!("hook"), &json!(false)));
    let log = fs::read_to_string(place.path("state/operations.jsonl")).unwrap();
    assert!(log.contains("\"operation\":\"notify\",\"status\":\"failed\""), "{log}");
    receiver.answer(200);
    nights::run(&place, &["notify", "flush"]).expect(0);
    let told = receiver.requests().iter().map(body).next_back().unwrap();
    assert!(told["alerts"][0]["text"].as_str().unwrap().contains("will be needed, and"), "{told}");
    // A profile that nobody is told of is looked at all the same; metrics say what was found.
    let only = nights::run(&place, &["--profile", "web", "notify", "check"]).expect(0).text();
    assert!(only.contains("WARNING forecast"), "{only}");
}

#[test]
fn what_can_wait_waits_for_quiet_hours_to_end_and_a_ping_does_not() {
    let receiver = Receiver::start("");
    // From an hour ago to four hours from now, wherever in the day that is.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() / 60;
    let clock = |minute: u64| format!("{:02}:{:02}", minute / 60 % 24, minute % 60);
    let place = nights::place(&format!(
        "notify.night = [\"hook\", \"ping\"]\nnotify.quiet = \"{}-{}\"\n[notify.webhook.hook]\nurl_file = \"HERE/hook\"\n\
         [notify.ping.ping]\nurl_file = \"HERE/ping\"\n",
        clock(now - 60),
        clock(now + 240)
    ));
    secret(&place, "hook", &receiver.url("/hook"));
    secret(&place, "ping", &receiver.url("/ping"));
    let (_, said) = night(&place, 0);
    assert!(said.contains("1 message sent through ping; 1 message waiting for the end of quiet hours"), "{said}");
    nights::run(&place, &["notify", "flush"]).expect(0);
    nights::run(&place, &["notify", "test", "ping"]).expect(0);
    let paths: Vec<String> = receiver.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["/ping/start", "/ping", "/ping/log"], "a test says nothing of a night");
    let listed = nights::run(&place, &["notify", "list", "--json"]).expect(0).json();
    assert_eq!((&listed[0]["channel"], &listed[0]["quiet"]), (&json!("hook"), &json!(true)));
}

#[test]
fn channels_that_are_not_there_or_not_whole_are_named_with_their_lines() {
    let place = nights::place("");
    let mistakes = "notify.channels = [\"ops\", \"chatt\"]\nalerts.critical.duration = \"soon\"\nalerts.warning.sise = 1\n\
         [notify.slack.chat]\nurl_env = \"CHAT\"\n[notify.mail.ops]\nserver = \"smtp.example.org\"\nfrom = \"nobody\"\nto = []\n";
    let config = place.path("keepstone.toml");
    let text = fs::read_to_string(&config).unwrap() + mistakes;
    fs::write(&config, &text).unwrap();
    let wrong = nights::run(&place, &["config", "check"]).expect(2).err;
    for part in ["`soon` is not a span of time", "did you mean `size`?", "`nobody` is not an address"] {
        assert!(wrong.contains(part), "{part}: {wrong}");
    }
    let text =
        text.replace("\"soon\"", "\"off\"").replace("sise = 1", "size = \"5G\"").replace("nobody", "a@example.org");
    fs::write(&config, format!("{text}user = \"a\"\n[notify.webhook.ops]\n")).unwrap();
    let wrong = nights::run(&place, &["config", "check"]).expect(2).err;
    for part in [
        "no channel `chatt`: did you mean `chat`?",
        "another channel is called `ops`",
        "where is it? Say `url_file`",
        "belong together",
        "nobody gets it",
    ] {
        assert!(wrong.contains(part), "{part}: {wrong}");
    }
}
