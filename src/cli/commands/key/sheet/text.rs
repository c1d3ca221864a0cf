//! A recovery sheet as plain text, for a printer that prints text or for a terminal.

use super::{Page, code};
use crate::cli::error::Result;
use crate::cli::print::human;
use std::fmt::Write;

/// The whole sheet. On a terminal, which most often is dark, codes are drawn in light.
pub fn lay_out(page: &Page<'_>, on_terminal: bool) -> Result<String> {
    let sheet = page.sheet;
    // Reserved whole, so that no part of the secret is left behind when the text grows.
    let mut text = String::with_capacity(64 << 10);
    let _ = writeln!(
        text,
        "KEEPSTONE RECOVERY SHEET\nmade on {} on {} by {}\n\nThe repository\n  where          {}\n  its id         {}\n  \
         root key's id  {}\n  made on        {}\n",
        human::time(sheet.made_ns),
        human::name(sheet.host.as_bytes()),
        sheet.program,
        human::name(page.location.as_bytes()),
        sheet.repository,
        sheet.root,
        human::time(sheet.created_ns),
    );
    if !page.identity.is_empty() {
        let _ = writeln!(
            text,
            "The key: whoever reads this can read all backups\n  an identity; write it into a file recovery.identity, as one \
             line, in capitals:\n\n  {}\n",
            page.identity
        );
        draw(&code(&page.identity)?, on_terminal, &mut text);
    }
    let title = if page.identity.is_empty() { "What opens it: any one of these" } else { "What opens it besides" };
    let _ = writeln!(text, "{title}");
    for [id, kind, label] in page.keys() {
        let _ = writeln!(text, "  {id}  {kind:<13}  {label}    kept at ____________________");
    }
    text.push_str("\nOn a bare machine, with the program keepstone of this version or a newer one\n");
    for command in &page.commands {
        let _ = writeln!(text, "  {command}");
    }
    text.push_str(
        "\nCompare the root key's id that `key list` shows with the one above: it is another one if the root key was\n\
         exchanged since, or if somebody has put another repository in its place.\n",
    );
    Ok(text)
}

/// Two rows of modules in one line.
fn draw(rows: &[Vec<bool>], on_terminal: bool, text: &mut String) {
    let side = rows.len() as isize;
    let inked = |x: isize, y: isize| {
        let dark = (0..side).contains(&x) && (0..side).contains(&y) && rows[y as usize][x as usize];
        // The quiet zone is drawn too where light is what is drawn.
        dark != on_terminal && (-2..side + 2).contains(&y)
    };
    for y in (-2..side + 2).step_by(2) {
        text.push_str("  ");
        for x in -2..side + 2 {
            text.push(match (inked(x, y), inked(x, y + 1)) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            });
        }
        text.push('\n');
    }
    text.push('\n');
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::tests::sheet;
    use super::*;

    #[test]
    fn the_code_is_drawn_as_it_is_in_dark_and_in_light() {
        let sheet = sheet(true);
        let page = Page::of(&sheet, "/vault".to_owned());
        for on_terminal in [false, true] {
            let text = lay_out(&page, on_terminal).unwrap();
            let drawn: Vec<Vec<char>> = text
                .lines()
                .filter(|line| line.contains(['█', '▀', '▄']))
                .map(|line| line.chars().skip(2).collect())
                .collect();
            let rows = code(&page.identity).unwrap();
            let first = if on_terminal { 1 } else { 0 };
            for (y, row) in rows.iter().enumerate() {
                for (x, dark) in row.iter().enumerate() {
                    let ink = match drawn[first + y / 2][x + 2] {
                        '█' => true,
                        '▀' => y % 2 == 0,
                        '▄' => y % 2 == 1,
                        _ => false,
                    };
                    assert_eq!(ink != on_terminal, *dark, "{x} {y}: {text}");
                }
            }
        }
    }
}
