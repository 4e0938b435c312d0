//! Recurrences: loops are tidied, unrolled ones rolled up again, and those that are a selective scan or a Legendre memory
//! become one node.

mod axes;
mod frame;
mod gates;
mod legendre_memory;
mod linear;
mod roll;
mod selective_scan;
mod tidy;
mod walk;

pub use frame::recognise as recognise_frames;
pub use gates::fuse as fuse_gates;
pub use linear::recognise as recognise_memories;
pub use roll::roll;
pub use tidy::tidy;

use crate::graph::{Graph, Node, Op, TensorId};

/// Replaces each loop that is a selective scan or a Legendre memory by that operator.
pub fn recognise(graph: &mut Graph) {
    let loops: Vec<TensorId> = graph.nodes.iter().filter(|n| matches!(n.op, Op::Loop(_))).map(|n| n.output).collect();
    for output in loops {
        let found = {
            let looped = graph.nodes.iter().find(|n| n.output == output);
            let Some(scope) = looped.and_then(|n| walk::Scope::new(graph, n)) else { continue };
            selective_scan::find(&scope).map(Found::Scan).or_else(|| legendre_memory::find(&scope).map(Found::Memory))
        };
        let Some(found) = found else { continue };
        let at = graph.nodes.iter().position(|n| n.output == output).expect("found above");
        let node = graph.nodes.remove(at);
        match found {
            Found::Scan(scan) => scan.write(graph, &node),
            Found::Memory(memory) => memory.write(graph, &node),
        }
        graph.sort();
    }
    super::cleanup::cleanup(graph);
}

enum Found {
    Scan(selective_scan::Scan),
    Memory(legendre_memory::Memory),
}

/// The names of the nodes that a loop was made of.
fn source_of(node: &Node) -> Vec<String> {
    let Op::Loop(body) = &node.op else { return node.source.clone() };
    super::util::merged_sources(body.graph.nodes.iter().chain([node]))
}
