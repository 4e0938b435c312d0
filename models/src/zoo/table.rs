//! The table of the zoo, for people: what goes in and out, what it costs, and what was published.

use super::{MODELS, Options, summary};

/// Titles of the columns.
pub const TITLES: [&str; 6] = ["model", "input", "output", "parameters", "MACs", "published"];

/// A row for every model of full size: its name, inputs and outputs, parameters, multiply-accumulates, and the
/// published numbers of both.
pub fn rows() -> Vec<[String; 6]> {
    let full_size = MODELS.iter().filter(|m| !m.is_tiny());
    let row = |model: &super::Model| {
        let summary = summary(model.name, &Options::default()).expect("models have sizes that they can take");
        let published: Vec<&str> = [model.parameters, model.macs].iter().flatten().map(|f| f.0).collect();
        [
            model.name.to_string(),
            ports(&summary.inputs),
            ports(&summary.outputs),
            grouped(summary.parameters),
            format!("{:.3} G", summary.macs as f64 / 1e9),
            published.join(", "),
        ]
    };
    full_size.map(row).collect()
}

/// The same as a table in Markdown.
pub fn markdown() -> String {
    let line = |cells: &[String; 6]| format!("| {} |\n", cells.join(" | "));
    let rule = ["---", "---", "---", "---:", "---:", "---"].map(String::from);
    [TITLES.map(String::from), rule].iter().chain(&rows()).map(line).collect()
}

fn ports(ports: &[(String, Vec<usize>)]) -> String {
    let shape = |shape: &[usize]| shape.iter().map(usize::to_string).collect::<Vec<_>>().join("×");
    ports.iter().map(|(name, dims)| format!("{name} {}", shape(dims))).collect::<Vec<_>>().join(", ")
}

/// `1234567` as `1,234,567`.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let comma = |i: usize| i > 0 && (digits.len() - i).is_multiple_of(3);
    digits.chars().enumerate().flat_map(|(i, d)| comma(i).then_some(',').into_iter().chain([d])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_a_model_is() {
        let row = rows().into_iter().find(|row| row[0] == "vanillanet-5").unwrap();
        let [_, input, output, parameters, macs, published] = row;
        assert_eq!((&input[..], &output[..]), ("image 1×3×224×224", "logits 1×1000"));
        assert!(parameters.starts_with("15,5") && macs.starts_with("5.1"), "{parameters}, {macs}");
        assert_eq!(published, "15.52 M, 5.16 G");
    }

    #[test]
    fn markdown_has_a_line_for_every_row() {
        let text = markdown();
        let widths: Vec<usize> = text.lines().map(|line| line.matches('|').count()).collect();
        assert_eq!(widths, vec![7; rows().len() + 2]);
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
