//! Dispatches to the wrapper by the program's name, or to the hook by the first argument.

use std::ffi::OsString;
use std::path::Path;

use crate::{hook, wrapper};

/// Runs the gate if these arguments call it: by the wrapper's name, or with `hook` as the first argument. The exit code;
/// `None` where they ask for something else.
#[must_use]
pub fn run(arguments: &[OsString]) -> Option<u8> {
    let (called, rest) = arguments.split_first()?;
    if Path::new(called).file_name().is_some_and(|name| name == wrapper::NAME) {
        wrapper::install_panic_hook(arguments);
        return Some(wrapper::run(arguments));
    }
    let (first, rest) = rest.split_first()?;
    if first != "hook" {
        return None;
    }
    hook::install_panic_hook();
    Some(hook::run(rest))
}
