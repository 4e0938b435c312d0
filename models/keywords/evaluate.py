"""Held-out accuracy of the ONNX files, and the sample sounds.

    python evaluate.py --cache speech.npz keywords.onnx keywords_int8.onnx

runs ONNX Runtime on every clip of every held-out voice: once clean, and once with noise and rooms. With `--samples DIR` it
also rewrites the sample sounds and expected outputs, from the first file given (float32) and the second (int8).
"""

import argparse
import json
import os
import wave

import numpy as np
import onnxruntime as ort

from sounds import Sounds, features, front_end, normalise
from speech import KEYWORDS, LABELS, LENGTH, RATE, SILENCE, SPLIT, UNKNOWN, load_speech

# (word, voice, noisy, only the word). A file of only the word is shorter than the network's second.
SAMPLES = [
    ("yes", "flite-slt", False, True),
    ("stop", "espeak-m3", True, False),
    ("forward", "festival-slt", True, False),
]


def session(path, optimise=True):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run(model, frames):
    """Logits [n, classes] of frames [n, FRAMES, MELS]."""
    return np.concatenate([model.run(["logits"], {"frames": x[None]})[0] for x in frames])


def share(right):
    return f"{right.mean():7.2%}" if len(right) else "      –"


def report(logits, labels, kinds, by_voice):
    """Prints the accuracies of one file on one kind of sounds."""
    right = logits.argmax(1) == labels
    new = kinds == "new words"
    classes = np.mean([right[(labels == c) & ~new].mean() for c in range(len(LABELS))])
    parts = {
        "mean of classes": f"{classes:7.2%}",
        "keywords": share(right[labels < UNKNOWN]),
        "other words": share(right[(labels == UNKNOWN) & ~new]),
        "new words": share(right[new]),
        "silence": share(right[labels == SILENCE]),
    }
    print("   ", ", ".join(f"{k} {v.strip()}" for k, v in parts.items()))
    if by_voice:
        for kind in sorted(set(kinds) - {"new words", "silence"}):
            mine = kinds == kind
            print(
                f"      {kind:15} keywords {share(right[mine & (labels < UNKNOWN)])}"
                f"  other words {share(right[mine & (labels == UNKNOWN)])}"
            )


def print_confusions(logits, labels):
    """Prints the commonest errors."""
    wrong = logits.argmax(1) != labels
    pairs = np.stack([labels[wrong], logits.argmax(1)[wrong]])
    pairs, n = np.unique(pairs, axis=1, return_counts=True)
    best = np.argsort(-n)[:16]
    text = [f"{LABELS[pairs[0, i]]}>{LABELS[pairs[1, i]]} {n[i]}" for i in best]
    print("      commonest errors (label>answer):", ", ".join(text))


def top3(logits):
    """The three best of logits [classes] as [[label, logit], ...], ties in label order."""
    order = np.argsort(-logits, kind="stable")[:3]
    return [[LABELS[i], round(float(logits[i]), 4)] for i in order]


def write_samples(folder, speech, program, f32, int8):
    """WAV files, expected.json and vectors.npz of SAMPLES."""
    os.makedirs(folder, exist_ok=True)
    sounds, names, clips = Sounds(speech, "test", seed=4), [], []
    for k, (word, voice, noisy, only) in enumerate(SAMPLES):
        rng = np.random.default_rng(k)
        i = np.flatnonzero((speech["word"] == word) & (speech["voice"] == voice))[0]
        x = sounds.sound(i, noisy, rng)
        if only:
            heard = np.flatnonzero(x)
            x = x[heard[0] : heard[-1] + 1]
        names.append(f"{word}_{voice}{'-noisy' if noisy else ''}.wav")
        with wave.open(os.path.join(folder, names[-1]), "wb") as file:
            file.setparams((1, 2, RATE, len(x), "NONE", ""))
            file.writeframes(x.astype("<i2").tobytes())
        # What is missing is silence at the end.
        clips.append(np.pad(x, (0, LENGTH - len(x))))

    frames = normalise(features(np.stack(clips), program))
    outputs = {"f32": run(session(f32), frames), "int8": run(session(int8), frames)}
    outputs["int8_noopt"] = run(session(int8, optimise=False), frames)
    np.savez_compressed(os.path.join(folder, "vectors.npz"), frames=frames, **outputs)
    expected = {
        name: {"label": word, "f32_top3": top3(outputs["f32"][k]), "int8_top3": top3(outputs["int8"][k])}
        for k, (name, (word, *_)) in enumerate(zip(names, SAMPLES))
    }
    rows = ",\n".join(f"  {json.dumps(f)}: {json.dumps(e)}" for f, e in expected.items())
    with open(os.path.join(folder, "expected.json"), "w") as out:
        out.write("{\n" + rows + "\n}\n")
    for name, e in expected.items():
        print(name, "f32", e["f32_top3"], "int8", e["int8_top3"])
    print("int8 without graph optimisations differs by", np.abs(outputs["int8"] - outputs["int8_noopt"]).max())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", help="ONNX files")
    parser.add_argument("--cache", default="speech.npz", help="rendered speech")
    parser.add_argument("--part", default="test", choices=["valid", "test"])
    parser.add_argument("--samples", help="folder to write sample sounds to")
    parser.add_argument("--by-voice", action="store_true", help="print the accuracy of each voice")
    parser.add_argument("--confusions", action="store_true", help="print the commonest errors")
    args = parser.parse_args()

    speech, program = load_speech(args.cache), front_end()
    voices = [v for v, part in SPLIT.items() if part == args.part]
    print(f"{args.part}: {len(voices)} voices, {len(KEYWORDS)} keywords")
    for kind in ("clean", "noisy"):
        sounds = Sounds(speech, args.part, seed=5)
        samples, labels, kinds = sounds.every(kind == "noisy", np.random.default_rng(99))
        frames = normalise(features(samples, program))
        for path in args.models:
            print(f"{kind}, {len(labels)} sounds, {os.path.basename(path)}")
            logits = run(session(path), frames)
            report(logits, labels, kinds, args.by_voice)
            if args.confusions:
                print_confusions(logits, labels)
    if args.samples:
        write_samples(args.samples, speech, program, *args.models[:2])


if __name__ == "__main__":
    main()
