//! Links by `link.x`.

fn main() {
    println!("cargo:rerun-if-changed=link.x");
    println!("cargo:rustc-link-arg-bins=-T{}/link.x", std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"));
}
