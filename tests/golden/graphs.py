"""The parts that golden graphs are built from: recipes of arrays, graphs under construction, the list of cases."""

import zlib

import numpy as np
from onnx import TensorProto, helper, numpy_helper

CASES = {}


# Where the numbers of a case come from: functions of its generator.


def reals(*shape, scale=1.0, offset=0.0):
    """Normally distributed float32."""
    return lambda rng: (rng.standard_normal(shape) * scale + offset).astype(np.float32)


def positive(*shape):
    """Uniform float32 in 0.5 to 2."""
    return lambda rng: rng.uniform(0.5, 2.0, shape).astype(np.float32)


def integers(dtype, *shape, low=None, high=None):
    """Uniform integers, over the whole range of `dtype` unless bounds are given (`high` excluded)."""
    info = np.iinfo(dtype)
    low, high = info.min if low is None else low, info.max + 1 if high is None else high
    return lambda rng: rng.integers(low, high, shape).astype(dtype)


def i8(*shape):
    """Uniform int8."""
    return integers(np.int8, *shape)


def u8(*shape):
    """Uniform uint8."""
    return integers(np.uint8, *shape)


def booleans(*shape):
    """Random booleans."""
    return lambda rng: rng.integers(0, 2, shape).astype(bool)


def f32(value):
    """The given numbers as float32."""
    return np.asarray(value, np.float32)


def i64(*values):
    """The given numbers as a vector of int64."""
    return np.array(values, np.int64)


class Const:
    """Marks an argument of `one` as an initialiser instead of a graph input."""

    def __init__(self, value):
        self.value = value


class Graph:
    """A graph under construction, with the arrays to feed to it."""

    def __init__(self, name, opset):
        self.name, self.opset = name, opset
        self.rng = np.random.default_rng(zlib.crc32(name.encode()))
        self.nodes, self.feeds, self.initialisers, self.outputs = [], {}, {}, []
        self.expected, self.defaults, self.ir_version = {}, {}, None
        # Whether the outputs are those of onnx's own evaluator: ONNX Runtime does not run the graph.
        self.reference = False
        self.padded = {}
        self.count = 0

    def fresh(self, prefix):
        """A name that no value has yet."""
        self.count += 1
        return f"{prefix}{self.count}"

    def array(self, value):
        """The array that a recipe or a literal stands for."""
        return np.asarray(value(self.rng) if callable(value) else value)

    def input(self, name, value):
        """Add a graph input."""
        self.feeds[name] = self.array(value)
        return name

    def default(self, name, value, given=None):
        """Add a graph input with a default, and the value that is given for it, if there is one."""
        self.defaults[name] = self.array(value)
        if given is not None:
            self.feeds[name] = self.array(given)
        return name

    def const(self, value, name=None):
        """Add an initialiser."""
        name = name or self.fresh("c")
        self.initialisers[name] = self.array(value)
        return name

    def body(self, inputs=0):
        """A subgraph with so many inputs, to be handed to `op` as an attribute."""
        return Body(self, inputs)

    def op(self, kind, *inputs, outputs=1, name=None, **attributes):
        """Add a node; inputs are names, literals (which become initialisers), or None for an absent one; outputs are as
        many as said, or those named."""
        inputs = ["" if i is None else i if isinstance(i, str) else self.const(i) for i in inputs]
        attributes = {k: v.proto() if isinstance(v, Body) else v for k, v in attributes.items()}
        if not isinstance(outputs, list):
            outputs = [self.fresh(kind + "_") for _ in range(outputs)]
        names = [name] if name else outputs
        self.nodes.append(helper.make_node(kind, inputs, names, name=names[0], **attributes))
        return names[0] if len(names) == 1 else names

    def q(self, x, scale, zero, **attributes):
        """QuantizeLinear."""
        return self.op("QuantizeLinear", x, f32(scale), zero, **attributes)

    def dq(self, x, scale, zero=None, **attributes):
        """DequantizeLinear."""
        return self.op("DequantizeLinear", x, f32(scale), zero, **attributes)

    def qdq(self, x, scale, zero, **attributes):
        """QuantizeLinear and DequantizeLinear."""
        return self.dq(self.q(x, scale, zero, **attributes), scale, zero, **attributes)

    def weights(self, recipe, scale, zero=None, **attributes):
        """Dequantised constant weights."""
        return self.dq(self.const(recipe), scale, zero, **attributes)

    def out(self, *names):
        """Mark values as graph outputs."""
        self.outputs += names

    def expect(self, name, value):
        """Mark a value as a graph output, and say what it is: by the operator's text, of what ONNX Runtime does not run."""
        self.out(name)
        self.expected[name] = value

    def pad(self, name, rows):
        """Mark a value as a graph output that here has `rows` rows, those behind ONNX Runtime's filled with -1."""
        self.out(name)
        self.padded[name] = rows

    def model(self, outputs):
        """The model with the given declarations of its outputs."""
        declared = self.feeds | self.defaults
        inputs = [helper.make_tensor_value_info(k, dtype_of(v), v.shape) for k, v in declared.items()]
        constants = [numpy_helper.from_array(v, k) for k, v in (self.initialisers | self.defaults).items()]
        graph = helper.make_graph(self.nodes, self.name, inputs, outputs, constants)
        domains = {node.domain for node in self.nodes} - {""}
        opsets = [helper.make_opsetid("", self.opset), *(helper.make_opsetid(d, 1) for d in sorted(domains))]
        version = self.ir_version or (8 if self.opset < 20 else 10 if self.opset < 23 else 11)
        return helper.make_model(graph, opset_imports=opsets, ir_version=version)


