//! The table of models.

use super::error::Error;
use super::{Architecture, dwformer, lmuformer, metaformer, mpgnet, netmamba, poolformer, slmuformer, vanillanet};

/// A model of the zoo.
pub struct Model {
    /// Its name.
    pub name: &'static str,
    /// Where it is described.
    pub paper: &'static str,
    /// Its builder.
    pub architecture: &'static dyn Architecture,
    /// Parameters, as published.
    pub parameters: Option<Figure>,
    /// Multiply-accumulates, as published.
    pub macs: Option<Figure>,
}

impl Model {
    /// Whether it is the form with few channels and small inputs.
    pub fn is_tiny(&self) -> bool {
        self.name.ends_with("-tiny")
    }
}

/// A published number, rounded to the digits given: `11.9 M`, `1.81 G`, or exactly `11,915,176`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figure(pub &'static str);

impl Figure {
    /// Whether `count` rounds to this number.
    pub fn agrees_with(self, count: u64) -> bool {
        let (digits, unit) = match self.0.split_once(' ') {
            Some((digits, "k")) => (digits, 1e3),
            Some((digits, "M")) => (digits, 1e6),
            Some((digits, "G")) => (digits, 1e9),
            _ => (self.0, 1.0),
        };
        let digits = digits.replace(',', "");
        let decimals = digits.split_once('.').map_or(0, |(_, decimals)| decimals.len());
        format!("{:.decimals$}", count as f64 / unit) == digits
    }
}

/// The row of a name.
///
/// # Errors
/// [`Error::UnknownModel`] with the names that look like it.
pub fn find(name: &str) -> Result<&'static Model, Error> {
    MODELS.iter().find(|m| m.name == name).ok_or_else(|| {
        let mut near: Vec<(usize, &'static str)> = MODELS.iter().map(|m| (distance(name, m.name), m.name)).collect();
        near.sort_by_key(|(distance, _)| *distance);
        let near = near.into_iter().take_while(|(distance, _)| *distance <= 3).take(3).map(|(_, name)| name).collect();
        Error::UnknownModel { name: name.to_string(), near }
    })
}

/// Levenshtein's distance, the case of letters aside.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_lowercase(), b.to_lowercase());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

