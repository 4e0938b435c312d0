//! Plan → `.kgl`.

use std::collections::HashMap;

use kinglet::format::words::Record;
use kinglet::format::{
    ABSENT, ALIGN, BandRecord, CHECKED_FROM, HEADER_BYTES, MAGIC, MAX_RANK, Region, SECTION_ENTRY_BYTES, Section,
    StepRecord, TensorRecord, VERSION, checksum,
};
use kinglet::{Model, Target};

use super::order::buffer;
use super::{Hot, Layout, hot};
use crate::graph::{Graph, TensorId};
use crate::lower::{Lowered, Place, PlanStep, PlanTensorId};
use crate::report::{FloatStep, Report, StepReport};
use crate::{Error, Options, Unsupported};

/// The file, what there is to tell about it, and the numbers in it of the graph's tensors.
type Written = (Vec<u8>, Report, HashMap<TensorId, usize>);

/// Writes the file, checks it as the runtime will, and reports on it. The last part of the result is the number that each
/// tensor of the graph has in the file, if it has one.
///
/// # Errors
/// [`Error::TooLarge`] if a tensor has too many dimensions for the format, [`Error::Internal`] if the runtime refuses the
/// result.
pub fn write(graph: &Graph, mut lowered: Lowered, layout: &Layout, options: &Options) -> Result<Written, Error> {
    let hot = if options.hot_weights > 0 { hot::order(&mut lowered, options.hot_weights) } else { Hot::default() };
    let mut plan = Plan::default();
    for (at, &i) in layout.order.iter().enumerate() {
        let step = &lowered.steps[i];
        let slice = layout.bands.slices.get(at).copied().flatten();
        let operands = plan.operands.len() as u32;
        for input in &step.inputs {
            let word = input.map_or(Ok(ABSENT), |t| plan.tensor(&lowered, layout, t))?;
            plan.operands.push(word);
        }
        for &output in &step.outputs {
            let word = plan.tensor(&lowered, layout, output)?;
            plan.operands.push(word);
        }
        let record = StepRecord {
            kind: step.kind as u32,
            operands,
            inputs: step.inputs.len() as u32,
            outputs: step.outputs.len() as u32,
            params: plan.params.len() as u32,
            rows: step.rows as u32,
            columns: step.columns as u32,
            slice_rows: slice.map_or(0, |s| s.rows),
            delay: slice.map_or(0, |s| s.delay),
            scratch: step.scratch as u32,
            macs: [step.macs as u32, (step.macs >> 32) as u32],
        };
        plan.params.extend_from_slice(&step.params);
        record.write(&mut |w| plan.steps.push(w));
    }
    let mut io = vec![lowered.inputs.len() as u32, lowered.outputs.len() as u32];
    for &t in lowered.inputs.iter().chain(&lowered.outputs) {
        io.push(plan.tensor(&lowered, layout, t)?);
    }
    for default in &lowered.defaults {
        io.push(default.map_or(Ok(ABSENT), |t| plan.tensor(&lowered, layout, t))?);
    }
    let input_names = graph.inputs.iter().map(|&t| graph.tensors[t].name.clone());
    let steps = || layout.order.iter().map(|&i| &lowered.steps[i]);
    let names: Vec<String> = input_names
        .chain(graph.output_names.iter().cloned())
        .chain(steps().map(|s| s.name.clone()))
        .chain(steps().map(|s| s.source.join("\n")))
        .collect();
    let metadata: Vec<String> = graph.metadata.iter().flat_map(|(k, v)| [k.clone(), v.clone()]).collect();

    let number = |(&t, p): (&TensorId, &PlanTensorId)| Some((t, *plan.known.get(p)? as usize));
    let numbers = lowered.of_graph.iter().filter_map(number).collect();
    let report = report(&lowered, layout);
    let sections: Vec<(Section, Vec<u8>)> = vec![
        (Section::Tensors, bytes(&plan.tensors)),
        (Section::Operands, bytes(&plan.operands)),
        (Section::Params, bytes(&plan.params)),
        (Section::Steps, bytes(&plan.steps)),
        (Section::Bands, bytes(&bands(&lowered, layout))),
        (Section::Io, bytes(&io)),
        (Section::Names, strings(&names)),
        (Section::Metadata, strings(&metadata)),
        (Section::Weights, lowered.weights),
    ];
    // The sections go with it: the weights are there twice at most, here and when the file is checked.
    let kgl = assemble(sections, layout, options.target)?;
    verify(&kgl).map_err(|e| explained(e, steps()))?;
    Ok((kgl, Report { onnx_nodes: graph.onnx_nodes, hot, ..report }, numbers))
}

