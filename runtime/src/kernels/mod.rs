//! The step kinds and their portable kernels.
//!
//! One file a family. Each holds the parameters of a step (a [`record!`](crate::format::words)), the check that a plan
//! must pass, and the scalar kernel: the reference that every other kernel set equals (bit for bit in integers).
//! The table below is the only list of kinds: number in the format, parameter type, method of [`Kernels`].

mod argmax;
mod binary;
mod broadcast;
mod bytes;
mod conv;
mod convert;
mod copy;
mod cumsum;
mod feed;
mod fold;
mod gather;
mod go_on;
mod gridsample;
mod gru;
mod legendre_memory;
mod lstm;
mod lut;
mod matmul;
mod moments;
mod nms;
mod norm;
mod opset;
mod pad;
mod pool;
mod recurrent;
mod reduce;
mod rnn;
mod roialign;
mod scatter;
mod selective_scan;
mod softmax;
mod sum;
mod ternary;
mod topk;
mod unary;
mod walk;

pub use argmax::ArgMax;
pub use binary::{Binary, BinaryOp};
pub use conv::{Conv, ConvF16, ConvF32, ConvI8, ConvW8, DepthwiseF16, DepthwiseF32, DepthwiseI8, DepthwiseW8};
pub use convert::{Conversion, Convert};
pub use copy::Copy;
pub use cumsum::CumSum;
pub use feed::Feed;
pub use fold::{Fold, FoldOp};
pub use gather::Gather;
pub use go_on::GoOn;
pub use gridsample::{GridSample, SampleMode, SamplePadding};
pub use gru::Gru;
pub use legendre_memory::{LANES as MEMORY_LANES, LegendreMemory, MAX_ORDER, MemoryFrame, memory_rows};
pub use lstm::Lstm;
pub use lut::{Lut, look_up};
pub use matmul::{MatMul, MatMulF32, MatMulI8};
pub use nms::NonMaxSuppression;
pub use norm::{Norm, NormKind};
pub use opset::{Only, OpSet, Own};
pub use pad::{Pad, PadMode};
pub use pool::{Pool, PoolKind};
pub use recurrent::{Activation, Layer};
pub use reduce::{Reduce, ReduceOp};
pub use rnn::Rnn;
pub use roialign::RoiAlign;
pub use scatter::{Scatter, ScatterOp};
pub use selective_scan::{Frame, MAX_STATE, SelectiveScan, States};
pub use softmax::Softmax;
pub use ternary::{Ternary, TernaryOp};
pub use topk::TopK;
pub use unary::{Unary, UnaryOp};
pub use walk::{DIMS, contiguous};

use core::ops::Range;

use crate::Target;
use crate::bands::Rule;
use crate::elementwise::{Chosen, Elementwise, Portable};
use crate::error::Fault;
use crate::format::verify::{Check, Verdict};
use crate::format::words::Words;
use crate::product::Packing;
use crate::rows::{Operands, Tile};

/// What the parameters of a step kind know to do.
pub trait Params: crate::format::words::Record {
    /// Number of outputs. A second one is a state that later steps or runs go on from, or a result of its own.
    const OUTPUTS: usize = 1;

    /// Whether the rows are those of an input, each of which joins what those above it gave: they are computed in order, and the
    /// output is there when the last of them is.
    const FOLDS: bool = false;

    /// Calls `f` with the parameters of a step, if they are valid.
    #[inline(always)]
    fn with(step: &crate::Step<'_>, f: impl FnOnce(&Self)) {
        if let Some(p) = step.params() {
            f(&p);
        }
    }

