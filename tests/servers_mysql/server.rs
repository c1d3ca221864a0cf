//! A MariaDB server of our own: started once, never as root, gone with the test program.

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// What the server's root may log in with.
pub const PASSWORD: &str = "it's \"#\\ secret";

/// A running server.
pub struct Server {
    folder: PathBuf,
    port: u16,
    /// Holds the pipe whose end stops the server.
    _keeper: Child,
}

/// The server of this test program; nothing if there is none to start, which is said.
pub fn server() -> Option<&'static Server> {
    static SERVER: OnceLock<Result<Server, String>> = OnceLock::new();
    match SERVER.get_or_init(Server::start) {
        Ok(server) => Some(server),
        Err(reason) => {
            assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "{reason}");
            println!("skipped: {reason}");
            None
        }
    }
}

impl Server {
    fn start() -> Result<Server, String> {
        for program in ["mariadbd", "mariadb-install-db", "mariadb", "mariadb-dump"] {
            let found = path_of(program);
            found.ok_or_else(|| format!("no {program}: install mariadb-server"))?;
        }
        // It goes with the keeper, not with a value here: statics are never dropped.
        let folder = tempfile::Builder::new().prefix("ksmy").tempdir().map_err(|error| error.to_string())?.keep();
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).map_err(|error| error.to_string())?;
        let keeper = keeper(&folder, port.port())?;
        let server = Server { folder, port: port.port(), _keeper: keeper };
        server.wait()?;
        let password = PASSWORD.replace('\\', "\\\\").replace('\'', "''");
        server.root_without_password(&format!(
            "CREATE USER 'boss'@'%' IDENTIFIED BY '{password}'; GRANT ALL ON *.* TO 'boss'@'%' WITH GRANT OPTION"
        ));
        Ok(server)
    }

    fn wait(&self) -> Result<(), String> {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(60) {
            let asked = self.client().args(["-e", "SELECT 1"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
            if asked.is_ok_and(|status| status.success()) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        Err(format!("the MariaDB server does not start: {log}"))
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("s")
    }

    fn client(&self) -> Command {
        let mut command = Command::new("mariadb");
        command.arg("--no-defaults").arg("-S").arg(self.socket()).args(["-uroot", "--default-character-set=utf8mb4"]);
        command.args(["--batch", "--skip-column-names"]);
        command
    }

    fn root_without_password(&self, sql: &str) -> String {
        self.run(self.client(), sql)
    }

    fn run(&self, mut command: Command, sql: &str) -> String {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(sql.as_bytes()).unwrap();
        let ended = child.wait_with_output().unwrap();
        assert!(ended.status.success(), "{sql}: {}", String::from_utf8_lossy(&ended.stderr));
        String::from_utf8_lossy(&ended.stdout).into_owned()
    }

    /// Runs statements as root and answers with what the client prints.
    pub fn sql(&self, sql: &str) -> String {
        self.root_without_password(sql)
    }

    /// The same in a database.
    pub fn sql_in(&self, database: &str, sql: &str) -> String {
        let mut client = self.client();
        client.arg(format!("--database={database}"));
        self.run(client, sql)
    }

    /// Runs statements that fail, and answers with why.
    pub fn refused_in(&self, database: &str, sql: &str) -> String {
        let mut client = self.client();
        let mut child = client
            .arg(format!("--database={database}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(sql.as_bytes()).unwrap();
        let ended = child.wait_with_output().unwrap();
        assert!(!ended.status.success(), "{sql}");
        String::from_utf8_lossy(&ended.stderr).into_owned()
    }

    /// A database of this name, empty.
    pub fn fresh(&self, database: &str) {
        self.sql(&format!("DROP DATABASE IF EXISTS `{database}`; CREATE DATABASE `{database}` CHARACTER SET utf8mb4"));
    }

    /// What `mariadb-dump` itself says of a database, with everything in it.
    pub fn dumped(&self, database: &str) -> String {
        let mut command = Command::new("mariadb-dump");
        command.arg("--no-defaults").arg("-S").arg(self.socket()).args(["-uroot", "--skip-dump-date", "--hex-blob"]);
        command.args(["--routines", "--events", "--triggers", "--order-by-primary", "--default-character-set=utf8mb4"]);
        let ended = command.arg(database).output().unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        let text = String::from_utf8(ended.stdout).unwrap();
        text.lines().filter(|line| !line.starts_with("-- Host:")).map(|line| format!("{line}\n")).collect()
    }

    /// The URL of a database for the user `boss`, over TCP.
    pub fn url(&self, database: &str) -> String {
        self.url_of("boss", PASSWORD, database)
    }

    /// The certificate that the server shows to those who call it `localhost`; none if there is no openssl.
    pub fn certificate(&self) -> Option<PathBuf> {
        let path = self.folder.join("cert.pem");
        path.exists().then_some(path)
    }

    /// The URL of a database for another user.
    pub fn url_of(&self, user: &str, password: &str, database: &str) -> String {
        let encoded = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
        format!("mysql://{user}:{}@127.0.0.1:{}/{}", encoded(password), self.port, encoded(database))
    }
}

fn path_of(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join(program))
        .find(|path| path.exists())
}

/// A shell that makes and starts the server, and stops it and removes its folder when our end of the pipe closes: when
/// the test program ends, however it does.
fn keeper(folder: &Path, port: u16) -> Result<Child, String> {
    const SCRIPT: &str = r#"
        PATH=$PATH:/usr/sbin
        as=
        if [ "$(id -u)" = 0 ]; then
            user=mysql; id -u mysql >/dev/null 2>&1 || user=nobody
            chown "$user" . && chmod 755 .
            as="setpriv --reuid=$user --regid=$(id -g $user) --clear-groups"
        fi
        tls=
        if $as openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -days 2 \
            -keyout key.pem -out cert.pem >openssl.log 2>&1; then
            tls="--ssl-cert=$PWD/cert.pem --ssl-key=$PWD/key.pem"
        fi
        $as mariadb-install-db --no-defaults --auth-root-authentication-method=normal --datadir="$PWD/data" \
            --skip-test-db >install.log 2>&1
        $as mariadbd --no-defaults --datadir="$PWD/data" --socket="$PWD/s" --pid-file="$PWD/pid" --port="$1" \
            --bind-address=127.0.0.1 --innodb-buffer-pool-size=32M --innodb-log-file-size=8M \
            --innodb-flush-log-at-trx-commit=0 --log-bin="$PWD/data/bin" --server-id=1 --skip-name-resolve \
            --max-allowed-packet=64M --log-bin-trust-function-creators $tls >log 2>&1 &
        server=$!
        read -r _
        kill "$server"; wait "$server"
        cd / && rm -rf "$2"
    "#;
    let mut command = Command::new("sh");
    command.args(["-c", SCRIPT, "keeper"]).arg(port.to_string()).arg(folder).current_dir(folder);
    // A group of its own: who interrupts the tests at the terminal does not keep it from cleaning up.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().map_err(|error| error.to_string())
}
