//! How a valid node of each operator is made of the tensors that there are: one file a family.

mod attention;
mod constants;
mod contrib;
mod control;
mod elementwise;
mod indices;
mod movement;
mod norms;
mod products;
mod quantised;
mod recurrent;
mod reduce;
mod windows;

use kinglet_compiler::ops::{CONTRIB_DOMAIN, CONTRIB_OPERATORS, OPERATORS};

use super::net::Net;

/// Adds one or a few nodes, the operator named last or among them.
pub type Recipe = fn(&mut Net, &str);

/// Operators without a recipe, and why.
pub const EXCEPTIONS: &[(&str, &str)] = &[
    ("RandomNormal", "what it gives is an input of the plan: there is nothing to compare"),
    ("RandomNormalLike", "as RandomNormal"),
    ("RandomUniform", "as RandomNormal"),
    ("RandomUniformLike", "as RandomNormal"),
];

/// An operator of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Operator {
    /// Its domain.
    pub domain: &'static str,
    /// Its name.
    pub name: &'static str,
    /// The first operator set of its domain that has it.
    pub since: i64,
}

impl Operator {
    /// Its name behind its domain, if that is not ONNX's own.
    pub fn qualified(&self) -> String {
        if self.domain.is_empty() { self.name.into() } else { format!("{}.{}", self.domain, self.name) }
    }

    /// The operator set of ai.onnx from which on models can have it.
    pub fn opset(&self) -> i64 {
        if self.domain.is_empty() { self.since } else { 1 }
    }

    /// Its recipe.
    pub fn recipe(&self) -> Option<Recipe> {
        if self.domain == CONTRIB_DOMAIN {
            return contrib::recipe(self.name).or_else(|| attention::contrib(self.name));
        }
        let families = [
            elementwise::recipe,
            reduce::recipe,
            movement::recipe,
            indices::recipe,
            windows::recipe,
            products::recipe,
            norms::recipe,
            recurrent::recipe,
            attention::recipe,
            quantised::recipe,
            constants::recipe,
            control::recipe,
        ];
        families.iter().find_map(|family| family(self.name))
    }
}

/// Every operator of both tables.
pub fn operators() -> Vec<Operator> {
    let of = |domain, rows: &'static [kinglet_compiler::ops::Row]| {
        rows.iter().map(move |r| Operator { domain, name: r.name, since: r.signature.since })
    };
    of("", OPERATORS).chain(of(CONTRIB_DOMAIN, CONTRIB_OPERATORS)).collect()
}
