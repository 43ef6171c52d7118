//! The exceptions of a policy, of which most starts need none.

use std::ops::Deref;
use std::sync::OnceLock;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Exception;
use super::compiled;

/// What is allowed to fail, and until when. Of a compiled policy they are read when the first of them is asked for: a hundred are
/// a tenth of a start, and a container that violates nothing needs none.
#[derive(Clone, Debug, Default)]
pub struct Exceptions {
    read: OnceLock<Vec<Exception>>,
    /// How many they are, and their compiled form: only where they were not read yet.
    compiled: (usize, Vec<u8>),
}

impl Exceptions {
    /// Exceptions that are not read yet. What reads to another number would be none, and nothing would be let in by them.
    pub(super) fn compiled(count: usize, bytes: Vec<u8>) -> Self {
        Self { read: OnceLock::new(), compiled: (count, bytes) }
    }

    /// Whether there are none, without reading them.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.read.get().map_or(self.compiled.0 == 0, Vec::is_empty)
    }
}

impl Deref for Exceptions {
    type Target = [Exception];

    fn deref(&self) -> &[Exception] {
        let (count, bytes) = &self.compiled;
        self.read.get_or_init(|| compiled::exceptions(*count, bytes).unwrap_or_default())
    }
}

impl From<Vec<Exception>> for Exceptions {
    fn from(all: Vec<Exception>) -> Self {
        Self { read: OnceLock::from(all), compiled: (0, Vec::new()) }
    }
}

impl<'e> IntoIterator for &'e Exceptions {
    type Item = &'e Exception;
    type IntoIter = std::slice::Iter<'e, Exception>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl PartialEq for Exceptions {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Exceptions {}

impl Serialize for Exceptions {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Exceptions {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Vec::deserialize(from).map(Self::from)
    }
}
