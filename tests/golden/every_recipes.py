"""Recipes of `every` for operators on elements, reductions, products, windows, norms and recurrent layers."""

import numpy as np
from onnx import TensorProto, helper

from every import Weights, recipe
from graphs import Const, f32, i64


# Operators on single elements.


@recipe("Abs Ceil Cos Cosh Erf Exp Floor HardSwish Mish Neg Relu Round Sigmoid Sign Sin Sinh Softplus Softsign Tan Tanh Asinh Atan")
def _(g):
    g.run(g.wild(2, 4))


@recipe("Acos Asin Atanh")
def _(g):
    g.run(g.inside(2, 4))


@recipe("Acosh")
def _(g):
    g.run((g.positive(2, 4) + g.dtype(1)).astype(g.dtype))


@recipe("Log Reciprocal Sqrt")
def _(g):
    g.run(g.positive(2, 4))


@recipe("Elu LeakyRelu Celu ThresholdedRelu Swish")
def _(g):
    g.run(g.tame(2, 4), alpha=0.25)


@recipe("Selu")
def _(g):
    g.run(g.tame(2, 4), alpha=1.5, gamma=0.75)


@recipe("HardSigmoid")
def _(g):
    g.run(g.tame(2, 4), alpha=0.25, beta=0.375)


@recipe("Gelu")
def _(g):
    x = g.tame(2, 4)
    g.run(x)
    g.run(x, approximate="tanh")


@recipe("SwiGLU")
def _(g):
    g.run(g.tame(2, 4), g.tame(2, 4))


@recipe("Shrink")
def _(g):
    g.run(g.tame(2, 4), lambd=1.0, bias=0.5 if g.is_real else 1.0)


@recipe("IsInf IsNaN")
def _(g):
    g.run(np.array([0, np.inf, -np.inf, np.nan, -2, 1]).astype(g.dtype))


@recipe("BitwiseNot Not")
def _(g):
    g.run(g.wild(2, 4))


@recipe("Add Sub Mul BitwiseAnd BitwiseOr BitwiseXor And Or Xor Equal Greater Less GreaterOrEqual LessOrEqual")
def _(g):
    g.run(g.wild(2, 1, 4), g.wild(3, 1))


@recipe("Max Min Sum Mean")
def _(g):
    g.run(g.wild(2, 4), g.tame(2, 4))
    # There is broadcasting from version 8 on.
    g.run(g.wild(2, 4), *((g.wild(2, 4),) * 2 if g.version < 8 else (g.wild(2, 1), g.wild(4))))


@recipe("Div")
def _(g):
    g.run(g.wild(2, 1, 4), g.positive(3, 1))


@recipe("Mod")
def _(g):
    g.run(g.wild(2, 1, 4), g.positive(3, 1), fmod=1)
    if not g.is_real:
        g.run(g.wild(2, 1, 4), g.positive(3, 1))


@recipe("Pow")
def _(g):
    base = g.positive(2, 4)
    g.run(base, g.tame(4) if g.is_real else g.dtype([2, 0, 1, 3]))
    if g.version >= 12:
        g.run(base, np.array([2, 0, 1, 3], np.int64))
        g.run(base, f32([2, 0, 1, 3]))


