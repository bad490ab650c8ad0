//! The graph for a terminal: a line for each step, stage by stage, and rails on the left from each
//! step to those that take from it.
//!
//! Within a stage a step stands on the line above it, so that needs no rail. A rail is a column: it
//! begins beside its source (`┌──`), passes lines, and points at each user (`├─▶`, `└─▶`). Where
//! there are more rails than fit, the rest is written out (`from #3`).

use std::collections::BTreeMap;

use super::layout::Layout;
use super::signed_note;
use crate::columns::{columns, fit};
use crate::{Build, Step};

/// Rails take no more than this part of the width.
const RAILS: usize = 3;

/// The graph of a build as lines of at most `width` columns (at least 20).
pub fn text(build: &Build, width: usize) -> String {
    let width = width.max(20);
    let layout = Layout::of(build);
    let lines = lines_of(&layout);
    let rails = Rails::of(&lines, width / RAILS / 2);
    let mut out = String::new();
    for (number, line) in lines.iter().enumerate() {
        let rail = rails.line(number);
        let room = width.saturating_sub(columns(&rail));
        let text = match line {
            Line::Head(text) => fit(text, room),
            Line::Step(step) => {
                let away = rails.written.get(&number).map(|from| format!(" from {from}")).unwrap_or_default();
                let note = signed_note(step);
                let body = format!("#{} {}{away}", step.id, step.text);
                row(&body, &note, room)
            }
        };
        out.push_str(format!("{rail}{text}").trim_end());
        out.push('\n');
    }
    out
}

/// A text at the left edge and one at the right; where both do not fit, the left one is cut, and
/// then the right one is left out.
fn row(left: &str, right: &str, room: usize) -> String {
    if right.is_empty() || columns(right) + 12 > room {
        return fit(left, room);
    }
    let left_room = room - columns(right) - 2;
    let left = fit(left, left_room);
    let gap = left_room - columns(&left) + 2;
    format!("{left}{:gap$}{right}", "")
}

enum Line<'a> {
    Head(String),
    Step(&'a Step),
}

fn lines_of<'a>(layout: &Layout<'a>) -> Vec<Line<'a>> {
    let mut lines = Vec::new();
    for lane in &layout.lanes {
        if let Some(stage) = lane.stage {
            let platform =
                stage.platform.as_ref().map(|platform| format!(" ({platform})")).unwrap_or_default();
            let skipped = if stage.reached { "" } else { "  - skipped: the target does not need it" };
            lines.push(Line::Head(format!("{}{platform}{skipped}", stage.name)));
        }
        lines.extend(lane.boxes.iter().map(|index| Line::Step(layout.boxes[*index].step)));
    }
    lines
}

struct Rails {
    rails: Vec<Rail>,
    columns: usize,
    /// What has no rail, by line.
    written: BTreeMap<usize, String>,
}

/// A column from a source to all of its users.
struct Rail {
    column: usize,
    source: usize,
    users: Vec<usize>,
}

impl Rail {
    fn first(&self) -> usize {
        self.users.iter().copied().chain([self.source]).min().unwrap_or(self.source)
    }

    fn last(&self) -> usize {
        self.users.iter().copied().chain([self.source]).max().unwrap_or(self.source)
    }
}

impl Rails {
    fn of(lines: &[Line<'_>], most: usize) -> Self {
        let at: BTreeMap<u32, usize> = lines
            .iter()
            .enumerate()
            .filter_map(
                |(number, line)| if let Line::Step(step) = line { Some((step.id, number)) } else { None },
            )
            .collect();
        let mut users: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (number, line) in lines.iter().enumerate() {
            let Line::Step(step) = line else { continue };
            for source in step.inputs.iter().filter_map(|input| at.get(input)) {
                if *source + 1 != number || !same_stage(lines, *source, number) {
                    users.entry(*source).or_default().push(number);
                }
            }
        }
        let mut rails: Vec<Rail> =
            users.into_iter().map(|(source, users)| Rail { column: 0, source, users }).collect();
        // Short rails stand near the text.
        rails.sort_by_key(|rail| (rail.last() - rail.first(), rail.first()));
        let mut placed: Vec<Rail> = Vec::new();
        let mut written = BTreeMap::new();
        for mut rail in rails {
            let free = |column: &usize| {
                !placed.iter().any(|other| {
                    other.column == *column && other.first() <= rail.last() && rail.first() <= other.last()
                })
            };
            match (0..most).find(free) {
                Some(column) => {
                    rail.column = column;
                    placed.push(rail);
                }
                None => {
                    let Line::Step(source) = &lines[rail.source] else { continue };
                    for user in rail.users {
                        let text: &mut String = written.entry(user).or_default();
                        let separator = if text.is_empty() { "" } else { ", " };
                        text.push_str(&format!("{separator}#{}", source.id));
                    }
                }
            }
        }
        let columns = placed.iter().map(|rail| rail.column + 1).max().unwrap_or(0);
        Self { rails: placed, columns, written }
    }

    /// What stands before a line: two characters for each column, the innermost at the right, and
    /// an arrow.
    fn line(&self, number: usize) -> String {
        let mut cells = vec![(' ', ' '); self.columns];
        let mut arrow = "  ";
        for rail in &self.rails {
            let cell = self.columns - 1 - rail.column;
            let (first, last) = (rail.first(), rail.last());
            if number < first || number > last {
                continue;
            }
            let touches = number == rail.source || rail.users.contains(&number);
            let own = match () {
                () if !touches => '│',
                () if number == first => '┌',
                () if number == last => '└',
                () => '├',
            };
            cells[cell].0 = match (cells[cell].0, own) {
                ('─', '│') => '┼',
                (_, own) => own,
            };
            if touches {
                cells[cell].1 = '─';
                for crossed in &mut cells[cell + 1..] {
                    crossed.0 = match crossed.0 {
                        ' ' => '─',
                        '│' => '┼',
                        '┌' => '┬',
                        '└' => '┴',
                        '├' => '┼',
                        other => other,
                    };
                    crossed.1 = '─';
                }
                arrow = match (number == rail.source, arrow) {
                    (_, "▶ ") | (false, _) => "▶ ",
                    (true, _) => "─ ",
                };
            }
        }
        let mut text: String = cells.iter().flat_map(|(rail, after)| [*rail, *after]).collect();
        if self.columns > 0 {
            text.push_str(arrow);
        }
        text
    }
}

fn same_stage(lines: &[Line<'_>], a: usize, b: usize) -> bool {
    match (&lines[a], &lines[b]) {
        (Line::Step(a), Line::Step(b)) => a.stage == b.stage && a.stage.is_some(),
        _ => false,
    }
}
