//! A real kubelet and a real API server around an engine: pods come by `kubectl apply` or by a file, and what became of
//! them is read where people read it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::engine::{Engine, Kind};
use crate::support::image;
use crate::support::machine::Machine;
use crate::support::pod::{Capabilities, Pod, ProcMount, Seccomp, Volume};
use crate::support::run::{self, Done};

/// Where the kubelet looks for pods of its own.
const STATIC_PODS: &str = "/etc/kubernetes/manifests";

/// Where kubeadm leaves the node its own identity.
pub(crate) const KUBELETS_CONFIG: &str = "/etc/kubernetes/kubelet.conf";

/// The kubelet's configuration.
pub(crate) const KUBELETS_SETTINGS: &str = "/etc/kubernetes/kubelet.yaml";

/// A cluster of one node.
pub(crate) struct Cluster {
    pub(crate) engine: Engine,
}

impl Cluster {
    pub(crate) fn can_run(test: &str, kind: Kind) -> bool {
        let parts = ["etcd", "kube-apiserver", "kubelet", "kubectl"];
        kind.can_run(test) && Machine::can_run(test, &["openssl"], &parts)
    }

    pub(crate) fn up(kind: Kind) -> Self {
        Self::up_on(Engine::up(kind), &[])
    }

    /// The same around an engine that is up already, on a machine that was changed since; the options are the kubelet's.
    pub(crate) fn up_on(engine: Engine, options: &[&str]) -> Self {
        let kind = engine.kind;
        let cluster = Self { engine };
        let machine = &cluster.engine.machine;
        for program in ["etcd", "kube-apiserver", "kubelet", "kubectl"] {
            machine.link(program, &format!("/usr/bin/{program}"));
        }
        machine.run(&["mkdir", "-p", STATIC_PODS, "/run/machine/.kube"]).expect_success();
        machine.run(&["openssl", "genrsa", "-out", "/etc/kubernetes/accounts.key", "2048"]).expect_success();
        machine.write(
            "/etc/kubernetes/tokens.csv",
            "c0ffee,admin,1,system:masters\n0ddba11,system:node:node,2,system:nodes\n",
        );
        machine.write(KUBELETS_CONFIG, &KUBECONFIG.replace("c0ffee", "0ddba11"));
        machine.write(KUBELETS_SETTINGS, &kubelet_config(kind));
        machine.write("/run/machine/.kube/config", KUBECONFIG);
        machine.start("etcd", &ETCD);
        machine.start("kube-apiserver", &[&API_SERVER[..], &ON_THE_NODE].concat());
        cluster.wait_for("the API server", "kube-apiserver", || {
            cluster.kubectl(&["get", "--raw", "/readyz"]).stdout == "ok"
                && cluster.kubectl(&["get", "namespace", "default"]).code == Some(0)
        });
        machine.start("kubelet", &[&KUBELET[..], options].concat());
        cluster.wait_for("the kubelet", "kubelet", || {
            cluster.kubectl(&["wait", "--for=condition=Ready", "node/node", "--timeout=1s"]).code == Some(0)
        });
        cluster.kubectl(&["create", "namespace", "shop"]).expect_success();
        cluster
    }

    fn wait_for(&self, what: &str, log: &str, ready: impl FnMut() -> bool) {
        let up = run::within(Duration::from_secs(120), ready);
        assert!(up, "{what} does not come up\n{}", self.engine.machine.said(log));
    }

    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Done {
        self.engine.machine.run(&[&["kubectl"], arguments].concat())
    }

    /// Hands pods to the API server.
    pub(crate) fn apply(&self, manifests: &[Value]) {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": manifests});
        self.engine.machine.write("/run/machine/pods.json", &list.to_string());
        self.kubectl(&["apply", "--filename", "/run/machine/pods.json"]).expect_success();
    }

    /// Leaves a pod where the kubelet finds it without the API server.
    pub(crate) fn lay_down(&self, manifest: &Value) {
        let name = manifest["metadata"]["name"].as_str().unwrap_or_default();
        self.engine.machine.write(&format!("{STATIC_PODS}/{name}.json"), &manifest.to_string());
    }

