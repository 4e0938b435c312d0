"""Train the Kinglet glyph classifier and export it to ONNX.

The network reads one printed character (0-9, A-Z, a-z) from a 32x32 greyscale
image. It follows VanillaNet (Chen et al., "VanillaNet: the Power of Minimalism
in Deep Learning", 2023): no shortcuts, plain convolutions, a "series
activation" (ReLU followed by a depthwise convolution), and the deep training
strategy, in which every deploy-time convolution is trained as two convolutions
with a nonlinearity between them that fades to the identity. After training,
batch normalisation and those pairs are folded into single convolutions.

    python train.py --cache glyph_cache.npz --out glyphs.onnx

The glyphs are rendered with Pillow from installed Debian font packages (see
packages.txt) and split by font family; see `split_families`.
"""

import argparse
import math
import os
import re
import time

import numpy as np
import onnx
import torch
import torch.nn as nn
import torch.nn.functional as F
from fontTools.ttLib import TTFont
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageDraw, ImageFont

LABELS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
MEAN, STD = 0.5, 0.25  # of pixels scaled to 0..1

# ---------------------------------------------------------------- rendering

CANVAS = 64  # rendering resolution; the network sees half of it
CAP_HEIGHT = 38  # height of 'H' on the canvas, the same for every font
BASELINE = 47  # canvas row of the baseline, the same for every font

# Not text faces, or too thin to survive at 32x32.
EXCLUDE = re.compile(
    r"symbol|math|keyboard|inverted|D050000L|Z003|nushu|caliban|cupola|domestic"
    r"|wasn't|junkyard|wargames|keyfont|hairline|thin|script",
    re.IGNORECASE,
)

# The family of a font is the first word of its name, with these exceptions:
# designs derived from one another count as one family.
CLONES = {
    "vera": "dejavu verana waree hack",
    "liberation": "arimo tinos cousine",
    "urw": "nimbus freesans freeserif freemono stix stixgeneral kinnari norasi garuda"
    " loma umpush tlwg doulos tribun switzera c059 p052",
    "yrsa": "rasa",
    "mplus": "m",
    "monoid": "monoisome",
    "opendyslexic": "opendyslexicalta opendyslexicmono",
    "karla": "karmilla",
    "lato": "carlito",
    "noto": "open",
    "nanum": "nanumbarungothic nanumgothic nanumgothiccoding nanummyeongjo nanumsquare"
    " nanumsquareround",
    "beteckna": "betecknags betecknagscondensed",
    "oxygen": "oxygen-sans",
    "eurofurence": "monofur unifur",
}
CLONE_OF = {member: root for root, members in CLONES.items() for member in members.split()}


def family_of(name):
    """Family key of a font's full name, e.g. 'DejaVu Sans Mono' -> 'vera'."""
    word = name.split()[0].lower()
    return CLONE_OF.get(word, word)


def render_font(path):
    """Render all labels of one font with a common scale and a common baseline.

    Returns uint8 ink coverage [62, 64, 64] (0 is paper, 255 is ink), or None
    if the font does not fit the canvas at a comparable size.
    """
    basic = ImageFont.Layout.BASIC
    font = ImageFont.truetype(path, 200, layout_engine=basic)
    boxes = [font.getbbox(c, anchor="ls") for c in LABELS]
    cap = -font.getbbox("H", anchor="ls")[1]
    above = max(-top for _, top, _, _ in boxes)
    below = max(max(bottom for _, _, _, bottom in boxes), 1)
    width = max(right - left for left, _, right, _ in boxes)
    if cap <= 0:
        return None
    scale = min(
        CAP_HEIGHT / cap,
        (BASELINE - 1) / above,
        (CANVAS - BASELINE - 1) / below,
        (CANVAS - 4) / width,
    )
    if scale * cap < 30:
        return None
    font = ImageFont.truetype(path, 200 * scale, layout_engine=basic)
    out = np.zeros((len(LABELS), CANVAS, CANVAS), np.uint8)
    for i, c in enumerate(LABELS):
        left, _, right, _ = font.getbbox(c, anchor="ls")
        image = Image.new("L", (CANVAS, CANVAS))
        x = CANVAS / 2 - (left + right) / 2
        ImageDraw.Draw(image).text((x, BASELINE), c, font=font, fill=255, anchor="ls")
        out[i] = np.asarray(image)
    return out


