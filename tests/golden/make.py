"""Build the golden vectors: small ONNX graphs, and what ONNX Runtime computes for them.

Every graph is written to `cases/NAME.onnx`; inputs and outputs of the graphs of one set go
into `vectors_SET.npz` (of the oldest set, which has no name: `vectors.npz`) under the keys
`NAME/in/INPUT` and `NAME/out/OUTPUT` (packed in some sets, see `packed`). ONNX Runtime runs without graph optimisations, so an
output is what the operators say one by one. What it does not run has its outputs from onnx's
own evaluator (`reference`), or from the operator's text, written out in numpy beside the graph.
Types that the reader of the vectors lacks are stored as the next wider one that it has.

Each case draws its numbers from a generator seeded with its own name: adding or removing
a case changes no other. Quantised cases use scales of odd ten-thousandths, with which
a rounding tie is (next to) impossible, so that they can be compared exactly.

The samples of the set `every` are all in one file, `every/samples.npz`, models too.

    pip install numpy onnx onnxruntime
    python make.py [SET ...]            all sets, or those named (the one without a name is `-`)
"""

import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from graphs import CASES, Const, Graph, booleans, case, dtype_of, f32, i8, i64, integers, node, one, positive, reals
from graphs import several, u8
import contrib
import every
# These register the recipes of `every`.
import every_contrib  # noqa: F401
import every_movement  # noqa: F401
import every_recipes  # noqa: F401
from broad import broad
from corners import corners
from defaults import defaults
from epilogues import epilogues
from folding import folding
from grids import constants_among_quantised, zero_points
from indices import gathers, largest, masks, scatters
from loops import loops
from networks import networks
from recurrent import recurrent
from resizes import resizes
from sampling import aligned, boxes, deformed, grids
from scans_and_branches import branches, scans
from sequences import sequences
from spectra import spectra
from versions import versions
from whiles import whiles

HERE = pathlib.Path(__file__).resolve().parent
# Scales of inputs, weights, and outputs, for most quantised cases.
SX, SW, SY = 0.0213, 0.0117, 0.0531
# Element types that the reader of the vectors lacks, and what they are stored as.
STORED = {
    "int16": np.int32,
    "uint16": np.int32,
    "uint32": np.int64,
    "uint64": np.int64,
    "int4": np.int8,
    "uint4": np.uint8,
    "float16": np.float32,
    "bfloat16": np.float32,
}


def elementwise():
    """Operators on single elements, with broadcasting and integers."""

    @case("unary_7", 7)
    def _(g):
        x, p = g.input("x", reals(3, 7, scale=2.0)), g.input("p", positive(3, 7))
        for (
            kind
        ) in (
            "Abs Ceil Cos Elu Exp Floor HardSigmoid LeakyRelu Neg Relu Selu Sigmoid Sin Softplus Softsign Tanh".split()
        ):
            g.out(g.op(kind, x, name=kind))
        for kind in "Log Reciprocal Sqrt".split():
            g.out(g.op(kind, p, name=kind))

    @case("unary_attributes", 8)
    def _(g):
        x = g.input("x", reals(3, 7, scale=3.0))
        g.out(g.op("Elu", x, alpha=0.3), g.op("HardSigmoid", x, alpha=0.3, beta=0.4), g.op("LeakyRelu", x, alpha=-0.2))
        g.out(g.op("Selu", x, alpha=1.2, gamma=0.7))

    @case("unary_20", 20)
    def _(g):
        x = g.input("x", reals(3, 7, scale=2.0))
        for kind in "Erf Gelu HardSwish Mish Sign Round".split():
            g.out(g.op(kind, x, name=kind))
        g.out(g.op("Gelu", x, name="GeluTanh", approximate="tanh"))

    one("round_ties", "Round", f32([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.4]))
    one("nan_abs", "Abs", f32([np.nan, -np.inf, -0.0, 3.0]))
    one("nan_relu", "Relu", f32([np.inf, -np.inf, -0.0, 3.0]))
    one("abs_i32", "Abs", np.array([-128, -1, 0, 127], np.int32))
    one("neg_i64", "Neg", i64(-(2**40), 5, 0))
    kinds = "Add Sub Mul Div Max Min Sum Mean".split()
    several("broadcast", [node(kind, reals(3, 1, 5), positive(4, 1)) for kind in kinds], opset=13)
    a, b = np.array([7, -7, 7, -7, 2**20], np.int32), np.array([2, 2, -2, -2, 3], np.int32)
    several("i32_binary", [node(kind, a, b) for kind in kinds[:6]], opset=14)
    one("swish", "Swish", reals(3, 4), opset=24, alpha=1.7)
    one("i64_add", "Add", i64(2**53 + 1, 2), i64(2, -(2**60)), opset=7)
    one("max_three", "Max", reals(3, 4), reals(4), reals(1, 1, 4), opset=8)
    one("mean_three", "Mean", reals(3, 4), reals(4), reals(3, 1), opset=13)
    one("sum_single", "Sum", reals(3, 4), opset=8)

    @case("compare", 16)
    def _(g):
        x, y = g.input("x", integers(np.int32, 3, 4, low=0, high=3)), g.input("y", integers(np.int32, 4, low=0, high=3))
        for kind in "Equal Greater GreaterOrEqual Less LessOrEqual".split():
            g.out(g.op(kind, x, y))

    @case("logic", 7)
    def _(g):
        x, y = g.input("x", booleans(3, 1, 4)), g.input("y", booleans(5, 1))
        g.out(g.op("And", x, y), g.op("Or", x, y), g.op("Xor", x, y), g.op("Not", x))

    one("pow_float", "Pow", positive(3, 4), reals(4), opset=12)
    one("pow_half", "Pow", positive(3, 4), Const(f32(0.5)), opset=13)
    one("pow_cube", "Pow", reals(3, 4), Const(f32(3)), opset=7)
    one("pow_i64_exponent", "Pow", reals(3), Const(i64(3, 2, 0)), opset=15)
    one("pow_i32", "Pow", np.array([2, 3, -4], np.int32), np.array([3, 2, 3], np.int32), opset=15)
    one("prelu_constant", "PRelu", reals(2, 3, 4, 4), Const(reals(3, 1, 1)), opset=9)
    one("prelu_input", "PRelu", reals(2, 3, 4), reals(3, 1), opset=16)
    one("clip_6", "Clip", reals(3, 4), opset=6, min=-0.2, max=0.3)
    one("clip_no_min", "Clip", reals(3, 4), None, Const(f32(0.2)), opset=13)
    one("clip_no_max", "Clip", reals(3, 4), Const(f32(0.2)), opset=11)
    one("clip_crossed", "Clip", reals(3, 4), Const(f32(0.2)), Const(f32(-0.3)), opset=13)
    one("clip_inputs", "Clip", reals(3, 4), f32(-0.2), f32(0.3), opset=13)
    one("clip_i32", "Clip", np.array([-5, 3, 9], np.int32), Const(np.int32(-1)), Const(np.int32(4)), opset=12)
    one("where_broadcast", "Where", booleans(2, 1), reals(3, 1, 1), reals(4), opset=9)
    one("where_i64", "Where", booleans(5), i64(1, 2, 3, 4, 2**60 + 1), Const(i64(-7)), opset=16)

    @case("cast", 13)
    def _(g):
        x = g.input("x", f32([1.9, -1.9, 100.2, -100.7, 0.5, -0.3, 0]))
        n = g.input("n", i64(1, -1, 200, 300, -300, 0))
        p = TensorProto
        g.out(*(g.op("Cast", x, to=t) for t in (p.INT8, p.INT32, p.INT64, p.BOOL)))
        g.out(*(g.op("Cast", n, to=t) for t in (p.INT8, p.UINT8, p.INT32, p.FLOAT, p.BOOL)))


