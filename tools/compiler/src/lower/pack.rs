//! Weights in the order that a step's packing says.

use kinglet::product::{Extents, Packing};

/// Dimensions of convolution weights.
#[derive(Clone, Copy)]
pub(crate) struct Dims {
    pub groups: usize,
    /// Output channels of one group.
    pub group_out: usize,
    /// Input channels of one group.
    pub group_in: usize,
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// The taps of a kernel row are 1 apart.
    pub dense_rows: bool,
}

impl Dims {
    /// Taps of the kernel.
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// How many weights there are of what, as [`kinglet::kernels::Conv`] counts them.
    pub fn extents(&self, depthwise: bool) -> Extents {
        let [rows, columns] = self.kernel;
        let (lines, length) = match self.groups {
            _ if depthwise => return Extents { groups: 1, channels: self.groups, lines: columns, length: rows },
            1 if self.dense_rows => (rows, columns * self.group_in),
            _ => (rows * columns, self.group_in),
        };
        Extents { groups: self.groups, channels: self.group_out, lines, length }
    }

    /// Group, output, input and tap of the weight that lies at place `i` of line `line` of a channel.
    pub(super) fn source(&self, depthwise: bool, group: usize, channel: usize, line: usize, i: usize) -> [usize; 4] {
        let columns = self.kernel[1];
        if depthwise {
            [channel, 0, 0, i * columns + line]
        } else if self.groups == 1 && self.dense_rows {
            [group, channel, i % self.group_in, line * columns + i / self.group_in]
        } else {
            [group, channel, i, line]
        }
    }
}

/// Packs weights; what fills up lines and panels is zero. `at(group, out, in, tap)` is the weight of channels within the group.
pub(crate) fn pack<T: Copy + Default>(
    packing: &Packing,
    d: Dims,
    depthwise: bool,
    at: impl Fn(usize, usize, usize, usize) -> T,
) -> Vec<T> {
    let e = d.extents(depthwise);
    let n = e.groups * packing.panels(&e) * packing.panel(&e) * packing.depth(&e);
    let mut out = vec![T::default(); n];
    for g in 0..e.groups {
        for c in 0..e.channels {
            for line in 0..e.lines {
                for i in 0..e.length {
                    let [group, o, input, tap] = d.source(depthwise, g, c, line, i);
                    out[packing.at(&e, g, c, line, i)] = at(group, o, input, tap);
                }
            }
        }
    }
    out
}
