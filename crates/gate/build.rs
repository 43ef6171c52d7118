//! Links the static program without tables for unwinding: see `without-unwinding.ld`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=without-unwinding.ld");
    println!("cargo::rerun-if-env-changed=RUSTC_LINKER");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|is| is == value);
    if is("CARGO_CFG_TARGET_ENV", "musl") && is("PROFILE", "release") {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/without-unwinding.ld");
        // One segment for what is read and what is executed: fewer windows of the page cache to map. GNU ld and lld have
        // different options for that, and lld takes GNU's without effect.
        let mut options = vec!["-T", script, "--no-eh-frame-hdr", "-z", "noseparate-code"];
        // Cargo sets it to the linker that its configuration names for this target. lld is called without a C compiler, which
        // alone knows `-Wl`.
        let is_lld = std::env::var("RUSTC_LINKER").is_ok_and(|linker| linker.ends_with("lld"));
        if is_lld {
            options.push("--no-rosegment");
        }
        let prefix = if is_lld { "" } else { "-Wl," };
        for option in options {
            println!("cargo::rustc-link-arg-bins={prefix}{option}");
        }
    }
}
