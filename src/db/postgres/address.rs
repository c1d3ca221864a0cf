//! Where a PostgreSQL server is and how to get in: URLs as people have them, and what the environment adds.
//!
//! An `Address` is complete: host, port, user, database, password, how strict TLS is. It is made from a URL
//! (`postgres://`, `postgresql://`, `postgresql+asyncpg://`, `jdbc:postgresql://`), from `key=value` pairs, from the
//! name of a database or from nothing, and takes what is missing from a service file, the environment, `.pgpass` and
//! the usual defaults, in that order, as `libpq` does. Secrets stay in `Secret`; nothing here prints them.
//!
//! One thing is stricter than `libpq`: whoever asks for TLS (`sslmode=require`, `ssl=true`) gets `verify-full`, since
//! a certificate that nobody looks at protects from nobody in the middle. `sslmode=no-verify` says so explicitly.

use super::hosts::SessionAttrs;
use super::lookup;
use crate::base::{Kind, Secret};
use crate::db::tls::{self, Tls};
use crate::db::{Error, Result, Surroundings};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The port where nobody says another.
pub const DEFAULT_PORT: u16 = 5432;
/// The most servers that one address may name.
const MOST_HOSTS: usize = 32;
/// How long connecting may take where nobody says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Where the sockets of Debian's and of upstream's servers lie.
const SOCKET_FOLDERS: [&str; 2] = ["/var/run/postgresql", "/tmp"];
/// What we call ourselves in the server's list of sessions.
const APPLICATION_NAME: &str = "keepstone";

/// As the words of `sslmode` and of other drivers' `ssl` say it.
fn tls_of(word: &str) -> Option<Tls> {
    Some(match word.to_ascii_lowercase().as_str() {
        "disable" | "false" | "0" | "off" => Tls::Disable,
        "allow" | "prefer" => Tls::Prefer,
        "no-verify" => Tls::Unverified,
        "verify-ca" => Tls::VerifyCa,
        "require" | "verify-full" | "true" | "1" | "on" => Tls::VerifyFull,
        _ => return None,
    })
}

/// Where a server is, which database is meant and how to get in.
#[derive(Clone, Debug)]
pub struct Address {
    /// Host name, IP address, or the folder of a socket: then it begins with `/`.
    pub host: String,
    /// The IP address to connect to if the name of the host is not to be looked up.
    pub host_address: Option<IpAddr>,
    /// Port; of a socket its number.
    pub port: u16,
    /// The role to log in as.
    pub user: String,
    /// The database.
    pub database: String,
    /// The password, if one was found.
    pub password: Option<Secret<String>>,
    /// How strict TLS is. Sockets are never encrypted.
    pub tls: Tls,
    /// The authorities to trust instead of the system's: a file of certificates.
    pub root_certificate: Option<PathBuf>,
    /// Our own certificate and its key, if the server wants one.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// Whether the password may only be proven over TLS, bound to its channel.
    pub require_channel_binding: bool,
    /// Options for the server's side of each session, as the URL gave them.
    pub options: Option<String>,
    /// What we call ourselves in the server's list of sessions.
    pub application_name: String,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// What somebody should know: parameters without a meaning here, a `.pgpass` that everybody can read.
    pub notes: Vec<String>,
    /// Other servers that may be meant, in their order, each without others of its own.
    pub others: Vec<Address>,
    /// What the server has to be.
    pub session_attrs: SessionAttrs,
}

impl Address {
    /// From a URL, `key=value` pairs or the name of a database; from `DATABASE_URL` and the other variables alone if
    /// `text` is empty. Fails with `Usage` for what cannot be understood, and never repeats a password.
    pub fn parse(text: &str, surroundings: &Surroundings) -> Result<Address> {
        let of_variable = || surroundings.get("DATABASE_URL").unwrap_or_default();
        let (text, note) = match text.trim() {
            "" if is_of_others(of_variable()) => ("", Some(passed_over(of_variable(), surroundings)?)),
            "" => (of_variable(), None),
            text => (text, None),
        };
        let said = parameters(text)?;
        let service = said.get("service").map(String::as_str).or(surroundings.get("PGSERVICE"));
        let of_service = service.map(|name| lookup::service(name, surroundings)).transpose()?.unwrap_or_default();
        let mut address = Found { said, of_service, surroundings }.address()?;
        address.notes.extend(note);
        Ok(address)
    }

