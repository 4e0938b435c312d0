"""`LSTM`, `GRU` and `RNN`: directions, states, lengths, peepholes, bounds and functions, in floats and with weights of bytes."""

import numpy as np

from graphs import case, i8, reals

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
TIME, BATCH, INPUT, HIDDEN = 5, 3, 4, 6


def operands(g, kind, directions, parts="", time=TIME, batch=BATCH, hidden=HIDDEN, first=False):
    """Operands of a node: X an input, weights constant. `parts` names those that may be absent: b(ias), l(engths), h, c, p(eepholes)."""
    gates = GATES[kind] * hidden
    states = (batch, directions, hidden) if first else (directions, batch, hidden)
    lengths = ((np.arange(batch) + 1) * 2 % (time + 1)).astype(np.int32)
    inputs = [
        g.input("x", reals(batch, time, INPUT) if first else reals(time, batch, INPUT)),
        g.const(reals(directions, gates, INPUT, scale=0.5)),
        g.const(reals(directions, gates, hidden, scale=0.5)),
        g.const(reals(directions, 2 * gates, scale=0.5)) if "b" in parts else None,
        g.const(lengths) if "l" in parts else g.input("lengths", lengths) if "L" in parts else None,
        g.input("h", reals(*states)) if "h" in parts else None,
    ]
    if kind == "LSTM":
        inputs.append(g.input("c", reals(*states)) if "c" in parts else None)
        inputs.append(g.const(reals(directions, 3 * hidden, scale=0.5)) if "p" in parts else None)
    return inputs


def layer(name, kind, parts="", opset=14, direction="forward", given=None, **attributes):
    """Register a node with all its outputs, or those that are given (`y`, `h`, `c`)."""
    directions = 2 if direction == "bidirectional" else 1
    extents = {k: attributes.pop(k) for k in ("time", "batch", "hidden") if k in attributes}

    @case(name, opset)
    def _(g):
        first = attributes.get("layout", 0) == 1
        inputs = operands(g, kind, directions, parts, first=first, **extents)
        every = "yhc" if kind == "LSTM" else "yh"
        kept = every if given is None else given
        hidden = extents.get("hidden", HIDDEN)
        names = g.op(kind, *inputs, outputs=len(every), hidden_size=hidden, direction=direction, **attributes)
        node = g.nodes[-1]
        for i, letter in enumerate(every):
            if letter not in kept:
                node.output[i] = ""
        g.out(*(n for n, letter in zip(names, every) if letter in kept))


def clipped(x, w, r, b, h, c, p, clip):
    """The outputs of an LSTM with bounds, by the operator's text: what goes into every function is clipped. ONNX Runtime leaves out
    the one of the cell (its issue 27224)."""
    sigmoid, bounded = (lambda v: 1 / (1 + np.exp(-v))), (lambda v: np.clip(v, -clip, clip))
    (pi, po, pf), frames = np.split(p, 3), []
    for frame in x.astype(np.float64):
        gates = frame @ w.T + h @ r.T + np.add(*np.split(b, 2))
        i, o, f, u = np.split(gates, 4, axis=1)
        c = sigmoid(bounded(f + pf * c)) * c + sigmoid(bounded(i + pi * c)) * np.tanh(bounded(u))
        h = sigmoid(bounded(o + po * c)) * np.tanh(bounded(c))
        frames.append(h)
    return [v.astype(np.float32) for v in (np.stack(frames)[:, None], h[None], c[None])]


