//! Keys of how people are told: channels, whom a profile tells, and what is worth telling.

use super::{
    ABSOLUTE, COMMAND, DURATION, PASSWORDS, PLAIN, SECRET_COMMAND, TEXTS, THE_PASSWORD_COMMAND, THE_PASSWORD_ENV,
    THE_PASSWORD_FILE, VARIABLE, key, needed, text,
};
use crate::config::describe::{Form, Key, Section, Text};
use crate::config::schedule::Schedule;
use crate::config::values;
use crate::notify::channel::check_server;
use crate::notify::route::Quiet;
use crate::notify::template::Template;

static MAIL_ADDRESS: Text =
    text("an address such as Ann <ann@example.org>", "@", crate::notify::channel::check_address);
static SERVER: Text = text("HOST or HOST:PORT", "", check_server);
static HTTPS: Text = text("the address of a server", "^https?://", |url| match url.starts_with("https://") {
    true => Ok(()),
    false if url.starts_with("http://") => Ok(()),
    false => Err(format!("`{url}` is not the address of a server: it begins with https://")),
});
static TEMPLATE: Text = text("JSON with {names} in its texts", "", |text| Template::parse(text).map(drop));
static HEADER: Text = text("NAME: VALUE", "^[^:]+:", |text| values::header(text).map(drop));
static QUIET: Text = text("hours such as 22:00-07:00", "^[0-9]{2}:[0-9]{2}-[0-9]{2}:[0-9]{2}$", |text| {
    Quiet::parse(text, true).map(drop)
});
static SPAN_OR_OFF: Text =
    Text { number: true, ..text("a span of time such as 30min, or `off`", "", |text| off(text, values::duration)) };
static SIZE_OR_OFF: Text =
    Text { number: true, ..text("a size such as 1G, or `off`", "", |text| off(text, values::size)) };
static SHARE_OR_OFF: Text = text("a share such as 50%, or `off`", "", |text| off(text, values::percent));
static SCHEDULE_OR_OFF: Text =
    text("a schedule in the five fields of crontab, @daily, or `off`", "", |text| off(text, Schedule::parse));
static COUNT_OR_OFF: Text =
    Text { number: true, ..text("a whole number, or `off`", "^([0-9]+|off)$", |text| off(text, values::count)) };

fn off<T>(text: &str, read: fn(&str) -> Result<T, String>) -> Result<(), String> {
    values::unless_off(text, read).map(drop)
}

/// The channels of the whole file.
pub static NOTIFY: Section = Section {
    doc: "How people can be told, each channel by a name of its own. What is secret of one never stands here: addresses of \
          chats are secrets too.",
    keys: &[
        key("mail", Form::Named(&MAIL), "", "Mail"),
        key("webhook", Form::Named(&WEBHOOK), "", "Any server that takes JSON"),
        key("slack", Form::Named(&SLACK), "", "Slack"),
        key("teams", Form::Named(&TEAMS), "", "Microsoft Teams"),
        key("discord", Form::Named(&DISCORD), "", "Discord"),
        key("telegram", Form::Named(&TELEGRAM), "", "Telegram"),
        key("ntfy", Form::Named(&NTFY), "", "ntfy"),
        key("pagerduty", Form::Named(&PAGERDUTY), "", "PagerDuty"),
        key("ping", Form::Named(&PING), "", "Services such as healthchecks.io that miss a call that does not come"),
        key("command", Form::Named(&TOLD_COMMAND), "", "Any command"),
    ],
    one_of: &[],
};

/// Reports that are sent by themselves.
pub static REPORTS: Section = Section {
    doc: "Reports of all profiles that `keepstone report due`, which a timer starts, sends when their time has come, in local time. \
          Nothing is sent before `channels` names somebody.",
    keys: &[
        key(
            "channels",
            TEXTS,
            "",
            "The channels in `[notify]` that they are sent through; none that only rings a bell",
        ),
        key("daily", Form::Text(&SCHEDULE_OR_OFF), "0 8 * * *", "When the daily report is due, or `off`"),
        key("weekly", Form::Text(&SCHEDULE_OR_OFF), "0 8 * * SUN", "When the weekly one is"),
        key("monthly", Form::Text(&SCHEDULE_OR_OFF), "0 8 1 * *", "When the monthly one is"),
    ],
    one_of: &[],
};

