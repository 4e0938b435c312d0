//! For build scripts: compiles a model, verifies the plan, and writes a module with the plan and all that a program must know of it before it runs: the
//! kinds of steps and functions to link, the bytes of arena, the inputs and outputs with their types, shapes and scales.
//!
//! In `build.rs`:
//!
//! ```no_run
//! fn main() -> Result<(), kinglet_build::Error> {
//!     kinglet_build::Build::new("models/keywords.onnx").dim("batch", 1).generate("keywords")
//! }
//! ```
//!
//! and in the program:
//!
//! ```ignore
//! include!(concat!(env!("OUT_DIR"), "/keywords.rs"));
//!
//! let kernels = kinglet_cortex_m::BestOf::<{ keywords::OPS }>::default();
//! let mut session = keywords::session(arena.as_mut(), &kernels)?; // of keywords::ARENA bytes
//! keywords::inputs::FEATURES.of(&mut session)?.copy_from_slice(&features);
//! session.run()?;
//! let scores = keywords::outputs::SCORES.of(&session)?;
//! ```

mod module;

use std::path::{Path, PathBuf};
use std::{env, fmt, fs, io};

pub use kinglet::Target;
use kinglet::format::ALIGN;
pub use module::outputs;

pub use kinglet_compiler::Options;
use kinglet_compiler::{Banding, MemoryRegion, compile, import_file};
use kinglet_native::ModelFile;

