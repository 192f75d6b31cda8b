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

/// Announced children whose own event is awaited.
const MOST_ANNOUNCED: usize = 4096;

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
}

/// The clone event of the process that called it, on the host's pid namespace (elsewhere the result is no host pid).
#[derive(Debug, Clone, Copy)]
pub struct Forked<'a> {
    /// Event time, nanoseconds.
    pub time: u64,
    /// The process that forked.
    pub parent: u32,
    /// The new process.
    pub child: u32,
    /// The parent's name at that moment.
    pub name: &'a [u8],
    /// Whether for the kernel the child is a sibling of its parent (`CLONE_PARENT`).
    pub as_sibling: bool,
}

/// The clone event of a process that called it inside a pid namespace: the child's number there, not the host's.
#[derive(Debug, Clone, Copy)]
pub struct Announced {
    /// Event time, nanoseconds.
    pub time: u64,
    /// The process that forked.
    pub parent: u32,
    /// The new process, as its parent sees it.
    pub vpid: u32,
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
    fn has(&self, pid: u32) -> bool;
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
        let mixed = (self.0 ^ u64::from(pid)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

/// Every process that is known, by pid in the host's namespace.
pub struct Tree {
    processes: HashMap<u32, Process, BuildHasherDefault<PidHasher>>,
    graves: VecDeque<(u32, u64)>,
    announced: HashMap<(u64, u32), (u32, u64)>,
    depth: usize,
    limit: usize,
    swept_at: u64,
    /// What was counted.
    pub counts: Counts,
}

impl Tree {
    /// A tree of at most `limit` processes with at most `depth` ancestors each.
    pub fn new(depth: usize, limit: usize) -> Self {
        Self {
            processes: HashMap::default(),
            graves: VecDeque::new(),
            announced: HashMap::new(),
            depth: depth.clamp(2, DEEPEST),
            limit,
            swept_at: 0,
            counts: Counts::default(),
        }
    }

    /// How many processes are remembered.
    pub fn len(&self) -> usize {
        self.processes.len()
    }

    /// A process, if it is remembered.
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
        let mut next = self.leader(pid, engine);
        while next != 0 && climbed.len() < LONGEST_CLIMB && !self.processes.contains_key(&next) {
            if climbed.iter().any(|(pid, _)| *pid == next) {
                break;
            }
            let Some(known) = engine.known(next) else { break };
            let parent = known.parent;
            climbed.push((next, known));
            next = if parent == 0 { 0 } else { self.leader(parent, engine) };
        }
        let mut parent = next;
        for (pid, known) in climbed.into_iter().rev() {
            let line = self.line_below(parent);
            let above = self.processes.get(&parent);
            let crossed = above.is_some_and(|each| each.vpid == parent) && known.vpid != pid && known.vpid != 1;
            let process = Process {
                start: known.start,
                image: Rc::new(Image::new(&known.name, &known.file)),
                origin,
                vpid: known.vpid,
                entered: crossed || above.is_some_and(|each| each.entered),
                line,
                namespace: 0,
                parent,
                below: None,
                seen_by_parent: true,
                seen_by_child: true,
                exited: false,
            };
            self.counts.lost += u64::from(origin == Origin::Lost);
            self.insert(pid, process, engine, 0);
            parent = pid;
        }
    }

    /// A child shows itself.
    pub fn born(&mut self, event: &Born, engine: &impl Engine) {
        if let Some(process) = self.processes.get_mut(&event.pid) {
            if process.seen_by_parent && !process.seen_by_child && process.is_of(event.time) {
                process.seen_by_child = true;
                process.vpid = event.vpid;
                process.namespace = event.namespace;
                let parent = process.parent;
                let entered = self.has_entered(parent, event);
                if let Some(process) = self.processes.get_mut(&event.pid) {
                    process.entered = entered;
                    rename(process, event.name);
                }
                return;
            }
        }
        let parent = self.announcer(event).unwrap_or_else(|| self.leader(event.parent, engine));
        self.find(parent, engine);
        let entered = self.has_entered(parent, event);
        if let Some(above) = self.processes.get_mut(&parent) {
            if above.namespace == 0 && above.vpid != parent && event.vpid != 1 {
                above.namespace = event.namespace; // it was there before Falco
            }
        }
        let mut process = self.child(parent, event.name, event.time);
        process.vpid = event.vpid;
        process.namespace = event.namespace;
        process.entered = entered;
        process.seen_by_child = true;
        self.insert(event.pid, process, engine, event.time);
    }

    /// A parent inside a pid namespace shows its child. If it ends before the child runs, the child's own event names
    /// the process that adopted it.
    pub fn announced(&mut self, event: &Announced) {
        // The caller's event does not name the namespace.
        let namespace = self.processes.get(&event.parent).map_or(0, |each| each.namespace);
        if namespace == 0 {
            return;
        }
        if self.announced.len() >= MOST_ANNOUNCED {
            self.announced.retain(|_, (_, time)| event.time.abs_diff(*time) < SAME_FORK);
            if self.announced.len() >= MOST_ANNOUNCED {
                self.announced.clear();
            }
        }
        self.announced.insert((namespace, event.vpid), (event.parent, event.time));
    }

    /// The process that announced a child, and is still remembered.
    fn announcer(&mut self, event: &Born) -> Option<u32> {
        if event.vpid == event.pid || self.announced.is_empty() {
            return None;
        }
        let (parent, time) = self.announced.remove(&(event.namespace, event.vpid))?;
        (event.time.abs_diff(time) < SAME_FORK && self.processes.contains_key(&parent)).then_some(parent)
    }

    /// A parent shows its child.
    pub fn forked(&mut self, event: &Forked, engine: &impl Engine) {
        if let Some(process) = self.processes.get_mut(&event.child) {
            if process.seen_by_child && !process.seen_by_parent && process.is_of(event.time) {
                process.seen_by_parent = true;
                if !event.as_sibling || process.parent == event.parent {
                    return;
                }
                let (start, vpid, namespace) = (process.start, process.vpid, process.namespace);
                let (entered, image) = (process.entered, Rc::clone(&process.image));
                let mut renewed = self.child(event.parent, event.name, start);
                (renewed.vpid, renewed.namespace, renewed.entered, renewed.image) = (vpid, namespace, entered, image);
                (renewed.seen_by_child, renewed.seen_by_parent) = (true, true);
                self.processes.insert(event.child, renewed);
                return;
            }
        }
        self.find(event.parent, engine);
        let mut process = self.child(event.parent, event.name, event.time);
        process.seen_by_parent = true;
        self.insert(event.child, process, engine, event.time);
    }

    /// A process runs another program.
    pub fn exec(&mut self, event: &Exec, engine: &impl Engine) {
        let parent = self.leader(event.parent, engine);
        if self.processes.contains_key(&event.pid) && !self.is_child_of(event.pid, parent) {
            // Its number is an older process's, whose end and whose successor's start were both lost.
            self.processes.remove(&event.pid);
        }
        self.find(event.pid, engine);
        if let Some(process) = self.processes.get_mut(&event.pid) {
            let file = if event.file.is_empty() { &process.image.file } else { event.file };
            process.image = Rc::new(Image::new(event.name, file));
            process.below = None;
            process.exited = false;
        }
    }

    /// A thread ends; with the main thread its process.
    pub fn exited(&mut self, tid: u32) {
        let Some(process) = self.processes.get_mut(&tid) else {
            return;
        };
        process.exited = true;
        self.graves.push_back((tid, process.start));
        if self.graves.len() > GRAVES {
            self.bury();
        }
    }

    fn bury(&mut self) {
        let Some((pid, start)) = self.graves.pop_front() else {
            return;
        };
        if self.processes.get(&pid).is_some_and(|each| each.exited && each.start == start) {
            self.processes.remove(&pid);
        }
    }

    fn leader(&self, tid: u32, engine: &impl Engine) -> u32 {
        if self.processes.contains_key(&tid) {
            return tid;
        }
        engine.leader(tid).unwrap_or(tid)
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

    fn has_entered(&self, parent: u32, event: &Born) -> bool {
        let Some(above) = self.processes.get(&parent) else {
            return false;
        };
        let crossed = if above.namespace == 0 {
            above.vpid == parent && event.vpid != event.pid
        } else {
            above.namespace != event.namespace
        };
        above.entered || (crossed && event.vpid != 1)
    }

    fn child(&mut self, parent: u32, name: &[u8], time: u64) -> Process {
        let line = self.line_below(parent);
        let image = self.processes.get(&parent).map(|each| Rc::clone(&each.image)).unwrap_or_default();
        let mut process = Process {
            start: time,
            image,
            origin: Origin::Forked,
            vpid: 0,
            entered: false,
            line,
            namespace: 0,
            parent,
            below: None,
            seen_by_parent: false,
            seen_by_child: false,
            exited: false,
        };
        rename(&mut process, name);
        process
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
            while self.processes.len() >= self.limit && !self.graves.is_empty() {
                self.bury();
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

/// A process that calls itself something else than what it was forked as.
fn rename(process: &mut Process, name: &[u8]) {
    if !name.is_empty() && *process.image.name != *name {
        process.image = Rc::new(Image::new(name, &process.image.file));
    }
}
