//! A report as text, Markdown, CSV, JSON or a page.

use super::chart::{self, Point, Unit};
use super::forecast::TooShort;
use super::growth::Limit;
use super::summary::{Checks, Growing, Measured, Night, Profile, Report, TableChange, Trend};
use crate::base::clock::span;
use crate::base::markup::escaped;
use crate::db::probe::amount;
use std::fmt::Write;

/// What is said where nobody measured.
const UNKNOWN: &str = "not known";
/// So many of the newest runs stand in the table of a page; a form that shows no charts shows that.
const MOST_NIGHTS: usize = 31;
/// The widest bar in that table, in pixels.
const BAR: f64 = 90.0;
/// What a short text holds at most: things that need attention, and profiles.
const MOST_SHORT: usize = 5;

/// A line of a profile: what it is about, and what is so.
type Line = (&'static str, String);

/// As plain text.
pub fn text(report: &Report) -> String {
    let mut text = format!("{}\non {}\n", report.title, report.host);
    for (number, attention) in report.attention.iter().enumerate() {
        text.push_str(if number == 0 { "\nLook at this first\n" } else { "" });
        let _ = writeln!(text, "  {attention}");
    }
    text.push_str("\nAll profiles\n");
    all(report).iter().for_each(|(name, value)| text.push_str(&format!("  {name:<13} {value}\n")));
    for profile in &report.profiles {
        let _ = write!(text, "\nProfile {}\n", profile.name);
        lines(profile).iter().for_each(|(name, value)| text.push_str(&format!("  {name:<13} {value}\n")));
        for table in &profile.tables {
            let _ = writeln!(text, "  {:<13} {}", "table", table_line(table));
        }
        if profile.more_tables > 0 {
            let _ = writeln!(text, "  {:<13} and {} more", "table", profile.more_tables);
        }
    }
    for repository in &report.repositories {
        let _ = write!(text, "\nRepository {}\n", repository.name);
        growth(repository).iter().for_each(|(name, value)| text.push_str(&format!("  {name:<13} {value}\n")));
    }
    text
}

/// In a few lines, for a chat: what needs attention, and a line for each profile.
pub fn short(report: &Report) -> String {
    let mut text = String::new();
    let mut list = |lines: Vec<String>| {
        let more = lines.len().saturating_sub(MOST_SHORT);
        lines.iter().take(MOST_SHORT).for_each(|line| text.push_str(&format!("{line}\n")));
        text.push_str(&if more > 0 { format!("and {more} more\n") } else { String::new() });
    };
    list(report.attention.iter().map(|one| format!("! {one}")).collect());
    let one = |profile: &Profile| {
        let totals = &profile.totals;
        let safe = profile.safe.as_deref().unwrap_or("never");
        format!(
            "{}: {} of {} runs good, {} missed, {} added, safe since {safe}",
            profile.name,
            totals.good,
            totals.runs,
            totals.missed,
            amount(totals.added_bytes)
        )
    };
    list(report.profiles.iter().map(one).collect());
    let full = |one: &Growing| {
        let lines = growth(one).into_iter().filter(|(name, _)| matches!(*name, "disk" | "cache" | "quota"));
        lines.map(|(name, value)| format!("{}: {name} {value}", one.name)).collect::<Vec<_>>()
    };
    list(report.repositories.iter().flat_map(full).collect());
    text
}

/// What it comes to, in a line.
pub fn gist(report: &Report) -> String {
    let attention = match report.attention.len() {
        0 => "nothing needs attention".to_owned(),
        1 => "1 thing needs attention".to_owned(),
        count => format!("{count} things need attention"),
    };
    format!("{} of {} runs good, {attention}", report.all.good, report.all.runs)
}

/// As Markdown.
pub fn markdown(report: &Report) -> String {
    let mut text = format!("# {}\n\nOn {}.\n", plain(&report.title), plain(&report.host));
    if !report.attention.is_empty() {
        text.push_str("\n## Look at this first\n\n");
        report.attention.iter().for_each(|one| text.push_str(&format!("- {}\n", plain(one))));
    }
    let table = |text: &mut String, lines: &[Line]| {
        text.push_str("\n| | |\n| --- | --- |\n");
        lines.iter().for_each(|(name, value)| text.push_str(&format!("| {name} | {} |\n", plain(value))));
    };
    text.push_str("\n## All profiles\n");
    table(&mut text, &all(report));
    for profile in &report.profiles {
        let _ = write!(text, "\n## {}\n", plain(&profile.name));
        table(&mut text, &lines(profile));
        if !profile.tables.is_empty() {
            text.push_str("\n| table | rows before | rows |\n| --- | --- | --- |\n");
        }
        for one in &profile.tables {
            let rows = |rows: Option<u64>| rows.map_or("-".to_owned(), |rows| rows.to_string());
            let name = plain(&format!("{} {}", one.source, one.name));
            let _ = writeln!(text, "| {name} | {} | {} |", rows(one.rows_before), rows(one.rows));
        }
        if profile.more_tables > 0 {
            let _ = writeln!(text, "\nAnd {} more tables.", profile.more_tables);
        }
    }
    for repository in &report.repositories {
        let _ = write!(text, "\n## Repository {}\n", plain(&repository.name));
        table(&mut text, &growth(repository));
    }
    text
}

/// What Markdown would take for a mark.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if "\\|*_<>[]#".contains(c) {
            plain.push('\\');
        }
        plain.push(if c.is_control() { ' ' } else { c });
    }
    plain
}

