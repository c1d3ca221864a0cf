//! Dumps back to a real server: the same as before, counted, and nothing left behind when it fails.

use super::taken::{Taken, options as how, source, take};
use crate::servers::postgres::{Server, another, server, surroundings, watch, watch_with};
use keepstone::base::{Event, Kind, Monitor, Scratch, Stop};
use keepstone::db::postgres::temporary::broken_off;
use keepstone::db::postgres::{Address, identifier};
use keepstone::db::{Error, Watch};
use keepstone::format::dump::{Manifest, Table};
use keepstone::source::postgres::Options as Choice;
use keepstone::target::dump::{DrillServer, DumpTarget, Sample, StoredDump};
use keepstone::target::postgres::archive::{Archive, Entry, Section};
use keepstone::target::postgres::{
    Destination, Drill, Options, Phases, Programs, TableName, Target, export_archive, export_sql,
};
use std::io::{self, Cursor, Read, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// A database full of odd objects, as far as the server knows such.
fn odd(server: &Server) -> String {
    let has_xml = server.connect("postgres").query("SELECT '<a/>'::xml").is_ok();
    include_str!("odd.sql").replace("n xml", if has_xml { "n xml" } else { "n text" })
}

impl StoredDump for Taken {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }
    fn open(&self, path: &str) -> io::Result<Box<dyn Read + Send + '_>> {
        let stream = self.streams.get(path).ok_or_else(|| io::Error::other(format!("no stream {path}")))?;
        Ok(Box::new(Cursor::new(stream)))
    }
}

/// A way back with a folder of its own.
pub(super) struct Back {
    pub(super) target: Target,
    _scratch: Scratch,
}

pub(super) fn back(address: &Address, change: impl FnOnce(&mut Options)) -> Back {
    let scratch = Scratch::new(&std::env::temp_dir()).unwrap();
    let mut options = Options::new(scratch.path().to_owned());
    change(&mut options);
    let programs = Programs { surroundings: surroundings(), folder: None };
    Back { target: Target { address: address.clone(), options, programs }, _scratch: scratch }
}

pub(super) fn drill(server: &Server) -> (Drill, Scratch) {
    let scratch = Scratch::new(&std::env::temp_dir()).unwrap();
    let programs = Programs { surroundings: surroundings(), folder: None };
    let drill = Drill {
        address: server.address("postgres"),
        programs,
        jobs: 2,
        search_path: Vec::new(),
        temp_dir: scratch.path().to_owned(),
    };
    (drill, scratch)
}

/// A name that no database has.
pub(super) fn unused(server: &Server) -> Address {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    server.address(&format!("back {}", NUMBER.fetch_add(1, Ordering::Relaxed)).replace(' ', "_"))
}