    /// Takes every pod away, and waits until the engine runs nothing any more.
    pub(crate) fn clear(&self) {
        self.engine.machine.run(&["sh", "-c", &format!("rm -f {STATIC_PODS}/*")]).expect_success();
        self.kubectl(&["delete", "pods", "--all", "--namespace=shop", "--grace-period=1", "--wait=false"])
            .expect_success();
        self.wait_for("the end of all pods", "kubelet", || {
            self.kubectl(&["get", "pods", "--namespace=shop", "--output=name"]).stdout.is_empty()
                && self.engine.crictl(&["ps", "--quiet"]).stdout.is_empty()
        });
    }

    /// The pods of the namespace, once they are as they should be or have had the time for it.
    pub(crate) fn settled(&self, as_expected: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        let mut seen = Vec::new();
        run::within(Duration::from_secs(150), || {
            seen = self.seen();
            // kubectl is no light program, and the node has other work.
            as_expected(&seen) || {
                std::thread::sleep(Duration::from_secs(1));
                false
            }
        });
        seen
    }

    fn seen(&self) -> Vec<Seen> {
        let pods = self.kubectl(&["get", "pods", "--namespace=shop", "--output=json"]).expect_success();
        let pods: Value = serde_json::from_str(&pods.stdout).expect("JSON of kubectl's");
        let running = |pod: &Value| !pod["status"]["containerStatuses"][0]["state"]["running"].is_null();
        let name = |pod: &Value| pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let pods = pods["items"].as_array().into_iter().flatten();
        pods.map(|pod| Seen {
            name: name(pod),
            runs: running(pod),
            described: if running(pod) { String::new() } else { self.described(&name(pod)) },
        })
        .collect()
    }

    /// What people ask for when a pod does not start. Asked about many at once kubectl leaves the events out.
    fn described(&self, name: &str) -> String {
        let done = self.kubectl(&["describe", "pod", "--namespace=shop", name]);
        // Each layer quotes the one below in its own way.
        done.stdout.replace('\\', "")
    }
}

/// What there is to see of a pod.
pub(crate) struct Seen {
    pub(crate) name: String,
    pub(crate) runs: bool,
    /// `kubectl describe pod`, of one that does not run.
    pub(crate) described: String,
}

/// The pod as somebody writes it down.
pub(crate) fn manifest(name: &str, pod: &Pod) -> Value {
    let plain =
        |names: &[&str]| names.iter().map(|name| name.trim_start_matches("CAP_").to_owned()).collect();
    let capabilities: (Vec<String>, &[&str]) = match pod.capabilities {
        Capabilities::Default => (Vec::new(), &[]),
        Capabilities::Add(names) => (plain(names), &[]),
        Capabilities::AddAll => (plain(&["ALL"]), &[]),
        Capabilities::DropAll => (Vec::new(), &["ALL"]),
        Capabilities::DropAllAdd(names) => (plain(names), &["ALL"]),
    };
    let mut context = json!({
        "runAsUser": pod.uid,
        "capabilities": {"add": capabilities.0, "drop": capabilities.1},
        "readOnlyRootFilesystem": pod.read_only_root,
    });
    if pod.privileged {
        context["privileged"] = json!(true);
    } else {
        context["allowPrivilegeEscalation"] = json!(!pod.no_new_privileges);
    }
    if matches!(pod.seccomp, Seccomp::RuntimeDefault) {
        context["seccompProfile"] = json!({"type": "RuntimeDefault"});
    }
    if matches!(pod.proc_mount, ProcMount::Unmasked) {
        context["procMount"] = json!("Unmasked");
    }
    let sysctls: Vec<Value> =
        pod.sysctls.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
    let ports: Vec<Value> =
        pod.host_ports.iter().map(|port| json!({"containerPort": port, "hostPort": port})).collect();
    let (mut volumes, mut mounts) = (Vec::new(), Vec::new());
    for (number, volume) in pod.volumes.iter().enumerate() {
        let name = match volume {
            Volume::EmptyDir { name, .. } | Volume::HostPathSubPath { name, .. } => (*name).to_owned(),
            Volume::HostPath { .. } => format!("volume-{number}"),
        };
        let (volume, mount) = match volume {
            Volume::EmptyDir { at, .. } => (json!({"emptyDir": {}}), json!({"mountPath": at})),
            Volume::HostPath { path, at } => (json!({"hostPath": {"path": path}}), json!({"mountPath": at})),
            Volume::HostPathSubPath { path, at, .. } => {
                let (dir, below) = path.rsplit_once('/').expect("an absolute path");
                let dir = if dir.is_empty() { "/" } else { dir };
                (json!({"hostPath": {"path": dir}}), json!({"mountPath": at, "subPath": below}))
            }
        };
        volumes.push(volume);
        mounts.push(mount);
        volumes[number]["name"] = json!(name);
        mounts[number]["name"] = json!(name);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "nodeName": "node",
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "enableServiceLinks": false,
            "automountServiceAccountToken": false,
            "hostNetwork": pod.host_network,
            "hostPID": pod.host_pid,
            "hostIPC": pod.host_ipc,
            "securityContext": {"sysctls": sysctls},
            "volumes": volumes,
            "containers": [{
                "name": pod.container,
                "image": image::APP,
                "imagePullPolicy": "Never",
                "command": ["/bin/sh", "-c", "exec sleep 3600"],
                "securityContext": context,
                "ports": ports,
                "volumeMounts": mounts,
            }],
        },
    })
}

