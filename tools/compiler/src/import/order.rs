//! The order in which nodes are read. ONNX asks for one in which every node comes after those it reads from, but tools that
//! do not look into subgraphs write nodes behind a loop whose body reads from them.

use std::collections::{HashMap, HashSet};

use kinglet_onnx::{GraphProto, NodeProto};

/// The nodes of a graph, each after those it reads from, otherwise in the order of the file. What reads itself in a circle
/// stays where it is.
pub(super) fn order(graph: &GraphProto) -> Vec<usize> {
    let mut made_by = HashMap::new();
    for (i, node) in graph.node.iter().enumerate() {
        node.output.iter().filter(|o| !o.is_empty()).for_each(|o| {
            made_by.entry(o.as_str()).or_insert(i);
        });
    }
    let needs: Vec<Vec<usize>> = graph
        .node
        .iter()
        .enumerate()
        .map(|(i, node)| {
            let read = node.input.iter().map(String::as_str).chain(free_names(node));
            read.filter_map(|name| made_by.get(name).copied()).filter(|&p| p != i).collect()
        })
        .collect();
    let mut order = Vec::with_capacity(graph.node.len());
    // 0: not reached, 1: waits for what it needs, 2: in the order.
    let mut state = vec![0u8; graph.node.len()];
    for root in 0..graph.node.len() {
        let mut stack = vec![root];
        while let Some(&i) = stack.last() {
            if state[i] == 0 {
                state[i] = 1;
                stack.extend(needs[i].iter().rev().filter(|&&p| state[p] == 0));
            } else {
                stack.pop();
                if state[i] == 1 {
                    state[i] = 2;
                    order.push(i);
                }
            }
        }
    }
    order
}

/// Names that the subgraphs of a node read but do not define.
fn free_names(node: &NodeProto) -> Vec<&str> {
    let mut free = Vec::new();
    for graph in node.attribute.iter().filter_map(|a| a.g.as_ref()) {
        let inputs = graph.input.iter().map(|i| i.name.as_str());
        let constants = graph.initializer.iter().map(|t| t.name.as_str());
        let computed = graph.node.iter().flat_map(|n| &n.output).map(String::as_str);
        let own: HashSet<&str> = inputs.chain(constants).chain(computed).collect();
        let outputs = graph.output.iter().map(|o| o.name.as_str());
        let read = graph.node.iter().flat_map(|n| n.input.iter().map(String::as_str).chain(free_names(n)));
        free.extend(read.chain(outputs).filter(|name| !name.is_empty() && !own.contains(name)));
    }
    free
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(input: &[&str], output: &str) -> NodeProto {
        let input = input.iter().map(|s| s.to_string()).collect();
        NodeProto { input, output: vec![output.into()], ..NodeProto::default() }
    }

    #[test]
    fn what_a_subgraph_reads_comes_first() {
        let body = GraphProto { node: vec![node(&["late"], "inner")], ..GraphProto::default() };
        let attribute = kinglet_onnx::AttributeProto { g: Some(body), ..Default::default() };
        let looped = NodeProto { attribute: vec![attribute], ..node(&["x"], "y") };
        let graph = GraphProto { node: vec![node(&[], "x"), looped, node(&["x"], "late")], ..GraphProto::default() };
        assert_eq!(order(&graph), [0, 2, 1]);
    }

    #[test]
    fn a_sorted_file_stays_as_it_is_and_a_circle_ends() {
        let sorted = GraphProto { node: vec![node(&["x"], "a"), node(&["a"], "b")], ..GraphProto::default() };
        assert_eq!(order(&sorted), [0, 1]);
        let circle = GraphProto { node: vec![node(&["b"], "a"), node(&["a"], "b")], ..GraphProto::default() };
        assert_eq!(order(&circle).len(), 2);
    }
}
