//! Messages as people see them, rules at their thresholds, alerts over days, and an outbox that fills.

use super::alerts::Open;
use super::message::{About, Body, Change, Message, Night, Notice, Severity, State};
use super::outbox::{MOST_DAYS, MOST_MESSAGES, Outbox, Waiting, Which};
use super::route::{Quiet, Route};
use super::rules::{Facts, Judged, Missed, Ran, Rate, Rule, Rules, Safe, Table, Thresholds, judge};
use super::{Error, chats, html, text};
use crate::base::clock::{Timestamp, Zoned};
use std::time::Duration;

const ABOUT: About<'static> = About { profile: "web", host: "alpha", repository: "main" };
const NIGHT: i64 = 1_796_004_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn notice(rule: Rule, severity: Severity, change: Change, text: &str) -> Notice {
    let (rule, since) = (rule.name().to_owned(), NIGHT - 7200);
    Notice { rule, severity, change, since, text: text.to_owned(), next: format!("look at {text}") }
}

/// A night that went wrong, with two alerts and one that is over.
pub fn bad_night() -> Message {
    let notices = vec![
        notice(Rule::Free, Severity::Warning, Change::Recovered, "only 1.0 MiB are free"),
        notice(Rule::Duration, Severity::Warning, Change::Still, "the night took 20 min 0 s, more than 15 min 0 s"),
        notice(Rule::Error, Severity::Critical, Change::New, "verify damage: pack <3f> & \"co\" is damaged"),
    ];
    let night = Night {
        outcome: "damage".to_owned(),
        good: false,
        by: "schedule".to_owned(),
        run: Some("81b2c3d4".to_owned()),
        snapshot: Some("4f2a9c01".to_owned()),
        duration_ms: 1_200_000,
        content_bytes: Some(3 << 30),
        read_bytes: Some(120 << 20),
        added_bytes: Some(12 << 20),
        encryption_ms: Some(1200),
        upload_ms: None,
        free_before_bytes: Some(41 << 30),
        free_after_bytes: Some(40 << 30),
        problems: vec!["verify damage: a pack\nis damaged".to_owned()],
    };
    Message { id: "00ff".to_owned(), ..Message::new(ABOUT, at(NIGHT), notices, Some(night)) }
}

pub fn test_message() -> Message {
    Message::test("alpha", "ops", at(NIGHT))
}

#[test]
fn a_night_reads_like_this() {
    let expected = "\
CRITICAL: web on alpha: verify damage: pack <3f> & \"co\" is damaged (and 1 more)

Alerts
  CRITICAL error: verify damage: pack <3f> & \"co\" is damaged
           next: look at verify damage: pack <3f> & \"co\" is damaged
  WARNING  duration: the night took 20 min 0 s, more than 15 min 0 s (still for 2 h 0 min)
           next: look at the night took 20 min 0 s, more than 15 min 0 s
  RECOVERED free: only 1.0 MiB are free (it lasted 2 h 0 min)

The night
  outcome    damage, started by schedule
  run        81b2c3d4
  snapshot   4f2a9c01
  duration   20 min 0 s
  size       3.0 GiB, 120.0 MiB read
  added      12.0 MiB
  ratio      256.0 to 1, 99.6 % saved
  encryption 1.2 s
  upload     not measured
  disk       41.0 GiB -> 40.0 GiB free

Problems
  verify damage: a pack is damaged

Next       look at verify damage: pack <3f> & \"co\" is damaged
Message    00ff of 2026-11-30T02:00:00Z
";
    assert_eq!(text::text(&bad_night()), expected.replace("2026-11-30T02:00:00Z", &bad_night().moment()));
}

