"""Plays the runner of MLPerf Tiny: `runner.py BENCHMARK PROGRAM VECTORS` boots a program on an emulated board, and talks to it as the
official runner does. Prints a line for the benchmark. Exit status 1: the program has said something else than it should."""

import ast
import re
import select
import statistics
import struct
import subprocess
import sys
import time
import zipfile

BOARD = ["qemu-system-arm", "-machine", "mps2-an386", "-display", "none", "-monitor", "none", "-serial", "stdio",
         "-icount", "shift=6", "-semihosting-config", "enable=on,target=native", "-kernel"]
# Bytes of an input that the official runner sends in a command.
CHUNK = 31
# Seconds in which an answer has to come.
PATIENCE = 60


def f32(v):
    """The nearest float of 32 bits. Of a sum or product of two, that is the float's own: 53 bits are enough."""
    return struct.unpack("<f", struct.pack("<f", v))[0]


# Scales and zero points of the published models, input and output.
PROBABILITIES = (1 / 256, -128)
AD_INPUT, AD_OUTPUT = (f32(0.39101523), 89), (f32(0.36449847), 96)


def signed(inputs):
    return struct.pack(f"{len(inputs)}b", *inputs)


def pixels(inputs):
    return bytes(q + 128 for q in inputs)


def decibels(inputs):
    """Floats that are quantised to these integers, though they are up to 0.45 of a step beside them."""
    scale, zero = AD_INPUT
    values = [f32((q - zero + (i % 7 - 3) * 0.15) * scale) for i, q in enumerate(inputs)]
    return struct.pack(f"<{len(values)}f", *values)


def probabilities(outputs, _):
    scale, zero = PROBABILITIES
    return [(q - zero) * scale for q in outputs]


def mean_square(outputs, data):
    scale, zero = AD_OUTPUT
    total = 0.0
    for q, x in zip(outputs, struct.unpack(f"<{len(outputs)}f", data)):
        d = f32(f32((q - zero) * scale) - x)
        total = f32(total + f32(d * d))
    return [f32(total / len(outputs))]


# What the runner calls it, what it sends for quantised inputs, the results of quantised outputs, and vectors and runs of each mode.
BENCHMARKS = {
    "kws": ("kws01", signed, probabilities, 6, 4),
    "ic": ("ic01", pixels, probabilities, 4, 2),
    "vww": ("vww01", pixels, probabilities, 3, 2),
    "ad": ("ad01", decibels, mean_square, 6, 20),
}


def fail(what):
    raise SystemExit(f"{sys.argv[1]} FAILED: {what}")


def npz(path, name):
    """Rows of an array of signed bytes."""
    with zipfile.ZipFile(path) as file:
        data = file.read(f"{name}.npy")
    size = struct.unpack_from("<H", data, 8)[0]
    header = ast.literal_eval(data[10 : 10 + size].decode())
    if header["descr"] != "|i1" or header["fortran_order"]:
        fail(f"{path}: {name} is not of bytes, row by row")
    rows, body = header["shape"][0], data[10 + size :]
    values = struct.unpack(f"{len(body)}b", body)
    each = len(values) // rows
    return [values[i * each : (i + 1) * each] for i in range(rows)]


class Device:
    """A board that is emulated, and its serial port."""

    def __init__(self, program):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        self.board = subprocess.Popen(BOARD + [program], bufsize=0, **pipes)
        self.rest = b""

    def close(self):
        self.board.kill()
        self.board.wait()

    def line(self, until):
        while b"\n" not in self.rest:
            left = until - time.monotonic()
            ready = select.select([self.board.stdout], [], [], max(left, 0))[0]
            more = self.board.stdout.read(65536) if ready else b""
            if not more:
                fail(f"no answer after {self.rest!r}" if not ready else f"the board has stopped: {self.rest!r}")
            self.rest += more
        line, self.rest = self.rest.split(b"\n", 1)
        if not line.endswith(b"\r"):
            fail(f"a line that ends otherwise: {line!r}")
        return line[:-1].decode("ascii")

    def answer(self):
        """Lines until the board is ready."""
        until, lines = time.monotonic() + PATIENCE, []
        while (line := self.line(until)) != "m-ready":
            lines.append(line)
        return lines

    def ask(self, command):
        self.board.stdin.write(command if isinstance(command, bytes) else command.encode() + b"%")
        return self.answer()

    def expect(self, command, *patterns):
        """Asks, and the lines of the answer are these."""
        lines = self.ask(command)
        if len(lines) != len(patterns) or not all(re.fullmatch(p, line) for p, line in zip(patterns, lines)):
            fail(f"{command!r} is answered by {lines}, not by {patterns}")
        return lines

    def load(self, data):
        self.expect(f"db load {len(data)}", rf"m-\[Expecting {len(data)} bytes\]")
        for i in range(0, len(data), CHUNK):
            last = ["m-load-done"] if i + CHUNK >= len(data) else []
            self.expect(f"db {data[i:i + CHUNK].hex()}", *last)

    def infer(self, runs, warmups, results):
        """Runs, whose results are these; microseconds."""
        lap = r"m-lap-us-(\d+)"
        lines = self.expect(f"infer {runs} {warmups}", f"m-warmup-start-{warmups}", "m-warmup-done", f"m-infer-start-{runs}",
                            lap, lap, "m-infer-done", re.escape(results))
        start, end = (int(re.fullmatch(lap, line)[1]) for line in lines[3:5])
        if end <= start:
            fail(f"a run from {start} to {end} microseconds")
        return end - start


