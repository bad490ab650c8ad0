//! Hears of every call that names a path, notes which paths it asks for, and lets it go on.
//!
//! A path is walked here as the kernel is about to walk it, component by component, in the file
//! system as it is at that moment. So links that the process made lead where they lead, and each
//! component is noted with its directory as it is called in the root: what the next parent answers
//! there decides whether the process would see the same.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::program::{elf_machine_of, interpreter_of};
use crate::seccomp::traced::{Follow, PathArgument, TracedCall, by_number};
use crate::spec::Spec;
use crate::sys::{self, StoppedCall};
use crate::trace::question::{CONTENT, KIND, LISTING};
use crate::trace::{AskedPath, Trace};

/// Maximum number of paths; a step that asks for more is not traced.
const MOST_PATHS: usize = 300_000;
/// Maximum number of bytes of all paths.
const MOST_BYTES: usize = 24 << 20;
/// As the kernel has it.
const MOST_LINKS: usize = 40;
const LONGEST_PATH: usize = 4096;
/// A script's interpreter can be a script, four times.
const MOST_INTERPRETERS: usize = 5;

/// What stands at a path, as far as the walk must know.
#[derive(Clone)]
enum Component {
    Link(Vec<u8>),
    Plain,
    Absent,
}

/// Why what is noted is not all.
type Incomplete = String;

/// The tracer of one process and all that it starts.
pub(super) struct Tracer {
    listener: OwnedFd,
    /// The root of the process.
    root: OwnedFd,
    calls: HashMap<(u32, u32), TracedCall>,
    /// Places that do not belong to the root file system.
    mounts: Vec<Vec<u8>>,
    known: HashMap<Vec<u8>, Component>,
    /// Names that were made, moved or removed: looked at anew each time.
    changed: HashSet<Vec<u8>>,
    /// Names that may have been directories when they were moved or removed: so is all below them.
    moved: HashSet<Vec<u8>>,
    /// Questions that were walked since a name was last changed: they ask for nothing new.
    walked: HashSet<Vec<u8>>,
    /// The walk went through what `/proc` shows of its process.
    is_of_process: bool,
    asked: BTreeMap<Vec<u8>, u8>,
    bytes: usize,
    network: bool,
    incomplete: Option<Incomplete>,
}

