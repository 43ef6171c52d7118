//! Verification against a `crictl` and a `docker` of our own, real processes, which keep their containers in a folder and
//! write what the gate would write.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{Outcome, Patience, Verification};
use crate::install::TOOL;
use crate::node::distribution::{Distribution, PLAIN};
use crate::node::host::Live;
use crate::node::procfs::{Processes, fake};
use crate::paths::Paths;
use crate::pss::facts::Engine;

/// What a `crictl` answers; `$1` is the subcommand, `$state` a folder, `forbidden` tells which probe it is.
const CRICTL: &str = r#"#!/bin/sh
state=STATE
while [ $# -gt 0 ]; do case $1 in --*) shift 2 ;; *) break ;; esac; done
event() {
    name=$(cat "$state/name")
    printf '{"PSS_POD":"%s","PSS_DECISION":"%s","MESSAGE":"%s"}\n' "$name" "$1" "$2" >>"$state/../var/log/pss-guard/decisions.jsonl"
}
forbidden() { grep -q '"pod-security.kubernetes.io/enforce":"restricted"' "$state/pod.json"; }
refuse() {
    echo "rpc error: OCI runtime create failed: $1" >&2
    exit 1
}
on_info() { :; }
on_runp() { :; }
on_start() { :; }
on_rmp() { :; }
BEHAVIOUR
case $1 in
info)
    on_info
    echo '{"status":{"conditions":[{"type":"RuntimeReady","status":true},{"type":"NetworkReady","status":NETWORK}]}}'
    ;;
images) echo '{"images":[{"repoTags":["localhost/app:1"]},{"repoTags":["IMAGE"]}]}' ;;
runp)
    cp "$2" "$state/pod.json"
    sed 's/.*"metadata":{[^}]*"name":"\([^"]*\)".*/\1/' "$2" >"$state/name"
    cp "$state/name" "$state/pods/1234"
    grep -q "\"ended\":false.*\"pod\":\"$(cat "$state/name")\"" "$state/../var/log/pss-guard/probes.jsonl" || refuse unknown
    on_runp
    echo 1234
    ;;
create)
    [ "$2 $3" = "--no-pull 1234" ] || refuse "what is $*"
    cp "$4" "$state/container.json"
    echo 5678
    ;;
