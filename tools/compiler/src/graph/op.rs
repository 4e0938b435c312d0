//! The operators of the graph: the ONNX ones in a canonical form, without the differences between operator sets.

use super::Graph;
use kinglet::DType;
pub use kinglet::kernels::{
    Activation, BinaryOp, NormKind, PadMode, PoolKind, ReduceOp, SampleMode, SamplePadding, ScatterOp, UnaryOp,
};

/// Where the channels of an image-like tensor are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `[batch, channels, spatial…]`, as ONNX has it.
    ChannelsFirst,
    /// `[batch, spatial…, channels]`, as the runtime has it.
    ChannelsLast,
}

impl Layout {
    /// The channel axis of a tensor of this rank.
    pub fn channel_axis(self, rank: usize) -> usize {
        match self {
            Layout::ChannelsFirst => 1,
            Layout::ChannelsLast => rank - 1,
        }
    }

    /// The first spatial axis.
    pub fn spatial_axis(self) -> usize {
        match self {
            Layout::ChannelsFirst => 2,
            Layout::ChannelsLast => 1,
        }
    }

    /// The shape with these parts.
    pub fn shape(self, batch: usize, channels: usize, spatial: &[usize]) -> Vec<usize> {
        match self {
            Layout::ChannelsFirst => [&[batch, channels], spatial].concat(),
            Layout::ChannelsLast => [&[batch], spatial, &[channels]].concat(),
        }
    }
}

/// Window geometry, one entry a spatial axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// Extent of the kernel.
    pub kernel: Vec<usize>,
    /// Step of the window.
    pub strides: Vec<usize>,
    /// Distance between taps.
    pub dilations: Vec<usize>,
    /// Padding before the first element (may be negative for a transposed convolution).
    pub pads_begin: Vec<i64>,
    /// Padding behind the last element.
    pub pads_end: Vec<i64>,
}

