//! The end of a product: its [`Post`] as the runtime's [`Epilogue`].

use kinglet::DType;
use kinglet::kernels::UnaryOp;
use kinglet::product::{Epilogue, STAGES, Stage};

use super::{DEFECT, Result, no_kernel};
use crate::graph::{self, Graph, Mid, Node, Post, TensorId};
use crate::passes::post::along_channels;

/// An epilogue with its operands.
pub(super) struct Ending {
    pub epilogue: Epilogue,
    pub residual: Option<TensorId>,
    pub table: Option<Vec<u8>>,
    /// Constants of the channels, a row for each stage that takes one.
    pub rows: Vec<f32>,
}

/// What the sums of a product of integers are rounded to, if they are before anything else happens to them: what the file
/// says, or the output's own type where nothing stands between.
pub(super) fn rounding(graph: &Graph, node: &Node, post: &Post) -> Option<Mid> {
    let y = &graph.tensors[node.output];
    let bytes = matches!(y.dtype, DType::I8 | DType::U8) && post.stages.is_empty();
    post.mid.clone().or_else(|| {
        let (scale, zero_point) = y.quant.as_ref().filter(|_| bytes)?.single()?;
        Some(Mid { dtype: y.dtype, scale, zero_point })
    })
}

/// The end of a product of so many channels, whose sums are rounded to `mid` first, if they are.
pub(super) fn ending(graph: &Graph, node: &Node, post: &Post, mid: Option<&Mid>, channels: usize) -> Result<Ending> {
    let mut e = Ending {
        epilogue: Epilogue {
            rounds: mid.is_some(),
            q_lo: 0,
            q_hi: 0,
            mid_scale: 1.0,
            mid_zero: 0,
            stages: Default::default(),
        },
        residual: None,
        table: post.table.clone(),
        rows: Vec::new(),
    };
    let mut stages = Vec::new();
    if let Some(&Mid { dtype, scale, zero_point }) = mid {
        let (lo, hi) = dtype.quantized_range().ok_or_else(|| no_kernel("an output that is no byte", DEFECT))?;
        let cut = |v: f32| kinglet::quant::quantize(v, scale, zero_point, lo, hi);
        (e.epilogue.q_lo, e.epilogue.q_hi) = (cut(post.lo), cut(post.hi));
        (e.epilogue.mid_scale, e.epilogue.mid_zero) = (scale, zero_point);
    } else if (post.lo, post.hi) != (f32::NEG_INFINITY, f32::INFINITY) {
        stages.push(Stage::Function { op: UnaryOp::Clip, alpha: post.lo, beta: post.hi });
    }
    let mut operands = node.inputs.get(Post::OPERANDS..).unwrap_or_default().iter().flatten();
    for stage in &post.stages {
        stages.push(match *stage {
            graph::Stage::Function(op, alpha, beta) => Stage::Function { op, alpha, beta },
            graph::Stage::Combine(op) => {
                let &t =
                    operands.next().ok_or_else(|| no_kernel("a product without the operand of its stage", DEFECT))?;
                if graph.tensors[t].value.is_some() {
                    let row = along_channels(graph, t, channels);
                    e.rows.extend(
                        row.ok_or_else(|| no_kernel("a constant that does not run along the channels", DEFECT))?,
                    );
                    Stage::Channels(op)
                } else {
                    e.residual = Some(t);
                    Stage::Residual(op)
                }
            }
        });
    }
    let slots = e.epilogue.stages.get_mut(..stages.len());
    let slots = slots.ok_or_else(|| no_kernel(format!("more than {STAGES} functions fused into a product"), DEFECT))?;
    slots.copy_from_slice(&stages);
    Ok(e)
}
