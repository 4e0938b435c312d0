"""Quantise glyphs.onnx to int8 (QDQ form) with ONNX Runtime.

Weights are int8 per output channel, activations int8 per tensor, calibrated on
distorted glyphs of the training fonts. Input and output stay float32.

    python quantize.py --cache glyph_cache.npz --model glyphs.onnx --out glyphs_int8.onnx
"""

import argparse
import os
import tempfile

import onnx
import torch
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from train import LABELS, distort, load_glyphs, metadata, normalise, split_families


class TrainingGlyphs(CalibrationDataReader):
    """Batches of normalised training images, float32 [32, 1, 32, 32] each."""

    def __init__(self, glyphs, fonts, count, seed, batch=32):
        rng = torch.Generator().manual_seed(seed)
        font = torch.tensor(fonts)[torch.randint(len(fonts), (count,), generator=rng)]
        label = torch.randint(len(LABELS), (count,), generator=rng)
        images = normalise(distort(torch.from_numpy(glyphs)[font, label], rng))
        self.batches = iter(images.split(batch))

    def get_next(self):
        images = next(self.batches, None)
        return None if images is None else {"image": images.numpy()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", default="glyph_cache.npz", help="rendered glyphs")
    parser.add_argument("--model", default="glyphs.onnx")
    parser.add_argument("--out", default="glyphs_int8.onnx")
    parser.add_argument("--count", type=int, default=512, help="calibration images")
    parser.add_argument("--method", default="MinMax", choices=["MinMax", "Entropy", "Percentile"])
    parser.add_argument("--seed", type=int, default=11)
    args = parser.parse_args()

    glyphs, names, families = load_glyphs(args.cache)
    fonts = split_families(families, names)["train"]
    with tempfile.TemporaryDirectory() as folder:
        prepared = os.path.join(folder, "prepared.onnx")
        quant_pre_process(args.model, prepared)
        quantize_static(
            prepared,
            args.out,
            TrainingGlyphs(glyphs, fonts, args.count, args.seed),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod[args.method],
        )

    # The quantiser imports operator sets that the graph does not use.
    model = onnx.load(args.out)
    used = {node.domain for node in model.graph.node}
    opsets = [opset for opset in model.opset_import if opset.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(opsets)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, metadata())
    model.producer_name, model.producer_version = "kinglet-glyphs", ""
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, args.out)


if __name__ == "__main__":
    main()