    /// Checks that operands and parameters fit each other, and says how many output rows the step has.
    ///
    /// # Errors
    /// The first thing found wrong.
    fn verify(&self, check: &Check<'_>) -> Result<Verdict, Fault>;

    /// The elements of input `input` that the given output rows depend on, as a range of the tensor; `None` stands for all of
    /// it. It may hold more than they read, never less: a plan may leave the rest unwritten, or overwrite it. The rows are
    /// some of the step's, at least one. Of a step with two outputs, the rows of both. A file may have inputs that a kind does
    /// not know.
    fn reads(&self, input: usize, rows: Range<usize>) -> Option<Range<usize>> {
        let _ = (input, rows);
        None
    }

    /// Elements of an output row, if the step's rows are those of the output (of an input row, if it [folds](Params::FOLDS)); only
    /// then can it be a part of a [band of rows](crate::bands).
    fn row(&self) -> Option<u32> {
        None
    }

    /// Which rows of input `input` output rows read, of a kind that has [rows](Params::row). It says no less than [`Params::reads`].
    fn rule(&self, input: usize) -> Rule {
        let _ = input;
        Rule::Whole
    }

    /// What such a step asks of a program beside its kind: the functions of elements that it computes by its instruction set, and its habits ([`OpSet`]).
    fn functions(&self, step: &crate::Step<'_>) -> OpSet {
        let _ = step;
        OpSet::NONE
    }

    /// The reference kernel: computes a tile of the output, chunks of elements by `e`.
    fn run<E: Elementwise>(&self, e: E, operands: &Operands<'_>, tile: Tile);
}

/// Most inputs of a step.
pub const INPUTS: usize = 16;

/// What a step in a band of rows makes, and what it reads for that ([`Params::row`], [`Params::rule`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Elements of an output row.
    pub row: u32,
    /// The output is no rows, but there with the last of them.
    pub folds: bool,
    /// Which rows of each input output rows read.
    pub inputs: [Rule; INPUTS],
}

/// What multiplies, for [`Kernels::probe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Products of floats.
    Floats,
    /// Products of floats with weights of halves.
    Halves,
    /// Products of bytes.
    Bytes,
}

impl StepKind {
    /// What multiplies in steps of this kind, of products.
    pub const fn unit(self) -> Option<Unit> {
        match self {
            StepKind::ConvI8 | StepKind::DepthwiseI8 | StepKind::MatMulI8 => Some(Unit::Bytes),
            StepKind::ConvF16 | StepKind::DepthwiseF16 => Some(Unit::Halves),
            StepKind::ConvF32
            | StepKind::ConvW8
            | StepKind::DepthwiseF32
            | StepKind::DepthwiseW8
            | StepKind::MatMulF32 => Some(Unit::Floats),
            _ => None,
        }
    }
}

/// Runs a kernel with the parameters of its step. Each kind by itself: built into the run loop they would need the stack of all kinds at once.
#[inline(never)]
fn run_one<P: Params>(operands: &Operands<'_>, kernel: impl FnOnce(&P)) {
    P::with(operands.step(), kernel);
}

