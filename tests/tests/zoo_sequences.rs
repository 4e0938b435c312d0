//! The zoo's sequence models in every form in which a recurrence can be written: the tiny checkpoints give PyTorch's
//! outputs, and forms with the same seed agree.

use std::collections::BTreeMap;

use kinglet::DType;
use kinglet_compiler::array::Array;
use kinglet_compiler::{Options, compile, import};
use kinglet_models::zoo::{self, Checkpoint, Form, Source};
use kinglet_tests::{Random, difference, read_npz, row, run, shared};

/// Sums of f32 in another order than PyTorch's: far below this, relative to the largest output.
const BOUND: f64 = 1e-4;

/// Models with the checkpoints that have their weights.
const CHECKPOINTS: [(&str, &str); 4] = [
    ("lmuformer-tiny", "lmuformer"),
    ("lmuformer-causal-tiny", "lmuformer_causal"),
    ("slmuformer-tiny", "slmuformer"),
    ("netmamba-tiny", "netmamba"),
];

/// A compiled model of the zoo.
struct Model {
    kgl: Vec<u8>,
    inputs: Vec<(String, Vec<usize>)>,
}

impl Model {
    /// A model in its own size; `None` if it cannot be written in this form.
    fn new(name: &str, form: Form, source: &Source) -> Option<Self> {
        Model::built(name, &zoo::Options { form: Some(form), ..Default::default() }, source)
    }

    fn built(name: &str, choices: &zoo::Options, source: &Source) -> Option<Self> {
        let built = match zoo::build(name, choices, source) {
            Ok(built) => built,
            Err(zoo::Error::Choice { .. }) => return None,
            Err(e) => panic!("{name}: {e}"),
        };
        let options = Options::default();
        let graph =
            import(&built.model.to_bytes(), None, &options).unwrap_or_else(|e| panic!("{name}, {choices:?}: {e}"));
        let compiled = compile(graph, &options).unwrap_or_else(|e| panic!("{name}, {choices:?}: {e}"));
        Some(Model { kgl: compiled.kgl, inputs: built.summary.inputs })
    }

    /// The answer to a whole sequence, given under any name.
    fn whole(&self, sequence: &Array) -> Array {
        let [(name, _)] = &self.inputs[..] else { panic!("one input") };
        run(&self.kgl, &[(name.clone(), sequence.clone())].into()).remove("logits").expect("an output")
    }

    /// The answer after each frame, from states of zeros.
    fn stream(&self, frames: &[BTreeMap<String, Array>]) -> Vec<Array> {
        let zeros = |shape: &[usize]| Array::f32(shape, vec![0.0; shape.iter().product()]);
        let states = self.inputs.iter().filter(|(name, _)| !frames[0].contains_key(name));
        let mut states: BTreeMap<String, Array> = states.map(|(name, shape)| (name.clone(), zeros(shape))).collect();
        let mut answers = Vec::new();
        for frame in frames {
            let inputs = states.iter().chain(frame).map(|(name, array)| (name.clone(), array.clone())).collect();
            let mut outputs = run(&self.kgl, &inputs);
            answers.push(outputs.remove("logits").expect("an output"));
            for (name, state) in &mut states {
                *state = outputs.remove(&format!("{name}_next")).unwrap_or_else(|| panic!("no next {name}"));
            }
        }
        answers
    }
}

/// A whole sequence cut into what the step form takes: frames of mel bands; strides of four bytes and the class token.
fn frames(name: &str, sequence: &Array) -> Vec<BTreeMap<String, Array>> {
    let reals = sequence.reals();
    let array = |values: &[f64]| Array::f32(&[1, values.len()], values.to_vec());
    if name.starts_with("netmamba") {
        let strides = reals.chunks(4).map(array).chain([array(&[0.0; 4])]);
        let frame = |(i, bytes)| {
            let position = Array::int(DType::I64, &[1], vec![i as i64]);
            [("bytes".to_string(), bytes), ("position".to_string(), position)].into()
        };
        return strides.enumerate().map(frame).collect();
    }
    let mels = sequence.shape[2];
    reals.chunks(mels).map(|frame| [("frame".to_string(), array(frame))].into()).collect()
}

fn assert_near(what: &str, got: &Array, want: &Array) {
    let (worst, magnitude) = difference(got, want);
    assert!(magnitude > 0.0 && worst <= BOUND * magnitude, "{what}: {worst} of {magnitude}");
}

