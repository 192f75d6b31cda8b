//! Laws of the tree, on random histories and on the histories that once went wrong elsewhere.

use super::Empty;
use super::machine::{Living, Machine, kept};
use crate::tree::{Announced, Born, DEEPEST, Exec, Forked, Origin, Process, Tree};

fn line(process: &Process) -> Vec<(u32, u64, String)> {
    let name = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    process.line.ancestors.iter().map(|each| (each.pid, each.start, name(&each.image.name))).collect()
}

fn is_right(process: &Process, living: &Living) -> bool {
    line(process) == kept(&living.line)
        && process.line.depth as usize == living.line.len()
        && process.start == living.start
        && *process.image.name == *living.name.as_bytes()
}

fn born(pid: u32, parent: u32, time: u64) -> Born<'static> {
    Born { time, pid, parent, name: b"", vpid: pid, namespace: 1 }
}

fn tree_with_init() -> Tree {
    let mut tree = Tree::new(DEEPEST, 100_000);
    tree.born(&born(1, 0, 1), &Empty);
    tree
}

#[test]
fn every_process_has_its_true_ancestors_whatever_happened_to_them() {
    for seed in 0..super::times("MACHINES", 400) {
        let mut machine = Machine::new(seed, 0);
        let mut tree = Tree::new(DEEPEST, 100_000);
        tree.adopt(1, Origin::Proc, &machine);
        for _ in 0..600 {
            machine.step(&mut tree);
        }
        for (pid, living) in &machine.living {
            let process = tree.get(*pid).unwrap_or_else(|| panic!("seed {seed}: {pid} is not known"));
            assert!(is_right(process, living), "seed {seed}: {pid} has {:?}, not {:?}", line(process), living.line);
            assert_eq!(process.entered, living.entered, "seed {seed}: {pid}");
        }
    }
}

#[test]
fn what_lost_events_spoil_is_a_small_part_and_the_rest_is_right() {
    let (mut wrong, mut unmarked, mut all) = (0, 0, 0);
    for seed in 0..300 {
        let mut machine = Machine::new(seed, 200);
        let mut tree = Tree::new(DEEPEST, 100_000);
        tree.adopt(1, Origin::Proc, &machine);
        for _ in 0..600 {
            machine.step(&mut tree);
        }
        for (pid, living) in &machine.living {
            all += 1;
            let Some(process) = tree.find(*pid, &machine) else { panic!("seed {seed}: {pid}") };
            if !is_right(process, living) {
                wrong += 1;
                let is_marked = process.origin == Origin::Lost
                    || process.line.ancestors.iter().any(|each| each.origin == Origin::Lost);
                unmarked += usize::from(!is_marked && !living.tainted);
            }
        }
    }
    assert!(wrong * 10 < all, "{wrong} of {all}");
    assert!(unmarked * 100 < all, "{unmarked} of {all} are wrong without a word");
}

#[test]
fn a_parent_that_ends_before_its_child_runs_in_a_container_is_still_its_parent() {
    let mut tree = tree_with_init();
    let inside = |pid, parent, vpid, time| Born { time, pid, parent, name: b"", vpid, namespace: 7 };
    tree.born(&inside(10, 1, 1, 2), &Empty);
    tree.born(&inside(11, 10, 2, 3), &Empty);
    tree.announced(&Announced { time: 4, parent: 11, vpid: 3 });
    tree.exited(11);
    tree.born(&inside(12, 10, 3, 5), &Empty);
    assert_eq!(line(tree.get(12).unwrap()).iter().map(|each| each.0).collect::<Vec<_>>(), [1, 10, 11]);
}

#[test]
fn what_was_announced_in_another_namespace_or_long_ago_does_not_count() {
    let mut tree = tree_with_init();
    let inside = |pid, parent, vpid, time| Born { time, pid, parent, name: b"", vpid, namespace: 7 };
    tree.born(&inside(10, 1, 1, 2), &Empty);
    tree.born(&inside(11, 10, 2, 3), &Empty);
    tree.born(&Born { namespace: 8, ..inside(21, 1, 1, 2) }, &Empty);
    tree.announced(&Announced { time: 4, parent: 21, vpid: 3 });
    tree.announced(&Announced { time: 4, parent: 11, vpid: 4 });
    tree.born(&inside(12, 10, 3, 5), &Empty);
    tree.born(&inside(13, 10, 4, 5_000_000_000), &Empty);
    for pid in [12, 13] {
        assert_eq!(line(tree.get(pid).unwrap()).iter().map(|each| each.0).collect::<Vec<_>>(), [1, 10]);
    }
}

#[test]
fn setsid_a_double_fork_and_dead_parents_change_nothing() {
    let mut tree = tree_with_init();
    tree.born(&born(10, 1, 2), &Empty);
    tree.exec(&Exec { pid: 10, parent: 1, name: b"nginx", file: b"/usr/sbin/nginx" }, &Empty);
    tree.born(&born(11, 10, 3), &Empty);
    tree.born(&born(12, 11, 4), &Empty);
    tree.exited(11);
    tree.exited(10);
    tree.exec(&Exec { pid: 12, parent: 1, name: b"curl", file: b"/usr/bin/curl" }, &Empty);
    let names: Vec<_> = line(tree.get(12).unwrap()).into_iter().map(|(_, _, name)| name).collect();
    assert_eq!(names, ["", "nginx", "nginx"]);
}

