//! A node as installers see it: files, links, programs, and what programs print. Read-only.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::run::run;
use crate::files::{self, FileError};
use crate::message::line;
use crate::paths::{PROGRAM_FOLDERS, namesakes};

/// The largest configuration file that is read, in bytes.
pub const LIMIT: u64 = 4 << 20;

/// How long a program is waited for that is asked something.
const PATIENCE: Duration = Duration::from_secs(30);

/// A node, or the root file system of one. All paths are as the node itself sees them.
pub trait Node {
    /// A file's bytes; `None` where there is no such file.
    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, FileError>;
    /// The names in a folder, sorted; none where there is no such folder. One that is not UTF-8 is [`shown`] so that
    /// whatever it is read for fails, and does not go without it.
    fn list(&self, folder: &Path) -> Vec<String>;
    /// Where a symbolic link leads, word for word.
    fn link(&self, path: &Path) -> Option<PathBuf>;
    /// Whether this is a program.
    fn is_program(&self, path: &Path) -> bool;
    /// What a program prints, for a node that is running; `None` where it cannot be run (another root file system, no
    /// such program) or failed.
    fn output(&self, program: &Path, arguments: &[&str]) -> Option<String>;

    /// What a program prints in a new folder with these files, by their names there. A program of another root directory is
    /// run as it is, if it runs here: it reads nothing but its arguments and these files.
    fn trial(
        &self,
        _program: &Path,
        _arguments: &[&str],
        _files: &[(String, Vec<u8>)],
    ) -> Result<String, Untried> {
        Err(Untried::NotHere("nothing can be run on this node".to_owned()))
    }

    /// Whether this is a folder, at least one with something in it.
    fn is_folder(&self, path: &Path) -> bool {
        !self.list(path).is_empty()
    }

    /// Where a program lies that was brought to one of these folders, and may be in another by now: the packages of runc
    /// do not agree on one. `path` itself as long as it is a program, or if there is none in its place.
    fn find_again(&self, path: PathBuf) -> PathBuf {
        if self.is_program(&path) {
            return path;
        }
        let found = namesakes(&path).find(|path| self.is_program(path));
        found.unwrap_or(path)
    }

    /// Where a program lies, by its name.
    fn find(&self, name: &str) -> Option<PathBuf> {
        PROGRAM_FOLDERS.iter().map(|folder| Path::new(folder).join(name)).find(|path| self.is_program(path))
    }
}

/// A name as text. What is not UTF-8 in it becomes NULs, which no name has: nothing can be opened by them.
#[must_use]
pub fn shown(name: &OsStr) -> String {
    let mut text = String::new();
    for chunk in name.as_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        // Go's patterns take each of these bytes for a letter.
        text.extend(chunk.invalid().iter().map(|_| '\0'));
    }
    text
}

/// Whether [`shown`] had to replace a part of a path's name.
fn is_unreadable(path: &Path) -> bool {
    path.as_os_str().as_bytes().contains(&0)
}

fn not_utf8(path: &Path) -> FileError {
    let source = std::io::Error::other("its name is not UTF-8; rename it");
    FileError::Open { path: path.to_string_lossy().replace('\0', "\u{fffd}").into(), source }
}

/// Why a program gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Untried {
    /// It does not run here: another machine's, or not there.
    NotHere(String),
    /// It ran and failed; the last line that it printed.
    Failed(String),
}

/// A folder that is removed with all that is in it.
struct Scratch(PathBuf);