@recipe("BitShift")
def _(g):
    x, by = (g.wild(2, 4) // g.dtype(4)).astype(g.dtype), g.dtype([1, 2, 0, 1])
    g.run(abs(x), by, direction="LEFT")
    g.run(x, by, direction="RIGHT")


@recipe("PRelu")
def _(g):
    g.run(g.tame(2, 3, 2), g.positive(3, 1))


@recipe("Clip")
def _(g):
    if g.version < 11:
        return g.run(g.tame(2, 4), min=-0.5, max=0.75)
    lo, hi = (g.dtype(-0.5), g.dtype(0.75)) if g.is_real else (g.dtype(1), g.dtype(5))
    g.run(g.tame(2, 4), Const(lo), Const(hi))


@recipe("Where", "T")
def _(g):
    g.run(np.array([[True], [False], [True]]), g.wild(3, 4), g.tame(4))


@recipe("Cast CastLike")
def _(g):
    x = g.tame(2, 4)
    # What a quantised number is to 16 bits would be rounded.
    targets = [np.float32, np.float64, np.int8, np.uint8, np.int32, np.int64, bool] + [np.float16] * (g.quantised is None)
    for to in targets:
        # What a target does not hold has no defined result.
        y = abs(x) if to is np.uint8 and g.dtype is not np.bool_ else x
        if g.kind == "CastLike":
            g.run(y, Const(np.zeros(1, to)))
        else:
            g.run(y, to=onnx_type(to))


def onnx_type(dtype):
    """ONNX's number of a type."""
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


@recipe("BitCast")
def _(g):
    size = np.dtype(g.dtype).itemsize
    to = {1: TensorProto.UINT8, 2: TensorProto.INT16, 4: TensorProto.INT32, 8: TensorProto.INT64}[size]
    g.run(g.tame(2, 4), to=TensorProto.INT8 if g.dtype is np.uint8 else to)


# Reductions.


@recipe("ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare")
def _(g):
    reduce(g, g.tame(2, 3, 2))


@recipe("ReduceLogSum ReduceLogSumExp")
def _(g):
    reduce(g, g.positive(2, 3, 2))


def reduce(g, x):
    """A reduction along one axis, along two that are no neighbours, and along all."""
    for axes in ([1], [2, 0] if g.version < 11 else [-1, 0]):
        g.run(x, Const(i64(*axes))) if g.version >= (13 if g.kind == "ReduceSum" else 18) else g.run(x, axes=axes)
    g.run(x, keepdims=0)


@recipe("ArgMax ArgMin")
def _(g):
    g.run(g.wild(3, 4), axis=1)
    if g.version >= 12:
        g.run(g.wild(3, 4), keepdims=0, select_last_index=1)


@recipe("CumSum CumProd")
def _(g):
    g.run(g.wild(3, 4), Const(np.int32(1)))
    g.run(g.wild(3, 4), Const(np.int64(0)), exclusive=1, reverse=1)


@recipe("TopK")
def _(g):
    x = g.wild(2, 5)
    if g.version < 10:
        return g.run(x, k=2, axis=1, outputs=2)
    g.run(x, Const(i64(2)), outputs=2)
    if g.version >= 11:
        g.run(x, Const(i64(3)), axis=1, largest=0, outputs=2)


# Products.


@recipe("MatMul")
def _(g):
    g.run(g.tame(2, 2, 3), Weights(g.tame(3, 4)))
    g.run(g.wild(2, 3), g.wild(3, 2))


@recipe("Gemm")
def _(g):
    g.run(g.tame(2, 3), Weights(g.tame(4, 3)), Const(g.tame(4)), transB=1)
    g.run(g.tame(3, 2), g.tame(3, 4), g.tame(2, 4), transA=1, alpha=0.5, beta=2.0)


@recipe("MatMulInteger")
def _(g):
    b = Const(np.resize(np.arange(-9, 9, 4), (3, 4)).astype(np.int8))
    g.run(g.wild(2, 3), b, Const(g.dtype(3)), Const(np.int8(-2)))


@recipe("ConvInteger")
def _(g):
    g.run(g.wild(1, 2, 4, 3), Const(np.resize(np.arange(1, 90, 4), (2, 2, 2, 2)).astype(np.uint8)), Const(g.dtype(3)))


@recipe("QLinearMatMul")
def _(g):
    b = Const(np.resize(np.arange(1, 90, 4), (3, 4)).astype(g.dtype))
    g.run(g.wild(2, 3), f32(0.0213), g.dtype(5), b, f32(0.0117), g.dtype(3), f32(0.0531), g.dtype(9))


@recipe("QLinearConv")
def _(g):
    w = Const(np.resize(np.arange(1, 90, 4), (3, 2, 2, 2)).astype(g.dtype))
    scalars = [Const(v) for v in (f32(0.0213), g.dtype(5), f32(0.0117), g.dtype(0), f32(0.0531), g.dtype(9))]
    g.run(g.wild(1, 2, 4, 3), *scalars[:2], w, *scalars[2:], Const(np.array([90, -50, 7], np.int32)))


@recipe("Einsum")
def _(g):
    g.run(g.wild(2, 3), g.wild(3, 4), equation="ij,jk->ik")


@recipe("Det")
def _(g):
    g.run(np.array([[[1, 2], [3, 5]], [[-1, 0.5], [2, 4]]]).astype(g.dtype))


@recipe("DFT")
def _(g):
    x = g.tame(1, 4, 1)
    g.run(x) if g.version < 20 else g.run(x, None, Const(np.int64(1)))


@recipe("STFT")
def _(g):
    g.run(g.tame(1, 8, 1), Const(np.int64(2)), None, Const(np.int64(4)))


@recipe("Attention")
def _(g):
    g.run(g.tame(1, 2, 3, 4), g.tame(1, 2, 4, 4), g.tame(1, 2, 4, 2))


@recipe("LinearAttention")
def _(g):
    g.run(g.tame(1, 3, 4), g.tame(1, 3, 4), g.tame(1, 3, 4), q_num_heads=2, kv_num_heads=2, update_rule="linear", outputs=2)


@recipe("CausalConvWithState")
def _(g):
    g.run(g.tame(1, 2, 4), g.tame(2, 1, 3), outputs=2)


@recipe("RotaryEmbedding")
def _(g):
    g.run(g.tame(1, 2, 3, 4), g.inside(3, 2), g.inside(3, 2), Const(i64(0, 1, 2).reshape(1, 3)))


# Windows.


@recipe("Conv")
def _(g):
    x = g.tame(1, 2, 4, 3)
    g.run(x, Weights(g.tame(3, 2, 2, 2)), Const(g.tame(3)), pads=[1, 0, 0, 1])
    g.run(x, Weights(g.tame(2, 1, 3, 1)), group=2, strides=[1, 2])


@recipe("DeformConv")
def _(g):
    x, offsets = g.tame(1, 2, 4, 3), g.tame(1, 8, 3, 2)
    g.run(x, Weights(g.tame(3, 2, 2, 2)), offsets)
    g.run(x, Weights(g.tame(2, 1, 2, 2)), offsets, Const(g.tame(2)), g.inside(1, 4, 3, 2), group=2)


@recipe("ConvTranspose")
def _(g):
    g.run(g.tame(1, 2, 3, 2), Weights(g.tame(2, 3, 2, 2)), Const(g.tame(3)), strides=[2, 1])


@recipe("AveragePool")
def _(g):
    more = {"count_include_pad": 1} if g.version >= 7 else {}
    g.run(g.tame(1, 2, 4, 3), kernel_shape=[2, 2], pads=[1, 0, 0, 1], strides=[2, 1], **more)
    if g.version >= 19:
        g.run(g.tame(1, 2, 4, 3), kernel_shape=[2, 2], dilations=[2, 1])
    if g.version >= 10:
        g.run(g.tame(1, 2, 4, 3), kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1)


@recipe("MaxPool")
def _(g):
    g.run(g.tame(1, 2, 4, 3), kernel_shape=[2, 2], pads=[1, 0, 0, 1], strides=[2, 1])
    if g.version >= 8:
        g.run(g.tame(1, 2, 4, 3), kernel_shape=[2, 2], outputs=2)
    if g.version >= 10:
        g.run(g.tame(1, 2, 4, 3), kernel_shape=[2, 2], dilations=[2, 1])


@recipe("LpPool")
def _(g):
    g.run(g.tame(1, 2, 4, 3), kernel_shape=[2, 2], strides=[2, 1])


@recipe("GlobalAveragePool GlobalMaxPool GlobalLpPool")
def _(g):
    g.run(g.tame(2, 2, 3, 2))


@recipe("MaxUnpool")
def _(g):
    g.run(g.tame(1, 1, 2, 2), Const(i64(5, 7, 13, 10).reshape(1, 1, 2, 2)), kernel_shape=[2, 2], strides=[2, 2])


@recipe("Col2Im")
def _(g):
    g.run(g.tame(1, 4, 4), Const(i64(3, 3)), Const(i64(2, 2)))


@recipe("LRN")
def _(g):
    g.run(g.tame(1, 4, 2, 2), size=3, alpha=0.5)


@recipe("GridSample")
def _(g):
    grid = np.resize(np.array([-0.5, 0.25, 0.75, -0.875]), (1, 2, 3, 2)).astype(g.dtype if g.is_real else np.float32)
    modes = ("bilinear", "nearest", "bicubic") if g.version < 20 else ("linear", "nearest", "cubic")
    for mode in modes:
        g.run(g.tame(1, 2, 3, 4), grid, mode=mode)


@recipe("RoiAlign")
def _(g):
    regions = np.array([[0.25, 0.5, 2.125, 1.75], [-0.5, -0.25, 2.5, 2.25]]).astype(g.dtype)
    for mode in ("avg", "max"):
        g.run(g.tame(2, 2, 3, 4), regions, Const(i64(1, 0)), mode=mode, output_height=2, output_width=2)


@recipe("AffineGrid")
def _(g):
    g.run(g.tame(1, 2, 3), Const(i64(1, 2, 2, 3)))


@recipe("Resize")
def _(g):
    x, scales = g.tame(1, 1, 3, 2), Const(f32([1, 1, 2, 1.5]))
    # The region became optional in version 13.
    roi = {10: [], 11: [Const(f32([]))]}.get(g.version, [None])
    for mode in ("nearest", "linear")[: 1 + g.is_real]:
        g.run(x, *roi, scales, mode=mode)


@recipe("Upsample")
def _(g):
    x, scales = g.tame(1, 1, 3, 2), [1.0, 1.0, 2.0, 3.0]
    for mode in ("nearest", "linear")[: 1 + g.is_real]:
        g.run(x, mode=mode, scales=scales) if g.version < 9 else g.run(x, Const(f32(scales)), mode=mode)


@recipe("NonMaxSuppression")
def _(g):
    boxes = f32([[[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, 2, 1, 3]]])
    g.made(boxes, f32([[[0.9, 0.75, 0.6]]]), Const(i64(2)), Const(f32([0.5])), Const(f32([0.0])))
    g.pad(g.nodes[-1].output[0], 2)


# Norms.


@recipe("Softmax LogSoftmax Hardmax")
def _(g):
    g.run(g.tame(2, 3, 2))
    g.run(g.tame(2, 3), axis=0)


@recipe("BatchNormalization")
def _(g):
    g.run(g.tame(2, 3, 2), *(Const(g.tame(3)) for _ in range(3)), Const(g.positive(3)))


@recipe("InstanceNormalization")
def _(g):
    g.run(g.tame(2, 3, 4), Const(g.tame(3)), Const(g.positive(3)))


@recipe("LayerNormalization")
def _(g):
    g.run(g.tame(2, 3, 4), Const(g.positive(4)), Const(g.tame(4)))


@recipe("RMSNormalization SimplifiedLayerNormalization")
def _(g):
    g.run(g.tame(2, 3, 4), Const(g.positive(4)))


@recipe("GroupNormalization")
def _(g):
    n = 2 if g.version < 21 else 4
    g.run(g.tame(2, 4, 3), Const(g.positive(n)), Const(g.tame(n)), num_groups=2)


@recipe("MeanVarianceNormalization")
def _(g):
    g.run(g.tame(2, 3, 2, 2))


@recipe("LpNormalization")
def _(g):
    g.run(g.tame(2, 4))
    g.run(g.tame(2, 4), p=1, axis=0)


@recipe("Dropout")
def _(g):
    g.run(g.tame(2, 4))


@recipe("NegativeLogLikelihoodLoss")
def _(g):
    g.run(g.tame(3, 4), i64(2, 0, 3), g.positive(4))


@recipe("SoftmaxCrossEntropyLoss")
def _(g):
    g.run(g.tame(3, 4), i64(2, 0, 3), outputs=2)


# Quantisation.


@recipe("QuantizeLinear")
def _(g):
    # The scale has the type of the operand in version 19, and one of its own from 23 on.
    scale = np.asarray(2, np.int32) if g.dtype is np.int32 else np.asarray(0.25, g.dtype)
    scale = scale.astype(np.float32) if g.version < 19 or g.version >= 23 else scale
    for zero in (np.uint8(3), np.int8(-3)):
        g.run(g.tame(2, 4), Const(scale), Const(zero))
    if g.version >= 21:
        g.run(g.tame(2, 4), Const(scale), Const(np.int16(300)))


@recipe("DequantizeLinear")
def _(g):
    g.run(g.wild(2, 4), Const(f32(0.25)), *([] if g.dtype is np.int32 else [Const(g.dtype(3))]))


@recipe("DynamicQuantizeLinear")
def _(g):
    g.run(f32([0, 2, -3, 0.5]), outputs=3)


# Recurrent layers.


@recipe("LSTM GRU RNN")
def _(g):
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[g.kind]
    x, w, r = g.tame(2, 1, 3), Weights(g.tame(1, 2 * gates, 3)), Const(g.tame(1, 2 * gates, 2))
    g.run(x, w, r, Const(g.tame(1, 4 * gates)), hidden_size=2, outputs=2)
