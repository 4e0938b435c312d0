//! Whether the core has the DSP extension. An ARMv7E-M always has; of ARMv8-M the target does not tell, so that a feature does.

fn main() {
    println!("cargo:rustc-check-cfg=cfg(dsp, armv8m)");
    let target = std::env::var("TARGET").unwrap_or_default();
    let asked = std::env::var_os("CARGO_FEATURE_DSP").is_some();
    if target.starts_with("thumbv7em-") || asked && target.starts_with("thumbv8m.main-") {
        println!("cargo:rustc-cfg=dsp");
    }
    if target.starts_with("thumbv8m.") {
        println!("cargo:rustc-cfg=armv8m");
    }
}
