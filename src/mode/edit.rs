//! Changes the mode in the text of a policy and leaves every other byte as it was.
//!
//! Nothing is written anew: the parser says where the value lies, and only that is replaced. So comments, order, line
//! ends and spelling stay whatever they are.

use crate::level::Mode;
use crate::level::policy::read::place_of_mode;
use crate::level::policy::{Policy, PolicyError, parse};

/// Why a policy is not changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// It was wrong before.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// It would say something else than it should.
    #[error(
        "{file}: this program cannot change the mode here; write mode = \"{mode}\" above the first [table]"
    )]
    Place {
        /// The file.
        file: String,
        /// The mode.
        mode: Mode,
    },
}

/// The text of a valid policy with another mode; `file` is its name in messages. What it said before comes along.
pub fn with_mode(text: &str, mode: Mode, file: &str) -> Result<(String, Policy), EditError> {
    let before = parse(text, file)?;
    let new = match place_of_mode(text) {
        _ if before.mode == mode && place_of_mode(text).is_some() => text.to_owned(),
        Some(place) => {
            let (head, tail) = (text.get(..place.start), text.get(place.end..));
            format!("{}\"{mode}\"{}", head.unwrap_or_default(), tail.unwrap_or_default())
        }
        None => insert(text, mode),
    };
    let expected = Policy { mode, ..before.clone() };
    // The gate's own parser has the last word.
    if parse(&new, file).is_ok_and(|after| after == expected) {
        return Ok((new, before));
    }
    Err(EditError::Place { file: file.to_owned(), mode })
}

/// Puts the key where only top-level keys can be: before everything but the comment at the head of the file.
fn insert(text: &str, mode: Mode) -> String {
    let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let (head, rest) = text.split_at(head(text));
    let rest_begins = rest.trim_start_matches(['\r', '\n']).chars().next();
    // Keys stand together; a table, or what is said of it, stands apart.
    let gap =
        if matches!(rest_begins, Some('[' | '#')) && !rest.starts_with(['\r', '\n']) { end } else { "" };
    format!("{head}mode = \"{mode}\"{end}{gap}{rest}")
}

/// The length of the byte order mark and of the comment that an empty line sets apart from the rest.
fn head(text: &str) -> usize {
    const MARK: &str = "\u{feff}";
    let mark = if text.starts_with(MARK) { MARK.len() } else { 0 };
    let mut length = mark;
    for line in text.get(mark..).unwrap_or_default().split_inclusive('\n') {
        if line.trim().is_empty() {
            return if length > mark { length + line.len() } else { mark };
        }
        if !line.starts_with('#') {
            break;
        }
        length += line.len();
    }
    mark
}

#[cfg(test)]
mod tests {
    use super::with_mode;
    use crate::level::Mode;

