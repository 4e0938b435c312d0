//! A file that lies: its records can be changed one by one, and it is sealed again before it is loaded.

use kinglet::format::words::{Record, Words};
use kinglet::format::{BandRecord, Region, Section, StepRecord, TensorRecord};
use kinglet::{Error, Model};
use kinglet_onnx::ModelProto;

use super::plan::{planned, seal, section, sections, set, word};
use super::run::survives;
use crate::{Aligned, Random};

/// Word of the header: bytes of the arena.
pub const ARENA_BYTES: usize = 7;
/// Word of the header: bytes of the state.
pub const STATE_BYTES: usize = 8;

/// Word of the header: bytes of slow memory.
pub const SLOW_BYTES: usize = 11;

/// A file whose records can be changed one by one.
#[derive(Clone)]
pub struct Lie {
    /// The file, whose checksum may be that of an earlier state.
    pub file: Vec<u8>,
}

impl Lie {
    /// The plan of a model.
    pub fn new(model: &ModelProto) -> Self {
        Lie { file: planned("a lie", model, kinglet::Target::Generic) }
    }

    /// First word of a section, and how many records it holds.
    pub fn records<R: Record>(&self, s: Section) -> (usize, usize) {
        let (at, len) = section(&self.file, s);
        (at / 4, len / 4 / R::WORDS)
    }

    /// Record `i` of a section.
    ///
    /// # Panics
    /// If there is no such thing, or a run does what it must not.
    pub fn get<R: Record>(&self, s: Section, i: usize) -> R {
        let (at, count) = self.records::<R>(s);
        assert!(i < count);
        R::read(&Words::new(&self.file), at + i * R::WORDS).expect("the compiler writes valid records")
    }

    /// Replaces record `i` of a section.
    ///
    /// # Panics
    /// If there is no such thing, or a run does what it must not.
    pub fn put<R: Record>(&mut self, s: Section, i: usize, record: R) {
        let mut at = self.records::<R>(s).0 + i * R::WORDS;
        record.write(&mut |w| {
            set(&mut self.file, at, w);
            at += 1;
        });
    }

    /// All tensors.
    pub fn tensors(&self) -> Vec<TensorRecord> {
        let n = self.records::<TensorRecord>(Section::Tensors).1;
        (0..n).map(|i| self.get(Section::Tensors, i)).collect()
    }

    /// Band `i`.
    pub fn band(&self, i: usize) -> BandRecord {
        self.get(Section::Bands, i)
    }

    /// How many bands there are.
    pub fn bands(&self) -> usize {
        self.records::<BandRecord>(Section::Bands).1
    }

    /// Step `i`.
    pub fn step(&self, i: usize) -> StepRecord {
        self.get(Section::Steps, i)
    }

    /// How many steps there are.
    pub fn steps(&self) -> usize {
        self.records::<StepRecord>(Section::Steps).1
    }

    /// The tensor number of an operand of a step; outputs follow the inputs.
    pub fn operand(&self, step: usize, k: usize) -> usize {
        let at = section(&self.file, Section::Operands).0 / 4 + self.step(step).operands as usize + k;
        word(&self.file, at) as usize
    }

    /// Gives a step another operand.
    pub fn set_operand(&mut self, step: usize, k: usize, tensor: usize) {
        let at = section(&self.file, Section::Operands).0 / 4 + self.step(step).operands as usize + k;
        set(&mut self.file, at, tensor as u32);
    }

    /// The same plan in an arena with 4096 bytes of room at each end.
    pub fn roomy(mut self) -> Self {
        for i in 0..self.tensors().len() {
            self = self.change_tensor(i, |t| t.offset += if t.region == Region::Arena { 4096 } else { 0 });
        }
        let arena = word(&self.file, ARENA_BYTES);
        set(&mut self.file, ARENA_BYTES, arena + 8192);
        self
    }

    /// With band `i` changed.
    pub fn change_band(mut self, i: usize, change: impl FnOnce(&mut BandRecord)) -> Self {
        let mut record = self.band(i);
        change(&mut record);
        self.put(Section::Bands, i, record);
        self
    }

    /// With tensor `i` changed.
    pub fn change_tensor(mut self, i: usize, change: impl FnOnce(&mut TensorRecord)) -> Self {
        let mut record = self.tensors()[i];
        change(&mut record);
        self.put(Section::Tensors, i, record);
        self
    }

    /// With step `i` changed.
    pub fn change_step(mut self, i: usize, change: impl FnOnce(&mut StepRecord)) -> Self {
        let mut record = self.step(i);
        change(&mut record);
        self.put(Section::Steps, i, record);
        self
    }

    /// Loads the file with its checksum made anew, and runs it between guards.
    ///
    /// # Panics
    /// If there is no such thing, or a run does what it must not.
    pub fn load(mut self) -> Result<(), Error> {
        let layout = sections(&self.file);
        seal(&mut self.file, &layout);
        let file = Aligned::copy(&self.file);
        let error = Model::load(file.as_ref()).err();
        for seed in 0..4 {
            let loaded = survives(&file, &mut Random::new(seed)).unwrap_or_else(|e| panic!("a run: {e}"));
            assert_eq!(loaded, error.is_none());
        }
        error.map_or(Ok(()), Err)
    }

    /// Steps of the first band.
    pub fn inside(&self) -> std::ops::Range<usize> {
        let b = self.band(0);
        b.first_step as usize..(b.first_step + b.steps) as usize
    }

    /// A tensor of the first band for which `of` holds, with its step and operand.
    ///
    /// # Panics
    /// If there is no such thing, or a run does what it must not.
    pub fn find(&self, of: impl Fn(&TensorRecord, bool) -> bool) -> (usize, usize, usize) {
        let tensors = self.tensors();
        let operands = self.inside().flat_map(|i| {
            let s = self.step(i);
            (0..(s.inputs + s.outputs) as usize).map(move |k| (i, k, k >= s.inputs as usize))
        });
        let found = operands
            .map(|(i, k, output)| (self.operand(i, k), i, k, output))
            .find(|&(t, .., output)| tensors.get(t).is_some_and(|t| of(t, output)));
        let (t, step, k, _) = found.expect("the band has such a tensor");
        (t, step, k)
    }
}
