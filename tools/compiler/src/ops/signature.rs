//! What a node of an operator may have: inputs, outputs and attributes, by operator set.
//!
//! What an operator's signature does not have is refused. An attribute or input of another version, or a misspelt one, would
//! otherwise be passed over, and the node computed as if it were not there.

use kinglet::DType;
use kinglet_onnx::NodeProto;

use crate::import::Failure;

/// As many outputs as the node likes.
pub const MANY: usize = usize::MAX;

/// The signature of an operator in all operator sets.
///
/// Lists are entries with a space between them. An entry that ends in `>=13` is there from operator set 13 on, one that ends
/// in `<13` before it.
pub struct Signature {
    /// First operator set in which the operator exists with a meaning that its importer knows.
    pub since: i64,
    /// The types of the inputs, in order: `bool`, `int32`, `int64`, `float`, `index` (int32 or int64), `_` (anything, sequences
    /// too), or a variable, which is the same type wherever it stands. `?` behind it: may be absent; `*`: any number of them.
    pub inputs: &'static str,
    /// The most outputs.
    pub outputs: usize,
    /// Names of attributes, `:`, and the letter of a type: `i` integer, `f` float, `s` string, `t` tensor, `p` sparse tensor,
    /// `g` graph; capitals are lists.
    pub attributes: &'static str,
}

/// What an input is, as far as it matters here.
pub enum Operand {
    /// A tensor of this type.
    Tensor(DType),
    /// A sequence.
    Sequence,
    /// Nothing is known of it.
    Unknown,
}

