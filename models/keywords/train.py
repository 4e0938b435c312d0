"""Train the Kinglet keyword spotter and export it to ONNX.

The network hears one second of speech as log-mel frames and says which of twelve words it is, another one, or none. It
follows LMUFormer (Liu et al., "LMUFormer: Low Complexity Yet Powerful Spiking Model With Legendre Memory Units", ICLR
2024) in its causal form: a patch embedding of convolutions over time, one block of a Legendre Memory Unit (Voelker et al.,
2019) and a channel mixer, and the mean over time of the answers of all frames. The memory is linear and does not change
over time, so that it is trained in parallel, as a convolution with its impulse response, and exported as the recurrence.

    python train.py --cache speech.npz --sounds sounds.npz --out keywords.onnx
"""

import argparse
import concurrent.futures
import os
import time

import numpy as np
import onnx
import torch
import torch.nn as nn
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper

from sounds import FLOOR, FMAX, FMIN, FRAMES, HOP, MEAN, MELS, STD, WINDOW, Sounds, features, front_end, normalise
from speech import LABELS, RATE, UNKNOWN, load_speech

PATCH = (32, 40, 64, 64)  # channels of the convolutions of the patch embedding
CHANNELS = PATCH[-1]
ORDER = 32  # of the memory: how many Legendre polynomials
THETA = FRAMES  # how many frames the memory reaches back
HIDDEN = 2 * CHANNELS  # of the channel mixer

# -------------------------------------------------------------------- model


def legendre_memory():
    """The discrete memory m_t = A m_(t-1) + B u_t: (A [ORDER, ORDER], B [ORDER, 1]), float64.

    Voelker et al. 2019, equations 1 and 2, with zero-order hold.
    """
    i, j = np.mgrid[:ORDER, :ORDER]
    a = (2 * i + 1) / THETA * np.where(i < j, -1.0, (-1.0) ** (i - j + 1))
    b = (2 * i[:, :1] + 1) / THETA * (-1.0) ** i[:, :1]
    # exp of [[A, B], [0, 0]] holds the discrete A and B in its upper rows.
    both = torch.zeros(ORDER + 1, ORDER + 1, dtype=torch.float64)
    both[:ORDER, :ORDER], both[:ORDER, ORDER:] = torch.from_numpy(a), torch.from_numpy(b)
    held = torch.linalg.matrix_exp(both).numpy()
    return held[:ORDER, :ORDER], held[:ORDER, ORDER:]


class Causal(nn.Module):
    """Convolution over three frames, none of them in the future. [b, cin, t] -> [b, cout, t]."""

    def __init__(self, cin, cout):
        super().__init__()
        self.conv = nn.Conv1d(cin, cout, 3, bias=False)
        self.norm = nn.BatchNorm1d(cout)

    def forward(self, x):
        return self.norm(self.conv(F.pad(x, (2, 0))))

    def folded(self):
        """(weight [cout, cin, 3], bias [cout]) of the one convolution that it is after training."""
        return fold_norm(self.conv.weight, None, self.norm)


class KeywordNet(nn.Module):
    """[b, t, MELS] -> logits [b, classes]."""

    def __init__(self):
        super().__init__()
        widths = (MELS, *PATCH)
        self.patch = nn.ModuleList([Causal(i, o) for i, o in zip(widths, widths[1:])])
        self.position = Causal(CHANNELS, CHANNELS)
        self.input = nn.Linear(CHANNELS, 1)
        self.output = nn.Linear(ORDER + CHANNELS, CHANNELS)
        self.project = nn.Conv1d(CHANNELS, CHANNELS, 1, bias=False)
        self.project_norm = nn.BatchNorm1d(CHANNELS)
        self.expand = nn.Conv1d(CHANNELS, HIDDEN, 1, bias=False)
        self.expand_norm = nn.BatchNorm1d(HIDDEN)
        self.contract = nn.Conv1d(HIDDEN, CHANNELS, 1, bias=False)
        self.contract_norm = nn.BatchNorm1d(CHANNELS)
        self.head = nn.Linear(CHANNELS, len(LABELS))
        a, b = legendre_memory()
        response = [b]
        for _ in range(THETA - 1):
            response.append(a @ response[-1])
        # [ORDER, 1, THETA], the newest frame last.
        kernel = np.stack(response[::-1], -1)
        self.register_buffer("response", torch.from_numpy(kernel).float(), persistent=False)

    def forward(self, x):
        x = x.transpose(1, 2)
        for layer in self.patch:
            x = F.relu(layer(x))
        x = x + self.position(x)
        u = F.relu(self.input(x.transpose(1, 2))).transpose(1, 2)
        m = F.conv1d(F.pad(u, (THETA - 1, 0)), self.response)
        h = F.relu(self.output(torch.cat([m, x], 1).transpose(1, 2))).transpose(1, 2)
        x = x + self.project_norm(self.project(h))
        h = F.gelu(self.expand_norm(self.expand(x)))
        x = x + F.relu(self.contract_norm(self.contract(h)))
        return self.head(F.dropout(x.transpose(1, 2), 0.1, self.training).mean(1))


