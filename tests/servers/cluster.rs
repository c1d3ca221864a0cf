//! What clusters of S3 servers on this machine have in common: their servers, each of which may be switched off and on
//! again.
//!
//! Each server is a child of ours and killed with us: it is started by the thread of the test, and dies when that does.
//! In the place of root nobody runs it.

use std::fmt::Debug;
use std::fs::{File, Permissions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long is waited for something to come about, and rested between two looks.
const PATIENCE: Duration = Duration::from_secs(60);
const REST: Duration = Duration::from_millis(100);

/// A cluster with a bucket `vault`.
pub trait Cluster: Send + Sync + 'static {
    /// One of its servers.
    type Node: Copy + Debug + Send + 'static;

    /// Switches a server on and waits until it has its place among the others.
    fn switch_on(&self, node: Self::Node);

    /// Pulls the plug of a server; nothing happens if it is off.
    fn switch_off(&self, node: Self::Node);

    /// What a program needs to know to use it.
    fn environment(&self) -> Vec<(&'static str, &'static str)>;

    /// A place in the bucket, by way of the S3 server at `port`.
    fn place(&self, port: u16) -> String {
        format!("s3:http://127.0.0.1:{port}/vault/team")
    }
}

/// Servers of one program by their numbers, and a folder for what they keep.
pub struct Nodes {
    program: PathBuf,
    folder: tempfile::TempDir,
    children: Vec<Mutex<Option<Child>>>,
}

impl Nodes {
    /// So many servers, which are off; each has a folder for its data.
    pub fn new(program: &Path, count: usize) -> Nodes {
        let folder = tempfile::Builder::new().prefix("ks-cluster").tempdir().unwrap();
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        // The program may lie where nobody else may look.
        let copy = folder.path().join("program");
        std::fs::copy(program, &copy).unwrap();
        let nodes = Nodes { program: copy, folder, children: (0..count).map(|_| Mutex::new(None)).collect() };
        (0..count).for_each(|number| std::fs::create_dir(nodes.data(number)).unwrap());
        nodes
    }

    /// The folder of all.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder of a server's data.
    pub fn data(&self, number: usize) -> PathBuf {
        self.folder().join(format!("data-{number}"))
    }

    /// Gives all that lies in the folder to whoever runs the servers.
    pub fn hand_over(&self) {
        if rustix::process::geteuid().is_root() {
            let owned = Command::new("chown").args(["-R", "nobody:nogroup"]).arg(self.folder()).status().unwrap();
            assert!(owned.success());
        }
    }

    /// The program as the servers are run.
    pub fn command(&self) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if rustix::process::geteuid().is_root() {
            command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]);
        }
        command.arg(&self.program).current_dir(self.folder()).env("HOME", self.folder()).stdin(Stdio::null());
        command
    }

    /// Switches a server on and waits until it is ready.
    pub fn switch_on(&self, number: usize, mut command: Command, is_ready: impl Fn() -> bool) {
        let log = File::options().create(true).append(true).open(self.log_path(number)).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        *self.children[number].lock().unwrap() = Some(command.spawn().unwrap());
        assert!(comes_about(is_ready), "server {number} is not ready:\n{}", self.log(number));
    }

    /// Kills a server; nothing happens if it is off.
    pub fn switch_off(&self, number: usize) {
        if let Some(mut child) = self.children[number].lock().unwrap().take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// The numbers of those that are on.
    pub fn on(&self) -> Vec<usize> {
        (0..self.children.len()).filter(|number| self.children[*number].lock().unwrap().is_some()).collect()
    }

    /// What a server has said.
    pub fn log(&self, number: usize) -> String {
        std::fs::read_to_string(self.log_path(number)).unwrap_or_default()
    }

    fn log_path(&self, number: usize) -> PathBuf {
        self.folder().join(format!("log-{number}"))
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        (0..self.children.len()).for_each(|number| self.switch_off(number));
    }
}

/// So many ports that are free.
pub fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

/// Whether something comes about within a minute.
pub fn comes_about(is_so: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while !is_so() {
        if start.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(REST);
    }
    true
}

/// Whether anybody speaks HTTP there.
pub fn answers(port: u16) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
        let mut word = [0; 4];
        stream.read_exact(&mut word).ok()?;
        (&word == b"HTTP").then_some(())
    };
    ask().is_some()
}
