//! Evaluates a process or a mount that joins a running container; a process only by what it has beyond the container's own.
//!
//! | what changes a container    | the gate's response                                                            |
//! |-----------------------------|--------------------------------------------------------------------------------|
//! | `exec`                      | evaluated at the container's level                                             |
//! | `mounts add`, `remove`      | crun 1.22 (`src/mounts.c`): refused above privileged. It binds any path of the host, and takes masks away |
//! | `update`                    | passed: limits, of which no level speaks. crun and youki also take rules for devices, which no CRI can ask for |
//! | `start`, `kill`, `pause`, `resume`, `checkpoint`, `delete` | passed: nothing comes into the container        |
//!
//! A container that the runtime does not know is left to the runtime, which reports the error. The gate looks in the `--root`
//! of the command line, or in the runtime's default; a script behind the gate that gives its runtime another `--root` hides
//! its containers from the gate.
//!
//! A probe is an exec, too: a container that is older than the gate, or than the level, must not lose its probes. So a
//! process that asks for nothing which the container does not have is never refused; that its container would not start today is
//! logged once.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File, remove_file};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::{argv, process_file};
use crate::admit::{Gate, Invocation, Response};
use crate::inspect::evaluate;
use crate::inspect::spec::{CapabilitySets, Process, Text, User};
use crate::inspect::{self, FactsError};
use pss::capabilities::CapabilitySet;
use pss_guard_core::files::{self, FileError, LIMIT};
use pss_guard_core::paths::Paths;
use pss_guard_core::runtime_state::{self, Maker, State, StateError};

/// Why a process cannot be evaluated.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExecError {
    #[error("exec: {} is not the only state of container {id:?}", .folder.display())]
    Two { folder: PathBuf, id: String },
    #[error("exec")]
    State(#[from] StateError),
    #[error(
        "mounts: mounts into a running container cannot be judged; put the mount into the pod, or the pod \
         into a privileged namespace"
    )]
    Mounts,
    #[error("exec: parse {} as an OCI process", .path.display())]
    Process { path: PathBuf, source: serde_json::Error },
    #[error("exec: the user {0:?} is not a number")]
    User(String),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Facts(#[from] FactsError),
}

/// Evaluates a process that is to join a container. `hand_on` gets the path of the process's description where the runtime
/// must not read the one that was given.
pub(super) fn admit(
    gate: &Gate,
    paths: &Paths,
    caller: &Invocation<'_>,
    asked: &argv::Exec<'_>,
    hand_on: impl FnOnce(OsString),
) -> Response {
    admit_exec(gate, paths, caller, asked, hand_on).unwrap_or_else(|err| gate.fault(None, &err))
}

/// Evaluates a change to the mounts of a container.
pub(super) fn admit_mounts(
    gate: &Gate,
    caller: &Invocation<'_>,
    root: Option<&OsStr>,
    id: &OsStr,
) -> Response {
    let asks_nothing = || {
        let Some(State { bundle, .. }) = find(root, id)? else { return Ok(true) };
        let path = bundle.join("config.json");
        let bytes = files::read(&path, LIMIT)?;
        Ok::<bool, ExecError>(gate.asks_nothing(caller, &path, &inspect::parse(&path, &bytes)?))
    };
    match asks_nothing() {
        Ok(true) => Response::Allow,
        Ok(false) => gate.fault(None, &ExecError::Mounts),
        Err(err) => gate.fault(None, &err),
    }
}

