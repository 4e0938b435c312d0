//! Inputs that come, and outputs that go, row by row.

use core::ops::{ControlFlow, Range};

/// The other end of a plan that was compiled to take an input, or to give an output, row by row (`convert --feed`): a camera, a
/// decoder, a display. Of such a tensor only the rows lie in the arena that are still needed.
///
/// Rows are those of the tensor's shape: lines of a picture `[1, height, width, channels]`, frames of a sequence `[1, time,
/// channels]`. They are asked for and given in their order, each once.
pub trait Feed {
    /// Writes rows `rows` of input `input` to `to`, as many bytes as they have. `Break` ends the run.
    fn give(&mut self, input: usize, rows: Range<usize>, to: &mut [u8]) -> ControlFlow<()>;

    /// Takes rows `rows` of output `output`, which were just made. `Break` ends the run. Outputs that lie whole in the arena come
    /// at the end of the run, and stay there until the next.
    fn take(&mut self, output: usize, rows: Range<usize>, from: &[u8]) -> ControlFlow<()> {
        let _ = (output, rows, from);
        ControlFlow::Continue(())
    }
}
