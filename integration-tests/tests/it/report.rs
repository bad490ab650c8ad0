//! The report in a browser: it opens by itself, its parts follow each other, and its figures are
//! the journal's.

use std::path::PathBuf;

use dbuild_integration_tests::{Page, TestSpace};
use serde_json::{Value, json};

const DOCKERFILE: &str = "\
FROM busybox AS maker
WORKDIR /work
RUN head -c 30000 /dev/urandom > rubbish; echo told-by-the-maker; echo small > small
RUN rm rubbish; echo changed > small; mkdir -m 700 made
FROM busybox AS unneeded
FROM scratch
COPY --from=maker /work/small /small
";

/// The time until the page has done what it was asked for and has laid itself out again, in
/// milliseconds: the middle of several tries. Painting is not in it, for it waits for whatever else
/// this machine does.
const TIMED: &str = "
    const done = arguments[0];
    const timed = (act) => {
        const began = performance.now();
        act();
        document.body.getBoundingClientRect();
        return performance.now() - began;
    };
    const middle = (all) => all.sort((a, b) => a - b)[Math.floor(all.length / 2)];
";

fn report_of(space: &TestSpace, dockerfile: &str) -> PathBuf {
    let report = space.path("report.html");
    space.build(dockerfile, ["--report", "report.html"]).run();
    report
}

fn at_rest(page: &Page, report: &std::path::Path) {
    assert_eq!(page.complaints(), Vec::<String>::new());
    let own = format!("file://{}", report.display());
    assert_eq!(page.requests(), [own], "the page itself and nothing else");
}

#[test]
fn the_report_opens_and_its_parts_follow_each_other() {
    let space = TestSpace::new();
    let report = report_of(&space, DOCKERFILE);
    let page = Page::open(&report, (1280, 900));
    assert_eq!(page.text("h1"), "app:latest");
    assert!(page.text("#story").contains("2 stages ran, 1 was not needed."), "{}", page.text("#story"));

    // A box is chosen: the step, its log and its lines are told, and the slider follows.
    let box_of = |text: &str| {
        let find = format!(
            "[...document.querySelectorAll('.graph .step')].find((box) => box.getAttribute('aria-label').includes({})).dataset.step",
            json!(text)
        );
        page.eval(&find).as_str().expect("a box").to_owned()
    };
    let first = box_of("RUN head");
    page.click(&format!(".graph .step[data-step='{first}'] .box"));
    let detail = page.text("#detail");
    for words in ["told-by-the-maker", "+ done", "2 added", "/work/rubbish", "30.0 kB"] {
        assert!(detail.contains(words), "{words}\n{detail}");
    }
    assert!(page.text("#tree").contains("rubbish"), "{}", page.text("#tree"));
    assert!(page.text(".source.selected").contains("RUN head"), "{}", page.text(".source.selected"));

    // The slider goes on: the tree is that of the next step, with what it removed and changed.
    page.keys("#slider", "\u{e014}");
    let (detail, tree) = (page.text("#detail"), page.text("#tree"));
    assert!(detail.contains("1 added, 1 changed, 1 removed"), "{detail}");
    assert!(tree.contains('−'), "{tree}");
    let gone = "[...document.querySelectorAll('#tree .name.gone')].map((name) => name.textContent)";
    assert_eq!(page.eval(gone), json!(["rubbish"]));
    // And back: it is there again.
    page.click("#back");
    assert_eq!(page.eval(gone), json!([]));
    assert!(page.text("#tree").contains("rubbish"));

    // The keyboard alone walks the graph.
    let chosen = "document.querySelector('.graph .step.selected').dataset.step";
    page.keys(&format!(".graph .step[data-step='{first}']"), "\u{e014}");
    assert_ne!(page.eval(chosen), json!(first));
    page.keys(".graph .step.selected", "\u{e012}");
    assert_eq!(page.eval(chosen), json!(first));
    at_rest(&page, &report);
}

/// Milliseconds as the page shows less than ten seconds. A browser rounds what lies in the middle
/// up, and Rust to the even digit: of thousandths only odd eighths lie there exactly.
fn shown(ms: u64) -> String {
    let up = if ms % 250 == 125 { 0.001 } else { 0.0 };
    format!("{:.2} s", ms as f64 / 1000.0 + up)
}