fn admit_exec(
    gate: &Gate,
    paths: &Paths,
    caller: &Invocation<'_>,
    asked: &argv::Exec<'_>,
    hand_on: impl FnOnce(OsString),
) -> Result<Response, ExecError> {
    let Some(State { maker, bundle }) = find(asked.root, asked.id)? else { return Ok(Response::Allow) };
    let path = bundle.join("config.json");
    let config = files::read(&path, LIMIT).map(|bytes| (path.clone(), bytes));
    let Ok((_, bytes)) = &config else {
        // The same words as for a container.
        return Ok(gate.admit(caller, &config, None));
    };
    let spec = inspect::parse(&path, bytes)?;
    if gate.asks_nothing(caller, &path, &spec) {
        return Ok(Response::Allow);
    }
    let (_, own) = inspect::of_linux(&spec, &path)?;
    let file = asked.process.map(|file| match maker {
        // crun's `read_all_file` (`src/libcrun/utils.c`).
        Maker::Crun if file == "-" => Path::new("/dev/stdin"),
        _ => Path::new(file),
    });
    let file = file.map(|file| Ok((file, process_file::read(file, hand_on)?)));
    let file = file.transpose().map_err(ExecError::File)?;
    let process = match &file {
        Some((path, bytes)) => parse(path, bytes)?,
        None => by_options(own, asked, maker)?,
    };
    let exec = beyond(own, &process);
    if !exec.controls.is_empty()
        && let refused @ Response::Deny { .. } = gate.admit(caller, &config, Some(&exec))
    {
        return Ok(refused);
    }
    let said = one_component(asked.id).map(|id| paths.said_of(id));
    if !said.as_ref().is_some_and(|said| said.exists()) {
        let is_first = || said.is_none_or(|said| is_first(&said));
        gate.audit_exec_target(caller, &config, is_first);
    }
    Ok(Response::Allow)
}

/// Forgets what was said of a container that goes away.
pub(super) fn forget(paths: &Paths, id: &OsStr) {
    if let Some(id) = one_component(id) {
        let _ = remove_file(paths.said_of(id));
    }
}

/// Whether nobody has said it yet. Where that cannot be remembered, it is said again.
fn is_first(marker: &Path) -> bool {
    let create = || File::create_new(marker);
    let created = create().or_else(|err| match (err.kind(), marker.parent()) {
        (ErrorKind::NotFound, Some(folder)) => {
            DirBuilder::new().recursive(true).mode(0o755).create(folder).and_then(|()| create())
        }
        _ => Err(err),
    });
    !matches!(created, Err(err) if err.kind() == ErrorKind::AlreadyExists)
}

/// An id that can stand for one component of a path.
fn one_component(id: &OsStr) -> Option<&str> {
    id.to_str().filter(|id| !matches!(*id, "" | "." | "..") && !id.contains('/'))
}

/// What a runtime keeps of the container; `None` where there is no such container.
fn find(root: Option<&OsStr>, id: &OsStr) -> Result<Option<State>, ExecError> {
    let default = || default_roots(std::env::var_os("XDG_RUNTIME_DIR"));
    let roots = root.map_or_else(default, |root| vec![root.into()]);
    let mut found: Option<State> = None;
    for root in roots {
        // Joined as runtimes do it, whatever is in the id.
        let folder = PathBuf::from([root.as_os_str(), id].join(OsStr::new("/")));
        let state = match runtime_state::read(&folder) {
            Ok(state) => state,
            // Of a name that is too long for a folder there is none.
            Err(StateError::File(FileError::Open { source, .. }))
                if matches!(source.kind(), ErrorKind::InvalidFilename | ErrorKind::NotADirectory) =>
            {
                None
            }
            Err(err) => return Err(err.into()),
        };
        let Some(state) = state else { continue };
        if found.as_ref().is_some_and(|found| *found != state) {
            return Err(ExecError::Two { folder, id: id.to_string_lossy().into_owned() });
        }
        found = Some(state);
    }
    Ok(found)
}

/// Where runtimes keep their state if nobody says where. All of them, because which one is called is not known.
fn default_roots(own: Option<OsString>) -> Vec<PathBuf> {
    let own = own.filter(|directory| !directory.is_empty());
    let directories = own.map(PathBuf::from).into_iter().chain(["/run".into()]);
    directories.flat_map(|directory| ["runc", "crun", "youki"].map(|name| directory.join(name))).collect()
}

fn parse<'a>(path: &Path, bytes: &'a [u8]) -> Result<Process<'a>, ExecError> {
    serde_json::from_slice(bytes).map_err(|source| ExecError::Process { path: path.to_owned(), source })
}

