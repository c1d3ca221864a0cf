//! What a database holds, and what of it will be read: tables, columns, sequences.
//!
//! A few questions to the catalog answer everything, however many tables there are.

use super::{Content, Options, patterns};
use crate::base::Kind;
use crate::db::Result;
use crate::db::postgres::{Connection, Row, identifier, literal, qualified};
use std::collections::HashMap;

/// How many tables a partition may lie beneath.
const MAX_LEVELS: usize = 1000;

/// A table, a partitioned or foreign one, or a sequence that was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Relation {
    pub(super) oid: String,
    pub(super) schema: String,
    pub(super) name: String,
    /// As the catalog says it: `r` table, `p` partitioned, `f` foreign, `S` sequence.
    pub(super) kind: char,
    /// The table that a sequence belongs to, and whether it is the sequence of an identity column.
    owner: Option<(String, bool)>,
}

impl Relation {
    /// Its name as SQL.
    pub(super) fn sql(&self) -> String {
        qualified(&self.schema, &self.name)
    }

    /// Whether `pg_dump` locks it: whatever can be altered under the rows.
    pub(super) fn is_locked(&self) -> bool {
        matches!(self.kind, 'r' | 'p')
    }
}

/// What is known of a table that was chosen.
#[derive(Clone, Debug)]
pub(super) struct TablePlan {
    pub(super) relation: Relation,
    /// The columns in the order of the stream; empty if there is none to name.
    pub(super) columns: Vec<String>,
    /// The columns of the primary key.
    key: Vec<String>,
    /// Size on the server's disk.
    pub(super) bytes: u64,
    pub(super) note: &'static str,
    /// The condition on the rows of an extension's configuration table.
    pub(super) condition: Option<String>,
    /// Whether its rows are read.
    pub(super) has_data: bool,
    may_read: bool,
    is_hidden: bool,
}

impl TablePlan {
    /// Whether a crash or a standby leaves it empty.
    pub(super) fn is_unlogged(&self) -> bool {
        self.note.starts_with("unlogged")
    }

    /// The statement that reads its rows in `encoding`.
    pub(super) fn copy_statement(&self, options: &Options, encoding: &str) -> String {
        let columns = self.columns.iter().map(|name| identifier(name)).collect::<Vec<_>>().join(", ");
        let table = self.relation.sql();
        let how = format!("TO STDOUT (FORMAT text, ENCODING {})", literal(encoding));
        let key = self.key.iter().map(|name| identifier(name)).collect::<Vec<_>>().join(", ");
        let order =
            if options.primary_key_order && !key.is_empty() { format!(" ORDER BY {key}") } else { String::new() };
        if self.condition.is_none() && order.is_empty() {
            // Without a column to name the rows are empty lines.
            return if columns.is_empty() {
                format!("COPY {table} {how}")
            } else {
                format!("COPY {table} ({columns}) {how}")
            };
        }
        let condition = self.condition.as_deref().map(|condition| format!(" {condition}")).unwrap_or_default();
        format!("COPY (SELECT {columns} FROM ONLY {table}{condition}{order}) {how}")
    }
}

/// Everything that was chosen.
#[derive(Default)]
pub(super) struct Plan {
    /// Sorted by schema and name.
    pub(super) tables: Vec<TablePlan>,
    /// Those that can be read.
    pub(super) sequences: Vec<Relation>,
    /// Whether there are others: unlogged ones, on a standby.
    pub(super) has_unread_sequences: bool,
    /// Partitions that are chosen because the table that they are parts of is, as patterns for `pg_dump`.
    pub(super) with_partitions: Vec<String>,
    /// Those that are left out because it is.
    pub(super) without_partitions: Vec<String>,
}

/// Which relations there are and whether they are chosen, without anything that takes long to find out.
pub(super) fn chosen(connection: &mut Connection, options: &Options, version_number: u32) -> Result<Vec<Relation>> {
    let sql = statement(connection, options, version_number, "")?;
    let mut rows = connection.query(&sql)?;
    follow_whole_tables(&mut rows, options);
    Ok(keep_chosen(rows).into_iter().map(|row| relation(&row)).collect())
}