/// An operator with its attributes. Shapes are in the terms of the operator's inputs.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// ONNX `Conv`. Inputs: x, weights `[out, in/groups, kernel…]`, bias `[out]`?, and after fusion those of the [`Post`]'s
    /// stages.
    Conv {
        /// Geometry.
        window: Window,
        /// Groups.
        groups: usize,
        /// Layout of x and the output.
        layout: Layout,
        /// What is done to the result.
        post: Post,
    },
    /// ONNX `ConvTranspose`. Inputs: x, weights `[in, out/groups, kernel…]`, bias `[out]`?, then as `Conv`.
    ConvTranspose {
        /// Geometry; `output_padding` is part of the output's shape, which follows from `pads_end` (may be negative).
        window: Window,
        /// Groups.
        groups: usize,
        /// Layout of x and the output.
        layout: Layout,
        /// What is done to the result.
        post: Post,
    },
    /// Matrix product over the last two axes, leading ones broadcast. Inputs: a, b, bias?, then as `Conv`. ONNX `MatMul`
    /// and `Gemm`. The bias has one element for each column; only products with a constant matrix have one.
    MatMul {
        /// a's last two axes are swapped.
        transpose_a: bool,
        /// b's last two axes are swapped.
        transpose_b: bool,
        /// What is done to the result.
        post: Post,
    },
    /// A function of each element.
    Unary {
        /// The function.
        op: UnaryOp,
        /// Its first parameter.
        alpha: f32,
        /// Its second parameter.
        beta: f32,
    },
    /// A function of two elements, broadcast. For `PRelu` the second is the slope.
    Binary(BinaryOp),
    /// `a·b + c`, b and c broadcast to a: a normalisation with fixed statistics.
    ScaleShift,
    /// ONNX `Where`: b where a, else c; broadcast.
    Where,
    /// ONNX `Cast`.
    Cast(DType),
    /// ONNX `Softmax` (opset 13) along one axis.
    Softmax {
        /// The axis.
        axis: usize,
        /// ONNX `LogSoftmax`.
        log: bool,
    },
    /// Normalisation over `axes`. Inputs: x, scale?, bias?, both broadcast to x.
    Norm {
        /// With or without the mean.
        kind: NormKind,
        /// The axes that share mean and variance, ascending.
        axes: Vec<usize>,
        /// Added to the variance.
        epsilon: f32,
    },
    /// ONNX `MaxPool`, `AveragePool`.
    Pool {
        /// What is computed.
        kind: PoolKind,
        /// Geometry.
        window: Window,
        /// Layout of x and the output.
        layout: Layout,
    },
    /// ONNX `ReduceMean` and its kin.
    Reduce {
        /// What is computed.
        op: ReduceOp,
        /// The axes, ascending.
        axes: Vec<usize>,
        /// Keep them with extent 1.
        keep: bool,
    },
    /// ONNX `ArgMax`, `ArgMin`; i64 output.
    ArgMax {
        /// The axis.
        axis: usize,
        /// Keep it with extent 1.
        keep: bool,
        /// Search the minimum.
        smallest: bool,
        /// Take the last of equals.
        last: bool,
    },
    /// ONNX `TopK`: the elements in order, of equal ones the first first; NaN is the largest. Outputs: the elements, and their
    /// places along the axis, i64.
    TopK {
        /// The axis.
        axis: usize,
        /// The smallest ones.
        smallest: bool,
    },
    /// ONNX `CumSum`.
    CumSum {
        /// The axis.
        axis: usize,
        /// Leave the element itself out.
        exclusive: bool,
        /// From the end.
        reverse: bool,
    },
    /// ONNX `Pad`.
    Pad {
        /// What lies outside.
        mode: PadMode,
        /// Elements added before each axis.
        before: Vec<usize>,
        /// Elements added behind each axis.
        after: Vec<usize>,
        /// The constant, as a real.
        value: f64,
    },
    /// ONNX `DepthToSpace`.
    DepthToSpace {
        /// Block size.
        block: usize,
        /// The channels are ordered column-row-depth (`CRD`) instead of depth-column-row.
        crd: bool,
        /// Layout of x and the output.
        layout: Layout,
    },
    /// ONNX `Transpose`.
    Transpose {
        /// Output axis `d` is input axis `perm[d]`.
        perm: Vec<usize>,
    },
    /// The same elements in another shape, which is that of the output tensor (ONNX `Reshape`, `Flatten`, `Squeeze`, …).
    Reshape,
    /// ONNX `Concat`.
    Concat {
        /// The axis.
        axis: usize,
    },
    /// ONNX `Slice`, `Split`: along each axis `starts[d] + i·steps[d]`, as many as the output's extent.
    Slice {
        /// First position along each axis.
        starts: Vec<usize>,
        /// Step along each axis; may be negative.
        steps: Vec<i64>,
    },
    /// ONNX `Gather`. Inputs: x, indices.
    Gather {
        /// The axis.
        axis: usize,
    },
    /// ONNX `ScatterElements` along an axis, or `ScatterND` without one. Inputs: x, updates, indices. Updates come in their order;
    /// one with an index out of range is left out.
    Scatter {
        /// What becomes of an element that an update meets.
        op: ScatterOp,
        /// The axis that the indices select from; those of `ScatterND` select from the first axes.
        axis: Option<usize>,
    },
    /// ONNX `GridSample`, channels last. Inputs: x `[batch, pixels along 1 to 3 axes, channels]`, grid `[batch, samples along as many
    /// axes, axes]`, whose coordinates are that along the last axis first.
    GridSample {
        /// What a sample between pixels is.
        mode: SampleMode,
        /// What lies outside.
        padding: SamplePadding,
        /// −1 and 1 are centres of pixels.
        align_corners: bool,
    },
    /// ONNX `NonMaxSuppression`, with as many rows as there may be at most, those behind the last filled with −1. Inputs: boxes, scores,
    /// the overlap that is too much, the score that is too low; the last two may be absent. Output: i64
    /// `[batch · classes · most, 3]`.
    NonMaxSuppression {
        /// The most that are selected of a class of a picture.
        most: usize,
        /// A box is its centre and extents instead of two corners.
        centers: bool,
    },
    /// ONNX `RoiAlign`, channels last. Inputs: x `[batch, height, width, channels]`, regions `[regions, 4]`, the picture of each
    /// `[regions]`. Output: `[regions, bins, bins of a row, channels]`.
    RoiAlign {
        /// Points of a bin along each axis; 0 for as many as it has pixels, rounded up.
        ratio: u32,
        /// Pixels of a unit of the regions' coordinates.
        scale: f32,
        /// Pixels' centres are half a pixel behind their coordinates, and a region may be smaller than a pixel.
        half_pixel: bool,
        /// The largest weighted pixel is taken instead of the mean of samples.
        largest: bool,
    },
    /// ONNX `Expand`: broadcast to the output's shape.
    Expand,
    /// ONNX `Tile`.
    Tile {
        /// Repeats along each axis.
        repeats: Vec<usize>,
    },
    /// A body computed again and again: ONNX `Scan`, and `Loop` with a static number of trips. Inputs: the first values of
    /// what is carried, then tensors scanned along their first axis (whose extent is the number of trips), then tensors that
    /// the body reads as they are. Outputs: the last values of what is carried, then the slices that the body gives,
    /// stacked along a new first axis.
    Loop(Box<Body>),
    /// The selective scan of a state-space model (Gu and Dao, Mamba, 2023): for each channel `h ← exp(Δ·A)·h + Δ·x·B`,
    /// `y = C·h + D·x`, times `SiLU(z)`. Inputs: x `[batch, time, inner]`, delta like x, A `[inner, state]`,
    /// B `[batch, time, state]`, C like B, D `[inner]`?, z like x?, the state `[batch, inner, state]` before the first
    /// frame?. Outputs: y like x, and the state after the last frame, f32.
    SelectiveScan {
        /// Δ is softplus(delta) instead of delta.
        softplus: bool,
    },
    /// The memory of a Legendre memory unit (Voelker et al., 2019): `m ← A·m + B·u` for each channel of u. Inputs:
    /// u `[batch, time, channels]`, A `[order, order]`, B `[order]`, the memory `[batch, channels, order]` before the
    /// first frame?. Output: `[batch, time, channels, order]`.
    LegendreMemory,
    /// ONNX `LSTM` in one direction, without the product of its input: `h ← o · h(c)`, `c ← n · c + i · g(x_u + h·R_u)`, with the
    /// gates i, o, n and u (ONNX's i, o, f and c) side by side in x and R. Inputs: x `[time, batch, 4 · hidden]`, the product with
    /// all biases, R `[hidden, 4 · hidden]`, lengths `[batch]` i32?, the hidden state `[batch, hidden]` before the first frame?, the
    /// cell `[batch, hidden]` before it?, the peepholes `[3 · hidden]` of i, o and n?. Outputs: h `[time, batch, hidden]`, and the
    /// cell after the last frame.
    Lstm {
        /// Frames.
        way: Way,
        /// The functions of the gates, of what goes into the cell, and of the cell.
        functions: [Activation; 3],
        /// The gate n is `1 − i`.
        input_forget: bool,
    },
    /// ONNX `GRU` in one direction, without the product of its input: `h ← (1 − z) · u + z · h`, with the gates z, r and u (ONNX's
    /// z, r and h) side by side in x and R. Inputs: x `[time, batch, 3 · hidden]`, the product with all biases but that of the reset,
    /// R `[hidden, 3 · hidden]`, lengths and the hidden state as `Lstm` has them, the bias `[hidden]` behind the reset?. Output:
    /// h `[time, batch, hidden]`.
    Gru {
        /// Frames.
        way: Way,
        /// The functions of the gates z and r, and of u.
        functions: [Activation; 2],
        /// The product with R_u comes before the reset by r.
        linear_before_reset: bool,
    },
    /// ONNX `RNN` in one direction, without the product of its input: `h ← f(x + h·R)`. Inputs: x `[time, batch, hidden]`, the product
    /// with both biases, R `[hidden, hidden]`, lengths and the hidden state as `Lstm` has them. Output: h `[time, batch, hidden]`.
    Rnn {
        /// Frames.
        way: Way,
        /// The function.
        function: Activation,
    },
    /// Reals to the quantised output tensor (ONNX `QuantizeLinear`); scales are the output tensor's.
    Quantize,
    /// The quantised input tensor to reals (ONNX `DequantizeLinear`); scales are the input tensor's.
    Dequantize,
    /// The same integers under another quantisation, that of the output tensor.
    Reinterpret,
    /// A function of one 8-bit tensor by table, `table[byte]`; made by passes, from nodes that it replaces.
    Lut {
        /// Output byte for each input byte.
        table: Vec<u8>,
    },
}

