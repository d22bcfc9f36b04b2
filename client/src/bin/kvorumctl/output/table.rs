//! The table format: titles centred, cells to the right, long texts broken between words.

use std::io::{Result, Write};

/// A cell's text is broken when it is wider than this, unless a single word is.
const WRAP_CHARS: usize = 30;
/// Added to the cost of a line that is too long even so.
const TOO_LONG: usize = 100_000;

/// Writes a table. Rows have as many cells as there are titles.
pub fn write(out: &mut dyn Write, titles: &[&str], rows: &[Vec<String>]) -> Result<()> {
    let widths: Vec<usize> = titles
        .iter()
        .enumerate()
        .map(|(column, title)| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| limit(cell)).chain([width(title)]).max().unwrap_or(0)
        })
        .collect();
    let rule = rule(&widths);
    writeln!(out, "{rule}")?;
    let titles = titles.iter().zip(&widths).map(|(title, width)| centred(title, *width));
    writeln!(out, "|{}|", titles.collect::<Vec<_>>().join("|"))?;
    writeln!(out, "{rule}")?;
    for row in rows {
        write_row(out, row, &widths)?;
    }
    writeln!(out, "{rule}")
}

fn write_row(out: &mut dyn Write, row: &[String], widths: &[usize]) -> Result<()> {
    let row: Vec<Vec<String>> = row.iter().map(|cell| wrapped(cell)).collect();
    let height = row.iter().map(Vec::len).max().unwrap_or(0);
    for line in 0..height {
        for (cell, cell_width) in row.iter().zip(widths) {
            let text = cell.get(line).map_or("", String::as_str);
            write!(out, "| {}{text} ", " ".repeat(cell_width - width(text)))?;
        }
        writeln!(out, "|")?;
    }
    Ok(())
}

fn rule(widths: &[usize]) -> String {
    let dashes: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
    format!("+{}+", dashes.join("+"))
}

/// `text` in the middle of a cell with a space on each side; the odd space goes to the right.
fn centred(text: &str, cell_width: usize) -> String {
    let free = cell_width + 2 - width(text);
    format!("{}{text}{}", " ".repeat(free / 2), " ".repeat(free - free / 2))
}

/// Columns on a terminal: what is shown here is mostly ASCII, and nothing of it is of double width.
fn width(text: &str) -> usize {
    text.chars().count()
}

/// How wide a cell with this text is: no wider than need be, and wider than `WRAP_CHARS` only for a single word.
fn limit(text: &str) -> usize {
    let longest_word = text.split(' ').map(width).max().unwrap_or(0);
    longest_word.max(width(text).min(WRAP_CHARS))
}

/// Breaks `text` between words so that lines are about equally long: the sum of the squares of what is free at the lines'
/// ends is least. The last line's end costs nothing.
fn wrapped(text: &str) -> Vec<String> {
    let words: Vec<&str> = text.split(' ').collect();
    let limit = limit(text);
    let count = words.len();
    // For each word, the least cost of the lines from it on, and where its own line ends.
    let mut best = vec![(usize::MAX, count); count];
    for first in (0..count).rev() {
        if width(&words[first..].join(" ")) <= limit {
            best[first] = (0, count);
            continue;
        }
        for next in first + 1..count {
            let length = width(&words[first..next].join(" "));
            let too_long = if length > limit { TOO_LONG } else { 0 };
            let free = limit.abs_diff(length);
            let cost = (free * free + too_long).saturating_add(best[next].0);
            if cost < best[first].0 {
                best[first] = (cost, next);
            }
        }
    }
    let mut lines = Vec::new();
    let mut first = 0;
    while first < count {
        let next = best[first].1;
        lines.push(words[first..next].join(" "));
        first = next;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::{wrapped, write};

    fn table(titles: &[&str], rows: &[&[&str]]) -> String {
        let rows: Vec<Vec<String>> =
            rows.iter().map(|row| row.iter().map(ToString::to_string).collect()).collect();
        let mut out = Vec::new();
        write(&mut out, titles, &rows).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn titles_are_centred_and_cells_are_right() {
        let shown =
            table(&["ENDPOINT", "HASH"], &[&["127.0.0.1:23790", "3960153228"], &["b", "1"]]);
        let expected = "\
+-----------------+------------+
|    ENDPOINT     |    HASH    |
+-----------------+------------+
| 127.0.0.1:23790 | 3960153228 |
|               b |          1 |
+-----------------+------------+
";
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_table_may_be_empty() {
        let expected = "\
+----------+------+
| ENDPOINT | HASH |
+----------+------+
+----------+------+
";
        assert_eq!(table(&["ENDPOINT", "HASH"], &[]), expected);
    }

    #[test]
    fn long_texts_are_broken_between_words() {
        let error = "etcdserver: authentication failed, invalid user ID or password";
        let expected = "\
+-----------------+--------+------+--------------------------------+
|    ENDPOINT     | HEALTH | TOOK |             ERROR              |
+-----------------+--------+------+--------------------------------+
| 127.0.0.1:23790 |  false |      |     etcdserver: authentication |
|                 |        |      |     failed, invalid user ID or |
|                 |        |      |                       password |
+-----------------+--------+------+--------------------------------+
";
        let titles = ["ENDPOINT", "HEALTH", "TOOK", "ERROR"];
        assert_eq!(table(&titles, &[&["127.0.0.1:23790", "false", "", error]]), expected);
        let url = "http://127.0.0.1:23790,http://127.0.0.2:23790";
        assert_eq!(wrapped(url), [url]);
        assert_eq!(wrapped(""), [""]);
    }
}
