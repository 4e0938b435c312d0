//! Recurrent layers: a step a direction.

use kinglet::kernels::{Gru, Layer, Lstm, Rnn};
use kinglet::{DType, StepKind};

use super::{DEFECT, Extra, Lowerer, Result, no_kernel};
use crate::graph::{Node, Op, TensorId, Way};

impl Lowerer<'_> {
    /// An LSTM, a GRU or an RNN in one direction.
    pub(super) fn recurrent(&mut self, node: &Node) -> Result<()> {
        let inputs: Vec<Option<TensorId>> = (0..6).map(|i| node.inputs.get(i).copied().flatten()).collect();
        let (x, r) = (inputs[0].expect("x is there"), inputs[1].expect("R is there"));
        let &[time, batch, width] = self.shape(x) else { return Err(no_kernel("x has not three axes", DEFECT)) };
        let hidden = self.shape(r)[0];
        // What the kernel takes as it is: R, and of a GRU the bias behind the reset, of an LSTM the peepholes.
        let own =
            [Some(1), matches!(node.op, Op::Gru { .. }).then_some(4), matches!(node.op, Op::Lstm { .. }).then_some(5)];
        for t in own.into_iter().flatten().filter_map(|i| inputs[i]) {
            if self.graph.tensors[t].dtype != DType::F32 {
                return Err(no_kernel("the recurrent weights must be f32", "dequantise them"));
            }
        }
        let layer = |way: Way| Layer {
            time: time as u32,
            batch: batch as u32,
            hidden: hidden as u32,
            reverse: way.reverse,
            clip: way.clip,
        };
        let operands = |l: &mut Self, n: usize| inputs[..n].iter().map(|t| t.map(|t| l.operand(t))).collect::<Vec<_>>();
        let macs = (time * batch) as u64 * (hidden * width) as u64;
        let extra = |scratch: usize| Extra { macs, scratch: scratch as u64, ..Extra::rows(batch) };
        match node.op {
            Op::Lstm { way, functions: [f, g, h], input_forget } => {
                let operands = operands(self, 6);
                let y = self.buffer_tensor(node.output);
                let cell = match node.more.first() {
                    Some(&t) => self.buffer_tensor(t),
                    None => self.temporary(DType::F32, &[batch, hidden]),
                };
                let params = Lstm { layer: layer(way), f, g, h, input_forget };
                let extra = extra(Lstm::scratch(hidden));
                self.emit_all(node, StepKind::Lstm, params, operands, vec![y, cell], extra);
            }
            Op::Gru { way, functions: [f, g], linear_before_reset } => {
                let operands = operands(self, 5);
                let y = self.buffer_tensor(node.output);
                let params = Gru { layer: layer(way), f, g, linear_before_reset };
                self.emit(node, StepKind::Gru, params, operands, y, extra(Gru::scratch(hidden)));
            }
            Op::Rnn { way, function: f } => {
                let operands = operands(self, 4);
                let y = self.buffer_tensor(node.output);
                let params = Rnn { layer: layer(way), f };
                self.emit(node, StepKind::Rnn, params, operands, y, extra(Rnn::scratch(hidden)));
            }
            _ => return Err(no_kernel("it is no recurrent layer", DEFECT)),
        }
        Ok(())
    }
}
