//! The zero-copy view of a model file.

use core::ops::Range;

use super::step::Step;
use super::strings::Strings;
use super::verify;
use super::words::{Record, Words};
use super::{
    ABSENT, ALIGN, BandRecord, CHECKED_FROM, HEADER_BYTES, MAGIC, Placed, Region, SECTION_ENTRY_BYTES, Section,
    StepRecord, TensorRecord, VERSION, checksum,
};
use crate::kernels::OpSet;
use crate::{DType, Error, Target};

/// A checked model. Copying it copies a few pointers, not the file.
#[derive(Clone, Copy, Debug)]
pub struct Model<'a> {
    target: Target,
    arena_bytes: u32,
    slow_bytes: u32,
    state_bytes: u32,
    lower_bound_bytes: u32,
    scratch_bytes: u32,
    work: u64,
    plan_sum: u64,
    weights_sum: u64,
    tensors: Words<'a>,
    operands: Words<'a>,
    params: Words<'a>,
    steps: Words<'a>,
    bands: Words<'a>,
    io: Words<'a>,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    weights: &'a [u8],
    hot: &'a [u8],
    pub(super) names: Strings<'a>,
    metadata: Strings<'a>,
}

impl<'a> Model<'a> {
    /// Checks everything in `bytes` that execution relies on, and returns a view of it. Takes time linear in the number
    /// of steps and tensors; weights are not read. The bytes must stay as they are for as long as the model is used: who maps
    /// a file sees to it that nobody changes the file.
    ///
    /// # Errors
    /// Says what is wrong with the file first found wrong; never panics, whatever the bytes are.
    pub fn load(bytes: &'a [u8]) -> Result<Model<'a>, Error> {
        Model::load_only::<{ OpSet::ALL.bits() }>(bytes)
    }

    /// As [`Model::load`], but only what damage shows in is checked: header, sections and the checksum of the plan. For firmware, whose model was verified
    /// when it was built. What a run costs is not added up: [`Model::work`] is 0.
    ///
    /// # Safety
    /// The bytes are those of a file that [`Model::load`] of this version accepts. (Execution relies on all that it checks.)
    ///
    /// # Errors
    /// As [`Model::load`], of what is still checked.
    #[allow(unsafe_code)]
    pub unsafe fn trusted(bytes: &'a [u8]) -> Result<Model<'a>, Error> {
        Model::read(bytes)
    }

    /// As [`Model::load`], of a model whose steps are all of the kinds of a set ([`OpSet::bits`]): nothing is linked that checks others.
    ///
    /// # Errors
    /// As [`Model::load`]; a step of another kind is one that this runtime does not know.
    pub fn load_only<const OPS: u128>(bytes: &'a [u8]) -> Result<Model<'a>, Error> {
        let mut model = Model::read(bytes)?;
        model.work = verify::model::<OPS>(&model)?;
        Ok(model)
    }

    fn read(bytes: &'a [u8]) -> Result<Model<'a>, Error> {
        if bytes.len() < HEADER_BYTES {
            return Err(if bytes.get(..4).is_some_and(|m| m != MAGIC) { Error::Magic } else { Error::Truncated });
        }
        if bytes[..4] != MAGIC {
            return Err(Error::Magic);
        }
        let header = Words::new(&bytes[..HEADER_BYTES]);
        let word = |i| header.get(i).unwrap_or(0);
        let version = word(1) as u16;
        if version != VERSION {
            return Err(Error::Version { found: version });
        }
        let target = Target::from_code(word(1) >> 16).ok_or(Error::UnknownTarget { found: (word(1) >> 16) as u16 })?;
        let plan_sum = u64::from(word(2)) | u64::from(word(3)) << 32;
        let weights_sum = u64::from(word(4)) | u64::from(word(5)) << 32;
        if bytes.len() != word(6) as usize {
            return Err(Error::Truncated);
        }
        let count = word(10) as usize;
        let table_end = count
            .checked_mul(SECTION_ENTRY_BYTES)
            .and_then(|n| n.checked_add(HEADER_BYTES))
            .filter(|&end| end <= bytes.len() && count <= 64)
            .ok_or(Error::Truncated)?;
        let table = Words::new(&bytes[HEADER_BYTES..table_end]);

        // Version and target seed the sum, so that damage to them shows too.
        let mut sum = checksum(&bytes[CHECKED_FROM..table_end], u64::from(word(1)));
        let mut end = table_end;
        let mut found: [Option<&[u8]>; 10] = [None; 10];
        for i in 0..count {
            let id = table.get(i * 4).unwrap_or(0);
            let offset = table.get(i * 4 + 1).unwrap_or(0) as usize;
            let len = table.get(i * 4 + 2).unwrap_or(0) as usize;
            let bad = Error::Section { section: id as u16 };
            let data = offset.checked_add(len).and_then(|end| bytes.get(offset..end)).ok_or(bad)?;
            // Sections follow each other without gaps but the zeros that align them: no byte of the file goes unchecked.
            let padding = bytes.get(end..offset).ok_or(bad)?;
            if offset != end.next_multiple_of(ALIGN) || padding.iter().any(|&b| b != 0) {
                return Err(bad);
            }
            end = offset + len;
            if id != Section::Weights as u32 {
                sum = checksum(data, sum);
            }
            if let Some(slot) = found.get_mut(id as usize) {
                if slot.is_some() {
                    return Err(bad);
                }
                *slot = Some(data);
            }
        }
        let tail = bytes.get(end..).unwrap_or(&[]);
        if sum != plan_sum || tail.len() >= ALIGN || tail.iter().any(|&b| b != 0) {
            return Err(Error::Checksum);
        }
        let need = |s: Section| found[s as usize].ok_or(Error::Section { section: s as u16 });
        let words = |s: Section| need(s).map(Words::new);
        let weights = need(Section::Weights)?;
        if weights.as_ptr().align_offset(ALIGN) != 0 && !weights.is_empty() {
            return Err(Error::ModelAlignment);
        }
        let io = words(Section::Io)?;
        let inputs = io.get(0).unwrap_or(0) as usize;
        let outputs = io.get(1).unwrap_or(0) as usize;
        // Each input has its tensor's number and its default's.
        let numbers = inputs.checked_mul(2).and_then(|n| n.checked_add(outputs));
        if io.len().checked_sub(2) != numbers {
            return Err(Error::Section { section: Section::Io as u16 });
        }
        let optional =
            |s: Section| Strings::new(found[s as usize].unwrap_or(&[])).ok_or(Error::Section { section: s as u16 });
        let mut model = Model {
            target,
            arena_bytes: word(7),
            slow_bytes: word(11),
            state_bytes: word(8),
            lower_bound_bytes: word(9),
            scratch_bytes: 0,
            work: 0,
            plan_sum,
            weights_sum,
            tensors: words(Section::Tensors)?,
            operands: words(Section::Operands)?,
            params: words(Section::Params)?,
            steps: words(Section::Steps)?,
            bands: words(Section::Bands)?,
            io,
            inputs,
            outputs,
            weights,
            hot: &[],
            names: optional(Section::Names)?,
            metadata: optional(Section::Metadata)?,
        };
        // Once here and not whenever it is asked for: loading and running stay linear in the number of steps.
        let most = (0..model.step_count()).map(|i| model.step_record(i).scratch).max().unwrap_or(0);
        model.scratch_bytes =
            most.checked_next_multiple_of(ALIGN as u32).ok_or(Error::Section { section: Section::Steps as u16 })?;
        Ok(model)
    }

    /// Reads every weight and compares with the checksum in the header.
    ///
    /// # Errors
    /// [`Error::WeightsChecksum`] if they differ.
    pub fn check_weights(&self) -> Result<(), Error> {
        if checksum(self.weights, 0) == self.weights_sum { Ok(()) } else { Err(Error::WeightsChecksum) }
    }

    /// A number that tells a plan, with its weights, from others: its checksum, which that of the weights goes into.
    pub fn identity(&self) -> u64 {
        self.plan_sum
    }

    /// What the plan was compiled for.
    pub fn target(&self) -> Target {
        self.target
    }

    /// Bytes of RAM one worker's session needs, state and scratch included; see [`Model::arena_bytes_for`].
    pub fn arena_bytes(&self) -> usize {
        self.arena_bytes as usize
    }

    /// Bytes of RAM a session with `workers` workers needs: each has its own scratch behind the tensors.
    pub fn arena_bytes_for(&self, workers: usize) -> usize {
        self.scratch_start() + self.scratch_bytes() * workers.max(1)
    }

    /// Bytes of slow memory that a session needs beside the arena; 0 for most plans (`convert --region` makes others).
    pub fn slow_bytes(&self) -> usize {
        self.slow_bytes as usize
    }

    /// Scratch bytes of one worker: the most that any step needs, rounded up to the alignment.
    pub fn scratch_bytes(&self) -> usize {
        self.scratch_bytes as usize
    }

    pub(crate) fn scratch_start(&self) -> usize {
        self.arena_bytes().saturating_sub(self.scratch_bytes())
    }

    /// Bytes at the start of the arena that live on between runs.
    pub fn state_bytes(&self) -> usize {
        self.state_bytes as usize
    }

    /// The most bytes of tensors that are alive during any one step: no plan with this step order can do with less.
    pub fn lower_bound_bytes(&self) -> usize {
        self.lower_bound_bytes as usize
    }

    /// The work of one run: about how many elements it loads, combines or stores and how many products it adds, over all
    /// steps and slices. It is computed from what loading verifies (a file cannot report less than it costs), and bounds the
    /// time of a run: a unit takes from a tenth of a nanosecond to some tens on a desktop CPU. Who runs files of others
    /// compares it with what a run may cost before the first one; firmware, which knows its model, need not.
    pub fn work(&self) -> u64 {
        self.work
    }

    /// Constant data, read in place.
    pub fn weights(&self) -> &'a [u8] {
        self.weights
    }

    /// The model with what its weights begin with in another place: in RAM, where reading flash is slow. `hot` is a copy of the first bytes of [`Model::weights`], at a multiple
    /// of 64; tensors that lie within it are read there, others where they were. (Another content is not unsafe: it is other weights.)
    ///
    /// # Errors
    /// [`Error::ModelAlignment`]; [`Error::WrongLength`] if there are not so many weights.
    pub fn with_hot_weights(self, hot: &'a [u8]) -> Result<Model<'a>, Error> {
        if hot.as_ptr().align_offset(ALIGN) != 0 && !hot.is_empty() {
            return Err(Error::ModelAlignment);
        }
        if hot.len() > self.weights.len() {
            return Err(Error::WrongLength);
        }
        Ok(Model { hot, ..self })
    }

    /// What [`Model::with_hot_weights`] was given; empty without.
    pub fn hot_weights(&self) -> &'a [u8] {
        self.hot
    }

    /// Number of tensors.
    pub fn tensor_count(&self) -> usize {
        self.tensors.len() / TensorRecord::WORDS
    }

    /// Tensor `i`. An index out of range gives an empty tensor.
    pub fn tensor(&self, i: usize) -> Tensor {
        Tensor(self.tensor_record(i).unwrap_or(TensorRecord {
            dtype: DType::U8,
            region: Region::Weights,
            offset: 0,
            bytes: 0,
            row_bytes: 0,
            capacity: 0,
            rows: 0,
            writer: super::ABSENT,
            advance: 0,
            scale: 1.0,
            zero_point: 0,
            rank: 0,
            dims: [0; super::MAX_RANK],
        }))
    }

    /// What a kernel must know of tensor `i` as an operand.
    #[inline(always)]
    pub(crate) fn placed(&self, i: usize) -> Option<Placed> {
        Placed::read(&self.tensors, i.checked_mul(TensorRecord::WORDS)?)
    }

    /// How tensor `i` holds its rows, if it is a ring.
    #[inline(always)]
    pub(crate) fn ring(&self, i: usize) -> Option<super::Ring> {
        super::Ring::read(&self.tensors, i.checked_mul(TensorRecord::WORDS)?)
    }

    pub(crate) fn tensor_record(&self, i: usize) -> Option<TensorRecord> {
        TensorRecord::read(&self.tensors, i.checked_mul(TensorRecord::WORDS)?)
    }

    /// Number of steps.
    pub fn step_count(&self) -> usize {
        self.steps.len() / StepRecord::WORDS
    }

    pub(crate) fn step_record(&self, i: usize) -> StepRecord {
        StepRecord::read(&self.steps, i.saturating_mul(StepRecord::WORDS)).unwrap_or(StepRecord {
            kind: 0,
            operands: 0,
            inputs: 0,
            outputs: 0,
            params: 0,
            columns: 0,
            slice_rows: 0,
            delay: 0,
            rows: 0,
            scratch: 0,
            macs: [0; 2],
        })
    }

    /// Step `i`, in the order of execution.
    pub fn step(&self, i: usize) -> Step<'_> {
        Step { model: self, record: self.step_record(i), index: i }
    }

    pub(crate) fn params(&self) -> &Words<'a> {
        &self.params
    }

    pub(crate) fn operand_words(&self) -> &Words<'a> {
        &self.operands
    }

