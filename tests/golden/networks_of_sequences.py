"""Small networks over tokens, sound and graphs."""

import numpy as np
from onnx import TensorProto

from graphs import case, f32, i64, integers, positive, reals, scan
from net import Net, both


# Transformers.

WIDTH, HEADS, WORDS, LENGTH = 8, 2, 11, 6


class Dynamic(Net):
    """Layers as the dynamic quantiser writes them: the activations' scales are those of the run."""

    def __init__(self, g):
        super().__init__(g, False)

    def linear(self, x, inputs, outputs):
        g = self.g
        y, scale, zero = g.op("DynamicQuantizeLinear", x, outputs=3)
        weights = g.const(integers(np.int8, inputs, outputs, low=-127, high=128))
        product = g.op("Cast", g.op("MatMulInteger", y, weights, zero, np.int8(0)), to=TensorProto.FLOAT)
        y = g.op("Mul", product, g.op("Mul", scale, f32(0.0047)))
        return g.op("Add", y, reals(outputs, scale=0.2))


def embedded(n, tokens):
    """Embeddings of tokens and of their places, normalised."""
    g = n.g
    e = n.op("Gather", table(n, WIDTH), tokens)
    return norm(n, n.op("Add", e, g.const(reals(LENGTH, WIDTH, scale=0.3))))


def table(n, width):
    """A row for each word, with one scale: the quantiser has none for each slice of what Gather reads."""
    if not n.quantised:
        return n.g.const(reals(WORDS, width))
    return n.g.weights(integers(np.int8, WORDS, width, low=-127, high=128), 0.0137, np.int8(0))


def norm(n, x):
    """LayerNormalization."""
    return n.op("LayerNormalization", x, reals(WIDTH, offset=1.0, scale=0.2), reals(WIDTH, scale=0.2))


