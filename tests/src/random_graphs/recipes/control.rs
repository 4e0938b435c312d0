//! Branches, loops and sequences, with simple bodies.

use kinglet::DType::{Bool, F32, I64};
use kinglet_compiler::array::Array;
use kinglet_onnx::{AttributeProto, GraphProto, NodeProto, ValueInfoProto};

use super::Recipe;
use crate::random_graphs::attributes::{g, i, is, port};
use crate::random_graphs::net::{MOST_TRIPS, Net};

pub(super) fn recipe(name: &str) -> Option<Recipe> {
    Some(match name {
        "If" => branch,
        "Loop" => counted,
        "Scan" => scan,
        "ConcatFromSequence" | "SequenceAt" | "SequenceConstruct" | "SequenceErase" | "SequenceInsert"
        | "SequenceLength" | "SequenceEmpty" => sequence,
        "SplitToSequence" => split,
        _ => return None,
    })
}

fn step(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: op.into(),
        input: inputs.iter().map(|i| i.to_string()).collect(),
        output: vec![output.into()],
        ..NodeProto::default()
    }
}

/// One to three operations from `x`, of the body's own tensors, on others of the same shape; the last gives `y`. Names are the
/// body's own by its number.
fn chain(n: &mut Net, body: usize, x: &str, others: &[&str], y: &str) -> Vec<NodeProto> {
    let count = 1 + n.below(3);
    let mut nodes = Vec::new();
    let mut last = x.to_string();
    for k in 0..count {
        let next = if k + 1 == count { y.to_string() } else { format!("b{body}_{y}_{k}") };
        nodes.push(if !others.is_empty() && n.below(2) == 0 {
            let (op, other) = (n.pick(&["Add", "Mul", "Sub", "Max"]), n.pick(others));
            step(op, &[&last, other], &next)
        } else {
            step(n.pick(&["Tanh", "Relu", "Sigmoid", "Neg", "Abs"]), &[&last], &next)
        });
        last = next;
    }
    nodes
}

fn graph(name: &str, input: Vec<ValueInfoProto>, node: Vec<NodeProto>, output: Vec<ValueInfoProto>) -> GraphProto {
    GraphProto { name: name.into(), input, node, output, ..GraphProto::default() }
}

fn branch(n: &mut Net, op: &str) {
    let x = n.any(F32);
    let shape = n.shape(&x);
    let other = n.shaped(F32, &shape);
    let condition = n.shaped(Bool, &[]);
    // Names of tensors, of which there is one more in every node, are taken once.
    let id = n.number();
    let [yes, no] = [0, 1].map(|side| {
        let y = format!("if{id}_{side}");
        let nodes = chain(n, id, &x, &[&other], &y);
        let outputs = vec![port(&y, F32, &shape)];
        graph(if side == 0 { "yes" } else { "no" }, vec![], nodes, outputs)
    });
    n.node(op, &[&condition], vec![g("then_branch", yes), g("else_branch", no)]);
}

fn counted(n: &mut Net, op: &str) {
    let x = n.that(F32, |s| s.iter().product::<usize>() <= 64, |n| n.dims(2));
    let shape = n.shape(&x);
    let around = n.shaped(F32, &shape);
    let trips = n.pick(&[2, 1, 3, 5, 0]);
    // Data may decide how many trips there are, by the number or in the body.
    let [limited, ended] = [0, 1].map(|_| n.opset() >= 11 && n.one_in(4));
    let trips = match limited {
        true => n.input(Array::int(I64, &[], vec![trips])),
        false if n.opset() >= 11 => n.int(trips),
        false => n.int(trips.max(1)),
    };
    let truth = n.constant(Array::int(Bool, &[], vec![1]));
    let id = n.number();
    let named = |what: &str| format!("l{id}_{what}");
    let [count, go, state, on, next, seen] = ["count", "go", "state", "on", "next", "seen"].map(named);
    let mut nodes = if ended {
        let last = n.below(MOST_TRIPS) as i64;
        let last = n.input(Array::int(I64, &[], vec![last]));
        vec![step("Less", &[&count, &last], &on)]
    } else {
        vec![step("Identity", &[&go], &on)]
    };
    nodes.extend(chain(n, id, &state, &[&around, &state], &next));
    // Of how many slices there are data may not decide.
    let collects = !limited && !ended && n.below(2) == 1;
    let mut outputs = vec![port(&on, Bool, &[]), port(&next, F32, &shape)];
    if collects {
        nodes.extend(chain(n, id, &next, &[&state], &seen));
        outputs.push(port(&seen, F32, &shape));
    }
    let inputs = vec![port(&count, I64, &[]), port(&go, Bool, &[]), port(&state, F32, &shape)];
    let body = graph("body", inputs, nodes, outputs);
    let condition = if n.below(2) == 1 { truth.as_str() } else { "" };
    let outputs = n.nodes(op, &[&trips, condition, &x], 1 + usize::from(collects), vec![g("body", body)]);
    n.give(&outputs);
}

