//! Where the manifests of static pods lie, and what is in there, read as the kubelet reads it.
//!
//! Sources: Kubernetes `pkg/kubelet/config/file.go` (extractFromDir), `cmd/kubelet/app/server.go` (mergeKubeletConfigurations).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use pss_guard_core::files;
use pss_guard_core::pods::PodFacts;
use pss_guard_manifests::read::documents_within;

use super::manifest::{self, NoPod};
use crate::options::Run;
use crate::watch::causes;

/// The largest file that is read, in bytes. The kubelet reads 10 MiB; no pod of the API has more than 1.5, and none of the
/// kubelet's a tenth of that.
const LARGEST: u64 = 1 << 20;

/// So many files are looked at.
const MOST: usize = 1000;

/// The most values in a file of the kubelet's configuration.
const MOST_VALUES: usize = 50_000;

/// What the options say of the manifests.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// There they are.
    Folder(PathBuf),
    /// The kubelet's configuration says where, the last file that does.
    Configuration { file: Option<PathBuf>, drop_ins: Option<PathBuf> },
}

impl Place {
    /// `None` if no option names one.
    pub(super) fn of(options: &Run) -> Option<Self> {
        let below = |path: &PathBuf| options.root.join(path.strip_prefix("/").unwrap_or(path));
        if let Some(folder) = &options.static_pods {
            return Some(Self::Folder(below(folder)));
        }
        let (file, drop_ins) = (&options.kubelet_config, &options.kubelet_config_dir);
        let named = file.is_some() || drop_ins.is_some();
        named.then(|| Self::Configuration {
            file: file.as_ref().map(below),
            drop_ins: drop_ins.as_ref().map(below),
        })
    }

    /// The folder, or the one file, that the kubelet reads; `None` if it reads none.
    pub(super) fn find(&self, root: &Path) -> Result<Option<PathBuf>, String> {
        let (file, drop_ins) = match self {
            Self::Folder(folder) => return Ok(Some(folder.clone())),
            Self::Configuration { file, drop_ins } => (file, drop_ins),
        };
        let mut files: Vec<PathBuf> = file.iter().cloned().collect();
        if let Some(folder) = drop_ins {
            collect(folder, &mut files).map_err(|error| format!("read {}: {error}", folder.display()))?;
        }
        let mut found = None;
        for file in files {
            if let Some(path) = static_pod_path(&file)? {
                found = Some((file, path));
            }
        }
        Ok(found.filter(|(_, path)| !path.is_empty()).map(|(file, path)| match path.strip_prefix('/') {
            Some(path) => root.join(path),
            // To the kubelet it is beside the file that names it.
            None => file.parent().unwrap_or(root).join(path),
        }))
    }
}

/// Drop-ins, in the order in which the kubelet merges them: by their paths, from all folders below.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for name in sorted(folder)? {
        let path = folder.join(&name);
        // It follows links to files and none to folders.
        if path.symlink_metadata()?.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "conf") {
            files.push(path);
        }
    }
    Ok(())
}

/// The names in a folder, in their order.
fn sorted(folder: &Path) -> io::Result<Vec<OsString>> {
    let names: io::Result<Vec<OsString>> =
        fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.file_name())).collect();
    let mut names = names?;
    names.sort();
    Ok(names)
}

fn static_pod_path(file: &Path) -> Result<Option<String>, String> {
    let bytes = files::read(file, LARGEST).map_err(|error| causes(&error))?;
    let fault = |error: &dyn std::fmt::Display| format!("parse {}: {error}", file.display());
    let text = String::from_utf8(bytes).map_err(|error| fault(&error))?;
    let documents = documents_within(&text, MOST_VALUES).map_err(|error| fault(&error))?;
    match documents.first().and_then(|document| document.get("staticPodPath")) {
        None => Ok(None),
        Some(path) => {
            path.text().map(|path| Some(path.to_owned())).ok_or_else(|| fault(&"staticPodPath is no text"))
        }
    }
}