/// As CSV (RFC 4180): a line for each run, and one for each repository with a forecast, whose outcome is `forecast` and whose
/// day is the one that is guessed.
pub fn csv(report: &Report) -> String {
    let mut text =
        "profile,begun,outcome,duration_ms,content_bytes,added_bytes,repository_bytes,repository,least_bytes,\
                    most_bytes,full_earliest,full_likely\r\n"
            .to_owned();
    for profile in &report.profiles {
        for night in &profile.nights {
            let number = |number: Option<u64>| number.map_or(String::new(), |number| number.to_string());
            let cells = [
                cell(&profile.name),
                night.begun.clone(),
                night.outcome.to_owned(),
                number(night.duration_ms),
                number(night.content_bytes),
                number(night.added_bytes),
                number(night.repository_bytes),
                cell(&night.repository),
            ];
            let _ = write!(text, "{},,,,\r\n", cells.join(","));
        }
    }
    for repository in &report.repositories {
        let Some(forecast) = &repository.forecast else { continue };
        // The end that comes first: of the disk, of the cache's or of the quota.
        let ends = [&forecast.disk, &forecast.cache, &forecast.quota];
        let first = |day: fn(&Limit) -> Option<String>| ends.into_iter().flatten().filter_map(day).min();
        let _ = write!(
            text,
            ",{},forecast,,,,{},{},{},{},{},{}\r\n",
            forecast.date,
            forecast.likely_bytes,
            cell(&repository.name),
            forecast.least_bytes,
            forecast.most_bytes,
            first(|end| end.full_earliest.clone()).unwrap_or_default(),
            first(|end| end.full_likely.clone()).unwrap_or_default()
        );
    }
    text
}

/// Nothing in it is taken for a formula by a program of tables.
fn cell(text: &str) -> String {
    let text = if text.starts_with(['=', '+', '-', '@']) { format!("'{text}") } else { text.to_owned() };
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    }
}

