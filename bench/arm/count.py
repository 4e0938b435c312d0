"""Executed instructions of an inference on AArch64, size and start of a program, and cycles of the inner loops."""

import argparse
import bisect
import glob
import json
import math
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
CACHE = os.path.join(HERE, ".cache")
KINGLET = os.path.join(ROOT, "target/release/kinglet")
PROGRAM = os.path.join(ROOT, "target/aarch64/aarch64-unknown-linux-gnu/release/examples/run")
# The race writes and quantises the models.
MODELS = os.path.join(ROOT, "bench/race/.cache")
SYSROOT = "/usr/aarch64-linux-gnu"
# The emulator's name of each CPU, the target of the plan that it runs, and what multiplies bytes.
CPUS = {
    "max": ("max,sve=off,sme=off", "armv8-i8mm", "i8mm"),
    "cortex-a76": ("cortex-a76", "armv8", "dot product"),
    "cortex-a53": ("cortex-a53", "armv8", "baseline"),
}
TINY = ["ad01_int8", "str_ww_ref_model", "kws_ref_model", "vww_96_int8", "pretrainedResnet_quant"]
ZOO = [
    "lmuformer-conv", "slmuformer-scan", "netmamba-scan", "vanillanet-5", "poolformer-s12", "identityformer-s12", "randformer-s12",
    "poolformerv2-s12", "convformer-s18", "caformer-s18", "dwformer", "mpgnet-t",
]
# Emulated floats take a thousand times as long as real ones.
FLOATS = ["lmuformer-conv", "slmuformer-scan", "netmamba-scan", "poolformer-s12"]
HALVES = FLOATS + ["vanillanet-5"]

HEAD = """# Performance on AArch64

What Kinglet executes on the CPUs of phones, counted under emulation. Written by `bench/arm/count.sh`; what is counted and how
to read it is in [bench/arm](../bench/arm/README.md).

Millions of instructions of one inference, one thread. **Ratio** is Kinglet's count over that of the peer that executes fewest: below 1
Kinglet executes fewer. *Products* is the share of instructions that multiply vectors. {source}
"""


def kgl(onnx, target, precision="f32"):
    path = os.path.join(CACHE, f"{os.path.basename(onnx)[:-5]}.{target}.{precision}.kgl")
    if not os.path.exists(path) or os.path.getmtime(path) < max(os.path.getmtime(onnx), os.path.getmtime(KINGLET)):
        command = [KINGLET, "convert", onnx, "-o", path, "--target", target, "--precision", precision]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return path


