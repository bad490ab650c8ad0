//! The result as one HTML file: no script, no request to anywhere, light and dark.

use std::fmt::Write as _;

use dbuild_support::escape;
use dbuild_support::units::Bytes;

use crate::plot;
use crate::result::{Cause, CommitResult, Replay, Row};
use crate::table::short;
use crate::units::{limit, percent, seconds};

const HEAD: &str = "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
<meta name=\"viewport\" content=\"width=device-width\">\n<meta name=\"color-scheme\" content=\"light dark\">\n";

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1f2328;--soft:#59636e;--line:#d1d9e0;--page:#fff;--bar:#0550ae}\
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9198a1;--line:#3d444d;--page:#0d1117;--bar:#79c0ff}}\
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);max-width:64rem;margin:2rem auto;padding:0 1rem}\
h1{overflow-wrap:anywhere}.wide{overflow-x:auto}.wide>svg{display:block}\
table{border-collapse:collapse;margin:.4rem 0 1rem}\
th,td{padding:.2rem .7rem;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}\
td.n,th.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}code{font-size:.9em}\
.bar{display:block;height:.4rem;background:var(--bar);margin-top:.2rem}.soft{color:var(--soft)}\
details>ul{margin:.2rem 0;padding-left:1.2rem}summary{cursor:pointer}";

/// Maximum number of differences shown for a step; the rest is counted.
const MOST_REASONS: usize = 3;

/// Writing to a text cannot fail.
macro_rules! put {
    ($out:expr, $($arg:tt)*) => {{ let _ = writeln!($out, $($arg)*); }};
}

/// The whole page.
pub fn html(replay: &Replay) -> String {
    let mut out = String::from(HEAD);
    let name = escape::html(&replay.repository);
    put!(out, "<title>Laboratory: {name}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>");
    put!(out, "<h1>Laboratory: {name}</h1>");
    let replayed = replay.replayed().count();
    let how = if replay.executed {
        "Every distinct step was executed once."
    } else {
        "Simulated: no step was executed."
    };
    put!(out, "<p>{replayed} of {} commits replayed. {how}</p>", replay.commits.len());
    if !replay.notes.is_empty() {
        put!(out, "<ul>");
        replay.notes.iter().for_each(|note| put!(out, "<li>{}</li>", escape::html(note)));
        put!(out, "</ul>");
    }
    put!(out, "<h2>What rebuilds least</h2>\n<ul>");
    for text in replay.sizes().into_iter().filter_map(|size| replay.best(size)) {
        put!(out, "<li>{}</li>", escape::html(&text));
    }
    put!(out, "</ul>\n<h2>Strategies, policies and sizes</h2>\n{}{}</div>", wide("Plots"), plot::svg(replay));
    rows(&mut out, &replay.rows);
    commits(&mut out, replay);
    put!(out, "</main>\n</body>\n</html>");
    out
}

/// What is wider than a small window is scrolled in it, with the keyboard, too.
fn wide(name: &str) -> String {
    format!("<div class=\"wide\" role=\"region\" aria-label=\"{name}\" tabindex=\"0\">")
}

fn rows(out: &mut String, rows: &[Row]) {
    put!(
        out,
        "<p class=\"soft\">The same figures. <code>belady</code> knows the future and drops what is needed last; <code>bound</code> is \
         what nothing can beat.</p>\n{}<table>",
        wide("Figures")
    );
    put!(out, "<thead><tr><th scope=\"col\">Strategy<th scope=\"col\">Policy");
    for head in ["Size", "Hits", "Rate", "Rebuilt", "Misses", "Again", "Evicted", "Stored"] {
        put!(out, "<th scope=\"col\" class=\"n\">{head}");
    }
    put!(out, "</tr></thead><tbody>");
    for row in rows {
        put!(out, "<tr><td>{}<td>{}", row.strategy, row.policy);
        let count = |known: Option<u64>| known.map_or_else(|| "–".to_owned(), |count| count.to_string());
        let cells = [
            limit(row.size),
            row.hits.to_string(),
            percent(row.hit_rate),
            seconds(row.rebuilt_ms),
            row.misses.to_string(),
            count(row.again),
            count(row.evictions),
            row.stored.map_or_else(|| "–".to_owned(), |size| Bytes(size).to_string()),
        ];
        cells.iter().for_each(|cell| put!(out, "<td class=\"n\">{cell}"));
        put!(out, "</tr>");
    }
    put!(out, "</tbody></table></div>");
}

fn commits(out: &mut String, replay: &Replay) {
    let strategies = replay.strategies();
    let cost = |steps: &[Cause]| steps.iter().map(|step| step.ms).sum::<u64>();
    let all = replay.commits.iter().flat_map(|commit| &commit.rebuilt);
    let highest = all.map(|one| cost(&one.steps)).max().unwrap_or(0).max(1);
    put!(
        out,
        "<h2>Commit by commit</h2>\n<p class=\"soft\">What each strategy rebuilds where nothing is ever evicted, and why.</p>\n\
         {}<table><thead><tr><th scope=\"col\">Commit",
        wide("Commits")
    );
    strategies.iter().for_each(|strategy| put!(out, "<th scope=\"col\">{strategy}"));
    put!(out, "</tr></thead><tbody>");
    for commit in &replay.commits {
        put!(
            out,
            "<tr><th scope=\"row\"><code>{}</code> {}{}",
            short(&commit.id),
            escape::html(&commit.subject),
            merge(commit)
        );
        if let Some(reason) = &commit.skipped {
            put!(
                out,
                "<td colspan=\"{}\" class=\"soft\">skipped: {}</tr>",
                strategies.len(),
                escape::html(reason)
            );
            continue;
        }
        for one in &commit.rebuilt {
            cell(out, &one.steps, cost(&one.steps), highest);
        }
        put!(out, "</tr>");
    }
    put!(out, "</tbody></table></div>");
}

fn merge(commit: &CommitResult) -> &'static str {
    if commit.merge { " <span class=\"soft\">(merge)</span>" } else { "" }
}

fn cell(out: &mut String, steps: &[Cause], ms: u64, highest: u64) {
    if steps.is_empty() {
        put!(out, "<td class=\"soft\">nothing");
        return;
    }
    let width = 100.0 * ms as f64 / highest as f64;
    let plural = if steps.len() == 1 { "" } else { "s" };
    put!(out, "<td><details><summary>{}, {} step{plural}</summary><ul>", seconds(ms), steps.len());
    for step in steps {
        put!(
            out,
            "<li><code>{}</code> {}: {}</li>",
            escape::html(&step.step),
            seconds(step.ms),
            reasons(step)
        );
    }
    put!(out, "</ul></details><span class=\"bar\" style=\"width:{width:.1}%\"></span>");
}

fn reasons(step: &Cause) -> String {
    let mut text =
        step.why.iter().take(MOST_REASONS).map(|why| escape::html(why)).collect::<Vec<_>>().join("; ");
    if step.why.len() > MOST_REASONS {
        let _ = write!(text, "; and {} more", step.why.len() - MOST_REASONS);
    }
    text
}
