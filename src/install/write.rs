//! Writes the files of engines atomically, as all of pss-guard's own.

pub use crate::atomic::{
    WriteError, fault, forget, link, make_folder, remove, remove_if_there, replace, replace_from,
};
