//! What goes wrong with MariaDB and MySQL, in the program: each failure names server, database and object, has the exit
//! code that is documented, and takes nothing from earlier snapshots.

use super::server::{PASSWORD, Server, another, server};
use crate::program::{CHEAP, Place};
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

const SHOP: &str = "CREATE TABLE orders (id int PRIMARY KEY, note text); INSERT INTO orders VALUES (1, 'a'), (2, 'b'); \
    CREATE TABLE stock (id int PRIMARY KEY); INSERT INTO stock VALUES (7)";

/// A repository with one good night of a shop.
struct Shop {
    place: Place,
    source: String,
}

impl Shop {
    fn new(server: &Server, database: &str) -> Shop {
        server.fresh(database);
        server.sql_in(database, SHOP);
        let (place, source) = (Place::new(), format!("shop={}", server.url(database)));
        place.run(&[&["backup", "--init"], &CHEAP[..], &["--mysql", &source]].concat()).expect(0);
        place.make_tree();
        Shop { place, source }
    }

    /// A night that fails: there is no snapshot of it, and the earlier one is whole.
    #[track_caller]
    fn bad_night(&self, source: &str, path: Option<&OsString>, words: &[&str]) {
        let change = |command: &mut Command| {
            path.map(|path| command.env("PATH", path));
        };
        let args = ["backup", "--attempts", "1", "--mysql", source];
        let run = self.place.run_with(&args, change, b"").expect(1);
        let said = [words, &["so there is no snapshot", "@mysql/shop was not backed up: "]].concat();
        said.iter().for_each(|word| assert!(run.err.contains(word), "no `{word}` in:\n{}", run.err));
        // With a folder beside it there is a snapshot, and it says what it lacks.
        let beside = self.place.run_with(&[&args[..], &["source"]].concat(), change, b"").expect(3);
        words.iter().for_each(|word| assert!(beside.err.contains(word), "no `{word}` in:\n{}", beside.err));
        assert!(!beside.err.contains(PASSWORD) && !beside.err.contains("hidden"), "a password was printed");
        let shown = self.place.run(&["show", "latest"]).expect(0).text();
        assert!(shown.contains("partial") && shown.contains("@mysql/shop was not backed up: "), "{shown}");
        self.place.run(&["forget", "latest"]).expect(0);
        let shown = self.place.run(&["show", "latest"]).expect(0).text();
        assert!(shown.contains("orders") && !shown.contains("partial"), "{shown}");
        self.place.run(&["verify", "--all"]).expect(0);
    }

    /// A `PATH` in which the dump program first does something else when it is to give rows.
    fn path_with(&self, server: &Server, first: &str) -> OsString {
        let folder = self.place.path("programs");
        std::fs::create_dir_all(&folder).unwrap();
        let (_, real) = server.shell_programs();
        let script = format!(
            "#!/bin/sh\ncase \"$*\" in *--single-transaction*) {first} ;; esac\nexec {} \"$@\"\n",
            real.display()
        );
        let path = folder.join(real.file_name().unwrap());
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let rest = std::env::var_os("PATH").unwrap_or_default();
        std::env::join_paths([folder].into_iter().chain(std::env::split_paths(&rest))).unwrap()
    }
}

#[test]
fn a_night_with_a_wrong_host_password_database_or_user_is_named() {
    let Some(server) = server() else { return };
    let shop = Shop::new(server, "bad nights");
    let at = format!("127.0.0.1:{}", server.port());
    shop.bad_night("shop=mysql://ann@no-such-host.invalid/shop", None, &["no-such-host.invalid"]);
    shop.bad_night(&format!("shop={}", server.url_of("boss", "hidden", "bad nights")), None, &[&at, "Access denied"]);
    shop.bad_night(&format!("shop={}", server.url("nobody has it")), None, &[&at, "database nobody has it"]);
    server.user("one table", "pw", &["SELECT ON `bad nights`.orders"]);
    let poor = format!("shop={}", server.url_of("one table", "pw", "bad nights"));
    shop.bad_night(&poor, None, &[&at, "bad nights", "GRANT SELECT"]);
    let empty = OsString::from(shop.place.path("none"));
    shop.bad_night(&shop.source, Some(&empty), &["bad nights", "client programs", "to be found in PATH", "install"]);
}

