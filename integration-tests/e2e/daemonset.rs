//! The agent from its manifests, on a cluster of one node: it comes up, the gate refuses what the API server refuses, and whoever
//! steals its token learns of this node's pods and writes its own folders.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::cluster::{Cluster, MANIFESTS, Node, is_ready};
use crate::support::declared;
use crate::support::engine::Kind;
use crate::support::exactness::{self, POLICY};
use crate::support::run::{self, Done};

#[test]
fn its_manifests_bring_an_agent_and_its_token_is_worth_little() {
    const TEST: &str = "daemonset::its_manifests_bring_an_agent_and_its_token_is_worth_little";
    if !Cluster::can_run(TEST, &[Kind::Containerd2]) {
        return;
    }
    // As strict as can be: what is not known yet is refused, from the moment when the agent's folders are there.
    let policy = format!("on-unknown-namespace = \"deny\"\non-missing-facts = \"deny\"\n{POLICY}");
    let cluster = Cluster::up(&[Kind::Containerd2], &policy);
    let [node] = &cluster.nodes[..] else { panic!("one node") };
    cluster.deploy_agent(&[node]);
    println!("{}", cluster.agent_said(node));

    exactness::make_namespaces(&cluster, "restricted");
    let pods: Vec<Value> = declared::pods()
        .into_iter()
        .map(|mut pod| {
            pod["spec"]["nodeName"] = json!(node.name);
            pod
        })
        .collect();
    let compared = exactness::compare(&cluster, node, "restricted", &pods, 60);
    println!("{compared}");
    assert!(compared.differences.is_empty(), "{:#?}", compared.differences);
    assert!(compared.admitted >= 3 && compared.refused >= 9 && compared.never.is_empty(), "{compared}");

    let thief = Thief::of(&cluster, node);
    thief.asks();
    thief.writes();
    thief.lowers_a_level();
    before_1_36(&cluster, node);
}

/// A thief who has everything that an agent's container has.
struct Thief<'a> {
    cluster: &'a Cluster,
    node: &'a Node,
    token: String,
}

/// Whom a request says it is from.
#[derive(Clone, Copy, Debug)]
enum As<'a> {
    Itself,
    Node(&'a str),
}

impl<'a> Thief<'a> {
    fn of(cluster: &'a Cluster, node: &'a Node) -> Self {
        let token = "/var/run/secrets/kubernetes.io/serviceaccount/token";
        let token = node.in_agent(&["/bin/busybox", "cat", token]).expect_success().stdout;
        Self { cluster, node, token: token.trim().to_owned() }
    }

