"""ONNX Runtime, its CPU provider; inputs and outputs are bound, so that a run copies nothing."""

from worker import nothing, race

import onnxruntime


def prepare(job):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(job.model, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for name, array in job.inputs.items():
        binding.bind_cpu_input(name, array)
    for name in job.output_names:
        binding.bind_output(name, "cpu")
    return nothing, lambda: session.run_with_iobinding(binding), binding.copy_outputs_to_cpu


race(prepare)
