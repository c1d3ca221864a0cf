//! A MariaDB server of our own, or one of MySQL: started once, never as root, gone with the test program.
//!
//! `KEEPSTONE_MYSQL` names a folder with `mysqld`, `mysql` and `mysqldump`; without it the server is Debian's MariaDB.

use keepstone::db::mysql::Family;
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
    /// Who made it.
    pub family: Family,
    /// Where its programs are, if not in `PATH`.
    programs: Option<PathBuf>,
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

/// A server of its own, for a test that ends it; none if there is none to start.
pub fn another() -> Option<Server> {
    server().map(|_| Server::start().unwrap())
}

impl Server {
    /// Kills the server, as when the power fails.
    pub fn kill(&self) {
        let pid = std::fs::read_to_string(self.folder.join("pid")).unwrap();
        let killed = Command::new("kill").args(["-KILL", pid.trim()]).status().unwrap();
        assert!(killed.success());
    }

    fn start() -> Result<Server, String> {
        let programs = std::env::var_os("KEEPSTONE_MYSQL").map(PathBuf::from);
        let (family, needed): (_, &[&str]) = match programs {
            None => (Family::MariaDb, &["mariadbd", "mariadb-install-db", "mariadb", "mariadb-dump"]),
            Some(_) => (Family::MySql, &["mysqld", "mysql", "mysqldump"]),
        };
        for program in needed {
            let found = path_of(program, programs.as_deref());
            found.ok_or_else(|| format!("no {program}: install mariadb-server"))?;
        }
        // It goes with the keeper, not with a value here: statics are never dropped.
        let folder = tempfile::Builder::new().prefix("ksmy").tempdir().map_err(|error| error.to_string())?.keep();
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).map_err(|error| error.to_string())?;
        let keeper = keeper(&folder, port.port(), programs.as_deref())?;
        let server = Server { family, programs, folder, port: port.port(), _keeper: keeper };
        server.wait()?;
        let password = PASSWORD.replace('\\', "\\\\").replace('\'', "''");
        server.root_without_password(&format!(
            "CREATE USER 'boss'@'%' IDENTIFIED BY '{password}'; GRANT ALL ON *.* TO 'boss'@'%' WITH GRANT OPTION"
        ));
        Ok(server)
    }

    fn wait(&self) -> Result<(), String> {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(120) {
            let asked = self.client().args(["-e", "SELECT 1"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
            if asked.is_ok_and(|status| status.success()) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        Err(format!("the {} server does not start: {log}", self.family.product()))
    }

    /// Whether it is MariaDB.
    pub fn is_mariadb(&self) -> bool {
        self.family == Family::MariaDb
    }

    /// What the two families call the same thing.
    pub fn word<'w>(&self, mariadb: &'w str, mysql: &'w str) -> &'w str {
        if self.is_mariadb() { mariadb } else { mysql }
    }

    fn program(&self, mariadb: &str, mysql: &str) -> Command {
        let name = self.word(mariadb, mysql);
        Command::new(self.programs.as_ref().map_or_else(|| PathBuf::from(name), |folder| folder.join(name)))
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("s")
    }

    fn client(&self) -> Command {
        let mut command = self.program("mariadb", "mysql");
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

    /// Runs statements as somebody who logs in over TCP.
    pub fn sql_as(&self, user: &str, password: &str, sql: &str) -> String {
        let mut client = self.program("mariadb", "mysql");
        client.args(["--no-defaults", "--protocol=tcp", "-h127.0.0.1", "--batch", "--skip-column-names"]);
        client.arg(format!("--port={}", self.port)).arg(format!("--user={user}")).env("MYSQL_PWD", password);
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

    /// A user with a password and some rights, made anew.
    pub fn user(&self, name: &str, password: &str, grants: &[&str]) {
        let user = format!("'{name}'@'%'");
        let grants: String = grants.iter().map(|grant| format!("; GRANT {grant} TO {user}")).collect();
        self.sql(&format!("DROP USER IF EXISTS {user}; CREATE USER {user} IDENTIFIED BY '{password}'{grants}"));
    }

    /// What the server's own dump program says of a database, with everything in it.
    pub fn dumped(&self, database: &str) -> String {
        self.dumped_with(&[database])
    }

    /// The same, with other arguments than the name of a database.
    pub fn dumped_with(&self, arguments: &[&str]) -> String {
        let mut command = self.program("mariadb-dump", "mysqldump");
        command.arg("--no-defaults").arg("-S").arg(self.socket()).args(["-uroot", "--skip-dump-date", "--hex-blob"]);
        if !self.is_mariadb() {
            command.args(["--set-gtid-purged=OFF", "--skip-lock-tables"]);
        }
        command.args(["--routines", "--events", "--triggers", "--order-by-primary", "--default-character-set=utf8mb4"]);
        let ended = command.args(arguments).output().unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        let text = String::from_utf8(ended.stdout).unwrap();
        text.lines().filter(|line| !line.starts_with("-- Host:")).map(|line| format!("{line}\n")).collect()
    }

    /// The URL of a database for the user `boss`, over TCP.
    pub fn url(&self, database: &str) -> String {
        self.url_of("boss", PASSWORD, database)
    }

    /// The same through another port of this machine.
    pub fn url_through(&self, port: u16, database: &str) -> String {
        self.url(database).replace(&format!("127.0.0.1:{}/", self.port), &format!("127.0.0.1:{port}/"))
    }

    /// The programs as a shell is to call them: the client, logged in as root, and the dump program.
    pub fn shell_programs(&self) -> (String, PathBuf) {
        let full = |name| path_of(name, self.programs.as_deref()).unwrap();
        let client = full(self.word("mariadb", "mysql"));
        let client = format!("{} --no-defaults -S {} -uroot", client.display(), self.socket().display());
        (client, full(self.word("mariadb-dump", "mysqldump")))
    }

    /// The file that holds the number of its process.
    pub fn pid_file(&self) -> PathBuf {
        self.folder.join("pid")
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
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

/// The numbers from `first` to `last` as a table with the column `seq`.
pub fn numbers(first: u32, last: u32) -> String {
    format!(
        "(WITH RECURSIVE counted(seq) AS (SELECT {first} UNION ALL SELECT seq + 1 FROM counted WHERE seq < {last}) \
         SELECT seq FROM counted) AS numbers"
    )
}

fn path_of(program: &str, folder: Option<&Path>) -> Option<PathBuf> {
    if let Some(folder) = folder {
        return Some(folder.join(program)).filter(|path| path.exists());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join(program))
        .find(|path| path.exists())
}

/// What the shell beside the server does: `$1` the port, `$2` the folder, `$3` the programs of MySQL, if it is that.
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
    # A server that starts clears its folder for temporary tables of what it takes for left over, whosever it is.
    $as mkdir tmp
    common="--no-defaults --datadir=$PWD/data --tmpdir=$PWD/tmp"
    if [ -z "$3" ]; then
        server=mariadbd own="--innodb-log-file-size=8M --max-recursive-iterations=1000000"
        $as mariadb-install-db $common --auth-root-authentication-method=normal --skip-test-db >install.log 2>&1
    else
        server=$3/mysqld
        own="--mysqlx=OFF --secure-file-priv= --innodb-redo-log-capacity=8M --cte-max-recursion-depth=1000000"
        $as "$server" $common --initialize-insecure --secure-file-priv= >log 2>&1
    fi
    $as "$server" $common --socket="$PWD/s" --pid-file="$PWD/pid" --port="$1" \
        --bind-address=127.0.0.1 --innodb-buffer-pool-size=32M \
        --innodb-flush-log-at-trx-commit=0 --log-bin="$PWD/data/bin" --server-id=1 --skip-name-resolve \
        --max-allowed-packet=64M --log-bin-trust-function-creators $own $tls >>log 2>&1 &
    server=$!
    read -r _
    kill "$server"; wait "$server"
    cd / && rm -rf "$2"
"#;

/// A shell that makes and starts the server, and stops it and removes its folder when our end of the pipe closes: when
/// the test program ends, however it does.
fn keeper(folder: &Path, port: u16, programs: Option<&Path>) -> Result<Child, String> {
    let mut command = Command::new("sh");
    command.args(["-c", SCRIPT, "keeper"]).arg(port.to_string()).arg(folder).current_dir(folder);
    command.arg(programs.unwrap_or(Path::new("")));
    // A group of its own: who interrupts the tests at the terminal does not keep it from cleaning up.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().map_err(|error| error.to_string())
}
