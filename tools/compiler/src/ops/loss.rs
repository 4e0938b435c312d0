//! Losses: what a training script measures, for graphs that give it beside their answers.

use kinglet::DType;

use crate::graph::{BinaryOp, ReduceOp, TensorId, UnaryOp};
use crate::import::{Context, Failure};

/// `NegativeLogLikelihoodLoss` (opset 12): of log-probabilities `[batch, classes, …]` and classes `[batch, …]`.
pub fn negative_log_likelihood(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (x, target) = (c.input(0)?, c.input(1)?);
    let y = loss(c, x, target)?;
    c.output(0, y);
    Ok(())
}

/// `SoftmaxCrossEntropyLoss` (opset 12): the same of scores; the second output are their log-probabilities.
pub fn softmax_cross_entropy(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (x, target) = (c.input(0)?, c.input(1)?);
    if c.shape(x).len() < 2 {
        return Err(Failure::malformed(format!("scores of shape {:?}", c.shape(x))));
    }
    let x = c.softmax(x, 1, true)?;
    let y = loss(c, x, target)?;
    c.output(0, y);
    c.output(1, x);
    Ok(())
}

/// `−w[t]·x[t]` for each target t, weights being input 2; its sum, or its mean by weight. Targets equal to `ignore_index` weigh nothing.
fn loss(c: &mut Context<'_, '_>, x: TensorId, target: TensorId) -> Result<TensorId, Failure> {
    let (shape, places) = (c.shape(x), c.shape(target));
    if shape.len() < 2 || places[..] != [&shape[..1], &shape[2..]].concat() {
        return Err(Failure::malformed(format!("targets of shape {places:?} for an input of shape {shape:?}")));
    }
    // One place of the class axis is the target's.
    let mut wide = places.clone();
    wide.insert(1, 1);
    let wide = c.reshaped(target, &wide)?;
    let classes = c.counting(c.dtype(target), shape[1], 1, shape.len())?;
    let chosen = c.binary(BinaryOp::Equal, wide, classes)?;
    let zero = c.scalar_like(x, 0.0);
    let of_target = |c: &mut Context<'_, '_>, values: TensorId| {
        let only = c.select(chosen, values, zero)?;
        c.reduced(ReduceOp::Sum, only, &[1], false)
    };
    let likelihood = of_target(c, x)?;
    let mut loss = c.unary(UnaryOp::Neg, likelihood)?;
    let mut weight = None;
    if let Some(w) = c.optional(2) {
        if c.shape(w) != shape[1..2] {
            return Err(Failure::malformed(format!("weights of shape {:?} for {} classes", c.shape(w), shape[1])));
        }
        let mut along = vec![1; shape.len()];
        along[1] = shape[1];
        let w = c.reshaped(w, &along)?;
        weight = Some(of_target(c, w)?);
    }
    if c.has("ignore_index") {
        let kept = c.binary_with(BinaryOp::Equal, target, c.int("ignore_index", 0) as f64)?;
        let kept = c.unary(UnaryOp::Not, kept)?;
        weight = Some(match weight {
            Some(weight) => c.select(kept, weight, zero)?,
            None => c.as_type(kept, DType::F32)?,
        });
    }
    if let Some(weight) = weight {
        loss = c.binary(BinaryOp::Mul, loss, weight)?;
    }
    let every: Vec<usize> = (0..places.len()).collect();
    match (c.string("reduction", "mean").as_str(), weight) {
        ("none", _) => Ok(loss),
        ("sum", _) => c.reduced(ReduceOp::Sum, loss, &every, false),
        ("mean", None) => c.reduced(ReduceOp::Mean, loss, &every, false),
        ("mean", Some(weight)) => {
            let (total, weight) =
                (c.reduced(ReduceOp::Sum, loss, &every, false)?, c.reduced(ReduceOp::Sum, weight, &every, false)?);
            c.binary(BinaryOp::Div, total, weight)
        }
        (other, _) => Err(Failure::malformed(format!("reduction = {other}"))),
    }
}
