//! What there is to say about a compiled model: its tensors, its steps, and who uses which part of the arena when.

use std::collections::BTreeMap;

use kinglet::format::BandRecord;
use kinglet::kernels::Unit;
use kinglet::{DType, Kernels, Model, Region, Step, StepKind, Tensor};
use serde_json::{Value, json};

use crate::model::{input_name, output_name};

/// One step, in words and numbers.
pub struct StepInfo {
    /// Name of the step.
    pub name: String,
    /// Its kind.
    pub kind: &'static str,
    /// Element type it computes in.
    pub dtype: &'static str,
    /// The kernel that runs it.
    pub kernel: &'static str,
    /// How often a run executes it: the trips of the loop it is in the body of.
    pub slices: u32,
    /// Multiply-accumulates of a run.
    pub macs: u64,
    /// ONNX nodes it came from.
    pub source_nodes: Vec<String>,
    /// Shape of its output.
    pub shape: Vec<u32>,
    /// Bytes of its output.
    pub bytes: u32,
    /// Bytes of all its operands, as often as it is executed.
    pub traffic: u64,
    /// What multiplies in it.
    pub unit: Option<Unit>,
}

impl StepInfo {
    fn of(model: &Model<'_>, kernels: Option<&dyn Kernels>, i: usize, slices: u32) -> StepInfo {
        let step = model.step(i);
        let output = step.output(0).map(|t| model.tensor(t));
        let operands = (0..16).flat_map(|i| [step.input(i), step.output(i)]).flatten();
        let traffic: u64 = operands.map(|t| u64::from(model.tensor(t).0.bytes)).sum();
        StepInfo {
            name: step_name(model, i),
            slices,
            kind: step.kind().map_or("unknown", StepKind::name),
            dtype: computes_in(model, &step).map_or("none", DType::name),
            kernel: match (step.kind(), kernels) {
                (Some(kind), Some(kernels)) => kernels.kernel_name(kind),
                (Some(_), None) => model.target().info().kernels,
                (None, _) => "none",
            },
            macs: step.macs().saturating_mul(slices.into()),
            source_nodes: step.source_nodes().map(String::from).collect(),
            shape: output.map(|t| shape(&t)).unwrap_or_default(),
            bytes: output.map_or(0, |t| t.0.bytes),
            traffic: traffic.saturating_mul(slices.into()),
            unit: step.kind().and_then(StepKind::unit),
        }
    }

    /// Its name, and how often it is executed if that is not once.
    pub fn title(&self) -> String {
        if self.slices == 1 { self.name.clone() } else { format!("{} ×{}", self.name, self.slices) }
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        json!({
            "name": self.name, "kind": self.kind, "dtype": self.dtype, "kernel": self.kernel, "macs": self.macs,
            "slices": self.slices,            "source_nodes": self.source_nodes, "shape": self.shape, "bytes": self.bytes,
        })
    }
}

/// Every step of a model, as its target runs it, or as these kernels do.
pub fn steps(model: &Model<'_>, kernels: Option<&dyn Kernels>) -> Vec<StepInfo> {
    slices(model).into_iter().enumerate().map(|(i, n)| StepInfo::of(model, kernels, i, n)).collect()
}

/// The name of step `i`.
pub fn step_name(model: &Model<'_>, i: usize) -> String {
    model.step(i).name().filter(|n| !n.is_empty()).map_or_else(|| format!("step_{i}"), String::from)
}

/// How often a run executes each step. In a band of rows a step computes all of its rows once, if in parts.
fn slices(model: &Model<'_>) -> Vec<u32> {
    let mut slices = vec![1; model.step_count()];
    let loops = |band: &BandRecord| model.step(band.first_step as usize).record().slice_rows == 0;
    for band in (0..model.band_count()).filter_map(|i| model.band(i)).filter(loops) {
        slices[band.first_step as usize..][..band.steps as usize].fill(band.slices);
    }
    slices
}

/// A band of rows: steps that are executed a few rows at a time.
pub struct RowBand {
    /// First step.
    pub first: usize,
    /// How many slices there are.
    pub slices: u32,
    /// For each of its steps the rows of a slice, the rows by which it stays behind, and of its output the rows that are kept, of all.
    pub steps: Vec<[u32; 4]>,
}

impl RowBand {
    /// As JSON.
    pub fn json(&self) -> Value {
        let step = |[rows, delay, kept, all]: &[u32; 4]| json!({"rows": rows, "delay": delay, "kept": kept, "of": all});
        json!({"first_step": self.first, "slices": self.slices, "steps": self.steps.iter().map(step).collect::<Vec<_>>()})
    }
}

