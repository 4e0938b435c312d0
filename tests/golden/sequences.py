"""Golden cases of sequences of tensors, in and around loops."""

import numpy as np
from onnx import TensorProto

from graphs import case, f32, go_on, i64, integers, loop, one, reals


def sequences():
    """Sequences of tensors, in and around loops."""

    @case("sequence_construct", 11)
    def _(g):
        x, y, z = (g.input(n, reals(2, 3)) for n in "xyz")
        s = g.op("SequenceConstruct", x, y, z)
        g.out(g.op("SequenceAt", s, np.int64(1)), g.op("SequenceAt", s, np.int64(-1)), g.op("SequenceLength", s))
        for at in (None, np.int64(0), np.int64(-2), np.int64(3)):
            longer = g.op("SequenceInsert", s, g.op("Neg", x), *([] if at is None else [at]))
            g.out(g.op("ConcatFromSequence", longer, axis=0), g.op("SequenceLength", longer))
        for at in (None, np.int64(0), np.int32(-2)):
            shorter = g.op("SequenceErase", s, *([] if at is None else [at]))
            g.out(g.op("ConcatFromSequence", shorter, axis=1, new_axis=1))

    @case("sequence_concat", 11)
    def _(g):
        s = g.op("SequenceConstruct", *(g.input(f"x{i}", reals(2, n, 4)) for i, n in enumerate((3, 1, 2))))
        g.out(g.op("ConcatFromSequence", s, axis=1), g.op("ConcatFromSequence", s, axis=-2))
        t = g.op("SequenceConstruct", *(g.input(f"y{i}", reals(2, 3)) for i in range(3)))
        for axis in (-3, -2, -1, 0, 1, 2):
            g.out(g.op("ConcatFromSequence", t, axis=axis, new_axis=1))
        for axis in (-1, 0):
            g.out(g.op("ConcatFromSequence", t, axis=axis, new_axis=0))

    @case("sequence_empty", 11)
    def _(g):
        s = g.op("SequenceEmpty")
        g.out(g.op("SequenceLength", s))
        for name in "xy":
            s = g.op("SequenceInsert", s, g.input(name, reals(3)))
        g.out(g.op("ConcatFromSequence", s, axis=0, new_axis=1), g.op("SequenceLength", s))

    @case("sequence_integers", 11)
    def _(g):
        s = g.op("SequenceEmpty", dtype=TensorProto.INT64)
        s = g.op("SequenceInsert", s, g.input("x", i64(2**60 + 1, 3)))
        s = g.op("SequenceInsert", s, g.const(i64(5)), np.int64(0))
        g.out(g.op("ConcatFromSequence", s, axis=0), g.op("SequenceAt", s, np.int64(0)))

    @case("split_to_sequence", 11)
    def _(g):
        x = g.input("x", reals(4, 7))
        for axis, split, keep in (
            (0, None, 1),
            (1, None, 0),
            (-1, None, 1),
            (1, np.int64(3), 1),
            (0, np.int64(2), 1),
            (1, np.int64(9), 1),
            (1, i64(2, 4, 1), 1),
            (-2, i64(3, 1), 0),
            (0, i64(4), 1),
        ):
            s = g.op("SplitToSequence", x, *([] if split is None else [split]), axis=axis, keepdims=keep)
            g.out(g.op("SequenceLength", s), g.op("SequenceAt", s, np.int64(0)), g.op("SequenceAt", s, np.int64(-1)))

    @case("split_and_join", 11)
    def _(g):
        s = g.op("SplitToSequence", g.input("x", integers(np.int32, 3, 4, low=-99, high=99)), axis=0, keepdims=0)
        g.out(g.op("ConcatFromSequence", s, axis=1, new_axis=1), g.op("ConcatFromSequence", s, axis=0))

    def appended(g, trips, *, counted=True):
        """A loop that appends a matrix in every trip; the sequence and the last state."""
        x, b = g.input("x", reals(5, 2, 3)), g.body(4)
        i, _, h, s = b.inputs
        h = b.op("Add", b.op("Mul", h, f32(0.5)), b.op("Gather", x, i))
        go_on(b)
        b.out(h, b.op("SequenceInsert", s, b.op("Tanh", h)))
        h, s = loop(g, b, trips, g.input("h", reals(2, 3)), g.op("SequenceEmpty"), outputs=2)
        return h, s

    for new_axis, axes in ((1, (0, 1, 2, -1)), (0, (0, 1, -1))):

        @case(f"loop_appends_{'stacked' if new_axis else 'joined'}", 16, new_axis=new_axis, axes=axes)
        def _(g, new_axis, axes):
            h, s = appended(g, 5)
            g.out(h, *(g.op("ConcatFromSequence", s, axis=a, new_axis=new_axis) for a in axes))

    @case("loop_appends_and_takes", 16)
    def _(g):
        h, s = appended(g, 5)
        g.out(g.op("SequenceLength", s), g.op("SequenceAt", s, np.int64(2)), g.op("SequenceAt", s, np.int64(-1)))

    @case("loop_appends_one", 16)
    def _(g):
        h, s = appended(g, 1)
        g.out(h, g.op("ConcatFromSequence", s, axis=0, new_axis=1), g.op("SequenceLength", s))

    @case("loop_appends_never", 16)
    def _(g):
        h, s = appended(g, 0)
        g.out(h, g.op("SequenceLength", s))

    @case("loop_appends_two_sequences", 16)
    def _(g):
        b = g.body(5)
        i, _, h, s, t = b.inputs
        h = b.op("Mul", h, f32(0.9))
        go_on(b)
        b.out(h, b.op("SequenceInsert", s, b.op("Relu", h)), b.op("SequenceInsert", t, i), b.op("Neg", h))
        empty, whole = g.op("SequenceEmpty"), g.op("SequenceEmpty", dtype=TensorProto.INT64)
        h, s, t, stacked = loop(g, b, 4, g.input("h", reals(3)), empty, whole, outputs=4)
        g.out(h, stacked, g.op("ConcatFromSequence", s, axis=1, new_axis=1))
        g.out(g.op("ConcatFromSequence", t, axis=0, new_axis=1))

    @case("loop_appends_other_lengths", 16)
    def _(g):
        # Items of other lengths: written out.
        x, b = g.input("x", reals(6, 2)), g.body(3)
        i, _, s = b.inputs
        rows = b.op("Slice", x, i64(0), b.op("Unsqueeze", b.op("Add", i, np.int64(1)), i64(0)))
        go_on(b)
        b.out(b.op("SequenceInsert", s, rows))
        g.out(g.op("ConcatFromSequence", loop(g, b, 3, g.op("SequenceEmpty"))[0], axis=0))

    @case("loop_appends_to_some", 16)
    def _(g):
        # The sequence has an item before the first trip, and new ones come in front.
        b = g.body(4)
        _, _, h, s = b.inputs
        h = b.op("Mul", h, f32(0.9))
        go_on(b)
        b.out(h, b.op("SequenceInsert", s, h, np.int64(0)))
        first = g.op("SequenceConstruct", g.input("x", reals(3)))
        h, s = loop(g, b, 4, g.input("h", reals(3)), first, outputs=2)
        g.out(h, g.op("ConcatFromSequence", s, axis=0, new_axis=1))

    @case("loop_keeps_a_sequence", 16)
    def _(g):
        # A sequence that is carried and never changed, and one of the graph around that the body takes from.
        x, y = g.input("x", reals(3)), g.input("y", reals(3))
        around = g.op("SequenceConstruct", x, g.op("Exp", y))
        b = g.body(4)
        _, _, h, s = b.inputs
        go_on(b)
        b.out(b.op("Add", b.op("Mul", h, f32(0.5)), b.op("SequenceAt", around, np.int64(1))), b.op("Identity", s))
        h, s = loop(g, b, 4, g.input("h", reals(3)), g.op("SequenceConstruct", x, y), outputs=2)
        g.out(h, g.op("ConcatFromSequence", s, axis=0), g.op("SequenceLength", s))

    @case("branch_takes_from_a_sequence", 16)
    def _(g):
        s = g.op("SequenceConstruct", g.input("x", reals(3)), g.input("y", reals(3)))
        then, other = g.body(), g.body()
        then.out(then.op("SequenceAt", s, np.int64(0)))
        other.out(other.op("ConcatFromSequence", other.op("SequenceErase", s, np.int64(0)), axis=0))
        g.out(g.op("If", g.input("c", np.bool_(False)), then_branch=then, else_branch=other))
