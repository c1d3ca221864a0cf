//! Dumps of a real server: complete, exact, of one moment, and clear about why not.

use super::taken::{Taken, options, source, take, take_with};
use crate::servers::postgres::{
    PASSWORD, Server, another, pooler_of, server, standby_of, surroundings, watch, watch_with,
};
use keepstone::base::monitor::Remember;
use keepstone::base::{Clock, Kind, Stop};
use keepstone::db::Watch;
use keepstone::db::postgres::{Address, Connection, literal};
use keepstone::format::dump::{Manifest, StreamRole, Table};
use keepstone::source::dump::DumpSource;
use keepstone::source::postgres::{Content, Options, PostgresSource};
use keepstone::target::postgres::archive::Archive;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// A database full of odd objects, as far as the server was built for them.
fn odd(server: &Server) -> String {
    let has_xml = server.connect("postgres").query("SELECT '<a/>'::xml").is_ok();
    include_str!("odd.sql").replace("n xml", if has_xml { "n xml" } else { "n text" })
}

fn table<'m>(manifest: &'m Manifest, schema: &str, name: &str) -> &'m Table {
    let found = manifest.tables.iter().find(|table| (table.schema.as_str(), table.name.as_str()) == (schema, name));
    found.unwrap_or_else(|| panic!("{schema}.{name} is not in the manifest"))
}

/// What a client program prints; it must end well.
fn output(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn plain_dump(server: &Server, database: &str) -> String {
    let mut command = server.program("pg_dump", database);
    command.args(["--restrict-key=x", "--inserts"]);
    output(command)
}

/// Brings a dump back with PostgreSQL's own programs and plain COPY.
fn bring_back(server: &Server, taken: &Taken, database: &str) {
    let restore = |part: &str| {
        let mut child = server.program("pg_restore", database);
        let mut child = child.args(["--exit-on-error", "-d", database]).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&taken.streams[part]).unwrap();
        assert!(child.wait().unwrap().success(), "{part}");
    };
    restore("pre-data.dump");
    let mut connection = server.connect(database);
    for table in taken.manifest.tables.iter().filter(|table| table.stream.is_some()) {
        let names = table.columns.iter().map(|name| keepstone::db::postgres::identifier(name));
        let columns = names.collect::<Vec<_>>().join(", ");
        let columns = if columns.is_empty() { columns } else { format!("({columns})") };
        let name = keepstone::db::postgres::qualified(&table.schema, &table.name);
        let mut copy = connection.copy_in(&format!("COPY {name} {columns} FROM STDIN (ENCODING 'UTF8')")).unwrap();
        copy.write_all(&taken.streams[table.stream.as_ref().unwrap()]).unwrap();
        assert_eq!(copy.finish().unwrap(), table.rows, "{name}");
    }
    for sequence in &taken.manifest.sequences {
        let name = literal(&keepstone::db::postgres::qualified(&sequence.schema, &sequence.name));
        connection.query(&format!("SELECT setval({name}, {}, {})", sequence.last_value, sequence.is_called)).unwrap();
    }
    if taken.streams.contains_key("large-objects.dump") {
        restore("large-objects.dump");
    }
    restore("post-data.dump");
}

