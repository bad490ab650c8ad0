//! The socket of `RUN --mount=type=ssh`: it has the owner and mode that the mount asks for, and
//! leads to the agent's.
//!
//! The agent's own socket is not mounted: it belongs to the user who started the agent, and accepts
//! nobody else. What comes in here is handed on by dbuild, which is that user, byte for byte and
//! unread.

use std::fs::{DirBuilder, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, JoinSet};

use crate::steps::run::owner::set_owner;

/// More connections wait for one of these to end.
const MOST_CONNECTIONS: usize = 64;

/// A socket for one step. Dropped, it is gone with its connections.
pub(crate) struct AgentSocket {
    dir: PathBuf,
    task: JoinHandle<()>,
}

impl AgentSocket {
    /// Makes the directory `dir`, which nobody else can enter, with a socket in it.
    pub(crate) fn new(
        runtime: &Handle,
        agent: PathBuf,
        dir: PathBuf,
        (mode, uid, gid): (u32, u32, u32),
    ) -> std::io::Result<Self> {
        DirBuilder::new().mode(0o700).create(&dir)?;
        let made = listen(&dir, mode, uid, gid);
        let listener = made.inspect_err(|_| remove(&dir))?;
        let entered = runtime.enter();
        let listener = UnixListener::from_std(listener).inspect_err(|_| remove(&dir))?;
        drop(entered);
        Ok(Self { dir, task: runtime.spawn(serve(listener, agent)) })
    }

    /// What to mount.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join("agent")
    }
}

impl Drop for AgentSocket {
    fn drop(&mut self) {
        self.task.abort();
        remove(&self.dir);
    }
}

/// What is left goes with the store's scratch directory.
fn remove(dir: &Path) {
    let _ = std::fs::remove_dir_all(dir);
}

fn listen(dir: &Path, mode: u32, uid: u32, gid: u32) -> std::io::Result<std::os::unix::net::UnixListener> {
    // The address of a socket holds a hundred characters, and a store may lie deeper.
    let open = File::open(dir)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/agent", open.as_raw_fd()));
    let listener = std::os::unix::net::UnixListener::bind(&path)?;
    listener.set_nonblocking(true)?;
    set_owner(&path, mode, uid, gid)?;
    Ok(listener)
}

async fn serve(listener: UnixListener, agent: PathBuf) {
    let mut connections = JoinSet::new();
    loop {
        let client = match listener.accept().await {
            Ok((client, _)) => client,
            Err(error) => return tracing::warn!("the socket of an ssh agent is closed: {error}"),
        };
        while connections.len() >= MOST_CONNECTIONS {
            connections.join_next().await;
        }
        while connections.try_join_next().is_some() {}
        connections.spawn(hand_on(client, agent.clone()));
    }
}

async fn hand_on(mut client: UnixStream, agent: PathBuf) {
    let handed = async {
        let mut agent = UnixStream::connect(&agent).await?;
        tokio::io::copy_bidirectional(&mut client, &mut agent).await
    };
    // The command sees its connection closed, as from an agent that is gone.
    if let Err(error) = handed.await {
        tracing::debug!("an ssh agent does not answer: {error}");
    }
}