/// The process that options describe. What they leave out is the container's own, but where a runtime forgets it: youki
/// the user (`tenant_builder.rs`), crun `no_new_privs` (`src/exec.c`).
fn by_options<'a>(own: &Process<'a>, asked: &argv::Exec<'a>, maker: Maker) -> Result<Process<'a>, ExecError> {
    let mut process = own.clone();
    let user = asked.user.filter(|user| !user.is_empty());
    if user.is_some() || maker == Maker::Youki {
        let uid = user.map_or(Ok(0), uid)?;
        process.user = Some(User { uid: Some(uid), ..User::default() });
    }
    match (asked.no_new_privileges, maker) {
        (Some(on), _) => process.no_new_privileges = Some(on),
        (None, Maker::Crun) => process.no_new_privileges = Some(false),
        (None, Maker::Runc | Maker::Youki) => {}
    }
    let text = |value: &OsStr| Text(Cow::Owned(value.to_string_lossy().into_owned()));
    let mut sets = process.capabilities.take().unwrap_or_default();
    let added = asked.capabilities.iter().flat_map(|names| names.as_bytes().split(|byte| *byte == b','));
    sets.bounding.get_or_insert_default().extend(added.map(|name| text(OsStr::from_bytes(name))));
    process.capabilities = Some(sets);
    if let Some(profile) = asked.apparmor {
        process.apparmor_profile = Some(text(profile));
    }
    if let Some(label) = asked.label {
        process.selinux_label = Some(text(label));
    }
    Ok(process)
}

/// The number in `UID[:GID]`, as runc turns it into 32 bits.
fn uid(user: &OsStr) -> Result<u32, ExecError> {
    let text = user.to_string_lossy();
    let number = text.split(':').next().unwrap_or_default().trim().parse::<i64>();
    let number = number.map_err(|_| ExecError::User(text.to_string()))?;
    // The lower half, as Go's conversion keeps it.
    let [_, _, _, _, low @ ..] = number.to_be_bytes();
    Ok(u32::from_be_bytes(low))
}

