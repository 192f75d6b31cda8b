//! The events that make and change processes, read from their raw bytes: only the parameters that are needed.

use falco_event::events::{AnyEventPayload, PayloadFromBytesError, RawEvent};

use crate::tree::{Announced, Born, Exec, Forked};

const CLONE: u16 = 223;
const FORK: u16 = 225;
const VFORK: u16 = 227;
const EXECVE: u16 = 293;
const EXECVEAT: u16 = 331;
const CLONE3: u16 = 335;
const PROCEXIT: u16 = 186;

/// In `flags` of clone, as the drivers translate it: a thread, no process.
const IS_THREAD: u32 = 1 << 13;

/// In `flags` of clone: the child becomes the caller's sibling.
const AS_SIBLING: u32 = 1 << 8;

/// In `flags` of clone: the child is the first of a new pid namespace.
const IN_NEW_NAMESPACE: u32 = 1 << 6;

/// In `flags` of clone: the child has other numbers than the result says (a new pid namespace, or an inner one).
const NUMBERED_ELSEWHERE: u32 = 1 << 6 | 1 << 29;

/// The exit events of clone, fork, vfork, clone3, execve and execveat, and the end of a thread.
#[derive(Debug)]
pub enum ProcessEvent<'a> {
    /// A child shows itself.
    Born(Born<'a>),
    /// A parent shows its child.
    Forked(Forked<'a>),
    /// A parent shows its child by the number that it has inside their pid namespace.
    Announced(Announced),
    /// A process runs another program.
    Exec(Exec<'a>),
    /// A thread ends.
    Exited(u32),
    /// Failed calls, threads, and events that lack what they should have.
    Other,
}

impl AnyEventPayload for ProcessEvent<'_> {
    const SOURCES: &'static [Option<&'static str>] = &[Some("syscall")];
    const EVENT_TYPES: &'static [u16] = &[CLONE, FORK, VFORK, EXECVE, EXECVEAT, CLONE3, PROCEXIT];
}

impl<'a> TryFrom<&RawEvent<'a>> for ProcessEvent<'a> {
    type Error = PayloadFromBytesError;

    fn try_from(raw: &RawEvent<'a>) -> Result<Self, Self::Error> {
        let event = match raw.event_type {
            PROCEXIT => pid(raw.metadata.tid).map(Self::Exited),
            EXECVE | EXECVEAT => exec(raw).map(Self::Exec),
            CLONE | FORK | VFORK | CLONE3 => cloned(raw),
            _ => None,
        };
        Ok(event.unwrap_or(Self::Other))
    }
}

/// Any event of the syscall source: fields are asked of all of them.
#[derive(Debug)]
pub struct SyscallEvent {
    /// Thread that the event belongs to.
    pub tid: i64,
}

impl AnyEventPayload for SyscallEvent {
    const SOURCES: &'static [Option<&'static str>] = &[Some("syscall")];
    const EVENT_TYPES: &'static [u16] = &[];
}

impl From<&RawEvent<'_>> for SyscallEvent {
    fn from(raw: &RawEvent<'_>) -> Self {
        Self { tid: raw.metadata.tid }
    }
}

fn cloned<'a>(raw: &RawEvent<'a>) -> Option<ProcessEvent<'a>> {
    let params = Params::<21>::of(raw)?;
    let result = params.number(0)?;
    let flags = params.get(15).and_then(|each| each.try_into().ok()).map_or(0, u32::from_ne_bytes);
    if result < 0 || flags & IS_THREAD != 0 {
        return None;
    }
    let (tid, own) = (pid(params.number(3)?)?, pid(params.number(4)?)?);
    let name = params.text(13);
    if result > 0 {
        let is_host_pid = params.number(18).is_none_or(|vtid| vtid == i64::from(tid));
        if !is_host_pid {
            return (flags & IN_NEW_NAMESPACE == 0).then_some(ProcessEvent::Announced(Announced {
                time: raw.metadata.ts,
                parent: own,
                vpid: pid(result)?,
            }));
        }
        return (flags & NUMBERED_ELSEWHERE == 0).then_some(ProcessEvent::Forked(Forked {
            time: raw.metadata.ts,
            parent: own,
            child: pid(result)?,
            name,
            as_sibling: flags & AS_SIBLING != 0,
        }));
    }
    (tid == own).then_some(ProcessEvent::Born(Born {
        time: raw.metadata.ts,
        pid: own,
        parent: pid(params.number(5)?)?,
        name,
        vpid: params.number(19).and_then(pid).unwrap_or_default(),
        namespace: params.number(20).unwrap_or_default().cast_unsigned(),
    }))
}

fn exec<'a>(raw: &RawEvent<'a>) -> Option<Exec<'a>> {
    let params = Params::<28>::of(raw)?;
    if params.number(0)? != 0 {
        return None;
    }
    Some(Exec {
        pid: pid(params.number(4)?)?,
        parent: pid(params.number(5)?)?,
        name: params.text(13),
        file: params.text(27),
    })
}

fn pid(number: i64) -> Option<u32> {
    u32::try_from(number).ok()
}

/// The first N parameters of an event, as bytes.
struct Params<'a, const N: usize>([&'a [u8]; N]);

impl<'a, const N: usize> Params<'a, N> {
    fn of(raw: &RawEvent<'a>) -> Option<Self> {
        let mut found: [&[u8]; N] = [&[]; N];
        let mut params = raw.params::<u16>().ok()?;
        for slot in &mut found {
            match params.next() {
                Some(param) => *slot = param.ok()?,
                None => break,
            }
        }
        Some(Self(found))
    }

    fn get(&self, index: usize) -> Option<&'a [u8]> {
        self.0.get(index).copied()
    }

    fn number(&self, index: usize) -> Option<i64> {
        Some(i64::from_ne_bytes(self.get(index)?.try_into().ok()?))
    }

    fn text(&self, index: usize) -> &'a [u8] {
        let bytes = self.get(index).unwrap_or_default();
        bytes.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}
