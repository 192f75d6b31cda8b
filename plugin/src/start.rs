//! When processes that were there before Falco started, from /proc.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Clock ticks a second in /proc, which is 100 on every machine that Falco runs on.
const TICK: u64 = 10_000_000;

/// Field 22 of /proc/PID/stat, counted from the one behind the name.
const START: usize = 19;

/// Start times by pid. `HOST_ROOT` says where the host's /proc is mounted, as for Falco itself.
pub struct Starts {
    proc: PathBuf,
    boot: u64,
}

impl Starts {
    /// The machine's, with the time that it was booted at.
    pub fn new() -> Self {
        let root = std::env::var_os("HOST_ROOT").filter(|root| !root.is_empty());
        let proc = Path::new(&root.unwrap_or_else(|| "/".into())).join("proc");
        let up = text(&proc.join("uptime"));
        let boot = now().saturating_sub(nanoseconds(&up));
        Self { proc, boot }
    }

    /// Start of a process in nanoseconds since 1970, 0 if it is gone.
    pub fn of(&self, pid: u32) -> u64 {
        let stat = text(&self.proc.join(pid.to_string()).join("stat"));
        ticks(&stat).map_or(0, |ticks| self.boot + ticks * TICK)
    }
}

/// A file as text; "" if it cannot be read. Names of processes need not be UTF-8.
fn text(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

fn now() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_nanos()).unwrap_or_default()
}

/// The first number of /proc/uptime, seconds with two decimals, in nanoseconds.
fn nanoseconds(uptime: &str) -> u64 {
    let (seconds, rest) = uptime.split_once('.').unwrap_or((uptime, ""));
    let hundredths = rest.get(..2).and_then(|each| each.parse::<u64>().ok()).unwrap_or_default();
    seconds.trim().parse::<u64>().unwrap_or_default() * 1_000_000_000 + hundredths * TICK
}

/// A name may hold blanks and parentheses, so the fields count from the last parenthesis.
fn ticks(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(START)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Starts, nanoseconds, now, ticks};

    #[test]
    fn a_name_with_blanks_and_parentheses_does_not_move_the_start() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 0 0";
        assert_eq!(ticks(stat), Some(4711));
    }

    #[test]
    fn what_is_no_stat_gives_no_start() {
        assert_eq!(ticks(""), None);
        assert_eq!(ticks("7 (a) S 1"), None);
    }

    #[test]
    fn uptime_is_read_to_hundredths() {
        assert_eq!(nanoseconds("12.34 5.6"), 12_340_000_000);
        assert_eq!(nanoseconds(""), 0);
    }

    #[test]
    fn this_process_started_after_the_machine_and_not_in_the_future() {
        let starts = Starts::new();
        let start = starts.of(std::process::id());
        assert!(starts.boot < start && start <= now() + 1_000_000_000, "{start}");
    }

    #[test]
    fn a_process_that_is_gone_has_no_start() {
        assert_eq!(Starts::new().of(u32::MAX), 0);
    }
}
