"""Recipes of `every` for ONNX Runtime's own operators."""

import numpy as np

from every import CONTRIB, Weights, recipe
from graphs import Const, f32


def contrib(names, main=None):
    """Register recipes of the domain com.microsoft."""
    return recipe(names, main, CONTRIB)


# The grid of a quantised operand, and of a result.
GRID, RESULT = f32(0.0213), f32(0.0531)


def on_grid(g, x, scale=GRID):
    """An operand with its scale and zero point."""
    return x, Const(scale), Const(g.dtype(5))


def to_grid(g):
    """The scale and zero point of a result."""
    return Const(RESULT), Const(g.dtype(9))


@contrib("Gelu QuickGelu FastGelu")
def _(g):
    g.run(g.tame(2, 4))


@contrib("BiasGelu")
def _(g):
    g.run(g.tame(2, 4), Const(g.tame(4)))


@contrib("FusedConv")
def _(g):
    g.run(g.tame(1, 2, 4, 3), Weights(g.tame(3, 2, 2, 2)), Const(g.tame(3)), activation="Relu")


@contrib("FusedGemm")
def _(g):
    g.run(g.tame(2, 3), Weights(g.tame(3, 4)), Const(g.tame(4)), activation="Relu")


@contrib("FusedMatMul")
def _(g):
    g.run(g.tame(2, 3), Weights(g.tame(4, 3)), transB=1, alpha=0.5)


@contrib("SkipLayerNormalization")
def _(g):
    g.run(g.tame(2, 3, 4), g.positive(2, 3, 4), Const(g.positive(4)), Const(g.tame(4)))


@contrib("SkipSimplifiedLayerNormalization")
def _(g):
    g.run(g.tame(2, 3, 4), g.positive(2, 3, 4), Const(g.positive(4)))


@contrib("EmbedLayerNormalization", "T")
def _(g):
    ids = np.array([[1, 0, 3]], np.int32)
    tables = (Const(g.tame(n, 4)) for n in (5, 3, 2))
    g.run(ids, np.array([[0, 1, 0]], np.int32), *tables, Const(g.positive(4)), Const(g.tame(4)), outputs=2)
    g.outputs.pop()


@contrib("Attention")
def _(g):
    g.run(g.tame(1, 3, 4), Weights(g.tame(4, 12)), Const(g.tame(12)), num_heads=2)


@contrib("MultiHeadAttention")
def _(g):
    g.run(g.tame(1, 3, 4), g.tame(1, 2, 4), g.tame(1, 2, 4), num_heads=2)


@contrib("QAttention")
def _(g):
    w = Const(np.resize(np.arange(-90, 90, 17), (4, 12)).astype(np.int8))
    scales = Const(f32(0.0213)), Const(f32(0.0117))
    g.run(g.wild(1, 3, 4), w, Const(f32(np.zeros(12))), *scales, None, Const(g.dtype(5)), Const(np.int8(0)), num_heads=2)


@contrib("MatMulNBits")
def _(g):
    packed = np.resize(np.arange(1, 250, 17), (3, 1, 8)).astype(np.uint8)
    g.run(g.tame(2, 16), Const(packed), Const(g.positive(3)), K=16, N=3, bits=4, block_size=16)


@contrib("MatMulIntegerToFloat")
def _(g):
    b = np.resize(np.arange(-90, 90, 17), (3, 4)).astype(np.int8)
    g.run(g.wild(2, 3), Const(b), Const(f32(0.0213)), Const(f32(0.0117)), Const(g.dtype(5)), Const(np.int8(0)))


@contrib("DynamicQuantizeMatMul", "T2")
def _(g):
    g.run(f32([[0.5, -2, 1]]), Const(g.wild(3, 4)), Const(f32(0.0117)), Const(g.dtype(5)))


@contrib("DynamicQuantizeLSTM", "T2")
def _(g):
    w, r = Const(g.wild(1, 3, 8)), Const(g.wild(1, 2, 8))
    scales = Const(f32([0.0117])), Const(g.dtype([5])), Const(f32([0.0041])), Const(g.dtype([5]))
    # Of one frame, and a hidden state that rounding it to bytes leaves as it is: a plan does not round it.
    h, c = f32([[[0, 1]]]), f32([[[0.5, -0.25]]])
    g.run(f32([[[0.5, -2, 1]]]), w, r, Const(f32([np.arange(-4, 4).repeat(2) / 8])), None, h, c, None, *scales, hidden_size=2, outputs=3)


@contrib("QGemm", "TA")
def _(g):
    w = Const(np.resize(np.arange(1, 120, 17), (3, 4)).astype(g.dtype)), Const(f32(0.0117)), Const(g.dtype(0))
    g.run(*on_grid(g, g.wild(2, 3)), *w, Const(np.array([90, -50, 7, 0], np.int32)), *to_grid(g))


@contrib("QLinearAdd QLinearMul")
def _(g):
    g.run(*on_grid(g, g.wild(2, 4)), *on_grid(g, g.tame(4), f32(0.0117)), *to_grid(g))


@contrib("QLinearAveragePool")
def _(g):
    g.run(*on_grid(g, g.wild(1, 2, 4, 3)), *to_grid(g), kernel_shape=[2, 2])


@contrib("QLinearGlobalAveragePool")
def _(g):
    g.run(*on_grid(g, g.wild(1, 2, 4, 3)), *to_grid(g))


@contrib("QLinearLeakyRelu")
def _(g):
    g.run(*on_grid(g, g.wild(2, 4)), *to_grid(g), alpha=0.17)


@contrib("QLinearSigmoid")
def _(g):
    g.run(*on_grid(g, g.wild(2, 4)), Const(f32(0.0041)), Const(g.dtype(0)))


@contrib("QLinearSoftmax")
def _(g):
    g.run(*on_grid(g, g.wild(2, 4)), Const(f32(1 / 256)), Const(g.dtype(np.iinfo(g.dtype).min)), axis=-1, opset=13)


@contrib("QLinearReduceMean")
def _(g):
    g.run(*on_grid(g, g.wild(2, 4)), *to_grid(g), axes=[1], keepdims=1)


@contrib("QLinearConcat", "T8")
def _(g):
    g.run(*to_grid(g), *on_grid(g, g.wild(2, 2)), *on_grid(g, g.tame(2, 1), f32(0.0417)), axis=1)


@contrib("QLinearWhere", "T")
def _(g):
    g.run(np.array([[True], [False]]), *on_grid(g, g.wild(2, 4)), *on_grid(g, g.tame(4), f32(0.0417)), *to_grid(g))


@contrib("QuantizeLinear")
def _(g):
    for zero in (np.uint8(3), np.int8(-3)):
        g.run(g.tame(2, 4), Const(np.asarray(0.25, g.dtype)), Const(zero))


@contrib("DequantizeLinear")
def _(g):
    g.run(g.wild(2, 4), Const(f32(0.25)), *([] if g.dtype is np.int32 else [Const(g.dtype(3))]))
