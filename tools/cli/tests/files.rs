//! What the program does to files, and what they do to it: outputs, pipes, signals, damage.
#![cfg(unix)]

use std::os::unix::fs::{MetadataExt, symlink};
use std::process::Child;
use std::time::{Duration, Instant};

use crate::common::{Folder, floats, npy};
use kinglet_cli::Status;
use kinglet_onnx::{ModelProto, StringStringEntryProto, TensorProto};

/// A folder with `relu.kgl` and `x.npy` beside the ONNX model.
fn folder() -> Folder {
    let f = Folder::new();
    f.ok("convert relu.onnx -o relu.kgl --dim batch=1");
    f.write("x.npy", &npy("<f4", "(1, 4)", &floats(&[-1.0, 2.0, 3.0, 4.0])));
    f
}

#[test]
fn nothing_that_is_read_is_written_over() {
    let f = folder();
    f.ok("run relu.kgl --input x=x.npy --outputs y.npz");
    symlink("relu.kgl", f.at("link.kgl")).unwrap();
    std::fs::hard_link(f.at("x.npy"), f.at("hard.npy")).unwrap();
    let (model, input) = (std::fs::read(f.at("relu.kgl")).unwrap(), std::fs::read(f.at("x.npy")).unwrap());
    for line in [
        "run relu.kgl --input x=x.npy --outputs relu.kgl",
        "run relu.kgl --input x=x.npy --outputs link.kgl",
        "run link.kgl --input x=x.npy --outputs relu.kgl",
        "run relu.kgl --input x=x.npy --outputs x.npy",
        "run relu.kgl --input x=x.npy --outputs hard.npy",
        "run relu.kgl --inputs y.npz --outputs y.npz",
        "profile relu.kgl --runs 1 --trace relu.kgl",
    ] {
        let (status, _, err) = f.call(line);
        // The archive has another mistake in it, but what is wrong with the command line is said first.
        assert!(status == Status::Usage && err.contains("another name"), "{line}: {err}");
    }
    assert!(std::fs::read(f.at("relu.kgl")).unwrap() == model && std::fs::read(f.at("x.npy")).unwrap() == input);
}

#[test]
fn data_outside_of_a_model_is_part_of_it() {
    let f = Folder::new();
    let bytes = std::fs::read(f.at("relu.onnx")).unwrap();
    let mut model = ModelProto::from_bytes(&bytes).unwrap();
    let entry = |key: &str, value: &str| StringStringEntryProto { key: key.into(), value: value.into() };
    let weight = TensorProto {
        name: "w".into(),
        data_type: 1,
        dims: vec![4],
        data_location: 1,
        external_data: vec![entry("location", "weights.bin")],
        ..Default::default()
    };
    model.graph.as_mut().unwrap().initializer.push(weight);
    f.write("outside.onnx", &model.to_bytes());
    f.write("weights.bin", &floats(&[1.0; 4]));
    f.fails("convert outside.onnx -o weights.bin --dim batch=1", Status::Usage, &["weights.bin", "another name"]);
    assert_eq!(std::fs::read(f.at("weights.bin")).unwrap(), floats(&[1.0; 4]));
    f.ok("convert outside.onnx -o other.bin --dim batch=1");
}

#[test]
fn models_come_from_pipes() {
    let f = folder();
    let want = f.ok("run relu.kgl --input x=x.npy");
    for script in [
        "$K run /dev/stdin --input x=x.npy < relu.kgl",
        "cat relu.kgl | $K run /dev/stdin --input x=x.npy",
        "cat relu.onnx | $K run /dev/stdin --input x=x.npy",
        "mkfifo p.kgl; cat relu.kgl > p.kgl & $K run p.kgl --input x=x.npy",
        "mkfifo p.onnx; cat relu.onnx > p.onnx & $K run p.onnx --input x=x.npy",
        "mkfifo p.npy; cat x.npy > p.npy & $K run relu.kgl --input x=p.npy",
    ] {
        let (status, out, err) = f.sh(script);
        assert_eq!((status, &out, &err[..]), (Some(0), &want, ""), "{script}");
    }
    for (script, words) in [
        ("cat relu.kgl relu.kgl | $K inspect /dev/stdin", "/dev/stdin: "),
        ("head -c 100 relu.kgl | $K inspect /dev/stdin", "/dev/stdin: "),
        ("$K inspect /dev/null", "/dev/null: "),
        ("$K inspect .", ".: "),
        ("mkdir d.kgl; $K inspect d.kgl", "d.kgl: "),
        ("$K run relu.kgl --input x=.npy", ".npy"),
        ("mkdir d.npy; $K run relu.kgl --input x=d.npy", "d.npy: "),
        ("mkfifo p.npz; cat x.npy > p.npz & $K run relu.kgl --inputs p.npz", "p.npz: not a regular file"),
    ] {
        let (status, _, err) = f.sh(script);
        assert!(status.is_some_and(|s| s == 1 || s == 2) && err.starts_with("error: "), "{script}: {err}");
        assert!(err.contains(words) && err.lines().count() == 1, "{script}: {err}");
    }
    // Results go into pipes and devices, too.
    let (status, out, err) = f.sh("$K run relu.kgl --input x=x.npy --outputs /dev/stdout | wc -c");
    assert!(status == Some(0) && out.trim().parse::<usize>().unwrap() > 100, "{out}{err}");
}

