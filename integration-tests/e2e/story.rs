//! What must happen on every engine? The gate comes, judges, only watches, and goes.

use crate::support::cases::{self, Case, Said, is_refused_at_restricted};
use crate::support::cri::{self, Attempt};
use crate::support::engine::{Engine, Kind};
use crate::support::gate::{self, Method, Restart};
use crate::support::kube::{self, Cluster, Seen};
use crate::support::pod::{Pod, ProcMount};
use crate::support::{documents, image, machine, run};

/// The controls that are judged on the pod's own sandbox: hostNamespaces and sysctls.
const OF_THE_POD: [u8; 2] = [3, 11];

/// Cases that tell a gate from none: one that starts, one whose pod is refused, some whose container is.
const FEW: [&str; 4] = ["everything set", "nothing set", "privileged", "host network"];

#[test]
fn containerd_1_6() {
    tell("story::containerd_1_6", Kind::Containerd16);
}

#[test]
fn containerd_1_7() {
    tell("story::containerd_1_7", Kind::Containerd17);
}

#[test]
fn containerd_2() {
    tell("story::containerd_2", Kind::Containerd2);
}

#[test]
fn cri_o() {
    tell("story::cri_o", Kind::CriO);
}

#[test]
fn kubelet_on_containerd() {
    tell_of_a_cluster("story::kubelet_on_containerd", Kind::Containerd2);
}

#[test]
fn kubelet_on_cri_o() {
    tell_of_a_cluster("story::kubelet_on_cri_o", Kind::CriO);
}

/// Tells it, on a machine of its own.
fn tell(test: &str, kind: Kind) {
    if !kind.can_run(test) {
        return;
    }
    let mut engine = Engine::up(kind);
    let before = engine.machine.snapshot();
    let mut wrong = Vec::new();
    wrong.extend(unguarded(&engine, "before"));

    let (usual, other) = gate::methods(kind);
    let command = engine.restart_command();
    wrong.extend(installed(&engine, usual, Restart::Command(&command)));
    wrong.extend(gate::is_verified(&engine.machine, kind.name()));
    for case in cases::portable() {
        wrong.extend(enforced_wrongly(&engine, &case));
    }
    if kind != Kind::CriO {
        wrong.extend(other_clients(&engine));
    }
    wrong.extend(without_its_policy(&engine));
    engine.machine.write("/etc/pss-guard/policy.toml", &gate::policy("audit"));
    for case in cases::portable() {
        let attempt = cri::start(&engine, &case.pod);
        wrong.extend(
            watched(&case, &attempt, engine.can_start(&case.pod))
                .err()
                .map(|what| format!("{}, audit: {what}\n{attempt}", case.name)),
        );
    }
    engine.machine.write("/etc/pss-guard/policy.toml", &gate::policy("enforce"));
    wrong.extend(uninstalled_for_later(&engine));
    // Without a hook in the engine's memory nothing of the gate is left in the way.
    wrong.extend(unguarded(&engine, "taken away, and before the restart, of"));
    gate::uninstall(&engine.machine, kind.name(), Restart::Command(&command));
    wrong.extend(unguarded(&engine, "after"));
    wrong.extend(machine::changed(&before, &engine.machine.snapshot()));

    wrong.extend(installed(&engine, other, Restart::Later));
    engine.restart();
    gate::stands(&engine.machine, kind.name());
    wrong.extend(gate::is_verified(&engine.machine, kind.name()));
    for case in cases::portable().into_iter().filter(|case| FEW.contains(&case.name)) {
        wrong.extend(enforced_wrongly(&engine, &case));
    }
    wrong.extend(uninstalled_for_later(&engine));
    engine.restart();
    // What the engine still called before it was restarted.
    gate::uninstall(&engine.machine, kind.name(), Restart::Later);
    wrong.extend(unguarded(&engine, "after the other method of"));
    wrong.extend(machine::changed(&before, &engine.machine.snapshot()));
    assert!(wrong.is_empty(), "{} went wrong on {kind:?}\n\n{}", wrong.len(), wrong.join("\n\n"));
}