/// Metrics for Prometheus.
pub static METRICS: Section = Section {
    doc: "Metrics for Prometheus: told at the end of each night. `keepstone metrics` prints them.",
    keys: &[
        key(
            "textfile",
            Form::Text(&ABSOLUTE),
            "",
            "The file for the textfile collector of the node exporter: its name ends with .prom",
        ),
        key("url_file", Form::Text(&ABSOLUTE), "", "The file whose first line is the address of a push gateway"),
        key(
            "url_command",
            Form::Text(&SECRET_COMMAND),
            "",
            "The command whose first line of output is the address of a push gateway",
        ),
        key("url_env", Form::Text(&VARIABLE), "", "The environment variable that holds the address of a push gateway"),
        TOKEN_FILE,
        TOKEN_COMMAND,
        TOKEN_ENV,
        CA,
        TIMEOUT,
        PLAIN_HTTP,
    ],
    one_of: &URLS,
};

/// The keys of which each channel with an address has one.
pub const URLS: [&str; 3] = ["url_file", "url_command", "url_env"];
/// The keys of which each channel with a token has one.
pub const TOKENS: [&str; 3] = ["token_file", "token_command", "token_env"];

const URL_FILE: Key = key("url_file", Form::Text(&ABSOLUTE), "", "The file whose first line is its address");
const URL_COMMAND: Key =
    key("url_command", Form::Text(&SECRET_COMMAND), "", "The command whose first line of output is its address");
const URL_ENV: Key = key("url_env", Form::Text(&VARIABLE), "", "The environment variable that holds its address");
const TOKEN_FILE: Key = key("token_file", Form::Text(&ABSOLUTE), "", "The file whose first line is its token or key");
const TOKEN_COMMAND: Key =
    key("token_command", Form::Text(&SECRET_COMMAND), "", "The command whose first line of output is its token or key");
const TOKEN_ENV: Key =
    key("token_env", Form::Text(&VARIABLE), "", "The environment variable that holds its token or key");
const CA: Key = key("ca", Form::Text(&ABSOLUTE), "", "A PEM file of authorities to trust too");
const TIMEOUT: Key = key("timeout", Form::Text(&DURATION), "20", "Give up after so long; it is tried again later");
const PLAIN_HTTP: Key =
    key("allow_plain_http", Form::Switch, "false", "Tell a server on another machine without encryption");

static MAIL: Section = Section {
    doc: "Mail, as text and as HTML, through a server that takes it.",
    keys: &[
        needed("server", Form::Text(&SERVER), "The server; the port is 587, 465 or 25 unless it is said"),
        key(
            "encryption",
            Form::Word(&["starttls", "tls", "none"]),
            "starttls",
            "How the way to it is encrypted: after a word in the clear, from the first byte on, or not",
        ),
        needed("from", Form::Text(&MAIL_ADDRESS), "Who sends it"),
        needed("to", Form::List(&Form::Text(&MAIL_ADDRESS)), "Who gets it"),
        key("user", Form::Text(&PLAIN), "", "Who we are to the server; then it wants a password too"),
        THE_PASSWORD_FILE,
        THE_PASSWORD_COMMAND,
        THE_PASSWORD_ENV,
        CA,
        TIMEOUT,
    ],
    one_of: PASSWORDS,
};

