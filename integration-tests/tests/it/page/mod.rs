//! The report for everybody: read without colour, by keyboard, by a screen reader, on a phone and
//! on paper.

use std::collections::BTreeSet;

use dbuild_integration_tests::{Page, TestSpace};
use serde_json::{Value, json};

const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";
const ESCAPE: &str = "\u{e00c}";
const UP: &str = "\u{e013}";
const RIGHT: &str = "\u{e014}";
const DOWN: &str = "\u{e015}";

/// The beginning, which is built first and so is cached.
pub(crate) const KNOWN: &str = "FROM busybox AS known\nRUN echo known > /known\n";

/// A build that fails, with a step in every state: cached, done, failed, stopped, never begun; and
/// a stage that is not needed.
pub(crate) fn failing() -> String {
    format!(
        "{KNOWN}FROM busybox AS made\nRUN echo made > /made; mkdir /dir; echo a-line-of-output\n\
         FROM busybox AS slow\nRUN touch /begun; sleep 60\nRUN echo never\n\
         FROM known AS broken\nRUN sleep 1; echo wrong >&2; exit 3\n\
         FROM busybox AS unneeded\nRUN echo no\n\
         FROM scratch AS last\nCOPY --from=known /known /\nCOPY --from=made /made /\nCOPY --from=slow /s /\nCOPY --from=broken /b /\n"
    )
}

/// Opens the report of that build.
fn open_failing(space: &TestSpace, size: (u32, u32)) -> Page {
    space.build(KNOWN, [""; 0]).run().expect_ok();
    space.build(&failing(), ["--report", "report.html"]).run().expect_code(1);
    Page::open(&space.path("report.html"), size)
}

/// Chooses each step in turn and looks at the page every time.
fn at_each_step(page: &Page, mut look: impl FnMut()) {
    let steps = page.eval("Number(document.getElementById('slider').max)").as_u64().expect("a number");
    for step in 0..=steps {
        page.eval(&format!(
            "(() => {{ const slider = document.getElementById('slider'); slider.value = {step}; slider.dispatchEvent(new Event('input')); }})()"
        ));
        look();
    }
}

#[test]
fn all_text_can_be_read_in_light_and_dark() {
    let space = TestSpace::new();
    let page = open_failing(&space, (1280, 900));
    page.keys("#find", "made");
    for theme in ["light", "dark"] {
        page.emulate("prefers-color-scheme", theme);
        at_each_step(&page, || {
            let seen = page.eval(include_str!("contrast.js").trim());
            assert_eq!(seen["bad"], json!([]), "{theme}");
            assert!(seen["looked"].as_u64() > Some(150), "{theme}: {seen}");
        });
    }
}

#[test]
fn states_are_told_apart_without_colour() {
    let space = TestSpace::new();
    let page = open_failing(&space, (1280, 900));
    // The style of a box and of a bar with every colour taken out, and the sign that is written
    // there.
    let without_colour = |what: &str, styles: &[&str]| {
        page.eval(&format!(
            "Object.fromEntries(['cached', 'done', 'failed', 'canceled'].map((state) => {{
                const element = document.querySelector('{what}'.replaceAll('STATE', state));
                const style = getComputedStyle(element);
                return [state, {styles:?}.map((name) => style[name].replace(/rgba?\\([^)]*\\)/g, '')).join('|')];
            }}))"
        ))
    };
    let all_differ = |what: &str, looks: &Value| {
        let looks = looks.as_object().expect("looks by state");
        let different: BTreeSet<String> = looks.values().map(Value::to_string).collect();
        assert_eq!(different.len(), looks.len(), "{what}: {looks:#?}");
    };
    let boxes = ".graph .step.STATE:not(.selected) .box, .graph .step.STATE .box";
    all_differ("boxes", &without_colour(boxes, &["strokeDasharray", "strokeWidth", "fill"]));
    all_differ("bars", &without_colour(".track .run.STATE", &["backgroundImage", "boxShadow", "opacity"]));
    all_differ("badges", &without_colour("#legend .badge.STATE", &["borderStyle", "borderWidth"]));
    // And by a sign, everywhere.
    let signs = page.eval(
        "['cached', 'done', 'failed', 'canceled'].map((state) => [
            document.querySelector(`.graph .step.${state} .how`).textContent[0],
            document.querySelector(`#legend .badge.${state}`).textContent[0],
            document.querySelector(`#timeline .sign.${state}`).textContent,
            document.querySelector(`.source.${state} .sign`).textContent])",
    );
    assert_eq!(signs, json!(["=", "+", "!", "/"].map(|sign| [sign; 4])));
    let skipped = page.text(".lane.unneeded .lane-name");
    assert!(skipped.contains("SKIPPED"), "{skipped}");
    let times = page.text("#timeline");
    for words in ["cached", "failed after", "canceled after", "never started"] {
        assert!(times.contains(words), "{words}\n{times}");
    }
}