def shape_of(glyph):
    """Glyph [64, 64] cropped to its ink, as a 16x16 picture [256], and its height."""
    rows = np.flatnonzero(glyph.max(1) > 64)
    cols = np.flatnonzero(glyph.max(0) > 64)
    if len(rows) == 0:
        return np.zeros(256, np.float32), 0
    crop = glyph[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    small = np.asarray(Image.fromarray(crop).resize((16, 16)), np.float32).ravel()
    return small, len(rows)


def is_usable(glyphs):
    """Whether the labels of a rendered font [62, 64, 64] can be told apart at all.

    Leaves out fonts with small capitals for lower case letters, lower case as
    tall as upper case, or old style figures (where '0' is 'o' and '1' is 'I').
    """
    shapes = {c: shape_of(glyphs[i]) for i, c in enumerate(LABELS)}
    if any(height == 0 for _, height in shapes.values()):
        return False
    same = [np.corrcoef(shapes[c][0], shapes[c.upper()][0])[0, 1] for c in "abegnrt"]
    size = [shapes[c][1] / shapes[c.upper()][1] for c in "xzvw"]
    figure = shapes["0"][1] / shapes["H"][1]
    return np.mean(same) < 0.8 and np.mean(size) < 0.95 and figure > 0.85


def render_all(root):
    """Render every usable outline font below `root`.

    Returns (glyphs uint8 [fonts, 62, 64, 64], names [fonts], families [fonts]).
    """
    glyphs, names, seen = [], [], set()
    for folder, _, files in sorted(os.walk(root)):
        for file in sorted(files):
            if not file.lower().endswith((".ttf", ".otf")):
                continue
            path = os.path.join(folder, file)
            table = TTFont(path, lazy=True)
            cmap = table.getBestCmap() or {}
            if any(ord(c) not in cmap for c in LABELS):
                continue
            name = table["name"]
            full = "%s %s" % (
                name.getDebugName(16) or name.getDebugName(1),
                name.getDebugName(17) or name.getDebugName(2),
            )
            full = " ".join(full.split())
            if EXCLUDE.search(full) or EXCLUDE.search(file):
                continue
            font = render_font(path)
            if font is None or not is_usable(font) or font.tobytes() in seen:
                continue
            seen.add(font.tobytes())
            glyphs.append(font)
            names.append(full)
    order = sorted(range(len(names)), key=lambda i: (names[i], glyphs[i].tobytes()))
    names = [names[i] for i in order]
    return np.stack([glyphs[i] for i in order]), names, [family_of(n) for n in names]


def load_glyphs(cache, fonts="/usr/share/fonts"):
    """`render_all`, kept in the file `cache` between runs."""
    if not os.path.exists(cache):
        glyphs, names, families = render_all(fonts)
        np.savez_compressed(cache, glyphs=glyphs, names=names, families=families)
    data = np.load(cache)
    return data["glyphs"], data["names"].tolist(), data["families"].tolist()


# -------------------------------------------------------------------- split

# 'vera' (DejaVu and relatives) and 'liberation' are held out on purpose, so
# that the sample images come from fonts everybody has, and 'urw' (the biggest
# group of clones) is trained on. The rest were drawn at random, before any
# training, and are written out so that installing more fonts cannot move a
# family to the other side.
TEST_FAMILIES = (
    "anonymous b612 cabin comfortaa comic gentium go ikarius inconsolata jura liberation"
    " manrope monoid mplus opendyslexic oxygen pt routed tuffy vera"
).split()
VALID_FAMILIES = "eurofurence hermit karla millimetre okolaks yrsa".split()


def split_families(families, names, per_family=8):
    """Split font indices by family: {'train': [...], 'valid': [...], 'test': [...]}.

    Validation and test keep at most `per_family` evenly spaced fonts of a family.
    """
    split = {"train": [], "valid": [], "test": []}
    for family in sorted(set(families)):
        fonts = [i for i, f in enumerate(families) if f == family]
        part = "train"
        if family in TEST_FAMILIES:
            part = "test"
        elif family in VALID_FAMILIES:
            part = "valid"
        if part != "train" and len(fonts) > per_family:
            fonts = [fonts[int(k * len(fonts) / per_family)] for k in range(per_family)]
        split[part] += fonts
    return split


def closest_across(glyphs, left, right):
    """Most similar pair of fonts across two index lists: (similarity, i, j).

    Similarity is the cosine between all 62 glyphs after removing the mean font,
    a check that no near copy of a held-out font was trained on.
    """
    v = glyphs.reshape(len(glyphs), len(LABELS), 16, 4, 16, 4).mean((3, 5))
    v = v.reshape(len(glyphs), -1)
    v = v - v.mean(0)
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    s = v[left] @ v[right].T
    a, b = np.unravel_index(s.argmax(), s.shape)
    return float(s[a, b]), left[a], right[b]


# -------------------------------------------------------------- distortions

BLUR = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16


def uniform(n, low, high, rng):
    """n values from [low, high), shape [n]."""
    return low + (high - low) * torch.rand(n, generator=rng)


def distort(ink, rng, strength=1.0):
    """Turn rendered ink into network-sized greyscale pictures.

    ink: uint8 [n, 64, 64], 255 is ink. rng: torch.Generator. Strength 0 gives
    clean black on white. Returns float [n, 1, 32, 32] in 0..1, rounded to
    8-bit steps.
    """
    n = len(ink)
    x = ink.float().div(255).unsqueeze(1)
    if strength == 0:
        return (F.avg_pool2d(1 - x, 2) * 255).round() / 255

    def amount(low, high):
        return uniform(n, low * strength, high * strength, rng)

    def each(v):
        return v.view(n, 1, 1, 1)

    # Thickness: blend with a dilation (or, less often, an erosion).
    thick = amount(-0.5, 1.0)
    x = torch.where(
        each(thick) > 0,
        x + each(thick) * (F.max_pool2d(x, 3, 1, 1) - x),
        x + each(thick) * (x + F.max_pool2d(-x, 3, 1, 1)),
    )

    # Rotation, shear, scale, aspect and translation. One sample per output
    # pixel lies between four canvas pixels, which halves the resolution.
    angle, shear = amount(-0.15, 0.15), amount(-0.2, 0.2)
    size, aspect = amount(-0.12, 0.12).exp(), amount(-0.12, 0.12).exp()
    cos, sin = angle.cos(), angle.sin()
    a, d = 1 / (size * aspect), 1 / size
    theta = torch.stack(
        [
            torch.stack([a * cos, a * (sin + shear), amount(-0.125, 0.125)], 1),
            torch.stack([-d * sin, d * cos, amount(-0.11, 0.11)], 1),
        ],
        1,
    )
    grid = F.affine_grid(theta, (n, 1, CANVAS // 2, CANVAS // 2), align_corners=False)
    x = F.grid_sample(x, grid, align_corners=False)

    # Blur, by blending with a blurred copy.
    blurred = F.conv2d(F.pad(x, (2, 2, 2, 2)), (BLUR[:, None] * BLUR).view(1, 1, 5, 5))
    x = x + each(amount(-0.5, 1.0).clamp(min=0)) * (blurred - x)

    # Contrast, brightness, a shading ramp, inversion, noise.
    contrast = 1 - amount(0, 0.65)
    paper = contrast + uniform(n, 0, 1, rng) * (1 - contrast)
    x = each(paper) - each(contrast) * x
    ramp = torch.linspace(-1, 1, CANVAS // 2)
    x = x + each(amount(-0.08, 0.08)) * ramp + each(amount(-0.08, 0.08)) * ramp.view(-1, 1)
    x = torch.where(each(uniform(n, 0, 1, rng)) < 0.3 * strength, 1 - x, x)
    x = x + each(amount(0, 0.1)) * torch.randn(x.shape, generator=rng)
    return (x.clamp(0, 1) * 255).round() / 255


def normalise(pixels):
    """Pixels in 0..1 to network input, same shape."""
    return (pixels - MEAN) / STD


# -------------------------------------------------------------------- model


class SeriesActivation(nn.Module):
    """ReLU, then a depthwise (2n+1)x(2n+1) convolution. [b, c, h, w] -> same."""

    def __init__(self, channels, n):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 2 * n + 1, padding=n, groups=channels, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x):
        return self.norm(self.conv(F.relu(x)))


class Stage(nn.Module):
    """Convolution, optional 2x2 max pooling, series activation.

    [b, cin, h, w] -> [b, cout, h', w']. While training the convolution is a
    pair (`first`, then 1x1 `second`) around a leaky ReLU whose slope `leak`
    goes from 0 to 1, after which the pair is linear and can be merged.
    """

    def __init__(self, cin, cout, kernel=1, stride=1, pad=0, pool=False, n=1):
        super().__init__()
        mid = cout if kernel > 1 else cin
        self.first = nn.Conv2d(cin, mid, kernel, stride, pad, bias=False)
        self.first_norm = nn.BatchNorm2d(mid)
        self.second = nn.Conv2d(mid, cout, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(cout)
        self.pool = pool
        self.act = SeriesActivation(cout, n)
        self.leak = 0.0

    def forward(self, x):
        x = self.first_norm(self.first(x))
        x = F.leaky_relu(x, self.leak)
        x = self.second_norm(self.second(x))
        if self.pool:
            x = F.max_pool2d(x, 2)
        return self.act(x)


class GlyphNet(nn.Module):
    """[b, 1, 32, 32] -> logits [b, 62]."""

    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleList(
            [
                Stage(1, 32, kernel=4, stride=2, pad=1, n=2),  # [32, 16, 16]
                Stage(32, 64, pool=True, n=2),  # [64, 8, 8]
                Stage(64, 128, n=2),  # [128, 8, 8]
                Stage(128, 160, pool=True, n=1),  # [160, 4, 4]
                Stage(160, 224, n=1),  # [224, 4, 4]
            ]
        )
        self.head = nn.Conv2d(224, len(LABELS), 1)

    def forward(self, x):
        for stage in self.stages:
            x = stage(x)
        return self.head(x.mean((2, 3), keepdim=True)).flatten(1)


# ---------------------------------------------------------- folding, export


def fold_norm(weight, norm):
    """Fold a BatchNorm into the bias-free convolution before it.

    weight [o, i, k, k] -> (weight [o, i, k, k], bias [o]), in float64.
    """
    gain = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    bias = norm.bias.double() - norm.running_mean.double() * gain
    return weight.double() * gain.view(-1, 1, 1, 1), bias


def fold_stage(stage):
    """Deploy-time form of a trained Stage (leak must be 1).

    Returns ((weight [cout, cin, k, k], bias [cout]) of the convolution,
    (weight [cout, 1, k, k], bias [cout]) of the series activation).
    """
    assert stage.leak == 1.0
    w1, b1 = fold_norm(stage.first.weight, stage.first_norm)
    w2, b2 = fold_norm(stage.second.weight, stage.second_norm)
    w2 = w2[:, :, 0, 0]
    weight = torch.einsum("om,mikl->oikl", w2, w1)
    bias = b2 + w2 @ b1
    return (weight, bias), fold_norm(stage.act.conv.weight, stage.act.norm)


def export(model, path):
    """Write the folded network as an ONNX file with a symbolic batch."""
    nodes, weights = [], []

    def add(op, inputs, output, **attributes):
        nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def conv(x, name, weight, bias, **attributes):
        for suffix, value in (("weight", weight), ("bias", bias)):
            array = value.detach().float().numpy()
            weights.append(numpy_helper.from_array(array, f"{name}.{suffix}"))
        shape = list(weight.shape[2:])
        inputs = [x, f"{name}.weight", f"{name}.bias"]
        return add("Conv", inputs, name, kernel_shape=shape, **attributes)

    x = "image"
    for i, stage in enumerate(model.stages):
        (weight, bias), (act_weight, act_bias) = fold_stage(stage)
        name = f"stage{i}"
        s, p = stage.first.stride, stage.first.padding
        x = conv(x, f"{name}.conv", weight, bias, strides=list(s), pads=list(p) * 2)
        if stage.pool:
            x = add("MaxPool", [x], f"{name}.pool", kernel_shape=[2, 2], strides=[2, 2])
        x = add("Relu", [x], f"{name}.relu")
        p, channels = stage.act.conv.padding, act_weight.shape[0]
        x = conv(x, f"{name}.act", act_weight, act_bias, pads=list(p) * 2, group=channels)
    x = add("GlobalAveragePool", [x], "mean")
    x = conv(x, "head", model.head.weight, model.head.bias)
    add("Flatten", [x], "logits", axis=1)

    graph = helper.make_graph(
        nodes,
        "glyphs",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 32, 32])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(LABELS)])],
        weights,
    )
    onnx_model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
        producer_name="kinglet-glyphs",
    )
    helper.set_model_props(onnx_model, metadata())
    onnx.checker.check_model(onnx_model, full_check=True)
    onnx.save(onnx_model, path)