#[test]
fn the_figures_of_the_report_are_those_of_the_journal() {
    let space = TestSpace::new();
    let outcome =
        space.build(DOCKERFILE, ["--progress", "rawjson", "--report", "report.html"]).run().expect_ok();
    let events: Vec<Value> =
        outcome.stderr.lines().map(|line| serde_json::from_str(line).expect("an event")).collect();
    let of = |name: &str| events.iter().filter(|event| event["event"] == name).collect::<Vec<_>>();
    let report = space.path("report.html");
    let page = Page::open(&report, (1280, 900));
    let stages = page.eval("JSON.parse(document.getElementById('data').textContent).build.stages");
    for summary in of("stage_summary") {
        let id = summary["stage"].as_u64().expect("a stage") as usize;
        let bytes = &stages[id]["bytes"];
        for (own, told) in [
            ("base", "base_bytes"),
            ("made", "made_bytes"),
            ("shipped", "shipped_bytes"),
            ("left", "left_bytes"),
        ] {
            assert_eq!(bytes[own], summary[told], "{own} of stage {id}");
        }
    }
    // By step the page adds up layers itself: the same sums must come out.
    let sums = page.eval(
        "Object.values((({ build, contents }) => { const sums = {}; for (const step of build.steps) if (contents[step.id] && step.stage !== null) \
         { const sum = sums[step.stage] ||= [step.stage, 0, 0]; sum[1] += contents[step.id].made; sum[2] += contents[step.id].shipped; } return sums; })\
         (JSON.parse(document.getElementById('data').textContent)))",
    );
    for sum in sums.as_array().expect("sums by stage") {
        let summary =
            of("stage_summary").into_iter().find(|event| event["stage"] == sum[0]).expect("a summary");
        let passed = summary["base_bytes"].as_u64().unwrap() + summary["made_bytes"].as_u64().unwrap();
        assert_eq!(sum[1].as_u64(), Some(passed), "{summary}");
        assert_eq!(sum[2], summary["shipped_bytes"], "{summary}");
    }
    // What each step took and wrote is what the journal says, and what is shown is that.
    let steps = page.eval("JSON.parse(document.getElementById('data').textContent).build.steps");
    let finished = of("step_finished");
    assert!(finished.len() >= 5, "{finished:?}");
    for step in steps.as_array().expect("steps") {
        let mut own = finished.iter().filter(|event| event["step"] == step["id"]);
        let took: u64 = own.clone().filter_map(|event| event["duration_ms"].as_u64()).sum();
        assert_eq!(step["duration_ms"], took, "{step}");
        let Some(last) = own.next_back() else { continue };
        assert_eq!((&step["layer_bytes"], &step["files"]), (&last["layer_bytes"], &last["files"]), "{step}");
        let row = page.text(&format!("tr[data-row='{}'] td.num", step["id"]));
        assert_eq!(row, shown(took), "{step}");
    }
    let ended = of("build_finished")[0]["duration_ms"].as_u64().expect("a time");
    assert!(page.text("#figures").contains(&shown(ended)), "{}", page.text("#figures"));
    // Nothing is lost between made, shipped and left behind: of a stage, of a step, of the whole.
    for stage in stages.as_array().expect("stages").iter().filter(|stage| stage["reached"] == true) {
        let of = |name: &str| stage["bytes"][name].as_u64().expect("bytes");
        assert_eq!(of("base") + of("made"), of("shipped") + of("left"), "{stage}");
    }
    let totals = page.eval("JSON.parse(document.getElementById('data').textContent).totals");
    let total = |name: &str| totals[name].as_u64().expect("bytes");
    assert_eq!(total("base") + total("made"), total("shipped") + total("left"), "{totals}");
    // The image holds the one small file, which says `changed`; the stage made the rubbish, too.
    assert_eq!((total("shipped"), total("made")), (8, 30_000 + 6 + 8), "{totals}");
    let counts = page.eval("Object.values(JSON.parse(document.getElementById('data').textContent).contents).map((one) => one.counts)");
    let counts = counts.as_array().expect("counts");
    for expected in [json!([2, 0, 0]), json!([1, 1, 1]), json!([1, 0, 0])] {
        assert!(counts.contains(&expected), "{expected} in {counts:?}");
    }
    let image = of("export_finished")[0];
    let shown = page.text("#exports");
    assert!(shown.contains(image["digest"].as_str().expect("a digest")), "{shown}");
    assert_eq!(of("image_assembled")[0]["layers"].as_array().map(Vec::len), Some(1));
    let rows = "document.querySelectorAll('#layers tbody tr').length";
    assert_eq!(page.eval(rows), json!(1));
    at_rest(&page, &report);
}

