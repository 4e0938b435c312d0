"""Inputs of a model that are initialisers, too: they have a default from IR version 4 on, and are constants before."""

import numpy as np

from graphs import case, f32, i8, i64, reals

SX, SW, SY = 0.0213, 0.0117, 0.0531


def defaults():
    """Cases in which a value is given for such an input, and in which it is not."""
    for given in (False, True):
        how = "given" if given else "left"

        @case(f"default_state_{how}", 13, given=given)
        def _(g, given):
            # A step of a recurrence, whose state is an output, too; two more states of which one is never given.
            x = g.input("x", reals(2, 3))
            h = g.default("h", reals(2, 4), reals(2, 4) if given else None)
            c, d = g.default("c", reals(4)), g.default("d", reals(2, 4))
            s = g.op("Tanh", g.op("Add", g.op("MatMul", x, reals(3, 4)), g.op("MatMul", h, reals(4, 4))), name="state")
            g.out(s, g.op("Mul", s, c), g.op("Sub", h, d))

        @case(f"default_quantised_{how}", 13, given=given)
        def _(g, given):
            x = g.dq(g.input("x", i8(3, 5)), SX, np.int8(3))
            h = g.dq(g.default("h", i8(3, 4), i8(3, 4) if given else None), SY, np.int8(-7))
            y = g.op("Add", g.op("MatMul", x, g.weights(i8(5, 4), SW)), h)
            g.out(g.q(y, SY, np.int8(1)), g.q(h, SX, np.int8(3)))

        @case(f"default_through_{how}", 13, given=given)
        def _(g, given):
            # The input is an output, and its default is a constant of the graph elsewhere, too.
            h = g.default("h", reals(2, 3), reals(2, 3) if given else None)
            g.out(g.op("Identity", h), g.op("Add", h, g.input("x", reals(2, 3))))

        @case(f"default_integers_{how}", 13, given=given)
        def _(g, given):
            k = g.default("k", i64(2, 0, 1), i64(1, 1, 2) if given else None)
            g.out(g.op("Gather", g.input("x", reals(3, 4)), k), g.op("Add", k, i64(1, 2, 3)))

    @case("default_bound", 13)
    def _(g):
        # Each of these must be constant, so that it is no input of the plan: its default is the value.
        x = g.input("x", reals(1, 3, 6, 6))
        w, b = g.default("w", reals(4, 3, 3, 3)), g.default("b", reals(4))
        s, m = g.default("scale", reals(4)), g.default("mean", reals(4))
        y = g.op("BatchNormalization", g.op("Conv", x, w, b), s, reals(4), m, f32([0.5, 1, 2, 1.5]))
        y = g.op("Reshape", y, g.default("to", i64(4, 16)))
        y = g.op("Gemm", y, g.op("Transpose", g.default("k", reals(5, 16)), perm=[1, 0]), g.default("bias", reals(5)))
        q = g.op("DequantizeLinear", g.op("QuantizeLinear", y, g.default("step", f32(0.0713))), "step")
        g.out(y, q, g.op("ReduceSum", q, g.default("axes", i64(1))))

    @case("default_bound_and_read", 13)
    def _(g):
        # Bound where it decides a shape, and data elsewhere: the same value in both.
        to = g.default("to", i64(3, 4))
        g.out(g.op("Reshape", g.input("x", reals(2, 6)), to), g.op("Mul", to, i64(2, 5)))

    @case("default_of_old_files", 7)
    def _(g):
        # Every initialiser was listed among the inputs.
        g.ir_version = 3
        x, h = g.input("x", reals(2, 3)), g.default("h", reals(2, 4))
        g.out(g.op("Add", g.op("MatMul", x, g.default("w", reals(3, 4))), h))
