"""Writes ONNX's own test cases as files: those of single operators, the small models, and PyTorch's.

A case is a folder `NAME` with `model.onnx` and one data set, `input_K.pb` and `output_K.pb`, each a TensorProto. Left out is
what has an input or output that is no plain tensor (a sequence, an optional, strings).

    pip install onnx==1.23.2
    python make.py FOLDER
"""

import pathlib
import shutil
import sys
import warnings

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper


def plain(model):
    ports = [*model.graph.input, *model.graph.output]
    return all(p.type.HasField("tensor_type") and p.type.tensor_type.elem_type != TensorProto.STRING for p in ports)


def tensor(value, name):
    if isinstance(value, TensorProto):
        return value
    return numpy_helper.from_array(np.asarray(value), name)


def generated():
    """Cases that the package computes: name, model, inputs, outputs."""
    import onnx.backend.test.case.model as models
    import onnx.backend.test.case.node as nodes

    for case in [*nodes.collect_testcases(None), *models.collect_testcases()]:
        if case.model is not None and case.data_sets and plain(case.model):
            inputs, outputs = case.data_sets[0]
            named = zip(case.model.graph.input, inputs), zip(case.model.graph.output, outputs)
            yield case.name, case.model, *([tensor(v, port.name) for port, v in ports] for ports in named)


def main(folder):
    count = 0
    for name, model, inputs, outputs in generated():
        data = folder / name / "test_data_set_0"
        data.mkdir(parents=True)
        (folder / name / "model.onnx").write_bytes(model.SerializeToString())
        for what, tensors in ("input", inputs), ("output", outputs):
            for k, t in enumerate(tensors):
                (data / f"{what}_{k}.pb").write_bytes(t.SerializeToString())
        count += 1
    # PyTorch's lie in the package as files of this very form.
    stored = pathlib.Path(onnx.__file__).parent / "backend/test/data"
    for kind in "pytorch-operator", "pytorch-converted", "simple":
        for case in sorted((stored / kind).iterdir()):
            if not (folder / case.name).exists() and plain(onnx.load(case / "model.onnx")):
                shutil.copytree(case, folder / case.name)
                count += 1
    print(f"{count} cases")


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    folder = pathlib.Path(sys.argv[1])
    shutil.rmtree(folder, ignore_errors=True)
    main(folder)
