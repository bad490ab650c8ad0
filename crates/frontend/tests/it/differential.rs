//! Our parser beside the crate `parse-dockerfile`, over the corpus and over files put together from
//! it: kinds, lines and words of the instructions. What differs stands in `differences.txt` with
//! its reason, and nothing else may.

use std::collections::{BTreeMap, BTreeSet};

use dbuild_frontend::{CommandLine, Copy, Instruction as Ours, InstructionKind, Source, Word, parse};
use parse_dockerfile::{
    Command, Flag, Instruction as Theirs, JsonOrStringArray, Source as CopySource, UnescapedString,
};

use crate::corpus;
use crate::mutate::Rng;

/// What both parsers tell of an instruction.
type Facts = Vec<(u32, String)>;

fn ours(text: &str) -> Result<Facts, String> {
    let source = Source::new("Dockerfile", text);
    let parsed = parse(&source);
    if let Some(error) = parsed.diagnostics.first() {
        return Err(error.message.clone());
    }
    let facts = |one: &Ours| (source.line_of(one.keyword.span.start), format!("{:?}", our_words(one)));
    Ok(parsed.ast.instructions.iter().map(facts).collect())
}

fn texts(words: &[Word]) -> Vec<String> {
    words.iter().map(|word| word.text.clone()).collect()
}

fn our_words(one: &Ours) -> Vec<String> {
    let keyword = one.keyword.text.to_uppercase();
    let rest =
        one.line.text[one.keyword.text.len()..].split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let words = match &one.kind {
        InstructionKind::Add(copy) | InstructionKind::Copy(copy) => our_copy(copy),
        InstructionKind::From(from) => {
            let name = from.name.as_ref().map(|(_, name)| name.text.clone());
            let platform = from.platform.as_ref().map(|platform| platform.text.clone());
            vec![from.image.text.clone(), format!("{name:?}"), format!("{platform:?}")]
        }
        InstructionKind::Cmd(command) | InstructionKind::Entrypoint(command) => our_command(command),
        InstructionKind::Run(run) => {
            let mut words: Vec<String> =
                run.mounts.iter().map(|mount| format!("mount={}", mount.text)).collect();
            words.extend(run.network.iter().map(|network| format!("network={}", network.text)));
            words.extend(our_command(&run.command));
            words
        }
        InstructionKind::Shell(words) | InstructionKind::Volume(words) => texts(words),
        InstructionKind::Onbuild(_) | InstructionKind::Healthcheck(_) => Vec::new(),
        _ => rest,
    };
    [vec![keyword], words].concat()
}

fn our_copy(copy: &Copy) -> Vec<String> {
    let mut flags = BTreeMap::new();
    for (name, value) in [("from", &copy.from), ("chown", &copy.chown), ("chmod", &copy.chmod)] {
        flags.extend(value.as_ref().map(|value| (name, value.text.clone())));
    }
    let documents = copy.documents.iter().map(|_| "<<".to_owned());
    [vec![format!("{flags:?}")], texts(&copy.sources), documents.collect(), vec![copy.dest.text.clone()]]
        .concat()
}

fn our_command(command: &CommandLine) -> Vec<String> {
    match command {
        CommandLine::Exec(words) => texts(words),
        CommandLine::Shell(_) => vec!["shell".to_owned()],
    }
}

fn theirs(text: &str) -> Result<Facts, String> {
    let source = Source::new("Dockerfile", text);
    let parsed = parse_dockerfile::parse(text).map_err(|error| error.to_string())?;
    let facts = |one: &Theirs<'_>| {
        let (at, words) = their_words(one);
        (source.line_of(at), format!("{words:?}"))
    };
    Ok(parsed.instructions.iter().map(facts).collect())
}