/// Every checkpoint in a form; the model's own sequence and PyTorch's answer.
fn against_pytorch(form: Form) {
    let Some(shared) = shared() else { return };
    let mut compared = 0;
    for (name, file) in CHECKPOINTS {
        let checkpoint = shared.join(format!("exports/checkpoints/{file}.safetensors"));
        let source = Source::Checkpoint(Checkpoint::open(&checkpoint).expect("reads"));
        let mut recorded = read_npz(&checkpoint.with_extension("npz"));
        let want = recorded.remove("logits").expect("recorded");
        let (_, sequence) = recorded.pop_first().expect("recorded");
        let Some(model) = Model::new(name, form, &source) else { continue };
        let got = match form {
            Form::Step => model.stream(&frames(name, &sequence)).pop().expect("frames"),
            _ => model.whole(&sequence),
        };
        assert_near(&format!("{name}, {form}"), &got, &want);
        compared += 1;
    }
    let expected = match form {
        Form::Scan | Form::Loop | Form::Unrolled | Form::Custom => 4,
        Form::Conv | Form::Fft => 3,
        Form::Step => 2,
    };
    assert_eq!(compared, expected, "{form}: checkpoints compared");
}

#[test]
fn scan() {
    against_pytorch(Form::Scan);
}

#[test]
fn r#loop() {
    against_pytorch(Form::Loop);
}

#[test]
fn unrolled() {
    against_pytorch(Form::Unrolled);
}

#[test]
fn conv() {
    against_pytorch(Form::Conv);
}

#[test]
fn fft() {
    against_pytorch(Form::Fft);
}

#[test]
fn custom() {
    against_pytorch(Form::Custom);
}

#[test]
fn step() {
    against_pytorch(Form::Step);
}

/// Streams recorded from the exported step models, whose weights are those of the checkpoints: the answer after each
/// frame.
#[test]
fn every_answer_of_a_stream() {
    let Some(shared) = shared() else { return };
    for (name, file, stream) in [
        ("lmuformer-causal-tiny", "lmuformer_causal", "lmuformer_step_stream"),
        ("netmamba-tiny", "netmamba", "netmamba_step_stream"),
    ] {
        let checkpoint = shared.join(format!("exports/checkpoints/{file}.safetensors"));
        let source = Source::Checkpoint(Checkpoint::open(&checkpoint).expect("reads"));
        let mut recorded = read_npz(&shared.join(format!("exports/{stream}.npz")));
        let answers = recorded.remove("logits").expect("recorded");
        let frame = |i| recorded.iter().map(move |(name, all)| (name.clone(), row(all, i)));
        let unbatched = |(name, mut array): (String, Array)| {
            array.shape.remove(0);
            (name, array)
        };
        let frames: Vec<_> = (0..answers.shape[0]).map(|i| frame(i).map(unbatched).collect()).collect();
        let model = Model::new(name, Form::Step, &source).expect("has steps");
        for (i, got) in model.stream(&frames).iter().enumerate() {
            let (_, want) = unbatched((String::new(), row(&answers, i)));
            assert_near(&format!("{name}, frame {i}"), got, &want);
        }
    }
}

/// A sequence of any length has the answer that a stream has after as many frames: the window of the memory is that of the
/// checkpoint, not of the sequence.
#[test]
fn sequences_of_other_lengths() {
    let Some(shared) = shared() else { return };
    let source = Source::Checkpoint(
        Checkpoint::open(&shared.join("exports/checkpoints/lmuformer_causal.safetensors")).expect("reads"),
    );
    let recorded = read_npz(&shared.join("exports/lmuformer_step_stream.npz"));
    let (stream, answers) = (recorded["frame"].reals().into_owned(), &recorded["logits"]);
    let mels = recorded["frame"].shape[2];
    for frames in [1, 2, 9, 16] {
        let sequence = Array::f32(&[1, frames, mels], stream[..frames * mels].to_vec());
        let mut want = row(answers, frames - 1);
        want.shape.remove(0);
        for form in Form::ALL.into_iter().filter(|form| *form != Form::Step) {
            let options = zoo::Options { form: Some(form), size: Some((frames, mels)), ..Default::default() };
            let model = Model::built("lmuformer-causal-tiny", &options, &source).expect("a form of LMUFormer");
            assert_near(&format!("{frames} frames, {form}"), &model.whole(&sequence), &want);
        }
    }
}