/// What a client program prints; it must end well.
fn output(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Fails with the first lines that differ: the whole is long.
#[track_caller]
fn same(server: &Server, one: &str, other: &str) {
    let (one, other) = (plain_dump(server, one), plain_dump(server, other));
    let mut pairs = one.lines().zip(other.lines());
    if let Some((one, other)) = pairs.find(|(one, other)| one != other) {
        panic!("not the same:\n{:.300}\n{:.300}", one, other);
    }
    assert_eq!(one.lines().count(), other.lines().count());
}

fn plain_dump(server: &Server, database: &str) -> String {
    let mut command = server.program("pg_dump", database);
    command.args(["--restrict-key=x", "--inserts", "--create"]);
    // The name of the database stands in its properties.
    output(command).replace(database, "DATABASE")
}

fn names(server: &Server, like: &str) -> Vec<String> {
    let sql = format!("SELECT datname FROM pg_database WHERE datname LIKE '{like}' ORDER BY 1");
    server.connect("postgres").query(&sql).unwrap().into_iter().filter_map(|row| row[0].clone()).collect()
}

/// Waits until other tests, which make such databases too, have none for a moment.
#[track_caller]
fn none_left(server: &Server, like: &str) {
    let left = (0..200).all(|_| {
        std::thread::sleep(std::time::Duration::from_millis(25));
        !names(server, like).is_empty()
    });
    assert!(!left, "{:?}", names(server, like));
}

pub(super) fn drop_database(server: &Server, address: &Address) {
    server.connect("postgres").execute(&format!("DROP DATABASE {}", identifier(&address.database))).unwrap();
}

#[track_caller]
fn refused(error: Error, kind: Kind, words: &[&str]) {
    assert_eq!(error.kind(), kind, "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "no `{word}` in: {error}");
    }
}

#[test]
fn an_odd_database_comes_back_into_a_new_one_with_all_that_it_had() {
    let Some(server) = server() else { return };
    let address = server.create(&odd(server));
    let name = identifier(&address.database);
    let mut owner = server.connect(&address.database);
    for sql in [
        "CREATE ROLE back_owner".to_owned(),
        format!("ALTER DATABASE {name} SET work_mem = '5MB'"),
        format!("ALTER DATABASE {name} SET search_path = 'Sales . Ünit', public"),
        format!("COMMENT ON DATABASE {name} IS 'it''s odd'"),
        format!("GRANT CONNECT ON DATABASE {name} TO back_owner"),
        format!("ALTER DATABASE {name} OWNER TO back_owner"),
        "ALTER TABLE public.child OWNER TO back_owner; GRANT SELECT ON public.log TO back_owner".to_owned(),
    ] {
        owner.execute(&sql).unwrap();
    }
    let taken = take(&source(&address, how()));
    let to = unused(server);
    let back = back(&to, |options| options.destination = Destination::Create);
    let checked = back.target.check(&taken, &watch()).unwrap();
    assert!(names(server, &to.database).is_empty(), "a check made the database");
    assert!(checked.plan.iter().any(|step| step.contains("tables")), "{checked:?}");
    let restored = back.target.restore(&taken, &watch()).unwrap();
    assert_eq!((restored.rows, restored.created), (taken.manifest.rows(), true));
    assert_eq!(restored.notes, Vec::<String>::new());
    same(server, &address.database, &to.database);
    none_left(server, "keepstone_restore%");

    // A second time it is there already; with a confirmation by the verb it is replaced, though somebody is logged in.
    refused(back.target.restore(&taken, &watch()).unwrap_err(), Kind::Refused, &["--drop-existing", &to.database]);
    let mut guest = server.connect(&to.database);
    guest.execute("CREATE TABLE newer ()").unwrap();
    let replace = self::back(&to, |options| options.destination = Destination::Replace);
    let restored = replace.target.restore(&taken, &watch()).unwrap();
    assert!(restored.replaced && restored.notes.is_empty(), "{:?}", restored.notes);
    same(server, &address.database, &to.database);
    none_left(server, "keepstone_re%");
    drop_database(server, &to);
}

#[test]
fn a_database_that_is_there_must_be_empty() {
    let Some(server) = server() else { return };
    let taken = take(&source(&server.create(&odd(server)), how()));
    let full = server.create("CREATE TABLE mine (n int); INSERT INTO mine VALUES (1)");
    let back_to_full = back(&full, |_| {});
    for done in
        [back_to_full.target.check(&taken, &watch()).map(drop), back_to_full.target.restore(&taken, &watch()).map(drop)]
    {
        refused(done.unwrap_err(), Kind::Refused, &["table public.mine", "--create", &full.database]);
    }
    let empty = server.create("");
    let restored = back(&empty, |_| {}).target.restore(&taken, &watch()).unwrap();
    assert_eq!((restored.rows, restored.created), (taken.manifest.rows(), false));
    let missing = back(&server.address("no_such"), |_| {}).target.check(&taken, &watch()).unwrap_err();
    refused(missing, Kind::NotFound, &["no_such", "--create"]);
}

#[test]
fn one_table_comes_back_beside_others() {
    let Some(server) = server() else { return };
    let taken = take(&source(&server.create(&odd(server)), how()));
    let busy = server.create("CREATE TABLE mine (n int)");
    let table = |name: &str| TableName::parse(name).unwrap();
    let only = |name: &str| back(&busy, |options| options.tables = vec![table(name)]);
    let restored = only("public.empty").target.restore(&taken, &watch());
    // Its trigger calls a function that is not there: nothing of it is kept but the table, and that is said.
    let error = restored.unwrap_err();
    assert!(error.to_string().contains("noted"), "{error}");
    let restored = only("public.parent").target.restore(&taken, &watch()).unwrap();
    assert_eq!((restored.tables, restored.rows), (1, 1));
    let mut connection = server.connect(&busy.database);
    let indexes = connection.value("SELECT count(*) FROM pg_indexes WHERE tablename = 'parent'").unwrap();
    assert_eq!(indexes.as_deref(), Some("2"));
    let policies = connection.value("SELECT count(*) FROM pg_policies").unwrap();
    assert_eq!(policies.as_deref(), Some("1"));
    refused(only("public.parent").target.check(&taken, &watch()).unwrap_err(), Kind::Refused, &["public.parent"]);
    refused(only("public.gone").target.check(&taken, &watch()).unwrap_err(), Kind::NotFound, &["public.gone"]);
    let schema = back(&busy, |options| options.schemas = vec!["Sales . Ünit".into()]);
    let restored = schema.target.restore(&taken, &watch()).unwrap();
    assert_eq!((restored.tables, restored.rows, restored.sequences), (1, 50, 1));
    let next = connection.value("INSERT INTO \"Sales . Ünit\".\"a/b%c\" (v) VALUES ('x') RETURNING id").unwrap();
    assert_eq!(next.as_deref(), Some("51"));
}

#[test]
fn a_partitioned_table_comes_back_with_its_partitions_and_their_indexes_put_together() {
    let Some(server) = server() else { return };
    let address = server.create(
        "CREATE SCHEMA \"Old ones\"; CREATE TABLE log (at int, kind text, PRIMARY KEY (at, kind)) PARTITION BY RANGE (at);
         CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM (0) TO (10);
         CREATE TABLE log_2 PARTITION OF log FOR VALUES FROM (10) TO (99) PARTITION BY LIST (kind);
         CREATE TABLE \"Old ones\".\"log 2.a\" PARTITION OF log_2 FOR VALUES IN ('a');
         CREATE INDEX \"by kind\" ON log (kind); CREATE TABLE another (n int) PARTITION BY LIST (n);
         CREATE TABLE another_1 PARTITION OF another DEFAULT; INSERT INTO another VALUES (1);
         INSERT INTO log SELECT n, 'a' FROM generate_series(0, 49) n",
    );
    let taken = take(&source(&address, how()));
    let to = unused(server);
    let only = |name: &str, destination| {
        back(&to, |options| {
            (options.destination, options.tables) = (destination, vec![TableName::parse(name).unwrap()]);
        })
    };
    let log = only("log", Destination::Create);
    let plan = log.target.plan(&taken, &watch()).unwrap();
    let rows = taken.manifest.tables.iter().filter_map(|table| table.stream.as_deref());
    let proven: Vec<_> = rows.filter(|path| plan.reads(path)).collect();
    assert_eq!(proven.len(), 2, "what is proven before anything is written is what is written: {proven:?}");
    drop(plan);
    let restored = log.target.restore(&taken, &watch()).unwrap();
    assert_eq!((restored.tables, restored.rows), (2, 50), "no other table");
    let shape = "SELECT string_agg(concat_ws('-', c.relname, c.relkind, p.relname, i.indisvalid), ' ' ORDER BY c.relname) \
         FROM pg_class c LEFT JOIN pg_inherits h ON h.inhrelid = c.oid \
         LEFT JOIN pg_class p ON p.oid = h.inhparent LEFT JOIN pg_index i ON i.indexrelid = c.oid \
         WHERE c.relname ~ '^(log|by)' AND c.oid >= 16384";
    let shape_of = |database: &str| server.connect(database).value(shape).unwrap().unwrap();
    assert_eq!(shape_of(&to.database), shape_of(&address.database));
    let of_schema = back(&unused(server), |options| {
        (options.destination, options.schemas) = (Destination::Create, vec!["public".to_owned()]);
    });
    let restored = of_schema.target.restore(&taken, &watch()).unwrap();
    assert_eq!(restored.rows, 51, "with what lies in another schema");
    drop_database(server, &of_schema.target.address);
    // One of them alone is a table of its own.
    let restored = only("another_1", Destination::Existing).target.restore(&taken, &watch()).unwrap();
    assert_eq!((restored.tables, restored.rows), (1, 1));
    drop_database(server, &to);
}

#[test]
fn rows_whose_hash_is_another_on_every_server_find_their_partition_anew() {
    let Some(server) = server() else { return };
    let address = server.create(
        "CREATE TYPE mood AS ENUM ('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h');
         CREATE TABLE felt (mood mood, n int) PARTITION BY LIST (n);
         CREATE TABLE felt_1 PARTITION OF felt FOR VALUES IN (1) PARTITION BY HASH (mood);
         CREATE TABLE felt_10 PARTITION OF felt_1 FOR VALUES WITH (MODULUS 3, REMAINDER 0);
         CREATE TABLE felt_11 PARTITION OF felt_1 FOR VALUES WITH (MODULUS 3, REMAINDER 1);
         CREATE TABLE felt_12 PARTITION OF felt_1 FOR VALUES WITH (MODULUS 3, REMAINDER 2);
         CREATE TABLE felt_2 PARTITION OF felt FOR VALUES IN (2);
         CREATE INDEX ON felt (mood);
         INSERT INTO felt SELECT m, 1 + k % 2 FROM unnest(enum_range(NULL::mood)) m, generate_series(1, 10) k",
    );
    let taken = take(&source(&address, how()));
    let to = unused(server);
    let whole = back(&to, |options| options.destination = Destination::Create);
    let restored = whole.target.restore(&taken, &watch()).unwrap();
    assert_eq!((restored.tables, restored.rows), (4, 80));
    let sql = "SELECT string_agg(concat(mood, n, ':', count), ' ' ORDER BY mood, n) \
         FROM (SELECT mood, n, count(*) FROM felt GROUP BY mood, n) f";
    let felt = |database: &str| server.connect(database).value(sql).unwrap();
    assert_eq!(felt(&to.database), felt(&address.database));
    drop_database(server, &to);

    let programs = Programs { surroundings: surroundings(), folder: None };
    let (mut sql, mut archive) = (Vec::new(), Vec::new());
    export_sql(&taken, &programs, &mut sql, &watch()).unwrap();
    export_archive(&taken, &mut archive, &watch()).unwrap();
    let scratch = Scratch::new(&std::env::temp_dir()).unwrap();
    let file = scratch.path().join("felt");
    for (tool, text, options) in
        [("psql", &sql, &["-X", "-q", "-vON_ERROR_STOP=1", "-f"][..]), ("pg_restore", &archive, &["-j2", "-e"])]
    {
        std::fs::write(&file, text).unwrap();
        let copy = server.create("");
        let mut command = server.program(tool, &copy.database);
        command.args(["-d", &copy.database]).args(options).arg(&file);
        output(command);
        assert_eq!(felt(&copy.database), felt(&address.database), "{tool}");
    }

    let (drill, _scratch) = drill(server);
    let lots: [&dyn Fn(&Table) -> bool; 2] = [&|_| true, &|table| table.name == "felt_11"];
    for sums in lots {
        let seen = drill.try_out(&taken, Sample::whole(sums), &watch()).unwrap();
        for (promised, table) in taken.manifest.tables.iter().zip(&seen.tables) {
            assert_eq!((&table.name, table.rows), (&promised.name, promised.rows));
            assert!(table.checksum.is_none() || table.checksum == promised.checksum, "{table:?}");
        }
    }
    let only: Vec<&Table> = taken.manifest.tables.iter().filter(|table| table.name == "felt_11").collect();
    let seen = drill.try_out(&taken, Sample { tables: Some(&only), sums: &|_| true }, &watch()).unwrap();
    let table = seen.tables.iter().find(|table| table.name == "felt_11").unwrap();
    assert_eq!((table.rows, &table.checksum), (only[0].rows, &only[0].checksum));
}

#[test]
fn statistics_of_foreign_tables_are_nothing_that_a_restore_asks_for() {
    let Some(server) = server() else { return };
    let address = server.create(
        "CREATE FOREIGN DATA WRAPPER nobody; CREATE SERVER elsewhere FOREIGN DATA WRAPPER nobody;
         CREATE FOREIGN TABLE far (n int) SERVER elsewhere; CREATE TABLE near AS SELECT 1 n",
    );
    let taken = take(&source(&address, how()));
    let to = unused(server);
    let restored = back(&to, |options| options.destination = Destination::Create).target.restore(&taken, &watch());
    assert!(!restored.unwrap().notes.iter().any(|note| note.contains("statistics")));
    drop_database(server, &to);
}

#[test]
fn functions_that_name_things_without_a_schema_find_them_where_a_restore_is_told_to_look() {
    let Some(server) = server() else { return };
    let helper = "CREATE SCHEMA \"More\"; CREATE FUNCTION \"More\".twice(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT n * 2'";
    let uses = "CREATE FUNCTION known(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN twice(n); END'";
    let checked = "CREATE TABLE checked (n int CHECK (known(n) > 0))";
    let indexed = "CREATE TABLE indexed (n int); CREATE INDEX of_it ON indexed (known(n))";
    let mut cases = vec![(checked, "checked")];
    // From 17 on the server looks in no schema itself while it makes an index: nobody has such a one.
    let version = server.connect("postgres").value("SHOW server_version_num").unwrap().unwrap();
    if version.parse::<u32>().unwrap() < 170_000 {
        cases.push((indexed, "indexed"));
    }
    for (table, object) in cases {
        let fill =
            format!("SET search_path = public, \"More\"; {helper}; {uses}; {table}; INSERT INTO {object} VALUES (3)");
        let taken = take(&source(&server.create(&fill), how()));
        let to = unused(server);
        let create = |search_path: &[&str]| {
            back(&to, |options| {
                options.destination = Destination::Create;
                options.search_path = search_path.iter().map(|schema| (*schema).to_owned()).collect();
            })
        };
        refused(
            create(&[]).target.restore(&taken, &watch()).unwrap_err(),
            Kind::Target,
            &[object, "function twice", "--search-path SCHEMA"],
        );
        let restored = create(&["public", "More"]).target.restore(&taken, &watch()).unwrap();
        assert_eq!(restored.rows, 1, "{object}");
        drop_database(server, &to);

        let (mut drill, _scratch) = drill(server);
        let error = drill.try_out(&taken, Sample::whole(&|_| true), &watch()).unwrap_err();
        assert!(error.to_string().contains("--search-path SCHEMA"), "{error}");
        drill.search_path = vec!["More".to_owned()];
        assert_eq!(drill.try_out(&taken, Sample::whole(&|_| true), &watch()).unwrap().tables.len(), 1);
    }
}

#[test]
fn a_database_that_the_server_would_not_drop_is_not_replaced() {
    let Some(server) = server() else { return };
    let taken = take(&source(&server.create("CREATE TABLE t AS SELECT 1 n"), how()));
    let old = server.create("CREATE TABLE mine (n int)");
    let mut owner = server.connect(&old.database);
    let replace = || back(&old, |options| options.destination = Destination::Replace);
    owner
        .execute(
            "CREATE SUBSCRIPTION from_nobody CONNECTION 'host=nobody.invalid' PUBLICATION p WITH (connect = false)",
        )
        .unwrap();
    refused(
        replace().target.restore(&taken, &watch()).unwrap_err(),
        Kind::Refused,
        &[&old.database, "subscription from_nobody", "--create"],
    );
    owner.execute("ALTER SUBSCRIPTION from_nobody SET (slot_name = NONE)").unwrap();
    owner.execute("DROP SUBSCRIPTION from_nobody").unwrap();
    drop(owner);
    assert!(replace().target.restore(&taken, &watch()).unwrap().replaced);
}

#[test]
fn the_phases_of_a_restore_can_be_taken_one_by_one() {
    let Some(server) = server() else { return };
    let address = server.create(&odd(server));
    let taken = take(&source(&address, how()));
    let to = server.create("");
    let none = Phases { pre_data: false, data: false, post_data: false };
    for phases in [Phases { pre_data: true, ..none }, Phases { post_data: true, ..none }, Phases { data: true, ..none }]
    {
        let part = back(&to, |options| options.phases = phases);
        let restored = part.target.restore(&taken, &watch()).unwrap();
        assert_eq!(restored.rows > 0, phases.data);
        if phases.data {
            // A trigger that raises an error is there by now, and foreign keys.
            assert!(restored.notes.iter().any(|note| note.contains("triggers")), "{:?}", restored.notes);
            let again = part.target.restore(&taken, &watch()).unwrap_err();
            refused(again, Kind::Refused, &["holds rows already"]);
        }
    }
    let refreshed = server.connect(&to.database).execute("REFRESH MATERIALIZED VIEW kept");
    assert!(refreshed.is_ok());
    same(server, &address.database, &to.database);
}

#[test]
fn a_role_that_is_missing_is_named_before_anything_is_written() {
    let Some(first) = server() else { return };
    let Some(other) = another(&[]) else { return };
    let address = first.create(
        "CREATE ROLE back_clerk PASSWORD 'x'; CREATE ROLE back_boss; GRANT back_boss TO back_clerk; \
         CREATE TABLE t (n int); ALTER TABLE t OWNER TO back_clerk; GRANT SELECT ON t TO back_boss; INSERT INTO t VALUES (1)",
    );
    let taken = take(&source(&address, how()));
    let to = unused(&other);
    let create = |change: fn(&mut Options)| {
        back(&to, |options| {
            options.destination = Destination::Create;
            change(options);
        })
    };
    let error = create(|_| {}).target.restore(&taken, &watch()).unwrap_err();
    refused(error, Kind::Target, &["back_boss, back_clerk", "--globals", "--no-owner", "--no-acl"]);
    let error = create(|options| options.owners = false).target.restore(&taken, &watch()).unwrap_err();
    refused(error, Kind::Target, &["role back_boss"]);
    assert!(names(&other, &to.database).is_empty());
    let restored = create(|options| (options.owners, options.grants) = (false, false)).target.restore(&taken, &watch());
    assert_eq!(restored.unwrap().rows, 1);
    drop_database(&other, &to);
    let restored = create(|options| options.globals = true).target.restore(&taken, &watch()).unwrap();
    assert!(restored.notes.iter().any(|note| note.contains("kept as they are: ") && note.contains("postgres")));
    let owner = "SELECT tableowner FROM pg_tables WHERE tablename = 't'";
    assert_eq!(other.connect(&to.database).value(owner).unwrap().as_deref(), Some("back_clerk"));
    let member = "SELECT pg_has_role('back_clerk', 'back_boss', 'MEMBER')";
    assert_eq!(other.connect("postgres").value(member).unwrap().as_deref(), Some("t"));
}

#[test]
fn an_extension_that_is_missing_and_an_older_server_are_named() {
    let Some(server) = server() else { return };
    let mut taken = take(&source(&server.create("CREATE TABLE t ()"), how()));
    taken.manifest.server.version_number = 990_000;
    taken.manifest.server.version = "99.1".into();
    let to = unused(server);
    let create = back(&to, |options| options.destination = Destination::Create);
    refused(create.target.check(&taken, &watch()).unwrap_err(), Kind::Unsupported, &["99", "older"]);

    let mut taken = take(&source(&server.create("CREATE TABLE t ()"), how()));
    let mut archive = Archive::read(&mut &taken.streams["pre-data.dump"][..]).unwrap();
    archive.entries.push(Entry::new(999_999, "EXTENSION", "no_such_thing", Section::PreData));
    let mut changed = Vec::new();
    archive.write(&mut changed).unwrap();
    taken.streams.insert("pre-data.dump".into(), changed);
    let error = create.target.restore(&taken, &watch()).unwrap_err();
    refused(error, Kind::Target, &["extension no_such_thing", "install"]);
    taken.streams.insert("pre-data.dump".into(), b"PGDMPnonsense".to_vec());
    refused(create.target.check(&taken, &watch()).unwrap_err(), Kind::Damaged, &["pre-data.dump"]);
    assert!(names(server, &to.database).is_empty());
}

#[test]
fn rows_that_are_not_those_of_the_manifest_leave_no_database() {
    let Some(server) = server() else { return };
    let mut taken = take(&source(&server.create(&odd(server)), how()));
    let table = taken.manifest.tables.iter_mut().find(|table| table.name == "log_2024").unwrap();
    table.rows += 1;
    let to = unused(server);
    let create = back(&to, |options| options.destination = Destination::Create);
    let error = create.target.restore(&taken, &watch()).unwrap_err();
    refused(error, Kind::Damaged, &["log_2024", "promises", "dropped again"]);
    assert!(names(server, &to.database).is_empty());
    none_left(server, "keepstone_restore%");
    let kept = server.create("");
    let error = back(&kept, |_| {}).target.restore(&taken, &watch()).unwrap_err();
    refused(error, Kind::Damaged, &["incomplete", "of"]);
}

/// A dump whose rows of one table do something before they come.
struct Tricky<'t> {
    taken: &'t Taken,
    table: &'t str,
    trick: &'t (dyn Fn() + Sync),
}

