//! Is every kind of volume started or refused as admission would? The API server says what it would do, the gate does it.
//!
//! Every pod is as `restricted` wants it but for its volume. Each is asked for twice: as a dry run in a namespace in which
//! the API server holds it against a level, and in one that the API server lets alone and the gate holds against that level.
//! `PSS_GUARD_FACTS=DIR` keeps what the engine made of each container: its mounts, the mount table, the owners of every
//! directory on the way.

// What each pod of the table asks for.
mod pods;
// The volumes of a podman without root.
pub(crate) mod rootless;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use pods::{ARTIFACT, Asked, Expected};
use serde_json::{Value, json};

use crate::support::engine::{Engine, Kind};
use crate::support::files;
use crate::support::gate::{self, Restart, methods};
use crate::support::kube::Cluster;
use crate::support::machine::Machine;
use crate::support::run::{self, Done};

/// Where the kubelet's directory lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Root {
    InPlace,
    /// `/var/lib/kubelet` is a symbolic link to a disk of its own, and the kubelet goes by the link's name.
    BehindALink,
    /// The same, and the kubelet goes by where the link leads.
    WhereALinkLeads,
}

impl Root {
    fn dir(self) -> &'static str {
        if self == Self::WhereALinkLeads { "/opt/disks/kubelet/root" } else { "/var/lib/kubelet" }
    }
}

#[test]
fn volumes_on_containerd() {
    tell("volumes::volumes_on_containerd", Kind::Containerd2, Root::InPlace);
}

#[test]
fn volumes_on_cri_o() {
    tell("volumes::volumes_on_cri_o", Kind::CriO, Root::InPlace);
}

#[test]
fn volumes_behind_a_link() {
    tell("volumes::volumes_behind_a_link", Kind::Containerd2, Root::BehindALink);
}

#[test]
fn volumes_where_a_link_leads() {
    tell("volumes::volumes_where_a_link_leads", Kind::CriO, Root::WhereALinkLeads);
}

fn tell(test: &str, kind: Kind, root: Root) {
    let programs = ["losetup", "mkfs.ext4", "blkid", "namei"];
    if !Cluster::can_run(test, kind) || !Machine::can_run(test, &programs, &["runc-1/runc", "node-plugins"]) {
        return;
    }
    let mut engine = Engine::up(kind);
    let block_devices = lay_out(&engine.machine, root);
    if kind == Kind::CriO {
        lay_out_artifact(&engine.machine);
    }
    engine.machine.write("/etc/pss-guard/policy.toml", POLICY);
    gate::install(&engine.machine, kind.name(), methods(kind).0, Restart::Later);
    // It also asks the runtime what that can do.
    engine.restart();
    let cluster = Cluster::up_on(engine, &[&format!("--root-dir={}", root.dir())]);
    let machine = &cluster.engine.machine;
    machine.start("node-plugins", &["node-plugins", root.dir(), pods::CSI_DATA]);

    let asked = pods::all(kind, &block_devices);
    let volumes = Volumes { cluster: &cluster, asked };
    volumes.prepare();
    let admitted = volumes.admitted();
    let asked_at = Instant::now();
    volumes.ask();
    let seen = volumes.settled(&admitted);
    let seconds = asked_at.elapsed().as_secs();
    volumes.keep_facts(&format!("{}-{root:?}", kind.name()));
    let (table, wrong) = volumes.judge(&admitted, &seen);
    eprintln!("{test}\n{table} after {seconds} s");
    let said = || ["node-plugins", "kubelet", "engine"].map(|name| machine.said(name)).join("\n");
    assert!(wrong.is_empty(), "{} went wrong on {kind:?}\n\n{}\n{}", wrong.len(), wrong.join("\n\n"), said());
}

const POLICY: &str = r#"mode = "enforce"
log-allowed = true

[defaults]
enforce = "privileged"
audit = "privileged"
warn = "privileged"

[namespaces.baseline]
enforce = "baseline"

[namespaces.restricted]
enforce = "restricted"

# What engines bind for pods that join the host is no hostPath volume.
[[exceptions]]
namespace = "restricted"
controls = ["hostNamespaces"]
reason = "joins the host"
expires = 2099-12-31

[node]
not-host-paths = ["/opt/disks/parts/listed"]
"#;

