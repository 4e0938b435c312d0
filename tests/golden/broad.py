"""Operators with all their attributes, operator sets and element types, and operands that are computed."""

import ml_dtypes
import numpy as np
from onnx import TensorProto

import graphs
from graphs import Const, booleans, case, f32, i8, i64, integers, node, sharing, u8

# Scales of inputs, weights, and outputs.
SX, SW, SY = 0.0213, 0.0117, 0.0531


def broad():
    """Cases of one set."""
    functions()
    integer_functions()
    activations()
    reductions()
    normalisations()
    losses()
    attention()
    movement()
    windows()
    integer_products()
    quantisation()
    types()


def rounded(recipe, digits=5):
    """What a recipe gives, to so few binary digits after the point that the vectors are small."""
    return lambda rng: np.round(recipe(rng) * 2**digits).astype(np.float32) / np.float32(2**digits)


def reals(*shape, scale=1.0):
    """Normally distributed float32 of few digits."""
    return rounded(graphs.reals(*shape, scale=scale))


def positive(*shape):
    """Uniform float32 of few digits in 0.5 to 2."""
    return rounded(graphs.positive(*shape))


def inside(*shape):
    """Uniform float32 in −0.9 to 0.9."""
    return rounded(lambda rng: rng.uniform(-0.9, 0.9, shape))


def above_one(*shape):
    """Uniform float32 in 1 to 9."""
    return rounded(lambda rng: rng.uniform(1, 9, shape))


def functions():
    """Functions of one real."""
    x, y, z = inside(3, 4), reals(3, 4, scale=9.0), above_one(3, 4)
    circle = [node(kind, x) for kind in "Acos Asin Atan Tan".split()]
    sharing("trigonometry_7", [*circle, node("Tan", y), node("Atan", y)], 7)
    hyperbola = [*(node(kind, x) for kind in "Asinh Atanh Cosh Sinh".split()), node("Acosh", z)]
    sharing("hyperbolic_9", [*hyperbola, node("Asinh", y), node("Cosh", y), node("Sinh", y)], 9)
    sharing("functions_22", [*circle, *hyperbola], 22)
    small = f32([1e-5, -3e-4, 2e-3, -1e-7, 1e-20])
    sharing("functions_small", [node(kind, small) for kind in "Asin Asinh Atan Atanh Sinh Tan".split()], 9)
    ends = [("Acos", [-1, 0, 1]), ("Asin", [-1, 0, 1]), ("Atan", [1e10, -1e10, np.inf]), ("Acosh", [1, 1.0001, 1e10])]
    ends += [("Asinh", [1e10, -1e10, -2e4]), ("Atanh", [0.9999, -0.99, 0]), ("Sinh", [20, -15, 0.5]), ("Cosh", [20, -15, 0])]
    sharing("functions_ends", [node(kind, f32(x)) for kind, x in ends], 9)
    outside = [("Acos", [1.5, -2]), ("Asin", [1.5, np.nan]), ("Acosh", [0.5, -2]), ("Atanh", [1.5, 1]), ("Cosh", [-np.inf, 99])]
    sharing("functions_outside", [node(kind, f32(x)) for kind, x in outside], 9)
    special = f32([np.inf, -np.inf, np.nan, -np.nan, 0, -1])
    signs = [{"detect_positive": p, "detect_negative": n} for p in (0, 1) for n in (0, 1)]
    sharing("isinf", [node("IsInf", special, **s) for s in ({}, *signs)], 10)
    sharing("isinf_20", [node("IsInf", special, **s) for s in ({}, *signs)], 20)
    for opset in (9, 13, 20):
        sharing(f"isnan_{opset}", [node("IsNaN", special)], opset)


