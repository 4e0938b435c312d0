//! A failure made small: by simpler choices, then by taking nodes, attributes and values away.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use kinglet::DType;
use kinglet_compiler::array::Array;
use kinglet_compiler::{eval, import};
use kinglet_onnx::{ModelProto, NodeProto};

use super::attributes::port;
use super::net::options;
use super::{Random, again};

/// Most models that are tried by other choices.
const TRIES: usize = 600;

type Inputs = BTreeMap<String, Array>;

/// The smallest model found for which `fails` holds as it does for that of the seed.
pub fn shrunk(seed: u64, failing: &Random, fails: impl Fn(&ModelProto, &Inputs) -> bool) -> (ModelProto, Inputs) {
    let simple = simpler(seed, failing, &fails);
    let (mut model, mut inputs) = (simple.model, simple.inputs);
    while less(&mut model, &mut inputs, &fails) {}
    (model, inputs)
}

/// Other choices: runs of them left out, or all 0.
fn simpler(seed: u64, failing: &Random, fails: &impl Fn(&ModelProto, &Inputs) -> bool) -> Random {
    let mut best = failing.clone();
    let mut tries = 0;
    let mut run = best.choices.len() / 2;
    while run > 0 && tries < TRIES {
        let mut at = 0;
        while at < best.choices.len() && tries < TRIES {
            let end = (at + run).min(best.choices.len());
            let mut without = best.choices.clone();
            without.drain(at..end);
            let mut zero = best.choices.clone();
            zero[at..end].fill(0);
            let smaller = [without, zero].into_iter().filter(|c| *c != best.choices).find_map(|choices| {
                tries += 1;
                let other = again(seed, choices);
                (weight(&other) < weight(&best) && fails(&other.model, &other.inputs)).then_some(other)
            });
            match smaller {
                Some(other) => best = other,
                None => at += run,
            }
        }
        run /= 2;
    }
    best
}

/// What a smaller model has less of: nodes, then elements, then choices.
fn weight(r: &Random) -> (usize, usize, u64) {
    let nodes = r.model.graph.as_ref().map_or(0, |g| g.node.len());
    (nodes, r.inputs.values().map(Array::len).sum(), r.choices.iter().map(|&c| u64::from(c) + 1).sum())
}

/// Takes something away, if the model still fails without it.
fn less(model: &mut ModelProto, inputs: &mut Inputs, fails: &impl Fn(&ModelProto, &Inputs) -> bool) -> bool {
    let candidates = outputs_alone(model)
        .chain(nodes_cut(model, inputs))
        .chain(nodes_passed(model, inputs))
        .chain(attributes_dropped(model))
        .map(|(m, more)| {
            let mut all = inputs.clone();
            all.extend(more);
            live(m, all)
        })
        .chain(values_zeroed(model, inputs));
    let found = candidates.into_iter().find(|(m, i)| size(m, i) < size(model, inputs) && fails(m, i));
    let Some((m, i)) = found else { return false };
    (*model, *inputs) = (m, i);
    true
}

fn size(model: &ModelProto, inputs: &Inputs) -> (usize, usize, usize, usize) {
    let graph = model.graph.as_ref().expect("it has one");
    let other = inputs.values().flat_map(|v| v.reals().to_vec()).filter(|v| v.to_bits() != 0).count();
    let attributes = graph.node.iter().map(|n| n.attribute.len()).sum();
    (graph.node.len(), graph.output.len(), attributes, other)
}

/// One output instead of several.
fn outputs_alone(model: &ModelProto) -> impl Iterator<Item = (ModelProto, Inputs)> + use<> {
    let model = model.clone();
    let count = model.graph.as_ref().map_or(0, |g| g.output.len());
    (0..if count > 1 { count } else { 0 }).map(move |k| {
        let mut m = model.clone();
        let graph = m.graph.get_or_insert_default();
        graph.output = vec![graph.output[k].clone()];
        (m, Inputs::new())
    })
}

/// Inputs instead of what a node gives.
fn nodes_cut(model: &ModelProto, inputs: &Inputs) -> impl Iterator<Item = (ModelProto, Inputs)> + use<> {
    let (model, inputs) = (model.clone(), inputs.clone());
    let count = model.graph.as_ref().map_or(0, |g| g.node.len());
    (0..count).rev().filter_map(move |k| {
        let names = model.graph.as_ref()?.node[k].output.clone();
        let values = values_of(&model, &inputs, &names)?;
        let mut m = model.clone();
        let graph = m.graph.get_or_insert_default();
        graph.node.remove(k);
        graph.input.extend(values.iter().map(|(name, v)| port(name, v.dtype, &v.shape)));
        Some((m, values))
    })
}

/// What a node reads instead of what it gives, if both are of one type and shape.
fn nodes_passed(model: &ModelProto, inputs: &Inputs) -> impl Iterator<Item = (ModelProto, Inputs)> + use<> {
    let (model, inputs) = (model.clone(), inputs.clone());
    let graph = model.graph.clone().unwrap_or_default();
    graph.node.into_iter().enumerate().rev().filter_map(move |(k, node)| {
        let [from, to] = [node.input.first()?, node.output.first()?];
        let values = values_of(&model, &inputs, &[from.clone(), to.clone()])?;
        let [a, b] = [values.get(from)?, values.get(to)?];
        if a.dtype != b.dtype || a.shape != b.shape {
            return None;
        }
        let mut m = model.clone();
        let graph = m.graph.get_or_insert_default();
        graph.node.remove(k);
        for name in graph.node.iter_mut().flat_map(|n| &mut n.input).filter(|n| *n == to) {
            *name = from.clone();
        }
        for port in graph.output.iter_mut().filter(|o| o.name == *to) {
            port.name = from.clone();
        }
        Some((m, Inputs::new()))
    })
}

