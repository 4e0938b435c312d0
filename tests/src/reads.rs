//! Steps run on memory in which all but what they say they read is spoilt.

use std::collections::BTreeMap;
use std::ops::Range;

use kinglet::kernels;
use kinglet::{Kernels, Model, Reference, Region, Session};

use crate::{Aligned, Random, parts};

/// What was found of the steps of a kind.
#[derive(Default, Debug)]
pub struct Seen {
    /// Inputs of which less than all is read.
    pub narrow: usize,
    /// Steps whose rows are others where what they read is.
    pub felt: usize,
}

/// What was found, by the name of the kind.
pub type Kinds = BTreeMap<&'static str, Seen>;

/// The memory of a run: a file with its weights, and the arena.
pub struct Memory {
    file: Aligned,
    /// Where the weights lie in the file.
    weights: Range<usize>,
    arena: Aligned,
}

impl Memory {
    /// That of a plan whose inputs have been written.
    pub fn new(kgl: &[u8], mut write: impl FnMut(&Model<'_>, usize, &mut [u8])) -> Self {
        let file = Aligned::copy(kgl);
        let model = Model::load(file.as_ref()).expect("the compiler writes valid files");
        let start = model.weights().as_ptr() as usize - file.as_ref().as_ptr() as usize;
        let weights = start..start + model.weights().len();
        let mut arena = Aligned::zeroed(model.arena_bytes());
        arena.as_mut().fill(0xA5);
        let mut session = Session::new(model, arena.as_mut(), &Reference).expect("the arena is large enough");
        for i in 0..model.input_count() {
            write(&model, i, session.input_bytes_mut(i).expect("exists"));
        }
        Memory { file, weights, arena }
    }

    fn model(&self) -> Model<'_> {
        Model::load(self.file.as_ref()).expect("it was valid before")
    }

    /// The same with other bytes wherever `kept` does not say so, by arena and weights: random ones, or those of NaN.
    fn poisoned(&self, kept: &[Vec<bool>; 2], r: &mut Random) -> Memory {
        let mut other = Memory {
            file: Aligned::copy(self.file.as_ref()),
            weights: self.weights.clone(),
            arena: Aligned::copy(self.arena.as_ref()),
        };
        let not_a_number = r.once_in(2);
        let mut spoil = |bytes: &mut [u8], kept: &[bool]| {
            for (bytes, kept) in bytes.chunks_mut(8).zip(kept.chunks(8)).filter(|(_, kept)| kept.contains(&false)) {
                let mut others = r.bytes();
                if not_a_number {
                    // Each NaN another, or a result that is one would look like what was there before it.
                    [2, 3, 6, 7].into_iter().for_each(|i| others[i] = 0xFF);
                }
                if let (Some(bytes), false) = (bytes.first_chunk_mut(), kept.contains(&true)) {
                    *bytes = others;
                    continue;
                }
                for ((b, _), other) in bytes.iter_mut().zip(kept).zip(others).filter(|((_, kept), _)| !**kept) {
                    *b = other;
                }
            }
        };
        spoil(other.arena.as_mut(), &kept[0]);
        spoil(&mut other.file.as_mut()[self.weights.clone()], &kept[1]);
        other
    }

    /// The arena after some rows of a step.
    fn after(&self, kernels: &dyn Kernels, step: usize, rows: &Range<usize>) -> Aligned {
        let mut arena = Aligned::copy(self.arena.as_ref());
        parts::run(self.model(), arena.as_mut(), kernels, step..step + 1, Some(rows.clone()));
        arena
    }

    /// Whether rows of a step are the same where only `kept` is. A byte may be the other one only where the step has left it.
    fn same(
        &self,
        kernels: &dyn Kernels,
        step: usize,
        rows: &Range<usize>,
        kept: &[Vec<bool>; 2],
        r: &mut Random,
    ) -> bool {
        let other = self.poisoned(kept, r);
        let (want, got) = (self.after(kernels, step, rows), other.after(kernels, step, rows));
        let tensors = self.arena.as_ref().len() - self.model().scratch_bytes();
        let [want, got, other] = [&want, &got, &other.arena].map(|arena| &arena.as_ref()[..tensors]);
        let left = |i: usize| !kept[0][i] && got[i] == other[i];
        got == want || (0..tensors).all(|i| got[i] == want[i] || left(i))
    }

    /// Which bytes of arena and weights the rows of a step read, by what it says; adds inputs that are not read whole to `seen`.
    fn kept(&self, step: usize, rows: &Range<usize>, seen: &mut Seen) -> [Vec<bool>; 2] {
        let model = self.model();
        let step = model.step(step);
        let mut kept = [vec![false; self.arena.as_ref().len()], vec![false; self.weights.len()]];
        for input in 0..step.record().inputs as usize {
            let Some(t) = step.input(input) else { continue };
            let t = model.tensor(t);
            let said = kernels::reads(&step, input, rows.clone()).unwrap_or(0..t.len());
            assert!(said.start <= said.end && said.end <= t.len(), "{said:?} of {} elements", t.len());
            seen.narrow += usize::from(said.len() < t.len());
            let (start, size) = (t.0.offset as usize, t.dtype().size());
            let kept = &mut kept[usize::from(t.0.region == Region::Weights)];
            kept[start + said.start * size..start + said.end * size].fill(true);
        }
        kept
    }

    /// Goes through all steps, each for some rows.
    pub fn check(&mut self, what: &str, kernels: &dyn Kernels, r: &mut Random, kinds: &mut Kinds) {
        let runs: Vec<_> = self.model().runs().collect();
        for (steps, slices) in runs {
            // Steps of a band lie elsewhere in each slice.
            for step in steps.clone().filter(|_| slices == 1) {
                self.check_step(what, kernels, step, r, kinds);
            }
            let file = Model::load(self.file.as_ref()).expect("it was valid before");
            parts::run(file, self.arena.as_mut(), kernels, steps, None);
        }
    }

    fn check_step(&self, what: &str, kernels: &dyn Kernels, step: usize, r: &mut Random, kinds: &mut Kinds) {
        let (kind, rows) = (self.model().step(step).kind().expect("loaded"), self.model().step(step).rows());
        let seen = kinds.entry(kind.name()).or_default();
        for _ in 0..3 {
            // What joins the rows above begins with the first.
            let first = if kind.folds() { 0 } else { r.below(rows) };
            let some = first..first + if r.once_in(2) { 1 } else { r.between(1, rows - first) };
            let kept = self.kept(step, &some, seen);
            assert!(
                self.same(kernels, step, &some, &kept, r),
                "{what}: rows {some:?} of step {step}, a {}, depend on what they do not say they read",
                kind.name(),
            );
            let nothing = kept.map(|k| vec![false; k.len()]);
            seen.felt += usize::from(!self.same(kernels, step, &some, &nothing, r));
        }
    }
}