    /// The status of the API server's answer, and what it says.
    fn ask(&self, who: As<'_>, method: &str, path: &str, body: Option<&Value>) -> (u16, String) {
        let url = format!("https://203.0.113.1{path}");
        let token = format!("Authorization: Bearer {}", self.token);
        let mut line = vec!["curl", "--silent", "--max-time", "10", "--cacert", "/etc/kubernetes/ca.crt"];
        line.extend(["--write-out", "\n%{http_code}", "--request", method, "--header", &token]);
        let impersonate = match who {
            As::Itself => String::new(),
            As::Node(node) => format!("Impersonate-User: system:node:{node}"),
        };
        if !impersonate.is_empty() {
            line.extend(["--header", &impersonate]);
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let header;
        if !body.is_empty() {
            let kind = if method == "PATCH" { "merge-patch+json" } else { "json" };
            header = format!("Content-Type: application/{kind}");
            line.extend(["--header", &header]);
            line.extend(["--data", &body]);
        }
        line.push(&url);
        let done = self.cluster.control.run(&line);
        let (said, code) = done.stdout.rsplit_once('\n').unwrap_or_default();
        (code.parse().unwrap_or_else(|_| panic!("{done}")), said.to_owned())
    }

    /// Each request, as itself and as the node: what is answered.
    fn asks(&self) {
        let own = &*self.node.name;
        self.other_nodes_pod();
        let pods_of = |node: &str| format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{node}");
        let (mine, others) = (pods_of(own), pods_of("node-9"));
        let watched = format!("{mine}&watch=true&timeoutSeconds=1");
        let status = format!("/api/v1/nodes/{own}/status");
        let node = format!("/api/v1/nodes/{own}");
        let agents_token = "/api/v1/namespaces/pss-guard/serviceaccounts/agent/token";
        let events = "/apis/events.k8s.io/v1/namespaces/shop/events";
        let label = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "planted"}, "spec": declared::pods()[0]["spec"]});
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
        let (itself, as_own, as_other) = (As::Itself, As::Node(own), As::Node("node-9"));
        // (who, method, path, body, the answer)
        let rows: Vec<(As<'_>, &str, &str, Option<Value>, u16)> = vec![
            // What it is for.
            (itself, "GET", "/api/v1/namespaces", None, 200),
            (as_own, "GET", &mine, None, 200),
            (as_own, "GET", &watched, None, 200),
            (itself, "POST", events, Some(event("own", own, "pss-guard")), 201),
            // Everything else about pods.
            (itself, "GET", "/api/v1/pods", None, 403),
            (itself, "GET", &mine, None, 403),
            (as_own, "GET", "/api/v1/pods", None, 403),
            (as_own, "GET", &others, None, 403),
            (as_other, "GET", &others, None, 403),
            (as_own, "GET", "/api/v1/namespaces/shop/pods/elsewhere", None, 403),
            (as_own, "POST", "/api/v1/namespaces/shop/pods", Some(pod.clone()), 403),
            (itself, "POST", "/api/v1/namespaces/shop/pods", Some(pod), 403),
            (as_own, "DELETE", "/api/v1/namespaces/shop/pods/elsewhere", None, 403),
            (as_own, "POST", "/api/v1/namespaces/shop/pods/elsewhere/eviction", Some(json!({})), 403),
            (as_own, "GET", "/api/v1/namespaces/shop/pods/elsewhere/log", None, 403),
            // Of the node it is, and of others.
            (as_own, "GET", &node, None, 403),
            (as_own, "PATCH", &node, Some(label.clone()), 403),
            (as_own, "PATCH", &status, Some(json!({"status": {"phase": "Running"}})), 403),
            (itself, "PATCH", &status, Some(json!({"status": {"phase": "Running"}})), 403),
            (itself, "GET", "/api/v1/nodes", None, 403),
            // Secrets, other accounts, and its own rights.
            (itself, "GET", "/api/v1/secrets", None, 403),
            (as_own, "GET", "/api/v1/secrets", None, 403),
            (itself, "GET", "/api/v1/configmaps", None, 403),
            (itself, "POST", agents_token, Some(request.clone()), 403),
            (as_own, "POST", agents_token, Some(request), 403),
            (
                itself,
                "PATCH",
                "/apis/rbac.authorization.k8s.io/v1/clusterroles/pss-guard-agent",
                Some(json!({"rules": []})),
                403,
            ),
            (itself, "PATCH", "/api/v1/namespaces/shop", Some(label), 403),
            // Events in the name of others, and what is there already.
            (itself, "POST", events, Some(event("of-another-node", "node-9", "pss-guard")), 422),
            (itself, "POST", events, Some(event("of-another-program", own, "kubelet")), 422),
            (as_own, "POST", events, Some(event("as-the-node", own, "pss-guard")), 403),
            (itself, "GET", events, None, 403),
            (itself, "DELETE", "/apis/events.k8s.io/v1/namespaces/shop/events/own", None, 403),
            (itself, "POST", "/api/v1/namespaces/shop/events", Some(event("core", own, "pss-guard")), 403),
        ];
        let mut wrong = Vec::new();
        for (who, method, path, body, expected) in &rows {
            let (code, said) = self.ask(*who, method, path, body.as_ref());
            if code != *expected {
                wrong.push(format!("{method} {path} as {who:?}: {code} and not {expected}: {said}"));
            }
            if *path == mine && code == 200 {
                let pods: Value = serde_json::from_str(&said).unwrap();
                let nodes: Vec<&Value> =
                    pods["items"].as_array().unwrap().iter().map(|pod| &pod["spec"]["nodeName"]).collect();
                assert!(!nodes.is_empty() && nodes.iter().all(|node| *node == own), "{nodes:?}");
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        println!("a thief of the token: {} requests answered as they should be", rows.len());
    }

    /// A pod of a node that is not here, which nobody starts.
    fn other_nodes_pod(&self) {
        self.cluster.make_namespace("shop", &[]);
        let mut pod = declared::pods().remove(0);
        pod["metadata"]["name"] = json!("elsewhere");
        pod["spec"]["nodeName"] = json!("node-9");
        self.cluster.create(&[pod], &[]).expect_success();
    }

    /// Runs a line of shell where the agent runs.
    fn shell(&self, line: &str) -> Done {
        self.node.in_agent(&["/bin/sh", "-c", line])
    }

    /// Where it can write: the four folders, and their copies for the next boot.
    fn writes(&self) {
        let machine = self.node.machine();
        let listed = || {
            let find = "find /run/pss-guard /var/lib/pss-guard /etc/pss-guard -printf '%p %y %m %s %l\\n' | \
                        grep -vE '^/(run|var/lib)/pss-guard/(namespaces|pods|static|agent)[ /]|/events/' | sort";
            machine.run(&["sh", "-c", find]).expect_success().stdout
        };
        let before = listed();
        assert!(before.lines().count() > 5, "{before}");
        let mut folders = Vec::new();
        for top in ["/run", "/var/lib"] {
            folders.extend(
                ["namespaces", "pods", "static", "agent"].map(|name| format!("{top}/pss-guard/{name}")),
            );
        }
        for folder in &folders {
            self.shell(&format!("echo x >{folder}/.thief")).expect_success();
            let seen = machine.path(&format!("{folder}/.thief")).exists();
            assert!(seen, "{folder} is the node's");
            self.shell(&format!("/bin/busybox rm {folder}/.thief")).expect_success();
        }
        let nothing_else = [
            "echo x >/run/pss-guard/thief",
            "echo x >/run/pss-guard/mode.json",
            "echo x >/run/pss-guard/gate/formats",
            "echo x >/run/pss-guard/events/thief",
            "/bin/busybox rm /run/pss-guard/gate/formats",
            "/bin/busybox mv /run/pss-guard/pods /run/pss-guard/other",
            "/bin/busybox mkdir /run/pss-guard/other",
            "echo x >/var/lib/pss-guard/policy.toml",
            "/bin/busybox mkdir /var/lib/pss-guard/bin",
            "/bin/busybox mkdir -p /etc/pss-guard",
            "echo x >/pss-guard-agent",
            "/bin/busybox mount -o remount,rw /run/pss-guard/events",
            "/bin/busybox mount -o remount,rw /",
            "/bin/busybox mount -t tmpfs tmpfs /tmp",
            "/bin/busybox mknod /run/pss-guard/agent/disk b 254 0",
            "/bin/busybox chroot /proc/1/root /bin/sh -c true",
            "/bin/busybox ls /run/pss-guard/namespaces/../mode.json",
            "/bin/busybox ls /var/lib/kubelet",
            "/bin/busybox ls /run/containerd",
        ];
        for line in nothing_else {
            let done = self.shell(line);
            assert_ne!(done.code, Some(0), "{line}\n{done}");
        }
        assert_eq!(listed(), before);
        println!(
            "a thief in the container: {} folders written, {} ways refused",
            folders.len(),
            nothing_else.len()
        );
    }

    /// It says that a namespace asks for nothing; `[agent] floor` is not lowered by it.
    fn lowers_a_level(&self) {
        let machine = self.node.machine();
        let label = "pod-security.kubernetes.io/enforce=restricted";
        let floor = POLICY.replace("[exemptions]", "[agent]\nfloor = \"baseline\"\n\n[exemptions]");
        machine.write("/etc/pss-guard/policy.toml", &floor);
        self.cluster.make_namespace("lowered", &[]);
        self.shell(
            "/bin/busybox cp /run/pss-guard/namespaces/pss-guard.json /run/pss-guard/namespaces/lowered.json",
        )
        .expect_success();
        let stolen = machine.read("/run/pss-guard/namespaces/lowered.json");
        assert!(stolen.contains("privileged"), "{stolen}");
        let pods = ["compliant", "no-seccomp", "host-network"].map(|name| {
            let mut pods = declared::pods();
            let mut pod = pods.remove(pods.iter().position(|pod| pod["metadata"]["name"] == name).unwrap());
            pod["metadata"]["namespace"] = json!("lowered");
            pod["spec"]["nodeName"] = json!(self.node.name);
            pod
        });
        self.cluster.create(&pods, &[]).expect_success();
        let decisions = || -> BTreeMap<String, (String, String)> {
            let events = machine.events("PSS_NAMESPACE", "lowered");
            let field = |event: &Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
            let all = events.iter().map(|event| {
                (field(event, "PSS_POD"), (field(event, "PSS_DECISION"), field(event, "MESSAGE")))
            });
            all.collect()
        };
        assert!(
            run::within(std::time::Duration::from_secs(60), || decisions().len() == 3),
            "{:?}",
            decisions()
        );
        let decisions = decisions();
        let (decision, message) = &decisions["host-network"];
        assert!(decision == "denied" && message.contains("\"baseline:"), "{decisions:#?}");
        assert!(
            decisions["compliant"].0 == "allowed" && decisions["no-seccomp"].0 == "allowed",
            "{decisions:#?}"
        );
        println!("a namespace below the floor: {message}");
        // What the API server says holds again as soon as it says anything.
        self.cluster.kubectl(&["label", "namespace", "lowered", label]).expect_success();
        let held = || machine.read("/run/pss-guard/namespaces/lowered.json").contains("restricted");
        assert!(run::eventually(held), "{}", self.cluster.agent_said(self.node));
    }
}

