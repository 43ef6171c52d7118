//! Reads from the path that the wrapper was called by: the engine, the handler, the real runtime, and the root of the
//! product's files.
//!
//! An engine calls `/var/lib/pss-guard/runtimes/<engine>/<handler>/pss-guard-runtime`; beside that, the link `runtime`
//! leads to the real one.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use pss::facts::Engine;
use pss_guard_core::level::Policy;
use pss_guard_core::level::cache::load;
use pss_guard_core::paths::Paths;
use pss_guard_core::paths::namesakes;

/// Where engines call the wrapper, below the root.
const RUNTIMES: &str = "var/lib/pss-guard/runtimes";

/// Where a runtime is looked for when nobody says which.
const USUAL: [&str; 6] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"];

/// The way in which the wrapper was called.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The root of the product's files.
    pub(super) root: PathBuf,
    /// The engine that calls; unknown where a person does.
    pub(super) engine: Option<Engine>,
    /// The engine's name for this runtime.
    pub(super) handler: Option<String>,
    /// The link to the real runtime.
    link: Option<PathBuf>,
}

/// Device and inode: whose file it is, by whatever name.
type Identity = (u64, u64);

/// Why there is nothing to hand over to.
#[derive(Debug, thiserror::Error)]
pub(super) enum RuntimeError {
    #[error("read the link {} to the real runtime; `pss-guard install` makes it", .link.display())]
    Link { link: PathBuf, source: io::Error },
    #[error("the real runtime of {} would be pss-guard itself ({}); let `runtime` beside it lead to runc, crun or youki",
        .called.display(), .runtime.display())]
    Itself { called: PathBuf, runtime: PathBuf },
    #[error(
        "find a runtime: there is no runc, crun or youki in the usual directories; set `[runtime] path` in the policy"
    )]
    None,
}

impl Entry {
    /// Reads the path that the program was called by.
    pub(super) fn of(called: &OsStr) -> Self {
        let path = if called.as_bytes().contains(&b'/') {
            PathBuf::from(called)
        } else {
            in_path(called, std::env::var_os("PATH").as_deref()).unwrap_or_else(|| called.into())
        };
        Self::at(&path).or_else(|| Self::at(&absolute(&path)?)).unwrap_or_else(|| Self {
            root: "/".into(),
            engine: None,
            handler: None,
            link: None,
        })
    }

    fn at(path: &Path) -> Option<Self> {
        if !path.is_absolute() {
            return None;
        }
        let directory = path.parent()?;
        let handler = directory.file_name()?.to_str()?;
        let of_engine = directory.parent()?;
        let name = of_engine.file_name()?.to_str()?;
        let engine = Engine::ALL.into_iter().find(|engine| engine.name() == name)?;
        let runtimes = of_engine.parent()?;
        let root = runtimes.ends_with(RUNTIMES).then(|| runtimes.ancestors().nth(4))??;
        Some(Self {
            root: root.to_owned(),
            engine: Some(engine),
            handler: Some(handler.to_owned()),
            link: Some(directory.join("runtime")),
        })
    }

    /// The real runtime, by the path that it is to be called by: some runtimes look at their own name.
    pub(super) fn runtime(&self) -> Result<PathBuf, RuntimeError> {
        let Some(link) = &self.link else { return self.usual_runtime() };
        let target =
            fs::read_link(link).map_err(|source| RuntimeError::Link { link: link.clone(), source })?;
        let runtime = link.parent().map_or_else(|| target.clone(), |directory| directory.join(&target));
        match fs::metadata(&runtime) {
            // By the path that was called: /proc/self/exe takes as long as all else here. Should that path lead to another gate by
            // now, the marks of a chain end it.
            Ok(meta) if identity(&link.with_file_name(super::NAME)).or_else(own) == Some(of(&meta)) => {
                Err(RuntimeError::Itself { called: link.with_file_name(super::NAME), runtime })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(stand_in(&runtime).unwrap_or(runtime))
            }
            _ => Ok(runtime),
        }
    }

