//! What files and arguments of others may not do: command the terminal, bury the user in text, take all memory.
#![cfg(unix)]

use crate::common::{Folder, floats, model, npy};
use kinglet_cli::Status;

/// Names that clear the screen, make up lines, hide behind marks of direction, or go on for a megabyte.
fn names() -> Vec<String> {
    let evil = ["\u{1b}[2J", "a\nerror: all is lost", "\u{9b}31m", "\u{202e}txt.exe", "\r\u{7f}\u{8}"];
    evil.map(String::from).into_iter().chain(["n".repeat(1 << 20)]).collect()
}

/// No line but those that are meant, no character that a terminal obeys, and no more than a few lines' worth of text.
fn is_tame(text: &str) {
    let bad = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    assert!(!text.contains(bad), "{}", text.escape_debug());
    assert!(!text.lines().any(|l| l.starts_with("error: all is lost")), "{text}");
    assert!(text.len() < 20_000, "{} bytes of text", text.len());
}

#[test]
fn names_do_not_command_the_terminal() {
    for name in names() {
        let f = Folder::new();
        f.write("x.npy", &npy("<f4", "(1, 4)", &floats(&[1.0; 4])));
        for (op, input, output) in [("Relu", &name[..], "y"), ("Relu", "x", &name[..]), (&name[..], "x", "y")] {
            f.write("m.onnx", &model(op, input, output));
            let mut statuses = Vec::new();
            for line in [
                "inspect m.onnx --dim batch=1",
                "inspect m.onnx",
                "run m.onnx --input x=x.npy",
                "run m.onnx",
                "profile m.onnx --dim batch=1 --runs 1",
                "verify m.onnx --dim batch=1",
                "convert m.onnx -o m.kgl --dim batch=1",
                "convert m.onnx -o m.kgl --dim other=1",
            ] {
                let (status, out, err) = f.call(line);
                is_tame(&out);
                is_tame(&err);
                statuses.push(status);
            }
            // None was refused for its command line alone.
            assert!(statuses.iter().any(|&s| s != Status::Usage));
        }
        f.write("m.onnx", &model("Relu", &name, "y"));
        // A megabyte of a name belongs into JSON, if anywhere.
        let json = f.json("inspect m.onnx --dim batch=1 --json");
        assert_eq!(json["inputs"][0]["name"], name);
        let (_, out, _) = f.call("inspect m.onnx --dim batch=1 --json");
        assert!(!out.contains(['\u{1b}', '\u{9b}', '\u{7f}', '\u{202e}']));
    }
}

#[test]
fn paths_and_arguments_do_not_command_the_terminal() {
    let f = Folder::new();
    let onnx = std::fs::read(f.at("relu.onnx")).unwrap();
    for name in &names()[..5] {
        let file = format!("{name}.onnx");
        f.write(&file, &onnx);
        for args in [
            vec!["inspect", &file, "--dim", "batch=1"],
            vec!["bench", &file, "--dim", "batch=1", "--runs", "1"],
            vec!["profile", &file, "--dim", "batch=1", "--runs", "1"],
            vec!["run", &file, "--input", name],
            vec!["run", &file, "--input", "\u{1b}[2J=x.npy"],
            vec!["convert", &file, "--dim", "batch=1", "-o", "no/\u{1b}[2J/such\nerror: all is lost"],
            vec!["inspect", "no/such\u{1b}[2J\nerror: all is lost"],
            vec!["convert", &file, "--dim", "batch=1", "-o", &format!("{name}.kgl")],
            vec![name],
            vec!["zoo", name, "-o", "x.onnx"],
        ] {
            let output = std::process::Command::new(env!("CARGO_BIN_EXE_kinglet"))
                .args(&args)
                .current_dir(f.at(""))
                .output()
                .expect("it runs");
            is_tame(std::str::from_utf8(&output.stdout).expect("text"));
            is_tame(std::str::from_utf8(&output.stderr).expect("text"));
        }
    }
}

#[test]
fn what_does_not_fit_into_memory_is_an_error() {
    let f = Folder::new();
    // Without a limit the system promises memory that it does not have.
    let (status, _, err) = f.sh("ulimit -v 1000000; $K bench relu.onnx --dim batch=100000000 --runs 1");
    assert!(status == Some(1) && err.starts_with("error: ") && err.contains("1600000000"), "{status:?} {err}");
    let (status, _, err) = f.sh("ulimit -v 1000000; $K verify relu.onnx --dim batch=100000000");
    assert!(status == Some(1) && err.contains("no memory"), "{status:?} {err}");
    let (status, _, err) = f.sh("$K inspect relu.onnx --dim batch=99999999999999");
    assert!(status.is_some_and(|s| s == 1 || s == 2) && err.starts_with("error: "), "{status:?} {err}");
}

#[test]
fn a_small_archive_cannot_promise_gigabytes() {
    let f = Folder::new();
    // 4 GiB of zeros, by the word of a header; the input takes any batch.
    let header = npy("<f4", "(268435456, 4)", &[]);
    f.write("x.npy", &header);
    let (status, _, err) = f.sh("ulimit -v 1000000; $K run relu.onnx --input x=x.npy");
    assert!(status == Some(1) && err.contains("x.npy") && err.contains("too many"), "{status:?} {err}");
    // A plan knows its batch.
    f.ok("convert relu.onnx -o relu.kgl --dim batch=1");
    let (status, _, err) = f.sh("ulimit -v 1000000; $K run relu.kgl --input x=x.npy");
    assert!(status == Some(1) && err.contains("`x` (f32 1x4)") && err.contains("268435456x4"), "{status:?} {err}");
    // Nor can a pipe without end.
    let script = "ulimit -v 1000000; (cat x.npy; cat /dev/zero) | $K run relu.kgl --input x=/dev/stdin.npy";
    assert!(f.sh(script).0.is_some_and(|s| s == 1 || s == 2));
    f.write("one.npy", &npy("<f4", "(1, 4)", &[]));
    let script = "mkfifo e.npy; (cat one.npy; cat /dev/zero) > e.npy & $K run relu.kgl --input x=e.npy";
    let (status, _, err) = f.sh(script);
    assert!(status == Some(1) && err.contains("more data than 4"), "{status:?} {err}");
}

#[test]
fn the_program_needs_no_home() {
    let f = Folder::new();
    let (status, out, err) = f.sh("unset HOME TMPDIR; env -i $K inspect relu.onnx --dim batch=1");
    assert!(status == Some(0) && out.contains("steps"), "{err}");
    for name in ["empty.onnx", "empty.kgl", "empty"] {
        f.write(name, b"");
        let (status, _, err) = f.sh(&format!("$K inspect {name}"));
        assert!(status == Some(1) && err.contains(name), "{name}: {err}");
    }
}