def integer_functions():
    """Functions of the bits of integers, and what remains of a division."""
    for dtype in (np.uint8, np.uint32, np.uint64):
        bits = np.iinfo(dtype).bits - (dtype is np.uint64)
        x, by = integers(dtype, 3, 4, low=0, high=2**bits - 1), integers(dtype, 4, low=0, high=8)
        shifts = [node("BitShift", x, by, direction="RIGHT"), node("BitShift", x, dtype([[2]]), direction="RIGHT")]
        sharing(f"bitshift_right_{dtype.__name__}", shifts, 11)
        # Of 64 bits none must fall out, for the plan has them with a sign.
        high = 2**40 if dtype is np.uint64 else 2**bits - 1
        x = integers(dtype, 3, 4, low=0, high=high)
        sharing(f"bitshift_left_{dtype.__name__}", [node("BitShift", x, by, direction="LEFT")], 11)
    for dtype in (np.int8, np.uint8, np.int32, np.uint32, np.int64):
        kinds = [f"Bitwise{kind}" for kind in "And Or Xor".split()]
        nodes = [node(kind, integers(dtype, 3, 1, 4), integers(dtype, 2, 1)) for kind in kinds]
        sharing(f"bitwise_{dtype.__name__}", [*nodes, node("BitwiseNot", integers(dtype, 5))], 18)
    kinds = "Add Sub Mul".split()
    sharing("uint32_wraps", [node(kind, integers(np.uint32, 5), integers(np.uint32, 5)) for kind in kinds], 14)
    for dtype in (np.int8, np.uint8, np.int32, np.int64):
        low = 0 if dtype is np.uint8 else -99
        a, b = integers(dtype, 3, 1, 8, low=low, high=99), integers(dtype, 4, 1, low=1, high=20)
        negative = [] if low == 0 else [node("Mod", a, dtype([-7]), fmod=f) for f in (0, 1)]
        sharing(f"mod_{dtype.__name__}", [node("Mod", a, b), node("Mod", a, b, fmod=1), *negative], 13)
    a, b = reals(3, 1, 8, scale=5.0), positive(4, 1)
    sharing("mod_floats", [node("Mod", a, b, fmod=1), node("Mod", a, f32(-1.5), fmod=1)], 10)
    # A quotient that f32 rounds up, infinities, and what is not a number.
    sharing("mod_ends", [node("Mod", f32([-0.0, 1e8, np.inf, 3, 5]), f32([1, 0.3, 2, np.inf, 0]), fmod=1)], 13)


def activations():
    """Activations with parameters and bounds."""
    x = reals(3, 5, scale=2.0)
    sharing("celu", [node("Celu", x), node("Celu", x, alpha=0.3), node("Celu", x, alpha=2.5)], 12)
    shrinks = [{}, {"lambd": 1.0, "bias": 0.3}, {"lambd": 0.2, "bias": -0.4}, {"lambd": -0.6, "bias": 0.3}]
    sharing("shrink", [*(node("Shrink", x, **s) for s in shrinks), node("Shrink", f32([0.5, -0.5, 0]), lambd=0.5)], 9)
    sharing("shrink_integers", [node("Shrink", i8(9), lambd=20.5, bias=3.0), node("Shrink", u8(9), lambd=99.0)], 9)
    for opset in (10, 22):
        nodes = [node("ThresholdedRelu", x), node("ThresholdedRelu", x, alpha=0.0), node("ThresholdedRelu", x, alpha=-0.5)]
        sharing(f"thresholdedrelu_{opset}", nodes, opset)
    sharing("swiglu", [node("SwiGLU", x, x), node("SwiGLU", x, reals(3, 5), alpha=1.7)], 28, reference=True)
    lo, hi = f32(-0.4), f32(0.6)
    bounds = [(lo, None), (None, hi), (lo, hi), (Const(lo), hi), (lo, Const(hi)), (hi, lo)]
    sharing("clip_computed", [node("Clip", x, *b) for b in bounds], 13)
    sharing("clip_computed_11", [node("Clip", x, lo, hi)], 11)
    for dtype in (np.int8, np.uint8, np.int32, np.int64):
        lo, hi = dtype(3), dtype(60)
        clips = [node("Clip", integers(dtype, 9, low=0, high=99), *b) for b in ((lo, hi), (Const(lo), Const(hi)), (None, hi))]
        sharing(f"clip_{dtype.__name__}", clips, 12)


