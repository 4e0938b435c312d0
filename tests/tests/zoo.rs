//! The zoo from official names to outputs: checkpoints under the names of the official code give PyTorch's outputs,
//! every model declares the official state dict, and seeded models compute something.
//!
//! Checkpoints and names lie beside a developer's checkout, not in it; without them those tests say so and pass.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use kinglet_compiler::array::Array;
use kinglet_models::zoo::{self, Checkpoint, MODELS, Options, Source};
use kinglet_tests::{Random, difference, options_for, read_npz, run, shared};
use serde_json::Value;

/// Largest difference to PyTorch's f32 output, relative to the output's largest magnitude: what two orders of summing
/// f32 may differ by.
const BOUND: f64 = 1e-4;

/// Tiny checkpoints: file, model.
const CHECKPOINTS: &[(&str, &str, Options)] = &[
    ("vanillanet_5", "vanillanet-5-tiny", DEFAULT),
    ("vanillanet_5_train", "vanillanet-5-tiny", DEFAULT),
    ("vanillanet_8", "vanillanet-8-tiny", DEFAULT),
    ("poolformer", "poolformer-tiny", DEFAULT),
    ("identityformer", "identityformer-tiny", DEFAULT),
    ("randformer", "randformer-tiny", DEFAULT),
    ("poolformerv2", "poolformerv2-tiny", DEFAULT),
    ("convformer", "convformer-tiny", DEFAULT),
    ("caformer", "caformer-tiny", DEFAULT),
    ("dwformer", "dwformer-tiny", DEFAULT),
    ("dwformer_spatial", "dwformer-spatial-tiny", DEFAULT),
    ("mpgnet_t", "mpgnet-t-tiny", DEFAULT),
    ("mpgnet_p", "mpgnet-p-tiny", DEFAULT),
    ("lmuformer", "lmuformer-tiny", DEFAULT),
    ("lmuformer_causal", "lmuformer-causal-tiny", DEFAULT),
    ("lmuformer_causal", "lmuformer-tiny", Options { causal: true, ..DEFAULT }),
    ("slmuformer", "slmuformer-tiny", DEFAULT),
    ("netmamba", "netmamba-tiny", DEFAULT),
];

const DEFAULT: Options = Options { size: None, causal: false, form: None };

/// Names of full-size state dicts in `names.json`, and the models that have them.
const STATE_DICTS: &[(&str, &[&str])] = &[
    ("vanillanet-5", &["vanillanet-5"]),
    ("vanillanet-6", &["vanillanet-6"]),
    ("vanillanet-13", &["vanillanet-13"]),
    ("poolformer-s12", &["poolformer-s12"]),
    ("poolformer-s24", &["poolformer-s24"]),
    ("poolformer-s36", &["poolformer-s36"]),
    ("poolformer-m36", &["poolformer-m36"]),
    ("poolformer-m48", &["poolformer-m48"]),
    ("identityformer", &["identityformer-s12"]),
    ("randformer", &["randformer-s12"]),
    ("poolformerv2", &["poolformerv2-s12"]),
    ("convformer", &["convformer-s18"]),
    ("caformer", &["caformer-s18"]),
    ("dwformer", &["dwformer", "dwformer-spatial"]),
    ("mpgnet-t", &["mpgnet-t"]),
    ("mpgnet-p", &["mpgnet-p"]),
    ("lmuformer", &["lmuformer", "lmuformer-causal"]),
    ("slmuformer", &["slmuformer", "slmuformer-causal"]),
    ("netmamba", &["netmamba"]),
];

fn checkpoints() -> Option<PathBuf> {
    shared().map(|shared| shared.join("exports/checkpoints"))
}

/// Outputs of a model of the zoo, compiled for the inputs given.
fn outputs(model: &kinglet_onnx::ModelProto, inputs: &BTreeMap<String, Array>) -> BTreeMap<String, Array> {
    let options = options_for(inputs);
    let graph = kinglet_compiler::import(&model.to_bytes(), None, &options).unwrap_or_else(|e| panic!("{e}"));
    let compiled = kinglet_compiler::compile(graph, &options).unwrap_or_else(|e| panic!("{e}"));
    run(&compiled.kgl, inputs)
}

fn load(path: &Path) -> Source {
    Source::Checkpoint(Checkpoint::open(path).unwrap_or_else(|e| panic!("{e}")))
}

#[test]
fn official_checkpoints_give_pytorchs_outputs() {
    let Some(folder) = checkpoints() else { return };
    for (file, name, options) in CHECKPOINTS {
        let source = load(&folder.join(format!("{file}.safetensors")));
        let built = zoo::build(name, options, &source).unwrap_or_else(|e| panic!("{e}"));
        let recorded = read_npz(&folder.join(format!("{file}.npz")));
        let inputs: BTreeMap<String, Array> =
            built.summary.inputs.iter().map(|(name, _)| (name.clone(), recorded[name].clone())).collect();
        for (name, got) in outputs(&built.model, &inputs) {
            let (worst, magnitude) = difference(&got, &recorded[&name]);
            println!("{file} {name}: {:.1e} of {magnitude:.3}", worst / magnitude);
            assert!(worst <= BOUND * magnitude, "{file} {name}: {worst} of {magnitude}");
        }
    }
}

