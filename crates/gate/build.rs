//! Links the static program without tables for unwinding: see `without-unwinding.ld`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=without-unwinding.ld");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|is| is == value);
    if is("CARGO_CFG_TARGET_ENV", "musl") && is("PROFILE", "release") {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/without-unwinding.ld");
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{script}");
        println!("cargo::rustc-link-arg-bins=-Wl,--no-eh-frame-hdr");
        // One segment for what is read and what is executed: fewer windows of the page cache to map.
        println!("cargo::rustc-link-arg-bins=-Wl,-z,noseparate-code");
    }
}
