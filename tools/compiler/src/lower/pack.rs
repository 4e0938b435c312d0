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

/// In which order the weights of a block lie.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// `[k][channel]`: float microkernels multiply one input with a row of channels.
    ChannelsInside,
    /// `[channel][k]`: integer microkernels run along the inputs of a channel.
    InputsInside,
}

/// Packs weights as `[group][block of output channels]` of `[k][channel]` or `[channel][k]`, where k is `(tap, input)`; zero
/// where the last block goes beyond the group. `at(group, out, in, tap)` is the weight of channels within the group.
pub(crate) fn blocks<T: Copy + Default>(
    d: Dims,
    block: usize,
    order: Order,
    at: impl Fn(usize, usize, usize, usize) -> T,
) -> Vec<T> {
    let per_group = d.group_out.div_ceil(block);
    let total = d.taps * d.group_in;
    let mut out = vec![T::default(); d.groups * per_group * total * block];
    for (index, slots) in out.chunks_exact_mut(total * block).enumerate() {
        let (g, b) = (index / per_group, index % per_group);
        for n in 0..block.min(d.group_out - b * block) {
            for tap in 0..d.taps {
                for i in 0..d.group_in {
                    let k = tap * d.group_in + i;
                    let slot = if order == Order::ChannelsInside { k * block + n } else { n * total + k };
                    slots[slot] = at(g, b * block + n, i, tap);
                }
            }
        }
    }
    out
}

/// The weights of a depthwise convolution as `[tap][channel]`.
pub(crate) fn taps_outside<T>(d: Dims, at: impl Fn(usize, usize, usize, usize) -> T) -> Vec<T> {
    (0..d.taps).flat_map(|tap| (0..d.groups).map(move |c| (c, tap))).map(|(c, tap)| at(c, 0, 0, tap)).collect()
}