class Body(Graph):
    """A subgraph under construction; names of the graphs around it may be used in it."""

    def __init__(self, outer, inputs):
        self.outer, self.rng = outer, outer.rng
        self.nodes, self.initialisers, self.outputs = [], {}, []
        self.inputs = [self.fresh("in") for _ in range(inputs)]
        self.scalars = {}

    def fresh(self, prefix):
        """A name that no value has yet, here or in the graphs around."""
        return self.outer.fresh(prefix)

    def proto(self):
        """The subgraph. What `scalars` does not name has the type and shape that follow from the node that has it."""

        def info(name):
            kind = self.scalars.get(name)
            return helper.make_tensor_value_info(name, kind, []) if kind else helper.make_empty_tensor_value_info(name)

        constants = [numpy_helper.from_array(v, k) for k, v in self.initialisers.items()]
        inputs, outputs = map(info, self.inputs), map(info, self.outputs)
        return helper.make_graph(self.nodes, self.fresh("body"), list(inputs), list(outputs), constants)


def dtype_of(array):
    """ONNX's number of an array's type."""
    return helper.np_dtype_to_tensor_dtype(array.dtype)


def case(name, opset=17, **parameters):
    """Register a function that builds a graph, once for this name; parameters are passed on."""

    def register(build):
        assert name not in CASES, name
        CASES[name] = (build, opset, parameters)
        return build

    return register


def node(kind, *inputs, outputs=1, **attributes):
    """A node for `several`. Inputs are recipes or arrays; `Const` and None as their names say."""
    return kind, inputs, outputs, attributes


def several(name, nodes, opset=17, reference=False):
    """Register a graph of nodes that have nothing to do with each other; with `reference` its outputs are those of onnx's own
    evaluator."""

    def build(g):
        g.reference = reference
        for kind, inputs, outputs, attributes in nodes:
            names = []
            for value in inputs:
                if isinstance(value, Const):
                    names.append(g.const(value.value))
                else:
                    names.append(None if value is None else g.input(g.fresh("x"), value))
            result = g.op(kind, *names, outputs=outputs, **attributes)
            g.out(*(result if isinstance(result, list) else [result]))

    case(name, opset)(build)


def one(name, kind, *inputs, opset=17, outputs=1, **attributes):
    """Register a graph of one node."""
    several(name, [node(kind, *inputs, outputs=outputs, **attributes)], opset)


def sharing(name, nodes, opset=17, reference=False):
    """As `several`, in fewer and shorter vectors: a recipe or array of several nodes is one input, and names are short."""

    def build(g):
        g.reference = reference
        given = {}
        for kind, inputs, outputs, attributes in nodes:
            names = []
            for value in inputs:
                if value is not None and id(value) not in given:
                    const = isinstance(value, Const)
                    given[id(value)] = g.const(value.value) if const else g.input(g.fresh("x"), value)
                names.append(given.get(id(value)))
            results = [g.fresh("y") for _ in range(outputs)]
            g.op(kind, *names, outputs=results, **attributes)
            g.out(*results)

    case(name, opset)(build)


def scan(g, body, states, scanned, outputs, **attributes):
    """A node `Scan` with its first states and what it scans; its outputs as a list. ONNX Runtime gives zeros where a
    body's output has the name of another one, so that bodies have an Identity there."""
    names = g.op("Scan", *states, *scanned, outputs=outputs, body=body, num_scan_inputs=len(scanned), **attributes)
    return names if isinstance(names, list) else [names]


def loop(g, body, trips, *carried, condition=None, outputs=1):
    """A node `Loop`: the number of trips (None for no limit), and what is carried; its outputs as a list."""
    trips = np.int64(trips) if isinstance(trips, int) else trips
    body.scalars |= {body.inputs[0]: TensorProto.INT64, body.inputs[1]: TensorProto.BOOL}
    names = g.op("Loop", trips, condition, *carried, outputs=outputs, body=body)
    return names if isinstance(names, list) else [names]


def go_on(body, condition=None):
    """What a loop's body gives first: whether to go on, as it was told unless a condition is given."""
    body.out(condition or body.op("Identity", body.inputs[1]))
