//! A message as plain text.

use super::message::{Change, Message, Notice, Severity};
use crate::base::clock::span;

/// The whole message.
pub fn text(message: &Message) -> String {
    let mut text = format!("{}\n", message.title);
    if let Some(body) = &message.body {
        return format!("{text}\n{}", body.text);
    }
    if !message.notices.is_empty() {
        text.push_str("\nAlerts\n");
        for notice in &message.notices {
            text.push_str(&format!("  {}\n", line(notice, message.time)));
            if notice.change != Change::Recovered {
                text.push_str(&format!("           next: {}\n", notice.next));
            }
        }
    }
    let facts = message.facts();
    if !facts.is_empty() {
        text.push_str("\nThe night\n");
        facts.iter().for_each(|(name, value)| text.push_str(&format!("  {name:<10} {value}\n")));
    }
    for (number, problem) in message.night.iter().flat_map(|night| &night.problems).enumerate() {
        text.push_str(if number == 0 { "\nProblems\n" } else { "" });
        text.push_str(&format!("  {problem}\n"));
    }
    text.push_str(&format!("\nNext       {}\nMessage    {} of {}\n", message.next, message.id, message.moment()));
    text
}

/// The same for a chat: of what was made elsewhere only a few lines.
pub fn short(message: &Message) -> String {
    match message.body.as_ref().and_then(|body| body.short.as_ref()) {
        Some(short) => format!("{}\n\n{short}", message.title),
        None => text(message),
    }
}

/// A notice in one line.
pub fn line(notice: &Notice, now: i64) -> String {
    let lasted = span(u64::try_from(now - notice.since).unwrap_or(0) * 1000);
    let word = match (notice.change, notice.severity) {
        (Change::Recovered, _) => return format!("RECOVERED {}: {} (it lasted {lasted})", notice.rule, notice.text),
        (_, Severity::Critical) => "CRITICAL",
        (_, Severity::Warning) => "WARNING ",
        (_, Severity::Info) => "INFO    ",
    };
    let since = match notice.change {
        Change::Still | Change::Worse => format!(" ({} for {lasted})", notice.change.name()),
        _ => String::new(),
    };
    format!("{word} {}: {}{since}", notice.rule, notice.text)
}
