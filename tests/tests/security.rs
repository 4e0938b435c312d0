//! `docs/security.md` names a test for each promise: they exist.

use std::path::Path;

/// The texts between backquotes.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// What holds a promise: a file of tests, and tests in it.
fn holders(cell: &str) -> Vec<(&str, Vec<&str>)> {
    cell.split(';')
        .filter_map(|part| {
            let mut names = quoted(part);
            let file = names.next().filter(|n| n.ends_with(".rs"))?;
            Some((file, names.collect()))
        })
        .collect()
}

#[test]
fn every_promise_is_held_by_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |file: &str| std::fs::read_to_string(root.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
    let (mut promises, mut missing) = (0, Vec::new());
    for line in read("docs/security.md").lines().filter(|l| l.starts_with("| ") && !l.starts_with("| ---")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [promise, cell] = cells[..] else { continue };
        if cell == "held by" {
            continue;
        }
        promises += 1;
        let holders = holders(cell);
        if holders.is_empty() {
            missing.push(format!("nothing holds: {promise}"));
        }
        for (file, names) in holders {
            let source = read(file);
            let lacking = names.into_iter().filter(|n| {
                !source.contains(&format!("#[test]\nfn {n}()")) && !source.contains(&format!("#[test]\n    fn {n}()"))
            });
            missing.extend(lacking.map(|n| format!("{file} has no test {n}")));
        }
    }
    assert!(promises >= 15, "only {promises} promises were found");
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}
