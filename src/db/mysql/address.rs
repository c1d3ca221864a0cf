//! Where a MySQL or MariaDB server is and how to get in: URLs as people have them, and what the environment adds.
//!
//! An `Address` is made from a URL (`mysql://`, `mariadb://`, `mysql+pymysql://`, `jdbc:mariadb://`), from the name of a
//! database or from nothing. What it does not say comes from the environment, as with the client programs: `MYSQL_HOST`,
//! `MYSQL_TCP_PORT`, `MYSQL_UNIX_PORT`, `MYSQL_PWD`. Option files such as `~/.my.cnf` are left out unless the URL names
//! one (`?defaults-file=~/.my.cnf`): what a backup does must not hang on a file that somebody edits for something else.
//!
//! Whoever asks for TLS (`ssl=true`) gets a certificate that is verified; `ssl-mode=REQUIRED` says explicitly, in MySQL's
//! own words, that nobody looks at it.

use crate::base::{Kind, Secret};
use crate::db::tls::{self, Tls};
use crate::db::{Error, Result, Surroundings};
use std::path::{Path, PathBuf};

/// The port where nobody says another.
pub const DEFAULT_PORT: u16 = 3306;
/// The longest user name, password or path that goes into an option file, whose lines have at most 4096 bytes.
const MAX_VALUE_BYTES: usize = 1024;

/// What the words of `ssl-mode` and of other drivers mean. MariaDB's programs look at the host also where only the authority
/// is asked for.
fn tls_of(word: &str) -> Option<Tls> {
    Some(match word.to_ascii_lowercase().replace('-', "_").as_str() {
        "disabled" | "disable" | "false" | "0" | "off" | "no" => Tls::Disable,
        "preferred" | "prefer" => Tls::Prefer,
        "required" | "no_verify" | "trust" => Tls::Unverified,
        "verify_ca" => Tls::VerifyCa,
        "verify_identity" | "verify_full" | "true" | "1" | "on" | "yes" => Tls::VerifyFull,
        _ => return None,
    })
}

/// Where a server is, which database is meant and how to get in.
#[derive(Clone, Debug)]
pub struct Address {
    /// Host name or address; empty for the socket of this machine.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The socket, if one was named.
    pub socket: Option<PathBuf>,
    /// Whether TCP is meant even if the host is `localhost`, which client programs take for the socket otherwise.
    pub over_tcp: bool,
    /// The user to log in as; none if an option file says it.
    pub user: Option<String>,
    /// The database; empty if none was named.
    pub database: String,
    /// The password, if one was found.
    pub password: Option<Secret<String>>,
    /// How strict TLS is.
    pub tls: Tls,
    /// The authorities to trust: a file of certificates.
    pub root_certificate: Option<PathBuf>,
    /// Our own certificate and its key, if the server wants one.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// An option file that the client programs read first, on request.
    pub option_file: Option<PathBuf>,
    /// What somebody should know: parameters without a meaning here.
    pub notes: Vec<String>,
}

impl Address {
    /// From a URL, the name of a database, or nothing: then from `DATABASE_URL` if it is one of MySQL. Fails with
    /// `Usage` for what cannot be understood, and never repeats a password.
    pub fn parse(text: &str, surroundings: &Surroundings) -> Result<Address> {
        let text = match text.trim() {
            "" => surroundings.get("DATABASE_URL").filter(|url| authority(url).is_some()).unwrap_or_default(),
            text => text,
        };
        let mut address = Address::of_surroundings(surroundings)?;
        match authority(text) {
            Some(rest) => address.take_url(rest, surroundings)?,
            None if text.contains("://") => {
                let scheme = text.split("://").next().unwrap_or_default();
                return Err(usage(format!("{scheme}:// is no scheme of MySQL; write mysql://USER@HOST/DATABASE")));
            }
            None => address.database = text.to_owned(),
        }
        if address.user.is_none() && address.option_file.is_none() {
            address.user = surroundings.user.clone();
        }
        address.check()
    }

    fn of_surroundings(surroundings: &Surroundings) -> Result<Address> {
        let get = |name| surroundings.get(name).map(str::to_owned);
        let port = match surroundings.get("MYSQL_TCP_PORT") {
            Some(port) => port_of(port, "MYSQL_TCP_PORT")?,
            None => DEFAULT_PORT,
        };
        Ok(Address {
            host: get("MYSQL_HOST").unwrap_or_default(),
            port,
            socket: get("MYSQL_UNIX_PORT").map(PathBuf::from),
            over_tcp: false,
            user: None,
            database: String::new(),
            password: get("MYSQL_PWD").map(Secret::new),
            tls: Tls::Prefer,
            root_certificate: None,
            client_certificate: None,
            option_file: None,
            notes: Vec::new(),
        })
    }