def reductions():
    """Reductions, arg, cumulative sums."""
    kinds = "ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare".split()
    for kind in kinds:

        @case(f"{kind.lower()}_11", 11, kind=kind)
        def _(g, kind):
            x = g.input("x", reals(2, 3, 4, 5))
            g.out(g.op(kind, x, axes=[-1, 1]), g.op(kind, x, axes=[0], keepdims=0), g.op(kind, x, keepdims=0))
            g.out(g.op(kind, x, axes=[0, 2], keepdims=0), g.op(kind, g.input("scalar", f32(-3.0)), keepdims=0))

        @case(f"{kind.lower()}_18", 18, kind=kind)
        def _(g, kind):
            x = g.input("x", reals(2, 3, 4))
            g.out(g.op(kind, x, i64(-2)), g.op(kind, x), g.op(kind, x, i64(0, 2), keepdims=0))
            g.out(g.op(kind, x, noop_with_empty_axes=1), g.op(kind, g.input("scalar", f32(-3.0))))

    empty = Const(np.zeros(0, np.int64))
    one("reducesum_empty_axes", "ReduceSum", reals(2, 3), empty, opset=13)
    one("reducesum_empty_axes_noop", "ReduceSum", reals(2, 3), empty, opset=13, noop_with_empty_axes=1)
    one("reducel2_empty_axes_noop", "ReduceL2", reals(2, 3), empty, opset=18, noop_with_empty_axes=1)
    several(
        "reduce_i32",
        [node(kind, np.array([[7, -3], [2, 6]], np.int32), axes=[1]) for kind in kinds if kind != "ReduceL2"],
        opset=11,
    )
    one("reducemax_i8", "ReduceMax", i8(3, 4), opset=13, axes=[1])
    one("argmax", "ArgMax", reals(2, 3, 4), opset=11, axis=-2, keepdims=0)
    one("argmax_last", "ArgMax", f32([[1, 3, 3], [2, 2, 1]]), opset=13, axis=1, select_last_index=1)
    one("argmin_first", "ArgMin", np.array([[1, 1, 3], [2, 0, 0]], np.int32), opset=13, axis=1)
    one("argmin_default", "ArgMin", reals(3, 4), opset=7)
    orders = [dict(exclusive=e, reverse=r) for e in (0, 1) for r in (0, 1)]
    several("cumsum", [node("CumSum", reals(3, 4, 2), Const(np.int64(-2)), **order) for order in orders], opset=14)
    one("cumsum_i32", "CumSum", np.array([[1, 2], [3, 4]], np.int32), Const(np.int32(1)), opset=11)


def normalisations():
    """Norms, softmax."""
    for kind in ("Softmax", "LogSoftmax"):
        for opset in (11, 13):

            @case(f"{kind.lower()}_{opset}", opset, kind=kind)
            def _(g, kind):
                x = g.input("x", reals(2, 3, 4, scale=4.0))
                g.out(g.op(kind, x), *(g.op(kind, x, axis=axis) for axis in (-1, 0, 1, 2)))

    for opset in (7, 9, 14, 15):
        inputs = [Const(reals(3)), Const(reals(3)), Const(reals(3)), Const(positive(3))]
        one(f"batchnorm_{opset}", "BatchNormalization", reals(2, 3, 4, 2), *inputs, opset=opset, epsilon=1e-3)

    @case("batchnorm_conv", 15)
    def _(g):
        x = g.input("x", reals(1, 2, 4, 4))
        n = g.op("BatchNormalization", x, reals(2), reals(2), reals(2), positive(2))
        c = g.op("Conv", n, reals(3, 2, 3, 3), pads=[1] * 4)
        g.out(g.op("BatchNormalization", c, reals(3), reals(3), reals(3), positive(3)))

    one("instancenorm", "InstanceNormalization", reals(2, 3, 4, 5), Const(reals(3)), Const(reals(3)), opset=6)
    one("instancenorm_1d", "InstanceNormalization", reals(2, 3, 6), reals(3), reals(3), opset=17)
    one("layernorm", "LayerNormalization", reals(2, 3, 4), Const(reals(4)), Const(reals(4)))
    one("layernorm_axis_1", "LayerNormalization", reals(2, 3, 4), Const(reals(3, 4)), axis=1)
    one("layernorm_axis_0", "LayerNormalization", reals(2, 3, 4), reals(2, 3, 4), reals(2, 3, 4), axis=0, epsilon=1e-2)

    one("rmsnorm", "RMSNormalization", reals(2, 3, 4), Const(reals(4)), opset=23)
    one("rmsnorm_axis_1", "RMSNormalization", reals(2, 3, 4), reals(3, 4), opset=23, axis=1, epsilon=1e-2)

    # Norms and others over axes that a transposition pulled apart.
    @case("layernorm_behind_transpose")
    def _(g):
        t = g.op("Transpose", g.input("x", reals(2, 3, 4, 5)), perm=[0, 2, 1, 3])
        g.out(g.op("LayerNormalization", t, reals(3, 5), axis=2))

    @case("instancenorm_behind_transpose")
    def _(g):
        t = g.op("Transpose", g.input("x", reals(2, 3, 4, 5)), perm=[2, 0, 1, 3])
        g.out(g.op("InstanceNormalization", t, reals(2), reals(2)))

    @case("channels_last")
    def _(g):
        t = g.op("Transpose", g.input("x", reals(2, 3, 4, 5)), perm=[0, 2, 3, 1])
        g.out(g.op("LayerNormalization", t, reals(3), reals(3)), g.op("Softmax", t, axis=-1))
        g.out(g.op("ArgMax", t, axis=-1, keepdims=0), g.op("CumSum", t, np.int64(2)))
        g.out(g.op("ReduceMean", t, axes=[1, 3], keepdims=0))

    def written_out(g, x, axes, scale):
        """A layer norm in single operators."""
        d = g.op("Sub", x, g.op("ReduceMean", x, axes=axes))
        v = g.op("ReduceMean", g.op("Pow", d, f32(2)), axes=axes)
        return g.op("Mul", g.op("Div", d, g.op("Sqrt", g.op("Add", v, f32(1e-5)))), scale)

    @case("norm_written_out", 13)
    def _(g):
        x = g.input("x", reals(2, 3, 4, 5))
        g.out(written_out(g, x, [-1], reals(5)), written_out(g, x, [1], reals(3, 1, 1)))
        g.out(written_out(g, x, [1, 3], reals(3, 1, 1)))

    @case("norm_written_out_behind_transpose", 13)
    def _(g):
        t = g.op("Transpose", g.input("x", reals(2, 3, 4, 5)), perm=[0, 2, 1, 3])
        g.out(written_out(g, t, [2, 3], reals(3, 5)))


