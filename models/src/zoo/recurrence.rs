//! Recurrences over time, in the forms that exporters write and compilers meet.
//!
//! A family writes one time step as nodes, once; [`Time`] puts it into the body of a Scan or Loop, writes it out for
//! every frame, or takes its state in and out, for one frame at a time. What has memory beside recurrences, above all
//! convolutions that look back, goes through [`Time`] as well, so that in the step form its memory becomes state.

use std::fmt;
use std::str::FromStr;

use kinglet_onnx::DataType;

use super::{Attribute, Conv, Net, Value, Window};

/// How recurrences are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// ONNX Scan, one a recurrence.
    #[default]
    Scan,
    /// ONNX Loop that reads its frame by Gather and stacks what it gives.
    Loop,
    /// The nodes of every frame, without control flow.
    Unrolled,
    /// A linear memory as a causal convolution with its impulse response, as long as the sequence. Other recurrences:
    /// Scan.
    Conv,
    /// A linear memory as a product of spectra, between two DFTs. Other recurrences: Scan.
    Fft,
    /// Nodes of the domain [`DOMAIN`](super::DOMAIN). Recurrences that have none: Scan.
    Custom,
    /// One frame; states are inputs `NAME` and outputs `NAME_next`.
    Step,
}

impl Form {
    /// All forms.
    pub const ALL: [Form; 7] =
        [Form::Scan, Form::Loop, Form::Unrolled, Form::Conv, Form::Fft, Form::Custom, Form::Step];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Form::Scan => "scan",
            Form::Loop => "loop",
            Form::Unrolled => "unrolled",
            Form::Conv => "conv",
            Form::Fft => "fft",
            Form::Custom => "custom",
            Form::Step => "step",
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Form {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = Form::ALL.map(Form::name).join(", ");
        Form::ALL.into_iter().find(|f| f.name() == text).ok_or(format!("expected one of {names}"))
    }
}

/// Where a convolution over time looks for the frames that are not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Back only: all padding before the first frame.
    Back,
    /// Back and ahead: half of the padding on each side.
    Both,
}

/// A sequence under construction: its form, and in the step form what is to live on until the next frame.
pub(super) struct Time {
    pub form: Form,
    next: Vec<(String, Value)>,
}

impl Time {
    pub fn new(form: Form) -> Self {
        Time { form, next: Vec::new() }
    }

    /// Whether the graph sees one frame, with states from outside.
    pub fn is_step(&self) -> bool {
        self.form == Form::Step
    }

    /// What the state `name` is before the first frame: an input of the graph in the step form, zeros otherwise. States
    /// have names of the whole graph, whatever the scope.
    pub fn state(&self, net: &mut Net<'_>, name: &str, shape: &[usize]) -> Value {
        if self.is_step() {
            return net.input(name, shape);
        }
        net.constant(&format!("{name}.zeros"), shape, vec![0.0; shape.iter().product()])
    }

    /// Makes `value` the state `name` after the frame. Does nothing in other forms than the step form.
    pub fn keep(&mut self, name: &str, value: Value) {
        if self.is_step() {
            self.next.push((name.to_string(), value));
        }
    }

    /// Makes the states of the step form outputs, `NAME_next`.
    pub fn finish(self, net: &mut Net<'_>) {
        for (name, value) in self.next {
            net.output(&format!("{name}_next"), &value);
        }
    }

    /// The recurrence `name`: from the state before a frame, and the frame's slices of the `sequences` `[time, …]`,
    /// `step` computes the state after it and what it gives. Returns what all frames give, stacked: `[time, …]`.
    /// `state` and `shape` are name and shape of the state.
    pub fn recurrence(
        &mut self,
        net: &mut Net<'_>,
        name: &str,
        (state, shape): (&str, &[usize]),
        sequences: &[(&str, &Value)],
        step: impl Fn(&mut Net<'_>, &Value, &[Value]) -> [Value; 2],
    ) -> Value {
        let first = self.state(net, state, shape);
        let recurrence = Recurrence { name, first: &first, sequences, step: &step };
        let [last, stacked] = match self.form {
            Form::Scan | Form::Conv | Form::Fft | Form::Custom => recurrence.scan(net),
            Form::Loop => recurrence.r#loop(net),
            Form::Unrolled | Form::Step => recurrence.unrolled(net),
        };
        self.keep(state, last);
        stacked
    }

    /// A convolution over the frames of `x` `[1, channels, time]` that gives as many: `layer` makes it from its window
    /// of `kernel` frames. In the step form the frames that it looks back to are the state
    /// `[1, channels, kernel − 1]` with the name `state`.
    #[expect(clippy::too_many_arguments, reason = "a layer with its window, and its state")]
    pub fn conv_layer(
        &mut self,
        net: &mut Net<'_>,
        name: &str,
        state: &str,
        x: &Value,
        kernel: usize,
        reach: Reach,
        layer: impl FnOnce(Window) -> Conv,
    ) -> Value {
        let window = Window::new(&[kernel]);
        let window = match reach {
            Reach::Back if self.is_step() => {
                let before = self.state(net, state, &[1, x.dim(1), kernel - 1]);
                let frames = net.concat(&format!("{name}.frames"), &[&before, x], 2);
                let next = net.slice(&format!("{name}.next"), &frames, 2, 1, kernel);
                self.keep(state, next);
                return net.conv_layer(name, &frames, &layer(window));
            }
            Reach::Back => window.pads(kernel - 1, 0),
            Reach::Both => window.pad(kernel / 2),
        };
        net.conv_layer(name, x, &layer(window))
    }
}

/// A recurrence to be written.
struct Recurrence<'a, F> {
    name: &'a str,
    first: &'a Value,
    sequences: &'a [(&'a str, &'a Value)],
    step: &'a F,
}

