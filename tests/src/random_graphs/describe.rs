//! Models in lines, for people.

use kinglet_onnx::{ModelProto, NodeProto};

/// A node in a line.
pub fn line(node: &NodeProto) -> String {
    let attributes: Vec<String> = node
        .attribute
        .iter()
        .map(|a| match a.r#type {
            1 => format!("{}={}", a.name, a.f),
            2 => format!("{}={}", a.name, a.i),
            3 => format!("{}={}", a.name, String::from_utf8_lossy(&a.s)),
            6 => format!("{}={:?}", a.name, a.floats),
            7 => format!("{}={:?}", a.name, a.ints),
            5 => format!("{}={{{}}}", a.name, lines(&a.g.iter().flat_map(|g| g.node.clone()).collect::<Vec<_>>())),
            _ => a.name.clone(),
        })
        .collect();
    format!("{} = {}({}) {}", node.output.join(" "), node.op_type, node.input.join(" "), attributes.join(" "))
}

fn lines(nodes: &[NodeProto]) -> String {
    nodes.iter().map(line).collect::<Vec<_>>().join("; ")
}

/// A model in a line.
pub fn describe(model: &ModelProto) -> String {
    format!("opset {}: {}", model.opset(""), lines(&model.graph.as_ref().expect("it has one").node))
}
