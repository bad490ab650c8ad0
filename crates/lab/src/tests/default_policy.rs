//! The default of `cache prune` and of the collection after a build, found by a rule on all
//! histories of `fixtures/lab`.
//!
//! The rule: for each history and each usual size, under `output`, the time that a policy rebuilds
//! by the time of the bound. Of these ratios the geometric mean, so that each history and each size
//! weighs the same. The policy with the least is the default.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use dbuild_cache::{default_policy, policies};

use super::{costs, fixtures, history, options, simulate};
use crate::{BELADY, BOUND};

/// What a policy rebuilds on a history, by the bound; one figure for each size.
struct Ratios {
    history: String,
    policy: &'static str,
    /// The time of the policy and that of the bound, in milliseconds.
    times: Vec<(f64, f64)>,
}

impl Ratios {
    fn all(&self) -> impl Iterator<Item = f64> {
        self.times.iter().map(|(took, bound)| took / bound)
    }
}

/// The names that `make.sh` knows.
fn histories() -> Vec<String> {
    let script = std::fs::read_to_string(fixtures().join("make.sh")).unwrap();
    let (_, names) = script.split_once("Names: ").unwrap();
    let names = names.split_once('.').unwrap().0;
    names.split(", ").map(str::to_owned).collect()
}

fn ratios() -> Vec<Ratios> {
    let mut all = Vec::new();
    for name in histories() {
        let (_dir, repository) = history(&name);
        // The thousand commits are of the project of the fifty, and cost the same.
        let costs = costs(if name == "many" { "node" } else { &name });
        let mut only = options(&[]);
        only.strategies.retain(|strategy| strategy.name() == "output");
        let replay = simulate(&repository, &only, &costs).unwrap();
        let sizes: Vec<u64> = replay.sizes().into_iter().flatten().collect();
        assert_eq!(sizes.len(), 3, "{name}");
        for policy in policies().iter().map(|policy| policy.name()).chain([BELADY]) {
            let took = |policy, size| replay.row("output", policy, Some(size)).unwrap().rebuilt_ms as f64;
            let times = sizes.iter().map(|size| (took(policy, *size), took(BOUND, *size))).collect();
            all.push(Ratios { history: name.clone(), policy, times });
        }
    }
    all
}

fn geometric_mean(figures: impl Iterator<Item = f64>) -> f64 {
    let (count, sum) = figures.fold((0.0, 0.0), |(count, sum), figure| (count + 1.0, sum + figure.ln()));
    f64::exp(sum / count)
}

