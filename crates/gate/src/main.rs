//! `pss-guard-gate`: what engines and runtimes call before a container starts.
//!
//! ```text
//! pss-guard-gate hook --engine ENGINE [--runtime-handler NAME] [--root DIR]    an OCI hook: state on standard input
//! pss-guard-runtime …                                                          by this name: a wrapper around runc
//! pss-guard-gate publish-formats [--root DIR]      writes /run/pss-guard/gate/formats: the installer and systemd's units call it
//! ```
//!
//! It has a `main` of C's, not of Rust's. Rust's sets up a stack for overflows, signals and a thread's name with 13
//! system calls, before every container of the node. The gate needs only one part of that: `handover` fills standard
//! streams that are closed.
//!
//! May use `unsafe`: the arguments come as C gives them, and the linker finds `memcmp` by its name.
#![no_main]
#![allow(unsafe_code)]
#![warn(clippy::undocumented_unsafe_blocks)]

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;

#[cfg(panic = "abort")]
mod no_unwind;

use pss_guard_core::formats;
use pss_guard_core::paths::Paths;
use pss_guard_gate::arena::{Arena, SIZE};
use pss_guard_gate::{admit, compare, handover, message};

#[global_allocator]
static MEMORY: Arena<SIZE> = Arena::new();

/// In place of musl's, which compares byte by byte.
///
/// # Safety
///
/// Both must point to `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, length: usize) -> c_int {
    // SAFETY: the caller vouches for the bytes.
    unsafe { compare::memcmp(one, other, length) }
}

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
    let arguments: Vec<OsString> = (0..count).map(argument).collect();
    // Not for the wrapper, which mostly hands over and needs two pages.
    if arguments.get(1).is_some_and(|first| first == "hook") {
        MEMORY.populate();
    }
    pss_guard_gate::dispatch::run(&arguments).unwrap_or_else(|| of_people(&arguments)).into()
}

/// What is no call of an engine.
fn of_people(arguments: &[OsString]) -> u8 {
    if arguments.get(1).is_some_and(|first| first == "--version" || first == "-V") {
        // A reader that went away wants nothing more.
        pss_guard_core::signals::ignore();
        let _ = writeln!(std::io::stdout(), "{}", concat!("pss-guard-gate ", env!("CARGO_PKG_VERSION")));
        return admit::ALLOW;
    }
    match arguments.get(1..) {
        Some([what]) if what == "publish-formats" => return publish_formats(&Paths::default()),
        Some([what, root, folder]) if what == "publish-formats" && root == "--root" => {
            return publish_formats(&Paths::under(folder.as_ref()));
        }
        _ => {}
    }
    message::stderr_line(
        "pss-guard-gate: engines call this program: `pss-guard-gate hook --engine ENGINE` as an OCI hook, or by the name \
         pss-guard-runtime as a wrapper around a runtime; people call `pss-guard`",
    );
    admit::CANNOT_JUDGE
}

/// Says which formats this gate reads, to all who write for it.
fn publish_formats(paths: &Paths) -> u8 {
    let path = paths.formats();
    match formats::publish(&path) {
        Ok(()) => admit::ALLOW,
        Err(error) => {
            message::stderr_line(&format!("pss-guard-gate: write {}: {error}", path.display()));
            admit::CANNOT_JUDGE
        }
    }
}