start) on_start ;;
pods) for pod in "$state"/pods/*; do [ -e "$pod" ] && grep -q "$4" "$pod" && basename "$pod"; done || true ;;
stopp) ;;
rmp)
    on_rmp
    rm -f "$state/pods/$3"
    ;;
*) refuse "unknown $1" ;;
esac
"#;

/// What the gate does to the forbidden probe.
const REFUSES: &str =
    "on_start() { if forbidden; then event denied 'violates PodSecurity'; refuse 'hook failed'; fi; }";
const LOGS: &str = "on_start() { if forbidden; then event would-deny 'would violate PodSecurity'; fi; }";

struct Node {
    dir: tempfile::TempDir,
}

impl Node {
    fn new(policy: &str) -> Self {
        let node = Self { dir: tempfile::tempdir().unwrap() };
        for folder in ["usr/bin", "etc/pss-guard", "var/log/pss-guard", "state/pods"] {
            fs::create_dir_all(node.path(folder)).unwrap();
        }
        fs::write(node.path("etc/pss-guard/policy.toml"), policy).unwrap();
        // A journal that has nothing: the file beside it is what tells.
        node.program("journalctl", "#!/bin/sh\n");
        node
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn program(&self, name: &str, text: &str) {
        let path = self.path("usr/bin").join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn crictl(&self, behaviour: &str) {
        self.crictl_with(behaviour, "true", "registry.k8s.io/pause:3.9");
    }

    fn crictl_with(&self, behaviour: &str, network: &str, image: &str) {
        let text =
            CRICTL.replace("STATE", self.path("state").to_str().unwrap()).replace("BEHAVIOUR", behaviour);
        self.program("crictl", &text.replace("NETWORK", network).replace("IMAGE", image));
    }

    fn docker(&self, behaviour: &str) {
        fs::create_dir_all(self.path("state/images")).unwrap();
        self.program("tar", "#!/bin/sh\nexec tar \"$@\"\n");
        let gate = self.path(&TOOL[1..]);
        fs::create_dir_all(gate.parent().unwrap()).unwrap();
        fs::write(gate, "the gate").unwrap();
        // The process of every container.
        fake::add(&self.path("proc"), self.dir.path(), 77, 5, &["/pss-guard"]);
        let text = DOCKER.replace("ROOT", self.dir.path().to_str().unwrap());
        self.program("docker", &text.replace("BEHAVIOUR", behaviour));
    }

    fn verify(&self, engine: Engine) -> Outcome {
        self.verify_within(engine, Duration::from_secs(60))
    }

    fn verify_within(&self, engine: Engine, call: Duration) -> Outcome {
        self.verify_with(engine, call, true)
    }

    fn verify_with(&self, engine: Engine, call: Duration, is_static: bool) -> Outcome {
        self.verify_on(&PLAIN, engine, call, is_static)
    }

    fn verify_on(
        &self,
        distribution: &Distribution,
        engine: Engine,
        call: Duration,
        is_static: bool,
    ) -> Outcome {
        let short = Duration::from_millis(300);
        let (live, paths) = (Live::under(self.dir.path()), Paths::under(self.dir.path()));
        // On a loaded machine one try takes a while, and there must be time for the second.
        let reload = Duration::from_secs(4);
        let patience = Patience { answer: short, event: short, reload, call };
        let processes = Processes::in_folder(&self.path("proc"), self.dir.path());
        let verification = Verification {
            live: &live,
            processes: &processes,
            paths: &paths,
            engine,
            config: None,
            distribution,
            patience,
            is_static,
        };
        verification.verify()
    }

    fn left(&self) -> usize {
        fs::read_dir(self.path("state/pods")).unwrap().count()
    }
}

fn lines(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Verified(seen) => format!("verified: {}", seen.join("; ")),
        Outcome::Unproven { seen, missing } => {
            format!("unproven: {} BUT {}", seen.join("; "), missing.join("; "))
        }
        Outcome::Failed(reason) => format!("failed: {reason}"),
    }
}

#[test]
fn what_the_engine_does_decides() {
    let (enforce, audit) = ("mode = 'enforce'\n", "mode = 'audit'\n");
    let quiet =
        "[defaults]\naudit = 'privileged'\nwarn = 'privileged'\n[pod-annotations]\ntrust = 'ignore'\n";
    let exempt = "[exemptions]\nnamespaces = ['kube-system', 'pss-guard-probe']\n";
    #[rustfmt::skip]
    let rows = [
        (enforce, REFUSES, "verified: the engine answers; a harmless probe started (pss-guard-probe); a forbidden probe was refused: violates PodSecurity"),
        (enforce, "on_start() { if forbidden; then refuse 'violates PodSecurity \"restricted:latest\"'; fi; }", "verified: "),
        (audit, LOGS, "was evaluated (would-deny) and started"),
        (quiet, "", "unproven: the engine answers; a harmless probe started (pss-guard-probe) BUT a judgement: the policy requires nothing of the probes"),
        (exempt, "on_start() { event exempt 'not judged'; }", "BUT a refusal: the policy exempts pss-guard-probe"),
        (exempt, "", "failed: a harmless probe started, and the gate wrote no event \"exempt\" of it"),
        (enforce, "", "failed: a forbidden probe was not refused: it bypassed the gate"),
        (enforce, LOGS, "failed: a forbidden probe was not refused"),
        (audit, "", "failed: a forbidden probe started, and the gate wrote no event \"would-deny\" of it"),
        (audit, REFUSES, "failed: a forbidden probe did not start: rpc error"),
        (enforce, "on_start() { refuse 'exec pss-guard-runtime: no such file'; }", "failed: a harmless probe did not start: rpc error: OCI runtime create failed: exec pss-guard-runtime"),
        (enforce, "on_start() { if forbidden; then refuse 'disk full'; fi; }", "failed: a forbidden probe was refused, but not by the gate: rpc error: OCI runtime create failed: disk full"),
        (enforce, "on_info() { refuse 'connection refused'; }", "failed: the engine does not answer: rpc error"),
        (enforce, "on_info() { echo '{\"status\":{\"conditions\":[{\"type\":\"RuntimeReady\",\"status\":false}]}}'; exit; }", "failed: the engine does not answer: it is not ready"),
        ("mode = 'strict'\n", REFUSES, "failed: "),
    ];
    for (policy, behaviour, expected) in rows {
        let node = Node::new(policy);
        node.crictl(behaviour);
        let said = lines(&node.verify(Engine::Containerd));
        assert!(said.contains(expected), "{policy}{behaviour}\n{said}\ninstead of {expected}");
        assert_eq!(node.left(), 0, "a probe was left: {policy}{behaviour}");
    }
}

#[test]
fn an_engine_that_needs_a_moment_gets_it() {
    let node = Node::new("mode = 'enforce'\n");
    let slow =
        format!("{REFUSES}\non_info() {{ [ -e $state/once ] || {{ touch $state/once; refuse later; }}; }}");
    node.crictl(&slow);
    assert!(matches!(node.verify(Engine::CriO), Outcome::Verified(_)));
}

#[test]
fn what_a_killed_run_has_left_goes_and_nothing_else() {
    let node = Node::new("mode = 'enforce'\n");
    node.crictl(REFUSES);
    fs::write(node.path("state/pods/42"), "pss-guard-probe-000000000000\n").unwrap();
    fs::write(node.path("state/pods/43"), "not-pss-guard-probe-at-all\n").unwrap();
    let said = lines(&node.verify(Engine::Containerd));
    assert!(!node.path("state/pods/42").exists() && node.path("state/pods/43").exists(), "{said}");
}

#[test]
fn a_probe_that_a_kubelet_removed_is_made_again() {
    let node = Node::new("mode = 'enforce'\n");
    let taken = "on_runp() { [ -e $state/once ] || { touch $state/once; refuse 'sandbox not found'; }; }";
    node.crictl(&format!("{REFUSES}\n{taken}"));
    assert!(matches!(node.verify(Engine::Containerd), Outcome::Verified(_)));
    assert_eq!(node.left(), 0);
}

/// CRI-O may fail to remove what it is removing for a kubelet, and then the pod is still there.
#[test]
fn a_pod_that_the_engine_does_not_remove_at_once_is_removed_later() {
    let refuses = |times: usize| {
        format!(
            "{REFUSES}
            on_rmp() {{
                echo >>$state/removals
                [ $(wc -l <$state/removals) -gt {times} ] || refuse 'sandbox is being stopped'
            }}"
        )
    };
    for (times, expected, left) in [
        (2, "verified: the engine answers; a harmless probe started", 0),
        (
            99,
            "BUT that the probes are gone: `crictl rmp --force 1234` removes them: rpc error: OCI runtime create failed: \
             sandbox is being stopped",
            1,
        ),
    ] {
        let node = Node::new("mode = 'enforce'\n");
        node.crictl(&refuses(times));
        let said = lines(&node.verify(Engine::CriO));
        assert!(said.contains(expected), "{times}\n{said}\ninstead of {expected}");
        assert_eq!(node.left(), left);
    }
    // Also where the installation has failed.
    let node = Node::new("mode = 'enforce'\n");
    node.crictl(&refuses(2).replace(REFUSES, ""));
    let said = lines(&node.verify(Engine::CriO));
    assert!(said.contains("failed: a forbidden probe was not refused"), "{said}");
    assert_eq!(node.left(), 0);
}

/// The gate and the engine say what they like of a pod that is gone: it is the kubelet's doing.
#[test]
fn a_pod_that_somebody_ends_shows_nothing() {
    let ended = |times: usize| {
        format!(
            "on_start() {{
                echo >>$state/starts
                if [ $(wc -l <$state/starts) -le {times} ]; then
                    rm -f $state/pods/*
                    event fault 'cannot judge'
                    refuse 'pss-guard: cannot judge: the network namespace cannot be compared'
                fi
                if forbidden; then event denied 'violates PodSecurity'; refuse 'hook failed'; fi
            }}"
        )
    };
    for (times, expected) in [
        (5, "verified: the engine answers; a harmless probe started"),
        // Eight of the one, and five of the other.
        (
            13,
            "unproven: the engine answers; the sandbox of a harmless probe started; a forbidden probe was refused: violates PodSecurity BUT that a container starts: each probe pod was ended",
        ),
        (99, "BUT that a container starts: each probe pod"),
        (99, "; what comes of a forbidden container: each probe pod"),
    ] {
        let node = Node::new("mode = 'enforce'\n");
        node.crictl(&ended(times));
        let said = lines(&node.verify(Engine::Containerd));
        assert!(said.contains(expected), "{times}\n{said}\ninstead of {expected}");
        assert_eq!(node.left(), 0);
    }
}

#[test]
fn without_a_pod_network_the_harmless_probe_is_exempt() {
    let node = Node::new("mode = 'enforce'\n[defaults]\nenforce = 'baseline'\n");
    let gate = "on_start() { if forbidden; then event denied x; refuse x; else event exempt y; fi; }";
    node.crictl_with(gate, "false", "pause:1");
    let outcome = node.verify(Engine::Containerd);
    assert!(
        lines(&outcome).starts_with("verified: the engine answers; a harmless probe started (kube-system)"),
        "{outcome:?}"
    );
    let pod = fs::read_to_string(node.path("state/pod.json")).unwrap();
    assert!(pod.contains("\"network\":2"), "{pod}");
}

#[test]
fn the_engine_is_asked_where_it_listens_by_the_distributions_own_client() {
    const CONFIG: &str = "/var/lib/rancher/rke2/agent/etc/containerd/config.toml";
    let rke2 = Distribution {
        name: "rke2",
        config: CONFIG.into(),
        programs: vec!["/var/lib/rancher/rke2/bin".into()],
        socket: "/run/k3s/containerd/containerd.sock".into(),
        ..PLAIN.clone()
    };
    let seconds = Duration::from_secs(60);
    let asked = |node: &Node, distribution: &Distribution| {
        lines(&node.verify_on(distribution, Engine::Containerd, seconds, true))
    };
    // (what runs, what the configuration says, where it is asked)
    let rows: [(&[&str], &str, &str); 5] = [
        (&[], "", "/run/k3s/containerd/containerd.sock"),
        (&[], "[grpc]\naddress = '/run/own.sock'\n", "/run/own.sock"),
        (
            &["-c", CONFIG, "-a", "/data/k3s.sock", "--state", "/s"],
            "[grpc]\naddress = '/x'\n",
            "/data/k3s.sock",
        ),
        (&["--config", CONFIG, "--address=unix:///data/k0s.sock"], "", "/data/k0s.sock"),
        // Docker's own: its configuration is another.
        (&["--config", "/run/docker/x.toml", "-a", "/d.sock"], "", "/run/k3s/containerd/containerd.sock"),
    ];
    for (line, config, socket) in rows {
        let node = Node::new("mode = 'audit'\n");
        let file = node.path(&CONFIG[1..]);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, config).unwrap();
        if !line.is_empty() {
            let line = [&["/var/lib/rancher/rke2/bin/containerd"], line].concat();
            fake::add(&node.path("proc"), node.dir.path(), 7, 5, &line);
        }
        let said = asked(&node, &rke2);
        let place = node.path(&socket[1..]).display().to_string();
        assert!(said.starts_with(&format!("failed: connect to {place}: ")), "{line:?} {config}: {said}");
    }
    // CRI-O's drop-ins are read after its file, and their last word counts.
    let listens = |socket: &str| format!("[crio.api]\nlisten = '{socket}'\n");
    for (main, drop_in, socket) in [
        (None, None, "/run/crio/crio.sock"),
        (Some("/run/a.sock"), None, "/run/a.sock"),
        (None, Some("/run/b.sock"), "/run/b.sock"),
        (Some("/run/a.sock"), Some("/run/b.sock"), "/run/b.sock"),
    ] {
        let node = Node::new("mode = 'audit'\n");
        fs::create_dir_all(node.path("etc/crio/crio.conf.d")).unwrap();
        for (file, told) in [("etc/crio/crio.conf", main), ("etc/crio/crio.conf.d/20-listen.conf", drop_in)] {
            fs::write(node.path(file), told.map(listens).unwrap_or_default()).unwrap();
        }
        fs::write(node.path("etc/crio/crio.conf.d/30-other.conf"), "[crio.runtime]\n").unwrap();
        let said = lines(&node.verify_on(&PLAIN, Engine::CriO, seconds, true));
        let place = node.path(&socket[1..]).display().to_string();
        assert!(said.starts_with(&format!("failed: connect to {place}: ")), "{main:?} {drop_in:?}: {said}");
    }
    let node = Node::new("mode = 'enforce'\n");
    node.crictl(REFUSES);
    let own = node.path("var/lib/rancher/rke2/bin");
    fs::create_dir_all(&own).unwrap();
    fs::rename(node.path("usr/bin/crictl"), own.join("crictl")).unwrap();
    let said = asked(&node, &rke2);
    assert!(said.starts_with("verified: the engine answers; a harmless probe started"), "{said}");
    assert!(asked(&node, &PLAIN).contains("connect to"), "there is no other client");
}

#[test]
fn what_cannot_be_shown_is_no_success_and_no_failure() {
    let node = Node::new("mode = 'enforce'\n");
    node.crictl_with(REFUSES, "true", "localhost/other:1");
    let said = lines(&node.verify(Engine::Containerd));
    assert!(said.starts_with("unproven: the engine answers BUT not probed: no pause image"), "{said}");

    let node = Node::new("mode = 'audit'\n");
    let said = lines(&node.verify(Engine::Containerd));
    assert!(said.starts_with("failed: connect to "), "{said}");
    fs::create_dir_all(node.path("run/containerd")).unwrap();
    let _listener = UnixListener::bind(node.path("run/containerd/containerd.sock")).unwrap();
    let said = lines(&node.verify(Engine::Containerd));
    assert!(said.starts_with("unproven: the engine listens at /run/containerd/containerd.sock BUT not probed: there is no crictl"), "{said}");

    let node = Node::new("mode = 'audit'\n");
    node.crictl("");
    fs::remove_file(node.path("usr/bin/journalctl")).unwrap();
    let said = lines(&node.verify(Engine::Containerd));
    assert!(said.contains("BUT a judgement: there is no journalctl"), "{said}");

    let node = Node::new("mode = 'audit'\n");
    let said = lines(&node.verify(Engine::Podman));
    assert_eq!(said, "unproven:  BUT not probed: there is no program podman on this node");
    node.program("docker", "#!/bin/sh\necho no daemon >&2\nexit 1\n");
    let said = lines(&node.verify(Engine::Docker));
    assert_eq!(said, "failed: docker does not answer: no daemon");
}

/// A `docker` that keeps its containers in a folder and writes what its shims and the gate would write.
const DOCKER: &str = r#"#!/bin/sh
root=ROOT
state=$root/state
event() {
    printf '{"PSS_CONTAINER_ID":"%s","PSS_DECISION":"%s","MESSAGE":"%s"}\n' "$id" "$1" "$2" >>"$root/var/log/pss-guard/decisions.jsonl"
}
refuse() {
    echo "docker: Error response from daemon: $1" >&2
    exit 125
}
on_import() { :; }
on_run() { :; }
runtime=/var/lib/pss-guard/runtimes/docker/runc/pss-guard-runtime
BEHAVIOUR
forbidden() { case $line in *--cap-add=SYS_ADMIN*) true ;; *) false ;; esac; }
line="$*"
case $1 in
info) ;;
import)
    on_import
    tar -tf "$2" >"$state/files"
    touch "$state/images/1234"
    echo sha256:1234
    ;;
create)
    for word; do case $word in --name=*) name=${word#*=} ;; --cidfile=*) file=${word#*=} ;; esac; done
    id=$(printf %064d "$(ls "$state/pods" | wc -l)")
    printf %s "$id" >"$file"
    touch "$state/pods/$name"
    echo "$line" >>"$state/lines"
    printf %s "$line" >"$state/line-$id"
    ;;
start)
    id=$2
    grep -q "\"ended\":false,\"engine\":\"docker\",\"container_id\":\"$id\"" "$root/var/log/pss-guard/probes.jsonl" || refuse unknown
    line=$(cat "$state/line-$id")
    on_run
    task=$root/run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby/$id
    mkdir -p "$task"
    echo '{"linux":{}}' >"$task/config.json"
    printf %s "$runtime" >"$task/runtime"
    printf 77 >"$task/init.pid"
    ;;
rm) rm -f "$state/pods/$4" ;;
rmi) rm -f "$state"/images/* ;;
ps) ls "$state/pods" ;;
images) ls "$state/images" ;;
*) refuse "unknown $1" ;;
esac
"#;

/// An authorization plugin that lets nobody have a capability.
const AUTHZ: &str = "on_run() { if forbidden; then refuse 'authorization denied by plugin opa: no to pss-guard-probe-1'; fi; }";

#[test]
fn what_becomes_of_containers_of_no_pod_decides() {
    let (enforce, audit) =
        ("mode = 'enforce'\n[unmanaged]\nenforce = 'restricted'\n", "[unmanaged]\nenforce = 'restricted'\n");
    let refuses =
        "on_run() { if forbidden; then event denied 'violates PodSecurity'; refuse 'create failed'; fi; }";
    let logs = "on_run() { if forbidden; then event would-deny 'would violate PodSecurity'; fi; }";
    let harmless = "docker answers; a harmless probe started (unmanaged)";
    #[rustfmt::skip]
    let rows = [
        (enforce, refuses, "verified: HARMLESS; a forbidden probe was refused: violates PodSecurity"),
        (enforce, "on_run() { if forbidden; then refuse 'violates PodSecurity \"restricted:latest\"'; fi; }", "verified: "),
        (audit, logs, "verified: HARMLESS; a forbidden probe was evaluated (would-deny) and started, because nothing is refused: would violate"),
        // By default nothing is asked of them: that they passed the gate is seen all the same.
        ("", "", "verified: HARMLESS; a forbidden probe started, because [unmanaged] in the policy requires nothing of it"),
        ("", "runtime=runc", "failed: a probe bypassed the gate"),
        (audit, "runtime=runc", "failed: a probe bypassed the gate"),
        (enforce, "on_run() { [ -e $state/read ] || runtime=runc; touch $state/read; if forbidden; then refuse 'violates PodSecurity'; fi; }", "verified: "),
        ("", "on_run() { id=$id-; }", "BUT that it passed the gate: it is not seen"),
        // An engine that lets nobody have this capability says nothing of the gate.
        ("", AUTHZ, "verified: HARMLESS; a forbidden probe was refused, but not by the gate: docker: Error response from daemon: authorization denied by plugin opa: no to pss-guard-probe-1"),
        (audit, AUTHZ, "unproven: HARMLESS BUT a forbidden probe was refused, but not by the gate: docker: "),
        ("", "on_run() { if forbidden; then refuse 'hook /var/lib/pss-guard/bin/pss-guard-gate exited with 2'; fi; }", "failed: a forbidden probe did not start: docker: "),
        ("", "on_run() { if forbidden; then event fault 'cannot judge'; refuse 'create failed'; fi; }", "failed: a forbidden probe did not start: docker: "),
        (audit, refuses, "failed: a forbidden probe did not start: docker: "),
        (enforce, "", "failed: a forbidden probe was not refused: it bypassed the gate"),
        (enforce, "on_run() { if forbidden; then refuse 'no space left'; fi; }", "failed: a forbidden probe was refused, but not by the gate: docker: Error response from daemon: no space left"),
        (enforce, "on_run() { refuse 'exec pss-guard-runtime: no such file'; }", "failed: a harmless probe did not start: docker: Error response from daemon: exec"),
        (audit, "", "failed: a forbidden probe started, and the gate wrote no event \"would-deny\" of it"),
        (audit, "on_import() { refuse 'no space left'; }", "unproven: docker answers BUT not probed: docker import: docker: Error response from daemon: no space left"),
        ("", "on_run() { sleep 60; }", "failed: ROOT/usr/bin/docker has not ended after 8 seconds"),
        ("mode = 'strict'\n", "", "failed: "),
    ];
    for (policy, behaviour, expected) in rows {
        let node = Node::new(policy);
        node.docker(behaviour);
        let expected =
            expected.replace("HARMLESS", harmless).replace("ROOT", node.dir.path().to_str().unwrap());
        let call = Duration::from_secs(if behaviour.contains("sleep") { 8 } else { 60 });
        let said = lines(&node.verify_within(Engine::Docker, call));
        assert!(said.contains(&expected), "{policy}{behaviour}\n{said}\ninstead of {expected}");
        assert_eq!(node.left(), 0, "a probe was left: {policy}{behaviour}");
        assert_eq!(fs::read_dir(node.path("state/images")).unwrap().count(), 0, "{policy}{behaviour}");
    }
}

#[test]
fn the_probes_of_no_pod_are_the_gate_alone() {
    let node = Node::new("");
    node.docker("");
    assert!(matches!(node.verify(Engine::Docker), Outcome::Verified(_)));
    assert_eq!(fs::read_to_string(node.path("state/files")).unwrap(), "pss-guard\n");
    let runs = fs::read_to_string(node.path("state/lines")).unwrap();
    let runs: Vec<&str> = runs.lines().collect();
    for line in &runs {
        assert!(
            line.contains("--network=none") && line.ends_with(" sha256:1234 /pss-guard namespaces import"),
            "{line}"
        );
    }
    assert!(
        runs[0].contains("--user=65535:65535 --cap-drop=ALL --security-opt=no-new-privileges"),
        "{runs:?}"
    );
    assert!(runs[1].contains("--user=0:0 --cap-add=SYS_ADMIN"), "{runs:?}");
    // A program that needs libraries does not run there.
    let said = lines(&node.verify_with(Engine::Docker, Duration::from_secs(60), false));
    assert!(said.contains("BUT not probed: this program was built with shared libraries"), "{said}");
}

#[test]
fn an_engine_that_hangs_is_given_up() {
    let node = Node::new("mode = 'enforce'\n");
    node.crictl("on_start() { sleep 60; }");
    let started = Instant::now();
    let said = lines(&node.verify_within(Engine::Containerd, Duration::from_secs(4)));
    assert!(said.starts_with("failed: ") && said.contains("has not ended after 4 seconds"), "{said}");
    assert!(started.elapsed() < Duration::from_secs(50), "it is asked once, not three times");
    assert_eq!(node.left(), 0, "the probe is removed all the same");
}

#[test]
fn the_probes_ask_as_a_kubelet_does() {
    let node = Node::new("mode = 'enforce'\n");
    node.crictl(REFUSES);
    assert!(matches!(node.verify(Engine::Containerd), Outcome::Verified(_)));
    let read = |name: &str| -> serde_json::Value {
        serde_json::from_slice(&fs::read(node.path("state").join(name)).unwrap()).unwrap()
    };
    let (pod, container) = (read("pod.json"), read("container.json"));
    assert_eq!(pod["metadata"]["namespace"], "pss-guard-probe");
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    assert!(uid.len() == 36 && pod["metadata"]["name"].as_str().unwrap().ends_with(&uid[24..]), "{uid}");
    assert_eq!(pod["labels"]["io.kubernetes.pod.uid"], uid);
    // An empty path of a log has the kubelet remove what lies in its working directory.
    let name = pod["metadata"]["name"].as_str().unwrap();
    let logs = node.path(&format!("var/log/pods/pss-guard-probe_{name}_{uid}"));
    assert_eq!(pod["log_directory"].as_str(), logs.to_str());
    assert_eq!(container["log_path"], "0.log");
    assert!(!node.path("var/log/pods").exists(), "the folders of the probes' logs are left");
    assert_eq!(container["labels"]["io.kubernetes.pod.uid"], uid);
    assert_eq!(container["image"]["image"], "registry.k8s.io/pause:3.9");
    assert_eq!(container["linux"]["security_context"]["capabilities"]["add_capabilities"][0], "SYS_ADMIN");
}