impl<F: Fn(&mut Net<'_>, &Value, &[Value]) -> [Value; 2]> Recurrence<'_, F> {
    fn frames(&self) -> usize {
        self.sequences[0].1.dim(0)
    }

    /// The state after the last frame, and what all frames give.
    fn scan(&self, net: &mut Net<'_>) -> [Value; 2] {
        let mut inputs = vec![("state", self.first.shape(), DataType::Float)];
        inputs.extend(self.sequences.iter().map(|(name, x)| (*name, &x.shape()[1..], DataType::Float)));
        let mut given = Vec::new();
        let body = net.scope(format!("{}.frame", self.name), |net| {
            net.body("", self.frames(), &inputs, |net, values| {
                let [next, output] = (self.step)(net, &values[0], &values[1..]);
                given = output.shape().to_vec();
                vec![next, output]
            })
        });
        let attributes = [
            ("body", Attribute::Graph(Box::new(body))),
            ("num_scan_inputs", Attribute::Int(self.sequences.len() as i64)),
        ];
        let inputs: Vec<&Value> = [self.first].into_iter().chain(self.sequences.iter().map(|(_, x)| *x)).collect();
        self.control_flow(net, "Scan", &inputs, &attributes, &given)
    }

    fn r#loop(&self, net: &mut Net<'_>) -> [Value; 2] {
        let inputs = [
            ("trip", &[][..], DataType::Int64),
            ("going", &[][..], DataType::Bool),
            ("state", self.first.shape(), DataType::Float),
        ];
        let mut given = Vec::new();
        let body = net.scope(format!("{}.frame", self.name), |net| {
            net.body("", self.frames(), &inputs, |net, values| {
                let [trip, going, state] = values else { unreachable!("three inputs") };
                let slice = |net: &mut Net<'_>, (name, x): &(&str, &Value)| net.gather(name, x, trip, 0);
                let slices: Vec<Value> = self.sequences.iter().map(|sequence| slice(net, sequence)).collect();
                let [next, output] = (self.step)(net, state, &slices);
                given = output.shape().to_vec();
                let going = net.typed_nodes("Identity", "goes_on", &[going], &[], &[(&[], DataType::Bool)]).remove(0);
                vec![going, next, output]
            })
        });
        let (trips, going) = (net.int(self.frames() as i64), net.truth());
        let attributes = [("body", Attribute::Graph(Box::new(body)))];
        self.control_flow(net, "Loop", &[&trips, &going, self.first], &attributes, &given)
    }

    fn control_flow(
        &self,
        net: &mut Net<'_>,
        op: &str,
        inputs: &[&Value],
        attributes: &[(&str, Attribute)],
        given: &[usize],
    ) -> [Value; 2] {
        let stacked = [&[self.frames()], given].concat();
        let outputs = [(self.first.shape(), DataType::Float), (&stacked[..], DataType::Float)];
        let values = net.typed_nodes(op, self.name, inputs, attributes, &outputs);
        values.try_into().expect("two outputs were asked for")
    }

    fn unrolled(&self, net: &mut Net<'_>) -> [Value; 2] {
        let mut state = self.first.clone();
        let mut outputs = Vec::new();
        for frame in 0..self.frames() {
            net.scope(format!("{}.{frame}", self.name), |net| {
                let slice = |net: &mut Net<'_>, (name, x): &(&str, &Value)| net.select(name, x, 0, frame);
                let slices: Vec<Value> = self.sequences.iter().map(|sequence| slice(net, sequence)).collect();
                let [next, output] = (self.step)(net, &state, &slices);
                outputs.push(net.unsqueeze("stacked", &output, &[0]));
                state = next;
            });
        }
        let outputs: Vec<&Value> = outputs.iter().collect();
        let stacked = if let [only] = outputs[..] { only.clone() } else { net.concat(self.name, &outputs, 0) };
        [state, stacked]
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use kinglet_onnx::GraphProto;

    use super::super::{Built, Error, Options, Source, build};
    use super::*;

    /// A model with the seed 5.
    pub fn built(name: &str, form: Form) -> Result<Built, Error> {
        build(name, &Options { form: Some(form), ..Options::default() }, &Source::Seed(5))
    }

    /// How often each operator occurs, in the graph and in the bodies of its nodes.
    pub fn operators(graph: &GraphProto) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for node in &graph.node {
            *counts.entry(node.op_type.clone()).or_default() += 1;
            for body in node.attribute.iter().filter_map(|a| a.g.as_ref()) {
                operators(body).into_iter().for_each(|(op, n)| *counts.entry(op).or_default() += n);
            }
        }
        counts
    }

    /// The same of a model with the seed 5.
    pub fn operators_of(name: &str, form: Form) -> BTreeMap<String, usize> {
        operators(built(name, form).unwrap_or_else(|e| panic!("{name}, {form}: {e}")).model.graph.as_ref().unwrap())
    }

    const MODELS: [&str; 5] =
        ["lmuformer-tiny", "lmuformer-causal-tiny", "slmuformer-tiny", "slmuformer-causal-tiny", "netmamba-tiny"];

    /// Every model in every form that it has.
    fn each_form(mut check: impl FnMut(&str, Form, Built)) {
        for (name, form) in MODELS.into_iter().flat_map(|name| Form::ALL.map(|form| (name, form))) {
            let causal = name.contains("causal");
            match built(name, form) {
                Ok(built) => check(name, form, built),
                Err(Error::Choice { .. }) if name.starts_with("netmamba") => {
                    assert!([Form::Conv, Form::Fft].contains(&form))
                }
                Err(Error::Choice { .. }) => assert!(form == Form::Step && !causal, "{name}, {form}"),
                Err(e) => panic!("{name}, {form}: {e}"),
            }
        }
    }

    #[test]
    fn forms_have_names() {
        for form in Form::ALL {
            assert_eq!(form.to_string().parse(), Ok(form));
        }
        let error = "scam".parse::<Form>().unwrap_err();
        assert!(Form::ALL.iter().all(|form| error.contains(form.name())), "{error}");
    }

    #[test]
    fn forms_are_built_the_same_way_twice() {
        each_form(|name, form, first| {
            let second = built(name, form).unwrap();
            assert_eq!(first.model.to_bytes(), second.model.to_bytes(), "{name}, {form}");
        });
    }

    #[test]
    fn forms_are_of_one_model() {
        for name in MODELS {
            let scan = built(name, Form::Scan).unwrap();
            let graph = scan.model.graph.unwrap();
            each_form(|other, form, built| {
                if other != name {
                    return;
                }
                assert_eq!(built.summary.state, scan.summary.state, "{name}, {form}");
                assert_eq!(built.summary.parameters, scan.summary.parameters, "{name}, {form}");
                let mut shared = 0;
                for tensor in &built.model.graph.unwrap().initializer {
                    let same_name = graph.initializer.iter().find(|t| t.name == tensor.name);
                    assert!(same_name.is_none_or(|t| t == tensor), "{name}, {form}: {}", tensor.name);
                    shared += usize::from(same_name.is_some());
                }
                assert!(shared > 20, "{name}, {form}: {shared} tensors are those of the Scan form");
            });
        }
    }

    /// Every name is given once, before it is used; bodies may use what is given before their node.
    #[test]
    fn values_are_given_once_and_before_they_are_used() {
        fn walk(graph: &GraphProto, around: &BTreeSet<String>) {
            let mut known = around.clone();
            let give = |name: &str, known: &mut BTreeSet<String>| assert!(known.insert(name.to_string()), "{name}");
            graph.initializer.iter().for_each(|t| give(&t.name, &mut known));
            graph.input.iter().for_each(|v| give(&v.name, &mut known));
            for node in &graph.node {
                for input in node.input.iter().filter(|n| !n.is_empty()) {
                    assert!(known.contains(input), "{} uses {input}", node.name);
                }
                node.attribute.iter().filter_map(|a| a.g.as_ref()).for_each(|body| walk(body, &known));
                node.output.iter().for_each(|n| give(n, &mut known));
            }
            assert!(graph.output.iter().all(|v| known.contains(&v.name)));
        }
        each_form(|_, _, built| walk(built.model.graph.as_ref().unwrap(), &BTreeSet::new()));
    }

    #[test]
    fn states_come_back_as_they_were() {
        each_form(|name, form, built| {
            let (inputs, outputs) = (&built.summary.inputs, &built.summary.outputs);
            if form != Form::Step {
                return assert_eq!((inputs.len(), outputs.len()), (1, 1), "{name}, {form}");
            }
            let states = inputs.iter().filter(|(n, _)| !["frame", "bytes", "position"].contains(&n.as_str()));
            let next: Vec<(String, Vec<usize>)> =
                states.map(|(n, shape)| (format!("{n}_next"), shape.clone())).collect();
            assert_eq!(outputs[0].0, "logits");
            let sorted = |values: &[(String, Vec<usize>)]| values.iter().cloned().collect::<BTreeSet<_>>();
            assert_eq!(sorted(&outputs[1..]), sorted(&next), "{name}");
        });
    }
}
