//! A cluster of several nodes: etcd, the API server, its controllers and its scheduler on a machine of their own, and nodes with a
//! kubelet and an engine each, all of them joined by cables.
//!
//! There is no kube-proxy: the address of the service `kubernetes` is the API server's own, and so pods find it as everywhere.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::engine::{Engine, Kind};
use crate::support::gate::{self, Restart};
use crate::support::kube::{self, KUBELETS_CONFIG, kubelet_config};
use crate::support::machine::Machine;
use crate::support::run::{self, Done};
use crate::support::{files, image, program};

/// The agent's manifests for a Kubernetes that can hold a ServiceAccount to its own node, in the order in which they are applied.
pub(crate) const MANIFESTS: [(&str, &str); 5] = [
    ("namespace.yaml", include_str!("../../deploy/agent/namespace.yaml")),
    ("rbac.yaml", include_str!("../../deploy/agent/rbac.yaml")),
    ("writes.yaml", include_str!("../../deploy/agent/writes.yaml")),
    ("network.yaml", include_str!("../../deploy/agent/network.yaml")),
    ("daemonset.yaml", include_str!("../../deploy/agent/daemonset.yaml")),
];

/// What the nodes and pods reach the API server by: the first address of the services.
const API_SERVER: &str = "203.0.113.1";

/// The parts that are needed beside an engine's.
const PARTS: [&str; 6] =
    ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl"];

/// A runtime that gives pods users of their own, which Debian's does not.
const RUNC: &str = "runc-1/runc";

/// A cluster that is up.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    pub(crate) control: Machine,
}

/// A node of it.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) engine: Engine,
    /// Its address, and the network of its pods without the last number.
    address: String,
    pods: String,
}

impl Node {
    pub(crate) fn machine(&self) -> &Machine {
        &self.engine.machine
    }

    /// Starts its kubelet.
    pub(crate) fn run_kubelet(&self) {
        // Not in `/`: see the kubelet of `kube`.
        let line = ["env", "--chdir=/run/machine", "kubelet", "--config=/etc/kubernetes/kubelet.yaml"];
        let (name, address) =
            (format!("--hostname-override={}", self.name), format!("--node-ip={}", self.address));
        let own = ["--kubeconfig", KUBELETS_CONFIG, &name, &address];
        self.machine().start("kubelet", &[&line[..], &own].concat());
    }

    /// A command in the agent's container.
    pub(crate) fn in_agent(&self, line: &[&str]) -> Done {
        let ids = ["ps", "--quiet", "--name", "^agent$", "--state", "running"];
        let ids = self.engine.crictl(&ids).expect_success().stdout;
        let id = ids.lines().next().expect("an agent that runs").to_owned();
        self.engine.crictl(&[&["exec", &id], line].concat())
    }

    /// Its own network and that of its pods.
    pub(crate) fn networks(&self) -> [String; 2] {
        [format!("{}/32", self.address), format!("{}.0/24", self.pods)]
    }
}

impl Cluster {
    pub(crate) fn can_run(test: &str, kinds: &[Kind]) -> bool {
        kinds.iter().all(|kind| kind.can_run(test))
            && Machine::can_run(test, &["openssl", "curl"], &[&PARTS[..], &[RUNC]].concat())
    }

    /// Nodes of these engines, each with the gate and this policy.
    pub(crate) fn up(kinds: &[Kind], policy: &str) -> Self {
        let control = control_plane(kinds.len());
        let mut cluster = Self { nodes: Vec::new(), control };
        let dir = tempfile::tempdir().expect("a temporary directory");
        let agent = program::agent();
        let (name, file) = image::write_agent(dir.path(), &agent);
        for (number, kind) in (1..).zip(kinds) {
            let mut node = cluster.join(number, *kind);
            node.engine.load(&name, &file);
            node.machine().link(RUNC, "/usr/sbin/runc");
            node.machine().write("/etc/pss-guard/policy.toml", policy);
            gate::install(node.machine(), kind.name(), gate::methods(*kind).0, Restart::Later);
            node.engine.restart();
            cluster.start_kubelet(&node);
            cluster.nodes.push(node);
        }
        for node in &cluster.nodes {
            cluster.wait_for(&node.name, node.machine(), "kubelet", || {
                let ready = ["wait", "--for=condition=Ready", "--timeout=1s", &format!("node/{}", node.name)];
                cluster.kubectl(&ready).code == Some(0)
            });
        }
        cluster
    }

    /// Everything that is no node, and tokens for so many nodes that are agents and nothing else.
    pub(crate) fn without_nodes(agents: usize) -> Self {
        Self { nodes: Vec::new(), control: control_plane(agents) }
    }

