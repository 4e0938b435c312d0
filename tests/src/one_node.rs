//! Graphs of one node (or a short chain), compiled and run, against the evaluator of the graph as it was before.
//!
//! The evaluator computes in f64, a kernel in f32 and integers, so the comparison has to allow for the difference, and
//! for nothing else: reals may differ by a [`Bound`], integers only where the unrounded value lies next to a tie.

use std::collections::BTreeMap;

use kinglet::{DType, Inline, Model, Quiet, StepKind, Target};
use kinglet_compiler::array::Array;
use kinglet_compiler::check::Recorder;
use kinglet_compiler::graph::{Graph, Node, Op, Quant, Tensor, TensorId};
use kinglet_compiler::{Compiled, Options, compile, eval};

use crate::{Aligned, Random, run, run_on, run_with};

/// Kinds of steps that kernel sets may sum in another way than the reference.
pub const SUMMING: [StepKind; 7] = [
    StepKind::ConvF32,
    StepKind::ConvF16,
    StepKind::ConvW8,
    StepKind::DepthwiseF32,
    StepKind::DepthwiseF16,
    StepKind::DepthwiseW8,
    StepKind::MatMulF32,
];

/// How close to a tie a value must lie, in steps of its scale, to be allowed to round either way: a few rounding errors
/// of f32 (6·10⁻⁸ each) at 255 steps.
pub const TIE: f64 = 1e-4;

/// [`TIE`] for results whose f32 computation adds up many terms or takes a function with an error of its own.
pub const LOOSE_TIE: f64 = 2e-3;

/// How far a real may lie from the evaluator's.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    /// This part of the largest magnitude in the tensor, or of 1: for sums of terms of magnitude about 1, whose rounding
    /// error is that of the terms also where they cancel. 10⁻⁵ is 170 units in the last place, more than the sums of a
    /// few hundred terms in these tests lose and far less than one term left out.
    OfLargest(f64),
    /// This part of the element itself plus an absolute part: for functions of single elements.
    OfEach {
        /// Part of the element.
        relative: f64,
        /// The absolute part.
        absolute: f64,
    },
}

/// The bound of sums.
pub const SUMS: Bound = Bound::OfLargest(1e-5);
/// The bound of functions of single elements: 10⁻⁵ is the precision of the polynomials with a margin.
pub const ELEMENTS: Bound = Bound::OfEach { relative: 1e-5, absolute: 1e-5 };

/// Parts of the way between two values that a function is evaluated at.
const BETWEEN: usize = 16;

/// What a tensor is, apart from its values.
#[derive(Clone, Debug)]
pub struct Like {
    /// Element type.
    pub dtype: DType,
    /// Dimensions.
    pub shape: Vec<usize>,
    /// Quantisation.
    pub quant: Option<Quant>,
}

impl Like {
    /// Reals.
    pub fn f32(shape: &[usize]) -> Self {
        Like::int(DType::F32, shape)
    }

    /// Elements that stand for themselves.
    pub fn int(dtype: DType, shape: &[usize]) -> Self {
        Like { dtype, shape: shape.to_vec(), quant: None }
    }

    /// Quantised elements.
    pub fn quantized(dtype: DType, shape: &[usize], quant: Quant) -> Self {
        Like { dtype, shape: shape.to_vec(), quant: Some(quant) }
    }
}

/// A graph under construction with the values of its inputs.
#[derive(Default)]
pub struct Case {
    graph: Graph,
    values: Vec<Array>,
}

impl Case {
    /// An empty graph.
    pub fn new() -> Self {
        Case::default()
    }

    /// Adds an input with its value.
    pub fn input(&mut self, value: Array, quant: Option<Quant>) -> TensorId {
        self.named_input(&format!("x{}", self.values.len()), value, quant)
    }

    /// Adds an input of this name with its value.
    pub fn named_input(&mut self, name: &str, value: Array, quant: Option<Quant>) -> TensorId {
        let (dtype, shape) = (value.dtype, value.shape.clone());
        let t = self.graph.add_tensor(Tensor { name: name.into(), dtype, shape, quant, value: None });
        self.graph.inputs.push(t);
        self.values.push(value);
        t
    }

    /// Adds a constant.
    pub fn constant(&mut self, value: Array, quant: Option<Quant>) -> TensorId {
        let t = self.graph.add_constant(format!("c{}", self.graph.tensors.len()), value);
        self.graph.tensors[t].quant = quant;
        t
    }

