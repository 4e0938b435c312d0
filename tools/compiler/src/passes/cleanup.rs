//! Constants folded, steps that do nothing removed, dead code dropped.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::fold;
use crate::graph::moves_nothing;
use crate::graph::{Graph, Op, TensorId};

/// Folds constants except dequantised ones, and tidies up.
pub fn cleanup(graph: &mut Graph) {
    run(graph, false);
}

/// Folds dequantised constants too: once the quantisation is absorbed, those left have no integer use.
pub fn fold_all(graph: &mut Graph) {
    run(graph, true);
}

fn run(graph: &mut Graph, dequantize: bool) {
    fold_constants(graph, dequantize);
    loop {
        simplify(graph);
        let before = graph.nodes.len();
        remove_dead(graph);
        if graph.nodes.len() == before {
            break;
        }
    }
}

fn fold_constants(graph: &mut Graph, dequantize: bool) {
    for i in 0..graph.nodes.len() {
        let node = &graph.nodes[i];
        let foldable = dequantize || !matches!(node.op, Op::Dequantize);
        if !foldable || node.inputs.iter().flatten().any(|&t| graph.tensors[t].value.is_none()) {
            continue;
        }
        // What the budget does not cover is left to the runtime.
        if graph.tensors[node.output].value.is_some() || !fold::affordable(graph, node) {
            continue;
        }
        let values: Vec<_> = node.inputs.iter().map(|t| t.and_then(|t| graph.tensors[t].value.clone())).collect();
        let values: Vec<_> = values.iter().map(|v| v.as_deref()).collect();
        let Some(results) = fold::outputs(graph, node, &values) else { continue };
        let computed: Vec<TensorId> = node.outputs().collect();
        for (t, value) in computed.into_iter().zip(results) {
            graph.tensors[t].value = Some(Arc::new(value));
        }
    }
}

/// Removes nodes whose result nobody needs, and those whose result is constant.
fn remove_dead(graph: &mut Graph) {
    let mut needed = vec![false; graph.tensors.len()];
    graph.outputs.iter().for_each(|&t| needed[t] = true);
    let mut dead = vec![false; graph.nodes.len()];
    for (i, node) in graph.nodes.iter().enumerate().rev() {
        dead[i] = node.outputs().all(|t| !needed[t]) || graph.tensors[node.output].value.is_some();
        if !dead[i] {
            node.inputs.iter().flatten().for_each(|&t| needed[t] = true);
        }
    }
    graph.remove_nodes(&dead);
}

/// A tensor, the permutation of its axes if it is transposed, and the new shape.
type Movement = (TensorId, Option<Vec<usize>>, Vec<usize>);

/// Replaces uses of what equals another tensor, and joins reshapes and transposes that are neighbours or twins.
fn simplify(graph: &mut Graph) {
    let mut made_by: Vec<Option<usize>> = vec![None; graph.tensors.len()];
    // What was moved already, and how.
    let mut moved: HashMap<Movement, TensorId> = HashMap::new();
    // Where reads of a tensor go instead.
    let mut alias: Vec<TensorId> = (0..graph.tensors.len()).collect();
    let inputs: HashSet<TensorId> = graph.inputs.iter().copied().collect();
    let outputs: HashSet<TensorId> = graph.outputs.iter().copied().collect();
    for i in 0..graph.nodes.len() {
        for t in graph.nodes[i].inputs.iter_mut().flatten() {
            *t = alias[*t];
        }
        let node = &graph.nodes[i];
        let output = node.output;
        made_by[output] = Some(i);
        let Some(x) = node.inputs.first().copied().flatten() else { continue };
        if matches!(&node.op, Op::Transpose { perm } if moves_nothing(&graph.tensors[x].shape, perm)) {
            // Only axes of extent 1 move: it is a reshape, which may meet others of its kind.
            graph.nodes[i].op = Op::Reshape;
        }
        let node = &graph.nodes[i];
        let before = made_by[x].map(|p| &graph.nodes[p]);
        let replacement = match (&node.op, before.map(|n| &n.op)) {
            (Op::Reshape, Some(Op::Reshape)) => before.and_then(|n| n.inputs[0]).map(|x| (Op::Reshape, x)),
            (Op::Transpose { perm }, Some(Op::Transpose { perm: first })) => {
                let joined = perm.iter().map(|&d| first[d]).collect();
                before.and_then(|n| n.inputs[0]).map(|x| (Op::Transpose { perm: joined }, x))
            }
            _ => None,
        };
        if let Some((op, x)) = replacement {
            let source = super::util::merged_sources(before.into_iter().chain([node]));
            let node = &mut graph.nodes[i];
            (node.op, node.inputs, node.source) = (op, vec![Some(x)], source);
        }
        let node = &graph.nodes[i];
        let x = node.inputs[0].expect("has a first input");
        let same_type = graph.tensors[x].dtype == graph.tensors[output].dtype
            && graph.tensors[x].quant == graph.tensors[output].quant;
        let nothing = match &node.op {
            Op::Reshape => graph.tensors[x].shape == graph.tensors[output].shape,
            Op::Transpose { perm } => perm.iter().enumerate().all(|(d, &p)| d == p),
            Op::Unary { op: kinglet::kernels::UnaryOp::Identity, .. } | Op::Reinterpret => true,
            _ => false,
        };
        // An output of the model keeps a node of its own if its source is an input or constant: it needs its own memory.
        let pinned = outputs.contains(&output)
            && (inputs.contains(&x) || graph.tensors[x].value.is_some() || outputs.contains(&x));
        if nothing && same_type && !pinned {
            alias[output] = x;
            let axes: Vec<usize> = (0..graph.tensors[x].shape.len()).collect();
            graph.stand_for(x, output, axes);
            continue;
        }
        let perm = match &node.op {
            Op::Reshape => None,
            Op::Transpose { perm } => Some(perm.clone()),
            _ => continue,
        };
        let twin = *moved.entry((x, perm, graph.tensors[output].shape.clone())).or_insert(output);
        let same_quant = graph.tensors[twin].quant == graph.tensors[output].quant;
        if twin != output && same_quant && !outputs.contains(&output) {
            alias[output] = twin;
        }
    }
    for t in &mut graph.outputs {
        *t = alias[*t];
    }
}
