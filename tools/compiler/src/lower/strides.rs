//! Dimensions of elementwise and copying steps, merged until they fit the runtime's six.

use kinglet::kernels::DIMS;

/// Extents with the strides of `N` operands: rows first, the innermost last, ones in between.
pub(crate) struct Merged<const N: usize> {
    pub dims: [u32; DIMS],
    pub strides: [[i32; DIMS]; N],
}

/// Merges neighbouring dimensions that all operands step through evenly. Dimensions up to `rows` are not merged with later
/// ones, so that the first stays the one that is cut among workers. `None` if too many are left.
pub(crate) fn merge<const N: usize>(shape: &[usize], strides: [&[i64]; N], rows: usize) -> Option<Merged<N>> {
    let mut dims: Vec<(usize, [i64; N], bool)> = Vec::new();
    for (d, &extent) in shape.iter().enumerate() {
        if extent == 1 {
            continue;
        }
        let own: [i64; N] = std::array::from_fn(|k| strides[k][d]);
        let leading = d < rows;
        if let Some((outer, outer_strides, outer_leading)) = dims.last_mut() {
            let even = (0..N).all(|k| outer_strides[k] == own[k] * extent as i64);
            if even && *outer_leading == leading {
                *outer *= extent;
                *outer_strides = own;
                continue;
            }
        }
        dims.push((extent, own, leading));
    }
    // A first dimension that is not a row dimension would make a step without rows to cut; that is fine.
    if dims.len() > DIMS {
        return None;
    }
    let mut out = Merged { dims: [1; DIMS], strides: [[0; DIMS]; N] };
    let n = dims.len();
    for (i, (extent, own, leading)) in dims.into_iter().enumerate() {
        // The first goes to the front if it has rows, everything else to the back.
        let at = if i == 0 && (leading || n == DIMS) { 0 } else { DIMS - n + i };
        out.dims[at] = u32::try_from(extent).ok()?;
        for k in 0..N {
            out.strides[k][at] = i32::try_from(own[k]).ok()?;
        }
    }
    // A last dimension that was split off as rows leaves an innermost run of one element; contiguous ones read as runs.
    if out.dims[DIMS - 1] == 1 && n == 1 {
        out.dims.swap(0, DIMS - 1);
        out.strides.iter_mut().for_each(|s| s.swap(0, DIMS - 1));
    }
    // A single element is a run of any stride; the kernels want 0 or 1.
    for s in &mut out.strides {
        if out.dims[DIMS - 1] == 1 {
            s[DIMS - 1] = 1;
        }
    }
    Some(out)
}

/// Contiguous strides as signed numbers.
pub(crate) fn contiguous(shape: &[usize]) -> Vec<i64> {
    crate::array::strides(shape).into_iter().map(|s| s as i64).collect()
}
