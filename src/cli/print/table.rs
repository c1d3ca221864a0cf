//! Tables with aligned columns, and lists of facts.

use super::Output;

/// Rows under a headline, every column as wide as its widest cell.
pub struct Table {
    headline: Vec<&'static str>,
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns. A title that begins with `>` stands, like its column, at the right.
    pub fn new(titles: &[&'static str]) -> Table {
        Table {
            headline: titles.iter().map(|title| title.trim_start_matches('>')).collect(),
            right: titles.iter().map(|title| title.starts_with('>')).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row: one cell for each column.
    pub fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.headline.len(), "a row has a cell for each column");
        self.rows.push(cells);
    }

    /// Prints it.
    pub fn print(&self, out: &Output) {
        self.lines().iter().for_each(|line| out.line(line));
    }

    fn lines(&self) -> Vec<String> {
        let headline: Vec<String> = self.headline.iter().map(ToString::to_string).collect();
        let rows = || std::iter::once(&headline).chain(&self.rows);
        let width = |column: usize| rows().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.headline.len()).map(width).collect();
        rows().map(|row| self.line(row, &widths)).collect()
    }

    fn line(&self, row: &[String], widths: &[usize]) -> String {
        let cells = row.iter().zip(widths).zip(&self.right).map(|((cell, width), right)| match right {
            true => format!("{cell:>width$}"),
            false => format!("{cell:<width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    }
}

/// Prints a list of facts, the values one beneath the other.
pub fn facts(out: &Output, facts: &[(&str, String)]) {
    let width = facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, value) in facts {
        out.line(format!("{name:<width$}  {value}").trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_one_beneath_the_other() {
        let mut table = Table::new(&["ID", ">Size", "Path"]);
        table.row(vec!["a".into(), "10 B".into(), "/é".into()]);
        table.row(vec!["abc".into(), "1 B".into(), "/b".into()]);
        assert_eq!(table.lines(), ["ID   Size  Path", "a    10 B  /é", "abc   1 B  /b"]);
    }
}
