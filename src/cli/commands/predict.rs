//! `predict`: how repositories grow, when something is full, what it costs, what another policy would come to.

use super::forget::policy;
use crate::base::Clock;
use crate::base::clock::TimeZone;
use crate::cli::app::App;
use crate::cli::args::{Guess, Predict as Given};
use crate::cli::error::{Error, Result};
use crate::cli::exit::Exit;
use crate::cli::print::human;
use crate::cli::print::table::facts;
use crate::config::meant::{Outlook, Price, Repository};
use crate::config::{Config, values};
use crate::history::{Entry, Filter, History};
use crate::ops::retention::Policy;
use crate::ops::select;
use crate::report::forecast::retained::{Retained, retained};
use crate::report::forecast::{Backtest, Expected, Method, Series, TooShort, backtest};
use crate::report::growth::{Ends, Growth, Limit, Outlook as Ahead};
use crate::report::render::full;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

const GIGABYTE: f64 = 1e9;
/// What packs of a bucket cost unless somebody says otherwise.
const STANDARD: &str = "STANDARD";

/// All that is said of a repository.
#[derive(Serialize)]
struct JsonForecast<'f> {
    message_type: &'static str,
    repository: &'f str,
    /// Days on which its size was measured.
    measured_days: usize,
    /// Further days that a forecast needs; then nothing more is said.
    missing_days: usize,
    #[serde(flatten)]
    told: Option<Told>,
}

#[derive(Serialize)]
struct Told {
    bytes: u64,
    /// `ets` or `theil-sen`.
    method: &'static str,
    level: f64,
    bytes_a_day: i64,
    days: Vec<JsonDay>,
    disk: Option<Limit>,
    cache: Option<Limit>,
    quota: Option<Limit>,
    cost: Option<JsonCost>,
    policy: Option<JsonPolicy>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    backtest: Vec<JsonBacktest>,
}

#[derive(Serialize)]
struct JsonDay {
    date: String,
    bytes: u64,
    least_bytes: u64,
    most_bytes: u64,
}

#[derive(Serialize)]
struct JsonCost {
    price: String,
    currency: String,
    now_a_month: f64,
    then_a_month: f64,
}

#[derive(Serialize)]
struct JsonPolicy {
    /// With the policy of the profile.
    snapshots: u64,
    /// With the one that was asked about.
    other_snapshots: u64,
    /// What the repository would hold then.
    bytes: u64,
}

#[derive(Serialize)]
struct JsonBacktest {
    method: &'static str,
    horizon_days: usize,
    looks: usize,
    error_percent: f64,
    bias_percent: f64,
    within_percent: f64,
}

/// What is asked, and by which rules it is answered.
struct Question<'q> {
    given: &'q Given,
    outlook: Outlook,
    prices: BTreeMap<String, Price>,
    /// What stays in the end, under the policy that is and the other one.
    policies: Option<(Retained, Retained)>,
}

/// Guesses.
pub fn run(app: &App, given: &Given) -> Result<Exit> {
    let config = Config::load(&app.global.config)?;
    let outlook = outlook(given, config.outlook())?;
    let prices = config.prices();
    if let Some(name) = given.price.as_ref().filter(|name| !prices.contains_key(*name)) {
        return Err(Error::usage(format!("there is no price `{name}`: name one of [prices] of the config")));
    }
    let names = wanted(app, given, &config)?;
    let policies = policies(app, given, &config)?;
    let question = Question { given, outlook, prices, policies };
    let entries = entries(&config, question.outlook.days)?;
    for (number, name) in names.iter().enumerate() {
        let repository = config.repository(name)?;
        let growth = Growth::of(entries.iter().filter(|entry| entry.repository == *name), &TimeZone::system());
        if app.out.is_json() {
            app.out.object(&json(&repository, &growth, &question));
        } else {
            if number > 0 {
                app.out.line("");
            }
            print(app, &repository, &growth, &question);
        }
    }
    Ok(Exit::Done)
}

fn outlook(given: &Given, said: Outlook) -> Result<Outlook> {
    let mut outlook = said;
    outlook.days = given.history.unwrap_or(outlook.days);
    if let Some(level) = &given.level {
        outlook.options.level = values::percent(level).map_err(Error::usage)? / 100.0;
    }
    if !(0.5..=0.99).contains(&outlook.options.level) {
        return Err(Error::usage("an interval holds from 50% to 99% of the futures"));
    }
    outlook.options.method = match given.method {
        None => outlook.options.method,
        Some(Guess::Auto) => Method::Auto,
        Some(Guess::Ets) => Method::Ets,
        Some(Guess::TheilSen) => Method::TheilSen,
    };
    Ok(outlook)
}

