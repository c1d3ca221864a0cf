//! Addresses of databases as they stand in the config: understood, and without a password in them.

use crate::db::{Surroundings, mysql, postgres};

/// What to do about a password in an address.
const INLINE: &str = "a password does not belong in this file: take it out of here, write it into a file that only its owner can \
                      read, and name that with `password_file` (or use `password_command` or `password_env`)";

/// What is wrong with an address of PostgreSQL, if anything.
pub fn check_postgres(text: &str) -> Result<(), String> {
    match postgres::address::says_password(text).map_err(|error| error.to_string())? {
        true => return Err(INLINE.to_owned()),
        false if text.trim().is_empty() => return Err("this is empty: name a server or a database".to_owned()),
        false => {}
    }
    // What a service file says is known only where it lies.
    if text.contains("service=") {
        return Ok(());
    }
    postgres::Address::parse(text, &nobody()).map(drop).map_err(|error| error.to_string())
}

/// What is wrong with an address of MySQL, if anything.
pub fn check_mysql(text: &str) -> Result<(), String> {
    let address = mysql::Address::parse(text, &nobody()).map_err(|error| error.to_string())?;
    match address.password {
        Some(_) => Err(INLINE.to_owned()),
        None if text.trim().is_empty() => Err("this is empty: name a server or a database".to_owned()),
        None => Ok(()),
    }
}

/// An environment that says nothing.
fn nobody() -> Surroundings {
    Surroundings { user: Some("nobody".to_owned()), ..Surroundings::default() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_address_with_a_password_is_refused_without_repeating_it() {
        for text in
            ["postgres://ann:hunter2@db1/shop", "host=db1 password=hunter2", "postgres://db1/shop?password=hunter2"]
        {
            let error = check_postgres(text).unwrap_err();
            assert!(error.contains("password_file") && !error.contains("hunter2"), "{error}");
        }
        for text in ["mysql://ann:hunter2@db1/shop", "mysql://db1/shop?password=hunter2"] {
            let error = check_mysql(text).unwrap_err();
            assert!(error.contains("password_file") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn addresses_that_can_be_understood_are_let_through() {
        for text in ["postgres://ann@db1/shop", "shop", "service=shop", "host=/run/postgresql dbname=shop"] {
            assert_eq!(check_postgres(text), Ok(()), "{text}");
        }
        assert_eq!(check_mysql("mysql://ann@db2/wiki"), Ok(()));
        for text in ["", "mysql://db1/shop", "postgres://db1:x/shop"] {
            assert!(check_postgres(text).is_err(), "{text}");
        }
        assert!(check_mysql("postgres://db1/shop").is_err() && check_mysql("").is_err());
    }
}