#[test]
fn full_size_models_declare_the_official_state_dict() {
    let Some(folder) = checkpoints() else { return };
    let text = std::fs::read_to_string(folder.join("names.json")).expect("readable");
    let names: BTreeMap<String, BTreeMap<String, (String, Vec<usize>)>> =
        serde_json::from_str(&text).expect("name, type and shape of every tensor");
    for (official, models) in STATE_DICTS {
        for model in *models {
            let state = zoo::summary(model, &Options::default()).unwrap_or_else(|e| panic!("{e}")).state;
            let declared: BTreeMap<String, (String, Vec<usize>)> =
                state.into_iter().map(|t| (t.name, (t.dtype.name().to_string(), t.shape))).collect();
            assert_eq!(declared, names[*official], "{model}");
        }
    }
}

/// The official training form has the names that the tiny one has, in which one unit of channels is 6 instead of 512.
#[test]
fn the_tiny_training_form_is_the_official_one_with_fewer_channels() {
    let Some(folder) = checkpoints() else { return };
    let text = std::fs::read_to_string(folder.join("names.json")).expect("readable");
    let names: Value = serde_json::from_str(&text).expect("JSON");
    let bytes = std::fs::read(folder.join("vanillanet_5_train.safetensors")).expect("readable");
    let header = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let mut tiny: BTreeMap<String, Value> = serde_json::from_slice(&bytes[8..8 + header]).expect("a header");
    tiny.remove("__metadata__");
    let official = names["vanillanet-5 training form"].as_object().expect("an object");
    let small = |d: &Value| match d.as_u64().expect("a length") {
        1000 => 10,
        n if n % 512 == 0 => n / 512 * 6,
        n => n,
    };
    assert_eq!(tiny.keys().collect::<BTreeSet<_>>(), official.keys().collect::<BTreeSet<_>>());
    for (name, entry) in official {
        let shape: Vec<u64> = entry[1].as_array().expect("a shape").iter().map(small).collect();
        assert_eq!(tiny[name]["shape"], Value::from(shape), "{name}");
    }
}

/// A model of the image families with inputs like those that it is made for.
fn random_inputs(summary: &zoo::Summary, seed: u64) -> BTreeMap<String, Array> {
    let mut random = Random::new(seed);
    let mut input = |(name, shape): &(String, Vec<usize>)| {
        let n = shape.iter().product();
        // Pictures of restoration and uniform draws lie in 0 to 1; the rest is centred and of unit size.
        let centred = summary.outputs[0].0 == "logits" || ["r", "normal"].contains(&&name[..]);
        let values = (0..n).map(|_| if centred { 2.0 * random.real() } else { (random.real() + 1.0) / 2.0 }).collect();
        (name.clone(), Array::f32(shape, values))
    };
    summary.inputs.iter().map(&mut input).collect()
}

/// Tiny models of the families that take pictures.
fn picture_models() -> Vec<&'static str> {
    let families =
        ["vanillanet", "poolformer", "identityformer", "randformer", "convformer", "caformer", "dwformer", "mpgnet"];
    let tiny = MODELS.iter().filter(|m| m.is_tiny()).map(|m| m.name);
    tiny.filter(|name| families.iter().any(|family| name.starts_with(family))).collect()
}

/// Largest magnitude of a sane output: logits and pictures of networks whose layers keep their inputs' spread.
const LARGEST: f64 = 30.0;

#[test]
fn seeded_models_compute_something() {
    let models = picture_models();
    assert!(models.len() >= 19, "{models:?}");
    for name in models {
        for seed in [0, 1] {
            let built = zoo::build(name, &Options::default(), &Source::Seed(seed)).unwrap_or_else(|e| panic!("{e}"));
            let of = |inputs| outputs(&built.model, &random_inputs(&built.summary, inputs)).into_values().next();
            let (first, other) = (of(1).expect("an output"), of(2).expect("an output"));
            let (difference, magnitude) = difference(&first, &other);
            println!("{name}, seed {seed}: up to {magnitude:.2}, {difference:.3} apart for another input");
            assert!(first.reals().iter().all(|v| v.is_finite() && v.abs() < LARGEST), "{name}");
            assert!(magnitude > 0.1, "{name} fades to {magnitude}");
            // Far above the bound to which runs are compared: a mistake in the first layer reaches the output.
            assert!(difference > 0.02 * magnitude, "{name} does not see its input: {difference} of {magnitude}");
        }
    }
}

#[test]
fn pictures_of_other_sizes_go_through() {
    for name in picture_models() {
        let options = Options { size: Some((32, 48)), ..Options::default() };
        let built = zoo::build(name, &options, &Source::Seed(0)).unwrap_or_else(|e| panic!("{e}"));
        for (output, got) in outputs(&built.model, &random_inputs(&built.summary, 1)) {
            let declared = built.summary.outputs.iter().find(|(name, _)| *name == output).expect("the same outputs");
            assert_eq!(got.shape, declared.1, "{name} {output}");
            assert!(got.reals().iter().all(|v| v.is_finite()), "{name} {output}");
        }
    }
}

#[test]
fn tiny_models_agree_with_the_evaluator_and_need_no_more_memory_than_they_must() {
    for model in MODELS.iter().filter(|m| m.is_tiny()) {
        let outcome = kinglet_tests::zoo_run::zoo_run(model.name, &DEFAULT);
        let tensors = outcome.report.arena_bytes - outcome.report.scratch_bytes;
        let (arena, bound) = (tensors as f64, outcome.report.lower_bound_bytes as f64);
        println!("{}: off by {:.1e}, arena {:.3} of the bound", model.name, outcome.difference, arena / bound);
        assert!(outcome.difference <= BOUND, "{}: {:.1e}", model.name, outcome.difference);
        assert!(arena <= 1.05 * bound, "{}: {arena} bytes, bound {bound}", model.name);
    }
}