/// The entries of a list that an operator set has.
fn entries(list: &'static str, opset: i64) -> impl Iterator<Item = &'static str> {
    let number = |v: &str| v.parse::<i64>().expect("versions in the table are numbers");
    list.split_whitespace().filter_map(move |entry| {
        let (entry, has) = match (entry.split_once(">="), entry.split_once('<')) {
            (Some((entry, from)), _) => (entry, opset >= number(from)),
            (_, Some((entry, to))) => (entry, opset < number(to)),
            _ => (entry, true),
        };
        has.then_some(entry)
    })
}

/// The number and the name of an attribute's type (AttributeProto.AttributeType).
fn attribute_type(letter: &str) -> (i32, &'static str) {
    match letter {
        "f" => (1, "a float"),
        "i" => (2, "an integer"),
        "s" => (3, "a string"),
        "t" => (4, "a tensor"),
        "g" => (5, "a graph"),
        "F" => (6, "a list of floats"),
        "I" => (7, "a list of integers"),
        "S" => (8, "a list of strings"),
        "p" => (11, "a sparse tensor"),
        other => unreachable!("the table has no type `{other}`"),
    }
}

impl Signature {
    /// Checks that a node has nothing that its operator does not have in this operator set, and that its operands have the
    /// types it wants. `operand` says what an input is.
    ///
    /// # Errors
    /// `Failure::Unsupported` if the operator set is older than what is known of the operator, otherwise
    /// `Failure::Malformed`.
    pub fn check(&self, node: &NodeProto, opset: i64, operand: impl FnMut(&str) -> Operand) -> Result<(), Failure> {
        if opset == 0 {
            return Err(Failure::malformed(format!("the model imports no operator set of `{}`", node.domain)));
        }
        if opset < self.since {
            return Err(Failure::unsupported(
                format!("it is known from operator set {} on, and the model imports {opset}", self.since),
                format!("export with operator set {} or later", self.since),
            ));
        }
        self.attributes(node, opset)?;
        let outputs = node.output.iter().rposition(|o| !o.is_empty()).map_or(0, |last| last + 1);
        if outputs > self.outputs {
            return Err(Failure::malformed(format!("{outputs} outputs, where it has at most {}", self.outputs)));
        }
        self.inputs(node, opset, operand)
    }

    fn attributes(&self, node: &NodeProto, opset: i64) -> Result<(), Failure> {
        for (k, given) in node.attribute.iter().enumerate() {
            if node.attribute[..k].iter().any(|a| a.name == given.name) {
                return Err(Failure::malformed(format!("attribute `{}` is given twice", given.name)));
            }
            let named = |entry: &'static str| entry.split_once(':').filter(|(name, _)| *name == given.name);
            let Some((_, letter)) = entries(self.attributes, opset).find_map(named) else {
                // A hint to executors of the first operator sets, of no meaning.
                if given.name == "consumed_inputs" && opset < 6 {
                    continue;
                }
                let known: Vec<&str> =
                    entries(self.attributes, opset).filter_map(|e| e.split_once(':')).map(|(name, _)| name).collect();
                let known = if known.is_empty() { "none".into() } else { known.join(", ") };
                return Err(Failure::malformed(format!(
                    "operator set {opset} knows no attribute `{}` of it (it has: {known}): remove it, or export anew",
                    given.name
                )));
            };
            // Writers of the first files left the type out.
            let (number, name) = attribute_type(letter);
            if given.r#type != number && given.r#type != 0 {
                return Err(Failure::malformed(format!("attribute `{}` is not {name}", given.name)));
            }
        }
        Ok(())
    }

    fn inputs(&self, node: &NodeProto, opset: i64, mut operand: impl FnMut(&str) -> Operand) -> Result<(), Failure> {
        let wanted: Vec<&str> = entries(self.inputs, opset).collect();
        // Each variable with the input that has bound it.
        let mut bound: Vec<(&str, usize, DType)> = Vec::new();
        for (i, name) in node.input.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            let rest = wanted.last().filter(|w| w.ends_with('*'));
            let Some(want) = wanted.get(i).or(rest) else {
                return Err(Failure::malformed(format!(
                    "{} inputs, where operator set {opset} has at most {} of it: remove `{name}`, or export anew",
                    node.input.len(),
                    wanted.len()
                )));
            };
            let want = want.trim_end_matches(['?', '*']);
            let dtype = match operand(name) {
                Operand::Tensor(dtype) => dtype,
                Operand::Sequence if want != "_" => {
                    return Err(Failure::malformed(format!("input `{name}` is a sequence, where a tensor is wanted")));
                }
                Operand::Sequence | Operand::Unknown => continue,
            };
            let fits = match want {
                "_" => true,
                "bool" => dtype == DType::Bool,
                "uint8" => dtype == DType::U8,
                "int32" => dtype == DType::I32,
                "int64" => dtype == DType::I64,
                "float" => dtype == DType::F32,
                "index" => matches!(dtype, DType::I32 | DType::I64),
                variable => match bound.iter().find(|(v, ..)| *v == variable) {
                    Some(&(_, first, other)) if other != dtype => {
                        return Err(Failure::malformed(format!(
                            "input `{}` is {} and input `{name}` is {}, where it wants one type: cast one of them",
                            node.input[first],
                            other.name(),
                            dtype.name()
                        )));
                    }
                    Some(_) => true,
                    None => {
                        bound.push((variable, i, dtype));
                        true
                    }
                },
            };
            if !fits {
                return Err(Failure::malformed(format!("input `{name}` is {}, where it wants {want}", dtype.name())));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kinglet_onnx::AttributeProto;

    use super::*;
    use crate::ops::{OPERATORS, OWN_OPERATORS};

    fn check(s: &Signature, opset: i64, inputs: &[(&str, DType)], attributes: &[(&str, i32)]) -> Result<(), String> {
        let attribute =
            |&(name, r#type): &(&str, i32)| AttributeProto { name: name.into(), r#type, ..Default::default() };
        let node = NodeProto {
            input: inputs.iter().map(|(name, _)| name.to_string()).collect(),
            output: vec!["y".into()],
            attribute: attributes.iter().map(attribute).collect(),
            ..Default::default()
        };
        let operand = |name: &str| Operand::Tensor(inputs.iter().find(|(n, _)| *n == name).expect("given").1);
        s.check(&node, opset, operand).map_err(|e| match e {
            Failure::Malformed(reason) | Failure::Unsupported { reason, .. } => reason,
        })
    }

    #[test]
    fn every_row_can_be_read_in_every_operator_set() {
        for row in OPERATORS.iter().chain(OWN_OPERATORS) {
            let s = &row.signature;
            for opset in s.since..=crate::ops::NEWEST_OPSET {
                for entry in entries(s.attributes, opset) {
                    let (_, letter) = entry.split_once(':').expect("name and type");
                    attribute_type(letter);
                }
                let inputs: Vec<&str> = entries(s.inputs, opset).collect();
                let stars = inputs.iter().filter(|i| i.ends_with('*')).count();
                assert!(stars == 0 || stars == 1 && inputs.last().is_some_and(|i| i.ends_with('*')), "{}", row.name);
            }
            assert!(s.outputs > 0, "{}", row.name);
        }
    }

    #[test]
    fn what_a_version_lacks_is_refused() {
        let s = Signature { since: 2, inputs: "T T?>=11 index*", outputs: 1, attributes: "axis:i<7 mode:s>=11" };
        let (f, i, n) = (("x", DType::F32), ("i", DType::I64), ("n", DType::I8));
        assert_eq!(check(&s, 6, &[f], &[("axis", 2)]), Ok(()));
        assert_eq!(check(&s, 6, &[f], &[("axis", 0)]), Ok(()));
        assert_eq!(check(&s, 2, &[f], &[("consumed_inputs", 7)]), Ok(()));
        assert_eq!(check(&s, 11, &[f, f, i, i], &[("mode", 3)]), Ok(()));
        let refused = |opset, inputs: &[(&str, DType)], attributes: &[(&str, i32)], why: &str| {
            let reason = check(&s, opset, inputs, attributes).expect_err(why);
            assert!(reason.contains(why), "{reason}");
        };
        refused(7, &[f], &[("axis", 2)], "knows no attribute `axis`");
        refused(6, &[f], &[("axis", 1)], "is not an integer");
        refused(6, &[f], &[("consumed_inputs", 7)], "knows no attribute");
        refused(6, &[f], &[("axis", 2), ("axis", 2)], "twice");
        refused(1, &[f], &[], "known from operator set 2 on");
        refused(11, &[f, n], &[], "`x` is f32 and input `n` is i8");
        refused(11, &[f, f, n], &[], "`n` is i8, where it wants index");
        let one = Signature { since: 1, inputs: "T", outputs: 1, attributes: "" };
        assert!(check(&one, 9, &[f, f], &[]).is_err_and(|e| e.contains("2 inputs")));
    }
}
