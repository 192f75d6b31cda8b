//! The tree of processes as it was: who forked whom, and what each was at that moment.
//!
//! Nothing here depends on Falco, so the laws of the tree can be tested against a model of it. A process keeps the
//! ancestors it had when it was forked; setsid, a parent's death and reparenting change nothing. Children of one
//! parent share one list until the parent runs another program.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;

/// The most ancestors that a process remembers.
pub const DEEPEST: usize = 16;

/// Exited processes whose ancestry is still kept: late events name them.
const GRAVES: usize = 1024;

/// Parents that are looked up in Falco's table for a process that nobody saw start.
const LONGEST_CLIMB: usize = 64;

/// Nanoseconds between two searches for processes whose end was lost.
const SWEEP_EVERY: u64 = 60_000_000_000;

/// Nanoseconds that may pass between the two events of one fork. A later one is another process of that number.
const SAME_FORK: u64 = 2_000_000_000;

/// Forks inside pid namespaces of which one event is known and the other is awaited.
const MOST_HALVES: usize = 4096;

/// In the name of a pid namespace of which no event has told the name yet; the rest is what Falco's table has for it.
const OLDER_NAMESPACE: u64 = 1 << 63;

/// Such namespaces of which the name that events give them is remembered.
const MOST_OLDER: usize = 4096;

/// The longest file name kept; of longer ones the end.
const LONGEST_FILE: usize = 255;

/// What a process is: its name (`comm`) and the resolved file that it runs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// The kernel's name of the main thread: what the process calls itself.
    pub name: Box<[u8]>,
    /// The resolved path of the file that it runs.
    pub file: Box<[u8]>,
}

impl Image {
    /// An image of copies of both.
    pub fn new(name: &[u8], file: &[u8]) -> Self {
        let file = &file[file.len().saturating_sub(LONGEST_FILE)..];
        Self { name: name.into(), file: file.into() }
    }
}

/// How the existence of a process came to be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Its fork was seen: parent and start are exact.
    Forked,
    /// It was there before Falco: parent and start are those that /proc showed.
    Proc,
    /// Its fork was lost: parent and start are those that Falco's table and /proc show later.
    Lost,
}

/// One ancestor, as it was when it forked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ancestor {
    /// Process id in the host's namespace.
    pub pid: u32,
    /// Start in nanoseconds since 1970, 0 if unknown.
    pub start: u64,
    /// How it came to be known.
    pub origin: Origin,
    /// What it was.
    pub image: Rc<Image>,
}

/// The ancestors of a process, oldest first. Of more than the limit those in the middle are missing: the oldest say
/// where it comes from, the newest what it is, and an intruder can add only to the middle.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// Those that are kept.
    pub ancestors: Vec<Ancestor>,
    /// How many there are in truth.
    pub depth: u32,
}

impl Line {
    fn below(&self, parent: Ancestor, limit: usize) -> Self {
        let keep_old = self.ancestors.len().min(limit / 2);
        let skip = usize::from(self.ancestors.len() >= limit);
        let mut ancestors = Vec::with_capacity(self.ancestors.len() + 1 - skip);
        ancestors.extend_from_slice(&self.ancestors[..keep_old]);
        ancestors.extend_from_slice(&self.ancestors[(keep_old + skip).min(self.ancestors.len())..]);
        ancestors.push(parent);
        if skip > 0 && self.ancestors[keep_old].origin == Origin::Lost {
            ancestors[keep_old].origin = Origin::Lost; // what is left out must not take the mark with it
        }
        Self { ancestors, depth: self.depth + 1 }
    }

    /// Where in `ancestors` some are missing, if any.
    pub fn gap(&self) -> Option<usize> {
        let missing = self.depth as usize > self.ancestors.len();
        missing.then_some(self.ancestors.len() / 2)
    }
}

/// What is remembered of a process.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug)]
pub struct Process {
    /// Start in nanoseconds since 1970, 0 if unknown.
    pub start: u64,
    /// What it is now.
    pub image: Rc<Image>,
    /// How it came to be known.
    pub origin: Origin,
    /// Its number in its own pid namespace, 0 if unknown.
    pub vpid: u32,
    /// Whether it, or an ancestor, came into its container from outside: not forked by what runs inside.
    pub entered: bool,
    /// Who it descends from.
    pub line: Rc<Line>,
    namespace: u64,
    parent: u32,
    below: Option<Rc<Line>>,
    seen_by_parent: bool,
    seen_by_child: bool,
    exited: bool,
}