    /// What the policy names, or what there is.
    fn usual_runtime(&self) -> Result<PathBuf, RuntimeError> {
        let default = Policy::default().runtime;
        if let Ok(policy) = load(&Paths::under(&self.root)).policy()
            && policy.runtime != default
        {
            let runtime = PathBuf::from(&policy.runtime.path);
            if is_this_program(&runtime) {
                return Err(RuntimeError::Itself { called: super::NAME.into(), runtime });
            }
            return Ok(runtime);
        }
        let names = ["runc", "crun", "youki"].into_iter();
        let mut places = names.flat_map(|name| USUAL.map(|directory| Path::new(directory).join(name)));
        places.find(|path| is_executable(path) && !is_this_program(path)).ok_or(RuntimeError::None)
    }
}

/// The path without `.`, `..` and links on the way to the program. The program's own link is left: what it leads to is the
/// same for every entry.
fn absolute(path: &Path) -> Option<PathBuf> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    Some(fs::canonicalize(directory.unwrap_or(Path::new("."))).ok()?.join(path.file_name()?))
}

/// What to call in place of a runtime that a package brought and that is gone: the one of its name in another folder of
/// programs. Without the gate an engine finds it there, because it looks for runc by name; with the gate no container of the
/// node would start, the system's neither.
fn stand_in(runtime: &Path) -> Option<PathBuf> {
    namesakes(runtime).find(|path| is_executable(path) && !is_this_program(path))
}

/// Where execvp(3) found the program.
fn in_path(name: &OsStr, path: Option<&OsStr>) -> Option<PathBuf> {
    std::env::split_paths(path?).map(|directory| directory.join(name)).find(|file| is_executable(file))
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Whether a path leads to the very file that is running, by whatever name.
fn is_this_program(path: &Path) -> bool {
    identity(path).is_some_and(|theirs| own() == Some(theirs))
}

/// The file that is running.
fn own() -> Option<Identity> {
    identity(Path::new("/proc/self/exe"))
}

fn identity(path: &Path) -> Option<Identity> {
    fs::metadata(path).ok().map(|meta| of(&meta))
}

fn of(meta: &fs::Metadata) -> Identity {
    (meta.dev(), meta.ino())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use super::{Entry, in_path};
    use pss::facts::Engine;

    #[test]
    fn the_path_tells_the_engine_the_handler_and_the_root() {
        let rows = [
            (
                "/var/lib/pss-guard/runtimes/containerd/runc/pss-guard-runtime",
                Some(("/", Engine::Containerd, "runc")),
            ),
            (
                "/mnt/x/var/lib/pss-guard/runtimes/cri-o/crun/pss-guard-runtime",
                Some(("/mnt/x", Engine::CriO, "crun")),
            ),
            ("/var/lib/pss-guard/runtimes/podman/a.b/pss-guard-runtime", Some(("/", Engine::Podman, "a.b"))),
            ("var/lib/pss-guard/runtimes/docker/runc/pss-guard-runtime", None),
            ("/var/lib/pss-guard/runtimes/crio/runc/pss-guard-runtime", None),
            ("/var/lib/pss-guard/runtimes/runc/pss-guard-runtime", None),
            ("/usr/local/sbin/pss-guard-runtime", None),
            ("/lib/pss-guard/runtimes/containerd/runc/pss-guard-runtime", None),
            ("/pss-guard-runtime", None),
        ];
        for (path, expected) in rows {
            let entry = Entry::of(OsStr::new(path));
            let (root, engine, handler) = match expected {
                Some((root, engine, handler)) => (root, Some(engine), Some(handler.to_owned())),
                None => ("/", None, None),
            };
            assert_eq!(
                (entry.root, entry.engine, entry.handler),
                (PathBuf::from(root), engine, handler),
                "{path}"
            );
        }
    }

    #[test]
    fn a_name_alone_is_looked_for_as_execvp_does() {
        let dir = tempfile::tempdir().unwrap();
        let place = |name: &str, mode: u32| {
            let file = dir.path().join(name).join("pss-guard-runtime");
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, "").unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            file
        };
        let (plain, program) = (place("a", 0o644), place("b", 0o755));
        let path = std::env::join_paths([plain.parent().unwrap(), program.parent().unwrap()]).unwrap();
        assert_eq!(in_path(OsStr::new("pss-guard-runtime"), Some(&path)), Some(program));
        assert_eq!(in_path(OsStr::new("pss-guard-runtime"), None), None);
    }
}
