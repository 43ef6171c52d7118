//! A node's files in a folder that goes away with the test.

use std::error::Error;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::thread;
use std::time::Duration;

use pss_guard_core::level::cache::{Fallback, Loaded, load};
use pss_guard_core::level::namespaces::{self, Imported};
use pss_guard_core::level::{Mode, NamespaceLabels, Policy};
use pss_guard_core::paths::Paths;
use tempfile::TempDir;

/// A node's files in a folder that goes away with the test.
pub(crate) struct Node {
    pub(crate) root: TempDir,
    pub(crate) paths: Paths,
}

impl Node {
    pub(crate) fn new() -> Self {
        let root = TempDir::new().unwrap();
        let paths = Paths::under(root.path());
        fs::create_dir_all(paths.policy().parent().unwrap()).unwrap();
        fs::create_dir_all(paths.policy_cache().parent().unwrap()).unwrap();
        Self { root, paths }
    }

    pub(crate) fn with_policy(text: &str) -> Self {
        let node = Self::new();
        node.write_policy(text);
        node
    }

    pub(crate) fn write_policy(&self, text: &str) {
        fs::write(self.paths.policy(), text).unwrap();
        fs::set_permissions(self.paths.policy(), Permissions::from_mode(0o644)).unwrap();
    }

    /// Longer than the clock that file systems stamp with takes to move on.
    pub(crate) fn settle() {
        thread::sleep(Duration::from_millis(80));
    }

    /// A node with a cache that is believed.
    pub(crate) fn with_cache(text: &str) -> Self {
        let node = Self::with_policy(text);
        Self::settle();
        node.good();
        assert!(node.paths.policy_cache().is_file(), "no cache was written");
        node
    }

    pub(crate) fn good(&self) -> Policy {
        match load(&self.paths) {
            Loaded::Good(policy) => policy,
            Loaded::Kept { error, .. } | Loaded::Bad { error, .. } => panic!("{}", line(&error)),
        }
    }

    /// The error, without the folder of this test, and what was saved.
    pub(crate) fn bad(&self) -> (String, Fallback) {
        match load(&self.paths) {
            Loaded::Good(policy) | Loaded::Kept { policy, .. } => panic!("{policy:?}"),
            Loaded::Bad { error, salvage } => (self.shown(&line(&error)), salvage),
        }
    }

    /// The error, without the folder of this test, and the last good policy, which is in force.
    pub(crate) fn kept(&self) -> (String, Policy) {
        match load(&self.paths) {
            Loaded::Kept { error, policy } => (self.shown(&line(&error)), policy),
            loaded => panic!("{loaded:?}"),
        }
    }

    /// What a boot leaves of the files.
    pub(crate) fn reboot(&self) {
        fs::remove_dir_all(self.paths.policy_cache().parent().unwrap()).unwrap();
    }

    pub(crate) fn shown(&self, text: &str) -> String {
        text.replace(self.root.path().to_str().unwrap(), "")
    }

    /// Replaces the cache's content, but not who owns it or how old it is.
    pub(crate) fn edit_cache(&self, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.paths.policy_cache()).unwrap();
        edit(&mut bytes);
        fs::write(self.paths.policy_cache(), bytes).unwrap();
    }

    /// Proof that the cache is what is read: changes the mode in it, with the right checksum.
    pub(crate) fn forge_mode(&self) {
        self.edit_cache(|bytes| {
            let (line, mut body) = split(bytes);
            assert_eq!(body[0], 0, "a policy begins with its mode, audit");
            body[0] = 1;
            let (identity, _) = line.rsplit_once(' ').unwrap();
            let line = format!("{identity} {:016x}", checksum(&body));
            *bytes = [line.as_bytes(), b"\n", &body].concat();
        });
    }

    /// Replaces something in the cache's first line, which is no part of its checksum.
    pub(crate) fn edit_line(&self, from: &str, to: &str) {
        self.edit_cache(|bytes| {
            let (line, body) = split(bytes);
            assert!(line.contains(from), "{line}");
            *bytes = [line.replacen(from, to, 1).as_bytes(), b"\n", &body].concat();
        });
    }

    /// The cache's first line.
    pub(crate) fn cache_line(&self) -> String {
        split(&fs::read(self.paths.policy_cache()).unwrap()).0
    }

    pub(crate) fn import(&self, text: &str) -> Result<Imported, String> {
        namespaces::import(&mut text.as_bytes(), &self.paths).map_err(|error| self.shown(&line(&error)))
    }

    pub(crate) fn read(&self, name: &str) -> Result<NamespaceLabels<'static>, String> {
        namespaces::read(&self.paths.namespaces(), name).map_err(|error| self.shown(&line(&error)))
    }

    /// The names in the folder of namespaces but for the lock, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.paths.namespaces()) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name != ".lock");
        names.sort();
        names
    }
}

/// The first line of a cache, and what is below it.
fn split(bytes: &[u8]) -> (String, Vec<u8>) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
    (String::from_utf8(bytes[..end].to_vec()).unwrap(), bytes[end + 1..].to_vec())
}

/// The cache's own sum, written down a second time.
fn checksum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks(8).flat_map(|chunk| match <[u8; 8]>::try_from(chunk) {
        Ok(word) => vec![u64::from_le_bytes(word)],
        Err(_) => chunk.iter().map(|byte| u64::from(*byte)).collect(),
    });
    words.fold(0xcbf2_9ce4_8422_2325, |hash, word| (hash ^ word).wrapping_mul(0x100_0000_01b3))
}

/// Something that happens to a file.
pub(crate) type Damage = fn(&Path);

/// Files count only if root owns them. As another user nothing but that can be tested.
pub(crate) fn root() -> bool {
    let root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !root {
        eprintln!("SKIPPED: this test needs root, because only root's files are believed");
        let node = Node::with_policy("");
        let (error, salvage) = node.bad();
        assert!(error.contains("must be owned by root"), "{error}");
        assert_eq!(salvage.mode, Mode::Enforce);
    }
    root
}

pub(crate) fn make_fifo(path: &Path) {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::from_bits_truncate(0o644)).unwrap();
}

/// An error and its causes on one line, without the numbers of the system's errors.
pub(crate) fn line(error: &dyn Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        let text = cause.to_string();
        let words = text.split(" (os error ").next().unwrap_or_default().to_owned();
        // A transparent error says the same as its cause.
        if parts.last() != Some(&words) {
            parts.push(words);
        }
        next = cause.source();
    }
    parts.join(": ")
}
