//! Stands in for libunwind. The gate is built without unwind tables, so nothing in it can be unwound: a panic ends in its own
//! hook, and a backtrace has no frame. With these in its place neither libunwind nor the reader of debug information that
//! std's own hook would print with is linked: a fifth of the program.
//!
//! The interface is the Itanium C++ ABI's, as far as std refers to it.

#![allow(unsafe_code, reason = "the linker finds these by their names")]
#![allow(non_snake_case, reason = "the names are the ABI's")]

use std::ffi::{c_int, c_void};
use std::ptr;

/// `_URC_END_OF_STACK`.
const END_OF_STACK: c_int = 5;

/// There is no frame.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Backtrace(_: *const c_void, _: *mut c_void) -> c_int {
    END_OF_STACK
}

/// Defines functions that std refers to and nothing reaches: they belong to a frame, and there is none.
macro_rules! of_no_frame {
    ($($name:ident($($argument:ty),*) -> $result:ty = $value:expr;)*) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $name($(_: $argument),*) -> $result {
            $value
        }
    )*};
}

of_no_frame! {
    _Unwind_GetIP(*mut c_void) -> usize = 0;
    _Unwind_GetIPInfo(*mut c_void, *mut c_int) -> usize = 0;
    _Unwind_GetCFA(*mut c_void) -> usize = 0;
    _Unwind_FindEnclosingFunction(*mut c_void) -> *mut c_void = ptr::null_mut();
    _Unwind_GetLanguageSpecificData(*mut c_void) -> *mut c_void = ptr::null_mut();
    _Unwind_GetRegionStart(*mut c_void) -> usize = 0;
    _Unwind_GetTextRelBase(*mut c_void) -> usize = 0;
    _Unwind_GetDataRelBase(*mut c_void) -> usize = 0;
    _Unwind_SetGR(*mut c_void, c_int, usize) -> () = ();
    _Unwind_SetIP(*mut c_void, usize) -> () = ();
    _Unwind_DeleteException(*mut c_void) -> () = ();
    _Unwind_RaiseException(*mut c_void) -> c_int = END_OF_STACK;
    _Unwind_Resume(*mut c_void) -> ! = std::process::abort();
}
