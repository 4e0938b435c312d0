//! Random models over the whole table of operators: made of a seed, compiled and run, compared with the evaluator, and shrunk where
//! they differ.

mod attributes;
mod compare;
mod describe;
mod draw;
mod net;
mod recipes;
mod shrink;

use std::collections::BTreeMap;

use kinglet_compiler::array::Array;
use kinglet_onnx::ModelProto;

pub use attributes::tensor;
pub use compare::{Bounds, Outcome, blamed, check, expected, opened, outside};
pub use describe::{describe, line};
pub use net::options;
pub use recipes::{EXCEPTIONS, Operator, operators};
pub use shrink::{keep, npy, shrunk};

use draw::Draw;
use net::Net;

/// Operator sets of models: those that changed much, and the newest.
const OPSETS: [i64; 12] = [21, 7, 9, 10, 11, 13, 15, 17, 18, 22, 24, 28];
/// The last operator set that has an operator; the table does not say it, because importers read them in later ones, too.
const LAST: [(&str, i64); 2] = [("Upsample", 9), ("Scatter", 10)];
/// Most nodes that are drawn; some recipes add several.
const MOST_NODES: usize = 12;

/// A model of the generator.
#[derive(Clone)]
pub struct Random {
    /// The operator that the seed stands for, if it could be added.
    pub wanted: Operator,
    /// The model.
    pub model: ModelProto,
    /// Values of its inputs.
    pub inputs: BTreeMap<String, Array>,
    /// Operators that were added, and those that were not with the importer's reason.
    pub added: Vec<Operator>,
    /// See `added`.
    pub refused: Vec<(Operator, String)>,
    /// The choices it was made of.
    pub choices: Vec<u32>,
}

/// The model of a seed: its first operator goes round the table, so that as many seeds as there are operators have each one.
pub fn random(seed: u64) -> Random {
    build(seed, Draw::of_seed(seed))
}

/// The model of other choices than the seed's own.
pub fn again(seed: u64, choices: Vec<u32>) -> Random {
    build(seed, Draw::again(choices))
}

fn build(seed: u64, mut draw: Draw) -> Random {
    let all: Vec<Operator> = operators().into_iter().filter(|o| o.recipe().is_some()).collect();
    let wanted = all[(seed % all.len() as u64) as usize];
    let has = |o: &Operator, opset: i64| {
        let last = LAST.iter().find(|(name, _)| o.domain.is_empty() && *name == o.name).map_or(i64::MAX, |l| l.1);
        (o.opset()..=last).contains(&opset)
    };
    let opsets: Vec<i64> = OPSETS.into_iter().filter(|&v| has(&wanted, v)).collect();
    let opset = match opsets.is_empty() {
        true => wanted.opset(),
        false => opsets[draw.below(opsets.len())],
    };
    let others: Vec<Operator> = all.into_iter().filter(|o| has(o, opset)).collect();
    let (count, quantised) = (draw.below(MOST_NODES), draw.below(3) == 2);
    let mut n = Net::new(opset, draw);
    let mut made = Made::default();
    // Before the operator that the seed stands for, and after it.
    let before = n.below(count / 2 + 1);
    for k in 0..=count {
        if k == before {
            // Most of what a recipe draws may not be taken is taken in one of a few tries.
            let _ = (0..8).find(|_| made.add(&mut n, wanted, quantised));
        } else {
            let o = others[n.below(others.len())];
            made.add(&mut n, o, quantised);
        }
    }
    let ends = n.ends();
    let (model, inputs, choices) = n.finish(&ends);
    Random { wanted, model, inputs, added: made.added, refused: made.refused, choices }
}

/// What became of the operators that were drawn.
#[derive(Default)]
struct Made {
    added: Vec<Operator>,
    refused: Vec<(Operator, String)>,
}

impl Made {
    /// Adds one operator, and brings its reals onto a grid of bytes, if there are any and the graph is quantised.
    fn add(&mut self, n: &mut Net, o: Operator, quantised: bool) -> bool {
        o.recipe().expect("those without are left out")(n, o.name);
        match n.commit() {
            Ok(results) => {
                self.added.push(o);
                for t in results {
                    if quantised && n.on_grid(&t) {
                        let _ = n.commit();
                    }
                }
                true
            }
            Err(why) => {
                self.refused.push((o, why));
                false
            }
        }
    }
}