def convolutions():
    """Convolutions, pools."""
    variants = {
        "plain": dict(strides=[2, 1], pads=[1, 0, 2, 1]),
        "dilated": dict(dilations=[2, 1], pads=[2, 1, 2, 1]),
        "same_upper": dict(auto_pad="SAME_UPPER", strides=[2, 3]),
        "same_lower": dict(auto_pad="SAME_LOWER", strides=[2, 3]),
        "valid": dict(auto_pad="VALID"),
    }
    for name, attributes in variants.items():
        dense = node("Conv", reals(2, 4, 7, 6), Const(reals(3, 4, 3, 2)), Const(reals(3)), **attributes)
        grouped = node("Conv", reals(1, 4, 7, 6), Const(reals(6, 2, 3, 2)), group=2, **attributes)
        depthwise = node("Conv", reals(1, 4, 7, 6), Const(reals(4, 1, 3, 2)), Const(reals(4)), group=4, **attributes)
        several(f"conv_{name}", [dense, grouped, depthwise], opset=11)
    one("conv_1d", "Conv", reals(2, 4, 9), Const(reals(3, 4, 3)), strides=[2], pads=[2, 0])
    one("conv_depthwise_multiplied", "Conv", reals(1, 2, 6, 6), Const(reals(6, 1, 3, 3)), group=2, pads=[1, 0, 0, 1])
    one("conv_bias_input", "Conv", reals(1, 2, 5, 5), Const(reals(3, 2, 3, 3)), reals(3), opset=11)
    one("conv_depthwise_bias_input", "Conv", reals(1, 4, 5, 5), Const(reals(4, 1, 3, 3)), reals(4), group=4)

    @case("conv_neighbours")
    def _(g):
        x = g.input("x", reals(1, 4, 5, 5))
        c = g.op("Conv", x, reals(4, 4, 1, 1), reals(4))
        g.out(g.op("Relu", g.op("Add", c, x)), g.op("Sub", reals(4, 1, 1), c), g.op("Add", c, c))
        d = g.op("Conv", g.op("Relu", x), reals(1, 4, 1, 1))
        g.out(g.op("Add", d, reals(1, 3, 1, 1)), g.op("Relu", g.op("Mul", d, f32([[[-1]], [[2]], [[0]]]))))

    variants = {
        "plain": dict(strides=[2, 3], pads=[1, 0, 1, 1]),
        "output_padding": dict(strides=[2, 3], output_padding=[1, 2], pads=[1, 1, 0, 0]),
        "dilated": dict(dilations=[2, 1], strides=[1, 2]),
        "same_upper": dict(auto_pad="SAME_UPPER", strides=[2, 2]),
        "same_lower": dict(auto_pad="SAME_LOWER", strides=[2, 2]),
        "shape": dict(output_shape=[10, 9], strides=[2, 2]),
        "shape_odd": dict(output_shape=[8, 9], strides=[2, 2]),
        "shape_upper": dict(output_shape=[10, 8], strides=[2, 2], auto_pad="SAME_UPPER"),
        "shape_lower": dict(output_shape=[10, 8], strides=[2, 2], auto_pad="SAME_LOWER"),
    }
    for name, attributes in variants.items():
        one(
            f"convtranspose_{name}",
            "ConvTranspose",
            reals(1, 4, 5, 4),
            Const(reals(4, 3, 3, 3)),
            Const(reals(3)),
            opset=11,
            **attributes,
        )
    one("convtranspose_grouped", "ConvTranspose", reals(1, 4, 5, 4), Const(reals(4, 2, 2, 4)), group=2, strides=[3, 2])
    one(
        "convtranspose_grouped_shape",
        "ConvTranspose",
        reals(1, 4, 5, 4),
        Const(reals(4, 2, 2, 4)),
        group=2,
        strides=[3, 2],
        output_shape=[13, 9],
    )
    one("convtranspose_1d", "ConvTranspose", reals(1, 4, 5), Const(reals(4, 3, 4)), strides=[2], pads=[1, 1])
    one(
        "convtranspose_1d_shape", "ConvTranspose", reals(1, 4, 5), Const(reals(4, 3, 4)), strides=[2], output_shape=[11]
    )

    variants = {
        "plain": dict(kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 2, 1]),
        "ceil": dict(kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
        "ceil_padded": dict(kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, pads=[1, 1, 1, 1]),
        "ceil_gap": dict(kernel_shape=[2, 2], strides=[3, 3], ceil_mode=1),
        "same_upper": dict(kernel_shape=[3, 2], strides=[2, 3], auto_pad="SAME_UPPER"),
        "same_lower": dict(kernel_shape=[3, 2], strides=[2, 3], auto_pad="SAME_LOWER"),
    }
    several("maxpool", [node("MaxPool", reals(1, 2, 8, 7, offset=-5.0), **a) for a in variants.values()], opset=12)
    for opset in (12, 19):

        @case(f"averagepool_{opset}", opset)
        def _(g):
            x = g.input("x", reals(1, 2, 8, 7))
            for name, attributes in variants.items():
                for include in (0, 1):
                    padded = f"{name}_{'with' if include else 'without'}_padding"
                    g.out(g.op("AveragePool", x, name=padded, count_include_pad=include, **attributes))

    one("maxpool_1d", "MaxPool", reals(2, 3, 9), opset=12, kernel_shape=[3], strides=[2], dilations=[2])
    one("maxpool_u8", "MaxPool", u8(1, 3, 6, 6), opset=12, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    one("averagepool_7", "AveragePool", reals(1, 2, 6, 6), opset=7, kernel_shape=[3, 3], pads=[1] * 4)
    one("averagepool_dilated", "AveragePool", reals(2, 3, 9), opset=19, kernel_shape=[3], dilations=[2], pads=[1, 1])
    one("globalaveragepool", "GlobalAveragePool", reals(2, 3, 4, 5), opset=7)
    one("globalmaxpool", "GlobalMaxPool", reals(2, 3, 4), opset=7)


def products():
    """Matrix products, Einsum, DFT."""
    pairs = [
        (reals(2, 1, 3, 4), reals(5, 4, 6)),
        (reals(2, 3, 4), Const(reals(4, 5))),
        (reals(4), reals(4)),
        (reals(4), Const(reals(2, 4, 3))),
        (reals(2, 3, 4), reals(4)),
    ]
    for opset in (7, 13):
        several(f"matmul_{opset}", [node("MatMul", a, b) for a, b in pairs], opset)
    one("gemm", "Gemm", reals(3, 4), Const(reals(5, 4)), Const(reals(5)), opset=11, transB=1, alpha=0.5, beta=0.25)
    one("gemm_transposed", "Gemm", reals(4, 3), reals(4, 5), reals(3, 1), opset=13, transA=1, alpha=2.0)
    one("gemm_no_bias", "Gemm", reals(3, 4), Const(reals(4, 5)), opset=11)
    one("gemm_scalar_bias", "Gemm", reals(3, 4), Const(reals(4, 5)), Const(f32(0.7)), opset=7, beta=3.0)
    forms = {
        "batch": ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)),
        "implicit": ("ij,kj", (3, 4), (5, 4)),
        "order": ("ba,cb", (3, 4), (5, 3)),
        "sum": ("ij->j", (3, 4)),
        "three": ("bij,i,jb->b", (2, 3, 4), (3,), (4, 2)),
        "outer": ("i,j->ji", (3,), (4,)),
        "attention": ("bqhd,bkhd->bhqk", (2, 3, 2, 4), (2, 5, 2, 4)),
        "all": ("ij,ij->", (3, 4), (3, 4)),
        "transpose": ("abc->cab", (2, 3, 4)),
    }

    @case("einsum", 12)
    def _(g):
        for name, (equation, *shapes) in forms.items():
            inputs = [g.input(g.fresh("x"), reals(*s)) for s in shapes]
            g.out(g.op("Einsum", *inputs, name=name, equation=equation))

    one("dft_17", "DFT", reals(2, 6, 3, 1), opset=17, axis=1)
    one("dft_onesided", "DFT", reals(2, 7, 1), opset=17, axis=1, onesided=1)
    one("dft_inverse", "DFT", reals(2, 6, 2), opset=17, axis=1, inverse=1)
    one("dft_longer", "DFT", reals(2, 6, 1), Const(np.int64(8)), opset=17, axis=1)
    one("dft_20", "DFT", reals(2, 5, 4, 2), Const(np.int64(3)), Const(np.int64(-2)), opset=20)


