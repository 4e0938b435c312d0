//! What a plan must pass before it runs, wherever its bytes lie.

use core::fmt;

use kinglet::{Element, Input, Kernels, Model, Output, Tensor};

/// What a program has for a plan.
#[derive(Clone, Copy, Debug)]
pub struct Limits<'k, K: Kernels + ?Sized> {
    /// The kernels that are to run it. They say which target plans are for, and which kinds of steps and functions they may have.
    pub kernels: &'k K,
    /// Bytes of arena, for one worker.
    pub arena: usize,
    /// Bytes of slow memory beside it.
    pub slow: usize,
    /// The most work of a run ([`Model::work`]); `u64::MAX` for any. A plan that passes all else may still take years.
    pub work: u64,
}

/// Why a plan is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// It is damaged, or not one for this program: of another version of the format or another target, with kinds of steps or functions that
    /// are not linked ([`kinglet::Error::Step`]), or larger than the memory ([`kinglet::Error::ArenaSize`], [`kinglet::Error::SlowSize`]).
    /// Damaged files are sent again, the others compiled for this program.
    Model(kinglet::Error),
    /// A run costs more than [`Limits::work`]: compile a smaller model.
    Work {
        /// The work of a run.
        needed: u64,
    },
    /// The program does not accept it: its inputs or outputs are others, or whatever the program has looked at.
    Unexpected,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Model(error) => write!(f, "the plan is refused: {error}"),
            Refused::Work { needed } => write!(f, "the plan is refused: a run costs {needed} units of work"),
            Refused::Unexpected => f.write_str("the plan is whole, but not one that this program expects"),
        }
    }
}

impl core::error::Error for Refused {}

/// Verifies a plan as it was received: everything that loading verifies, the checksum of the weights, that kernels take it, and that it needs no
/// more than there is. The bytes begin at a multiple of 64 and have the length of the file. `OPS` is the set of kinds and functions that the
/// program links ([`OpSet::bits`](kinglet::kernels::OpSet::bits)): give it those of plans to come, too.
///
/// `accept` is asked last, of a plan that has passed all else: whether inputs and outputs are what the program writes and reads
/// ([`has_input`], [`same_ports`]), and anything else that it wants to know. A plan whose rows come one by one ([`Model::is_fed`]) passes
/// unless `accept` says no.
///
/// # Errors
/// The first that is wrong with it; never panics, whatever the bytes are.
pub fn verify<'a, const OPS: u128>(
    bytes: &'a [u8],
    limits: &Limits<'_, impl Kernels + ?Sized>,
    accept: impl FnOnce(&Model<'_>) -> bool,
) -> Result<Model<'a>, Refused> {
    let model = fits::<OPS>(bytes, limits)?;
    model.check_weights().map_err(Refused::Model)?;
    if accept(&model) { Ok(model) } else { Err(Refused::Unexpected) }
}

/// As [`verify`], but for the weights and what the program accepts.
pub(crate) fn fits<'a, const OPS: u128>(
    bytes: &'a [u8],
    limits: &Limits<'_, impl Kernels + ?Sized>,
) -> Result<Model<'a>, Refused> {
    let model = Model::load_only::<OPS>(bytes).map_err(Refused::Model)?;
    // The portable kernels take weights in any order, but run plans for others slowly: those are a mistake of who sent them.
    if !model.target().runs_on(limits.kernels.target()) {
        return Err(Refused::Model(kinglet::Error::Kernels { target: model.target() }));
    }
    kinglet::runs_on(&model, limits.kernels).map_err(Refused::Model)?;
    if model.arena_bytes() > limits.arena {
        return Err(Refused::Model(kinglet::Error::ArenaSize { needed: model.arena_bytes() as u32 }));
    }
    if model.slow_bytes() > limits.slow {
        return Err(Refused::Model(kinglet::Error::SlowSize { needed: model.slow_bytes() as u32 }));
    }
    if model.work() > limits.work {
        return Err(Refused::Work { needed: model.work() });
    }
    Ok(model)
}

/// Whether a plan has this input, as `kinglet-build` wrote it down for another plan: of the same type, shape, scale and zero point, all of it in
/// the arena. (A program that asks the model for scales compares less.)
pub fn has_input<T: Element>(model: &Model<'_>, input: &Input<T>) -> bool {
    let tensor = model.input_tensor(input.index).map(|t| model.tensor(t));
    let as_it_was = |t: Tensor| is::<T>(&t, input.shape, input.scale, input.zero_point);
    tensor.is_some_and(as_it_was) && !model.input_comes_by_rows(input.index)
}

/// Whether a plan has this output, as [`has_input`].
pub fn has_output<T: Element>(model: &Model<'_>, output: &Output<T>) -> bool {
    let tensor = model.output_tensor(output.index).map(|t| model.tensor(t));
    let as_it_was = |t: Tensor| is::<T>(&t, output.shape, output.scale, output.zero_point);
    tensor.is_some_and(as_it_was) && !model.output_goes_by_rows(output.index)
}

/// Whether a tensor is one of elements `T` with these properties.
fn is<T: Element>(t: &Tensor, shape: &[usize], scale: f32, zero_point: i32) -> bool {
    let same = t.shape().len() == shape.len() && t.shape().iter().zip(shape).all(|(&a, &b)| a as usize == b);
    T::matches(t.dtype()) && same && t.0.scale == scale && t.0.zero_point == zero_point
}

/// Whether two plans have the same inputs and outputs: as many, of the same types, shapes, scales and zero points, whole or by rows alike. Names are not
/// compared.
pub fn same_ports(a: &Model<'_>, b: &Model<'_>) -> bool {
    let like = |x: Option<usize>, y: Option<usize>| {
        let of = |model: &Model<'_>, t: Option<usize>| t.map(|t| model.tensor(t));
        match (of(a, x), of(b, y)) {
            (Some(x), Some(y)) => {
                let scaled = |t: &Tensor| (t.0.scale, t.0.zero_point);
                x.dtype() == y.dtype() && x.shape() == y.shape() && scaled(&x) == scaled(&y)
            }
            _ => false,
        }
    };
    a.input_count() == b.input_count()
        && a.output_count() == b.output_count()
        && (0..a.input_count())
            .all(|i| like(a.input_tensor(i), b.input_tensor(i)) && a.input_comes_by_rows(i) == b.input_comes_by_rows(i))
        && (0..a.output_count()).all(|o| {
            like(a.output_tensor(o), b.output_tensor(o)) && a.output_goes_by_rows(o) == b.output_goes_by_rows(o)
        })
}
