//! Links the static program without tables for unwinding: see `without-unwinding.ld`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=without-unwinding.ld");
    println!("cargo::rerun-if-env-changed=RUSTC_LINKER");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|is| is == value);
    if is("CARGO_CFG_TARGET_ENV", "musl") && is("PROFILE", "release") {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/without-unwinding.ld");
        // Options of lld, which `.cargo/config.toml` sets. One segment for what is read and what is executed: fewer windows
        // of the page cache to map.
        for option in ["-T", script, "--no-eh-frame-hdr", "--no-rosegment"] {
            println!("cargo::rustc-link-arg-bins={option}");
        }
    }
}
