//! An S3 server for all tests of a run: SeaweedFS on ports of its own.
//!
//! A shell of the user that runs the server stands beside it: it waits at a pipe that closes when the test program
//! ends, even if that is killed, then stops the server and removes what it kept.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The key that may do everything.
pub const ACCESS_KEY: &str = "labkey";
/// Its secret.
pub const SECRET_KEY: &str = "lab/secret+0123456";
/// The key that may only look and read.
pub const READER_KEY: &str = "readerkey";

/// What the shell does: `$1` the folder, `$2` the program, `$3`… the ports.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
cd "$1" || exit 1
export HOME="$1"
tls=
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 10 -subj /CN=127.0.0.1 \
    -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE \
    -keyout tls.key -out tls.crt >openssl.log 2>&1 &&
    tls="-s3.port.https=${11} -s3.cert.file=$1/tls.crt -s3.key.file=$1/tls.key"
"$2" -logtostderr=true server -ip=127.0.0.1 -ip.bind=127.0.0.1 -dir="$1" -volume.max=200 -volume.minFreeSpace=1 \
    -master.volumeSizeLimitMB=64 -master.telemetry=false -master.port=$3 -master.port.grpc=$4 -volume.port=$5 \
    -volume.port.grpc=$6 -filer -filer.port=$7 -filer.port.grpc=$8 -s3 -s3.port=$9 -s3.port.grpc=${10} \
    -s3.port.iceberg=0 -s3.port.lance=0 -s3.config="$1/s3.json" $tls >log 2>&1 &
server=$!
echo started
cat >/dev/null
kill -KILL $server
wait $server
cd / && rm -rf "$1"
"#;

/// A running server.
pub struct Server {
    /// The port of its S3 interface.
    pub port: u16,
    /// The port of the same with TLS.
    pub tls_port: u16,
    folder: PathBuf,
    /// Ends the server when it closes, that is with us.
    _lifeline: ChildStdin,
}

/// The server that all tests share, or none if SeaweedFS is not installed; the reason is printed then.
pub fn server() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    let server = SERVER.get_or_init(|| program().map(|program| start(&program))).as_ref();
    if server.is_none() {
        println!("skipped: no SeaweedFS is installed (`./test` does it)");
    }
    server
}

impl Server {
    /// A place for a repository that no other test has, in a bucket that is there.
    pub fn place(&self) -> String {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        format!("{}/test-{}", self.bucket("vault"), NUMBER.fetch_add(1, Ordering::Relaxed))
    }

    /// A bucket by name.
    pub fn bucket(&self, name: &str) -> String {
        format!("s3:http://127.0.0.1:{}/{name}", self.port)
    }

    /// The certificate that it shows with TLS, which nobody signed and which is good for ten days; none without openssl.
    pub fn certificate(&self) -> Option<PathBuf> {
        let certificate = self.folder.join("tls.crt");
        let there = certificate.exists();
        if !there {
            println!("skipped: there is no openssl to make a certificate with");
        }
        there.then_some(certificate)
    }

    /// Asks the server itself, as its owner.
    pub fn ask<T>(&self, request: impl AsyncFnOnce(aws_sdk_s3::Client) -> T) -> T {
        use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
        let http = aws_smithy_http_client::Builder::new().build_http();
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http)
            .region(Region::new("us-east-1"))
            .endpoint_url(format!("http://127.0.0.1:{}", self.port))
            .force_path_style(true)
            .credentials_provider(Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "test"))
            .build();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(request(aws_sdk_s3::Client::from_conf(config)))
    }

    /// What a program needs to know to use it.
    pub fn environment(&self) -> [(&'static str, String); 3] {
        [
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ]
    }
}

/// The program, where `./test` puts it or on the path.
pub fn program() -> Option<PathBuf> {
    let installed = std::env::var_os("KEEPSTONE_TEST_WEED").map(PathBuf::from);
    let beside = || std::env::current_exe().ok()?.ancestors().nth(3).map(|target| target.join("seaweed/bin/weed"));
    let on_path = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|folder| folder.join("weed")).find(|program| program.exists())
    };
    installed.or_else(beside).filter(|program| program.exists()).or_else(on_path)
}

// The shell is waited for by nobody: it goes when its pipe closes, that is when this program has ended.
#[allow(clippy::zombie_processes)]
fn start(program: &Path) -> Server {
    let folder = tempfile::Builder::new().prefix("ks-s3").tempdir().unwrap().keep();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    let may = |name: &str, key: &str, actions: &[&str]| {
        serde_json::json!({
            "name": name, "actions": actions, "credentials": [{ "accessKey": key, "secretKey": SECRET_KEY }]
        })
    };
    let everything = ["Admin", "Read", "Write", "List", "Tagging"];
    let identities = [may("owner", ACCESS_KEY, &everything), may("reader", READER_KEY, &["Read", "List"])];
    let config = serde_json::json!({ "identities": identities });
    std::fs::write(folder.join("s3.json"), config.to_string()).unwrap();
    let mut command = if rustix::process::geteuid().is_root() {
        // The program may lie where nobody else may look.
        std::fs::copy(program, folder.join("weed")).unwrap();
        let owned = Command::new("chown").args(["-R", "nobody:nogroup"]).arg(&folder).status().unwrap();
        assert!(owned.success());
        let mut command = Command::new("setpriv");
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "sh", "-c", SCRIPT, "sh"]);
        command.arg(&folder).arg(folder.join("weed"));
        command
    } else {
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "sh"]).arg(&folder).arg(program);
        command
    };
    let listeners: Vec<_> = (0..9).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let ports: Vec<u16> = listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
    drop(listeners);
    command.args(ports.iter().map(u16::to_string));
    let mut keeper = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let lifeline = keeper.stdin.take().unwrap();
    let mut said = String::new();
    BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "started\n");
    let server = Server { port: ports[6], tls_port: ports[8], folder, _lifeline: lifeline };
    server.make_bucket("vault");
    server
}

impl Server {
    /// Makes a bucket as soon as the server answers, through its filer's own folder of buckets.
    fn make_bucket(&self, name: &str) {
        for _ in 0..600 {
            if self.answers() {
                let store = super::seaweed_store(&self.bucket(name));
                let key = keepstone::store::Key::new(keepstone::store::Area::Sessions, "first");
                use keepstone::store::ObjectStore;
                // The server makes a bucket when its owner first puts something there.
                if store.put(&key, b"first").is_ok() && store.delete(&key).is_ok() {
                    return;
                }
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        panic!("the server did not start:\n{log}");
    }

    /// Whether anybody speaks HTTP there.
    fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        let asked = stream.write_all(b"GET / HTTP/1.0\r\n\r\n").is_ok();
        let mut word = [0; 4];
        asked && stream.read_exact(&mut word).is_ok() && &word == b"HTTP"
    }
}
