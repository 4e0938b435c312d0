//! Changes to the structure of an ONNX model: operands, attributes, shapes, types, operators, subgraphs.

use kinglet_compiler::ops::{OPERATORS, OWN_DOMAIN, OWN_OPERATORS};
use kinglet_onnx::{
    AttributeProto, Dimension, DimensionProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto,
};

use crate::Random;

const NUMBERS: [i64; 18] =
    [-1, 0, 1, 2, 3, 4, 5, 7, 16, -2, -5, 255, 1 << 14, 1 << 20, 1 << 31, i64::MAX, i64::MIN, i64::MIN + 1];
const REALS: [f32; 8] = [0.0, -1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-45, f32::MAX, 0.5];
const TYPES: [i32; 9] = [1, 2, 3, 4, 5, 6, 7, 9, 11];

fn number(random: &mut Random) -> i64 {
    NUMBERS[random.below(NUMBERS.len())]
}

fn real(random: &mut Random) -> f32 {
    REALS[random.below(REALS.len())]
}

/// Changes a constant: its shape, type, length or one element.
fn mutate_tensor(t: &mut TensorProto, random: &mut Random) {
    match random.below(8) {
        0 => t.dims.push(number(random)),
        1 => drop(t.dims.pop()),
        2 => t.dims.iter_mut().take(1).for_each(|d| *d = number(random)),
        3 => {
            t.data_type = TYPES[random.below(TYPES.len())];
            // Data of that type, so that the change gets past the reader.
            let n = t.float_data.len().max(t.int32_data.len()).max(t.int64_data.len());
            t.float_data.resize(n, 1.0);
            t.int32_data.resize(n, 1);
            t.int64_data.resize(n, 1);
        }
        4 => {
            t.float_data.pop();
            t.int64_data.pop();
        }
        5 => {
            // Another length that fits the shape.
            let n = random.below(5);
            t.dims = vec![n as i64];
            t.float_data.resize(n, 0.5);
            t.int32_data.resize(n, 1);
            t.int64_data.resize(n, 1);
        }
        _ => {
            let i = random.below(4);
            let (v, r) = (number(random), real(random));
            t.int64_data.iter_mut().skip(i).take(1).for_each(|d| *d = v);
            t.int32_data.iter_mut().skip(i).take(1).for_each(|d| *d = v as i32);
            t.float_data.iter_mut().skip(i).take(1).for_each(|d| *d = r);
        }
    }
}

/// The names of a graph and of the graphs in it.
fn names(graph: &GraphProto, found: &mut Vec<String>) {
    found.extend(graph.initializer.iter().map(|t| t.name.clone()));
    found.extend(graph.input.iter().map(|i| i.name.clone()));
    for node in &graph.node {
        found.extend(node.output.clone());
        node.attribute.iter().filter_map(|a| a.g.as_ref()).for_each(|g| names(g, found));
    }
}

/// A graph or one in it.
fn any_graph<'a>(graph: &'a mut GraphProto, random: &mut Random) -> &'a mut GraphProto {
    let inner = |(i, n): (usize, &NodeProto)| {
        let graphs = n.attribute.iter().enumerate().filter(|(_, a)| a.g.is_some());
        graphs.map(|(k, _)| (i, k)).collect::<Vec<_>>()
    };
    let inner: Vec<(usize, usize)> = graph.node.iter().enumerate().flat_map(inner).collect();
    if inner.is_empty() || random.below(3) == 0 {
        return graph;
    }
    let (i, k) = inner[random.below(inner.len())];
    any_graph(graph.node[i].attribute[k].g.as_mut().expect("it was there"), random)
}

