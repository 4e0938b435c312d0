//! Constants that repeat along an axis are held once.
//!
//! Folding writes expanded constants out (a bias over a whole picture, a mask of ones). Operators that broadcast read one
//! position of such an axis as well as all of them.

use std::collections::HashMap;

use crate::array::Array;
use crate::graph::{Graph, Op, TensorId};

/// Cuts constant operands of broadcasting operators to one position of each axis along which they repeat.
pub fn shrink(graph: &mut Graph) {
    let mut known: HashMap<TensorId, Option<TensorId>> = HashMap::new();
    for i in 0..graph.nodes.len() {
        let first = match graph.nodes[i].op {
            Op::Binary(_) | Op::Where => 0,
            Op::ScaleShift => 1,
            _ => continue,
        };
        for k in first..graph.nodes[i].inputs.len() {
            let Some(t) = graph.nodes[i].inputs[k] else { continue };
            let small = *known.entry(t).or_insert_with(|| shrunk(graph, t));
            if small.is_some() {
                graph.nodes[i].inputs[k] = small;
            }
        }
    }
}

/// A constant that broadcasts to `t` and is smaller; `None` if there is none.
fn shrunk(graph: &mut Graph, t: TensorId) -> Option<TensorId> {
    let tensor = &graph.tensors[t];
    let value = tensor.value.clone().filter(|_| tensor.quant.as_ref().is_none_or(|q| q.single().is_some()))?;
    let mut small: Option<Array> = None;
    for axis in 0..tensor.shape.len() {
        let whole = small.as_ref().unwrap_or(&value);
        if whole.shape[axis] > 1 && whole.repeats(axis) {
            small = Some(whole.cut(axis, 0..1));
        }
    }
    let small = small?;
    let id = graph.add_like(t, &small.shape.clone(), ":once");
    graph.tensors[id].value = Some(small.into());
    Some(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval;
    use crate::graph::{BinaryOp, Node, Tensor};
    use kinglet::DType;

    #[test]
    fn only_axes_along_which_a_constant_repeats_are_cut() {
        let mut g = Graph::default();
        let tensor = |name: &str, shape: &[usize]| Tensor {
            name: name.into(),
            dtype: DType::F32,
            shape: shape.to_vec(),
            quant: None,
            value: None,
        };
        let x = g.add_tensor(tensor("x", &[2, 3, 2]));
        let y = g.add_tensor(tensor("y", &[2, 3, 2]));
        let z = g.add_tensor(tensor("z", &[2, 3, 2]));
        let along_the_middle = g.add_constant("c", Array::f32(&[2, 3, 2], [1., 1., 2., 2., 3., 3.].repeat(2)));
        let different = g.add_constant("d", Array::f32(&[2, 1], vec![1.0, -1.0]));
        let add = Op::Binary(BinaryOp::Add);
        g.nodes.push(Node::new(add.clone(), vec![Some(x), Some(along_the_middle)], y, vec![]));
        g.nodes.push(Node::new(add, vec![Some(different), Some(y)], z, vec![]));
        (g.inputs, g.outputs) = (vec![x], vec![z]);
        // The second operand does not broadcast in the evaluator's eyes unless its shape does.
        g.tensors[different].shape = vec![2, 1, 1];
        g.tensors[different].value = Some(Array::f32(&[2, 1, 1], vec![1.0, -1.0]).into());
        let input = Array::f32(&[2, 3, 2], (0..12).map(f64::from).collect());
        let before = eval::run(&g, std::slice::from_ref(&input)).unwrap();
        shrink(&mut g);
        let operand = |n: usize, k: usize| g.tensors[g.nodes[n].inputs[k].unwrap()].shape.clone();
        assert_eq!((operand(0, 1), operand(1, 0)), (vec![1, 3, 1], vec![2, 1, 1]));
        assert_eq!(eval::run(&g, &[input]).unwrap(), before);
    }
}
