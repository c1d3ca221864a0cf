//! A PostgreSQL cluster for all tests of a run, on a socket and a TCP port of its own.
//!
//! A shell of the user that runs the server stands beside it: it waits at a pipe that closes when the test program
//! ends, even if that is killed, then stops the server and removes the cluster.

use keepstone::base::{Monitor, Silent, Stop};
use keepstone::db::postgres::{Address, Connection, identifier};
use keepstone::db::{Surroundings, Watch};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// The superuser and its password; it is asked for over TCP and not over the socket.
pub const SUPERUSER: &str = "postgres";
/// See [`SUPERUSER`]. Odd enough that a search for it finds nothing else.
pub const PASSWORD: &str = "Gpw:7@q/secret";

/// How many ports are tried.
const PORTS_TRIED: usize = 5;

/// What the shell does: `$1` the folder, `$2` the programs, `$3` the port, `$4` the password file, `$5` and `$6`
/// folder and port of the primary if it is to be a standby; settings follow.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
folder=$1 programs=$2 port=$3 password=$4 primary=$5 primary_port=$6
shift 6
cd "$folder" || exit 1
export LC_ALL=C
give_up() { cat log; cd / && rm -rf "$folder"; exit 1; }
if [ -n "$primary" ]; then
    "$programs/pg_basebackup" -h "$primary" -p "$primary_port" -U postgres -D data -R -c fast --no-sync
else
    "$programs/initdb" -D data -U postgres --pwfile "$password" --auth-local=trust --auth-host=scram-sha-256 \
        -E UTF8 --locale=C --no-sync
fi >log 2>&1 || give_up
tls=off
ldd "$programs/postgres" | grep -q libssl &&
openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
    -keyout data/server.key -out data/server.crt >>log 2>&1 && chmod 600 data/server.key && tls=on
"$programs/postgres" -D data -k "$folder" -p "$port" -h 127.0.0.1 -c ssl=$tls -c fsync=off -c full_page_writes=off \
    -c synchronous_commit=off -c shared_buffers=32MB -c max_connections=90 "$@" >>log 2>&1 &
server=$!
for i in $(seq 200); do
    "$programs/pg_isready" -q -h "$folder" -p "$port" && break
    kill -0 $server 2>/dev/null || give_up
    sleep 0.05
done
echo ready
cat >/dev/null
kill -QUIT $server
wait $server
cd / && rm -rf "$folder"
"#;

/// What the shell of a pooler does: `$1` a folder, `$2` its port, `$3` and `$4` folder and port of the server.
const POOLER: &str = r#"
trap '' INT TERM HUP
cd "$1" || exit 1
echo '"postgres" ""' >users
printf '%s\n' '[databases]' "* = host=$3 port=$4 user=postgres" '[pgbouncer]' "listen_port = $2" \
    'listen_addr = 127.0.0.1' "unix_socket_dir =" 'auth_type = trust' "auth_file = $1/users" \
    'pool_mode = transaction' >pooler.ini
PATH=$PATH:/usr/sbin
pgbouncer -q pooler.ini >log 2>&1 &
pooler=$!
for i in $(seq 200); do
    grep -q 'process up' log && break
    kill -0 $pooler 2>/dev/null || { cat log; cd / && rm -rf "$1"; exit 1; }
    sleep 0.05
done
echo ready
cat >/dev/null
kill -KILL $pooler
cd / && rm -rf "$1"
"#;

/// A running cluster.
pub struct Server {
    /// The folder of its socket and its data.
    pub folder: PathBuf,
    /// Its port.
    pub port: u16,
    /// The folder of its programs.
    pub programs: PathBuf,
    /// Its major version.
    pub major: u32,
    /// Ends the server when it closes, that is with us.
    _lifeline: ChildStdin,
}

/// The cluster that all tests share, or none if PostgreSQL is not installed; the reason is printed then.
pub fn server() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    let server = SERVER.get_or_init(|| programs().map(|programs| start(&programs, None, &[]))).as_ref();
    if server.is_none() {
        println!("skipped: no server of PostgreSQL is installed");
    }
    server
}