/// Why there is no module.
///
/// It is shown in the same words by `{}` and by `{:?}`, so that a build script may end with it.
#[derive(thiserror::Error)]
pub enum Error {
    /// The ONNX model is not compiled.
    #[error("{}: {source}", file.display())]
    Compile {
        /// The model.
        file: PathBuf,
        /// Why.
        source: kinglet_compiler::Error,
    },
    /// The plan is not one of this version.
    #[error("{}: {source}", file.display())]
    Plan {
        /// The plan.
        file: PathBuf,
        /// Why.
        source: kinglet_native::Error,
    },
    /// A file is not read or written.
    #[error("{}: {source}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The program is to run on another target than the plan is for.
    #[error("{} is a plan for {}, and this build is for {}", file.display(), plan.info().name, build.info().name)]
    Target {
        /// The plan.
        file: PathBuf,
        /// What it is for.
        plan: Target,
        /// What is asked for.
        build: Target,
    },
    /// The name is none of a module.
    #[error(
        "{0:?} is no name of a Rust module: it has to be one of letters, digits and underscores, not beginning with a digit"
    )]
    Name(String),
    /// Cargo has not started this program.
    #[error("{0} is not set: this is for build scripts")]
    Environment(&'static str),
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A model that a build script compiles.
#[derive(Debug)]
pub struct Build {
    file: PathBuf,
    /// What was asked for by name.
    target: Option<Target>,
    /// What the compiler is told: what `kinglet convert` has switches for. The target is set by [`Build::target`]. For bare metal, steps run in bands for the
    /// smallest arena and integers go in and out, unless it is said otherwise here.
    pub options: Options,
}

impl Build {
    /// Of an ONNX file, or of a `.kgl` file, which is taken as it is. The path is relative to the package.
    pub fn new(file: impl Into<PathBuf>) -> Build {
        let triple = env::var("TARGET").unwrap_or_default();
        let target = target_of(&triple);
        let options =
            if triple.contains("-none") { bare_metal(target) } else { Options { target, ..Options::default() } };
        Build { file: file.into(), target: None, options }
    }

    /// For another target than the one that suits cargo's: a core of ARMv8-M with the DSP extension, of which its name says nothing, runs plans for `cortex-m`, and one
    /// with Helium plans for `cortex-m55`.
    pub fn target(mut self, target: Target) -> Build {
        self.target = Some(target);
        self.options.target = target;
        self
    }

    /// A symbolic dimension has this value.
    pub fn dim(mut self, name: &str, value: usize) -> Build {
        self.options.dims.insert(name.to_string(), value);
        self
    }

    /// A memory of the board, the fast one first, as `convert --region` names them: the plan takes no more of it, and what the first one has no room for lies in
    /// a second one.
    pub fn region(mut self, name: &str, bytes: usize) -> Build {
        self.options.regions.push(MemoryRegion { name: name.to_string(), bytes });
        self
    }

    /// Weights for so many bytes of RAM, those that a run reads the most often, lie in front of the others, for the program to copy them (`hot` in the module): where reading
    /// flash is slow.
    pub fn hot_weights(mut self, bytes: usize) -> Build {
        self.options.hot_weights = bytes;
        self
    }

    /// Writes `OUT_DIR/NAME.kgl` and `OUT_DIR/NAME.rs`, which has the module `NAME`. Cargo runs the build script again when the model changes.
    ///
    /// # Errors
    /// What is wrong with the model, or with the files.
    pub fn generate(self, name: &str) -> Result<(), Error> {
        let variable = |name: &'static str| env::var_os(name).map(PathBuf::from).ok_or(Error::Environment(name));
        let (package, out) = (variable("CARGO_MANIFEST_DIR")?, variable("OUT_DIR")?);
        println!("cargo:rerun-if-changed={}", package.join(&self.file).display());
        self.generate_in(name, &package, &out)
    }

    /// As [`Build::generate`], of a file relative to `package`, into the folder `out`.
    fn generate_in(self, name: &str, package: &Path, out: &Path) -> Result<(), Error> {
        if !module::is_name(name) {
            return Err(Error::Name(name.to_string()));
        }
        let file = package.join(&self.file);
        let (bytes, hot) = if file.extension().is_some_and(|e| e == "kgl") {
            // Whoever compiled it has put those in front.
            (fs::read(&file).map_err(|source| Error::File { file: file.clone(), source })?, self.options.hot_weights)
        } else {
            let compiled = import_file(&file, &self.options).and_then(|graph| compile(graph, &self.options));
            let compiled = compiled.map_err(|source| Error::Compile { file: file.clone(), source })?;
            (compiled.kgl, compiled.report.hot.bytes)
        };
        // What firmware does not do again: this is where the plan is verified.
        let plan = ModelFile::from_bytes(&bytes).map_err(|source| Error::Plan { file: file.clone(), source })?;
        let model = plan.model();
        let hot = hot.min(model.weights().len()) / ALIGN * ALIGN;
        if let Some(build) = self.target.filter(|&t| t != model.target()) {
            return Err(Error::Target { file: file.clone(), plan: model.target(), build });
        }
        let write =
            |file: PathBuf, bytes: &[u8]| fs::write(&file, bytes).map_err(|source| Error::File { file, source });
        write(out.join(format!("{name}.kgl")), &bytes)?;
        write(out.join(format!("{name}.rs")), module::text(name, &file, &model, [bytes.len(), hot]).as_bytes())
    }
}

/// What the compiler is told for bare metal: bands for the smallest arena, integers as inputs and outputs.
pub fn bare_metal(target: Target) -> Options {
    Options { target, quantized_io: true, bands: Banding::Memory, ..Options::default() }
}

/// The target for a triple of Rust's.
fn target_of(triple: &str) -> Target {
    match triple {
        t if t.starts_with("thumbv7em-") => Target::CortexM,
        t if t.starts_with("aarch64-") => Target::Armv8,
        t if t.starts_with("x86_64-") => Target::X86_64,
        t if t.contains("-none") => Target::Mcu,
        _ => Target::Generic,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = env::temp_dir().join(format!("kinglet-build-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("the folder is ours");
        folder
    }

    #[test]
    fn what_is_wrong_is_said() {
        let out = folder("wrong");
        let said =
            |build: Build, name: &str| build.generate_in(name, &out, &out).expect_err("nothing is right").to_string();
        assert!(said(Build::new("there.onnx"), "no-name").contains("no-name"));
        assert!(said(Build::new("nowhere.onnx"), "a").contains("nowhere.onnx"));
        assert!(said(Build::new("nowhere.kgl"), "a").contains("nowhere.kgl"));
        fs::write(out.join("torn.kgl"), b"KGL").expect("the folder is ours");
        assert!(said(Build::new("torn.kgl"), "a").contains("torn.kgl"));
        fs::write(out.join("torn.onnx"), [8, 255]).expect("the folder is ours");
        let error = Build::new("torn.onnx").generate_in("a", &out, &out).expect_err("it is no model");
        assert_eq!(format!("{error:?}"), error.to_string());
        fs::remove_dir_all(out).expect("it was there");
    }

    #[test]
    fn a_triple_says_the_target() {
        let all = ["thumbv7em-none-eabihf", "thumbv6m-none-eabi", "aarch64-linux-android", "x86_64-unknown-linux-gnu"];
        assert_eq!(all.map(target_of), [Target::CortexM, Target::Mcu, Target::Armv8, Target::X86_64]);
    }
}