#[test]
fn a_full_disk_loses_nothing() {
    let f = folder();
    f.write("out.kgl", b"what was there before");
    // The limit on the size of a file stands for the end of the disk; the model is longer.
    let (status, _, err) = f.sh("ulimit -f 1; $K zoo dwformer-tiny -o out.kgl");
    assert_eq!(status, Some(1), "{err}");
    assert!(err.contains("out.kgl: cannot write it: File too large"), "{err}");
    assert_eq!(std::fs::read(f.at("out.kgl")).unwrap(), b"what was there before");
    assert!(f.names().iter().all(|n| !n.starts_with('.')), "{:?}", f.names());
    for script in ["$K inspect relu.kgl > /dev/full", "$K convert relu.onnx --dim batch=1 -o /dev/full"] {
        let (status, _, err) = f.sh(script);
        assert!(status == Some(1) && err.contains("No space left"), "{script}: {status:?} {err}");
    }
}

/// Starts a script whose last command is `exec $K …`, so that signals reach the program.
fn start(f: &Folder, script: &str) -> Child {
    f.shell(script).spawn().expect("sh runs")
}

/// Sends a signal, and waits for the end: the exit status.
fn end_with(f: &Folder, mut child: Child, signal: &str) -> Option<i32> {
    let (status, _, err) = f.sh(&format!("kill -{signal} {}", child.id()));
    assert_eq!(status, Some(0), "{err}");
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if start.elapsed() > Duration::from_secs(60) {
            let _ = child.kill();
            panic!("SIG{signal} is not answered");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until the program shows by `sign` that it is at work.
fn wait(sign: impl Fn() -> bool) {
    let start = Instant::now();
    while !sign() {
        assert!(start.elapsed() < Duration::from_secs(60), "the program does not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_interrupted_command_leaves_nothing_behind() {
    let f = folder();
    for (signal, status) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        // An endless measurement. The trace is written at its end only, so that there is no file to wait for: a moment is long
        // enough for the handlers, which are the first thing to be set up.
        let child = start(&f, "exec $K profile relu.kgl --runs 100000 --warmup 4000000000 --trace t.json");
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(end_with(&f, child, signal), Some(status), "SIG{signal}");
    }
    assert_eq!(f.names(), ["relu.kgl", "relu.onnx", "x.npy"]);
}

#[test]
fn a_signal_while_a_file_is_written_removes_it() {
    let f = folder();
    f.write("old.onnx", b"what was there before");
    // Some 60 MB, which take a while to write and to sync.
    let temporary = || f.names().iter().any(|n| n.starts_with(".kinglet-"));
    let child = start(&f, "exec $K zoo vanillanet-5 -o old.onnx");
    wait(temporary);
    // If the file was whole just before the signal, it has its name; either way nothing else is there.
    let status = end_with(&f, child, "INT");
    let whole = std::fs::metadata(f.at("old.onnx")).unwrap().len() > 1000;
    assert!(!temporary());
    assert!(whole || (status == Some(130) && std::fs::read(f.at("old.onnx")).unwrap() == b"what was there before"));
}

#[test]
fn ignored_signals_stay_ignored() {
    let f = folder();
    let child = start(&f, "trap '' HUP; exec $K bench relu.kgl --warmup 4000000000");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(f.sh(&format!("kill -HUP {}", child.id())).0, Some(0));
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(end_with(&f, child, "INT"), Some(130));
}

#[test]
fn damaged_weights_are_noticed_wherever_a_file_is_opened() {
    let f = folder();
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/glyphs/glyphs_int8.onnx");
    let (status, _, err) = f.sh(&format!("$K convert {model} -o g.kgl --dim batch=1"));
    assert_eq!(status, Some(0), "{err}");
    let mut bytes = std::fs::read(f.at("g.kgl")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    f.write("g.kgl", &bytes);
    f.write("x.npy", &npy("<f4", "(1, 1, 32, 32)", &floats(&[0.5; 1024])));
    for line in [
        "run g.kgl --input image=x.npy",
        "bench g.kgl --runs 1 --warmup 0",
        "profile g.kgl --runs 1 --warmup 0",
        "inspect g.kgl",
    ] {
        f.fails(line, Status::Failed, &["g.kgl", "weights"]);
        f.ok(&format!("{line} --no-check-weights"));
        let (status, _, err) = f.sh(&format!("cat g.kgl | $K {}", line.replace("g.kgl", "/dev/stdin")));
        assert!(status == Some(1) && err.contains("/dev/stdin: ") && err.contains("weights"), "{line}: {err}");
        let piped = format!("cat g.kgl | $K {} --no-check-weights", line.replace("g.kgl", "/dev/stdin"));
        assert_eq!(f.sh(&piped).0, Some(0), "{piped}");
    }
}

#[test]
fn a_replaced_file_keeps_its_mode() {
    let f = folder();
    for mode in ["640", "755"] {
        let (status, _, err) = f.sh(&format!("chmod {mode} relu.kgl; $K convert relu.onnx -o relu.kgl --dim batch=1"));
        assert_eq!(status, Some(0), "{err}");
        assert_eq!(format!("{:o}", std::fs::metadata(f.at("relu.kgl")).unwrap().mode() & 0o777), mode);
    }
    // A new file has what the user's mask leaves, and a folder that takes no file is an error.
    let (status, _, err) =
        f.sh("umask 027; $K convert relu.onnx -o new.kgl --dim batch=1; $K zoo lmuformer-tiny -o /proc/a");
    assert!(status == Some(1) && err.contains("/proc/a: cannot write it"), "{err}");
    assert_eq!(std::fs::metadata(f.at("new.kgl")).unwrap().mode() & 0o777, 0o640);
}
