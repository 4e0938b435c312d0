//! Recurrent layers in one direction: LSTM, GRU, RNN.

use super::unary::function;
use super::{Call, Real};
use crate::array::Numbers;
use crate::graph::{Activation, Way};

/// The operands that every layer has, and its extents.
struct Layer<'a> {
    way: Way,
    x: Real<'a>,
    r: Real<'a>,
    batch: usize,
    time: usize,
    hidden: usize,
    lengths: Option<Vec<i64>>,
}

impl<'a> Layer<'a> {
    fn of(call: &Call<'a>, way: Way) -> Self {
        let (x, r) = (call.real(0), call.real(1));
        let &[time, batch, _] = x.shape else { panic!("x has the shape {:?}", x.shape) };
        let lengths = call.get(2).map(|a| a.ints().into_owned());
        Layer { way, batch, time, hidden: r.shape[0], x, r, lengths }
    }

    /// The state that input `i` is, or zeros.
    fn start(&self, call: &Call<'_>, i: usize) -> Vec<f64> {
        call.get_real(i).map_or_else(|| vec![0.0; self.batch * self.hidden], |h| h.v.into_owned())
    }

    /// The frames of a sequence, in the order in which it goes over them.
    fn frames(&self, sequence: usize) -> Vec<usize> {
        let time = self.time as i64;
        let n = self.lengths.as_ref().map_or(time, |l| l[sequence].clamp(0, time));
        let forward = 0..n as usize;
        if self.way.reverse { forward.rev().collect() } else { forward.collect() }
    }

    /// Gate `gate` of element `j`: what x has of it, and the product of `h` with its column of R.
    fn input(&self, frame: usize, sequence: usize, gate: usize, j: usize) -> f64 {
        let width = self.r.shape[1];
        self.x.v[(frame * self.batch + sequence) * width + gate * self.hidden + j]
    }

    fn product(&self, h: &[f64], gate: usize, j: usize) -> f64 {
        let width = self.r.shape[1];
        h.iter().enumerate().map(|(k, h)| h * self.r.v[k * width + gate * self.hidden + j]).sum()
    }

    fn apply(&self, f: &Activation, v: f64) -> f64 {
        let clip = f64::from(self.way.clip);
        let v = if v > clip {
            clip
        } else if v < -clip {
            -clip
        } else {
            v
        };
        function(f.op, f.alpha.into(), f.beta.into(), v)
    }

    /// The hidden states after all frames, from those before the first one on: `next(frame, sequence, h)` gives the state after a
    /// frame of a sequence.
    fn run(&self, mut h: Vec<f64>, mut next: impl FnMut(usize, usize, &[f64]) -> Vec<f64>) -> Vec<f64> {
        let n = self.hidden;
        let mut out = vec![0.0; self.time * self.batch * n];
        for sequence in 0..self.batch {
            let h = &mut h[sequence * n..(sequence + 1) * n];
            for frame in self.frames(sequence) {
                let after = next(frame, sequence, h);
                h.copy_from_slice(&after);
                let at = (frame * self.batch + sequence) * n;
                out[at..at + n].copy_from_slice(h);
            }
        }
        out
    }
}

/// The hidden states, and the cell after the last frame. The gates are i, o, f, c in ONNX's words.
pub(super) fn lstm(call: &Call<'_>, way: Way, [f, g, h]: &[Activation; 3], input_forget: bool) -> [Vec<f64>; 2] {
    let layer = Layer::of(call, way);
    let n = layer.hidden;
    let peepholes = call.get_real(5);
    // Without a peephole nothing of the cell comes in, an infinite one included.
    let peep = |k: usize, cell: f64| peepholes.as_ref().map_or(0.0, |p| p.v[k] * cell);
    let mut cells = layer.start(call, 4);
    let states = layer.run(layer.start(call, 3), |t, b, before| {
        let cell = &mut cells[b * n..(b + 1) * n];
        let gate = |k: usize, j: usize| layer.input(t, b, k, j) + layer.product(before, k, j);
        let one = |j: usize| {
            let i = layer.apply(f, gate(0, j) + peep(j, cell[j]));
            let forget = layer.apply(f, gate(2, j) + peep(2 * n + j, cell[j]));
            let forget = if input_forget { 1.0 - i } else { forget };
            cell[j] = forget * cell[j] + i * layer.apply(g, gate(3, j));
            let o = layer.apply(f, gate(1, j) + peep(n + j, cell[j]));
            o * layer.apply(h, cell[j])
        };
        (0..n).map(one).collect()
    });
    // What has no frames has no cell.
    let without_frames = |&(b, _): &(usize, &mut [f64])| layer.frames(b).is_empty();
    cells.chunks_mut(n).enumerate().filter(without_frames).for_each(|(_, cell)| cell.fill(0.0));
    [states, cells]
}