macro_rules! kinds {
    ($($(#[$meta:meta])* $kind:ident = $n:literal, $method:ident;)*) => {
        /// What a step computes. The numbers are part of the `.kgl` format.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum StepKind { $($(#[$meta])* $kind = $n,)* }

        impl StepKind {
            /// Every kind.
            pub const ALL: &'static [StepKind] = &[$(StepKind::$kind,)*];

            /// The kind with this number.
            pub fn from_code(code: u32) -> Option<StepKind> {
                match code {
                    $($n => Some(StepKind::$kind),)*
                    _ => None,
                }
            }

            /// Whether the rows of such a step are computed in order ([`Params::FOLDS`]).
            pub const fn folds(self) -> bool {
                match self { $(StepKind::$kind => <$kind as Params>::FOLDS,)* }
            }

            /// The kind's name, as reports print it.
            pub const fn name(self) -> &'static str {
                match self { $(StepKind::$kind => stringify!($kind),)* }
            }
        }

        /// The kernels of one CPU: a method a step kind, each computing a tile of the output. A CPU crate overrides
        /// what it does better and inherits the reference for the rest.
        ///
        /// # Safety
        /// Kernels of one step run on several threads over one arena. A method must write only the given rows and columns of the output
        /// (of a step that folds, its given columns), read no rows of an input that [`Params::rule`] leaves out,
        /// hold one writable view of it (and the scratch) at a time, and not keep a slice of an input while it writes the
        /// same elements in place.
        #[allow(unsafe_code)]
        pub unsafe trait Kernels: Sync {
            /// Name of the kernel that runs steps of `kind`, for profiles.
            fn kernel_name(&self, kind: StepKind) -> &'static str {
                let _ = kind;
                "reference"
            }

            /// The target whose plans suit these kernels best.
            fn target(&self) -> Target {
                Target::Generic
            }

            /// Multiplies with everything in registers, so much in each of `rounds`, and gives the number of products: what profiles
            /// measure the peak of a unit with. 0 if these kernels have no such loop.
            fn probe(&self, unit: Unit, rounds: u32) -> u64 {
                let _ = (unit, rounds);
                0
            }

            /// The kinds of steps that these kernels run. A session over a plan with others is refused.
            fn ops(&self) -> OpSet {
                OpSet::ALL
            }

            /// Whether products of this kind with weights in this order can be computed. A session over a plan with others is refused.
            fn takes(&self, kind: StepKind, packing: &Packing) -> bool {
                let _ = (kind, packing);
                true
            }

            $(
                $(#[$meta])*
                fn $method(&self, params: &$kind, operands: &Operands<'_>, tile: Tile) {
                    Params::run(params, Portable, operands, tile)
                }
            )*
        }

        // SAFETY: the methods are those of kernels that keep the contract, or do nothing.
        #[allow(unsafe_code)]
        unsafe impl<K: Own, const OPS: u128> Kernels for Only<K, OPS> {
            fn kernel_name(&self, kind: StepKind) -> &'static str {
                self.0.kernel_name(kind)
            }

            fn target(&self) -> Target {
                self.0.target()
            }

            fn probe(&self, unit: Unit, rounds: u32) -> u64 {
                self.0.probe(unit, rounds)
            }

            fn ops(&self) -> OpSet {
                OpSet::from_bits(OPS)
            }

            fn takes(&self, kind: StepKind, packing: &Packing) -> bool {
                self.0.takes(kind, packing)
            }

            $(
                #[inline(always)]
                fn $method(&self, params: &$kind, operands: &Operands<'_>, tile: Tile) {
                    if const { !OpSet::from_bits(OPS).has(StepKind::$kind) } {
                    } else if const { K::OWN.has(StepKind::$kind) } {
                        self.0.$method(params, operands, tile)
                    } else {
                        Params::run(params, K::Elements::<OPS>::default(), operands, tile)
                    }
                }
            )*
        }

        /// Runs one step's kernel over a range of rows. `ops` are the kinds that the kernels run.
        #[inline(always)]
        pub(crate) fn run<K: Kernels + ?Sized>(
            (kernels, ops): (&K, OpSet),
            kind: StepKind,
            operands: &Operands<'_>,
            tile: Tile,
        ) {
            match kind {
                $(StepKind::$kind if ops.has(StepKind::$kind) => {
                    run_one(operands, |p: &$kind| kernels.$method(p, operands, tile))
                })*
                _ => {}
            }
        }

        /// The elements of input `input` of a step that the given output rows depend on, as a range of the tensor; `None` stands
        /// for all of it. It may hold more than they read, never less. Rows that the step does not have, and inputs that are
        /// absent, read nothing. In a band the tensor is the one of the slice.
        pub fn reads(step: &crate::Step<'_>, input: usize, rows: Range<usize>) -> Option<Range<usize>> {
            let rows = rows.start..rows.end.min(step.rows());
            if rows.is_empty() || step.input(input).is_none() {
                return Some(0..0);
            }
            match step.kind()? {
                $(StepKind::$kind => step.params::<$kind>()?.reads(input, rows),)*
            }
        }

        /// The rules of a step of this kind whose parameters begin at word `at`; `None` if it cannot be in a band of rows.
        pub fn rules(kind: StepKind, params: &Words<'_>, at: usize) -> Option<Rules> {
            match kind {
                $(StepKind::$kind => {
                    let p = <$kind as crate::format::words::Record>::read(params, at)?;
                    let folds = <$kind as Params>::FOLDS;
                    Some(Rules { row: p.row()?, folds, inputs: core::array::from_fn(|input| p.rule(input)) })
                })*
            }
        }

        /// The functions of elements that a step computes, whose kind is one of `ops`.
        #[inline(always)]
        pub(crate) fn functions(step: &crate::Step<'_>, ops: OpSet) -> OpSet {
            match step.kind() {
                $(Some(StepKind::$kind) if ops.has(StepKind::$kind) => {
                    step.params::<$kind>().map_or(OpSet::NONE, |p| p.functions(step))
                })*
                _ => OpSet::NONE,
            }
        }

        /// Verifies one step, whose kind must be one of a set.
        pub(crate) fn verify<const OPS: u128>(kind: StepKind, check: &Check<'_>) -> Result<Verdict, Fault> {
            if const { OPS != OpSet::ALL.bits() } && !OpSet::from_bits(OPS).holds(functions(&check.step(), OpSet::from_bits(OPS))) {
                return Err(Fault::UnknownKind);
            }
            match kind {
                $(StepKind::$kind if const { OpSet::from_bits(OPS).has(StepKind::$kind) } => {
                    check.outputs(<$kind as Params>::OUTPUTS)?;
                    check.params::<$kind>()?.verify(check)
                })*
                #[allow(unreachable_patterns)]
                _ => Err(Fault::UnknownKind),
            }
        }
    };
}

