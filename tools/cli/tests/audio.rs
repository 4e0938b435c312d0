//! `kinglet run --audio`, on a model of one node and on the keyword spotter of the repository.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use kinglet_cli::Status;
use kinglet_onnx::{
    DataType, Dimension, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};

/// A folder with the model `ears.onnx`: `y = relu(x)`, f32 `[1, 4, 2]`, of sounds at 400 Hz with a hop of 4 samples.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("kinglet-cli-audio-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("ears.onnx"), model()).unwrap();
        Folder(path)
    }

    /// Path of a file with `samples` samples of a tone.
    fn wav(&self, name: &str, sample_rate: u32, samples: usize) -> String {
        let path = self.0.join(name);
        let spec =
            hound::WavSpec { channels: 1, sample_rate, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
        let mut file = hound::WavWriter::create(&path, spec).unwrap();
        for i in 0..samples {
            file.write_sample((30000.0 * (i as f32 * 0.7).sin()) as i16).unwrap();
        }
        file.finalize().unwrap();
        path.display().to_string()
    }

    fn at(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn call(args: &[&str]) -> (Status, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = kinglet_cli::run(std::iter::once("kinglet").chain(args.iter().copied()), &mut out, &mut err);
    (status, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

fn ok(args: &[&str]) -> String {
    let (status, out, err) = call(args);
    assert_eq!(status, Status::Ok, "{args:?}: {err}");
    out
}

fn model() -> Vec<u8> {
    let dim = |n| DimensionProto { value: Some(Dimension::Value(n)) };
    let shape = Some(TensorShapeProto { dim: [1, 4, 2].map(dim).to_vec() });
    let tensor = TensorTypeProto { elem_type: DataType::Float as i32, shape };
    let value = |name: &str| ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { tensor_type: Some(tensor.clone()) }),
    };
    let node = NodeProto {
        input: vec!["x".into()],
        output: vec!["y".into()],
        name: "hear".into(),
        op_type: "Relu".into(),
        ..Default::default()
    };
    let graph =
        GraphProto { node: vec![node], input: vec![value("x")], output: vec![value("y")], ..Default::default() };
    let settings = [("sample_rate", "400"), ("window", "8"), ("hop", "4"), ("fmin", "0"), ("fmax", "200")];
    let entry =
        |(k, v): &(&str, &str)| StringStringEntryProto { key: format!("kinglet.audio.{k}"), value: v.to_string() };
    ModelProto {
        ir_version: 8,
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
        metadata_props: settings.iter().chain(&[("floor", "1e-4")]).map(entry).collect(),
        ..Default::default()
    }
    .to_bytes()
}

#[test]
fn long_sounds_are_heard_window_by_window() {
    let f = Folder::new();
    let (onnx, kgl, npz) = (f.at("ears.onnx"), f.at("ears.kgl"), f.at("y.npz"));
    ok(&["convert", &onnx, "-o", &kgl]);
    let (short, long) = (f.wav("short.wav", 400, 9), f.wav("long.wav", 400, 36));
    for model in [&onnx, &kgl] {
        let out = ok(&["run", model, "--audio", &short]);
        assert!(out.starts_with("y: f32 1x4x2"), "{out}");
        let out = ok(&["run", model, "--audio", &long, "--top", "1"]);
        assert_eq!(out.matches("top 1 of y").count(), 3, "{out}");
        assert!(out.starts_with("0.00 s to 0.05 s\n") && out.contains("\n\n0.02 s to 0.07 s\n"), "{out}");
    }
    let frames = |sound: &str| {
        assert_eq!(ok(&["run", &kgl, "--audio", sound, "--outputs", &npz]), "");
        let mut archive = zip::ZipArchive::new(std::fs::File::open(&npz).unwrap()).unwrap();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut archive.by_name("y.npy").unwrap(), &mut bytes).unwrap();
        bytes
    };
    let shape = |npy: &[u8]| String::from_utf8_lossy(&npy[..128]).into_owned();
    assert!(shape(&frames(&short)).contains("(1,4,2,)"));
    let npy = frames(&long);
    assert!(shape(&npy).contains("(3,1,4,2,)"), "{}", shape(&npy));
    // The second half of a window is the first half of the next; a loud tone is above 0.
    let values = &npy[npy.len() - 3 * 8 * 4..];
    assert_eq!(values[16..32], values[32..48]);
    assert!(values[..32].iter().any(|&b| b != 0));
}

#[test]
fn wrong_usage_and_wrong_files_say_the_way_out() {
    let f = Folder::new();
    let onnx = f.at("ears.onnx");
    let fails = |args: &[&str], status: Status, words: &[&str]| {
        let (found, out, err) = call(args);
        assert_eq!((found, &out[..]), (status, ""), "{args:?}: {err}");
        for word in words {
            assert!(err.contains(word), "{args:?}: no `{word}` in: {err}");
        }
    };
    let (good, fast) = (f.wav("good.wav", 400, 20), f.wav("fast.wav", 44_100, 20));
    fails(&["run", &onnx, "--audio", &fast], Status::Failed, &["fast.wav", "44100", " 400", "ffmpeg", "sox"]);
    fails(&["run", &onnx, "--audio", &onnx], Status::Failed, &["ears.onnx", "WAV"]);
    fails(&["run", &onnx, "--audio", &f.wav("empty.wav", 400, 0)], Status::Failed, &["empty.wav", "no samples"]);
    fails(&["run", &onnx, "--audio", &good, "--image", &good], Status::Usage, &["--image"]);
    let glyphs = models().join("glyphs/glyphs_int8.onnx").display().to_string();
    fails(&["run", &glyphs, "--audio", &good], Status::Usage, &["1xFRAMESxMELS", "--input"]);
}

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models")
}

#[test]
fn the_keyword_spotter_hears_its_samples() {
    let folder = models().join("keywords");
    for (word, sound) in [
        ("yes", "yes_flite-slt.wav"),
        ("stop", "stop_espeak-m3-noisy.wav"),
        ("forward", "forward_festival-slt-noisy.wav"),
    ] {
        let sound = folder.join("samples").join(sound).display().to_string();
        for model in ["keywords.onnx", "keywords_int8.onnx"] {
            let model = folder.join(model).display().to_string();
            let out = ok(&["run", &model, "--audio", &sound, "--top", "3"]);
            assert!(out.starts_with("top 3 of logits"), "one window: {out}");
            let first = out.lines().find(|l| l.trim_start().starts_with("1 ")).expect("a first place");
            assert!(first.ends_with(word), "{out}");
        }
    }
}
