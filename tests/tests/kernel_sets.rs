//! Every set of kernels that this machine has against the reference, on whole models, with threads: the same bits in integers; in
//! floats a stated distance.

use std::collections::BTreeMap;
use std::sync::Arc;

use kinglet::kernels::{BinaryOp, Only, OpSet, UnaryOp};
use kinglet::{DType, Error, Fault, Kernels, Model, Reference, Session, StepKind, Target};
use kinglet_compiler::array::Array;
use kinglet_compiler::graph::Op;
use kinglet_compiler::{Compiled, Options, Precision, compile, import};
use kinglet_models::glyphs;
use kinglet_native::{ModelFile, OwnedSession, kernel_sets};
use kinglet_tests::one_node::{Case, Like, alike, sums_floats};
use kinglet_tests::recurrences::{Extents, Recurrence};
use kinglet_tests::small_onnx;
use kinglet_tests::{Aligned, Random, draws, exports, options_for, parse_npz, read_npz, row, sqnr};

/// The least signal-to-noise ratio, in decibels, of a model whose floats are summed otherwise than the reference sums them: f32
/// has 24 bits, 144 dB, of which a hundred layers leave most.
const FLOATS: f64 = 90.0;
/// The same of a model that rounds to bytes on the way: next to a tie a sum in another order rounds to the next byte.
const BYTES: f64 = 25.0;

/// The kernels of this CPU but for the reference. With `CI` set there must be some.
fn own_kernels() -> Vec<(&'static str, &'static dyn Kernels)> {
    let is_own = |k: &dyn Kernels| k.kernel_name(StepKind::ConvF32) != Reference.kernel_name(StepKind::ConvF32);
    let own: Vec<_> = kernel_sets().iter().filter(|(_, k)| is_own(*k)).copied().collect();
    let nothing = "nothing was compared: this CPU has no kernels but the reference (on x86-64 they need AVX2)";
    assert!(!own.is_empty() || std::env::var_os("CI").is_none_or(|ci| ci.is_empty()), "{nothing}");
    if own.is_empty() {
        println!("skipped: {nothing}");
    }
    own
}

fn outputs(
    file: &Arc<ModelFile>,
    kernels: &'static dyn Kernels,
    threads: usize,
    inputs: &BTreeMap<String, Array>,
) -> Vec<Array> {
    let mut session = OwnedSession::with_kernels(file.clone(), threads, kernels).expect("there is memory");
    let model = file.model();
    for i in 0..model.input_count() {
        let name = model.input_name(i).expect("compiled with names");
        session.input_bytes_mut(i).expect("exists").copy_from_slice(&inputs[name].to_bytes());
    }
    session.run().expect("the data is plain");
    let output = |i: usize| {
        let tensor = model.tensor(model.output_tensor(i).expect("exists"));
        let shape: Vec<usize> = tensor.shape().iter().map(|&d| d as usize).collect();
        Array::from_bytes(tensor.dtype(), &shape, session.output_bytes(i).expect("exists"))
            .expect("sizes were verified")
    };
    (0..model.output_count()).map(output).collect()
}

fn compare(name: &str, compiled: &Compiled, inputs: &BTreeMap<String, Array>) {
    let file = Arc::new(ModelFile::from_bytes(&compiled.kgl).expect("the compiler writes valid files"));
    let want = outputs(&file, &Reference, 1, inputs);
    let rounds = compiled.report.steps.iter().any(|s| s.dtype != "f32");
    for (set, kernels) in own_kernels() {
        let got = outputs(&file, kernels, 1, inputs);
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            if sums_floats(compiled) {
                let (distance, least) = (sqnr(got, want), if rounds { BYTES } else { FLOATS });
                assert!(distance >= least, "{name} on {set}: output {i} is {distance:.1} dB from the reference");
            } else {
                assert!(alike(got, want), "{name} on {set}: output {i} has other bits than the reference");
            }
        }
        let threads = outputs(&file, kernels, 2, inputs);
        assert!(got.iter().zip(&threads).all(|(a, b)| alike(a, b)), "{name} on {set}: other bits with 2 threads");
    }
}

