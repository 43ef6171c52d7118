//! The file of a namespace, and its name: any bytes are labels or a fault, and no name leaves the folder.
#![no_main]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use libfuzzer_sys::fuzz_target;
use pss_guard::level::namespaces::read;

fuzz_target!(|input: (&str, &[u8])| {
    let (name, bytes) = input;
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("its mode");
    let file = folder.path().join("shop.json");
    fs::write(&file, bytes).expect("a file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("its mode");
    drop(read(folder.path(), "shop"));
    if read(folder.path(), name).is_ok() {
        assert!(!name.contains(['/', '\0']) && name != "..", "{name:?} became part of a path");
    }
});
