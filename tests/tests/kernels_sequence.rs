//! Recurrences against the evaluator, and against themselves cut in two.

use kinglet::DType;
use kinglet::kernels::{MAX_ORDER, MAX_STATE, UnaryOp};
use kinglet_compiler::array::Array;
use kinglet_compiler::graph::{Graph, Node, Op, Quant, Tensor};
use kinglet_compiler::{Error, Options, compile, eval, import};
use kinglet_onnx::DataType;
use kinglet_tests::one_node::{LOOSE_TIE, Like, SUMS, cases};
use kinglet_tests::recurrences::{Extents, Operand, Recurrence, cut};
use kinglet_tests::small_onnx::{Builder, Value, floats, ints};
use kinglet_tests::{Random, difference, run};
use proptest::prelude::*;

fn config(n: u32) -> ProptestConfig {
    ProptestConfig { cases: cases(n), failure_persistence: None, ..ProptestConfig::default() }
}

/// Gives an operand integers of a random quantisation that covers `most`.
fn quantize(r: &mut Random, operand: &mut Operand, most: f64) {
    let dtype = r.pick(&[DType::I8, DType::U8, DType::I16, DType::U16]);
    let (lo, hi) = dtype.quantized_range().expect("a quantised type");
    let zero = lo + r.below((hi - lo) as usize + 1) as i32;
    let unit = most / f64::from((hi - zero).max(zero - lo));
    operand.value = r.wide(dtype, &operand.value.shape.clone());
    operand.quant = Some(Quant::per_tensor(unit as f32, zero));
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn selective_scans(seed: u64, with in 0..16usize, batch in 1..4usize, time in 1..41usize, inner in 1..71usize, state in 1..41usize) {
        let mut r = Random::new(seed);
        Recurrence::selective_scan(&mut r, Extents { batch, time, inner, state }, with).case().check(SUMS, LOOSE_TIE);
    }

    /// The states of today's models, some channels around the sixteen that are scanned together.
    #[test]
    fn selective_scans_of_usual_states(seed: u64, with in 0..16usize, inner in 14..20usize) {
        let mut r = Random::new(seed);
        let state = r.pick(&[8, 16, 64, 128, MAX_STATE]);
        let e = Extents { batch: 2, time: 9, inner, state };
        Recurrence::selective_scan(&mut r, e, with).case().check(SUMS, LOOSE_TIE);
    }

    /// What comes in as integers stands for reals, and so does y.
    #[test]
    fn quantised_selective_scans(seed: u64, with in 0..16usize, which in 1..32usize, out: bool) {
        let mut r = Random::new(seed);
        let e = Extents { batch: r.between(1, 2), time: r.between(1, 9), inner: r.between(1, 35), state: r.between(1, 18) };
        let mut scan = Recurrence::selective_scan(&mut r, e, with);
        // The bits of `which`: x, delta, B, C, z. A step below 0 would let the state grow.
        for (bit, (k, most)) in [(0, 1.0), (1, 1.0), (3, 1.0), (4, 1.0), (6, 4.0)].into_iter().enumerate() {
            if let Some(operand) = scan.operands[k].as_mut().filter(|_| which >> bit & 1 == 1) {
                quantize(&mut r, operand, most);
                if k == 1 && with >> 3 & 1 == 0 {
                    let lowest = operand.quant.as_mut().expect("just given");
                    lowest.zero_points = vec![operand.value.dtype.quantized_range().expect("quantised").0];
                    lowest.scales = vec![1.0 / if operand.value.dtype.size() == 1 { 255.0 } else { 65535.0 }];
                }
            }
        }
        if out {
            let dtype = r.pick(&[DType::I8, DType::U8]);
            let quant = r.quant(dtype, 0.02);
            scan.outputs[0] = Like::quantized(dtype, &scan.outputs[0].shape.clone(), quant);
        }
        let compiled = compile(scan.case().parts().0, &Options::default()).expect("compiles");
        let kinds: Vec<&str> = compiled.report.steps.iter().map(|s| s.kind.as_str()).collect();
        prop_assert_eq!(kinds, ["SelectiveScan"], "the kernel reads the integers itself");
        scan.case().check(SUMS, LOOSE_TIE);
    }

    #[test]
    fn legendre_memories(seed: u64, batch in 1..4usize, time in 1..41usize, channels in 1..5usize, order in 1..71usize, start: bool) {
        let mut r = Random::new(seed);
        let e = Extents { batch, time, inner: channels, state: order };
        Recurrence::legendre_memory(&mut r, e, start).case().check(SUMS, LOOSE_TIE);
    }

    #[test]
    fn legendre_memories_of_integers(seed: u64, channels in 1..5usize, order in 1..20usize, start: bool, quantised: bool) {
        let mut r = Random::new(seed);
        let e = Extents { batch: 2, time: 7, inner: channels, state: order };
        let mut memory = Recurrence::legendre_memory(&mut r, e, start);
        let u = memory.operands[0].as_mut().expect("u is there");
        if quantised {
            quantize(&mut r, u, 1.0);
        } else {
            let dtype = r.pick(&[DType::I32, DType::I64, DType::Bool]);
            u.value = r.array(dtype, &u.value.shape.clone());
        }
        memory.case().check(SUMS, LOOSE_TIE);
    }

    #[test]
    fn recurrent_layers(seed: u64, kind in 0..3usize, with in 0..256usize, batch in 1..5usize, time in 1..13usize, hidden in 1..41usize) {
        let mut r = Random::new(seed);
        let e = Extents { batch, time, inner: 1, state: hidden };
        Recurrence::layer(&mut r, e, kind, with).case().check(SUMS, LOOSE_TIE);
    }

    /// What comes in as integers stands for reals, and so does what comes out.
    #[test]
    fn quantised_recurrent_layers(seed: u64, kind in 0..3usize, with in 0..128usize, out: bool) {
        let mut r = Random::new(seed);
        let e = Extents { batch: r.between(1, 3), time: r.between(1, 9), inner: 1, state: r.between(1, 20) };
        let mut layer = Recurrence::layer(&mut r, e, kind, with);
        for k in [0, 3, 4] {
            let states = k < 4 || kind == 0;
            if let Some(operand) = layer.operands.get_mut(k).and_then(Option::as_mut).filter(|_| states) {
                quantize(&mut r, operand, if k == 0 { 2.0 } else { 1.0 });
            }
        }
        if out {
            let dtype = r.pick(&[DType::I8, DType::U8]);
            let quant = r.quant(dtype, 0.02);
            layer.outputs[0] = Like::quantized(dtype, &layer.outputs[0].shape.clone(), quant);
        }
        layer.case().check(SUMS, LOOSE_TIE);
    }

    /// Two runs, the second going on from the state of the first, give the bits of one.
    #[test]
    fn sequences_cut_in_two(seed: u64, memory: bool, with in 0..16usize, time in 2..41usize, first in 1..40usize) {
        let mut r = Random::new(seed);
        let e = Extents { batch: r.between(1, 3), time, inner: r.between(1, 40), state: r.between(1, 40) };
        let whole = if memory {
            Recurrence::legendre_memory(&mut r, Extents { inner: e.inner % 4 + 1, ..e }, with & 1 == 1)
        } else {
            Recurrence::selective_scan(&mut r, e, with)
        };
        let at = first.min(time - 1);
        let [frames, last] = whole.run();
        let [head, between] = whole.part(0, at, None).run();
        let [tail, end] = whole.part(at, time, Some(between)).run();
        assert_eq!(head.to_bytes(), cut(&frames, 0, at).to_bytes(), "the first {at} of {time} frames");
        assert_eq!(tail.to_bytes(), cut(&frames, at, time).to_bytes(), "the frames from {at} on");
        assert_eq!(end.to_bytes(), last.to_bytes(), "the last state");
    }
}