/// What a process has that the container's own has not, and the controls that speak of it.
fn beyond<'a>(own: &Process<'a>, process: &Process<'a>) -> evaluate::Exec<'a> {
    let mut exec = evaluate::Exec { process: Process::default(), controls: Vec::new() };
    let root = |process: &Process<'_>| {
        matches!(process.user.as_ref().and_then(|user| user.uid).unwrap_or(0), 0 | u32::MAX)
    };
    exec.process.user.clone_from(&process.user);
    if root(process) && !root(own) {
        exec.controls.extend(["runAsNonRoot", "runAsUser"]);
    }
    exec.process.no_new_privileges = process.no_new_privileges;
    if own.no_new_privileges == Some(true) && process.no_new_privileges != Some(true) {
        exec.controls.push("allowPrivilegeEscalation");
    }
    // Without any, runtimes give the container's.
    let set = |process: &'_ Process<'a>| -> Vec<Text<'a>> {
        process.capabilities.as_ref().map(CapabilitySets::names).unwrap_or_default()
    };
    let (had, has) = (set(own), set(process));
    let had = CapabilitySet::of(&had.iter().map(Text::as_str).collect::<Vec<_>>());
    let new = |name: &Text<'_>| !CapabilitySet::of(&[name.as_str()]).without(&had).is_empty();
    let added: Vec<Text<'a>> = has.into_iter().filter(new).collect();
    if !added.is_empty() {
        exec.controls.extend(["capabilities_baseline", "capabilities_restricted", "privileged"]);
        exec.process.capabilities = Some(CapabilitySets { bounding: Some(added), ..Default::default() });
    }
    let other = |own: &Option<Text<'a>>, asked: &Option<Text<'a>>| {
        asked.clone().filter(|asked| !asked.as_str().is_empty() && Some(asked) != own.as_ref())
    };
    exec.process.apparmor_profile = other(&own.apparmor_profile, &process.apparmor_profile);
    if exec.process.apparmor_profile.is_some() {
        exec.controls.push("appArmorProfile");
    }
    exec.process.selinux_label = other(&own.selinux_label, &process.selinux_label);
    if exec.process.selinux_label.is_some() {
        exec.controls.push("seLinuxOptions");
    }
    exec
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::path::Path;

    use super::{Maker, argv, beyond, by_options, default_roots, find, is_first, one_component, parse};
    use crate::inspect::spec::Process;

    const OWN: &str = r#"{"user": {"uid": 1000}, "noNewPrivileges": true, "apparmorProfile": "own",
        "selinuxLabel": "u:r:own_t:s0", "capabilities": {"bounding": ["CAP_CHOWN", "CAP_KILL"]}}"#;
    const ROOT: &[&str] = &["runAsNonRoot", "runAsUser"];
    const ESCALATES: &[&str] = &["allowPrivilegeEscalation"];
    const CAPABILITIES: &[&str] = &["capabilities_baseline", "capabilities_restricted", "privileged"];

    fn process(text: &str) -> Process<'_> {
        parse(Path::new("process.json"), text.as_bytes()).unwrap()
    }

    #[test]
    fn only_what_the_container_has_not_is_beyond_it() {
        let other = OWN.replace("own", "other");
        let rows: [(&str, &str, &[&str]); 6] = [
            (OWN, OWN, &[]),
            ("{}", "{}", &[]),
            (OWN, "{}", &[ROOT, ESCALATES].concat()),
            (OWN, &other, &["appArmorProfile", "seLinuxOptions"]),
            (OWN, &OWN.replace("\"own\"", "\"\"").replace("u:r:own_t:s0", ""), &[]),
            (OWN, &OWN.replace("KILL", "SYS_TIME"), CAPABILITIES),
        ];
        for (own, asked, expected) in rows {
            assert_eq!(beyond(&process(own), &process(asked)).controls, expected, "{asked}");
        }
    }

    #[test]
    fn what_options_leave_out_is_the_containers_own() {
        let rows: [(Maker, &str, &[&str]); 10] = [
            (Maker::Runc, "exec id", &[]),
            (Maker::Runc, "exec --apparmor own --process-label u:r:own_t:s0 id", &[]),
            (Maker::Runc, "exec --apparmor unconfined id", &["appArmorProfile"]),
            (Maker::Runc, "exec --process-label u:r:spc_t:s0 id", &["seLinuxOptions"]),
            (Maker::Runc, "exec --cap CAP_CHOWN,CAP_KILL id", &[]),
            (Maker::Runc, "exec --cap CAP_CHOWN,CAP_SYS_TIME id", CAPABILITIES),
            (Maker::Crun, "exec id", ESCALATES),
            (Maker::Crun, "exec --no-new-privs id", &[]),
            (Maker::Youki, "exec id", ROOT),
            (Maker::Youki, "exec --user 1000 id", &[]),
        ];
        for (maker, line, expected) in rows {
            let words: Vec<&OsStr> = line.split(' ').map(OsStr::new).collect();
            let Ok(argv::Act::Exec(asked)) = argv::read(&words).act else { panic!("{line}") };
            let own = process(OWN);
            let process = by_options(&own, &asked, maker).unwrap();
            assert_eq!(beyond(&own, &process).controls, expected, "{maker:?}: {line}");
        }
    }

    #[test]
    fn a_container_is_looked_for_where_the_runtime_would() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("runc");
        fs::create_dir_all(root.join("id")).unwrap();
        fs::write(root.join("id/status"), r#"{"bundle": "/b"}"#).unwrap();
        fs::write(root.join("file"), "").unwrap();
        let find = |id: &str| find(Some(root.as_os_str()), OsStr::new(id));
        // Some cruns take the last ones for names of it, too.
        for id in ["id", "../runc/id", "./id", "id/", "/id"] {
            assert!(find(id).unwrap().is_some_and(|state| state.maker == Maker::Crun), "{id}");
        }
        for id in ["", ".", "..", "x", "/id/x", "file", "../x", &"x".repeat(300)] {
            assert_eq!(find(id).unwrap(), None, "{id}");
        }
        // What is empty would be the working directory, which the caller chooses.
        for (own, expected) in [(Some("/x"), "/x/runc /x/crun /x/youki "), (Some(""), ""), (None, "")] {
            let roots = default_roots(own.map(Into::into));
            let roots: Vec<&str> = roots.iter().filter_map(|root| root.to_str()).collect();
            assert_eq!(roots.join(" "), format!("{expected}/run/runc /run/crun /run/youki"));
        }
        for id in ["", ".", "..", "a/b"] {
            assert_eq!(one_component(OsStr::new(id)), None, "{id}");
        }
    }

    #[test]
    fn what_cannot_be_remembered_is_said_again() {
        let folder = tempfile::tempdir().unwrap();
        let marker = folder.path().join("a/b");
        assert_eq!([is_first(&marker), is_first(&marker)], [true, false]);
        assert!(is_first(Path::new("/proc/nothing/b")));
    }
}