    /// Adds an input or a constant.
    pub fn operand(&mut self, constant: bool, value: Array, quant: Option<Quant>) -> TensorId {
        if constant { self.constant(value, quant) } else { self.input(value, quant) }
    }

    /// Adds a node with all its inputs.
    pub fn node(&mut self, op: Op, inputs: &[TensorId], output: Like) -> TensorId {
        self.node_with(op, inputs.iter().map(|&t| Some(t)).collect(), output)
    }

    /// Adds a node, some of whose inputs may be absent.
    pub fn node_with(&mut self, op: Op, inputs: Vec<Option<TensorId>>, output: Like) -> TensorId {
        self.nodes(op, inputs, vec![output])[0]
    }

    /// Adds a node with several outputs.
    pub fn nodes(&mut self, op: Op, inputs: Vec<Option<TensorId>>, outputs: Vec<Like>) -> Vec<TensorId> {
        let mut add = |Like { dtype, shape, quant }: Like| {
            let name = format!("t{}", self.graph.tensors.len());
            self.graph.add_tensor(Tensor { name, dtype, shape, quant, value: None })
        };
        let outputs: Vec<TensorId> = outputs.into_iter().map(&mut add).collect();
        let source = vec![self.graph.tensors[outputs[0]].name.clone()];
        self.graph.nodes.push(Node { more: outputs[1..].to_vec(), ..Node::new(op, inputs, outputs[0], source) });
        outputs
    }

    /// Adds `DequantizeLinear`.
    pub fn dequantize(&mut self, t: TensorId) -> TensorId {
        let shape = self.graph.tensors[t].shape.clone();
        self.node(Op::Dequantize, &[t], Like::f32(&shape))
    }

    /// Adds `QuantizeLinear`.
    pub fn quantize(&mut self, t: TensorId, dtype: DType, quant: Quant) -> TensorId {
        let shape = self.graph.tensors[t].shape.clone();
        self.node(Op::Quantize, &[t], Like::quantized(dtype, &shape, quant))
    }

    /// Makes a tensor an output of the model.
    pub fn output(&mut self, t: TensorId) {
        self.graph.output_names.push(format!("y{}", self.graph.outputs.len()));
        self.graph.outputs.push(t);
    }

    /// The graph as built, and the values of its inputs by name.
    pub fn parts(&self) -> (Graph, BTreeMap<String, Array>) {
        let named = |(&t, v): (&TensorId, &Array)| (self.graph.tensors[t].name.clone(), v.clone());
        (self.graph.clone(), self.graph.inputs.iter().zip(&self.values).map(named).collect())
    }

    /// Compiles and runs the graph and compares every output with the evaluator's, and every step as `kinglet verify` does.
    ///
    /// # Panics
    /// If they differ by more than `bound` or, in steps of a scale, `tie` allows; or if the graph does not compile.
    pub fn check(&self, bound: Bound, tie: f64) {
        self.check_with(bound, tie, &Options::default());
    }

    /// As [`Case::check`], compiled with options.
    ///
    /// # Panics
    /// As [`Case::check`].
    pub fn check_with(&self, bound: Bound, tie: f64, options: &Options) {
        let (graph, inputs) = self.parts();
        let compiled = compile(graph, options).unwrap_or_else(|e| panic!("{e}\nof {:#?}", self.describe()));
        let kgl = Aligned::copy(&compiled.kgl);
        let model = Model::load(kgl.as_ref()).expect("the compiler writes valid files");
        let mut recorder = Recorder::new(&compiled, model);
        let outputs = run_with(&compiled.kgl, &inputs, &Inline, &mut recorder);
        if let Err(e) = recorder.check(&self.graph, &self.values) {
            panic!("{e}\nof {:#?}", self.describe());
        }
        let allowed = self.allowed(tie);
        let check = |what: &str, compiled: &Compiled, outputs: &BTreeMap<String, Array>| {
            self.compare(what, compiled, outputs, &allowed, bound);
        };
        check("generic", &compiled, &outputs);
        // Every other target's plan, by the reference and by every set of kernels that this machine has.
        for target in Target::ALL {
            let other = Options { target, ..options.clone() };
            let compiled = compile(self.parts().0, &other).unwrap_or_else(|e| panic!("{e}\nof {:#?}", self.describe()));
            let want = run(&compiled.kgl, &inputs);
            check(&format!("{} on the reference", target.name()), &compiled, &want);
            // Integers are the same bits everywhere; so are floats that no product of floats is behind.
            let same = !sums_floats(&compiled);
            let model = Aligned::copy(&compiled.kgl);
            let model = Model::load(model.as_ref()).expect("the compiler writes valid files");
            for (name, kernels) in kinglet_native::kernel_sets() {
                assert!(
                    kinglet::runs_on(&model, *kernels).is_ok(),
                    "{name} does not take a plan for {}",
                    target.name()
                );
                let got = run_on(*kernels, &compiled.kgl, &inputs, &Inline, &mut Quiet);
                let what = format!("{} on {name}", target.name());
                if same {
                    let alike = want.iter().all(|(name, want)| alike(&got[name], want));
                    assert!(alike, "{what}: other bits than the reference\nof {:#?}", self.describe());
                } else {
                    check(&what, &compiled, &got);
                }
            }
        }
    }