def metadata():
    """The metadata_props that tell Kinglet how to use the files."""
    return {
        "kinglet.image.mode": "gray",
        "kinglet.image.mean": str(MEAN),
        "kinglet.image.std": str(STD),
        "kinglet.labels": "\n".join(LABELS),
    }


# ----------------------------------------------------------------- training


@torch.no_grad()
def accuracy(model, glyphs, fonts, strength, seed):
    """Top-1 over every label of the given fonts."""
    rng = torch.Generator().manual_seed(seed)
    model.eval()
    right = 0
    target = torch.arange(len(LABELS))
    for font in fonts:
        x = normalise(distort(torch.from_numpy(glyphs[font]), rng, strength))
        right += (model(x).argmax(1) == target).sum().item()
    model.train()
    return right / (len(fonts) * len(LABELS))


def train(glyphs, families, split, steps, batch, lr, seed):
    """Train a GlyphNet and return it with leak 1, ready to fold."""
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    ink = torch.from_numpy(glyphs)
    fonts = torch.tensor(split["train"])
    # A family is drawn in proportion to the square root of its size.
    count = {f: sum(families[i] == f for i in split["train"]) for f in set(families)}
    weight = torch.tensor([count[families[i]] ** -0.5 for i in split["train"]])

    model = GlyphNet().to(memory_format=torch.channels_last)
    decay = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": 0.02}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps, pct_start=0.1)
    loss_sum, start = 0.0, time.time()
    for step in range(steps):
        leak = min(1.0, step / (0.7 * steps))
        for stage in model.stages:
            stage.leak = leak
        font = fonts[torch.multinomial(weight, batch, replacement=True, generator=rng)]
        label = torch.randint(len(LABELS), (batch,), generator=rng)
        x = normalise(distort(ink[font, label], rng))
        x = x.contiguous(memory_format=torch.channels_last)
        loss = F.cross_entropy(model(x), label, label_smoothing=0.05)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        loss_sum += loss.item()
        if (step + 1) % 200 == 0:
            line = f"step {step + 1} loss {loss_sum / 200:.4f} leak {leak:.2f}"
            if (step + 1) % 1000 == 0 or step + 1 == steps:
                line += f" valid {accuracy(model, glyphs, split['valid'], 1.0, 1):.4f}"
            print(f"{line} {time.time() - start:.0f} s", flush=True)
            loss_sum = 0.0
    model.eval()
    for stage in model.stages:
        stage.leak = 1.0
    return model


