//! Chains of operators under one name.

use kinglet::DType;

use crate::array::Array;
use crate::graph::{BinaryOp, NormKind, TensorId, UnaryOp};
use crate::import::{Context, Failure};
use crate::ops::matmul::emit_matmul;
use crate::ops::normalize::{epsilon, inverse_rms, moments, normalized};
use crate::ops::{conv, matmul};

/// `BiasGelu`: GELU of a sum.
pub fn bias_gelu(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (a, b) = (c.input(0)?, c.input(1)?);
    let sum = c.binary(BinaryOp::Add, a, b)?;
    let y = c.unary(UnaryOp::Gelu, sum)?;
    c.output(0, y);
    Ok(())
}

/// `FastGelu`: GELU by the tanh approximation, of a sum if there is a bias.
pub fn fast_gelu(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let mut x = c.input(0)?;
    if let Some(bias) = c.optional(1) {
        x = c.binary(BinaryOp::Add, x, bias)?;
    }
    let y = c.unary(UnaryOp::GeluTanh, x)?;
    c.output(0, y);
    Ok(())
}

/// `QuickGelu`: `x·sigmoid(α·x)`.
pub fn quick_gelu(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let x = c.input(0)?;
    let y = c.unary_with(UnaryOp::Swish, [c.float("alpha", 1.702), 0.0], x)?;
    c.output(0, y);
    Ok(())
}

/// The function that a fused product names, with its parameters in order.
fn activated(c: &mut Context<'_, '_>, x: TensorId, parameters: &[f32]) -> Result<TensorId, Failure> {
    let name = c.string("activation", "");
    let parameter = |i: usize, default: f32| parameters.get(i).copied().unwrap_or(default);
    let (op, with) = match name.as_str() {
        "" => return Ok(x),
        "Relu" => (UnaryOp::Relu, [0.0, 0.0]),
        "Sigmoid" => (UnaryOp::Sigmoid, [0.0, 0.0]),
        "Tanh" => (UnaryOp::Tanh, [0.0, 0.0]),
        "LeakyRelu" => (UnaryOp::LeakyRelu, [parameter(0, 0.01), 0.0]),
        "HardSigmoid" => (UnaryOp::HardSigmoid, [parameter(0, 0.2), parameter(1, 0.5)]),
        "HardSwish" => (UnaryOp::HardSwish, [0.0, 0.0]),
        "Clip" => {
            let [lo, hi] = [parameter(0, f32::NEG_INFINITY), parameter(1, f32::INFINITY)];
            (UnaryOp::Clip, [lo.min(hi), hi])
        }
        other => return Err(Failure::unsupported(format!("activation {other}"), "export the model without fusions")),
    };
    if with.iter().any(|v| v.is_nan()) {
        return Err(Failure::malformed("a parameter is not a number"));
    }
    c.unary_with(op, with, x)
}

/// `FusedConv`: a convolution, a sum and an activation.
pub fn conv(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let mut y = conv::convolution(c)?;
    if let Some(z) = c.optional(3) {
        y = c.binary(BinaryOp::Add, y, z)?;
    }
    let parameters = c.floats("activation_params").unwrap_or_default();
    let y = activated(c, y, &parameters)?;
    c.output(0, y);
    Ok(())
}

/// `FusedGemm`: `Gemm` and an activation.
pub fn gemm(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let y = matmul::general(c)?;
    let names = ["activation_alpha", "activation_beta"];
    let parameters: Vec<f32> = names.iter().take_while(|name| c.has(name)).map(|name| c.float(name, 0.0)).collect();
    let y = activated(c, y, &parameters)?;
    c.output(0, y);
    Ok(())
}

/// `FusedMatMul`: a product times α, of operands whose last two axes may be swapped.
pub fn matmul(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let mut sides = [c.input(0)?, c.input(1)?];
    for (side, (swap, batch)) in sides.iter_mut().zip([("transA", "transBatchA"), ("transB", "transBatchB")]) {
        if c.flag(batch, false) {
            return Err(Failure::unsupported(format!("attribute {batch}"), "export the model without fusions"));
        }
        let rank = c.shape(*side).len();
        if c.flag(swap, false) && rank >= 2 {
            let perm: Vec<usize> = (0..rank - 2).chain([rank - 1, rank - 2]).collect();
            *side = c.transposed(*side, &perm)?;
        }
    }
    let y = emit_matmul(c, sides[0], sides[1], DType::F32)?;
    let alpha = c.float("alpha", 1.0);
    let y = if alpha == 1.0 { y } else { c.binary_with(BinaryOp::Mul, y, alpha.into())? };
    c.output(0, y);
    Ok(())
}