/// A memory over a whole sequence is a convolution where that takes fewer products, and gives what the recurrence gives.
#[test]
fn memories_of_whole_sequences_are_convolutions() {
    let mut r = Random::new(8);
    for (time, channels, order, start, keep_loops, kind) in [
        (40, 1, 48, false, false, "ConvF32"),
        (32, 1, 32, false, false, "ConvF32"),
        (31, 1, 48, false, false, "LegendreMemory"),
        (49, 1, 48, false, false, "LegendreMemory"),
        (40, 2, 48, false, false, "LegendreMemory"),
        (40, 1, 48, true, false, "LegendreMemory"),
        (40, 1, 48, false, true, "LegendreMemory"),
    ] {
        let e = Extents { batch: 2, time, inner: channels, state: order };
        let memory = Recurrence::legendre_memory(&mut r, e, start);
        let options = Options { keep_loops, ..Options::default() };
        // What leaves the model as it is may be gone on from, and stays.
        let (mut graph, inputs) = memory.case().parts();
        let kinds = |graph: &Graph| {
            let compiled = compile(graph.clone(), &options).expect("it compiles");
            let kinds: Vec<String> = compiled.report.steps.iter().map(|s| s.kind.clone()).collect();
            (compiled, kinds)
        };
        assert!(kinds(&graph).1.contains(&"LegendreMemory".into()));
        let (m, tensor) = (graph.outputs[0], graph.tensors[graph.outputs[0]].clone());
        let y = graph.add_tensor(Tensor { name: "squashed".into(), ..tensor });
        graph.nodes.push(Node::new(Op::unary(UnaryOp::Tanh), vec![Some(m)], y, Vec::new()));
        graph.outputs = vec![y];
        let (compiled, kinds) = kinds(&graph);
        assert!(kinds.iter().any(|k| k == kind), "{time} frames of order {order}: {kinds:?}");
        let values: Vec<Array> = graph.inputs.iter().map(|t| inputs[&graph.tensors[*t].name].clone()).collect();
        let want = eval::run(&graph, &values).expect("it evaluates");
        let (off, most) = difference(&run(&compiled.kgl, &inputs)[&graph.output_names[0]], &want[0]);
        assert!(off <= 1e-5 * most.max(1.0), "off by {off}");
    }
}

