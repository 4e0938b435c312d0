"""What only depends on constants and shapes. It folds while a model is compiled, and must come out as ONNX Runtime has it:
in the arithmetic of the element types, rounded after every operator."""

import numpy as np
from onnx import TensorProto

from graphs import case, f32, i64, reals


def folding():
    """Cases whose results are known before the model runs."""
    for n, factor in ((100, 0.29), (29, 3.4482758), (49, 1 / 49), (1000, 0.001), (10, 0.3)):

        @case(f"fold_size_{n}_{factor:.3f}", 17, n=n, factor=factor)
        def _(g, n, factor):
            x = g.input("x", reals(n))
            size = g.op("Cast", g.op("Shape", x), to=TensorProto.FLOAT)
            scaled = g.op("Floor", g.op("Mul", size, f32([factor])))
            y = g.op("Slice", x, i64(0), g.op("Cast", scaled, to=TensorProto.INT64), i64(0))
            g.out(y, scaled)

    @case("fold_casts", 17)
    def _(g):
        # Numbers that f32 does not hold, halfway between two that it holds, and beyond all of them.
        wide = i64(2**24 + 1, 2**31 + 129, (1 << 60) + (1 << 36) + 1, -(2**53) - 1, 7)
        as_float = g.op("Cast", wide, to=TensorProto.FLOAT)
        g.out(as_float, g.op("Cast", as_float, to=TensorProto.INT64))
        for to in (TensorProto.INT32, TensorProto.UINT8, TensorProto.BOOL):
            g.out(g.op("Cast", f32([-0.0, 0.5, 1.9, 100.7]), to=to))

    @case("fold_double", 17)
    def _(g):
        x = g.input("x", reals(100))
        size = g.op("Cast", g.op("Shape", x), to=TensorProto.DOUBLE)
        end = g.op("Floor", g.op("Mul", size, np.array([0.29])))
        g.out(g.op("Slice", x, i64(0), g.op("Cast", end, to=TensorProto.INT64), i64(0)))
        wide = g.op("Cast", i64(16777217, 2**53 - 1), to=TensorProto.DOUBLE)
        g.out(g.op("Cast", wide, to=TensorProto.INT64), g.op("Cast", wide, to=TensorProto.FLOAT))
        third = g.op("Div", np.array([1.0, 2.0]), np.array([3.0, 7.0]))
        g.out(g.op("Cast", g.op("Mul", third, np.array([3e9, 7e9])), to=TensorProto.INT64))
        g.out(g.op("Cast", g.op("Cast", i64(-1, 5, 2**33 + 3), to=TensorProto.UINT32), to=TensorProto.INT64))

    @case("fold_overflow", 17)
    def _(g):
        big = g.op("Mul", f32([3e38, -3e38, 1e-38]), f32([10, 10, 1e-8]))
        g.out(big, g.op("Mul", big, f32([1e-10, 1e-10, 1e10])), g.op("Sub", big, big))
        one = g.op("Add", f32([1e8, 16777216]), f32([1, 1]))
        g.out(g.op("Sub", one, f32([1e8, 16777216])))

    @case("fold_quantise", 17)
    def _(g):
        # Next to ties the quotient's own rounding decides.
        x = (np.arange(-40, 40) * 0.05).astype(np.float32)
        for scale in (0.1, 0.3, 0.7):
            q = g.q(g.const(x), scale, np.int8(3))
            g.out(q, g.dq(q, scale, np.int8(3)))

    @case("fold_range", 17)
    def _(g):
        g.out(g.op("Range", f32(0), f32(1), f32(0.1)), g.op("Range", f32(5), f32(-2), f32(-0.7)))
        start, end = 2**60, 2**60 + 50
        g.out(g.op("Range", np.int64(start), np.int64(end), np.int64(7)))

    @case("fold_index_arithmetic", 17)
    def _(g):
        x = g.input("x", reals(5, 7))
        shape = g.op("Shape", x)
        half = g.op("Div", shape, i64(2))
        g.out(half, g.op("Div", i64(-7, 7), i64(2, -2)), g.op("Mul", shape, g.op("Neg", half)))
        g.out(g.op("Reshape", x, g.op("Concat", g.op("ReduceProd", shape, keepdims=1), i64(1), axis=0)))
