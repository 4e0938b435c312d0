//! What windowed steps (convolutions, pooling) share: where taps lie, and the limits of their geometry.

use crate::error::Fault;
use crate::format::verify::ensure;

/// Geometry limits that keep every coordinate within 31 bits (a target's `isize` may be that small), shared by all windowed
/// steps. `output` is what the window is moved over, `sizes` are all extents of input and output.
pub(super) fn window_fits(
    kernel: [u32; 2],
    stride: [u32; 2],
    dilation: [u32; 2],
    output: [u32; 2],
    sizes: &[u32],
) -> Result<(), Fault> {
    let small = |v: u32| (1..=1 << 14).contains(&v);
    ensure(kernel.iter().chain(&stride).chain(&dilation).all(|&v| small(v)), Fault::Params)?;
    ensure(sizes.iter().all(|&v| (1..=1 << 28).contains(&v)), Fault::Shape)?;
    let last = |d: usize| {
        let (n, k) = (u64::from(output[d]), u64::from(kernel[d]));
        (n - 1) * u64::from(stride[d]) + (k - 1) * u64::from(dilation[d])
    };
    ensure((0..2).all(|d| last(d) < 1 << 30), Fault::Params)
}

/// The coordinate in a tensor of size `n` of coordinate `at` in its upsampled form, if there is one.
#[inline(always)]
pub(super) fn source(at: isize, upsample: u32, n: u32) -> Option<usize> {
    let at = usize::try_from(at).ok()?;
    let up = upsample as usize;
    let at = if up == 1 {
        at
    } else if at % up == 0 {
        at / up
    } else {
        return None;
    };
    (at < n as usize).then_some(at)
}