impl StoredDump for Tricky<'_> {
    fn manifest(&self) -> &Manifest {
        &self.taken.manifest
    }
    fn open(&self, path: &str) -> io::Result<Box<dyn Read + Send + '_>> {
        if path.contains(self.table) {
            (self.trick)();
        }
        self.taken.open(path)
    }
}

#[test]
fn a_template_is_replaced_and_one_that_cannot_be_dropped_is_named() {
    let Some(server) = another(&["max_wal_senders=0"]) else { return };
    let mut session = server.connect("postgres");
    let taken = take(&source(&server.create("CREATE TABLE t (n int); INSERT INTO t VALUES (1)"), how()));
    let to = server.create_named("pattern", "CREATE TABLE old (n int)");
    session.execute("ALTER DATABASE pattern IS_TEMPLATE true").unwrap();
    let replace = back(&to, |options| options.destination = Destination::Replace);
    let restored = replace.target.restore(&taken, &watch()).unwrap();
    assert_eq!((restored.replaced, restored.left_behind), (true, None));
    assert_eq!(names(&server, "keepstone\\_re%"), Vec::<String>::new());

    // Somebody subscribes while it is filled: then the server drops it for nobody.
    session.execute("ALTER DATABASE pattern IS_TEMPLATE true").unwrap();
    let subscribe = || {
        let subscription = "CREATE SUBSCRIPTION late CONNECTION 'dbname=none' PUBLICATION p WITH (connect = false)";
        server.connect("pattern").execute(subscription).unwrap();
    };
    let tricky = Tricky { taken: &taken, table: "public.t", trick: &subscribe };
    let restored = replace.target.restore(&tricky, &watch()).unwrap();
    let left = restored.left_behind.unwrap();
    let name = names(&server, "keepstone\\_replaced%").remove(0);
    assert!(restored.replaced && left.starts_with(&name) && left.contains("subscription"), "{left}");
    assert!(
        left.contains(&format!("DROP DATABASE \"{name}\"")) || left.contains(&format!("DROP DATABASE {name}")),
        "{left}"
    );

    // What is told of a template that was left behind drops it.
    session.execute("CREATE DATABASE keepstone_replaced_00000000000000ee IS_TEMPLATE true").unwrap();
    let told = broken_off(&server.address("postgres"), &watch()).unwrap();
    let told = told.iter().find(|told| told.contains("00000000000000ee")).unwrap();
    let statements = told.split("takes room: ").nth(1).unwrap().split(" when nobody").next().unwrap();
    for statement in statements.split("; ") {
        session.execute(statement).unwrap();
    }
    assert_eq!(names(&server, "keepstone\\_replaced%"), [name]);
}

