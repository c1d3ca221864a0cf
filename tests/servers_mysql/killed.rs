//! Restores that are killed or cut off: there is nothing afterwards, or what says of itself that it is incomplete.

use super::server::server;
use crate::program::{CHEAP, Place, Run};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Stands in front of a server, lets so many connections pass and holds the next, unanswered, until it opens.
struct Gate {
    port: u16,
    came: Arc<AtomicUsize>,
    holds: Receiver<()>,
    held: Arc<Mutex<Held>>,
}

#[derive(Default)]
struct Held {
    connections: Vec<TcpStream>,
    /// Whether all that comes passes.
    is_open: bool,
}

impl Gate {
    fn before(server: u16, lets_pass: usize) -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tell, holds) = channel();
        let (came, held): (Arc<AtomicUsize>, Arc<Mutex<Held>>) = Default::default();
        let (counter, kept) = (came.clone(), held.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let mut held = kept.lock().unwrap();
                if counter.fetch_add(1, Ordering::SeqCst) >= lets_pass && !held.is_open {
                    held.connections.push(client);
                    // Who has let go of the gate wants to hear no more.
                    let _ = tell.send(());
                    continue;
                }
                drop(held);
                let server = TcpStream::connect(("127.0.0.1", server)).unwrap();
                pass(client.try_clone().unwrap(), server.try_clone().unwrap());
                pass(server, client);
            }
        });
        Gate { port, came, holds, held }
    }

    fn wait_until_it_holds(&self) {
        self.holds.recv_timeout(Duration::from_secs(60)).unwrap();
    }

    /// Cuts what it holds; what comes later passes.
    fn cut_and_open(&self) {
        let mut held = self.held.lock().unwrap();
        held.is_open = true;
        held.connections.drain(..).for_each(|client| drop(client.shutdown(Shutdown::Both)));
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.cut_and_open();
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        let mut piece = [0; 16 << 10];
        while let Ok(length @ 1..) = from.read(&mut piece) {
            if to.write_all(&piece[..length]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}

const SHOP: &str = "CREATE TABLE a (x int PRIMARY KEY); INSERT INTO a VALUES (1), (2); CREATE TABLE b (y text); \
    INSERT INTO b VALUES ('b'); CREATE VIEW v AS SELECT x FROM a; CREATE PROCEDURE p() SELECT 1; \
    CREATE TRIGGER t BEFORE INSERT ON b FOR EACH ROW SET NEW.y = 'c'";

#[test]
fn a_restore_that_is_killed_leaves_nothing_or_what_says_that_it_is_incomplete() {
    let Some(server) = server() else { return };
    let (there, back) = ("killed there", "killed back");
    server.fresh(there);
    server.sql_in(there, SHOP);
    server.sql(&format!("DROP DATABASE IF EXISTS `{back}`"));
    let place = Place::new();
    let source = format!("shop={}", server.url(there));
    place.run(&[&["backup", "--init"], &CHEAP[..], &["--mysql", &source]].concat()).expect(0);
    let whole = server.dumped(there).replace(there, "");
    let restore = |gate: &Gate| {
        let url = server.url_through(gate.port, back);
        place.command(&["restore", "latest", "--to-mysql", &url, "--create", "--jobs", "1"]).spawn().unwrap()
    };

    // One that is not killed says how often the server is asked.
    let gate = Gate::before(server.port(), usize::MAX);
    assert!(restore(&gate).wait().unwrap().success());
    assert_eq!(server.dumped(back).replace(back, ""), whole);
    let all = gate.came.load(Ordering::SeqCst);
    server.sql(&format!("DROP DATABASE `{back}`"));

    let url = server.url(back);
    let (mut nothing, mut incomplete) = (0, 0);
    for killed_at in (0..all).rev().step_by(3) {
        let gate = Gate::before(server.port(), killed_at);
        let mut child = restore(&gate);
        gate.wait_until_it_holds();
        child.kill().unwrap();
        child.wait().unwrap();
        drop(gate);
        if !server.sql("SHOW DATABASES").contains(back) {
            nothing += 1;
            continue;
        }
        incomplete += 1;
        assert!(server.sql_in(back, "SHOW TABLES").contains("keepstone_incomplete"), "killed at {killed_at} of {all}");
        if incomplete == 1 {
            // All is in it but the end, which only the mark tells.
            assert_eq!(server.sql_in(back, "SELECT x FROM v; SELECT y FROM b"), "1\n2\nb\n");
            for more in [&["--create"][..], &["--validate-only"], &["--phase", "data"]] {
                let run = place.run(&[&["restore", "latest", "--to-mysql", &url], more].concat()).expect(11);
                assert!(run.err.contains("is incomplete") && run.err.contains("--drop-existing"), "{}", run.err);
            }
            let run = place.run(&["probe", &url]).expect(1);
            assert!(run.text().contains("wholeness") && run.text().contains("incomplete"), "{}", run.text());
            let run = place.run(&["probe", &server.url(there)]).expect(0);
            assert!(run.text().contains("leftovers") && run.text().contains(back), "{}", run.text());
            let run = place.run(&["backup", "--mysql", &url]).expect(1);
            assert!(run.err.contains("wholeness") && run.err.contains("incomplete"), "{}", run.err);
            let drill = ["drill", "latest", "--server", &server.url(""), "--allow-source-server"];
            assert!(place.run(&drill).expect(0).err.contains("of database killed back: it is incomplete"));
        }
        server.sql(&format!("DROP DATABASE `{back}`"));
    }
    assert!(nothing >= 2 && incomplete >= 2, "{nothing} and {incomplete} of {all}");

    // A connection that is cut is told, and what was made is taken away.
    for cut_at in [all - 1, all * 2 / 3] {
        let gate = Gate::before(server.port(), cut_at);
        let child = restore(&gate);
        gate.wait_until_it_holds();
        gate.cut_and_open();
        let run = Run::of(child).expect(1);
        let at = format!("127.0.0.1:{}", gate.port);
        assert!(run.err.contains(&at), "{}", run.err);
        if cut_at == all - 1 {
            assert!(run.err.contains("all is restored, and only its mark is left"), "{}", run.err);
            server.sql(&format!("DROP DATABASE `{back}`"));
        } else {
            assert!(run.err.contains("database killed back"), "{}", run.err);
        }
        assert!(!server.sql("SHOW DATABASES").contains(back), "cut at {cut_at}: {}", run.err);
    }

    // One that is replaced: what is killed is healed by another.
    let gate = Gate::before(server.port(), all - 2);
    let mut child = restore(&gate);
    gate.wait_until_it_holds();
    child.kill().unwrap();
    child.wait().unwrap();
    drop(gate);
    let heal = ["restore", "latest", "--to-mysql", &url, "--drop-existing", "--confirm-destructive", back];
    place.run(&heal).expect(0);
    assert_eq!(server.dumped(back).replace(back, ""), whole);
    server.sql(&format!("DROP DATABASE `{back}`"));
}

#[test]
fn a_restore_into_a_database_that_is_there_is_marked_until_it_is_whole() {
    let Some(server) = server() else { return };
    server.fresh("marked there");
    server.sql_in("marked there", &format!("{SHOP}; CREATE DEFINER='gone'@'nowhere' VIEW w AS SELECT 1 AS x"));
    let place = Place::new();
    let source = format!("shop={}", server.url("marked there"));
    place.run(&[&["backup", "--init"], &CHEAP[..], &["--mysql", &source]].concat()).expect(0);
    server.fresh("marked back");
    server.user("marker", "pw", &["ALL ON `marked back`.*"]);
    let url = server.url_of("marker", "pw", "marked back");
    // Views of others come last, and he may not make them.
    let run = place.run(&["restore", "latest", "--to-mysql", &url]).expect(1);
    assert!(run.err.contains("--no-owner") && run.err.contains("incomplete"), "{}", run.err);
    let again = place.run(&["restore", "latest", "--to-mysql", &url, "--no-owner"]).expect(11);
    assert!(again.err.contains("DROP TABLE `marked back`.`keepstone_incomplete`"), "{}", again.err);
    server.fresh("marked back");
    place.run(&["restore", "latest", "--to-mysql", &url, "--no-owner"]).expect(0);
    assert!(!server.sql_in("marked back", "SHOW TABLES").contains("keepstone"));
    assert_eq!(server.sql_in("marked back", "SELECT x FROM w"), "1\n");
}
