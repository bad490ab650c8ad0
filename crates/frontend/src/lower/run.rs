//! RUN.

use dbuild_plan::{Mount, MountKind, NetworkMode, RunStep, ScriptFile, SecurityMode, StepKind};

use super::capture::OutlineMount;
use super::graph::Origin;
use super::paths;
use super::stage::StageLowering;
use crate::ast::{CommandLine, Instruction, Run};
use crate::diagnostics::Diagnostic;
use crate::expand::Variables;
use crate::heredoc::{self, Heredoc};
use crate::mount_options::{self, MountOptions, MountType};

impl StageLowering<'_> {
    pub(super) fn run_command(&mut self, instruction: &Instruction, run: &Run) -> Result<(), Diagnostic> {
        if let Some(device) = run.devices.first() {
            return Err(Diagnostic::error(device.span, "`--device` is not supported")
                .note("devices would be passed into the step from this machine, which dbuild does not do"));
        }
        let (argv, script) = self.argv(instruction, run)?;
        let mut mounts = Vec::with_capacity(run.mounts.len());
        let mut sockets = 0;
        for word in &run.mounts {
            let options = mount_options::read(word, |value| self.expand(instruction, value))?;
            let mount = self.mount(instruction, options, &mut sockets)?;
            self.note_mount(instruction, &mount);
            mounts.push(mount);
        }
        let (env, args) = self.run_env(&mounts);
        let history = self.run_history(&argv);
        let network = match run.network.as_ref().map(|word| word.text.as_str()) {
            Some("none") => NetworkMode::None,
            Some("host") => NetworkMode::Host,
            _ => self.build.network,
        };
        let insecure = run.security.as_ref().is_some_and(|word| word.text == "insecure");
        let step = RunStep {
            parent: self.last,
            argv,
            script,
            env,
            args,
            proxies: self.proxies(),
            workdir: paths::entered(&self.workdir),
            user: self.config.user.clone(),
            mounts,
            network,
            security: if insecure { SecurityMode::Insecure } else { SecurityMode::Sandbox },
            extra_hosts: self.build.hosts.clone(),
            hostname: self.build.sandbox_hostname().map(str::to_owned),
        };
        self.extend(instruction, StepKind::Run(step));
        self.record(history, true);
        Ok(())
    }

    /// The command, with the shell where the form asks for it. A lone here-document is the shell's
    /// text, or a file if it begins with `#!`; others are handed to the shell as they are.
    fn argv(
        &self,
        instruction: &Instruction,
        run: &Run,
    ) -> Result<(Vec<String>, Option<ScriptFile>), Diagnostic> {
        let line = match &run.command {
            CommandLine::Exec(words) if words.is_empty() => {
                let error = Diagnostic::error(instruction.line.span, "the command is empty");
                return Err(error.help("write the program as the first element"));
            }
            CommandLine::Exec(_) => return Ok((self.with_shell(&run.command), None)),
            CommandLine::Shell(word) => word.as_ref().map_or("", |word| &word.text),
        };
        let Some(first) = instruction.heredocs.first() else {
            return Ok((self.shell_words(line), None));
        };
        if heredoc::announced(line).is_ok_and(|document| document.is_some()) {
            let body = first.body();
            if body.starts_with("#!") {
                let path = format!("/dev/pipes/{}", first.name);
                return Ok((self.shell_words(&path), Some(ScriptFile { path, content: body })));
            }
            return Ok((self.shell_words(&body), None));
        }
        Ok((self.shell_words(&with_documents(line, &instruction.heredocs)), None))
    }

    /// The environment, and the names in it that come from ARG.
    fn run_env(&self, mounts: &[Mount]) -> (Vec<(String, String)>, Vec<String>) {
        let mut env = self.env.clone();
        let socket = mounts.iter().find(|mount| matches!(mount.kind, MountKind::Ssh { .. }));
        if let Some(socket) = socket.filter(|_| env.get("SSH_AUTH_SOCK").is_none()) {
            env.set("SSH_AUTH_SOCK", &socket.target);
        }
        (env.pairs(), env.arg_names())
    }

    /// The proxies of the command line, which RUN gets undeclared, in both spellings.
    fn proxies(&self) -> Vec<(String, String)> {
        const NAMES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];
        let mut found = Vec::new();
        for name in NAMES {
            let mut values =
                self.build.args.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, v)| v);
            if let Some(value) = values.next_back() {
                found.push((name.to_owned(), value.clone()));
                found.push((name.to_ascii_lowercase(), value.clone()));
            }
        }
        found
    }

    /// `RUN |1 VERSION=1.2 /bin/sh -c make # buildkit`.
    fn run_history(&self, argv: &[String]) -> String {
        let mut args: Vec<(&str, &str)> = Vec::new();
        for (name, declared) in &self.args {
            let value = self.env.get(name).or(declared.as_deref()).unwrap_or_default();
            match args.iter_mut().find(|(other, _)| other == name) {
                Some(old) => old.1 = value,
                None => args.push((name, value)),
            }
        }
        let mut words = Vec::with_capacity(args.len() + argv.len() + 1);
        if !args.is_empty() {
            words.push(format!("|{}", args.len()));
        }
        words.extend(args.iter().map(|(name, value)| format!("{name}={value}")));
        words.extend(argv.iter().cloned());
        format!("RUN {} # buildkit", words.join(" "))
    }

    fn mount(
        &mut self,
        instruction: &Instruction,
        options: MountOptions,
        sockets: &mut usize,
    ) -> Result<Mount, Diagnostic> {
        match options.kind {
            MountType::Bind | MountType::Cache | MountType::Tmpfs => self.file_system(instruction, options),
            MountType::Secret => Ok(self.secret(options)),
            MountType::Ssh => {
                let target = if options.target.is_empty() {
                    format!("/run/buildkit/ssh_agent.{sockets}")
                } else {
                    paths::under(&self.workdir, &options.target)
                };
                *sockets += 1;
                let id = if options.id.is_empty() { "default".to_owned() } else { options.id };
                let kind = MountKind::Ssh {
                    id,
                    required: options.required,
                    mode: options.mode.unwrap_or(0o600),
                    uid: options.uid.unwrap_or(0),
                    gid: options.gid.unwrap_or(0),
                };
                Ok(Mount { target, kind })
            }
        }
    }

    /// For the outline.
    fn note_mount(&mut self, instruction: &Instruction, mount: &Mount) {
        let parameters = &mut self.shared.parameters;
        let (list, id, required) = match &mount.kind {
            MountKind::Secret { id, required, .. } => (&mut parameters.secrets, id, *required),
            MountKind::Ssh { id, required, .. } => (&mut parameters.ssh, id, *required),
            _ => return,
        };
        list.push(OutlineMount { id: id.clone(), required, span: instruction.line.span });
    }

    fn secret(&self, options: MountOptions) -> Mount {
        let named = [options.source.as_str(), options.id.as_str()].into_iter().find(|name| !name.is_empty());
        let id = named.unwrap_or_else(|| paths::base_name(&options.target)).to_owned();
        let env = options.env.map(|env| if env.is_empty() { id.clone() } else { env });
        let target = match (options.target.as_str(), &env) {
            ("", Some(_)) => String::new(),
            ("", None) => format!("/run/secrets/{}", paths::base_name(&id)),
            (target, _) => paths::under(&self.workdir, target),
        };
        let kind = MountKind::Secret {
            id,
            env,
            required: options.required,
            mode: options.mode.unwrap_or(0o400),
            uid: options.uid.unwrap_or(0),
            gid: options.gid.unwrap_or(0),
        };
        Mount { target, kind }
    }

    fn file_system(&mut self, instruction: &Instruction, options: MountOptions) -> Result<Mount, Diagnostic> {
        let target = paths::under(&self.workdir, &options.target);
        if target == "/" {
            let error = Diagnostic::error(options.span, "a mount cannot cover the root");
            return Err(error.help("give it a `target` below the root, such as `target=/src`"));
        }
        let source = paths::clean(&format!("/{}", options.source));
        let relative = source.trim_start_matches('/');
        let origin = match &options.from {
            Some(from) => Some(self.graph.mount_origin(from)?),
            None => None,
        };
        let kind = match options.kind {
            MountType::Tmpfs => MountKind::Tmpfs { size: options.size.filter(|size| *size > 0) },
            MountType::Cache => {
                let from = match origin.filter(|origin| *origin != Origin::Scratch) {
                    Some(origin) => Some(self.step_of(&origin, relative, instruction.span)?),
                    None => None,
                };
                let id = if options.id.is_empty() { paths::clean(&options.target) } else { options.id };
                MountKind::Cache {
                    id: match self.build.cache_mount_namespace() {
                        Some(namespace) => format!("{namespace}/{id}"),
                        None => id,
                    },
                    sharing: options.sharing.unwrap_or_default(),
                    from,
                    source,
                    readonly: options.readonly,
                    mode: options.mode.unwrap_or(0o755),
                    uid: options.uid.unwrap_or(0),
                    gid: options.gid.unwrap_or(0),
                }
            }
            _ => {
                let from = match origin {
                    Some(origin) => self.step_of(&origin, relative, instruction.span)?,
                    None => self.shared.context(None, relative, self.id, instruction.span),
                };
                MountKind::Bind { from, source, writable: !options.readonly }
            }
        };
        Ok(Mount { target, kind })
    }
}

/// The command and its here-documents as one text for the shell.
fn with_documents(line: &str, documents: &[Heredoc]) -> String {
    let mut text = line.to_owned();
    for document in documents {
        text.push_str(&format!("\n{}{}", document.content, document.name));
    }
    text
}