#[test]
fn a_failed_build_with_hostile_words_is_told_and_harmless() {
    let space = TestSpace::new();
    let dockerfile = "FROM busybox AS evil\n\
        RUN echo '</script><script>document.title=1</script><img src=x onerror=alert(1)>'; printf '\\033]0;x\\007\\033[31mred\\n'; exit 3\n";
    let report = report_of(&space, dockerfile);
    let page = Page::open(&report, (400, 800));
    assert!(page.text("#story").starts_with("It failed at [evil 2/2] RUN echo"), "{}", page.text("#story"));
    let detail = page.text("#detail");
    for words in [
        "! failed",
        "exit code 3",
        "</script><script>document.title=1</script><img src=x onerror=alert(1)>",
        "red",
    ] {
        assert!(detail.contains(words), "{words}\n{detail}");
    }
    assert_eq!(page.eval("document.querySelectorAll('img').length"), json!(0));
    assert_ne!(page.eval("document.title"), json!("1"));
    // On a phone nothing but what scrolls by itself is wider than the screen.
    assert_eq!(page.eval("document.documentElement.scrollWidth <= window.innerWidth"), json!(true));
    at_rest(&page, &report);
}

/// Steps with the mouse, the slider and the search through a page, and asserts that each answers
/// within 200 ms.
fn answers_at_once(page: &Page, word: &str) -> Value {
    let took = page.eval_async(&format!(
        "{TIMED}
            const slider = document.getElementById('slider');
            const search = document.getElementById('find');
            const all = {{ box: [], slide: [], open: [], find: [] }};
            for (const part of [0.01, 0.35, 0.75, 1, 0.02]) {{
                const n = Math.floor(part * Number(slider.max));
                const boxes = document.querySelectorAll('.graph .step');
                const twists = document.querySelectorAll('#stages .twist');
                all.box.push(timed(() => boxes[n % boxes.length].dispatchEvent(new MouseEvent('click', {{ bubbles: true }}))));
                all.slide.push(timed(() => {{ slider.value = n; slider.dispatchEvent(new Event('input')); }}));
                all.open.push(timed(() => twists[n % twists.length].click()));
                all.find.push(timed(() => {{ search.value = {word} + (n % 7); search.dispatchEvent(new Event('input')); }}));
            }}
            done(Object.fromEntries(Object.entries(all).map(([what, times]) => [what, middle(times)])));",
        word = json!(word)
    ));
    for what in ["box", "slide", "open", "find"] {
        let ms = took[what].as_f64().expect("a time");
        assert!(ms < 200.0, "{what}: {took}");
    }
    let found = page.text("#found-about");
    assert!(!found.starts_with("0 steps, 0 paths"), "{found}");
    took
}

#[test]
fn five_hundred_stages_answer_at_once() {
    let space = TestSpace::offline();
    let mut dockerfile = String::new();
    for stage in 0..499 {
        dockerfile +=
            &format!("FROM scratch AS s{stage}\nCOPY a /a{stage}\nCOPY b /b{stage}\nCOPY a /c{stage}\n");
    }
    dockerfile += "FROM scratch AS last\n";
    for stage in 0..499 {
        dockerfile += &format!("COPY --from=s{stage} /a{stage} /\n");
    }
    space.write("context/a", "a");
    space.write("context/b", "b");
    let report = report_of(&space, &dockerfile);
    let size = std::fs::metadata(&report).expect("a file").len();
    assert!(size < 6_000_000, "{size} bytes for 2,000 steps");
    let page = Page::open(&report, (1280, 900));
    assert_eq!(page.eval("Number(document.getElementById('slider').max)"), json!(499 * 4));
    let boxes = page.eval("document.querySelectorAll('.graph .step').length").as_u64().expect("a number");
    assert!((5..400).contains(&boxes), "{boxes}: of a large graph the part in sight is drawn");
    answers_at_once(&page, "s");
    assert!(page.text("#found-about").contains("are listed"), "{}", page.text("#found-about"));
    let opened =
        page.eval("performance.timing.domContentLoadedEventEnd - performance.timing.navigationStart");
    assert!(opened.as_f64() < Some(10_000.0), "opened in {opened} ms");
    // On paper the first two hundred steps are written out, and the rest is counted.
    page.eval("window.dispatchEvent(new Event('beforeprint'))");
    assert_eq!(page.eval("document.querySelectorAll('.printed-step').length"), json!(200));
    assert!(
        page.eval("document.getElementById('all').lastChild.textContent")
            .as_str()
            .is_some_and(|text| text.contains("1,797 more steps"))
    );
    at_rest(&page, &report);
}

