//! `pss-guard cluster import`: stores the API server's version, which is what `latest` stands for.

use std::io::{Read, Write};

use super::{FAILED, OK, line};
use crate::cluster;
use crate::paths::Paths;

/// Imports the version that `input` holds.
pub fn import(paths: &Paths, input: &mut dyn Read, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    match cluster::import(input, paths) {
        // A reader that went away does not undo what was done.
        Ok((minor, changed)) => {
            let unchanged = if changed { "" } else { " (unchanged)" };
            let _ = writeln!(out, "the cluster is v1.{minor}{unchanged}");
            OK
        }
        Err(error) => {
            let _ = writeln!(err, "pss-guard: {}", line(&error));
            FAILED
        }
    }
}