#[test]
fn a_page_holds_all_of_it_and_nothing_in_it_is_taken_for_a_tag() {
    let page = html::html(&bad_night());
    for part in [
        "pack &lt;3f&gt; &amp; &quot;co&quot; is damaged",
        "256.0 to 1",
        "41.0 GiB -&gt; 40.0 GiB",
        "#c62828",
        "4f2a9c01",
    ] {
        assert!(page.contains(part), "{part}\n{page}");
    }
    assert!(!page.contains("<3f>") && page.matches("<table").count() == page.matches("</table>").count());
}

#[test]
fn what_becomes_of_a_message_depends_on_what_it_holds() {
    let good = Night { good: true, duration_ms: 1500, added_bytes: Some(1024), ..Night::default() };
    let message = Message::new(ABOUT, at(NIGHT), Vec::new(), Some(good.clone()));
    assert_eq!(
        (message.state, message.title.as_str()),
        (State::Ok, "OK: web on alpha: a good night in 1.5 s, 1.0 KiB added")
    );
    let over = vec![notice(Rule::Free, Severity::Warning, Change::Recovered, "little is free")];
    let message = Message::new(ABOUT, at(NIGHT), over.clone(), Some(good));
    assert_eq!((message.state, message.severity()), (State::Recovered, None));
    let bad =
        Night { outcome: "failed".to_owned(), problems: vec!["backup failed: full".to_owned()], ..Night::default() };
    let message = Message::new(ABOUT, at(NIGHT), over, Some(bad));
    assert_eq!(message.state, State::Warning, "a bad night is no recovery, even when all alerts are switched off");
    assert!(message.title.ends_with("the night ended as failed: backup failed: full"), "{}", message.title);
}

#[test]
fn each_chat_gets_its_shape_and_no_more_than_it_takes() {
    let mut long = bad_night();
    long.night.as_mut().unwrap().problems = vec!["<&> ``` é ".repeat(60); 20];
    let slack = chats::slack(&long);
    let section = slack["attachments"][0]["blocks"][1]["text"]["text"].as_str().unwrap();
    assert!(section.chars().count() <= 3000 && section.matches("```").count() == 2, "{section}");
    assert!(slack["text"].as_str().unwrap().contains("pack &lt;3f&gt; &amp;"));
    let discord = chats::discord(&long);
    let embed = discord["embeds"][0]["description"].as_str().unwrap();
    assert!(embed.chars().count() <= 4096 && embed.matches("```").count() == 2);
    assert_eq!(discord["allowed_mentions"]["parse"].as_array().unwrap().len(), 0);
    let telegram = chats::telegram(&long, "@ops");
    assert!(telegram["text"].as_str().unwrap().chars().count() <= 4096 && telegram["chat_id"] == "@ops");
    let ntfy = chats::ntfy(&long, "backups");
    assert!(ntfy["message"].as_str().unwrap().len() <= 4096);
    assert_eq!((&ntfy["topic"], &ntfy["priority"]), (&"backups".into(), &5.into()));
    let card = &chats::teams(&long)["attachments"][0];
    assert_eq!(card["contentType"], "application/vnd.microsoft.card.adaptive");
    assert_eq!(card["content"]["body"][0]["color"], "Attention");
    assert!(card["content"]["body"].as_array().unwrap().iter().any(|part| part["type"] == "FactSet"));
}

#[test]
fn a_chat_gets_a_few_lines_of_what_was_made_elsewhere_and_everybody_else_all_of_it() {
    let body =
        Body { text: "all of it".to_owned(), html: "<p>a page</p>".to_owned(), short: Some("a few lines".to_owned()) };
    let mut message = Message { title: "weekly report".to_owned(), body: Some(body), ..test_message() };
    let chats = |message: &Message| {
        [
            chats::slack(message),
            chats::teams(message),
            chats::discord(message),
            chats::telegram(message, "@ops"),
            chats::ntfy(message, "ops"),
        ]
        .map(|chat| chat.to_string())
    };
    for chat in chats(&message) {
        assert!(
            chat.contains("weekly report") && chat.contains("a few lines") && !chat.contains("all of it"),
            "{chat}"
        );
    }
    assert_eq!(message.json()["body"], "all of it");
    assert_eq!(
        (text::text(&message), html::html(&message)),
        ("weekly report\n\nall of it".to_owned(), "<p>a page</p>".to_owned())
    );
    // One that was laid down before there was anything short.
    message.body.as_mut().unwrap().short = None;
    let mut old = serde_json::to_value(&message).unwrap();
    old["body"].as_object_mut().unwrap().remove("short");
    let old: Message = serde_json::from_value(old).unwrap();
    assert_eq!(old, message);
    assert!(chats(&old).iter().all(|chat| chat.contains("all of it")));
}

