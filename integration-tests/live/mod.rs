//! The gate before real engines, each on a machine of its own: `cargo test --test integration live::containerd_2`.

// What the kubelet asks of an engine, asked by crictl.
mod cri;
// Which engines are brought up, and how.
pub(crate) mod engine;
// How the gate is put before an engine, and taken away.
mod gate;
// Whether every event is told once, whatever becomes of the journal.
mod history;
// What the containers run.
pub(crate) mod image;
// A kubelet and an API server around an engine.
mod kube;
// What an engine runs on.
pub(crate) mod machine;
// What a node says that is half gated or broken, and the way back.
mod operations;
// The commands of the README.
mod readme;
// Whether what `scan` says is what happens.
mod scan;
// What must happen on every engine.
mod story;
// The units under a systemd that is the first process.
mod systemd;
// And on those that know of no pods.
mod unmanaged;
// Whether volumes of every kind are started or refused as admission would.
mod volumes;
// What watches a node: Prometheus, node_exporter, and a journald that forgets.
mod watch;

use engine::Kind;
use unmanaged::Docker;

pub(crate) use machine::part;

#[test]
fn containerd_1_6() {
    story::tell("live::containerd_1_6", Kind::Containerd16);
}

#[test]
fn containerd_1_7() {
    story::tell("live::containerd_1_7", Kind::Containerd17);
}

#[test]
fn containerd_2() {
    story::tell("live::containerd_2", Kind::Containerd2);
}

#[test]
fn cri_o() {
    story::tell("live::cri_o", Kind::CriO);
}

#[test]
fn scan_names_what_containerd_is_refused() {
    scan::tell("live::scan_names_what_containerd_is_refused", Kind::Containerd2);
}

#[test]
fn scan_names_what_cri_o_is_refused() {
    scan::tell("live::scan_names_what_cri_o_is_refused", Kind::CriO);
}

#[test]
fn events_are_told_once_whatever_becomes_of_the_journal() {
    history::tell("live::events_are_told_once_whatever_becomes_of_the_journal");
}

#[test]
fn kubelet_on_containerd() {
    story::tell_of_a_cluster("live::kubelet_on_containerd", Kind::Containerd2);
}

#[test]
fn kubelet_on_cri_o() {
    story::tell_of_a_cluster("live::kubelet_on_cri_o", Kind::CriO);
}

#[test]
fn volumes_on_containerd() {
    volumes::tell("live::volumes_on_containerd", Kind::Containerd2, volumes::Root::InPlace);
}

#[test]
fn volumes_on_cri_o() {
    volumes::tell("live::volumes_on_cri_o", Kind::CriO, volumes::Root::InPlace);
}

#[test]
fn volumes_behind_a_link() {
    volumes::tell("live::volumes_behind_a_link", Kind::Containerd2, volumes::Root::BehindALink);
}

#[test]
fn volumes_where_a_link_leads() {
    volumes::tell("live::volumes_where_a_link_leads", Kind::CriO, volumes::Root::WhereALinkLeads);
}

#[test]
fn volumes_of_rootless_podman() {
    volumes::rootless::tell("live::volumes_of_rootless_podman");
}

#[test]
fn status_is_good_only_where_all_of_it_is() {
    operations::tell("live::status_is_good_only_where_all_of_it_is");
}

#[test]
fn the_ways_back_of_the_document_lead_back() {
    operations::walk("live::the_ways_back_of_the_document_lead_back");
}

#[test]
fn readme() {
    readme::follow("live::readme");
}

#[test]
fn podman() {
    unmanaged::tell_of_podman("live::podman");
}

#[test]
fn docker_20() {
    unmanaged::tell_of_docker("live::docker_20", Docker::V20);
}

#[test]
fn docker_28() {
    unmanaged::tell_of_docker("live::docker_28", Docker::V28);
}