def movement():
    """Operators that only move elements, and shapes."""
    one("flatten", "Flatten", reals(2, 3, 4), opset=11, axis=-1)
    one("flatten_0", "Flatten", reals(2, 3, 4), opset=7, axis=0)
    one("transpose_default", "Transpose", reals(2, 3, 4), opset=7)
    one("transpose_5d", "Transpose", reals(2, 3, 4, 2, 3), opset=13, perm=[4, 0, 3, 1, 2])
    one("transpose_i8", "Transpose", i8(2, 3, 4), opset=13, perm=[1, 2, 0])
    one("squeeze_all", "Squeeze", reals(1, 3, 1), opset=13)
    one("squeeze_11", "Squeeze", reals(1, 3, 1), opset=11, axes=[-1])
    one("squeeze_13", "Squeeze", reals(1, 3, 1), Const(i64(-3)), opset=13)
    one("unsqueeze_11", "Unsqueeze", reals(3, 2), opset=11, axes=[0, -1])
    one("unsqueeze_13", "Unsqueeze", reals(3, 2), Const(i64(-1, 0, 2)), opset=13)
    one("reshape_zero", "Reshape", reals(2, 3, 4), Const(i64(0, -1)), opset=7)
    one("reshape_input", "Reshape", reals(2, 3, 4), i64(4, -1), opset=13)
    one("reshape_scalar", "Reshape", reals(1, 1), Const(np.zeros(0, np.int64)), opset=13)
    one("slice_9", "Slice", reals(6, 7), opset=9, starts=[1, -3], ends=[100, -1], axes=[0, 1])
    one(
        "slice_negative_steps",
        "Slice",
        reals(6, 7),
        *map(Const, (i64(-1, 5), i64(-(2**63), 1), i64(0, -1), i64(-2, -1))),
        opset=13,
    )
    one("slice_no_axes", "Slice", reals(6, 7), Const(i64(1, 2)), Const(i64(5, 6)), None, Const(i64(2, 2)), opset=11)
    one("slice_i32", "Slice", reals(6, 7), *(Const(np.array([v], np.int32)) for v in (4, -100, -1, -3)), opset=10)
    one("slice_inputs", "Slice", reals(6, 7), i64(1), i64(2**31), i64(1), opset=13)
    one("split_11", "Split", reals(2, 6), opset=11, outputs=2, axis=-1, split=[4, 2])
    one("split_13", "Split", reals(2, 7), Const(i64(3, 4)), opset=13, outputs=2, axis=1)
    one("split_uneven", "Split", reals(2, 7), opset=18, outputs=3, axis=-1, num_outputs=3)
    one("concat", "Concat", reals(2, 3), reals(2, 1), Const(reals(2, 2)), opset=11, axis=-1)
    one("concat_i64", "Concat", i64(1, 2**60 + 1), i64(3), opset=13, axis=0)
    one("gather", "Gather", reals(4, 5), np.array([[0, -1], [2, 1]], np.int64), opset=11, axis=-1)
    one("gather_constant", "Gather", reals(4, 5), Const(np.array([[0, -1], [2, 1]], np.int64)), opset=7)
    one("gather_scalar", "Gather", reals(4, 5), np.int32(-2), opset=13, axis=1)
    one("gather_scalar_constant", "Gather", reals(4, 5), Const(np.int64(-2)), opset=13, axis=1)
    one("gather_table", "Gather", Const(reals(10, 5)), np.array([[7, 1]], np.int64), opset=13)
    one("gather_i64", "Gather", i64(2**60 + 1, 5), i64(1, 0), opset=13)
    one("expand", "Expand", reals(3, 1), Const(i64(2, 1, 4)), opset=8)
    one("expand_ones", "Expand", reals(3, 4), Const(i64(1, 1)), opset=13)
    one("tile", "Tile", reals(2, 3), Const(i64(2, 3)), opset=6)
    one("depthtospace_dcr", "DepthToSpace", reals(1, 8, 2, 3), opset=7, blocksize=2)
    one("depthtospace_crd", "DepthToSpace", reals(1, 8, 2, 3), opset=13, blocksize=2, mode="CRD")
    for mode in ("constant", "reflect", "edge"):
        plain = node("Pad", reals(2, 3, 4, 5), Const(i64(0, 0, 1, 2, 0, 0, 2, 3)), mode=mode)
        negative = node("Pad", reals(4, 5), Const(i64(-1, 2, 1, -2)), mode=mode)
        several(f"pad_{mode}_13", [plain, negative], opset=13)
        one(f"pad_{mode}_10", "Pad", reals(2, 3, 4), opset=10, pads=[0, 1, 1, 0, 1, 2], mode=mode)
    one("pad_wrap", "Pad", reals(4, 5), Const(i64(1, 2, 1, 1)), opset=19, mode="wrap")
    one("pad_value_10", "Pad", reals(4, 5), opset=10, pads=[1, 0, 0, 1], value=2.5)
    one("pad_value", "Pad", reals(4, 5), Const(i64(1, 1, 1, 1)), Const(f32(3.5)), opset=11)
    one("pad_axes", "Pad", reals(4, 5), Const(i64(1, 2)), Const(f32(-1)), Const(i64(-1)), opset=18)
    one("pad_i64", "Pad", i64(1, 2), Const(i64(1, 1)), Const(np.int64(7)), opset=13)

    @case("pad_folded")
    def _(g):
        x, pads = g.input("x", reals(1, 2, 4, 4)), i64(0, 0, 1, 1, 0, 0, 1, 1)
        g.out(g.op("Conv", g.op("Pad", x, pads, f32(0.5)), reals(3, 2, 3, 3), pads=[1] * 4))
        g.out(g.op("Conv", g.op("Pad", x, pads), reals(3, 2, 3, 3)))
        g.out(g.op("MaxPool", g.op("Pad", x, pads), kernel_shape=[2, 2]))
        g.out(g.op("AveragePool", g.op("Pad", x, pads), kernel_shape=[3, 3], pads=[1] * 4))

    @case("shapes", 15)
    def _(g):
        x = g.input("x", reals(2, 7))
        n = g.op("Gather", g.op("Shape", x), np.int64(1), axis=0)
        g.out(g.op("Reshape", x, g.op("Concat", g.op("Unsqueeze", n, i64(0)), i64(-1), axis=0)))
        g.out(g.op("Shape", x, start=-1), g.op("Size", x), g.op("Range", np.int64(0), n, np.int64(2)))
        g.out(g.op("ConstantOfShape", g.op("Shape", x), value=numpy_helper.from_array(f32([1.5]))))
        g.out(g.op("Add", x, g.op("ScatterND", reals(2, 7), np.array([[1, 3], [0, -1]], np.int64), f32([5, 6]))))
        g.out(g.op("Mul", x, g.op("Constant", value_float=2.5)), g.op("Dropout", x), g.op("Identity", x))

    @case("initialiser_as_output")
    def _(g):
        g.out(g.op("Relu", g.input("x", reals(3))), g.const(reals(2, 2), "w"))

    @case("input_as_output")
    def _(g):
        x = g.input("x", reals(3))
        g.out(x, g.op("Relu", x))

    @case("unused_input")
    def _(g):
        x, _ = g.input("x", reals(3)), g.input("unused", reals(4))
        g.out(g.op("Relu", x))

    @case("outputs_of_outputs")
    def _(g):
        y = g.op("Relu", g.input("x", reals(3)))
        z = g.op("Identity", y)
        g.out(y, z, g.op("Neg", z), g.op("Identity", y))


