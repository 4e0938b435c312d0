"""Golden cases of loops of which data decide how many trips they have. A name that begins with `while_` is converted with a bound on
them; the others have one of their own."""

import numpy as np
from onnx import TensorProto

from graphs import case, f32, go_on, i64, loop, reals


def number(value):
    """An input of one integer."""
    return lambda _: np.int64(value)


def whiles():
    """Loop: trips that inputs decide, conditions on what is computed."""

    def doubling(below, limit=None, opset=16):
        """A loop that goes on as long as the sum of what it carries is less than an input."""

        def build(g):
            h, most = g.input("h", lambda _: np.float32([0.5, -0.25, 1])), g.input("most", lambda _: np.float32(below))

            def less(g, h):
                return g.op("Less", g.op("ReduceSum", h, keepdims=0), most)

            b = g.body(4)
            _, _, v, n = b.inputs
            v = b.op("Add", b.op("Mul", v, f32(1.5)), f32(0.125))
            b.out(less(b, v), v, b.op("Add", n, np.int64(1)))
            g.out(*loop(g, b, limit, h, np.int64(0), condition=less(g, h), outputs=2))

        return build

    for opset in (7, 13, 16, 21):
        case(f"while_sum_{opset}", opset)(doubling(20, opset=opset))
    case("while_no_trip", 16)(doubling(1))
    case("while_one_trip", 16)(doubling(1.5))
    case("while_limit_comes_first", 16)(doubling(1000, limit=4))
    case("while_condition_comes_first", 16)(doubling(20, limit=1000))
    case("loop_known_limit_comes_first", 16)(doubling(1000, limit=4))
    case("loop_condition_comes_first", 16)(doubling(20, limit=2000))

    def given(trips, shape=()):
        """A loop with an input as its number of trips."""

        def build(g):
            n, x = g.input("n", lambda _: np.full(shape, trips, np.int64)), g.input("x", reals(5, 3))
            b = g.body(3)
            i, _, h = b.inputs
            go_on(b)
            # A trip more would look beyond the end of x.
            b.out(b.op("Add", b.op("Mul", h, f32(0.5)), b.op("Gather", x, i)))
            g.out(*loop(g, b, n, g.input("h", reals(3))))

        return build

    case("while_given", 16)(given(5))
    case("while_given_one_element", 16)(given(3, (1,)))
    case("while_given_none", 16)(given(0))
    case("while_given_negative", 16)(given(-3))
    case("while_given_13", 13)(given(4))

    @case("while_starts_false", 16)
    def _(g):
        b = g.body(3)
        go_on(b)
        b.out(b.op("Exp", b.inputs[2]))
        n = g.input("n", number(5))
        g.out(*loop(g, b, n, g.input("h", reals(3)), condition=np.bool_(False)))

    @case("while_limit_and_condition", 16)
    def _(g):
        # Both are data, and so is whether it starts.
        n, go, most = g.input("n", number(9)), g.input("go", lambda _: np.bool_(True)), g.input("most", number(40))
        b = g.body(4)
        i, _, s, p = b.inputs
        s, p = b.op("Add", s, b.op("Mul", i, i)), b.op("Mul", p, f32(-1.25))
        b.out(b.op("Less", s, most), s, p)
        g.out(*loop(g, b, n, np.int64(3), g.input("p", reals(2, 2)), condition=go, outputs=2))

    @case("while_collatz", 16)
    def _(g):
        n, b = g.input("n", number(11)), g.body(4)
        _, _, n_in, count = b.inputs
        odd = b.op("Equal", b.op("Mod", n_in, np.int64(2)), np.int64(1))
        up = b.op("Add", b.op("Mul", n_in, np.int64(3)), np.int64(1))
        n_out = b.op("Where", odd, up, b.op("Div", n_in, np.int64(2)))
        b.out(b.op("Greater", n_out, np.int64(1)), n_out, b.op("Add", count, np.int64(1)))
        g.out(*loop(g, b, None, n, np.int64(0), condition=np.bool_(True), outputs=2))

    @case("while_root", 16)
    def _(g):
        # Newton's way to a square root, until it is near enough.
        x, b = g.input("x", lambda _: np.float32([2.0, 7.0])), g.body(3)
        r = b.op("Mul", b.op("Add", b.inputs[2], b.op("Div", x, b.inputs[2])), f32(0.5))
        off = b.op("ReduceMax", b.op("Abs", b.op("Sub", b.op("Mul", r, r), x)), keepdims=0)
        b.out(b.op("Greater", off, f32(0.01)), r)
        g.out(*loop(g, b, None, x, condition=np.bool_(True)))

    @case("while_writes_rows", 16)
    def _(g):
        # What is stacked in another way: rows of a tensor that has room for all, and how many they are.
        n, x, b = g.input("n", number(4)), g.input("x", reals(3)), g.body(5)
        i, _, h, rows, count = b.inputs
        h = b.op("Add", b.op("Mul", h, f32(0.75)), x)
        at = b.op("Reshape", i, i64(1, 1))
        rows = b.op("ScatterND", rows, at, b.op("Reshape", h, i64(1, 3)))
        go_on(b)
        b.out(h, rows, b.op("Add", count, np.int64(1)))
        g.out(*loop(g, b, n, x, np.zeros((8, 3), np.float32), np.int64(0), outputs=3))

    @case("while_changes_places", 16)
    def _(g):
        n, b = g.input("n", number(7)), g.body(5)
        _, _, u, v, flag = b.inputs
        go_on(b)
        b.out(v, b.op("Add", u, v), b.op("Not", flag))
        firsts = g.input("u", reals(2)), g.input("v", reals(2)), g.input("flag", lambda _: np.array([True, False]))
        g.out(*loop(g, b, n, *firsts, outputs=3))

    @case("while_carries_what_it_does_not_read", 16)
    def _(g):
        n, x, b = g.input("n", number(0)), g.input("x", reals(3)), g.body(3)
        go_on(b)
        b.out(b.op("Mul", x, b.op("Cast", b.inputs[0], to=TensorProto.FLOAT)))
        g.out(*loop(g, b, n, g.input("h", reals(3))))

    @case("while_behind_while", 16)
    def _(g):
        # The first one counts the trips of the second.
        h, b = g.input("h", reals(3)), g.body(4)
        v = b.op("Mul", b.inputs[2], f32(1.5))
        big = b.op("ReduceMax", b.op("Abs", v), keepdims=0)
        b.out(b.op("Less", big, f32(9)), v, b.op("Add", b.inputs[3], np.int64(1)))
        v, n = loop(g, b, None, h, np.int64(0), condition=np.bool_(True), outputs=2)
        b = g.body(3)
        go_on(b)
        b.out(b.op("Sub", b.op("Mul", b.inputs[2], f32(0.5)), h))
        g.out(n, *loop(g, b, n, v))

    @case("while_layer", 16)
    def _(g):
        # Products in the body, and a loop of a known number of trips.
        n, x, b = g.input("n", number(3)), g.input("x", reals(5, 4)), g.body(3)
        h = b.op("Tanh", b.op("MatMul", b.inputs[2], b.const(reals(4, 4))))
        s = b.body(3)
        go_on(s)
        s.out(s.op("Mul", s.op("Add", s.inputs[2], s.op("Gather", x, s.inputs[0])), f32(0.5)))
        h = loop(b, s, 5, b.op("Squeeze", h, i64(0)))[0]
        go_on(b)
        b.out(b.op("Unsqueeze", h, i64(0)))
        g.out(*loop(g, b, n, g.input("h", reals(1, 4))))

    def in_each_other(outer, inner):
        """Loops in each other that scan, carry and stack."""

        def build(g):
            x, h, b = g.input("x", reals(inner, 2)), g.input("h", reals(2)), g.body(3)
            s = b.body(3)
            v = s.op("Tanh", s.op("Add", s.inputs[2], s.op("Gather", x, s.inputs[0])))
            go_on(s)
            s.out(v, s.op("Mul", v, f32(0.5)))
            v, all_of_them = loop(b, s, inner, b.inputs[2], outputs=2)
            go_on(b)
            b.out(b.op("Add", v, f32(0.25)), b.op("ReduceMax", all_of_them, axes=[0], keepdims=0))
            g.out(*loop(g, b, outer, h, outputs=2))

        return build

    case("loop_in_long_loop", 16)(in_each_other(1500, 70))
    case("loop_long_in_loop", 16)(in_each_other(4, 1500))
    case("loop_as_long_in_loop", 16)(in_each_other(80, 80))

    @case("while_long_loop_inside", 16)
    def _(g):
        n, b = g.input("n", number(2)), g.body(3)
        s = b.body(3)
        go_on(s)
        s.out(s.op("Sub", s.op("Mul", s.inputs[2], f32(0.5)), f32(0.25)))
        v = loop(b, s, 90, b.inputs[2])[0]
        go_on(b)
        b.out(b.op("Neg", v))
        g.out(*loop(g, b, n, g.input("h", reals(3))))

    @case("while_in_loop", 16)
    def _(g):
        # The trips around it are written out.
        x, b = g.input("x", reals(3)), g.body(3)
        inner = b.body(3)
        v = inner.op("Add", inner.op("Abs", inner.inputs[2]), f32(0.5))
        inner.out(inner.op("Less", inner.op("ReduceMax", v, keepdims=0), f32(4)), v)
        go_on(b)
        b.out(b.op("Mul", loop(b, inner, None, b.inputs[2], condition=np.bool_(True))[0], f32(-0.25)))
        g.out(*loop(g, b, 3, x))

    @case("while_in_branch", 16)
    def _(g):
        n, x, c = g.input("n", number(3)), g.input("x", reals(3)), g.input("c", lambda _: np.bool_(True))
        yes, no = g.body(), g.body()
        b = yes.body(3)
        go_on(b)
        b.out(b.op("Mul", b.inputs[2], f32(1.5)))
        yes.out(*loop(yes, b, n, x))
        no.out(no.op("Neg", x))
        g.out(g.op("If", c, then_branch=yes, else_branch=no))

    @case("while_bytes", 16)
    def _(g):
        # Quantised in the body: integers that stand for reals.
        n, b = g.input("n", number(4)), g.body(3)
        h = b.qdq(b.op("Mul", b.inputs[2], f32(0.75)), 0.0625, np.int8(3))
        go_on(b)
        b.out(h)
        g.out(*loop(g, b, n, g.input("h", reals(2, 8))))

    @case("while_hands_over", 16)
    def _(g):
        # What is carried is replaced without being read: a first value is a result only where there is no trip.
        n, late, kept = g.input("n", number(3)), g.input("late", reals(1)), g.input("kept", lambda _: np.int64([-3]))
        b = g.body(5)
        i, _, number_of, _, w = b.inputs
        more = b.op("Less", b.op("Add", i, np.int64(1)), n)
        b.out(more, b.op("Identity", number_of), b.op("Identity", late), b.op("Identity", w))
        first = np.float32([0.0857]), np.float32([0.6])
        go = g.input("go", lambda _: np.bool_(True))
        g.out(*loop(g, b, None, kept, *first, condition=go, outputs=3))