/// The bands of rows of a model.
pub fn row_bands(model: &Model<'_>) -> Vec<RowBand> {
    let of = |band: BandRecord| {
        let first = band.first_step as usize;
        let steps = (first..first + band.steps as usize).map(|i| {
            let step = model.step(i);
            let (r, output) = (*step.record(), step.output(0).map(|t| model.tensor(t).0));
            [r.slice_rows, r.delay, output.map_or(0, |t| t.capacity), output.map_or(0, |t| t.rows)]
        });
        RowBand { first, slices: band.slices, steps: steps.collect() }
    };
    let bands = (0..model.band_count()).filter_map(|i| model.band(i)).map(of);
    bands.filter(|band| band.steps.iter().all(|s| s[0] > 0)).collect()
}

/// Multiply-accumulates of the whole plan.
pub fn macs(model: &Model<'_>) -> u64 {
    let of_step = |(i, n): (usize, u32)| model.step(i).macs().saturating_mul(n.into());
    slices(model).into_iter().enumerate().map(of_step).fold(0, u64::saturating_add)
}

/// The dimensions, or the number of elements of a tensor that is only memory.
fn shape(tensor: &Tensor) -> Vec<u32> {
    if tensor.shape().is_empty() && tensor.len() != 1 { vec![tensor.len() as u32] } else { tensor.shape().to_vec() }
}

/// The type of the data that comes in; a condition or a list of indices is no data. A conversion from or to float is float.
fn computes_in(model: &Model<'_>, step: &Step<'_>) -> Option<DType> {
    let dtype = |t: usize| model.tensor(t).dtype();
    let output = step.output(0).map(dtype);
    let data = match step.kind()? {
        StepKind::Ternary => step.input(1).map(dtype),
        StepKind::Convert if output.is_some_and(DType::is_float) => output,
        _ => step.input(0).map(dtype),
    };
    data.or(output)
}

/// An input or output of the model.
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its tensor.
    pub tensor: Tensor,
    /// It is an input that need not be given.
    pub has_default: bool,
}

impl Port {
    /// As JSON. Scale and zero point are null where the tensor is not quantised.
    pub fn json(&self) -> Value {
        let q = self.tensor.quantization();
        json!({
            "name": self.name, "dtype": self.tensor.dtype().name(), "shape": self.tensor.shape(),
            "bytes": self.tensor.0.bytes, "scale": q.map(|q| q.0), "zero_point": q.map(|q| q.1),
            "default": self.has_default,
        })
    }
}

/// The inputs of a model.
pub fn inputs(model: &Model<'_>) -> Vec<Port> {
    let port = |i| {
        let has_default = model.input_default(i).is_some();
        Some(Port { name: input_name(model, i), tensor: model.tensor(model.input_tensor(i)?), has_default })
    };
    (0..model.input_count()).filter_map(port).collect()
}

/// The outputs of a model.
pub fn outputs(model: &Model<'_>) -> Vec<Port> {
    let port = |i| {
        let tensor = model.tensor(model.output_tensor(i)?);
        Some(Port { name: output_name(model, i), tensor, has_default: false })
    };
    (0..model.output_count()).filter_map(port).collect()
}

/// A tensor in the arena and the steps that use it.
pub struct Resident {
    /// Number of the tensor.
    pub tensor: usize,
    /// The tensor.
    pub record: Tensor,
    /// Steps that write it; several where each writes a part. A view is written by the last of those of the tensor it views.
    pub written_by: Vec<usize>,
    /// Steps that read it.
    pub read_by: Vec<usize>,
    /// The tensor it is another shape of.
    pub view_of: Option<usize>,
    /// Name of the input it is.
    pub input: Option<String>,
    /// Name of the output it is.
    pub output: Option<String>,
}

impl Resident {
    /// As JSON.
    pub fn json(&self) -> Value {
        let t = &self.record.0;
        json!({
            "tensor": self.tensor, "region": region(t.region), "offset": t.offset, "bytes": t.bytes,
            "dtype": t.dtype.name(), "shape": self.record.shape(), "written_by": self.written_by,
            "read_by": self.read_by, "view_of": self.view_of, "input": self.input, "output": self.output,
        })
    }

    /// First and last step during which it holds something, as `3..7`; `in` and `out` stand for the world outside.
    pub fn life(&self) -> String {
        let first = match &self.input {
            Some(_) => "in".to_string(),
            None => self.written_by.first().map_or("-".into(), usize::to_string),
        };
        let last = match &self.output {
            Some(_) => "out".to_string(),
            None => self.read_by.iter().chain(&self.written_by).max().map_or("-".into(), usize::to_string),
        };
        format!("{first}..{last}")
    }
}

/// Name of a memory region.
fn region(region: Region) -> &'static str {
    match region {
        Region::Arena => "arena",
        Region::Weights => "weights",
        Region::State => "state",
        Region::Slow => "slow",
    }
}

