//! What a distribution's way of changing its configuration makes of a plan, and what is refused.

use super::*;
use crate::node::distribution::Distribution;
use crate::node::host::fake::Tries;

const K3S: &str = "/var/lib/rancher/k3s/agent/etc/containerd/config.toml";
const K0S: &str = "/etc/k0s/containerd.toml";
const FLATCAR: &str = "/usr/share/containerd/config.toml";

fn of(name: &'static str, config: &'static str, change: Way) -> Distribution {
    let programs = vec!["/opt/own/bin".into()];
    Distribution { name, config: config.into(), change, programs, ..PLAIN.clone() }
}

fn plan_of(node: &Fake, distribution: &Distribution) -> Result<Plan, PlanError> {
    plan(node, &Request { method: Method::Runtime, config: None, distribution })
}

#[test]
fn what_a_distribution_does_not_allow_is_refused_with_the_reason() {
    let k3s = || of("k3s", K3S, Way::DropIn { restarts: false });
    let k0s = || of("k0s", K0S, Way::DropIn { restarts: true });
    let flatcar = || of("Flatcar", FLATCAR, Way::Copy(CONFIG.into()));
    let imports = "imports = ['config-v3.toml.d/*.toml']\n";
    let table =
        "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\noptions.SystemdCgroup = true\n";
    let one = "containerd github.com/containerd/containerd 1.7.24 x";
    let rows = [
        (node().program("/opt/own/bin/containerd"), k3s(), "start k3s once"),
        (node().file(K3S, &format!("version = 3\n{table}")), k3s(), "containerd/config-v3.toml.d/*.toml (with a template"),
        (node().file(K3S, "version = 2\n"), k3s(), "does not say for which containerd it is"),
        (
            node().file(K3S, "version = 2\nimports = ['x.d/*.toml']\n").program("/opt/own/bin/containerd").prints("containerd --version", one)
                .prints(&format!("containerd --config {K3S} config dump"), "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\n")
                ,
            k3s(),
            "containerd 1 would take the CRI plugin's settings from a drop-in alone",
        ),
        (node().file(K0S, &format!("version = 3\n{table}")), k0s(), "upgrade to a release of k0s whose /etc/k0s/containerd.toml imports /etc/k0s/containerd.d/*.toml"),
        (
            node().file(K0S, &format!("version = 2\nimports = ['/etc/k0s/containerd.d/*.toml']\n{table}")),
            k0s(),
            "takes drop-ins of version 3 alone",
        ),
        (node(), flatcar(), "there is no /usr/share/containerd/config.toml"),
        (
            node().file(FLATCAR, &format!("version = 3\n{imports}{table}")),
            flatcar(),
            "imports \"config-v3.toml.d/*.toml\" from its own folder, and a copy of it would not",
        ),
        (
            node().file(FLATCAR, &format!("version = 3\n{table}")).file(CONFIG, "version = 2\n"),
            flatcar(),
            "is there, and containerd reads /usr/share/containerd/config.toml and not it",
        ),
        (
            node(),
            of("Bottlerocket", CONFIG, Way::No { why: "its root is sealed", instead: "use a plugin" }),
            "the gate cannot be installed on Bottlerocket: its root is sealed; use a plugin",
        ),
    ];
    for (node, distribution, expected) in rows {
        let error = plan_of(&node, &distribution).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}\n{error}");
    }
}

