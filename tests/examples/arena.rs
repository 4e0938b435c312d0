//! Draws where tensors lie in the arena of a small model, without and with bands of rows:
//! `cargo run -p kinglet-tests --example arena > docs/memory-plan.svg`.

use std::collections::BTreeMap;
use std::path::Path;

use kinglet::{Model, Region};
use kinglet_compiler::{Banding, Options, compile, import_file};
use kinglet_tests::Aligned;

/// Width of a panel, height of a step, and of what stands above them.
const WIDTH: f64 = 300.0;
const STEP: f64 = 20.0;
const TOP: f64 = 48.0;
/// Where the first panel begins, and the room between both.
const LEFT: f64 = 110.0;
const GAP: f64 = 24.0;

/// A tensor: where it lies, and from which to which step it is used.
struct Box {
    offset: usize,
    bytes: usize,
    first: usize,
    last: usize,
    ring: bool,
}

fn boxes(model: &Model<'_>) -> Vec<Box> {
    let steps = model.step_count();
    // Several tensors may be views of one piece of memory in the same steps.
    let mut found: BTreeMap<(u32, u32, u32), Box> = BTreeMap::new();
    for i in 0..model.tensor_count() {
        let t = model.tensor(i).0;
        let uses = |k: usize| {
            let step = model.step(k);
            let written = (0..step.record().outputs as usize).any(|o| step.output(o) == Some(i));
            written || (0..step.record().inputs as usize).any(|n| step.input(n) == Some(i))
        };
        let used: Vec<usize> = (0..steps).filter(|&k| uses(k)).collect();
        let (Some(&first), Some(&last), Region::Arena) = (used.first(), used.last(), t.region) else { continue };
        let input = (0..model.input_count()).any(|n| model.input_tensor(n) == Some(i));
        let output = (0..model.output_count()).any(|n| model.output_tensor(n) == Some(i));
        let (first, last) = (if input { 0 } else { first }, if output { steps - 1 } else { last });
        let ring = t.capacity < t.rows;
        let b = Box { offset: t.offset as usize, bytes: t.bytes as usize, first, last, ring };
        found.insert((t.offset, t.bytes, first as u32), b);
    }
    found.into_values().collect()
}

fn main() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/glyphs/glyphs_int8.onnx");
    let plan = |bands| {
        let dims = [("batch".to_string(), 1)].into();
        let options = Options { dims, bands, ..Options::default() };
        compile(import_file(&path, &options).expect("it imports"), &options).expect("it compiles")
    };
    let plans = [("without bands", plan(Banding::Off)), ("in bands of rows", plan(Banding::Memory))];
    let files: Vec<Aligned> = plans.iter().map(|(_, p)| Aligned::copy(&p.kgl)).collect();
    let models: Vec<Model<'_>> = files.iter().map(|f| Model::load(f.as_ref()).expect("valid")).collect();
    let most = models.iter().map(|m| m.arena_bytes() - m.scratch_bytes()).max().expect("two");
    let steps = models.iter().map(Model::step_count).max().expect("two");
    let (width, height) = (LEFT + 2.0 * WIDTH + GAP + 10.0, TOP + steps as f64 * STEP + 34.0);
    println!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">"#
    );
    println!(r#"<rect width="100%" height="100%" fill="white"/>"#);
    for (k, ((title, _), model)) in plans.iter().zip(&models).enumerate() {
        let left = LEFT + k as f64 * (WIDTH + GAP);
        let x = |bytes: usize| left + bytes as f64 / most as f64 * WIDTH;
        let y = |step: usize| TOP + step as f64 * STEP;
        let tensors = model.arena_bytes() - model.scratch_bytes();
        println!(r#"<text x="{left}" y="16" font-weight="bold">{title}: {tensors} bytes</text>"#);
        println!(r#"<text x="{left}" y="36" fill="{GREY}">addresses →</text>"#);
        for (steps, slices) in model.runs().filter(|(s, _)| model.step(s.start).record().slice_rows > 0) {
            let (top, tall) = (y(steps.start), steps.len() as f64 * STEP);
            println!(r##"<rect x="{left}" y="{top}" width="{WIDTH}" height="{tall}" fill="#fff3d6"/>"##);
            let (right, below) = (left + WIDTH - 4.0, top + tall - 6.0);
            println!(r##"<text x="{right}" y="{below}" text-anchor="end" fill="#a70">a band, {slices} slices</text>"##);
        }
        for i in 0..model.step_count() {
            let (line, name) = (y(i), model.step(i).kind().map_or("", |kind| kind.name()));
            println!(r##"<line x1="{left}" y1="{line}" x2="{}" y2="{line}" stroke="#ddd"/>"##, left + WIDTH);
            if k == 0 {
                println!(r#"<text x="{}" y="{}" text-anchor="end">{i} {name}</text>"#, LEFT - 6.0, line + 14.0);
            }
        }
        for b in boxes(model) {
            let (at, wide) = (x(b.offset), (x(b.offset + b.bytes) - x(b.offset)).max(1.0));
            let (top, tall) = (y(b.first) + 1.0, (b.last + 1 - b.first) as f64 * STEP - 2.0);
            let fill = if b.ring { "#e6842a" } else { "#5b8fc7" };
            println!(
                r##"<rect x="{at:.1}" y="{top}" width="{wide:.1}" height="{tall}" fill="{fill}" fill-opacity="0.75" stroke="#333" stroke-width="0.5"/>"##
            );
        }
        let end = x(tensors);
        println!(
            r##"<line x1="{end:.1}" y1="{TOP}" x2="{end:.1}" y2="{}" stroke="#c00" stroke-dasharray="3 3"/>"##,
            y(steps)
        );
    }
    let legend = height - 12.0;
    for (k, (fill, what)) in
        [("#5b8fc7", "a whole tensor"), ("#e6842a", "a ring: its last rows")].into_iter().enumerate()
    {
        let at = LEFT + k as f64 * 150.0;
        println!(r#"<rect x="{at}" y="{}" width="12" height="10" fill="{fill}"/>"#, legend - 9.0);
        println!(r#"<text x="{}" y="{legend}">{what}</text>"#, at + 18.0);
    }
    println!("</svg>");
}

const GREY: &str = "#777";