#[test]
fn a_connection_that_is_cut_is_named_with_what_the_target_is_like() {
    let Some(server) = server() else { return };
    let taken = take(&source(&server.create(&odd(server)), how()));
    let to = server.create("");
    let cut = || {
        let sql = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'", to.database);
        server.connect("postgres").query(&sql).unwrap();
    };
    let tricky = Tricky { taken: &taken, table: "log_rest", trick: &cut };
    let error = back(&to, |_| {}).target.restore(&tricky, &watch()).unwrap_err();
    refused(error, Kind::Unavailable, &[&to.server(), &to.database, "table", "incomplete"]);
}

/// Hears of the first key or index that is made.
#[derive(Debug, Default)]
struct Hears {
    made: Mutex<bool>,
    told: Condvar,
}

impl Hears {
    fn wait(&self) {
        let made = self.made.lock().unwrap();
        let (made, _) = self.told.wait_timeout_while(made, Duration::from_secs(60), |made| !*made).unwrap();
        assert!(*made, "no index was made while rows were still to come");
    }
}

impl Monitor for Hears {
    fn event(&self, event: Event<'_>) {
        if let Event::Current(what) = event
            && (what.starts_with("CONSTRAINT ") || what.starts_with("INDEX "))
        {
            *self.made.lock().unwrap() = true;
            self.told.notify_all();
        }
    }
}