def quantised():
    """QLinear operators, and quantised graphs in QDQ form."""
    zeros = {np.int8: 7, np.uint8: 99}
    for x, w, y in ((np.uint8, np.uint8, np.uint8), (np.uint8, np.int8, np.uint8), (np.int8, np.int8, np.int8)):
        name = f"{np.dtype(x)}_{np.dtype(w)}"
        wz = w(99) if w is np.uint8 else w(0)

        @case(f"qlinearconv_{name}", 10, x=x, w=w, y=y, wz=wz)
        def _(g, x, w, y, wz):
            bias = integers(np.int32, 4, low=-500, high=500)
            args = [f32(SX), x(7), integers(w, 4, 3, 3, 3), f32(SW), wz, f32(0.3011), y(50), bias]
            g.out(g.op("QLinearConv", g.input("x", integers(x, 1, 3, 5, 6)), *args, pads=[1, 0, 2, 1]))

        @case(f"qlinearmatmul_{name}", 10, x=x, w=w, y=y, wz=wz)
        def _(g, x, w, y, wz):
            args = [f32(SX), x(7), integers(w, 5, 4), f32(SW), wz, f32(0.1013), y(50)]
            g.out(g.op("QLinearMatMul", g.input("x", integers(x, 2, 3, 5)), *args))

        @case(f"qdq_conv_{name}", 13, x=x, w=w, y=y)
        def _(g, x, w, y):
            a = g.qdq(g.input("x", reals(1, 3, 6, 5)), SX, x(zeros[x]))
            weights = g.weights(integers(w, 4, 3, 3, 3), SW, w(zeros[w]))
            bias = g.weights(integers(np.int32, 4, low=-999, high=999), SX * SW)
            g.out(g.q(g.op("Conv", a, weights, bias, pads=[1] * 4, strides=[2, 1]), 3 * SY, y(10)))

    scales = lambda n: (lambda rng: ((rng.integers(20, 120, n) * 2 + 1) * 1e-4).astype(np.float32))

    @case("qlinearconv_per_channel", 10)
    def _(g):
        args = [f32(SX), np.uint8(7), i8(8, 1, 3), scales(8), np.zeros(8, np.int8), f32(0.1013), np.uint8(50)]
        g.out(g.op("QLinearConv", g.input("x", u8(1, 4, 9)), *args, group=4, pads=[2, 1], strides=[2]))

    @case("qlinearmatmul_per_channel", 21)
    def _(g):
        args = [f32(SX), np.int8(7), i8(5, 4), scales(4), np.zeros(4, np.int8), f32(0.1013), np.int8(50)]
        g.out(g.op("QLinearMatMul", g.input("x", i8(3, 5)), *args))

    @case("qlinearmatmul_inputs", 10)
    def _(g):
        args = [g.input("y", u8(2, 5, 4)), f32(SW), np.uint8(100), f32(0.1013), np.uint8(50)]
        g.out(g.op("QLinearMatMul", g.input("x", u8(2, 3, 5)), f32(SX), np.uint8(7), *args))

    def qlinear(g, x, channels, out, size=3, scale=SX, zero=7):
        """A QLinearConv on uint8 whose output has scale 0.3011 and zero point 50."""
        args = [
            f32(scale),
            np.uint8(zero),
            u8(out, channels, size, size),
            f32(SW),
            np.uint8(128),
            f32(0.3011),
            np.uint8(50),
        ]
        return g.op("QLinearConv", x, *args)

    # What stands between two quantised operators works on the integers, whatever they mean.
    between = {
        "max": lambda g, y: g.op("Max", y, np.uint8(100)),
        "min": lambda g, y: g.op("Min", y, np.uint8(100)),
        "clip": lambda g, y: g.op("Clip", y, np.uint8(10), np.uint8(100)),
        "where": lambda g, y: g.op("Where", np.array([True, False, True]), y, np.uint8(77)),
        "reducemax": lambda g, y: g.op("ReduceMax", y, axes=[2]),
        "pad": lambda g, y: g.op("Pad", y, i64(0, 0, 1, 1, 0, 0, 1, 1)),
        "pad_value": lambda g, y: g.op("Pad", y, i64(0, 0, 1, 1, 0, 0, 1, 1), np.uint8(9)),
        "pad_zero_point": lambda g, y: g.op("Pad", y, i64(0, 0, 1, 1, 0, 0, 1, 1), np.uint8(50)),
        "pad_edge": lambda g, y: g.op("Pad", y, i64(0, 0, 1, 1, 0, 0, 1, 1), mode="edge"),
        "concat": lambda g, y: g.op("Concat", y, u8(1, 4, 1, 3), axis=2),
        "gather": lambda g, y: g.op("Gather", y, i64(2, 0), axis=2),
        "tile": lambda g, y: g.op("Tile", y, i64(1, 1, 2, 1)),
        "maxpool": lambda g, y: g.op("MaxPool", y, kernel_shape=[2, 2], pads=[1, 0, 0, 1]),
    }
    for name, build in between.items():

        @case(f"raw_{name}", 13, build=build)
        def _(g, build):
            y = qlinear(g, g.input("x", u8(1, 3, 5, 5)), 3, 4)
            g.out(qlinear(g, build(g, y), 4, 2, size=1, scale=0.3011, zero=50))
            y = g.input("y", u8(1, 4, 3, 3))
            m = build(g, y)
            g.out(g.dq(m, SX, np.uint8(50)), m, g.dq(y, SY, np.uint8(3)))
            z = g.q(g.input("z", reals(1, 4, 3, 3)), SX, np.uint8(100))
            m = build(g, z)
            g.out(g.dq(m, SX, np.uint8(100)), m)

    @case("raw_inside", 13)
    def _(g):
        # Nothing but the dequantised values leaves the graph.
        for name, build in between.items():
            z = g.q(g.input(f"x_{name}", reals(1, 4, 3, 3)), SX, np.uint8(100))
            y = g.dq(build(g, z), SX, np.uint8(100))
            g.out(g.op("Identity", y, name=name))

    @case("raw_add_dequantised", 13)
    def _(g):
        y = g.op("Add", g.input("x", integers(np.int32, 4, low=-99, high=99)), np.int32(5))
        d = g.dq(y, SX)
        g.out(y, d, g.op("Relu", d))

    @case("raw_add_u8_dequantised", 14)
    def _(g):
        x = g.input("x", integers(np.uint8, 3, 4, low=0, high=100))
        y = g.op("Cast", g.op("Add", g.op("Cast", x, to=TensorProto.INT32), np.int32(5)), to=TensorProto.UINT8)
        g.out(g.dq(y, SX, np.uint8(50)), y)

    @case("raw_max_i8", 13)
    def _(g):
        y = g.op("Max", g.input("x", i8(3, 4)), g.input("y", i8(4)))
        g.out(g.dq(y, SX, np.int8(-9)), y, g.dq("x", SX, np.int8(-9)), g.dq("y", SY, np.int8(4)))

    @case("raw_argmax_and_cast", 13)
    def _(g):
        x = g.q(g.input("x", reals(3, 5)), SX, np.uint8(100))
        g.out(g.op("Cast", x, to=TensorProto.INT32), g.op("Mul", g.op("Cast", x, to=TensorProto.FLOAT), f32(2)))
        g.out(g.op("ArgMax", g.dq(x, SX, np.uint8(100)), axis=1), g.dq(x, SY, np.uint8(3)))

    # Constants that DequantizeLinear reads, and others as they are.
    @case("constant_dequantised_and_raw", 13)
    def _(g):
        w, x = g.const(i8(4, 4), "w"), g.input("x", reals(3, 4))
        g.out(g.op("MatMul", x, g.dq(w, SW, np.int8(4))), g.op("Concat", w, w, axis=0), g.op("Transpose", w))
        g.out(g.op("Max", w, np.int8(4)), g.op("ReduceMax", w, axes=[0]), g.op("Gather", w, i64(1)))
        g.out(
            g.op("Pad", w, i64(1, 0, 0, 0)),
            g.op("Clip", w, np.int8(-4), np.int8(4)),
            g.op("Cast", w, to=TensorProto.INT32),
        )
        g.out(g.op("Where", np.array([True, False, True, False]), w, np.int8(0)))

    @case("constant_cast_and_dequantised", 13)
    def _(g):
        x, w = g.input("x", reals(3, 4)), g.const(i8(4, 4), "w")
        g.out(g.op("MatMul", x, g.op("Cast", w, to=TensorProto.FLOAT)), g.op("MatMul", x, g.dq(w, SW)))

    @case("constant_i32_dequantised_and_added", 13)
    def _(g):
        w, x = g.const(integers(np.int32, 4, low=-99, high=99), "w"), g.input(
            "x", integers(np.int32, 4, low=-9, high=9)
        )
        g.out(g.dq(w, SW), g.op("Add", w, x), g.op("Mul", w, np.int32(3)), g.op("Cast", w, to=TensorProto.FLOAT))
        g.out(g.op("ReduceSum", w), g.op("Max", w, x))

    @case("constant_two_scales", 13)
    def _(g):
        a, w = g.qdq(g.input("x", reals(3, 4)), SX, np.int8(3)), g.const(i8(4, 4), "w")
        y = g.qdq(g.op("MatMul", a, g.dq(w, SW)), SY, np.int8(0))
        g.out(
            g.q(g.op("MatMul", y, g.dq(w, 0.0301, np.int8(5))), 3 * SY, np.int8(0)),
            g.op("Cast", w, to=TensorProto.INT32),
        )

    @case("constant_shared_zero_point", 13)
    def _(g):
        # The zero point is read as a number, too.
        z = g.const(np.uint8(50), "z")
        x = g.input("x", u8(3, 4))
        d = g.op("DequantizeLinear", x, f32(SX), z)
        g.out(g.op("Max", x, z), g.op("QuantizeLinear", g.op("Relu", d), f32(SY), z))

    # QDQ form.
    @case("qdq_conv_per_channel", 13)
    def _(g):
        a = g.qdq(g.input("x", reals(2, 4, 6, 5)), SX, np.uint8(99))
        w = g.op("DequantizeLinear", i8(6, 2, 3, 3), scales(6), np.zeros(6, np.int8), axis=0)
        g.out(g.q(g.op("Relu", g.op("Conv", a, w, reals(6), group=2, pads=[1] * 4)), SY, np.uint8(0)))

    @case("qdq_depthwise_u8", 13)
    def _(g):
        a = g.qdq(g.input("x", reals(1, 4, 5, 5)), SX, np.uint8(200))
        c = g.op("Conv", a, g.weights(u8(4, 1, 3, 3), SW, np.uint8(255)), group=4, pads=[2, 1, 0, 2], strides=[1, 2])
        g.out(g.q(g.op("Relu", c), 3 * SY, np.uint8(0)))

    @case("qdq_weights_input_axis", 13)
    def _(g):
        a = g.qdq(g.input("x", reals(1, 3, 5, 5)), SX, np.int8(3))
        w = g.op("DequantizeLinear", i8(4, 3, 3, 3), scales(3), np.zeros(3, np.int8), axis=1)
        g.out(g.q(g.op("Conv", a, w), SY, np.int8(0)))

    @case("qdq_convtranspose", 13)
    def _(g):
        a = g.qdq(g.input("x", reals(1, 4, 5, 5)), SX, np.int8(3))
        w = g.op("DequantizeLinear", i8(4, 3, 3, 3), scales(3), np.zeros(3, np.int8), axis=1)
        g.out(g.q(g.op("ConvTranspose", a, w, strides=[2, 2], output_shape=[10, 10]), 3 * SY, np.uint8(90)))

    @case("qdq_matmul_per_column", 13)
    def _(g):
        a = g.qdq(g.input("x", reals(2, 4, 5)), SX, np.uint8(99))
        w = g.op("DequantizeLinear", u8(5, 6), scales(6), u8(6), axis=1)
        g.out(g.q(g.op("Add", g.op("MatMul", a, w), reals(6)), SY, np.int8(3)))

    @case("qdq_gemm", 13)
    def _(g):
        a = g.qdq(g.input("x", reals(3, 5)), SX, np.int8(5))
        bias = g.weights(integers(np.int32, 6, low=-500, high=500), SX * SW)
        g.out(g.q(g.op("Gemm", a, g.weights(i8(6, 5), SW), bias, transB=1), SY, np.uint8(100)))

    @case("qdq_matmul_activations", 13)
    def _(g):
        a, b = g.qdq(g.input("a", reals(2, 4, 5)), SX, np.uint8(99)), g.qdq(
            g.input("b", reals(2, 5, 3)), SW, np.int8(-5)
        )
        g.out(g.q(g.op("MatMul", a, b), SY, np.uint8(100)))

    @case("qdq_residual", 13)
    def _(g):
        a = g.qdq(g.input("x", reals(1, 3, 5, 5)), SX, np.int8(3))
        c = g.qdq(g.op("Conv", a, g.weights(i8(3, 3, 3, 3), SW), pads=[1] * 4), SY, np.int8(1))
        g.out(g.q(g.op("Relu", g.op("Add", c, a)), 0.0611, np.int8(-128)))

    @case("qdq_movement", 13)
    def _(g):
        a = g.qdq(g.input("x", reals(1, 4, 6, 5)), SX, np.int8(3))
        g.out(
            *g.op("Split", a, i64(1, 3), axis=1, outputs=2),
            g.qdq(g.op("Transpose", a, perm=[0, 2, 3, 1]), SY, np.int8(-4)),
        )
        g.out(g.q(g.op("Concat", a, g.qdq(a, SY, np.int8(9)), axis=1), SX, np.int8(3)))
        g.out(g.q(g.op("Pad", a, i64(0, 0, 1, 1, 0, 0, 1, 1), f32(0.5)), SX, np.int8(3)))

    @case("qdq_pools", 13)
    def _(g):
        a = g.qdq(g.input("x", reals(1, 4, 6, 6)), SX, np.int8(3))
        for p in (
            g.op("AveragePool", a, kernel_shape=[3, 3], pads=[1] * 4),
            g.op("MaxPool", a, kernel_shape=[2, 2]),
            g.op("GlobalAveragePool", a),
        ):
            g.out(g.q(p, 0.0151, np.uint8(128)))

    @case("qdq_unary", 13)
    def _(g):
        a = g.qdq(g.input("x", reals(4, 6)), SX, np.int8(3))
        for kind in "Sigmoid Tanh Abs Relu LeakyRelu Softmax".split():
            g.out(g.q(g.op(kind, a), 0.0151, np.int8(-7)))

    @case("qdq_embedding", 13)
    def _(g):
        e = g.op("Gather", g.weights(i8(10, 4), SW), g.input("x", i64(1, 2, 9)))
        g.out(e, g.q(e, SX, np.int8(1)))

    @case("quantize_saturates", 13)
    def _(g):
        x = g.input("x", f32([np.inf, -np.inf, 1e9, -1e9, 0.01, 0.03, -0.01, 0.06]))
        g.out(g.q(x, SX, np.int8(3)), g.q(x, SX, np.uint8(3)), g.op("QuantizeLinear", x, f32(SX)))

    @case("quantize_ties", 10)
    def _(g):
        # Halves are exact here and go to the even side.
        g.out(g.q(g.input("x", f32(np.arange(-12, 12)) / 4), 0.5, np.int8(3)))

    @case("dequantize_default_axis", 13)
    def _(g):
        g.out(g.op("DequantizeLinear", g.input("x", u8(2, 3, 4)), scales(3), u8(3)))

    # Activations quantised along an axis.
    def per_axis(g, x, n, axis):
        """QuantizeLinear and DequantizeLinear with `n` scales along `axis`; both results."""
        s, z = g.const(scales(n)), g.const(i8(n))
        y = g.op("QuantizeLinear", x, s, z, axis=axis)
        return y, g.op("DequantizeLinear", y, s, z, axis=axis)

    @case("per_axis_alone", 13)
    def _(g):
        for axis, n in ((0, 2), (1, 3), (-1, 4)):
            g.out(*per_axis(g, g.input(f"x{axis}", reals(2, 3, 4)), n, axis))

    @case("per_axis_behind_conv", 13)
    def _(g):
        c = g.op("Conv", g.input("x", reals(1, 4, 5, 5)), reals(3, 4, 3, 3))
        g.out(*per_axis(g, c, 3, 1))

    @case("per_axis_behind_quantised_conv", 13)
    def _(g):
        a = g.qdq(g.input("x", reals(1, 4, 5, 5)), SX, np.int8(3))
        g.out(per_axis(g, g.op("Conv", a, g.weights(i8(3, 4, 3, 3), SW)), 3, 1)[0])

    @case("per_axis_before_conv", 13)
    def _(g):
        d = per_axis(g, g.input("x", reals(1, 4, 5, 5)), 4, 1)[1]
        g.out(g.op("Conv", d, reals(3, 4, 3, 3)), g.q(g.op("Conv", d, g.weights(i8(3, 4, 3, 3), SW)), SY, np.int8(1)))

    @case("per_axis_behind_transpose", 13)
    def _(g):
        t = g.op("Transpose", g.input("x", reals(1, 4, 5, 5)), perm=[0, 2, 3, 1])
        g.out(*per_axis(g, t, 4, 3))

    @case("per_axis_around_transpose", 13)
    def _(g):
        d = per_axis(g, g.input("x", reals(1, 4, 5, 5)), 4, 1)[1]
        g.out(g.op("Transpose", d, perm=[0, 2, 3, 1]), per_axis(g, g.op("Transpose", d, perm=[0, 3, 1, 2]), 4, 2)[0])

    @case("per_axis_moved", 13)
    def _(g):
        d = per_axis(g, g.input("x", reals(4, 6)), 4, 0)[1]
        g.out(per_axis(g, g.op("Reshape", d, i64(2, 12)), 2, 0)[0], g.op("Gather", d, i64(2, 0), axis=0))
        g.out(g.q(g.op("Concat", d, d, axis=0), SY, np.int8(0)), g.op("Slice", d, i64(1), i64(3), i64(0)))

    # 16 bits.
    for dtype in (np.int16, np.uint16):
        name, zero = np.dtype(dtype).name, dtype(30 if dtype is np.int16 else 32001)

        @case(f"qdq_{name}", 21, zero=zero)
        def _(g, zero):
            a, b = g.qdq(g.input("x", reals(3, 5)), 0.0003, zero), g.qdq(g.input("y", reals(5)), 0.0007, zero)
            q = g.q(g.op("Add", a, b), 0.0011, zero)
            g.out(q, g.dq(q, 0.0011, zero), g.q(g.op("Relu", a), 0.0007, zero))
            g.out(g.q(g.op("MatMul", a, g.weights(i8(5, 4), SW)), 0.0011, zero))

    @case("qdq_int16_weights", 21)
    def _(g):
        a = g.qdq(g.input("x", reals(4, 6)), SX, np.int8(10))
        w = g.weights(integers(np.int16, 6, 3, low=-9999, high=9999), 0.0001)
        g.out(g.q(g.op("MatMul", a, w), SY, np.int8(-5)))


