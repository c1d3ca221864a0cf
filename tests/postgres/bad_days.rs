//! What goes wrong with servers, in the program: each failure names server, database and object, has the exit code that is
//! documented, and takes nothing from earlier snapshots.

use crate::program::{CHEAP, Place, Run};
use crate::servers::postgres::{PASSWORD, Server, another, server};
use crate::surroundings::small_disk;
use keepstone::db::postgres::{Address, identifier};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

const SHOP: &str = "CREATE TABLE orders (id int PRIMARY KEY, note text);
    INSERT INTO orders SELECT i, md5(i::text) FROM generate_series(1, 3000) i;";

/// A repository with one good night of a shop.
struct Shop {
    place: Place,
    address: Address,
    source: String,
}

impl Shop {
    fn new(server: &Server, sql: &str) -> Shop {
        let address = server.create(&format!("{SHOP}{sql}"));
        let place = Place::new();
        let source = format!("shop={}", server.url(&address.database));
        place.run(&[&["backup", "--init"], &CHEAP[..], &["--postgres", &source]].concat()).expect(0);
        Shop { place, address, source }
    }

    /// A night that fails: there is no snapshot of it, and the earlier one is whole.
    #[track_caller]
    fn bad_night(&self, source: &str, more: &[&str], words: &[&str]) {
        let args = [&["backup", "--attempts", "1", "--postgres", source], more].concat();
        let run = self.place.run(&args).expect(1);
        says(&run, &[words, &["so there is no snapshot", "@postgres/shop was not backed up: "]].concat());
        // With another source beside it there is a snapshot, and it says what it lacks.
        let beside = self.place.run(&[&args[..], &["--command", "a=echo a"]].concat()).expect(3);
        says(&beside, words);
        says(&self.place.run(&["show", "latest"]).expect(0), &["partial", "@postgres/shop was not backed up: "]);
        self.place.run(&["forget", "latest"]).expect(0);
        self.is_whole();
    }

    /// A restore that fails: no database is left, and the snapshot is whole.
    #[track_caller]
    fn bad_restore(&self, server: &Server, to: &str, more: &[&str], code: i32, words: &[&str]) {
        let url = server.url(to);
        let args = [&["restore", "latest", "--to-postgres", &url, "--create"], more].concat();
        says(&self.place.run(&args).expect(code), words);
        let left = format!("SELECT count(*) FROM pg_database WHERE datname = '{to}'");
        assert_eq!(server.connect("postgres").value(&left).unwrap().as_deref(), Some("0"));
        self.is_whole();
    }

    #[track_caller]
    fn is_whole(&self) {
        says(&self.place.run(&["show", "latest"]).expect(0), &["public.orders", "3,000"]);
        self.place.run(&["verify", "--all"]).expect(0);
    }

