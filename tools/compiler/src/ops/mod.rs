//! The table of ONNX operators: one row each, one file a family.
//!
//! An importer turns a node into one or a few nodes of the graph's canonical operators ([`Op`](crate::graph::Op)); it is
//! where differences between operator sets end. `docs/operators.md` is printed from this table.

mod control;
mod conv;
mod dft;
mod einsum;
mod elementwise;
mod matmul;
mod movement;
mod normalize;
mod pool;
mod quantize;
mod random;
mod reduce;
mod sequence;
mod shape;
mod state_space;

use crate::import::{Context, Failure};

/// Imports one node.
pub type Import = fn(&mut Context<'_, '_>) -> Result<(), Failure>;

/// One operator.
pub struct Row {
    /// ONNX name.
    pub name: &'static str,
    /// Its importer.
    pub import: Import,
    /// What it becomes: the step kind of the runtime, or "folds" if it only ever describes shapes and constants.
    pub becomes: &'static str,
    /// Restrictions, for the documentation.
    pub notes: &'static str,
}

macro_rules! table {
    ($($name:literal, $import:path, $becomes:literal $(, $notes:literal)?;)*) => {
        &[$(Row { name: $name, import: $import, becomes: $becomes, notes: concat!($($notes)?) },)*]
    };
}

/// Every operator of the domain ai.onnx that Kinglet reads.
pub const OPERATORS: &[Row] = table! {
    "Abs", elementwise::unary, "Unary";
    "Add", elementwise::binary, "Binary";
    "And", elementwise::binary, "Binary";
    "ArgMax", reduce::arg, "ArgMax";
    "ArgMin", reduce::arg, "ArgMax";
    "AveragePool", pool::pool, "Pool", "1-D and 2-D";
    "BatchNormalization", normalize::batch, "Ternary", "constant statistics; folded into a neighbouring convolution where that is exact";
    "Cast", elementwise::cast, "Convert";
    "Ceil", elementwise::unary, "Unary";
    "Clip", elementwise::clip, "Unary";
    "Concat", movement::concat, "Copy";
    "ConcatFromSequence", sequence::concat, "Copy";
    "Constant", shape::constant, "folds";
    "ConstantOfShape", shape::constant_of_shape, "folds";
    "Conv", conv::conv, "Conv or DepthwiseConv", "1-D and 2-D, constant weights";
    "ConvTranspose", conv::conv_transpose, "Conv", "1-D and 2-D, constant weights";
    "Cos", elementwise::unary, "Unary";
    "CumSum", reduce::cumsum, "CumSum";
    "DFT", dft::dft, "Conv", "a product with the constant DFT matrix";
    "DepthToSpace", movement::depth_to_space, "Copy";
    "DequantizeLinear", quantize::dequantize, "part of its neighbours, or Convert", "constant scales, not blocked";
    "Div", elementwise::binary, "Binary";
    "Dropout", shape::identity, "folds", "inference only";
    "Einsum", einsum::einsum, "MatMul and Copy", "each index at most once an operand";
    "Elu", elementwise::unary, "Unary";
    "Equal", elementwise::binary, "Binary";
    "Erf", elementwise::unary, "Unary";
    "Exp", elementwise::unary, "Unary";
    "Expand", movement::expand, "Copy";
    "Flatten", movement::flatten, "no step";
    "Floor", elementwise::unary, "Unary";
    "Gather", movement::gather, "Gather or Copy";
    "Gelu", elementwise::gelu, "Unary";
    "Gemm", matmul::gemm, "Conv or MatMul";
    "GlobalAveragePool", pool::global, "Reduce";
    "GlobalMaxPool", pool::global, "Reduce";
    "Greater", elementwise::binary, "Binary";
    "GreaterOrEqual", elementwise::binary, "Binary";
    "HardSigmoid", elementwise::unary, "Unary";
    "HardSwish", elementwise::unary, "Unary";
    "Identity", shape::identity, "folds";
    "If", control::branch, "its branch, or both and Ternary", "branches of one shape, unless the condition folds";
    "InstanceNormalization", normalize::instance, "Norm";
    "LayerNormalization", normalize::layer, "Norm";
    "LeakyRelu", elementwise::unary, "Unary";
    "Less", elementwise::binary, "Binary";
    "LessOrEqual", elementwise::binary, "Binary";
    "Log", elementwise::unary, "Unary";
    "LogSoftmax", normalize::softmax, "Softmax";
    "Loop", control::counted, "a band of its body's steps", "a trip count that does not depend on the data";
    "MatMul", matmul::matmul, "Conv or MatMul";
    "Max", elementwise::variadic, "Binary";
    "MaxPool", pool::pool, "Pool", "1-D and 2-D, without indices";
    "Mean", elementwise::variadic, "Binary";
    "Min", elementwise::variadic, "Binary";
    "Mish", elementwise::unary, "Unary";
    "Mul", elementwise::binary, "Binary";
    "Neg", elementwise::unary, "Unary";
    "Not", elementwise::unary, "Unary";
    "Or", elementwise::binary, "Binary";
    "PRelu", elementwise::binary, "Binary";
    "Pad", movement::pad, "Pad";
    "Pow", elementwise::pow, "Unary or Binary";
    "QLinearConv", conv::qlinear, "Conv or DepthwiseConv";
    "QLinearMatMul", matmul::qlinear, "Conv or MatMul";
    "QuantizeLinear", quantize::quantize, "part of its neighbours, or Convert", "constant scales, not blocked";
    "RMSNormalization", normalize::layer, "Norm";
    "RandomNormal", random::draw, "an input", "with --draws-as-inputs";
    "RandomNormalLike", random::draw, "an input", "with --draws-as-inputs";
    "RandomUniform", random::draw, "an input", "with --draws-as-inputs";
    "RandomUniformLike", random::draw, "an input", "with --draws-as-inputs";
    "Range", shape::range, "folds";
    "Reciprocal", elementwise::unary, "Unary";
    "ReduceL1", reduce::reduce, "Reduce";
    "ReduceL2", reduce::reduce, "Reduce";
    "ReduceMax", reduce::reduce, "Reduce";
    "ReduceMean", reduce::reduce, "Reduce";
    "ReduceMin", reduce::reduce, "Reduce";
    "ReduceProd", reduce::reduce, "Reduce";
    "ReduceSum", reduce::reduce, "Reduce";
    "ReduceSumSquare", reduce::reduce, "Reduce";
    "Relu", elementwise::unary, "Unary";
    "Reshape", movement::reshape, "no step";
    "Round", elementwise::unary, "Unary";
    "Scan", control::scan, "a band of its body's steps", "operator set 9 and later";
    "ScatterND", shape::scatter_nd, "folds", "constants only";
    "Selu", elementwise::unary, "Unary";
    "SequenceAt", sequence::at, "folds, or Copy";
    "SequenceConstruct", sequence::construct, "folds";
    "SequenceEmpty", sequence::construct, "folds";
    "SequenceErase", sequence::erase, "folds";
    "SequenceInsert", sequence::insert, "folds", "in the body of a loop at the end only";
    "SequenceLength", sequence::length, "folds";
    "Shape", shape::shape, "folds";
    "Sigmoid", elementwise::unary, "Unary";
    "Sign", elementwise::unary, "Unary";
    "Sin", elementwise::unary, "Unary";
    "Size", shape::size, "folds";
    "Slice", movement::slice, "Copy";
    "Softmax", normalize::softmax, "Softmax";
    "Softplus", elementwise::unary, "Unary";
    "Softsign", elementwise::unary, "Unary";
    "Split", movement::split, "Copy";
    "SplitToSequence", sequence::split, "Copy";
    "Sqrt", elementwise::unary, "Unary";
    "Squeeze", movement::squeeze, "no step";
    "Sub", elementwise::binary, "Binary";
    "Sum", elementwise::variadic, "Binary";
    "Swish", elementwise::unary, "Unary";
    "Tanh", elementwise::unary, "Unary";
    "Tile", movement::tile, "Copy";
    "Transpose", movement::transpose, "Copy";
    "Unsqueeze", movement::unsqueeze, "no step";
    "Where", elementwise::select, "Ternary";
    "Xor", elementwise::binary, "Binary";
};

