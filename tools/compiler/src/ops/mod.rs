//! The table of ONNX operators: one row each, one file a family.
//!
//! An importer turns a node into one or a few nodes of the graph's canonical operators ([`Op`](crate::graph::Op)); it is
//! where differences between operator sets end. `docs/operators.md` is printed from this table.

mod activation;
mod attention;
mod caches;
mod cast;
mod contrib;
mod control;
mod conv;
mod deform;
mod dft;
mod einsum;
mod elementwise;
mod geometry;
mod indices;
mod linear_attention;
mod loss;
mod matmul;
mod movement;
mod ngrams;
mod normalize;
mod pool;
mod quantize;
mod random;
mod recurrent;
mod reduce;
mod resize;
mod sampling;
mod sequence;
mod shape;
mod signature;
mod spectrum;
mod state_space;
mod unfold;

use crate::import::{Context, Failure};
pub use contrib::CONTRIB_OPERATORS;
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

use table;

/// Every operator of the domain ai.onnx that Kinglet reads.
pub const OPERATORS: &[Row] = table! {
    "Abs" (1: "T" => 1; ""), elementwise::unary, "Unary";
    "Acos" (7: "T" => 1; ""), elementwise::unary, "Unary";
    "Acosh" (9: "T" => 1; ""), elementwise::unary, "Unary";
    "Add" (1: "T T" => 1; "axis:i<7 broadcast:i<7"), elementwise::binary, "Binary";
    "AffineGrid" (20: "T int64" => 1; "align_corners:i"), geometry::affine_grid, "MatMul", "constant size";
    "And" (1: "bool bool" => 1; "axis:i<7 broadcast:i<7"), elementwise::binary, "Binary";
    "ArgMax" (1: "T" => 1; "axis:i keepdims:i select_last_index:i>=12"), reduce::arg, "ArgMax";
    "ArgMin" (1: "T" => 1; "axis:i keepdims:i select_last_index:i>=12"), reduce::arg, "ArgMax";
    "Asin" (7: "T" => 1; ""), elementwise::unary, "Unary";
    "Asinh" (9: "T" => 1; ""), elementwise::unary, "Unary";
    "Atan" (7: "T" => 1; ""), elementwise::unary, "Unary";
    "Atanh" (9: "T" => 1; ""), elementwise::unary, "Unary";
    "Attention" (23: "T T T U? T? T? int64?>=24" => 4;
        "is_causal:i kv_num_heads:i left_window_size:i>=25 q_num_heads:i qk_matmul_output_mode:i right_window_size:i>=25 scale:f softcap:f softmax_precision:i"),
        attention::attention, "MatMul and Softmax";
    "AveragePool" (1: "T" => 1;
        "auto_pad:s ceil_mode:i>=10 count_include_pad:i>=7 dilations:I>=19 kernel_shape:I pads:I strides:I"),
        pool::pool, "Pool";
    "BatchNormalization" (1: "T T T T T" => 5; "epsilon:f is_test:i<7 momentum:f spatial:i<9 training_mode:i>=14"),
        normalize::batch, "Ternary", "folded into a neighbouring convolution where that is exact; computed statistics as Binary";
    "BitCast" (26: "_" => 1; "to:i"), cast::bit_cast, "Convert", "between integers of one width, or of a constant";
    "BitShift" (11: "T T" => 1; "direction:s"), elementwise::bit_shift, "Binary";
    "BitwiseAnd" (18: "T T" => 1; ""), elementwise::binary, "Binary";
    "BitwiseNot" (18: "T" => 1; ""), elementwise::unary, "Unary";
    "BitwiseOr" (18: "T T" => 1; ""), elementwise::binary, "Binary";
    "BitwiseXor" (18: "T T" => 1; ""), elementwise::binary, "Binary";
    "BlackmanWindow" (17: "index" => 1; "output_datatype:i periodic:i"), spectrum::window, "folds", "constant size";
    "Cast" (6: "T1" => 1; "round_mode:s>=24 saturate:i>=19 to:i"), cast::cast, "Convert";
    "CastLike" (15: "T1 T2" => 1; "round_mode:s>=24 saturate:i>=19"), cast::cast_like, "Convert";
    "CausalConvWithState" (27: "T T T? T?" => 2; "activation:s"), linear_attention::causal_conv, "Depthwise… and Copy";
    "Ceil" (1: "T" => 1; ""), elementwise::unary, "Unary";
    "Celu" (12: "T" => 1; "alpha:f"), activation::celu, "Unary";
    "CenterCropPad" (18: "T index" => 1; "axes:I"), movement::center_crop_pad, "Copy and Pad";
    "Clip" (1: "T T?>=11 T?>=11" => 1; "max:f<11 min:f<11"), activation::clip, "Unary";
    "Col2Im" (18: "T int64 int64" => 1; "dilations:I pads:I strides:I"), conv::col2im, "Conv";
    "Compress" (9: "T bool" => 1; "axis:i"), indices::compress, "Gather or Copy", "a constant condition";
    "Concat" (1: "T*" => 1; "axis:i"), movement::concat, "Copy";
    "ConcatFromSequence" (11: "_" => 1; "axis:i new_axis:i"), sequence::concat, "Copy";
    "Constant" (1: "" => 1;
        "sparse_value:p>=11 value:t value_float:f>=12 value_floats:F>=12 value_int:i>=12 value_ints:I>=12 value_string:s>=12 value_strings:S>=12"),
        shape::constant, "folds";
    "ConstantOfShape" (9: "int64" => 1; "value:t"), shape::constant_of_shape, "folds";
    "Conv" (1: "T T T?" => 1; "auto_pad:s dilations:I group:i kernel_shape:I pads:I strides:I"),
        conv::conv, "Conv… or Depthwise…", "computed weights, and more than 3 spatial axes, as a MatMul";
    "ConvInteger" (10: "A B A? B?" => 1; "auto_pad:s dilations:I group:i kernel_shape:I pads:I strides:I"), conv::integer, "Conv… or Depthwise…";
    "ConvTranspose" (1: "T T T?" => 1;
        "auto_pad:s dilations:I group:i kernel_shape:I output_padding:I output_shape:I pads:I strides:I"),
        conv::conv_transpose, "Conv", "computed weights, and more than 2 spatial axes, as a MatMul";
    "Cos" (7: "T" => 1; ""), elementwise::unary, "Unary";
    "Cosh" (9: "T" => 1; ""), elementwise::unary, "Unary";
    "CumProd" (26: "T index" => 1; "exclusive:i reverse:i"), reduce::cumprod, "Binary and Copy";
    "CumSum" (11: "T index" => 1; "exclusive:i reverse:i"), reduce::cumsum, "CumSum";
    "DFT" (17: "T index? int64?>=20" => 1; "axis:i<20 inverse:i onesided:i"),
        dft::dft, "Conv", "a product with the constant DFT matrix";
    "DeformConv" (19: "T T T T? T?" => 1; "dilations:I group:i kernel_shape:I offset_group:i pads:I strides:I"),
        deform::deform_conv, "GridSample and Conv…", "1 to 3 spatial axes";
    "DepthToSpace" (1: "T" => 1; "blocksize:i mode:s>=11"), movement::depth_to_space, "Copy";
    "DequantizeLinear" (10: "T float T?" => 1; "axis:i>=13 block_size:i>=21 output_dtype:i>=23"),
        quantize::dequantize, "part of its neighbours, or Convert", "computed scales, and those of blocks, in f32";
    "Det" (11: "T" => 1; ""), geometry::det, "Binary", "of up to four rows";
    "Div" (1: "T T" => 1; "axis:i<7 broadcast:i<7"), elementwise::binary, "Binary";
    "Dropout" (1: "T U?>=12 bool?>=12" => 2; "is_test:i<7 ratio:f<12 seed:i>=12"),
        shape::dropout, "folds", "inference only";
    "DynamicQuantizeLinear" (11: "float" => 3; ""), quantize::dynamic_quantize, "Reduce, Unary and Binary";
    "Einsum" (12: "T*" => 1; "equation:s"), einsum::einsum, "MatMul and Copy";
    "Elu" (1: "T" => 1; "alpha:f"), elementwise::unary, "Unary";
    "Equal" (1: "T T" => 1; "axis:i<7 broadcast:i<7"), elementwise::binary, "Binary";
    "Erf" (9: "T" => 1; ""), elementwise::unary, "Unary";
    "Exp" (1: "T" => 1; ""), elementwise::unary, "Unary";
    "Expand" (8: "T int64" => 1; ""), movement::expand, "Copy";
    "EyeLike" (9: "T1" => 1; "dtype:i k:i"), indices::eye_like, "folds";
    "Flatten" (1: "T" => 1; "axis:i"), movement::flatten, "no step";
    "Floor" (1: "T" => 1; ""), elementwise::unary, "Unary";
    "GRU" (1: "T T T T? int32? T?" => 2;
        "activation_alpha:F activation_beta:F activations:S clip:f direction:s hidden_size:i layout:i>=14 linear_before_reset:i>=3 output_sequence:i<7"),
        recurrent::gru, "Conv or MatMul, and Gru", "a step a direction; activations of the runtime";
    "Gather" (1: "T index" => 1; "axis:i"), movement::gather, "Gather or Copy";
    "GatherElements" (11: "T index" => 1; "axis:i"), indices::gather_elements, "Gather and Binary";
    "GatherND" (11: "T int64" => 1; "batch_dims:i>=12"), indices::gather_nd, "Gather and Binary";
    "Gelu" (20: "T" => 1; "approximate:s"), activation::gelu, "Unary";
    "Gemm" (1: "T T T?" => 1; "alpha:f beta:f broadcast:i<7 transA:i transB:i"), matmul::gemm, "Conv or MatMul";
    "GlobalAveragePool" (1: "T" => 1; ""), pool::global, "Reduce";
    "GlobalLpPool" (2: "T" => 1; "p:i"), pool::global_lp, "Unary and Reduce";
    "GlobalMaxPool" (1: "T" => 1; ""), pool::global, "Reduce";
    "Greater" (1: "T T" => 1; "axis:i<7 broadcast:i<7"), elementwise::binary, "Binary";
    "GreaterOrEqual" (12: "T T" => 1; ""), elementwise::binary, "Binary";
    "GridSample" (16: "T1 T2" => 1; "align_corners:i mode:s padding_mode:s"), sampling::grid_sample, "GridSample", "1 to 3 spatial axes";
    "GroupNormalization" (18: "T T T" => 1; "epsilon:f num_groups:i stash_type:i>=21"), normalize::group, "Norm";
    "HammingWindow" (17: "index" => 1; "output_datatype:i periodic:i"), spectrum::window, "folds", "constant size";
    "HannWindow" (17: "index" => 1; "output_datatype:i periodic:i"), spectrum::window, "folds", "constant size";
    "HardSigmoid" (1: "T" => 1; "alpha:f beta:f"), elementwise::unary, "Unary";
    "HardSwish" (14: "T" => 1; ""), elementwise::unary, "Unary";
    "Hardmax" (1: "T" => 1; "axis:i"), indices::hardmax, "ArgMax and Binary";
    "Identity" (1: "_" => 1; ""), shape::identity, "folds";
    "If" (1: "bool" => MANY; "else_branch:g then_branch:g"),
        control::branch, "its branch, or both and Ternary", "branches of one shape, unless the condition folds";
    "InstanceNormalization" (1: "T T T" => 1; "epsilon:f"), normalize::instance, "Norm";
    "IsInf" (10: "T" => 1; "detect_negative:i detect_positive:i"), activation::is_inf, "Binary";
    "IsNaN" (9: "T" => 1; ""), activation::is_nan, "Binary";
    "LRN" (1: "T" => 1; "alpha:f beta:f bias:f size:i"), normalize::local_response, "Pool and Binary";
    "LSTM" (1: "T T T T? int32? T? T? T?" => 3;
        "activation_alpha:F activation_beta:F activations:S clip:f direction:s hidden_size:i input_forget:i layout:i>=14 output_sequence:i<7"),
        recurrent::lstm, "Conv or MatMul, and Lstm", "a step a direction; activations of the runtime";
    "LayerNormalization" (17: "T T T?" => 3; "axis:i epsilon:f stash_type:i"), normalize::layer, "Norm";
    "LeakyRelu" (1: "T" => 1; "alpha:f"), elementwise::unary, "Unary";
    "Less" (1: "T T" => 1; "axis:i<7 broadcast:i<7"), elementwise::binary, "Binary";
    "LessOrEqual" (12: "T T" => 1; ""), elementwise::binary, "Binary";
    "LinearAttention" (27: "T T T S? T? T?" => 2;
        "chunk_size:i kv_num_heads:i q_num_heads:i scale:f update_rule:s"),
        linear_attention::linear_attention, "MatMul and Binary", "written out frame by frame, at most 1024";
    "Log" (1: "T" => 1; ""), elementwise::unary, "Unary";
    "LogSoftmax" (1: "T" => 1; "axis:i"), normalize::softmax, "Softmax";
    "Loop" (1: "int64? bool? _*" => MANY; "body:g"),
        control::counted, "a band of its body's steps",
        "if data decide the trip count: a constant bound or --max-trips, and nothing stacked";
    "LpNormalization" (1: "T" => 1; "axis:i p:i"), normalize::lp, "Reduce and Binary";
    "LpPool" (2: "T" => 1; "auto_pad:s ceil_mode:i>=18 dilations:I>=18 kernel_shape:I p:i pads:I strides:I"), pool::lp, "Unary and Conv";
    "MatMul" (1: "T T" => 1; ""), matmul::matmul, "Conv or MatMul";
    "MatMulInteger" (10: "A B A? B?" => 1; ""), matmul::integer, "Conv or MatMul";
    "Max" (1: "T*" => 1; ""), elementwise::variadic, "Binary";
    "MaxPool" (1: "T" => 2;
        "auto_pad:s ceil_mode:i>=10 dilations:I>=10 kernel_shape:I pads:I storage_order:i>=8 strides:I"),
        pool::pool, "Pool";
    "MaxUnpool" (9: "T int64 int64?" => 1; "kernel_shape:I pads:I strides:I"),
        caches::max_unpool, "Scatter", "constant shape of the output";
    "Mean" (1: "T*" => 1; ""), elementwise::variadic, "Binary";
    "MeanVarianceNormalization" (9: "T" => 1; "axes:I"), normalize::mean_variance, "Reduce and Binary";
    "MelWeightMatrix" (17: "T T T U U" => 1; "output_datatype:i"), spectrum::mel_weight_matrix, "folds", "constant inputs";
    "Min" (1: "T*" => 1; ""), elementwise::variadic, "Binary";
    "Mish" (18: "T" => 1; ""), elementwise::unary, "Unary";
    "Mod" (10: "T T" => 1; "fmod:i"), elementwise::modulo, "Binary";
    "Mul" (1: "T T" => 1; "axis:i<7 broadcast:i<7"), elementwise::binary, "Binary";
    "Neg" (1: "T" => 1; ""), elementwise::unary, "Unary";
    "NegativeLogLikelihoodLoss" (12: "T index T?" => 1; "ignore_index:i reduction:s"), loss::negative_log_likelihood, "Binary and Reduce";
    "NonMaxSuppression" (10: "float float int64? float? float?" => 1; "center_point_box:i"),
        sampling::non_max_suppression, "NonMaxSuppression",
        "with --pad-selections: a constant number of boxes, and as many rows as there may be at most, those behind the last filled with -1";
    "NonZero" (9: "T" => 1; ""), indices::non_zero, "folds", "constants only";
    "Not" (1: "bool" => 1; ""), elementwise::unary, "Unary";
    "OneHot" (9: "T1 T2 T3" => 1; "axis:i"), indices::one_hot, "Binary and Ternary", "a constant depth";
    "OptionalGetElement" (18: "_" => 1; ""), shape::identity, "folds", "of tensors and sequences";
    "OptionalHasElement" (18: "_?" => 1; ""), shape::has_element, "folds", "of tensors and sequences";
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
        quantize::quantize, "part of its neighbours, or Convert", "computed scales, and those of blocks, in f32";
    "RMSNormalization" (23: "T T" => 1; "axis:i epsilon:f stash_type:i"), normalize::layer, "Norm";
    "RNN" (1: "T T T T? int32? T?" => 2;
        "activation_alpha:F activation_beta:F activations:S clip:f direction:s hidden_size:i layout:i>=14 output_sequence:i<7"),
        recurrent::rnn, "Conv or MatMul, and Rnn", "a step a direction; activations of the runtime";
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
    "ReduceLogSum" (1: "T int64?>=18" => 1; "axes:I<18 keepdims:i noop_with_empty_axes:i>=18"), reduce::reduce, "Reduce";
    "ReduceLogSumExp" (1: "T int64?>=18" => 1; "axes:I<18 keepdims:i noop_with_empty_axes:i>=18"), reduce::reduce, "Reduce";
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
        resize::resize, "Copy, or Gather and Binary, or MatMul", "constant scales or sizes, constant region; integers by the nearest neighbour, bytes also linearly if that is exact";
    "ReverseSequence" (10: "T int64" => 1; "batch_axis:i time_axis:i"),
        indices::reverse_sequence, "Gather", "constant lengths";
    "RoiAlign" (10: "T T int64" => 1;
        "coordinate_transformation_mode:s>=16 mode:s output_height:i output_width:i sampling_ratio:i spatial_scale:f"),
        sampling::roi_align, "RoiAlign";
    "RotaryEmbedding" (23: "T T T int64?" => 1; "interleaved:i num_heads:i rotary_embedding_dim:i"), attention::rotary_embedding, "Binary and Copy";
    "Round" (11: "T" => 1; ""), elementwise::unary, "Unary";
    "STFT" (17: "T index T? index?" => 1; "onesided:i"),
        spectrum::stft, "Gather and MatMul", "constant frames; a product with the constant DFT matrix";
    "Scan" (9: "_*" => MANY;
        "body:g num_scan_inputs:i scan_input_axes:I scan_input_directions:I scan_output_axes:I scan_output_directions:I"),
        control::scan, "a band of its body's steps", "operator set 9 and later";
    "Scatter" (9: "T index T" => 1; "axis:i"), indices::scatter_elements, "Scatter";
    "ScatterElements" (11: "T index T" => 1; "axis:i reduction:s>=16"), indices::scatter_elements, "Scatter";
    "ScatterND" (11: "T int64 T" => 1; "reduction:s>=16"), indices::scatter_nd, "Scatter";
    "Selu" (1: "T" => 1; "alpha:f gamma:f"), elementwise::unary, "Unary";
    "SequenceAt" (11: "_ index" => 1; ""), sequence::at, "folds, or Copy";
    "SequenceConstruct" (11: "T*" => 1; ""), sequence::construct, "folds";
    "SequenceEmpty" (11: "" => 1; "dtype:i"), sequence::construct, "folds";
    "SequenceErase" (11: "_ index?" => 1; ""), sequence::erase, "folds";
    "SequenceInsert" (11: "_ T index?" => 1; ""), sequence::insert, "folds", "in the body of a loop at the end only";
    "SequenceLength" (11: "_" => 1; ""), sequence::length, "folds";
    "Shape" (1: "T" => 1; "end:i>=15 start:i>=15"), shape::shape, "folds";
    "Shrink" (9: "T" => 1; "bias:f lambd:f"), activation::shrink, "Binary and Ternary";
    "Sigmoid" (1: "T" => 1; ""), elementwise::unary, "Unary";
    "Sign" (9: "T" => 1; ""), elementwise::unary, "Unary";
    "SimplifiedLayerNormalization" (1: "T T" => 2; "axis:i epsilon:f stash_type:i"), normalize::layer, "Norm", "of ONNX Runtime's optimiser";
    "Sin" (7: "T" => 1; ""), elementwise::unary, "Unary";
    "Sinh" (9: "T" => 1; ""), elementwise::unary, "Unary";
    "Size" (1: "T" => 1; ""), shape::size, "folds";
    "Slice" (1: "T index>=10 index>=10 index?>=10 index?>=10" => 1; "axes:I<10 ends:I<10 starts:I<10"),
        movement::slice, "Copy";
    "Softmax" (1: "T" => 1; "axis:i"), normalize::softmax, "Softmax";
    "SoftmaxCrossEntropyLoss" (12: "T index T?" => 2; "ignore_index:i reduction:s"), loss::softmax_cross_entropy, "Softmax, Binary and Reduce";
    "Softplus" (1: "T" => 1; ""), elementwise::unary, "Unary";
    "Softsign" (1: "T" => 1; ""), elementwise::unary, "Unary";
    "SpaceToDepth" (1: "T" => 1; "blocksize:i mode:s>=28"), movement::space_to_depth, "Copy";
    "Split" (2: "T int64?>=13" => MANY; "axis:i num_outputs:i>=18 split:I<13"), movement::split, "Copy";
    "SplitToSequence" (11: "T index?" => 1; "axis:i keepdims:i"), sequence::split, "Copy";
    "Sqrt" (1: "T" => 1; ""), elementwise::unary, "Unary";
    "Squeeze" (1: "T int64?>=13" => 1; "axes:I<13"), movement::squeeze, "no step";
    "Sub" (1: "T T" => 1; "axis:i<7 broadcast:i<7"), elementwise::binary, "Binary";
    "Sum" (1: "T*" => 1; ""), elementwise::variadic, "Binary";
    "SwiGLU" (28: "T T" => 1; "alpha:f"), activation::swiglu, "Unary and Binary";
    "Swish" (24: "T" => 1; "alpha:f"), elementwise::unary, "Unary";
    "Tan" (7: "T" => 1; ""), elementwise::unary, "Unary";
    "Tanh" (1: "T" => 1; ""), elementwise::unary, "Unary";
    "TensorScatter" (24: "T T int64?" => 1; "axis:i mode:s"), caches::tensor_scatter, "Scatter, or Copy";
    "TfIdfVectorizer" (9: "T" => 1;
        "max_gram_length:i max_skip_count:i min_gram_length:i mode:s ngram_counts:I ngram_indexes:I pool_int64s:I pool_strings:S weights:F"),
        ngrams::tf_idf, "Gather and Binary", "n-grams of integers";
    "ThresholdedRelu" (10: "T" => 1; "alpha:f"), activation::thresholded_relu, "Binary and Ternary";
    "Tile" (6: "T int64" => 1; ""), movement::tile, "Copy";
    "TopK" (1: "T int64>=10" => 2; "axis:i k:i<10 largest:i>=11 sorted:i>=11"),
        indices::top_k, "TopK", "a constant number of elements";
    "Transpose" (1: "T" => 1; "perm:I"), movement::transpose, "Copy";
    "Trilu" (14: "T int64?" => 1; "upper:i"), indices::trilu, "Ternary", "a constant diagonal";
    "Unique" (11: "T" => 4; "axis:i sorted:i"), indices::unique, "folds", "constants only";
    "Unsqueeze" (1: "T int64>=13" => 1; "axes:I<13"), movement::unsqueeze, "no step";
    "Upsample" (7: "T float>=9" => 1; "mode:s scales:F<9"),
        resize::upsample, "Copy, or Gather and Binary", "constant scales; integers by the nearest neighbour, bytes also linearly if that is exact";
    "Where" (9: "bool T T" => 1; ""), elementwise::select, "Ternary";
    "Xor" (1: "bool bool" => 1; "axis:i<7 broadcast:i<7"), elementwise::binary, "Binary";
};