/// The hidden states. The gates are z, r, h in ONNX's words.
pub(super) fn gru(call: &Call<'_>, way: Way, [f, g]: &[Activation; 2], linear_before_reset: bool) -> Numbers {
    let layer = Layer::of(call, way);
    let n = layer.hidden;
    let bias = call.get_real(4).map_or_else(|| vec![0.0; n], |b| b.v.into_owned());
    let states = layer.run(layer.start(call, 3), |t, b, before| {
        let gate = |k: usize, j: usize| layer.apply(f, layer.input(t, b, k, j) + layer.product(before, k, j));
        let reset: Vec<f64> = (0..n).map(|j| gate(1, j)).collect();
        let kept: Vec<f64> = reset.iter().zip(before).map(|(r, h)| r * h).collect();
        let one = |j: usize| {
            let product = if linear_before_reset {
                reset[j] * (layer.product(before, 2, j) + bias[j])
            } else {
                layer.product(&kept, 2, j)
            };
            let z = gate(0, j);
            (1.0 - z) * layer.apply(g, layer.input(t, b, 2, j) + product) + z * before[j]
        };
        (0..n).map(one).collect()
    });
    Numbers::F(states)
}

/// The hidden states.
pub(super) fn rnn(call: &Call<'_>, way: Way, f: &Activation) -> Numbers {
    let layer = Layer::of(call, way);
    let states = layer.run(layer.start(call, 3), |t, b, before| {
        (0..layer.hidden).map(|j| layer.apply(f, layer.input(t, b, 0, j) + layer.product(before, 0, j))).collect()
    });
    Numbers::F(states)
}

#[cfg(test)]
mod tests {
    use kinglet::DType;
    use kinglet::kernels::UnaryOp;

    use super::super::testing::*;
    use super::*;
    use crate::array::Array;
    use crate::graph::Op;

    const FORWARD: Way = Way { reverse: false, clip: f32::INFINITY };
    const LINEAR: Activation = Activation::of(UnaryOp::Identity);

    #[test]
    fn a_sum_with_memory_by_hand() {
        let x = f(&[3, 1, 1], &[1.0, 2.0, 3.0]);
        let r = f(&[1, 1], &[0.5]);
        let like = like(DType::F32, &[3, 1, 1], None);
        let run = |way| eval(Op::Rnn { way, function: LINEAR }, &[x.clone(), r.clone()], &like);
        assert_eq!(run(FORWARD), Array::f32(&[3, 1, 1], vec![1.0, 2.5, 4.25]));
        assert_eq!(run(Way { reverse: true, ..FORWARD }), Array::f32(&[3, 1, 1], vec![2.75, 3.5, 3.0]));
        assert_eq!(run(Way { clip: 2.0, ..FORWARD }), Array::f32(&[3, 1, 1], vec![1.0, 2.0, 2.0]));
    }

    #[test]
    fn gates_by_hand() {
        // Gates of 0 are open by half.
        let half = Activation { op: UnaryOp::HardSigmoid, alpha: 0.2, beta: 0.5 };
        let x = f(&[2, 1, 4], &[0.0, 0.0, 0.0, 4.0, 0.0, 0.0, 0.0, 8.0]);
        let op = Op::Lstm { way: FORWARD, functions: [half, LINEAR, LINEAR], input_forget: false };
        let y = eval(op, &[x, f(&[1, 4], &[0.0; 4])], &like(DType::F32, &[2, 1, 1], None));
        // c = 2, 1 + 4.
        assert_eq!(y, Array::f32(&[2, 1, 1], vec![1.0, 2.5]));
        let x = f(&[2, 1, 3], &[0.0, 0.0, 4.0, 0.0, 0.0, 4.0]);
        let r = f(&[1, 3], &[0.0, 0.0, 1.0]);
        let op = Op::Gru { way: FORWARD, functions: [half, LINEAR], linear_before_reset: false };
        let y = eval(op, &[x, r], &like(DType::F32, &[2, 1, 1], None));
        // 4/2, then (4 + 2/2)/2 + 2/2.
        assert_eq!(y, Array::f32(&[2, 1, 1], vec![2.0, 3.5]));
    }
}
