//! What would enforcing break? What must be known before somebody asks for it.

use crate::paths::Paths;

/// What is to be expected of enforce mode on this node.
#[derive(Debug, Default)]
pub struct Outlook {
    /// In sentences.
    pub says: Vec<String>,
    /// The system's own that would be refused: a node that loses them is no node any more.
    pub system: Vec<String>,
}

/// Looks ahead.
#[must_use]
pub fn look(_paths: &Paths) -> Outlook {
    Outlook::default()
}