/// What a step of Tab leads to, in words that name it.
const FOCUSED: &str = "(() => { const at = document.activeElement; \
    return at === document.body ? null : `${at.tagName.toLowerCase()} ${at.id || at.dataset.step || at.textContent.trim().slice(0, 60)}` })()";

#[test]
fn everything_can_be_reached_by_tab_and_shows_that_it_was() {
    let space = TestSpace::new();
    let page = open_failing(&space, (1280, 900));
    let wanted = page.eval(
        "[...document.querySelectorAll('a[href], button, input, summary, [tabindex]')]
            .filter((one) => one.tabIndex >= 0 && !one.disabled && one.checkVisibility())
            .map((at) => `${at.tagName.toLowerCase()} ${at.id || at.dataset.step || at.textContent.trim().slice(0, 60)}`)",
    );
    let wanted: Vec<String> = serde_json::from_value(wanted).expect("names");
    assert!(wanted.len() > 30, "{wanted:?}");
    let mut reached = Vec::new();
    for _ in 0..wanted.len() {
        page.press(TAB);
        let at = page.eval(FOCUSED);
        let name =
            at.as_str().unwrap_or_else(|| panic!("the focus left the page after {reached:?}")).to_owned();
        let shown = page.eval(
            "(() => { const at = document.activeElement; const style = getComputedStyle(at); const box = at.querySelector('.box');
                return (style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2) || (box && parseFloat(getComputedStyle(box).strokeWidth) > 3); })()",
        );
        assert_eq!(shown, json!(true), "no outline on {name}");
        reached.push(name);
    }
    assert_eq!(reached, wanted, "in the order of the page");
}

#[test]
fn a_screen_reader_finds_names_roles_and_an_order() {
    let space = TestSpace::new();
    let page = open_failing(&space, (1280, 900));
    at_each_step(&page, || {
        let tree = page.devtools("Accessibility.getFullAXTree", &json!({}));
        let nodes = tree["nodes"].as_array().expect("a tree");
        let seen = nodes.iter().filter(|node| node["ignored"] != true);
        let mut roles = BTreeSet::new();
        for node in seen {
            let role = node["role"]["value"].as_str().unwrap_or_default();
            let name = node["name"]["value"].as_str().unwrap_or_default().trim();
            let has_focus = node["properties"].as_array().is_some_and(|all| {
                all.iter().any(|one| one["name"] == "focusable" && one["value"]["value"] == true)
            });
            assert!(!has_focus || !name.is_empty(), "no name: {node}");
            assert!(
                !matches!(role, "columnheader" | "rowheader" | "table") || !name.is_empty(),
                "no name: {node}"
            );
            roles.insert(role.to_owned());
        }
        for role in [
            "banner",
            "navigation",
            "main",
            "contentinfo",
            "slider",
            "searchbox",
            "status",
            "article",
            "region",
            "table",
            "rowheader",
        ] {
            assert!(roles.contains(role), "{role} in {roles:?}");
        }
    });
    // No level of headings is left out.
    let levels = page.eval("[...document.querySelectorAll('h1, h2, h3, h4')].filter((one) => one.checkVisibility()).map((one) => Number(one.tagName[1]))");
    let levels: Vec<u64> = serde_json::from_value(levels).expect("levels");
    assert_eq!(levels.iter().filter(|level| **level == 1).count(), 1, "{levels:?}");
    assert!(levels.windows(2).all(|pair| pair[1] <= pair[0] + 1), "{levels:?}");
    assert_eq!(page.eval("document.documentElement.lang"), "en");
    // The boxes say what they are, and which is chosen.
    let label = page.eval("document.querySelector('.graph .step.failed').getAttribute('aria-label')");
    let label = label.as_str().expect("a label");
    assert!(label.starts_with("[broken 1/1] RUN sleep 1; echo wrong >&2; exit 3, failed after "), "{label}");
    assert_eq!(page.eval("document.querySelectorAll('.graph [aria-current]').length"), json!(1));
}