def counted(model, cpu, times, options=""):
    """What the plugin writes of a process that runs a model so many times, line by line."""
    out = os.path.join(CACHE, "count.txt")
    plugin = f"{os.path.join(CACHE, 'count.so')},out={out}{options}"
    command = ["qemu-aarch64", "-cpu", CPUS[cpu][0], "-plugin", plugin, "-L", SYSROOT, PROGRAM, model, str(times)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with open(out) as file:
        return [line.split() for line in file]


def executed(model, cpu, times):
    """Instructions, and products of them."""
    counts = dict(counted(model, cpu, times)[:2])
    return [int(counts["all"]), int(counts["products"])]


def by_function(model, cpu, times):
    """Instructions by function of the program; those of libraries together."""
    text = subprocess.run(["aarch64-linux-gnu-nm", "-C", "-n", "--defined-only", PROGRAM], check=True, capture_output=True, text=True)
    functions = [line.split(" ", 2) for line in text.stdout.splitlines()]
    functions = [(int(f[0], 16), f[2]) for f in functions if len(f) == 3 and f[1] in "tTwW"]
    starts, counts = [f[0] for f in functions], {}
    for _, address, length, runs in (line for line in counted(model, cpu, times, ",blocks=on") if line[0] == "block"):
        # Where the emulator puts a program that may lie anywhere.
        at = int(address, 16) - 0x5500000000
        inside = 0 <= at < starts[-1] + 4096
        name = functions[bisect.bisect_right(starts, at) - 1][1] if inside else "libraries (copies, mostly)"
        counts[name] = counts.get(name, 0) + int(length) * int(runs)
    return counts


def where(names, precision):
    """Prints where the instructions of an inference go."""
    for name in names:
        onnx = os.path.join(MODELS, f"{name}.onnx")
        for cpu in CPUS:
            model = kgl(onnx, CPUS[cpu][1], precision)
            first, second = by_function(model, cpu, 1), by_function(model, cpu, 2)
            counts = sorted(((n - first.get(f, 0), f) for f, n in second.items()), reverse=True)
            whole = sum(n for n, _ in counts)
            print(f"{name} on {cpu}: {millions(whole)} million")
            for count, function in counts[:12]:
                print(f"  {100 * count / whole:5.1f} %  {function}")


def inference(model, cpu):
    """Of one inference, from the second on."""
    first, second = executed(model, cpu, 1), executed(model, cpu, 2)
    return [b - a for a, b in zip(first, second)]


def rows(names, precision, cpus, peers):
    lines, ratios = [], []
    for name in names:
        suffix = ".int8" if precision == "int8" and name not in TINY else ""
        onnx = os.path.join(MODELS, f"{name}{suffix}.onnx")
        if not os.path.exists(onnx):
            print(f"{name} ({precision}) is left out: {onnx} is not there", file=sys.stderr)
            continue
        cells = []
        for cpu in cpus:
            model = kgl(onnx, CPUS[cpu][1], "f16" if precision == "f16" else "f32")
            count, products = inference(model, cpu)
            peer = peers.get(name, {}).get(cpu)
            ratio = f"{count / peer[0]:.2f} ({peer[1]} {millions(peer[0])})" if peer else "–"
            if peer:
                ratios.append(count / peer[0])
            cells += [millions(count), f"{100 * products / count:.0f} %", ratio]
        line = f"| {name} | {' | '.join(cells)} |"
        print(line, flush=True)
        lines.append(line)
    if ratios:
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        lines += ["", f"Geometric mean of the ratios: **{mean:.2f}**, most {max(ratios):.2f}."]
    return lines


def millions(count):
    count /= 1e6
    return f"{count:.0f}" if count >= 100 else f"{count:.3g}"


def table(names, precision, cpus, peers):
    head = "".join(f" {cpu} ({CPUS[cpu][2]}) | products | ratio |" for cpu in cpus)
    rule = " ---: | ---: | ---: |" * len(cpus)
    return [f"## {precision}", "", f"| model |{head}", f"| --- |{rule}", *rows(names, precision, cpus, peers), ""]


def size_and_start():
    stripped = os.path.join(CACHE, "run.stripped")
    subprocess.run(["aarch64-linux-gnu-strip", "-o", stripped, PROGRAM], check=True)
    lines = ["## Size and start", "", f"The stripped program that runs a model, with all sets of kernels: {os.path.getsize(stripped):,} bytes.", ""]
    for name in ["kws_ref_model"]:
        onnx = os.path.join(MODELS, f"{name}.onnx")
        if os.path.exists(onnx):
            for target, cpu in [("armv8-i8mm", "max"), ("armv8", "max"), ("armv8", "cortex-a53")]:
                count = executed(kgl(onnx, target), cpu, 1)[0]
                what = f"From the start of the process to the first answer, {name}, plan for `{target}` on {cpu}"
                lines.append(f"* {what}: {millions(count)} million instructions.")
    return [*lines, ""]


# What multiplies vectors, by name, and how such an instruction looks; `smlal` goes with `smull`.
PRODUCTS = {
    "smmla": r"smmla", "sdot": r"sdot", "smull": r"smull|smlal", "fmla": r"fmla\s.*\.4s", "fmla of halves": r"fmla\s.*\.8h",
}


def loops():
    """The loops of the program that multiply vectors, by their instruction, as text."""
    text = subprocess.run(["aarch64-linux-gnu-objdump", "-d", "--no-show-raw-insn", PROGRAM], check=True, capture_output=True, text=True)
    code = []
    for line in text.stdout.splitlines():
        match = re.match(r"\s*([0-9a-f]+):\t(.*)", line)
        if match:
            code.append((int(match[1], 16), match[2].split("//")[0].strip()))
    at = {address: i for i, (address, _) in enumerate(code)}
    found = {}
    for i, (address, line) in enumerate(code):
        match = re.match(r"b\.ne\s+([0-9a-f]+)", line)
        first = at.get(int(match[1], 16)) if match else None
        if first is None or not 4 < i - first < 200:
            continue
        body = [line for _, line in code[first:i]]
        for op, is_product in PRODUCTS.items():
            n = sum(bool(re.match(is_product, line)) for line in body)
            branches = any(re.match(r"(b|cb|tb|bl|ret)[.a-z]*\s", line) for line in body)
            if n >= 8 and not branches and (op, n, len(body)) not in found:
                found[op, n, len(body)] = [re.sub(r"\s*<.*", "", line) for line in body]
    return found


def cycles(body, cpu):
    source = ".arch armv8.2-a+dotprod+i8mm+fp16\n" + "\n".join(body) + "\nsub x30, x30, #1\n"
    command = ["llvm-mca-19", "-mtriple=aarch64", f"-mcpu={cpu}", "-mattr=+dotprod,+i8mm", "-iterations=200"]
    result = subprocess.run(command, input=source, capture_output=True, text=True)
    match = re.search(r"Total Cycles:\s+(\d+)", result.stdout)
    return int(match[1]) / 200 if match else None


def inner_loops():
    cores = ["cortex-a55", "cortex-a76", "cortex-x1"]
    found = sorted(loops().items())
    # The probes do nothing but multiply (and widen, where products are of 16 bits): what they reach is the peak of the model of a core.
    is_probe = lambda op, n, body: len(body) == n * (2 if op == "smull" else 1) + 1
    peaks = {(op, core): n / cycles(body, core) for (op, n, _), body in found if is_probe(op, n, body) for core in cores}
    lines = ["## Inner loops", "", "Cycles of a round by `llvm-mca`, and the share of the multiplications that a loop of nothing else issues in as many. (That of `smull` widens each product; loops that widen two together exceed it.)"]
    lines += ["", "| loop | instructions | " + " | ".join(cores) + " |", "| --- | ---: |" + " ---: |" * len(cores)]
    for (op, n, _), body in found:
        if is_probe(op, n, body):
            continue
        cells = []
        for core in cores:
            count, peak = cycles(body, core), peaks.get((op, core))
            cells.append(f"{count:.0f} ({100 * n / count / peak:.0f} %)" if count and peak else "–")
        lines.append(f"| {n} × {op} | {len(body) + 1} | {' | '.join(cells)} |")
    return [*lines, ""]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", help="count these alone, and write no document")
    parser.add_argument("--where", action="store_true", help="print where the instructions of these go, by function")
    parser.add_argument("--precision", default="f32", help="of these plans: f32 or f16")
    arguments = parser.parse_args()
    chosen = arguments.models
    if arguments.where:
        return where(chosen, arguments.precision)
    with open(os.path.join(HERE, "peers.json")) as file:
        peers = json.load(file)
    if chosen:
        for precision, names in [("int8", TINY + ZOO), ("f32", FLOATS), ("f16", HALVES)]:
            rows([n for n in names if n in chosen], precision, list(CPUS) if precision == "int8" else ["max"], peers[precision])
        return
    lines = [HEAD.format(source=peers["source"])]
    lines += table(TINY + ZOO, "int8", list(CPUS), peers["int8"])
    lines += table(FLOATS, "f32", ["max"], peers["f32"])
    lines += table(HALVES, "f16", ["max"], peers["f16"])
    lines += size_and_start() + inner_loops()
    with open(os.path.join(ROOT, "docs/performance-arm.md"), "w") as file:
        file.write("\n".join(lines).rstrip() + "\n")


main()