/// A line of the table in `docs/guide/laboratory.md`.
fn line(policy: &str, all: &[Ratios]) -> String {
    let of = || all.iter().filter(|one| one.policy == policy);
    let figures: Vec<f64> = of().flat_map(Ratios::all).collect();
    let mean = figures.iter().sum::<f64>() / figures.len() as f64;
    let worst = figures.iter().copied().fold(0.0, f64::max);
    let times = || of().flat_map(|one| &one.times);
    let total = times().map(|(took, _)| took).sum::<f64>() / times().map(|(_, bound)| bound).sum::<f64>();
    let name =
        if policy == BELADY { "`belady` (knows the future)".to_owned() } else { format!("`{policy}`") };
    let rule = geometric_mean(figures.iter().copied());
    format!("| {name} | {rule:.2} | {mean:.2} | {worst:.2} | {total:.2} |")
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

#[test]
fn the_default_policy_is_the_one_that_the_rule_picks() {
    let all = ratios();
    let names: Vec<&str> = policies().iter().map(|policy| policy.name()).collect();
    let of = |policy: &str| {
        geometric_mean(
            all.iter().filter(|one| one.policy == policy).flat_map(|one| one.all().collect::<Vec<_>>()),
        )
    };
    let best = names.iter().copied().min_by(|a, b| of(a).total_cmp(&of(b))).unwrap();
    assert_eq!(best, default_policy().name(), "the documentation of the default must be changed, too");

    let text = std::fs::read_to_string(docs().join("guide/laboratory.md")).unwrap();
    for policy in names.into_iter().chain([BELADY]) {
        let line = line(policy, &all);
        assert!(text.contains(&line), "docs/guide/laboratory.md lacks {line}");
    }
    let place = docs().join("images/plots/lab-policies.svg");
    let drawn = draw(&all);
    if std::env::var_os("DBUILD_DRAW").is_some() {
        std::fs::write(&place, &drawn).unwrap();
    }
    let shown = std::fs::read_to_string(&place).unwrap_or_default();
    assert!(drawn == shown, "the plot is an old one; with DBUILD_DRAW=1 this test draws it");
}

const STYLE: &str = "\
.lab{--ink:#1f2328;--soft:#59636e;--line:#d1d9e0;--a:#0550ae;--b:#953800;--c:#116329;--d:#6639ba;font:12px system-ui,sans-serif}\
@media(prefers-color-scheme:dark){.lab{--ink:#e6edf3;--soft:#9198a1;--line:#3d444d;--a:#79c0ff;--b:#ffa657;--c:#7ee787;--d:#d2a8ff}}\
.lab text{fill:var(--ink)}.lab .soft{fill:var(--soft)}.lab line{stroke:var(--line)}\
.lab .p0{fill:var(--a)}.lab .p1{fill:var(--b)}.lab .p2{fill:var(--c)}.lab .p3{fill:none;stroke:var(--d);stroke-width:1.5;stroke-dasharray:4 2}";
const GROUP: f64 = 132.0;
const BAR: f64 = 26.0;
const LEFT: f64 = 40.0;
const TOP: f64 = 52.0;
const HEIGHT: f64 = 180.0;
/// The top of the scale; the bottom is 1, which nothing beats.
const MOST: f64 = 2.0;

/// A group of bars for each history, a bar for each policy.
fn draw(all: &[Ratios]) -> String {
    let names = histories();
    let (width, bottom) = (LEFT + GROUP * names.len() as f64 + 8.0, TOP + HEIGHT);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"lab\" role=\"img\" aria-labelledby=\"policies-title\" viewBox=\"0 0 {width} \
         {height}\" width=\"{width}\" height=\"{height}\">\n<title id=\"policies-title\">Time rebuilt by what is possible at least, for \
         each history and policy</title>\n<style>{STYLE}</style>\n<text x=\"{LEFT}\" y=\"16\">time rebuilt ÷ least possible, mean \
         of three sizes (1 is best)</text>\n",
        height = bottom + 28.0,
    );
    for step in 0..=4 {
        let value = 1.0 + f64::from(step) / 4.0 * (MOST - 1.0);
        let y = bottom - HEIGHT * f64::from(step) / 4.0;
        let _ = writeln!(out, "<line x1=\"{LEFT}\" y1=\"{y}\" x2=\"{width}\" y2=\"{y}\"/>");
        let (x, y) = (LEFT - 6.0, y + 4.0);
        let _ =
            writeln!(out, "<text class=\"soft\" x=\"{x}\" y=\"{y}\" text-anchor=\"end\">{value:.2}</text>");
    }
    for (at, policy) in policies().iter().map(|policy| policy.name()).chain([BELADY]).enumerate() {
        let x = LEFT + 90.0 * at as f64;
        let _ = writeln!(out, "<rect class=\"p{at}\" x=\"{x}\" y=\"25\" width=\"12\" height=\"12\"/>");
        let _ = writeln!(out, "<text x=\"{}\" y=\"35\">{policy}</text>", x + 18.0);
    }
    for (group, name) in names.iter().enumerate() {
        let left = LEFT + GROUP * group as f64 + 12.0;
        for (at, one) in all.iter().filter(|one| one.history == *name).enumerate() {
            let mean = geometric_mean(one.all());
            let height = (HEIGHT * (mean - 1.0) / (MOST - 1.0)).max(1.0);
            let (x, y) = (left + BAR * at as f64, bottom - height);
            let _ = writeln!(
                out,
                "<rect class=\"p{at}\" x=\"{:.1}\" y=\"{y:.1}\" width=\"{}\" height=\"{height:.1}\"><title>{name}, {}: {mean:.3}</title></rect>",
                x + 2.0,
                BAR - 4.0,
                one.policy
            );
            let (x, y) = (x + BAR / 2.0, y - 4.0);
            let _ = writeln!(
                out,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\" font-size=\"10\">{mean:.2}</text>"
            );
        }
        let (x, y) = (left + BAR * 2.0, bottom + 18.0);
        let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{name}</text>");
    }
    out.push_str("</svg>\n");
    out
}