#[test]
fn a_database_full_of_odd_objects_comes_back_as_it_was() {
    let Some(server) = server() else { return };
    let address = server.create(&odd(server));
    let taken = take(&source(&address, options()));
    let manifest = &taken.manifest;
    assert_eq!(table(manifest, "public", "we\"ird\nname").rows, 4);
    assert_eq!(table(manifest, "Sales . Ünit", "a/b%c").columns, ["id", "v"]);
    assert_eq!(
        table(manifest, "Sales . Ünit", "a/b%c").stream.as_deref(),
        Some("tables/Sales %2E Ünit.a%2Fb%25c.copy")
    );
    assert_eq!((table(manifest, "public", "parent").rows, table(manifest, "public", "child").rows), (1, 2));
    assert_eq!((table(manifest, "public", "nothing").rows, table(manifest, "public", "all_generated").rows), (2, 1));
    let partitioned = table(manifest, "public", "log");
    assert_eq!((partitioned.stream.as_deref(), partitioned.note.as_str()), (None, "partitioned"));
    let leaves = ["log_2024", "log_rest", "log_deep_1"].map(|name| table(manifest, "public", name).rows);
    assert_eq!(leaves.iter().sum::<u64>(), 70);
    assert_eq!(table(manifest, "public", "log_rest").columns, ["t", "n", "at"]);
    assert_eq!(table(manifest, "public", "fleeting").note, "unlogged");
    assert!(manifest.tables.iter().all(|table| table.name != "kept" && table.name != "seen"));
    let odd = manifest.sequences.iter().find(|sequence| sequence.name == "odd seq").unwrap();
    assert_eq!((odd.last_value, odd.is_called), (6, true));
    assert_eq!(manifest.sequences.iter().filter(|sequence| !sequence.is_called).count(), 1);
    assert!(manifest.position.is_some() && manifest.server.identity.len() > 15);
    for table in manifest.tables.iter().filter(|table| table.stream.is_some()) {
        let stream = &taken.streams[table.stream.as_ref().unwrap()];
        assert_eq!(stream.len() as u64, table.bytes, "{}", table.name);
        assert_eq!(stream.iter().filter(|byte| **byte == b'\n').count() as u64, table.rows, "{}", table.name);
    }
    for entry in &manifest.streams {
        assert_eq!(taken.streams[&entry.path].len() as u64, entry.bytes, "{}", entry.path);
    }
    assert!(Manifest::decode(&manifest.encode()).is_ok());
    assert!(String::from_utf8_lossy(&taken.streams["globals.sql"]).contains("CREATE ROLE postgres"));

    let copy = server.create("");
    bring_back(server, &taken, &copy.database);
    assert_eq!(plain_dump(server, &address.database), plain_dump(server, &copy.database));
    // The copy has the same rows, so it has the same sums; and two dumps of one database are the same.
    let again = take(&source(&copy, options()));
    for table in &again.manifest.tables {
        assert_eq!(table.checksum, self::table(manifest, &table.schema, &table.name).checksum, "{}", table.name);
    }
    let once_more = take(&source(&address, Options { workers: 1, ..options() }));
    for (path, bytes) in &taken.streams {
        // Archives hold the time at which they were made.
        assert!(path.ends_with(".dump") || *bytes == once_more.streams[path], "{path} is another one");
    }
}

#[test]
fn rows_of_another_encoding_come_as_the_server_keeps_them() {
    let Some(server) = server() else { return };
    let mut admin = server.connect("postgres");
    admin.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'").unwrap();
    let address = server.address("latin");
    server.connect("latin").execute("CREATE TABLE \"é\" (\"ü\" text); INSERT INTO \"é\" VALUES ('Ärger')").unwrap();
    let taken = take(&source(&address, options()));
    assert_eq!(taken.streams["tables/public.é.copy"], b"\xc4rger\n");
    assert_eq!(taken.manifest.properties["encoding"], "LATIN1");
    admin.execute("CREATE DATABASE ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'").unwrap();
    server.connect("ascii").execute("CREATE TABLE t (b text); INSERT INTO t VALUES (E'\\xff\\xfe')").unwrap();
    assert_eq!(take(&source(&server.address("ascii"), options())).streams["tables/public.t.copy"], b"\xff\xfe\n");
}

