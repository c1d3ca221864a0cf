//! Channels: the ways in which somebody is told.

use super::error::{Error, Result};
use super::http::{Client, Request};
use super::message::{Message, State};
use super::template::Template;
use super::{chats, mail, run, text};
use crate::base::Secret;
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

/// A way in which somebody is told.
#[derive(Clone, Debug)]
pub struct Channel {
    /// What the config calls it.
    pub name: String,
    /// Which.
    pub way: Way,
    /// Give up after so long.
    pub timeout: Duration,
    /// Authorities to trust too.
    pub authorities: Option<PathBuf>,
    /// Whether a server on another machine may be told without encryption.
    pub plain_http: bool,
}

/// The sorts of channels.
#[derive(Clone, Debug)]
pub enum Way {
    /// Mail.
    Mail(Mail),
    /// Any server that takes JSON.
    Webhook(Webhook),
    /// An incoming webhook of Slack.
    Slack,
    /// A workflow of Microsoft Teams.
    Teams,
    /// A webhook of Discord.
    Discord,
    /// A chat of Telegram.
    Telegram {
        /// Where its bots are talked to.
        server: String,
        /// The chat.
        chat: String,
    },
    /// A topic of ntfy.
    Ntfy,
    /// Events of PagerDuty.
    PagerDuty {
        /// Where events are taken.
        server: String,
    },
    /// Something that expects to be called every night, and tells somebody when it is not.
    Ping,
    /// A shell command.
    Command(String),
}

/// Mail.
#[derive(Clone, Debug)]
pub struct Mail {
    /// `HOST` or `HOST:PORT`.
    pub server: String,
    /// How the way to the server is encrypted.
    pub encryption: Encryption,
    /// Who sends it.
    pub from: String,
    /// Who gets it.
    pub to: Vec<String>,
    /// Who we are to the server.
    pub user: Option<String>,
}

/// How the way to a mail server is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// After a word in the clear; without it nothing is sent.
    StartTls,
    /// From the first byte on.
    Tls,
    /// Not at all.
    None,
}

/// Any server that takes JSON.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// `POST` or `PUT`.
    pub method: String,
    /// Its headers.
    pub headers: Vec<(String, String)>,
    /// The body; none for the message as it is.
    pub template: Option<Template>,
}

/// What of a channel is secret.
#[derive(Default)]
pub struct Secrets {
    /// Its address.
    pub url: Option<Secret<String>>,
    /// Its token, key or password.
    pub token: Option<Secret<String>>,
}

/// An address of mail, alone or with a name.
pub fn check_address(text: &str) -> Result<(), String> {
    mail::check_address(text)
}

/// The name of a server, with a port or without.
pub fn check_server(text: &str) -> Result<(), String> {
    let (host, port) = text.rsplit_once(':').unwrap_or((text, "25"));
    let is_host = !host.is_empty() && host.chars().all(|c| c.is_alphanumeric() || ".-_".contains(c));
    match is_host && port.parse::<u16>().is_ok_and(|port| port > 0) {
        true => Ok(()),
        false => Err(format!("`{text}` is not the name of a server: write smtp.example.org or smtp.example.org:587")),
    }
}

impl Mail {
    /// The server's host and port.
    pub fn address(&self) -> (String, u16) {
        let usual = match self.encryption {
            Encryption::StartTls => 587,
            Encryption::Tls => 465,
            Encryption::None => 25,
        };
        match self.server.rsplit_once(':').map(|(host, port)| (host, port.parse())) {
            Some((host, Ok(port))) => (host.to_owned(), port),
            _ => (self.server.clone(), usual),
        }
    }
}

impl Way {
    /// The table of the config that it stands in.
    pub fn name(&self) -> &'static str {
        match self {
            Way::Mail(_) => "mail",
            Way::Webhook(_) => "webhook",
            Way::Slack => "slack",
            Way::Teams => "teams",
            Way::Discord => "discord",
            Way::Telegram { .. } => "telegram",
            Way::Ntfy => "ntfy",
            Way::PagerDuty { .. } => "pagerduty",
            Way::Ping => "ping",
            Way::Command(_) => "command",
        }
    }
}