/// What is wrong with an installation; where the program restarts the engine itself, it must have seen the gate at work.
fn installed(engine: &Engine, method: Method, restart: Restart<'_>) -> Option<String> {
    engine.machine.write("/etc/pss-guard/policy.toml", &gate::policy("enforce"));
    let said = gate::install(&engine.machine, engine.kind.name(), method, restart);
    if restart == Restart::Later {
        return None;
    }
    gate::stands(&engine.machine, engine.kind.name());
    let seen = ["seen: a harmless probe started", "seen: a forbidden probe was refused"];
    let all = seen.iter().all(|seen| said.contains(seen));
    (!all)
        .then(|| format!("the installation should have been tried out\n{said}"))
        .or_else(|| counts_probes(engine))
}

/// What the installer tried out says nothing of the node's own containers.
fn counts_probes(engine: &Engine) -> Option<String> {
    let journal = engine.machine.events("PSS_NAMESPACE", "pss-guard-probe");
    if journal.is_empty() {
        return Some("the probes should be in the journal".into());
    }
    let commands: [&[&str]; 3] = [&["report", "--format", "json"], &["report"], &["metrics"]];
    let counted = commands.into_iter().find_map(|command| {
        let done = engine.machine.run(&[&["/opt/pss-guard"], command].concat()).expect_success();
        done.stdout.contains("pss-guard-probe").then(|| format!("probes should not count\n{done}"))
    });
    // What was counted outlives the installation.
    engine.machine.run(&["rm", "-r", "/var/lib/pss-guard/metrics"]).expect_success();
    counted
}

fn enforced_wrongly(engine: &Engine, case: &Case) -> Option<String> {
    let attempt = cri::start(engine, &case.pod);
    enforced(case, &attempt).err().map(|what| format!("{}: {what}\n{attempt}", case.name))
}

/// Whatever becomes of the policy, and over a boot: the node is as strict as before, and what it needs starts.
fn without_its_policy(engine: &Engine) -> Vec<String> {
    let machine = &engine.machine;
    let file = "/etc/pss-guard/policy.toml";
    machine.write(file, &gate::policy("enforce"));
    let mut wrong = Vec::new();
    wrong.extend(enforced_wrongly(engine, &cases::portable()[0]));
    let rows = [
        ("lost", format!("rm {file}"), "is gone"),
        ("broken", format!("echo mode = >{file}"), "policy.toml:1:"),
        ("lost with its folder", "rm -r /etc/pss-guard".to_owned(), "is gone"),
        ("in a folder of everybody", "chmod 0777 /etc/pss-guard".to_owned(), "chmod go-w /etc/pss-guard"),
    ];
    for (what, damage, fault) in rows {
        machine.run(&["sh", "-c", "mkdir -p /etc/pss-guard && chmod 0755 /etc/pss-guard"]).expect_success();
        machine.write(file, &gate::policy("enforce"));
        wrong.extend(enforced_wrongly(engine, &cases::portable()[0]));
        machine.run(&["sh", "-c", &damage]).expect_success();
        for boots in [0, 1] {
            if boots == 1 {
                // What a boot empties, and what it brings back of it.
                machine
                    .run(&["sh", "-c", "rm -r /run/pss-guard && mkdir -m 0755 /run/pss-guard"])
                    .expect_success();
            }
            for case in cases::portable().into_iter().filter(|case| FEW.contains(&case.name)) {
                let said = enforced_wrongly(engine, &case);
                wrong.extend(said.map(|said| format!("policy {what}, {boots} boots: {said}")));
            }
            let system =
                cri::start(engine, &Pod { namespace: "kube-system", privileged: true, ..Pod::bare() });
            if engine.can_start(&Pod { privileged: true, ..Pod::bare() }) && !system.ran {
                wrong.push(format!("policy {what}: a pod of the system should have started\n{system}"));
            }
            let refused = cri::start(engine, &Pod::bare());
            if !refused
                .events
                .iter()
                .all(|event| event["PSS_POLICY_FAULT"].as_str().is_some_and(|said| said.contains(fault)))
            {
                wrong.push(format!("policy {what}: each event should say so\n{refused}"));
            }
            let status = machine.run(&["/opt/pss-guard", "status", "--engine", engine.kind.name()]);
            if status.code != Some(1) || !status.stdout.contains("the last good policy is in force") {
                wrong.push(format!("policy {what}: status should say so\n{status}"));
            }
        }
    }
    machine.run(&["chmod", "0755", "/etc/pss-guard"]).expect_success();
    machine.write(file, &gate::policy("enforce"));
    wrong
}