    /// Server and port for messages: `db.example:5432`, `/var/run/postgresql:5432`.
    pub fn server(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// Server and database for messages: `db.example:5432/shop`.
    pub fn label(&self) -> String {
        format!("{}/{}", self.server(), self.database)
    }

    /// The same server with another database.
    #[must_use]
    pub fn with_database(&self, database: impl Into<String>) -> Address {
        Address { database: database.into(), ..self.clone() }
    }

    /// Whether it is a socket of this machine.
    pub fn is_socket(&self) -> bool {
        self.host.starts_with('/')
    }

    /// A failure that names this server.
    pub fn error(&self, kind: Kind, message: impl Into<String>) -> Error {
        Error::new(self.server(), kind, message)
    }

    /// A failure of client programs, as one of the database that they were wanted for.
    pub fn lacks_tools(&self, error: Error) -> Error {
        self.error(error.kind, error.message).database(&self.database).object("client programs")
    }
}

/// Whether something is a URL and none of PostgreSQL's.
fn is_of_others(text: &str) -> bool {
    !text.is_empty() && !is_url(text)
}

/// What is said of a `DATABASE_URL` of another family. With nothing else that leads anywhere it is a mistake.
fn passed_over(url: &str, surroundings: &Surroundings) -> Result<String> {
    // Never more of it: what follows may hold a password.
    let scheme = url.split_once("://").map_or("no scheme", |(scheme, _)| scheme);
    let what = format!("DATABASE_URL is no URL of PostgreSQL ({scheme})");
    match ["PGHOST", "PGHOSTADDR", "PGSERVICE", "PGDATABASE"].iter().find(|name| surroundings.get(name).is_some()) {
        Some(name) => Ok(format!("{what}: it was passed over, {name} counts")),
        None => Err(usage(format!("{what}, and nothing else says which database is meant: name it"))),
    }
}

/// Whether a URL or `key=value` words hold a password themselves.
pub fn says_password(text: &str) -> Result<bool> {
    Ok(parameters(text.trim())?.get("password").is_some_and(|password| !password.is_empty()))
}

fn is_url(text: &str) -> bool {
    scheme(text).is_some()
}

/// What follows `://` if the scheme is one of ours.
fn scheme(text: &str) -> Option<&str> {
    let (scheme, rest) = text.strip_prefix("jdbc:").unwrap_or(text).split_once("://")?;
    let scheme = scheme.split('+').next().unwrap_or_default().to_ascii_lowercase();
    ["postgres", "postgresql", "postgis", "pgsql", "psql"].contains(&scheme.as_str()).then_some(rest)
}

fn usage(message: impl Into<String>) -> Error {
    Error::new("PostgreSQL address", Kind::Usage, message)
}

/// Parameters by the names that `libpq` gives them.
type Parameters = BTreeMap<String, String>;

fn parameters(text: &str) -> Result<Parameters> {
    if let Some(rest) = scheme(text) {
        return parameters_of_url(rest);
    }
    if text.contains("://") {
        let scheme = text.split("://").next().unwrap_or_default();
        return Err(usage(format!("{scheme}:// is no scheme of PostgreSQL; write postgresql://USER@HOST/DATABASE")));
    }
    if text.contains('=') {
        return pairs(text);
    }
    Ok(Parameters::from_iter((!text.is_empty()).then(|| ("dbname".to_owned(), text.to_owned()))))
}

/// `[user[:password]@][host][:port][/database][?name=value&…]`, cut as `libpq` does.
fn parameters_of_url(rest: &str) -> Result<Parameters> {
    let (rest, query) = match (rest.find('/'), rest.rfind('@')) {
        // A `?` in an unescaped password is not the beginning of the query.
        (slash, Some(at)) if slash.is_none_or(|slash| at < slash) => {
            let query = rest[at..].find('?').map(|place| at + place);
            (&rest[..query.unwrap_or(rest.len())], query.map(|at| &rest[at + 1..]))
        }
        _ => rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query))),
    };
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, place) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let places = place.split(',').map(host_and_port).collect::<Result<Vec<_>>>()?;
    let (hosts, ports): (Vec<&str>, Vec<&str>) = places.into_iter().unzip();
    let ports = if ports.iter().all(|port| port.is_empty()) { String::new() } else { ports.join(",") };
    let host = hosts.join(",");
    let mut found = Parameters::new();
    for (name, value) in
        [("user", user), ("password", password), ("host", &host), ("port", &ports), ("dbname", database)]
    {
        if !value.is_empty() {
            found.insert(name.to_owned(), decoded(value, name)?);
        }
    }
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or_else(|| usage("a parameter of the URL has no value"))?;
        found.insert(decoded(name, "a parameter's name")?, decoded(value, name)?);
    }
    Ok(found)
}