/// How a recurrent layer goes over its frames.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Way {
    /// From the last frame of a sequence to its first.
    pub reverse: bool,
    /// What goes into a function is clamped to its negative and itself; infinite for no bounds.
    pub clip: f32,
}

/// What a [`Op::Loop`] computes in each trip.
#[derive(Clone, Debug, PartialEq)]
pub struct Body {
    /// The body. Inputs: the carried values, slices of the scanned tensors (without their first axis), and what it reads
    /// as it is. Outputs: the next carried values, then slices to be stacked.
    pub graph: Graph,
    /// How often it is computed.
    pub trips: usize,
    /// Number of carried values.
    pub carried: usize,
    /// Number of scanned tensors.
    pub scanned: usize,
    /// Data decide how many trips there are: the first carried value, one bool, is whether there is another one, at most `trips`; a run that wants
    /// more of them fails. Nothing is stacked then.
    pub ends: bool,
}

/// What a convolution or matrix product does to its sum, in this order: bounds, rounding, stages or table. The result is
/// quantised if the output is.
#[derive(Clone, Debug, PartialEq)]
pub struct Post {
    /// Lower bound of the sum.
    pub lo: f32,
    /// Upper bound of the sum.
    pub hi: f32,
    /// The sum is rounded to this before stages or table.
    pub mid: Option<Mid>,
    /// Functions of the real, one after the other.
    pub stages: Vec<Stage>,
    /// Table of the bytes of `mid`; there are no stages then.
    pub table: Option<Vec<u8>>,
}

