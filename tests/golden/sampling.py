"""Samples of pictures at grids, and the selection of boxes that do not overlap."""

import numpy as np

from graphs import Const, case, f32, i64, node, one, reals, several

PADDINGS = "zeros border reflection".split()


def grids():
    """GridSample."""
    for opset, modes in ((16, "nearest bilinear bicubic"), (20, "nearest linear cubic"), (22, "nearest linear cubic")):
        for mode in modes.split():
            nodes = [
                node("GridSample", reals(2, 3, 4, 5), reals(2, 3, 4, 2), mode=mode, padding_mode=p, align_corners=a)
                for p in PADDINGS
                for a in (0, 1)
            ]
            # Far outside, and an axis of one pixel.
            nodes += [
                node("GridSample", reals(1, 2, 3, 1), reals(1, 2, 5, 2, scale=4.0), mode=mode, padding_mode=p)
                for p in PADDINGS
            ]
            several(f"grid_sample_{mode}_{opset}", nodes, opset)
    # ONNX Runtime has no cubic samples of three axes, and none at all of one.
    for mode in ("nearest", "linear"):
        nodes = [
            node("GridSample", reals(1, 2, 3, 4, 2), reals(1, 2, 3, 2, 3), mode=mode, padding_mode=p, align_corners=a)
            for p in PADDINGS
            for a in (0, 1)
        ]
        several(f"grid_sample_3d_{mode}", nodes, 20)
    one("grid_sample_defaults", "GridSample", reals(1, 1, 3, 3), reals(1, 2, 2, 2), opset=16)
    # Ties between two pixels.
    ties = f32([-0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75]).reshape(1, 7, 1, 1) * np.ones(2, np.float32)
    several("grid_sample_ties", [node("GridSample", reals(1, 1, 4, 4), Const(ties), mode="nearest")], 20)

    @case("grid_sample_qdq", 20)
    def _(g):
        x = g.qdq(g.input("x", reals(1, 3, 4, 5)), 0.0213, np.int8(-7))
        y = g.op("GridSample", x, g.input("g", reals(1, 3, 4, 2)), padding_mode="border")
        g.out(g.qdq(y, 0.0213, np.int8(-7)))


def regions(n, *extents):
    """Regions of pictures of these extents; one is larger than its picture, and one has its corners the other way round."""

    def build(rng):
        corners = np.sort(rng.uniform(-1, 1.2, (n, 2, 2)), axis=1) * np.array(extents[::-1])
        corners[0] = [[-7.3, -9.1], [23.7, 31.9]]
        corners[1] = corners[1, ::-1]
        return corners.reshape(n, 4).astype(np.float32)

    return build


def aligned():
    """RoiAlign."""
    for opset, modes in ((10, [{}]), (16, [{}, {"coordinate_transformation_mode": "output_half_pixel"}])):
        nodes = [
            node(
                "RoiAlign",
                reals(2, 3, 5, 7),
                regions(5, 5, 7),
                i64(0, 1, 1, 0, 1),
                mode=mode,
                sampling_ratio=ratio,
                output_height=2,
                output_width=3,
                **transformed,
            )
            for mode in ("avg", "max")
            for ratio in (0, 1, 3)
            for transformed in modes
        ]
        several(f"roi_align_{opset}", nodes, opset)
    one("roi_align_defaults", "RoiAlign", reals(1, 2, 4, 4), regions(3, 4, 4), i64(0, 0, 0), opset=16)
    one("roi_align_scaled", "RoiAlign", reals(1, 1, 4, 4), regions(4, 8, 8), i64(0, 0, 0, 0), opset=16, spatial_scale=0.5)

    @case("roi_align_qdq", 16)
    def _(g):
        x = g.qdq(g.input("x", reals(1, 3, 4, 5)), 0.0213, np.int8(-7))
        r, of = g.input("r", regions(2, 4, 5)), g.input("i", i64(0, 0))
        y = g.op("RoiAlign", x, r, of, output_height=2, output_width=2)
        g.out(g.qdq(y, 0.0213, np.int8(-7)))


