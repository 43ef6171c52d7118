use std::path::Path;

use super::{Distribution, Unrecognized};
use crate::message::line;
use crate::node::distribution::{Change, PLAIN};
use crate::node::host::fake::Fake;
use crate::node::procfs::{Processes, fake};

/// Files; what runs, what is said, and the words of the refusal.
type Refusal<'a> = (Files<'a>, Option<&'a [&'a [&'a str]]>, Option<&'static str>, &'a [&'a str]);

/// Paths and texts.
type Files<'a> = &'a [(&'a str, &'a str)];

/// A node with these files.
fn node(files: Files<'_>) -> Fake {
    files.iter().fold(Fake::default(), |node, (path, text)| node.file(path, text))
}

/// The distribution of a node on which these run; of none, where nobody knows what runs.
fn of(
    node: &Fake,
    running: Option<&[&[&str]]>,
    said: Option<&'static str>,
) -> Result<Distribution, Unrecognized> {
    let directory = tempfile::tempdir().unwrap();
    let Some(running) = running else {
        return Distribution::declared(node, &Processes::of(Path::new("/mnt")), said);
    };
    std::fs::create_dir_all(directory.path()).unwrap();
    for (pid, command) in (7..).zip(running) {
        fake::add(directory.path(), Path::new("/"), pid, 5, command);
    }
    Distribution::declared(node, &Processes::in_folder(directory.path(), Path::new("/")), said)
}

const K3S: &str = "/etc/systemd/system/k3s.service";
const AGENT: &str = "/etc/systemd/system/k3s-agent.service";
const UNIT: &str = "[Service]\nEnvironmentFile=-/etc/default/%N\nEnvironmentFile=-/etc/systemd/system/k3s.service.env\n\
                    ExecStart=/usr/local/bin/k3s \\\n    server \\\n";
const RKE2: &str = "/usr/local/lib/systemd/system/rke2-server.service";
const RKE2_AGENT: &str = "/usr/local/lib/systemd/system/rke2-agent.service";
const CONTAINERD: &str = "/usr/lib/systemd/system/containerd.service";
const FLATCAR: (&str, &str) = ("/usr/lib/os-release", "NAME=Flatcar\nID=flatcar\nVERSION_ID=4500.0.0\n");
const FLATCARS: &str = "[Service]\nEnvironment=CONTAINERD_CONFIG=/usr/share/containerd/config.toml\n\
                        ExecStart=/usr/bin/containerd --config ${CONTAINERD_CONFIG}\n";
const K0S: &str = "# k0s_managed=true\n# This is a placeholder\nversion = 3\nimports = [\"/etc/k0s/containerd.d/*.toml\"]\n";
const OLD_K0S: &str =
    "\n# k0s_managed=true\nversion = 2\nimports = [\n\t\"/run/k0s/containerd-cri.toml\",\n]\n";
const SNAP: &str = "/snap/microk8s/current/meta/snap.yaml";
const TEMPLATE: &str = "/var/snap/microk8s/current/args/containerd-template.toml";

const YAML: &str = "/etc/rancher/k3s/config.yaml";
/// k3s with its data in `/a`, and the same by a service of another name.
const A: [&str; 5] =
    ["k3s", "/a/agent/etc/containerd/config.toml", "drop-in false", "k3s.service", "/a/data/current/bin"];
const RENAMED: [&str; 5] = [A[0], A[1], A[2], "", A[4]];
const SCRIPT: &str = "#!/sbin/openrc-run\ncommand=\"/usr/local/bin/k3s\"\ncommand_args=\"server --data-dir /a\n\t>>/var/log/k3s.log 2>&1\"\n";
const OLD_DATA: (&str, &str) = ("/var/lib/rancher/k3s/agent/etc/containerd/config.toml", "version = 3\n");

