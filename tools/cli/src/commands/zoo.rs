//! `kinglet zoo`: published architectures become ONNX files.

use std::io::Write;
use std::path::PathBuf;

use kinglet_models::zoo::{self, Checkpoint, Form, MODELS, Options, Source};

use crate::Status;
use crate::atomic_write::Output;
use crate::error::{Error, Result};
use crate::io::Streams;
use crate::progress::Progress;
use crate::table::{Table, bytes, grouped, shape};

/// Write a published architecture as an ONNX model, with weights of a checkpoint or random ones
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(override_usage = "kinglet zoo <NAME> --output <OUT.onnx> [OPTIONS]\n       kinglet zoo list [--markdown]")]
pub struct Args {
    #[command(subcommand)]
    list: Option<Sub>,
    #[command(flatten)]
    build: Option<Build>,
}

#[derive(clap::Subcommand)]
enum Sub {
    /// Show all models with their parameters and multiply-accumulates (MACs)
    List {
        /// Print the table in Markdown
        #[arg(long)]
        markdown: bool,
    },
}

#[derive(clap::Args)]
struct Build {
    /// The model
    #[arg(value_name = "NAME")]
    name: String,
    /// The file to write
    #[arg(short, long, value_name = "OUT.onnx")]
    output: PathBuf,
    /// Weights under the names of the official PyTorch state dict; f16, bf16 and f64 become f32
    #[arg(long, value_name = "FILE.safetensors")]
    weights: Option<PathBuf>,
    /// Which random weights to take where there is no file
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "weights")]
    seed: u64,
    /// Height and width of the input picture, as in 256x384; frames and mel bands of a spectrogram. One number: a
    /// square picture, or frames
    #[arg(long, value_name = "HxW", value_parser = size)]
    size: Option<(usize, Option<usize>)>,
    /// Convolutions over time look back only, so that the model can run on a stream
    #[arg(long)]
    causal: bool,
    /// How recurrences are written: `scan` and `loop` (ONNX control flow), `unrolled`, `conv` and `fft` (linear
    /// memories only), `custom` (one node each, of the domain ai.kinglet), or `step` (one frame, with states as inputs
    /// and outputs)
    #[arg(long, value_name = "FORM")]
    form: Option<Form>,
}

/// Largest picture in either direction: shapes must stay far from overflow.
const LARGEST: usize = 1 << 14;

fn size(text: &str) -> std::result::Result<(usize, Option<usize>), String> {
    let number = |text: &str| text.parse().ok().filter(|n| (1..=LARGEST).contains(n));
    let sides = match text.split_once(['x', '×']) {
        Some((height, width)) => number(height).zip(number(width)).map(|(height, width)| (height, Some(width))),
        None => number(text).map(|height| (height, None)),
    };
    sides.ok_or(format!("expected HxW with numbers from 1 to {LARGEST}, as in 256x384"))
}

/// Runs the command.
pub fn run(args: &Args, streams: &mut Streams<'_>) -> Result<Status> {
    match (&args.list, &args.build) {
        (Some(Sub::List { markdown: true }), _) => write!(streams.out, "{}", zoo::markdown())?,
        (Some(Sub::List { markdown: false }), _) => list(streams.out)?,
        (None, Some(args)) => build(args, streams)?,
        (None, None) => return Err(Error::usage("kinglet zoo takes the name of a model, or `list`")),
    }
    Ok(Status::Ok)
}

fn list(out: &mut dyn Write) -> Result<()> {
    let [name, input, output, parameters, macs, published] = zoo::TITLES;
    let (parameters, macs) = (format!(">{parameters}"), format!(">{macs}"));
    let mut table = Table::new(&[name, input, output, &parameters, &macs, published]);
    zoo::rows().into_iter().for_each(|row| table.row(row));
    table.print(out)?;
    let tiny: Vec<&str> = MODELS.iter().filter(|m| m.is_tiny()).map(|m| m.name).collect();
    writeln!(out, "\nwith few channels and small inputs, for tests: {}", tiny.join(", "))?;
    Ok(())
}

