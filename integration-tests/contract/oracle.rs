//! Does our tolerant view of config.json see what the full OCI types see? `oci-spec` is the oracle, over every captured
//! file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use oci_spec::runtime as oci;
use pss_guard::inspect::spec::{Spec, Text};

/// Every config.json below a directory.
fn configs(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            configs(&path, found);
        } else if path.ends_with("config.json") {
            found.push(path);
        }
    }
}

fn texts<'a>(list: Option<&'a Vec<Text<'_>>>) -> Vec<&'a str> {
    list.into_iter().flatten().map(Text::as_str).collect()
}

fn strings(list: Option<&Vec<String>>) -> Vec<&str> {
    list.into_iter().flatten().map(String::as_str).collect()
}

/// The oracle takes every `CAP_` off and so reads containerd's `CAP_CAP_CHOWN` as `CHOWN`; ours keeps the difference,
/// because admission does.
fn bare(name: &str) -> String {
    name.trim_start_matches("CAP_").to_owned()
}

/// One set of capabilities, by our names and by the oracle's.
fn same_capabilities(file: &str, ours: Option<&Vec<Text<'_>>>, oracle: Option<&oci::Capabilities>) {
    let ours: BTreeSet<String> = texts(ours).into_iter().map(bare).collect();
    let oracle: BTreeSet<String> = oracle.into_iter().flatten().map(ToString::to_string).collect();
    let oracle: BTreeSet<String> = oracle.into_iter().map(|name| bare(&name)).collect();
    assert_eq!(ours, oracle, "{file}");
}

