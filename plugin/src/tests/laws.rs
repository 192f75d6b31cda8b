//! Laws of the tree, on random histories and on the histories that once went wrong elsewhere.

use super::Empty;
use super::machine::{Living, Machine, kept};
use crate::tree::{Born, DEEPEST, Engine, Exec, Forked, Known, Origin, Process, Tree};

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
    Born { time, pid, parent, name: b"", vpid: pid, namespace: 1, as_sibling: false }
}

/// A child inside the pid namespace 7.
fn inside(pid: u32, parent: u32, vpid: u32, time: u64) -> Born<'static> {
    Born { vpid, namespace: 7, ..born(pid, parent, time) }
}

/// The event of a parent inside a pid namespace: the child's number there.
fn announced(parent: u32, child: u32, time: u64) -> Forked<'static> {
    Forked { time, parent, child, name: b"", as_sibling: false, is_numbered_elsewhere: true }
}

fn pids(tree: &Tree, pid: u32) -> Vec<u32> {
    tree.get(pid).unwrap().line.ancestors.iter().map(|each| each.pid).collect()
}

fn is_marked(process: &Process) -> bool {
    process.origin == Origin::Lost || process.line.ancestors.iter().any(|each| each.origin == Origin::Lost)
}

fn tree_with_init() -> Tree {
    let mut tree = Tree::new(DEEPEST, 100_000);
    tree.born(&born(1, 0, 1), &Empty);
    tree
}

/// Plays a random machine; Falco starts after the first `before` steps.
fn played(seed: u64, drops: usize, before: usize) -> (Machine, Tree) {
    let mut machine = Machine::new(seed, drops);
    let mut deaf = Tree::new(DEEPEST, 100_000);
    for _ in 0..before {
        machine.step(&mut deaf);
    }
    machine.is_older();
    let mut tree = Tree::new(DEEPEST, 100_000);
    for pid in machine.living.keys() {
        tree.adopt(*pid, Origin::Proc, &machine);
    }
    for _ in 0..600 {
        machine.step(&mut tree);
    }
    (machine, tree)
}

#[test]
fn every_process_has_its_true_ancestors_whatever_happened_to_them() {
    let (mut all, mut marked) = (0, 0);
    for seed in 0..super::times("MACHINES", 200) {
        let before = if seed % 2 == 0 { 0 } else { 300 };
        let (machine, tree) = played(seed, 0, before);
        for (pid, living) in &machine.living {
            let process = tree.get(*pid).unwrap_or_else(|| panic!("seed {seed}: {pid} is not known"));
            all += 1;
            if is_marked(process) {
                // No event tells its parent: a new namespace inside a container, or the first fork seen in an older one.
                marked += 1;
                assert!(living.doubtful || before > 0, "seed {seed}: {pid} is marked as lost");
                continue;
            }
            assert!(is_right(process, living), "seed {seed}: {pid} has {:?}, not {:?}", line(process), living.line);
            if before == 0 {
                assert_eq!(process.entered, living.entered, "seed {seed}: {pid}");
            }
        }
    }
    println!("{all} processes, {marked} marked");
    assert!(marked * 50 < all, "{marked} of {all}");
}

#[test]
fn what_lost_events_spoil_is_a_small_part_and_the_rest_is_right() {
    let (mut wrong, mut unmarked, mut all) = (0, 0, 0);
    for seed in 0..super::times("MACHINES", 100) {
        let (machine, mut tree) = played(seed, 200, 0);
        for (pid, living) in &machine.living {
            all += 1;
            let Some(process) = tree.find(*pid, &machine) else { panic!("seed {seed}: {pid}") };
            if !is_right(process, living) {
                wrong += 1;
                unmarked += usize::from(!is_marked(process) && !living.tainted);
            }
        }
    }
    println!(
        "{all} processes, one event in 200 lost: {wrong} wrong, {unmarked} of them neither marked nor touched by it"
    );
    assert!(wrong * 10 < all, "{wrong} of {all}");
    assert!(unmarked * 100 < all, "{unmarked} of {all} are wrong without a word");
}

