//! A repository on a cluster that loses nodes while it is at work: backup, restore and prune go on.

use crate::program::{CHEAP, Place, Run, describe, noise};
use crate::servers::cluster::{self, Cluster, Node};
use crate::servers::proxy::{Fate, Proxy, Request};
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What is done when the moment comes.
type Act = Box<dyn Fn() + Send>;

/// A line to one node, on which the plug of another is pulled at a chosen request.
struct Line {
    proxy: Proxy,
    plan: Arc<Mutex<Option<Plan>>>,
}

struct Plan {
    wanted: fn(&Request) -> bool,
    /// So many of the wanted requests pass before.
    left: AtomicU64,
    act: Act,
}

impl Line {
    fn to(port: u16) -> Line {
        let plan: Arc<Mutex<Option<Plan>>> = Arc::default();
        let watched = plan.clone();
        let proxy = Proxy::before(port, move |request| {
            let mut watched = watched.lock().unwrap();
            let is_now = watched
                .as_ref()
                .is_some_and(|plan| (plan.wanted)(request) && plan.left.fetch_sub(1, Ordering::SeqCst) == 0);
            if is_now && let Some(plan) = watched.take() {
                (plan.act)();
            }
            Fate::Pass
        });
        Line { proxy, plan }
    }

    /// Does `act` at the wanted request after `before` others.
    fn plan(&self, wanted: fn(&Request) -> bool, before: u64, act: impl Fn() + Send + 'static) {
        *self.plan.lock().unwrap() = Some(Plan { wanted, left: AtomicU64::new(before), act: Box::new(act) });
    }

    #[track_caller]
    fn has_struck(&self) {
        assert!(self.plan.lock().unwrap().is_none(), "the moment did not come");
    }
}

fn puts_a_pack(request: &Request) -> bool {
    request.method == "PUT" && request.path.contains("/packs/")
}

fn gets_of_a_pack(request: &Request) -> bool {
    request.method == "GET" && request.path.contains("/packs/")
}

fn deletes(request: &Request) -> bool {
    request.method == "DELETE" || (request.method == "POST" && request.path.contains("delete"))
}

/// The cluster, and a place to work from.
struct Scene {
    cluster: Arc<Cluster>,
    place: Place,
}

impl Scene {
    fn run(&self, port: u16, args: &[&str]) -> Run {
        let change = |command: &mut std::process::Command| {
            command.env("KEEPSTONE_REPOSITORY", self.cluster.place(port)).envs(self.cluster.environment());
        };
        self.place.run_with(args, change, b"")
    }

    /// Writes a night: much that is new, so that there are several packs.
    fn write(&self, night: u8) {
        for file in 0..3u8 {
            let bytes: Vec<u8> = noise(9_000_000).iter().map(|byte| byte ^ (1 + night * 3 + file)).collect();
            fs::write(self.place.path(&format!("source/{night}-{file}.bin")), bytes).unwrap();
        }
    }

    /// A closure that pulls the plug of a server.
    fn off(&self, node: Node) -> impl Fn() + Send + 'static {
        let cluster = self.cluster.clone();
        move || cluster.switch_off(node)
    }

    fn is_whole(&self, port: u16, name: &str) {
        self.run(port, &["verify", "--all"]).expect(0);
        self.run(port, &["restore", "latest", "--target", name]).expect(0);
        let source = self.place.path("source").canonicalize().unwrap();
        let back = self.place.path(name).join(source.strip_prefix("/").unwrap());
        assert_eq!(describe(&back), describe(&source), "{name}");
    }
}

#[test]
fn a_cluster_that_loses_a_node_during_backup_restore_and_prune_loses_nothing() {
    if std::env::var_os("KEEPSTONE_LONG").is_none() {
        // Six servers and a hundred MB: this one is for the long run.
        return;
    }
    let Some(cluster) = cluster::cluster() else { return };
    let scene = Scene { cluster: Arc::new(cluster), place: Place::new() };
    let line = Line::to(scene.cluster.port());
    let port = line.proxy.port;
    scene.place.make_tree();
    scene.run(port, &[&["backup", "--init"], &CHEAP[..], &["source"]].concat()).expect(0);

    // Backup: a server goes while packs are stored, and it ends well; all is there although a third of the copies is not.
    scene.write(0);
    line.plan(puts_a_pack, 1, scene.off(Node::Volume(0)));
    scene.run(port, &["backup", "source"]).expect(0);
    line.has_struck();
    scene.is_whole(port, "backed-up");
    scene.cluster.switch_on(Node::Volume(0));
    println!("a backup went well while a server was lost");

    // Restore: likewise, and what lay on the other one is read from where it lies besides.
    line.plan(gets_of_a_pack, 1, scene.off(Node::Volume(1)));
    scene.is_whole(port, "restored");
    line.has_struck();
    scene.cluster.switch_on(Node::Volume(1));
    println!("a verify and a restore went well while a server was lost");

    // Prune: the server that is gone does not hear of the deletions, and nothing comes back with it.
    fs::remove_file(scene.place.path("source/0-0.bin")).unwrap();
    scene.write(1);
    scene.run(port, &["backup", "source"]).expect(0);
    scene.run(port, &["forget", "--keep-last", "1"]).expect(0);
    line.plan(deletes, 0, scene.off(Node::Volume(2)));
    let pruned = scene.run(port, &["prune", "--max-unused", "0", "--json"]).expect(0).json().remove(0);
    line.has_struck();
    assert!(pruned["packs_deleted"].as_u64().unwrap() > 0, "{pruned}");
    scene.is_whole(port, "pruned");
    scene.cluster.switch_on(Node::Volume(2));
    let dry = scene.run(port, &["prune", "--dry-run", "--json"]).expect(0).json().remove(0);
    assert_eq!(dry["packs_deleted"], 0, "nothing came back: {dry}");
    scene.is_whole(port, "pruned-and-back");
    println!("a prune went well while a server was lost");

    // The very server that is asked goes: the run fails, nothing is lost, and the next one goes well.
    scene.write(2);
    line.plan(puts_a_pack, 1, scene.off(Node::S3));
    let failed = scene.run(port, &["backup", "source", "--s3-tries", "3"]).expect(1);
    line.has_struck();
    assert!(!failed.text().contains("snapshot"), "{}", failed.text());
    scene.cluster.switch_on(Node::S3);
    scene.run(port, &["verify", "--all"]).expect(0);
    scene.run(port, &["backup", "source"]).expect(0);
    scene.is_whole(port, "after-all");
    println!("a backup failed with the server that it talked to, and the next one went well");
}