#[test]
fn pagerduty_opens_an_incident_for_each_alert_and_resolves_the_same_one() {
    let events = chats::pagerduty(&bad_night(), "key");
    let told: Vec<(&str, &str)> = events
        .iter()
        .map(|event| (event["event_action"].as_str().unwrap(), event["dedup_key"].as_str().unwrap()))
        .collect();
    let expected = [
        ("trigger", "keepstone/alpha/web/error"),
        ("trigger", "keepstone/alpha/web/duration"),
        ("resolve", "keepstone/alpha/web/free"),
    ];
    assert_eq!(told, expected);
    assert_eq!(events[0]["payload"]["severity"], "critical");
    let good = Message::new(ABOUT, at(NIGHT), Vec::new(), Some(Night { good: true, ..Night::default() }));
    assert!(chats::pagerduty(&good, "key").is_empty(), "a good night is no incident");
    assert_eq!(chats::pagerduty(&test_message(), "key").len(), 2, "a test opens one and resolves it");
}

/// The thresholds that hold where nobody says anything.
fn usual() -> Rules {
    let minutes = |minutes: u64| Some(Duration::from_secs(minutes * 60));
    Rules {
        critical: Thresholds {
            error: true,
            missed: true,
            rpo: minutes(24 * 60),
            success_rate: Some(95.0),
            verify_rate: Some(95.0),
            duration: minutes(30),
            size: Some(1 << 30),
            ..Thresholds::default()
        },
        warning: Thresholds {
            maintenance: true,
            duration: minutes(15),
            savings: Some(50.0),
            free: Some(1 << 30),
            forecast: true,
            rto: minutes(30),
            ..Thresholds::default()
        },
        info: Thresholds { size_change: Some(10.0), record_change: Some(100), ..Thresholds::default() },
    }
}

fn well() -> Facts {
    Facts {
        profile: "web".to_owned(),
        now: at(NIGHT),
        ran: Some(Ran {
            errors: Vec::new(),
            is_damaged: false,
            upkeep: Some(Vec::new()),
            duration: Some(Duration::from_secs(900)),
            content_bytes: Some(4 << 30),
            added_bytes: Some(1 << 30),
        }),
        missed: Some(Missed::No),
        safe: Safe::At(at(NIGHT - 86_400)),
        runs: Some(Rate { good: 19, all: 20 }),
        verified: Some(Rate { good: 0, all: 9 }),
        free_bytes: Some(1 << 30),
        needed_bytes: Some(1 << 30),
        drill: Some(Duration::from_secs(1800)),
        content_before: Some(4 << 30),
        tables: Some(vec![Table { name: "orders".to_owned(), before: 1000, after: 1100 }]),
    }
}

#[test]
fn what_just_meets_every_threshold_is_no_alert() {
    let judged = judge(&well(), &usual());
    assert_eq!(judged, Judged { alerts: Vec::new(), good: Rule::ALL.to_vec() });
}

