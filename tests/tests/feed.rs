//! Plans whose inputs come and whose outputs go row by row.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use kinglet::kernels::{BinaryOp, ReduceOp};
use kinglet::{DType, Feed, Inline, Model, Quiet, Reference, Session};
use kinglet_compiler::array::Array;
use kinglet_compiler::graph::Op;
use kinglet_compiler::{Banding, Compiled, Error, Options, compile, import};
use kinglet_native::{ModelFile, OwnedSession};
use kinglet_tests::one_node::{Case, Like};
use kinglet_tests::small_onnx::picture;
use kinglet_tests::{Aligned, Random, run};

const INPUT: &str = "x";
const OUTPUT: &str = "y";

fn plan(feed: &[&str]) -> Result<Compiled, Error> {
    let feed = feed.iter().map(|s| s.to_string()).collect();
    let options = Options { bands: Banding::Memory, feed, ..Options::default() };
    compile(import(&picture().to_bytes(), None, &options).expect("it imports"), &options)
}

/// A camera and a display, which may stop.
struct Lines {
    picture: Vec<u8>,
    shown: Vec<u8>,
    /// Rows at most in the arena at once, as asked for.
    most: usize,
    /// The row at which the camera is switched off.
    off: usize,
}

impl Feed for Lines {
    fn give(&mut self, input: usize, rows: Range<usize>, to: &mut [u8]) -> ControlFlow<()> {
        assert_eq!(input, 0);
        if rows.contains(&self.off) {
            return ControlFlow::Break(());
        }
        self.most = self.most.max(rows.len());
        let row = to.len() / rows.len();
        to.copy_from_slice(&self.picture[rows.start * row..rows.end * row]);
        ControlFlow::Continue(())
    }

    fn take(&mut self, output: usize, _: Range<usize>, from: &[u8]) -> ControlFlow<()> {
        assert_eq!(output, 0);
        self.shown.extend_from_slice(from);
        ControlFlow::Continue(())
    }
}

/// `[1, c, h, w]` as `[1, h, w, c]`.
fn channels_last(x: &Array) -> Array {
    let &[_, c, h, w] = &x.shape[..] else { panic!("a picture") };
    let reals = x.reals();
    let at = |i: usize| reals[(i % c) * h * w + i / c];
    Array::f32(&[1, h, w, c], (0..h * w * c).map(at).collect())
}

#[test]
fn pictures_come_and_go_by_lines() {
    let whole = plan(&[]).expect("it compiles");
    let fed = plan(&[INPUT, OUTPUT]).expect("it compiles");
    assert!(fed.report.arena_bytes < whole.report.arena_bytes);
    let file = Aligned::copy(&whole.kgl);
    let model = Model::load(file.as_ref()).expect("valid");
    let shape: Vec<usize> =
        model.tensor(model.input_tensor(0).expect("x")).shape().iter().map(|&d| d as usize).collect();
    let x = Random::new(7).array(kinglet::DType::F32, &shape);
    let want = channels_last(&run(&whole.kgl, &[(INPUT.to_string(), x.clone())].into())[OUTPUT]);
    let lines = channels_last(&x).to_bytes().into_owned();

    // From a camera to a display.
    let mut feed = Lines { picture: lines.clone(), shown: Vec::new(), most: 0, off: usize::MAX };
    let file = Arc::new(ModelFile::from_bytes(&fed.kgl).expect("it opens"));
    let mut session = OwnedSession::with_kernels(file, 2, &Reference).expect("it opens");
    session.run_rows(&mut feed).expect("it runs");
    assert!(feed.shown == want.to_bytes()[..] && feed.most < shape[2] / 2, "{} rows at once", feed.most);

    // Whole, beside the arena.
    session.input_bytes_mut(0).expect("x").copy_from_slice(&lines);
    session.run().expect("it runs");
    assert_eq!(session.output_bytes(0).expect("y"), &want.to_bytes()[..]);

    // With nobody at the other end, and with one who leaves.
    let file = Aligned::copy(&fed.kgl);
    let model = Model::load(file.as_ref()).expect("valid");
    let mut arena = Aligned::zeroed(model.arena_bytes());
    let mut session = Session::new(model, arena.as_mut(), &Reference).expect("it fits");
    assert_eq!(session.run(), Err(kinglet::Error::Fed));
    assert_eq!(session.output_bytes(0), Err(kinglet::Error::Fed));
    let mut feed = Lines { off: 9, shown: Vec::new(), ..feed };
    let result = session.run_rows(&mut feed, &Inline, &mut Quiet);
    assert!(matches!(result, Err(kinglet::Error::Interrupted { .. })), "{result:?}");
    feed.off = usize::MAX;
    feed.shown.clear();
    session.run_rows(&mut feed, &Inline, &mut Quiet).expect("the next run is a new one");
    assert_eq!(feed.shown, want.to_bytes()[..]);
}

#[test]
fn what_is_not_there_is_not_fed() {
    let error = plan(&["z"]).expect_err("there is no z").to_string();
    assert_eq!(error, "there is no input or output `z` to be fed; there are: x, y");
}

/// An input that is asked for by rows, but of which no ring is made, is there before the run like any other: nothing else lies in its place.
#[test]
fn what_stays_whole_is_not_fed() {
    let (mut case, mut r) = (Case::new(), Random::new(5));
    let [k, q] = [[64, 16], [1, 16]].map(|shape| case.input(r.array(DType::F32, &shape), None));
    let sums = case.node(Op::Reduce { op: ReduceOp::Sum, axes: vec![0], keep: true }, &[k], Like::f32(&[1, 16]));
    let sum = case.node(Op::Binary(BinaryOp::Add), &[q, sums], Like::f32(&[1, 16]));
    let y = case.node(Op::Softmax { axis: 1, log: false }, &[sum], Like::f32(&[1, 16]));
    case.output(y);
    let (graph, inputs) = case.parts();
    let name = graph.tensors[q].name.clone();
    for bands in [Banding::Off, Banding::Memory, Banding::Speed] {
        let plan = |feed| compile(graph.clone(), &Options { bands, feed, ..Options::default() }).expect("it compiles");
        let [whole, fed] = [vec![], vec![name.clone()]].map(|feed| run(&plan(feed).kgl, &inputs));
        assert_eq!(fed, whole, "{bands:?}");
        let file = Aligned::copy(&plan(vec![name.clone()]).kgl);
        assert!(!Model::load(file.as_ref()).expect("valid").is_fed());
    }
}
