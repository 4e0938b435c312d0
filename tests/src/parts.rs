//! Parts of a plan on memory of the test's own: some steps, some rows of them, and the memory before and after.

use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicUsize, Ordering};

use kinglet::kernels::*;
use kinglet::rows::{Operands, Tile};
use kinglet::{Inline, Model, Observer, Session, StepKind};

/// Kernels that run some steps, or some rows of them, and leave the others out.
struct Part<'k> {
    kernels: &'k dyn Kernels,
    steps: Range<usize>,
    /// All rows if there is none.
    rows: Option<Range<usize>>,
    /// The step that runs.
    now: AtomicUsize,
}

impl Part<'_> {
    fn tile(&self, tile: Tile) -> Option<Tile> {
        let rows = self.rows.clone().unwrap_or(tile.rows);
        self.steps.contains(&self.now.load(Ordering::Relaxed)).then_some(Tile { rows, ..tile })
    }
}

macro_rules! parts {
    ($($method:ident: $kind:ident,)*) => {
        // SAFETY: the kernels are those of a set that keeps the contract, on rows of the tile they would run on.
        unsafe impl Kernels for Part<'_> {
            $(fn $method(&self, params: &$kind, operands: &Operands<'_>, tile: Tile) {
                if let Some(tile) = self.tile(tile) {
                    self.kernels.$method(params, operands, tile);
                }
            })*
        }

        /// The kinds whose kernels are handed on. What is none of them would run all its rows.
        const KINDS: &[StepKind] = &[$(StepKind::$kind,)*];
    };
}

parts! {
    conv_f32: ConvF32,
    depthwise_f32: DepthwiseF32,
    matmul_f32: MatMulF32,
    unary: Unary,
    lut: Lut,
    binary: Binary,
    ternary: Ternary,
    pool: Pool,
    reduce: Reduce,
    softmax: Softmax,
    norm: Norm,
    copy: Copy,
    pad: Pad,
    gather: Gather,
    argmax: ArgMax,
    cumsum: CumSum,
    convert: Convert,
    selective_scan: SelectiveScan,
    legendre_memory: LegendreMemory,
    conv_i8: ConvI8,
    depthwise_i8: DepthwiseI8,
    matmul_i8: MatMulI8,
    conv_w8: ConvW8,
    depthwise_w8: DepthwiseW8,
    fold: Fold,
    feed: Feed,
    conv_f16: ConvF16,
    depthwise_f16: DepthwiseF16,
    scatter: Scatter,
    topk: TopK,
    lstm: Lstm,
    gru: Gru,
    rnn: Rnn,
    gridsample: GridSample,
    nms: NonMaxSuppression,
    roialign: RoiAlign,
    go_on: GoOn,
}

/// Tells the kernels which step runs, and ends the run behind the last one.
struct Until<'a, 'k>(&'a Part<'k>);

impl Observer for Until<'_, '_> {
    fn before(&mut self, step: usize) -> ControlFlow<()> {
        self.0.now.store(step, Ordering::Relaxed);
        if step >= self.0.steps.end { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Runs `steps` of a model, or of each only `rows`, on what the steps before them left in `arena`.
///
/// # Panics
/// If the arena is too small.
pub fn run(model: Model<'_>, arena: &mut [u8], kernels: &dyn Kernels, steps: Range<usize>, rows: Option<Range<usize>>) {
    assert_eq!(KINDS, StepKind::ALL, "every kind is handed on");
    let part = Part { kernels, steps, rows, now: AtomicUsize::new(0) };
    let mut session = Session::resume(model, arena, &part).expect("the arena is large enough");
    // It ends early; and what the data has no answer for has a defined result.
    let _ = session.run_with(&Inline, &mut Until(&part));
}