/// The values of some tensors.
fn values_of(model: &ModelProto, inputs: &Inputs, names: &[String]) -> Option<Inputs> {
    let mut m = model.clone();
    let graph = m.graph.get_or_insert_default();
    graph.output = names.iter().filter(|n| !n.is_empty()).map(|n| port(n, DType::F32, &[])).collect();
    let graph = import(&m.to_bytes(), None, &options()).ok()?;
    let given: Vec<Array> = graph.inputs.iter().map(|&t| inputs[&graph.tensors[t].name].clone()).collect();
    let values = eval::run(&graph, &given).ok()?;
    Some(graph.output_names.into_iter().zip(values.into_iter().map(Array::stored)).collect())
}

/// A node without one of its attributes.
fn attributes_dropped(model: &ModelProto) -> impl Iterator<Item = (ModelProto, Inputs)> + use<> {
    let model = model.clone();
    let nodes = model.graph.as_ref().map_or(vec![], |g| g.node.iter().map(|n| n.attribute.len()).collect());
    let places = nodes.into_iter().enumerate().flat_map(|(k, len)| (0..len).map(move |a| (k, a)));
    places.map(move |(k, a)| {
        let mut m = model.clone();
        m.graph.get_or_insert_default().node[k].attribute.remove(a);
        (m, Inputs::new())
    })
}

/// An input that is 0, or whose second half is.
fn values_zeroed(model: &ModelProto, inputs: &Inputs) -> impl Iterator<Item = (ModelProto, Inputs)> + use<> {
    let (model, inputs) = (model.clone(), inputs.clone());
    let names: Vec<String> = inputs.keys().cloned().collect();
    names.into_iter().flat_map(|n| [(n.clone(), 0, 1), (n.clone(), 1, 2), (n, 0, 2)]).map(move |(name, part, of)| {
        let mut all = inputs.clone();
        let old = &all[&name];
        let range = old.len() * part / of..old.len() * (part + 1) / of;
        let v: Vec<f64> =
            old.reals().iter().enumerate().map(|(k, &v)| if range.contains(&k) { 0.0 } else { v }).collect();
        let new = match old.dtype {
            DType::F32 => Array::f32(&old.shape, v),
            _ => Array::int(old.dtype, &old.shape, v.into_iter().map(|v| v as i64).collect()),
        };
        all.insert(name, new);
        (model.clone(), all)
    })
}

/// Names that a node reads, those of its bodies included.
fn reads(node: &NodeProto, names: &mut BTreeSet<String>) {
    names.extend(node.input.iter().cloned());
    for graph in node.attribute.iter().filter_map(|a| a.g.as_ref()) {
        graph.node.iter().for_each(|n| reads(n, names));
        names.extend(graph.output.iter().map(|o| o.name.clone()));
    }
}

/// What of a model its outputs depend on.
fn live(mut model: ModelProto, mut inputs: Inputs) -> (ModelProto, Inputs) {
    let graph = model.graph.get_or_insert_default();
    let mut names: BTreeSet<String> = graph.output.iter().map(|o| o.name.clone()).collect();
    let mut kept = Vec::new();
    for node in graph.node.drain(..).rev() {
        if node.output.iter().any(|o| names.contains(o)) {
            reads(&node, &mut names);
            kept.push(node);
        }
    }
    graph.node = kept.into_iter().rev().collect();
    graph.initializer.retain(|t| names.contains(&t.name));
    graph.input.retain(|p| names.contains(&p.name));
    inputs.retain(|name, _| names.contains(name));
    (model, inputs)
}

/// Writes a model and its inputs into a folder of the name under `to`: `model.onnx`, and an array `INPUT.npy` each.
///
/// # Panics
/// If the folder cannot be written.
pub fn keep(to: &Path, name: &str, model: &ModelProto, inputs: &Inputs) -> PathBuf {
    let folder = to.join(name);
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    std::fs::write(folder.join("model.onnx"), model.to_bytes()).expect("the folder can be written to");
    for (name, value) in inputs {
        std::fs::write(folder.join(format!("{name}.npy")), npy(value)).expect("the folder can be written to");
    }
    folder
}

/// An array as numpy stores it.
pub fn npy(a: &Array) -> Vec<u8> {
    let dtype = match a.dtype {
        DType::F32 => "<f4",
        DType::I8 => "|i1",
        DType::U8 => "|u1",
        DType::I16 => "<i2",
        DType::U16 => "<u2",
        DType::I32 => "<i4",
        DType::I64 => "<i8",
        DType::Bool => "|b1",
        DType::F16 => "<f2",
    };
    let dims: String = a.shape.iter().map(|d| format!("{d},")).collect();
    let mut header = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({dims}), }}");
    // The data begins at a multiple of 64, behind a line feed.
    let padding = 63 - (10 + header.len()) % 64;
    header.extend(std::iter::repeat_n(' ', padding));
    header.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.as_bytes());
    out.extend_from_slice(&a.to_bytes());
    out
}