#[derive(Default)]
struct Plan {
    tensors: Vec<u32>,
    known: HashMap<usize, u32>,
    operands: Vec<u32>,
    params: Vec<u32>,
    steps: Vec<u32>,
}

impl Plan {
    /// The number of a tensor in the file; its record is written on first use.
    fn tensor(&mut self, l: &Lowered, layout: &Layout, t: usize) -> Result<u32, Error> {
        if let Some(&n) = self.known.get(&t) {
            return Ok(n);
        }
        let record = record(l, t, layout)?;
        record.write(&mut |w| self.tensors.push(w));
        let n = self.known.len() as u32;
        self.known.insert(t, n);
        Ok(n)
    }
}

fn record(l: &Lowered, number: usize, layout: &Layout) -> Result<TensorRecord, Error> {
    let t = &l.tensors[number];
    let (region, offset) = match t.place {
        Place::Buffer(b) => (if layout.slow[b] { Region::Slow } else { Region::Arena }, layout.offsets[b]),
        Place::Weights(at) => (Region::Weights, at),
    };
    // Only inputs and outputs need their dimensions, and those have few; an intermediate of high rank is a list of elements.
    let shape = if t.shape.len() <= MAX_RANK { t.shape.clone() } else { vec![t.shape.iter().product()] };
    let mut dims = [0; MAX_RANK];
    dims.iter_mut().zip(&shape).for_each(|(d, &n)| *d = n as u32);
    let bytes = u32::try_from(t.bytes()).map_err(|_| Error::TooLarge(format!("a tensor of {} bytes", t.bytes())))?;
    let rows = t.rows().0 as u32;
    let row_bytes = bytes.checked_div(rows).unwrap_or(0);
    let ring = buffer(l, number).and_then(|b| layout.bands.rings.get(b).copied().flatten());
    let capacity = ring.and_then(|r| (r.bytes as u32).checked_div(row_bytes)).unwrap_or(rows);
    let writer = buffer(l, number).and_then(|b| layout.bands.writers.get(b).copied().flatten());
    Ok(TensorRecord {
        dtype: t.dtype,
        region,
        offset: offset as u32,
        bytes: if ring.is_some() { row_bytes * capacity } else { bytes },
        row_bytes,
        capacity,
        rows,
        writer: writer.map_or(ABSENT, |at| at as u32),
        advance: t.advance as i32,
        scale: t.scale,
        zero_point: t.zero_point,
        rank: shape.len() as u32,
        dims,
    })
}

/// Where in the order the bands are.
fn bands(l: &Lowered, layout: &Layout) -> Vec<u32> {
    let mut words = Vec::new();
    let mut last = None;
    for (at, &i) in layout.order.iter().enumerate() {
        if let Some(&(first, steps, slices)) = layout.bands.runs.iter().find(|run| run.0 == at) {
            let record = BandRecord { first_step: first as u32, steps: steps as u32, slices };
            record.write(&mut |w| words.push(w));
        }
        let band = l.steps[i].band;
        if let Some(b) = band.filter(|_| band != last) {
            let steps = layout.order[at..].iter().take_while(|&&i| l.steps[i].band == band).count();
            let record = BandRecord { first_step: at as u32, steps: steps as u32, slices: l.bands[b] as u32 };
            record.write(&mut |w| words.push(w));
        }
        last = band;
    }
    words
}

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

fn strings(list: &[String]) -> Vec<u8> {
    if list.is_empty() {
        return Vec::new();
    }
    let mut words = vec![list.len() as u32];
    let mut end = 0;
    for s in list {
        end += s.len();
        words.push(end as u32);
    }
    let mut out = bytes(&words);
    list.iter().for_each(|s| out.extend_from_slice(s.as_bytes()));
    out
}

