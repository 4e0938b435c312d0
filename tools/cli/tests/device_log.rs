//! Logs of devices: `run --checksums` and `profile --from-log`.

use std::fmt::Write;

use crate::common::Folder;
use kinglet_cli::Status;

const MODEL: &str = "../../models/glyphs/glyphs_int8.onnx";
const PICTURE: &str = "../../models/glyphs/samples/A_dejavu-serif.png";

fn call(args: &[&str]) -> (Status, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = kinglet_cli::run(["kinglet"].iter().chain(args), &mut out, &mut err);
    (status, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

fn ok(args: &[&str]) -> String {
    let (status, out, err) = call(args);
    assert_eq!(status, Status::Ok, "{args:?}: {err}");
    out
}

/// A folder with a plan of the glyphs for a microcontroller.
fn plan() -> (Folder, String) {
    let folder = Folder::new();
    let kgl = at(&folder, "g.kgl");
    ok(&["convert", MODEL, "--dim", "batch=1", "--target", "cortex-m", "--io", "quantized", "-o", &kgl]);
    (folder, kgl)
}

fn at(folder: &Folder, name: &str) -> String {
    folder.at(name).display().to_string()
}

#[test]
fn the_first_step_that_differs_is_named() {
    let (folder, kgl) = plan();
    let log = at(&folder, "board.log");
    let compare = format!("--checksums={log}");
    let printed = ok(&["run", &kgl, "--image", PICTURE, "--checksums"]);
    assert!(printed.starts_with("kinglet plan ") && printed.lines().count() > 10, "{printed}");
    assert_eq!(printed, ok(&["run", &kgl, "--image", PICTURE, "--checksums"]));
    // As a board prints it: among other lines, behind a time, with carriage returns.
    let board: String = printed.lines().fold("boot\n".into(), |all, line| all + "12.5 INFO " + line + "\r\nnoise\n");
    std::fs::write(&log, &board).unwrap();
    let said = ok(&["run", &kgl, "--image", PICTURE, &compare]);
    assert!(said.contains("steps of 1 run have the same checksums"), "{said}");
    let line = printed.lines().find(|l| l.starts_with("kinglet step 3 ")).unwrap();
    let (sum, name) = (line.split(' ').nth(4).unwrap(), line.split(' ').nth(6).unwrap());
    std::fs::write(&log, board.replace(sum, "0123456789abcdef")).unwrap();
    let (status, out, _) = call(&["run", &kgl, "--image", PICTURE, &compare]);
    assert_eq!(status, Status::Failed);
    assert!(out.contains("step 3 is the first") && out.contains(name) && out.contains("0123456789abcdef"), "{out}");
    // A log that ends early is no proof.
    let first: String = board.split_inclusive('\n').take(8).collect();
    std::fs::write(&log, first).unwrap();
    let (status, _, err) = call(&["run", &kgl, "--image", PICTURE, &compare]);
    assert!(status == Status::Failed && err.contains("no checksum of 1"), "{err}");
    // Another input differs from the first step on.
    std::fs::write(&log, &board).unwrap();
    let (status, out, _) = call(&["run", &kgl, "--image", "../../models/glyphs/samples/g_dejavu-sans.png", &compare]);
    assert!(status == Status::Failed && out.contains("step 0 is the first"), "{out}");
}

#[test]
fn a_log_that_says_nothing_of_the_model_is_refused() {
    let (folder, kgl) = plan();
    let log = at(&folder, "board.log");
    let compare = format!("--checksums={log}");
    let plan = ok(&["run", &kgl, "--image", PICTURE, "--checksums"]).lines().next().unwrap().to_string();
    let refused = |text: &str| {
        std::fs::write(&log, text).unwrap();
        let (status, _, err) = call(&["run", &kgl, "--image", PICTURE, &compare]);
        assert_eq!(status, Status::Failed, "{text}");
        let (status, _, of_profile) = call(&["profile", &kgl, "--from-log", &log]);
        assert_eq!(status, Status::Failed, "{text}");
        assert!(err.contains("board.log") && of_profile.contains("board.log"), "{err} {of_profile}");
        err + &of_profile
    };
    assert!(refused("").contains("no line of a run"));
    assert!(refused("\u{0}\u{1}").contains("no line of a run"));
    assert!(refused("kinglet step 0 made 0000000000000000").contains("before it tells of which plan"));
    assert!(refused("kinglet plan 0000000000000000 steps 14 clock 1 hz").contains("give the very .kgl"));
    let said = refused(&plan);
    assert!(said.contains("no checksums") && said.contains("no times"), "{said}");
    assert!(refused(&format!("{plan}\nkinglet step 99 took 1 ticks")).contains("step 99"));
    assert!(refused(&format!("{plan}\nkinglet step 0 took 1 ticks")).contains("does not say how fast"));
    let fast = plan.replace("clock 0", "clock 1");
    assert!(refused(&format!("{fast}\nkinglet step 0 took 1 ticks")).contains("no time of some steps"));
    let (status, _, err) = call(&["run", &kgl, "--image", PICTURE, "--checksums=nowhere.log"]);
    assert!(status == Status::Failed && err.contains("nowhere.log"), "{err}");
    let (status, _, _) = call(&["run", &kgl, "--image", PICTURE, "--checksums", "--top", "3"]);
    assert_eq!(status, Status::Usage);
}

#[test]
fn times_of_a_board_become_a_profile() {
    let (folder, kgl) = plan();
    let (log, trace) = (at(&folder, "board.log"), at(&folder, "trace.json"));
    let printed = ok(&["run", &kgl, "--image", PICTURE, "--checksums"]);
    let plan = printed.lines().next().unwrap().replace("clock 0", "clock 1000000");
    let steps = printed.lines().count() - 1;
    // Three runs; step i takes (i + 1) · run microseconds.
    let mut text = String::new();
    for run in [3, 1, 2] {
        writeln!(text, "{plan}").unwrap();
        (0..steps).for_each(|i| writeln!(text, "kinglet step {i} took {} ticks", (i + 1) * run).unwrap());
    }
    std::fs::write(&log, text).unwrap();
    let said = ok(&["profile", &kgl, "--from-log", &log, "--json", "--trace", &trace]);
    let json: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&json["runs"], &json["steps"][1]["ns"]), (&3.into(), &4000.into()), "{said}");
    assert_eq!(json["run_ns"], 1000 * steps * (steps + 1));
    assert!(json["steps"][0]["share_of_peak"].is_null() && json["peak_i8_gmac_per_s"].is_null());
    let events: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&trace).unwrap()).unwrap();
    let second = &events["traceEvents"][1];
    assert_eq!((second["ts"].as_f64(), second["dur"].as_f64()), (Some(2.0), Some(4.0)), "{second}");
    let table = ok(&["profile", &kgl, "--from-log", &log, "--sort"]);
    assert!(table.contains("median of 3") && !table.contains("short probe"), "{table}");
    let (status, _, _) = call(&["profile", &kgl, "--from-log", &log, "--runs", "3"]);
    assert_eq!(status, Status::Usage);
}
