//! What do many agents cost one API server? Real agents, each a process with a node's name, identity and folders of its own,
//! and no node around it. All of it is on one machine: agents, API server and etcd share its processors.
//!
//! `PSS_GUARD_FLEET` says how many agents, and behind a comma how many namespaces; docs/evidence.md scales what it prints.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::support::cluster::{Cluster, api_server_line, kubeconfig};
use crate::support::machine::Machine;
use crate::support::metrics::numbers;
use crate::support::{files, needs, program, run};

/// As many as `make e2e-cluster` has the time for.
const AGENTS: usize = 50;

/// How many namespaces there are beside the cluster's own.
const NAMESPACES: usize = 100;

/// The cluster's own, and the one with the pods.
const OWN: usize = 5;

/// How long the API server is looked at without agents.
const AT_REST: Duration = Duration::from_secs(60);

/// Where the agents have their folders, configurations and logs.
const FLEET: &str = "/run/machine/fleet";

/// What an agent watches.
const RESOURCES: [&str; 2] = ["namespaces", "pods"];

#[test]
fn many_agents_at_one_api_server() {
    const TEST: &str = "fleet::many_agents_at_one_api_server";
    if !Cluster::can_run(TEST, &[]) || !needs::can_run(TEST, &["ss"]) {
        return;
    }
    let sizes = std::env::var("PSS_GUARD_FLEET").unwrap_or_default();
    let mut sizes =
        sizes.split(',').filter(|size| !size.is_empty()).map(|size| size.parse().expect("a number"));
    let (agents, namespaces) = (sizes.next().unwrap_or(AGENTS), sizes.next().unwrap_or(NAMESPACES));
    let cluster = Cluster::without_nodes(agents);
    cluster.apply(include_str!("../../docs/namespaces.yaml"));
    cluster.make_namespace("shop", &[]);
    let name = |number| {
        let labels = json!({"pod-security.kubernetes.io/enforce": "baseline"});
        let metadata = json!({"name": format!("team-{number}"), "labels": labels});
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    };
    cluster.create(&(0..namespaces).map(name).collect::<Vec<_>>(), &[]).expect_success();
    let fleet = Fleet::prepare(&cluster, agents, namespaces);

    let alone = fleet.now();
    fleet.label_many();
    let labels_alone = fleet.since(&alone).cpu;
    let alone_at_rest = fleet.at_rest(AT_REST);
    let bare = fleet.restart();

    let started = fleet.start();
    fleet.label();
    fleet.labels(labels_alone);
    fleet.pods();
    let rest = Duration::from_secs(if agents > 2 * AGENTS { 300 } else { 60 });
    fleet.show_rest(rest, &alone_at_rest, &bare);
    fleet.restarted(&bare, &started);
    fleet.label();
    fleet.show_ends(rest);
    fleet.frozen();
    fleet.label();
}

/// What the API server has used and counted so far.
struct Sample {
    /// Seconds of processor time.
    cpu: f64,
    resident: f64,
    /// Requests that have ended, by verb and resource or path, with their code.
    requests: BTreeMap<String, f64>,
    /// Bytes that all agents have received.
    received: u64,
}

struct Fleet<'a> {
    cluster: &'a Cluster,
    agents: usize,
    namespaces: usize,
}

impl<'a> Fleet<'a> {
    fn prepare(cluster: &'a Cluster, agents: usize, namespaces: usize) -> Self {
        let machine = &cluster.control;
        fs::copy(program::agent(), machine.path("/opt/pss-guard-agent")).expect("a copy of the agent");
        files::set_mode(&machine.path("/opt/pss-guard-agent"), 0o755);
        for number in 1..=agents {
            fs::create_dir_all(machine.path(&format!("{FLEET}/{number}/run/pss-guard"))).unwrap();
            machine.write(&format!("{FLEET}/{number}.conf"), &kubeconfig(&format!("token-of-node-{number}")));
        }
        Self { cluster, agents, namespaces }
    }

    fn machine(&self) -> &Machine {
        &self.cluster.control
    }

    fn numbers(&self) -> BTreeMap<String, f64> {
        let mut text = String::new();
        // Neither the probes of others nor a start may fail this.
        let answered = run::within(Duration::from_secs(60), || {
            text = self.cluster.kubectl(&["get", "--raw", "/metrics"]).stdout;
            !text.is_empty()
        });
        assert!(answered, "{}", self.machine().said("kube-apiserver"));
        numbers(&text)
    }

