//! The table of docs/compatibility.md is what `make e2e-matrix` prints: its rows, its columns, its words, and a reason for each
//! empty cell.

use crate::support::documents;
use crate::support::matrix::{ENGINES, MARKS, Outcome, RUNTIMES, TRIED};

/// What the document has between the marks.
fn printed() -> String {
    let text = documents::read("docs/compatibility.md");
    let (_, rest) = text.split_once(MARKS[0]).expect("where the table begins");
    let (table, _) = rest.split_once(MARKS[1]).expect("where it ends");
    table.trim().to_owned()
}

/// The cells of a line of a table.
fn cells(line: &str) -> Vec<&str> {
    let inside = line.strip_prefix('|').and_then(|line| line.strip_suffix('|')).expect("a line of a table");
    inside.split('|').map(str::trim).collect()
}

/// Whether a name of the document is one of the table with a whole version.
fn is_of(name: &str, row: &str) -> bool {
    let rest = name.strip_prefix(row);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '~', '+', '-']))
}

/// What is wrong with such a text.
fn wrong(text: &str) -> Vec<String> {
    let runtimes = RUNTIMES.map(|(name, _)| name);
    let tables: [(&[&str], &[&str], &[&str]); 2] = [
        (&ENGINES.map(|(name, _)| name), &runtimes, &["both", "hook", "runtime"]),
        (&runtimes, &TRIED, &["yes"]),
    ];
    let mut wrong = Vec::new();
    let notes: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("- ")).collect();
    let found: Vec<Vec<&str>> =
        text.split("\n\n").map(|part| part.lines().filter(|line| line.starts_with('|')).collect()).collect();
    for (nth, (rows, columns, words)) in tables.into_iter().enumerate() {
        let Some([head, _rule, body @ ..]) = found.get(nth).map(Vec::as_slice) else {
            wrong.push(format!("table {nth} is missing"));
            continue;
        };
        let names = &cells(head)[1..];
        if names.len() != columns.len()
            || !names.iter().zip(columns).all(|(name, column)| is_of(name, column))
        {
            wrong.push(format!("columns {names:?}"));
        }
        if body.len() != rows.len() {
            wrong.push(format!("{} rows and not {}", body.len(), rows.len()));
        }
        for (line, row) in body.iter().zip(rows) {
            let cells = cells(line);
            if !is_of(cells[0], row) || cells.len() != columns.len() + 1 {
                wrong.push(format!("row {line}"));
            }
            for (cell, column) in cells[1..].iter().zip(columns) {
                let has_reason = || {
                    notes.iter().any(|note| {
                        let of = note.split_once(": ").map_or(*note, |(of, _)| of);
                        of == *row || of == *column || (of.starts_with(row) && of.ends_with(column))
                    })
                };
                if !(words.contains(cell) || (cell.is_empty() && has_reason())) {
                    wrong.push(format!("{row}, {column}: {cell:?}"));
                }
            }
        }
    }
    wrong
}

#[test]
fn the_document_has_what_the_matrix_prints() {
    let text = printed();
    assert_eq!(wrong(&text), [""; 0], "{text}");
}

#[test]
fn a_table_that_no_matrix_prints_is_wrong() {
    // Nothing was run: every cell is empty, and nothing says why.
    let whole = ENGINES.len() * RUNTIMES.len() + RUNTIMES.len() * TRIED.len();
    assert_eq!(wrong(&Outcome::default().markdown()).len(), whole);
    let text = printed();
    let edited = [
        text.replacen("| both |", "| works |", 1),
        text.replacen("| yes |", "| both |", 1),
        text.replacen("runc 1.2", "runc 1.9", 1),
        text.replacen("| containerd 2.2", "| containerd 2.9", 1),
        text.lines().filter(|line| !line.starts_with("| containerd 1.7")).collect::<Vec<_>>().join("\n"),
        text.lines().filter(|line| !line.starts_with("- ")).collect::<Vec<_>>().join("\n"),
        text.split("\n\n").next().unwrap().to_owned(),
    ];
    for edited in edited {
        assert_ne!(wrong(&edited), [""; 0], "{edited}");
    }
}