    /// `[user[:password]@][host][:port][/database][?name=value&…]`. A password may hold `@`, `/` and `?` as it is.
    fn take_url(&mut self, rest: &str, surroundings: &Surroundings) -> Result<()> {
        let (login, rest, query) = parts(rest);
        let (place, database) = rest.split_once('/').unwrap_or((rest, ""));
        if let Some((user, password)) = login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
            self.user = filled(decoded(user, "the user's name")?).or(self.user.take());
            self.password = filled(decoded(password, "the password")?).map(Secret::new).or(self.password.take());
        }
        self.take_place(place)?;
        self.database = decoded(database.trim_end_matches('/'), "the database's name")?;
        let mut certificate = (None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or_else(|| usage("a parameter of the URL has no value"))?;
            let value = decoded(value, name)?;
            self.take_parameter(name, value, &mut certificate, surroundings)?;
        }
        self.client_certificate = match certificate {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((certificate, key)),
            _ => return Err(usage("ssl-cert and ssl-key belong together: name both")),
        };
        Ok(())
    }

    fn take_place(&mut self, place: &str) -> Result<()> {
        if place.contains(',') {
            return Err(usage("several hosts in one URL: name the one server to talk to"));
        }
        let (host, port) = match place.strip_prefix('[') {
            Some(bracketed) => bracketed
                .split_once(']')
                .map(|(host, port)| (host, port.trim_start_matches(':')))
                .ok_or_else(|| usage("`[` without `]` around an IPv6 address"))?,
            None => place.split_once(':').unwrap_or((place, "")),
        };
        if !host.is_empty() {
            self.host = decoded(host, "the host")?;
            // The environment's socket is not meant for a host that was named.
            self.socket = None;
            self.port = DEFAULT_PORT;
        }
        if !port.is_empty() {
            self.port = port_of(port, "the URL")?;
            self.over_tcp = true;
        }
        Ok(())
    }

    fn take_parameter(
        &mut self,
        said: &str,
        value: String,
        certificate: &mut (Option<PathBuf>, Option<PathBuf>),
        surroundings: &Surroundings,
    ) -> Result<()> {
        let path = |value: &str| at_home(value, surroundings);
        let name = said.to_ascii_lowercase().replace('_', "-");
        match name.as_str() {
            "socket" | "unix-socket" => self.socket = Some(path(&value)),
            "ssl-mode" | "sslmode" | "ssl" | "usessl" | "tls" => {
                self.tls = tls_of(&value).ok_or_else(|| {
                    let words = "DISABLED, PREFERRED, REQUIRED, VERIFY_CA, VERIFY_IDENTITY";
                    usage(format!("{name}={value} is unknown: say one of {words}"))
                })?;
            }
            "ssl-ca" | "ssl-root-cert" | "sslrootcert" => {
                self.root_certificate = Some(path(&value));
                if self.tls == Tls::Prefer {
                    self.tls = Tls::VerifyFull;
                }
            }
            "ssl-cert" => certificate.0 = Some(path(&value)),
            "ssl-key" => certificate.1 = Some(path(&value)),
            "ssl-verify-cert" | "ssl-verify-identity" if tls_of(&value) == Some(Tls::VerifyFull) => {
                self.tls = Tls::VerifyFull;
            }
            "user" => self.user = Some(value),
            "password" => self.password = Some(Secret::new(value)),
            "defaults-file" | "read-default-file" => self.option_file = Some(path(&value)),
            // How drivers write texts is their business: here all is UTF-8.
            "charset" | "characterencoding" | "servertimezone" | "parsetime" | "loc" => {}
            _ => match tls::misunderstood(said, "ssl-mode=VERIFY_IDENTITY, ssl-ca=FILE") {
                Some(complaint) => return Err(usage(complaint)),
                None => self.notes.push(format!("parameter {said} of the URL has no meaning here")),
            },
        }
        Ok(())
    }

    /// Values that no option file can hold are refused before one is written.
    fn check(self) -> Result<Address> {
        let paths = [&self.socket, &self.root_certificate, &self.option_file].into_iter().flatten();
        let paths = paths.chain(self.client_certificate.iter().flat_map(|(certificate, key)| [certificate, key]));
        let lengths = paths.map(|path| path.as_os_str().len());
        let texts = [Some(&self.host), self.user.as_ref(), self.password.as_ref().map(Secret::expose)];
        let lengths = lengths.chain(texts.into_iter().flatten().map(String::len));
        if lengths.max().unwrap_or(0) > MAX_VALUE_BYTES {
            return Err(usage(format!("a host, user, password or path has more than {MAX_VALUE_BYTES} bytes")));
        }
        let is_plain = |path: &Path| path.to_str().is_some_and(|path| !path.contains(['\n', '\r']));
        if self.option_file.as_deref().is_some_and(|path| !is_plain(path)) {
            return Err(usage("the path of the option file holds a line end or is not UTF-8"));
        }
        if let Some(file) = &self.option_file {
            // The client programs pass over one that they cannot read, and log in as somebody else.
            readable(file)
                .map_err(|error| usage(format!("cannot read the option file {}: {error}", file.display())))?;
        }
        Ok(self)
    }

    /// Whether the client programs will use a socket of this machine.
    pub fn is_socket(&self) -> bool {
        self.socket.is_some() || self.host.is_empty() || self.host == "localhost" && !self.over_tcp
    }

    /// Server and port for messages: `db.example:3306`, or the path of a socket, `localhost` for the usual one.
    pub fn server(&self) -> String {
        match (&self.socket, self.host.as_str()) {
            (Some(socket), _) => socket.display().to_string(),
            // Where the socket lies is the client programs' own knowledge.
            (None, _) if self.is_socket() => "localhost".to_owned(),
            (None, host) if host.contains(':') => format!("[{host}]:{}", self.port),
            (None, host) => format!("{host}:{}", self.port),
        }
    }

    /// Server and database for messages: `db.example:3306/shop`.
    pub fn label(&self) -> String {
        match self.database.as_str() {
            "" => self.server(),
            database => format!("{}/{database}", self.server()),
        }
    }

    /// The same server with another database.
    #[must_use]
    pub fn with_database(&self, database: impl Into<String>) -> Address {
        Address { database: database.into(), ..self.clone() }
    }

    /// A failure that names this server and, if one is meant, the database.
    pub fn error(&self, kind: Kind, message: impl Into<String>) -> Error {
        let error = Error::new(self.server(), kind, message);
        match self.database.as_str() {
            "" => error,
            database => error.database(database),
        }
    }
}

