//! Falco's own state, read through the plugin interface: threads and their file descriptors.

use std::ffi::CStr;
use std::ops::ControlFlow;
use std::sync::Arc;

use falco_plugin::anyhow::{Context, Result};
use falco_plugin::tables::import::{Entry, Field, Table, TableMetadata};
use falco_plugin::tables::{TableReader, TablesInput};

use crate::start::Starts;
use crate::tree::{self, Known};

const IPV4_SERVER: u8 = 5;
const IPV6_SERVER: u8 = 6;
const TCP: u8 = 2;

type Descriptor = Entry<Arc<DescriptorMetadata>>;
type Descriptors = Table<i64, Descriptor>;

#[derive(TableMetadata)]
#[entry_type(Descriptor)]
struct DescriptorMetadata {
    // The SDK cannot export a field of this name from a test, only with the mark of a raw identifier.
    #[cfg_attr(not(test), name(c"type"))]
    #[cfg_attr(test, name(c"r#type"))]
    kind: Field<u8, Descriptor>,
    socket_ipv4_server_port: Field<u16, Descriptor>,
    socket_ipv4_server_l4_proto: Field<u8, Descriptor>,
    socket_ipv6_server_port: Field<u16, Descriptor>,
    socket_ipv6_server_l4_proto: Field<u8, Descriptor>,
}

type Thread = Entry<Arc<ThreadMetadata>>;

#[derive(TableMetadata)]
#[entry_type(Thread)]
struct ThreadMetadata {
    tid: Field<i64, Thread>,
    pid: Field<i64, Thread>,
    ptid: Field<i64, Thread>,
    vpid: Field<i64, Thread>,
    pidns_init_start_ts: Field<u64, Thread>,
    sid: Field<i64, Thread>,
    tty: Field<u32, Thread>,
    loginuid: Field<u32, Thread>,
    comm: Field<CStr, Thread>,
    exe_path: Field<CStr, Thread>,
    file_descriptors: Field<Descriptors, Thread>,
}

/// What the packed field says of the process itself besides its ancestry.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// Kernel session id.
    pub sid: i64,
    /// Controlling terminal, 0 if none.
    pub tty: u32,
    /// Login user; the largest number if none.
    pub loginuid: u32,
    /// Its number in its own pid namespace.
    pub vpid: i64,
}

/// Falco's tables.
pub struct Tables {
    threads: Table<i64, Thread>,
}

impl Tables {
    /// Look up the tables and the fields that are used.
    ///
    /// # Errors
    ///
    /// Falco is older than 0.40, or newer than those that this plugin fits.
    pub fn open(input: Option<&TablesInput>) -> Result<Self> {
        let input = input.context("Falco gave no access to its tables")?;
        let threads = input
            .get_table(c"threads")
            .context("lineage fits Falco 0.40 to 0.44; the threads table of this one differs")?;
        Ok(Self { threads })
    }

    /// A view of the tables during one event.
    pub fn read<'a, R: TableReader>(&'a self, reader: &'a R, starts: &'a Starts) -> View<'a, R> {
        View { threads: &self.threads, reader, starts }
    }
}

/// The tables during one event.
pub struct View<'a, R> {
    threads: &'a Table<i64, Thread>,
    reader: &'a R,
    starts: &'a Starts,
}

impl<R: TableReader> View<'_, R> {
    /// Every process that the table has.
    pub fn processes(&self) -> Vec<u32> {
        let mut found = Vec::new();
        let _ = self.threads.iter_entries_mut(self.reader, |thread| {
            if let (Ok(tid), Ok(pid)) = (thread.get_tid(self.reader), thread.get_pid(self.reader)) {
                if tid == pid {
                    found.extend(u32::try_from(pid));
                }
            }
            ControlFlow::Continue(())
        });
        found
    }

    /// Session, terminal, login and namespace pid of a process.
    pub fn session(&self, pid: u32) -> Option<Session> {
        let thread = self.threads.get_entry(self.reader, &i64::from(pid)).ok()?;
        Some(Session {
            sid: thread.get_sid(self.reader).unwrap_or_default(),
            tty: thread.get_tty(self.reader).unwrap_or_default(),
            loginuid: thread.get_loginuid(self.reader).unwrap_or(u32::MAX),
            vpid: thread.get_vpid(self.reader).unwrap_or_default(),
        })
    }

    /// The TCP ports at which a process holds a server socket, sorted; at most `most` of its descriptors are looked at.
    /// The second is how many those were.
    pub fn serves(&self, pid: u32, most: usize) -> (Vec<u16>, usize) {
        let mut ports = Vec::new();
        let mut seen = 0;
        let Ok(thread) = self.threads.get_entry(self.reader, &i64::from(pid)) else {
            return (ports, seen);
        };
        let Ok(descriptors) = thread.get_file_descriptors(self.reader) else {
            return (ports, seen);
        };
        let reader = self.reader;
        let _ = descriptors.iter_entries_mut(reader, |each| {
            seen += 1;
            let (port, protocol) = match each.get_kind(reader) {
                Ok(IPV4_SERVER) => {
                    (each.get_socket_ipv4_server_port(reader), each.get_socket_ipv4_server_l4_proto(reader))
                }
                Ok(IPV6_SERVER) => {
                    (each.get_socket_ipv6_server_port(reader), each.get_socket_ipv6_server_l4_proto(reader))
                }
                _ => (Ok(0), Ok(0)),
            };
            if let (Ok(port), Ok(TCP)) = (port, protocol) {
                if port != 0 {
                    ports.push(port);
                }
            }
            if seen < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        ports.sort_unstable();
        ports.dedup();
        (ports, seen)
    }
}

impl<R: TableReader> tree::Engine for View<'_, R> {
    fn leader(&self, tid: u32) -> Option<u32> {
        let thread = self.threads.get_entry(self.reader, &i64::from(tid)).ok()?;
        u32::try_from(thread.get_pid(self.reader).ok()?).ok()
    }

    fn known(&self, pid: u32) -> Option<Known> {
        let thread = self.threads.get_entry(self.reader, &i64::from(pid)).ok()?;
        let number = |each: Result<i64>| each.ok().and_then(|each| u32::try_from(each).ok()).unwrap_or_default();
        let text = |each: Result<&CStr>| each.map(|each| each.to_bytes().to_vec()).unwrap_or_default();
        let name = text(thread.get_comm(self.reader));
        if name.is_empty() {
            return None; // Falco's stand-in for a process that it does not know either
        }
        Some(Known {
            parent: number(thread.get_ptid(self.reader)),
            vpid: number(thread.get_vpid(self.reader)),
            namespace: thread.get_pidns_init_start_ts(self.reader).unwrap_or_default(),
            start: self.starts.of(pid),
            name,
            file: text(thread.get_exe_path(self.reader)),
        })
    }
}