static WEBHOOK: Section = Section {
    doc: "Any server that takes JSON: the message as it is, or what a template makes of it.",
    keys: &[
        URL_FILE,
        URL_COMMAND,
        URL_ENV,
        TOKEN_FILE,
        TOKEN_COMMAND,
        TOKEN_ENV,
        key("method", Form::Word(&["POST", "PUT"]), "POST", "How it is sent"),
        key(
            "headers",
            Form::List(&Form::Text(&HEADER)),
            "",
            "Headers; none of them a secret. A token is sent as `Authorization: Bearer`",
        ),
        key(
            "template",
            Form::Text(&TEMPLATE),
            "",
            "The body: JSON in whose texts `{title}`, `{text}`, `{state}`, `{added_bytes}` and the like stand for values; a text that is nothing but a name becomes the value itself",
        ),
        CA,
        TIMEOUT,
        PLAIN_HTTP,
    ],
    one_of: &URLS,
};

static SLACK: Section = Section {
    doc: "An incoming webhook of Slack, or of what takes the same (Mattermost, Rocket.Chat).",
    keys: &[URL_FILE, URL_COMMAND, URL_ENV, CA, TIMEOUT, PLAIN_HTTP],
    one_of: &URLS,
};

static TEAMS: Section = Section {
    doc: "A workflow of Microsoft Teams (\"When a Teams webhook request is received\"), which gets an adaptive card.",
    keys: &[URL_FILE, URL_COMMAND, URL_ENV, CA, TIMEOUT, PLAIN_HTTP],
    one_of: &URLS,
};

static DISCORD: Section = Section {
    doc: "A webhook of a channel of Discord.",
    keys: &[URL_FILE, URL_COMMAND, URL_ENV, CA, TIMEOUT, PLAIN_HTTP],
    one_of: &URLS,
};

static TELEGRAM: Section = Section {
    doc: "A chat of Telegram, written to by a bot.",
    keys: &[
        needed("chat", Form::Text(&PLAIN), "The chat: its number, or @NAME of a channel"),
        TOKEN_FILE,
        TOKEN_COMMAND,
        TOKEN_ENV,
        key("server", Form::Text(&HTTPS), "https://api.telegram.org", "Where bots are talked to"),
        CA,
        TIMEOUT,
        PLAIN_HTTP,
    ],
    one_of: &TOKENS,
};

static NTFY: Section = Section {
    doc: "A topic of ntfy: its address is https://ntfy.sh/TOPIC, or that of a server of your own.",
    keys: &[URL_FILE, URL_COMMAND, URL_ENV, TOKEN_FILE, TOKEN_COMMAND, TOKEN_ENV, CA, TIMEOUT, PLAIN_HTTP],
    one_of: &URLS,
};

static PAGERDUTY: Section = Section {
    doc: "A service of PagerDuty with an integration of the Events API v2: each alert opens an incident and resolves it.",
    keys: &[
        TOKEN_FILE,
        TOKEN_COMMAND,
        TOKEN_ENV,
        key("server", Form::Text(&HTTPS), "https://events.pagerduty.com", "Where events are taken"),
        CA,
        TIMEOUT,
        PLAIN_HTTP,
    ],
    one_of: &TOKENS,
};

static PING: Section = Section {
    doc: "An address that is called when a night begins (`/start` behind it), when it was good, and when it was not (`/fail`). \
          Name it in `night` of a profile.",
    keys: &[URL_FILE, URL_COMMAND, URL_ENV, CA, TIMEOUT, PLAIN_HTTP],
    one_of: &URLS,
};

static TOLD_COMMAND: Section = Section {
    doc: "A shell command. It gets the message as JSON on its standard input, and finds KEEPSTONE_STATE, KEEPSTONE_SEVERITY, \
          KEEPSTONE_PROFILE, KEEPSTONE_TITLE, KEEPSTONE_TEXT, KEEPSTONE_SNAPSHOT, KEEPSTONE_NEXT and KEEPSTONE_MESSAGE_ID in its \
          environment.",
    keys: &[needed("run", Form::Text(&COMMAND), "The shell command"), TIMEOUT],
    one_of: &[],
};