    pub(crate) fn sections_are_whole(&self) -> Option<Section> {
        let bad = |w: &Words<'_>, n: usize| !w.len().is_multiple_of(n);
        if bad(&self.tensors, TensorRecord::WORDS) {
            Some(Section::Tensors)
        } else if bad(&self.steps, StepRecord::WORDS) {
            Some(Section::Steps)
        } else if bad(&self.bands, BandRecord::WORDS) {
            Some(Section::Bands)
        } else {
            None
        }
    }

    /// Number of bands. A step that is in none runs by itself, once.
    pub fn band_count(&self) -> usize {
        self.bands.len() / BandRecord::WORDS
    }

    /// Band `i`, if there is one.
    pub fn band(&self, i: usize) -> Option<BandRecord> {
        BandRecord::read(&self.bands, i.checked_mul(BandRecord::WORDS)?)
    }

    /// The plan in the order of execution: steps that run together, and for how many slices.
    pub fn runs(&self) -> impl Iterator<Item = (Range<usize>, u32)> {
        Runs { model: self, step: 0, band: 0 }
    }

    /// How many times a run executes step `i`: the slices of its band.
    pub fn slices(&self, i: usize) -> u32 {
        // Bands are in the order of their steps (verified): the last one that begins no later than the step may hold it.
        let (mut first, mut end) = (0, self.band_count());
        while first < end {
            let middle = first + (end - first) / 2;
            if self.band(middle).is_some_and(|b| b.first_step as usize <= i) {
                first = middle + 1
            } else {
                end = middle
            }
        }
        let band = first.checked_sub(1).and_then(|b| self.band(b));
        band.filter(|b| i - (b.first_step as usize) < b.steps as usize).map_or(1, |b| b.slices)
    }