fn compare(file: &str, ours: &Spec<'_>, oracle: &oci::Spec) {
    let process = (ours.process.as_ref().unwrap(), oracle.process().as_ref().unwrap());
    assert_eq!(process.0.user.as_ref().unwrap().uid.unwrap_or(0), process.1.user().uid(), "{file}");
    let no_new_privileges = process.1.no_new_privileges().unwrap_or(false);
    assert_eq!(process.0.no_new_privileges.unwrap_or(false), no_new_privileges, "{file}");
    let label = process.0.selinux_label.as_ref().map(Text::as_str);
    assert_eq!(label, process.1.selinux_label().as_deref(), "{file}");
    let profile = process.0.apparmor_profile.as_ref().map(Text::as_str);
    assert_eq!(profile, process.1.apparmor_profile().as_deref(), "{file}");
    if let (Some(ours), Some(oracle)) = (process.0.capabilities.as_ref(), process.1.capabilities().as_ref()) {
        same_capabilities(file, ours.bounding.as_ref(), oracle.bounding().as_ref());
        same_capabilities(file, ours.effective.as_ref(), oracle.effective().as_ref());
        same_capabilities(file, ours.permitted.as_ref(), oracle.permitted().as_ref());
        same_capabilities(file, ours.inheritable.as_ref(), oracle.inheritable().as_ref());
        same_capabilities(file, ours.ambient.as_ref(), oracle.ambient().as_ref());
    }

    let read_only = oracle.root().as_ref().and_then(oci::Root::readonly).unwrap_or(false);
    assert_eq!(ours.root.as_ref().and_then(|root| root.read_only).unwrap_or(false), read_only, "{file}");

    let mounts = ours.mounts.iter().flat_map(|mounts| mounts.iter()).map(|mount| {
        (
            mount.destination().to_owned(),
            mount.kind().to_owned(),
            mount.source().to_owned(),
            texts(mount.options.as_ref()),
        )
    });
    let theirs = oracle.mounts().iter().flatten().map(|mount| {
        let text =
            |path: &Option<PathBuf>| path.as_ref().map(|p| p.display().to_string()).unwrap_or_default();
        let destination = mount.destination().display().to_string();
        let kind = mount.typ().clone().unwrap_or_default();
        (destination, kind, text(mount.source()), strings(mount.options().as_ref()))
    });
    assert_eq!(mounts.collect::<Vec<_>>(), theirs.collect::<Vec<_>>(), "{file}");

    let linux = (ours.linux.as_ref().unwrap(), oracle.linux().as_ref().unwrap());
    let namespaces = linux.0.namespaces.iter().flatten().map(|namespace| {
        (
            namespace.kind.as_ref().unwrap().as_str().to_owned(),
            namespace.path.as_ref().map(|path| path.as_str().to_owned()),
        )
    });
    let theirs = linux.1.namespaces().iter().flatten().map(|namespace| {
        (
            serde_json::from_value(serde_json::to_value(namespace.typ()).unwrap()).unwrap(),
            namespace.path().as_ref().map(|path| path.display().to_string()),
        )
    });
    assert_eq!(namespaces.collect::<Vec<_>>(), theirs.collect::<Vec<_>>(), "{file}");
    let masked = (texts(linux.0.masked_paths.as_ref()), strings(linux.1.masked_paths().as_ref()));
    assert_eq!(masked.0, masked.1, "{file}");
    let read_only = (texts(linux.0.readonly_paths.as_ref()), strings(linux.1.readonly_paths().as_ref()));
    assert_eq!(read_only.0, read_only.1, "{file}");
    let sysctls: BTreeSet<&str> = linux.0.sysctl.iter().flat_map(|keys| &keys.0).map(Text::as_str).collect();
    let theirs: BTreeSet<&str> = linux.1.sysctl().iter().flatten().map(|(name, _)| name.as_str()).collect();
    assert_eq!(sysctls, theirs, "{file}");
    let mappings =
        linux.0.uid_mappings.iter().flatten().map(|map| (map.host.unwrap_or(0), map.size.unwrap_or(0)));
    let theirs = linux.1.uid_mappings().iter().flatten().map(|map| (map.host_id(), map.size()));
    assert_eq!(mappings.collect::<Vec<_>>(), theirs.collect::<Vec<_>>(), "{file}");
    let seccomp =
        linux.0.seccomp.as_ref().map(|seccomp| seccomp.default_action.as_ref().unwrap().as_str().to_owned());
    let theirs =
        linux.1.seccomp().as_ref().map(|seccomp| serde_json::to_value(seccomp.default_action()).unwrap());
    assert_eq!(seccomp.map(serde_json::Value::from), theirs, "{file}");

    for (key, value) in oracle.annotations().iter().flatten() {
        let ours = ours.annotations.as_ref().unwrap().get(key);
        assert!(ours.is_none_or(|ours| ours == value), "{file}: {key}");
    }
}

#[test]
fn the_tolerant_view_sees_what_the_oci_types_see() {
    let mut files = Vec::new();
    configs(&Path::new(env!("CARGO_MANIFEST_DIR")).join("integration-tests/corpus"), &mut files);
    assert!(files.len() > 500, "only {} files", files.len());
    for path in &files {
        let bytes = std::fs::read(path).unwrap();
        let file = path.display().to_string();
        let ours: Spec<'_> = serde_json::from_slice(&bytes).unwrap_or_else(|err| panic!("{file}: {err}"));
        let oracle: oci::Spec = serde_json::from_slice(&bytes).unwrap_or_else(|err| panic!("{file}: {err}"));
        compare(&file, &ours, &oracle);
    }
}

#[test]
fn the_full_types_would_refuse_what_a_newer_kernel_brings() {
    let rows = [
        r#"{"ociVersion":"1.2.0","linux":{"namespaces":[{"type":"dream"}]}}"#,
        r#"{"ociVersion":"1.2.0","process":{"cwd":"/","user":{"uid":0,"gid":0},"capabilities":{"bounding":["CAP_DREAM"]}}}"#,
    ];
    for row in rows {
        serde_json::from_str::<oci::Spec>(row).expect_err(row);
        serde_json::from_str::<Spec<'_>>(row).unwrap();
    }
}
