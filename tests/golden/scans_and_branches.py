"""Golden cases of scans and branches.

The names say what would go wrong if the case failed: most hold a body in which one thing
differs from a plain running sum.
"""

import numpy as np

from graphs import booleans, case, f32, go_on, i8, i64, integers, loop, node, one, positive, reals, scan


def scans():
    """Scan: states, scanned inputs and outputs, axes and directions."""
    for opset in (9, 11, 16, 18, 20):

        @case(f"scan_{opset}", opset)
        def _(g):
            b = g.body(2)
            h, x = b.inputs
            h = b.op("Tanh", b.op("Add", b.op("Mul", h, f32(0.7)), x))
            b.out(h, b.op("Mul", h, reals(4)))
            g.out(*scan(g, b, [g.input("h", reals(2, 4))], [g.input("x", reals(6, 2, 4))], 2))

    @case("scan_two_states", 16)
    def _(g):
        # States of other shapes and types, three scanned inputs, two scanned outputs, names of the graph around.
        x, y, n = g.input("x", reals(5, 3)), g.input("y", reals(5, 2, 3)), g.input("n", integers(np.int64, 5, high=99))
        around, constant = g.op("Exp", g.input("p", reals(3))), g.const(reals(2, 3), "constant")
        b = g.body(5)
        h, count, v, w, k = b.inputs
        h_next = b.op("Add", b.op("Mul", h, around), b.op("Mul", w, constant))
        b.out(h_next, b.op("Add", count, k), b.op("ReduceSum", h_next, i64(0), keepdims=0), b.op("Mul", v, around))
        g.out(*scan(g, b, [g.input("h", reals(2, 3)), g.input("count", np.int64(7))], [x, y, n], 4))

    for name, opset, inputs, outputs in (("axes", 11, [1, -1], [-1, 1]), ("axes_9", 9, [1, 2], [2, 0])):

        @case(f"scan_{name}", opset, inputs=inputs, outputs=outputs)
        def _(g, inputs, outputs):
            b = g.body(3)
            h, x, y = b.inputs
            h = b.op("Add", b.op("Mul", h, f32(0.5)), x)
            b.out(h, b.op("Mul", h, y), b.op("Sub", h, y))
            states, scanned = [g.input("h", reals(2, 3))], [g.input("x", reals(2, 4, 3)), g.input("y", reals(2, 3, 4))]
            g.out(*scan(g, b, states, scanned, 3, scan_input_axes=inputs, scan_output_axes=outputs))

    for directions in ((1, 0, 0, 1), (0, 1, 1, 0), (1, 1, 1, 1)):

        @case("scan_directions_" + "".join(map(str, directions)), 16, directions=directions)
        def _(g, directions):
            b = g.body(3)
            h, x, y = b.inputs
            h = b.op("Add", b.op("Mul", h, f32(0.5)), x)
            b.out(h, b.op("Mul", h, y), b.op("Sub", h, y))
            ways = dict(scan_input_directions=directions[:2], scan_output_directions=directions[2:])
            states, scanned = [g.input("h", reals(3))], [g.input("x", reals(5, 3)), g.input("y", reals(5, 3))]
            g.out(*scan(g, b, states, scanned, 3, **ways))

    @case("scan_axes_and_directions", 18)
    def _(g):
        b = g.body(2)
        h, x = b.inputs
        h = b.op("Add", b.op("Mul", h, f32(0.5)), x)
        b.out(h, b.op("Identity", h))
        ways = dict(scan_input_axes=[2], scan_input_directions=[1], scan_output_axes=[1], scan_output_directions=[1])
        g.out(*scan(g, b, [g.input("h", reals(2, 3))], [g.input("x", reals(2, 3, 5))], 2, **ways))

    @case("scan_without_state", 16)
    def _(g):
        b = g.body(2)
        x, y = b.inputs
        b.out(b.op("MatMul", x, y), b.op("Softmax", x))
        g.out(*scan(g, b, [], [g.input("x", reals(4, 2, 3)), g.input("y", reals(4, 3, 2))], 2))

    @case("scan_without_outputs", 16)
    def _(g):
        b = g.body(2)
        h, x = b.inputs
        b.out(b.op("Max", h, x))
        g.out(*scan(g, b, [g.input("h", reals(3))], [g.input("x", reals(6, 3))], 1))

    @case("scan_final_state_unused", 16)
    def _(g):
        b = g.body(2)
        h, x = b.inputs
        h = b.op("Add", h, x)
        b.out(h, b.op("Relu", h))
        g.out(scan(g, b, [np.zeros(3, np.float32)], [g.input("x", reals(6, 3))], 2)[1])

    @case("scan_of_one", 16)
    def _(g):
        b = g.body(2)
        h, x = b.inputs
        h = b.op("Add", h, x)
        b.out(h, b.op("Identity", h))
        g.out(*scan(g, b, [g.input("h", reals(3))], [g.input("x", reals(1, 3))], 2))

    @case("scan_first_states", 16)
    def _(g):
        # Constants as first states: all zeros, all alike, all different; a state that nothing reads before it is given.
        b = g.body(5)
        zeros, alike, different, unread, x = b.inputs
        b.out(b.op("Add", zeros, x), b.op("Mul", alike, f32(0.5)), b.op("Sub", different, x), b.op("Neg", x))
        b.out(b.op("Add", b.op("Add", zeros, alike), different))
        first = [np.zeros(4, np.float32), np.full(4, 3, np.float32), f32([1, 2, 3, 4]), np.zeros(4, np.float32)]
        g.out(*scan(g, b, first, [g.input("x", reals(5, 4))], 5))

    @case("scan_same_slice_twice", 16)
    def _(g):
        # What is scanned comes in under two names, and goes out as it is.
        b = g.body(3)
        h, x, y = b.inputs
        b.out(b.op("Add", h, b.op("Mul", x, y)), b.op("Identity", x), b.op("Identity", h))
        x = g.input("x", reals(5, 3))
        g.out(*scan(g, b, [g.input("h", reals(3))], [x, x], 3), g.op("Relu", x))

    @case("scan_behind_scan", 16)
    def _(g):
        x, h = g.input("x", reals(7, 2, 3)), np.zeros((2, 3), np.float32)
        for way in (0, 1):
            b = g.body(2)
            s = b.op("Sigmoid", b.op("Add", b.inputs[0], b.op("MatMul", b.inputs[1], reals(3, 3))))
            b.out(s, b.op("Identity", s))
            last, x = scan(g, b, [h], [x], 2, scan_input_directions=[way], scan_output_directions=[way])
            g.out(last)
        g.out(g.op("Transpose", x, perm=[1, 0, 2]))

    @case("scan_gated", 18)
    def _(g):
        # A recurrent unit with a gate, written out: products with constant and computed matrices, splits, joints.
        b = g.body(2)
        h, x = b.inputs
        gates = b.op("Sigmoid", b.op("Gemm", b.op("Concat", h, x, axis=-1), reals(8, 7), reals(8), transB=1))
        r, z = b.op("Split", gates, axis=-1, outputs=2, num_outputs=2)
        n = b.op("Tanh", b.op("MatMul", b.op("Concat", b.op("Mul", r, h), x, axis=-1), reals(7, 4)))
        h = b.op("Add", b.op("Mul", z, h), b.op("Mul", b.op("Sub", f32(1), z), n))
        b.out(h, b.op("LayerNormalization", h, reals(4), reals(4)))
        g.out(*scan(g, b, [g.input("h", reals(2, 4))], [g.input("x", reals(6, 2, 3))], 2))

    @case("scan_pictures", 16)
    def _(g):
        # Convolutions inside the body, and pictures as state: what the layout of channels must not disturb.
        b = g.body(2)
        h, x = b.inputs
        c = b.op("Conv", b.op("Concat", h, x, axis=1), reals(3, 5, 3, 3), reals(3), pads=[1] * 4)
        h = b.op("Tanh", b.op("Add", c, h))
        b.out(h, b.op("MaxPool", h, kernel_shape=[2, 2], strides=[2, 2]), b.op("GlobalAveragePool", h))
        g.out(*scan(g, b, [g.input("h", reals(1, 3, 4, 6))], [g.input("x", reals(4, 1, 2, 4, 6))], 3))

    @case("scan_quantised", 13)
    def _(g):
        # Quantised sequences in and around the body: inside a body integers are themselves.
        sx, sh, sy = 0.0213, 0.0117, 0.0531
        x = g.qdq(g.input("x", reals(5, 2, 6)), sx, np.int8(3))
        weights = g.weights(i8(6, 6), 0.0089)
        b = g.body(2)
        h, v = b.inputs
        q = b.qdq(v, sx, np.int8(3))
        p = b.qdq(b.op("Add", b.op("MatMul", q, weights), h), sy, np.int8(-4))
        h = b.qdq(b.op("Sigmoid", p), sh, np.int8(-100))
        b.out(h, p, b.q(p, sy, np.int8(-4)))
        g.out(*scan(g, b, [g.input("h", positive(2, 6))], [x], 3))

    @case("scan_dequantises", 13)
    def _(g):
        # Integers come in, scanned, captured and constant; the body says what they stand for.
        b = g.body(2)
        h, v = b.inputs
        x, w = b.dq(v, 0.0213, np.int8(3)), b.dq(g.input("w", i8(6, 6)), 0.0089, np.int8(-7))
        h = b.op("Add", b.op("MatMul", x, w), b.op("Mul", h, b.dq(g.const(i8(2, 6)), 0.0301)))
        b.out(h, b.op("Tanh", h))
        g.out(*scan(g, b, [g.input("h", reals(2, 6))], [g.input("x", i8(5, 2, 6))], 2))

    @case("scan_carries_quantised", 13)
    def _(g):
        # The state is integers: what the body quantises, and what it takes for reals as another scale has them.
        b = g.body(3)
        h, k, v = b.inputs
        p = b.op("Add", b.dq(h, 0.0117, np.int8(9)), b.op("Mul", v, b.dq(k, 0.0213, np.int8(-3))))
        b.out(b.q(p, 0.0117, np.int8(9)), b.op("Max", k, h), b.op("Tanh", p))
        g.out(*scan(g, b, [g.input("h", i8(2, 6)), g.input("k", i8(2, 6))], [g.input("x", reals(5, 2, 6))], 3))

    @case("scan_of_quantised", 13)
    def _(g):
        # Quantised outside, scanned and captured; dequantised inside, as they are meant and otherwise.
        sx, sw = 0.0213, 0.0117
        x, w = g.q(g.input("x", reals(5, 2, 6)), sx, np.int8(3)), g.q(g.input("w", reals(2, 6)), sw, np.uint8(99))
        b = g.body(2)
        h, v = b.inputs
        p = b.op("Mul", b.dq(v, sx, np.int8(3)), b.dq(w, sw, np.uint8(99)))
        h = b.op("Add", b.op("Mul", h, f32(0.5)), b.op("Sub", p, b.dq(w, 0.0301, np.uint8(7))))
        b.out(h, b.op("Max", v, np.int8(20)), b.op("Identity", h))
        g.out(*scan(g, b, [g.input("h", reals(2, 6))], [x], 3), g.dq(x, sx, np.int8(3)), w)

    @case("scan_hands_integers_on", 13)
    def _(g):
        # The same integers are dequantised in the body and by readers outside it, with other scales.
        x = g.input("x", i8(5, 6))
        b = g.body(2)
        h, v = b.inputs
        h = b.op("Add", b.op("Mul", h, f32(0.5)), b.dq(v, 0.0213, np.int8(3)))
        b.out(h, b.op("Identity", v))
        last, same = scan(g, b, [g.input("h", reals(6))], [x], 2)
        g.out(last, same, g.dq(same, 0.0531, np.int8(-5)), g.dq(x, 0.0117, np.int8(1)))

    @case("scan_gives_views", 16)
    def _(g):
        # What is stacked is another view of the new state, of what is scanned, and of what is captured.
        p = g.op("Exp", g.input("p", reals(2, 3)))
        b = g.body(2)
        h, x = b.inputs
        h = b.op("Add", b.op("Mul", h, f32(0.5)), x)
        b.out(h, b.op("Reshape", h, i64(3, 2)), b.op("Reshape", x, i64(6)), b.op("Unsqueeze", p, i64(0)))
        b.out(b.op("Transpose", b.op("Reshape", h, i64(1, 6)), perm=[1, 0]))
        g.out(*scan(g, b, [g.input("h", reals(2, 3))], [g.input("x", reals(4, 2, 3))], 5), p)

    @case("scan_joins_and_cuts", 16)
    def _(g):
        # Several steps that fill one tensor of a slice: a line of the last frames.
        b = g.body(2)
        line, x = b.inputs
        line = b.op("Concat", b.op("Slice", line, i64(1), i64(4), i64(0)), b.op("Unsqueeze", x, i64(0)), axis=0)
        b.out(line, b.op("ReduceSum", b.op("Mul", line, reals(4, 3)), i64(0), keepdims=0), b.op("Identity", line))
        g.out(*scan(g, b, [np.zeros((4, 3), np.float32)], [g.input("x", reals(7, 3))], 3))

    @case("scan_integers_and_booleans", 16)
    def _(g):
        b = g.body(4)
        i, t, n, x = b.inputs
        b.out(b.op("Add", i, n), b.op("Xor", t, x), b.op("Mul", i, n), b.op("Not", t))
        states = [g.input("i", np.array([3, -7], np.int32)), g.input("t", booleans(3))]
        scanned = [g.input("n", integers(np.int32, 5, 2, low=-9, high=9)), g.input("b", booleans(5, 3))]
        g.out(*scan(g, b, states, scanned, 4))

    @case("scan_raw_bytes", 16)
    def _(g):
        # 8-bit integers that are integers inside the loop and stand for reals outside.
        b = g.body(2)
        h, x = b.inputs
        m = b.op("Max", h, x)
        b.out(m, b.op("Min", h, x))
        last, low = scan(g, b, [g.input("h", i8(4))], [g.input("x", i8(5, 4))], 2)
        g.out(g.dq(last, 0.0213, np.int8(3)), g.dq(low, 0.0117, np.int8(-5)), low, g.dq("x", 0.0531, np.int8(9)))


