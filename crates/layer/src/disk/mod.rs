//! The system calls under everything else: listing, opening, copying and setting metadata below one
//! directory, without ever following a symlink.

pub(crate) mod export;
pub(crate) mod hash;
pub(crate) mod materialize;
pub(crate) mod overlay_format;
pub(crate) mod scan_upper;

use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

use dbuild_support::io_context::{IoContext as _, IoError};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RawDir, ResolveFlags, StatxFlags, Timespec, Uid};
use rustix::io::Errno;

use crate::{Entry, FileStat, LayerError, Mtime, OverlayFormat, Ownership, TreePath, Xattrs};

/// The one extended attribute that layers keep.
pub(crate) const CAPABILITY: &str = "security.capability";

/// A directory below which files are reached by tree paths.
#[derive(Debug)]
pub(crate) struct Root {
    fd: OwnedFd,
    path: PathBuf,
    /// The user's, which can change at any moment.
    live: bool,
}

/// What the file system says of a path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stat {
    pub(crate) kind: FileType,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    pub(crate) blocks: u64,
    pub(crate) nlink: u32,
    pub(crate) ino: u64,
    pub(crate) dev: (u32, u32),
    pub(crate) rdev: (u32, u32),
    pub(crate) mtime: Mtime,
    pub(crate) ctime: Mtime,
}

/// A name in a directory, and what it is.
pub(crate) type Listed = (Box<[u8]>, Stat);

impl Stat {
    pub(crate) fn file_stat(&self) -> FileStat {
        FileStat {
            dev: u64::from(self.dev.0) << 32 | u64::from(self.dev.1),
            ino: self.ino,
            size: self.size,
            mtime_ns: nanoseconds(self.mtime),
            ctime_ns: nanoseconds(self.ctime),
            mode: self.kind.as_raw_mode() | self.mode,
        }
    }

    /// Whether a file has holes.
    pub(crate) fn is_sparse(&self) -> bool {
        self.blocks.saturating_mul(512) < self.size
    }
}

/// Since 1970.
pub(crate) fn nanoseconds(time: Mtime) -> i64 {
    time.secs.saturating_mul(1_000_000_000).saturating_add(i64::from(time.nanos))
}

impl Root {
    /// Opens a directory; symlinks on the way to it are followed, as it is the caller who names it.
    pub(crate) fn open(path: &Path, live: bool) -> Result<Self, LayerError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).on("open", path)?;
        Ok(Self { fd, path: path.to_owned(), live })
    }

    /// Opens the directory of a layer's files; one that is gone is damage.
    pub(crate) fn of_layer(path: &Path) -> Result<Self, LayerError> {
        Self::open(path, false).map_err(|error| match error {
            LayerError::Io(IoError { source, .. }) if is_gone(Errno::from_io_error(&source)) => {
                LayerError::Damaged { dir: path.to_owned(), path: TreePath::root(), why: "it is gone" }
            }
            error => error,
        })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where a path is, for messages.
    pub(crate) fn full(&self, path: &TreePath) -> PathBuf {
        if path.is_root() { self.path.clone() } else { self.path.join(path.as_path()) }
    }

    fn open_below(&self, path: &TreePath, flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        loop {
            match rustix::fs::openat2(&self.fd, path.as_path(), flags, Mode::empty(), resolve) {
                // A rename somewhere below raced with the look-up.
                Err(Errno::AGAIN) => {}
                other => return other,
            }
        }
    }

    pub(crate) fn open_dir(&self, path: &TreePath) -> Result<OwnedFd, LayerError> {
        self.open_below(path, OFlags::RDONLY | OFlags::DIRECTORY)
            .on("open", self.full(path))
            .map_err(LayerError::from)
    }

    /// Opens a regular file, without blocking on what is none.
    pub(crate) fn open_file(&self, path: &TreePath) -> Result<(File, Stat), LayerError> {
        let full = || self.full(path);
        let opened = self.open_below(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY);
        if let (Err(Errno::NXIO), true) = (&opened, self.live) {
            // A socket: as a context has it, an empty file.
            let stat = self.stat(path).on("stat", full())?;
            let empty = File::open("/dev/null").on("open", "/dev/null")?;
            return Ok((empty, Stat { kind: FileType::RegularFile, size: 0, ..stat }));
        }
        let file = match opened {
            Err(errno) if !self.live && is_gone(Some(errno)) => return Err(self.damaged(path, "it is gone")),
            opened => File::from(opened.on("open", full())?),
        };
        let stat = stat_fd(&file).on("stat", full())?;
        match stat.kind {
            FileType::RegularFile => Ok((file, stat)),
            _ if self.live => {
                let error = std::io::Error::other("it is no longer a regular file");
                Err(LayerError::from(IoError::new("read", full(), error)))
            }
            _ => Err(self.damaged(path, "it is no regular file")),
        }
    }

    /// Whether it is the user's, and can change at any moment.
    pub(crate) fn is_live(&self) -> bool {
        self.live
    }

    pub(crate) fn damaged(&self, path: &TreePath, why: &'static str) -> LayerError {
        LayerError::Damaged { dir: self.path.clone(), path: path.clone(), why }
    }

    /// The names in a directory with what they are, in no order.
    pub(crate) fn list(&self, dir: &TreePath) -> Result<Vec<Listed>, LayerError> {
        let fd = self.open_dir(dir)?;
        let mut buffer = [MaybeUninit::uninit(); 32 << 10];
        let mut raw = RawDir::new(&fd, &mut buffer);
        let mut listed = Vec::new();
        while let Some(next) = raw.next() {
            let next = next.on("read", self.full(dir))?;
            let name = next.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            match stat_at(&fd, name) {
                Ok(stat) => listed.push((name.to_bytes().into(), stat)),
                // It went away meanwhile: as if it had never been there.
                Err(Errno::NOENT) if self.live => {}
                Err(errno) => {
                    let name = String::from_utf8_lossy(name.to_bytes()).into_owned();
                    return Err(LayerError::from(IoError::new("stat", self.full(dir).join(name), errno)));
                }
            }
        }
        Ok(listed)
    }

    pub(crate) fn read_link(&self, path: &TreePath) -> Result<Box<[u8]>, LayerError> {
        let target = rustix::fs::readlinkat(&self.fd, path.as_path(), Vec::new());
        Ok(target.on("read", self.full(path))?.to_bytes().into())
    }

    pub(crate) fn stat(&self, path: &TreePath) -> Result<Stat, Errno> {
        stat_at(&self.fd, path.as_path())
    }
}