#[test]
fn what_is_chosen_is_what_comes() {
    let Some(server) = server() else { return };
    let address = server.create(&odd(server));
    let tables = |options: Options| {
        let taken = take(&source(&address, options));
        let names = taken.manifest.tables.iter().map(|table| table.name.clone()).collect::<Vec<_>>();
        (names, taken)
    };
    let list = |patterns: &[&str]| patterns.iter().map(|pattern| (*pattern).to_owned()).collect::<Vec<_>>();
    let (names, taken) = tables(Options { include_tables: list(&["LOG_2*", "serial"]), ..options() });
    assert_eq!(names, ["log_2024", "serial"]);
    assert_eq!(taken.manifest.sequences.len(), 1, "the sequence of `serial` goes with it");
    assert!(!taken.streams.contains_key("large-objects.dump"));
    assert_eq!(taken.manifest.selection, ["--include-table LOG_2*", "--include-table serial"]);
    let (names, _) = tables(Options { schemas: list(&["\"Sales . Ünit\""]), ..options() });
    assert_eq!(names, ["a/b%c"]);
    let excluded = list(&["public.log*", "child", "\"Sales . Ünit\".*"]);
    let (names, _) = tables(Options { exclude_tables: excluded, ..options() });
    assert!(!names.iter().any(|name| name.starts_with("log") || name == "child" || name == "a/b%c"), "{names:?}");
    let (_, taken) = tables(Options { content: Content::SchemaOnly, ..options() });
    assert!(taken.manifest.tables.iter().all(|table| table.stream.is_none()));
    assert!(taken.manifest.streams_of(StreamRole::Data).next().is_none());
    let (_, taken) = tables(Options { content: Content::DataOnly, ..options() });
    assert!(taken.manifest.streams_of(StreamRole::PreData).next().is_none() && taken.manifest.rows() > 100);
    let without_rows = Options { exclude_table_data: list(&["parent"]), primary_key_order: true, ..options() };
    let (_, taken) = tables(without_rows);
    assert_eq!(table(&taken.manifest, "public", "parent").stream, None);
    assert!(taken.streams["tables/public.we\"ird%0Aname.copy"].starts_with(b"1\ta\\tb\\nc"));
    let error = |options: Options| source(&address, options).begin(&watch()).err().unwrap();
    assert_eq!(error(Options { include_tables: list(&["no_such"]), ..options() }).kind(), Kind::NotFound);
    let no_schema = error(Options { schemas: list(&["nowhere*"]), ..options() });
    assert_eq!(no_schema.kind(), Kind::NotFound);
    assert!(no_schema.to_string().contains("there is no schema that fits nowhere*"), "{no_schema}");
    assert_eq!(error(Options { include_tables: list(&["a.b.c"]), ..options() }).kind(), Kind::Usage);
}

#[test]
fn partitions_are_chosen_and_left_out_with_the_table_that_they_are_parts_of() {
    let Some(server) = server() else { return };
    let address = server.create(
        "CREATE TABLE \"all\" (n int) PARTITION BY RANGE (n);
         CREATE TABLE low PARTITION OF \"all\" FOR VALUES FROM (0) TO (10);
         CREATE TABLE high PARTITION OF \"all\" FOR VALUES FROM (10) TO (99) PARTITION BY LIST (n);
         CREATE TABLE \"hi gh\"\"er\" PARTITION OF high DEFAULT; CREATE TABLE stays AS SELECT 1 n;
         INSERT INTO \"all\" SELECT generate_series(0, 49)",
    );
    let list = |pattern: &str| vec![pattern.to_owned()];
    let taken = |options: Options| take(&source(&address, options));
    let names = |taken: &Taken| taken.manifest.tables.iter().map(|table| table.name.clone()).collect::<Vec<_>>();
    let defined = |taken: &Taken| {
        let pre_data = Archive::read(&mut &taken.streams["pre-data.dump"][..]).unwrap();
        let tables = pre_data.entries.iter().filter(|entry| entry.kind == b"TABLE");
        let mut names: Vec<_> = tables.map(|entry| String::from_utf8_lossy(&entry.tag).into_owned()).collect();
        names.sort();
        names
    };
    let included = taken(Options { include_tables: list("\"all\""), ..options() });
    assert_eq!(names(&included), ["all", "hi gh\"er", "high", "low"]);
    assert_eq!(defined(&included), names(&included), "pg_dump was told");
    assert_eq!(included.manifest.rows(), 50);
    let half = taken(Options { include_tables: list("all"), exclude_tables: list("high"), ..options() });
    assert_eq!((names(&half), half.manifest.rows()), (vec!["all".to_owned(), "low".to_owned()], 10));
    assert_eq!(defined(&half), names(&half));
    let excluded = taken(Options { exclude_tables: list("all"), ..options() });
    assert_eq!((names(&excluded), defined(&excluded)), (list("stays"), list("stays")));
    let emptied = taken(Options { exclude_table_data: list("all"), ..options() });
    assert_eq!((names(&emptied).len(), emptied.manifest.rows()), (5, 1));
}

