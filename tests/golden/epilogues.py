"""Products of integers with something between the product and its quantiser.

There is one rounding, at the end: ONNX Runtime computes product and functions in float32. Inputs are small integers, so that
its float32 sums are exact to far less than a rounding step, and functions are met where they bend.
"""

import numpy as np

from graphs import case, f32, i8, integers, positive, reals

# Scales of inputs, weights and results, and the result's zero point.
SX, SW, SY, ZY = 0.0213, 0.0117, 0.0531, np.int8(-9)

FUNCTIONS = [
    ("Abs", dict()),
    ("Ceil", dict()),
    ("Cos", dict()),
    ("Elu", dict(alpha=0.7)),
    ("Erf", dict()),
    ("Exp", dict()),
    ("Floor", dict()),
    ("Gelu", dict()),
    ("Gelu", dict(approximate="tanh")),
    ("HardSigmoid", dict(alpha=0.3, beta=0.4)),
    ("HardSwish", dict()),
    ("LeakyRelu", dict(alpha=0.13)),
    ("Mish", dict()),
    ("Neg", dict()),
    ("Relu", dict()),
    ("Round", dict()),
    ("Selu", dict()),
    ("Sigmoid", dict()),
    ("Sign", dict()),
    ("Sin", dict()),
    ("Softplus", dict()),
    ("Softsign", dict()),
    ("Tanh", dict()),
]


def dense(g, x):
    """A 3×3 convolution of 3 channels to 9, weights with a scale for each channel."""
    scales = lambda rng: ((rng.integers(40, 90, 9) * 2 + 1) * 1e-4).astype(np.float32)
    w = g.op("DequantizeLinear", i8(9, 3, 3, 3), scales, np.zeros(9, np.int8), axis=0)
    return lambda: g.op("Conv", x, w, pads=[1] * 4)


def depthwise(g, x):
    """A 3×3 convolution of each of 3 channels."""
    w = g.weights(i8(3, 1, 3, 3), SW, np.int8(3))
    return lambda: g.op("Conv", x, w, pads=[1] * 4, group=3)


def transposed(g, x):
    """A transposed 3×3 convolution of 3 channels to 4."""
    w = g.weights(i8(3, 4, 3, 3), SW, np.int8(0))
    return lambda: g.op("ConvTranspose", x, w, pads=[1] * 4)


def matrix(g, x):
    """A product with a constant matrix."""
    w = g.weights(i8(4, 7), SW, np.int8(0))
    return lambda: g.op("MatMul", x, w)


PRODUCTS = dict(dense=dense, depthwise=depthwise, transposed=transposed, matrix=matrix)


def epilogues():
    """Every function behind every kind of product; constants, residuals, gates, chains, poolings."""

    def operand(g, name="x", channels=3):
        return g.dq(g.input(name, integers(np.int8, 1, channels, 4, 4, low=-20, high=21)), SX, np.int8(4))

    def finish(g, y, zero=ZY):
        g.out(g.q(y, SY, zero))

    for name, build in PRODUCTS.items():

        @case(f"epilogue_functions_{name}", 22, build=build)
        def _(g, build):
            # Each function has a product of its own: the result of one that two read is no intermediate.
            product = build(g, operand(g))
            for kind, attributes in FUNCTIONS:
                finish(g, g.op(kind, product(), **attributes))

    channels = lambda recipe: recipe(9, 1, 1)

    @case("epilogue_channels", 16)
    def _(g):
        product = dense(g, operand(g))
        for kind in "Add Sub Mul Div Max Min PRelu".split():
            finish(g, g.op(kind, product(), channels(positive)))
            if kind != "PRelu":
                finish(g, g.op(kind, product(), f32(0.37)))
        finish(g, g.op("Sub", channels(reals), product()))
        finish(g, g.op("Sub", f32(0.37), product()))
        finish(g, g.op("PRelu", product(), f32([0.2])))

    @case("epilogue_chains", 22)
    def _(g):
        product = dense(g, operand(g))
        shifted = lambda: g.op("Add", product(), channels(reals))
        finish(g, g.op("HardSwish", shifted()))
        finish(g, g.op("Relu", shifted()), zero=np.int8(-128))
        finish(g, g.op("Mul", g.op("Tanh", shifted()), channels(positive)))
        gated = shifted()
        finish(g, g.op("Mul", gated, g.op("Sigmoid", gated)))
        norm = [channels(r)(g.rng).reshape(9) for r in (positive, reals, reals, positive)]
        finish(g, g.op("LeakyRelu", g.op("BatchNormalization", product(), *norm), alpha=0.2))
        finish(g, g.op("Clip", g.op("Tanh", shifted()), f32(-0.3), f32(0.6)))

    @case("epilogue_residuals", 22)
    def _(g):
        product, other = dense(g, operand(g)), operand(g, "other", 9)
        finish(g, g.op("Add", product(), other))
        finish(g, g.op("Relu", g.op("Add", other, product())))
        finish(g, g.op("HardSwish", g.op("Add", product(), other)))
        finish(g, g.op("Mul", other, g.op("Sigmoid", product())))
        finish(g, g.op("Sub", other, product()))
        finish(g, g.op("Add", g.op("Mul", product(), channels(reals)), other))
        finish(g, g.op("Add", product(), g.input("real", reals(1, 9, 4, 4))))
        # A rounding between the product and the sum.
        finish(g, g.op("Gelu", g.op("Add", g.qdq(product(), 0.0371, np.int8(5)), other)))

    @case("epilogue_maxpool", 22)
    def _(g):
        product = dense(g, operand(g))
        window = dict(kernel_shape=[3, 3], pads=[1] * 4)
        finish(g, g.op("MaxPool", product(), **window))
        finish(g, g.op("MaxPool", g.op("Elu", product()), **window, strides=[2, 2]))
        finish(g, g.op("MaxPool", g.op("MaxPool", product(), **window), **window))
        finish(g, g.op("Transpose", g.op("MaxPool", g.op("Neg", product()), **window), perm=[0, 2, 3, 1]))
