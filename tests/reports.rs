//! Reports of nights that were, in every form.

use crate::nights;
use crate::program::Place;
use crate::servers::receiver::Receiver;
use crate::servers::smtp::Smtp;
use keepstone::base::{Machine, RunId, SessionId, Timestamp, random};
use keepstone::history::{By, Entry, History, Outcome, Phase, TableCount, figure};
use serde_json::{Value, json};
use std::fs;

/// A run that began so many hours ago and took a minute for each of them.
fn past_run(place: &Place, hours: i64, outcome: Outcome, rows: u64) {
    let now_ns = i64::try_from(Timestamp::now().as_nanosecond()).unwrap();
    let begun_ns = now_ns - hours * 3600 * 1_000_000_000;
    let id = RunId(random::bytes());
    let mut entry = Entry::begun(id, "web", "main", "alpha", By::Schedule, begun_ns);
    (entry.ended_ns, entry.outcome) = (Some(begun_ns + 60_000_000_000), outcome);
    let is_good = outcome == Outcome::Done;
    let (word, kind) = if is_good { ("done", None) } else { ("failed", Some("full".to_owned())) };
    entry.snapshot = is_good.then_some(SessionId(id.0));
    entry.phases = vec![Phase { name: "backup".to_owned(), outcome: word.to_owned(), kind, ..Phase::default() }];
    if is_good {
        for phase in ["verify", "drill"] {
            let done = Phase { name: phase.to_owned(), outcome: "done".to_owned(), ..Phase::default() };
            entry.phases.push(done);
        }
        for (name, value) in [
            (figure::CONTENT_BYTES, 1 << 30),
            (figure::NEW_BYTES, 1 << 24),
            (figure::STORED_BYTES, 1 << 22),
            (figure::ADDED_BYTES, 1 << 22),
            (figure::REPOSITORY_BYTES, 1 << 29),
            (figure::FREED_BYTES, 1 << 20),
            (figure::RESTORE_MS, 5000),
        ] {
            entry.figures.set(name, value);
        }
        let table = TableCount { source: "@postgres/shop".to_owned(), name: "orders".to_owned(), rows, bytes: 10 };
        entry.tables = vec![table];
    }
    let (mut history, _) = History::open(&place.path("state"), now_ns).unwrap();
    history.begin(&entry, &Machine::this()).unwrap();
    history.end(&entry).unwrap();
}

fn week() -> Place {
    let place = nights::place("verify.newer_than = \"7d\"\n");
    past_run(&place, 9 * 24 + 1, Outcome::Done, 900);
    for day in (1..7).rev() {
        past_run(&place, day * 24 + 1, if day == 3 { Outcome::Failed } else { Outcome::Done }, 1000 + day as u64);
    }
    place
}

fn report(place: &Place, arguments: &[&str]) -> String {
    nights::run(place, &[&["report"], arguments].concat()).expect(0).text()
}