/// A cluster of its own with some settings, for a test that ends it.
pub fn another(settings: &[&str]) -> Option<Server> {
    server().map(|server| start(&server.programs, None, settings))
}

/// A cluster of another version than that of [`server`], of those that are installed; none if there is only one.
pub fn of_another_version() -> Option<Server> {
    let ours = major(&server()?.programs);
    let another = installed().into_iter().map(|(_, programs)| programs).find(|programs| major(programs) != ours);
    if another.is_none() {
        println!("skipped: only one version of PostgreSQL is installed");
    }
    another.map(|programs| start(&programs, None, &[]))
}

/// A standby that follows `primary`.
pub fn standby_of(primary: &Server) -> Server {
    start(&primary.programs, Some(primary), &[])
}

/// A pooler in front of `server` that hands out its sessions by transaction, and the address of `database` through it;
/// none if there is no such program.
pub fn pooler_of(server: &Server, database: &str) -> Option<(Address, impl Sized)> {
    let has_pgbouncer = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].iter().any(|path| Path::new(path).exists());
    if !has_pgbouncer {
        println!("skipped: pgbouncer is not installed");
        return None;
    }
    let (folder, port) = (new_folder(), free_port());
    let arguments = [folder.to_str().unwrap(), &port, server.folder.to_str().unwrap(), &server.port.to_string()];
    let lifeline = start_shell(&folder, POOLER, &arguments).unwrap_or_else(|said| panic!("no pooler:\n{said}"));
    let url = format!("postgresql://{SUPERUSER}@127.0.0.1:{port}/{database}");
    Some((Address::parse(&url, &surroundings()).unwrap(), lifeline))
}

impl Server {
    /// A URL over TCP with user and password.
    pub fn url(&self, database: &str) -> String {
        format!("postgresql://{SUPERUSER}:{}@127.0.0.1:{}/{database}", escaped(PASSWORD), self.port)
    }

    /// A URL over the socket, where no password is asked for.
    pub fn socket_url(&self, database: &str) -> String {
        format!("postgresql://{SUPERUSER}@{}:{}/{database}", escaped(self.folder.to_str().unwrap()), self.port)
    }

    /// The address that [`Server::url`] means.
    pub fn address(&self, database: &str) -> Address {
        Address::parse(&self.url(database), &surroundings()).unwrap()
    }

    /// A new database in which `sql` was run, of a name that no other test has.
    pub fn create(&self, sql: &str) -> Address {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        self.create_named(&format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed)), sql)
    }

    /// The same with a name; it must be unused.
    pub fn create_named(&self, name: &str, sql: &str) -> Address {
        let mut session = self.connect("postgres");
        let version = session.value("SELECT current_setting('server_version_num')::int >= 150000").unwrap();
        // Faster, and older servers know no other way.
        let strategy = if version.as_deref() == Some("t") { " STRATEGY file_copy" } else { "" };
        session.execute(&format!("CREATE DATABASE {} TEMPLATE template0{strategy}", identifier(name))).unwrap();
        let address = self.address("").with_database(name);
        if !sql.is_empty() {
            Connection::connect(&address, None, &watch()).unwrap().execute(sql).unwrap();
        }
        address
    }

    /// A session of the superuser.
    pub fn connect(&self, database: &str) -> Connection {
        let address = Address::parse(&self.socket_url(""), &surroundings()).unwrap();
        Connection::connect(&address, Some(database), &watch()).unwrap()
    }

    /// A client program, ready to talk to a database: `psql`, `pg_dump`, `pgbench`.
    pub fn program(&self, name: &str, database: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.env("PGHOST", &self.folder).env("PGPORT", self.port.to_string()).env("PGUSER", SUPERUSER);
        command.env("PGDATABASE", database).stdin(Stdio::null());
        command
    }
}

