use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::thread;

use super::{Space, key};

#[test]
fn threads_exclude_each_other_per_key() {
    let space = Space::new();
    let store = space.open();
    let (inside, total) = (AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let _lock = store.lock_key(&key(1)).unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "alone");
                    thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                    total.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(total.load(Ordering::SeqCst), 400);
    let files = std::fs::read_dir(store.root().join("locks")).unwrap().count();
    assert_eq!(files, 0, "nothing is left");
}

#[test]
fn a_key_that_is_held_can_be_tried_and_given_up_on() {
    let space = Space::new();
    let (one, two) = (space.open(), space.open());
    let held = one.lock_key(&key(1)).unwrap();
    assert!(two.try_lock_key(&key(1)).unwrap().is_none());
    assert!(one.try_lock_key(&key(1)).unwrap().is_none(), "the same process, too");
    assert!(two.try_lock_key(&key(2)).unwrap().is_some(), "another key");
    assert!(two.lock_key_unless(&key(1), &|| true).unwrap().is_none());
    drop(held);
    assert!(two.lock_key_unless(&key(1), &|| true).unwrap().is_some());
}

#[test]
fn a_waiter_gets_the_lock_when_it_is_free() {
    let space = Space::new();
    let store = space.open();
    let held = store.lock_key(&key(1)).unwrap();
    let released = AtomicBool::new(false);
    let (waiting, is_waiting) = channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            waiting.send(()).unwrap();
            let _lock = store.lock_key(&key(1)).unwrap();
            assert!(released.load(Ordering::SeqCst));
        });
        is_waiting.recv().unwrap();
        released.store(true, Ordering::SeqCst);
        drop(held);
    });
}
