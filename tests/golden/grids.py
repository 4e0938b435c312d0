"""Quantised graphs whose values come from several grids: constants that are put among quantised elements, and zero points
that differ from channel to channel."""

import numpy as np
from onnx import numpy_helper

from graphs import booleans, case, f32, i8, i64, integers, reals, u8

BYTES = (np.int8, np.uint8)
# Scales of inputs, weights, and outputs.
SX, SW, SY = 0.0213, 0.0117, 0.0531


def scales(n):
    """Scales of odd ten-thousandths."""
    return lambda rng: ((rng.integers(20, 120, n) * 2 + 1) * 1e-4).astype(np.float32)


def constants_among_quantised():
    """What movements bring in besides their input: DequantizeLinear, movement, QuantizeLinear."""
    border = i64(0, 1, 2, 0, 0, 1)
    zeros = {np.int8: (np.int8(-18), np.int8(-11)), np.uint8: (np.uint8(110), np.uint8(117))}
    # A value beside the input's grid, one on it, one that the input's type cannot hold, one that neither can, and 0.
    values = (0.37, 4 * SX, 20.0, -1e9, 0.0)
    for dtype in BYTES:
        zx, zy = zeros[dtype]

        @case(f"grid_pad_{np.dtype(dtype)}", 13, dtype=dtype, zx=zx, zy=zy)
        def _(g, dtype, zx, zy):
            x = g.dq(g.input("x", integers(dtype, 2, 9, 7)), SX, zx)
            for value in values:
                for scale, zero in ((SX, zx), (SX, zy), (0.0237, zy), (0.2011, zy)):
                    g.out(g.q(g.op("Pad", x, border, f32(value)), scale, zero))
                g.out(g.op("Pad", x, border, f32(value)))

        @case(f"grid_pad_modes_{np.dtype(dtype)}", 19, dtype=dtype, zx=zx, zy=zy)
        def _(g, dtype, zx, zy):
            x = g.dq(g.input("x", integers(dtype, 2, 9, 7)), SX, zx)
            for mode in ("reflect", "edge", "wrap"):
                g.out(g.q(g.op("Pad", x, border, mode=mode), 0.0237, zy))

        @case(f"grid_pad_integers_{np.dtype(dtype)}", 13, dtype=dtype, zx=zx, zy=zy)
        def _(g, dtype, zx, zy):
            # The value is an integer on the grid of what it is put among.
            x = g.input("x", integers(dtype, 2, 9, 7))
            for value in (dtype(0), zx, dtype(101)):
                g.out(g.q(g.dq(g.op("Pad", x, border, value), SX, zx), 0.0237, zy))

        @case(f"grid_pad_conv_{np.dtype(dtype)}", 13, dtype=dtype, zx=zx, zy=zy)
        def _(g, dtype, zx, zy):
            x = g.dq(g.input("x", integers(dtype, 1, 3, 7, 6)), SX, zx)
            for value in (1.37, 3 * SX, 0.0):
                p = g.op("Pad", x, i64(0, 0, 1, 1, 0, 0, 1, 1), f32(value))
                g.out(g.q(g.op("Conv", p, g.weights(i8(4, 3, 3, 3), SW)), 0.3011, zy))

        @case(f"grid_joined_{np.dtype(dtype)}", 13, dtype=dtype, zx=zx, zy=zy)
        def _(g, dtype, zx, zy):
            x = g.dq(g.input("x", integers(dtype, 1, 4, 6)), SX, zx)
            far = g.const(reals(1, 2, 6, scale=9.0))
            spread = g.op("Expand", g.const(f32([[0.371], [-7.2]])), i64(1, 2, 6))
            filled = g.op("ConstantOfShape", i64(1, 1, 6), value=numpy_helper.from_array(f32([3.33])))
            for other in (far, spread, filled):
                g.out(g.q(g.op("Concat", x, other, axis=1), SY, zy), g.q(g.op("Concat", other, x, axis=1), SX, zx))
            mask = g.input("mask", booleans(4, 6))
            g.out(g.q(g.op("Where", mask, x, f32(0.371)), SY, zy), g.q(g.op("Where", mask, f32(-5.03), x), SX, zx))
            g.out(g.q(g.op("Where", mask, x, reals(1, 4, 6, scale=9.0)), SY, zy))
            g.out(g.q(g.op("Max", x, f32(0.371)), SY, zy), g.q(g.op("Clip", x, f32(-0.377), f32(0.413)), SY, zy))

        @case(f"grid_pool_padding_{np.dtype(dtype)}", 13, dtype=dtype, zx=zx, zy=zy)
        def _(g, dtype, zx, zy):
            # All elements are far below 0 and the zero point: padding must not win, and counts as 0 in an average.
            low = np.iinfo(dtype).min
            q = g.input("x", integers(dtype, 1, 3, 6, 6, low=low, high=low + 40))
            x = g.dq(q, SX, zx)
            for y in (
                g.op("MaxPool", x, kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2]),
                g.op("AveragePool", x, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1),
                g.op("AveragePool", x, kernel_shape=[3, 3], pads=[1] * 4),
                g.op("Conv", x, g.weights(i8(2, 3, 3, 3), SW), pads=[1, 2, 2, 1]),
                g.op("Conv", x, g.weights(i8(3, 1, 3, 3), SW), pads=[1, 2, 2, 1], group=3),
                g.op("ConvTranspose", x, g.weights(i8(3, 2, 3, 3), SW), strides=[2, 2]),
            ):
                g.out(g.q(y, SY, zy), g.q(y, SX, zx))
            g.out(g.op("MaxPool", q, kernel_shape=[3, 3], pads=[1] * 4))


