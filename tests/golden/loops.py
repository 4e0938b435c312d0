"""Golden cases of loops: numbers of trips (runs of the body), conditions, what is carried and stacked."""

import numpy as np
from onnx import TensorProto

from graphs import booleans, case, f32, go_on, i64, loop, one, reals, scan


def loops():
    """Loop: numbers of trips, conditions, what is carried and stacked."""

    def running(trips, opset=16, **attributes):
        """A loop that adds the trip's row of x and stacks the square of the sum."""

        def build(g):
            x, b = g.input("x", reals(6, 3)), g.body(3)
            i, _, h = b.inputs
            h = b.op("Add", h, b.op("Gather", x, i))
            go_on(b)
            # Of a loop without trips ONNX Runtime knows the shape of no slice but one that the body states.
            b.out(h, b.op("Reshape", b.op("Mul", h, h), i64(3)))
            g.out(*loop(g, b, trips, g.input("h", reals(3)), outputs=2, **attributes))

        return build

    for opset in (7, 11, 13, 16, 19, 20):
        case(f"loop_{opset}", opset)(running(6))
    case("loop_no_trips", 16)(running(0))
    case("loop_one_trip", 16)(running(1))
    case("loop_two_trips", 16)(running(2))
    case("loop_starts_true", 16)(running(5, condition=np.bool_(True)))
    case("loop_starts_false", 16)(running(5, condition=np.bool_(False)))

    @case("loop_limit_of_shape", 16)
    def _(g):
        x = g.input("x", reals(5, 3))
        b = g.body(3)
        go_on(b)
        b.out(b.op("Add", b.inputs[2], b.op("Gather", x, b.inputs[0])))
        trips = g.op("Reshape", g.op("Slice", g.op("Shape", x), i64(0), i64(1)), np.zeros(0, np.int64))
        g.out(*loop(g, b, trips, np.zeros(3, np.float32)))

    @case("loop_limit_of_one_element", 16)
    def _(g):
        b = g.body(3)
        go_on(b)
        b.out(b.op("Mul", b.inputs[2], f32(1.5)))
        g.out(*loop(g, b, i64(4), g.input("x", reals(3))))

    @case("loop_counter", 16)
    def _(g):
        # The counter in arithmetic and as a result.
        b = g.body(4)
        i, _, h, n = b.inputs
        step = b.op("Cast", i, to=TensorProto.FLOAT)
        go_on(b)
        b.out(b.op("Add", b.op("Mul", h, f32(0.5)), step), b.op("Add", n, b.op("Mul", i, i)))
        b.out(b.op("Identity", i), b.op("Mul", step, step))
        g.out(*loop(g, b, 6, g.input("h", reals(3)), g.input("n", np.int64(5)), outputs=4))

    @case("loop_counter_selects", 16)
    def _(g):
        x, y = g.input("x", reals(4, 6)), g.const(reals(6, 2))
        b = g.body(3)
        i, _, h = b.inputs
        at = b.op("Unsqueeze", i, i64(0))
        row = b.op("Gather", x, i, axis=1)
        go_on(b)
        h = b.op("Add", h, b.op("ReduceSum", row))
        b.out(h, row, b.op("Gather", y, at), b.op("Gather", x, b.op("Sub", np.int64(5), i), axis=1))
        g.out(*loop(g, b, 6, g.input("h", f32([1.0])), outputs=4))

    @case("loop_counter_slices", 16)
    def _(g):
        # Bounds of a slice from the counter: the trips cannot share a body.
        x, b = g.input("x", reals(6, 3)), g.body(3)
        i, _, h = b.inputs
        at = b.op("Unsqueeze", i, i64(0))
        rows = b.op("Slice", x, at, b.op("Add", at, i64(2)), i64(0))
        go_on(b)
        b.out(b.op("Add", h, b.op("ReduceSum", rows, i64(0), keepdims=0)), rows)
        g.out(*loop(g, b, 5, g.input("h", reals(3)), outputs=2))

    @case("loop_ends_early", 16)
    def _(g):
        # The condition follows from the counter: it folds when the trips are written out.
        b = g.body(3)
        i, _, h = b.inputs
        h = b.op("Mul", h, f32(1.25))
        b.out(b.op("Less", i, np.int64(3)), h, h)
        g.out(*loop(g, b, 100, g.input("h", reals(3)), outputs=2))

    @case("loop_without_limit", 16)
    def _(g):
        b = g.body(3)
        i, _, h = b.inputs
        h = b.op("Add", h, b.op("Cast", i, to=TensorProto.FLOAT))
        b.out(b.op("Less", b.op("Mul", i, i), np.int64(30)), h, b.op("Neg", h))
        g.out(*loop(g, b, None, g.input("h", reals(3)), condition=np.bool_(True), outputs=2))

    @case("loop_without_limit_counts", 16)
    def _(g):
        # Whether to go on follows from a carried constant.
        b = g.body(4)
        _, _, n, h = b.inputs
        n = b.op("Sub", n, np.int64(2))
        b.out(b.op("Greater", n, np.int64(0)), n, b.op("Add", h, f32(1)))
        g.out(*loop(g, b, None, np.int64(7), g.input("h", reals(3)), outputs=2))

    @case("loop_condition_from_weights", 16)
    def _(g):
        # A condition that is the same in every trip, computed from constants outside.
        more = g.op("Greater", g.const(f32(3)), f32(2))
        b = g.body(3)
        b.out(b.op("Identity", more), b.op("Exp", b.op("Neg", b.inputs[2])))
        g.out(*loop(g, b, 4, g.input("h", reals(3))))

    @case("loop_fibonacci", 16)
    def _(g):
        # Each takes the other's place: a, b = b, a + b.
        b = g.body(4)
        go_on(b)
        b.out(b.op("Identity", b.inputs[3]), b.op("Add", b.inputs[2], b.inputs[3]))
        g.out(*loop(g, b, 7, g.input("a", reals(3)), g.input("b", reals(3)), outputs=2))

    @case("loop_rotation", 16)
    def _(g):
        # Three places in a circle, nothing computed; the old first one is stacked.
        b = g.body(5)
        _, _, x, y, z = b.inputs
        go_on(b)
        b.out(y, z, x, b.op("Identity", x))
        g.out(*loop(g, b, 5, *(g.input(n, reals(2)) for n in "xyz"), outputs=4))

    @case("loop_swap_of_views", 16)
    def _(g):
        b = g.body(4)
        _, _, x, y = b.inputs
        go_on(b)
        b.out(b.op("Reshape", y, i64(2, 3)), b.op("Reshape", b.op("Relu", b.op("Neg", x)), i64(6)))
        g.out(*loop(g, b, 3, g.input("x", reals(2, 3)), g.input("y", reals(6)), outputs=2))

    @case("loop_untouched", 16)
    def _(g):
        # One carried value goes through as it is, another is read but never changed, a third is only changed.
        b = g.body(5)
        _, _, kept, read, changed = b.inputs
        go_on(b)
        b.out(kept, b.op("Identity", read), b.op("Mul", changed, read))
        first = [g.input("kept", reals(2)), g.input("read", reals(3)), g.input("changed", reals(3))]
        g.out(*loop(g, b, 4, *first, outputs=3))

    @case("loop_old_state", 16)
    def _(g):
        # The state as it was before the trip is stacked, and read once more after its successor is there.
        b = g.body(3)
        h = b.inputs[2]
        new = b.op("Add", b.op("Mul", h, f32(0.5)), f32(1))
        go_on(b)
        b.out(new, b.op("Identity", h), b.op("Sub", new, h))
        g.out(*loop(g, b, 5, g.input("h", reals(3)), outputs=3))

    @case("loop_same_result_twice", 16)
    def _(g):
        # One tensor carried twice and stacked twice.
        b = g.body(4)
        _, _, x, y = b.inputs
        new = b.op("Add", x, y)
        go_on(b)
        b.out(*(b.op("Identity", new) for _ in range(4)))
        g.out(*loop(g, b, 4, g.input("x", reals(3)), g.input("y", reals(3)), outputs=4))

    @case("loop_constants", 16)
    def _(g):
        # Constants of the body and of the graph around are carried and stacked.
        around = g.const(reals(3), "around")
        b = g.body(4)
        go_on(b)
        b.out(b.op("Identity", around), b.op("Add", b.inputs[3], b.inputs[2]))
        b.out(b.op("Constant", value_float=2.5), b.op("Identity", around))
        g.out(*loop(g, b, 4, g.input("x", reals(3)), g.input("y", reals(3)), outputs=4))

    @case("loop_of_constants", 16)
    def _(g):
        # All of it folds.
        b = g.body(3)
        h = b.op("Mul", b.inputs[2], f32(1.5))
        go_on(b)
        b.out(h, b.op("Neg", h))
        h, slices = loop(g, b, 4, g.const(reals(3)), outputs=2)
        x = g.input("x", reals(4, 3))
        g.out(g.op("Add", x, h), g.op("Mul", x, slices))

    @case("loop_invariant", 16)
    def _(g):
        # What is the same in every trip: computed inside from captured tensors, or captured and stacked.
        x, y = g.input("x", reals(3)), g.op("Exp", g.input("y", reals(3)))
        b = g.body(3)
        p = b.op("Mul", x, y)
        go_on(b)
        b.out(b.op("Add", b.inputs[2], p), b.op("Identity", y), b.op("Identity", x))
        g.out(*loop(g, b, 4, g.input("h", reals(3)), outputs=3), y)

    @case("loop_captured_is_carried", 16)
    def _(g):
        # The first value of a carried tensor is read in the body too, where it must stay what it was.
        x, b = g.input("x", reals(3)), g.body(3)
        go_on(b)
        b.out(b.op("Add", b.op("Mul", b.inputs[2], f32(0.5)), x))
        g.out(*loop(g, b, 4, x), g.op("Neg", x))

    @case("loop_one_start_for_two", 16)
    def _(g):
        x, b = g.input("x", reals(3)), g.body(4)
        _, _, p, q = b.inputs
        go_on(b)
        b.out(b.op("Add", p, q), b.op("Sub", p, q))
        g.out(*loop(g, b, 3, x, x, outputs=2))

    @case("loop_integers_and_booleans", 16)
    def _(g):
        b = g.body(5)
        i, _, n, m, t = b.inputs
        go_on(b)
        b.out(b.op("Add", n, i), b.op("Mul", m, np.int32(3)), b.op("Xor", t, np.array([True, False, True])))
        b.out(b.op("Greater", n, i64(4, 0)), b.op("Div", m, np.int32(2)))
        n, m, t = g.input("n", i64(2**60 + 1, -3)), g.input("m", np.array([5, -6], np.int32)), g.input("t", booleans(3))
        g.out(*loop(g, b, 5, n, m, t, outputs=5))

    @case("loop_grows", 16)
    def _(g):
        # A carried value whose shape changes: written out.
        b = g.body(3)
        go_on(b)
        b.out(b.op("Concat", b.inputs[2], b.op("ReduceSum", b.inputs[2], i64(0)), axis=0))
        g.out(*loop(g, b, 4, g.input("x", reals(2, 3))))

    @case("loop_changes_type", 16)
    def _(g):
        # As exporters have it: a scalar that becomes a vector.
        b = g.body(3)
        go_on(b)
        b.out(b.op("Add", b.inputs[2], reals(3)))
        g.out(*loop(g, b, 3, g.input("x", reals(1))))

    @case("loop_carries_nothing", 16)
    def _(g):
        x, b = g.input("x", reals(4, 3)), g.body(2)
        go_on(b)
        b.out(b.op("Softmax", b.op("Gather", x, b.inputs[0])))
        g.out(*loop(g, b, 4))

    @case("loop_long", 16)
    def _(g):
        # More trips than are ever written out.
        b = g.body(3)
        i, _, h = b.inputs
        step = b.op("Cast", i, to=TensorProto.FLOAT)
        h = b.op("Add", b.op("Mul", h, f32(0.98)), b.op("Sin", step))
        go_on(b)
        b.out(h)
        g.out(*loop(g, b, 3000, g.input("h", reals(3))))

    @case("loop_in_loop", 16)
    def _(g):
        x, b = g.input("x", reals(4, 3)), g.body(3)
        i, _, h = b.inputs
        row = b.op("Gather", x, i)
        c = b.body(3)
        go_on(c)
        # Names of the body around and of the graph around that.
        c.out(c.op("Add", c.op("Mul", c.inputs[2], f32(0.5)), row), c.op("Mul", c.inputs[2], h))
        inner, slices = loop(b, c, 3, h, outputs=2)
        go_on(b)
        b.out(b.op("Add", inner, b.op("ReduceMax", x, axes=[0], keepdims=0)), slices)
        g.out(*loop(g, b, 4, g.input("h", reals(3)), outputs=2))

    @case("loop_in_scan", 16)
    def _(g):
        b = g.body(2)
        h, x = b.inputs
        c = b.body(3)
        go_on(c)
        c.out(c.op("Tanh", c.op("Add", c.inputs[2], x)))
        # ONNX Runtime wants to know the shapes of what a scan's body gives.
        h = b.op("Reshape", loop(b, c, 2, h)[0], i64(3))
        b.out(h, b.op("Identity", h))
        g.out(*scan(g, b, [g.input("h", reals(3))], [g.input("x", reals(5, 3))], 2))

    @case("loop_of_one_trip_in_loop", 16)
    def _(g):
        b = g.body(3)
        c = b.body(3)
        go_on(c)
        c.out(c.op("Add", c.inputs[2], f32(1)), c.op("Identity", b.inputs[2]))
        inner, slices = loop(b, c, 1, b.inputs[2], outputs=2)
        go_on(b)
        b.out(inner, slices)
        g.out(*loop(g, b, 4, g.input("h", reals(3)), outputs=2))

    @case("loop_of_no_trips_in_loop", 16)
    def _(g):
        b = g.body(3)
        c = b.body(3)
        go_on(c)
        c.out(c.op("Add", c.inputs[2], f32(1)))
        inner = loop(b, c, 0, b.inputs[2])[0]
        go_on(b)
        b.out(b.op("Mul", inner, f32(0.5)))
        g.out(*loop(g, b, 4, g.input("h", reals(3))))