    fn now(&self) -> Sample {
        let numbers = self.numbers();
        let mut requests = BTreeMap::new();
        for (name, number) in numbers.iter().filter(|(name, _)| name.starts_with("apiserver_request_total{"))
        {
            let what = ["verb", "resource", "subresource", "code"].map(|label| of(name, label));
            *requests.entry(what.join(" ")).or_default() += number;
        }
        // Not every path is counted above; all of them are where they are queued.
        let queued = numbers.iter().filter(|(name, _)| {
            name.starts_with("apiserver_flowcontrol_dispatched_requests_total{")
                && of(name, "flow_schema") == "system-nodes"
        });
        requests.insert("of nodes, of whatever kind".to_owned(), queued.map(|(_, number)| number).sum());
        Sample {
            cpu: numbers["process_cpu_seconds_total"],
            resident: numbers["process_resident_memory_bytes"],
            requests,
            received: self.received(),
        }
    }

    /// What was used since.
    fn since(&self, before: &Sample) -> Sample {
        let mut now = self.now();
        now.cpu -= before.cpu;
        now.resident -= before.resident;
        now.received = now.received.saturating_sub(before.received);
        for (what, number) in &before.requests {
            if let Some(now) = now.requests.get_mut(what) {
                *now -= number;
            }
        }
        now.requests.retain(|_, number| *number > 0.0);
        now
    }

    /// What the kernel says of the agents' connections.
    fn received(&self) -> u64 {
        let line = ["ss", "--tcp", "--numeric", "--no-header", "--info", "--processes", "--oneline"];
        let said = self.machine().run(&[&line[..], &["dport", "=", "443"]].concat()).expect_success().stdout;
        let own = said.lines().filter(|line| line.contains("pss-guard-agent"));
        let bytes = own
            .filter_map(|line| line.split_once("bytes_received:")?.1.split(' ').next()?.parse::<u64>().ok());
        bytes.sum()
    }

    /// Waits for every agent to read both lists once more; how many were read after how many seconds. The agents' logs tell,
    /// because to ask the API server costs it more than an agent does.
    fn wait_for_lists(&self, before: usize) -> Vec<(f64, usize)> {
        let at = Instant::now();
        let mut seen = Vec::new();
        // Whoever could go on where it was has read none; the label that follows shows that nobody was forgotten.
        run::within(Duration::from_secs(180), || {
            std::thread::sleep(Duration::from_secs(1));
            let lists = self.lists() - before;
            seen.push((at.elapsed().as_secs_f64(), lists));
            lists >= RESOURCES.len() * self.agents
        });
        seen
    }

    /// Files of every agent's, by its number: when each was written, in microseconds.
    fn written(&self, file: &str) -> Vec<i64> {
        let path = |number| self.machine().path(&format!("{FLEET}/{number}/run/pss-guard/{file}"));
        let metadata = (1..=self.agents).filter_map(|number| fs::metadata(path(number)).ok());
        metadata.map(|file| file.mtime() * 1_000_000 + file.mtime_nsec() / 1000).collect()
    }

    /// All at once, as no rollout does it.
    fn start(&self) -> Sample {
        let before = self.now();
        let each = format!(
            "/opt/pss-guard-agent run --node-name node-$n --kubeconfig {FLEET}/$n.conf --root {FLEET}/$n \
             --listen 127.0.0.1:$((20000 + n)) >>{FLEET}/$n.log 2>&1 &"
        );
        let all = format!("n=1; while [ $n -le {} ]; do {each} n=$((n + 1)); done; wait", self.agents);
        self.machine().start("fleet", &["sh", "-c", &all]);
        self.wait_for_lists(0);
        // The copies for the next boot.
        std::thread::sleep(Duration::from_secs(10));
        assert_eq!(
            self.written("namespaces/team-0.json").len(),
            self.agents,
            "{}",
            run::read(&self.machine().path(&format!("{FLEET}/1.log")))
        );
        let used = self.since(&before);
        let each = count(self.agents);
        println!("{} agents, {} namespaces, no pods:", self.agents, self.namespaces + OWN);
        println!(
            "start: {:.1} s of the API server's processor time, {:.1} ms an agent; {:.0} KB of its resident memory an agent; {} \
             bytes received by an agent",
            used.cpu,
            used.cpu * 1000.0 / each,
            used.resident / each / 1024.0,
            used.received / self.agents as u64,
        );
        show_requests(&used, each, None);
        self.now()
    }