/// Whom a profile tells.
pub static TELL: Section = Section {
    doc: "Whom it tells, by the names of channels in `[notify]`.",
    keys: &[
        key("channels", TEXTS, "", "Channels for alerts of every severity"),
        key("critical", TEXTS, "", "Channels for critical alerts, in place of `channels`"),
        key("warning", TEXTS, "", "The same for warnings"),
        key("info", TEXTS, "", "The same for what is good to know"),
        key("night", TEXTS, "", "Channels that are told of every night, also of a good one"),
        key("repeat", Form::Text(&DURATION), "20h", "Tell again of an alert that stays after so long"),
        key(
            "quiet",
            Form::Text(&QUIET),
            "",
            "Hours, in local time, in which nobody is told anything; it is told when they end",
        ),
        key("quiet_critical", Form::Switch, "true", "Tell of critical alerts in those hours all the same"),
    ],
    one_of: &[],
};

/// What is worth telling.
pub static ALERTS: Section = Section {
    doc: "What is worth telling, and how grave it is. Each rule may have a threshold at each severity; `off` or `false` switches \
          one off.",
    keys: &[
        key("critical", Form::Part(&CRITICAL), "", "Look at it now"),
        key("warning", Form::Part(&WARNING), "", "Look at it soon"),
        key("info", Form::Part(&INFO), "", "Good to know"),
    ],
    one_of: &[],
};

const DOC: &str = "Rules and their thresholds at this severity.";
static CRITICAL: Section = Section { doc: DOC, keys: &CRITICAL_KEYS, one_of: &[] };
static WARNING: Section = Section { doc: DOC, keys: &WARNING_KEYS, one_of: &[] };
static INFO: Section = Section { doc: DOC, keys: &INFO_KEYS, one_of: &[] };

static CRITICAL_KEYS: [Key; 14] =
    rules(["true", "", "true", "24h", "95%", "95%", "30min", "1G", "", "", "", "", "", ""]);
static WARNING_KEYS: [Key; 14] = rules(["", "true", "", "", "", "", "15min", "", "50%", "1G", "true", "30min", "", ""]);
static INFO_KEYS: [Key; 14] = rules(["", "", "", "", "", "", "", "", "", "", "", "", "10%", "100"]);

const fn rules(defaults: [&'static str; 14]) -> [Key; 14] {
    let span = Form::Text(&SPAN_OR_OFF);
    let size = Form::Text(&SIZE_OR_OFF);
    let share = Form::Text(&SHARE_OR_OFF);
    [
        key("error", Form::Switch, defaults[0], "Anything failed or is damaged, but for `maintenance`"),
        key("maintenance", Form::Switch, defaults[1], "Upkeep of databases failed, which costs the backup nothing"),
        key("missed", Form::Switch, defaults[2], "There was no run at a time of `schedule`"),
        key(
            "rpo",
            span,
            defaults[3],
            "The newest complete snapshot that was read back (any complete one where `verify` reads no snapshots) is older",
        ),
        key("success_rate", share, defaults[4], "Of the runs of 30 days, if there were 10, fewer were good"),
        key(
            "verify_rate",
            share,
            defaults[5],
            "Of the verifications of 30 days, if there were 10, fewer found nothing wrong",
        ),
        key("duration", span, defaults[6], "The night took longer"),
        key("size", size, defaults[7], "The night added more to the repository"),
        key("savings", share, defaults[8], "Less of the content did not have to be stored"),
        key("free", size, defaults[9], "Less is free for the repository"),
        key("forecast", Form::Switch, defaults[10], "The repository will need more than is free"),
        key("rto", span, defaults[11], "The last drill took longer"),
        key("size_change", share, defaults[12], "The content grew or shrank by more since the last time"),
        key(
            "record_change",
            Form::Text(&COUNT_OR_OFF),
            defaults[13],
            "A table has so many rows more or fewer than the last time",
        ),
    ]
}