def cost():
    """Multiply-accumulates and parameters of the deploy-time network."""
    macs = params = 0
    size = 32
    for stage in GlyphNet().stages:
        cin, k = stage.first.in_channels, stage.first.kernel_size[0]
        cout, ka = stage.second.out_channels, stage.act.conv.kernel_size[0]
        size = size // stage.first.stride[0]
        macs += size * size * cin * cout * k * k
        size = size // 2 if stage.pool else size
        macs += size * size * cout * ka * ka
        params += cin * cout * k * k + cout + cout * ka * ka + cout
    macs += cout * len(LABELS)
    params += (cout + 1) * len(LABELS)
    return macs, params


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", default="glyph_cache.npz", help="rendered glyphs")
    parser.add_argument("--out", default="glyphs.onnx")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    glyphs, names, families = load_glyphs(args.cache)
    split = split_families(families, names)
    for part, fonts in split.items():
        print(f"{part}: {len(fonts)} fonts of {len({families[i] for i in fonts})} families")
    s, i, j = closest_across(glyphs, split["train"], split["test"])
    print(f"closest fonts across train and test: {names[i]} / {names[j]}, similarity {s:.3f}")
    macs, params = cost()
    print(f"{params} parameters, {macs} multiply-accumulates")

    model = train(glyphs, families, split, args.steps, args.batch, args.lr, args.seed)
    print(f"validation top-1, distorted: {accuracy(model, glyphs, split['valid'], 1.0, 1):.4f}")
    print(f"validation top-1, clean:     {accuracy(model, glyphs, split['valid'], 0.0, 1):.4f}")
    export(model, args.out)


if __name__ == "__main__":
    main()