#[test]
fn the_models_of_the_repository() {
    let images = &parse_npz(glyphs::VECTORS)["image"];
    for target in Target::ALL {
        let options = Options { target, dims: [("batch".to_string(), 1)].into(), ..Options::default() };
        for (name, onnx) in [("glyphs f32", glyphs::F32), ("glyphs int8", glyphs::INT8)] {
            let compiled = compile(import(onnx, None, &options).expect("imports"), &options).expect("compiles");
            for i in 0..images.shape[0].min(4) {
                compare(name, &compiled, &[("image".to_string(), row(images, i))].into());
            }
        }
    }
}

#[test]
fn the_exports() {
    let Some(paths) = exports() else { return };
    for path in paths.iter().filter(|path| !draws(path)) {
        let name = path.file_stem().expect("a file").to_string_lossy();
        // Models of other shapes are the same kernels once more.
        if ["_dyn", "dynhw", "dynbatch", "_noopt"].iter().any(|s| name.contains(s)) {
            continue;
        }
        let arrays = read_npz(&path.with_extension("npz"));
        let options = Options { target: Target::X86_64, ..options_for(&arrays) };
        let compiled = kinglet_tests::compile(path, &options).unwrap_or_else(|e| panic!("{name}: {e}"));
        compare(&name, &compiled, &arrays);
    }
}

#[test]
fn recurrences() {
    let mut r = Random::new(14);
    for state in [1, 7, 8, 9, 16, 17, 41, 64, 256] {
        let e = Extents { batch: 2, time: 13, inner: 35, state };
        let memory = Recurrence::legendre_memory(&mut r, Extents { inner: 3, ..e }, true);
        let scans = [0, 7, 15].map(|with| Recurrence::selective_scan(&mut r, e, with));
        let layers = [0, 1, 2].map(|kind| Recurrence::layer(&mut r, e, kind, 0b101_1111));
        for (k, recurrence) in scans.into_iter().chain([memory]).chain(layers).enumerate() {
            let (graph, inputs) = recurrence.case().parts();
            let compiled = compile(graph, &Options::default()).expect("compiles");
            compare(&format!("recurrence {k} of state {state}"), &compiled, &inputs);
        }
    }
}

/// A plan for `generic` that is repacked when it is loaded computes what one compiled for the target does, to the bit, in the same
/// scratch; two sessions share it.
#[test]
fn repacked_plans_are_those_of_the_target() {
    let own = own_kernels();
    let Some(&(_, kernels)) = own.first() else { return };
    let models = small_onnx::all().into_iter().map(|(name, model)| (name, model.to_bytes()));
    let models = models.chain([("glyphs f32", glyphs::F32.to_vec()), ("glyphs int8", glyphs::INT8.to_vec())]);
    let mut repacked = 0;
    let precisions = [Precision::F32, Precision::F16];
    for ((name, onnx), precision) in models.flat_map(|model| precisions.map(|p| (model.clone(), p))) {
        let compiled = |target| {
            let dims = [("batch".to_string(), 1)].into();
            let options =
                Options { target, precision, dims, draws_as_inputs: true, pad_selections: true, ..Options::default() };
            compile(import(&onnx, None, &options).expect("imports"), &options).expect("compiles").kgl
        };
        let run = |kgl: &[u8]| {
            let file = Arc::new(ModelFile::from_bytes(kgl).expect("valid"));
            let mut session = OwnedSession::with_kernels(file.clone(), 1, kernels).expect("there is memory");
            let mut r = Random::new(5);
            for i in 0..file.model().input_count() {
                for b in session.input_bytes_mut(i).expect("exists").chunks_mut(4) {
                    let v = (r.real() as f32).to_le_bytes();
                    b.copy_from_slice(&v[..b.len()]);
                }
            }
            let _ = session.run();
            let outputs: Vec<Vec<u8>> =
                (0..file.model().output_count()).map(|i| session.output_bytes(i).expect("exists").to_vec()).collect();
            (outputs, session.model().scratch_bytes(), file.repacked().is_some())
        };
        // In halves a plan for `generic` stores other tensors than one for AArch64.
        let halves = precision == Precision::F16 && kernels.target().info().halves;
        let other = if halves { Target::Armv8 } else { Target::Generic };
        let (plain, ours) = (run(&compiled(other)), run(&compiled(kernels.target())));
        assert!(plain.0 == ours.0, "{name}: other bits");
        assert_eq!(plain.1, ours.1, "{name}: scratch");
        assert!(!ours.2, "{name} was repacked");
        repacked += usize::from(plain.2);
    }
    assert!(repacked >= 5, "{repacked} models were repacked");
}

