//! What do the containers run? Images without a registry, as the archives that `docker save` writes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{files, needs, run};

/// What every pod's sandbox runs.
pub(crate) const PAUSE: &str = "localhost/pause:1";
/// A shell, as whoever the pod says, or root.
pub(crate) const APP: &str = "localhost/app:1";
/// A shell, as a user that only the image names.
pub(crate) const APP_1000: &str = "localhost/app-1000:1";

/// The image: a static busybox under the names that are needed.
pub(crate) fn unpack(rootfs: &Path) {
    for dir in ["bin", "dev", "etc", "proc", "sys", "tmp", "run"] {
        fs::create_dir_all(rootfs.join(dir)).expect("a directory of the image");
    }
    let busybox = needs::program("busybox").expect("busybox (Debian's busybox-static) is installed");
    fs::copy(busybox, rootfs.join("bin/busybox")).expect("copy busybox");
    for name in ["sh", "sleep", "id"] {
        symlink("busybox", rootfs.join("bin").join(name)).expect("a link in a fresh directory");
    }
    files::write(&rootfs.join("etc/passwd"), "root:x:0:0::/:/bin/sh\napp:x:1000:1000::/:/bin/sh\n");
}

/// Writes the archives into a directory: name and file of each.
pub(crate) fn write_all(dir: &Path) -> Vec<(&'static str, PathBuf)> {
    let layer = dir.join("layer");
    unpack(&layer);
    let tar = dir.join("layer.tar");
    run::run(Command::new("tar").arg("-C").arg(&layer).arg("-cf").arg(&tar).args([
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

/// Writes the archive of the agent's image, with a shell for whoever steals it. Its name is the one of the manifests.
pub(crate) fn write_agent(dir: &Path, agent: &Path) -> (String, PathBuf) {
    let layer = dir.join("agent");
    unpack(&layer);
    let program = layer.join("pss-guard-agent");
    fs::copy(agent, &program).expect("a copy of the agent");
    files::set_mode(&program, 0o755);
    let tar = dir.join("agent.tar");
    let mut pack = Command::new("tar");
    pack.arg("-C").arg(&layer).arg("-cf").arg(&tar).args(["--owner=0", "--group=0", "."]);
    run::run(&mut pack).expect_success();
    let name = format!("localhost/pss-guard:{}", env!("CARGO_PKG_VERSION"));
    let file = archive(dir, &tar, &name, "", &json!(["/pss-guard-agent"]));
    (name, file)
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
    files::write(&image.join("config.json"), &config.to_string());
    let config_name = format!("{}.json", sha256(&image.join("config.json")));
    fs::rename(image.join("config.json"), image.join(&config_name)).expect("rename a file of ours");
    let manifest = json!([{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]);
    files::write(&image.join("manifest.json"), &manifest.to_string());
    let file = image.with_extension("tar");
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(&image).arg("-cf").arg(&file).args(["manifest.json", &config_name, "layer.tar"]);
    run::run(&mut tar).expect_success();
    file
}

fn sha256(file: &Path) -> String {
    let done = run::run(Command::new("sha256sum").arg(file)).expect_success();
    done.stdout.split_whitespace().next().unwrap_or_default().to_owned()
}