fn host_and_port(place: &str) -> Result<(&str, &str)> {
    if let Some(bracketed) = place.strip_prefix('[') {
        let (host, port) = bracketed.split_once(']').ok_or_else(|| usage("`[` without `]` around an IPv6 address"))?;
        return Ok((host, port.trim_start_matches(':')));
    }
    Ok(place.split_once(':').unwrap_or((place, "")))
}

/// With `%41` as `A`. Does not repeat the value in its error: it may be a password.
fn decoded(text: &str, what: &str) -> Result<String> {
    let malformed = || usage(format!("{what} has a `%` without two hexadecimal digits; write `%25` for `%`"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok()).ok_or_else(malformed)?;
        let byte = u8::from_str_radix(digits, 16).map_err(|_| malformed())?;
        if byte == 0 {
            return Err(usage(format!("{what} holds a zero byte")));
        }
        bytes.push(byte);
        rest = &after[2..];
    }
    String::from_utf8(bytes).map_err(|_| usage(format!("{what} is not UTF-8")))
}

/// `name=value name='a value'` as in a connection string of `libpq`.
fn pairs(text: &str) -> Result<Parameters> {
    let mut found = Parameters::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or_else(|| usage("a word without `=` in the connection string"))?;
        let (value, after) = value(after.trim_start())?;
        found.insert(name.trim().to_owned(), value);
        rest = after.trim_start();
    }
    Ok(found)
}

/// The value at the beginning of `text`, and what follows it.
fn value(text: &str) -> Result<(String, &str)> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut letters = text.char_indices().skip(usize::from(quoted));
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => value.extend(letters.next().map(|(_, letter)| letter)),
            '\'' if quoted => return Ok((value, &text[at + 1..])),
            letter if !quoted && letter.is_whitespace() => return Ok((value, &text[at..])),
            letter => value.push(letter),
        }
    }
    if quoted { Err(usage("a quote in the connection string has no end")) } else { Ok((value, "")) }
}

/// Parameters that need no action here: those of other drivers' pools and statements, and those that we decide.
const WITHOUT_MEANING: [&str; 14] = [
    "service",
    "load_balance_hosts",
    "fallback_application_name",
    "client_encoding",
    "gssencmode",
    // TLS 1.2 or newer with the name of the host and without compression is all that there is here.
    "sslcompression",
    "sslnegotiation",
    "sslsni",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
];

/// The parameters that something is made of.
const KNOWN: [&str; 20] = [
    "host",
    "hostaddr",
    "port",
    "user",
    "dbname",
    "password",
    "passfile",
    "password_file",
    "sslmode",
    "ssl",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "channel_binding",
    "options",
    "application_name",
    "connect_timeout",
    "database",
    "username",
    "target_session_attrs",
];

/// Everything that was said, strongest first.
struct Found<'s> {
    said: Parameters,
    of_service: Parameters,
    surroundings: &'s Surroundings,
}