/// All about the chosen relations, as the present snapshot shows them. Fails, with their names, if the role may not
/// read some or row security hides their rows.
pub(super) fn plan(connection: &mut Connection, options: &Options, version_number: u32, standby: bool) -> Result<Plan> {
    let details = details(version_number);
    let sql = statement(connection, options, version_number, &details)?;
    let mut rows = connection.query(&sql)?;
    let mut plan = Plan::default();
    (plan.with_partitions, plan.without_partitions) = follow_whole_tables(&mut rows, options);
    let mut sequences = Vec::new();
    for row in keep_chosen(rows) {
        let table = table_plan(&row, options, standby);
        if table.relation.kind == 'S' { sequences.push(table) } else { plan.tables.push(table) }
    }
    if plan.tables.is_empty() && sequences.is_empty() && !options.include_tables.is_empty() {
        let message = format!("there is no table that fits {}", options.include_tables.join(", "));
        return Err(connection.strange(message).of_kind(Kind::NotFound));
    }
    if options.include_tables.is_empty()
        && !options.schemas.is_empty()
        && !is_there(connection, options, version_number)?
    {
        let message = format!("there is no schema that fits {}", options.schemas.join(", "));
        return Err(connection.strange(message).of_kind(Kind::NotFound));
    }
    let all = || plan.tables.iter().chain(&sequences);
    refuse(connection, all().filter(|table| !table.may_read && table.relation.kind != 'f'), |names, user| {
        let first = "may not read";
        format!(
            "user {user} {first} {names}; GRANT SELECT on them and USAGE on their schemas, or GRANT pg_read_all_data"
        )
    })?;
    refuse(connection, all().filter(|table| table.is_hidden && table.has_data), |names, user| {
        format!("row security hides rows of {names} from user {user}; use a role with BYPASSRLS or the tables' owner")
    })?;
    // What a crash may forget a standby does not know.
    plan.has_unread_sequences = standby && sequences.iter().any(TablePlan::is_unlogged);
    let readable = sequences.into_iter().filter(|sequence| !(standby && sequence.is_unlogged()));
    plan.sequences = readable.map(|sequence| sequence.relation).collect();
    Ok(plan)
}

/// Whether any schema is chosen, even one that holds nothing.
fn is_there(connection: &mut Connection, options: &Options, version_number: u32) -> Result<bool> {
    let fits = any(connection, &options.schemas, patterns::schema, version_number)?;
    let sql = format!("SELECT 1 FROM pg_catalog.pg_namespace n WHERE {fits} LIMIT 1");
    Ok(connection.value(&sql)?.is_some())
}

/// Fails if there is any in `tables`, naming the first ten.
fn refuse<'t>(
    connection: &Connection,
    tables: impl Iterator<Item = &'t TablePlan>,
    message: impl Fn(&str, &str) -> String,
) -> Result<()> {
    let names: Vec<String> = tables.map(|table| format!("{}.{}", table.relation.schema, table.relation.name)).collect();
    let Some(first) = names.first() else { return Ok(()) };
    let mut listed = names[..names.len().min(10)].join(", ");
    if names.len() > 10 {
        listed = format!("{listed} and {} more", names.len() - 10);
    }
    let address = connection.address();
    let error = address.error(Kind::Denied, message(&listed, &address.user)).database(&address.database);
    Err(error.object(format!("table {first}")))
}

/// The places of what [`statement`] asks for.
mod place {
    pub(super) const OID: usize = 0;
    pub(super) const SCHEMA: usize = 1;
    pub(super) const NAME: usize = 2;
    pub(super) const KIND: usize = 3;
    pub(super) const OWNER: usize = 4;
    pub(super) const IS_IDENTITY: usize = 5;
    pub(super) const IS_CHOSEN: usize = 6;
    pub(super) const WHOLE: usize = 7;
    pub(super) const IS_LEFT_OUT: usize = 8;
    pub(super) const IS_WITHOUT_DATA: usize = 9;
    pub(super) const COLUMNS: usize = 10;
    pub(super) const KEY: usize = 11;
    pub(super) const BYTES: usize = 12;
    pub(super) const PERSISTENCE: usize = 13;
    pub(super) const IS_PARTITION: usize = 14;
    pub(super) const CONDITION: usize = 15;
    pub(super) const IS_CONFIGURATION: usize = 16;
    pub(super) const MAY_READ: usize = 17;
    pub(super) const IS_HIDDEN: usize = 18;
}