def blocks():
    """Small pieces of networks."""

    @case("gelu_written_out", 13)
    def _(g):
        x = g.input("x", reals(3, 4))
        for divisor, addend, factor in ((2**0.5, 1, 0.5), (1.5, 1, 0.5), (2**0.5, 2, 0.25)):
            e = g.op("Erf", g.op("Div", x, f32(divisor)))
            g.out(g.op("Mul", g.op("Mul", x, g.op("Add", e, f32(addend))), f32(factor)))

    @case("squeeze_and_excite", 11)
    def _(g):
        x = g.input("x", reals(1, 3, 6, 6))
        m = g.op("Relu", g.op("Conv", g.op("GlobalAveragePool", x), reals(2, 3, 1, 1)))
        g.out(g.op("Mul", x, g.op("Sigmoid", g.op("Conv", m, reals(3, 2, 1, 1)))))

    @case("attention", 13)
    def _(g):
        x = g.input("x", reals(2, 5, 8))
        heads = []
        for _ in range(3):
            split = g.op("Reshape", g.op("MatMul", x, reals(8, 8)), i64(0, 0, 2, 4))
            heads.append(g.op("Transpose", split, perm=[0, 2, 1, 3]))
        q, k, v = heads
        scores = g.op("Mul", g.op("MatMul", q, g.op("Transpose", k, perm=[0, 1, 3, 2])), f32(0.5))
        mask = np.triu(np.full((5, 5), -np.inf, np.float32), 1)
        o = g.op("MatMul", g.op("Softmax", g.op("Add", scores, mask)), v)
        g.out(g.op("Reshape", g.op("Transpose", o, perm=[0, 2, 1, 3]), i64(0, 0, -1)))