/// `SkipLayerNormalization` and its form without the mean: the normalisation of a sum, which is the fourth output.
pub fn skip_layer_norm(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let simple = c.op_type() == "SkipSimplifiedLayerNormalization";
    let (x, skip, scale) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let (shift, bias) = if simple { (None, c.optional(3)) } else { (c.optional(3), c.optional(4)) };
    let mut sum = c.binary(BinaryOp::Add, x, skip)?;
    if let Some(bias) = bias {
        sum = c.binary(BinaryOp::Add, sum, bias)?;
    }
    let last = c.shape(sum).len().checked_sub(1).ok_or_else(|| Failure::malformed("its input is a scalar"))?;
    let (kind, epsilon) = (if simple { NormKind::Rms } else { NormKind::Layer }, epsilon(c, 1e-12)?);
    let y = normalized(c, kind, sum, vec![last], [Some(scale), shift], epsilon)?;
    c.output(0, y);
    if simple {
        if c.has_output(1) {
            return Err(Failure::malformed("a form without the mean has none to give"));
        }
        if c.has_output(2) {
            let inverse = inverse_rms(c, sum, &[last], epsilon)?;
            c.output(2, inverse);
        }
    } else if c.has_output(1) || c.has_output(2) {
        let [_, inverse, mean] = moments(c, sum, &[last], epsilon)?;
        c.output(1, mean);
        c.output(2, inverse);
    }
    c.output(3, sum);
    Ok(())
}

/// `EmbedLayerNormalization`: word, position and segment of each token as vectors `[batch, time, hidden]`, summed and normalised. The second
/// output is how many tokens the mask keeps.
pub fn embed_layer_norm(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (ids, words, positions) = (c.input(0)?, c.input(2)?, c.input(3)?);
    let &[batch, time] = &c.shape(ids)[..] else {
        return Err(Failure::malformed(format!("tokens of shape {:?}", c.shape(ids))));
    };
    for table in [words, positions] {
        if c.shape(table).len() != 2 {
            return Err(Failure::malformed(format!("a table of shape {:?}", c.shape(table))));
        }
    }
    let mut sum = c.gathered(words, ids, 0)?;
    let position = match c.optional(8) {
        Some(at) => c.gathered(positions, at, 0)?,
        None if c.shape(positions)[0] < time => {
            return Err(Failure::malformed(format!("{time} tokens, and {} positions", c.shape(positions)[0])));
        }
        None => c.sliced(positions, 0, 0, time, 1)?,
    };
    sum = c.binary(BinaryOp::Add, sum, position)?;
    if let (Some(segments), Some(table)) = (c.optional(1), c.optional(4)) {
        if c.shape(table).len() != 2 {
            return Err(Failure::malformed(format!("a table of shape {:?}", c.shape(table))));
        }
        let segment = c.gathered(table, segments, 0)?;
        sum = c.binary(BinaryOp::Add, sum, segment)?;
    }
    if c.shape(sum).len() != 3 {
        return Err(Failure::malformed(format!("embeddings of shape {:?}", c.shape(sum))));
    }
    let (scale, shift, epsilon) = (c.input(5)?, c.input(6)?, epsilon(c, 1e-12)?);
    let y = normalized(c, NormKind::Layer, sum, vec![2], [Some(scale), Some(shift)], epsilon)?;
    c.output(0, y);
    if c.has_output(1) {
        let kept = match c.optional(7) {
            Some(mask) => {
                let mask = c.as_type(mask, DType::I32)?;
                c.reduced(crate::graph::ReduceOp::Sum, mask, &[1], false)?
            }
            None => c.add_constant(Array::int(DType::I32, &[batch], vec![0; batch])),
        };
        c.output(1, kept);
    }
    c.output(2, sum);
    Ok(())
}