/// `ctr` chooses its runtime itself: it passes the gate only if it is told to, and that is said.
fn other_clients(engine: &Engine) -> Vec<String> {
    let unmanaged = "[unmanaged]\nenforce = \"baseline\"\n";
    engine.machine.write("/etc/pss-guard/policy.toml", &(gate::policy("enforce") + unmanaged));
    let gate = ["--runc-binary", "/var/lib/pss-guard/runtimes/containerd/runc/pss-guard-runtime"];
    let run = |options: &[&str], name: &str, script: &str| {
        let line = ["ctr", "--namespace=k8s.io", "run"];
        let container = [image::APP, name, "/bin/sh", "-c", script];
        engine.machine.run(&[&line, options, &container].concat())
    };
    let mut wrong = Vec::new();
    for (options, refused) in
        [(vec!["--net-host"], false), (gate.to_vec(), false), ([&gate[..], &["--net-host"]].concat(), true)]
    {
        let name = format!("by-ctr-{}", options.len());
        let done = run(&options, &name, "echo started");
        let told = done
            .stderr
            .contains("violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)");
        if (done.stdout == "started\n") == refused || told != refused {
            wrong.push(format!("ctr, should have been refused: {refused}\n{done}"));
        }
    }
    run(&["--detach"], "by-ctr", "sleep 3600").expect_success();
    let said =
        engine.machine.run(&["/opt/pss-guard", "status", "--engine=containerd"]).expect_success().stdout;
    let open = "1 running container of other clients of containerd (ctr, nerdctl)";
    if !said.lines().any(|line| line.trim_start().starts_with("note") && line.contains(open)) {
        wrong.push(format!("a container of ctr's should be noted\n{said}"));
    }
    let remove = ["task delete --force", "container delete"]
        .map(|verb| format!("ctr --namespace=k8s.io {verb} by-ctr"));
    engine.machine.run(&["sh", "-c", &remove.join(" && ")]).expect_success();
    wrong
}

/// Takes the gate away from under an engine that is not restarted. Until it is, pods start as the engine remembers: by
/// entries that stay, whatever becomes of the clock.
fn uninstalled_for_later(engine: &Engine) -> Option<String> {
    let folder = format!("/var/lib/pss-guard/runtimes/{}", engine.kind.name());
    let folder = folder.replace("crio", "cri-o");
    let entries = || engine.machine.run(&["ls", &folder]).stdout;
    let before = entries();
    gate::uninstall(&engine.machine, engine.kind.name(), Restart::Later);
    // As if the clock had been set forward since.
    let ages = "find \"$@\" -exec touch --no-dereference --date=yesterday {} + 2>/dev/null; true";
    engine.machine.run(&["sh", "-c", ages, "sh", &folder, "/run/pss-guard"]).expect_success();
    gate::uninstall(&engine.machine, engine.kind.name(), Restart::Later);
    if entries() != before {
        return Some(format!("the entries are called, and were: {before}now: {}", entries()));
    }
    let attempt = cri::start(engine, &Pod::compliant());
    (!attempt.ran).then(|| format!("before the restart a pod should have started\n{attempt}"))
}

/// Without the gate everything starts.
fn unguarded(engine: &Engine, when: &str) -> Option<String> {
    [Pod::compliant(), Pod::bare(), Pod { privileged: true, ..Pod::bare() }]
        .iter()
        .filter(|pod| engine.can_start(pod))
        .map(|pod| cri::start(engine, pod))
        .find(|attempt| !attempt.ran || !attempt.events.is_empty())
        .map(|attempt| format!("{when} the gate a pod should have started unseen\n{attempt}"))
}

/// What `restricted` makes of it: started, or refused with the words that the control has for it.
fn enforced(case: &Case, attempt: &Attempt) -> Result<(), String> {
    let said = case.said("restricted");
    if said.is_empty() {
        return if attempt.ran { Ok(()) } else { Err("should have started".into()) };
    }
    let refusal = attempt.refusal().filter(|_| !attempt.ran).ok_or("should have been refused")?;
    let of_the_pod = |said: &&Said| !attempt.refused_as_a_pod() || OF_THE_POD.contains(&said.number);
    let silent: Vec<&str> =
        said.iter().filter(of_the_pod).map(|said| said.text).filter(|text| !refusal.contains(text)).collect();
    if !silent.is_empty() || !is_refused_at_restricted(&refusal) {
        return Err(format!("the refusal does not tell {silent:?}"));
    }
    if attempt.decisions() != ["denied"] {
        return Err(format!("the journal should have one event, denied: {:?}", attempt.decisions()));
    }
    Ok(())
}

