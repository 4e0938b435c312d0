//! Long short-term memory (Hochreiter and Schmidhuber, *Long Short-Term Memory*, 1997; with forget gates Gers, Schmidhuber and
//! Cummins, 2000; with peepholes Gers and Schmidhuber, 2000), as ONNX `LSTM` has it.

use core::ops::Range;

use super::recurrent::{self, Activation, GATES, Layer, START, WEIGHTS, multiply};
use super::walk::elements;
use super::{OpSet, Params};
use crate::DType;
use crate::elementwise::Elementwise;
use crate::error::Fault;
use crate::format::verify::{Check, Verdict, ensure};
use crate::format::words::record;
use crate::rows::{Operands, Tile};

/// Input: the cell before the first frame.
const CELL: usize = 4;
/// Input: the weights of the cell in gates.
const PEEPHOLES: usize = 5;

record! {
    /// Parameters of a long short-term memory in one direction, ONNX `LSTM` without what does not recur. From frame to frame, with
    /// the hidden state h, the cell c and the gates i, o, n and u side by side in x and R: `i = f(x_i + h·R_i + P_i·c)`;
    /// `n = f(x_n + h·R_n + P_n·c)`, or `1 − i`; `c ← n · c + i · g(x_u + h·R_u)`; `o = f(x_o + h·R_o + P_o·c)`; `h ← o · h(c)`.
    ///
    /// Inputs: 0 `x [time, batch, 4, hidden]`, the product of the layer's input and its weights, with all biases, 1
    /// `R [hidden, 4, hidden]` f32, 2 `lengths [batch]` i32 or absent, 3 `h [batch, hidden]`, the hidden state before the first
    /// frame, or absent for zeros, 4 `c [batch, hidden]`, the cell before it, or absent for zeros, 5 `P [3, hidden]` f32, of the
    /// gates i, o and n, or absent. Those without a type here may be of any. Outputs: 0 `h [time, batch, hidden]` of any type, the
    /// hidden state after each frame, 1 `c [batch, hidden]` f32, the cell after the last frame, or zeros without frames, which
    /// may lie where input 4 does. Rows: `batch`.
    pub struct Lstm {
        /// Frames.
        pub layer: Layer,
        /// The function of the gates i, o and n.
        pub f: Activation,
        /// The function of what goes into the cell.
        pub g: Activation,
        /// The function of the cell that is the hidden state.
        pub h: Activation,
        /// The gate n is `1 − i`.
        pub input_forget: bool,
    }
}

impl Lstm {
    /// Bytes of scratch that a worker needs: gates, hidden state and cell.
    pub const fn scratch(hidden: usize) -> usize {
        recurrent::bytes(6 * hidden)
    }
}

impl Params for Lstm {
    const OUTPUTS: usize = 2;

    fn verify(&self, c: &Check<'_>) -> Result<Verdict, Fault> {
        let layer = &self.layer;
        layer.verify(c, 4, &[self.f, self.g, self.h])?;
        if let Some(cell) = c.optional(CELL) {
            c.size(&cell, &layer.state())?;
        }
        Layer::floats(c, PEEPHOLES, &[3, layer.hidden])?;
        let last = c.output_at(1)?;
        ensure(last.dtype == DType::F32, Fault::DType)?;
        c.size(&last, &layer.state())?;
        let verdict = Verdict::new(layer.batch as usize, layer.work(4)).scratch(Self::scratch(layer.hidden as usize));
        Ok(verdict.state_in_place(1 << CELL))
    }

    fn reads(&self, input: usize, rows: Range<usize>) -> Option<Range<usize>> {
        match input {
            CELL => Some(elements(rows, &[self.layer.hidden])),
            _ => self.layer.reads(4, input, rows),
        }
    }

    fn functions(&self, _: &crate::Step<'_>) -> OpSet {
        recurrent::functions(&[self.f, self.g, self.h])
    }

    #[inline(always)]
    fn run<E: Elementwise>(&self, e: E, o: &Operands<'_>, Tile { rows, .. }: Tile) {
        let n = self.layer.hidden as usize;
        let Some([gates, hidden, cell]) = recurrent::parts(o, [4 * n, n, n]) else { return };
        let (x, r, peepholes) = (o.input(GATES), o.constant::<f32>(WEIGHTS), o.constant::<f32>(PEEPHOLES));
        let (mut y, mut last) = (o.output(), o.output_at(1));
        for row in rows {
            recurrent::start(e, o.optional(START), row, hidden);
            let (frames, behind) = self.layer.frames(o, row);
            // A sequence without frames has no state.
            recurrent::start(e, o.optional(CELL).filter(|_| behind.start > 0), row, cell);
            for t in frames {
                let at = t * self.layer.batch as usize + row;
                e.load(&x, at * gates.len(), gates);
                multiply(gates, hidden, r, 4 * n, 0);
                self.advance(e, gates, hidden, cell, peepholes);
                e.store(&mut y, at * n, hidden);
            }
            e.store(&mut last, row * n, cell);
            self.layer.clear(e, &mut y, row, behind, hidden);
        }
    }
}

impl Lstm {
    /// The cell and the hidden state after a frame whose sums are in `gates`.
    #[inline(always)]
    fn advance<E: Elementwise>(
        &self,
        e: E,
        gates: &mut [f32],
        hidden: &mut [f32],
        cell: &mut [f32],
        peepholes: &[f32],
    ) {
        let n = cell.len();
        let Some((input, gates)) = gates.split_at_mut_checked(n) else { return };
        let Some((output, gates)) = gates.split_at_mut_checked(n) else { return };
        let Some((forget, update)) = gates.split_at_mut_checked(n) else { return };
        // Without peepholes these are empty, and nothing is added.
        let mut peepholes = peepholes.chunks_exact(n.max(1));
        let [of_input, of_output, of_forget] = [peepholes.next(), peepholes.next(), peepholes.next()];
        look(input, of_input, cell);
        self.layer.activate(e, &self.f, input);
        if self.input_forget {
            forget.iter_mut().zip(&*input).for_each(|(forget, input)| *forget = 1.0 - input);
        } else {
            look(forget, of_forget, cell);
            self.layer.activate(e, &self.f, forget);
        }
        self.layer.activate(e, &self.g, update);
        for (((cell, forget), input), update) in cell.iter_mut().zip(&*forget).zip(&*input).zip(&*update) {
            *cell = forget * *cell + input * update;
        }
        look(output, of_output, cell);
        self.layer.activate(e, &self.f, output);
        hidden.iter_mut().zip(&*cell).for_each(|(hidden, &cell)| *hidden = cell);
        self.layer.activate(e, &self.h, hidden);
        hidden.iter_mut().zip(&*output).for_each(|(hidden, output)| *hidden *= output);
    }
}

/// What a gate sees of the cell.
#[inline(always)]
fn look(gate: &mut [f32], peepholes: Option<&[f32]>, cell: &[f32]) {
    for ((sum, p), c) in gate.iter_mut().zip(peepholes.unwrap_or(&[])).zip(cell) {
        *sum += p * c;
    }
}