#[test]
fn an_exec_of_the_parent_after_the_fork_does_not_change_what_it_was() {
    let mut tree = tree_with_init();
    tree.exec(&Exec { pid: 1, parent: 0, name: b"sh", file: b"/bin/sh" }, &Empty);
    tree.born(&born(2, 1, 2), &Empty);
    tree.exec(&Exec { pid: 1, parent: 0, name: b"nginx", file: b"/usr/sbin/nginx" }, &Empty);
    tree.born(&born(3, 1, 3), &Empty);
    assert_eq!(line(tree.get(2).unwrap())[0].2, "sh");
    assert_eq!(line(tree.get(3).unwrap())[0].2, "nginx");
}

#[test]
fn a_name_that_a_process_gave_itself_is_what_its_child_shows() {
    let mut tree = tree_with_init();
    tree.exec(&Exec { pid: 1, parent: 0, name: b"implant", file: b"/tmp/implant" }, &Empty);
    tree.born(&Born { name: b"nginx", ..born(2, 1, 2) }, &Empty);
    assert_eq!(*tree.get(2).unwrap().image.name, *b"nginx");
    assert_eq!(*tree.get(2).unwrap().image.file, *b"/tmp/implant");
}

#[test]
fn the_oldest_ancestors_stay_however_deep_an_intruder_forks() {
    let mut tree = tree_with_init();
    for pid in 2..500 {
        tree.born(&born(pid, pid - 1, u64::from(pid)), &Empty);
    }
    let process = tree.get(499).unwrap();
    let pids: Vec<u32> = process.line.ancestors.iter().map(|each| each.pid).collect();
    assert_eq!(pids[..8], [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(pids[8..], [491, 492, 493, 494, 495, 496, 497, 498]);
    assert_eq!(process.line.depth, 498);
    assert_eq!(process.line.gap(), Some(8));
}

#[test]
fn a_pid_that_came_back_is_another_process() {
    let mut tree = tree_with_init();
    tree.born(&born(2, 1, 2), &Empty);
    tree.exec(&Exec { pid: 2, parent: 1, name: b"old", file: b"/old" }, &Empty);
    tree.born(&born(2, 1, 10_000_000_000), &Empty);
    assert_eq!(tree.get(2).unwrap().start, 10_000_000_000);
    assert_eq!(*tree.get(2).unwrap().image.name, *b"");
}

#[test]
fn a_child_that_ended_before_its_parents_event_stays_what_it_was() {
    let mut tree = tree_with_init();
    tree.born(&born(2, 1, 2), &Empty);
    tree.exec(&Exec { pid: 2, parent: 1, name: b"quick", file: b"/quick" }, &Empty);
    tree.exited(2);
    tree.forked(&Forked { time: 3, parent: 1, child: 2, name: b"", as_sibling: false }, &Empty);
    assert_eq!(*tree.get(2).unwrap().image.name, *b"quick");
    assert_eq!(tree.get(2).unwrap().start, 2);
}

#[test]
fn a_child_by_clone_parent_descends_from_who_made_it() {
    let mut tree = tree_with_init();
    tree.born(&born(2, 1, 2), &Empty);
    tree.born(&born(3, 1, 3), &Empty);
    tree.forked(&Forked { time: 4, parent: 2, child: 3, name: b"", as_sibling: true }, &Empty);
    assert_eq!(tree.get(3).unwrap().line.ancestors.iter().map(|each| each.pid).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn no_more_processes_are_kept_than_the_limit_and_it_is_counted() {
    let mut tree = Tree::new(DEEPEST, 1024);
    for pid in 1..5000 {
        tree.born(&born(pid, 0, u64::from(pid)), &Empty);
    }
    assert_eq!(tree.len(), 1024);
    assert_eq!(tree.counts.refused, 4999 - 1024);
}

#[test]
fn processes_whose_end_was_lost_make_room_when_it_is_needed() {
    let mut tree = Tree::new(DEEPEST, 1024);
    for pid in 1..=1024 {
        tree.born(&born(pid, 0, 1), &Empty);
    }
    tree.born(&born(2000, 0, 120_000_000_000), &Empty);
    assert_eq!(tree.counts.swept, 1024);
    assert_eq!(tree.len(), 1);
}

#[test]
fn ended_processes_go_after_a_while() {
    let mut tree = tree_with_init();
    for round in 0..10_000_u32 {
        tree.born(&born(2 + round, 1, u64::from(round)), &Empty);
        tree.exited(2 + round);
    }
    assert!(tree.len() < 1100, "{}", tree.len());
}

#[test]
fn a_process_nobody_saw_start_is_taken_from_the_table_and_marked() {
    let mut machine = Machine::new(1, 0);
    let mut unheard = Tree::new(DEEPEST, 100_000);
    for _ in 0..200 {
        machine.step(&mut unheard);
    }
    let mut tree = Tree::new(DEEPEST, 100_000);
    let pid = *machine.living.keys().last().unwrap();
    assert_eq!(tree.find(pid, &machine).unwrap().origin, Origin::Lost);
    assert!(tree.counts.lost > 0);
}
