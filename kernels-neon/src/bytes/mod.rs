//! Products of bytes.

mod dense;
mod depthwise;
mod ends;
mod part;
mod round;
mod tiles;

pub(crate) use dense::{DenseI8, takes};
pub(crate) use depthwise::DepthwiseI8;

use kinglet::product::Sign;
use kinglet::rows::View;

/// Copies bytes, with their sign turned if it is to be.
fn copy(x: &View<'_>, start: usize, sign: Sign, to: &mut [u8]) {
    let from = x.slice::<u8>(start, to.len());
    if from.len() != to.len() {
        return;
    }
    if sign.moves(x.dtype) == 0 {
        to.copy_from_slice(from);
    } else {
        to.iter_mut().zip(from).for_each(|(to, from)| *to = from ^ 0x80);
    }
}
