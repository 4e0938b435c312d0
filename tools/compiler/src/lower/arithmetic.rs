//! The type that a step computes in, and why it is float where it is.

use kinglet::{DType, StepKind};

use super::{Lowerer, Place, PlanTensorId};
use crate::graph::{Node, Op, TensorId};

impl Lowerer<'_> {
    /// The type a step computes in and, if that is float, why.
    pub(super) fn arithmetic(
        &self,
        node: &Node,
        kind: StepKind,
        inputs: &[Option<PlanTensorId>],
        output: PlanTensorId,
    ) -> (DType, Option<String>) {
        let dtype = |p: PlanTensorId| self.out.tensors[p].dtype;
        let first = inputs.first().copied().flatten().map_or(DType::F32, dtype);
        let out = dtype(output);
        if matches!(kind, StepKind::Feed | StepKind::GoOn) {
            return (out, None);
        }
        let moves = matches!(kind, StepKind::Copy | StepKind::Gather | StepKind::Lut);
        let product = matches!(kind, StepKind::ConvI8 | StepKind::DepthwiseI8 | StepKind::MatMulI8);
        if (product || moves) && !first.is_float() {
            return (first, None);
        }
        let computed: Vec<DType> = inputs
            .iter()
            .flatten()
            .filter(|&&p| matches!(self.out.tensors[p].place, Place::Buffer(_)))
            .map(|&p| dtype(p))
            .collect();
        // Means over windows are of quantised elements, whatever their sums are.
        let (computed, out) = match (&node.op, node.inputs.first().copied().flatten()) {
            (Op::Pool { .. }, Some(t)) => (vec![self.graph.tensors[t].dtype], self.graph.tensors[node.output].dtype),
            _ => (computed, out),
        };
        if !computed.iter().any(|d| d.is_float()) {
            let reason = match node.op {
                Op::Dequantize => "it hands a quantised tensor to a float reader".into(),
                _ => format!("its result is f32: no QuantizeLinear follows {}", node.op.name()),
            };
            return if out.is_float() { (DType::F32, Some(reason)) } else { (first, None) };
        }
        let reason = match node.op {
            Op::Quantize => "it quantises a float tensor".into(),
            Op::Conv { .. } | Op::ConvTranspose { .. } | Op::MatMul { .. } => self.why_float_product(node),
            _ => "its input is f32".into(),
        };
        let halves = matches!(kind, StepKind::ConvF16 | StepKind::DepthwiseF16) && first == DType::F16;
        (if halves { DType::F16 } else { DType::F32 }, Some(reason))
    }

    fn why_float_product(&self, node: &Node) -> String {
        let dequantized = |t: &Option<TensorId>| {
            let t = (*t)?;
            let made = self.graph.nodes.iter().find(|n| n.output == t);
            made.filter(|n| matches!(n.op, Op::Dequantize)).and_then(|n| n.inputs[0])
        };
        // Only where both operands are quantised is it for us that the product runs in float.
        let operands: Vec<Option<TensorId>> = node.inputs.iter().take(2).map(dequantized).collect();
        if let [Some(x), Some(w)] = operands[..] {
            let why = crate::passes::quant::why_not_integer(self.graph, &node.op, x, w, node.output);
            return why
                .unwrap_or_else(|| "its operands are quantised in a form that integer products do not take".into());
        }
        "its operands are f32 in the model".into()
    }
}