/// As a page that looks the same in a mail: styles in the elements, charts within it.
pub fn html(report: &Report) -> String {
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title></head>\n\
         <body style=\"margin:0;padding:16px;background:#f4f5f7;font-family:-apple-system,'Segoe UI',Roboto,Helvetica,Arial,\
         sans-serif;color:#1d2430;font-size:14px;line-height:1.5\">\n<div style=\"max-width:640px;margin:0 auto\">\n\
         <h1 style=\"font-size:20px;margin:0 0 4px\">{title}</h1><div style=\"color:#5b6675\">on {host}</div>\n",
        title = escaped(&report.title),
        host = escaped(&report.host)
    );
    if !report.attention.is_empty() {
        page.push_str("<div style=\"margin:12px 0;padding:10px 14px;background:#fdecea;border-left:4px solid #c62828\"><b>Look at this first</b><ul style=\"margin:4px 0;padding-left:18px\">");
        report.attention.iter().for_each(|one| page.push_str(&format!("<li>{}</li>", escaped(one))));
        page.push_str("</ul></div>\n");
    }
    card(&mut page, "All profiles", &all(report), "");
    for profile in &report.profiles {
        let more = charts(profile) + &nights(profile) + &rows(profile);
        card(&mut page, &profile.name, &lines(profile), &more);
    }
    for repository in &report.repositories {
        card(&mut page, &format!("Repository {}", repository.name), &growth(repository), "");
    }
    page + "</div></body></html>\n"
}

fn rows(profile: &Profile) -> String {
    let mut rows: Vec<String> =
        profile.tables.iter().map(|table| format!("<li>{}</li>", escaped(&table_line(table)))).collect();
    if profile.more_tables > 0 {
        rows.push(format!("<li>and {} more</li>", profile.more_tables));
    }
    match rows.is_empty() {
        true => String::new(),
        false => format!(
            "<div style=\"margin-top:10px;color:#5b6675;font-size:12px\">Rows of tables</div>\
             <ul style=\"margin:4px 0;padding-left:18px\">{}</ul>\n",
            rows.concat()
        ),
    }
}

/// The runs as a table with bars of nothing but cells: what mail programs show that show no charts.
fn nights(profile: &Profile) -> String {
    if profile.nights.is_empty() {
        return String::new();
    }
    let newest = &profile.nights[profile.nights.len().saturating_sub(MOST_NIGHTS)..];
    let most = newest.iter().filter_map(|night| night.added_bytes).max().unwrap_or(0).max(1) as f64;
    let head = |title: &str| format!("<th align=\"left\" style=\"padding:2px 8px 2px 0;font-weight:400\">{title}</th>");
    let mut table = format!(
        "<table cellpadding=\"0\" cellspacing=\"0\" width=\"100%\" style=\"margin-top:10px;font-size:12px;color:#5b6675\"><tr>{}</tr>\n",
        ["Begun (UTC)", "Outcome", "Took", "Repository", "Added"].map(head).concat()
    );
    newest.iter().rev().for_each(|night| table.push_str(&night_row(night, most)));
    table + "</table>\n"
}

fn night_row(night: &Night, most: f64) -> String {
    let colour = if night.outcome == "done" { "#2e7d32" } else { "#c62828" };
    let bytes = |bytes: Option<u64>| bytes.map_or("-".to_owned(), amount);
    let width = (night.added_bytes.unwrap_or(0) as f64 / most * BAR).max(1.0) as u64;
    let bar = format!(
        "<span style=\"display:inline-block;width:{width}px;height:8px;background:{colour}\"></span> {}",
        bytes(night.added_bytes)
    );
    let begun = night.begun.get(..16).unwrap_or(&night.begun).replace('T', " ");
    let took = night.duration_ms.map_or("-".to_owned(), span);
    let outcome = format!("<span style=\"color:{colour}\">{}</span>", night.outcome);
    let cells = [begun, outcome, took, bytes(night.repository_bytes), bar];
    let cell = |text: String| format!("<td style=\"padding:2px 8px 2px 0;border-top:1px solid #eef0f3\">{text}</td>");
    format!("<tr>{}</tr>\n", cells.map(cell).concat())
}