impl Found<'_> {
    fn get(&self, name: &str, variable: &str) -> Option<String> {
        let said = self.said.get(name).or_else(|| self.of_service.get(name)).map(String::as_str);
        said.filter(|value| !value.is_empty()).or_else(|| self.surroundings.get(variable)).map(str::to_owned)
    }

    /// The address of the first server that is named, with the others.
    fn address(self) -> Result<Address> {
        let list = |name: &str, variable: &str| -> Vec<String> {
            let text = self.get(name, variable).unwrap_or_default();
            text.split(',').map(|one| one.trim().to_owned()).collect()
        };
        let (hosts, addresses, ports) =
            (list("host", "PGHOST"), list("hostaddr", "PGHOSTADDR"), list("port", "PGPORT"));
        let count = hosts.len().max(addresses.len());
        if count > MOST_HOSTS {
            return Err(usage(format!("{count} hosts: {MOST_HOSTS} are the most that one address may name")));
        }
        let fits = |list: &[String]| list.len() == count || list == [""];
        if !fits(&hosts) || !fits(&addresses) || !(fits(&ports) || ports.len() == 1) {
            return Err(usage("several hosts want as many ports, or one for all of them, and as many `hostaddr`"));
        }
        let mut all = Vec::new();
        for at in 0..count {
            let of = |list: &[String]| list.get(at).or(list.first()).filter(|text| !text.is_empty()).cloned();
            all.push(self.one(of(&hosts), of(&addresses), of(&ports))?);
        }
        let mut first = all.remove(0);
        first.others = all;
        Ok(first)
    }

    fn one(&self, host: Option<String>, host_address: Option<String>, port: Option<String>) -> Result<Address> {
        let port = match port {
            Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or_else(|| {
                usage(format!("{port:?} is no port; a `/`, `:` or `@` in a password is written %2F, %3A, %40"))
            })?,
            None => DEFAULT_PORT,
        };
        let host_address = match host_address {
            Some(address) => Some(address.parse().map_err(|_| usage(format!("{address:?} is no IP address")))?),
            None => None,
        };
        let host = host.or(host_address.map(|address: IpAddr| address.to_string()));
        let host = host.unwrap_or_else(|| default_host(port));
        let user = self.get("user", "PGUSER").or_else(|| self.said.get("username").cloned());
        let user = user.or_else(|| self.surroundings.user.clone());
        let user = user.ok_or_else(|| usage("no user: write postgresql://USER@HOST/DATABASE or set PGUSER"))?;
        let database = self.get("dbname", "PGDATABASE").or_else(|| self.said.get("database").cloned());
        let mut address = Address {
            host_address,
            port,
            database: database.unwrap_or_else(|| user.clone()),
            user,
            password: None,
            tls: self.tls()?,
            root_certificate: self.root_certificate(),
            client_certificate: self.client_certificate()?,
            require_channel_binding: self.get("channel_binding", "PGCHANNELBINDING").as_deref() == Some("require"),
            options: self.said.get("options").cloned(),
            application_name: self.get("application_name", "PGAPPNAME").unwrap_or_else(|| APPLICATION_NAME.to_owned()),
            connect_timeout: self.connect_timeout()?,
            notes: self.notes()?,
            others: Vec::new(),
            session_attrs: self.session_attrs()?,
            host,
        };
        self.find_password(&mut address)?;
        Ok(address)
    }

    fn session_attrs(&self) -> Result<SessionAttrs> {
        let Some(word) = self.get("target_session_attrs", "PGTARGETSESSIONATTRS") else {
            return Ok(SessionAttrs::Any);
        };
        let known = "any, read-write, read-only, primary, standby or prefer-standby";
        SessionAttrs::of(&word).ok_or_else(|| usage(format!("target_session_attrs={word}: use {known}")))
    }

    fn tls(&self) -> Result<Tls> {
        let word = match self.said.get("ssl") {
            Some(word) if !self.said.contains_key("sslmode") => Some(word.clone()),
            _ => self.get("sslmode", "PGSSLMODE"),
        };
        let known = "disable, prefer, no-verify, verify-ca, verify-full, or require, which here means verify-full";
        let tls = |word: String| tls_of(&word).ok_or_else(|| usage(format!("sslmode={word}: use {known}")));
        Ok(word.map(tls).transpose()?.unwrap_or(Tls::Prefer))
    }

    /// The file that was named, or the one where `libpq` looks. `system` means the system's own.
    fn root_certificate(&self) -> Option<PathBuf> {
        match self.get("sslrootcert", "PGSSLROOTCERT") {
            Some(path) if path == "system" => None,
            Some(path) => Some(path.into()),
            None => self.usual("root.crt"),
        }
    }

    /// A file where `libpq` looks for it, if it is there.
    fn usual(&self, name: &str) -> Option<PathBuf> {
        let usual = self.surroundings.home.as_ref()?.join(".postgresql").join(name);
        usual.exists().then_some(usual)
    }

    /// Each of the two that is not named is looked for where `libpq` looks.
    fn client_certificate(&self) -> Result<Option<(PathBuf, PathBuf)>> {
        let found = |word, variable, name| self.get(word, variable).map(PathBuf::from).or_else(|| self.usual(name));
        let key = || found("sslkey", "PGSSLKEY", "postgresql.key");
        match found("sslcert", "PGSSLCERT", "postgresql.crt") {
            Some(certificate) => match key() {
                Some(key) => Ok(Some((certificate, key))),
                None => Err(usage(format!("{} has no key: name it with sslkey=FILE", certificate.display()))),
            },
            None => match self.get("sslkey", "PGSSLKEY") {
                Some(key) => Err(usage(format!("{key} has no certificate: name it with sslcert=FILE"))),
                None => Ok(None),
            },
        }
    }

    /// Zero and negative numbers mean for ever to `libpq`; here somebody waits, so they mean the default.
    fn connect_timeout(&self) -> Result<Duration> {
        let Some(seconds) = self.get("connect_timeout", "PGCONNECT_TIMEOUT") else { return Ok(CONNECT_TIMEOUT) };
        let seconds: i64 =
            seconds.parse().map_err(|_| usage(format!("connect_timeout={seconds} is no number of seconds")))?;
        Ok(if seconds > 0 { Duration::from_secs(seconds.unsigned_abs()) } else { CONNECT_TIMEOUT })
    }

    /// What has no meaning here; a word that may have been meant to demand TLS is refused.
    fn notes(&self) -> Result<Vec<String>> {
        let unknown = self.said.keys().filter(|name| !KNOWN.contains(&name.as_str()));
        let unknown = unknown.filter(|name| !WITHOUT_MEANING.contains(&name.as_str()));
        let note = |name: &String| match tls::misunderstood(name, "sslmode=verify-full, sslrootcert=FILE") {
            Some(complaint) => Err(usage(complaint)),
            None => Ok(format!("the parameter `{name}` of the address has no meaning here")),
        };
        unknown.map(note).collect()
    }

    /// From the address, a file that holds nothing else, the environment or `.pgpass`.
    fn find_password(&self, address: &mut Address) -> Result<()> {
        let said = self.said.get("password").or_else(|| self.of_service.get("password"));
        let file = self.said.get("password_file").or_else(|| self.of_service.get("password_file"));
        let file = file.map(String::as_str).or(self.surroundings.get("PGPASSWORD_FILE"));
        address.password = match (said, self.surroundings.get("PGPASSWORD"), file) {
            (Some(password), _, _) => Some(Secret::new(password.clone())),
            (None, _, Some(file)) => Some(lookup::password_file(Path::new(file))?),
            (None, Some(password), None) => Some(Secret::new(password.to_owned())),
            (None, None, None) => {
                let named = self.get("passfile", "PGPASSFILE").map(PathBuf::from);
                let usual = || self.surroundings.home.as_ref().map(|home| home.join(".pgpass"));
                match named.or_else(usual) {
                    Some(file) => lookup::pgpass(&file, address)?,
                    None => None,
                }
            }
        };
        Ok(())
    }
}

