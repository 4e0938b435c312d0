//! `kinglet new-firmware`: a project that runs a model on a microcontroller.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use kinglet::{Model, Target};
use kinglet_build::{bare_metal, outputs};
use kinglet_native::{ModelFile, OwnedSession};

use crate::Status;
use crate::args::{InputFiles, dimension};
use crate::atomic_write::Output;
use crate::audio::AudioFlags;
use crate::chips::{Chip, ChipName, memory_x};
use crate::error::{Error, Result};
use crate::image::ImageFlags;
use crate::inputs;
use crate::io::Streams;
use crate::media::Media;
use crate::model::{Onnx, Source, input_name};
use crate::table::{bytes, grouped};

/// Write a project that runs a model on a microcontroller, ready for a board and for an emulator
#[derive(clap::Args)]
pub struct Args {
    /// The folder to write; it must not be there yet
    folder: PathBuf,
    /// The chip
    #[arg(long, value_enum)]
    chip: ChipName,
    /// The ONNX model, which the project gets a copy of
    #[arg(long, value_name = "MODEL.onnx")]
    model: PathBuf,
    /// Size of a symbolic dimension of the model; may be given several times
    #[arg(long = "dim", value_name = "NAME=N", value_parser = dimension)]
    dim: Vec<(String, usize)>,
    #[command(flatten)]
    files: InputFiles,
    #[command(flatten)]
    image: ImageFlags,
    #[command(flatten)]
    audio: AudioFlags,
    /// Where Kinglet's source lies [default: where this command was built, else the repository]
    #[arg(long, value_name = "FOLDER")]
    kinglet: Option<PathBuf>,
}

/// The files of a project: their path in it, and their text, in which words in double braces stand for what the project is of.
const FILES: [(&str, &str); 6] = [
    ("Cargo.toml", include_str!("../../../../targets/cortex-m/template/Cargo.toml.in")),
    (".cargo/config.toml", include_str!("../../../../targets/cortex-m/template/cargo/config.toml.in")),
    ("build.rs", include_str!("../../../../targets/cortex-m/template/build.rs.in")),
    ("src/main.rs", include_str!("../../../../targets/cortex-m/template/src/main.rs.in")),
    ("src/board.rs", include_str!("../../../../targets/cortex-m/template/src/board.rs.in")),
    ("README.md", include_str!("../../../../targets/cortex-m/template/README.md.in")),
];

/// The folder of the model in a project.
const MODEL: &str = "model";

/// What the program takes of flash and RAM beside the model, at most: its code with text and kernels, its stack and buffers.
const CODE: usize = 96 << 10;
const STACK: usize = 12 << 10;

/// Runs the command.
pub fn run(args: &Args, streams: &mut Streams<'_>) -> Result<Status> {
    let chip = args.chip.chip();
    let name = name(&args.folder)?;
    let onnx = Onnx::open(&args.model)?;
    let mut options = bare_metal(Target::CortexM);
    options.dims = args.dim.iter().cloned().collect();
    let kgl = onnx.compile(&options)?.kgl;
    let file = Arc::new(ModelFile::from_bytes(&kgl)?);
    let model = file.model();
    let fits = |what: &str, needed: usize, kib: u32, way: &str| {
        let there = kib as usize * 1024;
        if needed <= there {
            return Ok(());
        }
        let text = format!(
            "it takes {} of {what}, and {} has {}: {way}",
            bytes(needed as u64),
            chip.board,
            bytes(there as u64)
        );
        Err(Error::file(&args.model, text))
    };
    let ram = model.arena_bytes() + 16 * model.step_count() + STACK;
    fits("RAM", ram, chip.ram.1, "take a larger chip, or ask kinglet-build for a second memory (`Build::region`)")?;
    if model.is_fed() {
        return Err(Error::file(&args.model, "it takes its input row by row, which this project does not"));
    }
    let input_bytes = input_bytes(args, &file, streams)?;
    fits("flash", kgl.len() + input_bytes.len() + CODE, chip.flash.1, "take a larger chip, or a smaller model")?;

    let kinglet = kinglet_at(args)?;
    let words = words(args, &chip, &name, (&model, kgl.len()), kinglet.as_deref())?;
    let root = fs::create_dir(&args.folder);
    root.map_err(|e| Error::file(&args.folder, format!("{e}: the folder is made by this command")))?;
    let written = write(args, &chip, &onnx, (&words, kinglet.as_deref()), &input_bytes);
    if written.is_err() {
        // Nothing half done is left.
        let _ = fs::remove_dir_all(&args.folder);
    }
    written?;
    writeln!(
        streams.out,
        "{}: {} for {}, arena {}, model {}\nthen: cd {0} && cargo emulate",
        args.folder.display(),
        args.model.display(),
        chip.board,
        bytes(model.arena_bytes() as u64),
        bytes(kgl.len() as u64)
    )?;
    Ok(Status::Ok)
}

