//! The option file through which the client programs learn how to get in.
//!
//! It lies in memory and on no disk, is made anew for each session and is gone with it, also when we are killed. The
//! programs read it instead of every other option file, so that nothing that lies about on a machine changes a backup.

use super::tools::Family;
use super::{Address, Tls};
use crate::base::{Kind, MemoryFile, Secret};
use crate::db::Result;
use std::path::PathBuf;
use zeroize::Zeroize;

/// Where the authorities of the system lie, for client programs that do not know it by themselves.
const SYSTEM_AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
/// How long connecting may take, in seconds.
const CONNECT_SECONDS: u32 = 15;

/// An option file, gone when dropped.
pub(super) struct Login(MemoryFile);

impl Login {
    /// Writes one for the programs of `family`.
    pub fn write(address: &Address, family: Family) -> Result<Login> {
        let file = MemoryFile::new(options(address, family).expose().as_bytes());
        file.map(Login).map_err(|error| {
            let message = format!("cannot make the option file for the client program in memory: {error}");
            address.error(Kind::of_io(&error), message)
        })
    }

    /// What the programs are given to read.
    pub fn file(&self) -> &MemoryFile {
        &self.0
    }
}

/// The text of the file: first what the user's own file says, then what we know better.
fn options(address: &Address, family: Family) -> Secret<String> {
    let mut text = Secret::new(String::new());
    let mut line = |line: &str| {
        text.expose_mut().push_str(line);
        text.expose_mut().push('\n');
    };
    if let Some(file) = &address.option_file {
        line(&format!("!include {}", file.display()));
    }
    line("[client]");
    let mut option = |name: &str, value: &str| {
        let mut whole = format!("{name}={}", quoted(value));
        line(&whole);
        whole.zeroize();
    };
    if let Some(user) = &address.user {
        option("user", user);
    }
    if let Some(password) = &address.password {
        option("password", password.expose());
    }
    if let Some(socket) = &address.socket {
        option("socket", &socket.to_string_lossy());
        option("protocol", "socket");
    } else if !address.host.is_empty() {
        option("host", &address.host);
        option("port", &address.port.to_string());
        if !address.is_socket() {
            option("protocol", "tcp");
        }
    }
    // Not every program has it.
    option("loose-connect-timeout", &CONNECT_SECONDS.to_string());
    for (name, value) in tls_options(address, family) {
        option(name, &value);
    }
    text
}

fn tls_options(address: &Address, family: Family) -> Vec<(&'static str, String)> {
    if address.is_socket() {
        return Vec::new();
    }
    let mut options = Vec::new();
    let path = |path: &PathBuf| path.to_string_lossy().into_owned();
    match (family, address.tls) {
        (_, Tls::Prefer) => {}
        (Family::MariaDb, Tls::Disable) => options.push(("ssl", "0".to_owned())),
        (Family::MariaDb, tls) => {
            options.push(("ssl", "1".to_owned()));
            options.push(("ssl-verify-server-cert", u8::from(tls != Tls::Unverified).to_string()));
        }
        (Family::MySql, tls) => {
            let mode = match tls {
                Tls::Disable => "DISABLED",
                Tls::Prefer => "PREFERRED",
                Tls::Unverified => "REQUIRED",
                Tls::VerifyCa => "VERIFY_CA",
                Tls::VerifyFull => "VERIFY_IDENTITY",
            };
            options.push(("ssl-mode", mode.to_owned()));
        }
    }
    let verifies = matches!(address.tls, Tls::VerifyCa | Tls::VerifyFull);
    let system = || SYSTEM_AUTHORITIES.iter().map(PathBuf::from).find(|path| path.exists());
    let system = Some(()).filter(|()| verifies && family == Family::MySql).and_then(|()| system());
    if let Some(authorities) = address.root_certificate.as_ref().or(system.as_ref()) {
        options.push(("ssl-ca", path(authorities)));
    }
    if let Some((certificate, key)) = &address.client_certificate {
        options.push(("ssl-cert", path(certificate)));
        options.push(("ssl-key", path(key)));
    }
    options
}

/// In double quotes, as option files are read: backslashes escape.
fn quoted(value: &str) -> String {
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.push('"');
    for letter in value.chars() {
        match letter {
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::db::Surroundings;

    fn address(text: &str) -> Address {
        Address::parse(text, &Surroundings::default()).unwrap()
    }

    #[test]
    fn a_password_of_any_letters_is_in_the_file() {
        let login = Login::write(&address("mysql://u:p%22%23%5C@h/d"), Family::MariaDb).unwrap();
        let text = std::fs::read_to_string(login.file().path()).unwrap();
        assert!(text.contains(r##"password="p\"#\\""##), "{text}");
    }

    #[test]
    fn each_family_is_told_of_tls_in_its_own_words() {
        let text = |url, family| options(&address(url), family).expose().clone();
        assert!(text("mysql://h/d?ssl=true", Family::MySql).contains("ssl-mode=\"VERIFY_IDENTITY\""));
        assert!(text("mysql://h/d?ssl=true", Family::MariaDb).contains("ssl-verify-server-cert=\"1\""));
        assert!(text("mysql://h/d?ssl-mode=REQUIRED", Family::MariaDb).contains("ssl-verify-server-cert=\"0\""));
        assert!(!text("mysql://h/d", Family::MariaDb).contains("ssl"));
        assert!(text("mysql://h/d?ssl-ca=/a", Family::MariaDb).contains("ssl-ca=\"/a\""));
        assert!(text("mysql://localhost:3306/d", Family::MariaDb).contains("protocol=\"tcp\""));
        let file = tempfile::NamedTempFile::new().unwrap();
        let url = format!("mysql://h/d?defaults-file={}", file.path().display());
        let included = format!("!include {}\n", file.path().display());
        assert!(options(&address(&url), Family::MariaDb).expose().starts_with(&included));
    }
}
