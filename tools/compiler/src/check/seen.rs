//! Which tensors of the imported graph a run has shown.
//!
//! Passes keep the number of a tensor whose meaning they keep, and note what the tensors they add stand for
//! ([`Graph::stands_for`]). A number or note that is wrong does no harm: a tensor of the run is compared with what it is
//! taken for, so that it would be found out.
//!
//! Where a tensor has lost channels ([`Graph::lost`]), those that are left are compared, and those that are said to be always
//! the same. The others are taken as the graph of the file gives them: if a note wrongly says that nobody reads them, what
//! comes behind differs.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use crate::array::Array;
use crate::eval;
use crate::graph::{Graph, Lost, Node, Op, Quant, Tensor, TensorId};

/// A value of the run that stands for a tensor of the imported graph.
pub(super) struct Sight<'a> {
    /// The tensor of the compiled graph.
    pub(super) compiled: TensorId,
    /// Its value, its axes in the order of the imported tensor.
    pub(super) value: Cow<'a, Array>,
    /// The axis along which the value lacks channels of the imported tensor, and which.
    lost: Option<(usize, &'a Lost)>,
}

impl<'a> Sight<'a> {
    /// How many elements are compared.
    pub(super) fn len(&self) -> usize {
        self.lost.map_or(self.value.len(), |(_, lost)| {
            self.value.len() / lost.left.len().max(1) * (lost.left.len() + lost.constant.len())
        })
    }

    /// The value with all channels of the imported tensor; those that nobody reads are those of `given`.
    pub(super) fn whole(&self, given: &Array) -> Cow<'a, Array> {
        let Some((axis, lost)) = self.lost else { return self.value.clone() };
        // Where each channel lies in what is put side by side: what the run shows, what is given, the constants.
        let (left, all) = (lost.left.len(), lost.channels);
        let constant = |c: usize| lost.constant.binary_search_by_key(&c, |&(k, _)| k).ok();
        let place = |c: usize| {
            let shown = lost.left.binary_search(&c).ok();
            shown.unwrap_or_else(|| left + constant(c).map_or(c, |k| all + k))
        };
        let constants = self.constants(axis, lost);
        let parts: Vec<&Array> = [&*self.value, given].into_iter().chain(&constants).collect();
        Cow::Owned(joined(&parts, axis).select(axis, &(0..all).map(place).collect::<Vec<_>>()))
    }

    /// The channels that are always the same, if there are any: only integers are.
    fn constants(&self, axis: usize, lost: &Lost) -> Option<Array> {
        let mut shape = self.value.shape.clone();
        shape[axis] = lost.constant.len();
        let run: usize = shape[axis + 1..].iter().product();
        let row: Vec<i64> = lost.constant.iter().flat_map(|&(_, v)| std::iter::repeat_n(v, run)).collect();
        let rows = shape[..axis].iter().product();
        (!row.is_empty()).then(|| Array::int(self.value.dtype, &shape, row.repeat(rows)))
    }
}

/// The values of a run by the tensors of `imported` that they stand for. `run` has the values by tensor of `compiled`;
/// `outputs` are those of the model.
pub(super) fn seen<'a>(
    imported: &Graph,
    compiled: &'a Graph,
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
            let lost = compiled.lost.get(&t);
            let axis = perm.iter().position(|&p| p + 1 == perm.len());
            seen.entry(of).or_default().push(Sight { compiled: t, value, lost: axis.zip(lost) });
        }
    }
    for ((&of, &t), value) in imported.outputs.iter().zip(&compiled.outputs).zip(outputs) {
        let Some(value) = value else { continue };
        seen.entry(of).or_default().push(Sight { compiled: t, value: Cow::Borrowed(value), lost: None });
    }
    seen
}

/// The tensors of the imported graph that `t` of the compiled one stands for, each being `t` with its axes moved by a
/// permutation. There are none for what passes add between the imported nodes.
fn counterparts(imported: &Graph, compiled: &Graph, t: TensorId) -> Vec<(TensorId, Vec<usize>)> {
    let held = &compiled.tensors[t];
    let mut shape = held.shape.clone();
    if let (Some(channels), Some(lost)) = (shape.last_mut(), compiled.lost.get(&t)) {
        *channels = lost.channels;
    }
    let scales = |q: &Quant| (q.scales.clone(), q.zero_points.clone());
    let same = |of: TensorId, perm: &[usize]| {
        let tensor = &imported.tensors[of];
        tensor.dtype == held.dtype
            && tensor.shape.iter().copied().eq(perm.iter().map(|&d| shape[d]))
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

/// Values side by side along an axis.
fn joined(values: &[&Array], axis: usize) -> Array {
    let mut graph = Graph::default();
    let mut add = |shape: Vec<usize>| {
        graph.add_tensor(Tensor { name: String::new(), dtype: values[0].dtype, shape, quant: None, value: None })
    };
    let inputs: Vec<Option<TensorId>> = values.iter().map(|v| Some(add(v.shape.clone()))).collect();
    let mut shape = values[0].shape.clone();
    shape[axis] = values.iter().map(|v| v.shape[axis]).sum();
    let node = Node::new(Op::Concat { axis }, inputs, add(shape), Vec::new());
    eval::node(&graph, &node, &values.iter().map(|v| Some(*v)).collect::<Vec<_>>())
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
