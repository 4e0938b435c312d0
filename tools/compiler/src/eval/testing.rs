//! Helpers of the evaluator's tests.

pub(super) use std::slice::from_ref;
use std::sync::Arc;

use kinglet::DType;

use crate::array::Array;
use crate::graph::{Graph, Node, Op, Quant, Tensor, Window};

/// An operand: its value and quantisation; `None` if absent.
pub(super) type Input = Option<(Array, Option<Quant>)>;

/// Reals.
pub(super) fn f(shape: &[usize], v: &[f64]) -> Input {
    Some((Array::f32(shape, v.to_vec()), None))
}

/// The reals 0, 1, 2, …
pub(super) fn iota(shape: &[usize]) -> Input {
    Some((Array::f32(shape, (0..shape.iter().product()).map(|i: usize| i as f64).collect()), None))
}

/// Integers that stand for themselves.
pub(super) fn int(dtype: DType, shape: &[usize], v: &[i64]) -> Input {
    Some((Array::int(dtype, shape, v.to_vec()), None))
}

/// Integers that stand for reals.
pub(super) fn quantized(dtype: DType, shape: &[usize], v: &[i64], q: Quant) -> Input {
    Some((Array::int(dtype, shape, v.to_vec()), Some(q)))
}

/// Describes an output.
pub(super) fn like(dtype: DType, shape: &[usize], quant: Option<Quant>) -> Tensor {
    Tensor { name: "y".into(), dtype, shape: shape.to_vec(), quant, value: None }
}

/// Evaluates one operator.
pub(super) fn eval(op: Op, inputs: &[Input], output: &Tensor) -> Array {
    let mut graph = Graph::default();
    let ids: Vec<_> = inputs
        .iter()
        .map(|input| {
            input.as_ref().map(|(a, quant)| {
                graph.add_tensor(Tensor {
                    quant: quant.clone(),
                    value: Some(Arc::new(a.clone())),
                    ..like(a.dtype, &a.shape, None)
                })
            })
        })
        .collect();
    let y = graph.add_tensor(output.clone());
    let node = Node::new(op, ids, y, vec![]);
    let values: Vec<_> = inputs.iter().map(|i| i.as_ref().map(|(a, _)| a)).collect();
    let y = super::node(&graph, &node, &values);
    assert_eq!((y.dtype, &y.shape), (output.dtype, &output.shape));
    y
}

/// Evaluates one operator with a real result and returns its numbers.
pub(super) fn reals(op: Op, inputs: &[Input], shape: &[usize]) -> Vec<f64> {
    eval(op, inputs, &like(DType::F32, shape, None)).reals().into_owned()
}

/// Evaluates one operator with an integer result and returns its numbers.
pub(super) fn ints(op: Op, inputs: &[Input], dtype: DType, shape: &[usize]) -> Vec<i64> {
    eval(op, inputs, &like(dtype, shape, None)).ints().into_owned()
}

/// A window without padding and dilation, stepping by 1.
pub(super) fn window(kernel: &[usize]) -> Window {
    let n = kernel.len();
    Window {
        kernel: kernel.to_vec(),
        strides: vec![1; n],
        dilations: vec![1; n],
        pads_begin: vec![0; n],
        pads_end: vec![0; n],
    }
}

/// Asserts that numbers agree to 12 digits.
pub(super) fn assert_close(got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len(), "{got:?} {want:?}");
    for (g, w) in got.iter().zip(want) {
        assert!(g == w || (g - w).abs() <= 1e-12 * w.abs().max(1.0), "{got:?} is not {want:?}");
    }
}
