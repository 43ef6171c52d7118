//! Which versions of which engines and runtimes are run? `make e2e-matrix` runs them, and docs/compatibility.md has what came of
//! it: one row an engine, one column a runtime, one row a runtime by itself.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Mutex;

use crate::support::engine::Kind;
use crate::support::needs;
use crate::support::run;
use crate::support::runtime::{Family, Runtime};

/// Every engine, by the version that the document names.
pub(crate) const ENGINES: [(&str, Kind); 9] = [
    ("containerd 1.6", Kind::Containerd16),
    ("containerd 1.7", Kind::Containerd17),
    ("containerd 2.1", Kind::Containerd2),
    ("containerd 2.2", Kind::Containerd22),
    ("containerd 2.3", Kind::Containerd23),
    ("containerd 2.4", Kind::Containerd24),
    ("CRI-O 1.34", Kind::CriO),
    ("CRI-O 1.35", Kind::CriO135),
    ("CRI-O 1.36", Kind::CriO136),
];

/// Every runtime.
pub(crate) const RUNTIMES: [(&str, Runtime); 10] = [
    ("runc 1.1", Runtime::Runc),
    ("runc 1.2", Runtime::Part(Family::Runc, "runc-1.2")),
    ("runc 1.3", Runtime::Part(Family::Runc, "runc-1.3")),
    ("runc 1.4", Runtime::Part(Family::Runc, "runc-1")),
    ("runc 1.5", Runtime::Part(Family::Runc, "runc-1.5")),
    // A release candidate: its command line is read by another library.
    ("runc 1.6", Runtime::Part(Family::Runc, "runc-1.6")),
    ("crun 1.8", Runtime::Crun),
    ("crun 1.21", Runtime::Part(Family::Crun, "crun-1.21")),
    ("crun 1.28", Runtime::Part(Family::Crun, "crun-1.28")),
    ("youki 0.7", Runtime::Part(Family::Youki, "youki-0.7")),
];

/// What is tried of a runtime by itself.
pub(crate) const TRIED: [&str; 4] = ["options", "starts", "exec", "restore"];

/// Where the document has what was printed.
pub(crate) const MARKS: [&str; 2] = ["<!-- make e2e-matrix -->", "<!-- end of make e2e-matrix -->"];

/// Where a part is not there, why.
pub(crate) fn missing(program: Option<PathBuf>, part: &str) -> Option<String> {
    if program.is_some_and(|program| program.is_file()) {
        return None;
    }
    let reason = run::read(&needs::part("..").join(format!("parts/{part}.missing")));
    let reason = reason.lines().next().unwrap_or_default().to_owned();
    Some(if reason.is_empty() { "scripts/node-parts --matrix has not brought it".to_owned() } else { reason })
}

/// What came of the runs so far.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// The versions as the programs say them, by the names above.
    pub(crate) versions: BTreeMap<&'static str, String>,
    /// What passed, by row and column.
    pub(crate) cells: BTreeMap<(&'static str, &'static str), String>,
    /// Why a row, a column or a cell is empty.
    pub(crate) notes: Vec<String>,
}

impl Outcome {
    /// The text between the marks.
    pub(crate) fn markdown(&self) -> String {
        let runtimes = RUNTIMES.map(|(name, _)| name);
        let mut text = self.table("", &ENGINES.map(|(name, _)| name), &runtimes);
        text += "\n";
        text += &self.table("by itself", &runtimes, &TRIED);
        let mut notes = self.notes.clone();
        notes.sort();
        if !notes.is_empty() {
            text += "\n";
        }
        for note in notes {
            let _ = writeln!(text, "- {note}");
        }
        text
    }

    fn table(&self, corner: &str, rows: &[&'static str], columns: &[&'static str]) -> String {
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut text =
            line([corner.to_owned()].into_iter().chain(columns.iter().map(|name| self.full(name))).collect());
        text += &line(vec!["---".to_owned(); columns.len() + 1]);
        for row in rows {
            let cells =
                columns.iter().map(|column| self.cells.get(&(*row, *column)).cloned().unwrap_or_default());
            text += &line([self.full(row)].into_iter().chain(cells).collect());
        }
        text
    }

    /// A name with the whole version where that is known.
    fn full(&self, name: &'static str) -> String {
        let program = name.split_once(' ').map_or(name, |(program, _)| program);
        self.versions.get(name).map_or_else(|| name.to_owned(), |version| format!("{program} {version}"))
    }
}

/// What all tests of this program have found: each adds its own, and the last one leaves the whole table.
static OUTCOME: Mutex<Option<Outcome>> = Mutex::new(None);

/// Changes what is known, and writes it.
pub(crate) fn note(change: impl FnOnce(&mut Outcome)) {
    let mut outcome = OUTCOME.lock().expect("nobody panics with it");
    let outcome = outcome.get_or_insert_with(Outcome::default);
    change(outcome);
    // Below the target folder; an example of the package has none, and notes nothing.
    if let Some(below) = option_env!("CARGO_TARGET_TMPDIR") {
        let path = PathBuf::from(below).with_file_name("matrix.md");
        std::fs::write(path, outcome.markdown()).expect("a file in the target folder");
    }
}

/// Tries a cell; what is wrong there goes to the list with its name.
pub(crate) fn tried<R>(name: &str, wrong: &mut Vec<String>, attempt: impl FnOnce() -> R) -> Option<R> {
    let panic = match catch_unwind(AssertUnwindSafe(attempt)) {
        Ok(result) => return Some(result),
        Err(panic) => panic,
    };
    let said = panic.downcast_ref::<String>().cloned();
    let said = said.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
    wrong.push(format!("{name}: {}", said.unwrap_or_default()));
    None
}