    #[test]
    fn only_the_mode_changes() {
        #[rustfmt::skip]
        let rows = [
            ("mode = \"audit\"\n", "mode = \"enforce\"\n"),
            ("mode='audit'", "mode=\"enforce\""),
            ("\"mode\"   =   'audit'   # why\n", "\"mode\"   =   \"enforce\"   # why\n"),
            ("mode = \"\"\"audit\"\"\" # x", "mode = \"enforce\" # x"),
            ("mode = \"\\u0061udit\"", "mode = \"enforce\""),
            ("# head\r\n\r\nmode = \"audit\"\t# a\r\n[defaults]\r\nenforce = \"baseline\"\r\n", "# head\r\n\r\nmode = \"enforce\"\t# a\r\n[defaults]\r\nenforce = \"baseline\"\r\n"),
            ("on-fault = 'allow'\nmode = 'audit'\nlog-allowed = true\n\n\n[node]\n  kubelet-root = '/k' \n", "on-fault = 'allow'\nmode = \"enforce\"\nlog-allowed = true\n\n\n[node]\n  kubelet-root = '/k' \n"),
            ("# mode = 'audit'\nmode = 'audit'\n# mode = 'audit'\n", "# mode = 'audit'\nmode = \"enforce\"\n# mode = 'audit'\n"),
            ("exemptions.namespaces = ['mode']\nmode = 'audit'", "exemptions.namespaces = ['mode']\nmode = \"enforce\""),
            ("# ü ist länger\nmode = 'audit' # ü\n", "# ü ist länger\nmode = \"enforce\" # ü\n"),
            ("\u{feff}mode = 'audit'\n", "\u{feff}mode = \"enforce\"\n"),
            // Where it is missing.
            ("", "mode = \"enforce\"\n"),
            ("\n", "mode = \"enforce\"\n\n"),
            ("\u{feff}", "\u{feff}mode = \"enforce\"\n"),
            ("# head", "mode = \"enforce\"\n\n# head"),
            ("# head\n", "mode = \"enforce\"\n\n# head\n"),
            ("# head\n\n", "# head\n\nmode = \"enforce\"\n"),
            ("# head\n# more\n\n# of it\n[node]\n", "# head\n# more\n\nmode = \"enforce\"\n\n# of it\n[node]\n"),
            ("# of it\n[node]\n", "mode = \"enforce\"\n\n# of it\n[node]\n"),
            ("[node]\nkubelet-root = '/k'", "mode = \"enforce\"\n\n[node]\nkubelet-root = '/k'"),
            ("[node]\r\nkubelet-root = '/k'\r\n", "mode = \"enforce\"\r\n\r\n[node]\r\nkubelet-root = '/k'\r\n"),
            ("on-fault = 'allow'\n", "mode = \"enforce\"\non-fault = 'allow'\n"),
            ("node.kubelet-root = '/k'\n", "mode = \"enforce\"\nnode.kubelet-root = '/k'\n"),
            ("node = { kubelet-root = '/k' }\n", "mode = \"enforce\"\nnode = { kubelet-root = '/k' }\n"),
            ("[namespaces.mode]\nenforce = 'baseline'\n", "mode = \"enforce\"\n\n[namespaces.mode]\nenforce = 'baseline'\n"),
            ("\u{feff}# head\r\n\r\n[node]\r\n", "\u{feff}# head\r\n\r\nmode = \"enforce\"\r\n\r\n[node]\r\n"),
        ];
        for (text, expected) in rows {
            let (new, before) = with_mode(text, Mode::Enforce, "policy.toml")
                .unwrap_or_else(|error| panic!("{text:?}: {error}"));
            assert_eq!((new.as_str(), before.mode), (expected, Mode::Audit), "{text:?}");
            assert_eq!(
                with_mode(&new, Mode::Enforce, "policy.toml").unwrap().0,
                new,
                "the second time: {text:?}"
            );
            // And back: the same but for the quotes, which say nothing.
            let (back, before) = with_mode(&new, Mode::Audit, "policy.toml").unwrap();
            assert_eq!(
                (back, before.mode),
                (expected.replacen("\"enforce\"", "\"audit\"", 1), Mode::Enforce),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_missing_mode_is_written_down_even_if_it_holds_by_default() {
        assert_eq!(with_mode("", Mode::Audit, "x").unwrap().0, "mode = \"audit\"\n");
    }

    #[test]
    fn a_policy_that_is_wrong_is_left_alone() {
        #[rustfmt::skip]
        let rows = [
            ("mode = ", "policy.toml:1:"),
            ("mode = 'audit'\nmode = 'audit'\n", "policy.toml:2:1: duplicate key"),
            ("mode = 'off'\n", "policy.toml:1:8:"),
            ("mode = 1\n", "policy.toml:1:8:"),
            ("mode.x = 'audit'\n", "policy.toml:1:"),
            ("[mode]\nx = 1\n", "policy.toml:1:"),
            ("[node]\nmode = 'audit'\n", "policy.toml:2:1:"),
            ("mode = 'audit'\nnonsense = 1\n", "policy.toml:2:1:"),
            ("\0", "policy.toml:1:"),
        ];
        for (text, expected) in rows {
            let error = with_mode(text, Mode::Enforce, "policy.toml").unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text:?}: {error}");
        }
    }
}
