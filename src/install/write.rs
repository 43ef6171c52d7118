//! The writes of an installation are those of every file of ours.

pub use crate::atomic::{
    WriteError, fault, forget, link, make_folder, remove, remove_if_there, replace, replace_from,
};
