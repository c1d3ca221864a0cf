//! Foreign keys that lead in a circle: several sessions that make such at once wait for each other's tables, and the server
//! ends one of them. They are made by one session, behind everything else.

use super::archive::{Archive, Entry};
use super::statements::first_qualified;
use std::collections::{HashMap, HashSet};

/// What every archive begins with: how its texts are to be read.
pub const SETTINGS: [&str; 3] = ["ENCODING", "STDSTRINGS", "SEARCHPATH"];

type Name = (Vec<u8>, Vec<u8>);

/// The archive without its foreign keys and what needs them, and those; none if no keys lead in a circle.
pub fn split(archive: &Archive) -> Option<(Archive, Archive)> {
    let is_key = |entry: &&Entry| entry.is("FK CONSTRAINT");
    let table = |entry: &Entry| first_qualified(&entry.definition, None);
    let other = |entry: &Entry| first_qualified(&entry.definition, Some("REFERENCES"));
    let edges = archive.entries.iter().filter(is_key).filter_map(|entry| Some((table(entry)?, other(entry)?)));
    if !has_circle(edges.filter(|(from, to)| from != to)) {
        return None;
    }
    let mut late: HashSet<i32> = archive.entries.iter().filter(is_key).map(|entry| entry.id).collect();
    loop {
        let needs_late =
            |entry: &&Entry| !late.contains(&entry.id) && entry.needs.iter().any(|need| late.contains(need));
        let more: Vec<i32> = archive.entries.iter().filter(needs_late).map(|entry| entry.id).collect();
        if more.is_empty() {
            break;
        }
        late.extend(more);
    }
    let is_setting = |entry: &Entry| SETTINGS.iter().any(|kind| entry.is(kind));
    let part = |is_late: bool| {
        let wanted = |entry: &&Entry| is_setting(entry) || late.contains(&entry.id) == is_late;
        archive.with_entries(archive.entries.iter().filter(wanted).cloned().collect())
    };
    Some((part(false), part(true)))
}

/// Whether some of the edges lead in a circle: then not all nodes can be taken away that nothing leads to.
fn has_circle(edges: impl Iterator<Item = (Name, Name)>) -> bool {
    let mut leads_to: HashMap<Name, HashSet<Name>> = HashMap::new();
    let mut coming: HashMap<Name, usize> = HashMap::new();
    for (from, to) in edges {
        coming.entry(from.clone()).or_default();
        if leads_to.entry(from).or_default().insert(to.clone()) {
            *coming.entry(to).or_default() += 1;
        }
    }
    let mut free: Vec<Name> = coming.iter().filter(|(_, count)| **count == 0).map(|(name, _)| name.clone()).collect();
    let mut taken = 0;
    while let Some(name) = free.pop() {
        taken += 1;
        for to in leads_to.remove(&name).unwrap_or_default() {
            let count = coming.entry(to.clone()).or_default();
            *count = count.saturating_sub(1);
            if *count == 0 {
                free.push(to);
            }
        }
    }
    taken < coming.len()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::archive::Section;
    use super::*;

    fn archive(keys: &[(&str, &str)]) -> Archive {
        let entry = |id: i32, kind: &str, definition: &str| Entry {
            definition: definition.as_bytes().to_vec(),
            ..Entry::new(id, kind, "x", Section::PostData)
        };
        let mut entries =
            vec![entry(1, "ENCODING", "SET client_encoding = 'UTF8';"), entry(2, "INDEX", "CREATE INDEX i")];
        for (number, (from, to)) in keys.iter().enumerate() {
            let definition =
                format!("ALTER TABLE ONLY s.{from} ADD CONSTRAINT k FOREIGN KEY (x) REFERENCES s.{to}(id);");
            entries.push(entry(10 + number as i32, "FK CONSTRAINT", &definition));
        }
        entries.push(Entry { needs: vec![10], ..entry(90, "COMMENT", "COMMENT ON CONSTRAINT k ON s.a IS 'x';") });
        Archive { entries, ..Archive::empty() }
    }

    #[test]
    fn keys_in_a_circle_come_last_with_what_needs_them() {
        let ids = |archive: &Archive| archive.entries.iter().map(|entry| entry.id).collect::<Vec<_>>();
        let (first, last) = split(&archive(&[("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")])).unwrap();
        assert_eq!((ids(&first), ids(&last)), (vec![1, 2], vec![1, 10, 11, 12, 13, 90]));
        assert!(split(&archive(&[("a", "b"), ("b", "a")])).is_some());
        for without in [&[][..], &[("a", "a")], &[("a", "b"), ("c", "b"), ("b", "d"), ("a", "d"), ("a", "b")]] {
            assert!(split(&archive(without)).is_none(), "{without:?}");
        }
    }
}
