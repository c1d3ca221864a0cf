//! A cluster of S3 storage on this machine: SeaweedFS with three volume servers that keep every piece of an object twice,
//! one master, one filer that knows which pieces an object has, and one server that speaks S3 before them. Any of them may be switched off and on again.
//!
//! Each is a child of ours and killed with us: it is started by the thread of the test, and dies when that does.

use super::seaweed::{ACCESS_KEY, SECRET_KEY, program};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

/// How many volume servers there are.
pub const VOLUMES: usize = 3;
/// How often is looked whether a server is ready, and how long is rested in between.
const LOOKS: usize = 600;
const REST: Duration = Duration::from_millis(100);

/// One of the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// The master, which knows where pieces lie.
    Master,
    /// A volume server, which keeps pieces.
    Volume(usize),
    /// The filer, which knows the objects.
    Filer,
    /// The one that is asked.
    S3,
}

impl Node {
    const ALL: [Node; 3 + VOLUMES] =
        [Node::Master, Node::Volume(0), Node::Volume(1), Node::Volume(2), Node::Filer, Node::S3];

    fn number(self) -> usize {
        match self {
            Node::Master => 0,
            Node::Volume(number) => 1 + number,
            Node::Filer => 1 + VOLUMES,
            Node::S3 => 2 + VOLUMES,
        }
    }
}

/// The cluster.
pub struct Cluster {
    program: PathBuf,
    folder: tempfile::TempDir,
    /// Of each server for HTTP and between servers.
    ports: Vec<u16>,
    nodes: Vec<Mutex<Option<Child>>>,
}

/// A cluster with an empty bucket `vault`, or none if SeaweedFS is not installed; the reason is printed then.
pub fn cluster() -> Option<Cluster> {
    let Some(program) = program() else {
        println!("skipped: no SeaweedFS is installed (`./test` does it)");
        return None;
    };
    let folder = tempfile::Builder::new().prefix("ks-cluster").tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let listeners: Vec<_> = (0..2 * Node::ALL.len()).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let ports = listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
    drop(listeners);
    let copy = folder.path().join("weed");
    std::fs::copy(program, &copy).unwrap();
    let nodes = Node::ALL.iter().map(|_| Mutex::new(None)).collect();
    let cluster = Cluster { program: copy, folder, ports, nodes };
    cluster.prepare();
    Node::ALL.into_iter().for_each(|node| cluster.switch_on(node));
    cluster.make_bucket();
    Some(cluster)
}

impl Cluster {
    /// Switches a server on and waits until it answers.
    pub fn switch_on(&self, node: Node) {
        let log = self.folder.path().join(format!("log-{}", node.number()));
        let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
        let mut command = self.command(node);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        *self.nodes[node.number()].lock().unwrap() = Some(command.spawn().unwrap());
        assert!((0..LOOKS).any(|_| answers(self.http(node))), "{node:?} did not start:\n{}", self.log(node));
    }

    /// Pulls the plug of a server; nothing happens if it is off.
    pub fn switch_off(&self, node: Node) {
        if let Some(mut child) = self.nodes[node.number()].lock().unwrap().take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// The port of the S3 interface.
    pub fn port(&self) -> u16 {
        self.http(Node::S3)
    }

    /// A place in the bucket, by way of the S3 server at `port`.
    pub fn place(&self, port: u16) -> String {
        format!("s3:http://127.0.0.1:{port}/vault/team")
    }

    /// What a program needs to know to use it.
    pub fn environment(&self) -> [(&'static str, &'static str); 3] {
        [
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ]
    }

    fn http(&self, node: Node) -> u16 {
        self.ports[2 * node.number()]
    }

    fn log(&self, node: Node) -> String {
        std::fs::read_to_string(self.folder.path().join(format!("log-{}", node.number()))).unwrap_or_default()
    }

    /// Folders and rights; in the place of root nobody owns them.
    fn prepare(&self) {
        for node in Node::ALL {
            std::fs::create_dir(self.folder.path().join(format!("data-{}", node.number()))).unwrap();
        }
        let owner = serde_json::json!({
            "name": "owner", "actions": ["Admin", "Read", "Write", "List", "Tagging"],
            "credentials": [{ "accessKey": ACCESS_KEY, "secretKey": SECRET_KEY }]
        });
        let config = serde_json::json!({ "identities": [owner] }).to_string();
        std::fs::write(self.folder.path().join("s3.json"), config).unwrap();
        if rustix::process::geteuid().is_root() {
            let owned = Command::new("chown").args(["-R", "nobody:nogroup"]).arg(self.folder.path()).status().unwrap();
            assert!(owned.success());
        }
    }

    fn command(&self, node: Node) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if rustix::process::geteuid().is_root() {
            command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]);
        }
        let folder = self.folder.path();
        let data = folder.join(format!("data-{}", node.number()));
        let (http, grpc) = (self.http(node), self.ports[2 * node.number() + 1]);
        let master = format!("127.0.0.1:{}.{}", self.ports[0], self.ports[1]);
        command.arg(&self.program).arg("-logtostderr=true").current_dir(folder).env("HOME", folder);
        let common = ["-ip=127.0.0.1".to_owned(), format!("-port={http}"), format!("-port.grpc={grpc}")];
        match node {
            Node::Master => {
                command.arg("master").args(common).arg(format!("-mdir={}", data.display()));
                // Every piece on two servers of one rack.
                command.args(["-defaultReplication=001", "-volumeSizeLimitMB=64", "-telemetry=false"]);
            }
            Node::Volume(_) => {
                command.arg("volume").args(common).arg(format!("-dir={}", data.display()));
                command.args([format!("-master={master}"), "-max=60".to_owned(), "-minFreeSpace=1".to_owned()]);
            }
            Node::Filer => {
                command.arg("filer").args(common).arg(format!("-defaultStoreDir={}", data.display()));
                command.args([format!("-master={master}"), "-defaultReplicaPlacement=001".to_owned()]);
            }
            Node::S3 => {
                let filer = Node::Filer.number();
                command.args(["s3", "-ip.bind=127.0.0.1", "-port.iceberg=0", "-port.lance=0"]).args(&common[1..]);
                command.arg(format!("-filer=127.0.0.1:{}.{}", self.ports[2 * filer], self.ports[2 * filer + 1]));
                command.arg(format!("-config={}", folder.join("s3.json").display()));
            }
        }
        command
    }

    /// Makes the bucket as soon as the servers have found each other.
    fn make_bucket(&self) {
        use keepstone::store::{Area, Key, ObjectStore};
        let store = super::seaweed_store(&format!("s3:http://127.0.0.1:{}/vault/first", self.port()));
        let key = Key::new(Area::Sessions, "first");
        let made = (0..LOOKS).any(|_| {
            let made = store.put(&key, b"first").is_ok() && store.delete(&key).is_ok();
            made || {
                std::thread::sleep(REST);
                false
            }
        });
        assert!(made, "the servers did not find each other:\n{}", self.log(Node::S3));
    }
}

/// Whether anybody speaks HTTP there; rests a while if not.
fn answers(port: u16) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
        let mut word = [0; 4];
        stream.read_exact(&mut word).ok()?;
        (&word == b"HTTP").then_some(())
    };
    ask().is_some() || {
        std::thread::sleep(REST);
        false
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        Node::ALL.into_iter().for_each(|node| self.switch_off(node));
    }
}
