"""The driver of the race: one worker for each peer, turn after turn. README.md says what is measured and how."""

import argparse
import ctypes
import json
import math
import os
import re
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata

import numpy as np

import models
import report

HERE, ROOT = models.HERE, models.ROOT
RUST = os.path.join(HERE, "peers/target/release/kinglet-race")
PYTHON = lambda script: [sys.executable, os.path.join(HERE, "workers", script)]

# The first is what the others' outputs are compared with; the last is Kinglet.
PEERS = {
    "onnxruntime": PYTHON("ort.py"),
    "openvino": PYTHON("ov.py"),
    "litert": PYTHON("litert.py"),
    "tflitec": [RUST],
    "mnn": PYTHON("mnn.py"),
    "ncnn": PYTHON("ncnn_net.py"),
    "tract": [RUST],
    "rten": [RUST],
    "kinglet": [RUST],
}
PACKAGES = {"onnxruntime": "onnxruntime", "openvino": "openvino", "litert": "ai-edge-litert", "mnn": "MNN", "ncnn": "ncnn"}
CRATES = {"tract": "tract-onnx", "rten": "rten", "tflitec": "tflitec"}

# How far outputs may be from ONNX Runtime's, as a part of their spread: to tell who computes something else. Constants are at
# least 1 away. Quantised networks round a little differently in every peer, and that adds up over layers: on a sample of which
# the ResNet is not sure, OpenVINO is 0.51 away.
BOUNDS = {"f32": 1e-2, "int8": 0.75}
# A turn takes at least this long, to be measured on warm caches and a settled clock.
TURN_SECONDS = 0.02
# To load, convert and run once.
READY_SECONDS = 90
PR_SET_PDEATHSIG = 1
NO_AMX = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"}


class Refused(Exception):
    """A peer does not run a model."""


