"""OpenVINO's CPU plugin, tuned for the time of one inference; f32 is f32, where its own choice may be bf16."""

from worker import nothing, race

import openvino


def prepare(job):
    config = {
        "INFERENCE_NUM_THREADS": job.threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        # The driver has pinned the process.
        "ENABLE_CPU_PINNING": False,
    }
    model = openvino.Core().compile_model(job.model, "CPU", config)
    request = model.create_infer_request()
    for i, array in enumerate(job.inputs.values()):
        request.set_input_tensor(i, openvino.Tensor(array, shared_memory=True))
    outputs = lambda: [request.get_output_tensor(i).data for i in range(len(model.outputs))]
    return nothing, request.infer, outputs


race(prepare)
