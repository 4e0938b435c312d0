"""ONNX Runtime's own operators, of the domain com.microsoft."""

import numpy as np

from graphs import Const, booleans, case, f32, i8, integers, node, one, positive, reals, several, u8

MS = {"domain": "com.microsoft"}
SX, SW, SY = f32(0.0213), f32(0.0117), f32(0.0531)


def scaled(scale, zero):
    """A scale and a zero point as constants."""
    return Const(f32(scale)), Const(zero)


def dynamic_lstms():
    """DynamicQuantizeLSTM of one frame, before which the hidden state is one that rounding it to bytes leaves as it is."""

    def state(directions):
        def build(rng):
            h = rng.integers(0, 256, (directions, 2, 3))
            h[:, 0, :2] = 0, 255
            return (h / 255).astype(np.float32)

        return build

    for direction, weights, gates in (("forward", i8, []), ("reverse", u8, [12]), ("bidirectional", i8, [12])):
        d = 1 + (direction == "bidirectional")
        zeros = np.full((d, *gates), 131, np.uint8) if weights is u8 else np.zeros((d, *gates), np.int8)
        scales = lambda rng, shape=(d, *gates): rng.uniform(0.002, 0.02, shape).astype(np.float32)

        @case(f"ms_dynamic_lstm_{direction}")
        def _(g, d=d, weights=weights, scales=scales, zeros=zeros, direction=direction):
            x, h, c = g.input("x", reals(1, 2, 4)), g.input("h", state(d)), g.input("c", reals(d, 2, 3))
            parts = [g.const(weights(d, n, 12)) for n in (4, 3)]
            bias = g.const(reals(d, 24)) if direction != "reverse" else None
            of = [g.const(v) for _ in parts for v in (scales, zeros)]
            out = g.op("DynamicQuantizeLSTM", x, *parts, bias, None, h, c, None, *of, outputs=3, hidden_size=3, direction=direction, **MS)
            g.out(*out)


def fused():
    """Chains of operators under one name."""
    several("ms_gelu", [node("Gelu", reals(3, 5), **MS), node("QuickGelu", reals(3, 5), **MS)])
    several("ms_gelu_more", [node("QuickGelu", reals(3, 5), alpha=1.3, **MS), node("FastGelu", reals(3, 5), **MS)])
    several("ms_gelu_bias", [node(kind, reals(2, 3, 5), reals(5), **MS) for kind in ("BiasGelu", "FastGelu")])
    weights, bias = Const(reals(4, 3, 3, 3)), Const(reals(4))
    activations = ("Relu", []), ("Tanh", []), ("Sigmoid", []), ("LeakyRelu", [0.2]), ("Clip", [-0.3, 0.9]), ("HardSigmoid", [0.3, 0.4])
    convs = [
        node("FusedConv", reals(1, 3, 6, 5), weights, bias, activation=kind, **({"activation_params": p} if p else {}), **MS)
        for kind, p in activations
    ]
    several("ms_fused_conv", convs)
    one("ms_fused_conv_sum", "FusedConv", reals(1, 3, 6, 5), weights, bias, reals(1, 4, 6, 5), activation="Relu", pads=[1] * 4, **MS)
    gemms = [node("FusedGemm", reals(3, 4), Const(reals(4, 5)), Const(reals(5)), activation="Relu", **MS)]
    gemms.append(node("FusedGemm", reals(3, 4), Const(reals(5, 4)), activation="LeakyRelu", activation_alpha=0.3, transB=1, **MS))
    several("ms_fused_gemm", gemms)
    products = [node("FusedMatMul", reals(2, 3, 4), reals(2, 4, 5), alpha=0.5, **MS)]
    products.append(node("FusedMatMul", reals(2, 4, 3), reals(2, 5, 4), transA=1, transB=1, **MS))
    several("ms_fused_matmul", products)
    skip = reals(2, 3, 8), reals(2, 3, 8), Const(positive(8))
    norms = [node("SkipLayerNormalization", *skip, Const(reals(8)), epsilon=1e-5, **MS)]
    norms.append(node("SkipLayerNormalization", *skip, Const(reals(8)), Const(reals(8)), epsilon=1e-5, **MS))
    norms.append(node("SkipSimplifiedLayerNormalization", *skip, epsilon=1e-5, **MS))
    several("ms_skip_norm", norms)

    @case("ms_skip_norm_sum")
    def _(g):
        x, y = g.input("x", reals(2, 3, 8)), g.input("y", reals(2, 3, 8))
        scale, shift = g.const(positive(8)), g.const(reals(8))
        names = g.fresh("y"), g.fresh("sum")
        g.nodes.append(make("SkipLayerNormalization", [x, y, scale, shift], [names[0], "", "", names[1]], epsilon=1e-6))
        g.out(*names)

    one("simplified_norm", "SimplifiedLayerNormalization", reals(2, 3, 8), Const(positive(8)), epsilon=1e-5)

    @case("ms_embed")
    def _(g):
        ids, segments = g.input("ids", integers(np.int32, 2, 4, low=0, high=9)), g.input("segments", integers(np.int32, 2, 4, low=0, high=2))
        tables = g.const(reals(9, 8)), g.const(reals(6, 8)), g.const(reals(2, 8))
        mask = g.input("mask", integers(np.int32, 2, 4, low=0, high=2))
        y = g.op("EmbedLayerNormalization", ids, segments, *tables, g.const(positive(8)), g.const(reals(8)), mask, outputs=2, epsilon=1e-5, **MS)
        g.out(*y)