/// What a folder of manifests has.
#[derive(Debug, Default)]
pub(super) struct Manifests {
    /// The pods, by the names of their files without `.json`. Of two with one name the kubelet takes the last.
    pub(super) pods: BTreeMap<String, PodFacts>,
    /// What is wrong with which file.
    pub(super) faults: Vec<String>,
    /// Whether every pod that the kubelet may find is among them.
    pub(super) is_whole: bool,
}

/// Reads what the kubelet of a node reads there.
pub(super) fn read(place: &Path, node: &str) -> Manifests {
    let mut manifests = Manifests { is_whole: true, ..Manifests::default() };
    let files = match fs::metadata(place) {
        Ok(metadata) if metadata.is_dir() => sorted(place).map(|names| {
            // `[^.]*` is what it looks for: any ending, and nothing that is hidden.
            names
                .into_iter()
                .filter(|name| !name.as_encoded_bytes().starts_with(b"."))
                .map(|name| place.join(name))
                .collect()
        }),
        metadata => metadata.map(|_| vec![place.to_owned()]),
    };
    let files: Vec<PathBuf> = match files {
        Ok(files) => files,
        Err(error) => {
            manifests.miss(place, &error.to_string());
            return manifests;
        }
    };
    for path in files.iter().take(MOST) {
        manifests.add(path, node);
    }
    if files.len() > MOST {
        manifests.miss(place, &format!("it has more than {MOST} files; the rest is not read"));
    }
    manifests
}

impl Manifests {
    fn add(&mut self, path: &Path, node: &str) {
        // It follows links, and takes regular files alone. What else lies there could make a reader wait.
        match fs::metadata(path) {
            Err(error) => return self.miss(path, &error.to_string()),
            Ok(metadata) if metadata.is_dir() => return,
            Ok(metadata) if !metadata.is_file() => return self.fault(path, "it is no regular file"),
            Ok(_) => {}
        }
        let bytes = match files::read(path, LARGEST) {
            Ok(bytes) => bytes,
            Err(error) => return self.miss(path, &causes(&error)),
        };
        match manifest::facts(&bytes, node) {
            Ok(facts) => {
                if let Some(name) = facts.file_name() {
                    self.pods.insert(name, facts);
                }
            }
            Err(NoPod::Other(why)) => self.fault(path, &why),
            Err(NoPod::Unreadable(why)) => self.miss(path, &why),
        }
    }

    /// There is no pod in a file, not for the kubelet either.
    fn fault(&mut self, path: &Path, why: &str) {
        self.faults.push(format!("{}: {why}", path.display()));
    }

