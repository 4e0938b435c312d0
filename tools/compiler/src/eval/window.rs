//! Which input positions a window reaches from an output position.

use crate::graph::Window;

/// The reach of a window, in any number of spatial axes.
pub(super) struct Reach {
    /// Output extents.
    output: Vec<usize>,
    axes: Vec<Axis>,
}

/// One axis of a window.
struct Axis {
    /// Input extent.
    input: usize,
    /// Taps of the kernel.
    kernel: usize,
    /// For each output position and tap the position in the input, if it is inside.
    sources: Vec<Option<usize>>,
    /// For each output position how many taps lie inside the padded input.
    padded: Vec<usize>,
}

impl Reach {
    /// The reach of a convolution or pooling window: `output · stride + tap · dilation − pad`.
    pub(super) fn new(window: &Window, input: &[usize], output: &[usize]) -> Self {
        Self::by(window, input, output, |d, at, tap| {
            let step = (at * window.strides[d] + tap * window.dilations[d]) as i64;
            Some(step - window.pads_begin[d])
        })
    }

    /// The reach of a transposed convolution, where `output = input · stride + tap · dilation − pad`.
    pub(super) fn transposed(window: &Window, input: &[usize], output: &[usize]) -> Self {
        Self::by(window, input, output, |d, at, tap| {
            let stride = window.strides[d] as i64;
            let from = at as i64 + window.pads_begin[d] - (tap * window.dilations[d]) as i64;
            (from % stride == 0).then_some(from / stride)
        })
    }

    fn by(
        window: &Window,
        input: &[usize],
        output: &[usize],
        position: impl Fn(usize, usize, usize) -> Option<i64>,
    ) -> Self {
        assert_eq!((input.len(), output.len()), (window.kernel.len(), window.kernel.len()), "spatial axes of a window");
        let axis = |d: usize| {
            let (n, kernel) = (input[d], window.kernel[d]);
            let mut axis = Axis { input: n, kernel, sources: vec![], padded: vec![] };
            for at in 0..output[d] {
                let positions = (0..kernel).map(|tap| position(d, at, tap));
                let inside = |p: Option<i64>| p.and_then(|p| usize::try_from(p).ok()).filter(|&p| p < n);
                axis.sources.extend(positions.clone().map(inside));
                axis.padded.push(positions.flatten().filter(|&p| p < n as i64 + window.pads_end[d]).count());
            }
            axis
        };
        Reach { output: output.to_vec(), axes: (0..input.len()).map(axis).collect() }
    }

    /// Number of output positions.
    pub(super) fn positions(&self) -> usize {
        self.output.iter().product()
    }

    /// Fills `taps` with the taps that meet the input at an output position: number of the tap, and the input
    /// position it meets. Returns how many taps lie inside the padded input. Positions are counted row-major.
    pub(super) fn at(&self, position: usize, taps: &mut Vec<(usize, usize)>, spare: &mut Vec<(usize, usize)>) -> usize {
        taps.clear();
        taps.push((0, 0));
        let mut padded = 1;
        let mut rest: usize = self.output.iter().product();
        for (axis, &extent) in self.axes.iter().zip(&self.output) {
            rest /= extent;
            let at = position / rest % extent;
            padded *= axis.padded[at];
            std::mem::swap(taps, spare);
            taps.clear();
            for &(tap, source) in spare.iter() {
                for (k, from) in axis.sources[at * axis.kernel..][..axis.kernel].iter().enumerate() {
                    if let Some(from) = from {
                        taps.push((tap * axis.kernel + k, source * axis.input + from));
                    }
                }
            }
        }
        padded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(kernel: &[usize], strides: &[usize], dilations: &[usize], begin: &[i64], end: &[i64]) -> Window {
        Window {
            kernel: kernel.to_vec(),
            strides: strides.to_vec(),
            dilations: dilations.to_vec(),
            pads_begin: begin.to_vec(),
            pads_end: end.to_vec(),
        }
    }

    fn at(reach: &Reach, position: usize) -> (Vec<(usize, usize)>, usize) {
        let mut taps = vec![];
        let padded = reach.at(position, &mut taps, &mut vec![]);
        (taps, padded)
    }

    #[test]
    fn positions_and_padding() {
        // Padded input −1 … 4; window 0 covers −1, 0, 1; window 2 covers 3, 4, 5.
        let r = Reach::new(&window(&[3], &[2], &[1], &[1], &[1]), &[4], &[3]);
        assert_eq!(r.positions(), 3);
        assert_eq!(at(&r, 0), (vec![(1, 0), (2, 1)], 3));
        assert_eq!(at(&r, 1), (vec![(0, 1), (1, 2), (2, 3)], 3));
        assert_eq!(at(&r, 2), (vec![(0, 3)], 2));
    }

    #[test]
    fn two_axes() {
        let r = Reach::new(&window(&[2, 2], &[1, 1], &[1, 2], &[0, 1], &[0, 0]), &[2, 3], &[1, 2]);
        // Columns −1 and 1 of rows 0 and 1, then columns 0 and 2.
        assert_eq!(at(&r, 0), (vec![(1, 1), (3, 4)], 4));
        assert_eq!(at(&r, 1), (vec![(0, 0), (1, 2), (2, 3), (3, 5)], 4));
    }

    #[test]
    fn transposed() {
        // output = 2·input + tap − 1
        let r = Reach::transposed(&window(&[3], &[2], &[1], &[1], &[0]), &[2], &[4]);
        assert_eq!(at(&r, 0).0, [(1, 0)]);
        assert_eq!(at(&r, 1).0, [(0, 1), (2, 0)]);
        assert_eq!(at(&r, 2).0, [(1, 1)]);
        assert_eq!(at(&r, 3).0, [(2, 1)]);
    }
}