#[test]
fn who_has_no_table_left_makes_the_indexes_of_those_that_are_full() {
    let Some(server) = server() else { return };
    let table = |name: &str| {
        format!(
            "CREATE TABLE {name} (id int PRIMARY KEY, n int UNIQUE, t text NOT NULL); CREATE INDEX ON {name} (n, id); \
             INSERT INTO {name} SELECT i, -i, repeat(md5(i::text), 32) FROM generate_series(1, 9000) i;"
        )
    };
    let small = "CREATE TABLE small (id int PRIMARY KEY REFERENCES first); INSERT INTO small VALUES (1);
                 ALTER TABLE first REPLICA IDENTITY FULL; ALTER TABLE last CLUSTER ON last_pkey;";
    let address = server.create(&format!("{}{}{small}", table("first"), table("last")));
    let taken = take(&source(&address, how()));
    let hears = Arc::new(Hears::default());
    let waits = || hears.wait();
    // The rows of one table come when a key or an index of the other was begun.
    let tricky = Tricky { taken: &taken, table: "public.last", trick: &waits };
    let to = unused(server);
    let create = back(&to, |options| options.destination = Destination::Create);
    let restored = create.target.restore(&tricky, &watch_with(hears.clone())).unwrap();
    assert_eq!((restored.tables, restored.rows), (3, 18_001));
    same(server, &address.database, &to.database);
    drop_database(server, &to);
}

