//! For the firmware (feature `board`): compiles the model that `KINGLET_MODEL` names, an ONNX file, as the benchmark `KINGLET_BENCHMARK`
//! (kws, ic, vww or ad), and puts the memory of the board on the link path.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    #[cfg(feature = "board")]
    if let Err(wrong) = board::build() {
        eprintln!("{wrong}");
        std::process::exit(1);
    }
}

#[cfg(feature = "board")]
mod board {
    use std::error::Error;
    use std::path::PathBuf;
    use std::{env, fs};

    /// Benchmarks, as `KINGLET_BENCHMARK` and as the library name them, and the shapes of their inputs.
    const BENCHMARKS: [(&str, &str, &[usize]); 4] = [
        ("kws", "Kws", &[1, 49, 10, 1]),
        ("ic", "Ic", &[1, 32, 32, 3]),
        ("vww", "Vww", &[1, 96, 96, 3]),
        ("ad", "Ad", &[1, 640]),
    ];

    pub fn build() -> Result<(), Box<dyn Error>> {
        let variable = |name: &str| {
            println!("cargo:rerun-if-env-changed={name}");
            env::var(name).map_err(|_| format!("{name} is not set: see targets/cortex-m/mlperf-tiny/README.md"))
        };
        let (file, name) = (variable("KINGLET_MODEL")?, variable("KINGLET_BENCHMARK")?);
        let benchmark = BENCHMARKS.iter().find(|b| b.0 == name);
        let (_, task, shape) =
            benchmark.ok_or_else(|| format!("KINGLET_BENCHMARK is {name}: none of kws, ic, vww, ad"))?;

        let onnx = fs::read(&file).map_err(|e| format!("{file}: {e}"))?;
        let mut build = kinglet_build::Build::new(&file);
        // Exports have one symbolic dimension, whose name nobody knows.
        let inputs = kinglet_compiler::shape_of_inputs(&onnx)?;
        let input = inputs.first().ok_or_else(|| format!("{file} has no input"))?;
        build.options.shapes.insert(input.name.clone(), shape.to_vec());
        build.generate("model")?;

        let (package, out) = (PathBuf::from(env::var("CARGO_MANIFEST_DIR")?), PathBuf::from(env::var("OUT_DIR")?));
        fs::write(out.join("task.rs"), format!("/// What runs.\nconst TASK: Task = Task::{task};\n"))?;
        let memory = package.join("../mps2");
        println!("cargo:rerun-if-changed={}", memory.join("memory.x").display());
        println!("cargo:rustc-link-search={}", memory.display());
        println!("cargo:rustc-link-arg-bins=-Tlink.x");
        println!("cargo:rustc-link-arg-bins=--nmagic");
        Ok(())
    }
}