    fn patch(&self, level: &str) {
        let labels = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": level}}});
        self.cluster.patch("/api/v1/namespaces/shop", &labels).expect_success();
    }

    /// How long a label takes to the first, the median and the last node.
    fn label(&self) {
        for level in ["baseline", "restricted", "privileged"] {
            // Two seconds after a change an agent copies it for the next boot. On nodes of their own that disturbs nobody.
            std::thread::sleep(Duration::from_secs(10));
            let at =
                i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap();
            self.patch(level);
            let mut after: Vec<i64> = Vec::new();
            let known = run::within(Duration::from_secs(120), || {
                std::thread::sleep(Duration::from_secs(2));
                after = self
                    .written("namespaces/shop.json")
                    .iter()
                    .map(|written| (written - at) / 1000)
                    .collect();
                after.len() == self.agents && after.iter().all(|after| *after > 0)
            });
            after.sort_unstable();
            assert!(known, "{level}: {after:?}");
            let [first, median, last] = [0, (after.len() - 1) / 2, after.len() - 1].map(|index| after[index]);
            println!("a label is written after ms: first {first}, median {median}, last {last}");
        }
    }

    /// Thirty labels.
    fn label_many(&self) {
        for number in 0..30 {
            self.patch(["baseline", "restricted", "privileged"][number % 3]);
        }
        // Whatever is still on its way.
        std::thread::sleep(Duration::from_secs(5));
    }

    fn labels(&self, alone: f64) {
        let before = self.now();
        self.label_many();
        let used = self.since(&before);
        let each = count(self.agents);
        println!(
            "30 labels: {:.2} s of the API server's processor time ({alone:.2} s without agents), {:.1} us a label and agent; {} \
             bytes a label and agent",
            used.cpu,
            (used.cpu - alone) * 1e6 / 30.0 / each,
            used.received / self.agents as u64 / 30,
        );
    }

