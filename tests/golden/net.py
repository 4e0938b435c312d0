"""Small networks under construction: layers in floats or quantised, with scales that no value is a tie of."""

import numpy as np
import onnxruntime
from onnx import helper

from graphs import case, f32, integers, reals


def calibrated(g, x):
    """Scale and zero point of int8 for the values that `x` has with the graph's inputs: the least scale of odd ten-thousandths
    that has room for them and with which none is so nearly half way between two bytes that floats decide."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    model = g.model([helper.make_empty_tensor_value_info(x)])
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    values = session.run([x], g.feeds)[0].astype(np.float64)
    low, high = min(values.min(), 0), max(values.max(), 0)
    steps = round((high - low) / 255 * 5000)
    while np.abs(values / ((2 * steps + 1) / 10000) % 1 - 0.5).min() < 5e-5:
        steps += 1
    scale = (2 * steps + 1) / 10000
    return scale, np.int8(np.clip(round(-128 - low / scale), -128, 127))


class Net:
    """Layers of a graph under construction, in floats or quantised."""

    def __init__(self, g, quantised):
        self.g, self.quantised = g, quantised

    def q(self, x):
        """What the quantiser puts behind an operator."""
        return self.g.qdq(x, *calibrated(self.g, x)) if self.quantised else x

    def op(self, kind, *inputs, **attributes):
        """An operator with one output that is quantised."""
        return self.q(self.g.op(kind, *inputs, **attributes))

    def weights(self, *shape, fan, axis=0):
        """Weights that leave the variance as it is, with a scale for each slice of `axis` if they are bytes."""
        if not self.quantised:
            return self.g.const(reals(*shape, scale=fan**-0.5))
        unit = int(10000 / 73 * fan**-0.5)
        steps = self.g.array(integers(np.int64, shape[axis], low=unit // 3, high=3 * unit // 4 + 1))
        zero = np.zeros(shape[axis], np.int8)
        recipe = integers(np.int8, *shape, low=-127, high=128)
        return self.g.op("DequantizeLinear", self.g.const(recipe), f32((2 * steps + 1) / 10000), zero, axis=axis)

    def bias(self, x, weights, outputs):
        """A bias of 32 bits in units of the products of `x` and the weights, if they are bytes."""
        if not self.quantised:
            return self.g.const(reals(outputs, scale=0.2))
        quantised = {node.output[0]: node for node in self.g.nodes if node.op_type == "DequantizeLinear"}
        a, b = (self.g.initialisers[quantised[name].input[1]] for name in (x, weights))
        units = np.broadcast_to(a * b, outputs)
        values = np.round(self.g.array(reals(outputs, scale=0.2)) / units).astype(np.int32)
        return self.g.op("DequantizeLinear", values, units, np.zeros(outputs, np.int32), axis=0)

    def conv(self, x, inputs, outputs, kernel, **attributes):
        """A convolution of a picture that keeps its size but for strides."""
        w = self.weights(outputs, inputs, kernel, kernel, fan=inputs * kernel**2)
        return self.g.op("Conv", x, w, self.bias(x, w, outputs), pads=[kernel // 2] * 4, **attributes)

    def linear(self, x, inputs, outputs):
        """MatMul and Add."""
        y = self.op("MatMul", x, self.weights(inputs, outputs, fan=inputs, axis=1))
        return self.op("Add", y, self.g.const(reals(outputs, scale=0.2)))

    def silu(self, x):
        """Sigmoid and Mul."""
        return self.op("Mul", x, self.op("Sigmoid", x))


def both(name, opset=17):
    """Register a network in floats and quantised."""

    def register(build):
        for quantised in (False, True):
            full = f"net_{name}_qdq" if quantised else f"net_{name}"
            case(full, opset, quantised=quantised)(lambda g, quantised: build(Net(g, quantised)))
        return build

    return register