/// Names of packages that cargo refuses: those of crates that the program links, of cargo's own folders, and Rust's words. (So is what begins with `kinglet`.)
const TAKEN: &str = "alloc build core cortex-m cortex-m-rt cortex-m-semihosting deps examples half incremental libm bytemuck proc-macro \
                     rtt-target std test as async await break const continue crate dyn else enum extern false fn for gen if impl in let \
                     loop match mod move mut pub ref return self static struct super trait true type unsafe use where while abstract become \
                     box do final macro override priv try typeof unsized virtual yield";

/// The name of the package: that of the folder.
fn name(folder: &Path) -> Result<String> {
    let name = folder.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let fits = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_')
        && !name.starts_with("kinglet")
        && TAKEN.split(' ').all(|taken| taken != name);
    let text = "the name of the folder is that of the package: small letters, digits, `-` and `_`, as in hello-glyphs, and none of \
                another crate or of Rust's words";
    if fits { Ok(name) } else { Err(Error::usage(format!("{}: {text}", folder.display()))) }
}

/// The bytes of all inputs, one after the other: what is given, or what stands for 0.
fn input_bytes(args: &Args, file: &Arc<ModelFile>, streams: &mut Streams<'_>) -> Result<Vec<u8>> {
    let source = Source::Kgl(file.clone());
    let arrays = inputs::read(&args.files, &source.inputs(), streams)?;
    let media = Media::read(&args.image, &args.audio, &arrays, &source)?;
    let mut session = OwnedSession::new(file.clone(), 1)?;
    let mut all = Vec::new();
    for i in 0..session.model().input_count() {
        let model = session.model();
        let name = input_name(&model, i);
        // Of other types than quantised ones all bits are 0, as the zero point is.
        let tensor = model.input_tensor(i).map(|t| model.tensor(t));
        let zero = tensor.map_or(([0; 4], 1), |t| (t.0.zero_point.to_le_bytes(), t.dtype().size().min(4)));
        let has_default = model.input_default(i).is_some();
        match arrays.get(&name) {
            Some(array) => inputs::write(&mut session, i, &array.to_bytes())?,
            None if media.as_ref().is_some_and(|m| m.name() == name) => {}
            None if has_default => session.set_default(i)?,
            None => {
                let element = zero.0.into_iter().take(zero.1).cycle();
                session.input_bytes_mut(i)?.iter_mut().zip(element).for_each(|(to, byte)| *to = byte);
            }
        }
    }
    if let Some(media) = &media {
        media.write(0, &mut session)?;
    }
    for i in 0..session.model().input_count() {
        all.extend_from_slice(session.input_bytes_mut(i)?);
    }
    Ok(all)
}

/// What the words in double braces stand for, of a model in a file of so many bytes, with Kinglet's source in a folder or in its repository.
fn words(
    args: &Args,
    chip: &Chip,
    name: &str,
    (model, file): (&Model<'_>, usize),
    kinglet: Option<&Path>,
) -> Result<Vec<(String, String)>> {
    let output = outputs(model).into_iter().next();
    let (output, ty) = output.ok_or_else(|| Error::file(&args.model, "it has no output"))?;
    let model_name = file_name(&args.model);
    let real = if matches!(ty, "i32" | "i64") { "q as f32" } else { "f32::from(q)" };
    let dims = |each: fn(&str, usize) -> String| args.dim.iter().map(|(name, n)| each(name, *n)).collect::<String>();
    let core = chip.core;
    let mut words: Vec<(String, String)> = [
        ("name", name.to_string()),
        ("model", quoted(&format!("{MODEL}/{model_name}"))),
        ("model_path", format!("{:?}", format!("{MODEL}/{model_name}"))),
        ("board", chip.board.to_string()),
        ("probe", chip.probe.to_string()),
        ("triple", core.triple.to_string()),
        ("features", core.features.to_string()),
        ("flags", core.flags.to_string()),
        ("machine", core.machine.to_string()),
        ("shift", core.shift.to_string()),
        ("hz", literal(chip.hz)),
        ("emulated_hz", literal(core.hz)),
        ("dims", dims(|name, n| format!(".dim({name:?}, {n})"))),
        ("dim_flags", dims(|name, n| format!(" --dim {}", quoted(&format!("{name}={n}"))))),
        ("input_flags", input_flags(args)),
        ("output", output),
        ("type", ty.to_string()),
        ("real", real.to_string()),
        ("arena", model.arena_bytes().to_string()),
        ("file", file.to_string()),
    ]
    .into_iter()
    .map(|(word, text)| (word.to_string(), text))
    .collect();
    for part in ["runtime", "kernels-cortex-m", "tools/build"] {
        let at = match kinglet {
            Some(folder) => format!("path = {:?}", folder.join(part).display().to_string()),
            None => format!("git = {:?}", env!("CARGO_PKG_REPOSITORY")),
        };
        words.push((format!("kinglet:{part}"), at));
    }
    Ok(words)
}

/// Where Kinglet's source is; `None`: in its repository.
fn kinglet_at(args: &Args) -> Result<Option<PathBuf>> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let is_kinglet = |folder: &Path| folder.join("kernels-cortex-m/Cargo.toml").is_file();
    let whole = |folder: &Path| fs::canonicalize(folder).map_err(|e| Error::file(folder, e)).map(Some);
    match &args.kinglet {
        Some(folder) if is_kinglet(folder) => whole(folder),
        Some(folder) => Err(Error::file(folder, "Kinglet's source is not there: it has a folder kernels-cortex-m")),
        None if is_kinglet(&built) => whole(&built),
        None => Ok(None),
    }
}