    /// A machine with an engine, and a way to the API server.
    fn join(&self, number: usize, kind: Kind) -> Node {
        let engine = Engine::up(kind);
        let (address, pods) = (format!("198.18.{number}.2"), format!("198.19.{number}"));
        let (machine, gateway) = (&engine.machine, format!("198.18.{number}.1"));
        let name = format!("node-{number}");
        machine.lay_cable(
            ["cluster", &format!("{address}/24")],
            &self.control,
            [&name, &format!("{gateway}/24")],
        );
        machine.run(&["ip", "route", "add", "203.0.113.0/24", "via", &gateway]).expect_success();
        self.control.run(&["ip", "route", "add", &format!("{pods}.0/24"), "via", &address]).expect_success();
        machine.run(&["hostname", &name]).expect_success();
        machine.write("/etc/cni/net.d/10-pods.conflist", &CNI.replace("PODS", &pods));
        Node { name, engine, address, pods }
    }

    fn start_kubelet(&self, node: &Node) {
        let machine = node.machine();
        for program in ["kubelet", "kubectl"] {
            machine.link(program, &format!("/usr/bin/{program}"));
        }
        machine.run(&["mkdir", "-p", "/etc/kubernetes/manifests"]).expect_success();
        machine.write("/etc/kubernetes/ca.crt", &self.control.read("/run/kubernetes/apiserver.crt"));
        machine.write(KUBELETS_CONFIG, &kubeconfig(&format!("token-of-{}", node.name)));
        machine.write("/etc/kubernetes/kubelet.yaml", &kubelet_config(node.engine.kind));
        node.run_kubelet();
    }

    /// Waits until something is so, or tells what a program of the machine said.
    pub(crate) fn wait_for(&self, what: &str, machine: &Machine, log: &str, ready: impl FnMut() -> bool) {
        let up = run::within(Duration::from_secs(120), ready);
        assert!(
            up,
            "{what} does not come up\n{}\n{}",
            machine.said(log),
            self.control.said("kube-apiserver")
        );
    }

    /// As the admin.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Done {
        self.control.run(&[&["kubectl"], arguments].concat())
    }

    /// A patch of an object, by its path.
    pub(crate) fn patch(&self, path: &str, change: &Value) -> Done {
        let url = format!("https://{API_SERVER}{path}");
        let mut line = vec!["curl", "--silent", "--fail-with-body", "--max-time", "10"];
        line.extend(["--cacert", "/etc/kubernetes/ca.crt", "--request", "PATCH"]);
        line.extend(["--header", "Authorization: Bearer c0ffee"]);
        line.extend(["--header", "Content-Type: application/strategic-merge-patch+json"]);
        let change = change.to_string();
        line.extend(["--data", &change, &url]);
        self.control.run(&line)
    }

    /// JSON that the API server has.
    pub(crate) fn get(&self, arguments: &[&str]) -> Value {
        let done = self.kubectl(&[&["get", "--output=json"], arguments].concat()).expect_success();
        serde_json::from_str(&done.stdout).expect("JSON of kubectl's")
    }

    /// Hands a manifest to the API server.
    pub(crate) fn apply(&self, manifest: &str) {
        self.control.write("/run/machine/applied.yaml", manifest);
        self.kubectl(&["apply", "--filename", "/run/machine/applied.yaml"]).expect_success();
    }

    /// Creates objects, all in one call; what was said of them.
    pub(crate) fn create(&self, objects: &[Value], options: &[&str]) -> Done {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        self.control.write("/run/machine/created.json", &list.to_string());
        self.kubectl(&[&["create", "--filename", "/run/machine/created.json"], options].concat())
    }

    /// A namespace that pods can be made in: the controllers have made its ServiceAccount.
    pub(crate) fn make_namespace(&self, name: &str, labels: &[&str]) {
        self.kubectl(&["create", "namespace", name]).expect_success();
        if !labels.is_empty() {
            self.kubectl(&[&["label", "namespace", name], labels].concat()).expect_success();
        }
        self.wait_for("the ServiceAccount", &self.control, "kube-controller-manager", || {
            self.kubectl(&["get", "serviceaccount", "default", "--namespace", name]).code == Some(0)
        });
    }

    /// Applies the agent's manifests as they are, and waits until an agent is ready on each of these nodes.
    pub(crate) fn deploy_agent(&self, nodes: &[&Node]) {
        for (_, manifest) in MANIFESTS {
            self.apply(manifest);
        }
        for node in nodes {
            self.wait_for("the agent", node.machine(), "kubelet", || {
                std::thread::sleep(Duration::from_millis(500));
                self.agent(node).is_some_and(|pod| is_ready(&pod))
            });
        }
    }

    /// The agent as a program of the host, with the kubelet's identity, which may then list namespaces.
    pub(crate) fn start_agent_on_host(&self, node: &Node) {
        self.apply(include_str!("../../docs/namespaces.yaml"));
        let (machine, agent) = (node.machine(), "/opt/pss-guard-agent");
        fs::copy(program::agent(), machine.path(agent)).expect("a copy of the agent");
        files::set_mode(&machine.path(agent), 0o755);
        let name = format!("--node-name={}", node.name);
        machine.start("agent", &[agent, "run", &name, "--kubeconfig", KUBELETS_CONFIG]);
        let url = ["curl", "--silent", "--max-time", "5", "http://127.0.0.1:9465/readyz"];
        self.wait_for("the agent", machine, "agent", || machine.run(&url).stdout == "ok\n");
    }

    /// The agent in one of the two ways. In a container of CRI-O it needs CAP_SYS_RESOURCE of the node: a critical pod's
    /// `oom_score_adj` is lower than what this machine's root may set, and only containerd can be told to leave that.
    pub(crate) fn bring_agent(&self, node: &Node) {
        if node.engine.kind.is_crio() { self.start_agent_on_host(node) } else { self.deploy_agent(&[node]) }
    }

    /// The agent's pod on a node.
    pub(crate) fn agent(&self, node: &Node) -> Option<Value> {
        let own = format!("--field-selector=spec.nodeName={}", node.name);
        let pods = self.get(&["pods", "--namespace=pss-guard", &own]);
        pods["items"].as_array().and_then(|pods| pods.first()).cloned()
    }

    /// What the agent of a node logged.
    pub(crate) fn agent_said(&self, node: &Node) -> String {
        if node.engine.kind.is_crio() {
            return node.machine().said("agent");
        }
        let name =
            self.agent(node).map(|pod| pod["metadata"]["name"].as_str().unwrap_or_default().to_owned());
        let name = name.unwrap_or_default();
        self.kubectl(&["logs", "--namespace=pss-guard", "--tail=30", &name]).to_string()
    }
}