/// A runtime that gives pods users of their own, disks, and what vendors leave on a node. Gives the loop devices.
fn lay_out(machine: &Machine, root: Root) -> BlockDevices {
    machine.link("runc-1/runc", "/usr/sbin/runc");
    machine.link("node-plugins", "/usr/bin/node-plugins");
    machine.write("/etc/cdi/acme.json", CDI);
    machine.write("/opt/acme/lib/libacme.so.1", "a library");
    machine.write("/opt/acme/bin/acme-smi", "a program");
    let flex = "/usr/libexec/kubernetes/kubelet-plugins/volume/exec/acme~flex/flex";
    machine.write(flex, FLEX);
    machine.run(&["chmod", "0755", flex]).expect_success();
    machine.run(&["sh", "-e", "-c", DISKS]).expect_success();
    if root != Root::InPlace {
        machine.run(&["sh", "-e", "-c", LINK]).expect_success();
    }
    BlockDevices::new(machine)
}

/// File systems of their own, and directories in one.
const DISKS: &str = r"
umask 022
for disk in whole parts; do
    truncate -s 64M /run/machine/$disk.img
    mkfs.ext4 -q /run/machine/$disk.img
    mkdir -p /opt/disks/$disk
    mount -o loop /run/machine/$disk.img /opt/disks/$disk
    chmod 0777 /opt/disks/$disk
done
cd /opt/disks/parts
mkdir -p csi/share csi/directory csi/raw host/dir host-claim/dir listed/claim/dir local
mount -t tmpfs tmpfs csi/share
chmod 0777 host host-claim listed/claim local
for dir in host host-claim listed/claim; do echo text >$dir/dir/file; done
";

const LINK: &str = r"
mkdir -p /opt/disks/kubelet
mount --bind /var/lib/kubelet /opt/disks/kubelet
umount /var/lib/kubelet
rmdir /var/lib/kubelet
mkdir /opt/disks/kubelet/root
ln -s /opt/disks/kubelet/root /var/lib/kubelet
";

/// As vendors of accelerators write it: device nodes, libraries, programs, and a hook. The device is one that machines
/// have which have disks of this sort: runc binds it by its path into a pod that has users of its own.
const CDI: &str = r#"{
  "cdiVersion": "0.6.0",
  "kind": "acme.example/gpu",
  "devices": [
    {"name": "0", "containerEdits": {"deviceNodes": [{"path": "/dev/loop-control"}]}}
  ],
  "containerEdits": {
    "env": ["ACME_VISIBLE_DEVICES=void"],
    "hooks": [{"hookName": "createContainer", "path": "/usr/bin/true", "args": ["true"]}],
    "mounts": [
      {"hostPath": "/opt/acme/lib/libacme.so.1", "containerPath": "/usr/lib/libacme.so.1", "options": ["ro", "nosuid", "nodev", "bind"]},
      {"hostPath": "/opt/acme/bin/acme-smi", "containerPath": "/usr/bin/acme-smi", "options": ["ro", "nosuid", "nodev", "rbind", "rprivate"]}
    ]
  }
}
"#;

/// The oldest kind of plugin: a program that mounts.
const FLEX: &str = r#"#!/bin/sh
case $1 in
init) echo '{"status": "Success", "capabilities": {"attach": false}}' ;;
mount)
    mkdir -p "$2"
    mountpoint -q "$2" || mount -t tmpfs -o mode=0777 tmpfs "$2"
    echo '{"status": "Success"}'
    ;;
unmount)
    umount "$2"
    echo '{"status": "Success"}'
    ;;
*) echo '{"status": "Not supported"}' ;;
esac
"#;

/// Disks without a mount, one with a file system and one without.
pub(crate) struct BlockDevices {
    pub(crate) formatted: String,
    pub(crate) raw: String,
}

impl BlockDevices {
    fn new(machine: &Machine) -> Self {
        let attach = |name: &str, script: &str| {
            let file = format!("/run/machine/{name}.img");
            let script = format!("truncate -s 64M \"$1\" && {script} losetup --find --show \"$1\"");
            let done = machine.run(&["sh", "-c", &script, "sh", &file]).expect_success();
            done.stdout.trim().to_owned()
        };
        Self { formatted: attach("formatted", "mkfs.ext4 -q \"$1\" &&"), raw: attach("raw", "") }
    }
}