/// Everything starts, and what would have been refused is written down.
fn watched(case: &Case, attempt: &Attempt, can_start: bool) -> Result<(), String> {
    if !attempt.ran && can_start {
        return Err("should have started".into());
    }
    let told = attempt.decisions().contains(&"would-deny");
    if told == case.said("restricted").is_empty() {
        return Err(format!("the journal says {:?}", attempt.decisions()));
    }
    Ok(())
}

/// The same with a kubelet and an API server: what `kubectl` shows, and pods that the API server never judged.
fn tell_of_a_cluster(test: &str, kind: Kind) {
    if !Cluster::can_run(test, kind) {
        return;
    }
    let cluster = Cluster::up(kind);
    let before = cluster.engine.machine.snapshot();
    let command = cluster.engine.restart_command();
    let mut wrong = Vec::new();

    wrong.extend(installed(&cluster.engine, gate::methods(kind).0, Restart::Command(&command)));
    wrong.extend(imports(&cluster).err());
    let asked = ask(&cluster, "");
    let refused = |name: &str| asked.iter().any(|(asked, case)| asked == name && is_refused(case));
    let seen = cluster.settled(|seen| {
        seen.len() == asked.len()
            && seen.iter().all(|pod| if refused(&pod.name) { pod.is_refused() } else { pod.runs })
    });
    for (name, case) in &asked {
        let described = seen.iter().find(|pod| pod.name == *name);
        wrong.extend(described_right(case, described).err().map(|what| format!("{name}: {what}")));
    }
    if kind == Kind::Containerd2
        && !seen.iter().any(|pod| one_line(&pod.described).contains(&shown_in_the_readme()))
    {
        wrong.push(format!("no pod is described as in the README: {}", shown_in_the_readme()));
    }
    cluster.clear();

    cluster.engine.machine.write("/etc/pss-guard/policy.toml", &gate::policy("audit"));
    let asked = ask(&cluster, "-watched");
    let starts =
        |name: &str| asked.iter().any(|(asked, case)| asked == name && cluster.engine.can_start(&case.pod));
    let seen = cluster
        .settled(|seen| seen.len() == asked.len() && seen.iter().all(|pod| pod.runs || !starts(&pod.name)));
    for (name, case) in asked.iter().filter(|(_, case)| cluster.engine.can_start(&case.pod)) {
        match seen.iter().find(|pod| pod.name == *name) {
            Some(pod) if pod.runs => {
                let events = cluster.engine.machine.events("PSS_POD", name);
                let told = events.iter().any(|event| event["PSS_DECISION"] == "would-deny");
                if told != is_refused(case) {
                    wrong.push(format!("{name}, audit: the journal says {events:?}"));
                }
            }
            pod => wrong.push(format!("{name}, audit: should have started\n{}", text(pod))),
        }
    }
    cluster.clear();

    cluster.engine.machine.write("/etc/pss-guard/policy.toml", &gate::policy("enforce"));
    gate::uninstall(&cluster.engine.machine, kind.name(), Restart::Command(&command));
    cluster.apply(&[kube::manifest("bare", &Pod::bare())]);
    let seen = cluster.settled(|seen| seen.iter().all(|pod| pod.runs) && !seen.is_empty());
    if !seen.first().is_some_and(|pod| pod.runs) {
        wrong.push(format!("after the gate a pod should have started\n{}", text(seen.first())));
    }
    cluster.clear();
    wrong.extend(machine::changed(&before, &cluster.engine.machine.snapshot()));
    let said = || ["kubelet", "engine"].map(|name| cluster.engine.machine.said(name)).join("\n");
    assert!(wrong.is_empty(), "{} went wrong on {kind:?}\n\n{}\n{}", wrong.len(), wrong.join("\n\n"), said());
}

