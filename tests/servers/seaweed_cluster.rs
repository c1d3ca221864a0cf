//! A cluster of SeaweedFS: three volume servers that keep every piece of an object twice, one master, one filer that knows
//! which pieces an object has, and one server that speaks S3 before them. Any of them may be switched off and on again.

use super::cluster::{Cluster, Nodes, answers, comes_about, free_ports};
use super::seaweed::{ACCESS_KEY, SECRET_KEY, program};
use std::process::Command;

/// How many volume servers there are.
pub const VOLUMES: usize = 3;

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
pub struct SeaweedCluster {
    nodes: Nodes,
    /// Of each server for HTTP and between servers.
    ports: Vec<u16>,
}

/// A cluster, or none if SeaweedFS is not installed; the reason is printed then.
pub fn cluster() -> Option<SeaweedCluster> {
    let Some(program) = program() else {
        println!("skipped: no SeaweedFS is installed (`./test` does it)");
        return None;
    };
    let nodes = Nodes::new(&program, Node::ALL.len());
    let cluster = SeaweedCluster { nodes, ports: free_ports(2 * Node::ALL.len()) };
    cluster.prepare();
    Node::ALL.into_iter().for_each(|node| cluster.switch_on(node));
    cluster.make_bucket();
    Some(cluster)
}

impl Cluster for SeaweedCluster {
    type Node = Node;

    fn switch_on(&self, node: Node) {
        self.nodes.switch_on(node.number(), self.command(node), || answers(self.http(node)));
    }

    fn switch_off(&self, node: Node) {
        self.nodes.switch_off(node.number());
    }

    fn environment(&self) -> Vec<(&'static str, &'static str)> {
        vec![
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ]
    }
}

impl SeaweedCluster {
    /// The port of the S3 interface.
    pub fn port(&self) -> u16 {
        self.http(Node::S3)
    }

    fn http(&self, node: Node) -> u16 {
        self.ports[2 * node.number()]
    }

    fn grpc(&self, node: Node) -> u16 {
        self.ports[2 * node.number() + 1]
    }

    /// Who may do what.
    fn prepare(&self) {
        let owner = serde_json::json!({
            "name": "owner", "actions": ["Admin", "Read", "Write", "List", "Tagging"],
            "credentials": [{ "accessKey": ACCESS_KEY, "secretKey": SECRET_KEY }]
        });
        let config = serde_json::json!({ "identities": [owner] }).to_string();
        std::fs::write(self.nodes.folder().join("s3.json"), config).unwrap();
        self.nodes.hand_over();
    }

    fn command(&self, node: Node) -> Command {
        let data = self.nodes.data(node.number());
        let (http, grpc) = (self.http(node), self.grpc(node));
        let master = format!("127.0.0.1:{}.{}", self.http(Node::Master), self.grpc(Node::Master));
        let mut command = self.nodes.command();
        command.arg("-logtostderr=true");
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
                command.args(["s3", "-ip.bind=127.0.0.1", "-port.iceberg=0", "-port.lance=0"]).args(&common[1..]);
                command.arg(format!("-filer=127.0.0.1:{}.{}", self.http(Node::Filer), self.grpc(Node::Filer)));
                command.arg(format!("-config={}", self.nodes.folder().join("s3.json").display()));
            }
        }
        command
    }

    /// Makes the bucket as soon as the servers have found each other.
    fn make_bucket(&self) {
        use keepstone::store::{Area, Key, ObjectStore};
        let store = super::seaweed_store(&format!("s3:http://127.0.0.1:{}/vault/first", self.port()));
        let key = Key::new(Area::Sessions, "first");
        let made = comes_about(|| store.put(&key, b"first").is_ok() && store.delete(&key).is_ok());
        assert!(made, "the servers did not find each other:\n{}", self.nodes.log(Node::S3.number()));
    }
}
