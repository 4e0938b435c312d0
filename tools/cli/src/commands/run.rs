//! `kinglet run`: a model on inputs.

use std::io::Write;
use std::path::PathBuf;

use kinglet::DType;
use kinglet_native::OwnedSession;

use crate::Status;
use crate::args::{Dims, InputFiles, Threads};
use crate::describe::{Port, outputs};
use crate::error::{Error, Result};
use crate::image::{self, ImageFlags};
use crate::inputs::{self, fill, options, require_all, write};
use crate::io::{Streams, npz};
use crate::model::{Source, input_name};
use crate::table::shape;
use crate::values;

/// Values a summary shows of each output.
const SHOWN: usize = 8;

/// Run a model on inputs from files
#[derive(clap::Args)]
pub struct Args {
    /// A .kgl, or an .onnx that is compiled for the very inputs given
    model: PathBuf,
    #[command(flatten)]
    files: InputFiles,
    /// Write every output under its name, type and shape
    #[arg(long, value_name = "FILE.npz")]
    outputs: Option<PathBuf>,
    #[command(flatten)]
    image: ImageFlags,
    /// Print the K largest values of the first output, as probabilities, with labels from metadata `kinglet.labels`
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    top: Option<u32>,
    #[command(flatten)]
    threads: Threads,
    #[command(flatten)]
    dims: Dims,
}

/// Runs the command.
pub fn run(args: &Args, streams: &mut Streams<'_>) -> Result<Status> {
    let source = Source::open(&args.model)?;
    source.check_dims(&args.dims, streams)?;
    let declared = source.inputs();
    let arrays = inputs::read(&args.files, &declared, streams)?;
    let mut options = options(&arrays, &args.dims);

    let picture = match &args.image.image {
        None => None,
        Some(path) => {
            let mut free = declared.iter().filter(|i| !arrays.contains_key(&i.name));
            let (Some(input), None) = (free.next(), free.next()) else {
                let text = "--image is for the one input that no file is given for; here there are";
                let names: Vec<&str> =
                    declared.iter().filter(|i| !arrays.contains_key(&i.name)).map(|i| i.name.as_str()).collect();
                let names = if names.is_empty() { "none".to_string() } else { names.join(", ") };
                return Err(Error::usage(format!("{text} {names}")));
            };
            let picture = image::read(path, &args.image, input, &source)?;
            options.shapes.insert(picture.name.clone(), picture.shape.clone());
            Some(picture)
        }
    };
    let of_picture = picture.as_ref().map(|p| p.name.as_str());
    require_all(|name| arrays.contains_key(name) || of_picture == Some(name), &declared, &args.files)?;

    let mut session = OwnedSession::new(source.ready(&options)?, args.threads.count())?;
    fill(&mut session, &arrays)?;
    if let Some(picture) = picture {
        let model = session.model();
        let at = (0..model.input_count()).find(|&i| input_name(&model, i) == picture.name);
        if let Some((i, tensor)) = at.and_then(|i| Some((i, model.input_tensor(i)?))) {
            let bytes = picture.bytes(&model.tensor(tensor))?;
            write(&mut session, i, &bytes)?;
        }
    }
    session.run();

    if let Some(path) = &args.outputs {
        let ports = outputs(&session.model());
        let mut entries: Vec<npz::Entry<'_>> = Vec::new();
        for (i, port) in ports.iter().enumerate() {
            let t = &port.tensor;
            entries.push((port.name.clone(), t.dtype(), t.shape().to_vec(), session.output_bytes(i)?));
        }
        npz::write(path, &entries)?;
    }
    match args.top {
        Some(k) => print_top(&session, k as usize, streams.out)?,
        None if args.outputs.is_none() => print_summary(&session, streams.out)?,
        None => {}
    }
    Ok(Status::Ok)
}

fn print_summary(session: &OwnedSession, out: &mut dyn Write) -> Result<()> {
    for (i, Port { name, tensor }) in outputs(&session.model()).into_iter().enumerate() {
        let raw = values::numbers(tensor.dtype(), session.output_bytes(i)?);
        let number = |v| number(tensor.dtype(), v);
        write!(out, "{name}: {} {}", tensor.dtype().name(), shape(tensor.shape()))?;
        if let Some((scale, zero_point)) = tensor.quantization().filter(|&q| q != (1.0, 0)) {
            write!(out, ", scale {scale}, zero point {zero_point}")?;
        }
        if let Some((min, max, mean)) = values::range(&raw) {
            write!(out, ", min {}, max {}, mean {mean:.6}", number(min), number(max))?;
        }
        let nans = raw.iter().filter(|v| v.is_nan()).count();
        if nans > 0 {
            write!(out, ", {nans} NaN")?;
        }
        let first: Vec<String> = raw.iter().take(SHOWN).map(|&v| number(v)).collect();
        writeln!(out, "\n  {}{}", first.join(" "), if raw.len() > SHOWN { " …" } else { "" })?;
    }
    Ok(())
}

/// An element of a tensor with the digits that its type holds.
fn number(dtype: DType, v: f64) -> String {
    if dtype == DType::F32 { (v as f32).to_string() } else { v.to_string() }
}

fn print_top(session: &OwnedSession, k: usize, out: &mut dyn Write) -> Result<()> {
    let model = session.model();
    let Some(port) = outputs(&model).into_iter().next() else {
        return Err(Error::failed("the model has no outputs"));
    };
    let reals = values::reals(&port.tensor, session.output_bytes(0)?);
    let labels: Vec<&str> = model.metadata_value("kinglet.labels").map(|l| l.lines().collect()).unwrap_or_default();
    // A batch of classifications has the classes innermost; anything else is one list.
    let classes = match port.tensor.shape() {
        &[rows, classes] if rows > 1 => classes as usize,
        _ => reals.len(),
    };
    let tolerance = port.tensor.quantization().map_or(0.0, |(scale, _)| f64::from(scale) / 2.0 * classes as f64);
    for (row, values) in reals.chunks(classes.max(1)).enumerate() {
        let given = values::are_probabilities(values, tolerance);
        let probabilities = if given { values.to_vec() } else { values::softmax(values) };
        let what = if given { "probabilities as the model gives them" } else { "softmax of the model's values" };
        let place = if classes < reals.len() { format!(" [{row}]") } else { String::new() };
        writeln!(out, "top {} of {}{place} ({what})", k.min(values.len()), port.name)?;
        let mut table = crate::table::Table::new(&[">", ">probability", ">value", ">class", "label"]);
        for (rank, class) in values::largest(values, k).into_iter().enumerate() {
            let probability = format!("{:.2} %", 100.0 * probabilities[class]);
            let label = labels.get(class).map_or("", |l| l).to_string();
            let value = format!("{:.4}", values[class]);
            table.row([(rank + 1).to_string(), probability, value, class.to_string(), label]);
        }
        table.print(out)?;
    }
    Ok(())
}