impl Tracer {
    /// `pid` is the process that the listener belongs to.
    pub(super) fn new(listener: OwnedFd, pid: u32, spec: &Spec) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, format!("/proc/{pid}/root"), flags, Mode::empty())?;
        sys::take_turns(&listener);
        let standard = ["/proc", "/sys", "/dev"].into_iter();
        let files = [("/etc/hosts", &spec.hosts), ("/etc/resolv.conf", &spec.resolv_conf)];
        let files = files.into_iter().filter(|(_, file)| file.is_some()).map(|(path, _)| path);
        let mounts = standard.chain(files).chain(spec.mounts.iter().map(|mount| mount.target.as_str()));
        Ok(Self {
            listener,
            root,
            calls: by_number(),
            mounts: mounts.map(|target| clean(target.as_bytes())).collect(),
            known: HashMap::new(),
            changed: HashSet::new(),
            moved: HashSet::new(),
            walked: HashSet::new(),
            is_of_process: false,
            asked: BTreeMap::new(),
            bytes: 0,
            network: false,
            incomplete: None,
        })
    }

    pub(super) fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Takes one call and lets it go on.
    pub(super) fn serve(&mut self) {
        let call = match sys::next_stopped_call(&self.listener) {
            Ok(Some(call)) => call,
            Ok(None) => return,
            Err(error) => return self.give_up(format!("its calls could not be received: {error}")),
        };
        if self.incomplete.is_none()
            && let Err(reason) = self.note(&call)
        {
            self.give_up(reason);
        }
        if let Err(error) = sys::let_call_go_on(&self.listener, &call) {
            self.give_up(format!("its calls could not be continued: {error}"));
        }
    }

    fn give_up(&mut self, reason: Incomplete) {
        self.incomplete.get_or_insert(reason);
    }

    pub(super) fn into_trace(self) -> Trace {
        let Self { asked, network, incomplete, .. } = self;
        let paths = match &incomplete {
            Some(_) => Vec::new(),
            None => asked.into_iter().map(|(path, questions)| AskedPath { path, questions }).collect(),
        };
        Trace { paths, network, incomplete }
    }

    fn note(&mut self, call: &StoppedCall) -> Result<(), Incomplete> {
        let Some(known) = self.calls.get(&(call.arch, call.number)).copied() else {
            return Err(format!("it made a call ({}) that is not understood", call.number));
        };
        match known {
            TracedCall::Path(argument) => self.path(call, argument, false).map(drop),
            TracedCall::Paths(first, second) => {
                self.path(call, first, false)?;
                self.path(call, second, false).map(drop)
            }
            TracedCall::Open(dir, path, flags) => self.open(call, dir, path, call.arguments[flags]),
            TracedCall::OpenHow => {
                let mut how = [0; 24];
                match sys::read_memory(call.pid, call.arguments[2], &mut how) {
                    Ok(24) => {}
                    Ok(_) => return Ok(()),
                    Err(error) => return unreadable(&error),
                }
                let word = |at: usize| {
                    how[at..at + 8].iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte))
                };
                if word(16) & u64::from(ResolveFlags::IN_ROOT.bits()) != 0 {
                    return Err("it opened files with a root of its own (openat2)".to_owned());
                }
                self.open(call, Some(0), 1, word(0))
            }
            TracedCall::Exec(argument) => self.exec(call, argument),
            TracedCall::Network => {
                self.network = true;
                Ok(())
            }
            TracedCall::NewRoot => Err("it changed its root directory (chroot)".to_owned()),
        }
    }

    fn open(
        &mut self,
        call: &StoppedCall,
        dir: Option<usize>,
        path: usize,
        flags: u64,
    ) -> Result<(), Incomplete> {
        let has = |flag: i32| flags & u64::from(flag.cast_unsigned()) != 0;
        let exclusive = has(libc::O_CREAT) && has(libc::O_EXCL);
        let follow = if has(libc::O_NOFOLLOW) || exclusive { Follow::Never } else { Follow::Always };
        // A descriptor of a directory can be listed; one of a path alone cannot.
        let questions = if has(libc::O_PATH) { CONTENT } else { CONTENT | LISTING };
        let argument = PathArgument { dir, path, questions, follow, changes_name: false };
        self.path(call, argument, false).map(drop)
    }

    /// The program, and those that the kernel needs to start it.
    fn exec(&mut self, call: &StoppedCall, argument: PathArgument) -> Result<(), Incomplete> {
        let Some(mut path) = self.path(call, argument, true)? else { return Ok(()) };
        for _ in 0..MOST_INTERPRETERS {
            let Some(file) = self.open_file(&path) else { return Ok(()) };
            if let Some(machine) = elf_machine_of(&file)
                && !matches!(
                    (machine.as_str(), std::env::consts::ARCH),
                    ("x86", "x86_64") | ("arm", "aarch64")
                )
            {
                return Err(format!("it executed a program for {machine}"));
            }
            let Ok(Some(interpreter)) = interpreter_of(&file) else { return Ok(()) };
            let base = self.directory(call.pid, None, interpreter.as_bytes())?;
            let Some(base) = base else { return Ok(()) };
            let found = self.walk(call.pid, base, interpreter.as_bytes(), true, CONTENT, false)?;
            let Some(found) = found else { return Ok(()) };
            path = found;
        }
        Ok(())
    }

    fn open_file(&self, path: &[u8]) -> Option<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
        rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve).ok().map(File::from)
    }

    /// Notes a path among the arguments; gives it without links, if it is one of the root's.
    /// Where that was found out before, it is found out again for what is executed alone.
    fn path(
        &mut self,
        call: &StoppedCall,
        argument: PathArgument,
        executes: bool,
    ) -> Result<Option<Vec<u8>>, Incomplete> {
        let PathArgument { dir, path, questions, follow, changes_name } = argument;
        if call.arguments[path] == 0 {
            return Ok(None);
        }
        let text = match read_text(call.pid, call.arguments[path]) {
            Ok(Some(text)) => text,
            Ok(None) => return Ok(None),
            Err(error) => return unreadable(&error),
        };
        let has = |(argument, bit): (usize, u64)| call.arguments[argument] & bit != 0;
        let follow = match follow {
            Follow::Always => true,
            Follow::Never => false,
            Follow::Unless(argument, bit) => !has((argument, bit)),
            Follow::If(argument, bit) => has((argument, bit)),
        };
        let dir = dir.map(|dir| call.arguments[dir]);
        let Some(base) = self.directory(call.pid, dir, &text)? else { return Ok(None) };
        if text.is_empty() {
            // The descriptor itself (AT_EMPTY_PATH), or an error.
            return Ok(if dir.is_some() && self.ask(&base, questions)? { Some(base) } else { None });
        }
        if changes_name {
            self.walked.clear();
            return self.walk(call.pid, base, &text, follow, questions, true);
        }
        let question = [&[questions, u8::from(follow)], base.as_slice(), &[0], text.as_slice()].concat();
        if self.walked.contains(&question) && !executes {
            return Ok(None);
        }
        self.is_of_process = false;
        let found = self.walk(call.pid, base, &text, follow, questions, false)?;
        if self.walked.len() >= MOST_PATHS {
            self.walked.clear();
        }
        // What a process is to itself is another thing each time.
        if !std::mem::take(&mut self.is_of_process) {
            self.walked.insert(question);
        }
        Ok(found)
    }

    /// Where a path starts: the root, the working directory, or that of a descriptor. `None` where
    /// nothing can be found.
    fn directory(&self, pid: u32, dir: Option<u64>, text: &[u8]) -> Result<Option<Vec<u8>>, Incomplete> {
        if text.starts_with(b"/") {
            return Ok(Some(Vec::new()));
        }
        let number = dir.map(|dir| dir as i32).filter(|number| *number != libc::AT_FDCWD);
        let place = match number {
            Some(number) => format!("/proc/{pid}/fd/{number}"),
            None => format!("/proc/{pid}/cwd"),
        };
        match self.magic_link(&place)? {
            Some(path) => Ok(Some(path)),
            None if text.split(|byte| *byte == b'/').any(|part| part == b"..") => {
                Err("it went up from a directory that was removed".to_owned())
            }
            None => Ok(None),
        }
    }

    /// Where a link of `/proc` leads; `None` if that is no path of the root.
    fn magic_link(&self, place: &str) -> Result<Option<Vec<u8>>, Incomplete> {
        let target = match rustix::fs::readlinkat(CWD, place, Vec::new()) {
            Ok(target) => target.into_bytes(),
            // No such descriptor, or the process is gone.
            Err(Errno::NOENT | Errno::SRCH) => return Ok(None),
            Err(error) => return Err(format!("its descriptors cannot be looked at: {error}")),
        };
        if !target.starts_with(b"/") {
            return Ok(None);
        }
        let path = clean(&target);
        if target.ends_with(b" (deleted)") && matches!(self.look_live(&path), Component::Absent) {
            return Ok(None);
        }
        Ok(Some(path))
    }

    /// Walks a path from a directory and notes each component. Gives where it leads, if it leads to
    /// something or could be made there.
    fn walk(
        &mut self,
        pid: u32,
        mut at: Vec<u8>,
        text: &[u8],
        follow: bool,
        questions: u8,
        changes_name: bool,
    ) -> Result<Option<Vec<u8>>, Incomplete> {
        let mut pending = parts(text);
        let mut links = 0;
        // Whether something above was moved: then nothing that was known holds.
        let mut live = self.is_moved(&at);
        while let Some(part) = pending.pop_front() {
            match part.as_slice() {
                b"." => continue,
                b".." => {
                    at.truncate(at.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
                    continue;
                }
                _ => {}
            }
            let is_last = pending.is_empty();
            let mut next = at.clone();
            if !next.is_empty() {
                next.push(b'/');
            }
            next.extend_from_slice(&part);
            if let Some(found) = self.of_process(pid, &next, is_last && !follow)? {
                self.is_of_process = true;
                let Some(path) = found else { return Ok(None) };
                links += 1;
                if links > MOST_LINKS {
                    return Ok(None);
                }
                live = self.is_moved(&path);
                at = path;
                continue;
            }
            live = live || self.moved.contains(&next);
            match self.look(&next, live) {
                Component::Link(target) if !is_last || follow => {
                    self.ask(&next, if is_last { questions & !LISTING } else { KIND })?;
                    links += 1;
                    if links > MOST_LINKS {
                        return Ok(None);
                    }
                    if target.starts_with(b"/") {
                        at.clear();
                    }
                    let mut new = parts(&target);
                    new.append(&mut pending);
                    pending = new;
                    live = self.is_moved(&at);
                }
                Component::Absent if !is_last => {
                    self.ask(&next, KIND)?;
                    return Ok(None);
                }
                _ => {
                    if !is_last {
                        self.ask(&next, KIND)?;
                    } else if changes_name {
                        self.known.remove(&next);
                        if questions & LISTING != 0 {
                            self.moved.insert(next.clone());
                        }
                        self.changed.insert(next.clone());
                    }
                    at = next;
                }
            }
        }
        Ok(self.ask(&at, questions)?.then_some(at))
    }

    /// What `/proc` shows of a process. The outer `None`: it is no link that only the kernel can
    /// follow. The inner: it leads to no path of the root.
    fn of_process(
        &self,
        pid: u32,
        path: &[u8],
        is_asked_itself: bool,
    ) -> Result<Option<Option<Vec<u8>>>, Incomplete> {
        let Some(below) = path.strip_prefix(b"proc/") else { return Ok(None) };
        let parts: Vec<&[u8]> = below.split(|byte| *byte == b'/').collect();
        let own = matches!(parts[0], b"self" | b"thread-self");
        if own && parts.len() == 1 {
            // A directory here, whatever it is to others.
            return Ok(if is_asked_itself { None } else { Some(Some(path.to_vec())) });
        }
        let is_magic =
            parts[1..].iter().any(|part| matches!(*part, b"fd" | b"cwd" | b"root" | b"exe" | b"map_files"));
        if !is_magic || is_asked_itself {
            return Ok(None);
        }
        match parts[1..] {
            [b"fd"] if own => Ok(Some(Some(path.to_vec()))),
            [b"fd"] => Ok(None),
            [b"fd", number] if own && number.iter().all(u8::is_ascii_digit) => {
                let number = String::from_utf8_lossy(number);
                self.magic_link(&format!("/proc/{pid}/fd/{number}")).map(Some)
            }
            [b"cwd"] if own => self.magic_link(&format!("/proc/{pid}/cwd")).map(Some),
            [b"exe"] if own => self.magic_link(&format!("/proc/{pid}/exe")).map(Some),
            [b"root"] if own => Ok(Some(Some(Vec::new()))),
            [b"cwd", ..]
            | [b"root", ..]
            | [b"exe", ..]
            | [b"fd", ..]
            | [b"map_files", ..]
            | [b"task", ..] => Err("it opened files of a process through /proc".to_owned()),
            _ => Ok(None),
        }
    }

    fn is_moved(&self, path: &[u8]) -> bool {
        !self.moved.is_empty()
            && (self.moved.contains(path)
                || (0..path.len()).any(|at| path[at] == b'/' && self.moved.contains(&path[..at])))
    }

    fn look(&mut self, path: &[u8], live: bool) -> Component {
        if live || self.changed.contains(path) {
            return self.look_live(path);
        }
        if let Some(known) = self.known.get(path) {
            return known.clone();
        }
        let found = self.look_live(path);
        if self.known.len() >= 2 * MOST_PATHS {
            self.known.clear();
        }
        // A file that is absent can be made by opening it, which changes nothing for a walk.
        self.known.insert(path.to_vec(), found.clone());
        found
    }

    fn look_live(&self, path: &[u8]) -> Component {
        match rustix::fs::readlinkat(&self.root, path, Vec::new()) {
            Ok(target) => Component::Link(target.into_bytes()),
            Err(Errno::INVAL) => Component::Plain,
            Err(_) => Component::Absent,
        }
    }

    /// Notes a question. False: the path is not of the root file system.
    fn ask(&mut self, path: &[u8], questions: u8) -> Result<bool, Incomplete> {
        let is_below = |mount: &Vec<u8>| {
            path.strip_prefix(mount.as_slice()).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        if self.mounts.iter().any(is_below) {
            return Ok(false);
        }
        if let Some(known) = self.asked.get_mut(path) {
            *known |= questions;
            return Ok(true);
        }
        self.bytes += path.len();
        if self.asked.len() >= MOST_PATHS || self.bytes > MOST_BYTES {
            return Err(format!("it asked for more than {MOST_PATHS} paths"));
        }
        self.asked.insert(path.to_vec(), questions);
        Ok(true)
    }
}

/// Memory that cannot be read is either no memory, and the call fails, or not for us to read.
fn unreadable<T: Default>(error: &io::Error) -> Result<T, Incomplete> {
    match error.raw_os_error() {
        Some(libc::EFAULT | libc::ESRCH | libc::EINVAL) => Ok(T::default()),
        _ => Err(format!("its memory cannot be read: {error}")),
    }
}

/// A text of another process, without its NUL; `None` if it is longer than a path can be.
fn read_text(pid: u32, address: u64) -> io::Result<Option<Vec<u8>>> {
    /// What is read at once never crosses into a page that may not be there.
    const PAGE: u64 = 4096;
    let mut text = Vec::new();
    let mut buffer = [0; 512];
    while text.len() <= LONGEST_PATH {
        let at = address.wrapping_add(text.len() as u64);
        let most = usize::try_from(PAGE - at % PAGE).unwrap_or(1).min(buffer.len());
        let read = sys::read_memory(pid, at, &mut buffer[..most])?;
        if read == 0 {
            return Err(io::Error::from_raw_os_error(libc::EFAULT));
        }
        match buffer[..read].iter().position(|byte| *byte == 0) {
            Some(end) => {
                text.extend_from_slice(&buffer[..end]);
                return Ok(Some(text));
            }
            None => text.extend_from_slice(&buffer[..read]),
        }
    }
    Ok(None)
}

/// The components of a path; one that ends with a slash ends with `.`, so that what stands before
/// it is not the last.
fn parts(text: &[u8]) -> VecDeque<Vec<u8>> {
    let mut parts: VecDeque<Vec<u8>> =
        text.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).map(<[u8]>::to_vec).collect();
    if text.ends_with(b"/") {
        parts.push_back(b".".to_vec());
    }
    parts
}

/// A path of the root without slashes at its ends.
fn clean(path: &[u8]) -> Vec<u8> {
    let parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    let mut path = PathBuf::new();
    parts.for_each(|part| path.push(std::ffi::OsStr::from_bytes(part)));
    path.into_os_string().into_vec()
}