#[test]
fn what_passes_a_threshold_is_one_alert_of_its_severity() {
    type Change = fn(&mut Facts);
    let cases: [(Rule, Severity, &str, Change); 16] = [
        (Rule::Maintenance, Severity::Warning, "orders is locked", |facts| {
            facts.ran.as_mut().unwrap().upkeep = Some(vec!["orders is locked".to_owned()]);
        }),
        (Rule::Error, Severity::Critical, "prune failed: full (and 1 more)", |facts| {
            facts.ran.as_mut().unwrap().errors = vec!["prune failed: full".to_owned(), "b".to_owned()];
        }),
        (Rule::Missed, Severity::Critical, "no run at", |facts| facts.missed = Some(Missed::At(at(NIGHT - 90_000)))),
        (Rule::Rpo, Severity::Critical, "24 h 1 min old", |facts| facts.safe = Safe::At(at(NIGHT - 86_460))),
        (Rule::Rpo, Severity::Critical, "no snapshot that is known", |facts| facts.safe = Safe::Never),
        (Rule::SuccessRate, Severity::Critical, "18 of the last 20", |facts| {
            facts.runs = Some(Rate { good: 18, all: 20 })
        }),
        (Rule::VerifyRate, Severity::Critical, "9 of the last 10", |facts| {
            facts.verified = Some(Rate { good: 9, all: 10 })
        }),
        (Rule::Duration, Severity::Warning, "15 min 1 s", |facts| {
            facts.ran.as_mut().unwrap().duration = Some(Duration::from_secs(901));
        }),
        (Rule::Duration, Severity::Critical, "30 min 1 s", |facts| {
            facts.ran.as_mut().unwrap().duration = Some(Duration::from_secs(1801));
        }),
        (Rule::Size, Severity::Critical, "added 1.2 GiB", |facts| {
            facts.ran.as_mut().unwrap().added_bytes = Some(5 << 28);
        }),
        (Rule::Savings, Severity::Warning, "only 33.3 %", |facts| {
            let ran = facts.ran.as_mut().unwrap();
            (ran.content_bytes, ran.added_bytes, facts.content_before) = (Some(1500), Some(1000), Some(1500));
        }),
        (Rule::Free, Severity::Warning, "512.0 MiB are free", |facts| {
            (facts.free_bytes, facts.needed_bytes) = (Some(1 << 29), Some(0));
        }),
        (Rule::Forecast, Severity::Warning, "2.0 GiB will be needed", |facts| facts.needed_bytes = Some(2 << 30)),
        (Rule::Rto, Severity::Warning, "the last drill took 30 min 1 s", |facts| {
            facts.drill = Some(Duration::from_secs(1801));
        }),
        (Rule::SizeChange, Severity::Info, "-20.0 %", |facts| facts.content_before = Some(5 << 30)),
        (Rule::RecordChange, Severity::Info, "orders -101 rows", |facts| {
            facts.tables = Some(vec![Table { name: "orders".to_owned(), before: 1000, after: 899 }]);
        }),
    ];
    for (rule, severity, text, change) in cases {
        let mut facts = well();
        change(&mut facts);
        let judged = judge(&facts, &usual());
        let found: Vec<_> = judged.alerts.iter().map(|alert| (alert.rule, alert.severity)).collect();
        assert_eq!(found, [(rule, severity)], "{text}");
        assert!(judged.alerts[0].text.contains(text) && !judged.alerts[0].next.is_empty(), "{:?}", judged.alerts);
        assert!(judge(&facts, &Rules::default()).alerts.is_empty(), "rules that are switched off say nothing");
    }
}

#[test]
fn the_first_snapshot_has_nothing_to_save() {
    let mut first = Facts { content_before: None, ..well() };
    first.ran.as_mut().unwrap().added_bytes = Some(5 << 30);
    assert!(judge(&first, &usual()).alerts.iter().all(|alert| alert.rule != Rule::Savings));
}

