//! `pss-guard-gate`: what engines and runtimes call before a container starts.
//!
//! ```text
//! pss-guard-gate hook --engine ENGINE [--runtime-handler NAME] [--root DIR]    an OCI hook: state on standard input
//! pss-guard-runtime …                                                          by this name: a wrapper around runc
//! ```
//!
//! It has a `main` of C's, not of Rust's. Rust's sets up a stack for overflows, signals and a thread's name with 13
//! system calls, before every container of the node, and the gate needs none of that: see `handover` for the one thing
//! that it does by itself.
//!
//! May use `unsafe`: the arguments come as C gives them.
#![no_main]
#![allow(unsafe_code)]
#![warn(clippy::undocumented_unsafe_blocks)]

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use pss_guard_gate::arena::{Arena, SIZE};
use pss_guard_gate::{admit, handover, hook, message, wrapper};

#[global_allocator]
static MEMORY: Arena<SIZE> = Arena::new();

/// # Safety
///
/// `strings` must point to `count` strings that live as long as the process, as the C library's start gives them.
#[unsafe(no_mangle)]
unsafe extern "C" fn main(count: c_int, strings: *const *const c_char) -> c_int {
    handover::fill_standard_streams();
    let count = usize::try_from(count).unwrap_or(0);
    let argument = |nth| {
        // SAFETY: below `count`, so it is in the array and points to a string that ends in NUL and lives on.
        let text = unsafe { CStr::from_ptr(*strings.add(nth)) };
        OsStr::from_bytes(text.to_bytes()).to_owned()
    };
    run(&(0..count).map(argument).collect::<Vec<_>>()).into()
}

fn run(arguments: &[OsString]) -> u8 {
    let name = arguments.first().map(Path::new).and_then(Path::file_name);
    if name.is_some_and(|name| name == wrapper::NAME) {
        wrapper::install_panic_hook(arguments);
        return wrapper::run(arguments);
    }
    let rest = arguments.get(1..).unwrap_or_default();
    match rest.first().and_then(|first| first.to_str()) {
        Some("hook") => {
            hook::install_panic_hook();
            hook::run(rest.get(1..).unwrap_or_default())
        }
        Some("--version" | "-V") => {
            // A reader that went away wants nothing more.
            pss_guard_core::signals::ignore();
            let _ = writeln!(std::io::stdout(), "{}", concat!("pss-guard-gate ", env!("CARGO_PKG_VERSION")));
            admit::ALLOW
        }
        _ => {
            message::stderr_line(
                "pss-guard-gate: engines call this program: `pss-guard-gate hook --engine ENGINE` as an OCI hook, or by \
                 the name pss-guard-runtime as a wrapper around a runtime; people call `pss-guard`",
            );
            admit::CANNOT_JUDGE
        }
    }
}
