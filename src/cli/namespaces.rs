//! `pss-guard namespaces import`: stores the labels of the API server's namespaces on this node.

use std::io::{Read, Write};

use super::{FAILED, OK, line};
use crate::level::namespaces;
use crate::paths::Paths;

/// Imports the list that `input` holds.
pub fn import(paths: &Paths, input: &mut dyn Read, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    // A reader that went away does not undo what was done.
    match namespaces::import(input, paths) {
        Ok(imported) => {
            for invalid in &imported.invalid {
                let _ = writeln!(err, "pss-guard: {invalid}; `pss-guard policy show` shows what is in force");
            }
            let _ = writeln!(out, "{imported}");
            OK
        }
        Err(error) => {
            let _ = writeln!(err, "pss-guard: {}", line(&error));
            FAILED
        }
    }
}