#[test]
fn a_parent_that_ends_before_its_child_runs_in_a_container_is_still_its_parent() {
    let mut tree = tree_with_init();
    tree.born(&inside(10, 1, 1, 2), &Empty);
    tree.born(&inside(11, 10, 2, 3), &Empty);
    tree.forked(&announced(11, 3, 4), &Empty);
    tree.exited(11, &Empty);
    tree.born(&inside(12, 10, 3, 5), &Empty);
    assert_eq!(pids(&tree, 12), [1, 10, 11]);
}

#[test]
fn so_it_is_in_a_container_that_was_there_before_falco() {
    struct Older;
    impl Engine for Older {
        fn leader(&self, tid: u32) -> Option<u32> {
            Some(tid)
        }
        fn known(&self, pid: u32) -> Option<Known> {
            let (parent, vpid) = [(1, (0, 1)), (10, (1, 1)), (11, (10, 2))].into_iter().find(|each| each.0 == pid)?.1;
            Some(Known {
                parent,
                vpid,
                namespace: if pid == 1 { 3 } else { 4 },
                name: b"older".into(),
                ..Known::default()
            })
        }
        fn has(&self, _: u32) -> bool {
            false
        }
    }
    let mut tree = Tree::new(DEEPEST, 100_000);
    tree.adopt(11, Origin::Proc, &Older);
    tree.forked(&announced(11, 3, 4), &Older);
    tree.exited(11, &Older);
    tree.born(&inside(12, 10, 3, 5), &Older);
    assert_eq!(pids(&tree, 12), [1, 10, 11]);
}

#[test]
fn what_was_announced_in_another_namespace_or_long_ago_does_not_count() {
    let mut tree = tree_with_init();
    tree.born(&inside(10, 1, 1, 2), &Empty);
    tree.born(&inside(11, 10, 2, 3), &Empty);
    tree.born(&Born { namespace: 8, ..inside(21, 1, 1, 2) }, &Empty);
    tree.forked(&announced(21, 3, 4), &Empty);
    tree.forked(&announced(11, 4, 4), &Empty);
    tree.born(&inside(12, 10, 3, 5), &Empty);
    tree.born(&inside(13, 10, 4, 5_000_000_000), &Empty);
    assert_eq!(pids(&tree, 12), [1, 10]);
    assert_eq!(pids(&tree, 13), [1, 10]);
}

#[test]
fn a_sibling_made_in_a_container_is_in_doubt_until_its_parent_tells_and_then_its_child() {
    let mut tree = tree_with_init();
    tree.born(&inside(10, 1, 1, 2), &Empty);
    tree.born(&inside(11, 10, 2, 3), &Empty);
    tree.born(&Born { as_sibling: true, ..inside(12, 10, 3, 5) }, &Empty);
    assert!(is_marked(tree.get(12).unwrap()));
    tree.forked(&Forked { as_sibling: true, ..announced(11, 3, 6) }, &Empty);
    assert_eq!(pids(&tree, 12), [1, 10, 11]);
    assert!(!is_marked(tree.get(12).unwrap()));
}

#[test]
fn who_leaves_for_a_new_pid_namespace_and_ends_its_parent_is_no_child_of_init() {
    let mut tree = tree_with_init();
    tree.born(&born(10, 1, 2), &Empty);
    tree.forked(&announced(10, 11, 3), &Empty);
    tree.exited(10, &Empty);
    tree.born(&Born { vpid: 1, namespace: 9, ..born(11, 1, 4) }, &Empty);
    assert_eq!(pids(&tree, 11), [1, 10]);
}

#[test]
fn inside_a_container_where_no_event_tells_it_that_is_marked() {
    let mut tree = tree_with_init();
    tree.born(&inside(10, 1, 1, 2), &Empty);
    tree.born(&inside(11, 10, 2, 3), &Empty);
    tree.forked(&announced(11, 3, 4), &Empty);
    tree.exited(11, &Empty);
    tree.born(&Born { vpid: 1, namespace: 9, ..born(12, 10, 5) }, &Empty);
    assert!(is_marked(tree.get(12).unwrap()));
}

