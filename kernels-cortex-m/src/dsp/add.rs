//! Residuals of bytes, four at a time by integers.

use core::arch::global_asm;

use kinglet::elementwise::Elementwise;
use kinglet::product::{Finish, Place};
use kinglet::rows::{View, ViewMut};

use crate::add::Added;
use crate::sum::Sum;

global_asm!(core_directives!(), include_str!("add.s"), options(raw));

unsafe extern "C" {
    fn kinglet_add(sum: &Sum, rounded: *const i8, residual: *const i8, to: *mut i8, fours: usize) -> usize;
}

/// Elements that the function of `add.s` adds at once.
const FOUR: usize = 4;

/// Adds a residual of signed bytes to rounded sums, `[pixel][channel]`, that are signed bytes themselves.
pub fn add<E: Elementwise>(f: &mut Finish<'_, E>, to: Place, rounded: &[i8]) {
    let Some(r) = f.residual else { return };
    let added = Added::of(f, &r);
    let sum = Sum::new(&added);
    // Pixels of all channels lie one after the other.
    if to.width == to.step && run(&added, &sum, &r, &mut f.out, to.at, rounded) {
        return;
    }
    for (pixel, rounded) in rounded.chunks_exact(to.width.max(1)).enumerate() {
        run(&added, &sum, &r, &mut f.out, to.at + pixel * to.step, rounded);
    }
}

/// Adds what begins at element `at` of the residual and the result; `false` if it does not lie in one piece.
#[inline(never)]
fn run(added: &Added, sum: &Option<Sum>, r: &View<'_>, out: &mut ViewMut<'_>, at: usize, rounded: &[i8]) -> bool {
    let n = rounded.len();
    // The result may take the place of the residual, element for element.
    let (Some(residual), Some(mut out)) = (r.pixels::<i8>(at, n, n, 1), out.pixels::<i8>(at, n, n, 1)) else {
        return false;
    };
    let (rounded, to) = (rounded.as_ptr(), out.as_mut_ptr());
    let (mut done, mut one_by_one) = (0, 0);
    while done < n {
        let fours = (n - done) / FOUR;
        // SAFETY: `pixels` has checked that both have `n` elements, each of which is stored after it has been read.
        unsafe {
            match sum {
                Some(sum) if fours > 0 && one_by_one == 0 => {
                    let left = kinglet_add(sum, rounded.add(done), residual.add(done), to.add(done), fours);
                    done += FOUR * (fours - left);
                    // Four of which one is in doubt, or the last ones.
                    one_by_one = FOUR.min(n - done);
                }
                _ => {
                    *to.add(done) = added.one(*rounded.add(done), *residual.add(done));
                    done += 1;
                    one_by_one = one_by_one.saturating_sub(1);
                }
            }
        }
    }
    true
}