#[test]
fn a_rate_of_few_and_what_nobody_knows_are_neither_good_nor_bad() {
    let judged = judge(&Facts::default(), &usual());
    assert_eq!(judged.alerts, []);
    assert_eq!(judged.good, [], "what nobody knows is not good either");
    let none = Facts { runs: Some(Rate::default()), verified: Some(Rate::default()), ..Facts::default() };
    assert_eq!(judge(&none, &usual()).good, [Rule::SuccessRate, Rule::VerifyRate], "a rate of none is no alarm");
    let mut open = Open::default();
    let bad = Facts { safe: Safe::Never, ..well() };
    assert_eq!(open.settle(&judge(&bad, &usual()), NIGHT, DAY).len(), 1);
    assert_eq!(open.settle(&judge(&Facts::default(), &usual()), NIGHT + 60, DAY), [], "it stays open");
    assert_eq!(open.list().collect::<Vec<_>>(), [("rpo", Severity::Critical)]);
}

const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn an_alert_is_told_once_again_after_a_while_when_it_gets_worse_and_when_it_is_over() {
    let long = |seconds| {
        let mut facts = well();
        facts.ran.as_mut().unwrap().duration = Some(Duration::from_secs(seconds));
        judge(&facts, &usual())
    };
    let mut open = Open::default();
    let mut told = |judged: &Judged, now| {
        let notices = open.settle(judged, now, DAY);
        notices.into_iter().map(|one| (one.change, one.severity, one.since - NIGHT)).collect::<Vec<_>>()
    };
    assert_eq!(told(&long(1000), NIGHT), [(Change::New, Severity::Warning, 0)]);
    assert_eq!(told(&long(1000), NIGHT + 3600), []);
    assert_eq!(told(&long(2000), NIGHT + 7200), [(Change::Worse, Severity::Critical, 0)]);
    assert_eq!(told(&long(1000), NIGHT + 10_800), [], "what got a little better is no news");
    assert_eq!(told(&long(1000), NIGHT + 7200 + 86_400), [(Change::Still, Severity::Warning, 0)]);
    assert_eq!(told(&long(60), NIGHT + 200_000), [(Change::Recovered, Severity::Warning, 0)]);
    assert_eq!(told(&long(60), NIGHT + 300_000), []);
    let shrunk = judge(&Facts { content_before: Some(8 << 30), ..well() }, &usual());
    for now in [NIGHT, NIGHT + 60] {
        assert_eq!(told(&shrunk, now).len(), 1, "a change is news each time");
    }
    assert_eq!(told(&long(60), NIGHT + 400_000), [], "and is never over");
}

#[test]
fn another_cause_is_told_whatever_is_open_and_damage_each_time() {
    let failed = |errors: &[&str], is_damaged| {
        let mut facts = well();
        let ran = facts.ran.as_mut().unwrap();
        ran.errors = errors.iter().map(|text| (*text).to_owned()).collect();
        ran.is_damaged = is_damaged;
        judge(&facts, &usual())
    };
    let mut open = Open::default();
    let mut told = |judged: &Judged, now| {
        let notices = open.settle(judged, NIGHT + now, DAY);
        notices.into_iter().map(|one| (one.change, one.since - NIGHT)).collect::<Vec<_>>()
    };
    assert_eq!(told(&failed(&["finally failed: exit 3"], false), 0), [(Change::New, 0)]);
    assert_eq!(told(&failed(&["finally failed: exit 4"], false), 60), [], "numbers are no other cause");
    assert_eq!(told(&failed(&["finally failed: exit 3", "backup partial: /a"], false), 120), [(Change::New, 120)]);
    assert_eq!(told(&failed(&["backup partial: /a"], false), 180), [], "one of them is over");
    let damage = failed(&["verify damage: pack 1"], true);
    assert_eq!(told(&damage, 240), [(Change::New, 240)]);
    assert_eq!(told(&damage, 300), [(Change::Still, 240)]);
}

#[test]
fn open_alerts_survive_and_a_broken_file_of_them_tells_everything_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mut open = Open::default();
    let bad = judge(&Facts { safe: Safe::Never, ..well() }, &usual());
    open.settle(&bad, NIGHT, DAY);
    open.save(folder.path(), "web").unwrap();
    assert_eq!(Open::load(folder.path(), "web"), open);
    assert_eq!(Open::load(folder.path(), "other"), Open::default());
    std::fs::write(folder.path().join("alerts/web.json"), "{\"rpo\":").unwrap();
    assert_eq!(Open::load(folder.path(), "web"), Open::default());
}