/// One function in a [`Post`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stage {
    /// Of one real, with its parameters.
    Function(UnaryOp, f32, f32),
    /// Of the real and an operand, which is the node's next input after the bias: a tensor of the output's shape, or a
    /// constant with an element for each channel.
    Combine(BinaryOp),
}

/// The quantised intermediate result of a fused integer step.
#[derive(Clone, Debug, PartialEq)]
pub struct Mid {
    /// Its type.
    pub dtype: DType,
    /// Its scale.
    pub scale: f32,
    /// Its zero point.
    pub zero_point: i32,
}

impl Default for Post {
    fn default() -> Self {
        Post { lo: f32::NEG_INFINITY, hi: f32::INFINITY, mid: None, stages: Vec::new(), table: None }
    }
}

impl Post {
    /// The first input of a product that belongs to a stage.
    pub const OPERANDS: usize = 3;
}

impl Op {
    /// A unary operator without parameters.
    pub fn unary(op: UnaryOp) -> Op {
        Op::Unary { op, alpha: 0.0, beta: 0.0 }
    }

    /// Whether the operator only moves elements: every output element is some input element (or a padding constant).
    pub fn moves_only(&self) -> bool {
        matches!(
            self,
            Op::Reshape
                | Op::Transpose { .. }
                | Op::Concat { .. }
                | Op::Slice { .. }
                | Op::Gather { .. }
                | Op::Scatter { op: ScatterOp::Replace, .. }
                | Op::Expand
                | Op::Tile { .. }
                | Op::DepthToSpace { .. }
                | Op::Pad { .. }
        )
    }

    /// Whether the operator goes on from its own results: it keeps a state in reals.
    pub fn recurs(&self) -> bool {
        let layer = matches!(self, Op::Lstm { .. } | Op::Gru { .. } | Op::Rnn { .. });
        layer || matches!(self, Op::Loop(_) | Op::SelectiveScan { .. } | Op::LegendreMemory)
    }

    /// Whether every output element is the integer of some input element, so that the operator does to the integers of a
    /// quantised tensor what it does to their reals.
    pub fn keeps_integers(&self) -> bool {
        self.moves_only() || matches!(self, Op::Pool { kind: PoolKind::Max, .. })
    }

    /// Name for reports and errors: the ONNX operator where there is one.
    pub fn name(&self) -> String {
        match self {
            Op::Unary { op, .. } => format!("{op:?}"),
            Op::Binary(op) => format!("{op:?}"),
            Op::Reduce { op, .. } => format!("Reduce{op:?}"),
            Op::Pool { kind: PoolKind::Max, .. } => "MaxPool".into(),
            Op::Pool { .. } => "AveragePool".into(),
            Op::Norm { kind, .. } => format!("{kind:?}Norm"),
            Op::Cast(to) => format!("Cast({})", to.name()),
            other => {
                let debug = format!("{other:?}");
                debug.split([' ', '(', '{']).next().unwrap_or_default().to_string()
            }
        }
    }
}

/// Whether a transpose leaves the order of elements in memory as it is: it only moves axes of extent 1.
pub fn moves_nothing(shape: &[usize], perm: &[usize]) -> bool {
    let solid: Vec<usize> = perm.iter().copied().filter(|&d| shape[d] != 1).collect();
    solid.windows(2).all(|w| w[0] < w[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_axes_of_one_move_nothing() {
        assert!(moves_nothing(&[1, 1, 1, 7], &[0, 3, 1, 2]));
        assert!(!moves_nothing(&[1, 2, 1, 7], &[0, 3, 1, 2]));
    }
}