fn build(args: &Build, streams: &mut Streams<'_>) -> Result<()> {
    let usage = |e: zoo::Error| match e {
        zoo::Error::UnknownModel { .. } | zoo::Error::Size { .. } | zoo::Error::Choice { .. } => {
            Error::usage(e.to_string())
        }
        _ => Error::lines(&e.to_string()),
    };
    let architecture = zoo::find(&args.name).map_err(usage)?.architecture;
    let size = args.size.map(|(height, width)| (height, width.unwrap_or_else(|| architecture.width_of(height))));
    let options = Options { size, causal: args.causal, form: args.form };
    // What is wrong with the arguments is said before a file is read.
    zoo::summary(&args.name, &options).map_err(usage)?;
    let output = Output::new(&args.output, || args.weights.iter().cloned().collect())?;
    let progress = Progress::spinner();
    progress.stage("building");
    let source = match &args.weights {
        Some(path) => Source::Checkpoint(Checkpoint::open(path).map_err(usage)?),
        None => Source::Seed(args.seed),
    };
    let built = zoo::build(&args.name, &options, &source).map_err(usage)?;
    drop(source);
    let file = built.model.to_bytes();
    progress.stage("writing");
    output.write(|out| out.write_all(&file))?;
    drop(progress);
    let mut table = Table::new(&["", ""]);
    let mut row = |name: &str, value: String| table.row([name.to_string(), value]);
    for (title, ports) in [("input", &built.summary.inputs), ("output", &built.summary.outputs)] {
        ports.iter().for_each(|(name, dims)| row(title, format!("{name} {}", shape(dims))));
    }
    row("parameters", grouped(built.summary.parameters));
    row("MACs", grouped(built.summary.macs));
    row("file", bytes(file.len() as u64));
    table.print(streams.out)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempDir;

    /// Calls `kinglet zoo` with these words; `{}` stands for a folder.
    fn call(folder: &TempDir, line: &str) -> (Status, String, String) {
        let word = |word: &str| word.replace("{}", &folder.path().display().to_string());
        let args = ["kinglet", "zoo"].map(String::from).into_iter().chain(line.split_whitespace().map(word));
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let status = crate::run(args, &mut out, &mut err);
        (status, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    fn names(folder: &TempDir) -> Vec<String> {
        let entries = std::fs::read_dir(folder.path()).unwrap();
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_model_is_written_and_told_of() {
        let folder = TempDir::new();
        let (status, out, err) = call(&folder, "dwformer-tiny -o {}/a.onnx --size 16x24 --seed 7");
        assert_eq!((status, &err[..]), (Status::Ok, ""));
        for words in ["input", "image 1x3x16x24", "restored 1x3x16x24", "parameters", "MACs"] {
            assert!(out.contains(words), "no `{words}` in {out}");
        }
        let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
        let model = kinglet_onnx::ModelProto::from_bytes(&read("a.onnx")).unwrap();
        assert!(model.metadata_props.iter().any(|p| p.key == "weights" && p.value == "seed 7"));
        call(&folder, "dwformer-tiny -o {}/b.onnx --size 16x24 --seed 7");
        call(&folder, "dwformer-tiny -o {}/c.onnx --size 16x24");
        assert!(read("a.onnx") == read("b.onnx") && read("a.onnx") != read("c.onnx"));
    }

    #[test]
    fn weights_come_from_a_file() {
        let folder = TempDir::new();
        let state = zoo::summary("mpgnet-t-tiny", &Options::default()).unwrap().state;
        let tensors = state.iter().map(|t| (t.name.clone(), t.shape.clone(), vec![0.25; t.shape.iter().product()]));
        // Counters are integers in official files; what nothing reads may be anything.
        let file = folder.path().join("w.safetensors");
        std::fs::write(&file, Checkpoint::from_tensors("w", tensors.collect()).bytes()).unwrap();
        let (status, _, err) = call(&folder, "mpgnet-t-tiny -o {}/a.onnx --weights {}/w.safetensors");
        assert_eq!((status, &err[..]), (Status::Ok, ""));
        let model =
            kinglet_onnx::ModelProto::from_bytes(&std::fs::read(folder.path().join("a.onnx")).unwrap()).unwrap();
        let graph = model.graph.unwrap();
        let weight = graph.initializer.iter().find(|t| t.name == "add_noise.T_tail.weight").unwrap();
        assert_eq!(weight.raw_data[..], [0.25f32; 18].map(f32::to_le_bytes).concat());
        let (status, out, err) = call(&folder, "dwformer-tiny -o {}/b.onnx --weights {}/w.safetensors");
        assert_eq!((status, &out[..]), (Status::Failed, ""));
        for words in
            ["w.safetensors does not hold the weights of `dwformer-tiny`", "missing", "too many", "`downproj1.weight`"]
        {
            assert!(err.contains(words), "no `{words}` in {err}");
        }
        assert!(!names(&folder).contains(&"b.onnx".to_string()));
    }

    #[test]
    fn mistakes_are_explained() {
        let folder = TempDir::new();
        std::fs::write(folder.path().join("half.safetensors"), [1, 0, 0]).unwrap();
        for (line, status, words) in [
            ("dwfromer -o {}/a.onnx", Status::Usage, "did you mean `dwformer`"),
            ("resnet-50 -o {}/a.onnx", Status::Usage, "`kinglet zoo list` shows them all"),
            ("dwformer-tiny", Status::Usage, "--output"),
            ("dwformer-tiny -o {}/a.onnx --size 30x32", Status::Usage, "multiples of 4"),
            ("dwformer-tiny -o {}/a.onnx --size 32x", Status::Usage, "HxW"),
            ("dwformer-tiny -o {}/a.onnx --size 0x32", Status::Usage, "HxW"),
            ("dwformer-tiny -o {}/a.onnx --causal", Status::Usage, "no time axis"),
            ("dwformer-tiny -o {}/a.onnx --seed 1 --weights {}/w", Status::Usage, "--weights"),
            ("dwformer-tiny -o {}/a.onnx --weights {}/w", Status::Failed, "/w: "),
            (
                "dwformer-tiny -o {}/a.onnx --weights {}/half.safetensors",
                Status::Failed,
                "not a whole safetensors file",
            ),
            ("dwformer-tiny -o {}/no/such/a.onnx", Status::Failed, "cannot write it"),
        ] {
            let (found, out, err) = call(&folder, line);
            assert_eq!((found, &out[..]), (status, ""), "{line}: {err}");
            assert!(err.contains("error: ") && err.contains(words), "{line}: no `{words}` in {err}");
        }
        assert_eq!(names(&folder), ["half.safetensors"]);
    }

    #[test]
    fn the_list_has_every_model() {
        let folder = TempDir::new();
        let (status, plain, _) = call(&folder, "list");
        assert_eq!(status, Status::Ok);
        for model in MODELS {
            assert!(plain.split([' ', ',', '\n']).any(|word| word == model.name), "{}", model.name);
        }
        assert_eq!(call(&folder, "list --markdown").1, zoo::markdown());
    }
}
