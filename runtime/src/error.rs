//! Errors: plain enums with stable numbers, no strings.

use core::fmt;

/// What is wrong with one step of a plan (the detail of [`Error::Step`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u16)]
pub enum Fault {
    /// The step kind is not known to this runtime.
    UnknownKind = 1,
    /// Fewer or more operands than the kind takes, or a required one is absent.
    Operands = 2,
    /// An operand's element type is not one the kind takes.
    DType = 3,
    /// An operand's size does not fit the step's parameters.
    Shape = 4,
    /// A parameter is out of its range.
    Params = 5,
    /// An operand lies in a memory region where it must not lie.
    Region = 6,
    /// The output overlaps an input in a way the kernel cannot take.
    Overlap = 7,
    /// The number of rows does not agree with the parameters.
    Rows = 8,
    /// The rows of a band are cut in a way that steps would read what is not there (yet, or any more).
    Slices = 9,
}

/// Everything that can go wrong in the runtime. [`Error::code`] is stable across versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The file ends before its header or a section does.
    Truncated,
    /// The file does not begin with `KGL1`: it is no Kinglet model.
    Magic,
    /// The format version is not the one this runtime reads.
    Version {
        /// Version found in the file.
        found: u16,
    },
    /// The model was compiled for a target this runtime does not know.
    UnknownTarget {
        /// Target number found in the file.
        found: u16,
    },
    /// The checksum of the plan does not match: the file is damaged.
    Checksum,
    /// The checksum of the weights does not match: the file is damaged.
    WeightsChecksum,
    /// A section is missing, misaligned, out of bounds or of the wrong size.
    Section {
        /// Number of the section.
        section: u16,
    },
    /// A tensor record is inconsistent: type, region, bounds, alignment or shape.
    Tensor {
        /// Index of the tensor.
        tensor: u32,
    },
    /// A step is inconsistent.
    Step {
        /// Index of the step.
        step: u32,
        /// What is wrong with it.
        fault: Fault,
    },
    /// A band is inconsistent, or sliced in a way this runtime does not execute.
    Band {
        /// Index of the band.
        band: u32,
    },
    /// The model's bytes are not aligned to 64: map or link the file so that they are.
    ModelAlignment,
    /// The arena is not aligned to 64 bytes.
    ArenaAlignment,
    /// The arena is too small.
    ArenaSize {
        /// Bytes the plan needs.
        needed: u32,
    },
    /// The slow memory is not aligned to 64 bytes.
    SlowAlignment,
    /// The slow memory is too small, or none is given.
    SlowSize {
        /// Bytes the plan needs.
        needed: u32,
    },
    /// The kernels do not take the weights of this target's plans as they lie.
    Kernels {
        /// The target that the model was compiled for.
        target: crate::Target,
    },
    /// There is no input or output with this index or name.
    NoSuchTensor,
    /// The element type asked for is not the tensor's.
    WrongType,
    /// The slice given has another length than the tensor.
    WrongLength,
    /// An index in the data lies outside the axis that it selects from. The run went on with NaN (floats) or 0 (everything
    /// else) for what the index should have selected.
    IndexOutOfRange {
        /// The first step that met one.
        step: u32,
    },
    /// An integer in the data was divided by 0. The run went on with 0 for the result.
    DivisionByZero {
        /// The first step that met one.
        step: u32,
    },
    /// A loop whose trips depend on the data wants more of them than it was compiled for (`convert --max-trips`). The run went on with what the last
    /// of them gave.
    TooManyTrips {
        /// The step that the loop begins with.
        step: u32,
    },
    /// An input or output of the plan comes or goes row by row, and nobody gives or takes its rows: run it by `Session::run_rows`.
    Fed,
    /// The observer, or who gives and takes rows, stopped the run. Outputs and state are unspecified; `Session::reset` makes the
    /// state good again.
    Interrupted {
        /// The step that would have run next.
        step: u32,
    },
}