#[test]
fn a_copy_and_its_unit_come_and_go_together() {
    let text = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\noptions.BinaryName = 'crun'\n";
    let flatcar = of("Flatcar", FLATCAR, Way::Copy(CONFIG.into()));
    let node = node().file(FLATCAR, text);
    let first = plan_of(&node, &flatcar).unwrap();
    let paths: Vec<_> = first.changes.iter().map(|change| change.path.to_str().unwrap()).collect();
    assert_eq!(paths, [CONFIG, place::UNIT_DROP_IN]);
    assert!(first.changes.iter().all(|change| change.before.is_none()));
    let unit = String::from_utf8(first.changes[1].after.clone()).unwrap();
    assert!(
        unit.ends_with("[Service]\nEnvironment=CONTAINERD_CONFIG=/etc/containerd/config.toml\n"),
        "{unit}"
    );
    // A run that ended between the two files is completed by the next one.
    let half = Plan { changes: first.changes[..1].to_vec(), ..first.clone() };
    let half = plan_of(&node.clone().after(Engine::Containerd, &half), &flatcar).unwrap();
    assert_eq!(half.changes, first.changes[1..]);
    let done = node.after(Engine::Containerd, &first);
    assert_eq!(plan_of(&done, &flatcar).unwrap().changes, []);

    let left =
        |index: usize, now: &[u8]| strip::strip(&stripped(&first.changes[index], &first, now)).unwrap();
    let left = |index: usize, more: &str| {
        let now = [first.changes[index].after.as_slice(), more.as_bytes()].concat();
        left(index, &now).map(|bytes| String::from_utf8(bytes).unwrap())
    };
    assert_eq!((left(0, ""), left(1, "")), (None, None));
    assert_eq!(left(1, "LimitNOFILE=1\n").unwrap(), "[Service]\nLimitNOFILE=1\n");
    let edited = left(0, "\n[debug]\nlevel = 'debug'\n").unwrap();
    assert!(edited.contains("BinaryName = \"/usr/bin/crun\"") && !edited.contains("pss-guard"), "{edited}");
}

/// The unit may have been changed since the installation, or have always said something else.
#[test]
fn a_file_that_the_unit_does_not_read_is_refused() {
    const UNIT: &str = "/usr/lib/systemd/system/containerd.service";
    const LATE: &str = "/etc/systemd/system/containerd.service.d/20.conf";
    let plain = "ExecStart=/usr/bin/containerd";
    let flatcars = "Environment=CONTAINERD_CONFIG=/usr/share/containerd/config.toml\nExecStart=/usr/bin/containerd --config ${CONTAINERD_CONFIG}";
    let copy = || Distribution { programs: Vec::new(), ..of("Flatcar", FLATCAR, Way::Copy(CONFIG.into())) };
    let k3s = || of("k3s", CONFIG, Way::Edit);
    let other = "containerd.service starts containerd with /srv/c.toml, and the gate is for /etc/containerd/config.toml";
    #[rustfmt::skip]
    let rows = [
        (PLAIN.clone(), plain, "", Ok(())),
        (PLAIN.clone(), "ExecStart=/usr/bin/containerd -c etc/containerd/config.toml", "", Ok(())),
        (PLAIN.clone(), plain, "ExecStart=\nExecStart=/usr/bin/containerd --config /srv/c.toml", Err(other)),
        (PLAIN.clone(), plain, "ExecStart=\nExecStart=/usr/bin/containerd --config srv/c.toml", Err(other)),
        // A script, and what cannot be followed: that is refused where the node is recognized, unless a process tells.
        (PLAIN.clone(), "ExecStart=/bin/sh -c x", "", Ok(())),
        (PLAIN.clone(), "ExecStart=/usr/bin/containerd -c %i", "", Ok(())),
        (copy(), flatcars, "", Ok(())),
        (copy(), flatcars, "Environment=CONTAINERD_CONFIG=/usr/share/containerd/config.toml", Err("remove what names it after /etc/systemd/system/containerd.service.d/10-pss-guard.conf")),
        (copy(), plain, "", Ok(())),
        // Another one's unit.
        (k3s(), plain, "ExecStart=\nExecStart=/usr/bin/k3s --config /srv/c.toml", Ok(())),
        (PLAIN.clone(), plain, "BindReadOnlyPaths=/srv/c.toml:/etc/containerd/config.toml", Err("BindReadOnlyPaths=/srv/c.toml:/etc/containerd/config.toml, by which it sees another /etc/containerd/config.toml")),
        (PLAIN.clone(), plain, "BindPaths=/srv:/etc/containerd/conf.d", Err("another /etc/containerd/conf.d")),
        (PLAIN.clone(), plain, "BindPaths=/srv:/usr/sbin", Err("another /usr/sbin")),
        (PLAIN.clone(), plain, "TemporaryFileSystem=/var/lib", Err("another /var/lib")),
        (PLAIN.clone(), plain, "BindPaths=/srv:/etc/cni /srv:/usr/lib/x", Ok(())),
        (k3s(), plain, "TemporaryFileSystem=/etc", Err("another /etc")),
    ];
    for (distribution, unit, late, expected) in rows {
        let config = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\n";
        let node = match distribution.change {
            Way::Copy(_) => node().file(FLATCAR, config),
            _ => node().file(CONFIG, config),
        };
        let before = node.file(UNIT, &format!("[Service]\n{unit}\n"));
        let now = before.clone().file(LATE, &format!("[Service]\n{late}\n"));
        let says = |node: &Fake| match (plan_of(node, &distribution), expected) {
            (Ok(_), Ok(())) => {}
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
            (found, _) => panic!("{unit} {late}: {found:?}"),
        };
        says(&now);
        // The same after the installation.
        if let Ok(plan) = plan_of(&before, &distribution) {
            says(&before.after(Engine::Containerd, &plan).file(LATE, &format!("[Service]\n{late}\n")));
        }
        // Where somebody has named the file, that word counts.
        let named = Path::new("/srv/named.toml");
        let request = Request { method: Method::Runtime, config: Some(named), distribution: &distribution };
        plan(&now.file("/srv/named.toml", config), &request).unwrap();
    }
}

