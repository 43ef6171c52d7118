//! What do the API server and the gate say of the same pods? Admission is asked by a dry run in a namespace for which it enforces a
//! level; the gate, in one that admission lets alone and the policy of the node holds to that level.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::cluster::{Cluster, Node};
use crate::support::run;

/// What the policy says of the namespaces that the gate alone holds to a level, with admission's controls and every decision logged.
pub(crate) const POLICY: &str = r#"mode = "enforce"
log-allowed = true

[defaults]
enforce = "privileged"
audit = "privileged"
warn = "privileged"

[exemptions]
namespaces = ["kube-system", "pss-guard"]

[namespaces.held-baseline]
enforce = "baseline"

[namespaces.held-restricted]
enforce = "restricted"

[controls]
readOnlyRootFilesystem = "off"
"#;

/// What became of a comparison.
#[derive(Debug, Default)]
pub(crate) struct Compared {
    /// Pods that both let start.
    pub(crate) admitted: usize,
    /// Pods that both refuse, in the same words.
    pub(crate) refused: usize,
    /// Pods of which the two say different things.
    pub(crate) differences: Vec<String>,
    /// Pods that never came before the gate, and why: the reason, and their names.
    pub(crate) never: BTreeMap<String, Vec<String>>,
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { admitted, refused, differences, never } = self;
        let differences = differences.len();
        writeln!(f, "{admitted} admitted, {refused} refused, {differences} differences")?;
        for (why, names) in never {
            writeln!(f, "  {} never came before the gate ({why}): {}", names.len(), names.join(" "))?;
        }
        Ok(())
    }
}

fn name(pod: &Value) -> &str {
    pod["metadata"]["name"].as_str().expect("a name")
}

fn within(namespace: &str, pod: &Value) -> Value {
    let mut pod = pod.clone();
    pod["metadata"]["namespace"] = json!(namespace);
    pod
}

/// Makes the two namespaces of a level.
pub(crate) fn make_namespaces(cluster: &Cluster, level: &str) {
    cluster
        .make_namespace(&format!("asked-{level}"), &[&format!("pod-security.kubernetes.io/enforce={level}")]);
    cluster.make_namespace(&format!("held-{level}"), &[]);
}

/// Asks both about the pods, this many at a time.
pub(crate) fn compare(cluster: &Cluster, node: &Node, level: &str, pods: &[Value], burst: usize) -> Compared {
    let admission = admission(cluster, level, pods);
    let mut compared = Compared::default();
    let mut left: Vec<&Value> = Vec::new();
    for pod in pods {
        match &admission[name(pod)] {
            Admission::Invalid(why) => {
                compared.never.entry(why.clone()).or_default().push(name(pod).to_owned());
            }
            Admission::Admitted | Admission::Refused(_) => left.push(pod),
        }
    }
    // Two pods of one batch may want the same port of the node.
    let mut reasons = BTreeMap::new();
    for _ in 0..8 {
        let mut undecided = Vec::new();
        for batch in left.chunks(burst) {
            let decisions = decided(cluster, node, level, batch, &mut reasons);
            for pod in batch {
                match decisions.get(name(pod)) {
                    None => undecided.push(*pod),
                    Some(decisions) => judge(&mut compared, pod, &admission[name(pod)], level, decisions),
                }
            }
        }
        // One that waits for a volume would wait again.
        left = undecided
            .into_iter()
            .filter(|pod| reasons.get(name(pod)).is_some_and(|why| why == "NodePorts"))
            .collect();
        if left.is_empty() {
            break;
        }
    }
    for (pod, why) in reasons {
        compared.never.entry(why).or_default().push(pod);
    }
    compared
}

/// Admission's answer.
#[derive(Debug)]
enum Admission {
    Admitted,
    /// What it forbids, in its words.
    Refused(String),
    /// No such pod can be made at all.
    Invalid(String),
}

fn admission(cluster: &Cluster, level: &str, pods: &[Value]) -> BTreeMap<String, Admission> {
    let namespace = format!("asked-{level}");
    let mut said = BTreeMap::new();
    for batch in pods.chunks(100) {
        let asked: Vec<Value> = batch.iter().map(|pod| within(&namespace, pod)).collect();
        let done = cluster.create(&asked, &["--dry-run=server", "--output=name", "--validate=false"]);
        let admitted: BTreeSet<&str> =
            done.stdout.lines().filter_map(|line| line.strip_prefix("pod/")).collect();
        for pod in batch {
            let name = name(pod);
            let forbidden =
                format!("pods \"{name}\" is forbidden: violates PodSecurity \"{level}:latest\": ");
            let invalid = format!("Pod \"{name}\" is invalid: ");
            let find = |what: &str| {
                done.stderr
                    .lines()
                    .find_map(|line| line.split_once(what))
                    .map(|(_, rest)| rest.trim().to_owned())
            };
            let answer = match (admitted.contains(name), find(&forbidden), find(&invalid)) {
                (true, None, None) => Admission::Admitted,
                (false, Some(said), None) => Admission::Refused(said),
                (false, None, Some(_)) => Admission::Invalid("the API server takes no such pod".to_owned()),
                _ => panic!("{name}: {done}"),
            };
            said.insert(name.to_owned(), answer);
        }
    }
    said
}