    /// Compares outputs with what each may be.
    fn compare(
        &self,
        what: &str,
        compiled: &Compiled,
        outputs: &BTreeMap<String, Array>,
        allowed: &[[Array; 2]],
        bound: Bound,
    ) {
        for (name, &t) in self.graph.output_names.iter().zip(&self.graph.outputs) {
            let (got, [lo, hi]) = (&outputs[name], &allowed[t]);
            assert_eq!((got.dtype, &got.shape), (lo.dtype, &lo.shape), "type and shape of `{name}`");
            let problem = if got.dtype == DType::F32 {
                first_real_outside(&got.reals(), &lo.reals(), &hi.reals(), bound)
            } else {
                first_integer_outside(&got.ints(), &lo.ints(), &hi.ints())
            };
            if let Some(problem) = problem {
                let became: Vec<_> = compiled.graph.nodes.iter().map(|n| &n.op).collect();
                panic!("{what}: `{name}` {problem}\nof {:#?}\nwhich became {became:#?}", self.describe());
            }
        }
    }

    /// The nodes, each with what its tensors are.
    fn describe(&self) -> Vec<String> {
        let tensor = |t: &TensorId| {
            let t = &self.graph.tensors[*t];
            let constant = if t.value.is_some() { " constant" } else { "" };
            format!("{} {:?}{:?}{constant} {:?}", t.name, t.dtype, t.shape, t.quant)
        };
        let node = |n: &Node| {
            let inputs: Vec<String> = n.inputs.iter().map(|t| t.as_ref().map_or("none".into(), tensor)).collect();
            format!("{} = {:?} of {inputs:?}", tensor(&n.output), n.op)
        };
        self.graph.nodes.iter().map(node).collect()
    }

    /// For every tensor the two values that each element may have: they differ only next to a tie. What follows a tensor
    /// with ties is elementwise in these graphs, so that it may be evaluated for all lower and for all upper values.
    fn allowed(&self, tie: f64) -> Vec<[Array; 2]> {
        let graph = &self.graph;
        let nothing = || Array::f32(&[0], vec![]);
        let mut values: Vec<[Array; 2]> = graph
            .tensors
            .iter()
            .map(|t| t.value.as_deref().cloned().unwrap_or_else(nothing))
            .map(|v| [v.clone(), v])
            .collect();
        for (&t, v) in graph.inputs.iter().zip(&self.values) {
            values[t] = [v.clone(), v.clone()];
        }
        for node in &graph.nodes {
            let side = |k: usize| {
                let operands: Vec<Option<&Array>> = node.inputs.iter().map(|t| t.map(|t| &values[t][k])).collect();
                evaluate(graph, node, &operands, tie)
            };
            let [a, b] = side(0);
            let exact = node.inputs.iter().flatten().all(|&t| same(&values[t]));
            assert!(exact || node.more.is_empty(), "a node with several outputs behind a tensor with ties");
            let operands: Vec<Option<&Array>> = node.inputs.iter().map(|t| t.map(|t| &values[t][0])).collect();
            let more = if node.more.is_empty() { vec![] } else { eval::outputs(graph, node, &operands).split_off(1) };
            values[node.output] = if exact { [a, b] } else { join([a, b], side(1)) };
            // Two ties, one behind the other, lie several steps apart: a function that falls and rises has other values between.
            let between = node.inputs[..].iter().flatten().map(|&t| &values[t]).next().cloned();
            if let (Op::Unary { .. }, Some([lo, hi]), false) =
                (&node.op, between.filter(|v| v[0].dtype == DType::F32), exact)
            {
                for k in 1..BETWEEN {
                    let part = k as f64 / BETWEEN as f64;
                    let at = lo
                        .reals()
                        .iter()
                        .zip(hi.reals().iter())
                        .map(|(lo, hi)| if lo == hi { *lo } else { lo + (hi - lo) * part })
                        .collect();
                    let inside = evaluate(graph, node, &[Some(&Array::f32(&lo.shape, at))], tie);
                    let known = std::mem::replace(&mut values[node.output], [nothing(), nothing()]);
                    values[node.output] = join(known, inside);
                }
            }
            for (&t, value) in node.more.iter().zip(more) {
                values[t] = [value.clone(), value];
            }
        }
        values
    }
}