def reductions():
    """Reductions with logarithms, and products along an axis."""
    for kind in ("ReduceLogSum", "ReduceLogSumExp"):
        x = positive(2, 3, 2, 3)
        axes = [{"axes": [-1, 1]}, {"axes": [0], "keepdims": 0}, {"keepdims": 0}, {}]
        sharing(f"{kind.lower()}_1", [node(kind, x, **a) for a in ({"axes": [2]}, {})], 1)
        sharing(f"{kind.lower()}_13", [node(kind, x, **a) for a in axes], 13)
        nodes = [node(kind, x, Const(i64(-2))), node(kind, x), node(kind, x, Const(i64(0, 2)), keepdims=0)]
        nodes += [node(kind, x, noop_with_empty_axes=1), node(kind, f32(3.0))]
        sharing(f"{kind.lower()}_18", nodes, 18)
    ends = f32([[1000, 1000, 999], [-1000, -1001, -1000], [-np.inf, -np.inf, 0], [-np.inf] * 3, [np.inf, 0, 1]])
    sharing("reducelogsumexp_ends", [node("ReduceLogSumExp", ends, axes=[1])], 13)
    x, ways = reals(3, 5), [{}, {"exclusive": 1}, {"reverse": 1}, {"exclusive": 1, "reverse": 1}]
    nodes = [node("CumProd", x, Const(np.int64(axis)), **w) for axis in (0, -1) for w in ways]
    sharing("cumprod", nodes, 26, reference=True)
    sharing("cumprod_i32", [node("CumProd", integers(np.int32, 6, low=-4, high=5), Const(np.int32(0)))], 26, reference=True)


