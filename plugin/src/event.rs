//! The events that make and change processes, read from their raw bytes: only the parameters that are needed.

use falco_event::events::{AnyEventPayload, PayloadFromBytesError, RawEvent};

use crate::tree::{Born, Exec, Forked};

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

/// In `flags` of clone: the child has other numbers than the result says (a new pid namespace, or an inner one).
const NUMBERED_ELSEWHERE: u32 = 1 << 6 | 1 << 29;

/// The exit events of clone, fork, vfork, clone3, execve and execveat, and the end of a thread.
#[derive(Debug)]
pub enum ProcessEvent<'a> {
    /// A child shows itself.
    Born(Born<'a>),
    /// A parent shows its child.
    Forked(Forked<'a>),
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
            PROCEXIT => u32::try_from(raw.metadata.tid).ok().map(Self::Exited),
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
    let params = params::<21>(raw)?;
    let result = number(params[0])?;
    let flags = params[15].try_into().map_or(0, u32::from_ne_bytes);
    if result < 0 || flags & IS_THREAD != 0 {
        return None;
    }
    let (time, tid, own) = (raw.metadata.ts, pid(params[3])?, pid(params[4])?);
    let (name, as_sibling) = (text(params[13]), flags & AS_SIBLING != 0);
    if result > 0 {
        let is_numbered_elsewhere = flags & NUMBERED_ELSEWHERE != 0;
        let child = pid(params[0])?;
        return Some(ProcessEvent::Forked(Forked {
            time,
            parent: own,
            child,
            name,
            as_sibling,
            is_numbered_elsewhere,
        }));
    }
    let namespace = number(params[20]).unwrap_or_default().cast_unsigned();
    let (parent, vpid) = (pid(params[5])?, pid(params[19]).unwrap_or_default());
    (tid == own).then_some(ProcessEvent::Born(Born { time, pid: own, parent, name, vpid, namespace, as_sibling }))
}

fn exec<'a>(raw: &RawEvent<'a>) -> Option<Exec<'a>> {
    let params = params::<28>(raw)?;
    let (pid, parent) = (pid(params[4])?, pid(params[5])?);
    (number(params[0])? == 0).then_some(Exec { pid, parent, name: text(params[13]), file: text(params[27]) })
}

/// The first N parameters of an event.
fn params<'a, const N: usize>(raw: &RawEvent<'a>) -> Option<[&'a [u8]; N]> {
    let mut found: [&[u8]; N] = [&[]; N];
    for (slot, param) in found.iter_mut().zip(raw.params::<u16>().ok()?) {
        *slot = param.ok()?;
    }
    Some(found)
}

fn number(param: &[u8]) -> Option<i64> {
    Some(i64::from_ne_bytes(param.try_into().ok()?))
}

fn pid(param: &[u8]) -> Option<u32> {
    u32::try_from(number(param)?).ok()
}

fn text(param: &[u8]) -> &[u8] {
    param.split(|byte| *byte == 0).next().unwrap_or_default()
}