    /// There may be a pod.
    fn miss(&mut self, path: &Path, why: &str) {
        self.is_whole = false;
        self.fault(path, why);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::{Place, read};

    fn pod(name: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: a}}]}}\n"
        )
    }

    /// Puts something into a place.
    type Make = fn(&Path);

    fn make_fifo(path: &Path) {
        nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRUSR).unwrap();
    }

    #[test]
    fn a_folder_has_the_pods_that_the_kubelet_finds_there() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("manifests");
        fs::create_dir(&place).unwrap();
        let write = |name: &str, text: &str| fs::write(place.join(name), text).unwrap();
        write("a.yaml", &pod("a"));
        write("b", &pod("b"));
        write("c.yaml~", &pod("c"));
        write(".hidden.yaml", &pod("hidden"));
        write(".#a.yaml", &pod("editor"));
        fs::create_dir(place.join("folder.yaml")).unwrap();
        fs::write(place.join("folder.yaml/x.yaml"), pod("inside")).unwrap();
        fs::write(folder.path().join("elsewhere"), pod("linked")).unwrap();
        symlink("../elsewhere", place.join("link.yaml")).unwrap();
        // Of two with one name the last one.
        write("x1.yaml", &pod("twice"));
        write("x2.yaml", &pod("twice").replace("spec: {", "spec: {hostPID: true, "));
        let names = |place: &Path| {
            let read = read(place, "node-1");
            let names: Vec<String> =
                read.pods.keys().map(|name| name.replace("-node-1", "").replace("default_", "")).collect();
            (names.join(" "), read)
        };
        let (found, whole) = names(&place);
        assert_eq!(found, "a b c linked twice");
        assert!(whole.is_whole && whole.faults.is_empty(), "{:?}", whole.faults);
        assert!(serde_json::to_string(&whole.pods["default_twice-node-1"]).unwrap().contains("hostPID"));

        // What is no pod for the kubelet, either, is said and takes nothing away.
        write("README", "no manifest");
        write("list.yaml", "apiVersion: v1\nkind: List\nitems: []\n");
        make_fifo(&place.join("fifo.yaml"));
        let (found, read_too) = names(&place);
        assert!(
            found == "a b c linked twice" && read_too.is_whole && read_too.faults.len() == 3,
            "{:?}",
            read_too.faults
        );

        // What it may be able to read makes the reading one of a part.
        let rows: [(&str, Make); 4] = [
            ("a link that leads nowhere", |path| symlink("../nowhere", path).unwrap()),
            ("a huge file", |path| {
                fs::write(path, vec![b' '; 1 + (1 << 20)]).unwrap();
            }),
            ("half a file", |path| fs::write(path, &pod("half")[..70]).unwrap()),
            ("a link to itself", |path| symlink("part.yaml", path).unwrap()),
        ];
        for (what, make) in rows {
            let path = place.join("part.yaml");
            make(&path);
            let (found, part) = names(&place);
            assert!(
                found == "a b c linked twice" && !part.is_whole && part.faults.len() == 4,
                "{what}: {:?}",
                part.faults
            );
            fs::remove_file(path).unwrap();
        }
        // One file is read as well, and one that is not there is no reading.
        assert_eq!(names(&place.join("b")).0, "b");
        for nothing in ["nowhere", "manifests/fifo.yaml"] {
            let (found, read) = names(&folder.path().join(nothing));
            assert!(found.is_empty() && !read.faults.is_empty(), "{nothing}");
        }
        assert!(!names(&folder.path().join("nowhere")).1.is_whole);
    }

    #[test]
    fn the_kubelets_configuration_says_where_they_are() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let write = |name: &str, text: &str| {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let find = || {
            let place = Place::Configuration {
                file: Some(root.join("kubelet/config.yaml")),
                drop_ins: Some(root.join("drop")),
            };
            place
                .find(root)
                .map(|found| found.map(|found| found.strip_prefix(root).unwrap().display().to_string()))
        };
        assert!(find().unwrap_err().contains("drop"));
        write("drop/00-x.yaml", "staticPodPath: /no/drop-in");
        assert!(find().unwrap_err().contains("config.yaml"));
        write("kubelet/config.yaml", "kind: KubeletConfiguration\n");
        assert_eq!(find(), Ok(None));
        for (name, text, expected) in [
            (
                "kubelet/config.yaml",
                "staticPodPath: /etc/kubernetes/manifests\n",
                Some("etc/kubernetes/manifests"),
            ),
            ("kubelet/config.yaml", "staticPodPath: manifests\n", Some("kubelet/manifests")),
            ("drop/20.conf", "{\"staticPodPath\": \"/two\"}", Some("two")),
            ("drop/10.conf", "staticPodPath: /one", Some("two")),
            ("drop/3/x.conf", "staticPodPath: /three", Some("three")),
            ("drop/30.conf", "logging: {}", Some("three")),
            ("drop/40.conf", "staticPodPath: ''", None),
        ] {
            write(name, text);
            assert_eq!(find(), Ok(expected.map(str::to_owned)), "{name}");
        }
        write("drop/50.conf", "staticPodPath: [1]");
        assert!(find().unwrap_err().contains("staticPodPath is no text"));
    }
}
