//! The packed field: everything that the correlator asks of an alert's process, in one text. See FORMAT.md.

use std::fmt::Write;

use crate::engine::Session;
use crate::tree::{Ancestor, Image, Origin, Process};

/// Characters of a name that the kernel keeps.
const LONGEST_NAME: usize = 15;

/// Write the packed field of a process; `ports` are those that each of its ancestors holds.
pub fn packed(pid: u32, process: &Process, session: Session, ports: &[Vec<u16>]) -> String {
    let mut out = String::with_capacity(1024);
    write_numbers(&mut out, pid, process, session, ports);
    for ancestor in &process.line.ancestors {
        write_image(&mut out, &ancestor.image);
        out.push('|');
    }
    write_image(&mut out, &process.image);
    out
}

fn write_numbers(out: &mut String, pid: u32, process: &Process, session: Session, ports: &[Vec<u16>]) {
    let Session { sid, tty, loginuid, vpid } = session;
    let login = if loginuid == u32::MAX { -1 } else { i64::from(loginuid) };
    let (start, depth) = (process.start, process.line.depth);
    // Writing to a String cannot fail.
    let _ = write!(out, "=1;{pid};{start};{sid};{tty};{login};{vpid};{depth};{}", letter(process.origin));
    if process.entered {
        out.push('e');
    }
    out.push(';');
    let gap = process.line.gap();
    for (index, ancestor) in process.line.ancestors.iter().enumerate() {
        if index > 0 {
            out.push(' ');
        }
        if gap == Some(index) {
            let _ = write!(out, "+{} ", depth as usize - process.line.ancestors.len());
        }
        write_ancestor(out, ancestor, ports.get(index).map_or(&[], Vec::as_slice));
    }
    out.push(';');
}

fn write_ancestor(out: &mut String, ancestor: &Ancestor, ports: &[u16]) {
    let _ = write!(out, "{}:{}:{}", ancestor.pid, ancestor.start, letter(ancestor.origin));
    for (index, port) in ports.iter().enumerate() {
        let _ = write!(out, "{}{port}", if index == 0 { ':' } else { ',' });
    }
}

fn letter(origin: Origin) -> char {
    match origin {
        Origin::Forked => 'f',
        Origin::Proc => 'p',
        Origin::Lost => 'l',
    }
}

/// `FILE|NAME`; the name is left out where it is that of the file.
fn write_image(out: &mut String, image: &Image) {
    write_text(out, &image.file);
    out.push('|');
    let base = image.file.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    if *image.name != base[..base.len().min(LONGEST_NAME)] {
        write_text(out, &image.name);
    }
}

fn write_text(out: &mut String, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    out.extend(text.chars().map(|each| if each == '|' || each.is_control() { '?' } else { each }));
}
