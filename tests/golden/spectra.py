"""Spectra and windows, determinants and grids, layers with a state, and what is put back where it came from."""

import numpy as np
import onnx

from graphs import Const, booleans, case, f32, i64, integers, node, one, reals, several


def spectra():
    """All of it."""
    kinds = "HannWindow HammingWindow BlackmanWindow".split()
    windows = [node(kind, Const(np.int64(n)), periodic=p) for kind in kinds for n in (10, 7) for p in (0, 1)]
    several("windows", windows + [node("HannWindow", Const(np.int32(5)), output_datatype=11)])
    mel = [Const(np.int64(v)) for v in (8, 64, 8000)] + [Const(f32(v)) for v in (20.0, 3800.0)]
    one("mel_weight_matrix", "MelWeightMatrix", *mel)
    step, length = Const(np.int64(5)), Const(np.int64(16))
    hann = Const(f32(np.hanning(16)))
    stft = [
        node("STFT", reals(2, 50, 1), step, None, length),
        node("STFT", reals(2, 50, 1), step, hann),
        node("STFT", reals(1, 50, 1), step, reals(16), length, onesided=0),
        node("STFT", reals(2, 50, 2), step, hann, length, onesided=0),
    ]
    several("stft", stft)

    grids = [
        node("AffineGrid", reals(2, 2, 3), Const(i64(2, 3, 4, 5))),
        node("AffineGrid", reals(1, 2, 3), Const(i64(1, 1, 3, 2)), align_corners=1),
        node("AffineGrid", reals(2, 3, 4), Const(i64(2, 1, 2, 3, 4))),
        node("AffineGrid", reals(2, 3, 4), Const(i64(2, 1, 4, 3, 2)), align_corners=1),
    ]
    several("affine_grid", grids, 20)
    sizes = [(1, 1), (2, 2), (5, 3, 3), (2, 3, 4, 4)]
    for opset in (11, 22):
        several(f"det_{opset}", [node("Det", reals(*s)) for s in sizes], opset)

    causal = [
        node("CausalConvWithState", reals(2, 3, 5), reals(3, 1, 4), outputs=2),
        node("CausalConvWithState", reals(2, 3, 1), Const(reals(3, 1, 4)), reals(3), reals(2, 3, 3), outputs=2),
        node("CausalConvWithState", reals(1, 3, 5), reals(3, 1, 2), None, reals(1, 3, 1), outputs=2, activation="silu"),
    ]
    several("causal_conv_with_state", causal, 27, reference=True)
    q, k, v, past = reals(2, 4, 12), reals(2, 4, 6, scale=0.5), reals(2, 4, 10), reals(2, 2, 3, 5)
    attributes = {"outputs": 2, "q_num_heads": 4, "kv_num_heads": 2}
    rules = [
        node("LinearAttention", q, k, v, past, update_rule="linear", **attributes),
        node("LinearAttention", q, k, v, None, reals(2, 4, 6, scale=0.3), update_rule="gated", **attributes),
        node("LinearAttention", q, k, v, past, None, reals(2, 4, 1), update_rule="delta", scale=0.5, **attributes),
        node("LinearAttention", q, k, v, past, reals(2, 4, 2, scale=0.3), reals(2, 4, 2), **attributes),
    ]
    several("linear_attention", rules, 27, reference=True)
    starts = Const(i64(1, 3))
    scatters = [
        node("TensorScatter", reals(2, 3, 6, 2), reals(2, 3, 3, 2)),
        node("TensorScatter", reals(2, 3, 6, 2), reals(2, 3, 3, 2), starts),
        node("TensorScatter", reals(2, 6, 2), reals(2, 4, 2), Const(i64(5, 4)), mode="circular", axis=1),
        node("TensorScatter", reals(2, 6), reals(2, 2), integers(np.int64, 2, low=0, high=5), axis=-1),
    ]
    several("tensor_scatter", scatters, 24, reference=True)

    for opset in (9, 11, 22):

        def unpool(g):
            x = g.input("x", reals(2, 3, 6, 4))
            window = {"kernel_shape": [2, 2], "strides": [2, 2]}
            y, at = g.op("MaxPool", x, outputs=2, **window)
            g.out(g.op("MaxUnpool", y, at, **window))

        case(f"max_unpool_{opset}", opset)(unpool)

    equations = [
        node("Einsum", reals(2, 3, 4), reals(4, 5), equation="...ij,jk->...ik"),
        node("Einsum", reals(2, 1, 3, 4), reals(1, 5, 4, 2), equation="...ij,...jk"),
        node("Einsum", reals(3, 3), equation="ii->i"),
        node("Einsum", reals(3, 3), equation="ii"),
        node("Einsum", reals(2, 3, 3), equation="...ii->...i"),
        node("Einsum", reals(4, 3, 4), reals(4, 3), equation="iji,ij->j"),
    ]
    several("einsum_open", equations, 12)

    x, small = reals(1, 2, 8, 9), Const(f32([1, 1, 0.5, 0.6]))
    none = Const(f32([]))
    region = Const(f32([0, 0, 0.4, -0.2, 1, 1, 0.6, 1.3]))
    filters = [
        node("Resize", x, None, small, mode=mode, antialias=1, exclude_outside=e)
        for mode in ("linear", "cubic")
        for e in (0, 1)
    ]
    filters.append(node("Resize", x, None, Const(f32([1, 1, 0.5, 1.5])), mode="linear", antialias=1))
    several("resize_antialias", filters, 18, reference=True)
    crops = [
        node("Resize", x, region, none, Const(i64(1, 2, 5, 4)), mode=mode, extrapolation_value=2.5,
             coordinate_transformation_mode="tf_crop_and_resize")
        for mode in ("linear", "nearest")
    ]
    several("resize_crop", crops, 13)

    # By the texts of the operators: a mask of all that is there, the input itself, and its bits.
    @case("dropout_mask", 13)
    def _(g):
        g.out(*g.op("Dropout", g.input("x", reals(3, 4)), outputs=2))
        g.out(*g.op("Dropout", "x", f32(0.0), np.bool_(True), outputs=2))

    @case("optional", 18)
    def _(g):
        x = g.input("x", reals(3, 2))
        g.expect(g.op("OptionalGetElement", x), g.feeds["x"])
        g.expect(g.op("OptionalHasElement", x), np.array(True))
        g.expect(g.op("OptionalHasElement"), np.array(False))

    @case("bit_cast", 26)
    def _(g):
        for dtype, to in ((np.int8, np.uint8), (np.uint8, np.int8)):
            x = g.input(g.fresh("x"), integers(dtype, 3, 5))
            g.expect(g.op("BitCast", x, to=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(to))), g.feeds[x].view(to))
        x = g.input("b", booleans(7))
        g.expect(g.op("BitCast", x, to=onnx.TensorProto.UINT8), g.feeds["b"].view(np.uint8))
        fixed = f32([1.5, -0.0, 3e-40, np.inf])
        g.expect(g.op("BitCast", fixed, to=onnx.TensorProto.INT32), fixed.view(np.int32))

    pool = {
        "ngram_counts": [0, 4],
        "ngram_indexes": [0, 1, 2, 3, 4, 5, 6],
        "pool_int64s": [2, 3, 5, 4, 5, 6, 7, 8, 6, 7],
        "min_gram_length": 1,
        "max_gram_length": 2,
    }
    weights = {"weights": [0.5, 1.5, 2.0, -1.0, 0.25, 3.0, 1.0]}
    grams = [
        node("TfIdfVectorizer", integers(np.int64, 3, 12, low=2, high=9), mode="TF", max_skip_count=5, **pool),
        node("TfIdfVectorizer", integers(np.int32, 30, low=2, high=9), mode="IDF", max_skip_count=0, **pool, **weights),
        node("TfIdfVectorizer", integers(np.int32, 2, 9, low=2, high=9), mode="TFIDF", max_skip_count=2, **pool,
             **weights),
    ]
    several("tf_idf", grams, 9)
    one("one_hot_real_depth", "OneHot", integers(np.int64, 4, low=-3, high=6), Const(f32(5.0)), Const(f32([0.5, 2.0])))