#[test]
fn severities_have_their_channels_and_who_wants_every_night_gets_it() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let route = Route {
        critical: names(&["duty", "ops"]),
        warning: names(&["ops"]),
        night: names(&["diary"]),
        ..Route::default()
    };
    let notices = bad_night().notices;
    let audience = route.audience(&notices, true);
    let told: Vec<(&str, usize)> = audience.iter().map(|(channel, told)| (channel.as_str(), told.len())).collect();
    assert_eq!(told, [("diary", 3), ("duty", 1), ("ops", 3)]);
    let good = route.audience(&[], true);
    assert_eq!(good.keys().collect::<Vec<_>>(), ["diary"]);
    assert!(route.audience(&[], false).is_empty());
}

#[test]
fn quiet_hours_hold_what_can_wait_until_they_end() {
    let now = |text: &str| format!("2026-11-{text}[Europe/Berlin]").parse::<Zoned>().unwrap();
    let end = |text: &str| Some(now(text).timestamp());
    let quiet = Quiet::parse("22:00-07:30", true).unwrap();
    let warning = Some(Severity::Warning);
    assert_eq!(quiet.until(warning, &now("29T23:00")), end("30T07:30"));
    assert_eq!(quiet.until(None, &now("30T02:00")), end("30T07:30"));
    assert_eq!(quiet.until(warning, &now("30T07:30")), None);
    assert_eq!(quiet.until(warning, &now("30T21:59")), None);
    assert_eq!(quiet.until(Some(Severity::Critical), &now("30T02:00")), None);
    let strict = Quiet::parse("12:00-14:00", false).unwrap();
    assert_eq!(strict.until(Some(Severity::Critical), &now("30T12:00")), end("30T14:00"));
    assert_eq!(strict.until(warning, &now("30T14:00")), None);
    for wrong in ["", "22-7", "22:00", "24:00-07:00", "22:60-07:00", "07:00-07:00", "2:00-07:00", "+2:00-07:00"] {
        assert!(Quiet::parse(wrong, true).is_err(), "{wrong}");
    }
}

fn waiting(channel: &str, number: i64) -> Waiting {
    let mut message = test_message();
    (message.id, message.title) = (format!("{number:04}"), format!("message {number}"));
    Waiting {
        channel: channel.to_owned(),
        not_before: 0,
        quiet: false,
        attempts: 0,
        error: None,
        superseded: false,
        message,
    }
}

/// What was sent in one attempt, where only channels in `up` answer.
fn send(outbox: &Outbox, which: Which, now: i64, up: &[&str]) -> (Vec<String>, usize) {
    let mut sent = Vec::new();
    let tried = outbox.send(which, at(now), &mut |waiting| match up.contains(&waiting.channel.as_str()) {
        true => {
            sent.push(waiting.message.title.clone());
            Ok(())
        }
        false => Err(Error::unavailable("nobody answers")),
    });
    (sent, tried.unwrap().len())
}