/// Whether there is nothing of that name, or a directory on the way is none.
pub(crate) fn is_gone(errno: Option<Errno>) -> bool {
    matches!(errno, Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP))
}

fn stat_at<P: rustix::path::Arg>(dir: impl AsFd, path: P) -> Result<Stat, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let stat = rustix::fs::statx(dir, path, flags, StatxFlags::BASIC_STATS)?;
    Ok(from_statx(&stat))
}

pub(crate) fn stat_fd(fd: impl AsFd) -> Result<Stat, Errno> {
    let stat = rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
    Ok(from_statx(&stat))
}

fn from_statx(stat: &rustix::fs::Statx) -> Stat {
    let time = |time: rustix::fs::StatxTimestamp| Mtime { secs: time.tv_sec, nanos: time.tv_nsec };
    Stat {
        kind: FileType::from_raw_mode(u32::from(stat.stx_mode)),
        mode: u32::from(stat.stx_mode) & 0o7777,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        size: stat.stx_size,
        blocks: stat.stx_blocks,
        nlink: stat.stx_nlink,
        ino: stat.stx_ino,
        dev: (stat.stx_dev_major, stat.stx_dev_minor),
        rdev: (stat.stx_rdev_major, stat.stx_rdev_minor),
        mtime: time(stat.stx_mtime),
        ctime: time(stat.stx_ctime),
    }
}

/// One extended attribute; `None` if it is not there or the file system has none.
pub(crate) fn get_xattr(fd: impl AsFd, name: &str) -> Result<Option<Box<[u8]>>, Errno> {
    let mut value = vec![0_u8; 256];
    loop {
        match rustix::fs::fgetxattr(&fd, name, &mut value[..]) {
            Ok(length) => return Ok(Some(value[..length].into())),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
            Err(Errno::RANGE) if value.len() < 1 << 16 => value.resize(1 << 16, 0),
            Err(errno) => return Err(errno),
        }
    }
}

/// What layers keep of a file's extended attributes.
pub(crate) fn kept_xattrs(fd: impl AsFd) -> Result<Xattrs, Errno> {
    let value = get_xattr(fd, CAPABILITY)?;
    Ok(value.into_iter().map(|value| (CAPABILITY.as_bytes().into(), value)).collect())
}

/// Gives an open file or directory that was just made its owner, mode, attributes and time, in the
/// order in which none undoes another. Answers what could not be given and was tolerated.
pub(crate) fn set_meta(
    fd: impl AsFd,
    entry: &Entry,
    form: OverlayFormat,
) -> Result<Option<&'static str>, Errno> {
    let mut missing = None;
    if (entry.uid, entry.gid) != own_ids() {
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        tolerate_owner(rustix::fs::fchown(&fd, Some(uid), Some(gid)), form)?;
    }
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(entry.mode))?;
    for (name, value) in &entry.xattrs {
        match rustix::fs::fsetxattr(&fd, &**name, value, rustix::fs::XattrFlags::empty()) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP | Errno::PERM) => missing = Some("its extended attributes"),
            Err(errno) => return Err(errno),
        }
    }
    rustix::fs::futimens(&fd, &times(entry.mtime))?;
    Ok(missing)
}