/// Whether a pod is ready.
pub(crate) fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// A machine with everything that is no node.
fn control_plane(nodes: usize) -> Machine {
    let machine = Machine::up();
    for program in PARTS {
        machine.link(program, &format!("/usr/bin/{program}"));
    }
    machine.run(&["hostname", "control"]).expect_success();
    machine.run(&["ip", "address", "add", &format!("{API_SERVER}/32"), "dev", "lo"]).expect_success();
    machine.run(&["mkdir", "-p", "/etc/kubernetes", "/run/machine/.kube"]).expect_success();
    machine.run(&["openssl", "genrsa", "-out", "/etc/kubernetes/accounts.key", "2048"]).expect_success();
    let mut tokens = "c0ffee,admin,1,system:masters\n".to_owned();
    for number in 1..=nodes {
        let name = format!("node-{number}");
        tokens.extend(["token-of-", &name, ",system:node:", &name, ",", &name, ",system:nodes\n"]);
    }
    machine.write("/etc/kubernetes/tokens.csv", &tokens);
    machine.write("/run/machine/.kube/config", &kubeconfig("c0ffee"));
    machine.start("etcd", &kube::ETCD);
    machine.start("kube-apiserver", &api_server_line());
    let ready = run::within(Duration::from_secs(120), || {
        let certificate = machine.read("/run/kubernetes/apiserver.crt");
        machine.write("/etc/kubernetes/ca.crt", &certificate);
        let asked = machine.run(&["kubectl", "get", "--raw", "/readyz"]);
        asked.stdout == "ok" && machine.run(&["kubectl", "get", "namespace", "kube-system"]).code == Some(0)
    });
    assert!(ready, "the API server does not come up\n{}", machine.said("kube-apiserver"));
    machine.start("kube-controller-manager", &CONTROLLERS);
    machine.start("kube-scheduler", &SCHEDULER);
    machine
}

/// How somebody with this token reaches the API server.
pub(crate) fn kubeconfig(token: &str) -> String {
    format!(
        "\
apiVersion: v1
kind: Config
current-context: cluster
clusters: [{{name: cluster, cluster: {{server: 'https://{API_SERVER}:443', certificate-authority: /etc/kubernetes/ca.crt}}}}]
users: [{{name: user, user: {{token: {token}}}}}]
contexts: [{{name: cluster, context: {{cluster: cluster, user: user}}}}]
"
    )
}

const CNI: &str = r#"{
  "cniVersion": "0.4.0",
  "name": "pods",
  "plugins": [
    {"type": "ptp", "ipam": {"type": "host-local", "subnet": "PODS.0/24", "routes": [{"dst": "0.0.0.0/0"}]}}
  ]
}
"#;

/// The API server's arguments: on the port of the service, because there is nobody to forward it.
pub(crate) fn api_server_line() -> Vec<&'static str> {
    let own = [
        "--bind-address=0.0.0.0",
        "--advertise-address=203.0.113.1",
        "--secure-port=443",
        "--enable-admission-plugins=NodeRestriction",
        "--kubelet-preferred-address-types=InternalIP",
    ];
    [&kube::API_SERVER[..], &own].concat()
}

const CONTROLLERS: [&str; 8] = [
    "kube-controller-manager",
    "--kubeconfig=/run/machine/.kube/config",
    "--leader-elect=false",
    "--secure-port=0",
    "--controllers=daemonset-controller,replicaset-controller,deployment-controller,serviceaccount-controller,\
     root-ca-certificate-publisher-controller,namespace-controller,garbage-collector-controller,\
     persistentvolume-binder-controller",
    "--root-ca-file=/etc/kubernetes/ca.crt",
    "--service-account-private-key-file=/etc/kubernetes/accounts.key",
    "--concurrent-gc-syncs=2",
];

const SCHEDULER: [&str; 4] =
    ["kube-scheduler", "--kubeconfig=/run/machine/.kube/config", "--leader-elect=false", "--secure-port=0"];
