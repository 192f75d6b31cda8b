//! A model of a kernel: processes with a true tree, pids that come back, and the events that Falco would see.

use std::collections::BTreeMap;

use super::Random;
use crate::tree::{Announced, Born, DEEPEST, Engine, Exec, Forked, Known, Tree};

/// Pids of the machine: few, so that they come back soon.
const PIDS: u32 = 64;

const SECOND: u64 = 1_000_000_000;

/// A process of the true tree.
#[derive(Clone)]
pub struct Living {
    pub line: Vec<(u32, u64, String)>,
    pub start: u64,
    pub name: String,
    pub kernel_parent: u32,
    pub in_container: bool,
    pub entered: bool,
    /// Whether an event about it, or about one of its ancestors, was lost.
    pub tainted: bool,
}

/// The machine. As an `Engine` it is a Falco whose table is right but has no history.
pub struct Machine {
    pub living: BTreeMap<u32, Living>,
    pub now: u64,
    next: u32,
    random: Random,
    drops: usize,
}

impl Machine {
    /// A machine with init only; one event in `drops` is lost, 0 for none.
    pub fn new(seed: u64, drops: usize) -> Self {
        let init = Living {
            line: Vec::new(),
            start: SECOND,
            name: "init".into(),
            kernel_parent: 0,
            in_container: false,
            entered: false,
            tainted: false,
        };
        Self { living: BTreeMap::from([(1, init)]), now: SECOND, next: 1, random: Random::new(seed), drops }
    }

    /// One thing happens, and the tree hears of it.
    pub fn step(&mut self, tree: &mut Tree) {
        self.now += 3 * SECOND + self.random.below(400_000_000) as u64;
        let pids: Vec<u32> = self.living.keys().copied().collect();
        let pid = pids[self.random.below(pids.len())];
        match self.random.below(10) {
            0..5 => self.fork(tree, pid),
            5..8 => self.exec(tree, pid),
            _ if pid != 1 => self.exit(tree, pid),
            _ => {}
        }
    }

    fn is_lost(&mut self) -> bool {
        self.drops != 0 && self.random.once_in(self.drops)
    }

    fn fork(&mut self, tree: &mut Tree, parent: u32) {
        let Some(pid) = self.free() else { return };
        let above = self.living[&parent].clone();
        let enters = !above.in_container && self.random.once_in(8);
        let as_sibling = !above.in_container && !enters && parent != 1 && self.random.once_in(10);
        let is_first = enters && self.random.once_in(2);
        let mut line = above.line.clone();
        line.push((parent, above.start, above.name.clone()));
        let child = Living {
            line,
            start: self.now,
            name: above.name.clone(),
            kernel_parent: if as_sibling { above.kernel_parent } else { parent },
            in_container: above.in_container || enters,
            entered: above.entered || (enters && !is_first),
            tainted: above.tainted,
        };
        let vpid = if is_first { 1 } else { pid + if child.in_container { 1000 } else { 0 } };
        let kernel_parent = child.kernel_parent;
        let sees_number = !above.in_container && !enters;
        let namespace = if child.in_container { 7 } else { 1 };
        self.living.insert(pid, child);
        let name = above.name.as_bytes();
        let born = Born { time: self.now, pid, parent: kernel_parent, name, vpid, namespace };
        let forked = Forked { time: self.now, parent, child: pid, name, as_sibling };
        if above.in_container && self.random.once_in(3) {
            self.orphan(tree, parent, born);
            return;
        }
        let (child_lost, parent_lost) = (self.is_lost(), self.is_lost() || !sees_number);
        let parent_first = self.random.once_in(2);
        if parent_first && !parent_lost {
            tree.forked(&forked, self);
        }
        if !child_lost {
            tree.born(&born, self);
        }
        if !parent_first && !parent_lost {
            tree.forked(&forked, self);
        }
        if child_lost || (parent_lost && as_sibling) {
            self.taint(pid);
        }
    }

    /// The parent ends before its child runs: the child's own event names init.
    fn orphan(&mut self, tree: &mut Tree, parent: u32, born: Born) {
        let (pid, vpid) = (born.pid, born.vpid);
        if self.is_lost() {
            self.taint(pid);
        } else {
            tree.announced(&Announced { time: self.now, parent, vpid });
        }
        self.exit(tree, parent);
        if self.is_lost() {
            self.taint(pid);
        } else {
            tree.born(&Born { parent: 1, ..born }, self);
        }
    }

    fn exec(&mut self, tree: &mut Tree, pid: u32) {
        let name = format!("p{}", self.random.below(20));
        let lost = self.is_lost();
        let process = self.living.get_mut(&pid).expect("it lives");
        process.name.clone_from(&name);
        process.tainted |= lost;
        let parent = process.kernel_parent;
        let file = format!("/bin/{name}");
        if !lost {
            tree.exec(&Exec { pid, parent, name: name.as_bytes(), file: file.as_bytes() }, self);
        }
    }

    fn exit(&mut self, tree: &mut Tree, pid: u32) {
        self.living.remove(&pid);
        for process in self.living.values_mut().filter(|each| each.kernel_parent == pid) {
            process.kernel_parent = 1;
        }
        if !self.is_lost() {
            tree.exited(pid);
        }
    }

    fn taint(&mut self, pid: u32) {
        self.living.get_mut(&pid).expect("it lives").tainted = true;
    }

    /// The next pid that is free, as the kernel gives them: the highest so far plus one, then from the start.
    fn free(&mut self) -> Option<u32> {
        for _ in 0..PIDS {
            self.next = self.next % PIDS + 1;
            if !self.living.contains_key(&self.next) {
                return Some(self.next);
            }
        }
        None
    }
}

impl Engine for Machine {
    fn leader(&self, tid: u32) -> Option<u32> {
        self.living.contains_key(&tid).then_some(tid)
    }

    fn known(&self, pid: u32) -> Option<Known> {
        let process = self.living.get(&pid)?;
        Some(Known {
            parent: process.kernel_parent,
            vpid: pid,
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
