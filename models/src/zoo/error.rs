//! Why a model of the zoo cannot be built.

use std::fmt;

/// An error of the zoo.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No model has this name.
    #[error("there is no model `{name}`; {}", suggestion(near))]
    UnknownModel {
        /// The name asked for.
        name: String,
        /// Names that look like it, the nearest first.
        near: Vec<&'static str>,
    },
    /// The architecture cannot take an input of this size.
    #[error("`{model}` cannot take {height}x{width}: {reason}")]
    Size {
        /// The model.
        model: String,
        /// Rows asked for.
        height: usize,
        /// Columns asked for.
        width: usize,
        /// What it can take.
        reason: String,
    },
    /// The architecture has no such choice.
    #[error("`{model}` has no choice of {choice}: {reason}")]
    Choice {
        /// The model.
        model: String,
        /// What was asked for.
        choice: &'static str,
        /// Why it makes no sense.
        reason: &'static str,
    },
    /// A file cannot be read.
    #[error("{file}: {source}")]
    Unreadable {
        /// The file.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// The bytes are no safetensors file, or not all of one.
    #[error("{file}: not a whole safetensors file: {reason}")]
    Safetensors {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// The file is one, but not of this model. Every tensor that is wrong is named.
    #[error("{file} does not hold the weights of `{model}`: {}", listed(problems))]
    Tensors {
        /// The file.
        file: String,
        /// The model.
        model: String,
        /// What is wrong with which tensor, in the order of the model, then of the file.
        problems: Vec<Problem>,
    },
}

/// What is wrong with one tensor of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The model needs it, the file lacks it.
    Missing {
        /// The tensor.
        tensor: String,
        /// The shape it should have.
        shape: Vec<usize>,
    },
    /// The file has it, the model knows nothing of it.
    Extra {
        /// The tensor.
        tensor: String,
        /// Its shape in the file.
        shape: Vec<usize>,
    },
    /// It has another shape than the model's.
    Shape {
        /// The tensor.
        tensor: String,
        /// Its shape in the file.
        found: Vec<usize>,
        /// The shape it should have.
        expected: Vec<usize>,
    },
    /// Its elements are no reals: f32, or f16, bf16 and f64, which become f32.
    Type {
        /// The tensor.
        tensor: String,
        /// The element type in the file.
        found: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Missing { tensor, shape } => write!(f, "`{tensor}` {shape:?} is missing"),
            Problem::Extra { tensor, shape } => write!(f, "`{tensor}` {shape:?} is not part of the model"),
            Problem::Shape { tensor, found, expected } => {
                write!(f, "`{tensor}` has the shape {found:?} instead of {expected:?}")
            }
            Problem::Type { tensor, found } => {
                write!(f, "`{tensor}` is of type {found} (f32, f16, bf16 and f64 are read)")
            }
        }
    }
}

fn suggestion(near: &[&str]) -> String {
    match near {
        [] => "`kinglet zoo list` shows them all".into(),
        near => format!("did you mean {}?", near.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(" or ")),
    }
}

/// Problems that a message shows; the error has them all.
const SHOWN: usize = 40;

fn listed(problems: &[Problem]) -> String {
    let count = |kind: fn(&Problem) -> bool| problems.iter().filter(|p| kind(p)).count();
    let counts = [
        (count(|p| matches!(p, Problem::Missing { .. })), "missing"),
        (count(|p| matches!(p, Problem::Extra { .. })), "too many"),
        (count(|p| matches!(p, Problem::Shape { .. })), "of another shape"),
        (count(|p| matches!(p, Problem::Type { .. })), "of another type"),
    ];
    let counts: Vec<String> = counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    let shown: String = problems.iter().take(SHOWN).map(|p| format!("\n  {p}")).collect();
    let more = problems.len().saturating_sub(SHOWN);
    format!(
        "tensors {}{shown}{}",
        counts.join(", "),
        if more > 0 { format!("\n  … and {more} more") } else { String::new() }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_counted_and_cut() {
        let missing = |i| Problem::Missing { tensor: format!("layer.{i}.weight"), shape: vec![1, 2] };
        let mut problems: Vec<Problem> = (0..50).map(missing).collect();
        problems.push(Problem::Type { tensor: "head.weight".into(), found: "i8".into() });
        let text = listed(&problems);
        assert!(
            text.starts_with("tensors 50 missing, 1 of another type\n  `layer.0.weight` [1, 2] is missing\n"),
            "{text}"
        );
        assert!(text.ends_with("… and 11 more"), "{text}");
        assert_eq!(text.lines().count(), 1 + SHOWN + 1);
    }
}
