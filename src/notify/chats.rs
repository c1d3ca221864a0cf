//! A message in the shape of each chat and service: pure functions to JSON, within the lengths that each of them takes.

use super::message::{Change, Message, Notice, Severity, State, shortened};
use super::text;
use serde_json::{Value, json};

/// Slack takes 3000 characters in a section and 150 in a header.
const SLACK_CHARACTERS: usize = 2900;
const SLACK_HEADER: usize = 148;
/// Discord takes 4096 characters in the description of an embed and 256 in its title.
const DISCORD_CHARACTERS: usize = 3800;
const DISCORD_TITLE: usize = 250;
/// Teams takes 28 KiB in all.
const TEAMS_CHARACTERS: usize = 15_000;
/// Telegram takes 4096 characters after it has read them.
const TELEGRAM_CHARACTERS: usize = 4000;
/// ntfy takes 4096 bytes; of more it makes a file.
const NTFY_BYTES: usize = 3900;
/// PagerDuty takes 1024 characters.
const PAGERDUTY_CHARACTERS: usize = 1000;

/// The text of a message without its first line, cut where it is too long.
fn rest(message: &Message, most: usize) -> String {
    let whole = text::short(message);
    let rest = whole.split_once('\n').map_or("", |(_, rest)| rest).trim();
    cut(rest, most)
}

fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(2)).collect();
    format!("{kept}\n…")
}

/// An incoming webhook of Slack.
pub fn slack(message: &Message) -> Value {
    let plain = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let title = plain(&message.title);
    // Escapes make it longer, and no quote may end the block.
    let rest = plain(&rest(message, SLACK_CHARACTERS - 400)).replace("```", "'''");
    json!({
        "text": title,
        "attachments": [{
            "color": format!("#{:06x}", message.state.colour()),
            "fallback": title,
            "blocks": [
                { "type": "header", "text": { "type": "plain_text", "text": shortened(message.title.clone(), SLACK_HEADER) } },
                { "type": "section", "text": { "type": "mrkdwn", "text": format!("```{}```", cut(&rest, SLACK_CHARACTERS)) } },
            ],
        }],
    })
}

/// An adaptive card for a workflow of Microsoft Teams.
pub fn teams(message: &Message) -> Value {
    let colour = match message.state {
        State::Critical => "Attention",
        State::Warning => "Warning",
        State::Ok | State::Recovered => "Good",
        State::Begun | State::Info | State::Test => "Accent",
    };
    let block = |text: String| json!({ "type": "TextBlock", "text": text, "wrap": true });
    let mut body = vec![json!({
        "type": "TextBlock", "text": message.title, "wrap": true, "size": "Medium", "weight": "Bolder", "color": colour,
    })];
    if message.body.is_some() {
        let own = rest(message, TEAMS_CHARACTERS);
        body.push(json!({ "type": "TextBlock", "text": own, "wrap": true, "fontType": "Monospace" }));
    }
    body.extend(message.notices.iter().map(|notice| block(text::line(notice, message.time))));
    let facts: Vec<Value> =
        message.facts().into_iter().map(|(name, value)| json!({ "title": name, "value": value })).collect();
    if !facts.is_empty() {
        body.push(json!({ "type": "FactSet", "facts": facts }));
    }
    body.push(block(format!("Next: {}", message.next)));
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "body": body,
            },
        }],
    })
}

/// A webhook of Discord. Nobody is called by what a message holds.
pub fn discord(message: &Message) -> Value {
    let rest = rest(message, DISCORD_CHARACTERS).replace("```", "'''");
    json!({
        "username": "Keepstone",
        "allowed_mentions": { "parse": [] },
        "embeds": [{
            "title": shortened(message.title.clone(), DISCORD_TITLE),
            "description": format!("```\n{rest}\n```"),
            "color": message.state.colour(),
            "timestamp": message.moment(),
        }],
    })
}

/// `sendMessage` of Telegram, as plain text: nothing in it is taken for a mark.
pub fn telegram(message: &Message, chat: &str) -> Value {
    let is_quiet = matches!(message.state, State::Ok | State::Info | State::Begun);
    json!({
        "chat_id": chat,
        "text": cut(&text::short(message), TELEGRAM_CHARACTERS),
        "link_preview_options": { "is_disabled": true },
        "disable_notification": is_quiet,
    })
}

/// A message to a topic of ntfy.
pub fn ntfy(message: &Message, topic: &str) -> Value {
    let (priority, tag) = match message.state {
        State::Critical => (5, "rotating_light"),
        State::Warning => (4, "warning"),
        State::Recovered | State::Ok => (3, "white_check_mark"),
        State::Begun | State::Info | State::Test => (3, "information_source"),
    };
    let mut rest = rest(message, NTFY_BYTES);
    while rest.len() > NTFY_BYTES {
        rest.pop();
    }
    json!({ "topic": topic, "title": message.title, "message": rest, "priority": priority, "tags": [tag] })
}

/// Events of PagerDuty: one for each alert, since each has an incident of its own that it opens and resolves. A good
/// night is none.
pub fn pagerduty(message: &Message, key: &str) -> Vec<Value> {
    let event = |rule: &str, action: &str, severity: Severity, summary: &str| {
        json!({
            "routing_key": key,
            "event_action": action,
            "dedup_key": format!("keepstone/{}/{}/{rule}", message.host, message.profile),
            "client": "Keepstone",
            "payload": {
                "summary": shortened(format!("{} on {}: {summary}", message.profile, message.host), PAGERDUTY_CHARACTERS),
                "source": message.host,
                "severity": severity.name(),
                "timestamp": message.moment(),
                "component": message.profile,
                "group": message.repository,
                "class": rule,
                "custom_details": message.json(),
            },
        })
    };
    let of_notice = |notice: &Notice| {
        let action = if notice.change == Change::Recovered { "resolve" } else { "trigger" };
        event(&notice.rule, action, notice.severity, &notice.text)
    };
    match message.state {
        State::Test => {
            ["trigger", "resolve"].map(|action| event("test", action, Severity::Info, "this is a test")).into()
        }
        _ => message.notices.iter().map(of_notice).collect(),
    }
}