/// Kernels for the kinds of steps that a model has, and no others, compute what all kernels do; a plan with another kind is refused, by
/// the kernels and when it is loaded.
#[test]
fn kernels_for_some_kinds_alone() {
    const GLYPHS: u128 = OpSet::of(&[StepKind::ConvI8, StepKind::DepthwiseI8, StepKind::Pool, StepKind::Reduce]).bits();
    let options = Options { dims: [("batch".to_string(), 1)].into(), quantized_io: true, ..Options::default() };
    let plan = |onnx: &[u8]| {
        Aligned::copy(&compile(import(onnx, None, &options).expect("imports"), &options).expect("compiles").kgl)
    };
    let (own, other) = (plan(glyphs::INT8), plan(glyphs::F32));
    let model = Model::load_only::<GLYPHS>(own.as_ref()).expect("it has no other kinds");
    assert!(OpSet::from_bits(GLYPHS).holds(OpSet::of_model(&model)));
    let run = |kernels: &dyn Kernels| {
        let mut arena = Aligned::zeroed(model.arena_bytes());
        let mut session = Session::new(model, arena.as_mut(), kernels).expect("it runs");
        let input = session.input_bytes_mut(0).expect("there is one");
        input.iter_mut().enumerate().for_each(|(i, b)| *b = (i * 7) as u8);
        session.run().expect("it runs");
        session.output_bytes(0).expect("there is one").to_vec()
    };
    let only = Only::<_, GLYPHS>(Reference);
    assert_eq!(run(&only), run(&Reference));
    assert_eq!((only.target(), only.kernel_name(StepKind::Pool)), (Target::Generic, "reference"));

    assert!(matches!(Model::load_only::<GLYPHS>(other.as_ref()), Err(Error::Step { fault: Fault::UnknownKind, .. })));
    let model = Model::load(other.as_ref()).expect("valid");
    let mut arena = Aligned::zeroed(model.arena_bytes());
    let refused = Session::new(model, arena.as_mut(), &only).err();
    assert!(matches!(refused, Some(Error::Step { fault: Fault::UnknownKind, .. })), "{refused:?}");
}