#[test]
fn what_cannot_be_sent_waits_longer_each_time_and_goes_out_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = Outbox::below(folder.path());
    assert_eq!(send(&outbox, Which::All, NIGHT, &[]), (Vec::new(), 0), "there is no outbox yet");
    for number in 0..3 {
        outbox.put(&waiting(if number == 1 { "mail" } else { "chat" }, number), at(NIGHT + number)).unwrap();
    }
    let (sent, tried) = send(&outbox, Which::Due, NIGHT + 10, &["mail"]);
    assert_eq!((sent, tried), (vec!["message 1".to_owned()], 2), "the second for the chat is not tried in vain");
    assert_eq!(send(&outbox, Which::Due, NIGHT + 11, &[]).1, 1, "the other one for the chat is due");
    assert_eq!(send(&outbox, Which::Due, NIGHT + 12, &["chat"]).1, 0, "both have to pause");
    assert_eq!(send(&outbox, Which::Due, NIGHT + 70, &[]).1, 1);
    let next = outbox.list().unwrap().remove(0);
    assert_eq!((next.attempts, next.not_before), (2, NIGHT + 70 + 120), "each pause is twice as long");
    assert_eq!(next.error.as_deref(), Some("nobody answers"));
    let (sent, _) = send(&outbox, Which::All, NIGHT + 80, &["chat"]);
    assert_eq!(sent, ["message 0", "message 2"]);
    assert!(outbox.list().unwrap().is_empty() && outbox.lost().count == 0);
}

#[test]
fn an_outbox_that_is_full_gives_up_the_oldest_and_counts_it() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = Outbox::below(folder.path());
    for number in 0..=MOST_MESSAGES as i64 {
        outbox.put(&waiting("chat", number), at(NIGHT + number)).unwrap();
    }
    let left = outbox.list().unwrap();
    assert_eq!((left.len(), left[0].message.title.as_str()), (MOST_MESSAGES, "message 1"));
    let lost = outbox.lost();
    assert!(lost.count == 1 && lost.last.contains("message 0"), "{lost:?}");
}

#[test]
fn messages_that_are_too_old_or_no_messages_are_given_up_and_pings_replace_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = Outbox::below(folder.path());
    outbox.put(&waiting("chat", 0), at(NIGHT)).unwrap();
    let late = NIGHT + MOST_DAYS * 86_400 + 1;
    assert_eq!(send(&outbox, Which::Due, late, &[]), (Vec::new(), 1));
    assert!(outbox.list().unwrap().is_empty() && outbox.lost().last.contains("14 days"), "{:?}", outbox.lost());
    std::fs::write(folder.path().join("outbox/00000000000000000001-x.json"), b"{\xff").unwrap();
    for number in 1..3 {
        outbox.put(&Waiting { superseded: true, ..waiting("ping", number) }, at(NIGHT + number)).unwrap();
    }
    assert_eq!(send(&outbox, Which::Due, NIGHT + 5, &["ping"]).0, ["message 2"]);
    assert!(outbox.lost().count == 2 && outbox.lost().last.contains("not a message"), "{:?}", outbox.lost());
}

#[test]
fn a_message_that_waits_is_not_laid_down_again_and_one_for_several_channels_is_one_for_each() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = Outbox::below(folder.path());
    for channel in ["mail", "chat", "mail", "chat"] {
        outbox.put(&waiting(channel, 7), at(NIGHT)).unwrap();
    }
    let channels: Vec<String> = outbox.list().unwrap().into_iter().map(|one| one.channel).collect();
    assert_eq!(channels, ["mail", "chat"]);
    assert_eq!(send(&outbox, Which::Due, NIGHT, &["mail", "chat"]).0.len(), 2);
    outbox.put(&waiting("mail", 7), at(NIGHT)).unwrap();
    assert_eq!(outbox.list().unwrap().len(), 1, "what was taken may come again");
    let mut huge = waiting("mail", 8);
    huge.message.title = "x".repeat(5 << 20);
    assert!(outbox.put(&huge, at(NIGHT)).unwrap_err().to_string().contains("too large to be kept"));
}

#[test]
fn what_waits_for_quiet_hours_to_end_is_not_flushed_before() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = Outbox::below(folder.path());
    outbox.put(&Waiting { quiet: true, not_before: NIGHT + 3600, ..waiting("chat", 0) }, at(NIGHT)).unwrap();
    assert_eq!(send(&outbox, Which::All, NIGHT + 60, &["chat"]).1, 0);
    assert_eq!(send(&outbox, Which::Due, NIGHT + 3600, &["chat"]).0, ["message 0"]);
}