#[test]
fn a_thousand_steps_and_twenty_thousand_paths_answer_at_once() {
    let space = TestSpace::new();
    let mut dockerfile = String::from(
        "FROM busybox AS many\nRUN mkdir /m; cd /m; for d in $(seq 200); do mkdir d$d; for f in $(seq 100); do echo > d$d/f$f; done; done\n\
         FROM scratch\nCOPY --from=many /m /m\n",
    );
    for step in 0..1000 {
        dockerfile += &format!("COPY a /a{step}\n");
    }
    space.write("context/a", "a");
    let report = report_of(&space, &dockerfile);
    let size = std::fs::metadata(&report).expect("a file").len();
    assert!(size < 6_000_000, "{size} bytes");
    let page = Page::open(&report, (1280, 900));
    answers_at_once(&page, "a1");
    // The step with very many paths: they are summed up, and nothing is lost.
    let counts = "JSON.parse(document.getElementById('data').textContent).contents[Object.keys(JSON.parse(document.getElementById('data').textContent).contents)[1]].counts";
    assert_eq!(page.eval(counts), json!([20_201, 0, 0]));
    let took = page.eval_async(&format!(
        "{TIMED} const slider = document.getElementById('slider'); const times = [];
         for (let n = 0; n < 5; n += 1) times.push(timed(() => {{ slider.value = n; slider.dispatchEvent(new Event('input')); }}));
         done(middle(times));"
    ));
    assert!(took.as_f64() < Some(200.0), "{took} ms to a step with 20,000 paths");
    at_rest(&page, &report);
}

#[test]
fn two_builds_are_put_side_by_side() {
    let space = TestSpace::new();
    space.build(DOCKERFILE, [""; 0]).run().expect_ok();
    space.build(DOCKERFILE, [""; 0]).run().expect_ok();
    space.build(&DOCKERFILE.replace("echo changed", "echo otherwise"), [""; 0]).run().expect_ok();
    let builds = space.dbuild(["history", "--json"]).run().expect_ok().json();
    let id = |index: usize| builds[index]["id"].as_str().expect("an id");
    space
        .dbuild(["report", "--compare", id(1), id(0), "-o", "both.html"])
        .run()
        .expect_ok()
        .stdout_has(&["both.html"]);
    let report = space.path("both.html");
    let page = Page::open(&report, (1280, 900));
    let pairs = page.text("#pairs");
    assert!(pairs.contains("was: RUN rm rubbish; echo changed"), "{pairs}");
    page.click("#only");
    assert!(!page.text("#pairs").contains("WORKDIR"), "{}", page.text("#pairs"));
    at_rest(&page, &report);
}

#[test]
fn the_report_of_a_collected_build_says_what_is_gone() {
    let space = TestSpace::new();
    space.build(DOCKERFILE, [""; 0]).run().expect_ok();
    space.dbuild(["rm", "app"]).run().expect_ok();
    space.dbuild(["cache", "prune"]).run().expect_ok();
    space.dbuild(["report", "-o", "report.html"]).run().expect_ok();
    let page = Page::open(&space.path("report.html"), (1280, 900));
    assert!(
        page.text("#tree-about").contains("does not have this layer any more"),
        "{}",
        page.text("#tree-about")
    );
    space.dbuild(["report", "-o", "a/new/dir.html"]).run().expect_ok().stdout_has(&["a/new/dir.html"]);
    space.dbuild(["report", "-o", "report.html/a.html"]).run().expect_code(1).stderr_has(&["report.html"]);
    space.dbuild(["report", "zzz"]).run().expect_code(1).stderr_has(&["zzz", "dbuild history"]);
}
