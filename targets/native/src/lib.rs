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
mod session;
#[cfg(test)]
mod testing;

pub use clock::Nanos;
pub use error::Error;
pub use model_file::{ModelFile, Open};
pub use pool::Pool;
pub use session::OwnedSession;

/// The fastest kernels that the CPU this program runs on can execute.
pub fn best_kernels() -> &'static dyn kinglet::Kernels {
    #[cfg(target_arch = "x86_64")]
    {
        static AVX2: std::sync::OnceLock<Option<kinglet_x86::Avx2>> = std::sync::OnceLock::new();
        if let Some(kernels) = AVX2.get_or_init(kinglet_x86::Avx2::new) {
            return kernels;
        }
    }
    &kinglet::Reference
}