#[test]
fn every_database_of_a_server_is_listed_and_roles_come_with_each() {
    let Some(server) = another(&[]) else { return };
    for name in ["one", "t/wo"] {
        server.create_named(name, "CREATE TABLE t ()");
    }
    server.create_named("shut", "CREATE TABLE t ()");
    server.connect("postgres").execute("ALTER DATABASE shut ALLOW_CONNECTIONS false").unwrap();
    server.create_named("pattern", "CREATE TABLE t ()");
    server.connect("postgres").execute("ALTER DATABASE pattern IS_TEMPLATE true").unwrap();
    let (around, heard) = (surroundings(), Arc::new(Remember::default()));
    let (address, watch) = (server.address("postgres"), watch_with(heard.clone()));
    let sources = PostgresSource::all_databases(&address, &options(), &around, &Clock::System, &watch).unwrap();
    let notes = heard.notes.lock().unwrap().join("\n");
    assert!(notes.contains("shut lets nobody in") && notes.contains("pattern is a template"), "{notes}");
    assert_eq!(notes.lines().count(), 2, "{notes}");
    let names: Vec<_> = sources.iter().map(|source| source.name().to_owned()).collect();
    assert_eq!(names, ["one", "postgres", "t%2Fwo"]);
    let taken: Vec<_> = sources.iter().map(|source| take(source)).collect();
    assert_eq!(taken[2].manifest.database, "t/wo");
    let roles: Vec<_> = taken.iter().map(|one| &one.streams["globals.sql"]).collect();
    assert!(roles.iter().all(|one| *one == roles[0] && !one.is_empty()), "the same bytes, which are stored once");
}

#[test]
fn configuration_of_extensions_comes_with_its_condition() {
    let Some(server) = server() else { return };
    let address = server.create("CREATE TABLE settings (k text, own bool); CREATE TABLE builtin (n int)");
    let mut connection = server.connect(&address.database);
    // As an extension's script leaves them: members, one of them marked as configuration.
    let made = "INSERT INTO pg_depend SELECT 'pg_class'::regclass, t::regclass, 0, 'pg_extension'::regclass, \
           (SELECT oid FROM pg_extension WHERE extname = 'plpgsql'), 0, 'e' FROM unnest(ARRAY['settings', 'builtin']) t; \
         UPDATE pg_extension SET extconfig = ARRAY['settings'::regclass::oid], extcondition = ARRAY['WHERE own']; \
         INSERT INTO settings VALUES ('mine', true), ('theirs', false); INSERT INTO builtin VALUES (1)";
    connection.execute(made).unwrap();
    let taken = take(&source(&address, options()));
    assert_eq!(taken.manifest.tables.len(), 1);
    let settings = table(&taken.manifest, "public", "settings");
    assert_eq!((settings.note.as_str(), settings.condition.as_deref()), ("extension configuration", Some("WHERE own")));
    assert_eq!(taken.streams["tables/public.settings.copy"], b"mine\tt\n");
}

#[test]
fn a_table_that_somebody_has_locked_is_named_with_who_it_is() {
    let Some(server) = server() else { return };
    let address = server.create("CREATE TABLE free (); CREATE TABLE busy ()");
    let mut other = server.connect(&address.database);
    other.execute("BEGIN; LOCK TABLE busy IN ACCESS EXCLUSIVE MODE").unwrap();
    let process = other.backend().unwrap();
    other.query("SELECT pg_backend_pid(), 'hush, it''s a secret'").unwrap();
    let patient = Options { lock_timeout: Duration::from_millis(200), ..options() };
    let error = source(&address, patient).begin(&watch()).err().unwrap();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert_eq!(error.object.as_deref(), Some("table public.busy"));
    assert!(error.message.contains(&format!("process {process} (user postgres")), "{error}");
    assert!(error.message.contains("pg_backend_pid()") && error.database.is_some(), "{error}");
    assert!(!error.message.contains("hush") && !error.message.contains("secret"), "{error}");
}