/// What the gate decided of each pod of a batch, once all of them have come as far as they can: decision and message.
fn decided(
    cluster: &Cluster,
    node: &Node,
    level: &str,
    batch: &[&Value],
    reasons: &mut BTreeMap<String, String>,
) -> BTreeMap<String, Vec<(String, String)>> {
    let namespace = format!("held-{level}");
    let made: Vec<Value> = batch.iter().map(|pod| within(&namespace, pod)).collect();
    let at = Instant::now();
    cluster.create(&made, &["--validate=false"]).expect_success();
    let names: BTreeSet<&str> = batch.iter().map(|pod| name(pod)).collect();
    let mut decisions = BTreeMap::new();
    let mut last_news = Instant::now();
    let mut found;
    loop {
        std::thread::sleep(Duration::from_secs(2));
        let now = read(node, &namespace, &names);
        let pods = cluster.get(&["pods", "--namespace", &namespace]);
        found = pods["items"].as_array().cloned().unwrap_or_default();
        found.retain(|pod| names.contains(name(pod)));
        // Refused ones stay pending; of the others the last container shows that none of them is refused.
        let settled = found.iter().all(|pod| {
            let phase = pod["status"]["phase"].as_str().unwrap_or_default();
            phase == "Failed"
                || (phase != "Pending" && now.contains_key(name(pod)))
                || now
                    .get(name(pod))
                    .is_some_and(|decisions| decisions.iter().any(|(decision, _)| decision == "denied"))
        });
        if now.len() != decisions.len() {
            last_news = Instant::now();
        }
        decisions = now;
        if settled || last_news.elapsed() > Duration::from_secs(25) || at.elapsed() > Duration::from_secs(180)
        {
            break;
        }
    }
    let events = cluster.get(&["events", "--namespace", &namespace]);
    for pod in found.iter().filter(|pod| !decisions.contains_key(name(pod))) {
        reasons.insert(name(pod).to_owned(), reason(pod, &events));
    }
    for name in decisions.keys() {
        reasons.remove(name);
    }
    let delete = ["delete", "pods", "--all", "--namespace", &namespace, "--grace-period=1", "--wait=false"];
    cluster.kubectl(&delete).expect_success();
    let gone = run::within(Duration::from_secs(120), || {
        std::thread::sleep(Duration::from_secs(1));
        cluster.kubectl(&["get", "pods", "--namespace", &namespace, "--output=name"]).stdout.is_empty()
    });
    if !gone {
        let force = ["delete", "pods", "--all", "--namespace", &namespace, "--grace-period=0", "--force"];
        cluster.kubectl(&force).expect_success();
    }
    decisions
}

/// Why a pod never came before the gate, in the words of whoever stopped it.
fn reason(pod: &Value, events: &Value) -> String {
    if let Some(reason) = pod["status"]["reason"].as_str() {
        return reason.to_owned();
    }
    let own = |event: &&Value| {
        event["involvedObject"]["uid"] == pod["metadata"]["uid"] && event["type"] == "Warning"
    };
    let events: Vec<&Value> = events["items"].as_array().into_iter().flatten().filter(own).collect();
    let waiting = pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"].as_str();
    let said =
        events.last().and_then(|event| event["message"].as_str()).or(waiting).unwrap_or("no reason is given");
    let reason = events.last().and_then(|event| event["reason"].as_str()).unwrap_or_default();
    // The kind of volume, and no names and ids.
    let volume = pod["spec"]["volumes"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|volume| volume.as_object().into_iter().flatten());
    let volume = volume.map(|(key, _)| key.as_str()).find(|key| *key != "name" && *key != "projected");
    match (reason, volume) {
        ("FailedMount" | "FailedAttachVolume", Some(volume)) => format!("{reason} of {volume}"),
        ("", Some(volume)) => format!("waits for {volume}"),
        _ => format!("{reason}: {}", said.split(" (").next().unwrap_or_default()),
    }
}

/// The gate's decisions of these pods, by name.
fn read(node: &Node, namespace: &str, names: &BTreeSet<&str>) -> BTreeMap<String, Vec<(String, String)>> {
    let mut decisions: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for event in node.machine().events("PSS_NAMESPACE", namespace) {
        let field = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        let pod = field("PSS_POD");
        if names.contains(&*pod) {
            decisions.entry(pod).or_default().push((field("PSS_DECISION"), field("MESSAGE")));
        }
    }
    decisions
}

fn judge(
    compared: &mut Compared,
    pod: &Value,
    admission: &Admission,
    level: &str,
    decisions: &[(String, String)],
) {
    let same = match admission {
        Admission::Admitted => decisions.iter().all(|(decision, _)| decision == "allowed"),
        // The whole pod in admission's own words, and nothing before or between them.
        Admission::Refused(said) => decisions.iter().all(|(decision, message)| {
            decision == "denied"
                && message.contains(&format!("violates PodSecurity \"{level}:latest\": {said}; level from "))
        }),
        Admission::Invalid(_) => false,
    };
    match (same, admission) {
        (true, Admission::Admitted) => compared.admitted += 1,
        (true, _) => compared.refused += 1,
        (false, _) => compared
            .differences
            .push(format!("{}: admission says {admission:?}, the gate {decisions:#?}", name(pod))),
    }
}