impl Process {
    fn is_of(&self, fork: u64) -> bool {
        self.start.abs_diff(fork) < SAME_FORK
    }
}

/// The clone event of the child.
#[derive(Debug, Clone, Copy)]
pub struct Born<'a> {
    /// Event time, nanoseconds.
    pub time: u64,
    /// The new process.
    pub pid: u32,
    /// The thread that the kernel calls its parent.
    pub parent: u32,
    /// Its name: the parent's, as it is at that moment.
    pub name: &'a [u8],
    /// Its number in its own pid namespace.
    pub vpid: u32,
    /// Start of the first process of its pid namespace: stands for the namespace.
    pub namespace: u64,
    /// Whether the process that made it is another one than the kernel calls its parent (`CLONE_PARENT`).
    pub as_sibling: bool,
}

/// The clone event of the process that called it.
#[derive(Debug, Clone, Copy)]
pub struct Forked<'a> {
    /// Event time, nanoseconds.
    pub time: u64,
    /// The process that forked.
    pub parent: u32,
    /// The new process, as its parent sees it.
    pub child: u32,
    /// The parent's name at that moment.
    pub name: &'a [u8],
    /// Whether for the kernel the child is a sibling of its parent (`CLONE_PARENT`).
    pub as_sibling: bool,
    /// Whether parent or child are in a pid namespace, so that the child's number need not be the host's.
    pub is_numbered_elsewhere: bool,
}

/// One of the two events of a fork inside a pid namespace; they share no number but the child's inside.
#[derive(Clone, Copy)]
struct Half {
    time: u64,
    pid: u32,
    is_child: bool,
}

/// A successful execve or execveat.
#[derive(Debug, Clone, Copy)]
pub struct Exec<'a> {
    /// The process.
    pub pid: u32,
    /// The thread that the kernel calls its parent now.
    pub parent: u32,
    /// Its new name.
    pub name: &'a [u8],
    /// The resolved file, empty if the engine does not give it.
    pub file: &'a [u8],
}

/// A process as Falco's table knows it.
#[derive(Debug, Default, Clone)]
pub struct Known {
    /// The thread that is its parent, 0 if none.
    pub parent: u32,
    /// Its number in its own pid namespace.
    pub vpid: u32,
    /// What the table has for its pid namespace, the same for those in one; 0 if unknown.
    pub namespace: u64,
    /// Its start as /proc shows it, 0 if it is gone.
    pub start: u64,
    /// Its name.
    pub name: Vec<u8>,
    /// The file that it runs.
    pub file: Vec<u8>,
}

/// What the tree asks of the engine, only about processes whose start it has not seen.
pub trait Engine {
    /// The process that a thread belongs to.
    fn leader(&self, tid: u32) -> Option<u32>;
    /// A process of the engine's table.
    fn known(&self, pid: u32) -> Option<Known>;
    /// Whether the engine's table has a process.
    fn has(&self, pid: u32) -> bool {
        self.leader(pid) == Some(pid)
    }
}

/// What was counted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Processes whose fork was lost.
    pub lost: u64,
    /// Processes that were not remembered, since there were too many.
    pub refused: u64,
    /// Lists of ancestors that had to leave out one in the middle.
    pub shortened: u64,
    /// Processes forgotten since Falco's table no longer had them.
    pub swept: u64,
}

/// Pids are small and dense, so one multiplication spreads them; the standard hash takes ten times as long.
#[derive(Default)]
pub struct PidHasher(u64);