const fn model(
    name: &'static str,
    paper: &'static str,
    architecture: &'static dyn Architecture,
    figures: &[&'static str; 2],
) -> Model {
    Model { name, paper, architecture, parameters: figure(figures[0]), macs: figure(figures[1]) }
}

const fn figure(text: &'static str) -> Option<Figure> {
    if text.is_empty() { None } else { Some(Figure(text)) }
}

const VANILLANET: &str = "VanillaNet: the Power of Minimalism in Deep Learning (NeurIPS 2023), arXiv:2305.12972";
const POOLFORMER: &str = "MetaFormer Is Actually What You Need for Vision (CVPR 2022), arXiv:2111.11418";
const METAFORMER: &str = "MetaFormer Baselines for Vision (TPAMI 2024), arXiv:2210.13452";
/// DWFormer and MPGNet.
const UNDER_DISPLAY: &str =
    "Modular Degradation Simulation and Restoration for Under-Display Camera (ACCV 2022), arXiv:2209.11455";

const LMUFORMER: &str =
    "LMUFormer: Low Complexity Yet Powerful Spiking Model With Legendre Memory Units (ICLR 2024), arXiv:2402.04882";
const NETMAMBA: &str = "NetMamba: Efficient Network Traffic Classification via Pre-training Unidirectional Mamba (ICNP 2024), \
    arXiv:2405.11449";

/// Every model, family by family.
pub static MODELS: &[Model] = &[
    model("vanillanet-5", VANILLANET, &vanillanet::full(5), &["15.52 M", "5.16 G"]),
    model("vanillanet-6", VANILLANET, &vanillanet::full(6), &["32.51 M", "5.99 G"]),
    model("vanillanet-7", VANILLANET, &vanillanet::full(7), &["32.80 M", "6.89 G"]),
    model("vanillanet-8", VANILLANET, &vanillanet::full(8), &["37.10 M", "7.74 G"]),
    model("vanillanet-9", VANILLANET, &vanillanet::full(9), &["41.40 M", "8.58 G"]),
    model("vanillanet-10", VANILLANET, &vanillanet::full(10), &["45.69 M", "9.42 G"]),
    model("vanillanet-11", VANILLANET, &vanillanet::full(11), &["49.99 M", "10.26 G"]),
    model("vanillanet-12", VANILLANET, &vanillanet::full(12), &["54.29 M", "11.10 G"]),
    model("vanillanet-13", VANILLANET, &vanillanet::full(13), &["58.59 M", "11.94 G"]),
    model("vanillanet-5-tiny", VANILLANET, &vanillanet::tiny(5), TINY),
    model("vanillanet-6-tiny", VANILLANET, &vanillanet::tiny(6), TINY),
    model("vanillanet-7-tiny", VANILLANET, &vanillanet::tiny(7), TINY),
    model("vanillanet-8-tiny", VANILLANET, &vanillanet::tiny(8), TINY),
    model("vanillanet-9-tiny", VANILLANET, &vanillanet::tiny(9), TINY),
    model("vanillanet-10-tiny", VANILLANET, &vanillanet::tiny(10), TINY),
    model("vanillanet-11-tiny", VANILLANET, &vanillanet::tiny(11), TINY),
    model("vanillanet-12-tiny", VANILLANET, &vanillanet::tiny(12), TINY),
    model("vanillanet-13-tiny", VANILLANET, &vanillanet::tiny(13), TINY),
    model("poolformer-s12", POOLFORMER, &poolformer::S12, &["11,915,176", "1.81 G"]),
    model("poolformer-s24", POOLFORMER, &poolformer::S24, &["21.39 M", "3.39 G"]),
    model("poolformer-s36", POOLFORMER, &poolformer::S36, &["30.86 M", "4.97 G"]),
    model("poolformer-m36", POOLFORMER, &poolformer::M36, &["56.17 M", "8.76 G"]),
    model("poolformer-m48", POOLFORMER, &poolformer::M48, &["73.47 M", "11.53 G"]),
    model("poolformer-tiny", POOLFORMER, &poolformer::TINY, TINY),
    model("identityformer-s12", METAFORMER, &metaformer::IDENTITYFORMER_S12, &["11,891,712", "1.81 G"]),
    model("identityformer-tiny", METAFORMER, &metaformer::IDENTITYFORMER_TINY, TINY),
    model("randformer-s12", METAFORMER, &metaformer::RANDFORMER_S12, &["12,127,010", "1.9 G"]),
    model("randformer-tiny", METAFORMER, &metaformer::RANDFORMER_TINY, TINY),
    model("poolformerv2-s12", METAFORMER, &metaformer::POOLFORMERV2_S12, &["11,891,712", "1.81 G"]),
    model("poolformerv2-tiny", METAFORMER, &metaformer::POOLFORMERV2_TINY, TINY),
    model("convformer-s18", METAFORMER, &metaformer::CONVFORMER_S18, &["26,774,448", "3.94 G"]),
    model("convformer-tiny", METAFORMER, &metaformer::CONVFORMER_TINY, TINY),
    model("caformer-s18", METAFORMER, &metaformer::CAFORMER_S18, &["26,341,656", "4.11 G"]),
    model("caformer-tiny", METAFORMER, &metaformer::CAFORMER_TINY, TINY),
    model("dwformer", UNDER_DISPLAY, &dwformer::FULL, &["1,447,047", "13.29 G"]),
    model("dwformer-tiny", UNDER_DISPLAY, &dwformer::TINY, TINY),
    model("dwformer-spatial", UNDER_DISPLAY, &dwformer::SPATIAL, &["1,447,047", "13.29 G"]),
    model("dwformer-spatial-tiny", UNDER_DISPLAY, &dwformer::SPATIAL_TINY, TINY),
    model("mpgnet-t", UNDER_DISPLAY, &mpgnet::T, &["8,327,590", "42.45 G"]),
    model("mpgnet-t-tiny", UNDER_DISPLAY, &mpgnet::T_TINY, TINY),
    model("mpgnet-p", UNDER_DISPLAY, &mpgnet::P, &["8,327,590", "42.45 G"]),
    model("mpgnet-p-tiny", UNDER_DISPLAY, &mpgnet::P_TINY, TINY),
    model("lmuformer", LMUFORMER, &lmuformer::full(false), &["1,621,796", "0.215 G"]),
    model("lmuformer-causal", LMUFORMER, &lmuformer::full(true), &["1,621,796", "0.215 G"]),
    model("lmuformer-tiny", LMUFORMER, &lmuformer::tiny(false), TINY),
    model("lmuformer-causal-tiny", LMUFORMER, &lmuformer::tiny(true), TINY),
    model("slmuformer", LMUFORMER, &slmuformer::full(false), &["1,689,894", "0.249 G"]),
    model("slmuformer-causal", LMUFORMER, &slmuformer::full(true), &["1,689,894", "0.249 G"]),
    model("slmuformer-tiny", LMUFORMER, &slmuformer::tiny(false), TINY),
    model("slmuformer-causal-tiny", LMUFORMER, &slmuformer::tiny(true), TINY),
    model("netmamba", NETMAMBA, &netmamba::FULL, &["1,861,652", "0.687 G"]),
    model("netmamba-tiny", NETMAMBA, &netmamba::TINY, TINY),
];

/// Tiny forms are Kinglet's own: nothing was published about them.
const TINY: &[&str; 2] = &["", ""];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for m in MODELS {
            assert!(std::ptr::eq(find(m.name).unwrap(), m), "{} twice", m.name);
        }
    }

    #[test]
    fn unknown_names_suggest_near_ones() {
        let near = |name| match find(name).map(|m| m.name) {
            Err(Error::UnknownModel { near, .. }) => near,
            other => panic!("{other:?}"),
        };
        assert_eq!(near("vanillanet5")[0], "vanillanet-5");
        assert_eq!(near("VanillaNet-13")[0], "vanillanet-13");
        assert!(near("resnet-50").is_empty());
        let text = find("vanilanet-5").map(|m| m.name).unwrap_err().to_string();
        assert!(text.contains("`vanilanet-5`") && text.contains("did you mean `vanillanet-5`"), "{text}");
    }

    #[test]
    fn figures_round_as_published() {
        assert!(Figure("11,915,176").agrees_with(11_915_176) && !Figure("11,915,176").agrees_with(11_915_177));
        assert!(Figure("1.81 G").agrees_with(1_814_999_999) && !Figure("1.81 G").agrees_with(1_815_100_000));
        assert!(Figure("15.52 M").agrees_with(15_524_328) && !Figure("15.52 M").agrees_with(15_530_000));
    }
}
