//! Compiles models of the repository.

use kinglet::Target;
use kinglet_build::{Build, Error};

fn main() -> Result<(), Error> {
    let glyphs = || Build::new("../../models/glyphs/glyphs_int8.onnx").dim("batch", 1).target(Target::Generic);
    glyphs().generate("glyphs")?;
    let mut small = glyphs();
    small.options.quantized_io = true;
    small.generate("quantized")?;
    glyphs().region("sram", 16 << 10).region("psram", 1 << 20).generate("split")?;
    // What one build has written is a plan for another.
    let out = std::env::var_os("OUT_DIR").map(std::path::PathBuf::from).ok_or(Error::Environment("OUT_DIR"))?;
    Build::new(out.join("glyphs.kgl")).generate("again")
}
