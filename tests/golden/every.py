"""Every operator, at every change of its meaning from operator set 7 on, of every element type that its main operand takes.

A *sample* is a model of one node (or of a few, where it cannot stand alone), built by the operator's recipe. `onnx` says which
versions an operator has and which types each takes. A sample of the type `qdq_int8` (`qdq_uint8`, `qdq_int16`) has its operands behind
DequantizeLinear and its results before QuantizeLinear; the sample `step` is its first node alone, with everything on one grid: what the documents say of the
operator between quantised tensors.

What ONNX Runtime runs has its outputs. Where it has no kernel for any type of a version, onnx's own evaluator gives them, and
for bfloat16, if of floats the two agree.
What is left has none: the test takes from it only whether the type is read, and the maker prints it.
"""

import collections
import zlib

import ml_dtypes
import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnxruntime.capi import onnxruntime_pybind11_state as ort

from graphs import Const, Graph, f32

OLDEST = 7
# ONNX Runtime 1.32 has no DequantizeLinear of this version.
NO_QDQ = 28
# ONNX's names of the element types of samples. Strings, complex numbers, and numbers of fewer bits are not among them.
TYPES = {
    "float": np.float32,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "double": np.float64,
    "int8": np.int8,
    "uint8": np.uint8,
    "int16": np.int16,
    "uint16": np.uint16,
    "int32": np.int32,
    "uint32": np.uint32,
    "int64": np.int64,
    "uint64": np.uint64,
    "bool": np.bool_,
}
REALS = list(TYPES)[:4]
# The types that operands and results are quantised to.
GRIDS = np.int8, np.uint8, np.int16
CONTRIB = "com.microsoft"
# Recipes by domain and operator, each with the variable of its main operand's type (None: the first input's).
RECIPES = {}


def recipe(names, main=None, domain=""):
    """Register the function that builds samples of these operators."""

    def register(build):
        for name in names.split():
            assert (domain, name) not in RECIPES, name
            RECIPES[domain, name] = build, main
        return build

    return register


class Weights(Const):
    """An initialiser that a sample `qdq` dequantises."""