#[test]
fn a_week_is_summed_up_against_the_one_before_and_what_is_wrong_stands_first() {
    let place = week();
    let text = report(&place, &["weekly"]);
    for part in [
        "Look at this first",
        "web: up to 3 days 0 h would have been lost, more than 24 h 0 min",
        "1 of 6 runs were not good, most often `full` (1)",
        "6: 5 good, 0 partial, 1 failed, 0 missed",
        "83.3 %",
        "1 min 0 s (+0.0 % against the time before)",
        "compression   4.0 to 1",
        "dedup         64.0 to 1",
        "5 of 5 found nothing wrong, 100.0 %",
        "duration      1 min 0 s (+0.0 % against the time before)",
        "Repository main",
        "6 of the 7 days that a forecast needs were measured: 1 more",
        "RTO           5.0 s, target 30 min 0 s: met",
        "RPO           3 days 0 h, target 24 h 0 min: NOT met",
        "freed         5.0 MiB on this machine",
        "@postgres/shop orders: 900 -> 1001 rows (+101)",
        "failures      full 1",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let json: Value = serde_json::from_str(&report(&place, &["weekly", "--json"])).unwrap();
    assert_eq!((&json["message_type"], &json["all"]["runs"]), (&"report".into(), &6.into()));
    let profile = &json["profiles"][0];
    assert_eq!((&profile["coverage_percent"], &profile["rpo"]["met"]), (&100.0.into(), &false.into()));
    // Five days of the seven had a snapshot younger than a day: not the first one before anything ran, and not that of
    // the failure.
    let available = profile["availability_percent"].as_f64().unwrap();
    assert!((70.0..73.0).contains(&available), "{available}");
}

#[test]
fn every_form_holds_every_run_and_nothing_breaks_out_of_it() {
    let place = week();
    let csv = report(&place, &["weekly", "--format", "csv"]);
    assert_eq!(csv.lines().count(), 7);
    assert!(csv.starts_with("profile,begun,outcome,duration_ms,content_bytes,added_bytes,repository_bytes"));
    assert!(csv.lines().any(|line| line.starts_with("web,") && line.contains(",failed,60000,,,")), "{csv}");
    let markdown = report(&place, &["weekly", "--format", "markdown"]);
    assert!(markdown.contains("## Look at this first") && markdown.contains("| @postgres/shop orders | 900 | 1001 |"));
    let page = report(&place, &["weekly", "--format", "html"]);
    assert_eq!((page.matches("<svg").count(), page.matches("</svg>").count()), (3, 3));
    assert_eq!(page.matches("fill=\"#c62828\"").count(), 2, "the run that failed has another colour: {page}");
    assert!(!page.contains("<script") && !page.contains("src="), "a mail shows nothing from elsewhere");
    let daily: Value = serde_json::from_str(&report(&place, &["daily", "--json"])).unwrap();
    assert_eq!(daily["all"]["runs"], 0, "the last run ended a day ago");
    let none = report(&place, &["--from", "2020-01-01", "--to", "2020-01-31"]);
    assert!(none.contains("0: 0 good") && none.contains("there is no snapshot that is known to come back"), "{none}");
}

#[test]
fn a_snapshot_that_is_older_than_the_time_of_a_report_is_known_to_come_back_all_the_same() {
    let place = nights::place("");
    past_run(&place, 24 * 20, Outcome::Done, 100);
    let text = report(&place, &["daily"]);
    assert!(
        !text.contains("there is no snapshot that is known to come back") && text.contains("would have been lost"),
        "{text}"
    );
}

#[test]
fn a_time_that_is_none_is_refused() {
    let place = nights::place("");
    for (arguments, why) in [
        (&["report", "--from", "yesterday"][..], "is not a day"),
        (&["report", "--from", "2026-02-30"][..], "is not a day"),
        (&["report", "--from", "2026-03-02", "--to", "2026-03-01"][..], "after the last one"),
        (&["report"][..], "required"),
    ] {
        let error = nights::run(&place, arguments).expect(2).err;
        assert!(error.contains(why), "{arguments:?}: {error}");
    }
}

#[test]
fn a_report_is_mailed_as_text_and_as_a_page_and_a_chat_gets_a_few_lines() {
    let place = week();
    let Some(server) = Smtp::start(&place.path("")) else { return };
    let receiver = Receiver::start("");
    fs::write(place.path("hook"), receiver.url("/hook")).unwrap();
    let config = place.path("keepstone.toml");
    let told = format!(
        "[reports]\nchannels = [\"mail\", \"chat\", \"hook\"]\n[notify.mail.mail]\nserver = \"localhost:{}\"\nca = \"{}\"\n\
         from = \"a@example.org\"\nto = \"b@example.org\"\n[notify.slack.chat]\nurl_file = \"{hook}\"\n[notify.webhook.hook]\nurl_file = \"{hook}\"\n",
        server.port,
        server.authority.display(),
        hook = place.path("hook").display()
    );
    fs::write(&config, fs::read_to_string(&config).unwrap() + &told).unwrap();
    let sent = report(&place, &["weekly", "--send"]);
    assert_eq!(sent.matches("the report was sent").count(), 3, "{sent}");
    let mail = server.mails().remove(0);
    let data = mail.data.replace("=\r\n", "").replace("=\n", "").replace("=3D", "=");
    let (text, page) = data.split_once("text/html").unwrap();
    let subject = text.split("Subject: ").nth(1).unwrap().split("\r\n").take(3).collect::<String>();
    assert!(subject.contains("weekly report, ") && text.contains("5 of 6 runs good"), "{subject}");
    assert!(text.contains("Look at this first") && text.contains("RPO "), "{text}");
    assert_eq!(
        (page.matches("<svg").count(), page.matches("Begun (UTC)").count()),
        (3, 1),
        "charts, and a table beside them"
    );
    let bodies: Vec<Value> = receiver.requests().iter().map(|one| serde_json::from_slice(&one.body).unwrap()).collect();
    let chat = &bodies[0]["attachments"][0]["blocks"][1]["text"]["text"];
    let chat = chat.as_str().unwrap();
    assert!(
        chat.contains("web: 5 of 6 runs good") && !chat.contains("availability") && chat.lines().count() < 12,
        "{chat}"
    );
    assert!(bodies[1]["body"].as_str().unwrap().contains("availability"), "a program gets all of it");
    assert_eq!(bodies[1]["state"], "warning", "something needs attention");
    let one = report(&place, &["weekly", "--send", "--channel", "hook", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&one).unwrap()["sent"], true);
    for (arguments, why) in [
        (&["report", "weekly", "--send", "--channel", "hok"][..], "did you mean `hook`?"),
        (&["report", "weekly", "--channel", "hook"][..], "--send"),
        (&["report", "weekly", "--send", "--format", "html"][..], "cannot be used with"),
        (&["report", "due", "--send"][..], "leave out"),
    ] {
        let error = nights::run(&place, arguments).expect(2).err;
        assert!(error.contains(why), "{arguments:?}: {error}");
    }
}

/// Notes up to when the daily report was made: so many days ago.
fn reported(place: &Place, days: i64) {
    let since = Timestamp::now().as_second() - days * 86_400;
    fs::write(place.path("state/reports.json"), format!("{{\"daily\": {since}}}")).unwrap();
}

#[test]
fn what_is_due_is_sent_once_made_up_for_and_tried_again_when_nobody_takes_it() {
    let place = week();
    let receiver = Receiver::start("");
    receiver.answer(500);
    fs::write(place.path("hook"), receiver.url("/hook")).unwrap();
    let config = place.path("keepstone.toml");
    let text = fs::read_to_string(&config).unwrap();
    let due = |code| nights::run(&place, &["report", "due"]).expect(code).text();
    assert!(due(0).contains("nobody gets reports"), "the config names no channel");
    // At a time that is not the one at which this test runs, unless it runs over the end of a year.
    let told = format!(
        "[reports]\nchannels = \"hook\"\ndaily = \"0 0 1 1 *\"\nweekly = \"off\"\nmonthly = \"off\"\n\
         [notify.webhook.hook]\nurl_file = \"{}\"\n",
        place.path("hook").display()
    );
    fs::write(&config, text + &told).unwrap();
    assert!(due(0).contains("no report is due"), "its time was before we came");
    reported(&place, 800);
    let failed = due(1);
    assert!(failed.contains("daily report, ") && failed.contains("hook: NOT SENT"), "{failed}");
    let log = fs::read_to_string(place.path("state/operations.jsonl")).unwrap();
    assert!(log.contains("\"operation\":\"report\",\"status\":\"failed\""), "{log}");
    // How soon it is tried again is not looked at here.
    let again = nights::run(&place, &["report", "due"]).text();
    assert!(again.contains("no report is due"), "it waits and is not made again: {again}");
    receiver.answer(200);
    nights::run(&place, &["notify", "flush"]).expect(0);
    let bodies: Vec<Value> = receiver.requests().iter().map(|one| serde_json::from_slice(&one.body).unwrap()).collect();
    assert!(bodies.len() >= 2 && bodies.iter().all(|one| one["id"] == bodies[0]["id"]), "{bodies:?}");
    // Ended between laying it down and noting it: the same message again, and one that waits is not laid down twice.
    receiver.answer(500);
    for _ in 0..2 {
        reported(&place, 800);
        let made = nights::run(&place, &["report", "due"]).text();
        assert!(made.contains("daily report, "), "{made}");
    }
    let waiting = nights::run(&place, &["notify", "list", "--json"]).expect(0).json();
    assert_eq!(waiting.iter().filter(|one| one["message_type"] == "waiting").count(), 1);
    let last: Value = serde_json::from_slice(&receiver.requests().last().unwrap().body).unwrap();
    assert_eq!(last["id"], bodies[0]["id"]);
}

#[test]
fn a_report_is_sent_to_nobody_who_cannot_carry_it_and_at_no_time_that_is_none() {
    let place = nights::place("");
    let config = place.path("keepstone.toml");
    let text = fs::read_to_string(&config).unwrap()
        + "[reports]\nchannels = [\"bell\", \"mial\"]\ndaily = \"at eight\"\n[notify.ping.bell]\nurl_env = \"BELL\"\n\
           [notify.command.mail]\nrun = \"true\"\n";
    let wrong = |text: &str| {
        fs::write(&config, text).unwrap();
        nights::run(&place, &["config", "check"]).expect(2).err
    };
    let said = wrong(&text);
    assert!(said.contains("`at eight` is not a schedule") && said.contains("or `off`"), "{said}");
    let said = wrong(&text.replace("at eight", "@daily"));
    assert!(said.contains("did you mean `mail`?") && said.contains("`bell` (ping) cannot carry a report"), "{said}");
}

#[test]
fn a_forecast_stands_in_every_form_of_a_report() {
    let place = nights::place("");
    let (mut history, _) = History::open(&place.path("state"), 0).unwrap();
    let now_ns = i64::try_from(Timestamp::now().as_nanosecond()).unwrap();
    for day in 0..20 {
        let begun_ns = now_ns - (20 - day) * 24 * 3600 * 1_000_000_000;
        let mut entry = Entry::begun(RunId(random::bytes()), "web", "main", "alpha", By::Schedule, begun_ns);
        (entry.ended_ns, entry.outcome) = (Some(begun_ns + 1), Outcome::Done);
        entry.figures.set(figure::REPOSITORY_BYTES, (100 + day as u64) << 30);
        entry.figures.set(figure::REPOSITORY_FREE_AFTER_BYTES, (50 - day as u64) << 30);
        history.begin(&entry, &Machine::this()).unwrap();
        history.end(&entry).unwrap();
    }
    let json: Value = serde_json::from_str(&report(&place, &["weekly", "--json"])).unwrap();
    let forecast = &json["repositories"][0]["forecast"];
    assert_eq!((&json["repositories"][0]["name"], &forecast["bytes"]), (&json!("main"), &json!(119_u64 << 30)));
    let full = forecast["disk"]["full_likely"].as_str().unwrap();
    for format in ["text", "markdown", "html", "csv"] {
        let said = report(&place, &["weekly", "--format", format]);
        assert!(said.contains(full), "{format}: {said}");
    }
    let earlier: Value =
        serde_json::from_str(&report(&place, &["--from", "2020-01-01", "--to", "2020-01-31", "--json"])).unwrap();
    assert_eq!(earlier["repositories"][0]["missing_days"], 7, "of what came later nothing is known then");
}
