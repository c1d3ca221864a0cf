//! A cluster of Garage: three nodes that each keep every object and speak S3. Any of them may be asked, and switched off
//! and on again.

use super::cluster::{Cluster, Nodes, answers, comes_about, free_ports};
use keepstone::store::S3;
use std::path::PathBuf;
use std::process::Command;

/// How many nodes there are.
pub const NODES: usize = 3;
/// The region that the servers say they are in.
pub const REGION: &str = "garage";

/// The key that owns the bucket, and its secret: both have to look like what Garage makes.
const ACCESS_KEY: &str = "GK0123456789abcdef01234567";
const SECRET_KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
/// By which the nodes know each other.
const RPC_SECRET: &str = "abababababababababababababababababababababababababababababababab";

/// The cluster.
pub struct Garage {
    nodes: Nodes,
    /// Of each node between nodes and for S3.
    ports: Vec<u16>,
}

/// A cluster, or none if Garage is not installed; the reason is printed then.
pub fn cluster() -> Option<Garage> {
    let Some(program) = program() else {
        println!("skipped: no Garage is installed (`./test --long` does it)");
        return None;
    };
    let cluster = Garage { nodes: Nodes::new(&program, NODES), ports: free_ports(2 * NODES) };
    (0..NODES).for_each(|node| cluster.configure(node));
    cluster.nodes.hand_over();
    (0..NODES).for_each(|node| cluster.start(node, || cluster.health(node).is_some()));
    cluster.join();
    cluster.make_bucket();
    Some(cluster)
}

/// The program, where `./test --long` puts it or on the path.
fn program() -> Option<PathBuf> {
    let installed = std::env::var_os("KEEPSTONE_TEST_GARAGE").map(PathBuf::from);
    let beside = || std::env::current_exe().ok()?.ancestors().nth(3).map(|target| target.join("garage/bin/garage"));
    let on_path = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|folder| folder.join("garage")).find(|program| program.exists())
    };
    installed.or_else(beside).filter(|program| program.exists()).or_else(on_path)
}

impl Cluster for Garage {
    type Node = usize;

    /// Waits until all that are on see each other.
    fn switch_on(&self, node: usize) {
        self.start(node, || answers(self.port(node)) && self.is_joined());
    }

    fn switch_off(&self, node: usize) {
        self.nodes.switch_off(node);
    }

    fn environment(&self) -> Vec<(&'static str, &'static str)> {
        vec![
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
            ("AWS_REGION", REGION),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ]
    }
}

impl Garage {
    /// The port of a node's S3 interface.
    pub fn port(&self, node: usize) -> u16 {
        self.ports[2 * node + 1]
    }

    /// A folder of the bucket as a store, by way of a node.
    pub fn store(&self, node: usize, folder: &str) -> S3 {
        let place = format!("s3:http://127.0.0.1:{}/vault/{folder}", self.port(node));
        super::store(&place, ACCESS_KEY, SECRET_KEY, Some(REGION))
    }

    /// Runs the program as a client of a node; gives what it prints if all went well.
    fn ask(&self, node: usize, args: &[&str]) -> Option<String> {
        let output = self.command(node).args(args).output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }

    /// A new key that may do nothing in the bucket, and its secret.
    pub fn stranger(&self) -> (String, String) {
        let made = self.must(0, &["json-api", "CreateKey", r#"{"name":"stranger"}"#]);
        let made: serde_json::Value = serde_json::from_str(&made).unwrap();
        let word = |name: &str| made[name].as_str().unwrap().to_owned();
        (word("accessKeyId"), word("secretAccessKey"))
    }

    /// Gives the bucket a quota, or takes it away with `none`.
    pub fn limit(&self, max_size: &str) {
        self.must(0, &["bucket", "set-quotas", "vault", "--max-size", max_size]);
    }

    fn configure(&self, node: usize) {
        let (data, rpc, s3) = (self.nodes.data(node), self.ports[2 * node], self.port(node));
        let config = format!(
            "metadata_dir = \"{data}/meta\"\n\
             data_dir = \"{data}/data\"\n\
             db_engine = \"lmdb\"\n\
             replication_factor = 3\n\
             rpc_bind_addr = \"127.0.0.1:{rpc}\"\n\
             rpc_public_addr = \"127.0.0.1:{rpc}\"\n\
             rpc_secret = \"{RPC_SECRET}\"\n\
             [s3_api]\n\
             s3_region = \"{REGION}\"\n\
             api_bind_addr = \"127.0.0.1:{s3}\"\n",
            data = data.display()
        );
        std::fs::write(self.config(node), config).unwrap();
    }

    fn config(&self, node: usize) -> PathBuf {
        self.nodes.folder().join(format!("{node}.toml"))
    }

    fn command(&self, node: usize) -> Command {
        let mut command = self.nodes.command();
        command.arg("-c").arg(self.config(node));
        command
    }

    fn start(&self, node: usize, is_ready: impl Fn() -> bool) {
        let mut command = self.command(node);
        command.arg("server");
        self.nodes.switch_on(node, command, is_ready);
    }

    /// How many nodes with a part of the data one of them sees, itself included.
    fn health(&self, node: usize) -> Option<u64> {
        let said = self.ask(node, &["json-api", "GetClusterHealth"])?;
        serde_json::from_str::<serde_json::Value>(&said).ok()?["storageNodesUp"].as_u64()
    }

    /// Whether all that are on see each other.
    fn is_joined(&self) -> bool {
        let on = self.nodes.on();
        on.iter().all(|node| self.health(*node) == Some(on.len() as u64))
    }

    /// Makes the nodes known to each other and gives each of them a copy of everything.
    fn join(&self) {
        let ids: Vec<String> =
            (0..NODES).map(|node| self.must(node, &["node", "id", "-q"]).trim().to_owned()).collect();
        for id in &ids[1..] {
            self.must(0, &["node", "connect", id]);
        }
        for (node, id) in ids.iter().enumerate() {
            let id = id.split('@').next().unwrap();
            let assigned =
                || self.ask(0, &["layout", "assign", "-z", &format!("zone{node}"), "-c", "1G", id]).is_some();
            assert!(comes_about(assigned), "node {node} did not come:\n{}", self.nodes.log(0));
        }
        self.must(0, &["layout", "apply", "--version", "1"]);
        assert!(comes_about(|| self.is_joined()), "the nodes did not find each other:\n{}", self.nodes.log(0));
    }

    fn make_bucket(&self) {
        self.must(0, &["key", "import", "--yes", "-n", "owner", ACCESS_KEY, SECRET_KEY]);
        self.must(0, &["bucket", "create", "vault"]);
        self.must(0, &["bucket", "allow", "--read", "--write", "--owner", "vault", "--key", ACCESS_KEY]);
    }

    #[track_caller]
    fn must(&self, node: usize, args: &[&str]) -> String {
        self.ask(node, args).unwrap_or_else(|| panic!("garage {args:?} failed:\n{}", self.nodes.log(node)))
    }
}