/// Whether `text` is a URL of MySQL or MariaDB.
pub fn is_url(text: &str) -> bool {
    authority(text.trim()).is_some()
}

/// What follows `://` if the scheme is one of ours.
fn authority(text: &str) -> Option<&str> {
    let (scheme, rest) = text.strip_prefix("jdbc:").unwrap_or(text).split_once("://")?;
    let scheme = scheme.split('+').next().unwrap_or_default().to_ascii_lowercase();
    ["mysql", "mysql2", "mariadb"].contains(&scheme.as_str()).then_some(rest)
}

/// Login, place with database, and query. A `?` in a password that is not escaped does not begin the query, nor does
/// an `@` in the query end the login.
fn parts(rest: &str) -> (Option<&str>, &str, &str) {
    let before_query = rest.split('?').next().unwrap_or_default();
    let end_of_login = match before_query.rfind('@') {
        Some(at) => Some(at),
        None if before_query.contains('/') => None,
        None => rest.rfind('@'),
    };
    let (login, rest) = end_of_login.map_or((None, rest), |at| (Some(&rest[..at]), &rest[at + 1..]));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    (login, rest, query)
}

fn readable(file: &Path) -> std::io::Result<()> {
    match std::fs::File::open(file)?.metadata()?.is_dir() {
        true => Err(std::io::ErrorKind::IsADirectory.into()),
        false => Ok(()),
    }
}

fn usage(message: impl Into<String>) -> Error {
    Error::new("MySQL address", Kind::Usage, message)
}

