//! Which entries of an archive are restored when only some tables or schemas are meant.
//!
//! A table comes with what makes it work: its sequences, defaults, comments, grants, indexes, constraints, triggers,
//! rules and policies. What others have defined on it (views, publications, foreign keys of other tables) does not come.
//! A partitioned table stands here with its partitions; they and their indexes are put together as they were.

use super::archive::{Archive, Entry};
use super::options::Options;
use super::statements::first_qualified;
use std::collections::HashSet;

/// Schema and name, as bytes of the archive.
type Name = (Vec<u8>, Vec<u8>);

/// Things that carry a name of their own and hold rows or show them.
const RELATIONS: [&str; 5] = ["TABLE", "VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE", "SEQUENCE"];
/// Things that make one thing a part of another.
const PUT_TOGETHER: [&str; 2] = ["TABLE ATTACH", "INDEX ATTACH"];
/// Things that belong to the table that their definition names first.
const OF_A_TABLE: [&str; 13] = [
    "DEFAULT",
    "CONSTRAINT",
    "CHECK CONSTRAINT",
    "FK CONSTRAINT",
    "INDEX",
    "TRIGGER",
    "RULE",
    "POLICY",
    "ROW SECURITY",
    "COMMENT",
    "ACL",
    "SECURITY LABEL",
    "SEQUENCE OWNED BY",
];

/// What is taken out of the two archives of a dump.
pub struct Choice<'o> {
    options: &'o Options,
    /// Relations that are meant: tables, and the sequences that belong to them.
    relations: HashSet<Name>,
    /// Schemas that the target lacks and that something chosen needs.
    schemas: HashSet<Vec<u8>>,
}

