//! Mounts that are no bind mounts: a file system of the kernel, or one with somebody's data.
//!
//! The CRI knows no mount types. What engines write themselves is listed here; any other type comes from a plugin, or
//! from root by `ctr` and podman, and shows something of the host by another way than its path: a disk, a server, the
//! kernel's own insides.

use std::borrow::Cow;

use super::ground::{Shape, of_layer};
use super::{Lookup, Pod, elsewhere};
use crate::inspect::path::{absolute, is_plain, normalize, strip_dir};
use crate::inspect::spec::Mount;
use pss::facts::{Engine, Volume};
use pss_guard_core::files::FileError;

/// What a mount that is no bind mount shows of the host.
pub(super) fn volume<'a>(
    mount: &'a Mount<'_>,
    pod: &Pod<'_>,
    node: &Lookup<'_>,
) -> Result<Option<Volume<'a>>, FileError> {
    /// What is the container's own by its namespaces, or empty.
    const OWN: [&str; 8] = ["proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2", "ramfs"];
    if OWN.contains(&mount.kind()) {
        return Ok(None);
    }
    let destination = mount.destination();
    let host_path = |source| Volume::HostPath { destination, source, name: None };
    if mount.kind() == "overlay" {
        let layers = Layers::of(mount);
        if matches!(pod.engine, Engine::CriO) && is_image_volume(&layers, pod, node)? {
            return Ok(None);
        }
        return Ok(layer_of_the_host(&layers, pod, node)?.map(|layer| host_path(Cow::Owned(layer))));
    }
    // By name where it has one: a device, a server's export. Else by its type: devtmpfs, debugfs, bpf.
    let source = if mount.source().is_empty() { mount.kind() } else { mount.source() };
    Ok(Some(host_path(Cow::Borrowed(source))))
}

/// The directories that an overlay is made of.
struct Layers<'a> {
    lower: Vec<&'a str>,
    upper: Option<&'a str>,
}

impl<'a> Layers<'a> {
    fn of(mount: &'a Mount<'_>) -> Self {
        let mut layers = Self { lower: Vec::new(), upper: None };
        for option in mount.options.iter().flatten().flat_map(|option| option.as_str().split(',')) {
            // `lowerdir+=` and `datadir+=` add layers one by one (Linux 6.7).
            let lower =
                ["lowerdir=", "lowerdir+=", "datadir+="].iter().find_map(|key| option.strip_prefix(key));
            if let Some(all) = lower {
                layers.lower.extend(all.split(':').filter(|lower| !lower.is_empty()));
            }
            layers.upper = option.strip_prefix("upperdir=").or(layers.upper);
        }
        layers
    }
}

/// Whether an overlay is how CRI-O mounts an image as a volume: the image's layer, or a part of it that CRI-O has bound
/// in the container's directory, over an empty directory (`server/container_create_linux.go`: mountImage,
/// `safemount_linux.go`).
fn is_image_volume(layers: &Layers<'_>, pod: &Pod<'_>, node: &Lookup<'_>) -> Result<bool, FileError> {
    let (&[image, empty], None) = (layers.lower.as_slice(), layers.upper) else { return Ok(false) };
    if !is_plain(image) || !is_plain(empty) || !empty.ends_with("/image-volumes") {
        return Ok(false);
    }
    let storage = pod.root.and_then(of_layer);
    let is_layer = of_layer(image).is_some() && of_layer(image) == storage;
    let aliased = super::ground::without_aliases(image, &node.ground);
    let image = aliased.as_deref().unwrap_or(image);
    let anchor = match node.anchors.find(image) {
        Some((anchor, Shape::Engines(_))) => anchor,
        _ if is_layer => storage.unwrap_or_default(),
        _ => return Ok(false),
    };
    node.ground.is_firm(image, anchor, pod.mapped_root)?;
    Ok(node.ground.link(image).is_none())
}

/// The first layer of an overlay that is neither an image's, nor the engine's, nor a volume's: podman's `-v PATH:…:O`
/// shows a path of the host as its lower layer.
fn layer_of_the_host(
    layers: &Layers<'_>,
    pod: &Pod<'_>,
    node: &Lookup<'_>,
) -> Result<Option<String>, FileError> {
    if layers.lower.is_empty() {
        return Ok(Some(String::new()));
    }
    for layer in layers.lower.iter().copied().chain(layers.upper) {
        let named = absolute(layer, pod.bundle).unwrap_or(Cow::Borrowed(layer));
        let real = node.host.resolve(&named).unwrap_or_else(|| named.into_owned());
        if let Some((anchor, Shape::Volume { directory, .. })) = node.anchors.find(&real) {
            match elsewhere(node.table()?, &format!("{anchor}/{directory}"), node) {
                Some(path) => return Ok(Some(path)),
                None => continue,
            }
        }
        if !is_in_storage(&real, pod) {
            return Ok(Some(real));
        }
    }
    Ok(None)
}

/// Whether a path is a layer in the same containers/storage as the container's own bundle, which is
/// `<storage>/<driver>-containers/<id>/userdata`, or in that bundle.
fn is_in_storage(path: &str, pod: &Pod<'_>) -> bool {
    let Some(bundle) = pod.bundle.filter(|_| pod.engine == Engine::Podman).map(normalize) else {
        return false;
    };
    if strip_dir(path, &bundle).is_some_and(|rest| !rest.is_empty()) {
        return true;
    }
    let mut above = bundle.rsplitn(4, '/');
    let names = (above.next(), above.next(), above.next());
    let (Some(storage), (Some("userdata"), Some(_), Some(containers))) = (above.next(), names) else {
        return false;
    };
    let Some(driver) = containers.strip_suffix("-containers") else { return false };
    // A layer, not the directory of all layers: `overlay/ID/merged`, `vfs/dir/ID`, `btrfs/subvolumes/ID`.
    let layer = strip_dir(path, storage).and_then(|rest| strip_dir(rest, driver));
    layer.is_some_and(|rest| rest.split('/').count() >= 2)
}
