//! Times of single steps, with the best kernels of this CPU and with the reference: `cargo bench -p kinglet-tests`.

// The macro at the end declares a function without documentation.
#![allow(missing_docs)]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kinglet::{DType, Kernels, Reference};
use kinglet_compiler::graph::{Graph, Layout, Node, NormKind, Op, Post, Quant, Tensor, TensorId, UnaryOp, Window};
use kinglet_compiler::{Options, compile};
use kinglet_native::{ModelFile, OwnedSession, best_kernels};
use kinglet_tests::Random;

/// A graph of one node over a computed input, with constant other operands.
struct Bench {
    graph: Graph,
    random: Random,
}

impl Bench {
    fn new(dtype: DType, shape: &[usize]) -> Self {
        let mut bench = Bench { graph: Graph::default(), random: Random::new(7) };
        let x = bench.tensor(dtype, shape, 0.02);
        bench.graph.inputs.push(x);
        bench
    }

    fn tensor(&mut self, dtype: DType, shape: &[usize], scale: f32) -> TensorId {
        let quant = dtype.quantized_range().map(|_| Quant::per_tensor(scale, 0));
        self.graph.add_tensor(Tensor {
            name: format!("t{}", self.graph.tensors.len()),
            dtype,
            shape: shape.to_vec(),
            quant,
            value: None,
        })
    }

    fn constant(&mut self, dtype: DType, shape: &[usize]) -> TensorId {
        let t = self.tensor(dtype, shape, 0.01);
        self.graph.tensors[t].value = Some(Arc::new(self.random.array(dtype, shape)));
        t
    }

    fn finish(mut self, op: Op, others: &[TensorId], dtype: DType, shape: &[usize]) -> Vec<u8> {
        let output = self.tensor(dtype, shape, 0.1);
        let x = self.graph.inputs[0];
        let inputs = [x].iter().chain(others).map(|&t| Some(t)).collect();
        self.graph.nodes.push(Node::new(op, inputs, output, vec!["bench".into()]));
        self.graph.outputs.push(output);
        self.graph.output_names.push("y".into());
        compile(self.graph, &Options::default()).expect("compiles").kgl
    }
}

fn window(kernel: usize, stride: usize) -> Window {
    let pad = (kernel / 2) as i64;
    let two = |v: usize| vec![v; 2];
    Window {
        kernel: two(kernel),
        strides: two(stride),
        dilations: two(1),
        pads_begin: vec![pad; 2],
        pads_end: vec![pad; 2],
    }
}

fn conv(dtype: DType, size: usize, channels: usize, kernel: usize, groups: usize) -> Vec<u8> {
    let mut b = Bench::new(dtype, &[1, size, size, channels]);
    let w = b.constant(dtype, &[channels, channels / groups, kernel, kernel]);
    let op = Op::Conv { window: window(kernel, 1), groups, layout: Layout::ChannelsLast, post: Post::default() };
    b.finish(op, &[w], dtype, &[1, size, size, channels])
}

fn all(c: &mut Criterion) {
    let plain = |op| Op::Unary { op, alpha: 0.0, beta: 0.0 };
    let map = [1, 32, 32, 64];
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("conv 1x1 i8, 16x16x64", conv(DType::I8, 16, 64, 1, 1)),
        ("conv 3x3 i8, 16x16x64", conv(DType::I8, 16, 64, 3, 1)),
        ("conv 3x3 f32, 16x16x64", conv(DType::F32, 16, 64, 3, 1)),
        ("depthwise 3x3 i8, 16x16x64", conv(DType::I8, 16, 64, 3, 64)),
        ("depthwise 7x7 f32, 16x16x64", conv(DType::F32, 16, 64, 7, 64)),
        ("gelu f32, 32x32x64", Bench::new(DType::F32, &map).finish(plain(UnaryOp::Gelu), &[], DType::F32, &map)),
        (
            "sigmoid i8 by table, 32x32x64",
            Bench::new(DType::I8, &map).finish(plain(UnaryOp::Sigmoid), &[], DType::I8, &map),
        ),
        ("layer norm f32, 256x256", {
            let op = Op::Norm { kind: NormKind::Layer, axes: vec![1], epsilon: 1e-5 };
            Bench::new(DType::F32, &[256, 256]).finish(op, &[], DType::F32, &[256, 256])
        }),
        ("softmax i8, 256x256", {
            let op = Op::Softmax { axis: 1, log: false };
            Bench::new(DType::I8, &[256, 256]).finish(op, &[], DType::I8, &[256, 256])
        }),
        ("matmul f32, 128x128x128", {
            let mut b = Bench::new(DType::F32, &[128, 128]);
            let other = b.tensor(DType::F32, &[128, 128], 1.0);
            b.graph.inputs.push(other);
            let op = Op::MatMul { transpose_a: false, transpose_b: false, post: Post::default() };
            b.finish(op, &[other], DType::F32, &[128, 128])
        }),
    ];
    for (name, kgl) in &cases {
        let file = Arc::new(ModelFile::from_bytes(kgl).expect("valid"));
        let macs: u64 = (0..file.model().step_count()).map(|i| file.model().step(i).macs()).sum();
        let mut group = c.benchmark_group(*name);
        if macs > 0 {
            group.throughput(Throughput::Elements(macs));
        }
        let sets: [(&str, &'static dyn Kernels); 2] = [("best", best_kernels()), ("reference", &Reference)];
        for (set, kernels) in sets {
            let mut session = OwnedSession::with_kernels(file.clone(), 1, kernels).expect("memory");
            for i in 0..file.model().input_count() {
                // Small numbers of either type: nothing saturates and nothing is denormal.
                let bytes = session.input_bytes_mut(i).expect("exists");
                let float = file.model().tensor(file.model().input_tensor(i).expect("exists")).dtype() == DType::F32;
                for (k, b) in bytes.iter_mut().enumerate() {
                    *b = if float { 0.5f32.to_le_bytes()[k % 4] } else { (k % 100) as u8 };
                }
            }
            group.bench_function(set, |b| b.iter(|| black_box(&mut session).run().is_ok()));
        }
        group.finish();
    }
}

criterion_group! {
    name = kernels;
    config = Criterion::default().sample_size(20).measurement_time(std::time::Duration::from_secs(1)).warm_up_time(std::time::Duration::from_millis(300));
    targets = all
}
criterion_main!(kernels);
