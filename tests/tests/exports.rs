//! Exports of the model families by PyTorch's exporters and ONNX Runtime's quantiser, against ONNX Runtime's outputs.

use std::path::PathBuf;

use kinglet_tests::{compile_for, difference, read_npz, run, shared, sqnr};

#[test]
fn survey() {
    let Some(shared) = shared() else { return };
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(shared.join("exports")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let only = std::env::var("ONLY").ok();
    for path in files.iter().filter(|p| p.extension().is_some_and(|e| e == "onnx")) {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if only.as_ref().is_some_and(|o| !name.contains(o.as_str())) {
            continue;
        }
        let npz = path.with_extension("npz");
        if !npz.exists() {
            println!("{name}: no npz");
            continue;
        }
        let arrays = read_npz(&npz);
        let infos = kinglet_compiler::shape_of_inputs(&std::fs::read(path).unwrap()).unwrap();
        let inputs = infos.iter().filter_map(|i| Some((i.name.clone(), arrays.get(&i.name)?.clone()))).collect();
        let result = std::panic::catch_unwind(|| {
            let t = std::time::Instant::now();
            let c = match compile_for(path, &inputs) {
                Ok(c) => c,
                Err(e) => {
                    println!("{name}: ERR {}", e.to_string().chars().take(400).collect::<String>());
                    return;
                }
            };
            let ct = t.elapsed();
            let out = run(&c.kgl, &inputs);
            let mut line = String::new();
            for (k, v) in &out {
                let Some(want) = arrays.get(k) else { continue };
                let (d, m) = difference(v, want);
                line += &format!(" {k}: rel {:.1e}", d / m);
                if let Some(l) = arrays.get(&format!("{k}__noopt")) {
                    line += &format!(" sqnr {:.1} noopt {:.1} between {:.1}", sqnr(v, want), sqnr(v, l), sqnr(want, l));
                }
            }
            println!(
                "{name}: steps {} int {} float {} arena {} bound {} ({:.3}) {:?}{line}",
                c.report.steps.len(),
                c.report.integer_steps,
                c.report.float_steps.len(),
                c.report.arena_bytes,
                c.report.lower_bound_bytes,
                c.report.arena_bytes as f64 / c.report.lower_bound_bytes as f64,
                ct
            );
        });
        if result.is_err() {
            println!("{name}: PANIC");
        }
    }
}
