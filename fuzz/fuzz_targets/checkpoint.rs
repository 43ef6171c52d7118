//! One of CRIU's images: any bytes are read or refused, and what config.json violates is not cured by an image.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pss_guard::inspect::checkpoint::{CgroupVersion, Read, Restored};
use pss_guard::inspect::spec::Spec;
use pss_guard::pss::facts::Engine;

const IMAGES: [(&str, &[u8]); 6] = [
    ("inventory.img", include_bytes!("../../crates/gate/src/inspect/checkpoint/fixture/inventory.img")),
    ("pstree.img", include_bytes!("../../crates/gate/src/inspect/checkpoint/fixture/pstree.img")),
    ("ids-1.img", include_bytes!("../../crates/gate/src/inspect/checkpoint/fixture/ids-1.img")),
    ("core-1.img", include_bytes!("../../crates/gate/src/inspect/checkpoint/fixture/core-1.img")),
    ("seccomp.img", include_bytes!("../../crates/gate/src/inspect/checkpoint/fixture/seccomp.img")),
    ("mountpoints-13.img", include_bytes!("../../crates/gate/src/inspect/checkpoint/fixture/mountpoints-13.img")),
];

const SPEC: &str = r#"{"process": {"user": {"uid": 0}, "capabilities": {"bounding": ["CAP_SYS_ADMIN"]}},
    "mounts": [{"destination": "/proc", "type": "proc"}, {"destination": "/sys", "type": "sysfs"}],
    "linux": {"maskedPaths": ["/proc/version"], "readonlyPaths": ["/proc/sys", "/proc/bus"], "namespaces": [{"type": "pid"}]}}"#;

fuzz_target!(|bytes: &[u8]| {
    let Some((which, image)) = bytes.split_first() else { return };
    let mut read = 0;
    let read: &mut Read<'_> = &mut |name, limit| {
        read += 1;
        assert!(read < 100_000, "there is no end to it");
        let at = IMAGES.iter().position(|(own, _)| *own == name);
        let image = at.map(|at| if at == usize::from(*which) { image } else { IMAGES[at].1 });
        Ok(image.filter(|image| image.len() as u64 <= limit).map(<[u8]>::to_vec))
    };
    let restored = Restored::read(read, CgroupVersion::One);
    let Ok(restored) = restored else { return };
    let mut spec: Spec<'_> = serde_json::from_str(SPEC).expect("a spec");
    if restored.apply(&mut spec, Engine::CriO, None).is_err() {
        return;
    }
    let process = spec.process.expect("a process");
    let linux = spec.linux.expect("a section");
    assert_eq!(process.user.and_then(|user| user.uid), Some(0));
    assert_ne!(process.no_new_privileges, Some(true));
    assert!(process.capabilities.is_some_and(|sets| sets.union().contains("SYS_ADMIN")));
    assert!(linux.seccomp.is_none());
    assert!(linux.namespaces.is_none_or(|namespaces| namespaces.len() <= 1));
    assert!(linux.masked_paths.is_none_or(|paths| paths.len() <= 1));
});