fn card(page: &mut String, title: &str, lines: &[Line], more: &str) {
    let _ = writeln!(
        page,
        "<div style=\"background:#ffffff;border:1px solid #dfe3e8;border-radius:6px;padding:12px 16px;margin:12px 0\">\
         <div style=\"font-size:16px;font-weight:600\">{}</div><table role=\"presentation\" cellpadding=\"0\" cellspacing=\"0\" width=\"100%\" style=\"font-size:14px\">",
        escaped(title)
    );
    for (name, value) in lines {
        let _ = writeln!(
            page,
            "<tr><td style=\"padding:3px 12px 3px 0;color:#5b6675;border-top:1px solid #eef0f3;width:120px\">{name}</td>\
             <td style=\"padding:3px 0;border-top:1px solid #eef0f3\">{}</td></tr>",
            escaped(value)
        );
    }
    page.push_str("</table>\n");
    page.push_str(more);
    page.push_str("</div>\n");
}

fn charts(profile: &Profile) -> String {
    if profile.nights.is_empty() {
        return String::new();
    }
    let points = |value: fn(&super::summary::Night) -> Option<u64>| -> Vec<Point> {
        let point = |night: &super::summary::Night| Point {
            label: night.begun.get(..10).unwrap_or_default().to_owned(),
            value: value(night).map(|value| value as f64),
            good: night.outcome == "done",
        };
        profile.nights.iter().map(point).collect()
    };
    let charts = [
        ("Duration of each run", chart::bars("Duration", Unit::Time, &points(|night| night.duration_ms))),
        ("Added by each run", chart::bars("Added", Unit::Bytes, &points(|night| night.added_bytes))),
        (
            "Size of the repository",
            chart::line("Size of the repository", Unit::Bytes, &points(|night| night.repository_bytes)),
        ),
    ];
    let titled = |(title, svg): (&str, String)| {
        format!("<div style=\"margin-top:10px;color:#5b6675;font-size:12px\">{title}</div>{svg}\n")
    };
    charts.map(titled).concat()
}

fn all(report: &Report) -> Vec<Line> {
    let all = &report.all;
    vec![
        (
            "runs",
            format!(
                "{}: {} good, {} partial, {} failed, {} missed",
                all.runs, all.good, all.partial, all.failed, all.missed
            ),
        ),
        ("success", percent(all.success_percent)),
        ("duration", trend(&report.duration_ms, |ms| span(ms as u64))),
        ("added", amount(all.added_bytes)),
        (
            "freed",
            format!("{} on this machine, {} elsewhere", amount(all.freed_local_bytes), amount(all.freed_remote_bytes)),
        ),
    ]
}

fn lines(profile: &Profile) -> Vec<Line> {
    let totals = &profile.totals;
    let errors: Vec<String> = profile.errors.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    let mut lines = vec![
        (
            "runs",
            format!(
                "{}: {} good, {} partial, {} failed, {} missed",
                totals.runs, totals.good, totals.partial, totals.failed, totals.missed
            ),
        ),
        ("success", percent(totals.success_percent)),
        ("duration", trend(&profile.duration_ms, |ms| span(ms as u64))),
        ("content", trend(&profile.content_bytes, |bytes| amount(bytes as u64))),
        ("repository", trend(&profile.repository_bytes, |bytes| amount(bytes as u64))),
        ("added", amount(totals.added_bytes)),
        ("compression", trend(&profile.compression, |ratio| format!("{ratio:.1} to 1"))),
        ("dedup", trend(&profile.dedup, |ratio| format!("{ratio:.1} to 1"))),
        ("verified", checks(&profile.verify)),
        ("coverage", percent(profile.coverage_percent)),
        ("drills", checks(&profile.drills)),
        ("RPO", measured(&profile.rpo)),
        ("RTO", measured(&profile.rto)),
        ("availability", availability(profile)),
        ("safe since", profile.safe.clone().unwrap_or_else(|| "never".to_owned())),
        (
            "freed",
            format!(
                "{} on this machine, {} elsewhere",
                amount(totals.freed_local_bytes),
                amount(totals.freed_remote_bytes)
            ),
        ),
    ];
    if !errors.is_empty() {
        lines.push(("failures", errors.join(", ")));
    }
    lines
}

