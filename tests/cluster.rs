//! Repositories on clusters that lose nodes while they are at work: what the stories of each sort of cluster share.

mod garage;
mod seaweed;

use crate::program::{CHEAP, Place, Run, describe, noise};
use crate::servers::cluster::{Cluster, comes_about};
use crate::servers::proxy::{Fate, Proxy, Request};
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Whether these tests are to run: several servers and some hundred MB each are for the long run.
fn is_long() -> bool {
    std::env::var_os("KEEPSTONE_LONG").is_some()
}

/// What is done when the moment comes.
type Act = Box<dyn FnOnce() + Send>;

/// A line to one node, on which something is done to the cluster at a chosen request.
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

    fn port(&self) -> u16 {
        self.proxy.port
    }

    /// Does `act` at the wanted request after `before` others.
    fn plan(&self, wanted: fn(&Request) -> bool, before: u64, act: impl FnOnce() + Send + 'static) {
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

/// A cluster, and a place to work from.
struct Scene<C> {
    cluster: Arc<C>,
    place: Place,
}

impl<C: Cluster> Scene<C> {
    fn of(cluster: C) -> Scene<C> {
        let place = Place::new();
        place.make_tree();
        Scene { cluster: Arc::new(cluster), place }
    }

    fn run(&self, port: u16, args: &[&str]) -> Run {
        self.place.run_with(args, |command| self.lead(command, port), b"")
    }

    /// The program, ready to be started beside others.
    fn command(&self, port: u16, args: &[&str]) -> Command {
        let mut command = self.place.command(args);
        self.lead(&mut command, port);
        command
    }

    /// Leads a command to the repository in the cluster.
    fn lead(&self, command: &mut Command, port: u16) {
        command.env("KEEPSTONE_REPOSITORY", self.cluster.place(port)).envs(self.cluster.environment());
    }

    /// Makes the repository.
    fn begin(&self, port: u16) {
        self.run(port, &[&["backup", "--init"], &CHEAP[..], &["source"]].concat()).expect(0);
    }

    /// Writes a night: much that is new, so that there are several packs.
    fn write(&self, night: u8) {
        for file in 0..3u8 {
            let bytes: Vec<u8> = noise(9_000_000).iter().map(|byte| byte ^ (1 + night * 3 + file)).collect();
            fs::write(self.place.path(&format!("source/{night}-{file}.bin")), bytes).unwrap();
        }
    }

    /// A closure that pulls the plug of servers.
    fn off(&self, nodes: &[C::Node]) -> impl FnOnce() + Send + 'static {
        let (cluster, nodes) = (self.cluster.clone(), nodes.to_vec());
        move || nodes.into_iter().for_each(|node| cluster.switch_off(node))
    }

    fn is_whole(&self, port: u16, name: &str) {
        self.run(port, &["verify", "--all"]).expect(0);
        self.run(port, &["restore", "latest", "--target", name]).expect(0);
        let source = self.place.path("source").canonicalize().unwrap();
        let back = self.place.path(name).join(source.strip_prefix("/").unwrap());
        assert_eq!(describe(&back), describe(&source), "{name}");
    }

    /// A server goes while packs are stored, and the backup ends well; all is there although a part of the copies is not.
    fn loses_in_a_backup(&self, line: &Line, node: C::Node) {
        self.write(0);
        line.plan(puts_a_pack, 1, self.off(&[node]));
        self.run(line.port(), &["backup", "source"]).expect(0);
        line.has_struck();
        self.is_whole(line.port(), "backed-up");
        self.cluster.switch_on(node);
        println!("a backup went well while {node:?} was lost");
    }

    /// Likewise, and what lay there is read from where it lies besides.
    fn loses_in_a_restore(&self, line: &Line, node: C::Node) {
        line.plan(gets_of_a_pack, 1, self.off(&[node]));
        self.is_whole(line.port(), "restored");
        line.has_struck();
        self.cluster.switch_on(node);
        println!("a verify and a restore went well while {node:?} was lost");
    }

    /// The server that is gone does not hear of the deletions, and nothing comes back with it.
    fn loses_in_a_prune(&self, line: &Line, node: C::Node) {
        let port = line.port();
        fs::remove_file(self.place.path("source/0-0.bin")).unwrap();
        self.write(1);
        self.run(port, &["backup", "source"]).expect(0);
        self.run(port, &["forget", "--keep-last", "1"]).expect(0);
        line.plan(deletes, 0, self.off(&[node]));
        let pruned = self.run(port, &["prune", "--max-unused", "0", "--json"]).expect(0).json().remove(0);
        line.has_struck();
        assert!(pruned["packs_deleted"].as_u64().unwrap() > 0, "{pruned}");
        self.is_whole(port, "pruned");
        self.cluster.switch_on(node);
        self.is_whole(port, "pruned-and-back");
        // Listings may show for a while what was deleted without that server.
        let nothing_comes_back = || {
            let dry = self.run(port, &["prune", "--dry-run", "--json"]).expect(0).json().remove(0);
            dry["packs_deleted"] == 0
        };
        assert!(comes_about(nothing_comes_back), "something came back");
        println!("a prune went well while {node:?} was lost");
    }

    /// So much goes that nobody can store anything: the run fails and tells of no snapshot.
    fn fails_when_these_go(&self, line: &Line, nodes: &[C::Node], night: u8) {
        self.write(night);
        line.plan(puts_a_pack, 1, self.off(nodes));
        let failed = self.run(line.port(), &["backup", "source", "--s3-tries", "3"]).expect(1);
        line.has_struck();
        assert!(!failed.text().contains("snapshot"), "{}", failed.text());
        println!("a backup failed while {nodes:?} were lost");
    }
}