impl Drop for BlockDevices {
    fn drop(&mut self) {
        let losetup = |arguments: &[&str]| run::run(Command::new("losetup").args(arguments));
        for device in [&self.formatted, &self.raw] {
            // The kubelet lays one over a volume without a file system, and the machine's end does not take it away.
            let over = losetup(&["--noheadings", "--output=NAME", "--list", "--associated", device]);
            over.stdout.lines().for_each(|over| drop(losetup(&["--detach", over.trim()])));
            losetup(&["--detach", device]);
        }
    }
}

/// Into the store that CRI-O keeps beside its images (`internal/ociartifact/store.go`), an OCI layout.
fn lay_out_artifact(machine: &Machine) {
    let store = "/var/lib/containers/storage/artifacts";
    let blob = |text: &str| {
        machine.write("/run/machine/blob", text);
        let done = machine.run(&["sha256sum", "/run/machine/blob"]).expect_success();
        let digest = done.stdout.split_whitespace().next().unwrap_or_default().to_owned();
        machine.write(&format!("{store}/blobs/sha256/{digest}"), text);
        (format!("sha256:{digest}"), text.len())
    };
    let layers: Vec<Value> = ["file", "dir/file"]
        .map(|title| {
            let (digest, size) = blob(&format!("the text of {title}"));
            let title = json!({"org.opencontainers.image.title": title});
            json!({"mediaType": "text/plain", "digest": digest, "size": size, "annotations": title})
        })
        .to_vec();
    let (empty, size) = blob("{}");
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.acme.data",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": size},
        "layers": layers,
    });
    let (digest, size) = blob(&manifest.to_string());
    let index = json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": digest,
            "size": size,
            "annotations": {"org.opencontainers.image.ref.name": ARTIFACT},
        }],
    });
    machine.write(&format!("{store}/index.json"), &index.to_string());
    machine.write(&format!("{store}/oci-layout"), "{\"imageLayoutVersion\": \"1.0.0\"}");
}

/// What became of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Started,
    /// By the gate, with its words.
    Refused(String),
    /// By somebody else.
    Failed(String),
}

impl Outcome {
    fn word(&self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Refused(_) => "refused",
            Self::Failed(_) => "FAILED",
        }
    }
}

/// What the API server would do with a pod: `None` lets it in, else its words.
type Admitted = BTreeMap<(String, String), Option<String>>;

/// Containers by namespace, pod and name.
type Outcomes = BTreeMap<(String, String, String), Outcome>;

/// The pods, and the cluster that is asked for them.
struct Volumes<'a> {
    cluster: &'a Cluster,
    asked: Vec<Asked>,
}

