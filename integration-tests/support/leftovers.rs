//! Do tests and a pss-guard that is installed on this machine leave each other alone? The test program runs once more, on
//! this machine as it would be with a policy, a cache, levels, a mode and events of somebody's in the folders that they have
//! on a node.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use pss_guard::event::Kind;
use pss_guard::events::micros;

use crate::support::files::write;
use crate::support::run::{self, Done};
use crate::support::{needs, program};

/// A policy by which nothing starts that these tests start, and events that nobody of them has caused.
fn plant(root: &Path) {
    let policy = "mode = \"enforce\"\n[defaults]\nenforce = \"restricted\"\n[unmanaged]\nenforce = \"restricted\"\n\
                  [exemptions]\nnamespaces = []\n[controls]\nreadOnlyRootFilesystem = \"off\"\n";
    let restricted = r#"{"enforce":"restricted","audit":"restricted","warn":"restricted"}"#;
    let event = |decision: Kind| {
        serde_json::json!({
            "__REALTIME_TIMESTAMP": micros(SystemTime::now()).to_string(), "MESSAGE_ID": decision.message_id(),
            "MESSAGE": "x", "PSS_DECISION": decision.name(), "PSS_MODE": "enforce", "PSS_NAMESPACE": "shop",
            "PSS_POD": "web-0", "PSS_LEVEL": "restricted", "PSS_VERSION": "latest", "PSS_CONTROLS": "privileged",
            "PSS_FINDINGS": "[{\"control\":\"privileged\",\"certainty\":\"violates\",\"detail\":\"x\"}]",
        })
    };
    let events: String = Kind::ALL.map(|kind| format!("{}\n", event(kind))).concat();
    for (file, text) in [
        ("etc/pss-guard/policy.toml", policy),
        ("var/log/pss-guard/decisions.jsonl", &events),
        ("var/lib/pss-guard/policy.toml", policy),
        ("var/lib/pss-guard/namespaces/shop.json", restricted),
        ("run/pss-guard/namespaces/shop.json", restricted),
        ("run/pss-guard/policy.cache", "garbage"),
        ("run/pss-guard/mode.json", "garbage"),
    ] {
        write(&root.join(file), text);
    }
}

/// Runs a command where these leftovers are, in a mount namespace of its own, and says at the end which of them changed.
const AMONG: &str = r#"
dir=$1
shift
mount --make-rprivate /
for top in etc var; do
    mkdir -p "$dir/upper/$top" "$dir/scratch/$top"
    mount -t overlay -o "lowerdir=/$top,upperdir=$dir/upper/$top,workdir=$dir/scratch/$top" overlay "/$top"
done
# Sockets are no overlay's; everything else that is there stays there, but for the journal of this machine.
mkdir "$dir/run"
mount --rbind /run "$dir/run"
mount -t tmpfs -o mode=755 tmpfs /run
for old in "$dir"/run/*; do
    new=/run/${old##*/}
    if [ "$new" = /run/systemd ] || [ "$new" = /run/log ]; then
        continue
    elif [ -L "$old" ]; then
        cp -P "$old" "$new"
        continue
    elif [ -d "$old" ]; then
        mkdir -p "$new"
    else
        : >"$new"
    fi
    mount --rbind "$old" "$new"
done
rm -rf /etc/pss-guard /var/log/pss-guard /var/lib/pss-guard /run/pss-guard
cp -a "$dir/leftovers/." /
list() {
    find /etc/pss-guard /var/log/pss-guard /var/lib/pss-guard /run/pss-guard -printf '%p %y %m %u %g %s %T@ %l\n' | sort
}
list >"$dir/before"
code=0
"$@" || code=$?
list >"$dir/after"
diff "$dir/before" "$dir/after" >"$dir/changed" || :
exit "$code"
"#;

/// What came of a command among leftovers, and what it changed of them.
fn among(line: &Command) -> (Done, String) {
    let dir =
        tempfile::Builder::new().prefix("pss-guard-leftovers-").tempdir().expect("a temporary directory");
    plant(&dir.path().join("leftovers"));
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-euc", AMONG, "sh"]).arg(dir.path());
    command.arg(line.get_program()).args(line.get_args());
    let done = run::run_within(&mut command, Duration::from_secs(900));
    let changed = fs::read_to_string(dir.path().join("changed"));
    (done, changed.unwrap_or_else(|error| format!("nobody knows: {error}")))
}

/// Runs these tests of this program once more among leftovers: they succeed as they do without, and change nothing there.
pub(crate) fn assert_apart(test: &str, tests: &[&str]) {
    if !needs::can_run(test, &["unshare", "mount", "find", "diff"]) {
        return;
    }
    // The leftovers are there, and what is written there is seen: a hook by hand reads that policy, refuses, and says so.
    let mut hook = Command::new("sh");
    let (done, changed) = among(hook.args(["-c", "\"$0\" hook </dev/null"]).arg(program::gate()));
    assert_eq!(done.code, Some(2), "{done}");
    assert!(changed.contains("> /var/log/pss-guard/decisions.jsonl "), "{changed}\n{done}");

    let mut again = Command::new(std::env::current_exe().expect("this program"));
    again.args(tests).args(["--skip", "leftovers::", "--test-threads", "2"]);
    let (done, changed) = among(&again);
    assert!(done.code == Some(0), "a pss-guard that is installed here moves tests\n{done}");
    assert!(
        changed.is_empty(),
        "tests wrote into the folders of the pss-guard of this machine:\n{changed}\n{done}"
    );
    assert!(done.stdout.contains("test result: ok. ") && !done.stdout.contains(" 0 passed"), "{done}");
}
