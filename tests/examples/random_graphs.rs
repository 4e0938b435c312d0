//! Writes random models for another runtime to run: `random_graphs FOLDER FIRST COUNT`; `tests/random-graphs/run` is who calls it.
//!
//! A model becomes a folder `SEED` with `model.onnx`, `in_NAME.npy` for each input, and for each output `plan_NAME.npy`, what the plan
//! gives, and `off_NAME.npy`, how far off each element may be (infinite where nobody can tell). `open.onnx` has every tensor that a node
//! gives as an output, and `open_NAME.npy` and `open_off_NAME.npy` say of these what the evaluator gives: the first that differs names
//! the node. A model that is refused, or differs from the evaluator, is left out and counted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kinglet::{DType, Inline, Quiet};
use kinglet_compiler::array::Array;
use kinglet_compiler::{Options, compile, import};
use kinglet_onnx::ModelProto;
use kinglet_tests::random_graphs::{Bounds, Outcome, check, expected, line, npy, opened, options, random};
use kinglet_tests::run_on;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, first, count] = &arguments[..] else { panic!("random_graphs FOLDER FIRST COUNT") };
    let number = |v: &str| v.parse::<u64>().expect("a number");
    let (first, count) = (number(first), number(count));
    std::panic::set_hook(Box::new(|_| {}));
    let mut left_out = 0;
    for seed in first..first + count {
        let graph = random(seed);
        if matches!(check(&graph.model, &graph.inputs), Outcome::Same(..)) {
            write(&Path::new(folder).join(seed.to_string()), &graph.model, &graph.inputs);
        } else {
            left_out += 1;
        }
    }
    println!("{} models written, {left_out} refused or not as the evaluator has them", count - left_out);
}

fn write(to: &PathBuf, model: &ModelProto, inputs: &BTreeMap<String, Array>) {
    std::fs::create_dir_all(to).expect("a folder can be made");
    let file = |name: &str, bytes: &[u8]| std::fs::write(to.join(name), bytes).expect("the folder can be written to");
    file("model.onnx", &model.to_bytes());
    for (name, value) in inputs {
        file(&format!("in_{name}.npy"), &npy(value));
    }
    let best = kinglet_native::best_kernels();
    let options = Options { target: best.target(), ..options() };
    let graph = import(&model.to_bytes(), None, &options).expect("it was checked");
    let bounds = expected(&graph, inputs).expect("it was checked");
    let plan = compile(graph, &options).expect("it was checked").kgl;
    for (name, value) in run_on(best, &plan, inputs, &Inline, &mut Quiet) {
        file(&format!("plan_{name}.npy"), &npy(&value));
        file(&format!("off_{name}.npy"), &npy(&reals(&bounds[&name])));
    }
    let (open, bounds) = opened(model, inputs);
    file("open.onnx", &open.to_bytes());
    let nodes = open.graph.iter().flat_map(|g| &g.node).map(line).collect::<Vec<_>>().join("\n");
    file("open.nodes", nodes.as_bytes());
    for (name, bounds) in bounds {
        file(&format!("open_{name}.npy"), &npy(&bounds.value));
        file(&format!("open_off_{name}.npy"), &npy(&reals(&bounds)));
    }
}

/// How far off the elements may be.
fn reals(bounds: &Bounds) -> Array {
    Array::new(DType::F32, bounds.value.shape.clone(), kinglet_compiler::array::Numbers::F(bounds.off.clone()))
}