/// What pss-guard-namespaces.service does, as the node that it runs on: the API server lets it once docs/namespaces.yaml is
/// there, and then a label of the cluster holds here.
fn imports(cluster: &Cluster) -> Result<(), String> {
    let machine = &cluster.engine.machine;
    let unit = include_str!("../../systemd/pss-guard-namespaces.service");
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/bin/sh -c '")?.strip_suffix('\''));
    assert!(unit.contains(&format!("\nEnvironment=KUBECONFIG={}\n", kube::KUBELETS_CONFIG)), "{unit}");
    let kubeconfig = format!("KUBECONFIG={}", kube::KUBELETS_CONFIG);
    let import = || machine.run(&["env", &kubeconfig, "/bin/sh", "-c", line.expect("one ExecStart")]);
    let shows = |level: &str| {
        let done =
            machine.run(&["/var/lib/pss-guard/bin/pss-guard", "policy", "show", "--namespace", "shop"]);
        if done.stdout.contains(level) { Ok(()) } else { Err(format!("should show {level}\n{done}")) }
    };

    let refused = import();
    if refused.code == Some(0)
        || !["forbidden", "nothing was changed"].iter().all(|text| refused.stderr.contains(text))
    {
        return Err(format!("nobody has let the node list namespaces\n{refused}"));
    }
    machine.write("/run/machine/namespaces.yaml", include_str!("../../docs/namespaces.yaml"));
    cluster.kubectl(&["apply", "--filename", "/run/machine/namespaces.yaml"]).expect_success();
    let mut last = refused;
    if !run::eventually(|| {
        last = import();
        last.code == Some(0)
    }) {
        return Err(format!("the node may list namespaces now\n{last}"));
    }
    let label = |label: &str| cluster.kubectl(&["label", "namespace", "shop", label]).expect_success();
    shows("restricted")?;
    label("pod-security.kubernetes.io/enforce=baseline");
    import().expect_success();
    shows("baseline:latest    level from namespace \"shop\"")?;
    label("pod-security.kubernetes.io/enforce-");
    let folders = ["/run/pss-guard/namespaces", "/var/lib/pss-guard/namespaces"];
    machine.run(&["rm", "-r", folders[0], folders[1]]).expect_success();
    Ok(())
}

/// Asks for every case at the API server, and for two as static pods; gives their names there, each with the suffix.
fn ask(cluster: &Cluster, suffix: &str) -> Vec<(String, Case)> {
    // The API server itself refuses an unmasked /proc without a user namespace.
    let cases =
        || cases::portable().into_iter().filter(|case| matches!(case.pod.proc_mount, ProcMount::Default));
    let mut asked: Vec<(String, Case)> =
        cases().map(|case| (cases::slug(case.name) + suffix, case)).collect();
    let manifests: Vec<_> = asked.iter().map(|(name, case)| kube::manifest(name, &case.pod)).collect();
    cluster.apply(&manifests);
    for case in cases().filter(|case| ["everything set", "nothing set"].contains(&case.name)) {
        let name = format!("static-{}{suffix}", cases::slug(case.name));
        cluster.lay_down(&kube::manifest(&name, &case.pod));
        // The API server shows it with the node's name.
        asked.push((format!("{name}-node"), case));
    }
    asked
}

fn is_refused(case: &Case) -> bool {
    !case.said("restricted").is_empty()
}

/// `kubectl describe pod` shows why, in the standard's own words.
fn described_right(case: &Case, seen: Option<&Seen>) -> Result<(), String> {
    let pod = seen.ok_or("nobody knows of it")?;
    if !is_refused(case) {
        return if pod.runs { Ok(()) } else { Err(format!("should have started\n{}", pod.described)) };
    }
    let as_a_pod = pod.described.contains("FailedCreatePodSandBox");
    let of_the_pod = |said: &&Said| !as_a_pod || OF_THE_POD.contains(&said.number);
    let told = |said: &Said| pod.described.contains(said.text);
    if pod.runs || !pod.is_refused() || !case.said("restricted").iter().filter(of_the_pod).all(told) {
        return Err(format!("should have been refused, and say why\n{}", pod.described));
    }
    Ok(())
}

/// The refusal in the README, from the error on: before that come a time and columns.
fn shown_in_the_readme() -> String {
    let blocks = documents::blocks("README.md", "text");
    let block = blocks.first().expect("the README shows a refusal");
    one_line(&block[block.find("Error: ").expect("an error")..])
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Seen {
    fn is_refused(&self) -> bool {
        is_refused_at_restricted(&self.described)
    }
}

fn text(seen: Option<&Seen>) -> String {
    seen.map_or_else(|| "nobody knows of it".to_owned(), |pod| pod.described.clone())
}