/// Thousands by underscores, as Rust has them.
fn literal(n: u32) -> String {
    grouped(n.into()).replace(' ', "_")
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Writes the project into its folder, which is there.
fn write(
    args: &Args,
    chip: &Chip,
    onnx: &Onnx,
    (words, kinglet): (&[(String, String)], Option<&Path>),
    input_bytes: &[u8],
) -> Result<()> {
    let to = |name: &str| args.folder.join(name);
    for folder in [".cargo", "src"] {
        fs::create_dir(to(folder)).map_err(|e| Error::file(&to(folder), e))?;
    }
    let put = |name: &str, content: &[u8]| Output::new(&to(name), Vec::new)?.write(|sink| sink.write_all(content));
    for (name, text) in FILES {
        put(name, filled(text, words).as_bytes())?;
    }
    let memory = [chip.flash, chip.ram];
    put("chip.x", (memory_x(memory) + chip.linker).as_bytes())?;
    put("emulator.x", memory_x(chip.core.memory.unwrap_or(memory)).as_bytes())?;
    put(".gitignore", include_bytes!("../../../../targets/cortex-m/template/gitignore"))?;
    put("inputs.bin", input_bytes)?;
    // The versions that Kinglet is tested with; cargo leaves out what the project has no use for, and adds what Kinglet has none for.
    if let Some(lock) = kinglet.map(|folder| folder.join("Cargo.lock")).filter(|lock| lock.is_file()) {
        fs::copy(&lock, to("Cargo.lock")).map_err(|e| Error::file(&lock, e))?;
    }
    // The model, and the files that it keeps tensors in, which lie beside it or below, have a folder of their own: their names are strangers'.
    let beside = args.model.parent().unwrap_or(Path::new(""));
    for file in onnx.files() {
        let inside =
            file.strip_prefix(beside).ok().filter(|p| p.components().all(|c| matches!(c, Component::Normal(_))));
        let Some(inside) = inside else {
            let text = format!("it keeps tensors in {}, which does not lie beside it or below", file.display());
            return Err(Error::file(&args.model, text));
        };
        let target = to(MODEL).join(inside);
        let copied = target.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::copy(&file, &target));
        copied.map_err(|e| Error::file(&target, e))?;
    }
    Ok(())
}

/// A text with what its words in double braces stand for; one that nobody knows stays.
fn filled(text: &str, words: &[(String, String)]) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, (word, after))) = rest.split_once("{{").and_then(|(b, a)| Some((b, a.split_once("}}")?))) {
        filled += before;
        match words.iter().find(|(known, _)| known == word) {
            Some((_, by)) => filled += by,
            None => filled += &format!("{{{{{word}}}}}"),
        }
        rest = after;
    }
    filled + rest
}

/// A word of a shell's command line.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_string()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The flags for the inputs, as they were given, but from whatever folder.
fn input_flags(args: &Args) -> String {
    let whole = |path: &Path| fs::canonicalize(path).unwrap_or(path.to_path_buf()).display().to_string();
    let mut flags: Vec<(String, String)> = Vec::new();
    let mut flag = |name: &str, value: String| flags.push((format!("--{name}"), value));
    args.files.input.iter().for_each(|(name, path)| flag("input", format!("{name}={}", whole(path))));
    args.files.inputs.iter().for_each(|path| flag("inputs", whole(path)));
    args.audio.audio.iter().for_each(|path| flag("audio", whole(path)));
    args.image.image.iter().for_each(|path| flag("image", whole(path)));
    args.image.settings().into_iter().for_each(|(name, value)| flag(name, value));
    if flags.is_empty() {
        return "--input NAME=FILE".into();
    }
    flags.iter().map(|(name, value)| format!("{name} {}", quoted(value))).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strange_names_stay_what_they_are() {
        let words = [("a", "{{b}}"), ("b", "x")].map(|(word, by)| (word.to_string(), by.to_string()));
        assert_eq!(filled("1{{a}}2{{b}}{3}{{c}}", &words), "1{{b}}2x{3}{{c}}");
        assert_eq!(["a-b.onnx", "a b", "a'b", "", "$x"].map(quoted), ["a-b.onnx", "'a b'", r"'a'\''b'", "''", "'$x'"]);
    }

    #[test]
    fn a_name_is_one_of_a_package() {
        assert_eq!(name(Path::new("/a/hello-1")).unwrap(), "hello-1");
        for bad in ["", "/", "Hello", "1a", "a b", "a.b", "kinglet", "kinglet-build", "cortex-m", "fn", "ä"] {
            assert!(name(Path::new(bad)).is_err(), "{bad}");
        }
        assert_eq!(literal(64_000_000), "64_000_000");
    }
}