#[test]
fn a_prepared_transaction_that_holds_a_table_is_named_with_what_ends_it() {
    let Some(server) = another(&["max_prepared_transactions=2"]) else { return };
    let name = server.create_named("prepared", "CREATE TABLE busy ()").database;
    let mut other = server.connect(&name);
    other.execute("BEGIN; LOCK TABLE busy IN ACCESS EXCLUSIVE MODE; PREPARE TRANSACTION 'it''s mine'").unwrap();
    drop(other);
    let patient = Options { lock_timeout: Duration::from_millis(200), ..options() };
    let source = source(&server.address(&name), patient);
    let error = source.begin(&watch()).err().unwrap();
    assert_eq!(error.object.as_deref(), Some("table public.busy"));
    assert!(error.message.contains("ROLLBACK PREPARED 'it''s mine'"), "{error}");
    let probe = source.probe(&watch()).unwrap().unwrap();
    let check = probe.checks.iter().find(|check| check.name == "blockers").unwrap();
    assert!(check.message.contains("prepared transaction 'it''s mine' on public.busy"), "{check:?}");
    assert!(check.remedy.contains("ROLLBACK PREPARED"), "{check:?}");
}

#[test]
fn who_may_have_too_few_sessions_is_told_before_the_dump() {
    let Some(server) = server() else { return };
    let name = server.create("CREATE ROLE few LOGIN PASSWORD 'pw' CONNECTION LIMIT 2").database;
    let password = Some(keepstone::base::Secret::new("pw".into()));
    let address = Address { user: "few".to_owned(), password, ..server.address(&name) };
    let source = source(&address, Options { workers: 2, ..options() });
    let probe = source.probe(&watch()).unwrap().unwrap();
    let check = probe.checks.iter().find(|check| check.name == "sessions").unwrap();
    assert_eq!(check.message, "ROLE \"few\" may have 2 sessions, 0 are others', 4 are needed");
    assert_eq!(check.remedy, "ALTER ROLE \"few\" CONNECTION LIMIT 4, or use fewer workers");
    let error = source.begin(&watch()).err().unwrap();
    assert!(error.message.contains("ALTER ROLE \"few\" CONNECTION LIMIT"), "{error}");
}

#[test]
fn of_several_servers_the_one_is_read_that_fits() {
    let Some(primary) = another(&[]) else { return };
    let name = primary.create_named("ha", "CREATE TABLE t (n int); INSERT INTO t VALUES (1)").database;
    let standby = standby_of(&primary);
    let of = |attrs: &str| {
        let (user, password) = (&primary.address("").user, primary.url(&name));
        let login = password.split_once("//").unwrap().1.split_once('@').unwrap().0.to_owned();
        assert!(login.starts_with(user.as_str()), "{login}");
        let hosts = format!("127.0.0.1:1,127.0.0.1:{},127.0.0.1:{}", standby.port, primary.port);
        let url = format!("postgres://{login}@{hosts}/{name}?target_session_attrs={attrs}");
        source(&Address::parse(&url, &surroundings()).unwrap(), options())
    };
    for (attrs, server) in [("any", &standby), ("standby", &standby), ("primary", &primary), ("read-write", &primary)] {
        let taken = take(&of(attrs));
        assert_eq!((taken.manifest.server.port, taken.manifest.rows()), (server.port, 1), "{attrs}");
        let probe = of(attrs).probe(&watch()).unwrap().unwrap();
        assert!(probe.label.contains(&server.port.to_string()), "{attrs}: {}", probe.label);
    }
    let login = Address { others: Vec::new(), port: standby.port, ..of("primary").address().clone() };
    let error = source(&login, options()).begin(&watch()).err().unwrap();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(
        error.message.contains("target_session_attrs=primary") && error.message.contains("is a standby"),
        "{error}"
    );
}

