//! Element types that the file has and tensors here do not: floats of 16 and 64 bits, integers without a sign, those of few bits. What a
//! name stands for is computed in the type of its tensor; what the file calls it matters to casts, and to sums that wrap.

use kinglet_onnx::{DataType, NodeProto};

use super::scope::{Frame, Value};
use super::tensor::code_of;
use super::{Context, Failure, Importer};
use crate::graph::BinaryOp;

/// Operators whose outputs have element types of their own, not that of an input, unless they say so themselves.
const OWN_TYPE: [&str; 19] = [
    "ArgMax",
    "ArgMin",
    "BitCast",
    "Cast",
    "CastLike",
    "ConstantOfShape",
    "DynamicQuantizeLinear",
    "EyeLike",
    "If",
    "Loop",
    "NonMaxSuppression",
    "NonZero",
    "QuantizeLinear",
    "Scan",
    "SequenceLength",
    "Shape",
    "Size",
    "TfIdfVectorizer",
    "Unique",
];

/// Operators whose first output alone has the type of an input.
const FIRST_ALONE: [&str; 2] = ["MaxPool", "TopK"];

/// Operators whose results may have more bits than their operands.
const GROWING: [&str; 19] = [
    "Add",
    "BitShift",
    "BitwiseNot",
    "CumProd",
    "CumSum",
    "Einsum",
    "Gemm",
    "MatMul",
    "Mul",
    "Neg",
    "Pow",
    "ReduceL1",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
    "ScatterElements",
    "ScatterND",
    "Sub",
    "Sum",
];

impl Importer<'_> {
    /// What a node computes has the element type of its first input that is the same here, if the node itself has not said. Integers of 32
    /// bits without a sign wrap as such.
    pub(super) fn types_follow(&mut self, node: &NodeProto, opset: i64) -> Result<(), Failure> {
        let op = node.op_type.as_str();
        let tensor = |frame: &Frame, name: &str| match frame.find(name) {
            Some(Value::Tensor(t)) => Some(*t),
            _ => None,
        };
        for (k, out) in node.output.iter().enumerate().filter(|(_, o)| !o.is_empty()) {
            let Some(t) = tensor(&self.frame, out).filter(|_| self.frame.type_of(out).is_none()) else { continue };
            let dtype = self.frame.graph.tensors[t].dtype;
            if OWN_TYPE.contains(&op) || k > 0 && FIRST_ALONE.contains(&op) {
                self.frame.set_type(out, code_of(dtype));
                continue;
            }
            let alike =
                |name: &&String| tensor(&self.frame, name).is_some_and(|t| self.frame.graph.tensors[t].dtype == dtype);
            let Some(code) = node.input.iter().find(alike).and_then(|i| self.frame.type_of(i)) else { continue };
            if code == DataType::Uint32 as i32 && GROWING.contains(&op) {
                let wrapped =
                    Context::new(self, node, opset).binary_with(BinaryOp::BitwiseAnd, t, f64::from(u32::MAX))?;
                self.frame.define(out.clone(), Value::Tensor(wrapped));
            }
            self.frame.set_type(out, code);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kinglet::DType;
    use kinglet_onnx::DataType;

    use crate::array::Array;
    use crate::import::testing::{answer, model, node};

    /// What `nodes` make of x `[2]` u32, held as i64.
    fn of(nodes: Vec<kinglet_onnx::NodeProto>, x: &[i64]) -> Vec<i64> {
        let m = model(&[("x", DataType::Uint32, &[2])], nodes, "y");
        answer(&m, &[Array::int(DType::I64, &[2], x.to_vec())]).ints().into_owned()
    }

    #[test]
    fn integers_without_a_sign_wrap() {
        let x = [0xffff_ffff, 7];
        assert_eq!(of(vec![node("Add", "x x", "y")], &x), [0xffff_fffe, 14]);
        assert_eq!(of(vec![node("CumSum", "x zero", "y")], &x), [0xffff_ffff, 6]);
        assert_eq!(of(vec![node("ReduceSum", "x", "y")], &x), [6]);
        assert_eq!(of(vec![node("Pow", "x two", "p"), node("Identity", "p", "y")], &x), [1, 49]);
        assert_eq!(of(vec![node("BitwiseNot", "x", "y")], &x), [0, 0xffff_fff8]);
    }

    #[test]
    fn other_integers_do_not() {
        // A shape, a place and what was cast are no longer of the type of x.
        assert_eq!(of(vec![node("Shape", "x", "s"), node("Sub", "s five", "y")], &[1, 2]), [-3]);
        assert_eq!(of(vec![node("ArgMax", "x", "a"), node("Sub", "a five", "y")], &[1, 2]), [-4]);
        let mut cast = node("Cast", "x", "c");
        cast.attribute.push(kinglet_onnx::AttributeProto { name: "to".into(), i: 7, r#type: 2, ..Default::default() });
        assert_eq!(of(vec![cast, node("Sub", "c five", "y")], &[1, 2]), [-4, -3]);
    }
}