/// The runtime behind the gate, or a part of the refusal.
type Expected = Result<&'static str, &'static str>;

/// Which table counts, and which mixtures nobody can tell (all seen in a real containerd's dump).
#[test]
fn the_table_that_containerd_2_reads_decides() {
    let table = |id: &str, binary: &str| {
        format!(
            "[plugins.\"{id}\".containerd.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\noptions.BinaryName = '{binary}'\n"
        )
    };
    let (two, three) =
        (table("io.containerd.grpc.v1.cri", "/two"), table("io.containerd.cri.v1.runtime", "/three"));
    let more = "imports = ['/etc/containerd/more.toml']\n";
    let mixed = "containerd 2.3 takes them";
    let rows: [(String, Option<String>, Option<Generation>, Expected); 13] = [
        (format!("version = 2\n{three}"), None, None, Ok("/three")),
        (format!("version = 2\n{two}{three}"), None, TWO, Ok("/three")),
        (format!("version = 3\n{two}{three}"), None, TWO, Ok("/three")),
        (format!("version = 2\n{two}{three}"), None, ONE, Ok("/two")),
        (three.clone(), None, TWO, Ok("/three")),
        (format!("version = 1\n{three}"), None, TWO, Ok("/three")),
        (format!("version = 2\n{more}{three}"), Some("version = 3\n".to_owned() + &three), TWO, Ok("/three")),
        (format!("version = 2\n{more}"), Some(three.clone()), TWO, Ok("/three")),
        (format!("version = 2\n{more}{two}"), Some("version = 2\n".to_owned() + &three), TWO, Err(mixed)),
        (format!("version = 2\n{more}{two}"), Some("version = 3\n".to_owned() + &three), TWO, Err(mixed)),
        (format!("version = 3\n{more}{three}"), Some("version = 2\n".to_owned() + &two), TWO, Err(mixed)),
        (format!("version = 3\n{two}"), None, TWO, Err(mixed)),
        (two.clone(), None, TWO, Err("containerd config migrate")),
    ];
    for (main, import, generation, expected) in rows {
        let node = with(&main);
        let node = import.iter().fold(node, |node, text| node.file("/etc/containerd/more.toml", text));
        let runtime = plan_on(&node, generation, Method::Runtime).map(|plan| plan.entries[0].runtime.clone());
        match (runtime, expected) {
            (Ok(runtime), Ok(expected)) => assert_eq!(runtime, Path::new(expected), "{main}"),
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{main}\n{error}"),
            (got, expected) => panic!("{got:?}, not {expected:?}: {main}"),
        }
    }
}

