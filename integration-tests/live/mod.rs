//! The gate before real engines, each on a machine of its own: `cargo test --test integration live::containerd_2`.

// What the kubelet asks of an engine, asked by crictl.
mod cri;
// Which engines are brought up, and how.
mod engine;
// How the gate is put before an engine, and taken away.
mod gate;
// What the containers run.
mod image;
// A kubelet and an API server around an engine.
mod kube;
// What an engine runs on.
mod machine;
// What must happen on every engine.
mod story;

use engine::Kind;
use gate::Method;

#[test]
fn containerd_1_6() {
    story::tell("live::containerd_1_6", Kind::Containerd16, Method::Runtime);
}

#[test]
fn containerd_1_6_by_hook() {
    story::tell("live::containerd_1_6_by_hook", Kind::Containerd16, Method::Hook);
}

#[test]
fn containerd_1_7() {
    story::tell("live::containerd_1_7", Kind::Containerd17, Method::Runtime);
}

#[test]
fn containerd_2() {
    story::tell("live::containerd_2", Kind::Containerd2, Method::Runtime);
}

#[test]
fn containerd_2_by_hook() {
    story::tell("live::containerd_2_by_hook", Kind::Containerd2, Method::Hook);
}

#[test]
fn cri_o() {
    story::tell("live::cri_o", Kind::CriO, Method::Hook);
}

#[test]
fn cri_o_by_runtime() {
    story::tell("live::cri_o_by_runtime", Kind::CriO, Method::Runtime);
}

#[test]
fn kubelet_on_containerd() {
    story::tell_of_a_cluster("live::kubelet_on_containerd", Kind::Containerd2, Method::Runtime);
}

#[test]
fn kubelet_on_cri_o() {
    story::tell_of_a_cluster("live::kubelet_on_cri_o", Kind::CriO, Method::Hook);
}

#[test]
fn podman() {
    story::tell_of_podman("live::podman", Method::Hook);
}
