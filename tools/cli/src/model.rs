//! A model given on the command line: a `.kgl`, or an `.onnx` that is compiled in memory.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kinglet::format::MAGIC;
use kinglet_compiler::graph::Graph;
use kinglet_compiler::{Compiled, DimInfo, InputInfo, Options};
use kinglet_native::{ModelFile, Open};
use kinglet_onnx::{Bytes, ModelProto};

use crate::args::Dims;
use crate::error::{Error, Result};
use crate::io::{MOST_BYTES, Streams, extension, read_file, read_rest};
use crate::progress::Progress;

/// A model before it is known what it is to be compiled for.
pub enum Source {
    /// A compiled model.
    Kgl(Arc<ModelFile>),
    /// A model to be compiled.
    Onnx(Onnx),
}

/// An ONNX file.
pub struct Onnx {
    path: PathBuf,
    bytes: Bytes,
    inputs: Vec<InputInfo>,
}

impl Source {
    /// Opens a model of either kind; a compiled one as `how` says. Its name decides; where that says nothing, the first bytes
    /// do.
    pub fn open(path: &Path, how: Open) -> Result<Source> {
        match extension(path).as_str() {
            "kgl" => return Ok(Source::Kgl(Arc::new(ModelFile::open_with(path, how)?))),
            "onnx" => return Ok(Source::Onnx(Onnx::open(path)?)),
            _ => {}
        }
        let fail = |e| Error::file(path, e);
        let file = File::open(path).map_err(fail)?;
        let mut begin = Vec::new();
        (&file).take(MAGIC.len() as u64).read_to_end(&mut begin).map_err(fail)?;
        if begin != MAGIC {
            let bytes = read_rest(path, &begin, file, MOST_BYTES)?;
            return Ok(Source::Onnx(Onnx::of(path, bytes)?));
        }
        if file.metadata().map_err(fail)?.is_file() {
            return Ok(Source::Kgl(Arc::new(ModelFile::open_with(path, how)?)));
        }
        // A pipe gives its bytes once.
        let model = ModelFile::read(&mut begin.as_slice().chain(&file), how).map_err(|e| Error::file(path, e))?;
        Ok(Source::Kgl(Arc::new(model)))
    }

    /// The files that the model lies in: the model at `path`, and those that an ONNX file refers to.
    pub fn files(&self, path: &Path) -> Vec<PathBuf> {
        match self {
            Source::Kgl(_) => vec![path.to_path_buf()],
            Source::Onnx(onnx) => onnx.files(),
        }
    }

    /// The inputs as the file declares them.
    pub fn inputs(&self) -> Vec<InputInfo> {
        match self {
            Source::Onnx(onnx) => onnx.inputs.clone(),
            Source::Kgl(file) => {
                let model = file.model();
                let info = |i| {
                    let t = model.tensor(model.input_tensor(i)?);
                    let dims = t.shape().iter().map(|&d| DimInfo::Fixed(d as usize)).collect();
                    let has_default = model.input_default(i).is_some();
                    Some(InputInfo { name: input_name(&model, i), dtype: t.dtype(), dims, ranked: true, has_default })
                };
                (0..model.input_count()).filter_map(info).collect()
            }
        }
    }

    /// The metadata value with this key.
    pub fn metadata(&self, key: &str) -> Option<String> {
        match self {
            Source::Kgl(file) => file.model().metadata_value(key).map(String::from),
            Source::Onnx(onnx) => {
                // The file was read before, so that it decodes.
                let model = ModelProto::from_shared(onnx.bytes.clone()).ok()?;
                model.metadata_props.into_iter().find(|e| e.key == key).map(|e| e.value)
            }
        }
    }

    /// An ONNX file of nothing but metadata.
    #[cfg(test)]
    pub fn with_metadata(bytes: Vec<u8>) -> Source {
        Source::Onnx(Onnx { path: "test.onnx".into(), bytes: bytes.into(), inputs: Vec::new() })
    }

    /// Takes over the shapes of `--shape`; complains about them, about `--dim` values and about `--max-trips`, where they have no effect.
    pub fn check_dims(&mut self, dims: &Dims, streams: &mut Streams<'_>) -> Result<()> {
        match self {
            Source::Kgl(_) => dims.fixed_in_plans().map_or(Ok(()), |flag| {
                let fixed = if flag == "--max-trips" { "loops" } else { "shapes" };
                Err(Error::usage(format!(
                    "{flag} has no effect on a .kgl, whose {fixed} are fixed: give it to `convert`"
                )))
            }),
            Source::Onnx(onnx) => onnx.check_dims(dims, streams),
        }
    }