/// The folder where the server's socket lies, or this machine if there is none.
fn default_host(port: u16) -> String {
    let has_socket = |folder: &&&str| Path::new(folder).join(format!(".s.PGSQL.{port}")).exists();
    SOCKET_FOLDERS.iter().find(has_socket).map_or("localhost", |folder| folder).to_owned()
}

/// Whether a host is where `libpq` looks for sockets: `.pgpass` calls it `localhost`.
pub(super) fn is_default_socket_folder(host: &str) -> bool {
    SOCKET_FOLDERS.contains(&host)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn nobody() -> Surroundings {
        Surroundings { user: Some("nobody".into()), ..Surroundings::default() }
    }

    fn parse(text: &str) -> Address {
        Address::parse(text, &nobody()).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn password(address: &Address) -> Option<&str> {
        address.password.as_ref().map(|password| password.expose().as_str())
    }

    #[test]
    fn urls_are_understood_as_people_have_them() {
        for text in [
            "postgres://ann:pw@db.example:6543/shop",
            "postgresql://ann:pw@db.example:6543/shop",
            "postgresql+asyncpg://ann:pw@db.example:6543/shop",
            "postgresql+psycopg2://ann:pw@db.example:6543/shop",
            "jdbc:postgresql://db.example:6543/shop?user=ann&password=pw",
            "postgresql:///shop?host=db.example&port=6543&user=ann&password=pw",
            "host=db.example port=6543 user=ann password='pw' dbname = shop",
        ] {
            let address = parse(text);
            assert_eq!((address.host.as_str(), address.port), ("db.example", 6543), "{text}");
            assert_eq!((address.user.as_str(), address.database.as_str()), ("ann", "shop"), "{text}");
            assert_eq!(password(&address), Some("pw"), "{text}");
            assert_eq!(address.label(), "db.example:6543/shop");
            assert!(!format!("{address:?}").contains("pw"), "{address:?}");
        }
    }

    #[test]
    fn a_misspelt_demand_of_tls_is_not_passed_over() {
        for word in ["sslmod", "sslmdoe", "ssl_mode", "ssmode", "sslcrl", "usetls"] {
            let error = Address::parse(&format!("postgres://h/d?{word}=require"), &nobody()).unwrap_err().to_string();
            assert!(error.contains(&format!("`{word}`")) && error.contains("about TLS"), "{error}");
        }
        let address = parse("postgres://h/d?sslsni=1&ssl_min_protocol_version=TLSv1.2&sslcompression=0&schema=public");
        assert_eq!(address.notes, ["the parameter `schema` of the address has no meaning here"]);
    }

    #[test]
    fn odd_passwords_and_names_come_through() {
        let address = parse("postgres://a%40b:p%2Fq#r?s@t@[::1]:7/%C3%A9%20x?application_name=y");
        assert_eq!(password(&address), Some("p/q#r?s@t"));
        assert_eq!((address.user.as_str(), address.database.as_str()), ("a@b", "é x"));
        assert_eq!(address.server(), "[::1]:7");
        assert_eq!(address.application_name, "y");
        let address = parse(r"user='it\'s' password=a\ b dbname=''");
        assert_eq!((address.user.as_str(), address.database.as_str()), ("it's", "it's"));
        assert_eq!(password(&address), Some("a b"));
        let socket = parse("postgresql://%2Fvar%2Fsock:5433/shop");
        assert!(socket.is_socket());
        assert_eq!(socket.server(), "/var/sock:5433");
    }

    #[test]
    fn what_is_missing_comes_from_the_surroundings_and_what_is_said_is_stronger() {
        let around = nobody().with("PGHOST", "h").with("PGPORT", "1").with("PGUSER", "u").with("PGDATABASE", "d");
        let around = around.with("PGPASSWORD", "p").with("PGSSLMODE", "disable");
        let address = Address::parse("", &around).unwrap();
        assert_eq!((address.label().as_str(), address.user.as_str(), address.tls), ("h:1/d", "u", Tls::Disable));
        assert_eq!(password(&address), Some("p"));
        assert_eq!(Address::parse("shop", &around).unwrap().label(), "h:1/shop");
        assert_eq!(Address::parse("postgres://x/y", &around).unwrap().label(), "x:1/y");
        let around = around.with("DATABASE_URL", "postgres://z/w");
        assert_eq!(Address::parse("", &around).unwrap().label(), "z:1/w");
        let around = around.with("DATABASE_URL", "mysql://z/w");
        let address = Address::parse("", &around).unwrap();
        assert_eq!(address.label(), "h:1/d");
        assert_eq!(address.notes, ["DATABASE_URL is no URL of PostgreSQL (mysql): it was passed over, PGHOST counts"]);
        let error = Address::parse("", &nobody().with("DATABASE_URL", "mysql://z:hush@h/w")).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        assert!(error.to_string().contains("no URL of PostgreSQL (mysql)") && !error.to_string().contains("hush"));
        assert_eq!(parse("postgres://h").database, "nobody");
    }

    #[test]
    fn who_asks_for_tls_gets_it_verified_unless_they_say_otherwise() {
        for (text, tls) in [
            ("postgres://h/d", Tls::Prefer),
            ("postgres://h/d?sslmode=require", Tls::VerifyFull),
            ("postgres://h/d?ssl=true", Tls::VerifyFull),
            ("postgresql+asyncpg://h/d?ssl=require", Tls::VerifyFull),
            ("postgres://h/d?sslmode=verify-ca", Tls::VerifyCa),
            ("postgres://h/d?sslmode=no-verify", Tls::Unverified),
            ("postgres://h/d?ssl=false", Tls::Disable),
            ("postgres://h/d?ssl=true&sslmode=verify-ca", Tls::VerifyCa),
        ] {
            assert_eq!(parse(text).tls, tls, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_without_its_password() {
        for text in [
            "mysql://ann:hush@h/d",
            "postgres://ann:hush@a:1,b:2,c:x/d",
            "host=a,b port=1,2,3 password=hush",
            "host=a,b hostaddr=10.0.0.1 password=hush",
            "postgres://ann:hush@h/d?target_session_attrs=master",
            "postgres://ann:hush@h:port/d",
            "postgres://ann:hush@h:70000/d",
            "postgres://ann:hush%zz@h/d",
            "postgres://ann:hush%00@h/d",
            "postgres://ann:hush@h/d?sslmode=maybe",
            "postgres://ann:hush@h/d?x",
            "postgres://ann:hush@[::1/d",
            "password='hush",
            "password=hush host",
            "postgres://ann:hush@h/d?sslcert=x",
            "postgres://ann:hush@h/d?sslkey=x",
        ] {
            let error = Address::parse(text, &nobody()).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage, "{text}");
            assert!(!error.to_string().contains("hush"), "{error}");
        }
        assert!(Address::parse("postgres://h/d", &Surroundings::default()).is_err(), "there is no user");
    }

    #[test]
    fn several_servers_each_have_their_port() {
        let servers = |text: &str| {
            let first = parse(text);
            let all: Vec<String> = std::iter::once(&first).chain(&first.others).map(Address::server).collect();
            (all.join(" "), first.session_attrs)
        };
        let primary = SessionAttrs::Primary;
        assert_eq!(
            servers("postgres://a:1,[::1]:2,b/d?target_session_attrs=primary"),
            ("a:1 [::1]:2 b:5432".into(), primary)
        );
        assert_eq!(servers("host=a,b port=7"), ("a:7 b:7".into(), SessionAttrs::Any));
        assert_eq!(servers("host=a,b port=7,8 dbname=d"), ("a:7 b:8".into(), SessionAttrs::Any));
    }

    #[test]
    fn parameters_of_other_drivers_are_named_and_do_no_harm() {
        let address = parse("postgres://h/d?pgbouncer=true&schema=public&connect_timeout=3");
        assert_eq!(address.notes.len(), 2, "{:?}", address.notes);
        assert_eq!(address.connect_timeout, Duration::from_secs(3));
    }

    #[test]
    fn certificates_are_found_where_libpq_looks() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join(".postgresql");
        std::fs::create_dir(&folder).unwrap();
        let around = Surroundings { home: Some(home.path().into()), ..nobody() };
        let found = |text: &str| Address::parse(text, &around).map(|address| address.client_certificate);
        assert_eq!(found("postgres://h/d").unwrap(), None);
        std::fs::write(folder.join("postgresql.crt"), "").unwrap();
        assert!(found("postgres://h/d").unwrap_err().to_string().contains("postgresql.crt has no key"));
        std::fs::write(folder.join("postgresql.key"), "").unwrap();
        let usual = Some((folder.join("postgresql.crt"), folder.join("postgresql.key")));
        assert_eq!(found("postgres://h/d").unwrap(), usual);
        let other = Some((PathBuf::from("/my.crt"), folder.join("postgresql.key")));
        assert_eq!(found("postgres://h/d?sslcert=/my.crt").unwrap(), other);
        let named = Some((PathBuf::from("/my.crt"), PathBuf::from("/my.key")));
        assert_eq!(found("postgres://h/d?sslcert=/my.crt&sslkey=/my.key").unwrap(), named);
    }

    #[test]
    fn services_and_password_files_are_found() {
        let home = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str, mode: u32| {
            let path = home.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        write(".pg_service.conf", "# mine\n[other]\nhost=x\n\n[shop]\nhost=h\nport=7\ndbname=d\nuser=u\n", 0o644);
        write(".pgpass", "# mine\nx:*:*:*:wrong\nh:7:d:u:a\\:b\n*:*:*:*:any\n", 0o600);
        let around = Surroundings { home: Some(home.path().into()), ..nobody() };
        let address = Address::parse("service=shop", &around).unwrap();
        assert_eq!((address.label().as_str(), password(&address)), ("h:7/d", Some("a:b")));
        let address = Address::parse("", &around.clone().with("PGSERVICE", "shop")).unwrap();
        assert_eq!(address.label(), "h:7/d");
        assert_eq!(password(&Address::parse("postgres://y/z", &around).unwrap()), Some("any"));
        assert!(Address::parse("service=none", &around).unwrap_err().to_string().contains("none"));

        write(".pgpass", "*:*:*:*:any\n", 0o644);
        let address = Address::parse("postgres://y/z", &around).unwrap();
        assert_eq!(password(&address), None);
        assert!(address.notes[0].contains("chmod 600"), "{:?}", address.notes);

        let file = write("secret", "s p\n", 0o600);
        let address = Address::parse(&format!("host=h password_file={}", file.display()), &around).unwrap();
        assert_eq!(password(&address), Some("s p"));
    }
}
