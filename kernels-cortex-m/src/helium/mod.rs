//! Microkernels of Helium, the vector extension of ARMv8.1-M (M55, M85): 16 products of bytes at once.
//!
//! Whole functions are in assembly: Rust knows no registers of vectors for these cores. The extension has no accumulation of products by lane, but sums
//! all lanes of one: dense products take 16 inputs of a channel at a time, depthwise ones multiply and add.

mod add;
mod dense;
mod depthwise;

pub(crate) use add::add;
pub use dense::DenseI8;
pub(crate) use dense::takes;
pub use depthwise::DepthwiseI8;

use kinglet::Target;

/// Whose plans they run.
pub const TARGET: Target = Target::CortexM55;
/// What profiles call them.
pub const NAME: &str = "helium";

use kinglet::product::Inputs;

/// The addresses of the inputs under the first pixel of a tile, in `scratch`: kernel row by kernel row, or by columns; `None` if there is no room.
fn addresses<'a>(x: &Inputs<'_, u8>, by_columns: bool, scratch: &'a mut [u8]) -> Option<&'a [*const u8]> {
    let (rows, taps) = (x.rows.len(), x.taps);
    let (_, words, _) = bytemuck::pod_align_to_mut::<u8, usize>(scratch);
    let words = words.get_mut(..rows * taps)?;
    // SAFETY: pointers are as large as words, and any word is one.
    let all: &'a mut [*const u8] = unsafe { core::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), rows * taps) };
    for (r, row) in x.rows.iter().enumerate() {
        for t in 0..taps {
            let at = if by_columns { t * rows + r } else { r * taps + t };
            *all.get_mut(at)? = row.as_ptr().wrapping_add(t * x.tap_step);
        }
    }
    Some(all)
}