#[test]
fn who_is_stopped_leaves_no_database() {
    let Some(server) = server() else { return };
    let taken = take(&source(&server.create(&odd(server)), how()));
    let stop = Stop::new();
    let raise = || stop.raise();
    let tricky = Tricky { taken: &taken, table: "log_rest", trick: &raise };
    let watch = Watch { stop: stop.clone(), ..watch() };
    let to = unused(server);
    let create = back(&to, |options| options.destination = Destination::Create);
    let error = create.target.restore(&tricky, &watch).unwrap_err();
    refused(error, Kind::Interrupted, &["dropped again"]);
    none_left(server, "keepstone_restore%");
}

#[test]
fn a_drill_sees_what_is_there_and_leaves_nothing() {
    let Some(server) = server() else { return };
    let address = server.create(&odd(server));
    let mut owner = server.connect(&address.database);
    owner.execute("CREATE ROLE drill_reader; CREATE POLICY theirs ON parent TO drill_reader USING (true)").unwrap();
    let taken = take(&source(&address, how()));
    let (drill, _scratch) = drill(server);
    assert_eq!(drill.identity(&watch()).unwrap(), taken.manifest.server.identity);
    let seen = drill.try_out(&taken, Sample::whole(&|_| true), &watch()).unwrap();
    assert_eq!(seen.left_behind, None);
    assert_eq!(seen.sequences, taken.manifest.sequences);
    for promised in &taken.manifest.tables {
        let table = seen.tables.iter().find(|table| (&table.schema, &table.name) == (&promised.schema, &promised.name));
        let table = table.unwrap_or_else(|| panic!("{} did not come back", promised.name));
        assert_eq!((table.rows, &table.checksum), (promised.rows, &promised.checksum), "{}", promised.name);
    }
    assert_eq!(seen.tables.len(), taken.manifest.tables.len());
    none_left(server, "keepstone\\_drill%");

    let tricky = Tricky { taken: &taken, table: "log_rest", trick: &|| panic!("as if there were no such stream") };
    let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        drill.try_out(&tricky, Sample::whole(&|_| false), &watch())
    }));
    assert!(broken.is_err());
    none_left(server, "keepstone\\_drill%");

    let mut headless = Taken { manifest: taken.manifest.clone(), streams: taken.streams.clone() };
    headless.streams.remove("pre-data.dump");
    let error = drill.try_out(&headless, Sample::whole(&|_| false), &watch()).unwrap_err();
    assert!(error.to_string().contains("pre-data.dump") && !error.to_string().contains("keepstone_drill_"), "{error}");

    server.connect("postgres").execute("CREATE DATABASE keepstone_drill_00000000000000ff").unwrap();
    assert!(drill.sweep(&watch()).unwrap().contains(&"keepstone_drill_00000000000000ff".to_owned()));
    none_left(server, "keepstone\\_drill%");
}

/// A table with times of all sorts that know their zone.
const TIMES: &str = "CREATE TYPE visit AS (at timestamptz, who text); CREATE TABLE times (id int PRIMARY KEY, \
     at timestamptz, during tstzrange, days timestamptz[], visit visit, local timestamp); \
     INSERT INTO times SELECT n, t, tstzrange(t, t + '1 hour'), ARRAY[t], ROW(t, 'x')::visit, t::timestamp \
     FROM generate_series(1, 200) n, LATERAL (SELECT '2026-01-01 00:00+00'::timestamptz + n * interval '37 hours') x(t); \
     CREATE TABLE plain (n int); INSERT INTO plain VALUES (1), (2);";

/// Whether each table has the rows and the checksum that were promised.
fn compared(drill: &Drill, taken: &Taken) -> (Vec<(String, bool)>, Vec<String>) {
    let seen = drill.try_out(taken, Sample::whole(&|_| true), &watch()).unwrap();
    let tables = taken.manifest.tables.iter().map(|promised| {
        let table = seen.tables.iter().find(|table| table.name == promised.name).unwrap();
        assert_eq!(table.rows, promised.rows);
        (table.name.clone(), table.checksum == promised.checksum)
    });
    (tables.collect(), seen.restored.notes)
}

