//! Tables and numbers for people.

use std::io::Write;

use crate::terminal;

/// Widest cell that is printed whole. Exporters join names of several layers into one of hundreds of letters; the end tells
/// them apart, so that is what stays.
const WIDEST: usize = 48;
/// Longest cell in a column that is not cut. Names of inputs are met in full, unless they are no names.
const LONGEST: usize = 200;

/// A table whose columns are as wide as their widest cell. Cells of columns whose title begins with `>` stand right; those
/// of columns whose title begins with `<` lose their beginning where they are too wide (`--json` has everything).
pub struct Table {
    titles: Vec<String>,
    right: Vec<bool>,
    cut: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column titles.
    pub fn new(titles: &[&str]) -> Self {
        Table {
            titles: titles.iter().map(|t| t.trim_start_matches(['>', '<']).to_string()).collect(),
            right: titles.iter().map(|t| t.starts_with('>')).collect(),
            cut: titles.iter().map(|t| t.starts_with('<')).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let shown =
            |cell: String, cut: bool| terminal::line(&if cut { shortened(cell) } else { cell }, LONGEST).into_owned();
        let cells = cells.into_iter().zip(&self.cut).map(|(cell, &cut)| shown(cell, cut));
        self.rows.push(cells.collect());
    }

    /// Prints title and rows, indented by two.
    ///
    /// # Errors
    /// If `out` cannot be written.
    pub fn print(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let lines = || std::iter::once(&self.titles).chain(&self.rows);
        let wide = |s: &str| s.chars().count();
        let width = |c: usize| lines().filter_map(|l| l.get(c)).map(|s| wide(s)).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.titles.len()).map(width).collect();
        for line in lines() {
            let mut text = String::new();
            for ((cell, &width), &right) in line.iter().zip(&widths).zip(&self.right) {
                let pad = " ".repeat(width - wide(cell));
                text += "  ";
                text += &if right { pad + cell } else { cell.clone() + &pad };
            }
            writeln!(out, "{}", text.trim_end())?;
        }
        Ok(())
    }
}

fn shortened(cell: String) -> String {
    let n = cell.chars().count();
    if n <= WIDEST { cell } else { "…".chars().chain(cell.chars().skip(n - WIDEST + 1)).collect() }
}

/// `1234567` as `1 234 567`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, d) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(d);
    }
    out
}

/// A size in bytes, and in a larger unit where that helps.
pub fn bytes(n: u64) -> String {
    let exact = format!("{} bytes", grouped(n));
    match n {
        0..10_240 => exact,
        10_240..10_485_760 => format!("{exact} ({:.1} KiB)", n as f64 / 1024.0),
        _ => format!("{exact} ({:.1} MiB)", n as f64 / 1_048_576.0),
    }
}

/// A duration in the unit that fits it.
pub fn nanos(ns: f64) -> String {
    match ns {
        ns if ns < 1e3 => format!("{ns:.0} ns"),
        ns if ns < 1e6 => format!("{:.2} µs", ns / 1e3),
        ns if ns < 1e9 => format!("{:.3} ms", ns / 1e6),
        ns => format!("{:.3} s", ns / 1e9),
    }
}

/// A shape as `1x3x32x32`; a scalar is `scalar`.
pub fn shape<T: ToString>(dims: &[T]) -> String {
    if dims.is_empty() { "scalar".into() } else { dims.iter().map(T::to_string).collect::<Vec<_>>().join("x") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut t = Table::new(&["name", ">n"]);
        t.row(["é".to_string(), "1".to_string()]);
        t.row(["longer".to_string(), "1000".to_string()]);
        let mut out = Vec::new();
        t.print(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "  name       n\n  é          1\n  longer  1000\n");
    }

    #[test]
    fn wide_cells_keep_their_end() {
        let long = "x".repeat(300) + "/end";
        let cell = shortened(long);
        assert!(cell.starts_with('…') && cell.ends_with("/end") && cell.chars().count() == WIDEST);
    }

    #[test]
    fn a_cell_stays_in_its_line() {
        let mut t = Table::new(&["name", "<from"]);
        t.row(["a\nb".to_string(), "\u{1b}[2J".to_string()]);
        t.row(["x".repeat(1 << 20), "y".repeat(1 << 20)]);
        let mut out = Vec::new();
        t.print(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.lines().count() == 3 && text.len() < 2000, "{text}");
        assert!(text.contains("a\\u000ab") && text.contains("\\u001b[2J"), "{text}");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(1_234_567), "1 234 567");
        assert_eq!(bytes(100), "100 bytes");
        assert_eq!(bytes(20_480), "20 480 bytes (20.0 KiB)");
        assert_eq!(nanos(12.0), "12 ns");
        assert_eq!(nanos(1_500.0), "1.50 µs");
        assert_eq!(shape(&[1, 3, 32]), "1x3x32");
        assert_eq!(shape::<u32>(&[]), "scalar");
    }
}
