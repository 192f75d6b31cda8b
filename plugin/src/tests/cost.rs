//! What an event costs. `cargo test --release -- --ignored --nocapture cost` prints it.

use std::fs::read_to_string;
use std::time::Instant;

use super::Empty;
use super::runner::{Row, clone_child, execve, field, happen, play, raw};
use crate::tree::{Born, DEEPEST, Exec, Tree};

fn resident() -> usize {
    let pages = read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split(' ').nth(1).and_then(|each| each.parse::<usize>().ok()).unwrap_or_default() * 4096
}

fn live(tree: &mut Tree, pid: u32, parent: u32, time: u64) {
    tree.born(&Born { time, pid, parent, name: b"worker", vpid: pid, namespace: 1, as_sibling: false }, &Empty);
    tree.exec(&Exec { pid, parent, name: b"curl", file: b"/usr/bin/curl" }, &Empty);
}

#[test]
#[ignore = "measures memory: alone"]
fn ten_million_events_leave_memory_flat() {
    let mut tree = Tree::new(DEEPEST, 131_072);
    let rounds: u32 = if cfg!(debug_assertions) { 300_000 } else { 3_334_000 };
    let mut before = 0;
    for round in 0..rounds {
        let pid = 1 + round % 4_000_000;
        // Every child forks the next and ends: the longest line that there can be.
        live(&mut tree, pid, if pid == 1 { 0 } else { pid - 1 }, u64::from(round) * 100_000);
        tree.exited(pid, &Empty);
        if round == rounds / 4 {
            before = resident();
        }
    }
    assert!(resident() < before + (4 << 20), "{before} grew to {}", resident());
    assert!(tree.len() < 1100);
}

#[test]
#[ignore = "measures memory: alone"]
fn a_process_takes_less_than_a_kilobyte() {
    let before = resident();
    let mut tree = Tree::new(DEEPEST, 131_072);
    for pid in 1..=100_000_u32 {
        live(&mut tree, pid, if pid % 100 < 2 { 0 } else { pid - 1 }, u64::from(pid));
    }
    let each = (resident() - before) / 100_000;
    println!("memory: {each} bytes a process, in lines of a hundred");
    assert!(each < 1024, "{each}");
}

#[test]
#[ignore = "a benchmark"]
fn cost_of_an_event_under_the_runner() {
    const ROUNDS: i64 = 300_000;
    let servers = &[(5, 2, 80); 8];
    let mut runner = play(vec![Row(1, 0, c"init", c"/sbin/init", &[]), Row(2, 1, c"nginx", c"/nginx", servers)], c"");
    let mut time = |name: &str, make: &dyn Fn(i64) -> Vec<u8>| {
        let mut best = f64::MAX;
        for _ in 0..5 {
            let start = Instant::now();
            for round in 0..ROUNDS {
                happen(&mut runner, make(round));
            }
            best = best.min(start.elapsed().as_secs_f64() / 300_000.0 * 1e9);
        }
        println!("{name}: {best:.0} ns");
    };
    time("an event that is not ours (the runner itself)", &|round| raw(3, 1, round, &[]));
    time("a clone event, made and ignored by its type", &|round| {
        let mut event = clone_child(1, 10 + round % 5000, 2, "nginx");
        event[20] = 3;
        event
    });
    time("a clone event", &|round| clone_child(round.cast_unsigned() * 1000, 10 + round % 5000, 2, "nginx"));
    time("an exec event", &|round| execve(1, 10 + round % 5000, 2, "sh", "/usr/bin/dash"));
    let event = happen(&mut runner, execve(1, 20, 2, "sh", "/usr/bin/dash"));
    for name in ["lineage.pids", "lineage.serves", "lineage.packed"] {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            field(&mut runner, &event, name);
        }
        println!("{name}: {:.0} ns", start.elapsed().as_secs_f64() / 300_000.0 * 1e9);
    }
}
