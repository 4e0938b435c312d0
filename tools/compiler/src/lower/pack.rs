//! Weights in the order a target's microkernels read them.

/// Dimensions of convolution weights.
#[derive(Clone, Copy)]
pub(crate) struct Dims {
    pub groups: usize,
    /// Output channels of one group.
    pub group_out: usize,
    /// Input channels of one group.
    pub group_in: usize,
    /// Taps of the kernel.
    pub taps: usize,
}

/// Packs weights as `[group][block of output channels][tap][input channel][channel in the block]`, zero where the last block
/// goes beyond the group. `at(group, out, in, tap)` is the weight of output and input channel within the group.
pub(crate) fn blocks<T: Copy + Default>(d: Dims, block: usize, at: impl Fn(usize, usize, usize, usize) -> T) -> Vec<T> {
    let per_group = d.group_out.div_ceil(block);
    let mut out = vec![T::default(); d.groups * per_group * d.taps * d.group_in * block];
    let mut slots = out.chunks_exact_mut(block);
    for g in 0..d.groups {
        for b in 0..per_group {
            for tap in 0..d.taps {
                for i in 0..d.group_in {
                    let slot = slots.next().expect("as many blocks as were allocated");
                    for (k, v) in slot.iter_mut().enumerate().take(d.group_out - b * block) {
                        *v = at(g, b * block + k, i, tap);
                    }
                }
            }
        }
    }
    out
}
