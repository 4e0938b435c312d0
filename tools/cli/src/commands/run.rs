//! `kinglet run`: a model on inputs.

use std::io::Write;
use std::path::PathBuf;

use kinglet::observe::Checksums;
use kinglet::{DType, Reference};
use kinglet_native::OwnedSession;

use crate::Status;
use crate::args::{Cost, Dims, InputFiles, Opening, Threads};
use crate::atomic_write::Output;
use crate::audio::AudioFlags;
use crate::describe::{Port, outputs};
use crate::device_log::Comparison;
use crate::error::{Error, Result};
use crate::image::ImageFlags;
use crate::inputs::{self, fill_all_but, options, require_all};
use crate::io::{Streams, npz};
use crate::media::Media;
use crate::memory::room;
use crate::model::Source;
use crate::table::shape;
use crate::terminal::{LONGEST, line};
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
    /// Write every output under its name, type and shape; the file must be none that is read
    #[arg(long, value_name = "FILE.npz")]
    outputs: Option<PathBuf>,
    #[command(flatten)]
    image: ImageFlags,
    #[command(flatten)]
    audio: AudioFlags,
    /// Print the K largest values of the first output, as probabilities, with labels from metadata `kinglet.labels`
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    top: Option<u32>,
    /// Print a checksum of what each step makes, by the reference's kernels: what a device prints that runs the same .kgl on the same inputs. With the
    /// log of such a device, name the first step that differs; the exit status is 1 then
    #[arg(long, value_name = "LOG", num_args = 0..=1, require_equals = true, conflicts_with_all = ["top", "threads"])]
    checksums: Option<Option<PathBuf>>,
    #[command(flatten)]
    threads: Threads,
    #[command(flatten)]
    opening: Opening,
    #[command(flatten)]
    cost: Cost,
    #[command(flatten)]
    dims: Dims,
}

impl Args {
    /// Every file that the command reads.
    fn files(&self, source: &Source) -> Vec<PathBuf> {
        let named = self.files.input.iter().map(|(_, path)| path);
        let others = named.chain(&self.files.inputs).chain(&self.image.image).chain(&self.audio.audio);
        let others = others.chain(self.checksums.iter().flatten());
        source.files(&self.model).into_iter().chain(others.cloned()).collect()
    }
}

/// Runs the command.
pub fn run(args: &Args, streams: &mut Streams<'_>) -> Result<Status> {
    let mut source = Source::open(&args.model, args.opening.how())?;
    let file = args.outputs.as_deref().map(|path| Output::new(path, || args.files(&source))).transpose()?;
    source.check_dims(&args.dims, streams)?;
    let declared = source.inputs();
    let arrays = inputs::read(&args.files, &declared, streams)?;
    let mut options = options(&arrays, &args.dims);

    let media = Media::read(&args.image, &args.audio, &arrays, &source)?;
    if let Some(media) = &media {
        options.shapes.insert(media.name().to_string(), media.shape().to_vec());
    }
    let of_media = media.as_ref().map(Media::name);
    require_all(|name| arrays.contains_key(name) || of_media == Some(name), &declared, &args.files)?;

    let ready = source.ready(&options)?;
    let runs = media.as_ref().map_or(1, Media::runs);
    args.cost.check(&args.model, ready.model().work(), runs)?;
    let log = args.checksums.as_ref().map(|log| Comparison::new(log.as_deref(), &ready.model()));
    let mut checksums = log.transpose()?.map(|log| (log, vec![0; ready.model().step_count()]));
    let mut session = match checksums {
        Some(_) => OwnedSession::with_kernels(ready, 1, &Reference)?,
        None => OwnedSession::new(ready, args.threads.count())?,
    };
    let mut collected = file.as_ref().map(|_| Vec::new());
    for run in 0..runs {
        fill_all_but(of_media, &mut session, &arrays)?;
        if let Some(media) = &media {
            media.write(run, &mut session)?;
        }
        match &mut checksums {
            Some((log, sums)) => {
                session.run_observed(&mut Checksums::new(sums))?;
                log.take(&session.model(), sums, streams.out)?;
            }
            None => session.run()?,
        }

        if let Some(collected) = &mut collected {
            for i in 0..outputs(&session.model()).len() {
                let bytes = session.output_bytes(i)?;
                if run == 0 {
                    collected.push(room(bytes.len().saturating_mul(runs)).map_err(Error::failed)?);
                }
                collected[i].extend_from_slice(bytes);
            }
        }
        if checksums.is_some() {
            continue;
        }
        if runs > 1 && (args.top.is_some() || collected.is_none()) {
            print_window(media.as_ref(), run, streams.out)?;
        }
        match args.top {
            Some(k) => print_top(&session, k as usize, streams.out)?,
            None if collected.is_none() => print_summary(&session, streams.out)?,
            None => {}
        }
    }

    if let (Some(file), Some(collected)) = (&file, &collected) {
        let ports = outputs(&session.model());
        let mut entries: Vec<npz::Entry<'_>> = Vec::new();
        for (port, bytes) in ports.iter().zip(collected) {
            let t = &port.tensor;
            let windows = (runs > 1).then_some(runs as u32);
            entries.push((port.name.clone(), t.dtype(), windows.iter().chain(t.shape()).copied().collect(), bytes));
        }
        npz::write(file, &entries)?;
    }
    checksums.map_or(Ok(Status::Ok), |(log, _)| log.end(streams))
}

fn print_window(media: Option<&Media>, run: usize, out: &mut dyn Write) -> Result<()> {
    if let Some(Media::Sound(sound)) = media {
        let (begin, end) = sound.windows[run].seconds;
        writeln!(out, "{}{begin:.2} s to {end:.2} s", if run > 0 { "\n" } else { "" })?;
    }
    Ok(())
}

fn print_summary(session: &OwnedSession, out: &mut dyn Write) -> Result<()> {
    for (i, Port { name, tensor, .. }) in outputs(&session.model()).into_iter().enumerate() {
        let raw = values::numbers(tensor.dtype(), session.output_bytes(i)?);
        let number = |v| number(tensor.dtype(), v);
        write!(out, "{}: {} {}", line(&name, LONGEST), tensor.dtype().name(), shape(tensor.shape()))?;
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
        writeln!(out, "top {} of {}{place} ({what})", k.min(values.len()), line(&port.name, LONGEST))?;
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
