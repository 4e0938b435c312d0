//! The module that is written.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use kinglet::kernels::OpSet;
use kinglet::{DType, Model, Tensor};

/// Whether this may be the name of a module.
pub(crate) fn is_name(name: &str) -> bool {
    let mut letters = name.chars();
    let first = letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    first && letters.all(|c| c.is_ascii_alphanumeric() || c == '_') && !matches!(name, "_" | "self" | "super" | "crate")
}

/// The text of module `name` for a plan of so many bytes, of whose weights so many are for RAM.
pub(crate) fn text(name: &str, file: &Path, model: &Model<'_>, [bytes, hot]: [usize; 2]) -> String {
    let file = file.file_name().map(|f| f.to_string_lossy().escape_default().to_string()).unwrap_or_default();
    let target = model.target();
    let (ops, arena, slow) = (OpSet::of_model(model).bits(), model.arena_bytes(), model.slow_bytes());
    let inputs =
        (0..model.input_count()).map(|i| (model.input_name(i), model.tensor(model.input_tensor(i).unwrap_or(0))));
    let outputs =
        (0..model.output_count()).map(|i| (model.output_name(i), model.tensor(model.output_tensor(i).unwrap_or(0))));
    format!(
        "/// `{file}`, compiled for `{target_name}`.
#[allow(dead_code)]
pub mod r#{name} {{
    /// The kinds of steps and the functions that it needs ([`kinglet::kernels::OpSet::bits`]).
    pub const OPS: u128 = {ops:#x};
    /// Bytes of arena.
    pub const ARENA: usize = {arena};
    /// Bytes of slow memory beside it.
    pub const SLOW: usize = {slow};
    /// Bytes of weights that may be copied to RAM ([`hot`]).
    pub const HOT: usize = {hot};
    /// How many steps it has.
    pub const STEPS: usize = {steps};
    /// What it is compiled for.
    pub const TARGET: kinglet::Target = kinglet::Target::{target:?};

    #[repr(C, align(64))]
    struct Plan([u8; {bytes}]);
    static PLAN: Plan = Plan(*include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}.kgl\")));

    /// The plan, verified when it was compiled: what is read here is its checksum.
    ///
    /// # Errors
    /// Damage.
    pub fn model() -> Result<kinglet::Model<'static>, kinglet::Error> {{
        // SAFETY: the build script has loaded these very bytes, with the runtime that this program links.
        #[allow(unsafe_code)]
        unsafe {{
            kinglet::Model::trusted(&PLAN.0)
        }}
    }}

    /// A session in an arena of [`ARENA`] bytes at a multiple of 64; where there are any, with [`SLOW`] bytes of slow memory
    /// beside it ([`kinglet::Ram`]).
    ///
    /// # Errors
    /// As [`kinglet::Session::new`]: kernels of another target, or without some kind of step, are refused.
    pub fn session<'a, K: kinglet::Kernels>(
        ram: impl Into<kinglet::Ram<'a>>,
        kernels: &'a K,
    ) -> Result<kinglet::Session<'a, K>, kinglet::Error> {{
        session_of(model()?, ram, kernels)
    }}

    /// The model with the weights that a run reads the most often in RAM: they are copied into `ram`, [`HOT`] bytes at a multiple of 64.
    ///
    /// # Errors
    /// As [`model`]; [`kinglet::Error::WrongLength`] or [`kinglet::Error::ModelAlignment`] for another `ram`.
    pub fn hot(ram: &mut [u8]) -> Result<kinglet::Model<'_>, kinglet::Error> {{
        let model = model()?;
        let ram = ram.get_mut(..HOT).ok_or(kinglet::Error::WrongLength)?;
        ram.copy_from_slice(model.weights().get(..HOT).ok_or(kinglet::Error::WrongLength)?);
        model.with_hot_weights(ram)
    }}

    /// As [`session`], on what [`hot`] or [`model`] gave.
    ///
    /// # Errors
    /// As [`session`].
    pub fn session_of<'a, K: kinglet::Kernels>(
        model: kinglet::Model<'a>,
        ram: impl Into<kinglet::Ram<'a>>,
        kernels: &'a K,
    ) -> Result<kinglet::Session<'a, K>, kinglet::Error> {{
        let needed = kinglet::kernels::OpSet::from_bits(OPS);
        if !TARGET.runs_on(kernels.target()) || !kernels.ops().holds(needed) {{
            return Err(kinglet::Error::Kernels {{ target: TARGET }});
        }}
        let mut session = kinglet::Session::resume(model, ram, kernels)?;
        session.reset();
        Ok(session)
    }}

    /// What goes in.
    pub mod inputs {{
{inputs}    }}

    /// What comes out.
    pub mod outputs {{
{outputs}    }}
}}
",
        target_name = target.info().name,
        steps = model.step_count(),
        inputs = ports("Input", inputs),
        outputs = ports("Output", outputs),
    )
}

