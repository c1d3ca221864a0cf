//! A recovery sheet as one page of HTML for paper: nothing is loaded, nothing runs.

use super::{Page, code};
use crate::cli::error::Result;
use crate::cli::print::human;
use std::fmt::Write;

const STYLE: &str = "
@page { size: A4; margin: 14mm 16mm }
body { font: 10.5pt/1.4 Georgia, 'Liberation Serif', serif; color: #000; max-width: 178mm; margin: 0 auto }
h1 { font-size: 20pt; margin: 0 0 1mm; font-weight: normal }
h2 { font-size: 12pt; margin: 4.5mm 0 1.5mm; border-bottom: .3mm solid #000 }
p { margin: 1.2mm 0 }
.made { color: #444; margin-bottom: 3mm }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; vertical-align: top; padding: .7mm 4mm .7mm 0; font-weight: normal }
th { color: #444; white-space: nowrap; width: 1% }
code, pre { font: 9.5pt/1.45 'DejaVu Sans Mono', 'Liberation Mono', monospace; overflow-wrap: anywhere }
pre { margin: 1.5mm 0; padding: 2mm 3mm; border: .3mm solid #999; white-space: pre-wrap }
.secret { border: .6mm solid #000; padding: 3mm 4mm; display: flex; gap: 6mm; align-items: center }
.secret .key { font-size: 12pt; letter-spacing: .03em }
.id { white-space: nowrap; overflow-wrap: normal }
.label { max-width: 60mm; white-space: nowrap; overflow: hidden; text-overflow: ellipsis }
.code { flex: none; text-align: center; font-size: 8.5pt; color: #444 }
svg { width: 32mm; height: 32mm; display: block }
.two { display: flex; gap: 6mm; justify-content: space-between }
.kept { border-bottom: .2mm solid #999 }
";

/// More keys would not fit on the page; `key list` shows all.
const MOST_KEYS: usize = 5;

/// The whole document.
pub fn lay_out(page: &Page<'_>) -> Result<String> {
    let sheet = page.sheet;
    // Reserved whole, so that no part of the secret is left behind when the text grows.
    let mut html = String::with_capacity(256 << 10);
    let _ = write!(
        html,
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Keepstone recovery sheet {}</title>\
         <style>{STYLE}</style>\n<h1>Keepstone recovery sheet</h1>\n<p class=\"made\">Made on {} on {} by {}. Keep it \
         where a fire, a thief and a forgetful person do not come at once.</p>\n",
        sheet.repository.short(),
        escape(&human::time(sheet.made_ns)),
        escape(&sheet.host),
        escape(&sheet.program),
    );
    repository(page, &mut html)?;
    secret(page, &mut html)?;
    keys(page, &mut html);
    steps(page, &mut html);
    Ok(html)
}

fn repository(page: &Page<'_>, html: &mut String) -> Result<()> {
    let sheet = page.sheet;
    html.push_str("<h2>The repository</h2>\n<div class=\"two\"><table>\n");
    for (name, value) in [
        ("Where", page.location.clone()),
        ("Its id", sheet.repository.to_string()),
        ("Root key's id", sheet.root.to_string()),
        ("Made on", human::time(sheet.created_ns)),
    ] {
        let _ = writeln!(html, "<tr><th>{name}<td><code>{}</code>", escape(&value));
    }
    let _ = writeln!(
        html,
        "</table><div class=\"code\">{}Where, ids (no secret)</div></div>",
        svg(&code(&page.repository_code())?)
    );
    Ok(())
}

fn secret(page: &Page<'_>, html: &mut String) -> Result<()> {
    if page.identity.is_empty() {
        return Ok(());
    }
    let _ = writeln!(
        html,
        "<h2>The key &mdash; whoever reads this can read all backups</h2>\n<div class=\"secret\"><div><p>An identity. Write \
         it into a file <code>recovery.identity</code>, as one line, in capitals, without the gaps:</p><p>\
         <code class=\"key\">{}</code></p>\
         </div><div class=\"code\">{}The key</div></div>",
        grouped(&page.identity),
        svg(&code(&page.identity)?)
    );
    Ok(())
}

fn keys(page: &Page<'_>, html: &mut String) {
    let keys = page.keys();
    let title = if page.identity.is_empty() { "What opens it: any one of these" } else { "What opens it besides" };
    let _ = writeln!(html, "<h2>{title}</h2>\n<table><tr><th>Key<th>Kind<th style=\"width:30%\">Label<td>Kept where");
    for [id, kind, label] in keys.iter().take(MOST_KEYS) {
        let _ = writeln!(
            html,
            "<tr><td><code class=\"id\">{id}</code><td class=\"id\">{kind}<td class=\"label\">{}<td class=\"kept\">",
            escape(label)
        );
    }
    if keys.len() > MOST_KEYS {
        let _ = writeln!(html, "<tr><td colspan=\"4\">and {} more", keys.len() - MOST_KEYS);
    }
    html.push_str("</table>\n");
}

fn steps(page: &Page<'_>, html: &mut String) {
    html.push_str(
        "<h2>On a bare machine</h2>\n<p>1. Get the program <code>keepstone</code>, this version or a newer one. Without it: \
         <code>docs/FORMAT.md</code> of its sources describes every byte.</p>\n<p>2. Type:</p>\n<pre>",
    );
    for command in &page.commands {
        let _ = writeln!(html, "{}", escape(command));
    }
    html.push_str(
        "</pre>\n<p>3. <code>key list</code> ends with the root key's id: compare it with the one above. It is another one \
         if somebody has exchanged the root key since (then this sheet is out of date, its key still opens) or has put \
         another repository in its place.</p>\n</html>\n",
    );
}

/// Groups of eight characters behind the words at the beginning, which the eye can hold. Gaps by style alone: what is
/// copied is the text.
fn grouped(identity: &str) -> String {
    const WORDS: usize = "AGE-SECRET-KEY-1".len();
    let mut text = String::with_capacity(identity.len() * 8);
    for (place, character) in identity.chars().enumerate() {
        if place >= WORDS && place % 8 == 0 {
            text.push_str("<span style=\"margin-left:.5em\"></span><wbr>");
        }
        text.push(character);
    }
    text
}

fn svg(rows: &[Vec<bool>]) -> String {
    let side = rows.len() + 8;
    let mut svg = format!("<svg viewBox=\"0 0 {side} {side}\" shape-rendering=\"crispEdges\"><path d=\"");
    for (y, row) in rows.iter().enumerate() {
        for (x, _) in row.iter().enumerate().filter(|(_, dark)| **dark) {
            let _ = write!(svg, "M{} {}h1v1h-1z", x + 4, y + 4);
        }
    }
    svg.push_str("\"/></svg>");
    svg
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::tests::sheet;
    use super::*;

    #[test]
    fn the_code_is_drawn_as_it_is_and_names_cannot_write_html() {
        let sheet = sheet(true);
        let page = Page::of(&sheet, "/backup/<vault>".to_owned());
        let html = lay_out(&page).unwrap();
        assert!(html.contains("web&lt;1&gt;") && html.contains("/backup/&lt;vault&gt;") && !html.contains("<vault>"));
        let drawing = html.split("<svg ").nth(2).unwrap();
        let side: usize = drawing.split('"').nth(1).unwrap().split(' ').nth(2).unwrap().parse().unwrap();
        let path = drawing.split("d=\"").nth(1).unwrap().split('"').next().unwrap();
        let dark: std::collections::BTreeSet<(usize, usize)> = path
            .split('M')
            .filter_map(|part| part.split_once('h')?.0.split_once(' '))
            .map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()))
            .collect();
        let rows = code(&page.identity).unwrap();
        let there = |x: usize, y: usize| y.checked_sub(4).and_then(|y| rows.get(y)?.get(x.checked_sub(4)?).copied());
        for (x, y) in (0..side).flat_map(|x| (0..side).map(move |y| (x, y))) {
            assert_eq!(dark.contains(&(x, y)), there(x, y).unwrap_or(false), "{x} {y}");
        }
    }

    #[test]
    fn without_an_identity_nothing_secret_is_on_it() {
        let sheet = sheet(false);
        let html = lay_out(&Page::of(&sheet, "/vault".to_owned())).unwrap();
        assert!(!html.contains("AGE-SECRET") && html.matches("<svg").count() == 1);
    }
}