impl Scratch {
    /// A new folder, where one can be made: an image from scratch has no `/tmp`, and every container a `/dev/shm`.
    fn new() -> std::io::Result<Self> {
        let places = [std::env::temp_dir(), "/run".into(), "/dev/shm".into()];
        let mut made = places.iter().map(|place| nix::unistd::mkdtemp(&place.join("pss-guard-XXXXXX")));
        made.find(Result::is_ok).unwrap_or(Err(nix::Error::ENOENT)).map(Self).map_err(Into::into)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is a few kilobytes in a folder that a boot clears.
        let _ = std::fs::remove_dir_all(&self.0);
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

    /// Where the node's `/` is.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether this is the running node, and not a file system that will be one.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Where a path of the node lies for this process, through the node's own symbolic links: `/` in a link is the
    /// node's, not this machine's. What is not there yet stays as it is named.
    #[must_use]
    pub fn place(&self, path: &Path) -> PathBuf {
        let mut todo: Vec<OsString> = path.iter().rev().map(Into::into).collect();
        // From the node's root.
        let mut inside = PathBuf::new();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            match Path::new(&part).components().next() {
                None | Some(Component::CurDir) => {}
                Some(Component::RootDir | Component::Prefix(_)) => inside.clear(),
                Some(Component::ParentDir) => {
                    inside.pop();
                }
                Some(Component::Normal(name)) => match std::fs::read_link(self.root.join(&inside).join(name))
                {
                    // As many as the kernel follows.
                    Ok(target) if links < 40 => {
                        links += 1;
                        todo.extend(target.iter().rev().map(OsString::from));
                    }
                    _ => inside.push(name),
                },
            }
        }
        self.root.join(inside)
    }
}

impl Node for Live {
    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, FileError> {
        if is_unreadable(path) {
            return Err(not_utf8(path));
        }
        match files::read(&self.place(path), LIMIT) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list(&self, folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(self.place(folder)).into_iter().flatten().flatten();
        let mut names: Vec<OsString> = entries.map(|entry| entry.file_name()).collect();
        names.sort_unstable();
        names.iter().map(|name| shown(name)).collect()
    }

    fn is_folder(&self, path: &Path) -> bool {
        self.place(path).is_dir()
    }

    fn link(&self, path: &Path) -> Option<PathBuf> {
        // The folder through links, the last part not.
        let (folder, name) = (path.parent()?, path.file_name()?);
        std::fs::read_link(self.place(folder).join(name)).ok()
    }

    fn is_program(&self, path: &Path) -> bool {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::metadata(self.place(path)).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    }

    fn output(&self, program: &Path, arguments: &[&str]) -> Option<String> {
        // A program of another root file system is not this machine's to run.
        if !self.is_running() {
            return None;
        }
        let done = run(Command::new(program).args(arguments), PATIENCE).ok()?;
        // What is no text is no answer.
        (done.ok && !done.stdout.contains(char::REPLACEMENT_CHARACTER)).then_some(done.stdout)
    }

    fn trial(
        &self,
        program: &Path,
        arguments: &[&str],
        files: &[(String, Vec<u8>)],
    ) -> Result<String, Untried> {
        let not_here = |error: &(dyn std::error::Error + 'static)| Untried::NotHere(line(error));
        let folder = Scratch::new().map_err(|error| not_here(&error))?;
        for (name, bytes) in files {
            std::fs::write(folder.0.join(name), bytes).map_err(|error| not_here(&error))?;
        }
        let program = std::path::absolute(self.place(program)).map_err(|error| not_here(&error))?;
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&folder.0);
        let done = run(&mut command, PATIENCE).map_err(|error| not_here(&error))?;
        if !done.ok {
            let last = done.stderr.lines().rfind(|line| !line.trim().is_empty());
            return Err(Untried::Failed(last.map_or(done.how, |last| last.chars().take(500).collect())));
        }
        if done.stdout.contains(char::REPLACEMENT_CHARACTER) {
            return Err(Untried::NotHere("what it prints is not text".to_owned()));
        }
        Ok(done.stdout)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::{Live, Node as _};

    #[test]
    fn a_link_of_another_root_does_not_lead_out_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir_all(root.join("etc/real")).unwrap();
        symlink("/etc/real", root.join("etc/absolute")).unwrap();
        symlink("../../../../../../../etc/real", root.join("etc/relative")).unwrap();
        symlink("loop", root.join("etc/loop")).unwrap();
        let node = Live::under(root);
        for (path, place) in [
            ("/etc/absolute/x", "etc/real/x"),
            ("/etc/relative/x", "etc/real/x"),
            ("/etc/../../../etc/real", "etc/real"),
            ("/etc/nothing/x", "etc/nothing/x"),
            ("/etc/loop", "etc/loop"),
        ] {
            assert_eq!(node.place(Path::new(path)), root.join(place), "{path}");
        }
        assert_eq!(node.link(Path::new("/etc/absolute")), Some("/etc/real".into()));
        assert_eq!(node.output(Path::new("/bin/sh"), &["-c", "echo x"]), None, "another machine's");
        assert_eq!(Live::under(Path::new("/")).place(Path::new("/proc/1")), Path::new("/proc/1"));
    }

    #[test]
    fn a_name_that_is_not_utf_8_is_listed_and_cannot_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let node = Live::under(dir.path());
        for name in [&b"b"[..], b"z\xff.conf", b"a\xe2\x82.conf"] {
            std::fs::write(dir.path().join(std::ffi::OsStr::from_bytes(name)), "x").unwrap();
        }
        let names = node.list(Path::new("/"));
        assert_eq!(names, ["a\0\0.conf", "b", "z\0.conf"], "in the order of their bytes");
        for (name, expected) in names.iter().zip([Err(()), Ok(Some(b"x".to_vec())), Err(())]) {
            let read = node.read(&Path::new("/").join(name));
            assert!(!read.as_ref().is_err_and(crate::files::FileError::is_missing), "{name:?}");
            assert_eq!(read.map_err(drop), expected, "{name:?}");
        }
        let error = node.read(Path::new("/z\0.conf")).unwrap_err();
        assert_eq!(crate::message::line(&error), "open /z\u{fffd}.conf: its name is not UTF-8; rename it");
    }