    /// A folder with `pg_dump`, `pg_dumpall` and `pg_restore` that are scripts.
    fn programs(&self, script: &str) -> PathBuf {
        let folder = self.place.path("programs");
        std::fs::create_dir_all(&folder).unwrap();
        for name in ["pg_dump", "pg_dumpall", "pg_restore"] {
            let path = folder.join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        folder
    }
}

#[track_caller]
fn says(run: &Run, words: &[&str]) {
    let all = format!("{}{}", run.text(), run.err);
    for word in words {
        assert!(all.contains(word), "no `{word}` in:\n{all}");
    }
    assert!(!all.contains(PASSWORD) && !all.contains("Gpw"), "a password was printed:\n{all}");
}

#[test]
fn a_night_with_a_wrong_host_password_or_database_is_named() {
    let Some(server) = server() else { return };
    let shop = Shop::new(server, "");
    let at = format!("127.0.0.1:{}", server.port);
    let nowhere = "shop=postgres://ann@no-such-host.invalid/shop";
    shop.bad_night(nowhere, &[], &["no-such-host.invalid:5432"]);
    let wrong = shop.source.replace("secret", "hidden");
    shop.bad_night(
        &wrong,
        &[],
        &[&at, &shop.address.database, "password of user postgres is wrong, or there is no such role"],
    );
    shop.bad_night(&format!("shop={}", server.url("nobody_has_it")), &[], &[&at, "database nobody_has_it"]);
}

#[test]
fn a_night_without_fitting_client_programs_is_named() {
    let Some(server) = server() else { return };
    let shop = Shop::new(server, "");
    let at = format!("127.0.0.1:{}, database {}, client programs: ", server.port, shop.address.database);
    let empty = shop.place.path("");
    shop.bad_night(&shop.source, &["--programs", empty.to_str().unwrap()], &[&at, "are not in", "postgresql-client-"]);
    let old = shop.programs("echo 'pg_dump (PostgreSQL) 9.6.24'");
    let programs = ["--programs", old.to_str().unwrap()];
    shop.bad_night(&shop.source, &programs, &[&at, "pg_dump 9.6", "is too old for this server"]);
    shop.bad_restore(server, "never_made_1", &programs, 1, &["client programs: ", "too old", "postgresql-client-"]);
}

#[test]
fn a_night_of_a_role_that_may_not_read_everything_names_the_table() {
    let Some(server) = server() else { return };
    let shop = Shop::new(
        server,
        "CREATE ROLE bad_days_poor LOGIN PASSWORD 'poor'; CREATE TABLE hidden (a int); CREATE TABLE guarded (a int);
         ALTER TABLE guarded ENABLE ROW LEVEL SECURITY; GRANT SELECT ON orders, guarded TO bad_days_poor;",
    );
    let database = &shop.address.database;
    let poor = format!("shop=postgres://bad_days_poor:poor@127.0.0.1:{}/{database}", server.port);
    shop.bad_night(&poor, &["--no-globals"], &[database, "public.hidden", "GRANT"]);
    let open = ["--no-globals", "--exclude-table", "hidden"];
    shop.bad_night(&poor, &open, &[database, "public."]);
    server.connect(database).execute("GRANT SELECT ON hidden TO bad_days_poor").unwrap();
    shop.bad_night(&poor, &["--no-globals"], &[database, "row security", "public.guarded", "BYPASSRLS"]);
    // Reassign what the role has, so that it can go.
    server.connect(database).execute("DROP OWNED BY bad_days_poor; DROP ROLE bad_days_poor").unwrap();
}

#[test]
fn a_night_in_which_somebody_alters_or_drops_a_table_is_named() {
    let Some(server) = server() else { return };
    let shop = Shop::new(server, "");
    let mut other = server.connect(&shop.address.database);
    other.execute("BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE").unwrap();
    let process = other.backend().unwrap();
    let impatient = ["--lock-timeout", "1", "--no-globals"];
    let who = format!("process {process}");
    shop.bad_night(&shop.source, &impatient, &[&shop.address.database, "table public.orders", &who]);
    other.execute("ROLLBACK").unwrap();

    // Once all tables are locked for reading, who wants to alter or drop one waits; who reads it later would wait behind.
    let (psql, real) = (server.programs.join("psql"), server.programs.join("pg_dump"));
    for statement in ["ALTER TABLE orders ADD IF NOT EXISTS m int", "DROP TABLE orders"] {
        let script = format!(
            "case \"$*\" in *pre-data*)
                 {psql} -Xqc \"BEGIN; {statement}; ROLLBACK\" {database} >/dev/null 2>&1 </dev/null &
                 for i in $(seq 600); do
                     [ \"$({psql} -XAtc 'SELECT 1 FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE NOT granted AND datname = current_database() LIMIT 1' {database})\" ] && break
                     sleep 0.05
                 done ;;
             esac
             exec {real} \"$@\"",
            psql = psql.display(),
            real = real.display(),
            database = shop.address.database
        );
        let programs = shop.programs(&script);
        let more = [&["--programs", programs.to_str().unwrap()], &impatient[..]].concat();
        shop.bad_night(&shop.source, &more, &[&shop.address.database, "wait"]);
    }
}

#[test]
fn a_night_whose_repository_becomes_full_fails_and_the_next_with_room_is_whole() {
    let Some(server) = server() else { return };
    let shop = Shop::new(server, "");
    let vault = shop.place.path("vault");
    let kept = shop.place.path("kept");
    std::fs::rename(&vault, &kept).unwrap();
    let Some(_disk) = small_disk(&vault, 1_500_000) else {
        println!("skipped: no file system can be mounted here");
        return;
    };
    let copied = Command::new("cp").arg("-a").arg(kept.join(".")).arg(&vault).status().unwrap();
    assert!(copied.success());
    server
        .connect(&shop.address.database)
        .execute(
            "CREATE TABLE noise (id int PRIMARY KEY, bytes bytea);
             INSERT INTO noise SELECT i, decode(md5(random()::text) || md5(random()::text), 'hex')
             FROM generate_series(1, 60000) i",
        )
        .unwrap();
    let run = shop.place.run(&["backup", "--postgres", &shop.source, "--ignore-free-space"]).expect(1);
    says(&run, &["space"]);
    shop.is_whole();
    let grown = Command::new("mount").args(["-o", "remount,size=20000000"]).arg(&vault).status().unwrap();
    assert!(grown.success());
    shop.place.run(&["backup", "--postgres", &shop.source]).expect(0);
    says(&shop.place.run(&["show", "latest"]).expect(0), &["public.noise", "60,000"]);
    shop.place.run(&["verify", "--all"]).expect(0);
}

#[test]
fn a_server_that_is_killed_in_mid_dump_is_named() {
    let Some(server) = another(&[]) else { return };
    let shop = Shop::new(&server, "");
    // The real program, once the server has gone: the moment was taken, and definitions are asked for.
    let real = server.programs.join("pg_dump");
    let data = server.folder.join("data");
    let script = format!(
        "case \"$*\" in *--version*) exec {real} --version ;; esac
         kill -KILL $(head -n 1 {data}/postmaster.pid) $(ls /proc | while read p; do
             grep -qs '^PPid:.'$(head -n 1 {data}/postmaster.pid)'$' /proc/$p/status && echo $p; done) 2>/dev/null
         exec {real} \"$@\"",
        real = real.display(),
        data = data.display()
    );
    let programs = shop.programs(&script);
    let at = format!("127.0.0.1:{}", server.port);
    let more = ["--programs", programs.to_str().unwrap(), "--no-globals"];
    shop.bad_night(&shop.source, &more, &["@postgres/shop was not backed up", &at]);
}

#[test]
fn a_restore_whose_connection_is_cut_or_whose_server_is_full_names_the_object_and_leaves_nothing() {
    let Some(server) = server() else { return };
    // Functions in indexes that do so in a database that is being restored, and nowhere else.
    let function = |name: &str, what: &str| {
        format!(
            "CREATE FUNCTION {name}(x int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
               IF pg_catalog.current_database() LIKE 'keepstone\\_restore%' THEN {what}; END IF; RETURN x; END $$;
             CREATE INDEX of_{name} ON orders ({name}(id));"
        )
    };
    for (name, what, said) in [
        ("cutting", "PERFORM pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid())", "terminating connection"),
        (
            "filling",
            "RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'",
            "No space left on device",
        ),
    ] {
        let shop = Shop::new(server, &function(name, what));
        let at = format!("127.0.0.1:{}, database {name}, CREATE INDEX of_{name} ON public.orders: ", server.port);
        shop.bad_restore(server, name, &[], 1, &[&at, said, "the unfinished database was dropped again"]);
    }
}

#[test]
fn a_target_that_lacks_a_role_or_refuses_is_named_before_anything_is_made() {
    let Some(server) = server() else { return };
    let role = "bad_days_owner";
    server.connect("postgres").execute(&format!("CREATE ROLE {}", identifier(role))).unwrap();
    let shop = Shop::new(server, &format!("ALTER TABLE orders OWNER TO {role};"));
    let Some(other) = another(&[]) else { return };
    let at = format!("127.0.0.1:{}, database lacking, role {role}", other.port);
    shop.bad_restore(&other, "lacking", &[], 1, &[&at, "--globals", "--no-owner", "TABLE public.orders"]);
    let mut session = other.connect("postgres");
    session.execute("CREATE ROLE bad_days_guest LOGIN PASSWORD 'guest'").unwrap();
    let guest = format!("postgres://bad_days_guest:guest@127.0.0.1:{}/guests", other.port);
    let run = shop.place.run(&["restore", "latest", "--to-postgres", &guest, "--create", "--no-owner"]).expect(1);
    says(&run, &["database guests", "bad_days_guest may not create databases", "CREATEDB"]);
    shop.is_whole();
}