#[test]
fn a_drill_compares_times_whatever_zones_source_and_drill_server_have() {
    let Some(server) = server() else { return };
    let Some(berlin) = another(&["timezone=Europe/Berlin"]) else { return };
    let address = berlin.create(TIMES);
    let name = identifier(&address.database);
    let all = |fits: bool| vec![("plain".to_owned(), true), ("times".to_owned(), fits)];
    let (drill, _scratch) = drill(server);
    let of_server = take(&source(&address, how()));
    assert_eq!(compared(&drill, &of_server), (all(true), Vec::new()));
    let mut owner = berlin.connect(&address.database);
    owner.execute(&format!("ALTER DATABASE {name} SET timezone = 'Asia/Kathmandu'")).unwrap();
    let of_database = take(&source(&address, how()));
    assert_eq!(compared(&drill, &of_database), (all(true), Vec::new()));
    owner.execute("ALTER ROLE postgres SET timezone = 'America/St_Johns'").unwrap();
    let of_role = take(&source(&address, how()));
    let rows = |taken: &Taken| taken.manifest.tables.iter().map(|table| table.checksum.clone()).collect::<Vec<_>>();
    assert_eq!(rows(&of_role), rows(&of_server), "a setting of the session changes what is stored");
}

/// Makes of a dump what an older version would have written: rows in the zone of the session, which it does not name.
fn as_before(taken: &mut Taken, server: &Server, database: &str) {
    let zone = taken.manifest.properties.remove("time_zone");
    assert_eq!(zone.as_deref(), Some("UTC"));
    for table in &mut taken.manifest.tables {
        let rows = output({
            let mut command = server.program("psql", database);
            command.args(["-XqAtc", &format!("COPY {} TO STDOUT", table.name)]);
            command
        });
        let mut sum = keepstone::crypto::RowSum::new();
        for row in rows.lines() {
            sum.whole_row(row.as_bytes());
        }
        table.checksum = Some(sum.hex());
        taken.streams.insert(table.stream.clone().unwrap(), rows.into_bytes());
    }
}

#[test]
fn a_dump_that_does_not_name_its_zone_is_not_blamed_for_it() {
    let Some(server) = server() else { return };
    let Some(berlin) = another(&["timezone=Europe/Berlin"]) else { return };
    let address = berlin.create(TIMES);
    let (drill, _scratch) = drill(server);
    let mut taken = take(&source(&address, how()));
    as_before(&mut taken, &berlin, &address.database);
    let (tables, notes) = compared(&drill, &taken);
    assert_eq!(tables, [("plain".to_owned(), true), ("times".to_owned(), false)]);
    assert!(notes.iter().any(|note| note.contains("public.times were counted and not compared")), "{notes:?}");

    // What does not hang on the zone is compared all the same, and differs if it does.
    let plain = taken.manifest.tables.iter_mut().find(|table| table.name == "plain").unwrap();
    plain.checksum = Some("0".repeat(32));
    let seen = drill.try_out(&taken, Sample::whole(&|_| true), &watch()).unwrap();
    let checksum = |name: &str| seen.tables.iter().find(|table| table.name == name).unwrap().checksum.clone();
    assert!(checksum("plain").is_some_and(|sum| sum != "0".repeat(32)));
    assert_eq!(checksum("times"), None);

    // The zone that a setting of the database names is tried.
    let mut owner = berlin.connect(&address.database);
    owner
        .execute(&format!("ALTER DATABASE {} SET timezone = 'Asia/Kathmandu'", identifier(&address.database)))
        .unwrap();
    let mut taken = take(&source(&address, how()));
    as_before(&mut taken, &berlin, &address.database);
    let (tables, notes) = compared(&drill, &taken);
    assert_eq!((tables[1].1, notes), (true, Vec::new()));
}

#[test]
fn definitions_are_stored_in_utf8_whatever_role_and_database_speak() {
    let Some(server) = server() else { return };
    let sql = "CREATE TABLE \"täble\" (\"nüm\" int DEFAULT 7); INSERT INTO \"täble\" VALUES (1); CREATE TABLE other ()";
    let granted = format!("{sql}; GRANT SELECT ON \"täble\" TO \"Odd Röle 'x' %s\"");
    let mut session = server.connect("postgres");
    session.execute("CREATE ROLE \"Odd Röle 'x' %s\"; CREATE ROLE speaks_latin SUPERUSER LOGIN").unwrap();
    session.execute("ALTER ROLE speaks_latin SET client_encoding = 'latin1'").unwrap();
    session.execute("CREATE DATABASE in_latin ENCODING 'LATIN1' TEMPLATE template0").unwrap();
    server.connect("in_latin").execute(sql).unwrap();
    for database in [server.create(&granted).database, "in_latin".to_owned()] {
        let url = server.socket_url(&database).replace("//postgres@", "//speaks_latin@");
        let taken = take(&source(&Address::parse(&url, &surroundings()).unwrap(), how()));
        let archive = Archive::read(&mut taken.streams["pre-data.dump"].as_slice()).unwrap();
        let table = archive.entries.iter().find(|entry| entry.is("TABLE") && entry.tag != b"other").unwrap();
        assert_eq!(String::from_utf8_lossy(&table.tag), "täble");
        let to = unused(server);
        let whole = back(&to, |options| options.destination = Destination::Create);
        assert_eq!(whole.target.restore(&taken, &watch()).unwrap().rows, 1);
        same(server, &database, &to.database);
        drop_database(server, &to);
        let one = back(&server.create(""), |options| options.tables = vec![TableName::parse("public.täble").unwrap()]);
        assert_eq!(one.target.restore(&taken, &watch()).unwrap().rows, 1);
    }
    drop_database(server, &server.address("in_latin"));
}

