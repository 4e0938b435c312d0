//! What the core multiplies with. An ARMv7E-M always has the DSP extension; of ARMv8-M the target does not tell, so that features do.

fn main() {
    println!("cargo:rustc-check-cfg=cfg(simd, helium, armv8m)");
    let target = std::env::var("TARGET").unwrap_or_default();
    let asked = |feature: &str| std::env::var_os(format!("CARGO_FEATURE_{feature}")).is_some();
    let main = target.starts_with("thumbv8m.main-");
    // Helium's floats are passed in their registers.
    let helium = main && target.ends_with("eabihf") && asked("HELIUM");
    if target.starts_with("thumbv7em-") || main && asked("DSP") || helium {
        println!("cargo:rustc-cfg=simd");
    }
    if helium {
        println!("cargo:rustc-cfg=helium");
    }
    if target.starts_with("thumbv8m.") {
        println!("cargo:rustc-cfg=armv8m");
    }
}
