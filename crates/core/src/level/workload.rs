//! Derives a workload's name from its pod's, which is all that a config.json or an event has.
//!
//! The node does not learn who owns a pod, and anyone who can create pods in a namespace can choose their names. What
//! controllers append to their own name has a form that people hardly ever choose, so it is removed:
//!
//! | made by             | appends                                             | source (kubernetes 1.34)                        |
//! |---------------------|-----------------------------------------------------|-------------------------------------------------|
//! | Deployment          | `-` hash of the template `-` 5 random letters       | `pkg/controller/deployment/sync.go`             |
//! | ReplicaSet, DaemonSet, Job | `-` 5 random letters                         | `apiserver/pkg/storage/names/generate.go`       |
//! | CronJob             | `-` minutes since 1970 `-` 5 random letters         | `pkg/controller/cronjob/utils.go`               |
//! | Job with an index   | `-` index `-` 5 random letters                      | `pkg/controller/job/indexed_job_utils.go`       |
//! | StatefulSet         | `-` ordinal                                         | `pkg/controller/statefulset/stateful_set_utils.go` |
//! | a file of the kubelet | `-` name of the node                              | `pkg/kubelet/config/common.go`                  |
//!
//! Random letters and hashes have no vowels and none of 0, 1 and 3 (`apimachinery/pkg/util/rand`), so a word is hardly
//! ever mistaken for one. A pod that its author named `web-2` is still shown as `web`.

/// The letters that random names and hashes are made of.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// The name of the workload that a pod's name is made from; the pod's own name if it looks like nobody's.
#[must_use]
pub fn of<'a>(pod: &'a str, uid: &str, node: &str) -> &'a str {
    if is_static(uid) {
        // The node's name in lower case is what the kubelet appends.
        let node = node.to_ascii_lowercase();
        let own = pod.strip_suffix(node.as_str()).and_then(|own| own.strip_suffix('-'));
        return own.filter(|own| !own.is_empty() && !node.is_empty()).unwrap_or(pod);
    }
    let Some((own, last)) = split(pod) else { return pod };
    if last.len() == 5 && is_random(last) {
        return match split(own) {
            // A hash is the decimal form of 32 bits, each digit as a letter: seldom fewer than 8.
            Some((name, hash)) if (6..=10).contains(&hash.len()) && is_random(hash) => name,
            Some((name, number)) if is_number(number) => name,
            _ => own,
        };
    }
    if is_number(last) { own } else { pod }
}

/// The same from the controller that the pod's object names. Of a Job whose name ends in minutes since 1970 it is the CronJob:
/// people hardly ever name Jobs so, and the pod does not say whose the Job is.
#[must_use]
pub fn of_controller<'a>(kind: &str, name: &'a str) -> &'a str {
    match split(name) {
        Some((own, minutes)) if kind == "Job" && minutes.len() >= 8 && is_number(minutes) => own,
        _ => name,
    }
}

/// The kubelet gives a pod from its own files an MD5 sum as UID, without dashes (`pkg/kubelet/config/common.go`).
#[must_use]
pub fn is_static(uid: &str) -> bool {
    uid.len() == 32 && uid.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The same for a pod that runs and whose UID is not at hand: only a static pod's name ends in the node's.
#[must_use]
pub fn of_running<'a>(pod: &'a str, node: &str) -> &'a str {
    let is_static = !node.is_empty() && pod.ends_with(&format!("-{}", node.to_ascii_lowercase()));
    of(pod, if is_static { "00000000000000000000000000000000" } else { "" }, node)
}

fn split(name: &str) -> Option<(&str, &str)> {
    name.rsplit_once('-').filter(|(own, _)| !own.is_empty())
}

fn is_random(text: &str) -> bool {
    text.bytes().all(|byte| LETTERS.contains(&byte))
}

fn is_number(text: &str) -> bool {
    (1..=10).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::{is_static, of, of_controller, of_running};

    const UID: &str = "0b9a2f7e-54f1-4d0c-9f50-0c1a5a1f2c3d";
    const FILE: &str = "d41d8cd98f00b204e9800998ecf8427e";

    #[test]
    fn a_controllers_name_is_whole_but_for_the_jobs_of_a_cron_job() {
        for (kind, name, workload) in [
            ("Job", "backup-29384720", "backup"),
            ("Job", "backup-2938472", "backup-2938472"),
            ("Job", "backup-29384720x", "backup-29384720x"),
            ("Job", "-29384720", "-29384720"),
            ("Job", "train-3", "train-3"),
            ("ReplicaSet", "web-29384720", "web-29384720"),
            ("StatefulSet", "db-0", "db-0"),
            ("Deployment", "web-5d4f8c7b9d-x7k2p", "web-5d4f8c7b9d-x7k2p"),
        ] {
            assert_eq!(of_controller(kind, name), workload, "{kind} {name}");
        }
    }

    #[test]
    fn what_controllers_append_is_taken_off_and_nothing_else() {
        for (pod, uid, workload) in [
            ("web-5d4f8c7b9d-x7k2p", UID, "web"),
            ("web-front-68bcf5-2q8zl", UID, "web-front"),
            ("node-exporter-8k4xr", UID, "node-exporter"),
            ("backup-29384720-vn5tq", UID, "backup"),
            ("train-3-vn5tq", UID, "train"),
            // Random letters may all be digits, and so may hashes.
            ("web-5d4f8c7b9d-22456", UID, "web"),
            ("web-5564898779-22456", UID, "web"),
            ("db-0", UID, "db"),
            ("db-12", UID, "db"),
            ("web", UID, "web"),
            ("", UID, ""),
            ("web-", UID, "web-"),
            ("-x7k2p", UID, "-x7k2p"),
            ("-0", UID, "-0"),
            // Words have vowels, or are longer.
            ("my-proxy", UID, "my-proxy"),
            ("my-mysql", UID, "my-mysql"),
            ("kube-scheduler", UID, "kube-scheduler"),
            ("shop-5d4f8c7b9d", UID, "shop-5d4f8c7b9d"),
            // 0, 1 and 3 are never random.
            ("web-x7k1p", UID, "web-x7k1p"),
            ("web-x7k2", UID, "web-x7k2"),
            ("etcd-node-1", FILE, "etcd"),
            ("etcd-node-2", FILE, "etcd-node-2"),
            ("node-1", FILE, "node-1"),
            ("-node-1", FILE, "-node-1"),
            ("web-ü7k2p", UID, "web-ü7k2p"),
        ] {
            assert_eq!(of(pod, uid, "Node-1"), workload, "{pod}");
        }
        assert_eq!(of("etcd-", FILE, ""), "etcd-", "a node without a name");
    }
    #[test]
    fn a_pod_of_a_file_is_told_by_its_uid_or_by_the_nodes_name() {
        for (uid, expected) in [
            (FILE, true),
            (&FILE[1..], false),
            (UID, false),
            ("", false),
            ("g41d8cd98f00b204e9800998ecf8427e", false),
        ] {
            assert_eq!(is_static(uid), expected, "{uid}");
        }
        for (pod, node, workload) in [
            ("etcd-node-1", "Node-1", "etcd"),
            ("etcd-0", "Node-1", "etcd"),
            ("etcd-node-x", "Node-1", "etcd-node-x"),
            ("node-1", "Node-1", "node"),
            // A node without a name is no end of a pod's.
            ("etcd-", "", "etcd-"),
        ] {
            assert_eq!(of_running(pod, node), workload, "{pod}");
        }
    }
}
