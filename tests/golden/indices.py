"""What works by indices: scattering, gathering by tuples and elements, the largest elements, masks."""

import numpy as np

from graphs import Const, booleans, case, f32, i64, integers, node, one, positive, reals, several


def indices(*shape, n=4, dtype=np.int64):
    """Indices of an axis of `n`, negative ones too."""
    return integers(dtype, *shape, low=-n, high=n)


def tuples(*shape, extents):
    """Tuples of indices, one for each extent, in random order and without repeats (whose order ONNX leaves open)."""

    def draw(rng):
        total = int(np.prod(extents))
        flat = rng.permutation(total)[: int(np.prod(shape))].reshape(shape)
        whole = np.stack(np.unravel_index(flat, extents), -1)
        return (whole - np.array(extents) * rng.integers(0, 2, whole.shape)).astype(np.int64)

    return draw


def places(axis, *shape, n):
    """Indices along an axis without repeats, for the same reason."""

    def draw(rng):
        return np.argsort(rng.random([n if d == axis else s for d, s in enumerate(shape)]), axis).take(
            range(shape[axis]), axis
        ).astype(np.int64)

    return draw


def scatters():
    """Scatter, ScatterElements and ScatterND."""
    one("scatter_9", "Scatter", reals(3, 4), places(0, 2, 4, n=3), reals(2, 4), opset=9)
    for opset in (11, 13, 16, 18):
        nodes = [
            node("ScatterElements", reals(3, 4, 5), places(axis, *shape, n=(3, 4, 5)[axis]), reals(*shape), axis=axis)
            for axis, shape in ((0, (2, 4, 5)), (1, (3, 2, 5)), (2, (3, 4, 3)), (1, (2, 3, 4)))
        ]
        nodes += [node("ScatterElements", reals(5), Const(i64(1, -1)), reals(2))]
        several(f"scatter_elements_{opset}", nodes, opset)
        nodes = [
            node("ScatterND", reals(4, 3, 5), tuples(2, extents=extents), reals(2, *(4, 3, 5)[len(extents) :]))
            for extents in ((4,), (4, 3), (4, 3, 5))
        ]
        several(f"scatter_nd_{opset}", nodes, opset)
    reductions = "add mul min max".split()
    elements = [
        node("ScatterElements", reals(3, 4), indices(3, 6), reals(3, 6), axis=1, reduction=r) for r in reductions
    ]
    several("scatter_elements_reductions", elements, 18)
    several("scatter_elements_reductions_16", elements[:2], 16)
    slices = [node("ScatterND", reals(4, 3), indices(5, 1), reals(5, 3), reduction=r) for r in reductions]
    several("scatter_nd_reductions", slices, 18)
    several("scatter_nd_reductions_16", slices[:2], 16)
    # ONNX Runtime has these reductions for fewer types.
    for dtype in (np.int8, np.uint8, np.int32, np.int64):
        name = np.dtype(dtype).name
        x = [integers(dtype, 3, 4), places(1, 3, 2, n=4), integers(dtype, 3, 2)]
        one(f"scatter_elements_{name}", "ScatterElements", *x, opset=18, axis=1)
    for dtype in (np.int32, np.int64):
        name = np.dtype(dtype).name
        nodes = [
            node("ScatterElements", integers(dtype, 3, 4), indices(3, 6), integers(dtype, 3, 6), axis=1, reduction=r)
            for r in reductions
        ]
        several(f"scatter_elements_reductions_{name}", nodes, 18)
    one("scatter_elements_bool", "ScatterElements", booleans(3, 4), places(1, 3, 2, n=4), booleans(3, 2), axis=1)
    one("scatter_elements_i32_indices", "ScatterElements", reals(4), Const(np.array([3, -3], np.int32)), reals(2))

    @case("scatter_qdq", 18)
    def _(g):
        x, u = (g.qdq(g.input(n, reals(4, s)), 0.0213, np.int8(-7)) for n, s in (("x", 6), ("u", 2)))
        i = g.input("i", places(1, 4, 2, n=6))
        y = g.op("ScatterElements", x, i, u, axis=1)
        g.out(g.qdq(y, 0.0213, np.int8(-7)))
        z = g.op("ScatterElements", x, i, u, axis=1, reduction="add")
        g.out(g.qdq(z, 0.0531, np.int8(3)))


