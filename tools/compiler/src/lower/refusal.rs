//! Why a node cannot be lowered, and the way out.

/// Why a node cannot be lowered.
pub(crate) struct NoKernel {
    pub(super) reason: String,
    pub(super) remedy: String,
}

pub(crate) type Result<T> = std::result::Result<T, NoKernel>;

/// The way out of what a pass should not have made.
pub(super) const DEFECT: &str = "this is a defect of Kinglet, please report it; --without-pass may go around it";

/// The way out of a picture that the passes have not turned.
pub(super) const LAYOUT: &str = "transpose it to channels last and back around the node";

pub(crate) fn no_kernel(reason: impl Into<String>, remedy: impl Into<String>) -> NoKernel {
    let remedy = remedy.into();
    debug_assert!(!remedy.is_empty(), "every refusal has a way out");
    NoKernel { reason: reason.into(), remedy }
}
