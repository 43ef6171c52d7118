//! Who is told, and how?

pub mod json;
pub mod page;
pub mod sarif;
pub mod terminal;