    /// Number of inputs of the model.
    pub fn input_count(&self) -> usize {
        self.inputs
    }

    /// Number of outputs of the model.
    pub fn output_count(&self) -> usize {
        self.outputs
    }

    /// Tensor number of input `i`.
    pub fn input_tensor(&self, i: usize) -> Option<usize> {
        (i < self.inputs).then(|| self.io.get(2 + i)).flatten().map(|t| t as usize)
    }

    /// Number of the constant tensor that input `i` takes where no value is given, if there is one.
    pub(crate) fn default_tensor(&self, i: usize) -> Option<usize> {
        let word = (i < self.inputs).then(|| self.io.get(2 + self.inputs + self.outputs + i)).flatten();
        word.filter(|&t| t != ABSENT).map(|t| t as usize)
    }

    /// The value, as bytes, that input `i` takes where none is given; `None` if one must be given. See
    /// [`Session::set_default`](crate::Session::set_default).
    pub fn input_default(&self, i: usize) -> Option<&'a [u8]> {
        let t = self.tensor_record(self.default_tensor(i)?)?;
        self.weights.get(t.offset as usize..(t.offset as usize).checked_add(t.bytes as usize)?)
    }

    /// Tensor number of output `i`.
    pub fn output_tensor(&self, i: usize) -> Option<usize> {
        (i < self.outputs).then(|| self.io.get(2 + self.inputs + i)).flatten().map(|t| t as usize)
    }

    /// Name of input `i`; `None` if there is no such input or the names were left out.
    pub fn input_name(&self, i: usize) -> Option<&'a str> {
        (i < self.inputs).then(|| self.names.get(i)).flatten()
    }

    /// Name of output `i`; `None` if there is no such output or the names were left out.
    pub fn output_name(&self, i: usize) -> Option<&'a str> {
        (i < self.outputs).then(|| self.names.get(self.inputs + i)).flatten()
    }

    /// The input with this name.
    pub fn find_input(&self, name: &str) -> Option<usize> {
        (0..self.inputs).find(|&i| self.input_name(i) == Some(name))
    }

    /// The output with this name.
    pub fn find_output(&self, name: &str) -> Option<usize> {
        (0..self.outputs).find(|&i| self.output_name(i) == Some(name))
    }

    /// The model's metadata: keys and values as the compiler stored them.
    pub fn metadata(&self) -> impl Iterator<Item = (&'a str, &'a str)> + '_ {
        (0..self.metadata.len() / 2).filter_map(|i| Some((self.metadata.get(2 * i)?, self.metadata.get(2 * i + 1)?)))
    }

    /// The metadata value with this key.
    pub fn metadata_value(&self, key: &str) -> Option<&'a str> {
        self.metadata().find(|(k, _)| *k == key).map(|(_, v)| v)
    }
}