/// A constant for each input or output.
fn ports<'m>(kind: &str, all: impl Iterator<Item = (Option<&'m str>, Tensor)>) -> String {
    let (mut taken, mut text) = (BTreeSet::new(), String::new());
    for (i, (name, tensor)) in all.enumerate() {
        let name = constant(kind, i, name.unwrap_or(""), &mut taken);
        let (scale, zero_point) = (tensor.0.scale, tensor.0.zero_point);
        let ty = type_of(tensor.dtype());
        let shape = tensor.shape();
        writeln!(
            text,
            "        /// `{shape:?}` of `{ty}`{real}.
        pub const {name}: kinglet::{kind}<{ty}> = kinglet::{kind}::new({i}, &{shape:?}, {scale:?}, {zero_point});",
            real = if scale == 1.0 && zero_point == 0 {
                String::new()
            } else {
                format!(": (q − {zero_point}) · {scale:?}")
            },
        )
        .expect("a string takes all");
    }
    text
}

/// Rust's type of an element.
fn type_of(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "f32",
        DType::I8 => "i8",
        DType::U8 | DType::Bool => "u8",
        DType::I16 => "i16",
        DType::U16 => "u16",
        DType::I32 => "i32",
        DType::I64 => "i64",
        DType::F16 => "kinglet::f16",
    }
}

/// The names of the constants for a model's outputs, and the types of their elements, as the module has them.
pub fn outputs(model: &Model<'_>) -> Vec<(String, &'static str)> {
    let mut taken = BTreeSet::new();
    let port = |i| {
        let name = constant("Output", i, model.output_name(i).unwrap_or(""), &mut taken);
        Some((name, type_of(model.tensor(model.output_tensor(i)?).dtype())))
    };
    (0..model.output_count()).filter_map(port).collect()
}

/// A name for a constant that is not taken.
fn constant(kind: &str, i: usize, name: &str, taken: &mut BTreeSet<String>) -> String {
    let letters: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
    let mut name = letters.trim_matches('_').to_string();
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        name = format!("{}_{}", kind.to_uppercase(), if name.is_empty() { i.to_string() } else { name });
    }
    if !taken.insert(name.clone()) {
        name = format!("{name}_{i}");
        taken.insert(name.clone());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_constants() {
        let mut taken = BTreeSet::new();
        let mut name = |i, name| constant("Input", i, name, &mut taken);
        let all = [
            name(0, "serving_default_x:0"),
            name(1, "x.1"),
            name(2, "x 1"),
            name(3, "1"),
            name(4, ""),
            name(5, "Größe"),
        ];
        assert_eq!(all, ["SERVING_DEFAULT_X_0", "X_1", "X_1_2", "INPUT_1", "INPUT_4", "GR__E"]);
        assert!(
            is_name("kws") && is_name("_k1") && !is_name("") && !is_name("1k") && !is_name("a-b") && !is_name("self")
        );
    }
}
