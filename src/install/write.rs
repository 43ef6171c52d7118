//! Re-exports the atomic writes of core for the files of engines.

pub use crate::atomic::{
    WriteError, fault, forget, link, make_folder, remove, remove_if_there, replace, replace_from,
};
