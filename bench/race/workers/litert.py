"""LiteRT, with its XNNPACK delegate, which is its default."""

from worker import race

from ai_edge_litert.interpreter import Interpreter


def prepare(job):
    interpreter = Interpreter(job.model, num_threads=job.threads)
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    arrays = [(detail["index"], array.reshape(detail["shape"])) for detail, array in zip(inputs, job.inputs.values())]

    def before():
        for index, array in arrays:
            interpreter.set_tensor(index, array)

    return before, interpreter.invoke, lambda: [interpreter.get_tensor(o["index"]) for o in outputs]


race(prepare)
