//! The documents: tables that are printed from the code say what the code says, and links lead somewhere.
//!
//! A table stands between the lines `<!-- table NAME -->` and `<!-- end -->` of a document. `KINGLET_BLESS=1` writes the
//! tables anew instead of comparing them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use kinglet::format::words::Record;
use kinglet::format::{BandRecord, MAX_RANK, StepRecord, TensorRecord};
use kinglet::kernels::{Activation, Conv, CumSum, Layer, Lstm, Pad};
use kinglet::product::{Epilogue, Geometry, Packing, STAGES, Scratch, Stage};
use kinglet::{DType, StepKind, Target};
use kinglet_compiler::ops::{CONTRIB_DOMAIN, CONTRIB_OPERATORS, OPERATORS, OWN_OPERATORS, Row};
use kinglet_tests::golden::{Takes, takes};

/// The documents that hold tables.
const WITH_TABLES: [&str; 3] = ["docs/format.md", "docs/models.md", "docs/operators.md"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files below a folder whose names end so, but for build outputs and what is hidden.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let (mut folders, mut found) = (vec![folder.to_path_buf()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("readable").map(|e| e.expect("a readable entry")) {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if path.is_dir() {
                folders.extend((!name.starts_with('.') && name != "target" && name != "venv").then_some(path));
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A record or an enum with numbers, as its declaration in the source has it.
struct Declared {
    doc: String,
    /// Fields with their types, or variants with their numbers; and what each means.
    entries: Vec<(String, String, String)>,
    is_record: bool,
}

/// What the blocks `record!`, `code!` and `kinds!` of a source file declare, by name.
fn declarations(source: &str) -> BTreeMap<String, Declared> {
    let mut found = BTreeMap::new();
    let (mut open, mut name, mut doc) = (None, String::new(), String::new());
    for line in source.lines() {
        match line {
            "record! {" | "code! {" | "kinds! {" => {
                open = Some(Declared { doc: String::new(), entries: Vec::new(), is_record: line == "record! {" });
                // The kinds are the variants of an enum that the block itself names.
                name = "StepKind".into();
                continue;
            }
            "}" => {
                if let Some(declared) = open.take() {
                    found.insert(std::mem::take(&mut name), declared);
                }
            }
            _ => {}
        }
        let Some(declared) = &mut open else { continue };
        let text = line.trim();
        let rest = |prefix: &str| text.strip_prefix(prefix).and_then(|t| t.strip_suffix(" {"));
        if let Some(words) = text.strip_prefix("///") {
            let words = words.trim();
            doc += if words.is_empty() { "\n\n" } else { words };
            doc += if words.is_empty() { "" } else { " " };
        } else if let Some(title) = rest("pub struct ").or_else(|| rest("pub enum ")) {
            name = title.into();
            declared.doc = plain(&std::mem::take(&mut doc));
        } else if let Some((field, kind)) =
            text.strip_prefix("pub ").and_then(|t| t.trim_end_matches(',').split_once(": "))
        {
            declared.entries.push((
                field.into(),
                kind.replace("crate::", "")
                    .replace("MAX_RANK", &MAX_RANK.to_string())
                    .replace("STAGES", &STAGES.to_string()),
                plain(&std::mem::take(&mut doc)),
            ));
        } else if let Some((variant, number)) = text.split_once(" = ") {
            let number = number.split([',', ';']).next().expect("a number");
            declared.entries.push((variant.into(), number.into(), plain(&std::mem::take(&mut doc))));
        }
    }
    found
}

/// Documentation without its links to code.
fn plain(doc: &str) -> String {
    let mut out = String::new();
    let mut rest = doc;
    while let Some((before, link)) = rest.split_once("[`") {
        let (code, after) = link.split_once("`]").expect("a link ends");
        let target = after.strip_prefix('(').and_then(|a| a.split_once(')'));
        out += &format!("{before}`{code}`");
        rest = target.map_or(after, |(_, behind)| behind);
    }
    (out + rest).lines().map(str::trim).collect::<Vec<_>>().join("\n").trim().to_string()
}

/// Words that a value of a field's type takes.
fn words(kind: &str) -> usize {
    match kind.strip_prefix('[').and_then(|t| t.strip_suffix(']')).and_then(|t| t.split_once("; ")) {
        Some((of, n)) => words(of) * n.parse::<usize>().expect("an extent"),
        // The records that are fields of others.
        None if kind == "Epilogue" => Epilogue::WORDS,
        None if kind == "Stage" => Stage::WORDS,
        None if kind == "Geometry" => Geometry::WORDS,
        None if kind == "Packing" => Packing::WORDS,
        None if kind == "Scratch" => Scratch::WORDS,
        None if kind == "Layer" => Layer::WORDS,
        None if kind == "Activation" => Activation::WORDS,
        // Numbers, bools and enums take one each.
        None => 1,
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

impl Declared {
    fn words(&self) -> usize {
        self.entries.iter().map(|(_, kind, _)| words(kind)).sum()
    }

    fn print(&self) -> String {
        let mut out = self.doc.clone();
        if self.is_record {
            write!(
                out,
                "\n\n{} words:\n\n| word | field | type | meaning |\n| ---: | --- | --- | --- |\n",
                self.words()
            )
            .expect("memory");
            let mut at = 0;
            for (field, kind, doc) in &self.entries {
                let n = words(kind);
                let place = if n == 1 { at.to_string() } else { format!("{at} to {}", at + n - 1) };
                writeln!(out, "| {place} | `{field}` | `{kind}` | {} |", cell(doc)).expect("memory");
                at += n;
            }
        } else {
            out += if out.is_empty() { "" } else { "\n\n" };
            out += "| number | name | meaning |\n| ---: | --- | --- |\n";
            for (variant, number, doc) in &self.entries {
                writeln!(out, "| {number} | `{variant}` | {} |", cell(doc)).expect("memory");
            }
        }
        out
    }
}

/// A line for each operator, with what its samples say of it under the names that `key` gives.
fn operators(rows: &[Row], takes: &BTreeMap<String, Takes>, key: impl Fn(&Row) -> String) -> String {
    let mut out = String::from(
        "| operator | from set | element types | becomes | quantised | remarks |\n| --- | ---: | --- | --- | --- | --- |\n",
    );
    let unknown = Takes::default();
    for row in rows {
        let (since, becomes) = (row.signature.since, cell(row.becomes));
        let Takes { types, quantised } = takes.get(&key(row)).unwrap_or(&unknown);
        writeln!(out, "| `{}` | {since} | {types} | {becomes} | {quantised} | {} |", row.name, cell(row.notes))
            .expect("memory");
    }
    out
}

/// Operators that take floats alone, of which there are no samples.
fn own_operators() -> String {
    let mut out = String::from("| operator | from set | becomes | remarks |\n| --- | ---: | --- | --- |\n");
    for row in OWN_OPERATORS {
        writeln!(out, "| `{}` | {} | {} | {} |", row.name, row.signature.since, cell(row.becomes), cell(row.notes))
            .expect("memory");
    }
    out
}

fn dtypes() -> String {
    let mut out =
        String::from("| number | name | bytes | range of a quantised tensor |\n| ---: | --- | ---: | --- |\n");
    for d in DType::ALL {
        let range = d.quantized_range().map_or("never quantised".into(), |(lo, hi)| format!("{lo} to {hi}"));
        writeln!(out, "| {} | `{}` | {} | {range} |", d as u8, d.name(), d.size()).expect("memory");
    }
    out
}

fn targets() -> String {
    let mut out = String::from("| number | name | products of | how weights lie |\n| ---: | --- | --- | --- |\n");
    let how = |p: &Packing| {
        let all = |n: u32| if n == 0 { "all".into() } else { n.to_string() };
        format!("panels of {} channels, runs of {} inputs, {:?}, {:?}", all(p.panel), all(p.run), p.order, p.sign)
    };
    for t in Target::ALL {
        let info = t.info();
        let long = format!("bytes, {} products and more", info.long);
        let all = [
            ("floats", &info.floats),
            ("bytes", &info.short_bytes),
            (&long, &info.long_bytes),
            ("bytes, sums below 2²³ that are rounded at once", &info.bounded_bytes),
            ("floats, depthwise", &info.depthwise_floats),
            ("bytes, depthwise", &info.depthwise_bytes),
        ];
        let shown = |of: &str, p: &Packing| match of {
            _ if of == long => info.long > 0,
            _ if of.ends_with("at once") => *p != info.long_bytes,
            _ => true,
        };
        for (of, packing) in all.into_iter().filter(|(of, p)| shown(of, p)) {
            writeln!(out, "| {} | `{}` | {of} | {} |", t as u16, t.name(), how(packing)).expect("memory");
        }
    }
    out
}

/// Every table by name.
fn tables() -> BTreeMap<String, String> {
    let mut declared = declarations(&read(&root().join("runtime/src/format/mod.rs")));
    for file in ["kernels", "product"].iter().flat_map(|f| files(&root().join("runtime/src").join(f), ".rs")) {
        declared.extend(declarations(&read(&file)));
    }
    // The tables are read from the source; these sizes are what the compiler made of it.
    let sizes = [
        ("TensorRecord", TensorRecord::WORDS),
        ("StepRecord", StepRecord::WORDS),
        ("BandRecord", BandRecord::WORDS),
        ("Conv", Conv::WORDS),
        ("Geometry", Geometry::WORDS),
        ("Packing", Packing::WORDS),
        ("Epilogue", Epilogue::WORDS),
        ("CumSum", CumSum::WORDS),
        ("Lstm", Lstm::WORDS),
        ("Pad", Pad::WORDS),
    ];
    for (name, words) in sizes {
        assert_eq!(declared[name].words(), words, "words of {name}");
    }
    let mut tables: BTreeMap<String, String> = declared.iter().map(|(name, d)| (name.clone(), d.print())).collect();
    let takes = takes();
    tables.insert("OPERATORS".into(), operators(OPERATORS, &takes, |row| row.name.into()));
    let contrib = |row: &Row| format!("{CONTRIB_DOMAIN}.{}", row.name);
    tables.insert("CONTRIB_OPERATORS".into(), operators(CONTRIB_OPERATORS, &takes, contrib));
    tables.insert("OWN_OPERATORS".into(), own_operators());
    tables.insert("DType".into(), dtypes());
    tables.insert("zoo".into(), kinglet_models::zoo::markdown());
    tables.insert("Target".into(), targets());
    tables
}

/// The document with every table as `tables` has it.
fn filled(document: &str, tables: &BTreeMap<String, String>) -> String {
    let (mut out, mut inside) = (String::new(), false);
    for line in document.lines() {
        if let Some(name) = line.strip_prefix("<!-- table ").and_then(|l| l.strip_suffix(" -->")) {
            let table = tables.get(name).unwrap_or_else(|| panic!("there is no table `{name}`"));
            write!(out, "{line}\n{}\n", table.trim_end()).expect("memory");
            inside = true;
        } else if line == "<!-- end -->" {
            assert!(std::mem::take(&mut inside), "an end without a table");
        }
        if !inside {
            out += line;
            out.push('\n');
        }
    }
    assert!(!inside, "a table without an end");
    out
}

#[test]
fn tables_say_what_the_code_says() {
    let tables = tables();
    for name in WITH_TABLES {
        let path = root().join(name);
        let text = read(&path);
        let want = filled(&text, &tables);
        if std::env::var_os("KINGLET_BLESS").is_some() {
            // Renamed into place, because the other tests read it meanwhile.
            let fresh = path.with_extension("md.new");
            std::fs::write(&fresh, &want).and_then(|()| std::fs::rename(&fresh, &path)).expect("writable");
        } else if text != want {
            let (old, new) = text.lines().zip(want.lines()).find(|(a, b)| a != b).unwrap_or(("", "lines at the end"));
            panic!("{name} is behind the code (KINGLET_BLESS=1 rewrites it):\n  has   {old}\n  wants {new}");
        }
    }
}

#[test]
fn every_step_kind_is_described() {
    let format = read(&root().join("docs/format.md"));
    for kind in StepKind::ALL {
        let heading = format!("\n### {} {}\n", *kind as u32, kind.name());
        assert!(format.contains(&heading), "docs/format.md has no heading `{}`", heading.trim());
        // Products of several arithmetics are one record.
        let record = kind.name().trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches(['F', 'I', 'W']);
        let record = if record == "Depthwise" { "Conv" } else { record };
        assert!(format.contains(&format!("<!-- table {record} -->")), "{record} has no table");
    }
}

/// The lines of a document that are no code.
fn prose(text: &str) -> impl Iterator<Item = String> + '_ {
    let mut fenced = false;
    text.lines().filter_map(move |line| {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            return None;
        }
        let spans = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        (!fenced).then_some(spans)
    })
}

/// The anchor of a heading.
fn anchor(heading: &str) -> String {
    let kept = |c: char| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c.to_ascii_lowercase()),
        _ => None,
    };
    heading.trim_start_matches('#').trim().chars().filter_map(kept).collect()
}

fn has_anchor(text: &str, wanted: &str) -> bool {
    let mut fenced = false;
    text.lines().any(|line| {
        fenced ^= line.starts_with("```");
        !fenced && line.starts_with('#') && anchor(line) == wanted
    })
}

#[test]
fn links_lead_somewhere() {
    let (mut broken, mut followed) = (Vec::new(), 0);
    for path in files(&root(), ".md") {
        let text = read(&path);
        for line in prose(&text) {
            for link in line.split("](").skip(1).filter_map(|l| l.split(')').next()) {
                if link.contains("://") || link.starts_with("mailto:") {
                    continue;
                }
                followed += 1;
                let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
                let to = if file.is_empty() { path.clone() } else { path.parent().expect("a folder").join(file) };
                let there = to.exists() && (fragment.is_empty() || to.is_dir() || has_anchor(&read(&to), fragment));
                if !there {
                    broken.push(format!("{}: {link}", path.display()));
                }
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere: {broken:#?}");
    assert!(followed > 0, "no document has a link");
}
