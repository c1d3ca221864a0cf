//! What an archive needs of the server that it is restored to: roles, extensions, tablespaces.
//!
//! Known before anything is written, so that a restore does not stop in its middle for a role that nobody has made.

use super::archive::Entry;
use super::statements::{Word, statements, words};
use std::collections::{BTreeMap, BTreeSet};

/// Why a role is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It owns something: `--no-owner` does without.
    Owner,
    /// Something is granted to it or by it: `--no-acl` does without.
    Grant,
    /// A policy or a mapping names it: only the role itself helps.
    Named,
}

/// What entries of an archive need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Roles, each with the first object that needs it and the strongest reason. Those are left out whose names are not
    /// in UTF-8, as in archives in another encoding: what the server calls them it alone can say.
    pub roles: BTreeMap<String, (Reason, String)>,
    /// Extensions.
    pub extensions: BTreeSet<String>,
    /// Tablespaces other than the database's own.
    pub tablespaces: BTreeSet<String>,
}

/// What these entries need, with owners and grants only if they are restored.
pub fn needs<'e>(entries: impl IntoIterator<Item = &'e Entry>, owners: bool, grants: bool) -> Needs {
    let mut needs = Needs::default();
    for entry in entries {
        let is_grant = entry.is("ACL") || entry.is("DEFAULT ACL");
        if owners && !entry.owner.is_empty() && has_owner(entry) {
            needs.role(&entry.owner, Reason::Owner, entry);
        }
        if is_grant && grants {
            roles_of_grants(&entry.definition).iter().for_each(|role| needs.role(role, Reason::Grant, entry));
        } else if entry.is("EXTENSION") {
            needs.extensions.insert(text(&entry.tag));
        }
        for role in named_roles(entry) {
            needs.role(role.as_bytes(), Reason::Named, entry);
        }
        if let Some(tablespace) = entry.tablespace.as_deref().filter(|name| !name.is_empty()) {
            needs.tablespaces.insert(text(tablespace));
        }
    }
    needs
}

/// The roles without which a policy or a user mapping cannot be made; of other entries none.
pub fn named_roles(entry: &Entry) -> Vec<String> {
    let roles = if entry.is("POLICY") {
        roles_of_policy(&entry.definition)
    } else if entry.is("USER MAPPING") {
        role_of_mapping(&entry.definition).into_iter().collect()
    } else {
        BTreeSet::new()
    };
    roles.iter().map(|role| text(role)).collect()
}

