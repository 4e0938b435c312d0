//! Integer weights stay what they are in the file: every quantised initialiser arrives in the graph byte for byte, whatever
//! the passes do, and external data is read as if it lay in the file.

use kinglet_compiler::{Error, Options, array_from_proto, import, import_file};
use kinglet_models::glyphs;
use kinglet_onnx::{DataType, ModelProto, StringStringEntryProto};
use kinglet_tests::{draws, files_of, options_for, read_npz, shared};

/// Initialisers of one byte that `DequantizeLinear` reads as its first input: the weights.
fn quantised_weights(model: &ModelProto) -> Vec<(String, Vec<u8>)> {
    let graph = model.graph.as_ref().expect("a graph");
    let read: Vec<&str> =
        graph.node.iter().filter(|n| n.op_type == "DequantizeLinear").map(|n| n.input[0].as_str()).collect();
    let byte = [DataType::Int8 as i32, DataType::Uint8 as i32];
    let weights = graph.initializer.iter().filter(|t| byte.contains(&t.data_type) && read.contains(&t.name.as_str()));
    weights.map(|t| (t.name.clone(), array_from_proto(t, None).expect("readable").to_bytes().into_owned())).collect()
}

fn check(name: &str, bytes: &[u8], options: &Options) -> usize {
    let model = ModelProto::from_bytes(bytes).expect("a model");
    let graph = import(bytes, None, options).unwrap_or_else(|e| panic!("{name}: {e}"));
    let weights = quantised_weights(&model);
    for (weight, want) in &weights {
        let found = graph.tensors.iter().find(|t| t.name == *weight && t.quant.is_some());
        let found = found.unwrap_or_else(|| panic!("{name}: `{weight}` is not in the graph as a quantised tensor"));
        let value = found.value.as_ref().unwrap_or_else(|| panic!("{name}: `{weight}` is no constant"));
        assert!(value.to_bytes() == *want, "{name}: `{weight}` has changed");
    }
    weights.len()
}

#[test]
fn of_the_repositorys_model() {
    let options = Options { dims: [("batch".to_string(), 1)].into(), ..Options::default() };
    assert!(check("glyphs", glyphs::INT8, &options) >= 11);
}

#[test]
fn of_exported_and_trained_models() {
    let Some(shared) = shared() else { return };
    let mut checked = 0;
    for folder in ["exports", "mlperf-tiny"] {
        for path in files_of(&shared.join(folder), "onnx") {
            let bytes = std::fs::read(&path).expect("readable");
            let npz = path.with_extension("npz");
            let mut options = if npz.exists() { options_for(&read_npz(&npz)) } else { Options::default() };
            options.draws_as_inputs = draws(&path);
            if !npz.exists() {
                for d in kinglet_compiler::shape_of_inputs(&bytes).expect("valid").into_iter().flat_map(|i| i.dims) {
                    if let kinglet_compiler::DimInfo::Symbol(s) = d {
                        options.dims.insert(s, 1);
                    }
                }
            }
            checked += check(&path.display().to_string(), &bytes, &options);
        }
    }
    println!("{checked} initialisers");
    assert!(checked >= 500, "only {checked} initialisers were checked");
}

#[test]
fn external_data_is_read_from_beside_the_model_and_from_nowhere_else() {
    let mut model = ModelProto::from_bytes(glyphs::F32).expect("a model");
    let folder = std::env::temp_dir().join(format!("kinglet-external-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a writable folder");
    let mut data = Vec::new();
    for t in &mut model.graph.as_mut().expect("a graph").initializer {
        let entry = |key: &str, value: String| StringStringEntryProto { key: key.into(), value };
        let raw = array_from_proto(t, None).expect("readable").to_bytes().into_owned();
        t.external_data = vec![
            entry("location", "weights.bin".into()),
            entry("offset", data.len().to_string()),
            entry("length", raw.len().to_string()),
        ];
        t.data_location = 1;
        data.extend(raw);
        (t.raw_data, t.float_data) = (Default::default(), Vec::new());
    }
    let options = Options { dims: [("batch".to_string(), 1)].into(), ..Options::default() };
    std::fs::write(folder.join("weights.bin"), &data).expect("writable");
    std::fs::write(folder.join("model.onnx"), model.to_bytes()).expect("writable");
    let external = import_file(&folder.join("model.onnx"), &options).expect("imports");
    let internal = import(glyphs::F32, None, &options).expect("imports");
    for (a, b) in external.tensors.iter().zip(&internal.tensors) {
        assert!(a.name == b.name && a.value == b.value, "{}", a.name);
    }
    // A file cut short, and a path that leaves the folder.
    std::fs::write(folder.join("weights.bin"), &data[..data.len() - 4]).expect("writable");
    let short = import_file(&folder.join("model.onnx"), &options).expect_err("too short");
    assert!(matches!(short, Error::Tensor { .. }) && short.to_string().contains("weights.bin"), "{short}");
    model.graph.as_mut().expect("a graph").initializer[0].external_data[0].value = "../weights.bin".into();
    let outside = import(&model.to_bytes(), Some(&folder), &options).expect_err("outside");
    assert!(outside.to_string().contains("outside"), "{outside}");
    std::fs::remove_dir_all(&folder).expect("removable");
}