/// An event as the agent writes it.
fn event(name: &str, instance: &str, controller: &str) -> Value {
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": "shop"},
        "eventTime": "2030-01-01T00:00:00.000000Z",
        "type": "Warning",
        "reason": "WouldViolatePodSecurity",
        "action": "Evaluated",
        "note": "a note",
        "reportingController": controller,
        "reportingInstance": instance,
        "regarding": {"apiVersion": "v1", "kind": "Pod", "name": "compliant", "namespace": "shop"},
    })
}

/// The manifests for older clusters, which this one takes as well: the same agent, as itself.
fn before_1_36(cluster: &Cluster, node: &Node) {
    cluster.apply(include_str!("../../deploy/agent/rbac-before-1.36.yaml"));
    let (_, daemonset) = MANIFESTS[4];
    let older = daemonset.replace("\"run\", ", "\"run\", \"--pods-as=service-account\", ");
    assert_ne!(older, daemonset);
    let old = cluster.agent(node).map(|pod| pod["metadata"]["uid"].clone());
    cluster.apply(&older);
    let ready = run::within(std::time::Duration::from_secs(90), || {
        std::thread::sleep(std::time::Duration::from_millis(500));
        cluster.agent(node).is_some_and(|pod| Some(&pod["metadata"]["uid"]) != old.as_ref() && is_ready(&pod))
    });
    assert!(ready, "{}", cluster.agent_said(node));
    let (code, _) = Thief::of(cluster, node).ask(As::Itself, "GET", "/api/v1/pods", None);
    assert_eq!(code, 200, "that is what rbac-before-1.36.yaml says of itself");
}
