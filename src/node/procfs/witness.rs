//! Asks whether what `/proc` shows is all of the node's processes. In a container some of it is kept from a process that is
//! root there, and `/proc` may be that of a PID namespace of its own: an engine would be missed, and taken for one that does
//! not run.

use std::io::ErrorKind;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use super::Processes;
use super::node::Root;
use crate::files;

/// Engines that listen on a socket of their own, which no service manager holds open for them.
const ENGINES: [(&str, &[&str]); 4] = [
    ("/run/containerd/containerd.sock", &["containerd"]),
    ("/run/k3s/containerd/containerd.sock", &["containerd"]),
    ("/run/k0s/containerd.sock", &["containerd"]),
    ("/run/crio/crio.sock", &["crio"]),
];

/// Why the programs of processes cannot be read: the kernel asks for `PTRACE_MODE_READ` (`fs/proc/base.c`, proc_pid_get_link).
/// The first process has what any process of the node has. Where it alone is kept from root, as by the supervisor of a sandboxed
/// machine, all others are seen.
pub(super) fn unreadable(proc: &Path) -> Option<String> {
    let program = proc.join("1/exe");
    let error = std::fs::read_link(&program).err()?;
    let missing = match error.kind() {
        ErrorKind::PermissionDenied if !others_are_kept(proc) => return None,
        ErrorKind::PermissionDenied => {
            "this takes CAP_SYS_PTRACE in the node's user namespace, and no AppArmor profile or SELinux type of a container"
        }
        ErrorKind::NotFound if proc.join("1").exists() => return None,
        _ => "is /proc the node's, and not mounted with hidepid?",
    };
    Some(format!("the node's processes cannot be read ({}: {error}); {missing}", program.display()))
}

/// Whether the program of any process but the first is kept from this one.
fn others_are_kept(proc: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(proc) else { return true };
    let own = std::process::id().to_string();
    let mut others = 0;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_other = name.to_str().is_some_and(|name| name != "1" && name.parse::<u32>().is_ok());
        if !is_other {
            continue;
        }
        match std::fs::read_link(entry.path().join("exe")) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return true,
            // Threads of the kernel have none.
            Err(_) => {}
            Ok(_) if name.to_str() == Some(&own) => {}
            Ok(_) => others += 1,
        }
    }
    // Nothing but this program: nothing shows that others could be read.
    others == 0
}

/// Why the processes are those of a container on this node.
pub(super) fn of_others(processes: &Processes, proc: &Path) -> Option<String> {
    const OTHERS: &str = "so /proc is that of another PID namespace; use the node's";
    // sd_booted(3), and systemd's name for itself (`src/core/main.c`, rename_process).
    let first = files::head(&proc.join("1/comm"), 64).unwrap_or_default();
    let first = String::from_utf8_lossy(&first);
    if first.trim_end() != "systemd" && Path::new("/run/systemd/system").is_dir() {
        return Some(format!(
            "systemd has started this node, and process 1 is {:?}, {OTHERS}",
            first.trim_end()
        ));
    }
    if let Some(root) = Root::of(&proc.join("1"))
        && processes.own_root().is_some_and(|own| *own != root)
    {
        return Some(
            "process 1 has another root directory, so this is a container that sees the node's processes; run it on the node"
                .to_owned(),
        );
    }
    let is_unseen =
        |names: &[&str]| processes.running(names).is_empty() && processes.in_containers(names).is_empty();
    let (socket, names) = ENGINES.into_iter().find(|(socket, names)| answers(socket) && is_unseen(names))?;
    Some(format!("{} answers at {socket}, and no such process is seen, {OTHERS}", names.join(", ")))
}

/// Whether somebody listens there. Nobody is waited for.
fn answers(path: &str) -> bool {
    use std::os::fd::AsRawFd as _;
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let Ok(socket) = socket(AddressFamily::Unix, SockType::Stream, flags, None) else { return false };
    let Ok(address) = UnixAddr::new(path) else { return false };
    matches!(connect(socket.as_raw_fd(), &address), Ok(()) | Err(Errno::EAGAIN))
}
