//! Compiles the model, takes the parameters of its front end and the names of its classes from its metadata, and puts the memory of the board on the
//! link path.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use kinglet::Model;
use kinglet_build::{Build, Target, bare_metal};
use kinglet_native::ModelFile;

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // The same plan for tests on a host, but for the order of its weights.
    let bare = env::var("TARGET")?.contains("-none");
    let target = if bare { Target::CortexM } else { Target::Generic };
    let mut build = Build::new("../../../models/keywords/keywords_int8.onnx").target(target);
    build.options = bare_metal(target);
    build.generate("keywords")?;

    let plan = ModelFile::open(out.join("keywords.kgl"))?;
    fs::write(out.join("front_end.rs"), front_end(&plan.model())?)?;

    let memory = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../mps2");
    println!("cargo:rerun-if-changed={}", memory.join("memory.x").display());
    println!("cargo:rustc-link-search={}", memory.display());
    println!("cargo:rustc-link-arg-bins=-Tlink.x");
    println!("cargo:rustc-link-arg-bins=--nmagic");
    if env::var_os("CARGO_FEATURE_DEFMT").is_some() {
        println!("cargo:rustc-link-arg-bins=-Tdefmt.x");
    }
    Ok(())
}

/// Constants of what the model's metadata says.
fn front_end(model: &Model<'_>) -> Result<String, Box<dyn Error>> {
    let value = |key: &str| model.metadata_value(key).ok_or(format!("the model has no metadata {key}"));
    let number = |key: &str| Ok::<f64, Box<dyn Error>>(value(&format!("kinglet.audio.{key}"))?.parse()?);
    let shape = model.input_tensor(0).map(|t| model.tensor(t)).ok_or("the model has no input")?;
    let &[1, frames, mels] = shape.shape() else { return Err("the input is not [1, frames, mels]".into()) };
    let labels: Vec<&str> = value("kinglet.labels")?.lines().collect();
    Ok(format!(
        "/// How samples become frames.
pub const CONFIG: LogMelConfig = LogMelConfig {{
    sample_rate: {},
    window: {},
    hop: {},
    mels: {mels},
    fmin: {:?},
    fmax: {:?},
    floor: {:?},
}};
/// Frames that the model looks at.
pub const FRAMES: usize = {frames};
/// What is subtracted from each number of a frame, and what divides it then.
pub const MEAN: f32 = {:?};
/// See [`MEAN`].
pub const STD: f32 = {:?};
/// The numbers of a frame of silence.
pub const SILENCE: f32 = {:?};
/// The names of the classes.
pub const LABELS: [&str; {}] = {labels:?};
",
        number("sample_rate")?,
        number("window")?,
        number("hop")?,
        number("fmin")?,
        number("fmax")?,
        number("floor")?,
        number("mean")?,
        number("std")?,
        number("floor")?.ln() as f32,
        labels.len(),
    ))
}
