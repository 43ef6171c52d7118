//! `pss-guard pods import`: stores what the API server or the kubelet knows of this node's pods.

use std::io::{Read, Write};

use super::{FAILED, OK, line};
use crate::paths::Paths;
use crate::pods;

/// Imports the list that `input` holds; of one node, if its name is given.
pub fn import(
    paths: &Paths,
    node: Option<&str>,
    input: &mut dyn Read,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    match pods::import(input, node, paths) {
        // A reader that went away does not undo what was done.
        Ok(imported) => {
            for pod in imported.too_large() {
                let _ = writeln!(
                    err,
                    "pss-guard: the facts of pod {pod} are larger than {} bytes; it is evaluated without them",
                    pods::LIMIT
                );
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