/// The lower and upper of what each element of a node's output may be.
fn evaluate(graph: &Graph, node: &Node, operands: &[Option<&Array>], tie: f64) -> [Array; 2] {
    let output = &graph.tensors[node.output];
    let Some(quant) = &output.quant else {
        let v = eval::node(graph, node, operands);
        return [v.clone(), v];
    };
    let steps = if matches!(node.op, Op::Quantize) {
        eval::quantize_unrounded(operands[0].expect("has an input"), quant)
    } else {
        let mut plain = graph.clone();
        plain.tensors[node.output].quant = None;
        plain.tensors[node.output].dtype = DType::F32;
        eval::quantize_unrounded(&eval::node(&plain, node, operands), quant)
    };
    let rounded: Vec<(i64, i64)> = steps.reals().iter().map(|&v| roundings(v, output.dtype, tie)).collect();
    [
        Array::int(output.dtype, &output.shape, rounded.iter().map(|r| r.0).collect()),
        Array::int(output.dtype, &output.shape, rounded.iter().map(|r| r.1).collect()),
    ]
}

/// The lowest and highest integer that a real, in steps of its scale, may round to.
pub fn roundings(steps: f64, dtype: DType, tie: f64) -> (i64, i64) {
    let (lo, hi) = dtype.quantized_range().expect("quantised");
    // Sixteen bits leave f32 eight bits of fraction, of which a few operations lose two.
    let near = if dtype.size() == 1 { tie } else { tie.max(2f64.powi(-6)) };
    // `max` takes NaN to the lower bound.
    let round = |v: f64| v.max(lo.into()).min(hi.into()).round_ties_even() as i64;
    (round(steps - near), round(steps + near))
}

/// Whether two results are the same bits, but for what no contract says: the sign of zero and what a NaN carries.
pub fn alike(a: &Array, b: &Array) -> bool {
    if a.dtype != DType::F32 {
        return a == b;
    }
    let (a, b) = (a.reals(), b.reals());
    a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| a == b || (a.is_nan() && b.is_nan()))
}

/// Whether sets of kernels may differ in the last bits of a plan's floats: where these are multiplied with constant weights.
pub fn sums_floats(compiled: &Compiled) -> bool {
    compiled.report.float_steps.iter().any(|s| SUMMING.iter().any(|k| k.name() == s.kind))
}

/// Whether the two are the same, NaN being the same as itself.
fn same([a, b]: &[Array; 2]) -> bool {
    a == b || (a.dtype == DType::F32 && a.reals().iter().zip(b.reals().iter()).all(|(a, b)| a.to_bits() == b.to_bits()))
}

fn join(a: [Array; 2], b: [Array; 2]) -> [Array; 2] {
    let pick = |x: &Array, y: &Array, f: fn(f64, f64) -> f64, g: fn(i64, i64) -> i64| {
        if x.dtype == DType::F32 {
            Array::f32(&x.shape, x.reals().iter().zip(y.reals().iter()).map(|(&x, &y)| f(x, y)).collect())
        } else {
            Array::int(x.dtype, &x.shape, x.ints().iter().zip(y.ints().iter()).map(|(&x, &y)| g(x, y)).collect())
        }
    };
    [pick(&a[0], &b[0], f64::min, Ord::min), pick(&a[1], &b[1], f64::max, Ord::max)]
}

fn first_integer_outside(got: &[i64], lo: &[i64], hi: &[i64]) -> Option<String> {
    let i = (0..got.len()).find(|&i| !(lo[i]..=hi[i]).contains(&got[i]))?;
    Some(format!("element {i}: got {}, allowed {} to {}", got[i], lo[i], hi[i]))
}

