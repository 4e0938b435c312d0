//! Control flow. A branch that is decided by shapes folds; otherwise both are computed and one is selected. A loop keeps its
//! body where every trip can share it, and is written out where not.

use crate::graph::Op;
use crate::import::{Context, Failure, MAX_UNROLLED, Recurrence, Results, Value};

/// Trips from which on a loop in the body of another is too long to be written out.
const MAX_INNER: usize = 64;

/// `If`.
pub fn branch(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let condition = c.input(0)?;
    let (then, other) = (c.subgraph("then_branch")?, c.subgraph("else_branch")?);
    if c.tensor_info(condition).len() != 1 {
        return Err(Failure::malformed("its condition is no single element"));
    }
    if let Ok(value) = c.constant(condition, "its condition") {
        let taken = if value.ints()[0] != 0 { then } else { other };
        let outputs = c.write_out(taken, Vec::new())?;
        outputs.into_iter().enumerate().for_each(|(i, value)| c.output_value(i, value));
        return Ok(());
    }
    let (yes, no) = (c.write_out(then, Vec::new())?, c.write_out(other, Vec::new())?);
    let condition = c.reshaped(condition, &[])?;
    for (i, pair) in yes.into_iter().zip(no).enumerate() {
        let (Value::Tensor(a), Value::Tensor(b)) = pair else {
            if matches!(pair, (Value::Unknown, _) | (_, Value::Unknown)) {
                c.output_value(i, Value::Unknown);
                continue;
            }
            return Err(Failure::unsupported("its branches give sequences", "export the branch that is taken"));
        };
        if c.shape(a) != c.shape(b) || c.dtype(a) != c.dtype(b) {
            return Err(Failure::unsupported(
                format!("its branches give shapes {:?} and {:?}", c.shape(a), c.shape(b)),
                "if inputs' values decide, give them; otherwise export the branch that is taken",
            ));
        }
        let (dtype, shape) = (c.dtype(a), c.shape(a));
        let y = c.emit(Op::Where, &[condition, a, b], dtype, &shape)?;
        c.output(i, y);
    }
    Ok(())
}

/// `Loop`.
pub fn counted(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    let graph = c.subgraph("body")?;
    let mut limit = None;
    if let Some(t) = c.given(0)? {
        let n = c.constant(t, "the number of trips")?;
        limit = n.ints().first().copied();
    }
    let mut starts = true;
    if let Some(t) = c.given(1)? {
        starts = c.constant(t, "whether the loop starts")?.ints().iter().all(|&b| b != 0);
    }
    let mut carried = Vec::new();
    for i in 2..c.input_count() {
        carried.push(c.value(i).ok_or_else(|| Failure::malformed(format!("input {i} is missing")))?);
    }
    let trips = if starts { limit.map_or(usize::MAX, |n| n.max(0) as usize) } else { 0 };
    let loops = Recurrence { graph, trips, counted: true, carried, scanned: Vec::new() };
    finish(c, &loops)
}

/// `Scan`, as of operator set 9.
pub fn scan(c: &mut Context<'_, '_>) -> Result<(), Failure> {
    if c.opset < 9 {
        return Err(Failure::unsupported("Scan of operator set 8", "export with operator set 9 or later"));
    }
    let graph = c.subgraph("body")?;
    let count = usize::try_from(c.int("num_scan_inputs", 0)).unwrap_or(0);
    let states = c.input_count().checked_sub(count).filter(|_| count > 0);
    let states = states.ok_or_else(|| Failure::malformed(format!("num_scan_inputs is {count}")))?;
    let mut carried = Vec::new();
    for i in 0..states {
        carried.push(Value::Tensor(c.input(i)?));
    }
    let (axes, backwards) = (c.ints("scan_input_axes"), c.ints("scan_input_directions"));
    let entry = |list: &Option<Vec<i64>>, k: usize| list.as_ref().and_then(|l| l.get(k)).copied().unwrap_or(0);
    let mut scanned = Vec::new();
    for k in 0..count {
        let t = c.input(states + k)?;
        let axis = c.axis(entry(&axes, k), c.shape(t).len())?;
        let first = c.moved(t, axis, 0)?;
        scanned.push(if entry(&backwards, k) != 0 { c.reversed(first)? } else { first });
    }
    let trips = c.shape(scanned[0])[0];
    if scanned.iter().any(|&t| c.shape(t)[0] != trips) {
        return Err(Failure::malformed("its scanned inputs differ in length"));
    }
    let loops = Recurrence { graph, trips, counted: false, carried, scanned };
    let (axes, backwards) = (c.ints("scan_output_axes"), c.ints("scan_output_directions"));
    let results = run(c, &loops)?;
    let states = results.carried.len();
    results.carried.into_iter().enumerate().for_each(|(i, value)| c.output_value(i, value));
    for (k, slices) in results.stacked.into_iter().enumerate() {
        let Value::Tensor(t) = slices else {
            c.output_value(states + k, slices);
            continue;
        };
        let t = if entry(&backwards, k) != 0 { c.reversed(t)? } else { t };
        let axis = c.axis(entry(&axes, k), c.shape(t).len())?;
        let t = c.moved(t, 0, axis)?;
        c.output(states + k, t);
    }
    Ok(())
}

fn finish(c: &mut Context<'_, '_>, loops: &Recurrence<'_>) -> Result<(), Failure> {
    let Results { carried, stacked } = run(c, loops)?;
    let states = carried.len();
    carried.into_iter().enumerate().for_each(|(i, value)| c.output_value(i, value));
    stacked.into_iter().enumerate().for_each(|(k, slices)| c.output_value(states + k, slices));
    Ok(())
}

/// Keeps the body if there is more than one trip and all can share it; otherwise writes the trips out.
fn run(c: &mut Context<'_, '_>, loops: &Recurrence<'_>) -> Result<Results, Failure> {
    let endless = loops.trips > kinglet::format::MAX_SLICES as usize;
    if c.in_body() && loops.trips > 1 && loops.trips <= MAX_INNER || loops.trips == 1 || endless {
        return c.unrolled(loops);
    }
    let shared = c.rolled(loops);
    match shared {
        Err(Failure::Unsupported { .. }) if loops.trips <= MAX_UNROLLED => c.unrolled(loops),
        other => other,
    }
}