impl Channel {
    /// Sends a message; it was taken when this ends well.
    pub fn send(&self, message: &Message, secrets: &Secrets) -> Result<()> {
        let url = || secret(&secrets.url, "an address");
        let token = || secret(&secrets.token, "a token");
        match &self.way {
            Way::Mail(mail) => {
                mail::send(mail, secrets.token.as_ref(), self.timeout, self.authorities.as_deref(), message)
            }
            Way::Command(command) => run::send(command, self.timeout, message),
            Way::Webhook(webhook) => self.webhook(webhook, url()?, secrets.token.as_ref(), message),
            Way::Slack => self.post(url()?, &[], &chats::slack(message)),
            Way::Teams => self.post(url()?, &[], &chats::teams(message)),
            Way::Discord => self.post(url()?, &[], &chats::discord(message)),
            Way::Telegram { server, chat } => {
                let url = Secret::new(format!("{}/bot{}/sendMessage", server.trim_end_matches('/'), token()?));
                self.post(url.expose(), &[], &chats::telegram(message, chat))
            }
            Way::Ntfy => self.ntfy(url()?, secrets.token.as_ref(), message),
            Way::PagerDuty { server } => {
                let url = format!("{}/v2/enqueue", server.trim_end_matches('/'));
                chats::pagerduty(message, token()?).iter().try_for_each(|event| self.post(&url, &[], event))
            }
            Way::Ping => self.ping(url()?, message),
        }
    }

    fn post(&self, url: &str, headers: &[(&str, &str)], body: &Value) -> Result<()> {
        self.request("POST", url, headers, "application/json", body.to_string().as_bytes())
    }

    fn request(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        content_type: &str,
        body: &[u8],
    ) -> Result<()> {
        let client = Client::new(self.timeout, self.authorities.as_deref(), self.plain_http)?;
        client.send(&Request { method, url, headers: headers.to_vec(), content_type, body }).map(drop)
    }

    fn webhook(&self, webhook: &Webhook, url: &str, token: Option<&Secret<String>>, message: &Message) -> Result<()> {
        let body = webhook.template.as_ref().map_or_else(|| message.json(), |template| template.fill(message));
        let bearer = bearer(token);
        let mut headers: Vec<(&str, &str)> =
            webhook.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        headers.extend(bearer.as_ref().map(|bearer| ("authorization", bearer.expose().as_str())));
        self.request(&webhook.method, url, &headers, "application/json", body.to_string().as_bytes())
    }

    fn ntfy(&self, url: &str, token: Option<&Secret<String>>, message: &Message) -> Result<()> {
        let (server, topic) = url.trim_end_matches('/').rsplit_once('/').unwrap_or_default();
        if topic.is_empty() || server.ends_with('/') || server.is_empty() {
            return Err(Error::usage("the address of ntfy has no topic: write https://ntfy.sh/TOPIC"));
        }
        let bearer = bearer(token);
        let headers: Vec<(&str, &str)> =
            bearer.iter().map(|bearer| ("authorization", bearer.expose().as_str())).collect();
        self.post(&format!("{server}/"), &headers, &chats::ntfy(message, topic))
    }

    /// A night that has begun, that was good, or that was not. Other messages are no business of a ping.
    fn ping(&self, url: &str, message: &Message) -> Result<()> {
        let end = match (&message.night, message.state) {
            (_, State::Begun) => "/start",
            // The other addresses would turn a red check green, or a green one red.
            (_, State::Test) => "/log",
            (Some(night), _) if night.good => "",
            (Some(_), _) => "/fail",
            (None, _) => return Ok(()),
        };
        let url = Secret::new(match url.split_once('?') {
            Some((path, query)) => format!("{}{end}?{query}", path.trim_end_matches('/')),
            None => format!("{}{end}", url.trim_end_matches('/')),
        });
        self.request("POST", url.expose(), &[], "text/plain; charset=utf-8", text::text(message).as_bytes())
    }
}

fn bearer(token: Option<&Secret<String>>) -> Option<Secret<String>> {
    token.map(|token| Secret::new(format!("Bearer {}", token.expose())))
}

fn secret<'s>(secret: &'s Option<Secret<String>>, what: &str) -> Result<&'s str> {
    secret
        .as_ref()
        .map(|secret| secret.expose().as_str())
        .ok_or_else(|| Error::usage(format!("this channel has no {what}")))
}
