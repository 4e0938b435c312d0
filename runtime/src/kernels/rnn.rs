//! A recurrent layer without gates (Elman, *Finding Structure in Time*, 1990), as ONNX `RNN` has it.

use core::ops::Range;

use super::recurrent::{self, Activation, GATES, Layer, START, WEIGHTS, multiply};
use super::{OpSet, Params};
use crate::elementwise::Elementwise;
use crate::error::Fault;
use crate::format::verify::{Check, Verdict};
use crate::format::words::record;
use crate::rows::{Operands, Tile};

record! {
    /// Parameters of a recurrent layer without gates in one direction, ONNX `RNN` without what does not recur: from frame to frame
    /// `h ← f(x + h·R)`.
    ///
    /// Inputs: 0 `x [time, batch, hidden]` of any type, the product of the layer's input and its weights, with both biases, 1
    /// `R [hidden, hidden]` f32, 2 `lengths [batch]` i32 or absent, 3 `h [batch, hidden]` of any type, the hidden state before the
    /// first frame, or absent for zeros. Output: `h [time, batch, hidden]` of any type, the hidden state after each frame. Rows:
    /// `batch`.
    pub struct Rnn {
        /// Frames.
        pub layer: Layer,
        /// The function of the sums.
        pub f: Activation,
    }
}

impl Rnn {
    /// Bytes of scratch that a worker needs: sums and hidden state.
    pub const fn scratch(hidden: usize) -> usize {
        recurrent::bytes(2 * hidden)
    }
}

impl Params for Rnn {
    fn verify(&self, c: &Check<'_>) -> Result<Verdict, Fault> {
        let layer = &self.layer;
        layer.verify(c, 1, &[self.f])?;
        Ok(Verdict::new(layer.batch as usize, layer.work(1)).scratch(Self::scratch(layer.hidden as usize)))
    }

    fn reads(&self, input: usize, rows: Range<usize>) -> Option<Range<usize>> {
        self.layer.reads(1, input, rows)
    }

    fn functions(&self, _: &crate::Step<'_>) -> OpSet {
        recurrent::functions(&[self.f])
    }

    #[inline(always)]
    fn run<E: Elementwise>(&self, e: E, o: &Operands<'_>, Tile { rows, .. }: Tile) {
        let n = self.layer.hidden as usize;
        let Some([sums, hidden]) = recurrent::parts(o, [n, n]) else { return };
        let (x, r) = (o.input(GATES), o.constant::<f32>(WEIGHTS));
        let mut y = o.output();
        for row in rows {
            recurrent::start(e, o.optional(START), row, hidden);
            let (frames, behind) = self.layer.frames(o, row);
            for t in frames {
                let at = t * self.layer.batch as usize + row;
                e.load(&x, at * n, sums);
                multiply(sums, hidden, r, n, 0);
                self.layer.activate(e, &self.f, sums);
                hidden.iter_mut().zip(&*sums).for_each(|(hidden, &sum)| *hidden = sum);
                e.store(&mut y, at * n, hidden);
            }
            self.layer.clear(e, &mut y, row, behind, hidden);
        }
    }
}