/// A containerd that does not see what the plan is for, or sees more.
#[test]
fn a_plan_that_containerd_reads_otherwise_is_not_carried_out() {
    let text = "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\n";
    let node = with(text)
        .program("/usr/bin/containerd")
        .prints("containerd --version", "containerd github.com/containerd/containerd/v2 2.1.9 x")
        .prints(&format!("containerd --config {CONFIG} config dump"), text);
    let own = |files: &[(String, Vec<u8>)]| Ok(String::from_utf8(files[0].1.clone()).unwrap());
    let plan = plan_of(&Fake { tries: Some(own), ..node.clone() }, &PLAIN).unwrap();
    assert_eq!((plan.not_compared, plan.changes.len()), (None, 1));
    let rows: [(Tries, &str); 4] = [
        // Takes the files for what they were.
        (
            |_| {
                Ok("version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\n".to_owned())
            },
            "the handler \"runc\" would start containers without the gate",
        ),
        (
            |files| {
                let text = String::from_utf8(files[0].1.clone()).unwrap();
                Ok(if text.contains("pss-guard") { format!("{text}\n[debug]\nlevel = 'x'\n") } else { text })
            },
            "they would change nothing to debug.level = \"x\"",
        ),
        (
            |files| {
                let text = String::from_utf8(files[0].1.clone()).unwrap();
                if text.contains("pss-guard") { Err(Untried::Failed("no".to_owned())) } else { Ok(text) }
            },
            "does not take them: no",
        ),
        (|_| Err(Untried::Failed("bad".to_owned())), "config dump` fails with it: bad"),
    ];
    for (tries, expected) in rows {
        let error = plan_of(&Fake { tries: Some(tries), ..node.clone() }, &PLAIN).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}\n{error}");
    }
    let mute: Tries = |_| Err(Untried::NotHere("another machine's".to_owned()));
    let plan = plan_of(&Fake { tries: Some(mute), ..node }, &PLAIN).unwrap();
    assert_eq!(plan.not_compared.as_deref(), Some("another machine's"));
}

/// runc's shim with any runtime is covered; another shim is named.
#[test]
fn runtimes_of_runcs_shim_are_chained_and_other_shims_named() {
    let table = |name: &str, more: &str| {
        format!("[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.{name}]\n{more}\n")
    };
    let shim = "runtime_type = 'io.containerd.runc.v2'\n";
    let binary = |path: &str| format!("{shim}options.BinaryName = '{path}'");
    let text = ["version = 3\n".to_owned(), table("runc", shim)]
        .into_iter()
        .chain(
            [
                ("nvidia", "/usr/bin/nvidia-container-runtime"),
                ("youki", "/opt/youki"),
                ("runsc", "/usr/bin/runsc"),
                ("kata1", "/usr/bin/kata-runtime"),
                ("none", "missing"),
            ]
            .map(|(name, path)| table(name, &binary(path))),
        )
        .chain(
            [
                ("kata", "io.containerd.kata.v2"),
                ("gvisor", "io.containerd.runsc.v1"),
                ("spin", "io.containerd.spin.v2"),
                ("hcs", "io.containerd.runhcs.v1"),
            ]
            .map(|(name, kind)| table(name, &format!("runtime_type = '{kind}'"))),
        )
        .collect::<String>();
    let plan = plan_on(&with(&text), TWO, Method::Runtime).unwrap();
    let gated: Vec<_> = plan.entries.iter().map(|entry| entry.handler.as_str()).collect();
    assert_eq!(gated, ["runc", "nvidia", "youki", "runsc", "kata1"]);
    let open: Vec<_> = plan.ungated.iter().map(|(handler, _)| handler.as_str()).collect();
    assert_eq!(open, ["none", "kata", "gvisor", "spin", "hcs"]);
}
