//! What every model of the zoo promises.

use std::collections::BTreeSet;

use kinglet_onnx::{GraphProto, ModelProto};

use super::*;

fn tiny() -> impl Iterator<Item = &'static Model> {
    MODELS.iter().filter(|m| m.is_tiny())
}

fn seeded(name: &str, options: &Options, seed: u64) -> Built {
    build(name, options, &Source::Seed(seed)).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn counts_are_those_that_were_published() {
    let mut published = 0;
    for model in MODELS {
        let summary = summary(model.name, &Options::default()).unwrap();
        for (figure, count) in [(model.parameters, summary.parameters), (model.macs, summary.macs)] {
            let Some(figure) = figure else { continue };
            assert!(figure.agrees_with(count), "{}: {count} instead of {}", model.name, figure.0);
            published += 1;
        }
    }
    assert!(published >= 2 * 23, "only {published} figures");
}

#[test]
fn every_model_of_full_size_has_a_tiny_form_and_figures() {
    for model in MODELS.iter().filter(|m| !m.is_tiny()) {
        let family = model.name.rsplit_once('-').map_or(model.name, |(family, _)| family);
        let tiny = [model.name, family].map(|name| format!("{name}-tiny"));
        assert!(tiny.iter().any(|name| find(name).is_ok()), "neither of {tiny:?}");
        assert!(model.parameters.is_some() && model.macs.is_some(), "{}", model.name);
    }
}

#[test]
fn a_model_is_the_same_with_and_without_numbers() {
    for model in tiny() {
        let dry = summary(model.name, &Options::default()).unwrap();
        let built = seeded(model.name, &Options::default(), 0).summary;
        assert_eq!(
            (dry.parameters, dry.macs, &dry.state),
            (built.parameters, built.macs, &built.state),
            "{}",
            model.name
        );
        assert_eq!((dry.inputs, dry.outputs), (built.inputs, built.outputs), "{}", model.name);
    }
}

#[test]
fn seeds_decide_the_numbers() {
    for model in tiny() {
        let bytes = |seed| seeded(model.name, &Options::default(), seed).model.to_bytes();
        let first = bytes(0);
        assert!(first == bytes(0), "{}", model.name);
        assert!(first != bytes(1), "{}", model.name);
    }
}

/// Statistics and scales that are all alike would hide a mistake in whatever folds them.
#[test]
fn vectors_of_seeded_numbers_differ_from_channel_to_channel() {
    for model in tiny() {
        let graph = seeded(model.name, &Options::default(), 0).model.graph.unwrap();
        let kinds = ["running_mean", "running_var", "layer_scale", "norm1.weight", "norm2.bias", "res_scale"];
        for tensor in graph.initializer.iter().filter(|t| kinds.iter().any(|kind| t.name.contains(kind))) {
            let numbers: BTreeSet<[u8; 4]> = tensor.raw_data.as_chunks().0.iter().copied().collect();
            assert_eq!(numbers.len(), tensor.raw_data.len() / 4, "{} {}", model.name, tensor.name);
            assert!(!numbers.contains(&1f32.to_le_bytes()) && !numbers.contains(&[0; 4]), "{}", tensor.name);
        }
    }
}

#[test]
fn graphs_are_well_formed() {
    for model in tiny() {
        let built = seeded(model.name, &Options::default(), 0).model;
        assert!(built.opset("") >= 17 && !built.producer_name.is_empty());
        let property = |key| built.metadata_props.iter().find(|p| p.key == key).map(|p| &p.value[..]);
        assert_eq!((property("model"), property("weights")), (Some(model.name), Some("seed 0")));
        assert!(property("paper").is_some_and(|paper| paper.contains("arXiv:")), "{}", model.name);
        assert!(ModelProto::from_bytes(&built.to_bytes()).unwrap() == built);
        let graph = built.graph.unwrap();
        let mut defined: BTreeSet<&str> = graph.initializer.iter().map(|t| &t.name[..]).collect();
        assert_eq!(defined.len(), graph.initializer.len(), "{}: a constant twice", model.name);
        defined.extend(graph.input.iter().map(|v| &v.name[..]));
        let mut used = BTreeSet::new();
        collect_used(&graph, &mut used);
        let mut names = BTreeSet::new();
        for node in &graph.node {
            assert!(names.insert(&node.name), "{}: node `{}` twice", model.name, node.name);
            for input in node.input.iter().filter(|name| !name.is_empty()) {
                assert!(defined.contains(&input[..]), "{}: `{input}` before it is there", node.name);
            }
            for output in node.output.iter().filter(|name| !name.is_empty()) {
                assert!(defined.insert(output), "{}: `{output}` twice", node.name);
                let is_output = graph.output.iter().any(|v| v.name == *output);
                let typed = graph.value_info.iter().chain(&graph.output).find(|v| v.name == *output);
                assert!(typed.is_some_and(|v| !net::shape(v).contains(&0)), "{output} has no shape");
                assert!(is_output || used.contains(&output[..]) || node.output.len() > 1, "{output} is not used");
            }
        }
    }
}

/// Names that nodes read, in bodies of control flow as well.
fn collect_used<'a>(graph: &'a GraphProto, used: &mut BTreeSet<&'a str>) {
    for node in &graph.node {
        used.extend(node.input.iter().map(String::as_str));
        node.attribute.iter().filter_map(|a| a.g.as_ref()).for_each(|body| collect_used(body, used));
    }
}