def gathers():
    """GatherElements, GatherND, Compress, ReverseSequence."""
    for opset in (11, 13):
        nodes = [
            node("GatherElements", reals(3, 4, 5), indices(*shape, n=(3, 4, 5)[axis]), axis=axis)
            for axis, shape in ((0, (7, 4, 5)), (1, (3, 2, 5)), (2, (3, 4, 9)), (-1, (2, 3, 1)))
        ]
        nodes += [node("GatherElements", reals(5), Const(i64(1, -1, 1))), node("GatherElements", reals(4), indices(6))]
        nodes += [node("GatherElements", reals(3, 4), Const(i64(1, -1, 2).reshape(3, 1)), axis=1)]
        several(f"gather_elements_{opset}", nodes, opset)
        nodes = [
            node("GatherND", reals(4, 3, 5), tuples(6 if len(extents) > 1 else 3, extents=extents))
            for extents in ((4,), (4, 3), (4, 3, 5))
        ]
        nodes += [node("GatherND", reals(2, 2), Const(np.array([[[0, 1]], [[-1, -2]]], np.int64)))]
        several(f"gather_nd_{opset}", nodes, opset)
    nodes = [
        node("GatherND", reals(2, 3, 4, 5), indices(2, 6, 1, n=3), batch_dims=1),
        node("GatherND", reals(2, 3, 4, 5), indices(2, 3, 2, n=3), batch_dims=1),
        node("GatherND", reals(2, 3, 4, 5), indices(2, 3, 2, n=4), batch_dims=2),
        node("GatherND", reals(2, 3, 4, 5), indices(2, 3, 1, n=4), batch_dims=2),
    ]
    several("gather_nd_batches", nodes, 13)
    several("gather_nd_batches_12", nodes[:1], 12)
    x = [integers(np.int32, 3, 4), indices(3, 6, dtype=np.int32)]
    one("gather_elements_i32", "GatherElements", *x, opset=13, axis=1)
    one("gather_elements_bool", "GatherElements", booleans(3, 4), indices(3, 6), opset=13, axis=1)

    some = Const(np.array([True, False, True]))
    nodes = [node("Compress", reals(3, 4), some, axis=0), node("Compress", reals(2, 4), some, axis=1)]
    nodes += [node("Compress", reals(3, 4), some), node("Compress", reals(4), Const(np.array([False, True, True, False])))]
    several("compress_9", nodes, 9)
    several("compress_11", [*nodes, node("Compress", reals(3, 4), some, axis=-2)], 11)
    nodes = [
        node("ReverseSequence", reals(4, 3, 2), Const(i64(4, 1, 3))),
        node("ReverseSequence", reals(3, 4), Const(i64(4, 1, 2)), batch_axis=0, time_axis=1),
    ]
    several("reverse_sequence", nodes, 10)

    @case("gather_elements_qdq", 13)
    def _(g):
        x = g.qdq(g.input("x", reals(4, 6)), 0.0213, np.int8(-7))
        y = g.op("GatherElements", x, g.input("i", indices(4, 3, n=6)), axis=1)
        g.out(g.qdq(y, 0.0213, np.int8(-7)))