impl Needs {
    fn role(&mut self, role: &[u8], reason: Reason, entry: &Entry) {
        let Ok(role) = str::from_utf8(role) else { return };
        let known = self.roles.entry(role.to_owned()).or_insert_with(|| (reason, entry.label()));
        if reason > known.0 {
            *known = (reason, entry.label());
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Whether `pg_restore` gives an object of this kind to its owner; all others belong to whom their table belongs.
fn has_owner(entry: &Entry) -> bool {
    const OWNED: [&str; 29] = [
        "AGGREGATE",
        "BLOB",
        "BLOB METADATA",
        "COLLATION",
        "CONVERSION",
        "DOMAIN",
        "EVENT TRIGGER",
        "FOREIGN DATA WRAPPER",
        "FOREIGN TABLE",
        "FUNCTION",
        "LARGE OBJECT",
        "MATERIALIZED VIEW",
        "OPERATOR",
        "OPERATOR CLASS",
        "OPERATOR FAMILY",
        "PROCEDURAL LANGUAGE",
        "PROCEDURE",
        "PUBLICATION",
        "SCHEMA",
        "SEQUENCE",
        "SERVER",
        "STATISTICS",
        "SUBSCRIPTION",
        "TABLE",
        "TEXT SEARCH CONFIGURATION",
        "TEXT SEARCH DICTIONARY",
        "TYPE",
        "VIEW",
        "SHELL TYPE",
    ];
    OWNED.iter().any(|kind| entry.is(kind))
}

/// Words that are no role where a role may stand.
fn is_role(word: &Word<'_>) -> bool {
    let pseudo = ["PUBLIC", "CURRENT_USER", "CURRENT_ROLE", "SESSION_USER", "GROUP"];
    matches!(word, Word::Name { .. }) && !pseudo.iter().any(|name| word.is(name))
}

/// Whom grants, revocations and default privileges name.
fn roles_of_grants(definition: &[u8]) -> BTreeSet<Vec<u8>> {
    let mut roles = BTreeSet::new();
    for statement in statements(definition) {
        let words = words(statement);
        let followed_by_one = |first: &str, second: &str| {
            let at = words.windows(2).position(|pair| pair[0].is(first) && pair[1].is(second))?;
            words.get(at + 2).filter(|word| is_role(word))
        };
        let single = [("FOR", "ROLE"), ("SESSION", "AUTHORIZATION"), ("GRANTED", "BY")];
        for (first, second) in single {
            let found = followed_by_one(first, second).filter(|word| !word.is("DEFAULT"));
            roles.extend(found.and_then(Word::name).map(<[u8]>::to_vec));
        }
        // `TO` and `FROM` are reserved words: without quotes they are never names.
        if let Some(at) = words.iter().rposition(|word| word.is("TO") || word.is("FROM")) {
            roles.extend(role_list(&words[at + 1..]));
        }
    }
    roles
}

fn roles_of_policy(definition: &[u8]) -> BTreeSet<Vec<u8>> {
    let words = words(definition);
    let end = words.iter().position(|word| word.is("USING") || word.is("CHECK")).unwrap_or(words.len());
    match words[..end].iter().position(|word| word.is("TO")) {
        Some(at) => role_list(&words[at + 1..end]).into_iter().collect(),
        None => BTreeSet::new(),
    }
}

fn role_of_mapping(definition: &[u8]) -> Option<Vec<u8>> {
    let words = words(definition);
    let at = words.iter().position(|word| word.is("FOR"))?;
    words.get(at + 1).filter(|word| is_role(word)).and_then(Word::name).map(<[u8]>::to_vec)
}

/// Names with commas between them.
fn role_list(words: &[Word<'_>]) -> Vec<Vec<u8>> {
    let mut roles = Vec::new();
    let mut words = words.iter().filter(|word| !word.is("GROUP")).peekable();
    while let Some(word) = words.next() {
        if is_role(word) {
            roles.extend(word.name().map(<[u8]>::to_vec));
        }
        match words.next() {
            Some(Word::Sign(b',')) => {}
            _ => break,
        }
    }
    roles
}

#[cfg(test)]
mod tests {
    use super::super::archive::Section;
    use super::*;

    fn entry(kind: &str, owner: &str, definition: &str) -> Entry {
        Entry {
            owner: owner.as_bytes().to_vec(),
            definition: definition.as_bytes().to_vec(),
            ..Entry::new(1, kind, "x", Section::PreData)
        }
    }

    fn roles(needs: &Needs) -> Vec<(&str, Reason)> {
        needs.roles.iter().map(|(role, (reason, _))| (role.as_str(), *reason)).collect()
    }

    #[test]
    fn every_role_that_a_dump_names_is_found() {
        let entries = [
            entry("TABLE", "sales", "CREATE TABLE x (a text DEFAULT 'TO nobody');"),
            entry(
                "ACL",
                "sales",
                "GRANT SELECT ON TABLE public.x TO audit;\nGRANT SELECT(a),UPDATE ON TABLE public.x TO \"odd \"\"role\", PUBLIC WITH \
                 GRANT OPTION;\nSET SESSION AUTHORIZATION boss;\nREVOKE ALL ON TABLE x FROM gone;\nRESET SESSION AUTHORIZATION;",
            ),
            entry(
                "DEFAULT ACL",
                "",
                "ALTER DEFAULT PRIVILEGES FOR ROLE maker IN SCHEMA s GRANT SELECT ON TABLES TO reader;",
            ),
            entry(
                "POLICY",
                "sales",
                "CREATE POLICY p ON public.x FOR SELECT TO audit, watch USING ((a = 'TO x'::text));",
            ),
            entry("POLICY", "sales", "CREATE POLICY p ON public.x USING (true);"),
            entry("USER MAPPING", "sales", "CREATE USER MAPPING FOR mapped SERVER s;"),
        ];
        use Reason::{Grant, Named, Owner};
        let all = needs(&entries, true, true);
        assert_eq!(
            roles(&all),
            [
                ("audit", Named),
                ("boss", Grant),
                ("gone", Grant),
                ("maker", Grant),
                ("mapped", Named),
                ("odd \"role", Grant),
                ("reader", Grant),
                ("sales", Owner),
                ("watch", Named),
            ]
        );
        let few = needs(&entries, false, false);
        assert_eq!(roles(&few), [("audit", Named), ("mapped", Named), ("watch", Named)]);
    }

    #[test]
    fn a_role_whose_name_is_in_another_encoding_is_not_said_to_be_missing() {
        let mut grant = entry("ACL", "sales", "");
        grant.definition = b"GRANT SELECT ON TABLE public.x TO \"R\xf6le\", audit;".to_vec();
        assert_eq!(roles(&needs(&[grant], true, true)), [("audit", Reason::Grant)]);
    }

    #[test]
    fn extensions_and_tablespaces_are_found() {
        let mut table = entry("TABLE", "", "");
        table.tablespace = Some(b"fast".to_vec());
        let needs = needs(&[entry("EXTENSION", "", "CREATE EXTENSION x"), table], true, true);
        assert_eq!(needs.extensions.into_iter().collect::<Vec<_>>(), ["x"]);
        assert_eq!(needs.tablespaces.into_iter().collect::<Vec<_>>(), ["fast"]);
    }
}
