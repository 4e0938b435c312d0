"""Compare what ONNX Runtime gives for random models with what Kinglet's plans give.

    python compare.py FOLDER [KEEP]

The folder is one that the example `random_graphs` of the tests has written. A model that differs is run once more with all its
tensors as outputs: the first that is not what Kinglet's evaluator says names the node. It is copied to KEEP.
"""

import collections
import pathlib
import re
import shutil
import sys

import numpy as np
import onnxruntime as ort

ort.set_default_logger_severity(4)

# Where ONNX Runtime 1.32 has a way of its own: an operator, what is in its line (or "nonfinite": something in the graph is no number, or infinite),
# and what it does. These are counted, and no difference.
KNOWN = [
    ("LSTM", "clip=", "it does not bound what goes into the function of the cell (its issue 27224)"),
    ("QLinearSoftmax", "", "it cuts where QuantizeLinear rounds: a softmax of 1 in steps of 1/45.75 is 45"),
    ("NonMaxSuppression", "", "a plan has as many rows as there may be at most"),
    ("DynamicQuantizeLSTM", "", "it rounds the hidden state to bytes in every frame"),
    ("LRN", "nonfinite", "its sum over channels goes on from channel to channel: an infinity stays in it"),
    ("Upsample", "nonfinite", "as Resize"),
    ("Resize", "nonfinite", "it multiplies a neighbour by a weight of 0, which makes NaN of an infinite one"),
    ("DynamicQuantizeLinear", "nonfinite", "what is no number it quantises as the CPU casts it, here it is the smallest"),
    ("Hardmax", "nonfinite", "to it NaN is never the largest, here if it comes first (docs/numerics.md)"),
    ("Attention", "nonfinite", "a row of scores that are all minus infinity is no number there, and 0 here"),
]
# How many times the bounds, which are made of the errors of Kinglet's functions, the two may be apart: ONNX Runtime has its own.
TIMES = 4
# The part of a tensor's largest magnitude that they may be apart besides, as in the vectors of tests/golden.
OF_LARGEST = 1e-5


def run(path, folder):
    """The outputs of a model by name, or why ONNX Runtime does not run it."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        inputs = {i.name: np.load(folder / f"in_{i.name}.npy") for i in session.get_inputs()}
        names = [o.name for o in session.get_outputs()]
        return dict(zip(names, session.run(names, inputs), strict=True)), None
    except Exception as error:  # Whatever it is: it has no class of its own.
        return None, " ".join(str(error).split())


def outside(got, want, off):
    """Which elements are further apart than they may be. NaN is NaN, and an infinity the same infinity."""
    got, want = np.asarray(got).astype(np.float64), want.astype(np.float64)
    with np.errstate(invalid="ignore"):
        same = (got == want) | (np.isnan(got) & np.isnan(want)) | np.isinf(off) | (np.abs(got - want) <= off)
    return np.flatnonzero(~same)


def differs(outputs, folder, given, allowed):
    """The first output that is not as it should be, as a line."""
    for name, got in outputs.items():
        path = folder / f"{given}{name}.npy"
        if isinstance(got, list) or not path.exists():
            continue
        want, off = np.load(path), np.load(folder / f"{allowed}{name}.npy").astype(np.float64)
        got = np.asarray(got)
        if got.shape != want.shape or got.dtype != want.dtype:
            return name, f"`{name}` is {got.dtype}{list(got.shape)} in ONNX Runtime, {want.dtype}{list(want.shape)} in Kinglet"
        off = TIMES * off.reshape(want.shape)
        if want.dtype.kind == "f" and want.size:
            off = off + OF_LARGEST * max(np.abs(want, where=np.isfinite(want), out=np.zeros_like(want)).max(), 0.03)
        bad = outside(got, want, off)
        if len(bad):
            k = bad[0]
            return name, (
                f"`{name}`[{k}] is {got.flat[k]} in ONNX Runtime, {want.flat[k]} in Kinglet, and may be off {off.flat[k]:.3g};"
                f" {len(bad)} of {got.size} differ"
            )
    return None


def near(got, case, name):
    """Whether what is folded is at least nearly the same."""
    want = np.load(case / f"open_{name}.npy").astype(np.float64)
    if want.shape != np.shape(got):
        return False
    with np.errstate(invalid="ignore"):
        apart = np.abs(np.asarray(got).astype(np.float64) - want)
    return not (apart > np.maximum(1.0 if np.asarray(got).dtype.kind in "iu" else 0.0, 0.01 * np.abs(want))).any()


def producers(path):
    """The operator that gives each tensor, read from the lines of the model without a parser for it."""
    nodes = path.with_suffix(".nodes").read_text().splitlines()
    return {name: line for line in nodes for name in line.split(" = ")[0].split()}


def depends(nodes, name):
    """Whether a tensor depends on an input, by the lines of the nodes. What does not is folded, and has no bounds."""
    if name not in nodes:
        return name.startswith("x")
    return any(depends(nodes, i) for i in re.findall(r"[xct]\d+", nodes[name].split(" = ", 1)[1]))


def known(operator, line, case):
    """What ONNX Runtime is known to do otherwise at such a node."""
    arrays = [np.load(p) for kind in ("in", "open") for p in case.glob(f"{kind}_*.npy") if "_off_" not in p.name]
    special = any(not np.isfinite(a).all() for a in arrays if a.dtype.kind == "f")
    for name, sign, way in KNOWN:
        if name == operator and (special if sign == "nonfinite" else sign in line):
            return way
    return None


def main():
    folder = pathlib.Path(sys.argv[1])
    keep = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else None
    refused, ways, found, same = collections.Counter(), collections.Counter(), collections.defaultdict(list), 0
    for case in sorted(folder.iterdir(), key=lambda p: int(p.name)):
        outputs, why = run(case / "model.onnx", case)
        if outputs is None:
            refused[re.sub(r" /\S+", "", why.split(" : ", 2)[-1])[:140]] += 1
            continue
        problem = differs(outputs, case, "plan_", "off_")
        if problem is None:
            same += 1
            continue
        inner, why = run(case / "open.onnx", case)
        first = differs(inner, case, "open_", "open_off_") if inner is not None else None
        name, text = first or problem
        nodes = producers(case / "open.onnx")
        line = nodes.get(name, name)
        if not depends(nodes, name) and near(inner[name] if first else outputs[name], case, name):
            ways["a constant that is folded, of which nobody knows how far off it may be: within a hundredth, or a step"] += 1
            continue
        operator = line.split(" = ")[1].split("(")[0] if " = " in line else line
        way = known(operator, line, case)
        if way:
            ways[f"{operator}: {way}"] += 1
            continue
        found[operator].append(f"seed {case.name}: {line}\n    {text}" + ("" if first else " (in the plan alone)"))
        if keep:
            shutil.copytree(case, keep / case.name, dirs_exist_ok=True)
    for why, count in refused.most_common(40):
        print(f"{count:6} not run: {why}")
    for way, count in ways.most_common():
        print(f"{count:6} known: {way}")
    for operator in sorted(found):
        print(f"\n{operator}: {len(found[operator])}")
        for line in found[operator][:4]:
            print("  " + line)
    differing = sum(map(len, found.values()))
    print(
        f"\n{same} graphs alike, {differing} differ, {sum(ways.values())} differ where ONNX Runtime has its own way,"
        f" {sum(refused.values())} it does not run"
    )
    sys.exit(1 if differing else 0)


if __name__ == "__main__":
    main()
