//! `Session::run` allocates nothing. A test binary of its own, because it counts the allocations of its whole process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use kinglet::kernels::{BinaryOp, NormKind, ReduceOp};
use kinglet::{DType, Model, Reference, Session};
use kinglet_compiler::graph::{self, Op, Post, UnaryOp, Window};
use kinglet_compiler::{Options, compile};
use kinglet_tests::one_node::{Case, Like};
use kinglet_tests::{Aligned, Random, compile_for, read_npz, shared};

/// Counts what the thread allocates.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    // A thread that ends has no counter any more, and nothing to count.
    let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count();
        // SAFETY: `at` came from `System` with this layout.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, new: usize) -> *mut u8 {
        count();
        // SAFETY: `at` came from `System` with this layout.
        unsafe { System.realloc(at, layout, new) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations and releases of loading nothing: of two runs and the reading of outputs.
fn allocations_of_runs(kgl: &[u8]) -> usize {
    let file = Aligned::copy(kgl);
    let model = Model::load(file.as_ref()).expect("valid");
    let mut arena = Aligned::zeroed(model.arena_bytes());
    let before = ALLOCATIONS.get();
    let mut session = Session::new(model, arena.as_mut(), &Reference).expect("large enough");
    for _ in 0..2 {
        for i in 0..model.input_count() {
            session.input_bytes_mut(i).expect("exists").fill(1);
        }
        session.run().expect("the data is plain");
    }
    for i in 0..model.output_count() {
        assert!(!session.output_bytes(i).expect("exists").is_empty());
    }
    ALLOCATIONS.get() - before
}

#[test]
fn the_counter_counts() {
    let before = ALLOCATIONS.get();
    drop(std::hint::black_box(vec![1u8; 100]));
    assert_eq!(ALLOCATIONS.get() - before, 2);
}

#[test]
fn a_run_of_a_small_network() {
    let mut r = Random::new(1);
    let mut c = Case::new();
    let x = c.input(r.array(DType::F32, &[1, 3, 9, 9]), None);
    let w = c.constant(r.array(DType::F32, &[8, 3, 3, 3]), None);
    let window = Window {
        kernel: vec![3, 3],
        strides: vec![1, 1],
        dilations: vec![1, 1],
        pads_begin: vec![1, 1],
        pads_end: vec![1, 1],
    };
    let layout = graph::Layout::ChannelsFirst;
    let shape = Like::f32(&[1, 8, 9, 9]);
    let y = c.node(Op::Conv { window, groups: 1, layout, post: Post::default() }, &[x, w], shape.clone());
    let y = c.node(Op::unary(UnaryOp::Gelu), &[y], shape.clone());
    let z = c.node(Op::Norm { kind: NormKind::Layer, axes: vec![1], epsilon: 1e-5 }, &[y], shape.clone());
    let y = c.node(Op::Binary(BinaryOp::Add), &[y, z], shape.clone());
    let y = c.node(Op::Softmax { axis: 1, log: false }, &[y], shape);
    let y = c.node(Op::Reduce { op: ReduceOp::Mean, axes: vec![2, 3], keep: false }, &[y], Like::f32(&[1, 8]));
    c.output(y);
    let compiled = compile(c.parts().0, &Options::default()).expect("compiles");
    assert_eq!(allocations_of_runs(&compiled.kgl), 0);
}

#[test]
fn runs_of_exported_models() {
    let Some(shared) = shared() else { return };
    for name in
        ["caformer_int8", "dwformer_uint8", "mpgnet_t", "lmuformer_causal_int8", "vanillanet_8", "netmamba_unrolled"]
    {
        let path = shared.join("exports").join(format!("{name}.onnx"));
        let file = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let arrays = read_npz(&path.with_extension("npz"));
        let infos = kinglet_compiler::shape_of_inputs(&file).expect("valid");
        let inputs = infos.iter().map(|i| (i.name.clone(), arrays[&i.name].clone())).collect();
        let compiled = compile_for(&path, &inputs).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(allocations_of_runs(&compiled.kgl), 0, "{name}");
    }
}
