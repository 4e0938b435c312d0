//! Weights in RAM: those that are read the most often are the first of the section, and are read where the program says.

use std::collections::BTreeMap;

use kinglet::{DType, Inline, Model, Quiet, Ram, Reference, Session};
use kinglet_compiler::array::Array;
use kinglet_compiler::graph::Tensor;
use kinglet_compiler::{Compiled, Options, compile, import};
use kinglet_models::{glyphs, keywords};
use kinglet_onnx::ModelProto;
use kinglet_tests::{Aligned, Random, parse_npz, row, run, run_with, small_onnx};

fn options(hot_weights: usize) -> Options {
    Options {
        hot_weights,
        draws_as_inputs: true,
        pad_selections: true,
        dims: [("batch".to_string(), 1)].into(),
        ..Options::default()
    }
}

fn compiled(onnx: &[u8], hot: usize) -> Compiled {
    let options = options(hot);
    compile(import(onnx, None, &options).expect("it imports"), &options).expect("it compiles")
}

/// Runs a plan whose first weights are these bytes, of which the file may have others.
fn run_hot(kgl: &[u8], hot: &[u8], inputs: &BTreeMap<String, Array>) -> Vec<Vec<u8>> {
    let (file, hot) = (Aligned::copy(kgl), Aligned::copy(hot));
    let model = Model::load(file.as_ref()).expect("valid").with_hot_weights(hot.as_ref()).expect("they fit");
    let (mut arena, mut slow) = (Aligned::zeroed(model.arena_bytes()), Aligned::zeroed(model.slow_bytes()));
    let ram = Ram { arena: arena.as_mut(), slow: slow.as_mut() };
    let mut session = Session::new(model, ram, &Reference).expect("there is memory");
    for i in 0..model.input_count() {
        let value = &inputs[model.input_name(i).expect("it has a name")];
        session.input_bytes_mut(i).expect("it is there").copy_from_slice(&value.to_bytes());
    }
    session.run_with(&Inline, &mut Quiet).expect("it runs");
    (0..model.output_count()).map(|i| session.output_bytes(i).expect("it is there").to_vec()).collect()
}

/// The file with other bytes in place of the first weights.
fn without_hot(kgl: &[u8], bytes: usize) -> (Vec<u8>, Vec<u8>) {
    let file = Aligned::copy(kgl);
    let weights = Model::load(file.as_ref()).expect("valid").weights();
    let at = weights.as_ptr() as usize - file.as_ref().as_ptr() as usize;
    let mut other = kgl.to_vec();
    other[at..at + bytes].iter_mut().for_each(|b| *b ^= 0x2a);
    (other, weights[..bytes].to_vec())
}

fn models() -> Vec<(&'static str, Vec<u8>, BTreeMap<String, Array>)> {
    let vectors = |npz, name: &str| [(name.to_string(), row(&parse_npz(npz)[name], 0))].into();
    let mut all = vec![
        ("glyphs", glyphs::INT8.to_vec(), vectors(glyphs::VECTORS, "image")),
        ("keywords", keywords::INT8.to_vec(), vectors(keywords::VECTORS, "frames")),
    ];
    let mut r = Random::new(7);
    for (name, model) in small_onnx::all() {
        let bytes = ModelProto::to_bytes(&model);
        let graph = import(&bytes, None, &options(0)).expect("it imports");
        let tensors = graph.inputs.iter().map(|&t| &graph.tensors[t]);
        // Indices and divisors are 1.
        let mut value = |t: &Tensor| match t.dtype {
            DType::I32 | DType::I64 => Array::int(t.dtype, &t.shape, vec![1; t.shape.iter().product()]),
            _ => r.array(t.dtype, &t.shape),
        };
        let inputs = tensors.map(|t| (t.name.clone(), value(t))).collect();
        all.push((name, bytes, inputs));
    }
    all
}

#[test]
fn weights_are_read_where_the_program_says() {
    let mut moved = 0;
    for (name, onnx, inputs) in models() {
        let plain = compiled(&onnx, 0);
        let want = run(&plain.kgl, &inputs);
        assert_eq!((plain.report.hot.bytes, plain.report.hot.reads), (0, 0));
        let mut before = 0;
        for room in [64, 500, 5_000, usize::MAX >> 1] {
            let plan = compiled(&onnx, room);
            let hot = plan.report.hot;
            assert!(hot.bytes <= room && hot.bytes.is_multiple_of(64) && hot.reads >= before, "{name}: {hot:?}");
            before = hot.reads;
            // In another order the weights are the same.
            let got = run_with(&plan.kgl, &inputs, &Inline, &mut Quiet);
            for (output, want) in &want {
                assert_eq!(got[output].to_bytes(), want.to_bytes(), "{name}, {output}, {room}");
            }
            // The file's own are not looked at.
            let (other, weights) = without_hot(&plan.kgl, hot.bytes);
            let got = run_hot(&other, &weights, &inputs);
            for (output, got) in plan.graph.output_names.iter().zip(got) {
                assert_eq!(got, want[output].to_bytes().to_vec(), "{name}, {output}, {room}");
            }
            moved += usize::from(hot.bytes > 0);
        }
        assert_eq!(before, compiled(&onnx, usize::MAX >> 1).report.hot.all_reads, "{name}: all are hot in the end");
    }
    assert!(moved > 20, "{moved} plans had hot weights");
}

#[test]
fn the_first_layers_are_hot() {
    // A weight of the first convolution serves 256 pixels, one of the last a single one.
    let hot = compiled(glyphs::INT8, 4096).report.hot;
    assert!(hot.reads * 112_568 > 5 * hot.all_reads * hot.bytes as u64, "{hot:?}");
}

#[test]
fn what_cannot_be_hot_is_refused() {
    let plan = compiled(glyphs::INT8, 4096);
    let file = Aligned::copy(&plan.kgl);
    let model = Model::load(file.as_ref()).expect("valid");
    let block = Aligned::zeroed(model.weights().len() + 64);
    let refused = |hot| model.with_hot_weights(hot).err();
    assert_eq!(refused(block.as_ref()), Some(kinglet::Error::WrongLength));
    assert_eq!(refused(&block.as_ref()[8..72]), Some(kinglet::Error::ModelAlignment));
    assert_eq!(refused(&[]), None);
}
