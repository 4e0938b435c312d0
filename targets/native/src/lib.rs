//! Kinglet on a machine with an operating system: what a Rust program with `std` wants of the runtime.
//!
//! ```text
//! model.kgl ── ModelFile (mapped, checked) ──► OwnedSession (file + arena + kernels + Pool) ── run ──► outputs
//! ```
//!
//! * [`ModelFile`] maps a file and checks plan and weights once ([`Open`] says otherwise); several sessions share one.
//! * [`OwnedSession`] is a self-contained [`kinglet::Session`]: it can be stored, sent to another thread and dropped like
//!   any other value.
//! * [`Pool`] implements [`kinglet::Workers`] with threads that spin briefly, then park.
//! * [`best_kernels`] picks the kernels of the CPU the program runs on; [`Nanos`] is its clock.
//!
//! ```no_run
//! use kinglet_native::OwnedSession;
//!
//! let mut session = OwnedSession::open("model.kgl", 1)?;
//! session.input_mut::<f32>(0)?.fill(0.5);
//! session.run()?;
//! println!("{:?}", session.output::<f32>(0)?);
//! # Ok::<(), kinglet_native::Error>(())
//! ```

mod aligned;
mod clock;
mod error;
mod model_file;
mod pool;
mod repack;
mod session;
#[cfg(test)]
mod testing;
mod whole;

use kinglet::{Kernels, Target};

pub use clock::Nanos;
pub use error::Error;
pub use model_file::{ModelFile, Open};
pub use pool::Pool;
pub use session::OwnedSession;

/// Every set of kernels that the CPU this program runs on can execute, by name, the fastest first. The last is `reference`.
pub fn kernel_sets() -> &'static [(&'static str, &'static dyn Kernels)] {
    type Sets = Vec<(&'static str, &'static dyn Kernels)>;
    static SETS: std::sync::OnceLock<Sets> = std::sync::OnceLock::new();
    SETS.get_or_init(|| {
        let mut sets: Sets = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if let Some(set) = kinglet_x86::Avx512::new() {
                sets.push((set.name(), Box::leak(Box::new(set))));
            }
            for set in [kinglet_x86::Avx2::with_vnni(), kinglet_x86::Avx2::new()].into_iter().flatten() {
                sets.push((set.name(), Box::leak(Box::new(set))));
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            use kinglet_neon::Neon;
            let above = [Neon::with_i8mm(), Neon::with_dot(), Neon::with_half()];
            for set in above.into_iter().flatten().chain([Neon::new()]) {
                sets.push((set.name(), Box::leak(Box::new(set))));
            }
        }
        sets.push(("reference", &kinglet::Reference));
        sets
    })
}

/// The variable of the environment that names another set of kernels than the best: one of [`kernel_sets`].
pub const KERNELS_VARIABLE: &str = "KINGLET_KERNELS";

/// The name of the chosen set, and whether anybody asked for one yet.
static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();

/// Makes the set of this name that which [`best_kernels`] gives, if the machine has it. Only the first choice counts, and only
/// before the first call of [`best_kernels`]: a program decides once.
pub fn choose_kernels(name: &str) {
    let _ = CHOSEN.set(Some(name.to_string()));
}

/// The fastest kernels that the CPU this program runs on can execute, or those that [`choose_kernels`] or
/// [`KERNELS_VARIABLE`] names, if there are such.
pub fn best_kernels() -> &'static dyn Kernels {
    let named = CHOSEN.get_or_init(|| std::env::var(KERNELS_VARIABLE).ok());
    let sets = kernel_sets();
    let of_name = sets.iter().find(|(name, _)| named.as_deref() == Some(name));
    of_name.or(sets.first()).map_or(&kinglet::Reference, |(_, kernels)| *kernels)
}

/// The target whose plans suit the CPU this program runs on best.
pub fn host_target() -> Target {
    best_kernels().target()
}