def around(dtype, reach=50):
    """Bounds of integers around three quarters of a type's range."""
    middle = (np.iinfo(dtype).min + 3 * np.iinfo(dtype).max) // 4
    return {"low": middle - reach, "high": middle + reach}


def zero_points():
    """Weights with a zero point for each output channel, of one scale or many; one zero point of many scales."""
    forms = {
        "one": (lambda n: f32(SW), lambda w, n: w(5)),
        "zeros": (lambda n: f32(SW), lambda w, n: integers(w, n)),
        "scales": (scales, lambda w, n: w(5)),
        "both": (scales, lambda w, n: integers(w, n)),
        # So close that the weights less their zero points are bytes.
        "near": (scales, lambda w, n: integers(w, n, **around(w, 5))),
    }
    for w in BYTES:
        for form, (scale, zero) in forms.items():

            @case(f"zero_points_conv_{np.dtype(w)}_{form}", 10, w=w, scale=scale, zero=zero, form=form)
            def _(g, w, scale, zero, form):
                bounds = around(w) if form == "near" else {}
                # ONNX Runtime multiplies no int8 with uint8 weights.
                for x in BYTES if w is np.int8 else (np.uint8,):
                    q = g.input(f"x_{np.dtype(x)}", integers(x, 1, 4, 7, 6))
                    for shape, more in (
                        ((6, 4, 1, 1), {}),
                        ((6, 4, 3, 3), {"pads": [1, 0, 2, 1]}),
                        ((6, 2, 3, 3), {"group": 2}),
                        ((4, 1, 3, 3), {"group": 4, "pads": [1] * 4}),
                    ):
                        n = shape[0]
                        bias = g.const(integers(np.int32, n, low=-500, high=500))
                        args = [f32(SX), x(7), integers(w, *shape, **bounds), scale(n), zero(w, n), f32(0.3011), x(50)]
                        y = g.op("QLinearConv", q, *args, bias, **more)
                        g.out(y)

            @case(f"zero_points_matmul_{np.dtype(w)}_{form}", 10, w=w, scale=scale, zero=zero, form=form)
            def _(g, w, scale, zero, form):
                bounds = around(w) if form == "near" else {}
                for x in BYTES if w is np.int8 else (np.uint8,):
                    q = g.input(f"x_{np.dtype(x)}", integers(x, 2, 3, 60))
                    args = [f32(SX), x(7), integers(w, 60, 11, **bounds), scale(11), zero(w, 11), f32(0.3011), x(50)]
                    g.out(g.op("QLinearMatMul", q, *args))

            @case(f"zero_points_qdq_{np.dtype(w)}_{form}", 13, w=w, scale=scale, zero=zero, form=form)
            def _(g, w, scale, zero, form):
                # DequantizeLinear wants as many zero points as scales.
                if form == "one":
                    both = lambda n: (f32(SW), w(5))
                else:
                    spread = lambda v, n: np.resize(g.array(v), n)
                    both = lambda n: (spread(scale(n), n), spread(zero(w, n), n))
                x = g.dq(g.input("x", u8(1, 4, 7, 6)), SX, np.uint8(90))
                for shape, more in (((6, 4, 3, 3), {"pads": [1, 0, 2, 1]}), ((4, 1, 3, 3), {"group": 4})):
                    s, z = both(shape[0])
                    c = g.op("Conv", x, g.op("DequantizeLinear", integers(w, *shape), s, z, axis=0), **more)
                    g.out(g.q(c, 0.3011, np.int8(5)), c)
                s, z = both(5)
                t = g.op("ConvTranspose", x, g.op("DequantizeLinear", integers(w, 4, 5, 3, 3), s, z, axis=1))
                g.out(g.q(t, 0.3011, np.int8(5)))
                rows = g.dq(g.input("rows", i8(3, 20)), SX, np.int8(-9))
                s, z = both(7)
                m = g.op("MatMul", rows, g.op("DequantizeLinear", integers(w, 20, 7), s, z, axis=1))
                t = g.op("Gemm", rows, g.op("DequantizeLinear", integers(w, 7, 20), s, z, axis=0), transB=1)
                g.out(g.q(m, 0.3011, np.uint8(90)), g.q(t, 0.3011, np.uint8(90)))

    @case("zero_points_matmul_computed", 10)
    def _(g):
        # The second operand is computed while the model runs.
        a, b = g.input("a", u8(3, 9)), g.input("b", i8(9, 5))
        g.out(g.op("QLinearMatMul", a, f32(SX), np.uint8(7), b, scales(5), i8(5), f32(0.3011), np.uint8(50)))
