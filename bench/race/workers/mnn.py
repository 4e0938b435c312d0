"""MNN, by its Module API, whose results are read within the measured time: it may compute as late as that."""

from worker import nothing, race

import os

# The converter's binding alone: its command line `mnnconvert` installs packages and reports its use over the network.
import _tools
import MNN.expr
import MNN.nn


def constant(array):
    shape, order = list(array.shape), MNN.expr.NCHW
    if array.dtype.name == "float32":
        return MNN.expr.const(array, shape, order, MNN.expr.float)
    # Its constants are floats or 32-bit integers.
    wide = MNN.expr.const(array.astype("int32"), shape, order, MNN.expr.int)
    return MNN.expr.cast(wide, MNN.expr.int8)


def prepare(job):
    converted = os.path.splitext(job.model)[0] + ".mnn"
    if not os.path.exists(converted):
        _tools.mnnconvert(["", "-f", "ONNX", "--modelFile", job.model, "--MNNModel", converted, "--bizCode", "race"])
    if not os.path.exists(converted):
        raise SystemExit("its converter refuses the model")
    config = {"backend": "CPU", "precision": "high", "numThread": job.threads}
    manager = MNN.nn.create_runtime_manager((config,))
    names = list(job.inputs), job.output_names
    net = MNN.nn.load_module_from_file(converted, *names, runtime_manager=manager)
    inputs = [constant(array) for array in job.inputs.values()]
    results = []

    def run():
        results[:] = [output.read() for output in net.forward(inputs)]

    return nothing, run, lambda: results


race(prepare)
