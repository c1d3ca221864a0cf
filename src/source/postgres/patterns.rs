//! Patterns of names as `pg_dump` and `psql` understand them, as conditions in SQL.

use crate::db::postgres::literal;

/// The parts of a pattern between its dots, each as a regular expression; none if there are more than two.
fn expressions(pattern: &str) -> Option<(Option<String>, String)> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    let mut letters = pattern.chars().peekable();
    while let Some(letter) = letters.next() {
        let part = parts.last_mut()?;
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                part.push('"');
            }
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            '*' if !quoted => part.push_str(".*"),
            '?' if !quoted => part.push('.'),
            '$' => part.push_str("\\$"),
            letter if quoted && "|*+?()[]{}.^\\".contains(letter) => part.extend(['\\', letter]),
            letter if quoted => part.push(letter),
            letter => part.extend(letter.to_lowercase()),
        }
    }
    let name = parts.pop()?;
    let schema = parts.pop();
    parts.is_empty().then_some((schema, name))
}

/// The condition that table `c` in schema `n` fits `pattern`; one that names no schema means what is visible without.
/// None if the pattern has more than one dot.
pub(super) fn table(pattern: &str, version_number: u32) -> Option<String> {
    let (schema, name) = expressions(pattern)?;
    let place = match schema {
        Some(schema) => fits("n.nspname", &schema, version_number),
        None => "pg_catalog.pg_table_is_visible(c.oid)".to_owned(),
    };
    Some(format!("({} AND {place})", fits("c.relname", &name, version_number)))
}

/// The condition that schema `n` fits `pattern`. None if the pattern has a dot.
pub(super) fn schema(pattern: &str, version_number: u32) -> Option<String> {
    match expressions(pattern)? {
        (None, name) => Some(fits("n.nspname", &name, version_number)),
        _ => None,
    }
}

fn fits(column: &str, expression: &str, version_number: u32) -> String {
    // Names are sorted byte by byte since version 12; what counts as a letter is to be the database's business.
    let collation = if version_number >= 120_000 { " COLLATE pg_catalog.default" } else { "" };
    format!("{column} OPERATOR(pg_catalog.~) {}{collation}", literal(&format!("^({expression})$")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_to_pg_dump() {
        let name = |pattern| expressions(pattern).map(|(_, name)| name);
        assert_eq!(name("Orders_*"), Some("orders_.*".into()));
        assert_eq!(name("\"Or.d\"\"*\"?"), Some("Or\\.d\"\\*.".into()));
        assert_eq!(name("a|b$"), Some("a|b\\$".into()));
        assert_eq!(expressions("Sales.x"), Some((Some("sales".into()), "x".into())));
        assert_eq!(expressions("db.sales.x"), None);
        assert_eq!(schema("a.b", 150_000), None);
        assert_eq!(schema("it's", 90_600).as_deref(), Some("n.nspname OPERATOR(pg_catalog.~) '^(it''s)$'"));
    }
}
