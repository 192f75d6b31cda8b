//! A model of a kernel: processes with a true tree, threads, pid namespaces, numbers that come back, and the events that
//! Falco would see.

use std::collections::BTreeMap;

use super::Random;
use crate::tree::{Born, DEEPEST, Engine, Exec, Forked, Known, Tree};

/// Numbers of the machine: few, so that they come back soon.
const PIDS: u32 = 96;

const SECOND: u64 = 1_000_000_000;

const HOST: u64 = 1;

/// A process of the true tree.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Clone)]
pub struct Living {
    pub line: Vec<(u32, u64, String)>,
    pub start: u64,
    pub name: String,
    pub kernel_parent: u32,
    pub entered: bool,
    /// Whether an event about it, or about one of its ancestors, was lost.
    pub tainted: bool,
    /// Whether no event tells its true parent, or that of one of its ancestors: it must be marked as lost.
    pub doubtful: bool,
    /// Whether it was there before Falco.
    pub is_older: bool,
    threads: Vec<u32>,
    is_main_gone: bool,
    namespace: u64,
    vpid: u32,
}

/// The machine. As an `Engine` it is a Falco whose table is right but has no history.
pub struct Machine {
    pub living: BTreeMap<u32, Living>,
    pub now: u64,
    next: u32,
    random: Random,
    drops: usize,
    vpids: BTreeMap<u64, u32>,
}

impl Machine {
    /// A machine with init only; one event in `drops` is lost, 0 for none.
    pub fn new(seed: u64, drops: usize) -> Self {
        let init = Living {
            line: Vec::new(),
            start: SECOND,
            name: "init".into(),
            kernel_parent: 0,
            entered: false,
            tainted: false,
            doubtful: false,
            is_older: true,
            threads: Vec::new(),
            is_main_gone: false,
            namespace: HOST,
            vpid: 1,
        };
        let living = BTreeMap::from([(1, init)]);
        Self { living, now: SECOND, next: 1, random: Random::new(seed), drops, vpids: BTreeMap::new() }
    }

    /// Falco starts now: of what is there already it sees the parents of today, and no history.
    pub fn is_older(&mut self) {
        for pid in self.living.keys().copied().collect::<Vec<_>>() {
            let (mut line, mut above) = (Vec::new(), self.living[&pid].kernel_parent);
            while above != 0 {
                let each = &self.living[&above];
                line.insert(0, (above, each.start, each.name.clone()));
                above = each.kernel_parent;
            }
            let process = self.living.get_mut(&pid).expect("it lives");
            (process.line, process.is_older, process.doubtful) = (line, true, false);
        }
    }

    /// One thing happens, and the tree hears of it.
    pub fn step(&mut self, tree: &mut Tree) {
        self.now += 3 * SECOND + self.random.below(400_000_000) as u64;
        let pids: Vec<u32> = self.living.keys().copied().collect();
        let pid = pids[self.random.below(pids.len())];
        match self.random.below(14) {
            0..6 => self.fork(tree, pid),
            6..9 => self.exec(tree, pid),
            9..11 => self.thread(tree, pid),
            11 if pid != 1 => self.end_main_thread(tree, pid),
            _ if pid != 1 => self.exit(tree, pid),
            _ => {}
        }
    }

    fn is_lost(&mut self) -> bool {
        self.drops != 0 && self.random.once_in(self.drops)
    }

    /// Who takes a process over whose parent ends: the first process of its namespace, or for that one, of the host.
    fn adopter(&self, namespace: u64) -> u32 {
        let first = self.living.iter().find(|(_, each)| each.namespace == namespace && each.vpid == 1);
        first.map_or(1, |(pid, _)| *pid)
    }

    /// The namespace that a child gets, and its number there.
    fn placed(&mut self, above: &Living, start: u64) -> (u64, u32) {
        let is_host = above.namespace == HOST;
        let others: Vec<u64> = self.living.values().filter(|each| each.vpid == 1).map(|each| each.namespace).collect();
        let namespace = match self.random.below(20) {
            0 => return (start, 1),
            1..3 if is_host => others[self.random.below(others.len())],
            _ => above.namespace,
        };
        (namespace, self.number_in(namespace))
    }

    fn number_in(&mut self, namespace: u64) -> u32 {
        let last = self.vpids.entry(namespace).or_insert(1000);
        *last += 1;
        *last
    }

    fn fork(&mut self, tree: &mut Tree, parent: u32) {
        let Some(pid) = self.free() else { return };
        let above = self.living[&parent].clone();
        let (namespace, mut vpid) = self.placed(&above, self.now);
        if namespace == HOST {
            vpid = pid;
        }
        let as_sibling = above.vpid != 1 && above.kernel_parent != 0 && self.random.once_in(8);
        let is_orphan = above.vpid != 1 && self.random.once_in(5);
        let threads: Vec<u32> = above.threads.iter().copied().chain((!above.is_main_gone).then_some(parent)).collect();
        let caller = threads[self.random.below(threads.len())];
        let number = match (above.namespace, namespace == above.namespace) {
            (HOST, _) => pid,
            (_, true) => vpid,
            _ => self.number_in(above.namespace),
        };
        let mut line = above.line.clone();
        line.push((parent, above.start, above.name.clone()));
        let told_by_parent_only = as_sibling || is_orphan;
        let is_untold = told_by_parent_only || above.vpid == 1; // a first process adopts, so it is in doubt
        self.living.insert(
            pid,
            Living {
                line,
                start: self.now,
                kernel_parent: if as_sibling { above.kernel_parent } else { parent },
                entered: above.entered || (namespace != above.namespace && vpid != 1),
                doubtful: above.doubtful || (is_untold && above.namespace != HOST && vpid == 1),
                is_older: false,
                threads: Vec::new(),
                is_main_gone: false,
                namespace,
                vpid,
                ..above.clone()
            },
        );
        let is_numbered_elsewhere = namespace != HOST || above.namespace != HOST;
        let (time, name) = (self.now, above.name.as_bytes());
        let forked = Forked { time, parent, child: number, name, as_sibling, is_numbered_elsewhere };
        let (child_lost, parent_lost) = (self.is_lost(), self.is_lost());
        let is_parent_first = is_orphan || self.random.once_in(2);
        if is_parent_first && !parent_lost {
            tree.forked(&forked, self);
        }
        if is_orphan {
            self.exit(tree, parent);
            if !self.living.contains_key(&pid) {
                return;
            }
        }
        let kernel_parent = self.living[&pid].kernel_parent;
        let said_parent = if kernel_parent == parent { caller } else { kernel_parent };
        if !child_lost {
            tree.born(&Born { time, pid, parent: said_parent, name, vpid, namespace, as_sibling }, self);
        }
        if !is_parent_first && !parent_lost {
            tree.forked(&forked, self);
        }
        if child_lost || (parent_lost && told_by_parent_only) {
            self.taint(pid);
        }
    }

