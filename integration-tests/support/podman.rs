//! Containers of podman and docker, which belong to no pod.

use crate::support::cases::{
    DROP_ALL, DROP_ALL_SYS_TIME, ESCALATION, HOST_IPC, HOST_NETWORK, HOST_PATH, NON_ROOT, PRIVILEGED,
    RESTRICTED_VOLUME, ROOT_FS, SYS_TIME, Said,
};
use crate::support::image;
use crate::support::machine::Machine;

/// A container by podman's options, and the violations that must be named at each level.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) options: &'static [&'static str],
    pub(crate) baseline: &'static [Said],
    pub(crate) restricted: &'static [Said],
}

/// One row a container.
pub(crate) fn cases() -> [Case; 7] {
    let case = |name, options, baseline, restricted| Case { name, options, baseline, restricted };
    [
        case("nothing set", &[], &[], &[ESCALATION, DROP_ALL, NON_ROOT, ROOT_FS]),
        case(
            "everything set",
            &["--user=1000", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--read-only"],
            &[],
            &[],
        ),
        case("privileged", &["--privileged"], &[PRIVILEGED], &[PRIVILEGED, ESCALATION, NON_ROOT, ROOT_FS]),
        case(
            "adds SYS_TIME",
            &["--cap-add=SYS_TIME"],
            &[SYS_TIME],
            &[ESCALATION, DROP_ALL_SYS_TIME, NON_ROOT, ROOT_FS],
        ),
        case(
            "host network",
            &["--network=host"],
            &[HOST_NETWORK],
            &[HOST_NETWORK, ESCALATION, DROP_ALL, NON_ROOT, ROOT_FS],
        ),
        case("host IPC", &["--ipc=host"], &[HOST_IPC], &[HOST_IPC, ESCALATION, DROP_ALL, NON_ROOT, ROOT_FS]),
        case(
            "a path of the host",
            &["--volume=/etc:/host:ro"],
            &[HOST_PATH],
            &[ESCALATION, DROP_ALL, RESTRICTED_VOLUME, NON_ROOT, ROOT_FS],
        ),
    ]
}

/// podman's configuration, as a package and an admin leave it.
pub(crate) fn lay_out(machine: &Machine) {
    machine.write("/etc/containers/policy.json", "{\"default\":[{\"type\":\"insecureAcceptAnything\"}]}\n");
    machine.write("/etc/containers/containers.conf", CONTAINERS_CONF);
}

/// runc, which shows what a hook says; the limits are those that root may set without CAP_SYS_RESOURCE.
const CONTAINERS_CONF: &str = r#"# The node's own configuration.
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=20000:20000"]

[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
"#;

/// Gives the images of the tests to podman or docker.
pub(crate) fn load_images(machine: &Machine, engine: &str) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for (_, file) in image::write_all(dir.path()) {
        machine.run(&[engine, "load", "--input", &file.display().to_string()]).expect_success();
    }
}
