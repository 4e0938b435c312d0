"""What the runs of a model execute on an M4F: cycles.py MODEL PROGRAM CASE PLUGIN prints `M4F MODEL cycles N of M`, the most cycles of a run by
estimate and its instructions; with `--where` behind it, both by function. README.md has the costs."""

import bisect
import collections
import os
import re
import subprocess
import sys
import tempfile

CONDITION = "(?:eq|ne|cs|cc|mi|pl|vs|vc|hi|ls|ge|lt|gt|le)?"
MULTIPLE = re.compile(rf"(v?ldm|v?stm|push|pop|vpush|vpop)(?:ia|db)?{CONDITION}$")
PAIR = re.compile(rf"(ldrd|strd){CONDITION}$")
LOAD = re.compile(rf"(ldr|ldrb|ldrh|ldrsb|ldrsh|vldr){CONDITION}$")
# Cycles of what takes more than one; what branches takes `REFILL` more each time.
LONG = [
    (re.compile(rf"(vdiv|vsqrt){CONDITION}$"), 14),
    (re.compile(rf"(sdiv|udiv){CONDITION}$"), 7),
    (re.compile(rf"v(fma|fms|fnma|fnms|mla|mls|nmla|nmls){CONDITION}$"), 3),
    (re.compile("tb[bh]$"), 2),
]
REFILL = 2


def registers(operands):
    """Words that an instruction of many registers moves."""
    n = 0
    for part in re.search(r"\{(.*)\}", operands)[1].split(","):
        first, _, last = part.strip().partition("-")
        numbers = {"sl": 10, "fp": 11, "ip": 12, "sp": 13, "lr": 14, "pc": 15}
        number = lambda r: numbers.get(r) or int(r.lstrip("rsd"))
        n += (number(last or first) - number(first) + 1) * (2 if first.startswith("d") else 1)
    return n


def cost(name, operands, after_load):
    """Cycles of an instruction whose branch, if it is one, is not taken, and whether it is a load that another may follow at once."""
    if MULTIPLE.match(name):
        return 1 + registers(operands), False
    if PAIR.match(name):
        return 3, False
    if LOAD.match(name):
        return 1 if after_load else 2, True
    return next((cycles for form, cycles in LONG if form.match(name)), 1), False


class Program:
    def __init__(self, path):
        self.path = path
        text = subprocess.run(["arm-none-eabi-objdump", "-d", "-C", "--no-show-raw-insn", path], check=True, capture_output=True, text=True)
        self.code, self.functions = [], []
        for line in text.stdout.splitlines():
            if head := re.match(r"([0-9a-f]{8}) <(.*)>:$", line):
                self.functions.append((int(head[1], 16), head[2]))
            elif found := re.match(r" *([0-9a-f]+):\t(\S+)\t?(.*)", line):
                self.code.append((int(found[1], 16), found[2].split(".")[0] if found[2][0] != "." else "", found[3]))
        self.places = {at: i for i, (at, _, _) in enumerate(self.code)}
        self.starts = [at for at, _ in self.functions]

    def function(self, at):
        return self.functions[bisect.bisect_right(self.starts, at) - 1][1]

    def span(self, name):
        """Where the function begins whose path ends so, and where its one call returns to."""
        begin = [at for at, own in self.functions if own.split("::h")[0].endswith(name)]
        calls = [i for i, (_, kind, to) in enumerate(self.code) if kind == "bl" and len(begin) == 1 and to.startswith(f"{begin[0]:x} <")]
        if len(calls) != 1:
            sys.exit(f"{self.path}: {name} is there {len(begin)} times, and called {len(calls)} times")
        return begin[0], self.code[calls[0] + 1][0]

    def cycles(self, at, length, times, on):
        """Of a block of so many instructions, executed so often, and without a branch at its end `on` times."""
        first, one, load = self.places[at], 0, False
        for _, name, operands in self.code[first : first + length]:
            if not name:
                sys.exit(f"{self.path}: data are executed at {at:x}")
            n, load = cost(name, operands, load)
            one += n
        return one * times + REFILL * (times - on)


def runs(program, case, plugin):
    """The blocks of each run, and what the program said."""
    begin, back = program.span("checks::infer")
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "blocks")
        command = ["qemu-system-arm", "-machine", "mps2-an386", "-nographic", "-monitor", "none", "-serial", "none", "-icount", "shift=6"]
        command += ["-semihosting-config", "enable=on,target=native", "-kernel", program.path]
        command += ["-device", f"loader,file={case},addr=0x200000,force-raw=on"]
        command += ["-plugin", f"{plugin},out={out},from={begin:#x},until={back:#x}"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        found = []
        with open(out) as file:
            for line in file:
                if line == "run\n":
                    found.append([])
                else:
                    _, at, *counts = line.split()
                    found[-1].append((int(at, 16), *map(int, counts)))
    return found, done.stdout


def main():
    model, path, case, plugin = sys.argv[1:5]
    program = Program(path)
    found, said = runs(program, case, plugin)
    totals = []
    for blocks in found:
        by = collections.defaultdict(lambda: [0, 0])
        for at, length, times, on in blocks:
            counts = by[program.function(at)]
            counts[0] += program.cycles(at, length, times, on)
            counts[1] += length * times
        totals.append(([sum(counts[i] for counts in by.values()) for i in (0, 1)], by))
    (cycles, instructions), by = max(totals, key=lambda total: total[0])
    # The board's timer counts the instructions, too: with those of the call, and in ticks.
    least, most, vectors = (int(re.search(p, said)[1]) for p in (r"instructions (\d+)", r"to (\d+)", r"vectors (\d+)"))
    if len(found) != vectors or not least - 20 <= instructions <= most + 20:
        sys.exit(f"{model}: {instructions} instructions in one of {len(found)} runs, but the program said: {said}")
    print(f"M4F {model} cycles {cycles} of {instructions}")
    if sys.argv[5:] == ["--where"]:
        print("  millions\n    cycles       instructions")
        for name, (n, executed) in sorted(by.items(), key=lambda item: -item[1][0])[:20]:
            print(f"{n / 1e6:10.3f} {n / cycles:6.1%} {executed / 1e6:8.3f} {executed / instructions:6.1%}  {name[:120]}")


main()
