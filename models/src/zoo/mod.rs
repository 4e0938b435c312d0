//! The zoo: published architectures, written as ONNX files.
//!
//! [`MODELS`] is the table of all models. [`build`] writes one with seeded weights, or with those of a checkpoint whose
//! tensors have the names and shapes of the official PyTorch state dict; [`summary`] only counts. One file holds one
//! family: its sizes as constants, and an [`Architecture`] that builds them on a [`Net`].
//!
//! A checkpoint is a safetensors file of f32, f16, bf16 or f64, which all become f32. What it lacks, has besides or has
//! in another shape is named all at once. VanillaNet's may be of the training form, which is merged into the deploy
//! form.
//!
//! To add a model, add its row to [`MODELS`]; to add a family, write its file beside the others.

mod dwformer;
mod error;
mod layers;
mod legendre;
mod legendre_memory;
mod lmuformer;
mod metaformer;
mod mpgnet;
mod net;
mod netmamba;
mod ops;
mod poolformer;
mod random;
mod recurrence;
mod registry;
mod slmuformer;
mod table;
#[cfg(test)]
mod tests;
mod vanillanet;
mod vanillanet_training;
mod weights;

pub use error::{Error, Problem};
pub use layers::{Conv, Linear, SCALE, SHIFT, transposed};
pub use net::{Attribute, DOMAIN, Net, Value};
pub use ops::Window;
pub use recurrence::Form;
pub use registry::{Figure, MODELS, Model, find};
pub use table::{TITLES, markdown, rows};
pub use weights::{Checkpoint, Init, Role, Source, StateTensor, StateType};

use std::path::Path;

use kinglet_onnx::{ModelProto, OperatorSetIdProto, StringStringEntryProto, ValueInfoProto};
use weights::Weights;

/// ONNX operator set of the files: the first with LayerNormalization.
const OPSET: i64 = 17;
/// Version of the file format that goes with it.
const IR_VERSION: i64 = 8;

/// What a user may choose about a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Height and width of the input picture; the paper's by default.
    pub size: Option<(usize, usize)>,
    /// Convolutions over time look back only, so that the model can run on a stream.
    pub causal: bool,
    /// How recurrences are written; with Scan by default.
    pub form: Option<Form>,
}

impl Options {
    /// Height and width of the input picture, `default` unless the user chose.
    pub fn size_or(&self, default: (usize, usize)) -> (usize, usize) {
        self.size.unwrap_or(default)
    }
}

/// A builder of models: a family with its sizes.
pub trait Architecture: Sync {
    /// Adds inputs, nodes and outputs to an empty graph.
    ///
    /// # Errors [`Error::Size`] if it cannot take the size chosen in `options`. What is wrong with a checkpoint is
    /// found by [`build`].
    fn build(&self, net: &mut Net<'_>, options: &Options) -> Result<(), Error>;

    /// A checkpoint of another form of the model brought into the form that is built; `None` if it is of that form
    /// already.
    ///
    /// # Errors
    /// [`Error::Tensors`] if tensors of the other form are missing, misshaped or too many.
    fn converted(&self, model: &str, checkpoint: &Checkpoint) -> Result<Option<Checkpoint>, Error> {
        let _ = (model, checkpoint);
        Ok(None)
    }

    /// Why [`Options::size`] is no choice; `None` if it is one.
    fn refuses_size(&self) -> Option<&'static str> {
        None
    }

    /// Why [`Options::causal`] is no choice; `None` if it is one.
    fn refuses_causal(&self) -> Option<&'static str> {
        Some("it has no time axis")
    }

    /// Why recurrences cannot be written in this form, with the other `options`; `None` if they can.
    fn refuses_form(&self, form: Form, options: &Options) -> Option<&'static str> {
        let _ = (form, options);
        Some("it has no recurrence")
    }

    /// The second number of [`Options::size`] for a user who gave only the first: the same, as pictures are square.
    fn width_of(&self, height: usize) -> usize {
        height
    }
}

/// A model with its numbers.
#[derive(Clone, Debug)]
pub struct Built {
    /// The ONNX model.
    pub model: ModelProto,
    /// What it is.
    pub summary: Summary,
}