/// Nobody in particular at home nowhere, with the `PATH` that the tests have and the server's own programs first.
pub fn surroundings() -> Surroundings {
    let path = std::env::var("PATH").unwrap_or_default();
    let path = programs().map_or(path.clone(), |folder| format!("{}:{path}", folder.display()));
    Surroundings { user: Some("nobody".into()), ..Surroundings::default() }.with("PATH", path)
}

/// Nobody looks on and nobody asks to stop.
pub fn watch() -> Watch {
    watch_with(Arc::new(Silent))
}

/// `monitor` looks on and nobody asks to stop.
pub fn watch_with(monitor: Arc<dyn Monitor>) -> Watch {
    Watch { stop: Stop::new(), monitor }
}

/// The folder that `KEEPSTONE_POSTGRES` names, or that of the newest version that is installed with its server.
fn programs() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("KEEPSTONE_POSTGRES") {
        return Some(folder.into());
    }
    installed().pop().map(|(_, folder)| folder)
}

/// The folders of programs that packages have installed with a server, the newest version last.
fn installed() -> Vec<(u32, PathBuf)> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, folder): &(u32, PathBuf)| folder.join("initdb").exists())
        .collect();
    found.sort();
    found
}

/// The major version of a server's programs.
fn major(programs: &Path) -> u32 {
    let said = Command::new(programs.join("postgres")).arg("--version").output().unwrap().stdout;
    let version = String::from_utf8_lossy(&said).split_ascii_whitespace().nth(2).unwrap_or_default().to_owned();
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("{} is of no version: {version}", programs.display()))
}

/// A port that was free may be somebody else's a moment later: then another is tried.
fn start(programs: &Path, primary: Option<&Server>, settings: &[&str]) -> Server {
    for _ in 0..PORTS_TRIED {
        match try_start(programs, primary, settings) {
            Ok(server) => return server,
            Err(said) if said.contains("Address already in use") => {}
            Err(said) => panic!("the server did not start:\n{said}"),
        }
    }
    panic!("the server did not start: each of {PORTS_TRIED} ports was taken by somebody else");
}

fn try_start(programs: &Path, primary: Option<&Server>, settings: &[&str]) -> Result<Server, String> {
    let (folder, port) = (new_folder(), free_port());
    let password = folder.join("password");
    std::fs::write(&password, PASSWORD).unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let mut arguments = vec![text(&folder), text(programs), port.clone(), text(&password)];
    arguments.push(primary.map(|primary| text(&primary.folder)).unwrap_or_default());
    arguments.push(primary.map(|primary| primary.port.to_string()).unwrap_or_default());
    arguments.extend(settings.iter().flat_map(|setting| ["-c".to_owned(), (*setting).to_owned()]));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let lifeline = start_shell(&folder, SCRIPT, &arguments)?;
    let (port, major) = (port.parse().unwrap(), major(programs));
    Ok(Server { folder, port, programs: programs.to_owned(), major, _lifeline: lifeline })
}

/// A folder for a server. Its path is short, since that of a socket has at most 107 bytes.
fn new_folder() -> PathBuf {
    let folder = tempfile::Builder::new().prefix("ks-pg").tempdir().unwrap().keep();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn free_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

/// Runs a shell that stands beside a server, as nobody if we are root, until it says that it is ready. The shell
/// outlives us and removes the folder; it ends when its input does.
#[allow(clippy::zombie_processes)]
fn start_shell(folder: &Path, script: &str, arguments: &[&str]) -> Result<ChildStdin, String> {
    let mut command = if rustix::process::geteuid().is_root() {
        let owned = Command::new("chown").args(["-R", "nobody:nogroup"]).arg(folder).status().unwrap();
        assert!(owned.success());
        let mut command = Command::new("setpriv");
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "sh"]);
        command
    } else {
        Command::new("sh")
    };
    command.args(["-c", script, "sh"]).args(arguments);
    let mut keeper = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    for line in BufReader::new(keeper.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if line == "ready" {
            return Ok(keeper.stdin.take().unwrap());
        }
        said.push_str(&line);
        said.push('\n');
    }
    Err(said)
}

fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