#[test]
fn one_stream_of_sql_is_loaded_by_psql() {
    let Some(server) = server() else { return };
    let address = server.create(&odd(server));
    // A backslash in a literal means something else there.
    let mut owner = server.connect("postgres");
    let alter = format!("ALTER DATABASE {}", identifier(&address.database));
    owner.execute(&format!("{alter} SET standard_conforming_strings = off")).unwrap();
    let taken = take(&source(&address, how()));
    owner.execute(&format!("{alter} RESET standard_conforming_strings")).unwrap();
    let programs = Programs { surroundings: surroundings(), folder: None };
    let mut sql = Vec::new();
    let exported = export_sql(&taken, &programs, &mut sql, &watch()).unwrap();
    assert_eq!(exported.rows, taken.manifest.rows());
    let to = server.create("");
    let load = |sql: &[u8], database: &str| {
        let mut command = server.program("psql", database);
        command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-1"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        // A client that stops at an error does not read on.
        let _ = input.write_all(sql);
        drop(input);
        child.wait_with_output().unwrap()
    };
    let loaded = load(&sql, &to.database);
    assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));
    same(server, &address.database, &to.database);

    let broken = Tricky { taken: &taken, table: "log_rest", trick: &|| () };
    struct Broken<'b>(Tricky<'b>);
    impl StoredDump for Broken<'_> {
        fn manifest(&self) -> &Manifest {
            self.0.manifest()
        }
        fn open(&self, path: &str) -> io::Result<Box<dyn Read + Send + '_>> {
            if path.contains("log_rest") { Err(io::Error::other("damaged")) } else { self.0.open(path) }
        }
    }
    let mut sql = Vec::new();
    let error = export_sql(&Broken(broken), &programs, &mut sql, &watch()).unwrap_err();
    refused(error, Kind::Unavailable, &["log_rest", "damaged"]);
    let nothing = server.create("");
    assert!(!load(&sql, &nothing.database).status.success());
    let tables = server.connect(&nothing.database).value("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'");
    assert_eq!(tables.unwrap().as_deref(), Some("0"), "half a dump was kept");
}

#[test]
fn one_archive_is_restored_by_pg_restore() {
    let Some(server) = server() else { return };
    let address = server.create(&odd(server));
    let taken = take(&source(&address, how()));
    let scratch = Scratch::new(&std::env::temp_dir()).unwrap();
    let file = scratch.path().join("shop.dump");
    let mut out = std::fs::File::create(&file).unwrap();
    let exported = export_archive(&taken, &mut out, &watch()).unwrap();
    assert_eq!(exported.rows, taken.manifest.rows());
    let mut list = server.program("pg_restore", "postgres");
    list.arg("--list").arg(&file);
    let list = output(list);
    assert!(list.contains("TABLE DATA public parent") && list.contains("SEQUENCE SET public odd seq"), "{list}");
    for jobs in [1, 2] {
        let to = server.create("");
        let mut restore = server.program("pg_restore", &to.database);
        restore.args(["--exit-on-error", "-d", &to.database, &format!("-j{jobs}")]).arg(&file);
        output(restore);
        same(server, &address.database, &to.database);
    }
}

#[test]
fn rows_alone_and_another_encoding_come_back() {
    let Some(server) = server() else { return };
    let mut admin = server.connect("postgres");
    admin.execute("CREATE DATABASE back_latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'").unwrap();
    server
        .connect("back_latin")
        .execute("CREATE TABLE \"é\" (\"ü\" text); INSERT INTO \"é\" VALUES ('Ärger')")
        .unwrap();
    let address = server.address("back_latin");
    let taken = take(&source(&address, how()));
    let to = unused(server);
    let create = back(&to, |options| options.destination = Destination::Create);
    assert_eq!(create.target.restore(&taken, &watch()).unwrap().rows, 1);
    same(server, "back_latin", &to.database);
    let rows = take(&source(&address, Choice { content: keepstone::source::postgres::Content::DataOnly, ..how() }));
    let error = create.target.check(&rows, &watch()).unwrap_err();
    refused(error, Kind::Usage, &["--phase data"]);
    server.connect(&to.database).execute("TRUNCATE \"é\"").unwrap();
    let data = Phases { pre_data: false, data: true, post_data: false };
    let only = back(&to, |options| options.phases = data);
    assert_eq!(only.target.restore(&rows, &watch()).unwrap().rows, 1);
    let programs = Programs { surroundings: surroundings(), folder: None };
    let mut sql = Vec::new();
    export_sql(&taken, &programs, &mut sql, &watch()).unwrap();
    assert!(sql.windows(6).any(|bytes| bytes == b"\xc4rger\n"));
    drop_database(server, &to);
}

#[test]
fn a_role_that_is_no_superuser_brings_back_what_it_may() {
    let Some(server) = server() else { return };
    let sql = "CREATE TABLE t (n int PRIMARY KEY); INSERT INTO t VALUES (1); CREATE SEQUENCE s; SELECT nextval('s'); \
               CREATE VIEW v AS SELECT n FROM t; SELECT lo_from_bytea(0, 'x')";
    let taken = take(&source(&server.create(sql), how()));
    let mut admin = server.connect("postgres");
    admin
        .execute("CREATE ROLE back_maker LOGIN CREATEDB PASSWORD 'pw'; CREATE ROLE back_guest LOGIN PASSWORD 'pw'")
        .unwrap();
    let to = unused(server);
    let as_role = |role: &str| {
        let password = Some(keepstone::base::Secret::new("pw".to_owned()));
        let address = Address { user: role.into(), password, ..to.clone() };
        back(&address, |options| {
            options.destination = Destination::Create;
            (options.owners, options.grants) = (false, false);
        })
    };
    refused(
        as_role("back_guest").target.check(&taken, &watch()).unwrap_err(),
        Kind::Denied,
        &["CREATEDB", "back_guest"],
    );
    let restored = as_role("back_maker").target.restore(&taken, &watch()).unwrap();
    assert_eq!((restored.rows, restored.sequences), (1, 1));
    let owner = "SELECT tableowner FROM pg_tables WHERE tablename = 't'";
    assert_eq!(server.connect(&to.database).value(owner).unwrap().as_deref(), Some("back_maker"));
    drop_database(server, &to);
    admin.execute("DROP ROLE back_maker; DROP ROLE back_guest").unwrap();
}