/// The repositories that are asked about.
fn wanted(app: &App, given: &Given, config: &Config) -> Result<BTreeSet<String>> {
    let mut names: BTreeSet<String> = given.of_repositories.iter().cloned().collect();
    if let Some(profile) = &app.global.of_profile {
        names.insert(config.profile(profile)?.repository.name);
    }
    if names.is_empty() {
        names = config.repositories().into_iter().map(str::to_owned).collect();
    }
    match names.is_empty() {
        true => Err(Error::usage("the config has no repository: `keepstone config init` writes a first one")),
        false => Ok(names),
    }
}

/// What snapshots that are there come to, with nights that go on.
fn policies(app: &App, given: &Given, config: &Config) -> Result<Option<(Retained, Retained)>> {
    let other = policy(&given.keep)?;
    if other.is_empty() {
        return Ok(None);
    }
    let name = app.global.of_profile.as_ref();
    let name = name.ok_or_else(|| Error::usage("of which profile? Say --profile NAME beside what to keep"))?;
    let now: Option<Policy> = config.profile(name)?.retention;
    let context = app.context()?;
    let snapshots = app.listed(select::list(&context, &select::Filter::default()))?.snapshots;
    let (now_ns, zone, days) = (context.repository.now_ns(), TimeZone::system(), usize::from(given.days));
    let under = |policy: Option<&Policy>| retained(&snapshots, policy, days, &zone, now_ns);
    Ok(Some((under(now.as_ref()), under(Some(&other)))))
}

/// The runs of all profiles in the days that count.
fn entries(config: &Config, days: u16) -> Result<Vec<Entry>> {
    let state = config.state();
    let said = |error: crate::history::Error| Error::Said(error.kind(), error.to_string());
    let Some(history) = History::read(state.place()?).map_err(said)? else { return Ok(Vec::new()) };
    let now_ns = i64::try_from(Clock::System.now().as_nanosecond()).unwrap_or(i64::MAX);
    let since_ns = Some(now_ns.saturating_sub(i64::from(days) * 86_400_000_000_000));
    history.entries(&Filter { since_ns, ..Filter::default() }).map_err(said)
}

fn json<'f>(repository: &'f Repository, growth: &Growth, question: &Question<'_>) -> JsonForecast<'f> {
    let message_type = "forecast";
    let repository_name = repository.name.as_str();
    match ahead(repository, growth, question) {
        Err(short) => JsonForecast {
            message_type,
            repository: repository_name,
            measured_days: short.have,
            missing_days: short.missing(),
            told: None,
        },
        Ok((size, ahead)) => JsonForecast {
            message_type,
            repository: repository_name,
            measured_days: size.measured(),
            missing_days: 0,
            told: Some(told(repository, size, ahead, question)),
        },
    }
}

/// What it held, and how it goes on.
fn ahead<'g>(
    repository: &Repository,
    growth: &'g Growth,
    question: &Question<'_>,
) -> std::result::Result<(&'g Series, Ahead), TooShort> {
    let ends = Ends { quota_bytes: repository.quota_bytes, has_cache: repository.cache_dir.is_some() };
    let ahead = growth.outlook(usize::from(question.given.days), &question.outlook.options, ends)?;
    growth.size.as_ref().map(|size| (size, ahead)).map_err(|short| *short)
}