impl<'o> Choice<'o> {
    /// Looks through the archive of what comes before the rows. `has_schema` says which schemas the target has.
    pub fn new(options: &'o Options, pre_data: &Archive, has_schema: &dyn Fn(&str) -> bool) -> Choice<'o> {
        let mut choice = Choice { options, relations: HashSet::new(), schemas: HashSet::new() };
        if !options.is_partial() {
            return choice;
        }
        for table in &options.tables {
            choice.relations.insert((table.schema.clone().into_bytes(), table.name.clone().into_bytes()));
        }
        for entry in &pre_data.entries {
            choice.add_sequence(entry);
        }
        let of_tables = options.tables.iter().map(|table| &table.schema);
        let lacking = of_tables.chain(&options.schemas).filter(|schema| !has_schema(schema));
        choice.schemas = lacking.map(|schema| schema.clone().into_bytes()).collect();
        choice
    }

    /// A sequence is a table's own if its column is an identity, or if another entry says whose it is.
    fn add_sequence(&mut self, entry: &Entry) {
        let table = if entry.is("SEQUENCE") && entry.definition.trim_ascii_start().starts_with(b"ALTER TABLE") {
            first_qualified(&entry.definition, None)
        } else if entry.is("SEQUENCE OWNED BY") {
            first_qualified(&entry.definition, Some("OWNED"))
        } else {
            None
        };
        if let (Some(table), Some(schema)) = (table, &entry.schema)
            && self.relations.contains(&table)
        {
            self.relations.insert((schema.clone(), entry.tag.clone()));
        }
    }

    /// Whether an entry is restored.
    pub fn takes(&self, entry: &Entry) -> bool {
        if !self.options.is_partial() {
            return true;
        }
        if ["ENCODING", "STDSTRINGS", "SEARCHPATH"].iter().any(|kind| entry.is(kind)) {
            return true;
        }
        if entry.is("SCHEMA") {
            return self.schemas.contains(&entry.tag);
        }
        self.is_of_schema(entry) || self.is_of_relation(entry)
    }

    fn is_of_schema(&self, entry: &Entry) -> bool {
        // A publication belongs to the database, whatever schema its tables are in.
        if entry.is("PUBLICATION TABLE") || entry.is("PUBLICATION TABLES IN SCHEMA") {
            return false;
        }
        // What a partition is a part of may lie in another schema.
        if PUT_TOGETHER.iter().any(|kind| entry.is(kind)) {
            return false;
        }
        let on_schema = entry.tag.strip_prefix(b"SCHEMA ").is_some_and(|name| self.wants_schema(name));
        on_schema || entry.schema.as_deref().is_some_and(|name| self.wants_schema(name))
    }

    fn wants_schema(&self, name: &[u8]) -> bool {
        self.options.schemas.iter().any(|schema| schema.as_bytes() == name)
    }

    fn is_of_relation(&self, entry: &Entry) -> bool {
        let own = || Some((entry.schema.clone()?, entry.tag.clone()));
        let subject = if RELATIONS.iter().any(|kind| entry.is(kind)) || entry.is("STATISTICS DATA") {
            own()
        } else if OF_A_TABLE.iter().any(|kind| entry.is(kind)) {
            first_qualified(&entry.definition, None)
        } else if entry.is("STATISTICS") {
            first_qualified(&entry.definition, Some("FROM"))
        } else if entry.is("MATERIALIZED VIEW DATA") {
            own()
        } else {
            None
        };
        subject.is_some_and(|subject| self.relations.contains(&subject))
    }

    /// Whether a sequence is set.
    pub fn takes_sequence(&self, schema: &str, name: &str) -> bool {
        !self.options.is_partial()
            || self.options.schemas.iter().any(|wanted| wanted == schema)
            || self.relations.contains(&(schema.as_bytes().to_vec(), name.as_bytes().to_vec()))
    }

    /// An archive with only what is taken.
    pub fn of(&self, archive: &Archive) -> Archive {
        let taken = archive.entries.iter().filter(|entry| self.takes(entry));
        let indexes: HashSet<Name> = taken.filter_map(index_of).collect();
        let wanted = |entry: &&Entry| self.takes(entry) || self.puts_together(entry, &indexes);
        archive.with_entries(archive.entries.iter().filter(wanted).cloned().collect())
    }

    /// Whether an entry makes one of two things that are taken a part of the other.
    fn puts_together(&self, entry: &Entry, indexes: &HashSet<Name>) -> bool {
        let has = |name: &Name| match entry.is("TABLE ATTACH") {
            true => self.relations.contains(name) || self.wants_schema(&name.0),
            false => indexes.contains(name),
        };
        let is_taken = |after| first_qualified(&entry.definition, after).is_some_and(|name| has(&name));
        PUT_TOGETHER.iter().any(|kind| entry.is(kind)) && is_taken(None) && is_taken(Some("PARTITION"))
    }
}

/// The index that an entry makes: one by itself, or that of a key. A key's entry is called after its table and itself.
fn index_of(entry: &Entry) -> Option<Name> {
    let schema = entry.schema.clone()?;
    if entry.is("INDEX") {
        return Some((schema, entry.tag.clone()));
    }
    let (_, table) = first_qualified(&entry.definition, None).filter(|_| entry.is("CONSTRAINT"))?;
    let key = entry.tag.strip_prefix(table.as_slice())?.strip_prefix(b" ")?;
    Some((schema, key.to_vec()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::archive::Section;
    use super::super::options::TableName;
    use super::*;

    fn entry(kind: &str, schema: &str, tag: &str, definition: &str) -> Entry {
        Entry {
            schema: Some(schema.as_bytes().to_vec()),
            definition: definition.as_bytes().to_vec(),
            ..Entry::new(1, kind, tag, Section::PreData)
        }
    }

    fn archive() -> Archive {
        Archive {
            entries: vec![
                entry("ENCODING", "", "ENCODING", "SET client_encoding = 'UTF8';"),
                entry("SCHEMA", "", "s", "CREATE SCHEMA s;"),
                entry("TABLE", "s", "t", "CREATE TABLE s.t (a int);"),
                entry("TABLE", "s", "t2", "CREATE TABLE s.t2 (a int);"),
                entry("SEQUENCE", "s", "t_id", "ALTER TABLE s.t ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY ();"),
                entry("SEQUENCE", "s", "own", "CREATE SEQUENCE s.own;"),
                entry("SEQUENCE OWNED BY", "s", "own", "ALTER SEQUENCE s.own OWNED BY s.t.id;"),
                entry("DEFAULT", "s", "t a", "ALTER TABLE ONLY s.t ALTER COLUMN a SET DEFAULT 1;"),
                entry("COMMENT", "s", "COLUMN t.a", "COMMENT ON COLUMN s.t.a IS 'x';"),
                entry("ACL", "s", "TABLE t2", "GRANT SELECT ON TABLE s.t2 TO x;"),
                entry(
                    "FK CONSTRAINT",
                    "s",
                    "t2 fk",
                    "ALTER TABLE ONLY s.t2 ADD CONSTRAINT fk FOREIGN KEY (a) REFERENCES s.t(a);",
                ),
                entry("INDEX", "s", "i", "CREATE INDEX i ON s.t USING btree (a);"),
                entry("STATISTICS", "s", "st", "CREATE STATISTICS s.st ON a, b FROM s.t;"),
                entry("PUBLICATION TABLE", "s", "p t", "ALTER PUBLICATION p ADD TABLE ONLY s.t;"),
                entry("VIEW", "s", "v", "CREATE VIEW s.v AS SELECT * FROM s.t;"),
            ],
            ..Archive::empty()
        }
    }

    fn chosen(options: &Options, has_schema: bool) -> Vec<String> {
        let archive = archive();
        let chosen = Choice::new(options, &archive, &|_| has_schema).of(&archive);
        chosen.entries.iter().map(|entry| String::from_utf8_lossy(&entry.tag).into_owned()).collect()
    }

    #[test]
    fn a_table_comes_with_what_makes_it_work_and_nothing_else() {
        let mut options = Options::new("t".into());
        options.tables = vec![TableName::parse("s.t").unwrap()];
        assert_eq!(chosen(&options, true), ["ENCODING", "t", "t_id", "own", "own", "t a", "COLUMN t.a", "i", "st"]);
        assert_eq!(chosen(&options, false)[1], "s");
    }

    #[test]
    fn a_schema_comes_with_all_that_lies_in_it() {
        let mut options = Options::new("t".into());
        options.schemas = vec!["s".to_owned()];
        assert_eq!(chosen(&options, false).len(), archive().entries.len() - 1);
        options.schemas = vec!["other".to_owned()];
        assert_eq!(chosen(&options, true), ["ENCODING"]);
        assert_eq!(chosen(&Options::new("t".into()), true).len(), archive().entries.len());
    }

    #[test]
    fn a_partitioned_table_and_its_partitions_are_put_together() {
        let archive = Archive {
            entries: vec![
                entry("TABLE", "s", "p", "CREATE TABLE s.p (a int) PARTITION BY LIST (a);"),
                entry("TABLE", "s", "p1", "CREATE TABLE s.p1 (a int);"),
                entry("TABLE ATTACH", "s", "p1", "ALTER TABLE ONLY s.p ATTACH PARTITION s.p1 FOR VALUES IN (1);"),
                entry("CONSTRAINT", "s", "p p key", "ALTER TABLE ONLY s.p ADD CONSTRAINT \"p key\" PRIMARY KEY (a);"),
                entry("CONSTRAINT", "s", "p1 k1", "ALTER TABLE ONLY s.p1 ADD CONSTRAINT k1 PRIMARY KEY (a);"),
                entry("INDEX", "s", "i", "CREATE INDEX i ON ONLY s.p USING btree (a);"),
                entry("INDEX", "s", "i1", "CREATE INDEX i1 ON s.p1 USING btree (a);"),
                entry("INDEX ATTACH", "s", "i1", "ALTER INDEX s.i ATTACH PARTITION s.i1;"),
                entry("INDEX ATTACH", "s", "k1", "ALTER INDEX s.\"p key\" ATTACH PARTITION s.k1;"),
            ],
            ..Archive::empty()
        };
        let taken = |tables: &[&str]| {
            let mut options = Options::new("t".into());
            options.tables = tables.iter().map(|table| TableName::parse(table).unwrap()).collect();
            Choice::new(&options, &archive, &|_| true).of(&archive).entries.len()
        };
        assert_eq!(taken(&["s.p", "s.p1"]), archive.entries.len());
        assert_eq!(taken(&["s.p1"]), 3, "a partition alone is a table of its own");
        let of_schema = |schema: &str| {
            let mut options = Options::new("t".into());
            options.schemas = vec![schema.to_owned()];
            let mut apart = archive.clone();
            // The partition and what belongs to it lie elsewhere.
            for entry in apart.entries.iter_mut().filter(|entry| entry.tag.ends_with(b"1")) {
                entry.schema = Some(b"far".to_vec());
                let text = String::from_utf8(entry.definition.clone()).unwrap();
                entry.definition = ["s.p1", "s.i1", "s.k1"]
                    .iter()
                    .fold(text, |text, name| text.replace(name, &name.replace("s.", "far.")))
                    .into_bytes();
            }
            let chosen = Choice::new(&options, &apart, &|_| true).of(&apart);
            chosen.entries.iter().filter(|entry| PUT_TOGETHER.iter().any(|kind| entry.is(kind))).count()
        };
        assert_eq!((of_schema("far"), of_schema("s")), (0, 0), "half of it cannot be put together");
        let mut both = Options::new("t".into());
        both.schemas = vec!["s".to_owned()];
        assert_eq!(Choice::new(&both, &archive, &|_| true).of(&archive).entries.len(), archive.entries.len());
    }
}