def settle(cores):
    """Pins the process, and has it end with the driver: stopped, it would not see that its input is closed."""
    os.sched_setaffinity(0, cores)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Worker:
    """A process that runs one model in one peer. It is stopped while others have their turn."""

    def __init__(self, peer, job, cores, environment, folder):
        path = os.path.join(folder, f"{peer}.json")
        with open(path, "w") as file:
            json.dump({**job, "peer": peer, "outputs": os.path.join(folder, f"{peer}.")}, file)
        self.log = open(os.path.join(folder, f"{peer}.log"), "w+")
        self.process = subprocess.Popen(
            [*PEERS[peer], path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            env={**os.environ, "OMP_NUM_THREADS": str(job["threads"]), **environment},
            # Converters leave files where they are.
            cwd=folder,
            start_new_session=True,
            preexec_fn=lambda: settle(cores),
        )
        try:
            self.answer(READY_SECONDS)
            self.seconds = min(self.run(1, READY_SECONDS))
            outputs = [os.path.join(folder, f"{peer}.{i}") for i in range(len(job["output_names"]))]
            self.outputs = [np.fromfile(output, np.float32) for output in outputs]
        except (Refused, OSError) as e:
            self.end()
            raise Refused(str(e)) from None
        os.kill(self.process.pid, signal.SIGSTOP)

    def answer(self, seconds):
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            raise Refused(f"it takes more than {seconds} s")
        line = self.process.stdout.readline().decode()
        if not line:
            raise Refused(self.last_words())
        return line

    def run(self, count, seconds=600):
        try:
            self.process.stdin.write(f"run {count}\n".encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Refused(self.last_words()) from None
        return [ns / 1e9 for ns in json.loads(self.answer(seconds))]

    def turn(self):
        """The median time of a turn."""
        os.kill(self.process.pid, signal.SIGCONT)
        count = max(1, math.ceil(TURN_SECONDS / self.seconds))
        # The first brings the caches back from whoever was before.
        warm = 1 if self.seconds < 1 else 0
        median = statistics.median(self.run(min(count, 5000) + warm)[warm:])
        self.seconds = max(min(self.seconds, median), 1e-7)
        os.kill(self.process.pid, signal.SIGSTOP)
        return median

    def last_words(self):
        code = self.process.wait()
        self.log.seek(0)
        lines = [line.strip() for line in self.log if line.strip()]
        # From an exception on, where there is one: libraries go on talking while the process ends.
        named = re.compile(r"[\w.]*(Error|Exception|Fail|Invalid\w*|NotImplemented)\b")
        errors = [i for i, line in enumerate(lines) if named.match(line)]
        said = " ".join(lines[errors[-1] :]) if errors else (lines or ["it ended without a word"])[-1]
        said = said.replace(ROOT + "/", "").replace(models.CACHE + "/", "")
        return (f"signal {-code}: {said}" if code < 0 else said)[:300]

    def end(self):
        try:
            # A converter that it has started ends with it.
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        self.log.close()


def distance(outputs, reference):
    """The largest distance of an output, in units of the reference's spread; infinite if there is none to speak of."""
    worst = 0.0
    for output, wanted in zip(outputs, reference):
        if output.size != wanted.size:
            return math.inf
        output, wanted = output.astype(np.float64), wanted.astype(np.float64)
        spread = np.linalg.norm(wanted - wanted.mean()) or np.linalg.norm(wanted) or 1.0
        error = float(np.linalg.norm(output.ravel() - wanted) / spread)
        worst = max(worst, error if math.isfinite(error) else math.inf)
    return worst


def excluded(peer, model, rows):
    """Why a peer does not take part, if that is known before it starts; who refused the model once is not asked again."""
    for row in rows:
        if (row["model"], row["form"], row["precision"]) == (model.name, model.form, model.precision):
            if reason := row["results"].get(peer, {}).get("refused"):
                return reason
    if peer in ("litert", "tflitec") and not model.tflite:
        return "it reads .tflite files, and this model has none"
    if peer == "ncnn" and model.precision == "int8":
        return "pnnx does not convert quantised models"
    return None


def race(model, threads, amx, cores, peers, seconds, rows, folder):
    """One row of the table, after `rows`."""
    row = {"model": model.name, "form": model.form, "precision": model.precision, "threads": threads, "amx": amx}
    inputs = []
    for i, (name, dtype, shape) in enumerate(model.inputs):
        file = os.path.join(folder, f"input.{i}")
        model.values[name].tofile(file)
        inputs.append({"name": name, "dtype": dtype, "shape": shape, "file": file})
    results, workers, reference = {}, {}, None
    try:
        for peer in peers:
            result = results[peer] = {}
            job = {"threads": threads, "inputs": inputs, "output_names": model.outputs}
            job["model"] = model.tflite if peer in ("litert", "tflitec") else model.path
            try:
                if reason := excluded(peer, model, rows):
                    raise Refused(reason)
                worker = Worker(peer, job, cores[:threads], NO_AMX if amx == "off" else {}, folder)
                workers[peer] = worker
                if peer == "onnxruntime":
                    reference = worker.outputs
                elif reference:
                    far = distance(worker.outputs, reference)
                    if math.isinf(far):
                        raise Refused("its output has another size than ONNX Runtime's, or is not finite")
                    result["distance"] = far
                    if far > BOUNDS[model.precision]:
                        raise Refused(f"its output is {far:.2g} of the spread from ONNX Runtime's")
            except Refused as e:
                result["refused"] = str(e)
                if peer in workers:
                    workers.pop(peer).end()
        times = {peer: [] for peer in workers}
        begin, turns = time.monotonic(), 0
        while turns < 3 or (turns < 25 and time.monotonic() - begin < seconds):
            # Nobody comes always after the same one; who has had all the time of the row already is not waited for again.
            order = [peer for peer in workers if sum(times[peer]) < seconds]
            first = turns % max(len(order), 1)
            for peer in order[first:] + order[:first]:
                try:
                    times[peer].append(workers[peer].turn())
                except Refused as e:
                    results[peer]["refused"] = str(e)
                    workers.pop(peer).end()
            turns += 1
        for peer in workers:
            ms = [1e3 * t for t in times[peer]]
            results[peer].update(ms=statistics.median(ms), least=min(ms), most=max(ms), turns=len(ms))
    finally:
        for worker in workers.values():
            worker.end()
    row["results"] = results
    said = "  ".join(f"{p} {r['ms']:.3f}" if "ms" in r else f"{p} -" for p, r in results.items())
    print(f"{model.title():24} {model.precision:5} {threads} {'AMX off ' if amx == 'off' else ''}{said}", flush=True)
    return row


def physical_cores():
    """One logical CPU of each core that this process may use."""
    firsts = {}
    for cpu in sorted(os.sched_getaffinity(0)):
        path = f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        siblings = open(path).read() if os.path.exists(path) else str(cpu)
        firsts.setdefault(siblings, cpu)
    return list(firsts.values())


def machine():
    """What the numbers depend on."""
    lines = open("/proc/cpuinfo").read().splitlines()
    value = lambda key: next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), "unknown")
    wanted = ["avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"]
    flags = [flag for flag in wanted if flag in value("flags").split()]
    git = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    versions = {peer: metadata.version(package) for peer, package in PACKAGES.items()}
    lock = open(os.path.join(HERE, "peers/Cargo.lock")).read()
    for peer, crate in CRATES.items():
        versions[peer] = re.search(rf'name = "{crate}"\nversion = "([^"]+)"', lock)[1]
    versions["kinglet"] = git.stdout.strip() or "unknown"
    return {
        "cpu": value("model name"),
        "features": flags,
        "cores": len(physical_cores()),
        "kernel": os.uname().release,
        "versions": versions,
        "date": time.strftime("%Y-%m-%d"),
        "load": round(os.getloadavg()[1], 1),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few models, one thread, short: about two minutes")
    parser.add_argument("--models", help="names with commas between them", default="")
    parser.add_argument("--precisions", default="f32,int8")
    parser.add_argument("--threads", help="numbers with commas between them", default="")
    parser.add_argument("--seconds", type=float, help="how long the turns of a row go on", default=0)
    parser.add_argument("--tflitec", action="store_true", help="the Rust workers have it")
    parser.add_argument("--resume", action="store_true", help="keep the rows of a run that was cut short")
    parser.add_argument("--report", metavar="JSON", help="measure nothing: write the report of an earlier run anew")
    args = parser.parse_args()
    folder = os.path.join(models.CACHE, "report") if args.quick or args.models else os.path.join(ROOT, "docs")
    if args.report:
        report.write(json.load(open(args.report)), folder)
        return
    split = lambda text: [word for word in text.split(",") if word]
    names = split(args.models) or (models.QUICK if args.quick else [])
    cores = physical_cores()
    threads = [int(n) for n in split(args.threads) or (["1"] if args.quick else ["1", "2"])]
    if max(threads) > len(cores):
        print(f"this machine has {len(cores)} core: no rows with more threads")
        threads = [n for n in threads if n <= len(cores)]
    peers = [peer for peer in PEERS if peer != "tflitec" or args.tflitec]
    seconds = args.seconds or (3 if args.quick else 15)
    about = {**machine(), "quick": args.quick, "seconds": seconds, "resumed": args.resume, "bounds": BOUNDS, "peers": peers}
    rows = []
    if args.resume:
        rows = json.load(open(os.path.join(folder, "performance/race.json")))["rows"]
    done = [(*report.key(row), row["form"]) for row in rows]
    for model in models.every(names, split(args.precisions)):
        for count in threads:
            # OpenVINO is held to f32 where the model is, so that only quantised models use the matrix units.
            both = "amx_int8" in about["features"] and model.precision == "int8"
            for amx in ["on", "off"] if both else ["on"]:
                if (model.name, model.precision, count, amx, model.form) in done:
                    continue
                with tempfile.TemporaryDirectory() as scratch:
                    rows.append(race(model, count, amx, cores, peers, seconds, rows, scratch))
                # What is measured is kept, should the run be cut short.
                report.write({"machine": about, "rows": rows}, folder)
    print(f"written: {os.path.relpath(folder)}/performance.md")


if __name__ == "__main__":
    main()
