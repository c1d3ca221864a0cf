//! What `SHOW GRANTS` says that we may do.

use super::quote;

/// Rights of the user we are logged in as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    grants: Vec<Grant>,
    /// What was taken away of rights on all databases (partial revokes of MySQL).
    revoked: Vec<Grant>,
    /// Whether a role was granted. Servers list the rights of roles that are at work, and only those count.
    has_roles: bool,
}

/// Rights on some databases.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Grant {
    /// In capitals.
    rights: Vec<String>,
    /// The databases, a pattern of `LIKE`; none for all.
    databases: Option<String>,
    /// The one table or routine that they are for; none for all of the database.
    object: Option<String>,
}

impl Rights {
    /// From the lines of `SHOW GRANTS`.
    pub fn of_grants<'l>(lines: impl Iterator<Item = &'l str>) -> Rights {
        let mut rights = Rights::default();
        for line in lines {
            if let Some(rest) = line.strip_prefix("REVOKE ") {
                rights.revoked.extend(grant(rest));
            } else if let Some(rest) = line.strip_prefix("GRANT ") {
                match grant(rest) {
                    Some(grant) => rights.grants.push(grant),
                    None => rights.has_roles = true,
                }
            }
        }
        rights
    }

    /// Whether we lack a right on a database as a whole.
    pub fn lack(&self, right: &str, database: &str) -> bool {
        !self.have(right, Some(database))
    }

    /// What else may help whoever lacks a right: words to follow a `GRANT`.
    pub fn hint(&self) -> &'static str {
        match self.has_roles {
            true => ", or SET DEFAULT ROLE if a role has it: a role counts only while it is at work",
            false => "",
        }
    }

    /// Whether a right on a whole database was granted, or with none on the whole server.
    pub fn have(&self, right: &str, database: Option<&str>) -> bool {
        self.grants.iter().any(|grant| {
            let covers = match (&grant.databases, database) {
                (None, Some(database)) => !self.is_revoked(right, database),
                (None, None) => true,
                (Some(pattern), Some(database)) => grant.object.is_none() && is_like(pattern, database),
                (Some(_), None) => false,
            };
            covers && grant.holds(right)
        })
    }

    fn is_revoked(&self, right: &str, database: &str) -> bool {
        let covers = |revoked: &Grant| revoked.databases.as_deref().is_some_and(|name| is_like(name, database));
        self.revoked.iter().any(|revoked| covers(revoked) && revoked.holds(right))
    }

    /// Whether we lack a right on one table.
    pub fn lack_on(&self, right: &str, database: &str, table: &str) -> bool {
        let is_it = |grant: &&Grant| {
            grant.object.as_deref() == Some(table)
                && grant.databases.as_deref().is_some_and(|name| is_like(name, database))
        };
        self.lack(right, database) && !self.grants.iter().filter(is_it).any(|grant| grant.holds(right))
    }
}

impl Grant {
    fn holds(&self, right: &str) -> bool {
        self.rights.iter().any(|granted| granted == right || granted == "ALL PRIVILEGES")
    }
}

/// ``SELECT, SHOW VIEW ON `db`.* TO …``; nothing if it is about a role.
fn grant(line: &str) -> Option<Grant> {
    let (rights, rest) = line.split_once(" ON ")?;
    // MySQL writes no spaces between the rights that its components add.
    let rights = rights.split(',').map(|right| right.trim().to_ascii_uppercase()).collect();
    let Some(rest) = rest.strip_prefix("*.*") else {
        let rest =
            ["PROCEDURE ", "FUNCTION ", "TABLE "].iter().find_map(|kind| rest.strip_prefix(kind)).unwrap_or(rest);
        let (pattern, rest) = quote::unquoted(rest)?;
        let object = rest.strip_prefix('.').filter(|rest| !rest.starts_with('*')).and_then(quote::unquoted);
        let object = object.map(|(object, _)| object);
        return Some(Grant { rights, databases: Some(pattern), object });
    };
    rest.starts_with(' ').then_some(Grant { rights, databases: None, object: None })
}

