//! Gated recurrent units (Cho et al., *Learning Phrase Representations using RNN Encoder–Decoder for Statistical Machine
//! Translation*, 2014), as ONNX `GRU` has them.

use core::ops::Range;

use super::recurrent::{self, Activation, GATES, Layer, START, WEIGHTS, multiply};
use super::{OpSet, Params};
use crate::elementwise::Elementwise;
use crate::error::Fault;
use crate::format::verify::{Check, Verdict};
use crate::format::words::record;
use crate::rows::{Operands, Tile};

/// Input: the bias that lies behind the reset.
const BIAS: usize = 4;

record! {
    /// Parameters of gated recurrent units in one direction, ONNX `GRU` without what does not recur. From frame to frame, with the
    /// hidden state h and the gates z, r and u side by side in x and R: `z = f(x_z + h·R_z)`; `r = f(x_r + h·R_r)`;
    /// `u = g(x_u + (r · h)·R_u)`, or `g(x_u + r · (h·R_u + b))`; `h ← (1 − z) · u + z · h`.
    ///
    /// Inputs: 0 `x [time, batch, 3, hidden]` of any type, the product of the layer's input and its weights, with all biases but b,
    /// 1 `R [hidden, 3, hidden]` f32, 2 `lengths [batch]` i32 or absent, 3 `h [batch, hidden]` of any type, the hidden state before
    /// the first frame, or absent for zeros, 4 `b [hidden]` f32 or absent. Output: `h [time, batch, hidden]` of any type, the hidden
    /// state after each frame. Rows: `batch`.
    pub struct Gru {
        /// Frames.
        pub layer: Layer,
        /// The function of the gates z and r.
        pub f: Activation,
        /// The function of u.
        pub g: Activation,
        /// The product with R_u comes before the reset by r.
        pub linear_before_reset: bool,
    }
}

impl Gru {
    /// Bytes of scratch that a worker needs: gates, hidden state, and what is reset.
    pub const fn scratch(hidden: usize) -> usize {
        recurrent::bytes(5 * hidden)
    }
}

impl Params for Gru {
    fn verify(&self, c: &Check<'_>) -> Result<Verdict, Fault> {
        let layer = &self.layer;
        layer.verify(c, 3, &[self.f, self.g])?;
        Layer::floats(c, BIAS, &[layer.hidden])?;
        Ok(Verdict::new(layer.batch as usize, layer.work(3)).scratch(Self::scratch(layer.hidden as usize)))
    }

    fn reads(&self, input: usize, rows: Range<usize>) -> Option<Range<usize>> {
        self.layer.reads(3, input, rows)
    }

    fn functions(&self, _: &crate::Step<'_>) -> OpSet {
        recurrent::functions(&[self.f, self.g])
    }

    #[inline(always)]
    fn run<E: Elementwise>(&self, e: E, o: &Operands<'_>, Tile { rows, .. }: Tile) {
        let n = self.layer.hidden as usize;
        let Some([gates, hidden, reset]) = recurrent::parts(o, [3 * n, n, n]) else { return };
        let (x, r, bias) = (o.input(GATES), o.constant::<f32>(WEIGHTS), o.constant::<f32>(BIAS));
        let mut y = o.output();
        for row in rows {
            recurrent::start(e, o.optional(START), row, hidden);
            let (frames, behind) = self.layer.frames(o, row);
            for t in frames {
                let at = t * self.layer.batch as usize + row;
                e.load(&x, at * gates.len(), gates);
                self.advance(e, gates, [hidden, reset], r, bias);
                e.store(&mut y, at * n, hidden);
            }
            self.layer.clear(e, &mut y, row, behind, hidden);
        }
    }
}

impl Gru {
    /// The hidden state after a frame whose `gates` have x.
    #[inline(always)]
    fn advance<E: Elementwise>(
        &self,
        e: E,
        gates: &mut [f32],
        [hidden, reset]: [&mut [f32]; 2],
        r: &[f32],
        bias: &[f32],
    ) {
        let n = hidden.len();
        let Some((both, next)) = gates.split_at_mut_checked(2 * n) else { return };
        multiply(both, hidden, r, 3 * n, 0);
        self.layer.activate(e, &self.f, both);
        let Some((keep, open)) = both.split_at_checked(n) else { return };
        if self.linear_before_reset {
            reset.fill(0.0);
            reset.iter_mut().zip(bias).for_each(|(sum, b)| *sum = *b);
            multiply(reset, hidden, r, 3 * n, 2 * n);
            for ((next, open), sum) in next.iter_mut().zip(open).zip(&*reset) {
                *next += open * sum;
            }
        } else {
            for ((reset, open), hidden) in reset.iter_mut().zip(open).zip(&*hidden) {
                *reset = open * hidden;
            }
            multiply(next, reset, r, 3 * n, 2 * n);
        }
        self.layer.activate(e, &self.g, next);
        for ((hidden, keep), next) in hidden.iter_mut().zip(keep).zip(&*next) {
            *hidden = (1.0 - keep) * next + keep * *hidden;
        }
    }
}
