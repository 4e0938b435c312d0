//! Plans to receive, and what they compute.
#![allow(dead_code)] // Each test takes what it needs.

use std::path::Path;

use kinglet::kernels::OpSet;
use kinglet::{Arena, Model, Reference, Session, Target};
use kinglet_compiler::{Options, compile, import, import_file};
use kinglet_onnx::prost::Message;
use kinglet_onnx::{
    DataType, Dimension, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use kinglet_update::Limits;

/// Every kind of step.
pub const ALL: u128 = OpSet::ALL.bits();
/// Bytes of arena that the tests have.
pub const ARENA: usize = 160 << 10;
/// What they have.
pub const LIMITS: Limits<'static, Reference> = Limits { kernels: &Reference, arena: ARENA, slow: 0, work: u64::MAX };

/// For one picture at a time.
pub fn options(target: Target) -> Options {
    Options { target, dims: [("batch".to_string(), 1)].into(), ..Options::default() }
}

/// The character classifier, of floats or of bytes.
pub fn glyphs(name: &str, target: Target) -> Vec<u8> {
    glyphs_with(name, &options(target))
}

/// The same, compiled otherwise.
pub fn glyphs_with(name: &str, options: &Options) -> Vec<u8> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../models/glyphs").join(name);
    compile(import_file(&file, options).expect("it is there"), options).expect("it compiles").kgl
}

/// A plan of a kilobyte: a product of `inputs` numbers with weights that depend on `seed`, and its positive part.
pub fn small(inputs: i64, seed: usize) -> Vec<u8> {
    let dim = [1, inputs].map(|d| DimensionProto { value: Some(Dimension::Value(d)) }).to_vec();
    let shape = Some(TensorShapeProto { dim });
    let tensor_type = Some(TensorTypeProto { elem_type: DataType::Float as i32, shape });
    let port = |name: &str, r#type| ValueInfoProto { name: name.into(), r#type };
    let node = |op: &str, input: &[&str], output: &str| NodeProto {
        op_type: op.into(),
        input: input.iter().map(|n| n.to_string()).collect(),
        output: vec![output.into()],
        ..NodeProto::default()
    };
    let weights = TensorProto {
        name: "w".into(),
        dims: vec![inputs, 3],
        data_type: DataType::Float as i32,
        float_data: (0..inputs as usize * 3).map(|i| ((i * 37 + seed * 11) % 64) as f32 / 32.0 - 0.5).collect(),
        ..TensorProto::default()
    };
    let graph = GraphProto {
        node: vec![node("MatMul", &["x", "w"], "p"), node("Relu", &["p"], "y")],
        initializer: vec![weights],
        input: vec![port("x", Some(TypeProto { tensor_type }))],
        output: vec![port("y", None)],
        ..GraphProto::default()
    };
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 17 }];
    let model = ModelProto { ir_version: 8, graph: Some(graph), opset_import, ..ModelProto::default() };
    let options = options(Target::Generic);
    let graph = import(&model.encode_to_vec(), None, &options).expect("a model of two nodes");
    compile(graph, &options).expect("it compiles").kgl
}

/// Bytes at a multiple of 64, as a receiver in RAM has them.
pub struct Ram {
    bytes: Vec<u8>,
    at: usize,
    len: usize,
}

impl Ram {
    pub fn of(bytes: &[u8]) -> Ram {
        let mut ram = Ram { bytes: vec![0; bytes.len() + 64], at: 0, len: bytes.len() };
        ram.at = ram.bytes.as_ptr().align_offset(64);
        ram.get_mut().copy_from_slice(bytes);
        ram
    }

    pub fn get(&self) -> &[u8] {
        &self.bytes[self.at..][..self.len]
    }

    pub fn get_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.at..][..self.len]
    }
}

/// The outputs of a plan, as bytes, for inputs without a pattern.
pub fn run(model: &Model<'_>) -> Vec<u8> {
    let mut arena = Box::new(Arena::<ARENA>::new());
    let mut session = Session::new(*model, &mut arena.0[..], &Reference).expect("it was verified");
    for (i, to) in session.input_mut::<f32>(0).expect("there is one").iter_mut().enumerate() {
        *to = (i * 37 % 101) as f32 / 50.0 - 1.0;
    }
    session.run().expect("it runs");
    session.output_bytes(0).expect("there is one").to_vec()
}

/// The outputs of the plan in a file.
pub fn outputs(file: &[u8]) -> Vec<u8> {
    run(&Model::load(Ram::of(file).get()).expect("it is whole"))
}