    /// Pods on some nodes; the others hear nothing of them.
    fn pods(&self) {
        let pod = |number: usize| {
            json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("pod-{number}"), "namespace": "shop"},
                "spec": {
                    "nodeName": format!("node-{}", 1 + number % self.agents),
                    "containers": [{"name": "app", "image": "registry.example/app:1"}],
                },
            })
        };
        let pods: Vec<Value> = (0..200).map(pod).collect();
        let before = self.now();
        self.cluster.create(&pods, &[]).expect_success();
        let facts = |number: usize| {
            let path = self.machine().path(&format!("{FLEET}/{number}/run/pss-guard/pods"));
            let files = fs::read_dir(path).into_iter().flatten().flatten();
            files.filter(|file| file.path().extension().is_some_and(|kind| kind == "json")).count()
        };
        let mut written = 0;
        let all = run::within(Duration::from_secs(60), || {
            written = (1..=self.agents).map(facts).sum();
            written == pods.len()
        });
        assert!(all, "the facts of {} pods are on {written} nodes", pods.len());
        let used = self.since(&before);
        println!(
            "200 pods, each on one node: {:.2} s of the API server's processor time; {} bytes a pod, received by all agents together",
            used.cpu,
            used.received / 200
        );
    }

    /// What happens while nothing does.
    fn at_rest(&self, time: Duration) -> Sample {
        let before = self.now();
        std::thread::sleep(time);
        self.since(&before)
    }

    fn show_rest(&self, time: Duration, alone: &Sample, bare: &Sample) {
        let resident = self.now().resident;
        let used = self.at_rest(time);
        println!(
            "at rest for {} s: {:.2} % of a processor ({:.2} % without agents); {:.0} MB resident ({:.0} MB without agents); {} bytes \
             received by an agent",
            time.as_secs(),
            used.cpu / time.as_secs_f64() * 100.0,
            alone.cpu / AT_REST.as_secs_f64() * 100.0,
            (resident + used.resident) / 1e6,
            bare.resident / 1e6,
            used.received / self.agents as u64,
        );
        show_requests(&used, count(self.agents), Some(time));
    }

    /// Whether the watches that began at the same time end at the same time.
    fn show_ends(&self, time: Duration) {
        let at = Instant::now();
        let mut last = ended(&self.now());
        let mut ends = Vec::new();
        while at.elapsed() < time {
            std::thread::sleep(Duration::from_secs(5));
            let now = ended(&self.now());
            ends.push(now - last);
            last = now;
        }
        println!("watches that end within 5 s, in the time after the restart: {ends:?}");
    }

    /// Kills the API server, starts it again after five seconds, and waits for it. Its processor time until then is a start's.
    fn restart(&self) -> Sample {
        let machine = self.machine();
        machine.end("kube-apiserver", "KILL");
        std::thread::sleep(Duration::from_secs(5));
        machine.start("kube-apiserver", &api_server_line());
        self.cluster.wait_for("the API server", machine, "kube-apiserver", || {
            std::thread::sleep(Duration::from_millis(200));
            self.cluster.kubectl(&["get", "--raw", "/readyz"]).stdout == "ok"
        });
        if self.received() == 0 {
            // Its controllers are back as well.
            std::thread::sleep(Duration::from_secs(15));
        }
        self.now()
    }

    fn restarted(&self, bare: &Sample, started: &Sample) {
        let logs = self.lists();
        let ready = self.restart();
        let seen = self.wait_for_lists(logs);
        std::thread::sleep(Duration::from_secs(15));
        let now = self.now();
        let all = RESOURCES.len() * self.agents;
        let part = |tenths: usize| {
            seen.iter().find(|(_, lists)| *lists * 10 >= tenths * all).map_or(f64::NAN, |(at, _)| *at)
        };
        println!(
            "restart: half of the lists are read {:.0} s after the API server answers, 90 % after {:.0} s, all after {:.0} s; {:.1} s of \
             its processor time until then, {:.1} s of a start without agents; {:.0} MB resident, {:.0} before; {} whole lists",
            part(5),
            part(9),
            part(10),
            now.cpu,
            bare.cpu,
            now.resident / 1e6,
            started.resident / 1e6,
            self.lists() - logs,
        );
        println!("of that {:.1} s before it was ready", ready.cpu);
        show_requests(&now, count(self.agents), None);
    }

    /// How many lists the agents have read.
    fn lists(&self) -> usize {
        let log = |number| run::read(&self.machine().path(&format!("{FLEET}/{number}.log")));
        (1..=self.agents).map(|number| log(number).matches(" listed ").count()).sum()
    }

    /// It says nothing for so long that every agent connects again.
    fn frozen(&self) {
        let logs = self.lists();
        let before = self.now();
        self.machine().signal("kube-apiserver", "STOP");
        std::thread::sleep(Duration::from_secs(90));
        self.machine().signal("kube-apiserver", "CONT");
        let seen = self.wait_for_lists(logs);
        std::thread::sleep(Duration::from_secs(15));
        let used = self.since(&before);
        println!(
            "frozen for 90 s, and every agent connects again: {:.1} s of the API server's processor time; {} whole lists, after s: {:?}",
            used.cpu,
            self.lists() - logs,
            seen.iter().map(|(at, lists)| format!("{at:.0}: {lists}")).collect::<Vec<_>>(),
        );
        show_requests(&used, count(self.agents), None);
    }
}

/// The value of a label of a sample.
fn of(name: &str, label: &str) -> String {
    let start = [format!("{{{label}=\""), format!(",{label}=\"")];
    let rest = start.iter().find_map(|start| name.split_once(start.as_str())).map_or("", |(_, rest)| rest);
    rest.split('"').next().unwrap_or_default().to_owned()
}

/// Watches of the agents' resources that have ended.
fn ended(sample: &Sample) -> f64 {
    let own = sample
        .requests
        .iter()
        .filter(|(what, _)| RESOURCES.iter().any(|resource| what.starts_with(&format!("WATCH {resource}"))));
    own.map(|(_, number)| number).sum()
}

/// The requests that ended, an agent, and an hour if they were counted for a time.
fn show_requests(used: &Sample, agents: f64, time: Option<Duration>) {
    let factor = time.map_or(1.0, |time| 3600.0 / time.as_secs_f64()) / agents;
    let shown = used.requests.iter().filter(|(_, number)| **number >= agents / 20.0);
    let shown: Vec<String> = shown.map(|(what, number)| format!("{what}: {:.1}", number * factor)).collect();
    let unit = if time.is_some() { "requests an agent and hour" } else { "requests an agent" };
    println!("{unit}: {}", shown.join(", "));
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).expect("not so many"))
}