fn filled(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn port_of(text: &str, what: &str) -> Result<u16> {
    text.parse().map_err(|_| usage(format!("{what}: {text:?} is no port")))
}

fn at_home(path: &str, surroundings: &Surroundings) -> PathBuf {
    match (path.strip_prefix("~/"), &surroundings.home) {
        (Some(below), Some(home)) => home.join(below),
        _ => path.into(),
    }
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
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| malformed())?);
        rest = &after[2..];
    }
    match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text),
        Ok(_) => Err(usage(format!("{what} holds a zero byte"))),
        Err(_) => Err(usage(format!("{what} is not UTF-8"))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn surroundings() -> Surroundings {
        Surroundings { user: Some("me".into()), home: Some("/home/me".into()), ..Surroundings::default() }
    }

    fn parse(text: &str) -> Address {
        Address::parse(text, &surroundings()).unwrap()
    }

    fn password(address: &Address) -> Option<&str> {
        address.password.as_ref().map(|password| password.expose().as_str())
    }

    #[test]
    fn urls_are_understood_as_people_have_them() {
        let address = parse("mysql+pymysql://shop:p%40ss@db.example:3307/shop?charset=utf8mb4");
        assert_eq!(address.label(), "db.example:3307/shop");
        assert_eq!((address.user.as_deref(), password(&address)), (Some("shop"), Some("p@ss")));
        assert!(address.over_tcp && address.notes.is_empty());
        for url in ["mariadb://h/d", "mysql://h/d/", "jdbc:mariadb://h/d", "MYSQL://h:3306/d"] {
            assert_eq!(parse(url).label(), "h:3306/d", "{url}");
        }
        assert_eq!(parse("mysql://u:a/b@c@h/d").label(), "h:3306/d", "a password as it is");
        assert_eq!(password(&parse("mysql://u:c?d@h/d")), Some("c?d"));
        assert_eq!(parse("mysql://h/d?socket=/a@b").label(), "/a@b/d");
        assert_eq!(parse("mysql://[::1]:33/d").server(), "[::1]:33");
        assert_eq!(parse("shop").label(), "localhost/shop");
        assert_eq!(parse("mysql://localhost/shop").label(), "localhost/shop");
        assert_eq!(parse("mysql:///d%2Fe?socket=%7E/s").label(), "/home/me/s/d/e");
        assert_eq!(parse("mysql://h/d?colour=red").notes.len(), 1);
        for word in ["sl-mode", "sslmod", "ssl_mod", "requireSSL", "verify-tls"] {
            let url = format!("mysql://h/d?{word}=REQUIRED");
            let error = Address::parse(&url, &surroundings()).unwrap_err().to_string();
            assert!(error.contains(&format!("`{word}`")) && error.contains("about TLS"), "{error}");
            assert!(error.contains("ssl-mode=VERIFY_IDENTITY") && !error.contains("sslmode=verify-full"), "{error}");
        }
    }

    #[test]
    fn the_environment_says_what_the_url_does_not() {
        let surroundings = surroundings()
            .with("MYSQL_HOST", "there")
            .with("MYSQL_TCP_PORT", "3310")
            .with("MYSQL_PWD", "secret")
            .with("MYSQL_UNIX_PORT", "/run/s")
            .with("DATABASE_URL", "mysql://a@b/c");
        let parse = |text| Address::parse(text, &surroundings).unwrap();
        let address = parse("shop");
        assert_eq!((address.host.as_str(), address.port, password(&address)), ("there", 3310, Some("secret")));
        assert_eq!(address.server(), "/run/s");
        assert_eq!(address.user.as_deref(), Some("me"));
        assert_eq!(parse("mysql://else/x").label(), "else:3306/x");
        assert_eq!(parse("").label(), "b:3306/c");
    }

    #[test]
    fn who_asks_for_tls_gets_it_verified() {
        for (query, tls) in [
            ("", Tls::Prefer),
            ("ssl=true", Tls::VerifyFull),
            ("ssl-mode=REQUIRED", Tls::Unverified),
            ("ssl_mode=verify_ca", Tls::VerifyCa),
            ("ssl-ca=/ca.pem", Tls::VerifyFull),
            ("ssl-mode=DISABLED", Tls::Disable),
        ] {
            assert_eq!(parse(&format!("mysql://h/d?{query}")).tls, tls, "{query}");
        }
    }

    #[test]
    fn an_option_file_may_say_the_user_and_must_be_there() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join(".my.cnf"), "[client]\n").unwrap();
        let surroundings = Surroundings { home: Some(home.path().into()), ..surroundings() };
        let parse = |file: &str| Address::parse(&format!("mysql://h/d?defaults-file={file}"), &surroundings);
        assert!(parse("~/.my.cnf").unwrap().user.is_none());
        for file in ["~/nofile.cnf", "~/"] {
            let error = parse(file).unwrap_err();
            let named = home.path().join(file.trim_start_matches("~/"));
            assert!(error.kind() == Kind::Usage && error.message.contains(named.to_str().unwrap()), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_refused_without_repeating_a_password() {
        for bad in [
            "postgres://h/d",
            "mysql://u:hunter2%zz@h/d",
            "mysql://u:hunter2%00@h/d",
            "mysql://u:hunter2%ff@h/d",
            "mysql://u:hunter2@h:port/d",
            "mysql://u:hunter2@a,b/d",
            "mysql://u:hunter2@h/d?ssl=perhaps",
            "mysql://u:hunter2@h/d?ssl-cert=/c",
            "mysql://u:hunter2@h/d?flag",
        ] {
            let error = Address::parse(bad, &surroundings()).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage, "{bad}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        let long = format!("mysql://u:{}@h/d", "x".repeat(MAX_VALUE_BYTES + 1));
        assert!(Address::parse(&long, &surroundings()).is_err());
        assert!(!format!("{:?}", parse("mysql://u:hunter2@h/d")).contains("hunter2"));
    }
}