fn scan(n: &mut Net, op: &str) {
    let x = n.that(
        F32,
        |s| (2..=3).contains(&s.len()) && s[0] > 0 && s[0] <= 9,
        |n| {
            let rank = n.pick(&[2, 3]);
            (0..rank).map(|_| 1 + n.below(5)).collect()
        },
    );
    let shape = n.shape(&x);
    let frame = &shape[1..];
    let start = n.shaped(F32, frame);
    let id = n.number();
    let named = |what: &str| format!("s{id}_{what}");
    let [state, each, next, seen] = ["state", "each", "next", "seen"].map(named);
    let mut nodes = chain(n, id, &state, &[&each], &next);
    nodes.extend(chain(n, id, &next, &[&each, &state], &seen));
    let inputs = vec![port(&state, F32, frame), port(&each, F32, frame)];
    let outputs = vec![port(&next, F32, frame), port(&seen, F32, frame)];
    let mut attributes: Vec<AttributeProto> =
        vec![g("body", graph("body", inputs, nodes, outputs)), i("num_scan_inputs", 1)];
    if n.one_in(3) {
        attributes.push(is("scan_input_directions", &[1]));
    }
    if n.one_in(3) {
        attributes.push(is("scan_output_directions", &[1]));
    }
    let outputs = n.nodes(op, &[&start, &x], 2, attributes);
    n.give(&outputs);
}

/// A sequence of two or three tensors of one shape, changed, and what is read of it.
fn sequence(n: &mut Net, op: &str) {
    let x = n.at_least(F32, 1);
    let shape = n.shape(&x);
    let (y, z) = (n.shaped(F32, &shape), n.shaped(F32, &shape));
    let one = |n: &mut Net, op: &str, inputs: &[&str]| n.nodes(op, inputs, 1, vec![]).swap_remove(0);
    let mut seq = if op == "SequenceEmpty" {
        let empty = one(n, "SequenceEmpty", &[]);
        let first = one(n, "SequenceInsert", &[&empty, &x]);
        one(n, "SequenceInsert", &[&first, &y])
    } else {
        one(n, "SequenceConstruct", &[&x, &y])
    };
    if op == "SequenceInsert" || n.one_in(3) {
        let at = n.below(3) as i64;
        let at = if n.below(2) == 1 { n.int(at) } else { String::new() };
        seq = one(n, "SequenceInsert", &[&seq, &z, &at]);
    }
    if op == "SequenceErase" || n.one_in(4) {
        let at = n.below(2) as i64 - n.below(2) as i64;
        let at = n.int(at);
        seq = one(n, "SequenceErase", &[&seq, &at]);
    }
    let read = match op {
        "SequenceAt" | "SequenceLength" | "ConcatFromSequence" => op,
        _ => n.pick(&["ConcatFromSequence", "SequenceAt"]),
    };
    match read {
        "SequenceLength" => drop(n.node(read, &[&seq], vec![])),
        "SequenceAt" => {
            let at = n.pick(&[0, -1]);
            let at = n.int(at);
            n.node(read, &[&seq, &at], vec![]);
        }
        _ => {
            let new = n.below(2) as i64;
            let axis = n.below(shape.len() + new as usize) as i64;
            n.node(read, &[&seq], vec![i("axis", axis), i("new_axis", new)]);
        }
    }
}

fn split(n: &mut Net, op: &str) {
    let x = n.that(F32, |s| !s.is_empty() && !s.contains(&0), |n| (0..2).map(|_| 1 + n.below(6)).collect());
    let shape = n.shape(&x);
    let axis = n.below(shape.len());
    let by = 1 + n.below(shape[axis]) as i64;
    let by = if n.below(2) == 1 { n.int(by) } else { String::new() };
    let mut attributes = vec![i("axis", axis as i64)];
    if by.is_empty() {
        attributes.push(i("keepdims", n.below(2) as i64));
    }
    let seq = n.nodes(op, &[&x, &by], 1, attributes).swap_remove(0);
    let first = n.int(0);
    n.node("SequenceAt", &[&seq, &first], vec![]);
}