def evaluate(g):
    """ONNX Runtime's outputs of a graph by name, or those that the graph says itself."""
    if g.expected:
        assert list(g.expected) == g.outputs, f"{g.name} says some of its outputs"
        return g.expected
    if g.reference:
        evaluator = ReferenceEvaluator(g.model([helper.make_empty_tensor_value_info(o) for o in g.outputs]))
        # The reader of the vectors has rows one after the other.
        return dict(zip(g.outputs, (np.asarray(v, order="C") for v in evaluator.run(g.outputs, g.feeds))))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    # Types and shapes of the outputs are ONNX Runtime's business here.
    model = g.model([helper.make_empty_tensor_value_info(o) for o in g.outputs])
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs = dict(zip(g.outputs, map(np.asarray, session.run(g.outputs, g.feeds))))
    for name, rows in g.padded.items():
        value = outputs[name]
        outputs[name] = np.concatenate([value, np.full((rows - len(value), *value.shape[1:]), -1, value.dtype)])
    return outputs


def storable(array):
    """The array in a type that the reader of the vectors has."""
    return array.astype(STORED.get(array.dtype.name, array.dtype))


def packed(vectors):
    """The vectors of many small arrays, each of which costs a file of its own 300 bytes: of every type one array, end to
    end, and as `index` a line for each of the vectors with its key, its type, and its shape."""
    flat, index = {}, []
    for key, array in vectors.items():
        flat.setdefault(array.dtype.name, []).append(array.ravel())
        index.append(" ".join([key, array.dtype.name, *map(str, array.shape)]))
    return {name: np.concatenate(arrays) for name, arrays in flat.items()} | {
        "index": np.frombuffer("\n".join(index).encode(), np.uint8)
    }


