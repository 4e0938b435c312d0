//! The kernels of this CPU give the reference's bits, in integers and in floats, on whole models and with threads.

use std::collections::BTreeMap;
use std::sync::Arc;

use kinglet::{Kernels, Reference, StepKind};
use kinglet_compiler::array::Array;
use kinglet_compiler::{Options, compile, import};
use kinglet_models::glyphs;
use kinglet_native::{ModelFile, OwnedSession, best_kernels};
use kinglet_tests::recurrences::{Extents, Recurrence};
use kinglet_tests::{Random, compile_for, draws, exports, parse_npz, read_npz, row};

/// The kernels of this CPU; `None` if they are the reference itself, so that there is nothing to compare. With `CI` set that
/// is a failure: the machine that decides must have kernels of its own.
fn own_kernels() -> Option<&'static dyn Kernels> {
    let kernels = best_kernels();
    if kernels.kernel_name(StepKind::Conv) != Reference.kernel_name(StepKind::Conv) {
        return Some(kernels);
    }
    let nothing = "nothing was compared: this CPU has no kernels but the reference (on x86-64 they need AVX2)";
    assert!(std::env::var_os("CI").is_none_or(|ci| ci.is_empty()), "{nothing}");
    println!("skipped: {nothing}");
    None
}

fn outputs(
    file: &Arc<ModelFile>,
    kernels: &'static dyn Kernels,
    threads: usize,
    inputs: &BTreeMap<String, Array>,
) -> Vec<Vec<u8>> {
    let mut session = OwnedSession::with_kernels(file.clone(), threads, kernels).expect("there is memory");
    let model = file.model();
    for i in 0..model.input_count() {
        let name = model.input_name(i).expect("compiled with names");
        session.input_bytes_mut(i).expect("exists").copy_from_slice(&inputs[name].to_bytes());
    }
    session.run().expect("the data is plain");
    (0..model.output_count()).map(|i| session.output_bytes(i).expect("exists").to_vec()).collect()
}

fn compare(own: &'static dyn Kernels, name: &str, kgl: &[u8], inputs: &BTreeMap<String, Array>) {
    let file = Arc::new(ModelFile::from_bytes(kgl).expect("the compiler writes valid files"));
    let want = outputs(&file, &Reference, 1, inputs);
    for threads in [1, 2] {
        assert!(outputs(&file, own, threads, inputs) == want, "{name} with {threads} threads");
    }
}

#[test]
fn the_models_of_the_repository() {
    let Some(own) = own_kernels() else { return };
    let images = &parse_npz(glyphs::VECTORS)["image"];
    let options = Options { dims: [("batch".to_string(), 1)].into(), ..Options::default() };
    for (name, onnx) in [("glyphs f32", glyphs::F32), ("glyphs int8", glyphs::INT8)] {
        let compiled = compile(import(onnx, None, &options).expect("imports"), &options).expect("compiles");
        for i in 0..images.shape[0] {
            compare(own, name, &compiled.kgl, &[("image".to_string(), row(images, i))].into());
        }
    }
}

#[test]
fn the_exports() {
    let (Some(own), Some(paths)) = (own_kernels(), exports()) else { return };
    for path in paths.iter().filter(|path| !draws(path)) {
        let arrays = read_npz(&path.with_extension("npz"));
        let compiled = compile_for(path, &arrays).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        compare(own, &path.display().to_string(), &compiled.kgl, &arrays);
    }
}

#[test]
fn recurrences() {
    let Some(own) = own_kernels() else { return };
    let mut r = Random::new(14);
    for state in [1, 7, 8, 9, 16, 17, 41, 64, 256] {
        let e = Extents { batch: 2, time: 13, inner: 35, state };
        let memory = Recurrence::legendre_memory(&mut r, Extents { inner: 3, ..e }, true);
        let scans = [0, 7, 15].map(|with| Recurrence::selective_scan(&mut r, e, with));
        for (k, recurrence) in scans.into_iter().chain([memory]).enumerate() {
            let (graph, inputs) = recurrence.case().parts();
            let compiled = compile(graph, &Options::default()).expect("compiles");
            compare(own, &format!("recurrence {k} of state {state}"), &compiled.kgl, &inputs);
        }
    }
}