def hostile(device, data, results):
    """Commands that are wrong are answered by an error each, and change nothing."""
    n = len(data)
    wrong = ["nam", "NAME", "name name", "db", "db load", "db load 0", "db load -1", "db load 1e3", f"db load {n + 1}",
             "db load 99999999999", "db 0", "db 0g", "db 00 00", "db 00", "db print x", "infer 0 1", "infer -1", "infer 1 -1", "infer 1 1 1",
             "infer 4294967296", "infer one", "results 1", "setbaud 9600", "bl", "x" * 129, "db " + "00" * 5000, "\0\1\2", "a]b[c"]
    wrong = [w.encode() + b"%" for w in wrong] + [bytes(b for b in range(256) if b != ord("%")) + b"%", b"\xff" * 100 + b"%"]
    for command in wrong:
        device.expect(command, r"e-\[.+\]")
    device.expect("results", re.escape(results))
    device.infer(1, 0, results)
    # A load that is cut short, has too much, and is then taken up again.
    device.expect(f"db load {n}", r"m-\[Expecting .*\]")
    device.expect("results", r"e-\[.+\]")
    device.expect("db 0102030405060708ff", *[])
    device.expect("db print 10", "m-buffer-01-02-03-04-05-06-07-08", "m-buffer-ff")
    device.expect("infer 1 0", r"e-\[The input has 9 bytes, not \d+\]")
    device.load(data)
    device.expect("db 00", r"e-\[.+\]")
    device.infer(1, 0, results)
    # Commands that come at once, and nothing at all.
    device.expect(b"\r\nname\r\n%", r"m-name-dut-\[.+\]")
    device.expect("")
    device.board.stdin.write(b"name%%")
    device.answer()
    if device.answer():
        fail("nothing is answered by something")
    return len(wrong)


def main():
    benchmark, program, vectors = sys.argv[1:]
    model, send, reals, most, runs = BENCHMARKS[benchmark]
    cases = []
    for inputs, outputs in list(zip(npz(vectors, "inputs"), npz(vectors, "ort")))[:most]:
        data = send(inputs)
        cases.append((data, f"m-results-[{','.join(f'{v:.3f}' for v in reals(outputs, data))}]"))
    if len(cases) < most or len({results for _, results in cases}) < 2:
        fail(f"{vectors} has too few vectors, or all have one result")

    started, device = time.monotonic(), Device(program)
    try:
        if device.answer()[0::2] != ["m-timestamp-mode-performance", "m-init-done"]:
            fail("it does not begin as the runner expects")
        # What has no input yet is refused.
        for early in ["infer 1 0", "results", "db 00"]:
            device.expect(early, r"e-\[.+\]")
        # The handshake.
        device.expect("name", r"m-name-dut-\[[^]]+\]")
        device.expect("profile", r"m-profile-\[ULPMark for tinyML Firmware V0\.0\.1\]", rf"m-model-\[{model}\]")
        device.expect("timestamp", r"m-lap-us-\d+")
        if len(device.ask("help")) < 8:
            fail("no help")

        # Performance: some inputs, the median of their rates.
        rates = []
        for data, results in cases[:3]:
            device.load(data)
            rates.append(runs * 1e6 / device.infer(runs, 1, results))
        twice = 2 * runs * 1e6 / device.infer(2 * runs, 0, results)
        if abs(twice / rates[-1] - 1) > 0.02:
            fail(f"{runs} runs at {rates[-1]} a second, twice as many at {twice}")
        # Accuracy: every input once.
        for data, results in cases:
            device.load(data)
            device.infer(1, 0, results)
            device.expect("results", re.escape(results))
        errors = hostile(device, data, results)
    finally:
        device.close()
    print(f"{model} {statistics.median(rates):.3f} inferences/s (64 ns an instruction), {len(cases)} inputs with ONNX Runtime's results, "
          f"{errors} wrong commands refused, in {time.monotonic() - started:.1f} s")


main()
