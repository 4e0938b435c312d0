//! What the tests of this crate share: a model written by hand and files that go away again.
// Miri maps no files.
#![cfg_attr(miri, allow(dead_code))]

use std::path::{Path, PathBuf};

use kinglet::format::words::Record;
use kinglet::format::{
    ABSENT, ALIGN, CHECKED_FROM, HEADER_BYTES, MAGIC, MAX_RANK, Region, SECTION_ENTRY_BYTES, Section, StepRecord,
    TensorRecord, VERSION, checksum,
};
use kinglet::kernels::{Unary, UnaryOp};
use kinglet::{DType, StepKind};

fn words(record: &impl Record, out: &mut Vec<u8>) {
    record.write(&mut |w| out.extend(w.to_le_bytes()));
}

fn strings(list: &[&str]) -> Vec<u8> {
    let mut out = (list.len() as u32).to_le_bytes().to_vec();
    let mut end = 0u32;
    for s in list {
        end += s.len() as u32;
        out.extend(end.to_le_bytes());
    }
    out.extend(list.concat().bytes());
    out
}

/// A model of one step, `y = max(x, 0)`, over `n` rows of one f32 each.
pub(crate) fn relu_model(n: u32) -> Vec<u8> {
    relu_model_with_weights(n, &[])
}

/// The same model with constant data that no step reads.
pub(crate) fn relu_model_with_weights(n: u32, weights: &[u8]) -> Vec<u8> {
    let bytes = n * 4;
    let second = bytes.next_multiple_of(ALIGN as u32);
    let mut dims = [0; MAX_RANK];
    dims[0] = n;
    let tensor = |offset| TensorRecord {
        dtype: DType::F32,
        region: Region::Arena,
        offset,
        bytes,
        row_bytes: 4,
        capacity: n,
        rows: n,
        writer: ABSENT,
        advance: 0,
        scale: 1.0,
        zero_point: 0,
        rank: 1,
        dims,
    };
    let mut tensors = Vec::new();
    words(&tensor(0), &mut tensors);
    words(&tensor(second), &mut tensors);
    let mut steps = Vec::new();
    let step = StepRecord {
        kind: StepKind::Unary as u32,
        operands: 0,
        inputs: 1,
        outputs: 1,
        params: 0,
        rows: n,
        columns: 1,
        slice_rows: 0,
        delay: 0,
        scratch: 0,
        macs: [0; 2],
    };
    words(&step, &mut steps);
    let mut params = Vec::new();
    words(&Unary { op: UnaryOp::Relu, alpha: 0.0, beta: 0.0, rows: n, row: 1, integer: false }, &mut params);
    let mut operands = Vec::new();
    words(&[0u32, 1], &mut operands);
    let mut io = Vec::new();
    words(&[1u32, 1, 0, 1, ABSENT], &mut io);
    assemble(
        second * 2,
        &[
            (Section::Tensors, tensors),
            (Section::Operands, operands),
            (Section::Params, params),
            (Section::Steps, steps),
            (Section::Bands, Vec::new()),
            (Section::Io, io),
            (Section::Weights, weights.to_vec()),
            (Section::Names, strings(&["x", "y", "relu", "relu"])),
        ],
    )
}

fn assemble(arena: u32, sections: &[(Section, Vec<u8>)]) -> Vec<u8> {
    let mut table = Vec::new();
    let mut data = Vec::new();
    let start = (HEADER_BYTES + sections.len() * SECTION_ENTRY_BYTES).next_multiple_of(ALIGN);
    for (id, content) in sections {
        words(&[*id as u32, (start + data.len()) as u32, content.len() as u32, 0], &mut table);
        data.extend(content);
        data.resize(data.len().next_multiple_of(ALIGN), 0);
    }
    let mut file = MAGIC.to_vec();
    let total = (start + data.len()) as u32;
    let weights = sections.iter().find(|(id, _)| *id == Section::Weights).map_or(&[][..], |(_, w)| w);
    let weights = checksum(weights, 0);
    let (low, high) = (weights as u32, (weights >> 32) as u32);
    let header = [u32::from(VERSION), 0, 0, low, high, total, arena, 0, arena, sections.len() as u32];
    header.iter().for_each(|w| words(w, &mut file));
    file.resize(HEADER_BYTES, 0);
    file.extend(table);
    let mut sum = checksum(&file[CHECKED_FROM..], u64::from(VERSION));
    for (_, content) in sections.iter().filter(|(id, _)| *id != Section::Weights) {
        sum = checksum(content, sum);
    }
    file[8..16].copy_from_slice(&sum.to_le_bytes());
    file.resize(start, 0);
    file.extend(data);
    file
}

/// A file in the directory for temporary files, removed when it goes out of scope.
pub(crate) struct TempFile(PathBuf);

impl TempFile {
    pub fn new(name: &str, content: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("kinglet-native-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        TempFile(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