#[test]
fn nodes_are_named_by_module_paths() {
    let names = |name: &str| -> Vec<String> {
        seeded(name, &Options::default(), 0).model.graph.unwrap().node.into_iter().map(|n| n.name).collect()
    };
    for (model, node) in [
        ("poolformer-tiny", "network.0.0.token_mixer.pool"),
        ("caformer-tiny", "stages.2.0.token_mixer.qkv"),
        ("vanillanet-5-tiny", "stages.0.act"),
        ("dwformer-tiny", "block1.blocks.0.inter.4.softmax"),
        ("mpgnet-t-tiny", "psf.model.10.conv_block.1"),
    ] {
        assert!(names(model).iter().any(|n| n == node), "{model} has no `{node}`");
    }
}

/// Whatever size is asked for, the answer is a model of that size or an error that says why not.
#[test]
fn sizes_are_taken_or_refused() {
    let sides = [1, 2, 3, 4, 7, 8, 11, 12, 13, 16, 30, 31, 32, 33, 64, 100];
    for model in tiny().filter(|m| m.architecture.refuses_size().is_none()) {
        let mut taken = 0;
        for (height, width) in sides.iter().flat_map(|&h| sides.iter().map(move |&w| (h, w))) {
            let options = Options { size: Some((height, width)), ..Options::default() };
            match summary(model.name, &options) {
                Ok(summary) => {
                    taken += 1;
                    assert!(summary.inputs[0].1.ends_with(&[height, width]), "{}: {:?}", model.name, summary.inputs);
                }
                Err(Error::Size { height: h, width: w, reason, .. }) => {
                    assert!((h, w) == (height, width) && !reason.is_empty());
                }
                Err(e) => panic!("{}: {e}", model.name),
            }
        }
        assert!(taken > 0, "{} takes no size", model.name);
    }
}

#[test]
fn pictures_that_do_not_fit_are_refused() {
    let size = |name, height, width| summary(name, &Options { size: Some((height, width)), ..Options::default() });
    let refused = |name, height, width| match size(name, height, width) {
        Err(e @ Error::Size { .. }) => e.to_string(),
        other => panic!("{name} {height}x{width}: {other:?}"),
    };
    let text = refused("dwformer", 254, 256);
    assert_eq!(text, "`dwformer` cannot take 254x256: height and width must be multiples of 4 and 12 or more");
    refused("dwformer-spatial", 256, 8);
    refused("mpgnet-p", 4, 128);
    refused("vanillanet-13", 31, 224);
    refused("poolformer-s12", 224, 2);
    let restored = size("dwformer", 16, 24).unwrap();
    assert_eq!(restored.outputs[0].1, [1, 3, 16, 24]);
    assert_eq!(size("vanillanet-13", 32, 47).unwrap().outputs[0].1, [1, 1000]);
}

#[test]
fn weights_larger_than_a_file_are_refused_before_they_are_drawn() {
    let options = Options { size: Some((8192, 8192)), ..Options::default() };
    let error = build("randformer-s12", &options, &Source::Seed(0)).unwrap_err();
    assert!(matches!(error, Error::Size { .. }) && error.to_string().contains("an ONNX file holds 2"), "{error}");
}

#[test]
fn choices_that_make_no_sense_are_refused() {
    let error = summary("dwformer", &Options { causal: true, ..Options::default() }).unwrap_err();
    assert_eq!(error.to_string(), "`dwformer` has no choice of causal: it has no time axis");
}

#[test]
fn a_checkpoint_of_another_model_is_refused_tensor_by_tensor() {
    let state = summary("vanillanet-5-tiny", &Options::default()).unwrap().state;
    let zeros = |t: &StateTensor| (t.name.clone(), t.shape.clone(), vec![0.0; t.shape.iter().product()]);
    let mut tensors: Vec<_> = state.iter().map(zeros).collect();
    let whole = Source::Checkpoint(Checkpoint::from_tensors("some/where/v5.safetensors", tensors.clone()));
    let built = build("vanillanet-5-tiny", &Options::default(), &whole).unwrap();
    assert!(built.model.metadata_props.iter().any(|p| p.key == "weights" && p.value == "v5.safetensors"));
    tensors.retain(|(name, ..)| name != "stem.0.bias");
    tensors.push(("stem.0.bais".into(), vec![6], vec![0.0; 6]));
    tensors[0].1 = vec![6, 4, 3, 4];
    let wrong = Source::Checkpoint(Checkpoint::from_tensors("v5.safetensors", tensors));
    let Err(Error::Tensors { problems, .. }) = build("vanillanet-5-tiny", &Options::default(), &wrong) else {
        panic!("nothing was wrong")
    };
    let expected = [
        Problem::Shape { tensor: "stem.0.weight".into(), found: vec![6, 4, 3, 4], expected: vec![6, 3, 4, 4] },
        Problem::Missing { tensor: "stem.0.bias".into(), shape: vec![6] },
        Problem::Extra { tensor: "stem.0.bais".into(), shape: vec![6] },
    ];
    assert_eq!(problems, expected);
}

/// The training form's own names are asked for, not those of what is built.
#[test]
fn a_training_form_is_checked_under_its_own_names() {
    let only = vec![("stem1.0.weight".to_string(), vec![6, 3, 4, 4], vec![0.0; 288])];
    let source = Source::Checkpoint(Checkpoint::from_tensors("t.safetensors", only));
    let error = build("vanillanet-5-tiny", &Options::default(), &source).unwrap_err();
    let Error::Tensors { problems, .. } = error else { panic!("{error}") };
    // 89 tensors of the official training form but for 13 counters that nothing reads.
    assert_eq!(problems.len(), 89 - 13 - 1);
    assert!(problems.contains(&Problem::Missing { tensor: "stages.2.act.bn.running_var".into(), shape: vec![48] }));
}
