"""What every worker in Python does: reads its job, runs once for the outputs, then answers `run N` with N times."""

import json
import os
import sys
import time

import numpy as np

# Libraries print when they are imported: imported before them, this keeps the answers to itself.
ANSWERS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


class Job:
    """The job file."""

    def __init__(self, path):
        with open(path) as file:
            job = json.load(file)
        self.model = job["model"]
        self.threads = job["threads"]
        self.outputs = job["outputs"]
        self.output_names = job["output_names"]
        # By name, in the order of the model.
        self.inputs = {}
        for entry in job["inputs"]:
            array = np.fromfile(entry["file"], entry["dtype"]).reshape(entry["shape"])
            self.inputs[entry["name"]] = array


def race(prepare):
    """`prepare(job)` returns (before, run, outputs).

    `before()` writes the inputs, where a peer wants that anew for each run, and is not measured; `run()` is. `outputs()`
    gives arrays.
    """
    job = Job(sys.argv[1])
    before, run, outputs = prepare(job)
    before()
    run()
    computed = outputs()
    if len(computed) != len(job.output_names):
        raise SystemExit(f"it gives {len(computed)} outputs of {len(job.output_names)}")
    for i, output in enumerate(computed):
        np.asarray(output).astype(np.float32).tofile(f"{job.outputs}{i}")
    print("ready", file=ANSWERS, flush=True)
    clock = time.perf_counter_ns
    for line in sys.stdin:
        times = []
        for _ in range(int(line.split()[1])):
            before()
            start = clock()
            run()
            times.append(clock() - start)
        print(json.dumps(times), file=ANSWERS, flush=True)


def nothing():
    """Inputs that stay where they are need no writing."""
