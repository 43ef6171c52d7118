//! How does the gate come to stand before an engine, and how does it go?

use serde_json::{Value, json};

use crate::live::engine::{Engine, Kind};
use crate::live::machine::Machine;
use crate::util;

/// A way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Hook,
}

const BINARY: &str = "/usr/local/sbin/pss-guard";
const SPEC: &str = "/etc/containerd/pss-guard-base.json";
const CONFIG: &str = "/etc/containerd/config.toml";
const HOOK: &str = "/usr/share/containers/oci/hooks.d/pss-guard.json";

/// Writes what the engine needs to know by hand.
pub(crate) fn install(engine: &Engine, _method: Method) {
    let machine = &engine.machine;
    machine.run(&["cp", "/opt/pss-guard", BINARY]).expect_success();
    let mut hook: Value = serde_json::from_str(include_str!("../../hooks/pss-guard.json")).expect("JSON");
    match engine.kind {
        Kind::CriO => machine.write(HOOK, &hook.to_string()),
        Kind::Containerd16 | Kind::Containerd17 | Kind::Containerd2 => {
            hook["hook"]["args"][3] = json!("containerd");
            let done = util::run(machine.command("ctr").args(["oci", "spec"])).expect_success();
            let mut spec: Value = serde_json::from_str(&done.stdout).expect("JSON");
            spec["process"].as_object_mut().expect("an object").remove("rlimits");
            spec["hooks"] = json!({"createRuntime": [hook["hook"]]});
            machine.write(SPEC, &spec.to_string());
            let config = machine.read(CONFIG);
            let more = format!(
                "    base_runtime_spec = \"{SPEC}\"\n    container_annotations = [\"io.kubernetes.container.*\"]\n"
            );
            machine.write(CONFIG, &(config + &more));
        }
    }
}

/// And takes it away.
pub(crate) fn uninstall(engine: &Engine, _method: Method) {
    let machine = &engine.machine;
    match engine.kind {
        Kind::CriO => {
            machine.run(&["rm", HOOK]).expect_success();
        }
        Kind::Containerd16 | Kind::Containerd17 | Kind::Containerd2 => {
            machine.run(&["rm", SPEC]).expect_success();
            machine
                .run(&["sed", "-i", "/base_runtime_spec\\|container_annotations/d", CONFIG])
                .expect_success();
        }
    }
    machine.run(&["rm", BINARY]).expect_success();
}

pub(crate) fn install_for_podman(machine: &Machine) {
    machine.run(&["cp", "/opt/pss-guard", BINARY]).expect_success();
    let mut hook: Value = serde_json::from_str(include_str!("../../hooks/pss-guard.json")).expect("JSON");
    hook["hook"]["args"][3] = json!("podman");
    machine.write(HOOK, &hook.to_string());
}

pub(crate) fn uninstall_for_podman(machine: &Machine) {
    machine.run(&["rm", "-r", "/usr/share/containers/oci", BINARY]).expect_success();
}
