"""Quantise keywords.onnx to int8 (QDQ form) with ONNX Runtime.

Weights are int8 per output channel, activations int8 per tensor, calibrated on training sounds. Input and output stay
float32, and so does the memory: the quantiser does not enter the body of a Scan.

    python quantize.py --sounds sounds.npz --model keywords.onnx --out keywords_int8.onnx
"""

import argparse
import os
import tempfile

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from train import metadata


class TrainingSounds(CalibrationDataReader):
    """Normalised frames of training sounds, float32 [1, FRAMES, MELS] each."""

    def __init__(self, path, count, seed):
        with np.load(path) as file:
            frames = file["frames"]
        pick = np.random.default_rng(seed).choice(len(frames), count, replace=False)
        self.frames = iter(frames[np.sort(pick)].astype(np.float32))

    def get_next(self):
        frames = next(self.frames, None)
        return None if frames is None else {"frames": frames[None]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sounds", default="sounds.npz", help="frames of training sounds")
    parser.add_argument("--model", default="keywords.onnx")
    parser.add_argument("--out", default="keywords_int8.onnx")
    parser.add_argument("--count", type=int, default=512, help="calibration sounds")
    parser.add_argument("--method", default="MinMax", choices=["MinMax", "Entropy", "Percentile"])
    parser.add_argument("--seed", type=int, default=11)
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        prepared = os.path.join(folder, "prepared.onnx")
        # ONNX Runtime's optimiser would merge operators into ones of its own that other readers do not know.
        quant_pre_process(args.model, prepared, skip_optimization=True)
        quantize_static(
            prepared,
            args.out,
            TrainingSounds(args.sounds, args.count, args.seed),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod[args.method],
        )

    # The quantiser imports operator sets that the graph does not use, and writes the shapes of everything.
    model = onnx.load(args.out)
    used = {node.domain for node in model.graph.node}
    opsets = [opset for opset in model.opset_import if opset.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(opsets)
    del model.graph.value_info[:]
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, metadata())
    model.producer_name, model.producer_version = "kinglet-keywords", ""
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, args.out)


if __name__ == "__main__":
    main()
