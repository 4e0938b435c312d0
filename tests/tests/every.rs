//! Every operator at every change of its meaning, of every element type, against ONNX Runtime's outputs.
//!
//! `golden/every.py` makes the samples: a node each, small numbers. Each is run, on the reference's kernels and on the best ones, and
//! folded with its inputs as constants, and must be what ONNX Runtime gives. What is refused is in `golden/every/refused.txt`, with the
//! reason (`KINGLET_BLESS=1` writes it anew).

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use kinglet::DType;
use kinglet_compiler::array::Array;
use kinglet_compiler::ops::{CONTRIB_DOMAIN, CONTRIB_OPERATORS, OPERATORS};
use kinglet_compiler::{Compiled, Error};
use kinglet_tests::golden::{Arrays, Sample, folder, samples};
use kinglet_tests::{difference, run, run_best};

/// Largest difference of a float output, relative to the output's largest magnitude. What the file computes in 16 bits has
/// been rounded to them, where a plan goes on in f32: by half a unit of 11 and of 8 digits, up to four times
/// in a row (`Gelu`).
fn bound(dtype: &str) -> f64 {
    match dtype {
        "float16" => 4.0 * 2f64.powi(-12),
        "bfloat16" => 4.0 * 2f64.powi(-9),
        _ => 1e-5,
    }
}

/// What is wrong with an output; `None` if nothing is.
fn compare(got: &Array, want: &Array, bound: f64) -> Option<String> {
    if got.dtype != want.dtype || got.shape != want.shape {
        return Some(format!("{:?} {:?} instead of {:?} {:?}", got.dtype, got.shape, want.dtype, want.shape));
    }
    if want.dtype == DType::F32 {
        let finite = want.reals().iter().filter(|v| v.is_finite()).fold(0f64, |m, v| m.max(v.abs()));
        let worst = difference(got, want).0;
        return (worst > bound * finite).then(|| format!("{:?} instead of {:?}", got.reals(), want.reals()));
    }
    (got.ints() != want.ints()).then(|| format!("{:?} instead of {:?}", got.ints(), want.ints()))
}

/// What is wrong with the outputs of a plan of the sample, an output a line.
fn faults(sample: &Sample, compiled: &Compiled, inputs: &Arrays) -> Vec<String> {
    let of = |got: Arrays, kernels: &str| {
        let fault = |(name, want): (&String, &Array)| match got.get(name) {
            Some(got) => compare(got, want, bound(&sample.dtype)).map(|fault| format!("{kernels}, `{name}`: {fault}")),
            None => Some(format!("`{name}` is missing")),
        };
        sample.outputs.iter().filter_map(fault).collect::<Vec<_>>()
    };
    let reference = of(run(&compiled.kgl, inputs), "reference kernels");
    let best = of(run_best(&compiled.kgl, inputs), "best kernels");
    [reference, best].concat()
}

/// What is wrong with a sample, an output a line; and why it is refused, if its inputs are no constants.
fn outcome(sample: &Sample) -> (Vec<String>, Option<String>) {
    let (mut found, mut refusal) = (Vec::new(), None);
    match sample.compile() {
        Ok(_) if sample.outputs.is_empty() => return (found, None),
        Ok(compiled) => found.extend(faults(sample, &compiled, &sample.inputs)),
        Err(Error::Unsupported(nodes)) => refusal = Some(nodes[0].reason.clone()),
        Err(e) => refusal = Some(e.to_string()),
    }
    match sample.compile_folded() {
        Ok(folded) => found.extend(faults(sample, &folded, &Arrays::new()).iter().map(|f| format!("folded, {f}"))),
        Err(e) if refusal.is_none() => found.push(format!("of constants it is refused: {e}")),
        Err(_) => {}
    }
    (found, refusal)
}

/// Every sample is tried, then one assertion names all that fail.
#[test]
fn every_sample_is_onnx_runtimes() {
    let (mut wrong, mut compared, mut refused) = (Vec::new(), 0, BTreeMap::<(String, String), Vec<String>>::new());
    for sample in samples() {
        let Sample { operator, version, dtype, .. } = &sample;
        let found = catch_unwind(AssertUnwindSafe(|| outcome(&sample)));
        let (faults, refusal) = found.unwrap_or_else(|_| (vec!["panics".into()], None));
        wrong.extend(faults.into_iter().map(|f| format!("{operator} {version} of {dtype}: {f}")));
        match refusal {
            Some(reason) => refused.entry((operator.clone(), reason)).or_default().push(format!("{version}:{dtype}")),
            None => compared += usize::from(!sample.outputs.is_empty()),
        }
    }
    assert!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared >= 3900, "only {compared} samples were compared");
    let line = |((operator, reason), which): (&(String, String), &Vec<String>)| {
        format!("{operator} {}: {reason}\n", which.join(" "))
    };
    let list: String = refused.iter().map(line).collect();
    let path = folder().join("every/refused.txt");
    if std::env::var_os("KINGLET_BLESS").is_some() {
        std::fs::write(&path, &list).expect("writable");
    }
    let known = std::fs::read_to_string(&path).expect("the list of what is refused");
    assert!(
        known == list,
        "other samples are refused than golden/every/refused.txt says (KINGLET_BLESS=1 writes it):\n{list}"
    );
}

/// Operators that have no sample: their outputs are other numbers in every run.
const DRAWS: [&str; 4] = ["RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"];
/// Changes of operators of which nothing outside this project computes a sample: neither ONNX Runtime 1.32 nor onnx's evaluator has
/// them. Cases of `golden` hold the operators themselves.
const UNKNOWN: [(&str, i64); 2] = [("GlobalLpPool", 22), ("com.microsoft.QLinearReduceMean", 1)];

#[test]
fn every_change_of_every_operator_has_a_sample() {
    let contrib = CONTRIB_OPERATORS.iter().map(|row| format!("{CONTRIB_DOMAIN}.{}", row.name));
    let rows: BTreeSet<String> = OPERATORS.iter().map(|row| row.name.to_string()).chain(contrib).collect();
    let mut computed: BTreeMap<(String, i64), usize> = BTreeMap::new();
    for s in samples() {
        assert!(rows.contains(&s.operator), "{} is in no table: golden/every_*.py has a recipe too many", s.operator);
        *computed.entry((s.operator, s.version)).or_default() += usize::from(!s.outputs.is_empty());
    }
    let with_samples: BTreeSet<&String> = computed.keys().map(|(operator, _)| operator).collect();
    let without: Vec<&String> = rows.iter().filter(|row| !with_samples.contains(row)).collect();
    assert_eq!(without, DRAWS, "operators without a recipe in golden/every_*.py (`make.py every` makes the samples)");
    let empty: Vec<(&str, i64)> = computed
        .iter()
        .filter(|(_, n)| **n == 0)
        .map(|((operator, version), _)| (operator.as_str(), *version))
        .collect();
    assert_eq!(empty, UNKNOWN, "changes of operators of which no sample has outputs");
}
