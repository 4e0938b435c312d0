//! Right matrices of floats that lie transposed, as panels: blocks of 8 × 8 are turned in registers.

use core::arch::x86_64::*;
use core::ops::Range;

use kinglet::product::{Matrix, pack_panels};

/// Columns of a panel.
const PANEL: usize = 16;
/// Rows and columns of a block.
const BLOCK: usize = 8;

/// Packs columns of a matrix in panels of 16, as [`pack_panels`] does.
#[target_feature(enable = "avx")]
pub(crate) fn pack(b: &Matrix<'_, f32>, columns: Range<usize>, to: &mut [f32]) {
    let whole = columns.len() / PANEL * PANEL;
    if !b.transposed || b.k == 0 || whole == 0 || b.data.len() != b.k * b.n || columns.end > b.n {
        return pack_panels::<f32, PANEL, 1>(b, columns, |v| v, to);
    }
    let (panels, rest) = to.split_at_mut((whole * b.k).min(to.len()));
    for (first, to) in (columns.start..).step_by(PANEL).zip(panels.chunks_exact_mut(PANEL * b.k)) {
        let rows = &b.data[first * b.k..(first + PANEL) * b.k];
        panel(rows, b.k, to);
    }
    if whole < columns.len() {
        pack_panels::<f32, PANEL, 1>(b, columns.start + whole..columns.end, |v| v, rest);
    }
}

/// 16 rows of `k` elements as `k` rows of 16.
#[target_feature(enable = "avx")]
fn panel(rows: &[f32], k: usize, to: &mut [f32]) {
    let blocks = k / BLOCK * BLOCK;
    for at in (0..blocks).step_by(BLOCK) {
        for half in [0, BLOCK] {
            let from: [&[f32; BLOCK]; BLOCK] =
                core::array::from_fn(|c| rows[(half + c) * k + at..].first_chunk().expect("the row has them"));
            for (j, column) in turned(from).into_iter().enumerate() {
                let to: &mut [f32; BLOCK] =
                    to[(at + j) * PANEL + half..].first_chunk_mut().expect("the panel has them");
                // SAFETY: eight elements are there.
                unsafe { _mm256_storeu_ps(to.as_mut_ptr(), column) };
            }
        }
    }
    for j in blocks..k {
        for c in 0..PANEL {
            to[j * PANEL + c] = rows[c * k + j];
        }
    }
}

/// The columns of eight rows.
#[target_feature(enable = "avx")]
fn turned(rows: [&[f32; BLOCK]; BLOCK]) -> [__m256; BLOCK] {
    // SAFETY: eight elements are there.
    let r = rows.map(|row| unsafe { _mm256_loadu_ps(row.as_ptr()) });
    // Pairs of elements of two rows, then fours of four rows, then halves.
    let pairs: [__m256; BLOCK] = core::array::from_fn(|i| {
        let (a, b) = (r[i / 2 * 2], r[i / 2 * 2 + 1]);
        if i % 2 == 0 { _mm256_unpacklo_ps(a, b) } else { _mm256_unpackhi_ps(a, b) }
    });
    let fours = |low: usize| -> [__m256; 4] {
        let [a, b, c, d] = [pairs[low], pairs[low + 1], pairs[low + 2], pairs[low + 3]];
        [
            _mm256_shuffle_ps::<0b01_00_01_00>(a, c),
            _mm256_shuffle_ps::<0b11_10_11_10>(a, c),
            _mm256_shuffle_ps::<0b01_00_01_00>(b, d),
            _mm256_shuffle_ps::<0b11_10_11_10>(b, d),
        ]
    };
    let (upper, lower) = (fours(0), fours(4));
    core::array::from_fn(|i| {
        let (a, b) = (upper[i % 4], lower[i % 4]);
        if i < 4 { _mm256_permute2f128_ps::<0x20>(a, b) } else { _mm256_permute2f128_ps::<0x31>(a, b) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_as_the_portable_code_does() {
        if !is_x86_feature_detected!("avx") {
            return;
        }
        for (k, n) in (1..20).flat_map(|k| (1..50).map(move |n| (k, n))) {
            let data: Vec<f32> = (0..k * n).map(|i| i as f32).collect();
            for (transposed, first) in [(false, 0), (true, 0), (true, 1)] {
                let b = Matrix { data: &data, k, n, transposed, panel: PANEL, unsigned: false };
                let columns = (first * PANEL).min(n)..n;
                let size = columns.len().next_multiple_of(PANEL) * k;
                let (mut want, mut got) = (vec![-1.0; size], vec![-1.0; size]);
                pack_panels::<f32, PANEL, 1>(&b, columns.clone(), |v| v, &mut want);
                // SAFETY: the feature was asked for.
                unsafe { pack(&b, columns, &mut got) };
                assert_eq!(got, want, "{k} x {n}, transposed: {transposed}");
            }
        }
    }
}
