"""The lines of tests/cortex-m/run as a document."""

import json
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
CORES = ["M0+", "M3", "M4", "M4F", "M7", "M33", "M33F", "M55"]
LINE = re.compile(
    r"(\S+) (\S+) vectors \d+ instructions (\d+) to (\d+) load (\d+) stack (\d+) arena (\d+) weights (\d+)"
)

HEAD = """# Performance on Cortex-M

What Kinglet executes and takes on microcontrollers, under emulation. M4 and M33 (without floats), M4F, M7 and M33F run plans for `cortex-m`, whose products of bytes
are multiplied and rounded by DSP instructions; M55 runs plans for `cortex-m55`, whose products Helium multiplies (a vector instruction counts one,
however many beats it takes). Everything else is portable, and so are M0+ and M3, which run plans for `mcu`. On the M4F each
program is cut to its model. Written by `bench/cortex-m/count.sh`; what is counted is in [bench/cortex-m](../bench/cortex-m/README.md). Every output of every run is
the host's, to the byte (`tests/cortex-m/run`).

Plans are in bands of rows with integers at the door (`--bands memory --io quantized`). {source}
"""


def millions(n):
    return f"{n / 1e6:.3g}"


def main():
    with open(os.path.join(HERE, "peers.json")) as file:
        peers = json.load(file)
    runs, code, cycles = {}, {}, {}
    for line in sys.stdin:
        match = LINE.match(line)
        words = line.split()
        if match:
            runs[match[2], match[1]] = [int(n) for n in match.groups()[2:]]
        elif len(words) == 4 and words[2] == "code":
            code[words[1]] = int(words[3])
        elif len(words) == 6 and words[2] == "cycles":
            cycles[words[1]] = int(words[3]), int(words[5])
    # Products of every form are a test, and no model.
    models = sorted({model for model, _ in runs if "-" not in model})
    print(HEAD.format(source=peers["source"]))
    print("## Instructions\n\nMillions of one inference, the most of three vectors; in brackets the ratio to the peer, below 1 is ahead.\n")
    print("| model | " + " | ".join(CORES) + " |\n| --- |" + " ---: |" * len(CORES))
    for model in models:
        cells = []
        for core in CORES:
            # Floats are not run where they are functions and no instructions.
            if (model, core) not in runs:
                cells.append("")
                continue
            most, peer = runs[model, core][1], peers.get(model, {}).get(core)
            cells.append(f"{millions(most)} ({most / peer[0]:.2f})" if peer else millions(most))
        print(f"| {model} | {' | '.join(cells)} |")
    board = peers["boards"]["M4F"]
    print("\n## Cycles\n\nMillions of one inference on a Cortex-M4F: an estimate from its instructions, no measurement, with neither wait states of a "
          f"flash nor stalls\n([what is counted](../bench/cortex-m/README.md#cycles)). Beside it the record on a board, and the ratio to it, below 1 is\nahead: {board['source']}.\n")
    print("| model | estimated cycles of an M4F | cycles an instruction | record | ratio |\n| --- | ---: | ---: | ---: | ---: |")
    for model in models:
        (n, executed), record = cycles[model], board.get(model)
        beside = f"{record:.2f} | {n / 1e6 / record:.2f}" if record else "|"
        print(f"| {model} | {millions(n)} | {n / executed:.2f} | {beside} |")
    print("\n## Memory\n\nBytes, on a Cortex-M4F; in brackets the ratio to the peer. Code is that of a program which runs the model alone.\n")
    print("| model | arena | stack | together | code and constants | weights |\n| --- | ---: | ---: | ---: | ---: | ---: |")
    for model in models:
        _, _, _, stack, arena, weights = runs[model, "M4F"]
        peer = peers.get(model, {}).get("M4F")
        of = lambda n, i: f"{n:,} ({n / peer[i]:.2f})" if peer else f"{n:,}"
        print(f"| {model} | {arena:,} | {stack:,} | {of(arena + stack, 2)} | {of(code[model], 1)} | {weights:,} |")
    print("\n## With more RAM\n\nPlans for a given arena (`--region`) have larger slices, and so fewer calls of kernels. Ratios as above.\n")
    print("| model | core | `--region` | million instructions | arena and stack |\n| --- | --- | ---: | ---: | ---: |")
    for (model, core), (_, most, _, stack, arena, _) in sorted(runs.items()):
        name, _, room = model.partition("-")
        if room.isdigit() and name not in ("products", "windows", "frames", "floats", "elements", "memories") and core in ("M4F", "M55"):
            peer = peers[name][core]
            print(f"| {name} | {core} | {int(room):,} | {millions(most)} ({most / peer[0]:.2f}) | {arena + stack:,} ({(arena + stack) / peer[2]:.2f}) |")


main()