def make(kind, inputs, outputs, **attributes):
    """A node of the domain with outputs that are left out."""
    from onnx import helper

    return helper.make_node(kind, inputs, outputs, domain="com.microsoft", **attributes)


def quantised():
    """Operators of quantised tensors."""
    a, b = (i8(2, 3, 4), *scaled(0.0213, np.int8(-7))), (i8(3, 1), *scaled(0.0317, np.int8(11)))
    y = scaled(0.0731, np.int8(5))
    several("ms_qlinear_binary", [node(kind, *a, *b, *y, **MS) for kind in ("QLinearAdd", "QLinearMul")])
    ua, ub = (u8(2, 3, 4), *scaled(0.0213, np.uint8(97))), (u8(4), *scaled(0.0317, np.uint8(131)))
    uy = scaled(0.0731, np.uint8(121))
    several("ms_qlinear_binary_u8", [node(kind, *ua, *ub, *uy, **MS) for kind in ("QLinearAdd", "QLinearMul")])
    unary = [node("QLinearSigmoid", *a, *scaled(0.0041, np.int8(-128)), **MS)]
    unary.append(node("QLinearLeakyRelu", *ua, *uy, alpha=0.17, **MS))
    several("ms_qlinear_unary", unary)
    picture = (u8(1, 3, 6, 5), *scaled(0.0213, np.uint8(97)))
    pool = dict(kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 0])
    several("ms_qlinear_pool", [node("QLinearAveragePool", *picture, *uy, count_include_pad=k, **pool, **MS) for k in (0, 1)])
    last = (u8(1, 6, 5, 3), *scaled(0.0213, np.uint8(97)))
    pools = [node("QLinearGlobalAveragePool", *picture, *uy, **MS), node("QLinearGlobalAveragePool", *last, *uy, channels_last=1, **MS)]
    several("ms_qlinear_global_pool", pools)

    @case("ms_qlinear_mean")
    def _(g):
        # ONNX Runtime declares the operator and has no kernel for it.
        x = g.input("x", u8(2, 3, 4))
        reals_of_x = (g.feeds[x].astype(np.float64) - 97) * 0.0213
        grid = g.const(f32(0.0213)), g.const(np.uint8(97)), g.const(f32(0.0137)), g.const(np.uint8(121))
        for axes, keepdims in (([1, -1], 1), ([0], 0), (None, 1)):
            how = {"keepdims": keepdims, **({"axes": axes} if axes else {})}
            mean = reals_of_x.mean(tuple(axes) if axes else None, keepdims=bool(keepdims))
            y = np.clip(np.round(mean / 0.0137) + 121, 0, 255).astype(np.uint8)
            g.expect(g.op("QLinearReduceMean", x, *grid, **how, **MS), y)

    parts = (*scaled(0.0731, np.uint8(121)), u8(2, 3), *scaled(0.0213, np.uint8(97)), u8(2, 2), *scaled(0.0417, np.uint8(3)))
    one("ms_qlinear_concat", "QLinearConcat", *parts, axis=1, **MS)
    one("ms_qlinear_where", "QLinearWhere", booleans(2, 3), u8(2, 3), *scaled(0.0213, np.uint8(97)), u8(3), *scaled(0.0417, np.uint8(3)), *uy, **MS)
    softmax = node("QLinearSoftmax", *ua, *scaled(1 / 256, np.uint8(0)), axis=-1, opset=13, **MS)
    several("ms_qlinear_softmax", [softmax])
    gemm = (u8(3, 4), *scaled(0.0213, np.uint8(97)), Const(i8(4, 5)), *scaled(0.0117, np.int8(0)), Const(integers(np.int32, 5, low=-900, high=900)))
    several("ms_qgemm", [node("QGemm", *gemm, *uy, **MS), node("QGemm", *gemm, **MS)])
    turned = (u8(3, 4), *scaled(0.0213, np.uint8(97)), Const(i8(5, 4)), Const(f32([0.01, 0.02, 0.03, 0.04, 0.05])), Const(np.zeros(5, np.int8)))
    one("ms_qgemm_columns", "QGemm", *turned, None, *uy, transB=1, **MS)
    to_float = (u8(2, 3, 4), Const(i8(4, 5)), Const(f32(0.0213)), Const(f32(0.0117)), Const(np.uint8(97)), Const(np.int8(3)))
    one("ms_matmul_integer_to_float", "MatMulIntegerToFloat", *to_float, Const(reals(5)), **MS)
    one("ms_dynamic_matmul", "DynamicQuantizeMatMul", reals(3, 4), Const(i8(4, 5)), Const(f32(0.0117)), Const(np.int8(3)), Const(reals(5)), **MS)
    dynamic_lstms()
    nodes = [node("QuantizeLinear", reals(3, 4), *scaled(0.0213, np.uint8(97)), **MS)]
    nodes.append(node("DequantizeLinear", u8(3, 4), *scaled(0.0213, np.uint8(97)), **MS))
    several("ms_quantize", nodes)
    for bits, block, k in ((4, 16, 40), (8, 16, 32), (4, 32, 32)):
        blocks = -(-k // block)
        packed, row = integers(np.uint8, 5, blocks, block * bits // 8), -(-blocks * bits // 8)
        given = (reals(3, k), Const(packed), Const(positive(5 * blocks)))
        how = dict(K=k, N=5, bits=bits, block_size=block)
        nodes = [node("MatMulNBits", *given, **how, **MS)]
        nodes.append(node("MatMulNBits", *given, Const(integers(np.uint8, 5 * row)), **how, **MS))
        several(f"ms_matmul_{bits}_bits_{k}", nodes)


def attention():
    """Attention as the optimiser fuses it."""
    x, w, bias = reals(2, 3, 8), Const(reals(8, 24)), Const(reals(24))
    one("ms_attention", "Attention", x, w, bias, num_heads=2, **MS)
    one("ms_attention_causal", "Attention", x, w, bias, num_heads=2, unidirectional=1, **MS)
    one("ms_attention_lengths", "Attention", x, w, bias, np.array([3, 2], np.int32), num_heads=4, **MS)
    one("ms_attention_mask", "Attention", x, w, bias, np.array([[1, 1, 0], [1, 1, 1]], np.int32), num_heads=2, scale=0.3, **MS)
    one("ms_attention_bias", "Attention", x, w, bias, None, None, reals(2, 2, 3, 3), num_heads=2, **MS)
    one("ms_attention_sizes", "Attention", x, Const(reals(8, 20)), Const(reals(20)), num_heads=2, qkv_hidden_sizes=[8, 8, 4], **MS)
    past = reals(2, 2, 2, 5, 4)
    one("ms_attention_past", "Attention", x, w, bias, None, past, num_heads=2, outputs=2, unidirectional=1, **MS)
    q = (u8(2, 3, 8), Const(i8(8, 24)), Const(reals(24)), Const(f32(0.0213)), Const(f32(0.0117)), None, Const(np.uint8(97)), Const(np.int8(0)))
    one("ms_qattention", "QAttention", *q, num_heads=2, **MS)
    heads = reals(2, 3, 8), reals(2, 4, 8), reals(2, 4, 8)
    one("ms_multi_head", "MultiHeadAttention", *heads, num_heads=2, **MS)
    one("ms_multi_head_bias", "MultiHeadAttention", *heads, Const(reals(24)), num_heads=2, **MS)
    mask = np.array([[1, 1, 0, 1], [1, 1, 1, 1]], np.int32)
    one("ms_multi_head_mask", "MultiHeadAttention", *heads, None, mask, reals(1, 2, 3, 4), num_heads=2, **MS)
    pasts = reals(2, 2, 3, 4), reals(2, 2, 3, 4)
    one("ms_multi_head_past", "MultiHeadAttention", *heads, None, None, None, *pasts, num_heads=2, outputs=3, **MS)
