//! What does an installer see of a node? Files, links, programs, and what programs print; it changes nothing.

use std::path::{Path, PathBuf};

use crate::files::{self, FileError};

/// The largest configuration file that is read, in bytes.
pub const LIMIT: u64 = 4 << 20;

/// Where programs lie, in the order in which they are looked for.
const FOLDERS: [&str; 8] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
    "/usr/libexec/crio",
    "/opt/containerd/bin",
];

/// A node, or the root file system of one. All paths are as the node itself sees them.
pub trait Node {
    /// A file's bytes; `None` where there is no such file.
    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, FileError>;
    /// The names in a folder, sorted; none where there is no such folder.
    fn list(&self, folder: &Path) -> Vec<String>;
    /// Where a symbolic link leads, word for word.
    fn link(&self, path: &Path) -> Option<PathBuf>;
    /// Whether this is a program.
    fn is_program(&self, path: &Path) -> bool;
    /// What a program prints, for a node that is running; `None` where it cannot be run (another root file system, no
    /// such program) or failed.
    fn output(&self, program: &Path, arguments: &[&str]) -> Option<String>;

    /// Whether this is a folder, at least one with something in it.
    fn is_folder(&self, path: &Path) -> bool {
        !self.list(path).is_empty()
    }

    /// Where a program lies, by its name.
    fn find(&self, name: &str) -> Option<PathBuf> {
        FOLDERS.iter().map(|folder| Path::new(folder).join(name)).find(|path| self.is_program(path))
    }
}

/// The node under a root directory.
#[derive(Clone, Debug)]
pub struct Live {
    root: PathBuf,
}

impl Live {
    /// The node whose `/` is at `root`.
    #[must_use]
    pub fn under(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Where a path of the node lies for this process.
    #[must_use]
    pub fn place(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }
}

impl Node for Live {
    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, FileError> {
        match files::read(&self.place(path), LIMIT) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list(&self, folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(self.place(folder)).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_unstable();
        names
    }

    fn is_folder(&self, path: &Path) -> bool {
        self.place(path).is_dir()
    }

    fn link(&self, path: &Path) -> Option<PathBuf> {
        std::fs::read_link(self.place(path)).ok()
    }

    fn is_program(&self, path: &Path) -> bool {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::metadata(self.place(path)).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    }

    fn output(&self, program: &Path, arguments: &[&str]) -> Option<String> {
        // A program of another root file system is not this machine's to run.
        if self.root != Path::new("/") {
            return None;
        }
        let done = std::process::Command::new(program)
            .args(arguments)
            .stdin(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .output()
            .ok()?;
        done.status.success().then(|| String::from_utf8(done.stdout).ok())?
    }
}

/// A node made of texts.
#[cfg(test)]
pub(crate) mod fake {
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};

    use super::Node;
    use crate::files::FileError;

    /// Files, links, programs and what they print; add to it with the public fields.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Fake {
        pub(crate) files: BTreeMap<PathBuf, Vec<u8>>,
        pub(crate) links: BTreeMap<PathBuf, PathBuf>,
        pub(crate) programs: Vec<PathBuf>,
        /// By command line, program's file name first: `containerd config dump`.
        pub(crate) outputs: BTreeMap<String, String>,
    }

    impl Fake {
        pub(crate) fn file(mut self, path: &str, text: &str) -> Self {
            self.files.insert(path.into(), text.into());
            self
        }

        pub(crate) fn program(mut self, path: &str) -> Self {
            self.programs.push(path.into());
            self
        }

        pub(crate) fn prints(mut self, command: &str, text: &str) -> Self {
            self.outputs.insert(command.to_owned(), text.to_owned());
            self
        }

        /// The node after a plan was carried out.
        pub(crate) fn after(
            mut self,
            engine: crate::pss::facts::Engine,
            plan: &crate::install::Plan,
        ) -> Self {
            for change in &plan.changes {
                assert_eq!(self.files.get(&change.path), change.before.as_ref(), "{}", change.path.display());
                self.files.insert(change.path.clone(), change.after.clone());
            }
            for entry in &plan.entries {
                let entry_path = crate::install::entry_path(engine, &entry.handler);
                self.links.insert(entry_path.with_file_name("runtime"), entry.runtime.clone());
                self.programs.push(entry_path);
            }
            self
        }
    }

    impl Node for Fake {
        fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, FileError> {
            Ok(self.files.get(path).cloned())
        }

        fn list(&self, folder: &Path) -> Vec<String> {
            let inside =
                self.files.keys().filter_map(|path| path.strip_prefix(folder).ok()?.iter().next()?.to_str());
            let mut names: Vec<String> = inside.map(str::to_owned).collect();
            names.dedup();
            names
        }

        fn link(&self, path: &Path) -> Option<PathBuf> {
            self.links.get(path).cloned()
        }

        fn is_program(&self, path: &Path) -> bool {
            self.programs.iter().any(|program| program == path)
        }

        fn output(&self, program: &Path, arguments: &[&str]) -> Option<String> {
            let name = program.file_name()?.to_str()?;
            let command: Vec<&str> = std::iter::once(name).chain(arguments.iter().copied()).collect();
            self.outputs.get(&command.join(" ")).cloned()
        }
    }
}
