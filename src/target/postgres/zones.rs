//! The time zones in which restored rows are read again, so that they can be compared with those of the dump.
//!
//! COPY writes a `timestamptz` in the session's zone: the same rows have another text, and another checksum, in each.
//! A manifest says which zone it was. Older ones do not: their rows came in that of the source's sessions, which a setting
//! of the server, the database or the role chose. Of those the likely zones are tried, and what fits none is not held
//! against the dump if its text depends on the zone: counted and not compared, which a note says.

use super::measure::{Look, in_zone};
use super::partitions::Routes;
use super::rows::session;
use crate::base::Kind;
use crate::db::postgres::{ROWS_ZONE, ROWS_ZONE_PROPERTY};
use crate::db::{Result, Watch};
use crate::format::dump::{Manifest, Table};

/// The most zones that are tried.
const MAX_TRIED: usize = 4;
/// A zone that writes every time otherwise than [`ROWS_ZONE`] does.
const FAR: &str = "<+07>-07";
/// The most tables that the note names.
const NAMED: usize = 10;

/// The tables of the database as a manifest would have them, and what could not be compared. `chosen` are those whose rows
/// were written.
pub fn tables(
    look: &Look<'_>,
    routes: &Routes,
    chosen: &[&Table],
    watch: &Watch,
) -> Result<(Vec<Table>, Option<String>)> {
    let zone = look.manifest.properties.get(ROWS_ZONE_PROPERTY).map(String::as_str);
    let mut tables = look.tables(zone, watch)?;
    routes.as_promised(chosen, &mut tables);
    if zone.is_some() || differing(look.manifest, &tables).is_empty() {
        return Ok((tables, None));
    }
    for zone in likely_zones(look, watch)? {
        let mut again = look.again(&together(look, routes, &tables), &zone, watch)?;
        routes.as_promised(chosen, &mut again);
        take_what_fits(look.manifest, &mut tables, again);
    }
    let unclear = of_unknown_zone(look, routes, &tables, watch)?;
    for place in &unclear {
        let promised = &look.manifest.tables[*place];
        tables.iter_mut().filter(|table| is_same(table, promised)).for_each(|table| table.checksum = None);
    }
    Ok((tables, note(look.manifest, &unclear)))
}

fn is_same(one: &Table, other: &Table) -> bool {
    (&one.schema, &one.name) == (&other.schema, &other.name)
}

fn fits(table: &Table, promised: &Table) -> bool {
    match (&table.checksum, &promised.checksum) {
        (Some(found), Some(promised)) => found == promised,
        _ => true,
    }
}

/// The tables whose rows are as many as promised and have another checksum, by their places in the manifest.
fn differing(manifest: &Manifest, tables: &[Table]) -> Vec<usize> {
    let differs = |promised: &Table| {
        let found = tables.iter().find(|table| is_same(table, promised));
        found.is_some_and(|table| !fits(table, promised))
    };
    let all = manifest.tables.iter().enumerate();
    all.filter(|(_, promised)| differs(promised)).map(|(place, _)| place).collect()
}

/// The same with the partitions that share rows with them.
fn together(look: &Look<'_>, routes: &Routes, tables: &[Table]) -> Vec<usize> {
    with_shared(look.manifest, routes, &differing(look.manifest, tables))
}

fn with_shared(manifest: &Manifest, routes: &Routes, places: &[usize]) -> Vec<usize> {
    let mut meant: Vec<bool> = (0..manifest.tables.len()).map(|place| places.contains(&place)).collect();
    routes.together(&manifest.tables, &mut meant);
    (0..meant.len()).filter(|place| meant[*place]).collect()
}

fn take_what_fits(manifest: &Manifest, tables: &mut [Table], again: Vec<Table>) {
    for new in again {
        let promised = manifest.tables.iter().find(|promised| is_same(promised, &new));
        if promised.is_some_and(|promised| fits(&new, promised))
            && let Some(table) = tables.iter_mut().find(|table| is_same(table, &new))
        {
            *table = new;
        }
    }
}