# ------------------------------------------------------------ folding, export


def fold_norm(weight, bias, norm):
    """Fold a BatchNorm into the convolution before it: (weight [o, i, k], bias [o]), float64."""
    gain = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    bias = torch.zeros(len(weight), dtype=torch.float64) if bias is None else bias.double()
    return weight.double() * gain.view(-1, 1, 1), norm.bias.double() + (bias - norm.running_mean.double()) * gain


def export(model, path):
    """Write the network as an ONNX file, BatchNorm folded, the memory as a Scan over the frames."""
    nodes, weights = [], []

    def add(op, inputs, output, **attributes):
        nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def constant(name, value):
        array = value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        weights.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def conv(x, name, weight, bias):
        k = weight.shape[2]
        inputs = [x, constant(f"{name}.weight", weight), constant(f"{name}.bias", bias)]
        return add("Conv", inputs, name, kernel_shape=[k], pads=[k - 1, 0])

    def linear(x, name, layer):
        product = add("MatMul", [x, constant(f"{name}.weight", layer.weight.T)], f"{name}.product")
        return add("Add", [product, constant(f"{name}.bias", layer.bias)], name)

    def turned(x, name):
        return add("Transpose", [x], name, perm=[0, 2, 1])

    x = turned("frames", "channels")
    for i, layer in enumerate(model.patch):
        x = add("Relu", [conv(x, f"patch{i}.conv", *layer.folded())], f"patch{i}")
    x = add("Add", [x, conv(x, "position.conv", *model.position.folded())], "position")

    frames = turned(x, "position.frames")
    u = add("Relu", [linear(frames, "memory.input", model.input)], "memory.u")
    u = add("Transpose", [u], "memory.u.frames", perm=[1, 0, 2])
    a, b = legendre_memory()
    for name, value in (("memory.A", a.T), ("memory.B", b.T), ("memory.zeros", np.zeros((1, ORDER)))):
        constant(name, value)
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["m", "memory.A"], ["kept"], name="memory.kept"),
            helper.make_node("MatMul", ["u", "memory.B"], ["new"], name="memory.new"),
            helper.make_node("Add", ["kept", "new"], ["m_next"], name="memory.m_next"),
            helper.make_node("Identity", ["m_next"], ["m_frame"], name="memory.m_frame"),
        ],
        "memory",
        [info("m", TensorProto.FLOAT, [1, ORDER]), info("u", TensorProto.FLOAT, [1, 1])],
        [info("m_next", TensorProto.FLOAT, [1, ORDER]), info("m_frame", TensorProto.FLOAT, [1, ORDER])],
    )
    scan = ["memory.zeros", u], ["memory.last", "memory.frames"]
    nodes.append(helper.make_node("Scan", *scan, name="memory", body=body, num_scan_inputs=1))
    m = add("Transpose", ["memory.frames"], "memory.m", perm=[1, 0, 2])
    h = add("Concat", [m, frames], "memory.and_frames", axis=-1)
    h = turned(add("Relu", [linear(h, "memory.output", model.output)], "memory.h"), "memory.channels")
    project = fold_norm(model.project.weight, None, model.project_norm)
    x = add("Add", [x, conv(h, "project", *project)], "remembered")

    h = conv(x, "expand", *fold_norm(model.expand.weight, None, model.expand_norm))
    half = constant("half", 0.5)
    erf = add("Erf", [add("Div", [h, constant("root2", 2**0.5)], "gelu.scaled")], "gelu.erf")
    h = add("Mul", [h, add("Mul", [add("Add", [erf, constant("one", 1.0)], "gelu.shifted"), half], "gelu.phi")], "gelu")
    h = conv(h, "contract", *fold_norm(model.contract.weight, None, model.contract_norm))
    x = add("Add", [x, add("Relu", [h], "mixed")], "block")

    # The head is linear, so that the mean of its answers is its answer to the mean. Quantised answers of each frame would
    # add up their rounding errors, which are the same in all frames of silence.
    weights.append(numpy_helper.from_array(np.array([2], np.int64), "time"))
    mean = add("ReduceMean", [x, "time"], "mean", keepdims=0)
    linear(mean, "logits", model.head)

    graph = helper.make_graph(
        nodes,
        "keywords",
        [info("frames", TensorProto.FLOAT, [1, FRAMES, MELS])],
        [info("logits", TensorProto.FLOAT, [1, len(LABELS)])],
        weights,
    )
    opset = helper.make_opsetid("", 18)
    onnx_model = helper.make_model(graph, opset_imports=[opset], ir_version=8, producer_name="kinglet-keywords")
    helper.set_model_props(onnx_model, metadata())
    onnx.checker.check_model(onnx_model, full_check=True)
    onnx.save(onnx_model, path)


def metadata():
    """The metadata_props that tell Kinglet how to use the files."""
    values = {"sample_rate": RATE, "window": WINDOW, "hop": HOP, "fmin": FMIN, "fmax": FMAX, "floor": FLOOR}
    values |= {"mean": MEAN, "std": STD}
    return {f"kinglet.audio.{k}": str(v) for k, v in values.items()} | {"kinglet.labels": "\n".join(LABELS)}