/// The question for all relations of somebody's and those of extensions that hold configuration. `details` are
/// further columns.
fn statement(connection: &Connection, options: &Options, version_number: u32, details: &str) -> Result<String> {
    let any = |list, one| any(connection, list, one, version_number);
    let excluded_tables = any(&options.exclude_tables, patterns::table)?;
    let without_data = any(&options.exclude_table_data, patterns::table)?;
    let included = if !options.include_tables.is_empty() {
        any(&options.include_tables, patterns::table)?
    } else {
        let excluded = any(&options.exclude_schemas, patterns::schema)?;
        let included =
            if options.schemas.is_empty() { "true".into() } else { any(&options.schemas, patterns::schema)? };
        format!("({included} AND NOT {excluded})")
    };
    let configuration = if options.is_part() { "false" } else { "x.oid IS NOT NULL" };
    let whole = match version_number >= 100_000 {
        true => {
            "(SELECT i.inhparent FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid AND c.relispartition \
             AND c.relkind IN ('r', 'p', 'f'))"
        }
        false => "NULL",
    };
    Ok(format!(
        "SELECT c.oid, n.nspname, c.relname, c.relkind, o.refobjid, o.deptype = 'i', \
           {included} AND NOT {excluded_tables} AND (x.oid IS NULL OR {configuration}), \
           {whole}, {excluded_tables}, {without_data}{details} \
         FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         LEFT JOIN (SELECT pg_catalog.unnest(extconfig) AS oid, pg_catalog.unnest(extcondition) AS condition \
           FROM pg_catalog.pg_extension) x ON x.oid = c.oid \
         LEFT JOIN pg_catalog.pg_depend o ON c.relkind = 'S' AND o.classid = 'pg_catalog.pg_class'::pg_catalog.regclass \
           AND o.objid = c.oid AND o.objsubid = 0 AND o.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass \
           AND o.deptype IN ('a', 'i') \
         WHERE c.relkind IN ('r', 'p', 'f', 'S') AND c.relpersistence <> 't' \
           AND (x.oid IS NOT NULL OR n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND NOT EXISTS ( \
             SELECT FROM pg_catalog.pg_depend e WHERE e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass \
               AND e.objid = c.oid AND e.objsubid = 0 AND e.deptype = 'e')) \
         ORDER BY n.nspname, c.relname"
    ))
}

/// The condition that one of the patterns fits.
fn any(
    connection: &Connection,
    list: &[String],
    one: fn(&str, u32) -> Option<String>,
    version_number: u32,
) -> Result<String> {
    let mut conditions = Vec::new();
    for pattern in list {
        conditions.push(one(pattern, version_number).ok_or_else(|| {
            let message = format!("the pattern {pattern:?} has too many dots: write schema.table, or quote names");
            connection.address().error(Kind::Usage, message)
        })?);
    }
    Ok(if conditions.is_empty() { "false".to_owned() } else { format!("({})", conditions.join(" OR ")) })
}

fn details(version_number: u32) -> String {
    let generated = if version_number >= 120_000 { " AND a.attgenerated = ''" } else { "" };
    let partition = if version_number >= 100_000 { "c.relispartition" } else { "false" };
    format!(
        ", (SELECT pg_catalog.json_agg(a.attname ORDER BY a.attnum) FROM pg_catalog.pg_attribute a \
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped{generated} AND c.relkind <> 'S'), \
           (SELECT pg_catalog.json_agg(a.attname ORDER BY k.place) FROM pg_catalog.pg_index i \
             CROSS JOIN LATERAL pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY AS k(number, place) \
             JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number \
             WHERE i.indrelid = c.oid AND i.indisprimary), \
           pg_catalog.pg_table_size(c.oid), c.relpersistence, {partition}, x.condition, x.oid IS NOT NULL, \
           CASE WHEN c.relkind = 'S' THEN pg_catalog.has_sequence_privilege(c.oid, 'SELECT') \
             ELSE pg_catalog.has_table_privilege(c.oid, 'SELECT') END \
             AND pg_catalog.has_schema_privilege(n.oid, 'USAGE'), \
           c.relrowsecurity AND pg_catalog.row_security_active(c.oid)"
    )
}

fn text(row: &Row, at: usize) -> &str {
    row.get(at).and_then(Option::as_deref).unwrap_or_default()
}

