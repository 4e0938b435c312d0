//! One model in many forms: whatever an exporter wrote, the plan has the same steps.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kinglet_compiler::{Options, Report};
use kinglet_tests::{compile, shared};

/// Most steps by which two forms of a model may differ.
const A_FEW: usize = 2;

fn exports() -> Option<PathBuf> {
    let folder = shared().map(|s| s.join("exports"));
    if folder.is_none() {
        println!("skipped: the exported models are not beside this checkout (KINGLET_SHARED names their folder)");
    }
    folder
}

fn report(folder: &Path, name: &str) -> Report {
    let options = Options { draws_as_inputs: true, ..Options::default() };
    let path = folder.join(format!("{name}.onnx"));
    compile(&path, &options).unwrap_or_else(|e| panic!("{name}: {e}")).report
}

/// Steps by kind.
fn kinds(report: &Report) -> BTreeMap<&str, usize> {
    let mut kinds = BTreeMap::new();
    report.steps.iter().for_each(|s| *kinds.entry(s.kind.as_str()).or_insert(0) += 1);
    kinds
}

/// Names of exports by the model they are forms of.
fn same_as(folder: &Path) -> BTreeMap<String, Vec<String>> {
    let text = std::fs::read_to_string(folder.join("manifest.json")).expect("the exports have a manifest");
    let manifest: serde_json::Value = serde_json::from_str(&text).expect("valid JSON");
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, entry) in manifest.as_object().expect("an object") {
        if let Some(model) = entry.get("same_as").and_then(|v| v.as_str()) {
            groups.entry(model.into()).or_default().push(name.clone());
        }
    }
    groups
}

#[test]
fn all_forms_of_a_model_have_the_same_recurrences_and_about_as_many_steps() {
    let Some(folder) = exports() else { return };
    let groups = same_as(&folder);
    assert!(groups.len() >= 6, "{groups:?}");
    for (model, names) in groups {
        // The training form of VanillaNet has layers more until a checkpoint of it is merged.
        let names: Vec<String> = names.into_iter().filter(|n| !n.contains("_train")).collect();
        let reports: Vec<Report> = names.iter().map(|n| report(&folder, n)).collect();
        let count = |r: &Report, kind: &str| kinds(r).get(kind).copied().unwrap_or(0);
        for (name, r) in names.iter().zip(&reports) {
            println!("{model}: {name} has {} steps: {:?}", r.steps.len(), kinds(r));
            for kind in ["SelectiveScan", "LegendreMemory"] {
                assert_eq!(count(r, kind), count(&reports[0], kind), "{name}: {kind}");
            }
            let (least, most) = (r.steps.len().min(reports[0].steps.len()), r.steps.len().max(reports[0].steps.len()));
            assert!(most - least <= A_FEW, "{name}: {} steps, {}: {}", r.steps.len(), names[0], reports[0].steps.len());
        }
        // What should be there is there, and no loop is left of it.
        let expected = match model.split('_').next() {
            Some("netmamba") => Some(("SelectiveScan", 2)),
            Some("lmuformer" | "slmuformer") => Some(("LegendreMemory", 1)),
            _ => None,
        };
        if let Some((kind, n)) = expected {
            assert_eq!(count(&reports[0], kind), n, "{model}");
        }
    }
}

#[test]
fn both_exporters_give_about_as_many_steps() {
    let Some(folder) = exports() else { return };
    let entries = std::fs::read_dir(&folder).expect("the folder is there");
    let names: Vec<String> =
        entries.filter_map(|e| Some(e.ok()?.file_name().to_str()?.strip_suffix(".onnx")?.to_string())).collect();
    let mut pairs = 0;
    for name in &names {
        for suffix in ["_dyn18", "_dyn20"] {
            let other = format!("{name}{suffix}");
            if !names.contains(&other) {
                continue;
            }
            let (a, b) = (report(&folder, name), report(&folder, &other));
            println!("{name}: {} steps, {other}: {} steps", a.steps.len(), b.steps.len());
            assert!(a.steps.len().abs_diff(b.steps.len()) <= A_FEW, "{:?}\n{:?}", kinds(&a), kinds(&b));
            pairs += 1;
        }
    }
    assert!(pairs >= 18, "only {pairs} pairs");
}

#[test]
fn what_a_scan_is_made_of_is_told() {
    let Some(folder) = exports() else { return };
    let r = report(&folder, "netmamba_scan");
    let scan = r.steps.iter().find(|s| s.kind == "SelectiveScan").expect("there is one");
    // From the body, from the loop itself, and what was fused around it: softplus, skip and gate.
    for part in ["node_exp_2", "node_sum_1", "node_scan__1", "n3", "node_add_3", "node_mul_2"] {
        assert!(scan.source_nodes.iter().any(|s| s == part), "{part} in {:?}", scan.source_nodes);
    }
    let norms = r.steps.iter().filter(|s| s.kind == "Norm").count();
    let causal = r.steps.iter().filter(|s| s.kind == "DepthwiseConv").count();
    let around = r.steps.iter().filter(|s| s.kind == "Unary" || s.kind == "Reduce").count();
    assert_eq!((norms, causal, around), (3, 2, 0), "{:?}", kinds(&r));
}

#[test]
fn a_scan_never_materialises_its_states() {
    let Some(folder) = exports() else { return };
    // 17 frames, 32 channels, a state of 4: the unrolled form as it is written holds [17, 32, 4] twice.
    for name in ["netmamba_scan", "netmamba_loop", "netmamba_unrolled", "netmamba_unrolled_dyn20"] {
        let compiled = compile(&folder.join(format!("{name}.onnx")), &Options::default()).expect("it compiles");
        let largest = compiled.graph.nodes.iter().map(|n| compiled.graph.tensors[n.output].len()).max();
        assert!(largest < Some(17 * 32 * 4), "{name}: {largest:?}");
    }
}
