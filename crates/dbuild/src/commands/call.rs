//! `dbuild build` and what `--call` asks for in its place: what can be said of a Dockerfile without
//! building it.

use dbuild_events::NoEvents;
use dbuild_frontend::{Diagnostics, Outline, Source, TargetInfo, outline, parse, targets};
use serde_json::{Map, Value, json};

use super::findings::json::{base64, location};
use super::{build, check, print, print_json};
use crate::build::error_text::render_all;
use crate::build::flags::pull_policy;
use crate::build::inputs;
use crate::build::resolve_images::resolve;
use crate::cli::{BuildArgs, Call, FindingsFormat, Global, Method};
use crate::error::Error;
use crate::progress;
use crate::session::Session;

/// Builds, or answers.
pub(crate) fn run(global: &Global, flags: &BuildArgs) -> Result<(), Error> {
    let Call { method, json, ignore_status } = flags.call;
    // A build says so itself.
    if method != Method::Build || flags.check == Some(true) {
        crate::build::flags::warn_of_ignored(flags)?;
    }
    match method {
        _ if flags.check == Some(true) => {
            check::report(global, &flags.context, &flags.source, format(json), ignore_status)
        }
        Method::Build => build::run(global, flags),
        Method::Check => check::report(global, &flags.context, &flags.source, format(json), ignore_status),
        Method::Outline => show_outline(global, flags, json),
        Method::Targets => show_targets(flags, json),
    }
}

fn format(json: bool) -> FindingsFormat {
    if json { FindingsFormat::Json } else { FindingsFormat::Text }
}

fn show_targets(flags: &BuildArgs, as_json: bool) -> Result<(), Error> {
    let source = inputs::read_source(&flags.context, &flags.source)?.source;
    let ast =
        parse(&source).into_result().map_err(|errors| render_all(&errors, &source, progress::color()))?;
    let targets = targets(&ast);
    if !as_json {
        return print(&targets_text(&targets));
    }
    let of = |target: &TargetInfo| {
        let mut members = Map::new();
        put(&mut members, "name", target.name.as_deref());
        if target.default {
            members.insert("default".to_owned(), true.into());
        }
        put(&mut members, "description", target.description.as_deref());
        put(&mut members, "base", Some(&target.base));
        put(&mut members, "platform", target.platform.as_deref());
        members.insert("location".to_owned(), json!(location(target.span, &source)));
        Value::Object(members)
    };
    print_json(
        &json!({ "targets": targets.iter().map(of).collect::<Vec<_>>(), "sources": [base64(&source)] }),
    )
}

fn targets_text(targets: &[TargetInfo]) -> String {
    let row = |target: &TargetInfo| {
        let name = match (&target.name, target.default) {
            (Some(name), true) => format!("{name} (default)"),
            (Some(name), false) => name.clone(),
            (None, true) => "(default)".to_owned(),
            (None, false) => "(no name)".to_owned(),
        };
        [name, target.base.clone(), target.description.clone().unwrap_or_default()]
    };
    table(["TARGET", "BASE", "DESCRIPTION"], targets.iter().map(row))
}

fn show_outline(global: &Global, flags: &BuildArgs, as_json: bool) -> Result<(), Error> {
    let session = Session::open(global)?;
    let inputs = inputs::read_source(&flags.context, &flags.source)?;
    let source = &inputs.source;
    let bad = |errors: Diagnostics| render_all(&errors, source, progress::color());
    let ast = parse(source).into_result().map_err(bad)?;
    let policy = pull_policy(flags.source.pull);
    let images = resolve(&session, &ast, &inputs.args, policy, &NoEvents);
    let images = session.runtime.block_on(images).map_err(bad)?;
    let outline = outline(&ast, &inputs.args, &images.resolved).map_err(bad)?;
    if as_json { print_json(&outline_json(&outline, source)) } else { print(&outline_text(&outline)) }
}

fn outline_json(outline: &Outline, source: &Source) -> Value {
    let mut members = Map::new();
    put(&mut members, "name", outline.name.as_deref());
    put(&mut members, "description", outline.description.as_deref());
    let args = outline.args.iter().map(|arg| {
        let mut members = Map::new();
        put(&mut members, "name", Some(&arg.name));
        put(&mut members, "description", arg.description.as_deref());
        put(&mut members, "value", arg.value.as_deref().filter(|value| !value.is_empty()));
        members.insert("location".to_owned(), json!(location(arg.span, source)));
        Value::Object(members)
    });
    let args: Vec<Value> = args.collect();
    let mounts = |list: &[dbuild_frontend::OutlineMount]| {
        let mount = |mount: &dbuild_frontend::OutlineMount| {
            let mut members = Map::new();
            put(&mut members, "name", Some(&mount.id));
            if mount.required {
                members.insert("required".to_owned(), true.into());
            }
            members.insert("location".to_owned(), json!(location(mount.span, source)));
            Value::Object(members)
        };
        list.iter().map(mount).collect::<Vec<_>>()
    };
    for (name, list) in [("args", args), ("secrets", mounts(&outline.secrets)), ("ssh", mounts(&outline.ssh))]
    {
        if !list.is_empty() {
            members.insert(name.to_owned(), list.into());
        }
    }
    members.insert("sources".to_owned(), json!([base64(source)]));
    Value::Object(members)
}

/// Members without a value are left out.
fn put(members: &mut Map<String, Value>, name: &str, value: Option<&str>) {
    members.extend(value.map(|value| (name.to_owned(), value.into())));
}

fn outline_text(outline: &Outline) -> String {
    let mut parts = vec![format!("TARGET: {}", outline.name.as_deref().unwrap_or("(default)"))];
    if let Some(description) = &outline.description {
        parts[0].push_str(&format!("\nDESCRIPTION: {description}"));
    }
    if !outline.args.is_empty() {
        let rows = outline.args.iter().map(|arg| {
            [
                arg.name.clone(),
                arg.value.clone().unwrap_or_default(),
                arg.description.clone().unwrap_or_default(),
            ]
        });
        parts.push(table(["BUILD ARG", "VALUE", "DESCRIPTION"], rows));
    }
    for (title, list) in [("SECRET", &outline.secrets), ("SSH", &outline.ssh)] {
        let rows =
            list.iter().map(|mount| [mount.id.clone(), if mount.required { "true" } else { "" }.to_owned()]);
        if !list.is_empty() {
            parts.push(table([title, "REQUIRED"], rows));
        }
    }
    parts.join("\n\n")
}

/// Columns as wide as what is in them; no white space at the ends of lines.
fn table<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<[String; N]> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let width =
        |column: usize| rows.iter().map(|row| console::measure_text_width(&row[column])).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| {
            let pad = width - console::measure_text_width(cell);
            format!("{cell}{}", " ".repeat(pad))
        });
        cells.collect::<Vec<_>>().join("   ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}
