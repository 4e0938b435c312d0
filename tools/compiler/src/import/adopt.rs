//! Integers that are read only as reals are those reals.
//!
//! `DequantizeLinear` sees its input through a [`Op::Reinterpret`], because another reader might take the same integers as
//! they are. Where there is no other reader, the tensor itself takes the meaning, and so do the tensors it was made from by
//! moving elements, up to an input of the model: so that what is said of an input includes its scale.

use std::collections::{HashMap, HashSet};

use super::Graph;
use crate::graph::{Node, Op, Quant, Tensor, TensorId};

/// Moves reinterpretations towards the inputs until they vanish there.
pub(super) fn adopt(graph: &mut Graph) {
    let mut todo: Vec<usize> = (0..graph.nodes.len()).collect();
    let mut dead = vec![false; graph.nodes.len()];
    let mut readers = graph.use_counts();
    let mut producers = graph.producers();
    let inputs: HashSet<TensorId> = graph.inputs.iter().copied().collect();
    let mut instead = HashMap::new();
    while let Some(i) = todo.pop() {
        let (Op::Reinterpret, Some(x)) = (&graph.nodes[i].op, graph.nodes[i].inputs[0]) else { continue };
        let output = graph.nodes[i].output;
        let single = graph.tensors[output].quant.clone().filter(|q| q.scales.len() == 1);
        let (Some(quant), false) = (single, dead[i]) else { continue };
        if graph.tensors[x].quant.is_some() || readers[x] != 1 {
            continue;
        }
        if inputs.contains(&x) {
            graph.tensors[x].quant = Some(quant);
            instead.insert(output, x);
            readers[x] = readers[output];
            dead[i] = true;
            continue;
        }
        let Some(&p) = producers.get(&x).filter(|&&p| graph.nodes[p].op.keeps_integers()) else { continue };
        dead[i] = true;
        if let Op::Pad { value, .. } = &mut graph.nodes[p].op {
            *value = real(*value, &quant);
        }
        for k in 0..graph.nodes[p].data_inputs() {
            let Some(u) = graph.nodes[p].inputs[k] else { continue };
            let seen = graph.add_tensor(Tensor { quant: Some(quant.clone()), ..graph.tensors[u].clone() });
            readers.push(1);
            if graph.tensors[u].value.is_none() {
                let source = graph.nodes[i].source.clone();
                graph.nodes.push(Node::new(Op::Reinterpret, vec![Some(u)], seen, source));
                producers.insert(seen, graph.nodes.len() - 1);
                todo.push(graph.nodes.len() - 1);
                dead.push(false);
            }
            graph.nodes[p].inputs[k] = Some(seen);
        }
        graph.nodes[p].output = output;
        producers.insert(output, p);
    }
    graph.replace_uses(&instead);
    graph.remove_nodes(&dead);
    graph.sort();
}

/// The real that an integer stands for.
pub(crate) fn real(integer: f64, quant: &Quant) -> f64 {
    let (scale, zero) = quant.single().expect("the caller has checked that there is one scale");
    (integer - f64::from(zero)) * f64::from(scale)
}