/// Frame by frame, as streams run: as many runs as there are frames.
#[test]
fn sequences_frame_by_frame() {
    let mut r = Random::new(11);
    let e = Extents { batch: 2, time: 12, inner: 19, state: 9 };
    for whole in [Recurrence::selective_scan(&mut r, e, 15), Recurrence::legendre_memory(&mut r, e, true)] {
        let [frames, last] = whole.run();
        let mut state = None;
        for t in 0..e.time {
            let [frame, next] = whole.part(t, t + 1, state).run();
            assert_eq!(frame.to_bytes(), cut(&frames, t, t + 1).to_bytes(), "frame {t}");
            state = Some(next);
        }
        assert_eq!(state.expect("there were frames").to_bytes(), last.to_bytes());
    }
}

/// Steps for which nothing fades, steps that let everything fade at once, and states that are not finite.
#[test]
fn selective_scans_at_the_edges() {
    let mut r = Random::new(5);
    let e = Extents { batch: 1, time: 6, inner: 3, state: 10 };
    let of = |scan: &Recurrence, k: usize, v: &[f64]| {
        let mut scan = scan.clone();
        let operand = scan.operands[k].as_mut().expect("is there");
        let n = operand.value.len();
        operand.value = Array::f32(&operand.value.shape.clone(), (0..n).map(|i| v[i % v.len()]).collect());
        scan
    };
    for with in [0, 7, 15] {
        let scan = Recurrence::selective_scan(&mut r, e, with);
        of(&scan, 1, &[0.0]).case().check(SUMS, LOOSE_TIE);
        // Only behind the softplus may a step be negative: the state would leave f32.
        let least = if with == 15 { -300.0 } else { 300.0 };
        of(&scan, 1, &[200.0, least, 1e4]).case().check(SUMS, LOOSE_TIE);
        of(&of(&scan, 1, &[0.5, 2.0]), 2, &[0.0, -1e3, -1e-3]).case().check(SUMS, LOOSE_TIE);
        of(&scan, 0, &[0.0, 1.0, f64::NAN, 2.0]).case().check(SUMS, LOOSE_TIE);
    }
    let scan = Recurrence::selective_scan(&mut r, e, 7);
    of(&scan, 7, &[f64::INFINITY, 0.0, f64::NAN]).case().check(SUMS, LOOSE_TIE);
}

/// The largest state and order are held; one more is refused with the number that is.
#[test]
fn too_large_states_are_refused() {
    let mut r = Random::new(6);
    let e = |state| Extents { batch: 1, time: 2, inner: 2, state };
    Recurrence::selective_scan(&mut r, e(MAX_STATE), 15).case().check(SUMS, LOOSE_TIE);
    Recurrence::legendre_memory(&mut r, e(MAX_ORDER), true).case().check(SUMS, LOOSE_TIE);
    let refused = |recurrence: Recurrence, most: usize| {
        let error = compile(recurrence.case().parts().0, &Options::default()).expect_err("it is too large");
        let Error::Unsupported(nodes) = &error else { panic!("{error}") };
        assert!(nodes[0].reason.contains(&most.to_string()), "{error}");
    };
    refused(Recurrence::selective_scan(&mut r, e(MAX_STATE + 1), 0), MAX_STATE);
    refused(Recurrence::legendre_memory(&mut r, e(MAX_ORDER + 1), false), MAX_ORDER);
}