    /// The model, ready to run; an ONNX file is compiled as `options` say.
    pub fn ready(&self, options: &Options) -> Result<Arc<ModelFile>> {
        match self {
            Source::Kgl(file) => Ok(Arc::clone(file)),
            Source::Onnx(onnx) => Ok(Arc::new(ModelFile::from_bytes(&onnx.compile(options)?.kgl)?)),
        }
    }
}

impl Onnx {
    /// Reads an ONNX file.
    pub fn open(path: &Path) -> Result<Onnx> {
        Onnx::of(path, read_file(path)?)
    }

    /// Takes what was read of an ONNX file.
    fn of(path: &Path, bytes: Vec<u8>) -> Result<Onnx> {
        let bytes = Bytes::from(bytes);
        let inputs = kinglet_compiler::shape_of_inputs(&bytes).map_err(|e| Error::compiler(path, &e))?;
        Ok(Onnx { path: path.to_path_buf(), bytes, inputs })
    }

    /// The file and those that it keeps tensors in.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = vec![self.path.clone()];
        let folder = self.path.parent().unwrap_or(Path::new(""));
        // It was decoded before; what does not decode refers to nothing.
        let mut graphs: Vec<_> =
            ModelProto::from_shared(self.bytes.clone()).ok().and_then(|m| m.graph).into_iter().collect();
        while let Some(graph) = graphs.pop() {
            let mut tensors = graph.initializer;
            for attribute in graph.node.into_iter().flat_map(|n| n.attribute) {
                graphs.extend(attribute.g);
                tensors.extend(attribute.t);
            }
            tensors.retain(|t| t.data_location == 1);
            let locations = tensors.into_iter().flat_map(|t| t.external_data).filter(|e| e.key == "location");
            files.extend(locations.map(|e| folder.join(e.value)));
        }
        files.sort();
        files.dedup();
        files
    }

    /// The inputs as the file declares them.
    pub fn inputs(&self) -> &[InputInfo] {
        &self.inputs
    }

    /// The file's name.
    #[cfg(feature = "oracle")]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes over the shapes of `--shape`, and warns of `--dim` values that no input has.
    pub fn check_dims(&mut self, dims: &Dims, streams: &mut Streams<'_>) -> Result<()> {
        if let Some((flag, name)) = dims.contradicted() {
            return Err(Error::usage(format!("{flag} {name} is given twice, with different values")));
        }
        let of_input = |d: &DimInfo| match d {
            DimInfo::Symbol(s) => Some(s.clone()),
            DimInfo::Fixed(_) => None,
        };
        // Before shapes take their place.
        let symbols: Vec<String> = self.inputs.iter().flat_map(|i| &i.dims).filter_map(of_input).collect();
        for (name, shape) in dims.shapes() {
            crate::inputs::give_shape(&mut self.inputs, &name, &shape)?;
        }
        for name in dims.map().keys().filter(|n| !symbols.contains(*n)) {
            let known = if symbols.is_empty() { "none".to_string() } else { symbols.join(", ") };
            streams.warn(format_args!(
                "no input of {} has the symbolic dimension `{name}` (they have: {known})",
                self.path.display()
            ));
        }
        Ok(())
    }

    /// Imports the graph.
    pub fn import(&self, options: &Options) -> Result<Graph> {
        kinglet_compiler::import_shared(self.bytes.clone(), self.path.parent(), options)
            .map_err(|e| Error::compiler(&self.path, &e))
    }

    /// Compiles the file, showing the stages on a terminal.
    pub fn compile(&self, options: &Options) -> Result<Compiled> {
        let progress = Progress::spinner();
        progress.stage("import");
        self.compile_graph(self.import(options)?, options, &progress)
    }

    /// Compiles the imported graph, showing the stages.
    pub fn compile_graph(&self, graph: Graph, options: &Options, progress: &Progress) -> Result<Compiled> {
        kinglet_compiler::compile_with(graph, options, &mut |stage| progress.stage(stage))
            .map_err(|e| Error::compiler(&self.path, &e))
    }
}

/// Name of input `i`, also in a model whose names were left out.
pub fn input_name(model: &kinglet::Model<'_>, i: usize) -> String {
    model.input_name(i).map_or_else(|| format!("input_{i}"), String::from)
}

/// Name of output `i`, also in a model whose names were left out.
pub fn output_name(model: &kinglet::Model<'_>, i: usize) -> String {
    model.output_name(i).map_or_else(|| format!("output_{i}"), String::from)
}
