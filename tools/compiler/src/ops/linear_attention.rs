//! Layers with a state of fixed size in the place of attention: `LinearAttention`, and the convolution before it.

use kinglet::DType;

use super::conv::{Geometry, along_channels, emit};
use super::unfold::padded;
use crate::graph::{BinaryOp, Layout, Op, Post, TensorId, UnaryOp, Window};
use crate::import::{Context, Failure, MAX_UNROLLED};

/// Input `i`, which must be real numbers.
fn real(c: &Context<'_, '_>, i: usize) -> Result<TensorId, Failure> {
    let t = c.input(i)?;
    if c.dtype(t) == DType::F32 { Ok(t) } else { Err(Failure::malformed(format!("input {i} is no real tensor"))) }
}

/// As [`real`], if it is given.
fn maybe_real(c: &Context<'_, '_>, i: usize) -> Result<Option<TensorId>, Failure> {
    c.optional(i).map(|_| real(c, i)).transpose()
}

/// `CausalConvWithState` (opset 27): a convolution of each channel with what came before.
pub fn causal_conv(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (x, w) = (real(c, 0)?, real(c, 1)?);
    let (bias, past) = (maybe_real(c, 2)?, maybe_real(c, 3)?);
    let (xs, ws) = (c.shape(x), c.shape(w));
    let (&[batch, channels, length], &[_, 1, k @ 1..=0x4000]) = (&xs[..], &ws[..]) else {
        return Err(Failure::malformed(format!("input of shape {xs:?} and weights of shape {ws:?}")));
    };
    if ws[0] != channels || xs.contains(&0) {
        return Err(Failure::malformed(format!("input of shape {xs:?} and weights of shape {ws:?}")));
    }
    if bias.is_some_and(|b| c.shape(b) != [channels]) {
        return Err(Failure::malformed(format!("a bias for {channels} channels that has not their number")));
    }
    let activation = c.string("activation", "none");
    if !matches!(&activation[..], "none" | "silu" | "swish") {
        return Err(Failure::malformed(format!("activation `{activation}`")));
    }
    let all = match past {
        Some(past) if c.shape(past) != [batch, channels, k - 1] => {
            return Err(Failure::malformed(format!("a state of shape {:?}", c.shape(past))));
        }
        Some(past) => c.concatenated(&[past, x], 2)?,
        None => padded(c, x, &[0, 0, k as i64 - 1], &[0, 0, 0], 0.0)?,
    };
    let window =
        Window { kernel: vec![k], strides: vec![1], dilations: vec![1], pads_begin: vec![0], pads_end: vec![0] };
    let op = Op::Conv { window, groups: channels, layout: Layout::ChannelsFirst, post: Post::default() };
    let constant = bias.filter(|&b| c.is_constant(b));
    let mut y = emit(c, Geometry { op, shape: xs.clone() }, [all, w], constant)?;
    if let (Some(b), None) = (bias, constant) {
        y = along_channels(c, y, b)?;
    }
    if activation != "none" {
        y = c.unary_with(UnaryOp::Swish, [1.0, 0.0], y)?;
    }
    let state = c.sliced(all, 2, length, k - 1, 1)?;
    c.output(0, y);
    c.output(1, state);
    Ok(())
}