/// Changes one thing of a model's structure.
pub fn mutate(model: &mut ModelProto, random: &mut Random) {
    let mut found = Vec::new();
    names(model.graph.get_or_insert_default(), &mut found);
    let names = found;
    let graph = any_graph(model.graph.get_or_insert_default(), random);
    let any = |random: &mut Random| names.get(random.below(names.len())).cloned().unwrap_or_default();
    let nodes = graph.node.len();
    if nodes == 0 {
        return;
    }
    let at = random.below(nodes);
    match random.below(15) {
        0..=3 => {
            let node = &mut graph.node[at];
            let inputs = node.input.len();
            if let Some(i) = node.input.get_mut(random.below(inputs)) {
                *i = match random.below(6) {
                    0 => String::new(),
                    _ => any(random),
                };
            }
        }
        4 => {
            let node = &mut graph.node[at];
            match random.below(4) {
                0 => drop(node.input.pop()),
                1 => node.input.push(any(random)),
                2 => node.output.push(format!("extra{}", random.below(100))),
                _ => node.output.clear(),
            }
        }
        5 | 6 => {
            let node = &mut graph.node[at];
            let n = node.attribute.len();
            let Some(a) = node.attribute.get_mut(random.below(n)) else { return };
            match random.below(5) {
                0 => a.i = number(random),
                1 => a.f = real(random),
                2 => a.ints.push(number(random)),
                3 => drop(a.ints.pop()),
                _ => {
                    a.i = number(random);
                    let i = random.below(a.ints.len());
                    let v = number(random);
                    a.ints.iter_mut().skip(i).take(1).for_each(|d| *d = v);
                    a.t.iter_mut().for_each(|t| mutate_tensor(t, random));
                }
            }
        }
        7 => {
            // An attribute that some operator has, on a node that may not.
            let known = "axis pads strides dilations kernel_shape group perm keepdims axes to start end alpha beta epsilon \
                         output_padding output_shape blocksize transA transB exclusive split starts ends shape value \
                         num_scan_inputs scan_input_axes scan_input_directions scan_output_axes scan_output_directions \
                         new_axis delta_softplus";
            let known: Vec<&str> = known.split_whitespace().collect();
            let ints = (0..random.below(5)).map(|_| number(random)).collect();
            graph.node[at].attribute.push(AttributeProto {
                name: known[random.below(known.len())].into(),
                i: number(random),
                f: real(random),
                ints,
                ..Default::default()
            });
        }
        8 | 9 => {
            let n = graph.initializer.len();
            if let Some(t) = graph.initializer.get_mut(random.below(n)) {
                mutate_tensor(t, random);
            }
        }
        10 => {
            let n = graph.input.len();
            let input = graph.input.get_mut(random.below(n)).and_then(|i| i.r#type.as_mut());
            let Some(tensor) = input.and_then(|t| t.tensor_type.as_mut()) else { return };
            let shape = tensor.shape.get_or_insert_default();
            match random.below(4) {
                0 => tensor.elem_type = TYPES[random.below(TYPES.len())],
                1 => drop(shape.dim.pop()),
                2 => shape.dim.push(DimensionProto { value: Some(Dimension::Value(2)) }),
                _ => {
                    let i = random.below(shape.dim.len());
                    let v = number(random);
                    shape.dim.iter_mut().skip(i).take(1).for_each(|d| d.value = Some(Dimension::Value(v)));
                }
            }
        }
        11 => {
            // Another operator for the same operands.
            let own = random.below(12) == 0;
            let all = if own { OWN_OPERATORS } else { OPERATORS };
            graph.node[at].domain = if own { OWN_DOMAIN.into() } else { String::new() };
            graph.node[at].op_type = all[random.below(all.len())].name.into();
        }
        12 => {
            // What goes in and out of a subgraph, and the subgraphs themselves.
            let value = |name: String| ValueInfoProto { name, r#type: None };
            let outputs = graph.output.len();
            match random.below(6) {
                0 => drop(graph.input.pop()),
                1 => graph.input.push(value(format!("formal{}", random.below(100)))),
                2 => drop(graph.output.pop()),
                3 => graph.output.insert(random.below(outputs), value(any(random))),
                4 => {
                    let i = random.below(outputs);
                    graph.output.iter_mut().skip(i).take(1).for_each(|o| o.name = any(random));
                }
                _ => graph.node[at].attribute.iter_mut().for_each(|a| a.g = None),
            }
        }
        13 => {
            // A name of another graph for one of this.
            let outputs = graph.node[at].output.len();
            let name = any(random);
            graph.node[at].output.iter_mut().skip(random.below(outputs)).take(1).for_each(|o| *o = name.clone());
        }
        _ => match random.below(4) {
            0 => graph.node.swap(at, random.below(nodes)),
            1 => {
                let copy = graph.node[at].clone();
                graph.node.push(copy);
            }
            2 => {
                let version = [1, 6, 9, 10, 12, 13, 22][random.below(7)];
                model.opset_import.iter_mut().for_each(|o| o.version = version);
            }
            _ => {
                let name = any(random);
                graph.output.push(ValueInfoProto { name, r#type: None });
            }
        },
    }
}