kinds! {
    /// Convolution, transposed convolution, and matrix product with constant weights, of floats.
    ConvF32 = 1, conv_f32;
    /// Convolution of each channel by itself, of floats.
    DepthwiseF32 = 2, depthwise_f32;
    /// Matrix product of two computed tensors of floats.
    MatMulF32 = 3, matmul_f32;
    /// A function of each element.
    Unary = 4, unary;
    /// A function of each byte, by table.
    Lut = 5, lut;
    /// A function of two elements, with broadcasting.
    Binary = 6, binary;
    /// A function of three elements, with broadcasting.
    Ternary = 7, ternary;
    /// Maximum or average over windows.
    Pool = 8, pool;
    /// Sum, mean, maximum, … over an axis.
    Reduce = 9, reduce;
    /// Softmax or its logarithm over an axis.
    Softmax = 10, softmax;
    /// Normalisation to zero mean and unit variance, or to unit root mean square.
    Norm = 11, norm;
    /// Strided copy: transpose, slice, concatenation, expansion.
    Copy = 12, copy;
    /// Padding with a constant, the reflected or the repeated border.
    Pad = 13, pad;
    /// Selection of slices by index.
    Gather = 14, gather;
    /// Index of the maximum or minimum along an axis.
    ArgMax = 15, argmax;
    /// Running sum along an axis.
    CumSum = 16, cumsum;
    /// Change of element type: cast, quantise, dequantise, requantise.
    Convert = 17, convert;
    /// Selective scan of a state-space model.
    SelectiveScan = 18, selective_scan;
    /// Memory of a Legendre memory unit.
    LegendreMemory = 19, legendre_memory;
    /// Convolution, transposed convolution, and matrix product with constant weights, of bytes.
    ConvI8 = 20, conv_i8;
    /// Convolution of each channel by itself, of bytes.
    DepthwiseI8 = 21, depthwise_i8;
    /// Matrix product of two computed tensors of bytes.
    MatMulI8 = 22, matmul_i8;
    /// Convolution, transposed convolution, and matrix product with constant weights, of floats with weights of bytes.
    ConvW8 = 23, conv_w8;
    /// Convolution of each channel by itself, of floats with weights of bytes.
    DepthwiseW8 = 24, depthwise_w8;
    /// Sums over all rows of a picture, row by row.
    Fold = 25, fold;
    /// Rows of an input that the caller gives while the plan runs.
    Feed = 26, feed;
    /// Convolution, transposed convolution, and matrix product with constant weights, of floats with weights of halves.
    ConvF16 = 27, conv_f16;
    /// Convolution of each channel by itself, of floats with weights of halves.
    DepthwiseF16 = 28, depthwise_f16;
    /// Slices replaced by updates, or joined with them, at places given by index.
    Scatter = 29, scatter;
    /// The largest or smallest elements along an axis, in order.
    TopK = 30, topk;
    /// Long short-term memory, from frame to frame.
    Lstm = 31, lstm;
    /// Gated recurrent units, from frame to frame.
    Gru = 32, gru;
    /// Recurrent layer without gates, from frame to frame.
    Rnn = 33, rnn;
    /// A picture sampled at places that a grid gives.
    GridSample = 34, gridsample;
    /// Boxes of which none covers much of a better one.
    NonMaxSuppression = 35, nms;
    /// Regions of pictures, each brought to one size.
    RoiAlign = 36, roialign;
    /// Whether a loop goes on, where data decide how many trips it has.
    GoOn = 37, go_on;
}

impl crate::Step<'_> {
    /// The parameters of a product with constant weights, and whether it is a depthwise one; `None` for other kinds.
    pub fn product(&self) -> Option<(Conv, bool)> {
        let depthwise = match self.kind()? {
            StepKind::ConvF32 | StepKind::ConvF16 | StepKind::ConvI8 | StepKind::ConvW8 => false,
            StepKind::DepthwiseF32 | StepKind::DepthwiseF16 | StepKind::DepthwiseI8 | StepKind::DepthwiseW8 => true,
            _ => return None,
        };
        Some((self.params()?, depthwise))
    }
}

/// The portable scalar kernels.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reference;

// SAFETY: every kernel of this module computes the rows it is given through one `ViewMut`; those that work in place copy a
// chunk of their inputs before they store it.
#[allow(unsafe_code)]
unsafe impl Kernels for Reference {
    fn target(&self) -> Target {
        if cfg!(target_os = "none") { Target::Mcu } else { Target::Generic }
    }
}

impl Own for Reference {
    const OWN: OpSet = OpSet::NONE;
    type Elements<const OPS: u128> = Chosen<OPS>;
}
