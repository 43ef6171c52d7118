//! What do the containers run? Images without a registry, as the archives that `docker save` writes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::node;
use crate::util;

/// What every pod's sandbox runs.
pub(crate) const PAUSE: &str = "localhost/pause:1";
/// A shell, as whoever the pod says, or root.
pub(crate) const APP: &str = "localhost/app:1";
/// A shell, as a user that only the image names.
pub(crate) const APP_1000: &str = "localhost/app-1000:1";

/// Writes the archives into a directory: name and file of each.
pub(crate) fn write_all(dir: &Path) -> Vec<(&'static str, PathBuf)> {
    let layer = dir.join("layer");
    node::unpack_image(&layer);
    let tar = dir.join("layer.tar");
    util::run(Command::new("tar").arg("-C").arg(&layer).arg("-cf").arg(&tar).args([
        "--owner=0",
        "--group=0",
        ".",
    ]))
    .expect_success();
    let stay = json!(["/bin/busybox", "sleep", "2000000"]);
    [(PAUSE, "65535:65535", stay), (APP, "", json!(["/bin/sh"])), (APP_1000, "1000:1000", json!(["/bin/sh"]))]
        .into_iter()
        .map(|(name, user, command)| (name, archive(dir, &tar, name, user, &command)))
        .collect()
}

fn archive(dir: &Path, layer: &Path, name: &str, user: &str, command: &Value) -> PathBuf {
    let image = dir.join(name.replace(['/', ':'], "-"));
    fs::create_dir_all(&image).expect("a directory");
    fs::copy(layer, image.join("layer.tar")).expect("a copy of the layer");
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        // Nobody has to wait for a first process, which hears no SIGTERM.
        "config": {"StopSignal": "SIGKILL", "User": user, "Entrypoint": command, "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", sha256(layer))]},
        "history": [{"created_by": "tests"}],
    });
    node::write(&image.join("config.json"), &config.to_string());
    let config_name = format!("{}.json", sha256(&image.join("config.json")));
    fs::rename(image.join("config.json"), image.join(&config_name)).expect("rename a file of ours");
    let manifest = json!([{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]);
    node::write(&image.join("manifest.json"), &manifest.to_string());
    let file = image.with_extension("tar");
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(&image).arg("-cf").arg(&file).args(["manifest.json", &config_name, "layer.tar"]);
    util::run(&mut tar).expect_success();
    file
}

fn sha256(file: &Path) -> String {
    let done = util::run(Command::new("sha256sum").arg(file)).expect_success();
    done.stdout.split_whitespace().next().unwrap_or_default().to_owned()
}
