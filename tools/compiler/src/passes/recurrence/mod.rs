//! Recurrences: loops are tidied, unrolled ones rolled up again, and those that are a selective scan or a Legendre memory
//! become one node.

mod axes;
mod convolve;
mod frame;
mod gates;
mod legendre_memory;
mod linear;
mod response;
mod roll;
mod rolled;
mod rounding;
mod selective_scan;
mod tidy;
mod walk;

pub use convolve::convolve;
pub use frame::recognise as recognise_frames;
pub use gates::fuse as fuse_gates;
pub use linear::recognise as recognise_memories;
pub use roll::roll;
pub use tidy::tidy;

use std::collections::HashMap;

use crate::graph::{Graph, Node, Op};
use walk::{Known, Scope};

/// Replaces each loop that is a selective scan or a Legendre memory by that operator, and what is one once it is rolled up
/// and its roundings are left out.
pub fn recognise(graph: &mut Graph) {
    let mut known = Known::of(graph);
    let mut dead = vec![false; graph.nodes.len()];
    for i in 0..graph.nodes.len() {
        if let Some(found) = Scope::new(graph, &graph.nodes[i], &known).and_then(|scope| Found::of(&scope)) {
            let stub = Node::new(Op::Reshape, Vec::new(), graph.nodes[i].output, Vec::new());
            let node = std::mem::replace(&mut graph.nodes[i], stub);
            dead[i] = true;
            let new = graph.nodes.len();
            found.write(graph, &known, &node);
            known.links.extend(graph, new);
        }
    }
    let mut instead = HashMap::new();
    for rolled in roll::rounded(graph, &known) {
        let new = graph.nodes.len();
        let written = rolled.append(graph);
        known.links.extend(graph, new);
        // What is no recurrence that has a step keeps its roundings: nobody reads the loop that was appended.
        let looped = graph.nodes[written.looped].clone();
        let found = Scope::new(graph, &looped, &known).and_then(|scope| Found::of(&scope));
        dead.resize(graph.nodes.len(), false);
        if let Some(found) = found {
            dead[written.looped] = true;
            let new = graph.nodes.len();
            found.write(graph, &known, &looped);
            known.links.extend(graph, new);
            written.commit(graph, &mut instead);
        }
    }
    dead.resize(graph.nodes.len(), false);
    graph.remove_nodes(&dead);
    graph.replace_uses(&instead);
    graph.sort();
    super::cleanup::cleanup(graph);
}

enum Found {
    Scan(selective_scan::Scan),
    Memory(legendre_memory::Memory),
}

impl Found {
    fn of(scope: &Scope<'_>) -> Option<Self> {
        selective_scan::find(scope).map(Found::Scan).or_else(|| legendre_memory::find(scope).map(Found::Memory))
    }

    fn write(self, graph: &mut Graph, known: &Known, node: &Node) {
        match self {
            Found::Scan(scan) => scan.write(graph, &known.links, node),
            Found::Memory(memory) => memory.write(graph, &known.links, node),
        }
    }
}

/// The names of the nodes that a loop was made of.
fn source_of(node: &Node) -> Vec<String> {
    let Op::Loop(body) = &node.op else { return node.source.clone() };
    super::util::merged_sources(body.graph.nodes.iter().chain([node]))
}