/// Whether a pattern of `LIKE` covers a name.
fn is_like(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    // Which beginnings of the name the pattern so far covers.
    let mut covered = vec![false; name.len() + 1];
    covered[0] = true;
    let mut at = 0;
    while let Some(letter) = pattern.get(at) {
        let escaped = *letter == '\\' && at + 1 < pattern.len();
        let wanted = if escaped { pattern[at + 1] } else { *letter };
        at += 1 + usize::from(escaped);
        if wanted == '%' && !escaped {
            let first = covered.iter().position(|covered| *covered).unwrap_or(covered.len());
            covered[first..].fill(true);
            continue;
        }
        for end in (0..name.len()).rev() {
            let fits = wanted == '_' && !escaped || wanted.to_lowercase().eq(name[end].to_lowercase());
            covered[end + 1] = covered[end] && fits;
        }
        covered[0] = false;
    }
    covered[name.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_of_a_server_a_database_and_a_table_are_told_apart() {
        let rights = Rights::of_grants(
            [
                "GRANT USAGE, RELOAD ON *.* TO `app`@`%` IDENTIFIED BY PASSWORD '*14E6'",
                "GRANT SELECT, SHOW VIEW ON `shop\\_%`.* TO `app`@`%`",
                "GRANT TRIGGER ON `shop_1`.`orders` TO `app`@`%`",
                "GRANT EXECUTE ON PROCEDURE `x`.`p` TO `app`@`%`",
            ]
            .into_iter(),
        );
        assert!(rights.have("SELECT", Some("shop_1")) && rights.have("SHOW VIEW", Some("shop_x")));
        assert!(rights.lack("SELECT", "shopx1") && rights.lack("TRIGGER", "shop_1") && rights.lack("EXECUTE", "x"));
        assert!(!rights.lack_on("TRIGGER", "shop_1", "orders") && rights.lack_on("TRIGGER", "shop_1", "other"));
        assert!(rights.have("RELOAD", None) && !rights.have("SELECT", None));
    }

    #[test]
    fn rights_without_spaces_between_are_read_and_what_was_revoked_of_one_database_is_lacking_there() {
        let rights = Rights::of_grants(
            [
                "GRANT SELECT, TRIGGER ON *.* TO `app`@`%`",
                "GRANT BACKUP_ADMIN,SHOW_ROUTINE ON *.* TO `app`@`%`",
                "REVOKE TRIGGER ON `shop`.* FROM `app`@`%`",
            ]
            .into_iter(),
        );
        assert!(rights.have("SHOW_ROUTINE", None) && rights.have("BACKUP_ADMIN", None));
        assert!(rights.lack("TRIGGER", "shop") && !rights.lack("TRIGGER", "blog") && !rights.lack("SELECT", "shop"));
    }

    #[test]
    fn who_may_all_may_each_and_a_role_counts_while_it_is_at_work() {
        let all =
            Rights::of_grants(["GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION"].into_iter());
        assert!(all.have("EVENT", Some("x")) && all.have("RELOAD", None));
        let role = Rights::of_grants(["GRANT `r1` TO `app`@`%`", "GRANT USAGE ON *.* TO `app`@`%`"].into_iter());
        assert!(role.lack("SELECT", "x") && role.hint().contains("SET DEFAULT ROLE") && all.hint().is_empty());
        let lines = ["GRANT `r1` TO `app`@`%`", "GRANT USAGE ON *.* TO `app`@`%`", "GRANT SELECT ON `x`.* TO `r1`"];
        assert!(!Rights::of_grants(lines.into_iter()).lack("SELECT", "x"));
    }

    #[test]
    fn patterns_are_those_of_like() {
        for (pattern, name, expected) in [
            ("shop", "shop", true),
            ("shop", "shops", false),
            ("s%p", "sp", true),
            ("s%p", "soap", true),
            ("s_p", "sp", false),
            ("s\\_p", "sap", false),
            ("%", "", true),
            ("%a%b%", "xaxbx", true),
        ] {
            assert_eq!(is_like(pattern, name), expected, "{pattern} {name}");
        }
    }
}
