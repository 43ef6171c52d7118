//! Standard input in the place of a file.

use std::io::{self, Read as _};
use std::path::Path;

use crate::files::FileError;

/// What it is called in messages.
pub const NAME: &str = "standard input";

/// Whether a path that somebody has named is no file: `-`.
#[must_use]
pub fn is_it(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Reads it to its end, and no more than `limit` bytes.
pub fn read(limit: u64) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    let read = io::stdin().lock().take(limit.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|source| FileError::Read { path: NAME.into(), source })?;
    if bytes.len() as u64 > limit {
        return Err(FileError::TooLarge { path: NAME.into(), limit });
    }
    Ok(bytes)
}