fn relation(row: &Row) -> Relation {
    let owner = row.get(place::OWNER).cloned().flatten();
    Relation {
        oid: text(row, place::OID).to_owned(),
        schema: text(row, place::SCHEMA).to_owned(),
        name: text(row, place::NAME).to_owned(),
        kind: text(row, place::KIND).chars().next().unwrap_or('r'),
        owner: owner.map(|owner| (owner, text(row, place::IS_IDENTITY) == "t")),
    }
}

/// Partitions are chosen and left out with the table that they are parts of: its name stands for all its rows. `pg_dump`
/// would take each by its own name, and has to be told: the answer are those whose own names say otherwise.
fn follow_whole_tables(rows: &mut [Row], options: &Options) -> (Vec<String>, Vec<String>) {
    let is = |row: &Row, at| text(row, at) == "t";
    let of: HashMap<String, Flags> = rows
        .iter()
        .map(|row| {
            let flags = [place::IS_CHOSEN, place::IS_LEFT_OUT, place::IS_WITHOUT_DATA].map(|at| is(row, at));
            (text(row, place::OID).to_owned(), (flags, text(row, place::WHOLE).to_owned()))
        })
        .collect();
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for row in rows {
        let Some(([was_chosen, was_left_out, _], _)) = of.get(text(row, place::OID)) else { continue };
        let [mut is_named, mut is_left_out, mut is_without_data] = [false; 3];
        let mut whole = text(row, place::WHOLE);
        for _ in 0..MAX_LEVELS {
            let Some((flags, above)) = of.get(whole) else { break };
            is_named |= flags[0] && !options.include_tables.is_empty();
            is_left_out |= flags[1];
            is_without_data |= flags[2];
            whole = above;
        }
        let name = qualified(text(row, place::SCHEMA), text(row, place::NAME));
        if is_left_out && !was_left_out {
            without.push(name);
        } else if is_named && !was_chosen && !was_left_out {
            with.push(name);
        }
        let say = |row: &mut Row, at: usize, value: bool| row[at] = Some(if value { "t" } else { "f" }.to_owned());
        if is_left_out || is_named && !was_left_out {
            say(row, place::IS_CHOSEN, !is_left_out);
        }
        if is_without_data {
            say(row, place::IS_WITHOUT_DATA, true);
        }
    }
    (with, without)
}

/// Whether a table is chosen, left out, or left without data by its own name; and the oid of that which it is a part of.
type Flags = ([bool; 3], String);

/// The rows of what is chosen. A sequence that belongs to a table goes with it: that of an identity column always,
/// another one also where it was chosen by itself.
fn keep_chosen(rows: Vec<Row>) -> Vec<Row> {
    let is_chosen = |row: &Row| text(row, place::IS_CHOSEN) == "t";
    let tables = rows.iter().filter(|row| is_chosen(row) && text(row, place::KIND) != "S");
    let tables: std::collections::HashSet<String> = tables.map(|row| text(row, place::OID).to_owned()).collect();
    let keep = |row: &Row| match relation(row).owner {
        Some((table, is_identity)) => tables.contains(&table) || is_chosen(row) && !is_identity,
        None => is_chosen(row),
    };
    rows.into_iter().filter(keep).collect()
}

fn table_plan(row: &Row, options: &Options, standby: bool) -> TablePlan {
    let relation = relation(row);
    let names = |at| serde_json::from_str(text(row, at)).unwrap_or_default();
    let flag = |at| text(row, at) == "t";
    let is_unlogged = text(row, place::PERSISTENCE) == "u";
    let note = match relation.kind {
        'p' => "partitioned",
        'f' => "foreign",
        _ if flag(place::IS_CONFIGURATION) => "extension configuration",
        _ if is_unlogged && standby => "unlogged, not readable on a standby",
        _ if is_unlogged => "unlogged",
        _ if flag(place::IS_WITHOUT_DATA) => "rows left out",
        _ if flag(place::IS_PARTITION) => "partition",
        _ => "",
    };
    let is_left_out = flag(place::IS_WITHOUT_DATA) || is_unlogged && standby;
    TablePlan {
        has_data: relation.kind == 'r' && !is_left_out && options.content != Content::SchemaOnly,
        columns: names(place::COLUMNS),
        key: names(place::KEY),
        bytes: text(row, place::BYTES).parse().unwrap_or(0),
        condition: row.get(place::CONDITION).cloned().flatten().filter(|condition| !condition.trim().is_empty()),
        may_read: flag(place::MAY_READ),
        is_hidden: flag(place::IS_HIDDEN),
        note,
        relation,
    }
}