impl Error {
    /// A number for this error that never changes its meaning, for the C ABI and for logs:
    /// hundreds say which error, the last two digits which [`Fault`].
    pub const fn code(self) -> u16 {
        match self {
            Error::Truncated => 100,
            Error::Magic => 200,
            Error::Version { .. } => 300,
            Error::UnknownTarget { .. } => 400,
            Error::Checksum => 500,
            Error::WeightsChecksum => 600,
            Error::Section { .. } => 700,
            Error::Tensor { .. } => 800,
            Error::Step { fault, .. } => 900 + fault as u16,
            Error::Band { .. } => 1000,
            Error::ModelAlignment => 1100,
            Error::ArenaAlignment => 1200,
            Error::ArenaSize { .. } => 1300,
            Error::NoSuchTensor => 1400,
            Error::WrongType => 1500,
            Error::WrongLength => 1600,
            Error::IndexOutOfRange { .. } => 1700,
            Error::DivisionByZero { .. } => 1800,
            Error::Interrupted { .. } => 1900,
            Error::Kernels { .. } => 2000,
            Error::Fed => 2100,
            Error::SlowAlignment => 2200,
            Error::SlowSize { .. } => 2300,
            Error::TooManyTrips { .. } => 2400,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Truncated => f.write_str("the model file is truncated"),
            Error::Magic => f.write_str("not a Kinglet model (no KGL1 magic)"),
            Error::Version { found } => {
                write!(
                    f,
                    "format version {found}, this runtime reads version {}: convert the model again",
                    crate::format::VERSION
                )
            }
            Error::UnknownTarget { found } => write!(f, "compiled for target number {found}, unknown to this runtime"),
            Error::Checksum => f.write_str("the plan's checksum does not match: the file is damaged"),
            Error::WeightsChecksum => f.write_str("the weights' checksum does not match: the file is damaged"),
            Error::Section { section } => write!(f, "section {section} is missing, misaligned or out of bounds"),
            Error::Tensor { tensor } => write!(f, "the record of tensor {tensor} is inconsistent"),
            Error::Step { step, fault } => write!(f, "step {step} is inconsistent: {fault:?}"),
            Error::Band { band } => write!(f, "band {band} is inconsistent or of an unsupported form"),
            Error::ModelAlignment => f.write_str("the model's bytes are not 64-byte aligned"),
            Error::ArenaAlignment => f.write_str("the arena is not 64-byte aligned"),
            Error::ArenaSize { needed } => write!(f, "the arena is too small: the plan needs {needed} bytes"),
            Error::SlowAlignment => f.write_str("the slow memory is not 64-byte aligned"),
            Error::SlowSize { needed } => {
                write!(f, "the slow memory is too small, or not given: the plan needs {needed} bytes")
            }
            Error::NoSuchTensor => f.write_str("no input or output of that name or index"),
            Error::WrongType => f.write_str("the tensor has another element type"),
            Error::WrongLength => f.write_str("the tensor has another length"),
            Error::IndexOutOfRange { step } => {
                write!(
                    f,
                    "step {step} was given an index outside the axis that it selects from: check the model's inputs"
                )
            }
            Error::DivisionByZero { step } => {
                write!(f, "step {step} divided an integer by 0: check the model's inputs")
            }
            Error::TooManyTrips { step } => {
                write!(
                    f,
                    "the loop that begins with step {step} wants more trips than it was compiled for: check the model's inputs, or convert with a larger --max-trips"
                )
            }
            Error::Kernels { target } => {
                write!(
                    f,
                    "these kernels do not run models compiled for the target {}: compile for this one",
                    target.name()
                )
            }
            Error::Fed => {
                f.write_str("an input or output of the plan comes row by row: run it with rows (Session::run_rows)")
            }
            Error::Interrupted { step } => write!(f, "the run was interrupted before step {step}"),
        }
    }
}

impl core::error::Error for Error {}
