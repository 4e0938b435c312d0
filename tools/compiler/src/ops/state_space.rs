//! Recurrences by name: operators of the domain `ai.kinglet`.

use kinglet::DType;

use crate::graph::{Node, Op, Tensor, TensorId};
use crate::import::{Context, Failure, node_name};

fn check(c: &Context<'_, '_>, t: Option<TensorId>, shape: &[usize], what: &str) -> Result<(), Failure> {
    match t {
        Some(t) if c.shape(t) != shape => {
            Err(Failure::malformed(format!("{what} has the shape {:?}, not {shape:?}", c.shape(t))))
        }
        Some(t) if c.dtype(t) != DType::F32 => {
            Err(Failure::malformed(format!("{what} is {}, not f32", c.dtype(t).name())))
        }
        _ => Ok(()),
    }
}

/// `SelectiveScan(x, delta, A, B, C, D?, z?, h?) → (y, h_last?)`: x, delta, z, y `[batch, time, inner]`,
/// A `[inner, state]`, B, C `[batch, time, state]`, D `[inner]`, h `[batch, inner, state]`; attribute `delta_softplus`.
pub fn selective_scan(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (x, a) = (c.input(0)?, c.input(2)?);
    let (&[batch, time, inner], &[_, state]) = (&c.shape(x)[..], &c.shape(a)[..]) else {
        return Err(Failure::malformed(format!("x has the shape {:?} and A {:?}", c.shape(x), c.shape(a))));
    };
    if time == 0 || batch * inner * state == 0 {
        return Err(Failure::malformed("an axis of extent 0"));
    }
    let (frames, states) = ([batch, time, inner], [batch, time, state]);
    let names = ["x", "delta", "A", "B", "C", "D", "z", "h"];
    let shapes: [&[usize]; 8] =
        [&frames, &frames, &[inner, state], &states, &states, &[inner], &frames, &[batch, inner, state]];
    let mut inputs = Vec::new();
    for (i, (name, shape)) in names.into_iter().zip(shapes).enumerate() {
        let t = if i < 5 { Some(c.input(i)?) } else { c.optional(i) };
        check(c, t, shape, name)?;
        inputs.push(t);
    }
    let f32s = |name: String, shape: &[usize]| Tensor {
        name,
        dtype: DType::F32,
        shape: shape.to_vec(),
        quant: None,
        value: None,
    };
    let (first, second) = (c.output_name(0), c.output_name(1));
    let op = Op::SelectiveScan { softplus: c.flag("delta_softplus", false) };
    let source = vec![node_name(c.proto())];
    let graph = &mut c.importer.frame.graph;
    let y = graph.add_tensor(f32s(first, &frames));
    let h = graph.add_tensor(f32s(second, &[batch, inner, state]));
    c.importer.frame.push(Node { more: vec![h], ..Node::new(op, inputs, y, source) });
    c.output(0, y);
    c.output(1, h);
    Ok(())
}

/// `LegendreMemory(u, A, B, m?) → (m, m_last?)`: u `[batch, time, channels]`, A `[order, order]`, B `[order]`, the results
/// `[batch, time, channels · order]` and `[batch, channels · order]`, channel by channel.
pub fn legendre_memory(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (u, a, b) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let (&[batch, time, channels], &[order]) = (&c.shape(u)[..], &c.shape(b)[..]) else {
        return Err(Failure::malformed(format!("u has the shape {:?} and B {:?}", c.shape(u), c.shape(b))));
    };
    if batch * time * channels * order == 0 {
        return Err(Failure::malformed("an axis of extent 0"));
    }
    for (t, shape, what) in [(u, &[batch, time, channels][..], "u"), (a, &[order, order], "A"), (b, &[order], "B")] {
        check(c, Some(t), shape, what)?;
    }
    let mut inputs = vec![Some(u), Some(a), Some(b)];
    if let Some(m) = c.optional(3) {
        check(c, Some(m), &[batch, channels * order], "m")?;
        inputs.push(Some(c.reshaped(m, &[batch, channels, order])?));
    }
    let m = c.emit_optional(Op::LegendreMemory, &inputs, DType::F32, &[batch, time, channels, order], None)?;
    let y = c.reshaped(m, &[batch, time, channels * order])?;
    c.output(0, y);
    if c.has_output(1) {
        let op = Op::Slice { starts: vec![0, time - 1, 0], steps: vec![1; 3] };
        let last = c.emit(op, &[y], DType::F32, &[batch, 1, channels * order])?;
        let last = c.reshaped(last, &[batch, channels * order])?;
        c.output(1, last);
    }
    Ok(())
}