#[test]
fn a_night_in_which_somebody_alters_or_drops_a_table_is_named() {
    let Some(server) = server() else { return };
    let shop = Shop::new(server, "bad drift");
    let (client, _) = server.shell_programs();
    // Each time otherwise, by the number of the shell's process.
    for (statements, table) in [
        ("ALTER TABLE orders COMMENT = 'night $$'", "table orders"),
        ("DROP TABLE stock; CREATE TABLE stock (id int, night$$ int)", "table stock"),
    ] {
        let path = shop.path_with(server, &format!("{client} 'bad drift' -e \"{statements}\""));
        shop.bad_night(&shop.source, Some(&path), &["database bad drift", table, "dump again"]);
    }
}

#[test]
fn a_server_that_is_killed_in_mid_dump_is_named() {
    let Some(server) = another() else { return };
    let shop = Shop::new(&server, "bad end");
    let path = shop.path_with(&server, &format!("kill -KILL $(cat {})", server.pid_file().display()));
    shop.bad_night(&shop.source, Some(&path), &[&format!("127.0.0.1:{}", server.port())]);
}

#[test]
fn an_option_file_that_is_not_there_is_named_and_nobody_logs_in_as_somebody_else() {
    let Some(server) = server() else { return };
    let shop = Shop::new(server, "bad file");
    let url = format!("{}?defaults-file=/nofile.cnf", server.url("bad file"));
    for (args, code) in
        [(&["probe", &url][..], 1), (&["backup", "--mysql", &url], 2), (&["restore", "latest", "--to-mysql", &url], 2)]
    {
        let run = shop.place.run(args).expect(code);
        let said = format!("{}{}", run.text(), run.err);
        assert!(said.contains("cannot read the option file /nofile.cnf"), "{said}");
    }
}

#[test]
fn a_table_that_is_dropped_before_its_turn_costs_one_attempt() {
    let Some(server) = server() else { return };
    let shop = Shop::new(server, "bad drop");
    let (client, _) = server.shell_programs();
    let path = shop.path_with(server, &format!("{client} 'bad drop' -e 'DROP TABLE IF EXISTS stock'"));
    let source = shop.source.as_str();
    let change = |command: &mut Command| {
        command.env("PATH", &path);
    };
    let run = shop.place.run_with(&["backup", "--attempts", "2", "--mysql", source], change, b"").expect(0);
    assert!(run.text().contains("1 table, 2 rows"), "{}", run.text());
    server.sql_in("bad drop", "CREATE TABLE stock (id int PRIMARY KEY)");
    let run = shop.place.run_with(&["backup", "--attempts", "1", "--mysql", source], change, b"").expect(1);
    let said = "database bad drop, table stock: Couldn't find table";
    assert!(run.err.contains(said) && run.err.contains("dropped or renamed"), "{}", run.err);
}

#[test]
fn a_table_that_somebody_else_has_locked_is_waited_for_as_long_as_was_said() {
    let Some(server) = server() else { return };
    let shop = Shop::new(server, "bad lock");
    let holder = std::thread::spawn(|| server.refused_in("bad lock", "LOCK TABLES stock WRITE; SELECT SLEEP(599)"));
    let holding = "SELECT id FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP(599)%'";
    let connection = loop {
        let found = server.sql(holding);
        if !found.is_empty() {
            break found.trim().to_owned();
        }
    };
    let night = ["backup", "--lock-timeout", "1", "--attempts", "1", "--mysql", &shop.source];
    let known = format!("locked by connection {connection} (root@localhost");
    let guessed = format!("perhaps by one of connection {connection} (root@localhost");
    let run = shop.place.run(&night).expect(1);
    let by = if server.is_mariadb() { &guessed } else { &known };
    for said in ["bad lock, table stock", "not free within 1 s (--lock-timeout)", by] {
        assert!(run.err.contains(said), "no `{said}` in {}", run.err);
    }
    if server.is_mariadb() {
        server.sql("INSTALL SONAME 'metadata_lock_info'");
        let run = shop.place.run(&night).expect(1);
        assert!(run.err.contains(&known) && run.err.contains(&format!("KILL {connection}")), "{}", run.err);
    }
    let probe = shop.place.run(&["probe", &server.url("bad lock")]).expect(0);
    assert!(probe.text().contains("a dump would wait for table stock"), "{}", probe.text());
    if server.is_mariadb() {
        server.sql("UNINSTALL SONAME 'metadata_lock_info'");
    }
    server.sql(&format!("KILL {connection}"));
    assert!(!holder.join().unwrap().is_empty());
    shop.place.run(&night).expect(0);
}
