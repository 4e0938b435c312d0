"""`Resize` and `Upsample`: all modes, scales and sizes, up, down and neither, in floats and bytes."""

import numpy as np

from graphs import Const, case, f32, i64, integers, node, one, reals, several

HALVES = "half_pixel pytorch_half_pixel align_corners asymmetric".split()
# Up by whole and broken factors, down, to one element, and not at all.
SCALES = ((2, 3), (1.7, 0.6), (0.5, 1), (0.17, 2.3), (1, 1))


def resizes():
    """Cases of one set."""
    for x, y in SCALES:
        name = f"{x}_{y}".replace(".", "")
        scales = Const(f32([1, 1, x, y]))
        nodes = []
        for coordinates in HALVES:
            for rounding in "round_prefer_floor round_prefer_ceil floor ceil".split():
                how = {"coordinate_transformation_mode": coordinates, "nearest_mode": rounding, "mode": "nearest"}
                nodes.append(node("Resize", reals(1, 2, 6, 5), None, scales, **how))
            for mode in ("linear", "cubic"):
                how = {"coordinate_transformation_mode": coordinates, "mode": mode}
                nodes.append(node("Resize", reals(1, 2, 6, 5), None, scales, **how))
        several(f"resize_{name}", nodes, opset=13)
        several(f"resize_{name}_19", [node("Resize", reals(1, 2, 6, 5), None, scales, mode="linear")], opset=19)
        several(f"resize_{name}_10", [node("Resize", reals(1, 2, 6, 5), scales, mode=m) for m in ("nearest", "linear")], 10)
        if min(x, y) >= 1:
            one(f"upsample_{name}_9", "Upsample", reals(1, 2, 6, 5), scales, opset=9, mode="linear")
            one(f"upsample_{name}_8", "Upsample", reals(1, 2, 6, 5), opset=8, scales=[1.0, 1.0, float(x), float(y)])
    a = {"cubic_coeff_a": -0.5, "mode": "cubic"}
    cubic = [node("Resize", reals(1, 1, 5, 4), None, Const(f32([1, 1, 1.6, 2.5])), exclude_outside=e, **a) for e in (0, 1)]
    several("resize_cubic", cubic, opset=13)
    sizes = Const(i64(1, 2, 9, 4))
    several("resize_sizes", [node("Resize", reals(1, 2, 6, 5), None, None, sizes, mode=m) for m in ("nearest", "linear")], 13)
    one("resize_rank_3", "Resize", reals(2, 3, 7), None, Const(f32([1, 1, 2.5])), opset=13, mode="linear")
    one("resize_rank_1", "Resize", reals(7), None, Const(f32([0.5])), opset=13)
    one("resize_channels", "Resize", reals(1, 3, 4, 2), None, Const(f32([1, 2, 1, 1])), opset=13)
    policies = ("stretch", "not_larger", "not_smaller")
    for mode in ("nearest", "linear"):
        how = [{"axes": [2, 3], "mode": mode, "keep_aspect_ratio_policy": p} for p in policies]
        nodes = [node("Resize", reals(1, 2, 6, 5), None, None, Const(i64(8, 9)), **h) for h in how]
        several(f"resize_policies_{mode}", nodes, opset=18)
    one("resize_axes", "Resize", reals(1, 6, 5, 2), None, Const(f32([2, 1.5])), opset=18, axes=[-3, 2])
    for dtype in (np.int8, np.uint8, np.int32):
        one(f"resize_{np.dtype(dtype)}", "Resize", integers(dtype, 1, 2, 4, 3), None, Const(f32([1, 1, 2, 1.5])), opset=13)

    # Linear ones of bytes are cut off, not rounded. ONNX Runtime's quantiser writes them in its form of operators.
    for dtype in (np.int8, np.uint8):
        whole = [Const(f32([1, 1, *scales])) for scales in ((2, 2), (4, 0.5), (1, 8))]
        nodes = [node("Resize", integers(dtype, 1, 2, 4, 6), None, scales, mode="linear") for scales in whole]
        corners = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
        nodes.append(node("Resize", integers(dtype, 1, 1, 3, 5), None, None, Const(i64(1, 1, 5, 17)), **corners))
        several(f"resize_linear_{np.dtype(dtype)}", nodes, opset=13)

    @case("resize_quantized_linear", 13)
    def _(g):
        x = g.q(g.input("x", reals(1, 3, 5, 4)), 0.0213, np.int8(-7))
        y = g.op("Resize", x, None, g.const(f32([1, 1, 2, 2])), mode="linear")
        g.out(y, g.dq(y, 0.0213, np.int8(-7)))

    for mode in ("nearest", "linear"):

        @case(f"resize_qdq_{mode}", 13, mode=mode)
        def _(g, mode):
            x = g.qdq(g.input("x", reals(1, 3, 5, 4)), 0.0213, np.int8(-7))
            y = g.op("Resize", x, None, g.const(f32([1, 1, 2, 2])), mode=mode)
            # The sums of a linear one lie half way between elements of the same scale.
            g.out(g.qdq(y, 0.0213 if mode == "nearest" else 0.0317, np.int8(-7)))