/// The bands of a plan and the steps between them, in order.
struct Runs<'a> {
    model: &'a Model<'a>,
    step: usize,
    band: usize,
}

impl Iterator for Runs<'_> {
    /// Steps that run together, and for how many slices.
    type Item = (Range<usize>, u32);

    fn next(&mut self) -> Option<Self::Item> {
        let first = self.step;
        if first >= self.model.step_count() {
            return None;
        }
        let band = self.model.band(self.band).filter(|b| b.first_step as usize == first && b.steps > 0);
        let (steps, slices) = band.map_or((1, 1), |b| (b.steps as usize, b.slices));
        self.band += usize::from(band.is_some());
        self.step = first.saturating_add(steps).min(self.model.step_count());
        Some((first..self.step, slices))
    }
}

/// One tensor of a plan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tensor(pub TensorRecord);

impl Tensor {
    /// Element type.
    pub fn dtype(&self) -> DType {
        self.0.dtype
    }

    /// Dimensions, outermost first, in the model's own order (an ONNX output keeps its ONNX shape).
    pub fn shape(&self) -> &[u32] {
        self.0.dims.get(..self.0.rank as usize).unwrap_or(&[])
    }

    /// Number of elements that are there.
    pub fn len(&self) -> usize {
        self.0.bytes as usize / self.0.dtype.size()
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.0.bytes == 0
    }

    /// Scale and zero point of a quantised tensor.
    pub fn quantization(&self) -> Option<(f32, i32)> {
        self.0.dtype.quantized_range().map(|_| (self.0.scale, self.0.zero_point))
    }
}
