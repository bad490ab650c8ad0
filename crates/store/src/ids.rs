//! Names that are unique: of temporary files, and of this boot of the machine.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use dbuild_support::time::now_ms;

/// A short text that no other call gives, in this process or another.
pub(crate) fn unique() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let mut random = [0_u8; 8];
    // Without the kernel's random numbers, time, process and counter still differ.
    let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    let salt = u64::from_le_bytes(random) ^ now_ms().rotate_left(20) ^ u64::from(std::process::id());
    format!("{salt:016x}{count:04x}")
}

/// Identifies this boot of this machine.
pub(crate) fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}