/// Zones that the source's sessions may have had, as far as the server knows them.
fn likely_zones(look: &Look<'_>, watch: &Watch) -> Result<Vec<String>> {
    let mut connection = session(look.address, look.version_number, watch)?;
    let mut zones = Vec::new();
    for zone in zones_of_settings(look.manifest).into_iter().chain([ROWS_ZONE.to_owned()]).take(MAX_TRIED) {
        match connection.query(&in_zone(&zone)) {
            Ok(_) => zones.push(zone),
            Err(error) if matches!(error.kind(), Kind::Interrupted | Kind::Unavailable) => return Err(error),
            Err(_) => {}
        }
    }
    Ok(zones)
}

/// The zones that settings of the database name, for everybody or for a role.
fn zones_of_settings(manifest: &Manifest) -> Vec<String> {
    let settings = manifest.properties.get("settings").map_or("", String::as_str);
    let mut zones = Vec::new();
    for line in settings.lines() {
        let setting = line.split_once('\t').map_or(line, |(_, setting)| setting);
        if let Some((name, zone)) = setting.split_once('=')
            && name.eq_ignore_ascii_case("timezone")
            && !zones.iter().any(|known| known == zone)
        {
            zones.push(zone.to_owned());
        }
    }
    zones
}

/// Those that still differ and whose text is another one in another zone. All others differ in what they hold.
fn of_unknown_zone(look: &Look<'_>, routes: &Routes, tables: &[Table], watch: &Watch) -> Result<Vec<usize>> {
    let differing = together(look, routes, tables);
    if differing.is_empty() {
        return Ok(differing);
    }
    let (here, there) = (look.again(&differing, ROWS_ZONE, watch)?, look.again(&differing, FAR, watch)?);
    let depends = |place: &usize| {
        let promised = &look.manifest.tables[*place];
        let checksum = |tables: &[Table]| {
            tables.iter().find(|table| is_same(table, promised)).and_then(|table| table.checksum.clone())
        };
        checksum(&here) != checksum(&there)
    };
    let depending: Vec<usize> = differing.into_iter().filter(depends).collect();
    Ok(with_shared(look.manifest, routes, &depending))
}

fn note(manifest: &Manifest, unclear: &[usize]) -> Option<String> {
    let names = unclear.iter().take(NAMED).map(|place| &manifest.tables[*place]);
    let mut names = names.map(|table| format!("{}.{}", table.schema, table.name)).collect::<Vec<_>>().join(", ");
    if unclear.len() > NAMED {
        names = format!("{names} and {} more", unclear.len() - NAMED);
    }
    (!unclear.is_empty()).then(|| {
        format!(
            "the rows of {names} were counted and not compared: they hold times with a zone, and this dump of an older \
             version does not say in which zone it was taken; one that is taken now does"
        )
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::format::dump::{DumpKind, Server, VERSION};
    use std::collections::BTreeMap;

    #[test]
    fn zones_are_found_in_the_settings_of_a_database() {
        let settings =
            "\tTimeZone=Europe/Berlin\n\twork_mem=4MB\napp\ttimezone=Asia/Tokyo\nann\tTimeZone=Europe/Berlin";
        let manifest = Manifest {
            version: VERSION,
            kind: DumpKind::Postgres,
            server: Server::default(),
            client: String::new(),
            database: "shop".into(),
            properties: BTreeMap::from([("settings".to_owned(), settings.to_owned())]),
            taken_ns: 0,
            ended_ns: 0,
            position: None,
            selection: Vec::new(),
            tables: Vec::new(),
            sequences: Vec::new(),
            streams: Vec::new(),
            notes: Vec::new(),
            unknown: BTreeMap::new(),
        };
        assert_eq!(zones_of_settings(&manifest), ["Europe/Berlin", "Asia/Tokyo"]);
    }
}