#[test]
fn somebody_who_waits_to_alter_a_table_is_named_by_who_wants_to_read_it() {
    let Some(server) = server() else { return };
    let address = server.create("CREATE TABLE busy (n int)");
    let impatient = Options { lock_timeout: Duration::from_millis(200), ..options() };
    let dump = source(&address, impatient).begin(&watch()).unwrap();
    let (mut other, mut look) = (server.connect(&address.database), server.connect(&address.database));
    let process = other.backend().unwrap();
    let altered = thread::spawn(move || other.execute("ALTER TABLE busy ADD m int").unwrap());
    let waits = format!("SELECT 1 FROM pg_locks WHERE pid = {process} AND NOT granted");
    while look.value(&waits).unwrap().is_none() {
        thread::sleep(Duration::from_millis(10));
    }
    let read = |path: &str| {
        let at = dump.streams().iter().position(|stream| stream.path == path).unwrap();
        dump.read(at, &mut |reader| std::io::copy(reader, &mut std::io::sink())).unwrap_err()
    };
    let error = read("tables/public.busy.copy");
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.message.contains(&format!("by process {process} (user postgres, active")), "{error}");
    let error = read("pre-data.dump");
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.message.contains("somebody waits to alter a table"), "{error}");
    drop(dump);
    altered.join().unwrap();
}

#[test]
fn who_may_not_read_a_table_or_all_its_rows_is_told_which() {
    let Some(server) = server() else { return };
    let name = "clerk_of_dumps";
    let address = server.create(&format!(
        "CREATE ROLE {name} LOGIN PASSWORD 'pw'; CREATE TABLE a (); CREATE TABLE b (); CREATE TABLE c (n int); \
         GRANT SELECT ON b TO {name}"
    ));
    let as_clerk =
        Address { user: name.into(), password: Some(keepstone::base::Secret::new("pw".into())), ..address.clone() };
    let error = source(&as_clerk, options()).begin(&watch()).err().unwrap();
    assert_eq!(error.kind(), Kind::Denied);
    assert!(error.to_string().contains("table public.a") && error.message.contains("public.a, public.c"), "{error}");
    let mut owner = server.connect(&address.database);
    owner.execute(&format!("GRANT SELECT ON a, c TO {name}; ALTER TABLE c ENABLE ROW LEVEL SECURITY")).unwrap();
    let error = source(&as_clerk, options()).begin(&watch()).err().unwrap();
    assert!(error.message.contains("row security hides rows of public.c"), "{error}");
    owner.execute("ALTER TABLE c DISABLE ROW LEVEL SECURITY").unwrap();
    let taken = take(&source(&as_clerk, options()));
    assert!(
        taken.manifest.notes.iter().any(|note| note.contains("no passwords of roles")),
        "{:?}",
        taken.manifest.notes
    );
    owner.execute(&format!("DROP OWNED BY {name}; DROP ROLE {name}")).unwrap();
}

#[test]
fn what_changes_while_it_is_read_is_read_as_it_was_at_one_moment() {
    let Some(server) = server() else { return };
    let address = server.create(
        "CREATE TABLE accounts (id int PRIMARY KEY, cents int); CREATE TABLE moves (n serial, cents int); \
         INSERT INTO accounts SELECT n, 0 FROM generate_series(1, 100) n; INSERT INTO moves (cents) VALUES (0)",
    );
    let over = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..2)
        .map(|seed| {
            let (over, mut connection) = (over.clone(), server.connect(&address.database));
            thread::spawn(move || {
                let mut n = seed * 50;
                while !over.load(Ordering::Relaxed) {
                    n = seed * 50 + (n + 7) % 50;
                    let sql = format!(
                        "BEGIN; UPDATE accounts SET cents = cents + {n} WHERE id = 1 + {n} % 100; \
                         INSERT INTO moves (cents) VALUES ({n}); COMMIT"
                    );
                    connection.execute(&sql).unwrap();
                }
            })
        })
        .collect();
    for _ in 0..5 {
        let taken = take(&source(&address, options()));
        let column = |path: &str| -> i64 {
            let text = std::str::from_utf8(&taken.streams[path]).unwrap();
            text.lines().map(|line| line.split('\t').nth(1).unwrap().parse::<i64>().unwrap()).sum()
        };
        assert_eq!(column("tables/public.accounts.copy"), column("tables/public.moves.copy"));
        let moves = table(&taken.manifest, "public", "moves");
        assert!(taken.manifest.sequences[0].last_value >= moves.rows as i64);
    }
    over.store(true, Ordering::Relaxed);
    writers.into_iter().for_each(|writer| writer.join().unwrap());
}