/// The domain of Kinglet's own operators, and its version.
pub const OWN_DOMAIN: &str = "ai.kinglet";

/// Operators of the domain [`OWN_DOMAIN`]: recurrences by name, for exporters that write custom nodes.
pub const OWN_OPERATORS: &[Row] = table! {
    "LegendreMemory", state_space::legendre_memory, "LegendreMemory", "constant A and B";
    "SelectiveScan", state_space::selective_scan, "SelectiveScan";
};

/// The row of an operator.
pub fn find(domain: &str, name: &str) -> Option<&'static Row> {
    let rows = match domain {
        "" | "ai.onnx" => OPERATORS,
        OWN_DOMAIN => OWN_OPERATORS,
        _ => return None,
    };
    rows.binary_search_by(|row| row.name.cmp(name)).ok().map(|i| &rows[i])
}

/// Whether an operator may have sequences among its inputs; its importer says which of them.
pub fn takes_sequences(name: &str) -> bool {
    matches!(name, "Loop" | "Scan" | "Identity") || name.contains("Sequence")
}

/// Why an operator without a row is not supported, and what helps.
pub fn why_unsupported(domain: &str, name: &str) -> (String, String) {
    let (reason, remedy) = match name {
        "Bernoulli" | "Multinomial" => {
            ("a run must give the same result every time", "export the model with its random draws as inputs")
        }
        "DynamicQuantizeLinear" => ("scales must be known before the run", "quantise the model statically"),
        _ => ("there is no kernel for this operator", ""),
    };
    if matches!(domain, "" | "ai.onnx") {
        (reason.into(), remedy.into())
    } else {
        (format!("operators of the domain `{domain}` are not known"), "export with operators of ai.onnx".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_and_unique() {
        for rows in [OPERATORS, OWN_OPERATORS] {
            assert!(rows.windows(2).all(|w| w[0].name < w[1].name));
        }
        assert!(find("", "Conv").is_some() && find("com.microsoft", "Conv").is_none());
    }
}