    #[test]
    fn only_a_whole_answer_is_one() {
        let node = Live::under(Path::new("/"));
        for (script, expected) in [
            ("echo v1; echo no >&2", Some("v1\n")),
            ("echo v1; exit 1", None),
            ("printf 'v\\377'", None),
            ("while :; do echo v1; done", None),
        ] {
            assert_eq!(node.output(Path::new("/bin/sh"), &["-c", script]).as_deref(), expected, "{script}");
        }
        assert_eq!(node.output(Path::new("/nothing/here"), &[]), None);
    }
}

/// A node made of texts.
#[cfg(test)]
pub(crate) mod fake {
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};

    use super::{Node, Untried};
    use crate::files::FileError;

    /// Files, links, programs and what they print; add to it with the public fields.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Fake {
        pub(crate) files: BTreeMap<PathBuf, Vec<u8>>,
        pub(crate) links: BTreeMap<PathBuf, PathBuf>,
        pub(crate) programs: Vec<PathBuf>,
        /// By command line, program's file name first: `containerd config dump`.
        pub(crate) outputs: BTreeMap<String, String>,
        /// What a program makes of files.
        pub(crate) tries: Option<Tries>,
    }

    /// See [`Node::trial`].
    pub(crate) type Tries = fn(&[(String, Vec<u8>)]) -> Result<String, Untried>;

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
            match self.files.get(path).cloned() {
                None if super::is_unreadable(path) => Err(super::not_utf8(path)),
                found => Ok(found),
            }
        }

        fn list(&self, folder: &Path) -> Vec<String> {
            let inside = self.files.keys().filter_map(|path| path.strip_prefix(folder).ok()?.iter().next());
            let mut names: Vec<String> = inside.map(super::shown).collect();
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

        fn trial(
            &self,
            program: &Path,
            arguments: &[&str],
            files: &[(String, Vec<u8>)],
        ) -> Result<String, Untried> {
            let not_here = || Untried::NotHere("a node of texts".to_owned());
            match self.tries.filter(|_| !files.is_empty()) {
                Some(tries) => tries(files),
                None => self.output(program, arguments).ok_or_else(not_here),
            }
        }
    }
}
