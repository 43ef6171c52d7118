//! Asks for confirmation on the terminal; without one, the answer is no.

use std::io::{self, BufRead as _, IsTerminal as _, Write};

/// Whether the answer is yes. `to` says what `--yes` does without being asked.
pub(super) fn ask(question: &str, to: &str, err: &mut dyn Write) -> bool {
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        let _ = writeln!(err, "pss-guard: no terminal to ask on; use --yes to {to} without confirmation");
        return false;
    }
    let _ = write!(err, "{question} [y/N] ").and_then(|()| err.flush());
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    if read.is_ok() && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        return true;
    }
    if !answer.ends_with('\n') {
        let _ = writeln!(err);
    }
    let _ = writeln!(err, "pss-guard: not confirmed; nothing changed");
    false
}
