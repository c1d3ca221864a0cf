//! Which licences may come in with a dependency: those that let everybody use, change and pass on the whole.

/// Identifiers of the SPDX list that ask for no more than their own text.
const PERMISSIVE: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BlueOak-1.0.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Whether an SPDX expression leaves us a choice made of permissive licences only. The old form `MIT/Apache-2.0`
/// means `OR`. What cannot be read is not permissive.
pub fn is_permissive(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words: Vec<&str> = spaced.split_whitespace().rev().collect();
    any(&mut words) == Some(true) && words.is_empty()
}

/// `a OR b OR …`; the words stand in reverse, the next one last.
fn any(words: &mut Vec<&str>) -> Option<bool> {
    let mut result = all(words)?;
    while words.pop_if(|word| *word == "OR").is_some() {
        result |= all(words)?;
    }
    Some(result)
}

/// `a AND b AND …`, which binds tighter.
fn all(words: &mut Vec<&str>) -> Option<bool> {
    let mut result = one(words)?;
    while words.pop_if(|word| *word == "AND").is_some() {
        result &= one(words)?;
    }
    Some(result)
}

/// One licence, one with an exception, or an expression in parentheses.
fn one(words: &mut Vec<&str>) -> Option<bool> {
    let word = words.pop()?;
    if word == "(" {
        let result = any(words)?;
        return (words.pop()? == ")").then_some(result);
    }
    let licence = match words.pop_if(|next| *next == "WITH") {
        Some(_) => format!("{word} WITH {}", words.pop()?),
        None => word.to_owned(),
    };
    Some(PERMISSIVE.contains(&licence.as_str()))
}

#[test]
fn a_choice_with_one_permissive_answer_is_permissive() {
    for good in [
        "MIT",
        "MIT/Apache-2.0",
        "MIT OR Apache-2.0 OR LGPL-2.1-or-later",
        "(MIT OR Apache-2.0) AND Unicode-3.0",
        "Apache-2.0 WITH LLVM-exception",
        "GPL-3.0-only OR MIT AND ISC",
    ] {
        assert!(is_permissive(good), "{good}");
    }
}

#[test]
fn a_licence_that_asks_for_more_or_cannot_be_read_is_refused() {
    for bad in [
        "",
        "MPL-2.0",
        "GPL-3.0-only",
        "MIT AND MPL-2.0",
        "GPL-2.0-only WITH Classpath-exception-2.0",
        "MIT WITH Something",
        "(MIT",
        "MIT)",
        "MIT OR",
        "MIT Apache-2.0",
        "LicenseRef-Proprietary",
    ] {
        assert!(!is_permissive(bad), "{bad}");
    }
}