/// What there is to say about a model without its numbers.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Inputs with their shapes.
    pub inputs: Vec<(String, Vec<usize>)>,
    /// Outputs with their shapes.
    pub outputs: Vec<(String, Vec<usize>)>,
    /// Learned parameters.
    pub parameters: u64,
    /// Multiply-accumulates of Conv, ConvTranspose, Gemm and MatMul.
    pub macs: u64,
    /// The official state dict.
    pub state: Vec<StateTensor>,
}

/// Builds a model of [`MODELS`].
///
/// # Errors
/// [`Error::UnknownModel`]; [`Error::Size`] and [`Error::Choice`] for options that make no sense;
/// [`Error::Tensors`] for a checkpoint of another model.
pub fn build(name: &str, options: &Options, source: &Source) -> Result<Built, Error> {
    let model = find(name)?;
    let converted = match source {
        Source::Checkpoint(checkpoint) => model.architecture.converted(model.name, checkpoint)?.map(Source::Checkpoint),
        Source::Seed(_) => None,
    };
    let source = converted.as_ref().unwrap_or(source);
    check_bytes(model, options)?;
    let (graph, summary) = construct(model, options, Some(source))?;
    let weights = match source {
        Source::Seed(seed) => format!("seed {seed}"),
        Source::Checkpoint(checkpoint) => {
            let name = Path::new(checkpoint.file()).file_name();
            name.map_or_else(|| checkpoint.file().to_string(), |name| name.to_string_lossy().into_owned())
        }
    };
    let operators = |domain: &str, version| OperatorSetIdProto { domain: domain.to_string(), version };
    let mut opset_import = vec![operators("", OPSET)];
    if graph.node.iter().any(|node| node.domain == DOMAIN) {
        opset_import.push(operators(DOMAIN, net::DOMAIN_VERSION));
    }
    let property = |key: &str, value: &str| StringStringEntryProto { key: key.into(), value: value.into() };
    let model = ModelProto {
        ir_version: IR_VERSION,
        producer_name: env!("CARGO_PKG_NAME").to_string(),
        producer_version: env!("CARGO_PKG_VERSION").to_string(),
        graph: Some(graph),
        opset_import,
        metadata_props: vec![
            property("model", model.name),
            property("paper", model.paper),
            property("weights", &weights),
        ],
        ..ModelProto::default()
    };
    Ok(Built { model, summary })
}

/// What a model of [`MODELS`] is, without its numbers.
///
/// # Errors
/// As [`build`], but for what concerns checkpoints.
pub fn summary(name: &str, options: &Options) -> Result<Summary, Error> {
    Ok(construct(find(name)?, options, None)?.1)
}

/// Weights whose number grows with the picture (RandFormer's) must fit into a file of protobuf messages.
fn check_bytes(model: &Model, options: &Options) -> Result<(), Error> {
    let Some((height, width)) = options.size else { return Ok(()) };
    let state = construct(model, options, None)?.1.state;
    let numbers: usize = state.iter().map(|t| t.shape.iter().product::<usize>()).sum();
    let bytes = numbers.saturating_mul(size_of::<f32>());
    if bytes > i32::MAX as usize {
        let reason = format!("its weights would take {:.1} GB, and an ONNX file holds 2", bytes as f64 / 1e9);
        return Err(Error::Size { model: model.name.to_string(), height, width, reason });
    }
    Ok(())
}

fn construct(
    model: &Model,
    options: &Options,
    source: Option<&Source>,
) -> Result<(kinglet_onnx::GraphProto, Summary), Error> {
    let form = options.form.and_then(|form| model.architecture.refuses_form(form, options));
    let choices = [
        (options.size.is_some(), "size", model.architecture.refuses_size()),
        (options.causal, "causal", model.architecture.refuses_causal()),
        (form.is_some(), "this form", form),
    ];
    for (chosen, choice, refusal) in choices {
        if let (true, Some(reason)) = (chosen, refusal) {
            return Err(Error::Choice { model: model.name.to_string(), choice, reason });
        }
    }
    let mut net = Net::new(model.name, Weights::new(source));
    model.architecture.build(&mut net, options)?;
    let net::Finished { graph, state, parameters, macs } = net.finish()?;
    let (inputs, outputs) = (shapes(&graph.input), shapes(&graph.output));
    Ok((graph, Summary { inputs, outputs, parameters, macs, state }))
}

fn shapes(values: &[ValueInfoProto]) -> Vec<(String, Vec<usize>)> {
    values.iter().map(|v| (v.name.clone(), net::shape(v))).collect()
}
