"""Held-out accuracy of the ONNX files, and the sample images.

    python evaluate.py --cache glyph_cache.npz glyphs.onnx glyphs_int8.onnx

runs ONNX Runtime on every label of every test font (families that were never
trained on): once clean, and three times with the distortions used in training.
With `--samples DIR` it also rewrites the sample images and expected outputs,
from the first file given (float32) and the second (int8).
"""

import argparse
import json
import os

import numpy as np
import onnxruntime as ort
import torch
from PIL import Image

from train import LABELS, MEAN, STD, distort, load_glyphs, split_families

# Characters that differ by little or nothing but size in many fonts.
MERGED = ["0Oo", "Il1", "cC", "sS", "vV", "wW", "xX", "zZ"]

# (label, font, kind). The "hard" ones are ambiguous: 'I' and 'l' of this font
# are two bars of nearly the same height.
SAMPLES = [
    ("A", "DejaVu Serif Book", "clean"),
    ("g", "DejaVu Sans Book", "clean"),
    ("7", "DejaVu Sans Mono Book", "clean"),
    ("Q", "Liberation Serif Regular", "clean"),
    ("k", "Liberation Sans Regular", "clean"),
    ("3", "Liberation Mono Regular", "clean"),
    ("R", "Liberation Serif Bold Italic", "distorted"),
    ("e", "DejaVu Sans Bold", "distorted"),
    ("l", "Liberation Sans Regular", "hard"),
    ("I", "Liberation Sans Regular", "hard"),
]


def preprocess(pixels):
    """8-bit grey [..., 32, 32] to network input float32 [..., 32, 32]."""
    return (pixels.astype(np.float32) / np.float32(255) - np.float32(MEAN)) / np.float32(STD)


def pictures(glyphs, fonts, strength, copies, seed):
    """Every label of every font, `copies` times.

    Returns (pixels uint8 [n, 1, 32, 32], labels int [n]).
    """
    rng = torch.Generator().manual_seed(seed)
    ink = torch.from_numpy(glyphs[fonts]).flatten(0, 1)
    pixels = torch.cat([distort(ink, rng, strength) for _ in range(copies)])
    labels = np.tile(np.arange(len(LABELS)), len(fonts) * copies)
    return (pixels * 255).round().to(torch.uint8).numpy(), labels


def session(path, optimise=True):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run(model, images, batch=512):
    """Logits [n, 62] of images [n, 1, 32, 32]."""
    parts = [images[i : i + batch] for i in range(0, len(images), batch)]
    return np.concatenate([model.run(["logits"], {"image": part})[0] for part in parts])


def score(logits, labels):
    """(top-1, top-3, top-1 with MERGED characters taken as equal)."""
    group = np.array([next((g for g in MERGED if c in g), c) for c in LABELS])
    order = np.argsort(-logits, axis=1, kind="stable")
    top1 = order[:, 0] == labels
    top3 = (order[:, :3] == labels[:, None]).any(1)
    return top1.mean(), top3.mean(), (group[order[:, 0]] == group[labels]).mean()


def top3(logits):
    """The three best of logits [62] as [[label, logit], ...], ties in label order."""
    order = np.argsort(-logits, kind="stable")[:3]
    return [[LABELS[i], round(float(logits[i]), 4)] for i in order]


def write_samples(folder, glyphs, names, test, f32, int8):
    """PNG files, expected.json and vectors.npz of SAMPLES."""
    os.makedirs(folder, exist_ok=True)
    files, pixels = [], []
    for k, (label, name, kind) in enumerate(SAMPLES):
        font = next(i for i in test if names[i] == name)
        rng = torch.Generator().manual_seed(k)
        ink = torch.from_numpy(glyphs[font, LABELS.index(label)])[None]
        image = distort(ink, rng, 1.0 if kind == "distorted" else 0.0)[0, 0]
        image = (image * 255).round().to(torch.uint8).numpy()
        style = name.lower().replace(" book", "").replace(" regular", "").replace(" ", "-")
        suffix = "" if kind == "clean" else "-" + kind
        files.append(f"{label}_{style}{suffix}.png")
        Image.fromarray(image).save(os.path.join(folder, files[-1]), optimize=True)
        pixels.append(image)

    images = preprocess(np.stack(pixels)[:, None])
    outputs = {"f32": run(session(f32), images), "int8": run(session(int8), images)}
    expected = {
        file: {
            "label": label,
            "f32_top3": top3(outputs["f32"][k]),
            "int8_top3": top3(outputs["int8"][k]),
        }
        for k, (file, (label, _, _)) in enumerate(zip(files, SAMPLES))
    }
    rows = ",\n".join(f"  {json.dumps(f)}: {json.dumps(e)}" for f, e in expected.items())
    with open(os.path.join(folder, "expected.json"), "w") as out:
        out.write("{\n" + rows + "\n}\n")
    noopt = run(session(int8, optimise=False), images)
    np.savez_compressed(
        os.path.join(folder, "vectors.npz"), image=images, int8_noopt=noopt, **outputs
    )
    for file, e in expected.items():
        print(file, "f32", e["f32_top3"], "int8", e["int8_top3"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", help="ONNX files")
    parser.add_argument("--cache", default="glyph_cache.npz", help="rendered glyphs")
    parser.add_argument("--part", default="test", choices=["valid", "test"])
    parser.add_argument("--samples", help="folder to write sample images to")
    parser.add_argument("--by-family", action="store_true", help="print top-1 of each family")
    parser.add_argument("--confusions", action="store_true", help="print the commonest errors")
    args = parser.parse_args()

    glyphs, names, families = load_glyphs(args.cache)
    fonts = split_families(families, names)[args.part]
    count = len({families[i] for i in fonts})
    print(f"{args.part}: {len(fonts)} fonts of {count} families, {len(LABELS)} labels")
    for kind, strength, copies in (("clean", 0.0, 1), ("distorted", 1.0, 3)):
        pixels, labels = pictures(glyphs, fonts, strength, copies, seed=99)
        images = preprocess(pixels)
        for path in args.models:
            logits = run(session(path), images)
            top1, best3, merged = score(logits, labels)
            print(
                f"{kind:9} {len(labels):6} images  {os.path.basename(path):17}"
                f"  top-1 {top1:.2%}  top-3 {best3:.2%}  merged top-1 {merged:.2%}"
            )
            if args.by_family:
                family = np.tile(np.repeat([families[i] for i in fonts], len(LABELS)), copies)
                right = logits.argmax(1) == labels
                text = [f"{f} {right[family == f].mean():.1%}" for f in sorted(set(family))]
                print("    by family:", ", ".join(text))
            if args.confusions:
                wrong = logits.argmax(1) != labels
                pairs, n = np.unique(
                    np.stack([labels[wrong], logits.argmax(1)[wrong]]), axis=1, return_counts=True
                )
                best = np.argsort(-n)[:16]
                text = [f"{LABELS[pairs[0, i]]}>{LABELS[pairs[1, i]]} {n[i]}" for i in best]
                print("    commonest errors (label>answer):", ", ".join(text))
    if args.samples:
        test = split_families(families, names, per_family=1000)["test"]
        write_samples(args.samples, glyphs, names, test, args.models[0], args.models[1])


if __name__ == "__main__":
    main()