def heads(n, x):
    """Query, key and value by head."""
    rows = (n.linear(x, WIDTH, WIDTH) for _ in range(3))
    split = (n.q(n.g.op("Reshape", row, i64(0, 0, HEADS, WIDTH // HEADS))) for row in rows)
    return [n.op("Transpose", part, perm=[0, 2, 1, 3]) for part in split]


def joined(n, x):
    """The heads side by side."""
    return n.q(n.g.op("Reshape", n.op("Transpose", x, perm=[0, 2, 1, 3]), i64(0, 0, WIDTH)))


def written_out(n, x, shown):
    """Attention in single operators, with a mask of the keys that are shown."""
    q, k, v = heads(n, x)
    scores = n.op("Div", n.op("MatMul", q, n.op("Transpose", k, perm=[0, 1, 3, 2])), f32(2))
    # The quantiser leaves alone what a mask would stretch.
    masked = n.g.op("Where", shown, scores, f32(-1e9))
    return joined(n, n.op("MatMul", n.op("Softmax", masked, axis=-1), v))


def gelu(n, x):
    """Gelu as exporters write it."""
    e = n.op("Erf", n.op("Div", x, f32(2**0.5)))
    return n.op("Mul", n.op("Mul", x, n.op("Add", e, f32(1))), f32(0.5))


def encoder(n, attend=written_out, activate=gelu):
    """A layer of an encoder, and the sentence's vector: the mean of those tokens that are no padding."""
    g = n.g
    ids = g.array(integers(np.int64, 2, LENGTH, low=1, high=WORDS))
    ids[1, 4:] = 0
    tokens = g.input("tokens", ids)
    present = g.op("Not", g.op("Equal", tokens, np.int64(0)))
    x = embedded(n, tokens)
    y = attend(n, x, g.op("Unsqueeze", present, i64(1, 2)))
    x = norm(n, n.op("Add", x, n.linear(y, WIDTH, WIDTH)))
    y = n.linear(activate(n, n.linear(x, WIDTH, 2 * WIDTH)), 2 * WIDTH, WIDTH)
    x = norm(n, n.op("Add", x, y))
    mask = g.op("Unsqueeze", g.op("Cast", present, to=TensorProto.FLOAT), i64(2))
    count = g.op("ReduceSum", mask, i64(1), keepdims=0)
    g.out(x, g.op("Div", g.op("ReduceSum", g.op("Mul", x, mask), i64(1), keepdims=0), count))


def transformers():
    """An encoder's layer in several forms."""
    both("encoder")(encoder)
    case("net_encoder_dynamic")(lambda g: encoder(Dynamic(g)))

    def rows(n, shown):
        # ONNX Runtime wants a row of the mask for each query.
        return n.g.op("Expand", shown, i64(1, 1, LENGTH, 1))

    def operator(n, x, shown):
        return joined(n, n.g.op("Attention", *heads(n, x), rows(n, shown)))

    def operator_flat(n, x, shown):
        q, k, v = (n.linear(x, WIDTH, WIDTH) for _ in range(3))
        return n.g.op("Attention", q, k, v, rows(n, shown), q_num_heads=HEADS, kv_num_heads=HEADS)

    for name, attend in (("operator", operator), ("operator_flat", operator_flat)):

        @case(f"net_encoder_{name}", 23, attend=attend)
        def _(g, attend):
            encoder(Net(g, False), attend, lambda n, x: n.g.op("Gelu", x))

    @both("decoder_step", 17)
    def _(n):
        # One token behind a cache of keys and values, which come out longer.
        g = n.g
        x = n.q(g.input("x", reals(1, 1, WIDTH)))
        q, k, v = heads(n, x)
        for name, new in (("keys", k), ("values", v)):
            past = n.q(g.input(name, reals(1, HEADS, 4, WIDTH // HEADS)))
            whole = n.op("Concat", past, new, axis=2)
            k, v = (whole, v) if name == "keys" else (k, whole)
        scores = n.op("Mul", n.op("MatMul", q, n.op("Transpose", k, perm=[0, 1, 3, 2])), f32(0.5))
        y = joined(n, n.op("MatMul", n.op("Softmax", scores, axis=-1), v))
        g.out(norm(n, n.op("Add", x, n.linear(y, WIDTH, WIDTH))), k, v)


# Sound.


def sounds():
    """Voice activity by recurrent layers."""

    def speech(n, y, features):
        w = n.weights(1, features, fan=features)
        return n.g.op("Sigmoid", n.q(n.g.op("Gemm", y, w, n.bias(y, w, 1), transB=1)))

    @both("voice_lstm", 14)
    def _(n):
        g = n.g
        x = n.q(g.input("x", reals(1, 4, 16)))
        w = n.weights(6, 4, 3, fan=12)
        y = n.op("Relu", g.op("Conv", x, w, n.bias(x, w, 6), strides=[2], pads=[1, 1]))
        y = n.op("Transpose", y, perm=[2, 0, 1])
        parts = [g.const(reals(2, 16, width, scale=0.5)) for width in (6, 4)]
        y, h, _ = g.op("LSTM", y, *parts, reals(2, 32, scale=0.3), hidden_size=4, direction="bidirectional", outputs=3)
        y = g.op("Reshape", g.op("Transpose", n.q(y), perm=[0, 2, 1, 3]), i64(0, 0, -1))
        y = n.op("Squeeze", y, i64(1))
        g.out(speech(n, y, 8), h)

    @both("voice_gru", 14)
    def _(n):
        # A frame a run, whose state comes in and goes out.
        g = n.g
        x, state = n.q(g.input("x", reals(1, 4, 3))), g.input("state", reals(1, 1, 6))
        w = n.weights(6, 4, 3, fan=12)
        y = n.op("Transpose", n.op("Relu", g.op("Conv", x, w, n.bias(x, w, 6))), perm=[2, 0, 1])
        parts = [g.const(reals(1, 18, 6, scale=0.5)) for _ in range(2)]
        how = {"hidden_size": 6, "linear_before_reset": 1, "outputs": 2}
        y, h = g.op("GRU", y, *parts, reals(1, 36, scale=0.3), None, state, **how)
        g.out(speech(n, n.op("Squeeze", y, i64(0, 1)), 6), h)

    @both("voice_stack", 14)
    def _(n):
        # Two layers, of which the second has the last state alone.
        g = n.g
        y = g.op("Transpose", n.q(g.input("x", reals(2, 5, 4))), perm=[1, 0, 2])
        for inputs, kind, gates in ((4, "LSTM", 4), (6, "GRU", 3)):
            parts = [g.const(reals(1, gates * 6, width, scale=0.5)) for width in (inputs, 6)]
            outputs = g.op(kind, y, *parts, hidden_size=6, outputs=2)
            y = n.op("Squeeze", outputs[0], i64(1)) if kind == "LSTM" else outputs[1]
        g.out(speech(n, n.op("Squeeze", y, i64(0)), 6))


# Graphs.

NODES, EDGES = 6, 10


def graph_networks():
    """Messages along edges, and pools of the best nodes."""

    def ends(n):
        edges = n.g.input("edges", integers(np.int64, 2, EDGES, low=0, high=NODES))
        return [n.g.op("Gather", edges, np.int64(i), axis=0) for i in (0, 1)]

    def wide(n, index):
        return n.g.op("Expand", n.g.op("Unsqueeze", index, i64(1)), i64(EDGES, 4))

    @both("graph_convolution", 16)
    def _(n):
        g, (source, target) = n.g, ends(n)
        x = n.q(g.input("x", reals(NODES, 3)))
        messages = n.op("Gather", n.linear(x, 3, 4), source)
        zeros = np.zeros((NODES, 4), np.float32)
        total = g.op("ScatterElements", zeros, wide(n, target), messages, axis=0, reduction="add")
        rows = g.op("Unsqueeze", target, i64(1))
        degree = g.op("ScatterND", zeros[:, 0], rows, np.ones(EDGES, np.float32), reduction="add")
        mean = n.op("Div", total, g.op("Unsqueeze", g.op("Clip", degree, f32(1)), i64(1)))
        h = n.op("Relu", n.op("Add", mean, n.linear(x, 3, 4)))
        # The pool keeps the nodes of the best scores, by a score that is no byte: bytes have ties.
        score = g.op("Tanh", g.op("MatMul", h, reals(4, 1)))
        best, index = g.op("TopK", g.op("Squeeze", score, i64(1)), i64(3), outputs=2)
        kept = g.op("GatherElements", h, g.op("Expand", g.op("Unsqueeze", index, i64(1)), i64(3, 4)), axis=0)
        kept = g.op("Mul", kept, g.op("Unsqueeze", best, i64(1)))
        g.out(h, index, g.op("Concat", g.op("ReduceMax", kept, axes=[0]), g.op("ReduceMean", kept, axes=[0]), axis=1))

    @both("graph_attention", 18)
    def _(n):
        # A softmax over the edges of each target.
        g, (source, target) = n.g, ends(n)
        h = n.linear(n.q(g.input("x", reals(NODES, 3))), 3, 4)
        pair = n.op("Concat", n.op("Gather", h, source), n.op("Gather", h, target), axis=1)
        score = g.op("Squeeze", n.op("LeakyRelu", n.op("MatMul", pair, n.weights(8, 1, fan=8, axis=1)), alpha=0.2), i64(1))
        most = g.op("ScatterElements", np.full(NODES, -1e30, np.float32), target, score, reduction="max")
        e = g.op("Exp", g.op("Sub", score, g.op("Gather", most, target)))
        total = g.op("ScatterElements", np.zeros(NODES, np.float32), target, e, reduction="add")
        share = g.op("Div", e, g.op("Gather", total, target))
        messages = g.op("Mul", g.op("Gather", h, source), g.op("Unsqueeze", share, i64(1)))
        rows = g.op("Unsqueeze", target, i64(1))
        g.out(g.op("Elu", g.op("ScatterND", np.zeros((NODES, 4), np.float32), rows, messages, reduction="add")))


# Sequences without attention.


def state_spaces():
    """Mamba and linear attention."""

    @both("mamba", 17)
    def _(n):
        g, time, width, states = n.g, 7, 6, 3
        x = n.q(g.input("x", reals(1, time, 4)))
        x, gate = map(n.q, g.op("Split", n.linear(x, 4, 2 * width), axis=-1, outputs=2))
        # The convolution sees the past alone.
        t, w = n.op("Transpose", x, perm=[0, 2, 1]), n.weights(width, 1, 3, fan=3)
        y = g.op("Conv", t, w, n.bias(t, w, width), group=width, pads=[2, 0])
        u = n.silu(n.op("Transpose", n.q(y), perm=[0, 2, 1]))
        projected = n.op("MatMul", u, n.weights(width, 1 + 2 * states, fan=width, axis=1))
        step, into, out_of = g.op("Split", projected, i64(1, states, states), axis=-1, outputs=3)
        step = g.op("Softplus", g.op("Add", step, reals(width)))
        decay = g.op("Neg", g.op("Exp", g.const(reals(width, states))))
        decays = g.op("Exp", g.op("Mul", g.op("Unsqueeze", step, i64(3)), decay))
        inputs = g.op("Mul", g.op("Unsqueeze", g.op("Mul", step, u), i64(3)), g.op("Unsqueeze", into, i64(2)))
        body = g.body(4)
        h, a, b, c = body.inputs
        h = body.op("Add", body.op("Mul", a, h), b)
        y = body.op("MatMul", h, body.op("Unsqueeze", c, i64(2)))
        body.out(h, body.op("Squeeze", y, i64(2)))
        start, along = g.input("state", reals(1, width, states)), {"scan_input_axes": [1] * 3, "scan_output_axes": [1]}
        state, y = scan(g, body, [start], [decays, inputs, out_of], 2, **along)
        y = g.op("Add", y, g.op("Mul", u, reals(width)))
        y = n.op("Mul", y, n.silu(gate))
        g.out(n.op("MatMul", y, n.weights(width, 4, fan=width, axis=1)), state)

    @both("linear_attention", 17)
    def _(n):
        # Sums of keys and values up to each word, without a loop.
        g, time, width = n.g, 6, 4
        x = n.q(g.input("x", reals(2, time, width)))
        q, k, v = (n.linear(x, width, width) for _ in range(3))
        q, k = (g.op("Add", g.op("Elu", part), f32(1)) for part in (q, k))
        pairs = g.op("Einsum", k, v, equation="btd,bte->btde")
        sums, keys = g.op("CumSum", pairs, np.int64(1)), g.op("CumSum", k, np.int64(1))
        y = g.op("Einsum", q, sums, equation="btd,btde->bte")
        scale = g.op("ReduceSum", g.op("Mul", q, keys), i64(-1))
        g.out(n.linear(n.op("Div", y, scale), width, width))


def language():
    """A decoder with rotated places, fewer heads of keys, gates, and tied weights."""

    @both("llama", 18)
    def _(n):
        g, heads, width = n.g, 4, 2 * WIDTH
        tokens = g.input("tokens", integers(np.int64, 1, LENGTH, low=0, high=WORDS))
        words = table(n, width)
        x = n.op("Gather", words, tokens)

        def rms(x):
            mean = g.op("ReduceMean", g.op("Pow", x, f32(2)), i64(-1))
            return n.op("Mul", g.op("Div", x, g.op("Sqrt", g.op("Add", mean, f32(1e-6)))), positive(width))

        def split(x, count):
            y = n.op("MatMul", x, n.weights(width, 4 * count, fan=width, axis=1))
            return n.op("Transpose", n.q(g.op("Reshape", y, i64(0, 0, count, 4))), perm=[0, 2, 1, 3])

        angle = np.arange(LENGTH)[:, None] * np.tile(f32([1, 0.1]), 2)

        def rotated(x):
            low, high = (g.op("Slice", x, i64(a), i64(b), i64(3)) for a, b in ((0, 2), (2, 2**62)))
            turned = g.op("Concat", g.op("Neg", high), low, axis=-1)
            return n.op("Add", g.op("Mul", x, f32(np.cos(angle))), g.op("Mul", turned, f32(np.sin(angle))))

        def repeated(x):
            wide = g.op("Expand", g.op("Unsqueeze", x, i64(2)), i64(1, 2, 2, LENGTH, 4))
            return g.op("Reshape", wide, i64(1, heads, LENGTH, 4))

        a = rms(x)
        q, k, v = rotated(split(a, heads)), repeated(rotated(split(a, 2))), repeated(split(a, 2))
        scores = g.op("Mul", n.op("MatMul", q, g.op("Transpose", k, perm=[0, 1, 3, 2])), f32(0.5))
        past = g.op("Trilu", g.const(np.full((LENGTH, LENGTH), -1e9, np.float32)), np.int64(1), upper=1)
        y = n.op("MatMul", n.op("Softmax", g.op("Add", scores, past), axis=-1), v)
        y = n.q(g.op("Reshape", n.op("Transpose", y, perm=[0, 2, 1, 3]), i64(0, 0, width)))
        x = n.op("Add", x, n.op("MatMul", y, n.weights(width, width, fan=width, axis=1)))
        a = rms(x)
        gate, up = (n.op("MatMul", a, n.weights(width, 6, fan=width, axis=1)) for _ in range(2))
        x = n.op("Add", x, n.op("MatMul", n.op("Mul", n.silu(gate), up), n.weights(6, width, fan=6, axis=1)))
        last = g.op("Gather", rms(x), i64(-1), axis=1)
        # The table of the words is the last layer, too.
        g.out(n.op("MatMul", last, g.op("Transpose", words, perm=[1, 0])))
