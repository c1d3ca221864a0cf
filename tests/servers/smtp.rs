//! A mail server that takes mails and keeps them: with STARTTLS, with a password, and with a certificate that openssl
//! makes for it.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

/// An authority, and a certificate for `localhost` that it signed.
const MAKE_CERTIFICATE: &str = "
printf 'subjectAltName=DNS:localhost\\n' >names &&
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=authority -keyout ca.key -out ca.crt &&
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout tls.key -out tls.csr &&
openssl x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -extfile names -out tls.crt";

/// A mail as it came.
#[derive(Clone, Debug, Default)]
pub struct Mail {
    /// Who sent it.
    pub from: String,
    /// Who gets it.
    pub to: Vec<String>,
    /// Headers and body.
    pub data: String,
    /// Whether it came encrypted.
    pub encrypted: bool,
    /// What was said to log in.
    pub login: Option<String>,
}

/// At work until the test program ends.
pub struct Smtp {
    /// Where it listens.
    pub port: u16,
    /// The authority that signed its certificate.
    pub authority: PathBuf,
    mails: Arc<Mutex<Vec<Mail>>>,
}

impl Smtp {
    /// Starts one whose certificate lies in `folder`; none without openssl.
    pub fn start(folder: &Path) -> Option<Smtp> {
        let made = Command::new("sh").args(["-c", MAKE_CERTIFICATE]).current_dir(folder).output().unwrap();
        if !made.status.success() {
            println!("skipped: there is no openssl to make a certificate with");
            return None;
        }
        let certificates: Vec<_> =
            CertificateDer::pem_file_iter(folder.join("tls.crt")).unwrap().collect::<Result<_, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_file(folder.join("tls.key")).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let config = Arc::new(config.with_single_cert(certificates, key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mails: Arc<Mutex<Vec<Mail>>> = Arc::default();
        let kept = mails.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (config, kept) = (config.clone(), kept.clone());
                // Who does not trust us hangs up.
                std::thread::spawn(move || drop(serve(client, config, &kept)));
            }
        });
        Some(Smtp { port, authority: folder.join("ca.crt"), mails })
    }

    /// The mails that came so far.
    pub fn mails(&self) -> Vec<Mail> {
        self.mails.lock().unwrap().clone()
    }
}

fn serve(mut client: TcpStream, config: Arc<ServerConfig>, kept: &Mutex<Vec<Mail>>) -> io::Result<()> {
    client.write_all(b"220 localhost at your service\r\n")?;
    if talk(&mut client, false, kept)? {
        let connection = ServerConnection::new(config).map_err(io::Error::other)?;
        talk(&mut StreamOwned::new(connection, client), true, kept)?;
    }
    Ok(())
}

/// Takes mails; ends early, with `true`, when the client wants to go on encrypted.
fn talk(client: &mut (impl Read + Write), encrypted: bool, kept: &Mutex<Vec<Mail>>) -> io::Result<bool> {
    let mut mail = Mail { encrypted, ..Mail::default() };
    loop {
        let line = line(client)?;
        let (word, rest) = line.split_once([' ', ':']).unwrap_or((&line, ""));
        let answer = match word.to_ascii_uppercase().as_str() {
            "EHLO" if encrypted => "250-localhost\r\n250-AUTH PLAIN\r\n250 8BITMIME",
            "EHLO" => "250-localhost\r\n250 STARTTLS",
            "STARTTLS" => {
                client.write_all(b"220 go ahead\r\n")?;
                return Ok(true);
            }
            "AUTH" => {
                mail.login = Some(rest.to_owned());
                "235 welcome"
            }
            "MAIL" => {
                mail.from = rest.to_owned();
                "250 fine"
            }
            "RCPT" => {
                mail.to.push(rest.to_owned());
                "250 fine"
            }
            "DATA" => {
                client.write_all(b"354 end with a dot\r\n")?;
                mail.data = data(client)?;
                kept.lock().unwrap().push(mail.clone());
                "250 taken"
            }
            "QUIT" => {
                client.write_all(b"221 bye\r\n")?;
                return Ok(false);
            }
            "NOOP" | "RSET" => "250 fine",
            _ => "502 what?",
        };
        client.write_all(format!("{answer}\r\n").as_bytes())?;
    }
}

fn data(client: &mut impl Read) -> io::Result<String> {
    let mut data = String::new();
    loop {
        match line(client)?.as_str() {
            "." => return Ok(data),
            line => data.push_str(&format!("{}\n", line.strip_prefix('.').unwrap_or(line))),
        }
    }
}

/// A line without its end; byte by byte, so that nothing of what follows it is taken.
fn line(client: &mut impl Read) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\r\n") {
        client.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    line.truncate(line.len() - 2);
    Ok(String::from_utf8_lossy(&line).into_owned())
}