fn values(words: &[UnescapedString<'_>]) -> Vec<String> {
    words.iter().map(|word| word.value.to_string()).collect()
}

fn split(word: &UnescapedString<'_>) -> Vec<String> {
    word.value.split_whitespace().map(str::to_owned).collect()
}

/// Where the keyword stands, and what [`our_words`] says.
fn their_words(one: &Theirs<'_>) -> (usize, Vec<String>) {
    let flag = |flags: &[Flag<'_>], name: &str| {
        let found = flags.iter().find(|flag| flag.name.value == name)?;
        Some(found.value.as_ref().map_or(String::new(), |value| value.value.to_string()))
    };
    let (keyword, name, words) = match one {
        Theirs::Add(add) => (&add.add, "ADD", their_copy(&add.options, &add.src, &add.dest)),
        Theirs::Copy(copy) => (&copy.copy, "COPY", their_copy(&copy.options, &copy.src, &copy.dest)),
        Theirs::From(from) => {
            let name = from.as_.as_ref().map(|(_, name)| name.value.to_string());
            let platform = flag(&from.options, "platform");
            (
                &from.from,
                "FROM",
                vec![from.image.value.to_string(), format!("{name:?}"), format!("{platform:?}")],
            )
        }
        Theirs::Cmd(cmd) => (&cmd.cmd, "CMD", their_command(&cmd.arguments)),
        Theirs::Entrypoint(entry) => (&entry.entrypoint, "ENTRYPOINT", their_command(&entry.arguments)),
        Theirs::Run(run) => {
            let mounts = run.options.iter().filter(|flag| flag.name.value == "mount");
            let mount =
                |flag: &Flag<'_>| format!("mount={}", flag.value.as_ref().map_or("", |value| &value.value));
            let mut words: Vec<String> = mounts.map(mount).collect();
            words.extend(flag(&run.options, "network").map(|network| format!("network={network}")));
            words.extend(their_command(&run.arguments));
            (&run.run, "RUN", words)
        }
        Theirs::Shell(shell) => (&shell.shell, "SHELL", values(&shell.arguments)),
        Theirs::Volume(volume) => {
            let words = match &volume.arguments {
                JsonOrStringArray::Json(words) => values(&words.value),
                JsonOrStringArray::String(words) => values(words),
            };
            (&volume.volume, "VOLUME", words)
        }
        Theirs::Onbuild(onbuild) => (&onbuild.onbuild, "ONBUILD", Vec::new()),
        Theirs::Healthcheck(check) => (&check.healthcheck, "HEALTHCHECK", Vec::new()),
        Theirs::Arg(arg) => (&arg.arg, "ARG", split(&arg.arguments)),
        Theirs::Env(env) => (&env.env, "ENV", split(&env.arguments)),
        Theirs::Expose(expose) => (&expose.expose, "EXPOSE", values(&expose.arguments)),
        Theirs::Label(label) => (&label.label, "LABEL", split(&label.arguments)),
        Theirs::Maintainer(maintainer) => (&maintainer.maintainer, "MAINTAINER", split(&maintainer.name)),
        Theirs::Stopsignal(signal) => (&signal.stopsignal, "STOPSIGNAL", split(&signal.arguments)),
        Theirs::User(user) => (&user.user, "USER", split(&user.arguments)),
        Theirs::Workdir(dir) => (&dir.workdir, "WORKDIR", split(&dir.arguments)),
        other => panic!("an instruction that we do not know: {other:?}"),
    };
    (keyword.span.start, [vec![name.to_owned()], words].concat())
}

fn their_copy(options: &[Flag<'_>], sources: &[CopySource<'_>], dest: &UnescapedString<'_>) -> Vec<String> {
    let mut flags = BTreeMap::new();
    for flag in options.iter().filter(|flag| ["from", "chown", "chmod"].contains(&&*flag.name.value)) {
        flags.insert(
            flag.name.value.to_string(),
            flag.value.as_ref().map_or(String::new(), |v| v.value.to_string()),
        );
    }
    let paths = sources.iter().filter_map(|source| match source {
        CopySource::Path(path) => Some(path.value.to_string()),
        _ => None,
    });
    let documents = sources.iter().filter(|source| matches!(source, CopySource::HereDoc(_)));
    let (paths, documents) = (paths.collect::<Vec<_>>(), documents.map(|_| "<<".to_owned()).collect());
    [vec![format!("{flags:?}")], paths, documents, vec![dest.value.to_string()]].concat()
}

fn their_command(command: &Command<'_>) -> Vec<String> {
    match command {
        Command::Exec(words) => values(&words.value),
        _ => vec!["shell".to_owned()],
    }
}

/// In what the two differ, one line each.
fn differences(text: &str) -> Vec<String> {
    match (ours(text), theirs(text)) {
        (Ok(ours), Ok(theirs)) => {
            let longest = ours.len().max(theirs.len());
            let pairs = (0..longest).map(|index| (ours.get(index), theirs.get(index)));
            let differ = pairs.filter(|(ours, theirs)| ours != theirs);
            differ.take(1).map(|(ours, theirs)| format!("{ours:?} and {theirs:?}")).collect()
        }
        (Err(_), Err(_)) => Vec::new(),
        (Ok(_), Err(error)) => vec![format!("they refuse it: {}", error.lines().next().unwrap_or_default())],
        (Err(error), Ok(_)) => vec![format!("we refuse it: {error}")],
    }
}

/// `PATH: reason`; comments begin with `#`.
fn explained() -> BTreeMap<&'static str, &'static str> {
    let lines = include_str!("differences.txt").lines();
    lines.filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(": ")).collect()
}

#[test]
fn the_corpus_is_read_as_another_parser_reads_it() {
    let explained = explained();
    let mut unexplained = Vec::new();
    let mut seen = BTreeSet::new();
    let files = corpus("Dockerfile");
    assert!(files.len() > 300, "the corpus was found");
    for (path, text) in &files {
        let found = differences(text);
        if !found.is_empty() {
            seen.insert(path.as_str());
            if !explained.contains_key(path.as_str()) {
                unexplained.extend(found.into_iter().map(|difference| format!("{path}: {difference}")));
            }
        }
    }
    assert!(unexplained.is_empty(), "not explained in differences.txt:\n{}", unexplained.join("\n"));
    let stale: Vec<_> = explained.keys().filter(|path| !seen.contains(*path)).collect();
    assert!(stale.is_empty(), "explained, and not different any more: {stale:?}");
    assert!(explained.values().all(|reason| reason.len() > 10));
}

#[test]
fn files_put_together_are_read_alike() {
    let mut pieces: BTreeSet<String> = BTreeSet::new();
    for (_, text) in corpus("Dockerfile").iter().filter(|(_, text)| !text.contains("escape=")) {
        let source = Source::new("", text.as_str());
        let ast = parse(&source).ast;
        let kept = ast.instructions.iter().filter(|one| !matches!(one.kind, InstructionKind::From(_)));
        pieces.extend(kept.map(|one| source.slice(one.span).trim_end().to_owned()));
    }
    // What differs alone was looked at above.
    pieces.retain(|piece| differences(&format!("FROM scratch\n{piece}\n")).is_empty());
    assert!(pieces.len() > 300, "{}", pieces.len());
    let pieces: Vec<String> = pieces.into_iter().collect();
    let mut rng = Rng(11);
    for _ in 0..400 {
        let chosen: Vec<&str> = (0..1 + rng.below(8)).map(|_| rng.pick(&pieces).as_str()).collect();
        let text = format!("FROM scratch\n{}\n", chosen.join("\n"));
        let found = differences(&text);
        assert!(found.is_empty(), "{text}{found:?}");
    }
}