# The sets of cases, and the functions that register them.
SETS = {
    "-": (
        elementwise,
        reductions,
        normalisations,
        convolutions,
        products,
        movement,
        quantised,
        blocks,
        scans,
        loops,
        branches,
        sequences,
    ),
    "grids": (constants_among_quantised,),
    "zero_points": (zero_points,),
    "versions": (versions,),
    "defaults": (defaults,),
    "epilogues": (epilogues,),
    "folding": (folding,),
    "resizes": (resizes,),
    "corners": (corners,),
    "contrib": (contrib.fused, contrib.quantised, contrib.attention),
    "indices": (scatters, gathers, largest, masks),
    "recurrent": (recurrent,),
    "broad": (broad,),
    "sampling": (grids, boxes, aligned, deformed),
    "spectra": (spectra,),
    "networks": (networks,),
    "whiles": (whiles,),
}
# The sets whose vectors are packed.
PACKED = {"broad", "networks", "sampling", "whiles"}


def write(name, families):
    """Write the graphs and vectors of a set."""
    CASES.clear()
    for family in families:
        family()
    vectors = {}
    for case_name, (build, opset, parameters) in CASES.items():
        g = Graph(case_name, opset)
        build(g, **parameters)
        try:
            outputs = evaluate(g)
        except Exception as error:
            raise SystemExit(f"{case_name}: {error}") from error
        declared = [helper.make_tensor_value_info(k, dtype_of(v), v.shape) for k, v in outputs.items()]
        onnx.save(g.model(declared), HERE / "cases" / f"{case_name}.onnx")
        vectors |= {f"{case_name}/in/{k}": storable(v) for k, v in g.feeds.items()}
        vectors |= {f"{case_name}/out/{k}": storable(v) for k, v in outputs.items()}
    path = HERE / ("vectors.npz" if name == "-" else f"vectors_{name}.npz")
    # The graphs that the set had before and has no more.
    if path.exists():
        old = np.load(path)
        keys = bytes(old["index"]).decode().splitlines() if name in PACKED else old.files
        for stale in {key.split("/")[0] for key in keys} - set(CASES):
            (HERE / "cases" / f"{stale}.onnx").unlink(missing_ok=True)
    np.savez_compressed(path, **(packed(vectors) if name in PACKED else vectors))
    print(f"{path.name}: {len(CASES)} cases, {path.stat().st_size} bytes")


def write_every():
    """Write the samples of every operator, model and vectors in one file, and say what has no vectors."""
    arrays, missing, known = {}, [], 0
    for name, g, outputs, complaint in every.samples(evaluate):
        declared = [helper.make_tensor_value_info(k, dtype_of(v), v.shape) for k, v in (outputs or {}).items()]
        model = g.model(declared or [helper.make_empty_tensor_value_info(o) for o in g.outputs])
        arrays[f"{name}/model"] = np.frombuffer(model.SerializeToString(), np.uint8)
        if outputs is None:
            missing.append((name, complaint))
            continue
        known += 1
        for side, values in (("in", g.feeds), ("out", outputs)):
            arrays |= {f"{name}/{side}/{k}": every.storable(v) for k, v in values.items()}
    print("No outputs, so that the test sees only whether the type is read:")
    every.report(missing)
    path = HERE / "every" / "samples.npz"
    np.savez_compressed(path, **packed(arrays))
    print(f"{path.name}: {known} samples with outputs, {len(missing)} without, {path.stat().st_size} bytes")


def main():
    """Write the sets that are named, or all."""
    for folder in ("cases", "every"):
        (HERE / folder).mkdir(exist_ok=True)
    for name in sys.argv[1:] or [*SETS, "every"]:
        write_every() if name == "every" else write(name, SETS[name])


if __name__ == "__main__":
    main()