def branches():
    """If: constant and computed conditions, captured tensors."""

    def two(g, condition, *, around=None):
        """A branch that takes x apart or adds y, and a second result."""
        x, y = g.input("x", reals(2, 3)), g.input("y", reals(3))
        p = g.op("Exp", y)
        then, other = g.body(), g.body()
        then.out(then.op("Mul", x, p), then.op("ReduceMin", x, axes=[1]))
        other.out(other.op("Add", x, y), other.op("ReduceMax", x, axes=[1]))
        return g.op("If", condition, outputs=2, then_branch=then, else_branch=other)

    for opset in (7, 11, 13):
        for value in (True, False):

            @case(f"if_{str(value).lower()}_{opset}", opset, value=value)
            def _(g, value):
                g.out(*two(g, g.const(np.bool_(value))))

    for name, shape in (("scalar", ()), ("of_one_element", (1,))):
        for value in (True, False):

            @case(f"if_computed_{name}_{str(value).lower()}", 13, shape=shape, value=value)
            def _(g, shape, value):
                c = g.input("c", np.full(shape, 1.0 if value else -1.0, np.float32))
                g.out(*two(g, g.op("Greater", c, f32(0))))

    for rows in (2, 5):

        @case(f"if_shape_{rows}", 16, rows=rows)
        def _(g, rows):
            # The branches give other shapes, but only one is there.
            x = g.input("x", reals(rows, 3))
            n = g.op("Gather", g.op("Shape", x), np.int64(0))
            then, other = g.body(), g.body()
            then.out(then.op("Concat", x, x, axis=0))
            other.out(other.op("ReduceSum", x))
            g.out(g.op("If", g.op("Less", n, np.int64(4)), then_branch=then, else_branch=other))

    @case("if_in_branch", 16)
    def _(g):
        x, s = g.input("x", reals(3)), g.op("ReduceSum", g.input("y", reals(4)), keepdims=0)
        then, other = g.body(), g.body()
        inner_then, inner_other = then.body(), then.body()
        doubled = then.op("Add", x, x)
        inner_then.out(inner_then.op("Mul", doubled, s))
        inner_other.out(inner_other.op("Sub", doubled, x))
        condition = then.op("Greater", s, f32(0))
        then.out(then.op("If", condition, then_branch=inner_then, else_branch=inner_other))
        other.out(other.op("Neg", x))
        g.out(g.op("If", g.op("Less", s, f32(9)), then_branch=then, else_branch=other))

    @case("if_gives_what_is_around", 16)
    def _(g):
        # Branches that compute nothing: names of the graph around, constants of their own.
        x, y = g.input("x", reals(3)), g.op("Relu", g.input("y", reals(3)))
        then, other = g.body(), g.body()
        then.out(then.op("Identity", x), then.op("Constant", value_float=1.5))
        other.out(other.op("Identity", y), other.const(f32(-2.5)))
        g.out(*g.op("If", g.input("c", np.bool_(False)), outputs=2, then_branch=then, else_branch=other))

    @case("if_integers", 16)
    def _(g):
        x, then, other = g.input("x", i64(2**60 + 1, 3)), g.body(), g.body()
        then.out(then.op("Add", x, i64(1)))
        other.out(other.op("Neg", x))
        g.out(g.op("If", g.input("c", np.bool_(True)), then_branch=then, else_branch=other))

    @case("if_quantised", 13)
    def _(g):
        x, y, s, z = g.input("x", reals(2, 3)), g.input("y", reals(2, 3)), f32(0.0213), np.int8(3)
        then, other = g.body(), g.body()
        then.out(then.q(x, s, z), then.op("Max", then.q(x, s, z), np.int8(9)))
        other.out(other.q(y, s, z), other.q(x, s, z))
        q, m = g.op("If", g.input("c", np.bool_(False)), outputs=2, then_branch=then, else_branch=other)
        g.out(q, g.dq(q, s, z), m)

    @case("if_nothing_behind_it", 16)
    def _(g):
        # The branch that is not taken has an operator that is not known.
        x, then, other = g.input("x", reals(2, 3)), g.body(), g.body()
        then.out(then.op("Relu", x))
        other.out(other.op("Hardmax", x))
        c = g.op("Equal", g.op("Size", x), np.int64(6))
        g.out(g.op("If", c, then_branch=then, else_branch=other))

    @case("if_in_loop_by_counter", 16)
    def _(g):
        # Which branch is taken differs from trip to trip, and their shapes do.
        x, b = g.input("x", reals(4, 3)), g.body(3)
        i, _, h = b.inputs
        then, other = b.body(), b.body()
        then.out(then.op("ReduceSum", b.op("Mul", h, x), i64(1), keepdims=1))
        other.out(other.op("Gather", x, i64(1, 0, 2), axis=1))
        part = b.op("If", b.op("Less", i, np.int64(2)), then_branch=then, else_branch=other)
        go_on(b)
        b.out(b.op("Add", h, part))
        g.out(*loop(g, b, 4, g.input("h", reals(4, 3))))

    @case("if_in_loop_by_data", 16)
    def _(g):
        b = g.body(3)
        h = b.inputs[2]
        then, other = b.body(), b.body()
        then.out(then.op("Mul", h, f32(0.5)))
        other.out(other.op("Add", h, f32(1)))
        positive_sum = b.op("Greater", b.op("ReduceSum", h, keepdims=0), f32(2))
        h = b.op("If", positive_sum, then_branch=then, else_branch=other)
        go_on(b)
        b.out(h, h)
        g.out(*loop(g, b, 6, g.input("h", reals(3)), outputs=2))

    @case("loop_in_branch", 16)
    def _(g):
        x, then, other = g.input("x", reals(3)), g.body(), g.body()
        b = then.body(3)
        go_on(b)
        b.out(b.op("Add", b.inputs[2], x))
        then.out(*loop(then, b, 3, then.op("Neg", x)))
        other.out(other.op("Abs", x))
        g.out(g.op("If", g.input("c", np.bool_(True)), then_branch=then, else_branch=other))

    @case("nodes_behind_their_readers", 16)
    def _(g):
        # The body reads what a later node computes, directly and from a branch inside.
        x, late, later = g.input("x", reals(4, 3)), "late", "later"
        b = g.body(2)
        h, v = b.inputs
        then, other = b.body(), b.body()
        then.out(then.op("Mul", v, later))
        other.out(other.op("Identity", v))
        v = b.op("If", b.op("Greater", b.op("ReduceSum", h, keepdims=0), f32(0)), then_branch=then, else_branch=other)
        h = b.op("Add", b.op("Mul", h, late), v)
        b.out(h, b.op("Identity", h))
        g.out(*scan(g, b, [g.input("h", reals(3))], [x], 2))
        g.op("Exp", "late", name="later")
        g.op("Tanh", g.input("y", reals(3)), name="late")
