"""The models of the race: the zoo's, MLPerf Tiny's where they are there, and what a call costs."""

import filecmp
import glob
import logging
import os
import shutil
import subprocess

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
CACHE = os.path.join(HERE, ".cache")
KINGLET = os.path.join(ROOT, "target/release/kinglet")

# One model of every family, at full size. Where a recurrence can be written in several forms, those that peers like best: not
# every peer has `Scan`, and what they have runs faster written out. Kinglet gives all forms the same steps.
ZOO = {
    "vanillanet-5": [""],
    "poolformer-s12": [""],
    "identityformer-s12": [""],
    "randformer-s12": [""],
    "poolformerv2-s12": [""],
    "convformer-s18": [""],
    "caformer-s18": [""],
    "dwformer": [""],
    "dwformer-spatial": [""],
    "mpgnet-t": [""],
    "mpgnet-p": [""],
    "lmuformer": ["scan", "conv"],
    "slmuformer": ["scan", "unrolled"],
    "netmamba": ["scan", "unrolled"],
}
TINY = ["ad01_int8", "kws_ref_model", "pretrainedResnet_quant", "str_ww_ref_model", "vww_96_int8"]
QUICK = ["relu-1", "poolformer-s12", "lmuformer", "kws_ref_model", "pretrainedResnet_quant", "vww_96_int8"]
# As they come in the tables.
ORDER = ["relu-1", *TINY, *ZOO]
# The quantiser takes more than ten minutes for these: they have thousands of nodes.
NOT_QUANTISED = {"unrolled"}
CALIBRATION_INPUTS = 4


class Model:
    """A file in a precision, with inputs."""

    def __init__(self, name, form, precision, path, tflite=None, values=None):
        self.name, self.form, self.precision, self.path, self.tflite = name, form, precision, path, tflite
        graph = onnx.load(path, load_external_data=False).graph
        weights = {t.name for t in graph.initializer}
        self.inputs = [(i.name, *declared(i)) for i in graph.input if i.name not in weights]
        self.outputs = [o.name for o in graph.output]
        self.values = values or random_inputs(self.inputs, seed=1)

    def title(self):
        return f"{self.name}, {self.form}" if self.form else self.name


def declared(value):
    """Type and shape of a graph's input."""
    tensor = value.type.tensor_type
    return helper.tensor_dtype_to_np_dtype(tensor.elem_type).name, [d.dim_value for d in tensor.shape.dim]


def random_inputs(inputs, seed):
    rng = np.random.default_rng(seed)
    return {name: rng.uniform(-1, 1, shape).astype(dtype) for name, dtype, shape in inputs}


def every(names, precisions):
    """The models, one after the other; each is made when its turn comes."""
    os.makedirs(CACHE, exist_ok=True)
    unknown = [name for name in names if name not in ORDER]
    if unknown:
        raise SystemExit(f"no model {', '.join(unknown)}; there are {', '.join(ORDER)}")
    for name in [name for name in ORDER if name in (names or ORDER)]:
        if name == "relu-1" and "f32" in precisions:
            yield one_relu()
        if name in TINY and "int8" in precisions:
            yield from mlperf_tiny(name)
        for precision in precisions if name in ZOO else []:
            for form in ZOO[name]:
                if precision == "f32" or form not in NOT_QUANTISED:
                    yield zoo(name, form, precision)


def one_relu():
    """As good as nothing to compute: what a call of each peer costs."""
    port = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [port("x")], [port("y")])
    path = os.path.join(CACHE, "relu-1.onnx")
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return Model("relu-1", "", "f32", path, values={"x": np.ones((1, 1), np.float32)})


def mlperf_tiny(name):
    """A trained model of MLPerf Tiny, with its batch bound to 1; nothing, where the folder is missing."""
    shared = os.environ.get("KINGLET_SHARED") or os.path.join(ROOT, "../shared")
    folder = os.path.join(os.path.abspath(shared), "mlperf-tiny")
    source = os.path.join(folder, name)
    if not os.path.exists(source + ".onnx"):
        print(f"{name} is left out: it is not in {folder}")
        return
    model = onnx.load(source + ".onnx")
    # What the file says of tensors in between has symbols of its own for the batch.
    del model.graph.value_info[:]
    for value in [*model.graph.input, *model.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    path = os.path.join(CACHE, name + ".onnx")
    write_if_new(path, lambda to: onnx.save(model, to))
    samples = np.load(source + "_vectors.npz")["inputs"]
    values = {model.graph.input[0].name: np.ascontiguousarray(samples[:1])}
    tflite = source + ".tflite" if os.path.exists(source + ".tflite") else None
    yield Model(name, "", "int8", path, tflite, values)


def zoo(name, form, precision):
    path = os.path.join(CACHE, f"{name}{'-' + form if form else ''}.onnx")
    command = [KINGLET, "zoo", name, *(["--form", form] if form else []), "--output"]

    def write(to):
        subprocess.run([*command, to], check=True, stdout=subprocess.DEVNULL)
        # Written once more by protobuf's own library: rten reads lists of integers in no other encoding.
        onnx.save(onnx.load(to), to)

    write_if_new(path, write)
    if precision == "int8":
        quantised = path.replace(".onnx", ".int8.onnx")
        if not os.path.exists(quantised):
            quantise(path, quantised)
        path = quantised
    return Model(name, form, precision, path)


def write_if_new(path, write):
    """Keeps the file, and what was made from it, if it would be the same."""
    fresh = path + ".tmp"
    write(fresh)
    if os.path.exists(path) and filecmp.cmp(path, fresh, shallow=False):
        os.remove(fresh)
        return
    for made in glob.glob(path.removesuffix(".onnx") + ".*"):
        if os.path.isdir(made):
            shutil.rmtree(made)
        elif made != fresh:
            os.remove(made)
    os.rename(fresh, path)


class Calibration(CalibrationDataReader):
    """Seeded inputs for the quantiser."""

    def __init__(self, inputs):
        self.rest = iter([random_inputs(inputs, seed=100 + i) for i in range(CALIBRATION_INPUTS)])

    def get_next(self):
        return next(self.rest, None)


def quantise(path, to):
    """ONNX Runtime's static quantiser: QDQ, every operator it knows, weights by channel, all of them int8."""
    print(f"quantising {os.path.basename(path)}", flush=True)
    # It warns of every bias that has no channels.
    logging.getLogger().setLevel(logging.ERROR)
    prepared = to + ".pre"
    inputs = Model("", "", "f32", path).inputs
    quant_pre_process(path, prepared, skip_symbolic_shape=True)
    quantize_static(
        prepared,
        to + ".tmp",
        Calibration(inputs),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
    )
    os.remove(prepared)
    os.rename(to + ".tmp", to)