/// A test's cluster is gone with its machine, so nothing waits for the disk.
pub(crate) const ETCD: [&str; 8] = [
    "etcd",
    "--data-dir=/var/lib/etcd/cluster",
    "--unsafe-no-fsync",
    "--listen-client-urls=http://127.0.0.1:2379",
    "--advertise-client-urls=http://127.0.0.1:2379",
    "--listen-peer-urls=http://127.0.0.1:2380",
    "--initial-advertise-peer-urls=http://127.0.0.1:2380",
    "--initial-cluster=default=http://127.0.0.1:2380",
];

/// The API server, whoever it is for: where it listens, and which admission it has, is added.
pub(crate) const API_SERVER: [&str; 10] = [
    "kube-apiserver",
    "--etcd-servers=http://127.0.0.1:2379",
    "--cert-dir=/run/kubernetes",
    "--service-cluster-ip-range=203.0.113.0/24",
    "--service-account-key-file=/etc/kubernetes/accounts.key",
    "--service-account-signing-key-file=/etc/kubernetes/accounts.key",
    "--service-account-issuer=https://kubernetes.default.svc",
    "--token-auth-file=/etc/kubernetes/tokens.csv",
    "--authorization-mode=Node,RBAC",
    "--allow-privileged=true",
];

/// For the node that it shares a machine with.
const ON_THE_NODE: [&str; 4] = [
    "--bind-address=127.0.0.1",
    "--advertise-address=192.0.2.1",
    "--secure-port=6443",
    "--disable-admission-plugins=ServiceAccount",
];

/// Not in `/`, which is the machine's below: a kubelet removes the logs of containers that have none from where it works.
const KUBELET: [&str; 7] = [
    "env",
    "--chdir=/run/machine",
    "kubelet",
    "--config=/etc/kubernetes/kubelet.yaml",
    "--kubeconfig=/run/machine/.kube/config",
    "--hostname-override=node",
    // Else it asks the DNS, which nobody answers here.
    "--node-ip=192.0.2.1",
];

const KUBECONFIG: &str = "\
apiVersion: v1
kind: Config
current-context: node
clusters: [{name: node, cluster: {server: 'https://127.0.0.1:6443', insecure-skip-tls-verify: true}}]
users: [{name: admin, user: {token: c0ffee}}]
contexts: [{name: node, context: {cluster: node, user: admin}}]
";

/// What a machine needs that has no systemd, version 1 of control groups, and no CAP_SYS_RESOURCE.
pub(crate) fn kubelet_config(kind: Kind) -> String {
    format!(
        "\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://{}
staticPodPath: {STATIC_PODS}
authentication: {{anonymous: {{enabled: true}}, webhook: {{enabled: false}}}}
authorization: {{mode: AlwaysAllow}}
cgroupDriver: cgroupfs
cgroupsPerQOS: false
enforceNodeAllocatable: []
failCgroupV1: false
failSwapOn: false
makeIPTablesUtilChains: false
oomScoreAdj: 0
registerNode: true
fileCheckFrequency: 1s
syncFrequency: 5s
nodeStatusUpdateFrequency: 2s
maxPods: 200
imageGCHighThresholdPercent: 100
evictionHard: {{memory.available: 10Mi, nodefs.available: 1%, imagefs.available: 1%}}
allowedUnsafeSysctls: ['kernel.shm*', 'kernel.msg*', 'kernel.sem', 'fs.mqueue.*', 'net.*']
",
        kind.socket()
    )
}