#[test]
fn a_process_goes_on_when_its_main_thread_has_ended() {
    struct Zombie;
    impl Engine for Zombie {
        fn leader(&self, tid: u32) -> Option<u32> {
            (tid == 10 || tid == 11).then_some(10)
        }
        fn known(&self, _: u32) -> Option<Known> {
            None
        }
        fn has(&self, pid: u32) -> bool {
            pid == 10
        }
    }
    let mut tree = tree_with_init();
    tree.born(&born(10, 1, 2), &Zombie);
    tree.exited(10, &Zombie);
    for pid in 1000..5000 {
        tree.born(&born(pid, 1, u64::from(pid)), &Zombie);
        tree.exited(pid, &Zombie);
    }
    tree.born(&born(20, 11, 6000), &Zombie);
    assert_eq!(pids(&tree, 20), [1, 10]);
}

#[test]
fn a_thread_with_the_number_of_a_process_that_ended_is_not_that_process() {
    struct Thread;
    impl Engine for Thread {
        fn leader(&self, tid: u32) -> Option<u32> {
            (tid == 11).then_some(10)
        }
        fn known(&self, _: u32) -> Option<Known> {
            None
        }
        fn has(&self, _: u32) -> bool {
            false
        }
    }
    let mut tree = tree_with_init();
    tree.born(&born(10, 1, 2), &Thread);
    tree.born(&born(11, 1, 3), &Thread);
    tree.exited(11, &Thread);
    tree.born(&born(20, 11, 4), &Thread);
    assert_eq!(pids(&tree, 20), [1, 10]);
    assert_eq!(tree.leader(11, &Thread), Some(10));
}

#[test]
fn a_child_of_a_parent_that_nobody_knows_is_marked_and_counted() {
    let mut tree = tree_with_init();
    tree.born(&born(20, 4711, 4), &Empty);
    assert!(is_marked(tree.get(20).unwrap()));
    assert_eq!(tree.counts.lost, 1);
}

#[test]
fn setsid_a_double_fork_and_dead_parents_change_nothing() {
    let mut tree = tree_with_init();
    tree.born(&born(10, 1, 2), &Empty);
    tree.exec(&Exec { pid: 10, parent: 1, name: b"nginx", file: b"/usr/sbin/nginx" }, &Empty);
    tree.born(&born(11, 10, 3), &Empty);
    tree.born(&born(12, 11, 4), &Empty);
    tree.exited(11, &Empty);
    tree.exited(10, &Empty);
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
fn a_lost_fork_stays_marked_when_it_is_left_out() {
    for depth in [2, 5, DEEPEST] {
        let mut tree = Tree::new(depth, 100_000);
        tree.born(&born(1, 0, 1), &Empty);
        for pid in 2..60 {
            let parent = if pid == 12 { 4711 } else { pid - 1 };
            tree.born(&born(pid, parent, u64::from(pid)), &Empty);
        }
        assert!(is_marked(tree.get(59).unwrap()), "{depth}");
    }
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
    tree.exited(2, &Empty);
    tree.forked(
        &Forked { time: 3, parent: 1, child: 2, name: b"", as_sibling: false, is_numbered_elsewhere: false },
        &Empty,
    );
    assert_eq!(*tree.get(2).unwrap().image.name, *b"quick");
    assert_eq!(tree.get(2).unwrap().start, 2);
}

#[test]
fn a_child_by_clone_parent_descends_from_who_made_it() {
    let mut tree = tree_with_init();
    tree.born(&born(2, 1, 2), &Empty);
    tree.born(&born(3, 1, 3), &Empty);
    tree.forked(
        &Forked { time: 4, parent: 2, child: 3, name: b"", as_sibling: true, is_numbered_elsewhere: false },
        &Empty,
    );
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
        tree.exited(2 + round, &Empty);
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