class Sample(Graph):
    """A model of one operator under construction."""

    def __init__(self, domain, kind, version, dtype, quantised=None, grid=np.int8, alone=False):
        super().__init__(kind, OLDEST if domain else max(version, OLDEST))
        if domain:
            self.opset = 21
        self.domain, self.kind, self.version, self.dtype = domain, kind, version, TYPES.get(dtype)
        # Of a sample `qdq`, which outputs are quantised.
        self.quantised = quantised
        # Their type, and its zero in the middle.
        self.grid, self.middle = grid, 128 if grid is np.uint8 else 0
        # Whether only its first node counts.
        self.alone = alone
        # Equal inputs make small vectors.
        self.rng = np.random.default_rng(zlib.crc32(b"every"))

    # Values of the element type.

    @property
    def is_real(self):
        """Whether the type is one of floats."""
        return self.dtype in [TYPES[t] for t in REALS]

    def tame(self, *shape):
        """Small numbers of both signs, 0 among them; of few digits, so that they are the same in every type of floats."""
        n = int(np.prod(shape))
        values = np.array([0, 1, -3, 2, -1, 4, -5, 3, -2, 6, 5, -4, -6])
        values = np.resize(np.roll(values, -(n % 5)), n).reshape(shape)
        if self.is_real:
            return (values / 4).astype(self.dtype)
        return (values > 0 if self.dtype is np.bool_ else values if np.iinfo(self.dtype).min else abs(values)).astype(self.dtype)

    def wild(self, *shape):
        """As `tame`, but integers reach to the ends of their type (of 64 bits without a sign, of 63: a plan has no more)."""
        if self.is_real or self.dtype is np.bool_:
            return self.tame(*shape)
        info = np.iinfo(self.dtype)
        low, high = int(info.min), int(info.max) >> (self.dtype is np.uint64)
        values = np.array([high, low, 1, 0, high // 3 * 2, low // 5 * 3, 7, high - 1], self.dtype)
        return np.resize(values, int(np.prod(shape))).reshape(shape)

    def positive(self, *shape):
        """Numbers from 1/2 on, or integers from 1 on."""
        values = np.resize(np.arange(2, 9), int(np.prod(shape))).reshape(shape)
        if self.is_real:
            return (values / 4).astype(self.dtype)
        return np.ones(shape, bool) if self.dtype is np.bool_ else (values - 1).astype(self.dtype)

    def inside(self, *shape):
        """Numbers within −1 and 1."""
        values = np.resize(np.arange(-7, 8, 2), int(np.prod(shape))).reshape(shape)
        return (values / 8).astype(self.dtype)

    # Nodes.

    def give(self, value):
        """The name of an operand."""
        if value is None or isinstance(value, str):
            return value
        quantise = self.quantised is not None and isinstance(value, (np.ndarray, Weights))
        const = isinstance(value, Const)
        value = np.asarray(value.value if const else value)
        add = (lambda v: self.const(v)) if const else (lambda v: self.input(self.fresh("x"), v))
        if quantise and value.dtype == np.float32 and np.isfinite(value).all():
            info, zero = np.iinfo(self.grid), self.middle + 3
            q = np.clip(np.round(value / f32(0.0213)) + zero, info.min, info.max).astype(self.grid)
            return self.dq(add(q), 0.0213, self.grid(zero))
        return add(value)

    def made(self, *inputs, outputs=1, kind=None, **attributes):
        """A node with its operands, not an output."""
        if self.domain:
            attributes["domain"] = self.domain
        return self.op(kind or self.kind, *map(self.give, inputs), outputs=outputs, **attributes)

    def run(self, *inputs, **how):
        """A node with its operands, whose results are outputs."""
        if self.alone and self.outputs:
            return
        names = self.made(*inputs, **how)
        self.result(*([names] if isinstance(names, str) else names))

    def result(self, *names):
        """Mark outputs, quantised where that is wanted."""
        for name in names:
            if self.quantised and len(self.outputs) in self.quantised:
                scale, zero = (0.0213, 3) if self.alone else (0.0531, -3)
                name = self.q(name, scale, self.grid(self.middle + zero))
            self.out(name)


def schemas():
    """Of each operator by domain and name its schemas by version."""
    found = collections.defaultdict(dict)
    for s in onnx.defs.get_all_schemas_with_history():
        if s.domain == "" and not s.deprecated:
            found["", s.name][s.since_version] = (
                {t.type_param_str: set(t.allowed_type_strs) for t in s.type_constraints},
                [i.type_str for i in s.inputs],
            )
    for s in ort.get_all_operator_schema():
        if s.domain == CONTRIB or (s.domain == "" and s.name == "SimplifiedLayerNormalization"):
            found[s.domain, s.name][s.since_version] = (
                {t.type_param_str: set(t.allowed_type_strs) for t in s.type_constraints},
                [i.typeStr for i in s.inputs],
            )
    return found


def versions(by_version):
    """The versions that some operator set from the oldest on has."""
    old = [v for v in by_version if v <= OLDEST]
    return sorted(([max(old)] if old else []) + [v for v in by_version if v > OLDEST])


def types(schema, main):
    """The element types of a version's main operand; `-` if it has none to choose from."""
    constraints, inputs = schema
    allowed = constraints.get(main or (inputs[0] if inputs else None))
    found = [t for t in TYPES if allowed and {f"tensor({t})", f"seq(tensor({t}))", f"optional(tensor({t}))"} & allowed]
    return found or ["-"]


def build(key, version, dtype, quantised=None, grid=np.int8, alone=False):
    """The sample of an operator's version and type."""
    g = Sample(*key, version, dtype, quantised, grid, alone)
    if quantised is not None:
        # The first operator set with both of them, of this type.
        g.opset = max(g.opset, 21 if grid is np.int16 else 10)
    RECIPES[key][0](g)
    return g


def by_reference(g):
    """The outputs of onnx's own evaluator."""
    model = g.model([onnx.helper.make_empty_tensor_value_info(o) for o in g.outputs])
    return dict(zip(g.outputs, (np.asarray(v, order="C") for v in ReferenceEvaluator(model).run(g.outputs, g.feeds))))


def attempt(evaluate, g):
    """Outputs and no complaint, or the reverse."""
    try:
        with np.errstate(all="ignore"):
            return evaluate(g), None
    except Exception as error:  # Whatever it is, there is no kernel that runs this.
        said = str(error).splitlines()[0]
        return None, "no kernel" if "Could not find an implementation" in said or "Failed to find kernel" in said else said


def agree(a, b):
    """Whether both evaluators have outputs, and the same: onnx's own has faults."""
    return bool(a and b) and all(x.shape == y.shape and np.allclose(x, y, 1e-5, 1e-6, True) for x, y in zip(a.values(), b.values()))


def samples(evaluate):
    """All samples: yields name, graph, and outputs (None if nothing computes them) or the complaint in their place."""
    known = schemas()
    for key in RECIPES:
        name, of_floats, quantised = ".".join(filter(None, key)), None, None
        for version in versions(known[key]):
            made = {t: build(key, version, t) for t in types(known[key][version], RECIPES[key][1])}
            done = {t: attempt(evaluate, g) for t, g in made.items()}
            if all(outputs is None for outputs, _ in done.values()):
                done = {t: (attempt(by_reference, g)[0], done[t][1]) for t, g in made.items()}
            elif version < NO_QDQ and done.get("float", (None,))[0]:
                quantised = version
            if done.get("float", (None,))[0]:
                of_floats = version, [i for i, v in enumerate(done["float"][0].values()) if v.dtype == np.float32]
            # ONNX Runtime's Python has no arrays of bfloat16.
            lacks = "bfloat16" in made and done["bfloat16"][0] is None
            if lacks and agree(done["float"][0], attempt(by_reference, made["float"])[0]):
                done["bfloat16"] = attempt(by_reference, made["bfloat16"])
            for t, g in made.items():
                yield f"{name}/{version}/{t}", g, *done[t]
        if quantised:
            # The newest version that ONNX Runtime runs.
            for grid in GRIDS:
                g = build(key, quantised, "float", of_floats[1], grid)
                yield f"{name}/{quantised}/qdq_{grid.__name__}", g, *attempt(evaluate, g)
        if of_floats:
            version, reals = of_floats
            yield f"{name}/{version}/step", build(key, version, "float", reals, alone=True), None, None


def storable(array):
    """The array in the type that a plan has it in."""
    wider = {"uint32": np.int64, "uint64": np.int64} | {t: np.float32 for t in REALS}
    name = "double" if array.dtype == np.float64 else array.dtype.name
    return array.astype(wider.get(name, array.dtype))


def report(missing):
    """Print what has no outputs: by operator and complaint the versions with their types."""
    lines = collections.defaultdict(list)
    for name, complaint in filter(lambda entry: entry[1], missing):
        operator, version, dtype = name.split("/")
        lines[operator, complaint].append(f"{version}:{dtype}")
    for (operator, complaint), which in lines.items():
        print(f"  {operator} {' '.join(which)}: {complaint[:160]}")
