//! A matrix product whose columns are only ever read in parts is several products: the parts are not computed side by side to
//! be copied apart again.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::util::{merged_sources, readers};
use crate::graph::{Graph, Node, Op, TensorId};

/// Splits every such product with constant weights.
pub fn split(graph: &mut Graph) {
    let readers = readers(graph);
    let outputs: HashSet<TensorId> = graph.outputs.iter().copied().collect();
    for i in 0..graph.nodes.len() {
        let Some(parts) = parts(graph, &readers, i).filter(|_| !outputs.contains(&graph.nodes[i].output)) else {
            continue;
        };
        let product = graph.nodes[i].clone();
        // Transposed weights have the columns of the product as their rows.
        let rows = matches!(product.op, Op::MatMul { transpose_b: true, .. });
        for (slice, columns) in parts {
            let mut inputs = product.inputs.clone();
            for k in 1..inputs.len() {
                inputs[k] = inputs[k].map(|t| cut(graph, t, &columns, k == 1 && rows));
            }
            let reader = &graph.nodes[slice];
            let source = merged_sources([&product, reader]);
            graph.nodes[slice] = Node::new(product.op.clone(), inputs, reader.output, source);
        }
    }
    super::cleanup::cleanup(graph);
}

/// The slices that read the product of node `i`, each with its columns, if no other node reads it and no two share a column.
fn parts(graph: &Graph, readers: &HashMap<TensorId, Vec<usize>>, i: usize) -> Option<Vec<(usize, Range<usize>)>> {
    let node = &graph.nodes[i];
    let Op::MatMul { post, .. } = &node.op else { return None };
    let constant =
        |t: &Option<TensorId>| t.is_none_or(|t| graph.value(t).is_some() && graph.tensors[t].quant.is_none());
    let weights = node.inputs[1]?;
    let plain = *post == Default::default() && node.inputs[1..].iter().all(constant);
    let y = &graph.tensors[node.output];
    if !plain || graph.tensors[weights].shape.len() != 2 || y.quant.is_some() {
        return None;
    }
    let last = y.shape.len() - 1;
    let mut parts = Vec::new();
    for &r in readers.get(&node.output)? {
        let Op::Slice { starts, steps } = &graph.nodes[r].op else { return None };
        let part = &graph.tensors[graph.nodes[r].output];
        let whole = (0..last).all(|d| part.shape[d] == y.shape[d]) && steps.iter().all(|&s| s == 1);
        if !whole || part.quant.is_some() {
            return None;
        }
        parts.push((r, starts[last]..starts[last] + part.shape[last]));
    }
    let mut in_order: Vec<&Range<usize>> = parts.iter().map(|(_, columns)| columns).collect();
    in_order.sort_by_key(|columns| columns.start);
    let disjoint = in_order.windows(2).all(|w| w[0].end <= w[1].start);
    (disjoint && parts.len() > 1).then_some(parts)
}

/// Columns (or rows) of a constant matrix, or elements of a constant vector.
fn cut(graph: &mut Graph, t: TensorId, columns: &Range<usize>, rows: bool) -> TensorId {
    let tensor = &graph.tensors[t];
    let name = tensor.name.clone();
    let axis = if rows { 0 } else { tensor.shape.len() - 1 };
    let value = tensor.value.clone().expect("it is constant");
    graph.add_constant(format!("{name}:{}", columns.start), value.cut(axis, columns.clone()))
}