def largest():
    """TopK and Hardmax."""
    one("top_k_1", "TopK", reals(3, 7), opset=9, outputs=2, k=3)
    for opset in (10, 11, 24):
        nodes = [node("TopK", reals(3, 7, 4), Const(i64(3)), outputs=2, axis=axis) for axis in (0, 1, 2, -1)]
        several(f"top_k_{opset}", nodes, opset)
    few = integers(np.int32, 3, 9, low=0, high=4)
    nodes = [node("TopK", few, Const(i64(k)), outputs=2, largest=way) for k in (1, 5, 9) for way in (0, 1)]
    several("top_k_of_equals", nodes, 11)
    nodes = [node("TopK", integers(t, 2, 40), Const(i64(33)), outputs=2) for t in (np.int32, np.int64)]
    several("top_k_long", [*nodes, node("TopK", reals(40, 3), Const(i64(17)), outputs=2, axis=0, largest=0)], 11)

    @case("top_k_qdq", 13)
    def _(g):
        x = g.qdq(g.input("x", reals(4, 6)), 0.0213, np.int8(-7))
        y, i = g.op("TopK", x, g.const(i64(3)), outputs=2)
        g.out(g.qdq(y, 0.0213, np.int8(-7)), i)

    for opset in (1, 11, 13):
        several(f"hardmax_{opset}", [node("Hardmax", reals(3, 4, 5)), node("Hardmax", reals(3, 4, 5), axis=0)], opset)
    one("hardmax_of_equals", "Hardmax", f32([[1, 3, 3], [2, 2, 1]]), opset=13)


def masks():
    """OneHot, EyeLike, Trilu; NonZero and Unique of constants."""
    values, unit = Const(f32([-0.5, 2])), Const(f32([0, 1]))
    for opset in (9, 11):
        nodes = [node("OneHot", indices(2, 3, n=9), Const(i64(6)), values, axis=axis) for axis in (-1, 0, 1, 2)]
        nodes += [node("OneHot", indices(4, n=6), Const(i64(6)), unit), node("OneHot", indices(4), Const(i64(4)), f32([3, 4]))]
        several(f"one_hot_{opset}", nodes, opset)
    one("one_hot_i64", "OneHot", indices(4), Const(i64(4)), Const(i64(0, 1)), opset=11)
    one("one_hot_reals", "OneHot", f32([0, 1, 3, -2]), Const(f32([4])), Const(f32([0, 1])), opset=11)

    for opset in (9, 22):

        @case(f"eye_like_{opset}", opset)
        def _(g):
            x = g.const(np.zeros((3, 5), np.float32))
            for k in (0, 1, -2):
                g.out(g.op("Add", g.input(g.fresh("x"), reals(3, 5)), g.op("EyeLike", x, k=k)))
            g.out(g.op("Add", g.input("n", indices(3, 5)), g.op("EyeLike", x, dtype=7)))

    ks = [None, *(Const(np.int64(k)) for k in (0, 1, -1, 7, -7))]
    nodes = [node("Trilu", reals(2, 3, 4), *([] if k is None else [k]), upper=u) for k in ks for u in (0, 1)]
    several("trilu", [*nodes, node("Trilu", integers(np.int64, 4, 3))], 14)

    for opset in (9, 13):

        @case(f"non_zero_{opset}", opset)
        def _(g):
            y = g.op("NonZero", g.const(f32([[1, 0, 2], [0, 0, 3]])))
            g.out(g.op("Add", g.input("x", indices(2, 3)), y))

    @case("unique", 11)
    def _(g):
        x = g.const(f32([2, 1, 1, 3, 4, 3]))
        for how in (0, 1):
            y, i, inverse, counts = g.op("Unique", x, outputs=4, sorted=how)
            g.out(g.op("Add", g.input(g.fresh("x"), reals(4)), y))
            g.out(*(g.op("Add", g.input(g.fresh("n"), indices(n)), v) for n, v in ((4, i), (6, inverse), (4, counts))))
        m = g.const(f32([[1, 0, 0], [1, 0, 0], [2, 3, 4]]))
        y, i, inverse, counts = g.op("Unique", m, outputs=4, axis=0)
        g.out(g.op("Mul", g.input("a", positive(2, 3)), y), g.op("Add", g.input("b", indices(3)), inverse))