fn first_real_outside(got: &[f64], lo: &[f64], hi: &[f64], bound: Bound) -> Option<String> {
    let finite = |v: f64| if v.is_finite() { v.abs() } else { 0.0 };
    let largest = lo.iter().chain(hi).fold(1.0, |m: f64, &v| m.max(finite(v)));
    let fits = |got: f64, want: f64, sign: f64| {
        let slack = match bound {
            Bound::OfLargest(part) => part * largest,
            Bound::OfEach { relative, absolute } => relative * finite(want) + absolute,
        };
        // What is beyond f32 is infinite there, and what is nearly beyond may be.
        let most = f64::from(f32::MAX);
        let overflows = want.abs() >= most * (1.0 - 1e-5) && got.abs() >= most * (1.0 - 1e-5) && got * want > 0.0;
        overflows || got == want || (got - want) * sign <= slack
    };
    let i = (0..got.len()).find(|&i| {
        let nan = lo[i].is_nan() || hi[i].is_nan();
        if nan { !got[i].is_nan() } else { !fits(got[i], lo[i], -1.0) || !fits(got[i], hi[i], 1.0) }
    })?;
    Some(format!("element {i}: got {:e}, wanted {:e} to {:e}, by {bound:?}", got[i], lo[i], hi[i]))
}

/// Number of cases of a property: `PROPTEST_CASES` if it is set, else `usual`.
pub fn cases(usual: u32) -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

impl Random {
    /// One of several.
    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    /// A number in `lo..=hi`.
    pub fn between(&mut self, lo: usize, hi: usize) -> usize {
        lo + self.below(hi - lo + 1)
    }

    /// True once in `n`.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// A scale in `unit` to `4·unit`.
    pub fn scale(&mut self, unit: f64) -> f32 {
        (unit * (1.0 + 3.0 * self.below(1 << 20) as f64 / f64::from(1 << 20))) as f32
    }

    /// A zero point, often one at the ends of the type.
    pub fn zero_point(&mut self, dtype: DType) -> i32 {
        let (lo, hi) = dtype.quantized_range().expect("a quantised type");
        let any = lo + self.below((hi - lo) as usize + 1) as i32;
        self.pick(&[lo, hi, (lo + hi + 1) / 2, 0, any])
    }

    /// A quantisation with one scale in `unit` to `4·unit`.
    pub fn quant(&mut self, dtype: DType, unit: f64) -> Quant {
        Quant::per_tensor(self.scale(unit), self.zero_point(dtype))
    }

    /// Integers over the whole range of any type, often from its ends; reals as [`Random::array`] has them.
    pub fn wide(&mut self, dtype: DType, shape: &[usize]) -> Array {
        let bits = dtype.size() * 8;
        if matches!(dtype, DType::F32 | DType::Bool) {
            return self.array(dtype, shape);
        }
        let (lo, hi) = match dtype {
            DType::U8 | DType::U16 => (0i128, (1i128 << bits) - 1),
            _ => (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1),
        };
        let span = (hi - lo) as u128 + 1;
        let n = shape.iter().product();
        let one = |r: &mut Random| {
            let any = (u128::from(r.below(usize::MAX) as u64) << 32 | r.below(1 << 32) as u128) % span;
            let small = (r.below(9) as i128 - 4).clamp(lo, hi);
            r.pick(&[lo, hi, lo + any as i128, lo + any as i128, small]) as i64
        };
        Array::int(dtype, shape, (0..n).map(|_| one(self)).collect())
    }

    /// A shape of a rank in `ranks` and extents up to `most`, often 1.
    pub fn shape(&mut self, ranks: std::ops::RangeInclusive<usize>, most: usize) -> Vec<usize> {
        let rank = self.between(*ranks.start(), *ranks.end());
        (0..rank).map(|_| if self.once_in(4) { 1 } else { self.between(1, most) }).collect()
    }

    /// A shape that broadcasts to `shape`: some axes 1, leading ones perhaps missing.
    pub fn broadcasting_to(&mut self, shape: &[usize]) -> Vec<usize> {
        let first = if self.once_in(2) { 0 } else { self.between(0, shape.len()) };
        shape[first..].iter().map(|&n| if self.once_in(3) { 1 } else { n }).collect()
    }
}