    fn exec(&mut self, tree: &mut Tree, pid: u32) {
        let name = format!("p{}", self.random.below(20));
        let lost = self.is_lost();
        let threads = std::mem::take(&mut self.living.get_mut(&pid).expect("it lives").threads);
        let is_by_thread = !threads.is_empty();
        for thread in threads {
            self.tell_exit(tree, thread);
        }
        if is_by_thread && self.random.once_in(2) {
            self.tell_exit(tree, pid); // the thread that called takes its number
        }
        let process = self.living.get_mut(&pid).expect("it lives");
        process.name.clone_from(&name);
        process.tainted |= lost;
        process.is_main_gone = false;
        let parent = process.kernel_parent;
        let file = format!("/bin/{name}");
        if !lost {
            tree.exec(&Exec { pid, parent, name: name.as_bytes(), file: file.as_bytes() }, self);
        }
    }

    /// A thread starts, which gives no event that the tree is told of, or ends.
    fn thread(&mut self, tree: &mut Tree, pid: u32) {
        let threads = self.living[&pid].threads.len();
        if threads > usize::from(self.living[&pid].is_main_gone) && self.random.once_in(2) {
            let thread = self.living.get_mut(&pid).expect("it lives").threads.pop().expect("it has one");
            self.tell_exit(tree, thread);
        } else if let Some(tid) = self.free() {
            self.living.get_mut(&pid).expect("it lives").threads.push(tid);
        }
    }

    /// The main thread ends while others go on: the process lives.
    fn end_main_thread(&mut self, tree: &mut Tree, pid: u32) {
        let process = self.living.get_mut(&pid).expect("it lives");
        if !process.threads.is_empty() && !process.is_main_gone {
            process.is_main_gone = true;
            self.tell_exit(tree, pid);
        }
    }

    /// A process ends; with the first of a pid namespace all in it.
    fn exit(&mut self, tree: &mut Tree, pid: u32) {
        let Some(gone) = self.living.remove(&pid) else { return };
        let first_of_its = self.adopter(gone.namespace);
        for process in self.living.values_mut().filter(|each| each.kernel_parent == pid) {
            process.kernel_parent = first_of_its;
        }
        for tid in gone.threads.into_iter().chain((!gone.is_main_gone).then_some(pid)) {
            self.tell_exit(tree, tid);
        }
        if gone.vpid == 1 {
            let inside = self.living.iter().filter(|(_, each)| each.namespace == gone.namespace);
            for pid in inside.map(|(pid, _)| *pid).collect::<Vec<_>>() {
                self.exit(tree, pid);
            }
        }
    }

    fn tell_exit(&mut self, tree: &mut Tree, tid: u32) {
        if !self.is_lost() {
            tree.exited(tid, self);
        }
    }

    fn taint(&mut self, pid: u32) {
        self.living.get_mut(&pid).expect("it lives").tainted = true;
    }

    fn is_taken(&self, number: u32) -> bool {
        self.living.iter().any(|(pid, each)| *pid == number || each.threads.contains(&number))
    }

    /// The next number that is free, as the kernel gives them: the highest so far plus one, then from the start.
    fn free(&mut self) -> Option<u32> {
        for _ in 0..PIDS {
            self.next = self.next % PIDS + 1;
            if !self.is_taken(self.next) {
                return Some(self.next);
            }
        }
        None
    }
}

impl Engine for Machine {
    fn leader(&self, tid: u32) -> Option<u32> {
        let mut all = self.living.iter();
        all.find(|(pid, each)| **pid == tid || each.threads.contains(&tid)).map(|(pid, _)| *pid)
    }

    fn known(&self, pid: u32) -> Option<Known> {
        let process = self.living.get(&pid)?;
        Some(Known {
            parent: process.kernel_parent,
            vpid: process.vpid,
            namespace: process.namespace + 7,
            start: process.start,
            name: process.name.clone().into_bytes(),
            file: format!("/bin/{}", process.name).into_bytes(),
        })
    }

    fn has(&self, pid: u32) -> bool {
        self.living.contains_key(&pid)
    }
}

/// What a tree should have kept of a true line: all of it, or the oldest and the newest half.
pub fn kept(line: &[(u32, u64, String)]) -> Vec<(u32, u64, String)> {
    if line.len() <= DEEPEST {
        return line.to_vec();
    }
    let newest = line.len() - DEEPEST / 2;
    line[..DEEPEST / 2].iter().chain(&line[newest..]).cloned().collect()
}
