//! Output formats that commands share. They choose the form of a result and decide nothing.

pub mod json;
pub mod junit;
pub mod page;
pub mod policy_file;
pub mod roff;
pub mod sarif;
pub mod terminal;