def normalisations():
    """Normalisations, with scales that are computed, and what they give beside their answer."""
    x = reals(2, 4, 2, 3)
    for opset, n in ((18, 2), (21, 4)):
        groups = [node("GroupNormalization", x, f(n), f(n), num_groups=2) for f in (reals, lambda n: Const(reals(n)))]
        flat = node("GroupNormalization", reals(2, 6), reals(*[3 if n == 2 else 6]), Const(reals(3 if n == 2 else 6)), num_groups=3)
        nodes = [*groups, flat, node("GroupNormalization", x, reals(n), reals(n), num_groups=2, epsilon=0.1)]
        sharing(f"groupnormalization_{opset}", nodes, opset)
    for opset in (9, 13):
        kind = "MeanVarianceNormalization"
        nodes = [node(kind, x), node(kind, x, axes=[1]), node(kind, reals(3, 4), axes=[-1]), node(kind, x, axes=[0, 3])]
        sharing(f"mvn_{opset}", nodes[opset == 9 :], opset)
    rows = f32([[3, 4, 0], [0, 0, 0], [-1, 2, -2]])
    ways = [{"p": p, "axis": axis} for p in (1, 2) for axis in (0, -1)]
    sharing("lpnormalization_1", [node("LpNormalization", v, **w) for v in (rows, reals(3, 4)) for w in ({}, *ways)], 1)
    sharing("lpnormalization_22", [node("LpNormalization", rows)], 22)
    x = reals(1, 7, 3, 2, scale=3.0)
    ways = [{"size": 3}, {"size": 5, "alpha": 0.4, "beta": 0.3, "bias": 2.0}, {"size": 1, "alpha": 1.0}, {"size": 13, "alpha": 1.0}]
    sharing("lrn", [node("LRN", x, **w) for w in ways], 13)

    @case("lrn_even", 1)
    def _(g):
        for size, shape in ((4, (2, 7, 3, 2)), (2, (2, 5)), (3, (1, 4, 3))):
            x = g.array(reals(*shape))
            square = np.stack([(x[:, max(0, k - (size - 1) // 2) : k + size // 2 + 1] ** 2).sum(1) for k in range(x.shape[1])], 1)
            y = g.op("LRN", g.input(g.fresh("x"), x), size=size, alpha=0.5, beta=0.6, bias=1.5)
            g.expect(y, (x / (1.5 + 0.5 / size * square) ** 0.6).astype(np.float32))

    scale, bias = reals(5), reals(5)
    x = reals(2, 3, 5)
    nodes = [node("LayerNormalization", x, Const(scale), Const(bias), outputs=3), node("LayerNormalization", x, scale, bias)]
    nodes += [node("LayerNormalization", x, reals(3, 5), axis=1, outputs=3), node("LayerNormalization", x, scale, Const(bias))]
    sharing("layernormalization_computed", nodes, 17)
    nodes = [node("RMSNormalization", x, scale), node("RMSNormalization", x, reals(3, 5), axis=-2, epsilon=0.1)]
    sharing("rmsnormalization_computed", nodes, 23)
    x = reals(2, 3, 4, 2)
    sharing("instancenormalization_computed", [node("InstanceNormalization", x, reals(3), reals(3), epsilon=0.1)], 6)
    batch = [node("BatchNormalization", x, reals(3), reals(3), reals(3), positive(3), epsilon=0.1)]
    batch += [node("BatchNormalization", x, Const(reals(3)), Const(reals(3)), reals(3), Const(positive(3)))]
    for opset in (9, 15):
        sharing(f"batchnormalization_computed_{opset}", batch, opset)


def losses():
    """Losses: weights, targets that are left out, what is made of the losses of all samples."""
    ways = [{"reduction": r} for r in ("none", "sum", "mean")]
    targets = integers(np.int64, 4, low=0, high=3)
    left_out = i64(2, -1, 0, -1)
    x, weights = reals(4, 3), positive(3)
    pixels = reals(2, 3, 2, 2), integers(np.int32, 2, 2, 2, low=0, high=3)
    for kind, opset in (("NegativeLogLikelihoodLoss", 12), ("SoftmaxCrossEntropyLoss", 12)):
        nodes = [node(kind, x, targets, *w, **way) for w in ((), (weights,)) for way in ({}, *ways)]
        nodes += [node(kind, x, left_out, *w, ignore_index=-1, **way) for w in ((), (weights,)) for way in ways]
        nodes += [node(kind, *pixels, ignore_index=1, **w) for w in ways]
        sharing(f"{kind.lower()}_{opset}", nodes, opset)
        sharing(f"{kind.lower()}_13", nodes[-3:], 13)
    x, places = reals(2, 3, 4), integers(np.int64, 2, 4, low=0, high=3)
    nodes = [node("SoftmaxCrossEntropyLoss", x, places, outputs=2, **w) for w in ways]
    sharing("softmaxcrossentropyloss_outputs", nodes, 13)
    # Everything is left out; and a target that is left out may be no class.
    nodes = [node("SoftmaxCrossEntropyLoss", reals(2, 3), i64(-100, 1), Const(positive(3)), ignore_index=-100)]
    sharing("softmaxcrossentropyloss_no_class", nodes, 13)


def attention():
    """`Attention` and `RotaryEmbedding`."""
    q, k, v = reals(2, 4, 3, 4), reals(2, 2, 5, 4), reals(2, 2, 5, 3)
    flat = [reals(2, 3, 8), reals(2, 5, 8), reals(2, 5, 4)]
    heads = {"q_num_heads": 2, "kv_num_heads": 2}
    kind = "Attention"
    sharing("attention_grouped", [node(kind, q, k, v), node(kind, q, k, v, scale=0.2, softcap=1.5)], 23, reference=True)
    sharing("attention_flat", [node(kind, *flat, **heads), node(kind, *flat, is_causal=1, **heads)], 23)
    grouped = {"q_num_heads": 4, "kv_num_heads": 2}
    sharing("attention_flat_grouped", [node(kind, reals(2, 3, 16), flat[1], flat[2], **grouped)], 23, reference=True)
    same = [reals(1, 2, 4, 4) for _ in range(3)]
    masks = [reals(4, 4), reals(2, 4, 4), reals(1, 1, 4, 4), lambda rng: np.tril(np.ones((4, 4), bool))]
    sharing("attention_masks", [node(kind, *same, m) for m in masks], 23)
    sharing("attention_causal", [node(kind, *same, is_causal=1), node(kind, *same, reals(4, 4), is_causal=1)], 23)
    past = reals(1, 2, 3, 4)
    sharing("attention_past", [node(kind, *same, None, past, past, outputs=3), node(kind, *same, reals(4, 7), past, past, outputs=3)], 23)
    sharing("attention_past_causal", [node(kind, *same, None, past, past, outputs=3, is_causal=1)], 23)
    for mode in range(4):
        way = {"qk_matmul_output_mode": mode, "softcap": 2.0}

        @case(f"attention_shown_{mode}", 23, way=way)
        def _(g, way):
            names = [g.input(n, x) for n, x in zip("qkv", same)]
            g.reference = way["qk_matmul_output_mode"] in (1, 2)
            y, _, _, shown = g.op("Attention", *names, g.input("m", reals(4, 4)), outputs=4, **way)
            g.out(y, shown)

    two = [reals(2, 2, 4, 4) for _ in range(3)]
    sharing("attention_lengths", [node(kind, *two, None, None, None, i64(3, 1))], 24, reference=True)

    caches = [lambda rng, f=f: f(rng.uniform(-3, 3, (9, 4))).astype(np.float32) for f in (np.cos, np.sin)]
    caches = [rounded(cache) for cache in caches]
    positions = integers(np.int64, 2, 3, low=0, high=9)
    x = reals(2, 2, 3, 8)
    sharing("rotary_positions", [node("RotaryEmbedding", x, *caches, positions, interleaved=i) for i in (0, 1)], 23)
    x = reals(2, 3, 16)
    sharing("rotary_flat", [node("RotaryEmbedding", x, *caches, positions, num_heads=2, interleaved=i) for i in (0, 1)], 23)
    angles = [lambda rng, f=f: f(rng.uniform(-3, 3, (2, 3, 2))).astype(np.float32) for f in (np.cos, np.sin)]
    x, wide = reals(2, 2, 3, 4), reals(2, 2, 3, 9)
    nodes = [node("RotaryEmbedding", x, *angles, interleaved=i) for i in (0, 1)]
    nodes += [node("RotaryEmbedding", wide, *angles, rotary_embedding_dim=4, interleaved=i) for i in (0, 1)]
    sharing("rotary_angles", nodes, 23)


def movement():
    """Operators that move elements."""
    sharing("spacetodepth", [node("SpaceToDepth", reals(2, 3, 4, 6), blocksize=2)], 13)
    sharing("spacetodepth_1", [node("SpaceToDepth", reals(1, 2, 3, 6), blocksize=3)], 1)
    nodes = [node("SpaceToDepth", reals(2, 3, 4, 6), blocksize=2, mode=m) for m in ("DCR", "CRD")]
    sharing("spacetodepth_modes", nodes, 28, reference=True)
    x = reals(5, 4, 3)
    nodes = [node("CenterCropPad", x, Const(i64(*s))) for s in ((2, 7, 3), (8, 1, 6))]
    nodes += [node("CenterCropPad", x, Const(i64(4, 8)), axes=[-1, 0])]
    sharing("centercroppad", nodes, 18)
    sharing("centercroppad_integers", [node("CenterCropPad", i8(3, 4), Const(i64(6, 1)))], 18)
    nodes = [node("CenterCropPad", x, Const(np.array([9], np.int32)), axes=[1])]
    sharing("centercroppad_int32", nodes, 18, reference=True)
    col = "Col2Im"
    nodes = [node(col, reals(1, 5, 5), Const(i64(5, 5)), Const(i64(1, 5)))]
    nodes += [node(col, reals(2, 12, 9), Const(i64(4, 4)), Const(i64(2, 2)))]
    nodes += [node(col, reals(1, 8, 12), Const(i64(5, 7)), Const(i64(2, 2)), strides=[2, 2], pads=[0, 1, 1, 0])]
    nodes += [node(col, reals(1, 8, 9), Const(i64(5, 5)), Const(i64(2, 2)), dilations=[2, 2])]
    nodes += [node(col, reals(1, 6, 4), Const(i64(6)), Const(i64(3)))]
    nodes += [node(col, reals(1, 8, 8), Const(i64(3, 3, 3)), Const(i64(2, 2, 2)))]
    sharing("col2im", nodes, 18)


def windows():
    """Convolutions and pooling over 1 to 3 axes, weights that are computed, places of maxima."""
    x1, x2, x3 = reals(2, 4, 7), reals(1, 4, 5, 4), reals(1, 4, 3, 4, 3)
    ways = [{}, {"strides": [2, 1], "pads": [1, 0, 2, 1]}, {"dilations": [2, 1]}, {"auto_pad": "SAME_UPPER"}]
    w, b = reals(3, 4, 2, 3), reals(3)
    sharing("conv_computed", [node("Conv", x2, w, b, **way) for way in ways], 11)
    more = [node("Conv", x2, reals(6, 2, 2, 2), group=2), node("Conv", x2, reals(4, 1, 2, 2), Const(reals(4)), group=4)]
    more += [node("Conv", x1, reals(3, 4, 3), pads=[1, 1]), node("Conv", x2, Const(reals(3, 4, 2, 2)), reals(3))]
    sharing("conv_computed_groups", [*more, node("Conv", x3, reals(2, 4, 2, 2, 2), reals(2))], 22)
    ways = [{}, {"strides": [2, 1, 2], "pads": [1, 0, 1, 0, 1, 2]}, {"dilations": [2, 1, 1]}, {"auto_pad": "SAME_LOWER"}]
    w, b = Const(reals(3, 4, 2, 3, 2)), Const(reals(3))
    volumes = [node("Conv", x3, w, b, **way) for way in ways]
    volumes += [node("Conv", x3, Const(reals(4, 2, 2, 2, 2)), group=2), node("Conv", x3, Const(reals(4, 1, 2, 2, 1)), group=4)]
    sharing("conv_volumes", volumes, 11)
    kind = "ConvTranspose"
    ways = [{}, {"strides": [2, 3], "pads": [1, 0, 0, 1]}, {"strides": [2, 2], "output_padding": [1, 0]}, {"dilations": [2, 1]}]
    ways += [{"strides": [2, 2], "output_shape": [7, 8]}, {"strides": [2, 2], "auto_pad": "SAME_UPPER"}]
    x2, w, b = reals(1, 4, 3, 4), reals(4, 2, 3, 2), reals(2)
    sharing("convtranspose_computed", [node(kind, x2, w, b, **way) for way in ways], 11)
    more = [node(kind, x2, reals(4, 3, 2, 2), group=2), node(kind, x1, reals(4, 2, 3), strides=[2])]
    sharing("convtranspose_computed_groups", more, 22)
    ways = [{}, {"strides": [2, 1, 2], "pads": [0, 1, 0, 1, 0, 1]}, {"dilations": [1, 2, 1], "strides": [1, 2, 1], "group": 2}]
    x3, w = reals(1, 2, 2, 3, 2), Const(reals(2, 1, 2, 3, 2))
    sharing("convtranspose_volumes", [node(kind, x3, w, **way) for way in ways], 11)

    x3 = reals(1, 1, 5, 4, 6)
    ways = [{"kernel_shape": [2, 2, 3]}, {"kernel_shape": [3, 2, 2], "strides": [2, 1, 2], "pads": [1, 0, 1, 1, 1, 0]}]
    ways += [{"kernel_shape": [2, 3, 2], "strides": [2, 2, 3], "ceil_mode": 1}, {"kernel_shape": [2, 2, 2], "auto_pad": "SAME_UPPER"}]
    average = [*ways, ways[1] | {"count_include_pad": 1}]
    sharing("averagepool_volumes", [node("AveragePool", x3, **w) for w in average], 19)
    dilated = ways[0] | {"dilations": [2, 1, 2]}
    sharing("averagepool_volumes_dilated", [node("AveragePool", x3, **dilated)], 19)
    sharing("maxpool_volumes", [node("MaxPool", x3, **w) for w in (*ways, dilated)], 12)
    ways2 = [{"kernel_shape": [2, 3]}, {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}]
    ways2 += [{"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}, {"kernel_shape": [2, 2], "dilations": [2, 1]}]
    x2 = reals(2, 2, 5, 4)
    places = [node("MaxPool", x2, outputs=2, **w) for w in ways2]
    places += [node("MaxPool", x2, outputs=2, storage_order=1, **w) for w in ways2]
    places += [node("MaxPool", reals(1, 2, 9), outputs=2, kernel_shape=[3], strides=[2])]
    sharing("maxpool_places", [*places, *(node("MaxPool", x3, outputs=2, **w) for w in ways[:2])], 12)
    # Among equal ones the first counts.
    few = integers(np.int8, 1, 2, 5, 4, low=0, high=3)
    sharing("maxpool_places_bytes", [node("MaxPool", few, outputs=2, **w) for w in ways2], 12)
    sharing("maxpool_places_flat", [node("MaxPool", f32(np.ones((1, 2, 4, 4))), outputs=2, **ways2[1])], 12)

    lp = [{"kernel_shape": [2, 3]}, {"kernel_shape": [3, 2], "p": 1, "strides": [2, 1], "pads": [1, 0, 1, 1]}]
    lp += [{"kernel_shape": [2, 2], "p": 3, "auto_pad": "SAME_UPPER"}]
    sharing("lppool_2", [node("LpPool", x2, **w) for w in lp], 2)
    newer = [{"kernel_shape": [2, 2], "dilations": [2, 1]}, {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}]
    sharing("lppool_22", [node("LpPool", x2, **w) for w in newer], 22)
    sharing("lppool_axes", [node("LpPool", x1, kernel_shape=[3], strides=[2]), node("LpPool", x3, kernel_shape=[2, 2, 3])], 18)
    nodes = [node("GlobalLpPool", x, **w) for x in (x1, x2, x3) for w in ({}, {"p": 1}, {"p": 3})]
    sharing("globallppool", nodes, 2)
    sharing("global_volumes", [node(f"Global{kind}Pool", x3) for kind in ("Average", "Max")], 11)


def integer_products():
    """Products of integers without scales."""
    kind = "MatMulInteger"
    nodes = [node(kind, u8(2, 3, 5), i8(5, 4)), node(kind, u8(3, 5), u8(5, 4), np.uint8(7), np.uint8(200))]
    nodes += [node(kind, u8(3, 5), Const(i8(5, 4)), np.uint8(7), i8(4)), node(kind, u8(3, 5), Const(i8(5, 4)), Const(np.uint8(90)))]
    sharing("matmulinteger", [*nodes, node(kind, u8(1, 300), Const(u8(300, 2)))], 10)
    sharing("matmulinteger_signed", [node(kind, i8(3, 5), i8(5, 4), np.int8(-7), np.int8(3))], 10)

    @case("matmulinteger_rows", 10)
    def _(g):
        a, b, zeros = (g.array(recipe) for recipe in (u8(3, 5), i8(5, 4), u8(3)))
        y = g.op("MatMulInteger", g.input("a", a), g.input("b", b), g.input("z", zeros))
        g.expect(y, (a.astype(np.int32) - zeros[:, None]) @ b.astype(np.int32))

    kind = "ConvInteger"
    x = u8(1, 3, 5, 4)
    nodes = [node(kind, x, u8(2, 3, 2, 2)), node(kind, x, Const(u8(2, 3, 2, 2)), np.uint8(7), np.uint8(200))]
    nodes += [node(kind, x, Const(u8(3, 1, 3, 3)), Const(np.uint8(9)), group=3, pads=[1, 1, 1, 1], strides=[2, 1])]
    sharing("convinteger", [*nodes, node(kind, u8(1, 70, 3, 3), Const(u8(2, 70, 2, 2)))], 10)


def quantisation():
    """Scales and zero points that are computed, of axes and of blocks, and small integers."""
    x = reals(3, 4)
    nodes = [node("DynamicQuantizeLinear", v, outputs=3) for v in (x, positive(3, 4), lambda rng: -positive(5)(rng), f32([0.3]))]
    sharing("dynamicquantizelinear", nodes, 11)
    scale, scales = f32(SX), f32([0.0213, 0.0117, 0.0531, 0.0377])
    for dtype in (np.int8, np.uint8):
        zero, zeros = dtype(9), np.array([3, 0, 7, 100], dtype)
        axes = [{"axis": -1}, {"axis": 1}]
        nodes = [node("QuantizeLinear", x, scale, zero), *(node("QuantizeLinear", x, scales, zeros, **a) for a in axes)]
        nodes += [node("QuantizeLinear", reals(4, 2), scales, Const(zeros), axis=0)]
        y = integers(dtype, 3, 4)
        nodes += [node("DequantizeLinear", y, scale, zero), *(node("DequantizeLinear", y, scales, zeros, **a) for a in axes)]
        sharing(f"quantise_computed_{dtype.__name__}", [*nodes, node("DequantizeLinear", y, scale)], 13)
        sharing(f"quantise_computed_{dtype.__name__}_10", [node("QuantizeLinear", x, scale, zero), node("DequantizeLinear", y, scale, zero)], 10)
    sharing("dequantise_computed_int32", [node("DequantizeLinear", integers(np.int32, 3, 4, low=-999, high=999), scales)], 13)
    sharing("quantise_computed_scale_alone", [node("QuantizeLinear", x, scale), node("QuantizeLinear", x, scale, output_dtype=3)], 21)
    for axis, own in ((0, (2, 6)), (1, (4, 3)), (-1, (4, 2))):
        block = {"axis": axis, "block_size": 4 if own == (4, 2) else 2}
        zeros = integers(np.int8, *own, low=-20, high=20)
        nodes = [node("QuantizeLinear", reals(4, 6), f(positive(*own)), f(zeros), **block) for f in (Const, lambda x: x)]
        nodes += [node("DequantizeLinear", i8(4, 6), f(positive(*own)), f(zeros), **block) for f in (Const, lambda x: x)]
        sharing(f"blocks_{axis}_{own[1]}", nodes, 21)
    xs = [u8(1, 2, 4, 4), f32(SX), np.uint8(120)]
    ys = [f32(SY), np.uint8(99)]
    w = u8(3, 2, 2, 2)
    nodes = [node("QLinearConv", *xs, Const(w), f32(SW), np.uint8(130), *ys)]
    nodes += [node("QLinearConv", *xs, Const(i8(3, 2, 2, 2)), scales[:3], Const(np.zeros(3, np.int8)), *ys, Const(integers(np.int32, 3, low=-999, high=999)))]
    nodes += [node("QLinearConv", *xs, w, Const(f32(SW)), Const(np.uint8(130)), *ys)]
    sharing("qlinearconv_computed", nodes, 10)
    a = [u8(2, 3, 5), f32(SX), np.uint8(120)]
    nodes = [node("QLinearMatMul", *a, u8(5, 4), f32(SW), np.uint8(130), *ys)]
    nodes += [node("QLinearMatMul", *a, Const(i8(5, 4)), scales, Const(np.zeros(4, np.int8)), *ys)]
    sharing("qlinearmatmul_computed", nodes, 10)
    for name, low, high in (("int4", -8, 8), ("uint4", 0, 16)):

        @case(f"weights_{name}", 21, dtype=getattr(ml_dtypes, name), bounds={"low": low, "high": high})
        def _(g, dtype, bounds):
            x = g.input("x", reals(3, 6))
            w = g.const(integers(np.int8, 6, 5, **bounds)(g.rng).astype(dtype))
            zeros = np.array([1, 0, 3, 7, 2], dtype)
            g.out(g.op("MatMul", x, g.op("DequantizeLinear", w, f32([0.1, 0.2, 0.15, 0.3, 0.07]), zeros)))
            blocks = [positive(3, 5), integers(np.int8, 3, 5, low=0, high=8)(g.rng).astype(dtype)]
            g.out(g.op("MatMul", x, g.op("DequantizeLinear", w, *blocks, axis=0, block_size=2)))
            # An odd number of them.
            g.out(g.op("DequantizeLinear", g.const(np.array([1, 7, 5], dtype)), f32(0.5)))
            small = g.op("QuantizeLinear", x, f32(0.31), np.array(2, dtype))
            g.out(g.op("DequantizeLinear", small, f32(0.31), np.array(2, dtype)))


def types():
    """Graphs of other floats: sums of so few binary digits that every type holds them; and types by example."""
    eighths = integers(np.int64, 3, 4, low=-16, high=17)
    for dtype, name in ((np.float16, "float16"), (ml_dtypes.bfloat16, "bfloat16"), (np.float64, "double")):

        @case(f"type_{name}", 22, dtype=dtype)
        def _(g, dtype):
            g.reference = dtype is ml_dtypes.bfloat16
            x, y = (g.input(n, (eighths(g.rng) / 8).astype(dtype)) for n in "xy")
            w = g.const((integers(np.int64, 4, 2, low=-2, high=3)(g.rng)).astype(dtype))
            g.out(g.op("Add", x, y), g.op("Relu", x), g.op("MatMul", x, w), g.op("Transpose", x), g.op("Mul", x, np.array(2, dtype)))
            g.out(g.op("Cast", x, to=TensorProto.FLOAT), g.op("CastLike", g.input("n", integers(np.int32, 4, low=-9, high=9)), x))
            g.out(g.op("CastLike", g.input("f", f32([0.5, -2])), w), g.op("Greater", x, y))
            g.out(g.op("Cast", g.op("Cast", x, to=TensorProto.FLOAT), to=g_type(dtype)))

    sharing("double_functions", [node(kind, lambda rng: rng.standard_normal((3, 4))) for kind in "Exp Neg Floor Sigmoid".split()], 13)

    # The type of the second, whatever is in it.
    examples = [f32([0]), np.array([0], np.int32), i64(0), np.array([0], np.uint8), np.array([0], np.int8), np.array([0], bool)]
    x = f32([1.9, -1.9, 100.2, -100.7, 0.5, -0.3, 0])
    n = i64(1, -1, 100, -100, 0)
    positive_ones = f32([1.9, 100.2, 0.5, 0])
    nodes = [node("CastLike", positive_ones if e.dtype == np.uint8 else x, e) for e in examples]
    sharing("castlike_15", [*nodes, *(node("CastLike", n, e) for e in examples)], 15)
    sharing("castlike_19", [node("CastLike", n, examples[0])], 19)
    sharing("castlike_bool", [node("CastLike", booleans(5), e) for e in examples], 15)


def g_type(dtype):
    """ONNX's number of a type of floats."""
    return {np.float16: TensorProto.FLOAT16, np.float64: TensorProto.DOUBLE}.get(dtype, TensorProto.BFLOAT16)
