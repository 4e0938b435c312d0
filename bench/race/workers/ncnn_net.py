"""ncnn in f32, with models that pnnx converts."""

from worker import nothing, race

import importlib.util
import os
import shutil
import subprocess

import ncnn
import numpy as np


def convert(model):
    """The two files that ncnn reads; made once, in a folder of their own, because pnnx leaves many more."""
    folder = os.path.splitext(model)[0] + ".ncnn"
    param, weights = os.path.join(folder, "m.ncnn.param"), os.path.join(folder, "m.ncnn.bin")
    if not os.path.exists(folder):
        os.makedirs(folder)
        shutil.copy(model, os.path.join(folder, "m.onnx"))
        # The binary alone: the package around it wants PyTorch.
        pnnx = os.path.join(os.path.dirname(importlib.util.find_spec("pnnx").origin), "pnnx")
        subprocess.run([pnnx, "m.onnx", "fp16=0"], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for name in os.listdir(folder):
            if name not in (os.path.basename(param), os.path.basename(weights)):
                os.remove(os.path.join(folder, name))
    return param, weights


def prepare(job):
    param, weights = convert(job.model)
    if not os.path.exists(param):
        raise SystemExit("pnnx does not convert the model")
    net = ncnn.Net()
    net.opt.num_threads = job.threads
    for narrow in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
        setattr(net.opt, narrow, False)
    # Asked after a failure the net ends the process without a word.
    if net.load_param(param) != 0 or net.load_model(weights) != 0:
        raise SystemExit("it has no such layer as pnnx made of the model")
    # A Mat has no batch axis, and refers to the array's memory unless it is cloned.
    inputs = [(f"in{i}", ncnn.Mat(np.ascontiguousarray(a[0])).clone()) for i, a in enumerate(job.inputs.values())]
    results = []

    def run():
        extractor = net.create_extractor()
        for name, mat in inputs:
            extractor.input(name, mat)
        results[:] = [extractor.extract(f"out{i}") for i in range(len(job.output_names))]

    def outputs():
        if any(status != 0 for status, _ in results):
            raise SystemExit("it cannot compute an output")
        return [np.array(mat) for _, mat in results]

    return nothing, run, outputs


race(prepare)