/// Every tensor in the arena and in slow memory, by offset.
pub fn arena_map(model: &Model<'_>) -> Vec<Resident> {
    let mut all: Vec<Resident> = (0..model.tensor_count())
        .map(|tensor| Resident {
            tensor,
            record: model.tensor(tensor),
            written_by: Vec::new(),
            read_by: Vec::new(),
            view_of: None,
            input: None,
            output: None,
        })
        .collect();
    for i in 0..model.step_count() {
        let step = model.step(i);
        for t in (0..step.record().outputs as usize).filter_map(|k| step.output(k)) {
            all[t].written_by.push(i);
        }
        for t in (0..step.record().inputs as usize).filter_map(|k| step.input(k)) {
            if all[t].read_by.last() != Some(&i) {
                all[t].read_by.push(i);
            }
        }
    }
    for i in 0..model.input_count() {
        model.input_tensor(i).into_iter().for_each(|t| all[t].input = Some(input_name(model, i)));
    }
    for i in 0..model.output_count() {
        model.output_tensor(i).into_iter().for_each(|t| all[t].output = Some(output_name(model, i)));
    }
    resolve_views(&mut all);
    all.retain(|r| r.record.0.region != Region::Weights);
    all.sort_by_key(|r| (r.record.0.region == Region::Slow, r.record.0.offset, r.tensor));
    all
}

/// A tensor that no step writes and that is no input is another shape of one in the same place: the latest one written
/// before it is read. In time in proportion to tensors and operands (and a logarithm), whatever shares a place.
fn resolve_views(all: &mut [Resident]) {
    // Who writes each place when: inputs before all steps.
    let mut written: BTreeMap<Place, Vec<(Option<usize>, usize)>> = BTreeMap::new();
    for (i, r) in all.iter().enumerate().filter(|(_, r)| r.record.0.region != Region::Weights) {
        let from_outside = (r.input.is_some() && r.written_by.is_empty()).then_some(None);
        let times = from_outside.into_iter().chain(r.written_by.iter().copied().map(Some));
        times.for_each(|time| written.entry(place(r)).or_default().push((time, i)));
    }
    written.values_mut().for_each(|times| times.sort_unstable());
    for i in 0..all.len() {
        let view = &all[i];
        if view.record.0.region == Region::Weights || view.input.is_some() || !view.written_by.is_empty() {
            continue;
        }
        let Some(times) = written.get(&place(view)) else { continue };
        let first_read = Some(view.read_by.first().copied().unwrap_or(usize::MAX));
        let before = times.partition_point(|&(time, _)| time < first_read);
        if let Some(&(time, source)) = times[..before].last() {
            all[i].view_of = Some(all[source].tensor);
            all[i].written_by = time.into_iter().collect();
        }
    }
}

/// Region, offset and bytes of a tensor.
type Place = (u32, u32, u32);

fn place(r: &Resident) -> Place {
    (r.record.0.region as u32, r.record.0.offset, r.record.0.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tensor;
    use std::time::Instant;

    /// A tensor at 0.
    fn resident(tensor_number: usize, written_by: &[usize], read_by: &[usize]) -> Resident {
        Resident {
            tensor: tensor_number,
            record: tensor(DType::F32, 1.0, 0),
            written_by: written_by.to_vec(),
            read_by: read_by.to_vec(),
            view_of: None,
            input: None,
            output: None,
        }
    }

    #[test]
    fn a_view_is_of_what_was_written_last() {
        let input = Resident { input: Some("x".into()), ..resident(0, &[], &[1]) };
        let mut all = vec![
            input,
            resident(1, &[], &[0]),
            resident(2, &[1, 2], &[]),
            resident(3, &[], &[3, 4]),
            resident(4, &[5], &[]),
            // Read by nothing: an output, the last thing there is.
            resident(5, &[], &[]),
        ];
        all[5].record.0.bytes = 4;
        let mut elsewhere = resident(6, &[3], &[]);
        elsewhere.record.0.bytes = 4;
        all.push(elsewhere);
        resolve_views(&mut all);
        let found: Vec<_> = all.iter().map(|r| (r.view_of, r.written_by.clone())).collect();
        assert_eq!(found[1], (Some(0), vec![]));
        assert_eq!(found[3], (Some(2), vec![2]));
        assert_eq!(found[5], (Some(6), vec![3]));
        assert!([0, 2, 4, 6].iter().all(|&i| found[i].0.is_none()));
    }

    #[test]
    fn views_take_time_in_proportion() {
        // All in one place, as in a long chain of steps: every other tensor is a view of the one before. To look at each
        // tensor for each takes a thousand times as long as to make them; the fastest of a few counts, because other
        // programs run here too.
        const TENSORS: usize = 200_000;
        let one = |i: usize| if i.is_multiple_of(2) { resident(i, &[i], &[]) } else { resident(i, &[], &[i + 1]) };
        let times = || {
            let start = Instant::now();
            let mut all: Vec<Resident> = (0..TENSORS).map(one).collect();
            let made = start.elapsed();
            resolve_views(&mut all);
            assert!((1..TENSORS).step_by(2).all(|i| all[i].view_of == Some(i - 1)));
            (start.elapsed() - made).as_secs_f64() / made.as_secs_f64()
        };
        let ratio = (0..3).map(|_| times()).fold(f64::INFINITY, f64::min);
        assert!(ratio < 50.0, "resolving takes {ratio} times as long as making");
    }
}