def recurrent():
    """Cases of one set."""
    for kind in GATES:
        low = kind.lower()
        for direction in ("forward", "reverse", "bidirectional"):
            layer(f"{low}_{direction}", kind, "bhc", direction=direction)
            layer(f"{low}_{direction}_lengths", kind, "blhc", direction=direction)
        layer(f"{low}_plain_7", kind, opset=7)
        layer(f"{low}_22", kind, "bLh", opset=22, direction="bidirectional")
        layer(f"{low}_one_sequence", kind, "b", batch=1, hidden=5, direction="bidirectional")
        layer(f"{low}_one_frame", kind, "bhc", time=1)
        if kind != "LSTM":
            layer(f"{low}_clip", kind, "bh", clip=0.3)
        layer(f"{low}_last_alone", kind, "b", given="h")
        layer(f"{low}_frames_alone", kind, "b", given="y")
    for direction in ("forward", "bidirectional"):
        layer(f"lstm_peepholes_{direction}", "LSTM", "bhcp", direction=direction)
        layer(f"gru_linear_{direction}", "GRU", "bh", direction=direction, linear_before_reset=1)
    layer("gru_linear_plain", "GRU", "h", linear_before_reset=1)
    layer("lstm_input_forget", "LSTM", "bhcp", input_forget=1)
    layer("lstm_cell_alone", "LSTM", "bhc", given="c")
    layer("lstm_relu", "LSTM", "bhc", activations=["HardSigmoid", "Relu", "Softsign"], activation_alpha=[0.3], activation_beta=[0.4])
    layer("lstm_affine", "LSTM", "b", activations=["Sigmoid", "Affine", "Tanh"], activation_alpha=[0.7], activation_beta=[0.1])
    both = ["Sigmoid", "Elu", "LeakyRelu", "HardSigmoid", "Tanh", "Softplus"]
    layer("lstm_six", "LSTM", "bh", direction="bidirectional", activations=both, activation_alpha=[0.4, 0.2, 0.25], activation_beta=[0.45])
    layer("gru_functions", "GRU", "bh", activations=["HardSigmoid", "LeakyRelu"], activation_alpha=[0.25, 0.1], activation_beta=[0.5])
    for function in ("Relu", "Softsign", "LeakyRelu", "Elu", "Softplus"):
        more = {"activation_alpha": [0.2]} if function in ("LeakyRelu", "Elu") else {}
        layer(f"rnn_{function.lower()}", "RNN", "b", activations=[function], **more)

    @case("lstm_clip", 14)
    def _(g):
        inputs = operands(g, "LSTM", 1, "bhcp")
        x, w, r, b, _, h, c, p = [None if n is None else (g.feeds | g.initialisers)[n] for n in inputs]
        names = g.op("LSTM", *inputs, outputs=3, hidden_size=HIDDEN, clip=0.3)
        for name, value in zip(names, clipped(x, w[0], r[0], b[0], h[0], c[0], p[0], 0.3)):
            g.expect(name, value)

    for kind, gates in GATES.items():

        @case(f"{kind.lower()}_bytes", 17, kind=kind, gates=gates)
        def _(g, kind, gates):
            x = g.input("x", reals(TIME, BATCH, INPUT))
            scales = np.linspace(0.003, 0.009, gates * HIDDEN)
            w = g.weights(i8(1, gates * HIDDEN, INPUT), scales, np.zeros(gates * HIDDEN, np.int8), axis=1)
            r = g.weights(i8(1, gates * HIDDEN, HIDDEN), 0.0042)
            y, h = g.op(kind, x, w, r, g.const(reals(1, 2 * gates * HIDDEN)), outputs=2, hidden_size=HIDDEN)
            g.out(y, h)

        @case(f"{kind.lower()}_two_bytes", 17, kind=kind, gates=gates)
        def _(g, kind, gates):
            x = g.input("x", reals(TIME, BATCH, INPUT))
            w = g.weights(i8(2, gates * HIDDEN, INPUT), [0.0051, 0.0073], np.zeros(2, np.int8), axis=0)
            r = g.weights(i8(2, gates * HIDDEN, HIDDEN), [0.0043, 0.0061], np.zeros(2, np.int8), axis=0)
            y, h = g.op(kind, x, w, r, outputs=2, hidden_size=HIDDEN, direction="bidirectional")
            g.out(y, h)

    @case("lstm_computed_weights", 14)
    def _(g):
        w, r = g.input("w", reals(1, 4 * HIDDEN, INPUT)), g.input("r", reals(1, 4 * HIDDEN, HIDDEN))
        b, p = g.input("b", reals(1, 8 * HIDDEN)), g.input("p", reals(1, 3 * HIDDEN))
        x = g.input("x", reals(TIME, BATCH, INPUT))
        g.out(*g.op("LSTM", x, w, r, b, None, None, None, p, outputs=3, hidden_size=HIDDEN))

    @case("gru_computed_weights", 14)
    def _(g):
        w, r = g.input("w", reals(1, 3 * HIDDEN, INPUT)), g.input("r", reals(1, 3 * HIDDEN, HIDDEN))
        b, x = g.input("b", reals(1, 6 * HIDDEN)), g.input("x", reals(TIME, BATCH, INPUT))
        g.out(*g.op("GRU", x, w, r, b, outputs=2, hidden_size=HIDDEN, linear_before_reset=1))