/// How a repository grows, and when something is full.
fn growth(one: &Growing) -> Vec<Line> {
    let Some(forecast) = &one.forecast else {
        return vec![("forecast", TooShort { have: one.measured_days }.to_string())];
    };
    let sign = if forecast.bytes_a_day < 0 { '-' } else { '+' };
    let mut lines = vec![
        ("now", amount(forecast.bytes)),
        ("growth", format!("{sign}{} a day", amount(forecast.bytes_a_day.unsigned_abs()))),
        (
            "forecast",
            format!(
                "{} on {}, {:.0} % of futures between {} and {}, by {}",
                amount(forecast.likely_bytes),
                forecast.date,
                forecast.level * 100.0,
                amount(forecast.least_bytes),
                amount(forecast.most_bytes),
                forecast.method
            ),
        ),
    ];
    let ends = [("disk", &forecast.disk), ("cache", &forecast.cache), ("quota", &forecast.quota)];
    lines.extend(ends.into_iter().filter_map(|(name, end)| Some((name, full(end.as_ref()?)))));
    lines
}

/// When something that has an end is full.
pub fn full(limit: &Limit) -> String {
    let left = amount(limit.left_bytes);
    match (&limit.full_earliest, &limit.full_likely) {
        (None, _) => format!("{left} left: not full within three years"),
        (Some(earliest), None) => {
            format!("{left} left: full on {earliest} at the earliest, likely not within three years")
        }
        (Some(earliest), Some(likely)) => format!("{left} left: full on {likely}, on {earliest} at the earliest"),
    }
}

fn percent(percent: Option<f64>) -> String {
    percent.map_or(UNKNOWN.to_owned(), |percent| format!("{percent:.1} %"))
}

fn trend(trend: &Trend, said: impl Fn(f64) -> String) -> String {
    match (trend.now, trend.change_percent) {
        (None, _) => UNKNOWN.to_owned(),
        (Some(now), None) => said(now),
        (Some(now), Some(change)) => format!("{} ({change:+.1} % against the time before)", said(now)),
    }
}

fn checks(checks: &Checks) -> String {
    match checks.all {
        0 => "none".to_owned(),
        all => format!("{} of {all} found nothing wrong, {}", checks.good, percent(checks.percent)),
    }
}

/// What is measured from the first run on says so.
fn availability(profile: &Profile) -> String {
    let since = profile.availability_since.as_ref().filter(|_| profile.availability_percent.is_some());
    let since = since.map_or(String::new(), |first| format!(" since its first run, {first}"));
    format!("{}{since}", percent(profile.availability_percent))
}

fn measured(measured: &Measured) -> String {
    let time = |ms: Option<u64>| ms.map_or(UNKNOWN.to_owned(), span);
    let met = match measured.met {
        Some(true) => ": met",
        Some(false) => ": NOT met",
        None => "",
    };
    let target = measured.target_ms.map_or(String::new(), |target| format!(", target {}{met}", span(target)));
    format!("{}{target}", time(measured.measured_ms))
}

fn table_line(table: &TableChange) -> String {
    let change = match (table.rows_before, table.rows) {
        (None, Some(rows)) => format!("new, {rows} rows"),
        (Some(before), None) => format!("gone, it had {before} rows"),
        (Some(before), Some(rows)) => {
            let sign = if rows >= before { '+' } else { '-' };
            format!("{before} -> {rows} rows ({sign}{})", before.abs_diff(rows))
        }
        (None, None) => String::new(),
    };
    format!("{} {}: {change}", table.source, table.name)
}
