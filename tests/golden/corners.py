"""What was wrong once: extremes, edges and second outputs."""

import numpy as np

from graphs import Const, case, f32, i64, one, positive, reals


def corners():
    """Cases of one set."""
    window = dict(kernel_shape=[2, 2], dilations=[2, 2], pads=[1, 1, 1, 1])
    zeros = np.zeros((1, 1, 4, 4), np.uint8)
    one("maxpool_places_of_zeros", "MaxPool", zeros, outputs=2, opset=12, **window)
    one("maxpool_places_of_lowest", "MaxPool", np.full((1, 1, 4, 4), -128, np.int8), outputs=2, opset=12, **window)
    big = i64(2**40, 5, -(2**40), 2**24 + 3)
    one("clip_i64_beyond_f32", "Clip", big, Const(np.int64(-(2**24) - 1)), Const(np.int64(2**24 + 1)), opset=13)
    one("dynamic_quantize_zeros", "DynamicQuantizeLinear", np.zeros((2, 3), np.float32), outputs=3, opset=11)

    @case("simplified_norm_outputs")
    def _(g):
        x, scale = g.input("x", reals(2, 3, 8, offset=1.0)), g.const(positive(8))
        g.out(*g.op("SimplifiedLayerNormalization", x, scale, outputs=2, epsilon=1e-5))

    # Weights that are constant once something is folded are those of a convolution all the same.
    @case("conv_of_folded_weights", 13)
    def _(g):
        weights = g.weights(lambda rng: rng.integers(-127, 128, (4, 3, 9)).astype(np.int8), f32(0.0117))
        folded = g.op("Reshape", weights, i64(4, 3, 3, 3))
        g.out(g.op("Conv", g.input("x", reals(1, 3, 6, 5)), folded))