impl Hasher for PidHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }
    fn write_u32(&mut self, pid: u32) {
        self.write_u64(u64::from(pid));
    }
    fn write_u64(&mut self, number: u64) {
        let mixed = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

/// Every process that is known, by pid in the host's namespace.
pub struct Tree {
    processes: HashMap<u32, Process, BuildHasherDefault<PidHasher>>,
    graves: VecDeque<(u32, u64)>,
    halves: HashMap<(u64, u32), Half, BuildHasherDefault<PidHasher>>,
    host: u64,
    older: HashMap<u64, u64, BuildHasherDefault<PidHasher>>,
    depth: usize,
    limit: usize,
    swept_at: u64,
    /// Whether names and files are remembered.
    pub names: bool,
    /// What was counted.
    pub counts: Counts,
}

impl Tree {
    /// A tree of at most `limit` processes with at most `depth` ancestors each.
    pub fn new(depth: usize, limit: usize) -> Self {
        Self {
            processes: HashMap::default(),
            graves: VecDeque::new(),
            halves: HashMap::default(),
            host: 0,
            older: HashMap::default(),
            depth: depth.clamp(2, DEEPEST),
            limit,
            swept_at: 0,
            names: true,
            counts: Counts::default(),
        }
    }

    /// How many processes are remembered.
    pub fn len(&self) -> usize {
        self.processes.len()
    }

    /// A process, if it is remembered.
    #[cfg(test)]
    pub fn get(&self, pid: u32) -> Option<&Process> {
        self.processes.get(&pid)
    }

    /// A process; one that is not remembered is taken from Falco's table, marked as lost.
    pub fn find(&mut self, pid: u32, engine: &impl Engine) -> Option<&Process> {
        if !self.processes.contains_key(&pid) {
            self.adopt(pid, Origin::Lost, engine);
        }
        self.processes.get(&pid)
    }

    /// Take in a process, and its parents, from Falco's table.
    pub fn adopt(&mut self, pid: u32, origin: Origin, engine: &impl Engine) {
        let mut climbed: Vec<(u32, Known)> = Vec::new();
        let mut next = self.leader(pid, engine).unwrap_or(pid);
        while next != 0 && climbed.len() < LONGEST_CLIMB && !self.processes.contains_key(&next) {
            if climbed.iter().any(|(pid, _)| *pid == next) {
                break;
            }
            let Some(known) = engine.known(next) else { break };
            let parent = known.parent;
            climbed.push((next, known));
            next = self.leader(parent, engine).unwrap_or(parent);
        }
        let mut parent = next;
        for (pid, known) in climbed.into_iter().rev() {
            let mut process = self.child(parent, b"", known.start);
            process.image = Rc::new(self.image(&known.name, &known.file));
            (process.origin, process.vpid) = (origin, known.vpid);
            process.namespace = if known.namespace == 0 { 0 } else { OLDER_NAMESPACE | known.namespace };
            (process.seen_by_parent, process.seen_by_child) = (true, true);
            self.counts.lost += u64::from(origin == Origin::Lost);
            self.insert(pid, process, engine, 0);
            self.note_entry(pid);
            parent = pid;
        }
    }

    /// A child shows itself.
    pub fn born(&mut self, event: &Born, engine: &impl Engine) {
        let is_inside = event.vpid != event.pid;
        if !is_inside && self.host == 0 {
            self.host = event.namespace;
        }
        if let Some(process) = self.processes.get_mut(&event.pid) {
            if process.seen_by_parent && !process.seen_by_child && process.is_of(event.time) {
                process.seen_by_child = true;
                (process.vpid, process.namespace) = (event.vpid, event.namespace);
                let image = Rc::clone(&process.image);
                let image = self.renamed(image, event.name);
                if let Some(process) = self.processes.get_mut(&event.pid) {
                    process.image = image;
                }
                self.note_entry(event.pid);
                return;
            }
        }
        let adopter = self.leader(event.parent, engine).unwrap_or(event.parent);
        self.find(adopter, engine);
        if event.vpid != 1 && is_inside == self.processes.get(&adopter).is_some_and(|each| each.vpid != adopter) {
            self.name_older(adopter, event.namespace);
        }
        let half = Half { time: event.time, pid: event.pid, is_child: true };
        let maker = if is_inside { self.meet(event.namespace, event.vpid, half) } else { None };
        let parent = maker.unwrap_or(adopter);
        let mut process = self.child(parent, event.name, event.time);
        if maker.is_none() && (event.as_sibling || self.is_adopted(parent, event)) {
            process.origin = Origin::Lost; // until its parent's event comes
        }
        (process.vpid, process.namespace) = (event.vpid, event.namespace);
        (process.seen_by_parent, process.seen_by_child) = (maker.is_some(), true);
        self.insert(event.pid, process, engine, event.time);
        self.note_entry(event.pid);
    }

    /// A parent shows its child. If it ends before the child runs, the child's own event names the process that adopted it.
    pub fn forked(&mut self, event: &Forked, engine: &impl Engine) {
        let mut child = event.child;
        if event.is_numbered_elsewhere && !self.is_on_host(event.parent) {
            let namespace = self.namespace(event.parent); // the event does not name it
            let half = Half { time: event.time, pid: event.parent, is_child: false };
            match self.meet(namespace, event.child, half) {
                Some(pid) => child = pid,
                None => return,
            }
        }
        if let Some(process) = self.processes.get_mut(&child) {
            if process.seen_by_child && !process.seen_by_parent && process.is_of(event.time) {
                process.seen_by_parent = true;
                if !event.is_numbered_elsewhere {
                    self.host = process.namespace;
                }
                if event.as_sibling && process.parent != event.parent {
                    self.move_below(event.parent, child);
                }
                return;
            }
        }
        self.find(event.parent, engine);
        let mut process = self.child(event.parent, event.name, event.time);
        process.seen_by_parent = true;
        self.insert(child, process, engine, event.time);
    }

    /// The pid in the other event of a fork inside a pid namespace, if it came already; else this one is kept for it.
    fn meet(&mut self, namespace: u64, vpid: u32, half: Half) -> Option<u32> {
        if namespace == 0 {
            return None;
        }
        if let Some(other) = self.halves.remove(&(namespace, vpid)) {
            let is_other = other.is_child != half.is_child && other.time.abs_diff(half.time) < SAME_FORK;
            if is_other && self.processes.contains_key(&other.pid) {
                return Some(other.pid);
            }
        }
        if self.halves.len() >= MOST_HALVES {
            self.halves.clear(); // of forks whose other event was lost
        }
        self.halves.insert((namespace, vpid), half);
        None
    }

    /// Give a process the ancestors of the process that made it, which the kernel does not call its parent.
    fn move_below(&mut self, parent: u32, child: u32) {
        let line = self.line_below(parent);
        let is_known = self.processes.contains_key(&parent);
        if let Some(process) = self.processes.get_mut(&child) {
            process.origin = if is_known { Origin::Forked } else { Origin::Lost };
            (process.line, process.parent, process.below) = (line, parent, None);
        }
        self.note_entry(child);
    }

    /// The pid namespace of a process, 0 if it is unknown.
    fn namespace(&self, pid: u32) -> u64 {
        let namespace = self.processes.get(&pid).map_or(0, |each| each.namespace);
        self.older.get(&namespace).copied().unwrap_or(namespace)
    }

    /// Learn from a child how events name a pid namespace that was there before Falco.
    fn name_older(&mut self, parent: u32, name: u64) {
        let older = self.namespace(parent);
        if older & OLDER_NAMESPACE == 0 {
            return;
        }
        if self.older.len() >= MOST_OLDER {
            self.older.clear();
        }
        self.older.insert(older, name);
        let waiting: Vec<_> = self.halves.keys().filter(|key| key.0 == older).copied().collect();
        for key in waiting {
            if let Some(half) = self.halves.remove(&key) {
                self.halves.insert((name, key.1), half);
            }
        }
    }

    fn is_on_host(&self, pid: u32) -> bool {
        let namespace = self.namespace(pid);
        let can_be = namespace == 0 || namespace == self.host || namespace & OLDER_NAMESPACE != 0;
        can_be && self.processes.get(&pid).is_some_and(|each| each.vpid == pid)
    }

    /// Whether the parent of the first process of a new pid namespace has only adopted it: its real parent is gone, and
    /// had shown the child by another number.
    fn is_adopted(&self, parent: u32, event: &Born) -> bool {
        let above = self.processes.get(&parent);
        event.vpid == 1 && above.is_some_and(|each| each.vpid == 1) && !self.is_on_host(parent)
    }

    /// A process runs another program.
    pub fn exec(&mut self, event: &Exec, engine: &impl Engine) {
        if self.leader(event.parent, engine).is_some_and(|parent| !self.is_child_of(event.pid, parent)) {
            // Its number is an older process's, whose end and whose successor's start were both lost.
            self.processes.remove(&event.pid);
        }
        self.find(event.pid, engine);
        if let Some(process) = self.processes.get_mut(&event.pid) {
            let file = if event.file.is_empty() { &process.image.file } else { event.file };
            process.image = Rc::new(if self.names { Image::new(event.name, file) } else { Image::default() });
            (process.below, process.exited) = (None, false);
        }
    }

    /// A thread ends; with the main thread its process, unless other threads go on.
    pub fn exited(&mut self, tid: u32, engine: &impl Engine) {
        let Some(process) = self.processes.get_mut(&tid) else {
            return;
        };
        process.exited = true;
        self.graves.push_back((tid, process.start));
        if self.graves.len() > GRAVES {
            self.bury(engine);
        }
    }

    fn bury(&mut self, engine: &impl Engine) {
        let Some((pid, start)) = self.graves.pop_front() else {
            return;
        };
        if self.processes.get(&pid).is_some_and(|each| each.exited && each.start == start) {
            if engine.has(pid) {
                self.graves.push_back((pid, start));
            } else {
                self.processes.remove(&pid);
            }
        }
    }

    /// The process that a thread belongs to. Where a process has ended, or its start was not seen, so that its end may
    /// not have been either, the number may be a thread's by now.
    pub fn leader(&self, tid: u32, engine: &impl Engine) -> Option<u32> {
        match self.processes.get(&tid) {
            Some(process) if !process.exited && process.origin == Origin::Forked => Some(tid),
            known => engine.leader(tid).or(known.map(|_| tid)),
        }
    }

    /// Whether the kernel may call `parent` the parent of a process: it forked it, or took it over as init of its
    /// namespace or as a subreaper, which is an ancestor.
    fn is_child_of(&self, pid: u32, parent: u32) -> bool {
        let Some(process) = self.processes.get(&pid) else {
            return true;
        };
        process.parent == parent
            || parent <= 1
            || process.line.gap().is_some()
            || process.line.ancestors.iter().any(|each| each.pid == parent)
            || self.processes.get(&parent).is_none_or(|each| each.vpid == 1)
    }

    /// Note whether a process, or an ancestor, came into its pid namespace from outside.
    fn note_entry(&mut self, pid: u32) {
        let Some(process) = self.processes.get(&pid) else { return };
        let Some(above) = self.processes.get(&process.parent) else { return };
        let namespaces = [self.namespace(process.parent), self.namespace(pid)];
        let crossed = if namespaces.iter().all(|each| *each != 0 && each & OLDER_NAMESPACE == 0) {
            namespaces[0] != namespaces[1]
        } else {
            above.vpid == process.parent && process.vpid != pid
        };
        let entered = above.entered || (crossed && process.vpid != 1);
        if let Some(process) = self.processes.get_mut(&pid) {
            process.entered = entered;
        }
    }

    fn child(&mut self, parent: u32, name: &[u8], time: u64) -> Process {
        let line = self.line_below(parent);
        let above = self.processes.get(&parent);
        let is_known = parent == 0 || above.is_some();
        let image = above.map(|each| Rc::clone(&each.image)).unwrap_or_default();
        self.counts.lost += u64::from(!is_known);
        Process {
            start: time,
            image: self.renamed(image, name),
            origin: if is_known { Origin::Forked } else { Origin::Lost },
            vpid: 0,
            entered: false,
            line,
            namespace: 0,
            parent,
            below: None,
            seen_by_parent: false,
            seen_by_child: false,
            exited: false,
        }
    }

    fn image(&self, name: &[u8], file: &[u8]) -> Image {
        if self.names { Image::new(name, file) } else { Image::default() }
    }

    /// The image of a process that may call itself something else than what it was forked as.
    fn renamed(&self, image: Rc<Image>, name: &[u8]) -> Rc<Image> {
        if name.is_empty() || *image.name == *name { image } else { Rc::new(self.image(name, &image.file)) }
    }

    fn line_below(&mut self, parent: u32) -> Rc<Line> {
        let Some(process) = self.processes.get_mut(&parent) else {
            return Rc::default();
        };
        if let Some(line) = &process.below {
            return Rc::clone(line);
        }
        let ancestor =
            Ancestor { pid: parent, start: process.start, origin: process.origin, image: Rc::clone(&process.image) };
        self.counts.shortened += u64::from(process.line.ancestors.len() >= self.depth);
        let line = Rc::new(process.line.below(ancestor, self.depth));
        process.below = Some(Rc::clone(&line));
        line
    }

    fn insert(&mut self, pid: u32, process: Process, engine: &impl Engine, now: u64) {
        if self.processes.len() >= self.limit && !self.processes.contains_key(&pid) {
            for _ in 0..self.graves.len() {
                self.bury(engine);
                if self.processes.len() < self.limit {
                    break;
                }
            }
            if self.processes.len() >= self.limit && now >= self.swept_at + SWEEP_EVERY {
                self.swept_at = now;
                let before = self.processes.len();
                self.processes.retain(|pid, _| engine.has(*pid));
                self.counts.swept += (before - self.processes.len()) as u64;
            }
            if self.processes.len() >= self.limit {
                self.counts.refused += 1;
                return;
            }
        }
        self.processes.insert(pid, process);
    }
}
