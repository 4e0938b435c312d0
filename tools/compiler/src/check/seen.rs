//! Which tensors of the imported graph a run has shown.
//!
//! Passes keep the number of a tensor whose meaning they keep, and note what the tensors they add stand for
//! ([`Graph::stands_for`]). A number or note that is wrong does no harm: a tensor of the run is compared with what it is
//! taken for, so that it would be found out.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use crate::array::Array;
use crate::eval;
use crate::graph::{Graph, Node, Op, Quant, Tensor, TensorId};

/// A value of the run that stands for a tensor of the imported graph.
pub(super) struct Sight<'a> {
    /// The tensor of the compiled graph.
    pub(super) compiled: TensorId,
    /// Its value, its axes in the order of the imported tensor.
    pub(super) value: Cow<'a, Array>,
}

/// The values of a run by the tensors of `imported` that they stand for. `run` has the values by tensor of `compiled`;
/// `outputs` are those of the model.
pub(super) fn seen<'a>(
    imported: &Graph,
    compiled: &Graph,
    run: &HashMap<TensorId, Cow<'a, Array>>,
    outputs: &'a [Option<Array>],
) -> HashMap<TensorId, Vec<Sight<'a>>> {
    let mut seen: HashMap<TensorId, Vec<Sight<'a>>> = HashMap::new();
    let mut tensors: Vec<TensorId> = run.keys().copied().collect();
    tensors.sort_unstable();
    for t in tensors {
        for (of, perm) in counterparts(imported, compiled, t) {
            let stays = perm.iter().enumerate().all(|(d, &p)| d == p);
            let value = if stays { run[&t].clone() } else { Cow::Owned(transposed(&run[&t], &perm)) };
            seen.entry(of).or_default().push(Sight { compiled: t, value });
        }
    }
    for ((&of, &t), value) in imported.outputs.iter().zip(&compiled.outputs).zip(outputs) {
        let Some(value) = value else { continue };
        seen.entry(of).or_default().push(Sight { compiled: t, value: Cow::Borrowed(value) });
    }
    seen
}

/// The tensors of the imported graph that `t` of the compiled one stands for, each being `t` with its axes moved by a
/// permutation. There are none for what passes add between the imported nodes.
fn counterparts(imported: &Graph, compiled: &Graph, t: TensorId) -> Vec<(TensorId, Vec<usize>)> {
    let held = &compiled.tensors[t];
    let scales = |q: &Quant| (q.scales.clone(), q.zero_points.clone());
    let same = |of: TensorId, perm: &[usize]| {
        let tensor = &imported.tensors[of];
        tensor.dtype == held.dtype
            && tensor.shape.iter().copied().eq(perm.iter().map(|&d| held.shape[d]))
            && tensor.quant.as_ref().map(scales) == held.quant.as_ref().map(scales)
    };
    let (mut found, mut reached) = (Vec::new(), HashSet::from([t]));
    let mut open = vec![(t, (0..held.shape.len()).collect::<Vec<usize>>())];
    while let Some((of, perm)) = open.pop() {
        for (other, next) in compiled.stands_for.get(&of).into_iter().flatten() {
            if reached.insert(*other) {
                open.push((*other, next.iter().map(|&d| perm[d]).collect()));
            }
        }
        if of < imported.tensors.len() && same(of, &perm) {
            found.push((of, perm));
        }
    }
    found
}

/// A value with its axes moved: axis `d` of the result is axis `perm[d]`.
fn transposed(value: &Array, perm: &[usize]) -> Array {
    let mut graph = Graph::default();
    let mut add = |shape: Vec<usize>| {
        graph.add_tensor(Tensor { name: String::new(), dtype: value.dtype, shape, quant: None, value: None })
    };
    let (x, y) = (add(value.shape.clone()), add(perm.iter().map(|&d| value.shape[d]).collect()));
    let node = Node::new(Op::Transpose { perm: perm.to_vec() }, vec![Some(x)], y, Vec::new());
    eval::node(&graph, &node, &[Some(value)])
}