/// The newest operator set of ai.onnx that the table knows: that of ONNX 1.23, read in November 2026. What a later one says of
/// an operator is not known.
pub const NEWEST_OPSET: i64 = 28;

/// The domain of ONNX Runtime's own operators.
pub const CONTRIB_DOMAIN: &str = "com.microsoft";

/// The domain of Kinglet's own operators.
pub const OWN_DOMAIN: &str = "ai.kinglet";

/// The newest operator set of each domain of which anything is known. com.microsoft and Kinglet's own never had another.
pub const NEWEST: &[(&str, i64)] =
    &[("", NEWEST_OPSET), ("ai.onnx", NEWEST_OPSET), (CONTRIB_DOMAIN, 1), (OWN_DOMAIN, 1)];

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
        CONTRIB_DOMAIN => CONTRIB_OPERATORS,
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
        "ImageDecoder" | "StringConcat" | "StringNormalizer" | "StringSplit" | "RegexFullMatch" | "LabelEncoder" => {
            ("it is no arithmetic of tensors", "do it before the model, and cut the node off the graph")
        }
        _ => (
            "Kinglet has no such operator",
            "write it in operators of docs/operators.md, as a function of the model or by an exporter's decomposition",
        ),
    };
    if matches!(domain, "" | "ai.onnx") {
        (reason.into(), remedy.into())
    } else {
        let remedy = "export with operators of ai.onnx, or define it as a function of the model";
        (format!("Kinglet has no such operator of the domain `{domain}`"), remedy.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_and_unique() {
        for rows in [OPERATORS, OWN_OPERATORS, CONTRIB_OPERATORS] {
            assert!(rows.windows(2).all(|w| w[0].name < w[1].name));
        }
        assert!(find("", "Conv").is_some() && find("com.microsoft", "Conv").is_none());
    }
}
