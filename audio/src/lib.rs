//! The front end of models that listen: samples in, log-mel frames out, as they become complete.
//!
//! [`LogMel`] takes mono samples in pieces of any length and gives a frame of [`LogMelConfig::mels`] numbers whenever
//! enough samples have come. How the samples were cut into pieces does not change a bit of the frames. The crate needs
//! neither `std` nor an allocator: tables and buffers lie in memory that the caller gives.
//!
//! ```
//! use kinglet_audio::{LogMel, LogMelConfig};
//!
//! const CONFIG: LogMelConfig =
//!     LogMelConfig { sample_rate: 16_000, window: 512, hop: 320, mels: 40, fmin: 60.0, fmax: 7600.0, floor: 1e-4 };
//! let mut memory = [0.0; CONFIG.memory()]; // a `static` on a microcontroller
//! let mut log_mel = LogMel::new(CONFIG, &mut memory)?;
//! let mut frames = 0;
//! log_mel.push(&[0i16; 16_000], |frame| {
//!     assert_eq!(frame, [CONFIG.floor.ln(); 40]);
//!     frames += 1;
//! });
//! assert_eq!(frames, CONFIG.frames(16_000));
//! # Ok::<(), kinglet_audio::Error>(())
//! ```
//!
//! A frame is, in this order: the newest [`window`](LogMelConfig::window) samples times a periodic Hann window, zeros up
//! to the next power of two, the power spectrum |X_k|² of their discrete Fourier transform (not normalised), the sums of
//! it under [`mels`](LogMelConfig::mels) triangles, and the natural logarithm of each sum, which is not let below that of
//! [`floor`](LogMelConfig::floor). The triangles are those of HTK (The HTK Book, section 5.6): their corners lie at equal
//! distances on the scale mel(f) = 1127 ln(1 + f/700) from [`fmin`](LogMelConfig::fmin) to [`fmax`](LogMelConfig::fmax),
//! their sides are straight on that scale, and their peaks are 1.
//!
//! All arithmetic is in f32 with a fixed order of operations; tables and logarithms come from `libm`. The bits are the same
//! on every device whose f32 operations round as IEEE 754 says, with or without a floating-point unit.
#![no_std]
#![forbid(unsafe_code)]

mod config;
mod fft;
mod log_mel;

pub use config::{Error, LogMelConfig};
pub use log_mel::{LogMel, Sample};
