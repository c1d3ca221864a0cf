//! Which of the known names somebody may have meant.

/// The one that somebody may have meant.
pub fn like<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', ' '], "_");
    let wanted = plain(name);
    let distance = |other: &str| {
        let other = plain(other);
        // What only lacks an end, or a beginning, is near too: `path` and `paths`, `include` and `include_table`.
        let within = wanted.len() >= 3 && (other.starts_with(&wanted) || wanted.starts_with(&other));
        if within { 1 } else { strsim::damerau_levenshtein(&wanted, &other) }
    };
    let nearest = names.map(|other| (distance(other), other)).min_by_key(|(distance, _)| *distance);
    nearest.filter(|(distance, _)| *distance <= (wanted.chars().count() / 3).max(1)).map(|(_, other)| other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_may_have_meant_is_near_and_nothing_else_is() {
        let names = ["paths", "exclude", "exclude_caches", "one_file_system"];
        let like = |name| like(name, names.into_iter());
        assert_eq!(like("path"), Some("paths"));
        assert_eq!(like("exlcude"), Some("exclude"));
        assert_eq!(like("one-file-system"), Some("one_file_system"));
        assert_eq!(like("retention"), None);
        assert_eq!(like(""), None);
    }
}
