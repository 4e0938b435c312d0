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
mod resize;
mod sequence;
mod shape;
mod signature;
mod state_space;

use crate::import::{Context, Failure};
pub use signature::{MANY, Operand, Signature};

/// Imports one node.
pub type Import = fn(&mut Context<'_, '_>) -> Result<(), Failure>;

/// One operator.
pub struct Row {
    /// ONNX name.
    pub name: &'static str,
    /// What a node of it may have.
    pub signature: Signature,
    /// Its importer.
    pub import: Import,
    /// What it becomes: the step kind of the runtime, or "folds" if it only ever describes shapes and constants.
    pub becomes: &'static str,
    /// Restrictions, for the documentation.
    pub notes: &'static str,
}

/// Rows: name, signature, importer, what it becomes, and restrictions if there are any.
macro_rules! table {
    ($($name:literal ($since:literal: $inputs:literal => $outputs:tt; $attributes:literal),
        $import:path, $becomes:literal $(, $notes:literal)?;)*) => {
        &[$(Row {
            name: $name,
            signature: Signature { since: $since, inputs: $inputs, outputs: $outputs, attributes: $attributes },
            import: $import,
            becomes: $becomes,
            notes: concat!($($notes)?),
        },)*]
    };
}

/// Every operator of the domain ai.onnx that Kinglet reads.
pub const OPERATORS: &[Row] = table! {
    "Abs" (1: "T" => 1; ""), elementwise::unary, "Unary";
    "Add" (1: "T T" => 1; "axis:i<7 broadcast:i<7"), elementwise::binary, "Binary";
    "And" (1: "bool bool" => 1; "axis:i<7 broadcast:i<7"), elementwise::binary, "Binary";
    "ArgMax" (1: "T" => 1; "axis:i keepdims:i select_last_index:i>=12"), reduce::arg, "ArgMax";
    "ArgMin" (1: "T" => 1; "axis:i keepdims:i select_last_index:i>=12"), reduce::arg, "ArgMax";
    "AveragePool" (1: "T" => 1;
        "auto_pad:s ceil_mode:i>=10 count_include_pad:i>=7 dilations:I>=19 kernel_shape:I pads:I strides:I"),
        pool::pool, "Pool", "1-D and 2-D";
    "BatchNormalization" (1: "T T T T T" => 5; "epsilon:f is_test:i<7 momentum:f spatial:i<9 training_mode:i>=14"),
        normalize::batch, "Ternary", "constant statistics; folded into a neighbouring convolution where that is exact";
    "Cast" (6: "T1" => 1; "round_mode:s>=24 saturate:i>=19 to:i"), elementwise::cast, "Convert";
    "Ceil" (1: "T" => 1; ""), elementwise::unary, "Unary";
    "Clip" (1: "T T?>=11 T?>=11" => 1; "max:f<11 min:f<11"), elementwise::clip, "Unary";
    "Concat" (1: "T*" => 1; "axis:i"), movement::concat, "Copy";
    "ConcatFromSequence" (11: "_" => 1; "axis:i new_axis:i"), sequence::concat, "Copy";
    "Constant" (1: "" => 1;
        "sparse_value:p>=11 value:t value_float:f>=12 value_floats:F>=12 value_int:i>=12 value_ints:I>=12 value_string:s>=12 value_strings:S>=12"),
        shape::constant, "folds";
    "ConstantOfShape" (9: "int64" => 1; "value:t"), shape::constant_of_shape, "folds";
    "Conv" (1: "T T T?" => 1; "auto_pad:s dilations:I group:i kernel_shape:I pads:I strides:I"),
        conv::conv, "Conv… or Depthwise…", "1-D and 2-D, constant weights";
    "ConvTranspose" (1: "T T T?" => 1;
        "auto_pad:s dilations:I group:i kernel_shape:I output_padding:I output_shape:I pads:I strides:I"),
        conv::conv_transpose, "Conv", "1-D and 2-D, constant weights";
    "Cos" (7: "T" => 1; ""), elementwise::unary, "Unary";
    "CumSum" (11: "T index" => 1; "exclusive:i reverse:i"), reduce::cumsum, "CumSum";
    "DFT" (17: "T index? int64?>=20" => 1; "axis:i<20 inverse:i onesided:i"),
        dft::dft, "Conv", "a product with the constant DFT matrix";
    "DepthToSpace" (1: "T" => 1; "blocksize:i mode:s>=11"), movement::depth_to_space, "Copy";
    "DequantizeLinear" (10: "T float T?" => 1; "axis:i>=13 block_size:i>=21 output_dtype:i>=23"),
        quantize::dequantize, "part of its neighbours, or Convert", "constant scales, not blocked";
    "Div" (1: "T T" => 1; "axis:i<7 broadcast:i<7"), elementwise::binary, "Binary";
    "Dropout" (1: "T U?>=12 bool?>=12" => 2; "is_test:i<7 ratio:f<12 seed:i>=12"),
        shape::dropout, "folds", "inference only";
    "Einsum" (12: "T*" => 1; "equation:s"), einsum::einsum, "MatMul and Copy", "each index at most once an operand";
    "Elu" (1: "T" => 1; "alpha:f"), elementwise::unary, "Unary";
    "Equal" (1: "T T" => 1; "axis:i<7 broadcast:i<7"), elementwise::binary, "Binary";
    "Erf" (9: "T" => 1; ""), elementwise::unary, "Unary";
    "Exp" (1: "T" => 1; ""), elementwise::unary, "Unary";
    "Expand" (8: "T int64" => 1; ""), movement::expand, "Copy";
    "Flatten" (1: "T" => 1; "axis:i"), movement::flatten, "no step";
    "Floor" (1: "T" => 1; ""), elementwise::unary, "Unary";
    "Gather" (1: "T index" => 1; "axis:i"), movement::gather, "Gather or Copy";
    "Gelu" (20: "T" => 1; "approximate:s"), elementwise::gelu, "Unary";
    "Gemm" (1: "T T T?" => 1; "alpha:f beta:f broadcast:i<7 transA:i transB:i"), matmul::gemm, "Conv or MatMul";
    "GlobalAveragePool" (1: "T" => 1; ""), pool::global, "Reduce";
    "GlobalMaxPool" (1: "T" => 1; ""), pool::global, "Reduce";
    "Greater" (1: "T T" => 1; "axis:i<7 broadcast:i<7"), elementwise::binary, "Binary";
    "GreaterOrEqual" (12: "T T" => 1; ""), elementwise::binary, "Binary";
    "HardSigmoid" (1: "T" => 1; "alpha:f beta:f"), elementwise::unary, "Unary";
    "HardSwish" (14: "T" => 1; ""), elementwise::unary, "Unary";
    "Identity" (1: "_" => 1; ""), shape::identity, "folds";
    "If" (1: "bool" => MANY; "else_branch:g then_branch:g"),
        control::branch, "its branch, or both and Ternary", "branches of one shape, unless the condition folds";
    "InstanceNormalization" (1: "T T T" => 1; "epsilon:f"), normalize::instance, "Norm";
    "LayerNormalization" (17: "T T T?" => 3; "axis:i epsilon:f stash_type:i"), normalize::layer, "Norm";
    "LeakyRelu" (1: "T" => 1; "alpha:f"), elementwise::unary, "Unary";
    "Less" (1: "T T" => 1; "axis:i<7 broadcast:i<7"), elementwise::binary, "Binary";
    "LessOrEqual" (12: "T T" => 1; ""), elementwise::binary, "Binary";
    "Log" (1: "T" => 1; ""), elementwise::unary, "Unary";
    "LogSoftmax" (1: "T" => 1; "axis:i"), normalize::softmax, "Softmax";
    "Loop" (1: "int64? bool? _*" => MANY; "body:g"),
        control::counted, "a band of its body's steps", "a trip count that does not depend on the data";
    "MatMul" (1: "T T" => 1; ""), matmul::matmul, "Conv or MatMul";
    "Max" (1: "T*" => 1; ""), elementwise::variadic, "Binary";
    "MaxPool" (1: "T" => 2;
        "auto_pad:s ceil_mode:i>=10 dilations:I>=10 kernel_shape:I pads:I storage_order:i>=8 strides:I"),
        pool::pool, "Pool", "1-D and 2-D, without indices";
    "Mean" (1: "T*" => 1; ""), elementwise::variadic, "Binary";
    "Min" (1: "T*" => 1; ""), elementwise::variadic, "Binary";
    "Mish" (18: "T" => 1; ""), elementwise::unary, "Unary";
    "Mul" (1: "T T" => 1; "axis:i<7 broadcast:i<7"), elementwise::binary, "Binary";
    "Neg" (1: "T" => 1; ""), elementwise::unary, "Unary";
    "Not" (1: "bool" => 1; ""), elementwise::unary, "Unary";
    "Or" (1: "bool bool" => 1; "axis:i<7 broadcast:i<7"), elementwise::binary, "Binary";
    "PRelu" (1: "T T" => 1; ""), elementwise::binary, "Binary";
    "Pad" (2: "T int64>=11 T?>=11 index?>=18" => 1; "mode:s pads:I<11 value:f<11"), movement::pad, "Pad";
    "Pow" (1: "T U" => 1; "axis:i<7 broadcast:i<7"), elementwise::pow, "Unary or Binary";
    "QLinearConv" (10: "A float A B float B float C int32?" => 1;
        "auto_pad:s dilations:I group:i kernel_shape:I pads:I strides:I"),
        conv::qlinear, "Conv… or Depthwise…";
    "QLinearMatMul" (10: "A float A B float B float C" => 1; ""), matmul::qlinear, "Conv or MatMul";
    "QuantizeLinear" (10: "T float U?" => 1;
        "axis:i>=13 block_size:i>=21 output_dtype:i>=21 precision:i>=23 saturate:i>=19"),
        quantize::quantize, "part of its neighbours, or Convert", "constant scales, not blocked";
    "RMSNormalization" (23: "T T" => 1; "axis:i epsilon:f stash_type:i"), normalize::layer, "Norm";
    "RandomNormal" (1: "" => 1; "dtype:i mean:f scale:f seed:f shape:I"),
        random::draw, "an input", "with --draws-as-inputs";
    "RandomNormalLike" (1: "T1" => 1; "dtype:i mean:f scale:f seed:f"),
        random::draw, "an input", "with --draws-as-inputs";
    "RandomUniform" (1: "" => 1; "dtype:i high:f low:f seed:f shape:I"),
        random::draw, "an input", "with --draws-as-inputs";
    "RandomUniformLike" (1: "T1" => 1; "dtype:i high:f low:f seed:f"),
        random::draw, "an input", "with --draws-as-inputs";
    "Range" (11: "T T T" => 1; "stash_type:i>=27"), shape::range, "folds";
    "Reciprocal" (1: "T" => 1; ""), elementwise::unary, "Unary";
    "ReduceL1" (1: "T int64?>=18" => 1; "axes:I<18 keepdims:i noop_with_empty_axes:i>=18"), reduce::reduce, "Reduce";
    "ReduceL2" (1: "T int64?>=18" => 1; "axes:I<18 keepdims:i noop_with_empty_axes:i>=18"), reduce::reduce, "Reduce";
    "ReduceMax" (1: "T int64?>=18" => 1; "axes:I<18 keepdims:i noop_with_empty_axes:i>=18"), reduce::reduce, "Reduce";
    "ReduceMean" (1: "T int64?>=18" => 1; "axes:I<18 keepdims:i noop_with_empty_axes:i>=18"), reduce::reduce, "Reduce";
    "ReduceMin" (1: "T int64?>=18" => 1; "axes:I<18 keepdims:i noop_with_empty_axes:i>=18"), reduce::reduce, "Reduce";
    "ReduceProd" (1: "T int64?>=18" => 1; "axes:I<18 keepdims:i noop_with_empty_axes:i>=18"), reduce::reduce, "Reduce";
    "ReduceSum" (1: "T int64?>=13" => 1; "axes:I<13 keepdims:i noop_with_empty_axes:i>=13"), reduce::reduce, "Reduce";
    "ReduceSumSquare" (1: "T int64?>=18" => 1; "axes:I<18 keepdims:i noop_with_empty_axes:i>=18"),
        reduce::reduce, "Reduce";
    "Relu" (1: "T" => 1; ""), elementwise::unary, "Unary";
    "Reshape" (1: "T int64>=5" => 1; "allowzero:i>=14 shape:I<5"), movement::reshape, "no step";
    "Resize" (10: "T float<11 T2?>=11 float?>=11 int64?>=11" => 1;
        "antialias:i>=18 axes:I>=18 coordinate_transformation_mode:s>=11 cubic_coeff_a:f>=11 exclude_outside:i>=11 extrapolation_value:f>=11 keep_aspect_ratio_policy:s>=18 mode:s nearest_mode:s>=11"),
        resize::resize, "Copy, or Gather and Binary", "constant scales or sizes; without antialias and tf_crop_and_resize";
    "Round" (11: "T" => 1; ""), elementwise::unary, "Unary";
    "Scan" (9: "_*" => MANY;
        "body:g num_scan_inputs:i scan_input_axes:I scan_input_directions:I scan_output_axes:I scan_output_directions:I"),
        control::scan, "a band of its body's steps", "operator set 9 and later";
    "ScatterND" (11: "T int64 T" => 1; "reduction:s>=16"), shape::scatter_nd, "folds", "constants only";
    "Selu" (1: "T" => 1; "alpha:f gamma:f"), elementwise::unary, "Unary";
    "SequenceAt" (11: "_ index" => 1; ""), sequence::at, "folds, or Copy";
    "SequenceConstruct" (11: "T*" => 1; ""), sequence::construct, "folds";
    "SequenceEmpty" (11: "" => 1; "dtype:i"), sequence::construct, "folds";
    "SequenceErase" (11: "_ index?" => 1; ""), sequence::erase, "folds";
    "SequenceInsert" (11: "_ T index?" => 1; ""), sequence::insert, "folds", "in the body of a loop at the end only";
    "SequenceLength" (11: "_" => 1; ""), sequence::length, "folds";
    "Shape" (1: "T" => 1; "end:i>=15 start:i>=15"), shape::shape, "folds";
    "Sigmoid" (1: "T" => 1; ""), elementwise::unary, "Unary";
    "Sign" (9: "T" => 1; ""), elementwise::unary, "Unary";
    "Sin" (7: "T" => 1; ""), elementwise::unary, "Unary";
    "Size" (1: "T" => 1; ""), shape::size, "folds";
    "Slice" (1: "T index>=10 index>=10 index?>=10 index?>=10" => 1; "axes:I<10 ends:I<10 starts:I<10"),
        movement::slice, "Copy";
    "Softmax" (1: "T" => 1; "axis:i"), normalize::softmax, "Softmax";
    "Softplus" (1: "T" => 1; ""), elementwise::unary, "Unary";
    "Softsign" (1: "T" => 1; ""), elementwise::unary, "Unary";
    "Split" (2: "T int64?>=13" => MANY; "axis:i num_outputs:i>=18 split:I<13"), movement::split, "Copy";
    "SplitToSequence" (11: "T index?" => 1; "axis:i keepdims:i"), sequence::split, "Copy";
    "Sqrt" (1: "T" => 1; ""), elementwise::unary, "Unary";
    "Squeeze" (1: "T int64?>=13" => 1; "axes:I<13"), movement::squeeze, "no step";
    "Sub" (1: "T T" => 1; "axis:i<7 broadcast:i<7"), elementwise::binary, "Binary";
    "Sum" (1: "T*" => 1; ""), elementwise::variadic, "Binary";
    "Swish" (24: "T" => 1; "alpha:f"), elementwise::unary, "Unary";
    "Tanh" (1: "T" => 1; ""), elementwise::unary, "Unary";
    "Tile" (6: "T int64" => 1; ""), movement::tile, "Copy";
    "Transpose" (1: "T" => 1; "perm:I"), movement::transpose, "Copy";
    "Unsqueeze" (1: "T int64>=13" => 1; "axes:I<13"), movement::unsqueeze, "no step";
    "Upsample" (7: "T float>=9" => 1; "mode:s scales:F<9"),
        resize::upsample, "Copy, or Gather and Binary", "constant scales";
    "Where" (9: "bool T T" => 1; ""), elementwise::select, "Ternary";
    "Xor" (1: "bool bool" => 1; "axis:i<7 broadcast:i<7"), elementwise::binary, "Binary";
};

/// The newest operator set of ai.onnx that the table knows: that of ONNX 1.23, read in November 2026. What a later one says of
/// an operator is not known.
pub const NEWEST_OPSET: i64 = 28;

/// The domain of Kinglet's own operators.
pub const OWN_DOMAIN: &str = "ai.kinglet";

/// The newest operator set of each domain of which anything is known. com.microsoft and Kinglet's own never had another.
pub const NEWEST: &[(&str, i64)] =
    &[("", NEWEST_OPSET), ("ai.onnx", NEWEST_OPSET), ("com.microsoft", 1), (OWN_DOMAIN, 1)];

/// Operators of the domain [`OWN_DOMAIN`]: recurrences by name, for exporters that write custom nodes.
pub const OWN_OPERATORS: &[Row] = table! {
    "LegendreMemory" (1: "T T T T?" => 2; ""), state_space::legendre_memory, "LegendreMemory", "constant A and B";
    "SelectiveScan" (1: "T T T T T T? T? T?" => 2; "delta_softplus:i"), state_space::selective_scan, "SelectiveScan";
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