fn assemble(sections: Vec<(Section, Vec<u8>)>, layout: &Layout, target: Target) -> Result<Vec<u8>, Error> {
    let table_end = HEADER_BYTES + sections.len() * SECTION_ENTRY_BYTES;
    let mut out = Vec::with_capacity(table_end + sections.iter().map(|(_, data)| data.len() + ALIGN).sum::<usize>());
    out.resize(table_end, 0u8);
    let mut table = Vec::new();
    for (id, data) in &sections {
        out.resize(out.len().next_multiple_of(ALIGN), 0);
        table.extend([*id as u32, out.len() as u32, data.len() as u32, 0]);
        out.extend_from_slice(data);
    }
    let len = u32::try_from(out.len()).map_err(|_| Error::TooLarge(format!("a file of {} bytes", out.len())))?;
    out[HEADER_BYTES..table_end].copy_from_slice(&bytes(&table));
    let weights = &sections.iter().find(|(id, _)| *id == Section::Weights).expect("there is always one").1;
    let weights_sum = checksum(weights, 0);
    let head = [
        weights_sum as u32,
        (weights_sum >> 32) as u32,
        len,
        layout.arena_bytes as u32,
        0,
        layout.lower_bound_bytes as u32,
        sections.len() as u32,
        layout.slow_bytes as u32,
    ];
    out[..4].copy_from_slice(&MAGIC);
    out[4..6].copy_from_slice(&VERSION.to_le_bytes());
    out[6..8].copy_from_slice(&(target as u16).to_le_bytes());
    out[CHECKED_FROM..CHECKED_FROM + head.len() * 4].copy_from_slice(&bytes(&head));
    let mut sum = checksum(&out[CHECKED_FROM..table_end], u64::from(VERSION) | u64::from(target as u16) << 16);
    for (id, data) in &sections {
        if *id != Section::Weights {
            sum = checksum(data, sum);
        }
    }
    out[8..16].copy_from_slice(&sum.to_le_bytes());
    Ok(out)
}

/// A step that the runtime refuses for its element types has no kernel; any other refusal is a defect.
fn explained<'a>(e: kinglet::Error, mut steps: impl Iterator<Item = &'a PlanStep>) -> Error {
    let kinglet::Error::Step { step, fault: kinglet::Fault::DType } = e else { return Error::Internal(e.to_string()) };
    let refused = steps.nth(step as usize);
    Error::Unsupported(vec![Unsupported {
        node: refused.map_or_else(String::new, |s| s.source.last().cloned().unwrap_or_else(|| s.name.clone())),
        op: refused.map_or_else(String::new, |s| s.kind.name().into()),
        reason: "there is no kernel for the element types of its operands".into(),
        remedy: "convert the model to f32 or quantise it to int8".into(),
    }])
}

/// Loads the file the way the runtime does, from aligned memory.
fn verify(kgl: &[u8]) -> Result<(), kinglet::Error> {
    Model::load(crate::fold::Lines::default().holding(kgl)).map(|_| ())
}

fn report(l: &Lowered, layout: &Layout) -> Report {
    let mut r = Report {
        weights_bytes: l.weights.len(),
        arena_bytes: layout.arena_bytes,
        slow_bytes: layout.slow_bytes,
        slow_traffic_bytes: layout.slow_traffic,
        scratch_bytes: layout.scratch_bytes,
        lower_bound_bytes: layout.lower_bound_bytes,
        ..Report::default()
    };
    for (at, &i) in layout.order.iter().enumerate() {
        let step = &l.steps[i];
        let slices = step.band.map_or(1, |b| l.bands[b]);
        r.macs += step.macs * slices as u64;
        match &step.float_reason {
            None => r.integer_steps += 1,
            Some(reason) => r.float_steps.push(FloatStep {
                name: step.name.clone(),
                kind: step.kind.name().into(),
                reason: reason.clone(),
            }),
        }
        r.steps.push(StepReport {
            name: step.name.clone(),
            kind: step.kind.name().into(),
            dtype: step.dtype.name().into(),
            macs: step.macs,
            roundings: step.roundings,
            slices,
            banded: layout.bands.slices.get(at).is_some_and(Option::is_some),
            source_nodes: step.source.clone(),
        });
    }
    r
}