def deformed():
    """DeformConv."""

    def offsets(*shape):
        return reals(*shape, scale=1.5)

    for opset in (19, 22):
        x, w = reals(2, 4, 5, 6), Const(reals(6, 4, 3, 2))
        nodes = [node("DeformConv", x, w, offsets(2, 12, 3, 5))]
        nodes += [node("DeformConv", x, w, offsets(2, 12, 3, 5), Const(reals(6)), reals(2, 6, 3, 5))]
        nodes += [
            node("DeformConv", x, w, offsets(2, 24, 3, 3), strides=[2, 1], pads=[1, 0, 2, 1], dilations=[1, 4], offset_group=2)
        ]
        nodes += [
            node(
                "DeformConv",
                x,
                Const(reals(6, 2, 3, 2)),
                offsets(2, 12 * sets, 3, 5),
                None,
                reals(2, 6 * sets, 3, 5),
                group=2,
                offset_group=sets,
            )
            for sets in (1, 2, 4)
        ]
        several(f"deform_conv_{opset}", nodes, opset)
    # Each channel by itself; weights that are computed; far outside.
    one("deform_conv_depthwise", "DeformConv", reals(1, 4, 4, 4), Const(reals(4, 1, 2, 2)), offsets(1, 8, 3, 3), opset=19, group=4)
    one("deform_conv_computed", "DeformConv", reals(1, 2, 4, 4), reals(3, 2, 2, 2), offsets(1, 8, 3, 3), reals(3), opset=19)
    one("deform_conv_far", "DeformConv", reals(1, 1, 3, 3), Const(reals(1, 1, 2, 2)), reals(1, 8, 2, 2, scale=9.0), opset=19)


def corners(*shape, n=12):
    """Boxes with integers for corners, so that no overlap is nearly a limit."""
    return lambda rng: rng.integers(0, n, (*shape, 4)).astype(np.float32)


def sizes(*shape):
    """Boxes as centres and sizes."""
    return lambda rng: np.concatenate(
        [rng.integers(0, 12, (*shape, 2)), 2 * rng.integers(1, 4, (*shape, 2))], -1
    ).astype(np.float32)


def boxes():
    """NonMaxSuppression, padded."""

    def selection(name, b, s, most, *limits, opset=11, **attributes):
        @case(name, opset)
        def _(g):
            b_, s_ = g.input("b", b), g.input("s", s)
            y = g.op("NonMaxSuppression", b_, s_, g.const(i64(most)), *limits_of(g), **attributes)
            pictures, classes, n = g.feeds["s"].shape
            g.pad(y, pictures * classes * min(most, n))

        def limits_of(g):
            return [g.const(f32(v)) for v in limits]

    selection("nms", corners(2, 9), reals(2, 3, 9), 4, [0.3137])
    selection("nms_10", corners(2, 9), reals(2, 3, 9), 4, [0.3137], [0.2718], opset=10)
    selection("nms_scores", corners(1, 20), reals(1, 2, 20), 30, 0.3137, 0.2718)
    selection("nms_centers", sizes(2, 12), reals(2, 1, 12), 12, [0.1234], [-0.5], center_point_box=1)
    selection("nms_any_overlap", corners(1, 12), reals(1, 1, 12), 5)
    selection("nms_of_equals", corners(1, 30), lambda rng: rng.integers(0, 3, (1, 2, 30)).astype(np.float32), 9, [0.3137])

    @case("nms_computed_limits", 11)
    def _(g):
        limits = [g.input("o", f32([0.3137])), g.input("l", f32([0.2718]))]
        inputs = [g.input("b", corners(1, 9)), g.input("s", reals(1, 2, 9))]
        g.pad(g.op("NonMaxSuppression", *inputs, g.const(i64(3)), *limits), 6)

    @case("nms_none", 11)
    def _(g):
        y = g.op("NonMaxSuppression", g.input("b", corners(1, 9)), g.input("s", reals(1, 2, 9)))
        x = g.op("Concat", y, g.const(i64(1, 2, 3).reshape(1, 3)), axis=0)
        g.out(g.op("Add", x, g.input("x", i64(4))))
