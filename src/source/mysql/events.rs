//! Events as SQL, where the dump program cannot read them.
//!
//! `mariadb-dump --events` does not find a database whose name holds a quote or a backslash: it asks for the name as it
//! stands in a text. Such events are asked for here and written as that program writes them.

use crate::db::Result;
use crate::db::mysql::{Session, identifier, literal};

/// Behind the last thing that the dump program writes while its session is as it made it.
const END_OF_SESSION: &str = "/*!40103 SET TIME_ZONE=@OLD_TIME_ZONE */";
/// The last line, where that is missing.
const END: &str = "-- Dump completed";

/// Whether the dump program cannot read the events of the session's database.
pub(super) fn need_help(session: &Session) -> bool {
    session.address().database.contains(['\'', '"', '\\'])
}

/// What the dump program wrote, with the events of the session's database.
pub(super) fn added(session: &Session, text: &str) -> Result<String> {
    let database = &session.address().database;
    let schema = literal(database);
    let list = format!("SELECT event_name FROM information_schema.events WHERE event_schema = {schema} ORDER BY 1");
    let names = session.column(&list)?;
    if names.is_empty() {
        return Ok(text.to_owned());
    }
    let asked = |name: &String| format!("SHOW CREATE EVENT {}.{};\n", identifier(database), identifier(name));
    let rows = session.query(&names.iter().map(asked).collect::<String>())?;
    let events: String = rows.iter().filter_map(|row| Event::of_row(row)).map(|event| event.sql()).collect();
    let at = text.rfind(END_OF_SESSION).or_else(|| text.rfind(END)).unwrap_or(text.len());
    let head = "--\n-- Dumping events\n--\nSET @save_time_zone = @@TIME_ZONE;\n";
    Ok(format!("{}{head}{events}SET TIME_ZONE = @save_time_zone;\n{}", &text[..at], &text[at..]))
}

/// An event as the server shows it.
struct Event<'r> {
    name: &'r str,
    sql_mode: &'r str,
    time_zone: &'r str,
    create: &'r str,
    charset: &'r str,
    collation: &'r str,
}

impl Event<'_> {
    fn of_row(row: &[String]) -> Option<Event<'_>> {
        let [name, sql_mode, time_zone, create, charset, collation, ..] = row else { return None };
        Some(Event { name, sql_mode, time_zone, create, charset, collation })
    }

    fn sql(&self) -> String {
        // The text came to us as UTF-8: one with other letters than ASCII's is only right as such.
        let is_utf8 = self.charset.starts_with("utf8");
        let (charset, collation) = match is_utf8 || self.create.is_ascii() {
            true => (self.charset, self.collation),
            false => ("utf8mb4", "utf8mb4_general_ci"),
        };
        let mut delimiter = ";;".to_owned();
        while self.create.contains(&delimiter) {
            delimiter.push(';');
        }
        let settings = [
            ("character_set_client", charset),
            ("character_set_results", charset),
            ("collation_connection", collation),
            ("sql_mode", self.sql_mode),
            ("time_zone", self.time_zone),
        ];
        let mut sql = format!("DROP EVENT IF EXISTS {};\nDELIMITER {delimiter}\n", identifier(self.name));
        for (name, value) in &settings {
            let value = literal(value);
            sql.push_str(&format!("SET @saved_{name} = @@{name} {delimiter}\nSET {name} = {value} {delimiter}\n"));
        }
        sql.push_str(&format!("{}\n{delimiter}\n", self.create));
        for (name, _) in settings.iter().rev() {
            sql.push_str(&format!("SET {name} = @saved_{name} {delimiter}\n"));
        }
        sql.push_str("DELIMITER ;\n");
        sql
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::mysql::script;

    #[test]
    fn an_event_is_one_statement_whatever_is_in_it() {
        let event = Event {
            name: "e`1",
            sql_mode: "ANSI",
            time_zone: "+03:00",
            create: "CREATE EVENT `e``1` ON SCHEDULE EVERY 1 DAY DO begin select ';;'; end",
            charset: "latin1",
            collation: "latin1_swedish_ci",
        };
        let sql = event.sql();
        let objects: Vec<String> =
            script::statements(&sql).iter().filter_map(|statement| script::object(statement.text)).collect();
        assert_eq!(objects, ["event e`1"]);
        assert!(sql.contains("SET character_set_client = 'latin1'") && sql.contains(event.create), "{sql}");
        let foreign = Event { create: "CREATE EVENT `e` ON SCHEDULE EVERY 1 DAY DO select 'ü'", ..event };
        assert!(foreign.sql().contains("SET character_set_client = 'utf8mb4'"));
    }
}