/// The change in a word.
fn how(change: &Change) -> String {
    match change {
        Change::Edit => "edit".to_owned(),
        Change::DropIn { restarts } => format!("drop-in {restarts}"),
        Change::Template(path) => format!("template {path}"),
        Change::Copy(path) => format!("copy {path}"),
        Change::No { why, instead } => {
            assert!(!why.is_empty() && !instead.is_empty());
            "no".to_owned()
        }
    }
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn a_tree_is_the_distribution_that_its_units_and_files_are_of() {
    let empty: Files<'_> = &[];
    // Files; name, configuration, change, unit, the first folder of programs.
    #[rustfmt::skip]
    let rows: &[(Files<'_>, [&str; 5])] = &[
        (empty, ["plain", "/etc/containerd/config.toml", "edit", "containerd.service", ""]),
        (&[(CONTAINERD, "[Service]\nExecStart=/usr/bin/containerd --config /etc/c.toml\n")],
            ["plain", "/etc/c.toml", "edit", "containerd.service", ""]),
        (&[(CONTAINERD, "[Service]\nExecStart=/usr/bin/containerd --config srv/c.toml\n")],
            ["plain", "/srv/c.toml", "edit", "containerd.service", ""]),
        (&[(CONTAINERD, "[Service]\nWorkingDirectory=/srv\nExecStart=/usr/bin/containerd --config c.toml\n")],
            ["plain", "/srv/c.toml", "edit", "containerd.service", ""]),
        (&[(CONTAINERD, "[Service]\nWorkingDirectory=/usr/share\nExecStart=/usr/bin/containerd --config c.toml\n")],
            ["plain", "/usr/share/c.toml", "no", "containerd.service", ""]),
        (&[(CONTAINERD, FLATCARS)],
            ["plain", "/usr/share/containerd/config.toml", "copy /etc/containerd/config.toml", "containerd.service", ""]),
        (&[(CONTAINERD, "[Service]\nExecStart=/usr/bin/containerd -c /usr/share/c.toml\n")],
            ["plain", "/usr/share/c.toml", "no", "containerd.service", ""]),
        (&[(K3S, UNIT)],
            ["k3s", "/var/lib/rancher/k3s/agent/etc/containerd/config.toml", "drop-in false", "k3s.service",
             "/var/lib/rancher/k3s/data/current/bin"]),
        (&[(K3S, UNIT), ("/etc/systemd/system/k3s.service.env", "K3S_DATA_DIR=/srv/k3s/\n")],
            ["k3s", "/srv/k3s/agent/etc/containerd/config.toml", "drop-in false", "k3s.service", "/srv/k3s/data/current/bin"]),
        (&[(K3S, "[Service]\nExecStart=/usr/local/bin/k3s server --data-dir=/d\n"),
           ("/etc/rancher/k3s/config.yaml", "data-dir: /c\n")],
            ["k3s", "/d/agent/etc/containerd/config.toml", "drop-in false", "k3s.service", "/d/data/current/bin"]),
        (&[(AGENT, UNIT), ("/etc/rancher/k3s/config.yaml", "node-label:\n  - data-dir: x\ndata-dir: \"/a\" # ours\n"),
           ("/etc/rancher/k3s/config.yaml.d/10-x.yaml", "data-dir: '/b'\n"),
           ("/etc/rancher/k3s/config.yaml.d/20-x.txt", "data-dir: /c\n")],
            ["k3s", "/b/agent/etc/containerd/config.toml", "drop-in false", "k3s-agent.service", "/b/data/current/bin"]),
        (&[("/var/lib/rancher/k3s/agent/etc/containerd/config.toml", "version = 3\n")],
            ["k3s", "/var/lib/rancher/k3s/agent/etc/containerd/config.toml", "drop-in false", "",
             "/var/lib/rancher/k3s/data/current/bin"]),
        // Every spelling of YAML, keys of one letter, lists, and what is added to one.
        (&[(K3S, UNIT), (YAML, "data-dir : /a\n")], A),
        (&[(K3S, UNIT), (YAML, "  data-dir: /a\n  debug: true\n")], A),
        (&[(K3S, UNIT), (YAML, "data-dir:\n  /a\n")], A),
        (&[(K3S, UNIT), (YAML, "data-dir: /a\t# ours\n")], A),
        (&[(K3S, UNIT), (YAML, "\"data\\x2ddir\": \"\\x2fa\"\n")], A),
        (&[(K3S, UNIT), (YAML, "{\"data-dir\": \"/a/\"}\n")], A),
        (&[(K3S, UNIT), (YAML, "x: &a /a\ndata-dir: *a\n")], A),
        (&[(K3S, UNIT), (YAML, "data-dir: /b\nd: /a\n")], A),
        (&[(K3S, UNIT), (YAML, "data-dir: [/b, /a]\n--- \ndata-dir: /c\n")], A),
        (&[(K3S, UNIT), (YAML, "data-dir: /b\n"), ("/etc/rancher/k3s/config.yaml.d/1.YAML", "data-dir+: /a\n")], A),
        (&[(K3S, UNIT), ("/etc/rancher/k3s/config.yaml.d/1.yml", "data-dir: /a\n")], A),
        (&[(K3S, UNIT), (YAML, "data-dir:\n")],
            ["k3s", "/var/lib/rancher/k3s/agent/etc/containerd/config.toml", "drop-in false", "k3s.service",
             "/var/lib/rancher/k3s/data/current/bin"]),
        // The variable goes before the option that names the file, and of several options the first one counts.
        (&[(K3S, "[Service]\nEnvironment=K3S_CONFIG_FILE=/a.yaml\nExecStart=/usr/local/bin/k3s server --config /b.yaml\n"),
           ("/a.yaml", "data-dir: /a\n"), ("/b.yaml", "data-dir: /b\n")], A),
        (&[(K3S, "[Service]\nExecStart=/usr/local/bin/k3s server -c /a.yaml --config=/b.yaml\n"),
           ("/a.yaml", "data-dir: /a\n"), ("/b.yaml", "data-dir: /b\n")], A),
        (&[(K3S, "[Service]\nEnvironment=K3S_DATA_DIR=/a/\nExecStart=/usr/local/bin/k3s server -d /b -d /a\n")], A),
        // Units and scripts of other names, and the file of another data directory beside them.
        (&[("/etc/systemd/system/k3s-foo.service", "[Service]\nExecStart=/usr/local/bin/k3s server --data-dir /a\n"), OLD_DATA], RENAMED),
        (&[("/etc/systemd/system/k3s-backup.service", "[Service]\nExecStart=/usr/bin/tar c /var/lib\n"), (K3S, UNIT), (YAML, "data-dir: /a\n")], A),
        (&[("/etc/init.d/k3s-foo", SCRIPT), OLD_DATA], RENAMED),
        (&[("/etc/init.d/k3s-agent", SCRIPT), OLD_DATA], RENAMED),
        (&[("/etc/systemd/system/rke2-foo.service", "[Service]\nExecStart=/opt/rke2 agent -d /a\n")],
            ["rke2", "/a/agent/etc/containerd/config.toml", "drop-in false", "", "/a/bin"]),
        // Its engine is somebody else's.
        (&[(K3S, UNIT), (YAML, "docker: yes\n")], ["k3s", "/etc/containerd/config.toml", "edit", "containerd.service", ""]),
        (&[(K3S, "[Service]\nExecStart=/usr/local/bin/k3s server --docker=false\n"), (YAML, "docker: true\ndata-dir: /a\n")], A),
        (&[(K3S, "[Service]\nExecStart=/usr/local/bin/k3s server --docker\n")],
            ["k3s", "/etc/containerd/config.toml", "edit", "containerd.service", ""]),
        (&[(K3S, UNIT), ("/etc/rancher/k3s/config.yaml", "container-runtime-endpoint: unix:///run/containerd/containerd.sock\n")],
            ["k3s", "/etc/containerd/config.toml", "edit", "containerd.service", ""]),
        (&[(K3S, UNIT), ("/etc/rancher/k3s/config.yaml", "docker: false\n")],
            ["k3s", "/var/lib/rancher/k3s/agent/etc/containerd/config.toml", "drop-in false", "k3s.service",
             "/var/lib/rancher/k3s/data/current/bin"]),
        // The archive of rke2 brings both units.
        (&[(RKE2, "[Service]\nExecStart=/usr/local/bin/rke2 server\n"), (RKE2_AGENT, "[Service]\nExecStart=/usr/local/bin/rke2 agent\n")],
            ["rke2", "/var/lib/rancher/rke2/agent/etc/containerd/config.toml", "drop-in false", "", "/var/lib/rancher/rke2/bin"]),
        (&[(RKE2_AGENT, "[Service]\nExecStart=/usr/local/bin/rke2 agent\n"), FLATCAR],
            ["rke2", "/var/lib/rancher/rke2/agent/etc/containerd/config.toml", "drop-in false", "rke2-agent.service",
             "/var/lib/rancher/rke2/bin"]),
        (&[("/etc/systemd/system/k0sworker.service", "[Service]\nExecStart=/usr/local/bin/k0s worker --data-dir=/d -d\n"),
           ("/etc/k0s/containerd.toml", K0S)],
            ["k0s", "/etc/k0s/containerd.toml", "drop-in true", "k0sworker.service", "/d/bin"]),
        (&[("/etc/k0s/containerd.toml", OLD_K0S)], ["k0s", "/etc/k0s/containerd.toml", "no", "", "/var/lib/k0s/bin"]),
        (&[("/etc/k0s/containerd.toml", "version = 3\n")], ["k0s", "/etc/k0s/containerd.toml", "edit", "", "/var/lib/k0s/bin"]),
        (&[("/etc/systemd/system/k0sworker.service", "[Service]\nExecStart=/usr/local/bin/k0s worker\n")],
            ["k0s", "/etc/k0s/containerd.toml", "no", "k0sworker.service", "/var/lib/k0s/bin"]),
        (&[(TEMPLATE, "version = 2\n"), (SNAP, "name: microk8s\nconfinement: classic\n")],
            ["MicroK8s", "/var/snap/microk8s/current/args/containerd.toml",
             "template /var/snap/microk8s/current/args/containerd-template.toml", "snap.microk8s.daemon-containerd.service",
             "/snap/microk8s/current/bin"]),
        (&[(TEMPLATE, "version = 2\n"), (SNAP, "confinement: strict\n")],
            ["MicroK8s", "/etc/containerd/config.toml", "no", "", ""]),
        (&[("/etc/systemd/system/snap.k8s.containerd.service", "[Service]\nExecStart=/usr/bin/snap run k8s.containerd\n")],
            ["Canonical Kubernetes", "/etc/containerd/config.toml", "no", "", ""]),
        (&[("/etc/systemd/system/nodeadm-run.service", "[Service]\n"), (CONTAINERD, "[Service]\nExecStart=/usr/bin/containerd\n")],
            ["EKS", "/etc/containerd/config.toml", "edit", "containerd.service", ""]),
        (&[("/opt/azure/containers/provision.sh", "")], ["AKS", "/etc/containerd/config.toml", "edit", "containerd.service", ""]),
        (&[("/opt/azure/containers/provision.sh", ""), FLATCAR, (CONTAINERD, FLATCARS)],
            ["AKS", "/usr/share/containerd/config.toml", "copy /etc/containerd/config.toml", "containerd.service", ""]),
        (&[FLATCAR, (CONTAINERD, FLATCARS)],
            ["Flatcar", "/usr/share/containerd/config.toml", "copy /etc/containerd/config.toml", "containerd.service", ""]),
        (&[FLATCAR, (CONTAINERD, FLATCARS),
           ("/etc/systemd/system/containerd.service.d/10-x.conf", "[Service]\nEnvironment=CONTAINERD_CONFIG=/etc/containerd/config.toml\n")],
            ["Flatcar", "/etc/containerd/config.toml", "edit", "containerd.service", ""]),
        (&[FLATCAR, ("/run/cluster-api/bootstrap-success.complete", "success")],
            ["Flatcar", "/etc/containerd/config.toml", "edit", "containerd.service", ""]),
        (&[("/run/cluster-api/bootstrap-success.complete", "success")],
            ["Cluster API", "/etc/containerd/config.toml", "edit", "containerd.service", ""]),
        (&[("/etc/machine-config-daemon/currentconfig", "{}"), ("/etc/os-release", "ID=\"rhcos\"\n")],
            ["OpenShift", "/etc/containerd/config.toml", "edit", "containerd.service", ""]),
        (&[("/etc/os-release", "ID=cos\n")], ["GKE on COS", "/etc/containerd/config.toml", "edit", "containerd.service", ""]),
        (&[("/etc/os-release", "ID=talos\n")], ["Talos", "/etc/containerd/config.toml", "no", "", ""]),
        (&[("/etc/os-release", "NAME=x\nID='bottlerocket'\n")], ["Bottlerocket", "/etc/containerd/config.toml", "no", "", ""]),
        (&[("/kind/version", "v1.36.0")], ["kind", "/etc/containerd/config.toml", "edit", "containerd.service", ""]),
        (&[("/var/lib/minikube/certs/ca.crt", "")], ["minikube", "/etc/containerd/config.toml", "edit", "containerd.service", ""]),
    ];
    for (files, [name, config, change, unit, programs]) in rows {
        let found = of(&node(files), None, None).unwrap();
        let shown = (found.name, found.config.as_ref(), how(&found.change), found.unit.unwrap_or_default());
        assert_eq!(shown, (*name, *config, (*change).to_owned(), *unit), "{files:?}");
        assert_eq!(found.programs.first().map(AsRef::as_ref).unwrap_or_default(), *programs, "{files:?}");
        // What is recorded is what was found.
        if !matches!(found.change, Change::No { .. }) {
            let text = serde_json::to_string(&found).unwrap();
            assert_eq!(serde_json::from_str::<Distribution>(&text).unwrap(), found, "{text}");
        }
    }
    let mut masked = node(&[(K3S, UNIT)]);
    masked.links.insert(K3S.into(), "/dev/null".into());
    assert_eq!(of(&masked, None, None).unwrap(), PLAIN);
    assert_eq!(of(&Fake::default().program("/etc/init.d/k3s"), None, None).unwrap().name, "k3s");
    let mut both = node(&[
        (RKE2, "[Service]\nExecStart=/usr/local/bin/rke2 server\n"),
        (RKE2_AGENT, "[Service]\nExecStart=/usr/local/bin/rke2 agent\n"),
    ]);
    both.links
        .insert("/etc/systemd/system/multi-user.target.wants/rke2-agent.service".into(), RKE2_AGENT.into());
    assert_eq!(of(&both, None, None).unwrap().unit, Some("rke2-agent.service"), "the one that is enabled");
}

#[test]
fn what_runs_tells_where_everything_is() {
    let containerd = |data: &'static str| -> Vec<&'static str> {
        vec!["/srv/k3s/data/current/bin/containerd", "-c", data]
    };
    let config = "/srv/k3s/agent/etc/containerd/config.toml";
    let k3s: &[&str] = &["/usr/local/bin/k3s", "agent"];
    let mut its = containerd(config);
    its.extend(["-a", "/run/x.sock", "--state", "/run/k3s/x", "--root", "/srv/root"]);
    let found = of(&node(&[(K3S, UNIT), (AGENT, UNIT)]), Some(&[k3s, &its]), None).unwrap();
    assert_eq!((found.name, found.config.as_ref(), found.unit), ("k3s", config, Some("k3s-agent.service")));
    assert_eq!((&*found.state, &*found.root, &*found.socket), ("/run/k3s/x", "/srv/root", "/run/x.sock"));
    assert_eq!(found.programs, ["/srv/k3s/data/current/bin"]);

    // docker's containerd beside it serves no pods, and another may be there as well.
    let off = ("/etc/containerd/config.toml", "disabled_plugins = [\"cri\"]\n");
    let dockers: &[&str] = &["/usr/bin/containerd", "--config", "/var/run/docker/containerd/containerd.toml"];
    let plain: &[&str] = &["/usr/bin/containerd"];
    for (files, running) in [
        (vec![(K3S, UNIT), off], vec![plain]),
        (vec![(K3S, UNIT)], vec![dockers]),
        (vec![(K3S, UNIT)], vec![]),
        (vec![], vec![k3s]),
        (vec![(K3S, UNIT)], vec![k3s, plain]),
    ] {
        assert_eq!(of(&node(&files), Some(&running), None).unwrap().name, "k3s", "{files:?} {running:?}");
    }
    let flags: &[&str] = &["/usr/bin/containerd", "--config=/etc/c.toml", "--address", "/run/c.sock"];
    let files = [("/etc/c.toml", "state = \"/run/s\"\nroot = \"/r\"\n[grpc]\naddress = \"/run/no.sock\"\n")];
    // The unit is of the next start, and cannot be followed.
    let unclear = (CONTAINERD, "[Service]\nExecStart=/bin/sh -c 'exec containerd'\n");
    let found = of(&node(&[files[0], unclear]), Some(&[flags]), None).unwrap();
    assert_eq!((found.config.as_ref(), &*found.state), ("/etc/c.toml", "/run/s"));
    assert_eq!((&*found.root, &*found.socket), ("/r", "/run/c.sock"));
    let found = of(
        &node(&[FLATCAR, (CONTAINERD, FLATCARS)]),
        Some(&[&["/usr/bin/containerd", "--config", "/usr/share/containerd/config.toml"]]),
        None,
    );
    assert_eq!(how(&found.unwrap().change), "copy /etc/containerd/config.toml");
}

#[test]
fn a_k3s_in_a_container_is_not_the_nodes() {
    let directory = tempfile::tempdir().unwrap();
    let processes = Processes::in_folder(directory.path(), Path::new("/"));
    fake::add(directory.path(), directory.path(), 7, 5, &["/usr/local/bin/k3s", "server"]);
    assert_eq!(Distribution::of(&Fake::default(), &processes).unwrap(), PLAIN);
    fake::add(directory.path(), Path::new("/"), 8, 5, &["/usr/local/bin/k3s", "server"]);
    assert_eq!(Distribution::of(&Fake::default(), &processes).unwrap().name, "k3s");
    let users = Processes::of_a_user(directory.path(), Path::new("/"));
    assert_eq!(Distribution::of(&Fake::default(), &users).unwrap(), PLAIN, "anybody may have such a program");
}

#[test]
fn what_contradicts_itself_is_refused_with_both_names() {
    let plain: &[&str] = &["/usr/bin/containerd"];
    let k3s: &[&str] = &["/usr/local/bin/k3s", "server"];
    let eks = ("/etc/systemd/system/nodeadm-run.service", "[Service]\n");
    let rke2 = (RKE2, "[Service]\nExecStart=/usr/local/bin/rke2 server\n");
    #[rustfmt::skip]
    let rows: &[Refusal<'_>] = &[
        (&[(K3S, UNIT), rke2], None, None, &["k3s (k3s.service)", "rke2 (rke2-server.service)", "--distribution"]),
        (&[rke2], Some(&[k3s]), None, &["k3s (process 7, /usr/local/bin/k3s)", "rke2 (rke2-server.service)"]),
        (&[(K3S, UNIT)], Some(&[plain]), None, &["k3s (k3s.service)", "plain (process 7, /usr/bin/containerd)"]),
        (&[(K3S, UNIT), eks], None, None, &["k3s (k3s.service)", "EKS (nodeadm-run.service)"]),
        (&[(K3S, UNIT)], None, Some("rke2"), &["--distribution rke2", "this node is k3s (k3s.service)"]),
        (&[(K3S, UNIT)], None, Some("plain"), &["--distribution plain", "this node is k3s (k3s.service)"]),
        (&[], None, Some("k3s"), &["--distribution k3s", "this node is plain"]),
        (&[(CONTAINERD, "[Service]\nExecStart=/bin/sh -c 'containerd'\n")], None, None,
            &[CONTAINERD, "not containerd itself", "--config"]),
        (&[(CONTAINERD, "[Service]\nExecStart=/usr/bin/containerd -c /x/%H\n")], None, None, &["a specifier", "--config"]),
        (&[(CONTAINERD, "[Service]\nWorkingDirectory=~\nExecStart=/usr/bin/containerd -c c.toml\n")], None, None,
            &["c.toml from a working directory", "--config"]),
        (&[(K3S, UNIT), ("/etc/rancher/k3s/config.yaml", "data-dir: k3s\n")], None, None, &["\"k3s\" is no whole path"]),
        (&[(K3S, UNIT), (YAML, "data-dir: [[/x]]\n")], None, None, &[YAML, "the value of data-dir is no text", "--config"]),
        (&[(K3S, UNIT), (YAML, "data-dir: /x\ndata-dir: /y\n")], None, None, &[YAML, "2:1", "\"data-dir\" occurs twice"]),
        (&[(K3S, UNIT), (YAML, "x: &a {data-dir: /x}\n<<: *a\n")], None, None, &[YAML, "a merge key (<<)"]),
        (&[(K3S, UNIT), (YAML, "- data-dir: /x\n")], None, None, &[YAML, "it is no mapping"]),
        (&[(K3S, UNIT), (YAML, "data-dir: [\n")], None, None, &[YAML, "--config"]),
        (&[(K3S, "[Service]\nExecStart=/usr/local/bin/k3s server -c http://x/y\n")], None, None, &["http://x/y", "no", "--config"]),
        (&[(K3S, "[Service]\nEnvironment=K3S_DATA_DIR=/b\nExecStart=/usr/local/bin/k3s server\n"), (YAML, "data-dir: /a\n")], None, None,
            &["\"/a\"", "K3S_DATA_DIR=/b", "--config"]),
        (&[(K3S, "[Service]\nExecStart=/bin/sh -c 'k3s server -d /x'\n")], None, None, &[K3S, "not k3s itself", "--config"]),
        (&[("/etc/systemd/system/k3s-foo.service", "[Service]\nExecStart=/bin/sh -c 'k3s server -d /x'\n")], None, None,
            &["k3s-foo.service", "not k3s itself", "--config"]),
        (&[("/etc/systemd/system/k3s-foo.service", "[Service]\nExecStart=/usr/local/bin/k3s server -d /%m\n")], None, None,
            &["k3s-foo.service", "a specifier", "--config"]),
        (&[("/etc/systemd/system/k3s-foo.service", "[Service]\nExecStart=/usr/local/bin/k3s server -d /x\n"), (K3S, UNIT)], None, None,
            &["k3s-foo.service", "other options than", K3S, "--config"]),
        (&[("/etc/init.d/k3s-foo", "#!/sbin/openrc-run\ncommand=/usr/local/bin/k3s\ncommand_args=\"server $MORE\"\n")], None, None,
            &["/etc/init.d/k3s-foo", "command_args=", "--config"]),
    ];
    for (files, running, said, words) in rows {
        let error = of(&node(files), *running, *said).unwrap_err();
        let says = error.to_string();
        assert_eq!(line(&error), says, "the cause is in it once");
        for word in *words {
            assert!(says.contains(word), "{word:?} is not in {says:?}");
        }
    }
    // Of two that were found, the one that is said counts.
    for (files, running, said) in [
        (&[(K3S, UNIT), rke2][..], None, "rke2"),
        (&[(K3S, UNIT), rke2], None, "k3s"),
        (&[(K3S, UNIT)], Some(&[plain][..]), "plain"),
        (&[(K3S, UNIT)], Some(&[plain]), "k3s"),
        (&[(K3S, UNIT), FLATCAR], None, "Flatcar"),
        (&[], None, "plain"),
    ] {
        assert_eq!(of(&node(files), running, Some(said)).unwrap().name, said, "{files:?}");
    }
}

#[test]
fn programs_are_found_in_the_folders_of_the_distribution_first() {
    let node = node(&[(K3S, UNIT)]).program("/usr/bin/runc").program("/usr/bin/containerd");
    let k3s = of(&node, None, None).unwrap();
    assert_eq!(k3s.find(&node, "runc").as_deref(), Some(Path::new("/usr/bin/runc")));
    let own = "/var/lib/rancher/k3s/data/current/bin/runc";
    assert_eq!(k3s.find(&node.program(own), "runc").as_deref(), Some(Path::new(own)));
}

/// The first in the usual folders need not be the one that serves pods.
#[test]
fn the_containerd_that_is_asked_is_the_one_that_the_unit_starts() {
    let both = ["/usr/local/bin/containerd", "/usr/bin/containerd", "/opt/c2/containerd"];
    let runs: &[&str] = &["/usr/bin/containerd"];
    // What the unit starts, what runs, and what is asked.
    for (starts, running, expected) in [
        (None, None, Some(both[0])),
        (Some("/usr/bin/containerd"), None, Some(both[1])),
        (Some("-/opt/c2/containerd -c /c.toml"), None, Some(both[2])),
        (Some("containerd"), None, Some(both[0])),
        (Some("/opt/none/containerd"), None, None),
        (Some("/opt/c2/containerd"), Some(&[runs][..]), Some(both[2])),
        // Something else has started it.
        (Some("/opt/none/containerd"), Some(&[runs]), Some(both[0])),
        (Some("/bin/sh -c containerd"), Some(&[runs]), Some(both[0])),
    ] {
        let text = starts.map(|starts| format!("[Service]\nExecStart={starts}\n"));
        let files: Vec<(&str, &str)> = text.iter().map(|text| (CONTAINERD, &**text)).collect();
        let node = both.iter().fold(node(&files), |node, program| node.program(program));
        let found = of(&node, running, None).unwrap();
        assert_eq!(found.containerd(&node).as_deref(), expected.map(Path::new), "{starts:?} {running:?}");
    }
}