/// The same of the functions within kinds.
#[test]
fn kernels_for_some_functions_alone() {
    const KINDS: OpSet = OpSet::of_kind(StepKind::Unary).union(OpSet::of_kind(StepKind::Binary));
    const OWN: u128 = KINDS.union(OpSet::of_functions(&[UnaryOp::Tanh], &[BinaryOp::Mul])).bits();
    let plan = |unary: UnaryOp, binary: BinaryOp| {
        let (mut r, mut c) = (Random::new(3), Case::new());
        let x = c.named_input("x", r.array(DType::F32, &[2, 300]), None);
        let y = c.named_input("y", r.array(DType::F32, &[300]), None);
        let v = c.node(Op::Unary { op: unary, alpha: 0.5, beta: 0.25 }, &[x], Like::f32(&[2, 300]));
        let v = c.node(Op::Binary(binary), &[v, y], Like::f32(&[2, 300]));
        c.output(v);
        Aligned::copy(&compile(c.parts().0, &Options::default()).expect("compiles").kgl)
    };
    let own = plan(UnaryOp::Tanh, BinaryOp::Mul);
    let model = Model::load_only::<OWN>(own.as_ref()).expect("it has no others");
    assert_eq!(OpSet::of_model(&model), OpSet::from_bits(OWN));
    let run = |kernels: &dyn Kernels| {
        let mut arena = Aligned::zeroed(model.arena_bytes());
        let mut session = Session::new(model, arena.as_mut(), kernels).expect("it runs");
        for i in 0..2 {
            let input = session.input_bytes_mut(i).expect("there is one");
            input
                .chunks_exact_mut(4)
                .enumerate()
                .for_each(|(i, b)| b.copy_from_slice(&(i as f32 - 99.5).to_le_bytes()));
        }
        session.run().expect("it runs");
        session.output_bytes(0).expect("there is one").to_vec()
    };
    let only = Only::<_, OWN>(Reference);
    assert_eq!(run(&only), run(&Reference));

    for other in [plan(UnaryOp::Exp, BinaryOp::Mul), plan(UnaryOp::Tanh, BinaryOp::Add)] {
        let refused = Model::load_only::<OWN>(other.as_ref()).err();
        assert!(matches!(refused, Some(Error::Step { fault: Fault::UnknownKind, .. })), "{refused:?}");
        let model = Model::load(other.as_ref()).expect("valid");
        let mut arena = Aligned::zeroed(model.arena_bytes());
        let refused = Session::new(model, arena.as_mut(), &only).err();
        assert!(matches!(refused, Some(Error::Step { fault: Fault::UnknownKind, .. })), "{refused:?}");
    }
}

/// A plan that is trusted runs as one that is verified, and damage is still seen.
#[test]
fn a_trusted_plan_runs_as_a_verified_one() {
    let options = Options { dims: [("batch".to_string(), 1)].into(), ..Options::default() };
    let mut bytes = Aligned::copy(
        &compile(import(glyphs::INT8, None, &options).expect("imports"), &options).expect("compiles").kgl,
    );
    let run = |model: Model<'_>| {
        let mut arena = Aligned::zeroed(model.arena_bytes());
        let mut session = Session::new(model, arena.as_mut(), &Reference).expect("it runs");
        session.input_bytes_mut(0).expect("there is one").fill(63);
        session.run().expect("it runs");
        session.output_bytes(0).expect("there is one").to_vec()
    };
    let verified = run(Model::load(bytes.as_ref()).expect("valid"));
    // SAFETY: `load` has just accepted these bytes.
    assert_eq!(run(unsafe { Model::trusted(bytes.as_ref()) }.expect("valid")), verified);
    for at in [0, 8, 40, 200] {
        bytes.as_mut()[at] ^= 0x10;
        // SAFETY: nothing is executed.
        assert!(unsafe { Model::trusted(bytes.as_ref()) }.is_err(), "byte {at}");
        bytes.as_mut()[at] ^= 0x10;
    }
}

/// A set of kernels that takes no packing but that of `generic`.
struct Picky;

// SAFETY: it is the reference.
unsafe impl Kernels for Picky {
    fn takes(&self, _: kinglet::StepKind, packing: &kinglet::product::Packing) -> bool {
        let generic = Target::Generic.info();
        [generic.floats, generic.short_bytes, generic.long_bytes, generic.depthwise_floats].contains(packing)
    }
}

#[test]
fn a_plan_for_other_kernels_is_refused_by_name() {
    for (target, taken) in [(Target::Generic, true), (Target::X86_64, false)] {
        let options = Options { target, dims: [("batch".to_string(), 1)].into(), ..Options::default() };
        let compiled = compile(import(glyphs::INT8, None, &options).expect("imports"), &options).expect("compiles");
        let file = Arc::new(ModelFile::from_bytes(&compiled.kgl).expect("valid"));
        match OwnedSession::with_kernels(file, 1, &Picky) {
            Ok(_) => assert!(taken),
            Err(e) => {
                assert!(
                    !taken && matches!(e, kinglet_native::Error::Runtime(Error::Kernels { target: t }) if t == target)
                );
                assert!(e.to_string().contains("x86-64"), "{e}");
            }
        }
    }
}
