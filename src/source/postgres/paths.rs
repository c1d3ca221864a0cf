//! Where the streams of a dump lie: names of databases, schemas and tables as plain file names.

use crate::crypto::RowSum;

/// The longest name that file systems take, in bytes; a restored dump lies in one.
const MAX_BYTES: usize = 255;
/// How much of a name that is too long is kept before its hash.
const KEPT_BYTES: usize = 200;

/// `name` as a plain file name: control characters, `/`, `%` and a leading dot as `%2F`.
pub(super) fn file_name(name: &str) -> String {
    let name = escaped(name, |letter| letter == '/');
    shortened(name.strip_prefix('.').map_or(name.clone(), |rest| format!("%2E{rest}")))
}

/// The stream of a table. Dots in names are escaped, so that no two tables share one.
pub(super) fn table(schema: &str, name: &str) -> String {
    let is_special = |letter| matches!(letter, '/' | '.');
    let file = format!("{}.{}", escaped(schema, is_special), escaped(name, is_special));
    // Shortened before the ending, which is to stay.
    format!("tables/{}.copy", shortened(file))
}

fn escaped(name: &str, is_special: impl Fn(char) -> bool) -> String {
    let mut result = String::with_capacity(name.len());
    for letter in name.chars() {
        if letter.is_control() || letter == '%' || is_special(letter) {
            let mut bytes = [0; 4];
            letter.encode_utf8(&mut bytes).bytes().for_each(|byte| result.push_str(&format!("%{byte:02X}")));
        } else {
            result.push(letter);
        }
    }
    result
}

/// A name that fits with an ending of five bytes: one that is too long ends in its hash.
fn shortened(name: String) -> String {
    if name.len() + ".copy".len() <= MAX_BYTES {
        return name;
    }
    let kept = (0..=KEPT_BYTES).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
    let mut hash = RowSum::new();
    hash.whole_row(name.as_bytes());
    format!("{}~{}", &name[..kept], hash.hex())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_become_plain_file_names_and_stay_apart() {
        assert_eq!(table("public", "orders"), "tables/public.orders.copy");
        assert_eq!(table("a.b", "c/d\n%é \""), "tables/a%2Eb.c%2Fd%0A%25é \".copy");
        assert_ne!(table("a.b", "c"), table("a", "b.c"));
        assert_eq!(file_name("../x"), "%2E.%2Fx");
        let (one, other) = (table(&"/".repeat(63), &"é".repeat(31)), table(&"/".repeat(63), &"é".repeat(30)));
        assert!(one != other && one.len() < 262 && one.ends_with(".copy"), "{one}");
    }
}