#[test]
fn a_dump_whose_holder_or_server_is_gone_fails() {
    let Some(server) = another(&[]) else { return };
    let address = server.create("CREATE TABLE t AS SELECT generate_series(1, 300000) n");
    let read_all = |reader: &mut dyn Read| std::io::copy(reader, &mut std::io::sink());
    // The holder's session is the one that exported the snapshot: it locks and reads nothing.
    let dump = source(&address, options()).begin(&watch()).unwrap();
    for stream in 0..dump.streams().len() {
        dump.read(stream, &mut |reader| read_all(reader)).unwrap();
    }
    let holders = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
         WHERE application_name = 'keepstone' AND pid <> pg_backend_pid() AND query ~ 'pg_largeobject_metadata|pg_authid|SELECT 1$'";
    server.connect("postgres").query(holders).unwrap();
    let error = dump.finish().err().unwrap();
    assert!(error.kind() == Kind::Unavailable && error.message.contains("holds the snapshot is gone"), "{error}");

    // A worker is ended in mid-table.
    let dump = source(&address, options()).begin(&watch()).unwrap();
    let at = dump.streams().iter().position(|stream| stream.path.ends_with(".t.copy")).unwrap();
    let kill =
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE query ~ '^COPY' AND state = 'active'";
    let error = dump.read(at, &mut |reader| {
        let mut start = [0; 10];
        reader.read_exact(&mut start)?;
        server.connect("postgres").query(kill).unwrap();
        read_all(reader)
    });
    let error = error.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    assert!(
        error.to_string().contains("table public.t") && error.message.contains("the connection was lost"),
        "{error}"
    );

    // The server itself goes.
    let dump = source(&address, options()).begin(&watch()).unwrap();
    let at = dump.streams().iter().position(|stream| stream.path == "pre-data.dump").unwrap();
    drop(server);
    let gone = (0..200).any(|_| {
        thread::sleep(Duration::from_millis(50));
        Connection::connect(&address, None, &watch()).is_err()
    });
    assert!(gone);
    let error = dump.read(at, &mut |reader| read_all(reader)).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
}

#[test]
fn a_standby_is_dumped_without_what_it_does_not_have() {
    let Some(primary) = another(&[]) else { return };
    let address = primary.create(
        "CREATE TABLE t AS SELECT 1 n; CREATE UNLOGGED TABLE u AS SELECT 1 n; CREATE SEQUENCE s; \
         CREATE UNLOGGED TABLE with_sequence (id serial, twin int GENERATED ALWAYS AS IDENTITY)",
    );
    let standby = standby_of(&primary);
    let taken = take(&source(&standby.address(&address.database), options()));
    assert_eq!(table(&taken.manifest, "public", "t").rows, 1);
    let unlogged = table(&taken.manifest, "public", "u");
    assert_eq!((unlogged.stream.as_deref(), unlogged.note.as_str()), (None, "unlogged, not readable on a standby"));
    assert!(taken.manifest.position.is_some() && taken.manifest.notes[0].contains("standby"));
    let sequences: Vec<&str> = taken.manifest.sequences.iter().map(|sequence| sequence.name.as_str()).collect();
    let are_unlogged = "SELECT bool_or(relpersistence = 'u') FROM pg_class WHERE relkind = 'S'";
    // From version 15 on the sequences of an unlogged table are unlogged too.
    match primary.connect(&address.database).value(are_unlogged).unwrap().as_deref() {
        Some("t") => assert_eq!(sequences, ["s"]),
        _ => assert_eq!(sequences.len(), 3),
    }
    let mut connection = standby.connect("postgres");
    assert!(keepstone::db::postgres::facts::ServerFacts::read(&mut connection).unwrap().standby);
}