/// `LinearAttention` (opset 27): for each frame the state forgets, takes in the key with its value, and is read by the queries. Written
/// out frame by frame.
pub fn linear_attention(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (q, k, v) = (real(c, 0)?, real(c, 1)?, real(c, 2)?);
    let (past, decay, beta) = (maybe_real(c, 3)?, maybe_real(c, 4)?, maybe_real(c, 5)?);
    let rule = c.string("update_rule", "gated_delta");
    let (gated, delta) = match &rule[..] {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        other => return Err(Failure::malformed(format!("update_rule `{other}`"))),
    };
    if (gated, delta) != (decay.is_some(), beta.is_some()) {
        return Err(Failure::malformed(format!("update_rule `{rule}`, and other inputs than it takes")));
    }
    let heads = |name: &str| usize::try_from(c.int(name, 0)).ok().filter(|h| (1..=1 << 16).contains(h));
    let (Some(readers), Some(heads)) = (heads("q_num_heads"), heads("kv_num_heads")) else {
        return Err(Failure::malformed("it has to say how many heads there are"));
    };
    let shapes = [c.shape(q), c.shape(k), c.shape(v)];
    let bad = || Failure::malformed(format!("{readers} heads on {heads}, of shapes {shapes:?}"));
    let [&[batch, frames, wq], &[bk, tk, wk], &[bv, tv, wv]] = [&shapes[0][..], &shapes[1], &shapes[2]] else {
        return Err(bad());
    };
    let (dk, dv, group) = (wk / heads, wv / heads, readers / heads);
    let whole = wk == dk * heads && wv == dv * heads && readers == group * heads && wq == dk * readers;
    if !whole || [bk, bv] != [batch; 2] || [tk, tv] != [frames; 2] || shapes.concat().contains(&0) {
        return Err(bad());
    }
    if frames > MAX_UNROLLED {
        return Err(Failure::unsupported(
            format!("{frames} frames, of which each has its own steps"),
            format!("at most {MAX_UNROLLED} in one run; hand the state on from run to run"),
        ));
    }
    if past.is_some_and(|p| c.shape(p) != [batch, heads, dk, dv]) {
        return Err(Failure::malformed("the state has another shape than its heads"));
    }
    let scale = match c.float("scale", 0.0) {
        0.0 => 1.0 / (dk as f64).sqrt(),
        given => f64::from(given),
    };
    let q = c.binary_with(BinaryOp::Mul, q, scale)?;
    let q = by_frames(c, q, &[heads, group, dk])?;
    let k = by_frames(c, k, &[heads, dk, 1])?;
    let v = by_frames(c, v, &[heads, 1, dv])?;
    let decay = match decay {
        Some(g) => {
            let width = if c.shape(g) == [batch, frames, heads] { 1 } else { dk };
            let g = gate(c, g, [batch, frames, heads * width], &[heads, width, 1])?;
            Some(c.unary(UnaryOp::Exp, g)?)
        }
        None => None,
    };
    let beta = match beta {
        Some(b) => {
            let each = if c.shape(b) == [batch, frames, heads] { heads } else { 1 };
            Some(gate(c, b, [batch, frames, each], &[each, 1, 1])?)
        }
        None => None,
    };
    let (mut state, mut read) = (past, Vec::new());
    for t in 0..frames {
        let (q, k, mut v) = (c.position(q, t)?, c.position(k, t)?, c.position(v, t)?);
        if let (Some(s), Some(g)) = (state, decay) {
            let g = c.position(g, t)?;
            state = Some(c.binary(BinaryOp::Mul, s, g)?);
        }
        if let Some(b) = beta {
            if let Some(s) = state {
                let known = c.product(k, s, [true, false])?;
                v = c.binary(BinaryOp::Sub, v, known)?;
            }
            let b = c.position(b, t)?;
            v = c.binary(BinaryOp::Mul, v, b)?;
        }
        let new = c.binary(BinaryOp::Mul, k, v)?;
        let now = match state {
            Some(s) => c.binary(BinaryOp::Add, s, new)?,
            None => new,
        };
        let y = c.product(q, now, [false, false])?;
        read.push(c.reshaped(y, &[batch, 1, readers * dv])?);
        state = Some(now);
    }
    let y = c.concatenated(&read, 1)?;
    c.output(0, y);
    c.output(1, state.ok_or_else(bad)?);
    Ok(())
}

/// `[batch, frames, …]` as `[frames, batch, of…]`.
fn by_frames(c: &mut Context<'_, '_>, x: TensorId, of: &[usize]) -> Result<TensorId, Failure> {
    let shape = c.shape(x);
    let x = c.moved(x, 1, 0)?;
    c.reshaped(x, &[&[shape[1], shape[0]], of].concat())
}

/// As [`by_frames`], of what must have a shape.
fn gate(c: &mut Context<'_, '_>, x: TensorId, shape: [usize; 3], of: &[usize]) -> Result<TensorId, Failure> {
    if c.shape(x) != shape {
        return Err(Failure::malformed(format!("a gate of shape {:?}, where {shape:?} is wanted", c.shape(x))));
    }
    by_frames(c, x, of)
}
