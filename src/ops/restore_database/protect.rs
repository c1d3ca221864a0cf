//! Databases that nobody overwrites by mistake.
//!
//! A name that a protected pattern matches is written only if the user says that very name once more. One that the config
//! protects is never written over or replaced, whatever is said; where there is none of that name it can be made. Databases of
//! drills are not looked at: they are made to be dropped.

use crate::target::dump::{DRILL_PREFIX, DumpTarget};

/// What is protected where nobody says otherwise.
pub const DEFAULT_PATTERNS: [&str; 1] = ["*prod*"];

/// Which names are protected, and what the user confirmed.
#[derive(Clone, Debug)]
pub struct Protection {
    /// Patterns: `*` is any run of characters, `?` one. Large and small letters are the same.
    pub patterns: Vec<String>,
    /// The name that the user said once more: `--confirm-destructive NAME`.
    pub confirmed: Option<String>,
    /// Patterns of databases that are never written over or replaced.
    pub never: Vec<String>,
}

/// What would become of a database that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing: the restore is refused if there is one.
    Untouched,
    /// It is written into.
    Filled,
    /// It is dropped.
    Dropped,
}

impl Fate {
    /// What a target does with it.
    pub fn of(target: &dyn DumpTarget) -> Fate {
        match (target.may_drop(), target.only_makes()) {
            (true, _) => Fate::Dropped,
            (false, true) => Fate::Untouched,
            (false, false) => Fate::Filled,
        }
    }
}

impl Default for Protection {
    fn default() -> Protection {
        Protection { patterns: DEFAULT_PATTERNS.map(str::to_owned).to_vec(), confirmed: None, never: Vec::new() }
    }
}

impl Protection {
    /// Why `database` may not be written, if so. One that would be dropped needs a confirmation whatever its name.
    pub fn objection(&self, database: &str, fate: Fate) -> Option<String> {
        if database.starts_with(DRILL_PREFIX) {
            return None;
        }
        let never = self.never.iter().find(|pattern| fate != Fate::Untouched && matches(pattern, database));
        if let Some(pattern) = never {
            return Some(format!(
                "database {database} is left alone: the config protects `{pattern}`, so no restore writes over it or replaces \
                 it; restore into one of another name with --create, or take the pattern out of `protected`"
            ));
        }
        let drops = fate == Fate::Dropped;
        let pattern = self.patterns.iter().find(|pattern| matches(pattern, database));
        let why = match (pattern, drops) {
            (Some(pattern), _) => format!("its name matches the protected pattern `{pattern}`"),
            (None, true) => "what it holds would be dropped".to_owned(),
            (None, false) => return None,
        };
        match &self.confirmed {
            Some(name) if name == database => None,
            Some(name) => Some(format!(
                "database {database} is left alone: {why}, and --confirm-destructive names {name:?}, not {database:?}"
            )),
            None => Some(format!(
                "database {database} is left alone: {why}; if you mean it, add --confirm-destructive {database}"
            )),
        }
    }
}

/// Whether a pattern matches a whole name.
fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.to_lowercase().chars().collect();
    let name: Vec<char> = name.to_lowercase().chars().collect();
    // Where the last `*` stood, and how much of the name it has taken so far.
    let (mut star, mut taken) = (None, 0);
    let (mut p, mut n) = (0, 0);
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                (star, taken) = (Some(p), n);
                p += 1;
            }
            Some(letter) if *letter == '?' || *letter == name[n] => (p, n) = (p + 1, n + 1),
            _ => {
                let Some(star) = star else { return false };
                taken += 1;
                (p, n) = (star + 1, taken);
            }
        }
    }
    pattern[p..].iter().all(|letter| *letter == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names_whatever_the_case() {
        for (pattern, name) in
            [("*prod*", "shop_PROD_1"), ("prod", "Prod"), ("a?c*", "abcd"), ("*", ""), ("*a*b*c", "xaybzc")]
        {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("*prod*", "staging"), ("prod", "prod2"), ("a?c", "ac"), ("", "a"), ("*a*b*c", "abcd")]
        {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn a_protected_name_must_be_said_once_more() {
        let with =
            |confirmed: Option<&str>| Protection { confirmed: confirmed.map(str::to_owned), ..Protection::default() };
        assert!(with(None).objection("shop", Fate::Filled).is_none());
        assert!(with(None).objection("shop_prod", Fate::Untouched).is_some_and(|why| why.contains("*prod*")));
        assert!(with(None).objection("shop", Fate::Dropped).is_some());
        assert!(with(Some("shop")).objection("shop_prod", Fate::Filled).is_some());
        assert!(with(Some("shop_prod")).objection("shop_prod", Fate::Dropped).is_none());
        assert!(with(None).objection("keepstone_drill_prod", Fate::Dropped).is_none());
    }

    #[test]
    fn what_the_config_protects_is_made_and_never_touched_whatever_is_confirmed() {
        let protection =
            Protection { confirmed: Some("shop".to_owned()), never: vec!["SHOP".to_owned()], ..Protection::default() };
        for fate in [Fate::Filled, Fate::Dropped] {
            assert!(protection.objection("shop", fate).is_some_and(|why| why.contains("`protected`")));
        }
        assert_eq!(protection.objection("shop", Fate::Untouched), None, "where it is gone it may come back");
        assert_eq!(protection.objection("shop_copy", Fate::Filled), None);
    }
}