/// As [`set_meta`], for what cannot be opened: symlinks, FIFOs, devices. The
/// entry's path is relative to `dir`.
pub(crate) fn set_meta_at(dir: impl AsFd, entry: &Entry, form: OverlayFormat) -> Result<(), Errno> {
    let path = entry.path.as_path();
    if (entry.uid, entry.gid) != own_ids() {
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        let changed = rustix::fs::chownat(&dir, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW);
        tolerate_owner(changed, form)?;
    }
    if !matches!(entry.kind, crate::EntryKind::Symlink { .. }) {
        rustix::fs::chmodat(&dir, path, Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
    }
    rustix::fs::utimensat(&dir, path, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
}

fn tolerate_owner(result: Result<(), Errno>, form: OverlayFormat) -> Result<(), Errno> {
    match result {
        // EINVAL: the user namespace has no such id. EPERM: there is no namespace and no root.
        Err(Errno::INVAL | Errno::PERM) if form.ownership == Ownership::BestEffort => Ok(()),
        other => other,
    }
}

/// Whose a new file is.
pub(crate) fn own_ids() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

pub(crate) fn times(mtime: Mtime) -> rustix::fs::Timestamps {
    rustix::fs::Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT as _ },
        last_modification: Timespec { tv_sec: mtime.secs, tv_nsec: mtime.nanos.into() },
    }
}

/// Copies the bytes of a file of an immutable layer inside the kernel: a reflink where there are
/// any, else `copy_file_range`, holes kept. Answers how many bytes the copy has.
pub(crate) fn copy_bytes(from: &File, stat: &Stat, to: &File) -> std::io::Result<u64> {
    const REFLINK: u64 = 64 << 10;
    if stat.size >= REFLINK && rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(stat.size);
    }
    if !stat.is_sparse() {
        return copy_range(from, to, 0, stat.size);
    }
    let mut at = 0;
    while at < stat.size {
        let data = match rustix::fs::seek(from, rustix::fs::SeekFrom::Data(at)) {
            Ok(data) => data,
            // Only holes follow.
            Err(Errno::NXIO) => break,
            Err(_) => at,
        };
        let hole = rustix::fs::seek(from, rustix::fs::SeekFrom::Hole(data)).unwrap_or(stat.size);
        let hole = hole.clamp(data, stat.size);
        let copied = copy_range(from, to, data, hole - data)?;
        if copied < hole - data || hole == at {
            break;
        }
        at = hole;
    }
    to.set_len(stat.size)?;
    Ok(stat.size)
}

fn copy_range(from: &File, to: &File, start: u64, length: u64) -> std::io::Result<u64> {
    let (mut off_in, mut off_out) = (start, start);
    while off_in - start < length {
        let left = usize::try_from(length - (off_in - start)).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::copy_file_range(from, Some(&mut off_in), to, Some(&mut off_out), left) {
            Ok(0) => break,
            Ok(_) => {}
            Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL | Errno::IO)
                if off_in == start =>
            {
                return copy_by_hand(from, to, start, length);
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(off_in - start)
}

fn copy_by_hand(from: &File, to: &File, start: u64, length: u64) -> std::io::Result<u64> {
    use std::os::unix::fs::FileExt as _;
    let mut buffer = vec![0_u8; 256 << 10];
    let mut done = 0;
    while done < length {
        let want = buffer.len().min(usize::try_from(length - done).unwrap_or(usize::MAX));
        let got = from.read_at(&mut buffer[..want], start + done)?;
        if got == 0 {
            break;
        }
        to.write_all_at(&buffer[..got], start + done)?;
        done += got as u64;
    }
    Ok(done)
}

/// How many threads work on files side by side.
pub(crate) fn threads() -> usize {
    // To ask takes a look at the limits of all control groups.
    static CORES: LazyLock<usize> =
        LazyLock::new(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    (*CORES).min(8)
}

/// Does something with every item, on several threads if there are many, and gives the results in
/// order. The first error stops the rest.
pub(crate) fn parallel<T: Sync, R: Send, E: Send>(
    items: &[T],
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    const BATCH: usize = 32;
    let threads = threads().min(items.len().div_ceil(BATCH));
    if threads <= 1 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Vec<R>)>> = Mutex::new(Vec::new());
    let failed: Mutex<Option<E>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let start = next.fetch_add(BATCH, Ordering::Relaxed);
                    let Some(batch) = items.get(start..items.len().min(start + BATCH)) else { return };
                    match batch.iter().map(&work).collect() {
                        Ok(results) => {
                            done.lock().unwrap_or_else(PoisonError::into_inner).push((start, results));
                        }
                        Err(error) => {
                            next.store(items.len(), Ordering::Relaxed);
                            failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                        }
                    }
                    if batch.is_empty() {
                        return;
                    }
                }
            });
        }
    });
    if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(start, _)| *start);
    Ok(done.into_iter().flat_map(|(_, results)| results).collect())
}