/// What the formulas say, computed here without the evaluator.
#[test]
fn small_recurrences_by_hand() {
    let e = Extents { batch: 1, time: 1, inner: 1, state: 2 };
    let mut scan = Recurrence::selective_scan(&mut Random::new(1), e, 15);
    let values = [&[0.5][..], &[0.0], &[-1.0, -2.0], &[2.0, 3.0], &[1.0, -1.0], &[10.0], &[0.0], &[4.0, 8.0]];
    for (operand, v) in scan.operands.iter_mut().zip(values) {
        let operand = operand.as_mut().expect("all are there");
        operand.value = Array::f32(&operand.value.shape.clone(), v.to_vec());
    }
    let step = 2f64.ln();
    let h = [(-step).exp() * 4.0 + step * 0.5 * 2.0, (-2.0 * step).exp() * 8.0 + step * 0.5 * 3.0];
    let [y, last] = scan.run();
    // SiLU(0) is 0.
    assert_eq!(y.reals()[0], 0.0);
    for (got, want) in last.reals().iter().zip(h) {
        assert!((got - want).abs() < 1e-6, "{got} instead of {want}");
    }
    scan.operands[6] = None;
    let [y, _] = scan.run();
    assert!((y.reals()[0] - (h[0] - h[1] + 5.0)).abs() < 1e-6, "{:?}", y.reals());

    let mut memory = Recurrence::legendre_memory(&mut Random::new(1), Extents { time: 2, ..e }, true);
    let values = [&[1.0, -1.0][..], &[0.5, 1.0, 0.0, 2.0], &[1.0, 3.0], &[2.0, 1.0]];
    for (operand, v) in memory.operands.iter_mut().zip(values) {
        let operand = operand.as_mut().expect("all are there");
        operand.value = Array::f32(&operand.value.shape.clone(), v.to_vec());
    }
    let [frames, last] = memory.run();
    assert_eq!(&frames.reals()[..], [3.0, 5.0, 5.5, 7.0]);
    assert_eq!(&last.reals()[..], [5.5, 7.0]);
}

/// What a layer's node says that cannot be computed, or that contradicts itself, is refused by name.
#[test]
fn layers_out_of_order_are_refused() {
    let one = |inputs: &str, attributes: &[(&str, Value<'_>)]| {
        let mut b = Builder::default();
        b.input("x", DataType::Float, &[4, 2, 3]).constant(floats("w", &[1, 20, 3])).constant(floats("r", &[1, 20, 5]));
        b.constant(floats("square", &[1, 20, 4])).constant(ints("n", DataType::Int32, &[2], &[4, 5]));
        let model = b.node("LSTM", inputs, "y", attributes).outputs("y").build();
        import(&model.to_bytes(), None, &Options::default()).map(|_| ()).map_err(|e| e.to_string())
    };
    assert_eq!(one("x w r", &[("activations", Value::Ss(&["sigmoid", "TANH", "Elu"]))]), Ok(()));
    let functions = |of: &'static [&str]| ("activations", Value::Ss(of));
    let refused = [
        ("x w square", vec![], "W has the shape [1, 20, 3]"),
        ("x w r _ n", vec![], "a sequence of 5 frames"),
        ("x w r r", vec![], "B has the shape"),
        ("x w r", vec![("hidden_size", Value::I(4))], "hidden_size is 4"),
        ("x w r", vec![("direction", Value::S("backwards"))], "direction `backwards`"),
        ("x w r", vec![("direction", Value::S("bidirectional"))], "W has the shape"),
        ("x w r", vec![("clip", Value::F(0.0))], "clip is 0"),
        ("x w r", vec![("activation_alpha", Value::Fs(&[0.1]))], "more parameters of activations"),
        ("x w r", vec![functions(&["Tanh", "Tanh"])], "2 activations, where there are 3"),
        ("x w r", vec![functions(&["Tanh", "Tanh", "Cosh"])], "the activation `Cosh`"),
        ("x w r", vec![functions(&["Sigmoid", "Tanh", "ScaledTanh"])], "no kernel for the activation ScaledTanh"),
    ];
    for (inputs, attributes, text) in refused {
        let error = one(inputs, &attributes).expect_err(text);
        assert!(error.contains(text), "{error} instead of {text}");
    }
}
