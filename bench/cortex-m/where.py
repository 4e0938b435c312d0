"""Where the instructions of a program go: where.py PROGRAM CASE COUNTER, by function, of all vectors of the case with start and checks."""

import bisect
import collections
import os
import subprocess
import sys
import tempfile


def main():
    program, case, counter = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "blocks")
        command = ["qemu-system-arm", "-machine", "mps2-an386", "-nographic", "-monitor", "none", "-serial", "none"]
        command += ["-semihosting-config", "enable=on,target=native", "-kernel", program]
        command += ["-device", f"loader,file={case},addr=0x200000,force-raw=on", "-plugin", f"{counter},out={out},blocks=on"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        with open(out) as file:
            blocks = [line.split() for line in file if line.startswith("block ")]
    text = subprocess.run(["arm-none-eabi-nm", "-C", "-n", "--defined-only", program], check=True, capture_output=True, text=True)
    symbols = [line.split(" ", 2) for line in text.stdout.splitlines()]
    symbols = [(int(at, 16) & ~1, name) for at, kind, name in symbols if kind in "tTwW"]
    starts, counts = [at for at, _ in symbols], collections.Counter()
    for _, at, length, times in (block[:4] for block in blocks):
        counts[symbols[bisect.bisect_right(starts, int(at, 16)) - 1][1]] += int(length) * int(times)
    total = sum(counts.values())
    print(f"{total / 1e6:.3g} million instructions")
    for name, n in counts.most_common(20):
        print(f"{n / 1e6:8.3f} {n / total:6.1%}  {name[:120]}")


main()