#[test]
fn a_pooler_that_shares_sessions_is_refused() {
    let Some(server) = server() else { return };
    let address = server.create("CREATE TABLE t AS SELECT 1 n");
    let Some((through, _pooler)) = pooler_of(server, &address.database) else { return };
    let error = source(&through, options()).begin(&watch()).err().unwrap();
    assert_eq!(error.kind(), Kind::Refused, "{error}");
    assert!(error.message.contains("the address of the server itself"), "{error}");
    assert!(keepstone::db::postgres::facts::is_pooled(&through, &watch()).unwrap());
}

#[test]
fn a_dump_ends_when_somebody_asks_to_stop() {
    let Some(server) = server() else { return };
    let address = server.create("CREATE TABLE t AS SELECT generate_series(1, 300000) n");
    let stop = Stop::new();
    let watch = Watch { stop: stop.clone(), monitor: Arc::new(keepstone::base::Silent) };
    let dump = source(&address, options()).begin(&watch).unwrap();
    let at = dump.streams().iter().position(|stream| stream.path.ends_with(".t.copy")).unwrap();
    let error = dump.read(at, &mut |reader| {
        stop.raise();
        std::io::copy(reader, &mut std::io::sink())
    });
    assert_eq!(error.unwrap_err().kind(), Kind::Interrupted);
}

#[test]
fn three_thousand_tables_take_few_questions_and_too_many_locks_name_the_setting() {
    let Some(server) = server() else { return };
    let many = |tables: u32, at_once: u32, id: &str| {
        format!(
            "DO $$ BEGIN FOR n IN 1..{tables} LOOP EXECUTE format('CREATE TABLE t%s (id {id})', n); \
             IF n % {at_once} = 0 THEN COMMIT; END IF; END LOOP; END $$"
        )
    };
    let taken = take(&source(&server.create(&many(3000, 500, "serial")), options()));
    assert_eq!((taken.manifest.tables.len(), taken.manifest.sequences.len()), (3000, 3000));

    let tight = another(&["max_locks_per_transaction=10", "max_connections=15"]).unwrap();
    let error = source(&tight.create(&many(1500, 10, "int")), options()).begin(&watch()).err().unwrap();
    assert!(error.message.contains("raise max_locks_per_transaction"), "{error}");
    assert!(error.message.contains("1500 tables"), "{error}");
}

#[test]
fn the_password_is_on_no_command_line_and_in_no_word_we_say() {
    let Some(server) = server() else { return };
    let address = server.create("CREATE TABLE t ()");
    let remember = Arc::new(Remember::default());
    let watch = watch_with(remember.clone());
    let over = AtomicBool::new(false);
    let (taken, seen) = thread::scope(|scope| {
        let look = scope.spawn(|| {
            let mut seen = 0;
            while !over.load(Ordering::Relaxed) {
                for process in std::fs::read_dir("/proc").unwrap().flatten() {
                    let Ok(line) = std::fs::read(process.path().join("cmdline")) else { continue };
                    let line = String::from_utf8_lossy(&line).into_owned();
                    seen += usize::from(line.contains("pg_dump") && line.contains(&address.database));
                    assert!(!line.contains(PASSWORD) && !line.contains("secret"), "{line}");
                }
            }
            seen
        });
        let taken = take_with(&source(&address, options()), &watch);
        over.store(true, Ordering::Relaxed);
        (taken, look.join().unwrap())
    });
    assert!(seen > 0, "no program was seen");
    assert_eq!(taken.manifest.notes, [""; 0], "the programs had nothing to mention");
    assert!(!String::from_utf8(taken.manifest.encode()).unwrap().contains("secret"));
    assert!(!format!("{:?} {:?}", remember.notes.lock().unwrap(), source(&address, options())).contains("secret"));
    let wrong = Address { database: "no_such".into(), ..address };
    assert!(!format!("{:?}", source(&wrong, options()).begin(&watch).err().unwrap()).contains("secret"));
}
