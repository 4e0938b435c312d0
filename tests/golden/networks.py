"""Whole networks made tiny, with random weights: what passes make of operators that meet only there.

Each is built in floats, most also as ONNX Runtime's static quantiser writes them (`Net.quantised`): weights of bytes with scales
along an axis, biases of 32 bits, a QuantizeLinear and a DequantizeLinear behind every operator that the quantiser knows.
"""

import numpy as np

from graphs import f32, i64, positive, reals
from net import both
from networks_of_sequences import HEADS, WIDTH, gelu, graph_networks, joined, language, norm, sounds, state_spaces
from networks_of_sequences import transformers


# Detectors.


def block(n, x, inputs, outputs, kernel, **attributes):
    """Conv, BatchNormalization (which the quantiser folds first), SiLU."""
    y = n.conv(x, inputs, outputs, kernel, **attributes)
    if not n.quantised:
        y = n.g.op("BatchNormalization", y, positive(outputs), reals(outputs), reals(outputs), positive(outputs))
    return n.silu(n.q(y))


def features(n, side):
    """A backbone and a neck: features of two scales, of `side` with 4 channels and half of it with 6."""
    x = n.q(n.g.input("x", reals(1, 3, side, side)))
    a = block(n, x, 3, 4, 3)
    b = n.op("Add", a, block(n, block(n, a, 4, 2, 1), 2, 4, 3))
    c = block(n, block(n, b, 4, 8, 3, strides=[2, 2]), 8, 4, 1)
    pools = [n.op("MaxPool", c, kernel_shape=[k, k], pads=[k // 2] * 4) for k in (3, 5)]
    coarse = block(n, n.op("Concat", c, *pools, axis=1), 12, 6, 1)
    up = n.q(n.g.op("Resize", coarse, None, f32([1, 1, 2, 2]), mode="nearest", coordinate_transformation_mode="asymmetric"))
    return block(n, n.op("Concat", up, b, axis=1), 10, 4, 1), coarse


def grid(side):
    """The x and y of every cell."""
    y, x = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    return np.stack([x, y], -1).astype(np.float32)


def detectors():
    """Two scales and three ways to decode them."""

    @both("yolo_anchors", 13)
    def _(n):
        g, boxes = n.g, []
        for f, channels, side, stride in zip(features(n, 8), (4, 6), (8, 4), (1, 2)):
            head = n.q(n.conv(f, channels, 2 * 7, 1))
            t = n.op("Transpose", n.q(g.op("Reshape", head, i64(1, 2, 7, side, side))), perm=[0, 1, 3, 4, 2])
            xy, wh, rest = g.op("Split", n.op("Sigmoid", t), i64(2, 2, 3), axis=-1, outputs=3)
            xy = g.op("Mul", g.op("Add", g.op("Mul", xy, f32(2)), grid(side) - f32(0.5)), f32(stride))
            wh = g.op("Mul", g.op("Pow", g.op("Mul", wh, f32(2)), f32(2)), positive(1, 2, 1, 1, 2))
            boxes.append(g.op("Reshape", g.op("Concat", xy, wh, rest, axis=-1), i64(1, -1, 7)))
        g.out(g.op("Concat", *boxes, axis=1))

    @both("yolo_exp", 13)
    def _(n):
        # The scales come together before they are decoded, and parts are cut out by Slice.
        g, sides = n.g, (8, 4)
        heads = []
        for f, channels in zip(features(n, 8), (4, 6)):
            box, rest = n.q(n.conv(f, channels, 4, 1)), n.op("Sigmoid", n.q(n.conv(f, channels, 3, 1)))
            heads.append(n.q(g.op("Reshape", n.op("Concat", box, rest, axis=1), i64(1, 7, -1))))
        t = g.op("Transpose", n.op("Concat", *heads, axis=2), perm=[0, 2, 1])
        xy, wh, rest = (g.op("Slice", t, i64(a), i64(b), i64(2)) for a, b in ((0, 2), (2, 4), (4, 7)))
        centres = np.concatenate([grid(s).reshape(-1, 2) for s in sides])
        strides = np.repeat(f32([1, 2]), [s * s for s in sides]).reshape(-1, 1)
        xy, wh = g.op("Mul", g.op("Add", xy, centres), strides), g.op("Mul", g.op("Exp", wh), strides)
        g.out(g.op("Concat", xy, wh, rest, axis=-1))

    @both("yolo_distances", 13)
    def _(n):
        # Each distance is the mean of a distribution over four bins, by a convolution with the bins' numbers.
        g, heads = n.g, []
        for f, channels in zip(features(n, 8), (4, 6)):
            heads.append(n.q(g.op("Reshape", n.q(n.conv(f, channels, 4 * 4 + 2, 1)), i64(1, 18, -1))))
        box, classes = g.op("Split", n.op("Concat", *heads, axis=2), i64(16, 2), axis=1, outputs=2)
        bins = n.op("Transpose", n.q(g.op("Reshape", box, i64(1, 4, 4, 80))), perm=[0, 2, 1, 3])
        mean = g.op("Conv", n.op("Softmax", bins, axis=1), f32(np.arange(4)).reshape(1, 4, 1, 1))
        low, high = g.op("Split", g.op("Reshape", mean, i64(1, 4, 80)), axis=1, outputs=2)
        centres = np.concatenate([grid(8).reshape(-1, 2), 2 * grid(4).reshape(-1, 2)]).T[None] + f32(0.5)
        low, high = g.op("Sub", centres, low), g.op("Add", centres, high)
        middle, size = g.op("Div", g.op("Add", low, high), f32(2)), g.op("Sub", high, low)
        g.out(g.op("Concat", middle, size, g.op("Sigmoid", classes), axis=1))


# Segmentation.


def segmentation():
    """U-Nets with several norms."""

    def unet(n, norm, kernel):
        g = n.g

        def level(x, inputs, outputs):
            y = norm(n, n.q(n.conv(x, inputs, outputs, 3)), outputs)
            return n.op("LeakyRelu", y, alpha=0.1)

        def up(x, inputs, outputs):
            w = n.weights(inputs, outputs, kernel, kernel, fan=inputs, axis=1)
            return n.op("ConvTranspose", x, w, n.bias(x, w, outputs), strides=[2, 2], pads=[kernel // 2 - 1] * 4)

        x = n.q(g.input("x", reals(1, 2, 8, 12)))
        a = level(x, 2, 4)
        b = level(n.op("MaxPool", a, kernel_shape=[2, 2], strides=[2, 2]), 4, 6)
        c = level(n.op("MaxPool", b, kernel_shape=[2, 2], strides=[2, 2]), 6, 8)
        b = level(n.op("Concat", up(c, 8, 6), b, axis=1), 12, 6)
        a = level(n.op("Concat", up(b, 6, 4), a, axis=1), 8, 4)
        logits = n.q(n.conv(a, 4, 3, 1))
        g.out(g.op("Softmax", logits, axis=1), g.op("ArgMax", logits, axis=1, keepdims=0))

    def instance(n, x, channels):
        return n.op("InstanceNormalization", x, reals(channels, offset=1.0, scale=0.2), reals(channels, scale=0.2))

    def group(n, x, channels):
        scale, bias = reals(channels, offset=1.0, scale=0.2), reals(channels, scale=0.2)
        return n.op("GroupNormalization", x, scale, bias, num_groups=2)

    def group_written_out(n, x, channels):
        # As exporters write it for older operator sets.
        g = n.g
        shape = g.op("Shape", x)
        y = g.op("InstanceNormalization", g.op("Reshape", x, i64(0, 2, -1)), f32([1, 1]), f32([0, 0]))
        y = g.op("Mul", g.op("Reshape", y, shape), reals(channels, 1, 1, offset=1.0, scale=0.2))
        return n.op("Add", y, reals(channels, 1, 1, scale=0.2))

    both("unet_instance", 17)(lambda n: unet(n, instance, 2))
    both("unet_group", 21)(lambda n: unet(n, group, 4))
    both("unet_group_written_out", 13)(lambda n: unet(n, group_written_out, 2))


# Pictures.


def pictures():
    """Classifiers and others, by what is particular to them."""

    @both("mobile", 14)
    def _(n):
        # An inverted residual with squeeze and excite, then halves of channels that are shuffled.
        g, x = n.g, n.q(n.g.input("x", reals(1, 4, 6, 6)))
        y = n.op("Clip", n.conv(x, 4, 8, 1), f32(0), f32(6))
        w = n.weights(8, 1, 3, 3, fan=9)
        y = n.op("HardSwish", n.q(g.op("Conv", y, w, n.bias(y, w, 8), group=8, pads=[1] * 4)))
        s = n.op("Relu", n.conv(n.op("GlobalAveragePool", y), 8, 2, 1))
        y = n.op("Mul", n.op("HardSigmoid", n.q(n.conv(s, 2, 8, 1)), alpha=1 / 6), y)
        x = n.op("Add", n.q(n.conv(y, 8, 4, 1)), x)
        left, right = map(n.q, g.op("Split", x, axis=1, outputs=2))
        halves = n.op("Concat", left, n.op("Relu", n.conv(right, 2, 2, 3)), axis=1)
        t = g.op("Transpose", g.op("Reshape", halves, i64(1, 2, 2, 6, 6)), perm=[0, 2, 1, 3, 4])
        y = n.op("AveragePool", n.q(g.op("Reshape", t, i64(1, 4, 6, 6))), kernel_shape=[6, 6])
        y, w = n.op("Flatten", y), n.weights(3, 4, fan=4)
        g.out(g.op("Softmax", n.q(g.op("Gemm", y, w, n.bias(y, w, 3), transB=1))))

    @both("dense", 13)
    def _(n):
        # Each layer has all layers before it; norm and activation come before the convolution.
        x = n.q(n.g.input("x", reals(1, 3, 6, 5)))
        for i in range(3):
            y = n.op("Mul", x, positive(3 + 2 * i, 1, 1)) if n.quantised else batch_norm(n, x, 3 + 2 * i)
            x = n.op("Concat", x, n.q(n.conv(n.op("Relu", y), 3 + 2 * i, 2, 3)), axis=1)
        y = n.op("AveragePool", n.q(n.conv(x, 9, 4, 1)), kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
        n.g.out(n.op("ReduceMean", y, axes=[2, 3], keepdims=0))

    def batch_norm(n, x, channels):
        return n.g.op("BatchNormalization", x, positive(channels), reals(channels), reals(channels), positive(channels))

    @both("channels_last_block", 17)
    def _(n):
        # Depthwise convolution, then layers along the last axis between two transpositions.
        g, x = n.g, n.q(n.g.input("x", reals(1, WIDTH, 5, 6)))
        w = n.weights(WIDTH, 1, 5, 5, fan=25)
        y = n.q(g.op("Conv", x, w, n.bias(x, w, WIDTH), group=WIDTH, pads=[2] * 4))
        y = norm(n, n.op("Transpose", y, perm=[0, 2, 3, 1]))
        y = n.linear(gelu(n, n.linear(y, WIDTH, 16)), 16, WIDTH)
        y = n.op("Transpose", n.op("Mul", y, reals(WIDTH)), perm=[0, 3, 1, 2])
        g.out(n.op("Add", x, y))

    @both("vision_transformer", 17)
    def _(n):
        # Patches and a class's token, whose row alone goes on.
        g, x = n.g, n.q(n.g.input("x", reals(2, 2, 6, 6)))
        w = n.weights(WIDTH, 2, 3, 3, fan=18)
        y = n.q(g.op("Conv", x, w, n.bias(x, w, WIDTH), strides=[3, 3]))
        y = n.op("Transpose", n.q(g.op("Reshape", y, i64(2, WIDTH, -1))), perm=[0, 2, 1])
        token = g.op("Expand", g.const(reals(1, 1, WIDTH)), i64(2, 1, 1))
        y = n.op("Add", n.op("Concat", n.q(token), y, axis=1), g.const(reals(5, WIDTH, scale=0.3)))
        a = norm(n, y)
        q, k, v = parts(n, n.linear(a, WIDTH, 3 * WIDTH), 5)
        scores = n.op("MatMul", n.op("Mul", q, f32(0.5)), n.op("Transpose", k, perm=[0, 1, 3, 2]))
        y = n.op("Add", y, joined(n, n.op("MatMul", n.op("Softmax", scores, axis=-1), v)))
        y = n.op("Gather", norm(n, y), np.int64(0), axis=1)
        w = n.weights(3, WIDTH, fan=WIDTH)
        g.out(n.q(g.op("Gemm", y, w, n.bias(y, w, 3), transB=1)))

    def parts(n, x, rows):
        """Query, key and value by head, of one product."""
        g = n.g
        t = n.op("Transpose", n.q(g.op("Reshape", x, i64(-1, rows, 3, HEADS, WIDTH // HEADS))), perm=[2, 0, 3, 1, 4])
        return [n.op("Gather", t, np.int64(i), axis=0) for i in range(3)]

    @both("shifted_windows", 17)
    def _(n):
        # The picture is rolled, cut into windows, and put together again.
        g, x = n.g, n.q(n.g.input("x", reals(1, 4, 6, WIDTH)))
        y = roll(n, norm(n, x), 1)
        t = n.op("Transpose", n.q(g.op("Reshape", y, i64(1, 2, 2, 3, 2, WIDTH))), perm=[0, 1, 3, 2, 4, 5])
        q, k, v = parts(n, n.linear(n.q(g.op("Reshape", t, i64(-1, 4, WIDTH))), WIDTH, 3 * WIDTH), 4)
        scores = n.op("MatMul", q, n.op("Transpose", k, perm=[0, 1, 3, 2]))
        bias = g.op("Reshape", g.op("Gather", g.const(reals(9, HEADS)), places()), i64(4, 4, HEADS))
        scores = n.op("Add", scores, n.q(g.op("Transpose", bias, perm=[2, 0, 1])))
        shown = np.where(np.arange(6)[:, None, None, None] % 3 == 2, f32(np.eye(4) * 100 - 100), f32(0))
        y = joined(n, n.op("MatMul", n.op("Softmax", g.op("Add", scores, shown), axis=-1), v))
        t = n.op("Transpose", n.q(g.op("Reshape", y, i64(1, 2, 3, 2, 2, WIDTH))), perm=[0, 1, 3, 2, 4, 5])
        g.out(n.op("Add", x, roll(n, n.q(g.op("Reshape", t, i64(1, 4, 6, WIDTH))), -1)))

    def roll(n, x, by):
        """Both axes of the picture rolled by one."""
        for axis in (1, 2):
            ends = [n.q(n.g.op("Slice", x, i64(a), i64(b), i64(axis))) for a, b in ((by, 99), (-99, by))]
            x = n.op("Concat", *ends, axis=axis)
        return x

    def places():
        """The row of the bias for two places of a window of 2 by 2."""
        at = np.stack(np.divmod(np.arange(4), 2))
        return ((at[:, :, None] - at[:, None] + 1) * np.array([3, 1]).reshape(2, 1, 1)).sum(0).reshape(-1)

    @both("super_resolution", 13)
    def _(n):
        # Subpixels are made of channels and added to the picture made larger.
        g, x = n.g, n.q(n.g.input("x", reals(1, 2, 4, 5)))
        y = n.op("PRelu", n.q(n.conv(x, 2, 4, 3)), positive(4, 1, 1))
        y = n.q(g.op("Pad", y, i64(0, 0, 1, 1, 0, 0, 1, 1), mode="reflect"))
        w = n.weights(8, 4, 3, 3, fan=36)
        y = n.op("DepthToSpace", n.q(g.op("Conv", y, w)), blocksize=2, mode="CRD")
        large = n.q(g.op("Resize", x, None, f32([1, 1, 2, 2]), mode="linear"))
        g.out(n.op("Add", y, large), n.op("SpaceToDepth", y, blocksize=2))

    @both("mixer", 17)
    def _(n):
        # Products along one axis, then along the other.
        x = n.q(n.g.input("x", reals(1, 6, WIDTH)))
        t = n.op("Transpose", norm(n, x), perm=[0, 2, 1])
        t = n.linear(gelu(n, n.linear(t, 6, 5)), 5, 6)
        x = n.op("Add", x, n.op("Transpose", t, perm=[0, 2, 1]))
        n.g.out(n.op("Add", x, n.linear(n.op("Tanh", n.linear(norm(n, x), WIDTH, 6)), 6, WIDTH)))

    @both("points", 13)
    def _(n):
        # A cloud is turned by a matrix that is made of the cloud, and has its maximum taken.
        g, x = n.g, n.q(n.g.input("x", reals(1, 3, 9)))

        def layer(x, inputs, outputs):
            w = n.weights(outputs, inputs, 1, fan=inputs)
            return n.op("Relu", g.op("Conv", x, w, n.bias(x, w, outputs)))

        h = n.op("ReduceMax", layer(x, 3, 6), axes=[2], keepdims=0)
        turn = n.op("Add", n.op("MatMul", h, n.weights(6, 9, fan=6, axis=1)), f32(np.eye(3).reshape(1, 9)))
        turned = n.op("MatMul", n.op("Transpose", x, perm=[0, 2, 1]), n.q(g.op("Reshape", turn, i64(-1, 3, 3))))
        h = layer(n.op("Transpose", turned, perm=[0, 2, 1]), 3, 6)
        whole = g.op("Expand", n.op("ReduceMax", h, axes=[2]), i64(1, 6, 9))
        y = layer(n.op("Concat", h, n.q(whole), axis=1), 12, 4)
        g.out(g.op("LogSoftmax", y, axis=1))

    @both("waves", 17)
    def _(n):
        # Dilated convolutions that see the past alone, gates, residuals, and a sum of skips.
        g, x = n.g, n.q(n.g.input("x", reals(1, 4, 12)))
        skips = None
        for dilation in (1, 2, 4):
            w = n.weights(8, 4, 2, fan=8)
            padded = n.q(g.op("Pad", x, i64(0, 0, dilation, 0, 0, 0)))
            y = n.q(g.op("Conv", padded, w, n.bias(padded, w, 8), dilations=[dilation]))
            left, right = map(n.q, g.op("Split", y, axis=1, outputs=2))
            y = n.op("Mul", n.op("Tanh", left), n.op("Sigmoid", right))
            w = n.weights(4, 4, 1, fan=4)
            y = n.q(g.op("Conv", y, w, n.bias(y, w, 4)))
            skips = n.op("Add", skips, y) if skips else y
            x = n.op("Add", x, y)
        g.out(n.op("Relu", skips), n.op("ReduceMean", x, axes=[2]))


def networks():
    """Cases of one set."""
    pictures()
    language()
    detectors()
    segmentation()
    transformers()
    sounds()
    graph_networks()
    state_spaces()