#[test]
fn the_keyboard_alone_goes_everywhere() {
    let space = TestSpace::new();
    let page = open_failing(&space, (1280, 900));
    let told =
        || page.eval("document.getElementById('told').textContent").as_str().expect("a text").to_owned();
    let focused = || page.eval(FOCUSED);
    let tree = || page.text("#tree-title") + &page.text("#tree-about");
    assert!(told().contains("[broken 1/1]") && told().ends_with(", failed"), "{}", told());

    // From the box to the step, and back.
    page.eval("document.querySelector('.graph .step.selected').focus()");
    let of_box = focused();
    page.press(ENTER);
    assert_eq!(focused(), json!("article detail"));
    page.press(ESCAPE);
    assert_eq!(focused(), of_box);
    page.press(UP);
    assert_ne!(focused(), of_box, "an arrow goes to another box");

    // The slider: the tree and the sentence follow it.
    page.eval("document.getElementById('slider').focus()");
    page.press("\u{e011}");
    assert!(told().starts_with("Step 1 of "), "{}", told());
    let before = (told(), tree());
    for _ in 0..3 {
        page.press(RIGHT);
    }
    assert!(told().starts_with("Step 4 of "), "{}", told());
    assert_ne!((told(), tree()), before);
    let value = page.eval("document.getElementById('slider').getAttribute('aria-valuetext')");
    assert!(value.as_str().is_some_and(|text| text.starts_with("4 of ")), "{value}");

    // The search: Enter takes the first that was found, Escape clears it.
    page.eval("document.getElementById('find').focus()");
    page.press("/MADE");
    assert!(page.text("#found-about").contains("path"), "{}", page.text("#found-about"));
    assert!(page.text("#found").contains("/made"), "{}", page.text("#found"));
    page.press(ENTER);
    assert!(told().contains("made"), "{}", told());
    page.press(ESCAPE);
    assert_eq!(page.eval("document.getElementById('find').value"), "");
    assert_eq!(focused(), json!("input find"), "the first Escape only clears");

    // The Dockerfile: from instruction to instruction.
    page.eval("document.querySelector('#dockerfile button[tabindex=\"0\"]').focus()");
    let (at, sentence) = (focused(), told());
    page.press(DOWN);
    assert_ne!((focused(), told()), (at, sentence));
    assert!(
        page.eval("document.activeElement.getAttribute('aria-label')")
            .as_str()
            .is_some_and(|label| label.starts_with("Line "))
    );
}

#[test]
fn on_paper_everything_is_written_out() {
    let space = TestSpace::new();
    let page = open_failing(&space, (1280, 900));
    page.emulate("media", "print");
    page.eval("window.dispatchEvent(new Event('beforeprint'))");
    let seen = |selector: &str| {
        let all = format!(
            "[...document.querySelectorAll({selector:?})].filter((one) => one.checkVisibility()).length"
        );
        page.eval(&all).as_u64().expect("a number")
    };
    assert_eq!(seen("nav, .player, input, #walk, button.more"), 0, "paper has no controls");
    let steps = page.eval("Number(document.getElementById('slider').max) + 1");
    assert_eq!(json!(seen(".printed-step")), steps);
    assert_eq!(seen("#stages .sub"), seen("#stages .sub th"), "every stage is open");
    assert!(seen("#stages .sub") > 5);
    let all = page.text("#all");
    for words in ["a-line-of-output", "exit code 3", "/made", "never started", "[slow 2/3]"] {
        assert!(all.contains(words), "{words}\n{all}");
    }
    assert_eq!(page.eval("getComputedStyle(document.body).color"), "rgb(0, 0, 0)");
    // The sheet of A4 is 186 mm wide between its margins: nothing is cut off.
    page.devtools(
        "Emulation.setDeviceMetricsOverride",
        &json!({"width": 703, "height": 1000, "deviceScaleFactor": 1, "mobile": false}),
    );
    let wide = page.eval(
        "[...document.querySelectorAll('main *')].filter((one) => one.checkVisibility() && !one.closest('.sr, svg') && one.getBoundingClientRect().right > 704).map((one) => one.className)",
    );
    assert_eq!(wide, json!([]));
    let pdf = page.devtools("Page.printToPDF", &json!({"paperWidth": 8.27, "paperHeight": 11.69}));
    assert!(pdf["data"].as_str().is_some_and(|data| data.len() > 10_000), "a document was printed");
    page.eval("window.dispatchEvent(new Event('afterprint'))");
    assert_eq!((seen(".printed-step"), seen("#stages .sub")), (0, 0), "as before");
}

#[test]
fn on_a_phone_nothing_is_cut_off() {
    let space = TestSpace::new();
    let long = "a-stage-with-a-name-that-is-much-longer-than-a-phone-is-wide";
    let dockerfile = format!(
        "FROM busybox AS {long}\nRUN mkdir -p /a/very/long/path/{long}; echo 編譯器 > /a/very/long/path/{long}/編譯器-{long}\n\
         FROM scratch\nCOPY --from={long} /a /a\n"
    );
    space.build(&dockerfile, ["--report", "report.html"]).run().expect_ok();
    let page = Page::open(&space.path("report.html"), (1280, 900));
    page.devtools(
        "Emulation.setDeviceMetricsOverride",
        &json!({"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": true}),
    );
    assert_eq!(page.eval("document.documentElement.scrollWidth"), json!(360));
    // Names have a line of their own, so they are not broken letter by letter.
    let narrow = page.eval(
        "[...document.querySelectorAll('tbody th')].filter((one) => one.checkVisibility() && one.getBoundingClientRect().width < 200).map((one) => one.textContent)",
    );
    assert_eq!(narrow, json!([]));
    let largest = page.text("#largest");
    assert!(
        largest.contains("Size") && largest.contains("Made by"),
        "the heads stand at the cells\n{largest}"
    );
}
