//! Control flow. A branch that is decided by shapes folds; otherwise both are computed and one is selected. A loop keeps its
//! body where every trip can share it, and is written out where not.

use kinglet::DType;

use crate::array::Array;
use crate::graph::{BinaryOp, Op, TensorId};
use crate::import::{Context, Ends, Failure, MAX_UNROLLED, Recurrence, Results, Value};

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
    let (limit, starts) = (c.given(0)?, c.given(1)?);
    if limit.into_iter().chain(starts).any(|t| c.tensor_info(t).len() != 1) {
        return Err(Failure::malformed("its number of trips or its condition is no single element"));
    }
    let mut carried = Vec::new();
    for i in 2..c.input_count() {
        carried.push(c.value(i).ok_or_else(|| Failure::malformed(format!("input {i} is missing")))?);
    }
    let mut loops = Recurrence { graph, trips: 0, counted: true, carried, scanned: Vec::new(), ends: None };
    let mut known = |t: Option<TensorId>, what: &str, absent: i64| match t {
        // Where it need not be constant, no input is bound for it.
        Some(t) if c.max_trips().is_some() => c.tensor_info(t).value.as_ref().map(|n| n.ints()[0]),
        Some(t) => c.constant(t, what).ok().map(|n| n.ints()[0]),
        None => Some(absent),
    };
    let first = known(starts, "whether the loop starts", 1);
    let most = known(limit, "the number of trips", i64::MAX);
    let results = match (first, most) {
        (Some(0), _) => run(c, &loops)?,
        (Some(_), Some(n)) => {
            loops.trips = usize::try_from(n.max(0)).unwrap_or(usize::MAX);
            run(c, &loops)?
        }
        _ => None,
    };
    let results = match results {
        Some(results) => results,
        None => {
            (loops.trips, loops.ends) = bounded(c, starts, limit, most)?;
            c.rolled(&loops)?.expect("it may end")
        }
    };
    let Results { carried, stacked } = results;
    let states = carried.len();
    carried.into_iter().enumerate().for_each(|(i, value)| c.output_value(i, value));
    stacked.into_iter().enumerate().for_each(|(k, slices)| c.output_value(states + k, slices));
    Ok(())
}

/// The most trips of a loop of which data decide how many there are, and what decides. `most` is the value of `limit`, if it is known.
fn bounded(
    c: &mut Context<'_, '_>,
    starts: Option<TensorId>,
    limit: Option<TensorId>,
    most: Option<i64>,
) -> Result<(usize, Option<Ends>), Failure> {
    if c.in_body() {
        return Err(Failure::unsupported(
            "data decide how many trips it has, in the body of a loop",
            format!(
                "export the loop around it with a fixed number of trips, at most {MAX_UNROLLED}, so that it is written out"
            ),
        ));
    }
    let most = most.map(|n| usize::try_from(n.max(0)).unwrap_or(usize::MAX));
    let trips = most.into_iter().chain(c.max_trips()).min().unwrap_or(usize::MAX);
    if trips > kinglet::format::MAX_SLICES as usize {
        return Err(Failure::unsupported(
            "data decide how many trips it has, and nothing says how many there are at most",
            format!(
                "say so with --max-trips N, up to {}: a run ends the loop as early as its data do, and fails if they want more; or give inputs that \
                 decide it with --bind NAME=FILE",
                kinglet::format::MAX_SLICES
            ),
        ));
    }
    let mut first = match starts {
        Some(t) => c.reshaped(t, &[])?,
        None => c.add_constant(Array::int(DType::Bool, &[], vec![1])),
    };
    let mut more = None;
    // A known number that --max-trips is less than is never reached.
    if let Some(limit) = limit.filter(|_| most.is_none_or(|n| n == trips)) {
        let limit = c.reshaped(limit, &[])?;
        let none = c.add_constant(Array::int(DType::I64, &[], vec![0]));
        let any = c.binary(BinaryOp::Less, none, limit)?;
        first = c.binary(BinaryOp::And, first, any)?;
        c.reserve(trips, DType::I64)?;
        let behind = c.add_constant(Array::i64s(&(1..=trips as i64).collect::<Vec<_>>()));
        more = Some(c.binary(BinaryOp::Less, behind, limit)?);
    }
    Ok((trips, Some(Ends { starts: first, more })))
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
    let loops = Recurrence { graph, trips, counted: false, carried, scanned, ends: None };
    let (axes, backwards) = (c.ints("scan_output_axes"), c.ints("scan_output_directions"));
    let results = run(c, &loops)?.expect("its body decides nothing");
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

/// Keeps the body if there is more than one trip and all can share it; otherwise writes the trips out. `None` if data decide whether
/// it goes on.
fn run(c: &mut Context<'_, '_>, loops: &Recurrence<'_>) -> Result<Option<Results>, Failure> {
    let endless = loops.trips > kinglet::format::MAX_SLICES as usize;
    if c.in_body() && loops.trips > 1 && loops.trips <= MAX_INNER || loops.trips == 1 || endless {
        return match c.unrolled(loops) {
            Err(Failure::Unsupported { .. }) if endless && c.max_trips().is_some() => Ok(None),
            other => other,
        };
    }
    match c.rolled(loops) {
        // Of what the body decides the counter may be all that there is to know.
        Err(Failure::Unsupported { .. }) | Ok(None) if loops.trips <= MAX_UNROLLED => c.unrolled(loops),
        other => other,
    }
}