# ----------------------------------------------------------------- training


def make_sounds(job):
    """(frames float16 [n, FRAMES, MELS], labels [n]) of random training sounds."""
    cache, count, seed, program = job
    if not hasattr(make_sounds, "sounds"):
        make_sounds.sounds = Sounds(load_speech(cache), "train", seed=1)
    samples, labels = make_sounds.sounds.random(count, np.random.default_rng([1, seed]))
    return normalise(features(samples, program)).astype(np.float16), labels


def load_sounds(cache, path, count, block=1000):
    """`count` training sounds, from the file at `path` or made and written there."""
    if not os.path.exists(path):
        program = front_end()
        jobs = [(cache, block, seed, program) for seed in range(count // block)]
        with concurrent.futures.ProcessPoolExecutor(2) as pool:
            parts = list(pool.map(make_sounds, jobs))
        np.savez(path, frames=np.concatenate([p[0] for p in parts]), labels=np.concatenate([p[1] for p in parts]))
    with np.load(path) as file:
        return file["frames"], file["labels"]


def distort(x, rng):
    """Training frames [b, t, MELS] faster or slower, higher or lower, louder or quieter, with stretches masked."""
    n = len(x)

    def uniform(low, high):
        return low + (high - low) * torch.rand(n, generator=rng)

    # Time and pitch are stretched and shifted on their own here; resampled words have both moved together.
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 0, 2] = uniform(-0.12, 0.12).exp(), uniform(-0.1, 0.1)
    theta[:, 1, 1], theta[:, 1, 2] = uniform(-0.2, 0.2).exp(), uniform(-0.1, 0.1)
    grid = F.affine_grid(theta, (n, 1, *x.shape[1:]), align_corners=False)
    x = F.grid_sample(x.unsqueeze(1), grid, padding_mode="border", align_corners=False).squeeze(1)
    x = x + 0.25 * torch.randn(n, 1, 1, generator=rng)
    for axis, longest in ((1, 8), (2, 7)):
        size = x.shape[axis]
        width = torch.randint(longest + 1, (n, 1), generator=rng)
        start = (torch.rand(n, 1, generator=rng) * (size - width)).long()
        at = torch.arange(size)
        mask = (at >= start) & (at < start + width)
        x = x.masked_fill(mask.unsqueeze(3 - axis), 0.0)
    return x


@torch.no_grad()
def accuracy(model, frames, labels):
    """Top-1 on frames [n, t, MELS]."""
    model.eval()
    right = sum((model(x).argmax(1) == y).sum().item() for x, y in zip(frames.split(500), labels.split(500)))
    model.train()
    return right / len(labels)


def train(frames, labels, valid, steps, batch, lr, seed):
    """Train a KeywordNet on frames float16 [n, t, MELS]; `valid` has a (frames, labels) by name."""
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    frames, labels = torch.from_numpy(frames), torch.from_numpy(labels)
    model = KeywordNet()
    decay = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps, pct_start=0.1)
    loss_sum, start = 0.0, time.time()
    for step in range(steps):
        pick = torch.randint(len(labels), (batch,), generator=rng)
        loss = F.cross_entropy(model(distort(frames[pick].float(), rng)), labels[pick], label_smoothing=0.05)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        loss_sum += loss.item()
        if (step + 1) % 500 == 0:
            scores = ", ".join(f"{k} {accuracy(model, *v):.4f}" for k, v in valid.items())
            print(f"step {step + 1}: loss {loss_sum / 500:.4f}, {scores}, {time.time() - start:.0f} s", flush=True)
            loss_sum = 0.0
    return model.eval()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", default="speech.npz", help="rendered speech")
    parser.add_argument("--sounds", default="sounds.npz", help="frames of training sounds")
    parser.add_argument("--out", default="keywords.onnx")
    parser.add_argument("--count", type=int, default=120_000, help="training sounds")
    parser.add_argument("--steps", type=int, default=14_000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    frames, labels = load_sounds(args.cache, args.sounds, args.count)
    sounds, program, valid = Sounds(load_speech(args.cache), "valid", seed=2), front_end(), {}
    for name, noisy in (("clean", False), ("noisy", True)):
        samples, truth, kinds = sounds.every(noisy, np.random.default_rng(3))
        x, y = torch.from_numpy(normalise(features(samples, program))), torch.from_numpy(truth)
        keyword, recorded = truth < UNKNOWN, kinds == "festival-ked"
        valid[name] = x, y
        valid[f"{name} recorded keywords"] = x[keyword & recorded], y[keyword & recorded]
    model = KeywordNet()
    print(f"{sum(p.numel() for p in model.parameters())} parameters in training, {len(labels)} sounds")
    model = train(frames, labels, valid, args.steps, args.batch, args.lr, args.seed)
    export(model, args.out)


if __name__ == "__main__":
    main()
