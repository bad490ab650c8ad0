//! `dbuild graph`: the steps of a Dockerfile, or of a build, as a graph.

use dbuild_events::{Event, NoEvents, Stamped};
use dbuild_report::{Build, graph};
use dbuild_scheduler::Canceller;

use super::{print, print_json};
use crate::build::inputs;
use crate::build::prepare::{announce, prepare};
use crate::cli::{Global, GraphArgs, GraphFormat};
use crate::error::Error;
use crate::past_build::read_build;
use crate::session::Session;
use crate::signals::cancel_on_signal;

/// Where no terminal says how wide it is.
const WIDTH: usize = 100;

/// `dbuild graph`.
pub(crate) fn run(global: &Global, args: &GraphArgs) -> Result<(), Error> {
    crate::build::flags::warn_of_ignored(&args.flags)?;
    let session = Session::open(global)?;
    let build = match &args.build {
        Some(id) => read_build(&session.store, Some(id))?.1,
        None => planned(&session, args)?,
    };
    if args.json {
        return print_json(&build);
    }
    let text = match args.format {
        GraphFormat::Text => graph::text(&build, width()),
        GraphFormat::Dot => graph::dot(&build),
        GraphFormat::Mermaid => graph::mermaid(&build),
        GraphFormat::Svg => graph::svg(&build),
    };
    print(text.trim_end())
}

/// What would be built, from the Dockerfile alone.
fn planned(session: &Session, args: &GraphArgs) -> Result<Build, Error> {
    let strategy = dbuild_cache::strategy(&args.flags.strategy).map_err(Error::usage)?;
    let inputs = inputs::read(session, &args.flags)?;
    let (canceller, cancel) = Canceller::new();
    let (_, lowered) = session.runtime.block_on(async {
        let signals = tokio::spawn(cancel_on_signal(canceller));
        let prepared = prepare(session, &args.flags, &inputs, &NoEvents, cancel).await;
        signals.abort();
        prepared
    })?;
    // Any text is an id, and nobody is shown this one.
    let Ok(nobody) = "".parse();
    let source = &inputs.source;
    let read = Event::DockerfileRead { name: source.name.clone(), text: source.text.clone() };
    let events = [announce(nobody, &lowered, source, strategy), read];
    Ok(Build::of(&events.map(|event| Stamped { at_ms: 0, event })))
}

/// The width of the terminal that the text goes to.
pub(crate) fn width() -> usize {
    let term = console::Term::stdout();
    match term.size_checked() {
        Some((_, columns)) => usize::from(columns).max(20),
        None => WIDTH,
    }
}