/// The same seed, the same model: whatever the form.
#[test]
fn forms_agree() {
    for name in
        ["lmuformer-tiny", "lmuformer-causal-tiny", "slmuformer-tiny", "slmuformer-causal-tiny", "netmamba-tiny"]
    {
        let source = Source::Seed(7);
        let unrolled = Model::new(name, Form::Unrolled, &source).expect("a form of all");
        let sequence = Random::new(3).array(DType::F32, &unrolled.inputs[0].1);
        let want = unrolled.whole(&sequence);
        let mut compared = 0;
        for form in Form::ALL {
            let Some(model) = Model::new(name, form, &source) else { continue };
            compared += 1;
            let got = match form {
                Form::Step => model.stream(&frames(name, &sequence)).pop().expect("frames"),
                _ => model.whole(&sequence),
            };
            assert_near(&format!("{name}, {form}"), &got, &want);
        }
        // Scan, Loop, Unrolled and the custom operator are forms of all of them.
        assert!(compared >= 4, "{name}: only {compared} forms");
    }
}

/// The share of frames in which each layer of neurons fires, at full size: neither silent nor always on.
#[test]
fn neurons_fire() {
    for seed in 0..3 {
        let built = zoo::build("slmuformer", &zoo::Options::default(), &Source::Seed(seed)).expect("builds");
        let mut model = built.model;
        let graph = model.graph.as_mut().expect("has a graph");
        let layers = graph.node.iter().filter(|n| n.op_type == "Scan" && n.name.contains("lif"));
        let spikes: Vec<String> = layers.map(|n| n.output[1].clone()).collect();
        assert_eq!(spikes.len(), 11);
        let shown: Vec<_> = graph.value_info.iter().filter(|v| spikes.contains(&v.name)).cloned().collect();
        graph.output.extend(shown);
        let options = Options::default();
        let compiled =
            compile(import(&model.to_bytes(), None, &options).expect("imports"), &options).expect("compiles");
        let frames = Random::new(seed).array(DType::F32, &built.summary.inputs[0].1);
        let outputs = run(&compiled.kgl, &[("frames".to_string(), frames)].into());
        for name in spikes {
            let spikes = outputs[&name].reals();
            assert!(spikes.iter().all(|&s| s == 0.0 || s == 1.0), "seed {seed}, {name}");
            let rate = spikes.iter().sum::<f64>() / spikes.len() as f64;
            assert!((0.05..=0.5).contains(&rate), "seed {seed}, {name}: fires in {rate} of all frames");
        }
    }
}

/// Seeded networks of full size neither explode nor vanish, and their answers depend on what they see.
#[test]
fn answers_depend_on_the_input() {
    for name in ["lmuformer", "netmamba"] {
        let model = Model::new(name, Form::Scan, &Source::Seed(0)).expect("a form of all");
        let answer = |seed| model.whole(&Random::new(seed).array(DType::F32, &model.inputs[0].1));
        let (one, other) = (answer(1), answer(2));
        let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
        let (one, other) = (one.reals(), other.reals());
        let size = norm(&mut one.iter().copied());
        let rms = size / (one.len() as f64).sqrt();
        assert!((0.1..10.0).contains(&rms), "{name}: answers of size {rms}");
        let change = norm(&mut one.iter().zip(other.iter()).map(|(a, b)| a - b)) / size;
        assert!(change > 0.05, "{name}: two inputs change the answer by {change} of its size");
    }
}

/// Written out, NetMamba at full size has 27,413 nodes, twice as many as PyTorch's exporter writes.
#[test]
fn a_written_out_model_of_full_size_compiles_quickly_to_the_steps_of_its_scans() {
    let steps = |form| {
        let options = zoo::Options { form: Some(form), ..zoo::Options::default() };
        let built = zoo::build("netmamba", &options, &Source::Seed(0)).expect("a model of the zoo");
        let bytes = built.model.to_bytes();
        let begin = std::time::Instant::now();
        let graph = import(&bytes, None, &Options::default()).expect("valid");
        let compiled = compile(graph, &Options::default()).expect("it compiles");
        let took = begin.elapsed();
        println!("{}: {took:.2?}", form.name());
        assert!(took < std::time::Duration::from_secs(20), "{took:?}");
        compiled.report.steps.into_iter().map(|s| s.kind).collect::<Vec<_>>()
    };
    assert_eq!(steps(Form::Unrolled), steps(Form::Scan));
}