impl Volumes<'_> {
    /// What the pods refer to. The controllers that would bind claims do not run here, so they are bound by hand.
    fn prepare(&self) {
        for level in pods::LEVELS {
            self.cluster.kubectl(&["create", "namespace", level]).expect_success();
            let judged = format!("judged-{level}");
            self.cluster.kubectl(&["create", "namespace", &judged]).expect_success();
            let label = format!("pod-security.kubernetes.io/enforce={level}");
            self.cluster.kubectl(&["label", "namespace", &judged, &label]).expect_success();
        }
        let objects: Vec<Value> = pods::LEVELS.iter().flat_map(|level| pods::objects(level)).collect();
        self.cluster.apply(&[&objects[..], &[pods::csi_driver()]].concat());
        let claims: BTreeMap<(String, String), pods::Bound> =
            self.asked.iter().filter_map(Asked::claim).map(|bound| (bound.key(), bound)).collect();
        self.bind(&claims.into_values().collect::<Vec<_>>());
    }

    /// Claims come first: a volume names its claim by the UID.
    fn bind(&self, claims: &[pods::Bound]) {
        self.cluster.apply(&claims.iter().map(|bound| bound.claim.clone()).collect::<Vec<_>>());
        let made = self.list("persistentvolumeclaims");
        let volumes: Vec<Value> = claims.iter().map(|bound| bound.volume(&made)).collect();
        self.cluster.apply(&volumes);
        let list: Vec<&Value> = claims.iter().map(|bound| &bound.claim).collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": list});
        self.cluster.engine.machine.write("/run/machine/claims.json", &list.to_string());
        let file = "--filename=/run/machine/claims.json";
        self.cluster.kubectl(&["replace", "--subresource=status", file]).expect_success();
    }

    /// What the API server says of every pod, without creating one.
    fn admitted(&self) -> Admitted {
        let mut admitted = Admitted::new();
        for level in pods::LEVELS {
            let of_level = || self.asked.iter().filter(|asked| asked.namespace() == level);
            let manifests: Vec<Value> = of_level()
                .map(|asked| {
                    let mut manifest = asked.manifest.clone();
                    manifest["metadata"]["namespace"] = json!(format!("judged-{level}"));
                    manifest
                })
                .collect();
            let list = json!({"apiVersion": "v1", "kind": "List", "items": manifests});
            self.cluster.engine.machine.write("/run/machine/judged.json", &list.to_string());
            let done = self.cluster.kubectl(&[
                "create",
                "--dry-run=server",
                "--output=name",
                "--filename=/run/machine/judged.json",
            ]);
            let accepted: Vec<&str> = done.stdout.lines().collect();
            for asked in of_level() {
                let name = asked.name();
                let refused = done.stderr.lines().find_map(|line| {
                    let (_, words) = line.split_once(&format!("pods \"{name}\" is forbidden: "))?;
                    words.contains("violates PodSecurity").then(|| words.to_owned())
                });
                let let_in = accepted.contains(&format!("pod/{name}").as_str());
                assert!(let_in != refused.is_some(), "what does the API server say of {name}?\n{done}");
                admitted.insert((level.to_owned(), name.to_owned()), refused);
            }
        }
        admitted
    }

    /// Asks for them, all at once.
    fn ask(&self) {
        let manifests: Vec<Value> = self.asked.iter().map(|asked| asked.manifest.clone()).collect();
        self.cluster.apply(&manifests);
        // The claims of generic ephemeral volumes, which are their pods'.
        let pods = self.list("pods");
        let claims: Vec<pods::Bound> =
            self.asked.iter().filter_map(|asked| asked.ephemeral_claim(&pods)).collect();
        self.bind(&claims);
    }

    fn list(&self, kind: &str) -> Vec<Value> {
        let done = self.cluster.kubectl(&["get", kind, "--all-namespaces", "--output=json"]).expect_success();
        let list: Value = serde_json::from_str(&done.stdout).expect("JSON of kubectl's");
        list["items"].as_array().cloned().unwrap_or_default()
    }

    fn outcomes(&self) -> Outcomes {
        let mut outcomes = Outcomes::new();
        for pod in self.list("pods") {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (namespace, name) = (text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"]));
            let status = &pod["status"];
            let lists =
                ["initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"].map(|list| {
                    let init = list == "initContainerStatuses";
                    status[list].as_array().into_iter().flatten().map(move |status| (init, status))
                });
            for (init, status) in lists.into_iter().flatten() {
                if let Some(outcome) = outcome(init, &status["state"]) {
                    outcomes.insert((namespace.clone(), name.clone(), text(&status["name"])), outcome);
                }
            }
        }
        outcomes
    }

    /// What became of every container, once it is as it should be, or nothing changes any more.
    fn settled(&self, admitted: &Admitted) -> Outcomes {
        let (mut seen, mut words) = (Outcomes::new(), Vec::new());
        let (mut asked_later, mut changed_at) = (false, Instant::now());
        let mut ended = BTreeSet::new();
        run::within(Duration::from_secs(600), || {
            let settled = |outcome: &Outcome| !matches!(outcome, Outcome::Failed(_));
            let now = self.outcomes().into_iter();
            seen.extend(now.filter(|(key, _)| !seen.get(key).is_some_and(settled)).collect::<Outcomes>());
            self.end_refused(&seen, &mut ended);
            let now: Vec<&str> = seen.values().map(Outcome::word).collect();
            if now != words {
                (words, changed_at) = (now, Instant::now());
            }
            let here = self.asked.iter().all(|asked| {
                let containers = asked.containers(asked_later);
                containers.iter().all(|container| {
                    expected(asked, container, admitted).is_met_by(seen.get(&asked.key(container)))
                })
            });
            if (here || changed_at.elapsed() > Duration::from_secs(60)) && !asked_later {
                self.ask_later();
                (asked_later, changed_at) = (true, Instant::now());
                return false;
            }
            // kubectl is no light program, and the node has other work.
            here || changed_at.elapsed() > Duration::from_secs(60) || {
                std::thread::sleep(Duration::from_secs(2));
                false
            }
        });
        seen
    }

    /// The kubelet tries refused containers again and again, which costs the others their time.
    fn end_refused(&self, seen: &Outcomes, ended: &mut BTreeSet<(String, String)>) {
        if facts_dir("").is_some() {
            return;
        }
        for namespace in pods::LEVELS {
            let mut names = Vec::new();
            for asked in self.asked.iter().filter(|asked| asked.namespace() == namespace) {
                let outcomes: Option<Vec<&Outcome>> =
                    asked.containers(true).iter().map(|container| seen.get(&asked.key(container))).collect();
                let refused = |outcome: &&Outcome| matches!(outcome, Outcome::Refused(_));
                if outcomes.is_some_and(|outcomes| outcomes.iter().any(refused))
                    && ended.insert((namespace.to_owned(), asked.name().to_owned()))
                {
                    names.push(asked.name());
                }
            }
            if !names.is_empty() {
                let delete = ["delete", "pods", "--namespace", namespace, "--grace-period=1", "--wait=false"];
                self.cluster.kubectl(&[&delete[..], &names].concat()).expect_success();
            }
        }
    }

    /// Asks for containers that come to pods which run.
    fn ask_later(&self) {
        for asked in self.asked.iter().filter(|asked| !asked.later.is_null()) {
            let (namespace, name) = (asked.namespace(), asked.name());
            let url = format!("/api/v1/namespaces/{namespace}/pods/{name}/ephemeralcontainers");
            let done = self.cluster.kubectl(&["get", "--raw", &url]).expect_success();
            let mut pod: Value = serde_json::from_str(&done.stdout).expect("JSON of the API server's");
            pod["spec"]["ephemeralContainers"] = asked.later.clone();
            self.cluster.engine.machine.write("/run/machine/later.json", &pod.to_string());
            let file = "--filename=/run/machine/later.json";
            self.cluster.kubectl(&["replace", "--raw", &url, file]).expect_success();
        }
    }

    /// The table of results, and what is wrong in it.
    fn judge(&self, admitted: &Admitted, seen: &Outcomes) -> (String, Vec<String>) {
        let (mut table, mut wrong) = (String::new(), Vec::new());
        let (mut started, mut refused) = (0, 0);
        for asked in &self.asked {
            let admission = &admitted[&(asked.namespace().to_owned(), asked.name().to_owned())];
            let says = if admission.is_some() { "refuses" } else { "admits" };
            let _ = write!(table, "{:<10} {:<32} {says:<8}", asked.namespace(), asked.name());
            for container in asked.containers(true) {
                let key = asked.key(&container);
                let outcome = seen.get(&key);
                let wanted = expected(asked, &container, admitted);
                let word = outcome.map_or("PENDING", Outcome::word);
                started += usize::from(outcome == Some(&Outcome::Started));
                refused += usize::from(matches!(outcome, Some(Outcome::Refused(_))));
                let met = wanted.is_met_by(outcome);
                let _ = write!(table, " {container}:{}{word}", if met { "" } else { "!" });
                if !met {
                    wrong.push(format!(
                        "{}/{}, container {container} should have been {wanted:?}, and is {outcome:?}\nadmission: {}\nits mounts: {}\nthe gate: {}",
                        asked.namespace(),
                        asked.name(),
                        admission.as_deref().unwrap_or("admits it"),
                        asked.mounts_of(&container),
                        self.events(&key).join("\n"),
                    ));
                }
            }
            table.push('\n');
        }
        let _ = write!(table, "{} pods: {started} containers started, {refused} refused", self.asked.len());
        (table, wrong)
    }

    /// What the gate wrote down about a container.
    fn events(&self, (namespace, pod, container): &(String, String, String)) -> Vec<String> {
        let of =
            |event: &&Value| event["PSS_CONTAINER"] == *container && event["PSS_NAMESPACE"] == *namespace;
        let events = self.cluster.engine.machine.events("PSS_POD", pod);
        events.iter().filter(of).filter_map(|event| event["MESSAGE"].as_str()).map(str::to_owned).collect()
    }

    /// What the engine made of each container that is there, into a folder.
    fn keep_facts(&self, name: &str) {
        let Some(dir) = facts_dir(name) else { return };
        let machine = &self.cluster.engine.machine;
        let list = machine.run(&["sh", "-c", "ls /run/containerd/io.containerd.runtime.v2.task/k8s.io/*/config.json /run/containers/storage/*-containers/*/userdata/config.json 2>/dev/null"]);
        for path in list.stdout.lines() {
            let Ok(config) = serde_json::from_str::<Value>(&machine.read(path)) else { continue };
            let annotation = |keys: [&str; 2]| {
                let found = keys.iter().find_map(|key| config["annotations"][*key].as_str());
                found.unwrap_or_default().to_owned()
            };
            let namespace =
                annotation(["io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace"]);
            let pod = annotation(["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"]);
            let container = annotation(["io.kubernetes.cri.container-name", "io.kubernetes.container.name"]);
            let file = dir.join(&namespace).join(format!("{pod}.{container}.txt"));
            files::write(&file, &facts(|line| machine.run(line), path, &config));
        }
        let table = machine.run(&["cat", "/proc/self/mountinfo"]).stdout;
        files::write(&dir.join("mountinfo"), &table);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Started,
    Refused,
}

impl Wanted {
    fn is_met_by(self, outcome: Option<&Outcome>) -> bool {
        match self {
            Self::Started => outcome == Some(&Outcome::Started),
            Self::Refused => matches!(outcome, Some(Outcome::Refused(_))),
        }
    }
}

/// What must become of a container.
fn expected(asked: &Asked, container: &str, admitted: &Admitted) -> Wanted {
    let admitted = &admitted[&(asked.namespace().to_owned(), asked.name().to_owned())];
    let refused = match asked.expected {
        Expected::AsAdmission => admitted.is_some(),
        Expected::RefusedAllTheSame => true,
        Expected::StartedAllTheSame => false,
    };
    if refused && asked.mounts(container) { Wanted::Refused } else { Wanted::Started }
}

/// `None` while it waits for something.
fn outcome(init: bool, state: &Value) -> Option<Outcome> {
    let told = |state: &Value| {
        let words =
            ["reason", "message"].map(|key| state[key].as_str().unwrap_or_default().replace('\\', ""));
        let words = words.join(": ");
        if words.contains("violates PodSecurity") { Outcome::Refused(words) } else { Outcome::Failed(words) }
    };
    let ended = &state["terminated"];
    if !state["running"].is_null() || (init && ended["exitCode"] == 0) {
        return Some(Outcome::Started);
    }
    if ended.is_object() {
        return Some(told(ended));
    }
    let waiting = &state["waiting"];
    match waiting["reason"].as_str().unwrap_or_default() {
        "" | "ContainerCreating" | "PodInitializing" => None,
        _ => Some(told(waiting)),
    }
}

/// Where facts are kept, if they are asked for.
fn facts_dir(name: &str) -> Option<PathBuf> {
    let dir = std::env::var_os("PSS_GUARD_FACTS").filter(|dir| !dir.is_empty())?;
    Some(PathBuf::from(dir).join(name))
}

/// What an engine made of a container: `run` runs a command where its mounts are.
fn facts(run: impl Fn(&[&str]) -> Done, path: &str, config: &Value) -> String {
    let mounts = config["mounts"].as_array().cloned().unwrap_or_default();
    let mut text = format!("{path}\n\nmounts\n");
    for mount in &mounts {
        let _ = writeln!(text, "  {mount}");
    }
    for key in ["uidMappings", "devices", "rootfsPropagation"] {
        let _ = writeln!(text, "linux.{key} {}", config["linux"][key]);
    }
    let _ = writeln!(text, "hooks {}\nannotations {:#}", config["hooks"], config["annotations"]);
    let bound = |mount: &&Value| {
        let options = mount["options"].as_array().into_iter().flatten();
        options.clone().any(|option| option == "bind" || option == "rbind")
    };
    let sources: Vec<&str> =
        mounts.iter().filter(bound).filter_map(|mount| mount["source"].as_str()).collect();
    let script = "for source; do namei -l \"$source\"; \
                  stat -Lc 'device %d inode %i mode %a owner %u:%g' \"$source\"; \
                  findmnt -no ID,PARENT,MAJ:MIN,FSROOT,TARGET,FSTYPE,SOURCE,OPTIONS --target \"$source\"; echo; done";
    text + &run(&[&["sh", "-c", script, "sh"], &sources[..]].concat()).stdout
}