/// Why another method answers than the one that was asked for.
fn instead(question: &Question<'_>, method: &str) -> &'static str {
    match question.outlook.options.method {
        Method::Ets if method != Method::Ets.name() => " (there are too few days for ets, or none of its models fits)",
        _ => "",
    }
}

fn told(repository: &Repository, size: &Series, ahead: Ahead, question: &Question<'_>) -> Told {
    let days = usize::from(question.given.days);
    let last = ahead.far.ahead(days).map_or(size.newest(), |day| day.likely);
    Told {
        bytes: ahead.bytes,
        method: ahead.far.method.name(),
        level: ahead.far.level,
        bytes_a_day: ahead.bytes_a_day,
        days: ahead.far.days.iter().take(days).map(json_day).collect(),
        disk: ahead.disk,
        cache: ahead.cache,
        quota: ahead.quota,
        cost: cost(repository, size.newest(), last, question),
        policy: question.policies.map(|(now, other)| JsonPolicy {
            snapshots: now.snapshots,
            other_snapshots: other.snapshots,
            bytes: (last + other.bytes as f64 - now.bytes as f64).max(0.0) as u64,
        }),
        backtest: match question.given.backtest {
            true => backtest(size, days, question.outlook.options.level).iter().map(json_backtest).collect(),
            false => Vec::new(),
        },
    }
}

fn json_day(day: &Expected) -> JsonDay {
    JsonDay {
        date: day.date.to_string(),
        bytes: day.likely as u64,
        least_bytes: day.least as u64,
        most_bytes: day.most as u64,
    }
}

/// What it costs, if somebody said a price: the one that was asked for, that of the repository, or that of its storage
/// class.
fn cost(repository: &Repository, now: f64, then: f64, question: &Question<'_>) -> Option<JsonCost> {
    let class = || repository.bucket.storage_class.clone().unwrap_or_else(|| STANDARD.to_owned());
    let name = question.given.price.clone().or_else(|| repository.price.clone()).unwrap_or_else(class);
    let price = question.prices.get(&name)?;
    let month = |bytes: f64| (bytes / GIGABYTE * price.storage * 100.0).round() / 100.0;
    Some(JsonCost { currency: price.currency.clone(), now_a_month: month(now), then_a_month: month(then), price: name })
}

fn json_backtest(tried: &Backtest) -> JsonBacktest {
    let percent = |share: f64| (share * 1000.0).round() / 10.0;
    JsonBacktest {
        method: tried.method.name(),
        horizon_days: tried.horizon,
        looks: tried.looks,
        error_percent: percent(tried.error),
        bias_percent: percent(tried.bias),
        within_percent: percent(tried.within),
    }
}

fn print(app: &App, repository: &Repository, growth: &Growth, question: &Question<'_>) {
    let (size, ahead) = match ahead(repository, growth, question) {
        Ok(both) => both,
        Err(short) => {
            let name = human::name(repository.name.as_bytes());
            return app.out.line(format!("{name}: {short}; each `keepstone run` of a profile measures one"));
        }
    };
    let told = told(repository, size, ahead, question);
    let mut lines = vec![
        ("repository", format!("{}, {} days measured", human::name(repository.name.as_bytes()), size.measured())),
        ("now", human::bytes(told.bytes)),
    ];
    if let Some(last) = told.days.last() {
        let a_day = match told.bytes_a_day {
            shrinks if shrinks < 0 => format!("-{}", human::bytes(shrinks.unsigned_abs())),
            grows => format!("+{}", human::bytes(grows.unsigned_abs())),
        };
        let (least, most) = (human::bytes(last.least_bytes), human::bytes(last.most_bytes));
        let level = (told.level * 100.0).round();
        let text = format!(
            "{}, {level} % of futures between {least} and {most}; {a_day} a day, by {}{}",
            human::bytes(last.bytes),
            told.method,
            instead(question, told.method)
        );
        lines.push(("forecast", format!("{}: {text}", last.date)));
    }
    let ends = [("disk", &told.disk), ("cache", &told.cache), ("quota", &told.quota)];
    lines.extend(ends.iter().filter_map(|(name, limit)| Some((*name, full(limit.as_ref()?)))));
    if let Some(cost) = &told.cost {
        let JsonCost { price, currency, now_a_month, then_a_month } = cost;
        lines.push(("cost", format!("{now_a_month:.2} {currency} a month, then {then_a_month:.2} ({price})")));
    }
    if let Some(policy) = &told.policy {
        let JsonPolicy { snapshots, other_snapshots, bytes } = policy;
        let text = format!(
            "{} in place of {snapshots}, then about {}",
            human::counted(*other_snapshots, "snapshot"),
            human::bytes(*bytes)
        );
        lines.push(("policy", text));
    }
    for tried in &told.backtest {
        let JsonBacktest { method, horizon_days, looks, error_percent, bias_percent, within_percent } = tried;
        let looks = human::counted(*looks as u64, "look");
        let text = format!(
            "{method}: {error_percent} % off over {horizon_days} days in {looks}, {bias_percent:+} % in the mean, {within_percent} % within the interval"
        );
        lines.push(("backtest", text));
    }
    if question.given.backtest && told.backtest.is_empty() {
        lines.push(("backtest", "the history is too short to look back from".to_owned()));
    }
    facts(&app.out, &lines);
}
