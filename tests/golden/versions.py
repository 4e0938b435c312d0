"""Operators in operator sets in which they meant something else than today. ONNX Runtime has no kernels for most of these:
their outputs are the text of the operator of that time, written out in numpy."""

import numpy as np

from graphs import booleans, case, f32, i64, integers, positive, reals

PLAIN = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide, "Pow": np.power}


def versions():
    """Cases of old operator sets."""
    # `consumed_inputs` was a hint of the first operator sets.
    for opset, hint in ((1, {"consumed_inputs": [0, 0]}), (6, {})):

        @case(f"old_broadcast_{opset}", opset, hint=hint)
        def _(g, hint):
            x = g.input("x", positive(2, 3, 4, 5))
            for kind, f in PLAIN.items():
                more = {} if kind == "Pow" else hint
                for axis, shape in ((1, (3,)), (1, (3, 4)), (0, (2,)), (2, (4, 5)), (-1, (5,)), (3, (5,))):
                    y = g.array(positive(*shape))
                    at = axis % 4
                    wide = y.reshape(shape + (1,) * (4 - at - len(shape)))
                    g.expect(g.op(kind, x, y, axis=axis, broadcast=1, **more), f(g.feeds["x"], wide))
                for shape in ((5,), (4, 5), (1,), ()):
                    y = g.array(positive(*shape))
                    g.expect(g.op(kind, x, y, broadcast=1, **more), f(g.feeds["x"], y))
                y = g.array(positive(2, 3, 4, 5))
                g.expect(g.op(kind, x, y, **more), f(g.feeds["x"], y))
            # The second operand is computed, too.
            g.input("row", positive(3))
            g.expect(g.op("Mul", x, "row", axis=1, broadcast=1, **hint), g.feeds["x"] * g.feeds["row"].reshape(3, 1, 1))

    @case("old_compare", 6)
    def _(g):
        x, b = g.input("x", reals(2, 3, 4)), g.input("b", booleans(2, 3, 4))
        y, c = g.array(reals(3)), g.array(booleans(2))
        for kind, f in (("Greater", np.greater), ("Less", np.less)):
            g.expect(g.op(kind, x, y, axis=1, broadcast=1), f(g.feeds["x"], y.reshape(3, 1)))
        for kind, f in (("And", np.logical_and), ("Or", np.logical_or), ("Xor", np.logical_xor)):
            g.expect(g.op(kind, b, c, axis=0, broadcast=1), f(g.feeds["b"], c.reshape(2, 1, 1)))
        i, j = g.input("i", integers(np.int32, 3, 3, low=0, high=3)), g.array(integers(np.int32, 3, low=0, high=3))
        g.expect(g.op("Equal", i, j, axis=0, broadcast=1), g.feeds["i"] == j.reshape(3, 1))

    for opset in (1, 6):

        @case(f"old_prelu_{opset}", opset)
        def _(g):
            # One slope for each position of axis 1 (of the last axis' extent here, too), or one for all.
            x = g.input("x", reals(2, 3, 4, 3))
            for slope, wide in (((3,), (3, 1, 1)), ((1,), (1,)), ((2, 3, 4, 3), (2, 3, 4, 3))):
                s = g.array(reals(*slope))
                v = g.feeds["x"]
                g.expect(g.op("PRelu", x, s), np.where(v < 0, v * s.reshape(wide), v).astype(np.float32))
            flat = g.input("flat", reals(2, 5))
            s = g.array(reals(5))
            v = g.feeds["flat"]
            g.expect(g.op("PRelu", flat, s), np.where(v < 0, v * s, v).astype(np.float32))

    @case("old_gemm", 6)
    def _(g):
        a, b = g.input("a", reals(3, 4)), g.array(reals(4, 5))
        for shape in ((5,), (1, 5), (3, 1), (1,)):
            c = g.array(reals(*shape))
            g.expect(g.op("Gemm", a, b, c, broadcast=1, beta=0.5), (g.feeds["a"] @ b + f32(0.5) * c).astype(np.float32))
        c = g.array(reals(3, 5))
        g.expect(g.op("Gemm", a, b, c), g.feeds["a"] @ b + c)

    for opset, more in ((6, {"is_test": 1}), (7, {}), (8, {})):

        @case(f"old_batchnorm_elements_{opset}", opset, more=more)
        def _(g, more):
            # Statistics of each element of a picture, and of each channel.
            x = g.input("x", reals(2, 3, 4, 5))
            for spatial, shape, wide in ((0, (3, 4, 5), (3, 4, 5)), (1, (3,), (3, 1, 1))):
                s, b, m, v = (g.array(r(*shape)) for r in (reals, reals, reals, positive))
                y = g.op("BatchNormalization", x, s, b, m, v, spatial=spatial, **more)
                s, b, m, v = (p.reshape(wide).astype(np.float64) for p in (s, b, m, v))
                g.expect(y, ((g.feeds["x"] - m) / np.sqrt(v + 1e-5) * s + b).astype(np.float32))

    @case("old_selu", 1)
    def _(g):
        x = g.input("x", reals(4, 5, scale=2.0))
        v = g.feeds["x"].astype(np.float64)
        g.expect(g.op("Selu", x), np.where(v > 0, 1.0507 * v, 1.0507 * 1.6732 * np.expm1(v)).astype(np.float32))

    @case("old_attributes", 6)
    def _(g):
        x = g.input("x", reals(2, 3, 4))
        v = g.feeds["x"]
        g.expect(g.op("Dropout", x, is_test=1, ratio=0.3), v)
        g.expect(g.op("Sum", x, x, x), v + v + v)
        g.expect(g.op("Reshape", x, i64(6, -1)), v.reshape(6, 4))
        g.expect(g.op("Tile", x, i64(1, 2, 1)), np.tile(v, (1, 2, 1)))

    @case("old_reshape", 4)
    def _(g):
        x = g.input("x", reals(2, 3, 4))
        g.expect(g.op("Reshape", x, shape=[0, -1]), g.feeds["x"].reshape(2, 12))
        g.expect(g.op("Concat", x, x, axis=1), np.concatenate([g.feeds["x"]] * 2, axis=1))

    @case("dropout_training_mode", 13)
    def _(g):
        x = g.input("x", reals(3, 4))
        g.out(g.op("Dropout", x, f32(0.5), np.bool_(False)), g.op("Dropout", x, f32(0.5)))

    @case("split_num_outputs", 18)
    def _(g):
        x = g.input("x", reals(2, 7))
        g.out(*g.op("Split", x, axis=1, num_outputs=3, outputs=3))
