//! The plugin: events go into the tree, fields come out of it.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::panic::{AssertUnwindSafe, catch_unwind};

use falco_plugin::anyhow::{Context, Error, Result, ensure};
use falco_plugin::base::{Metric, MetricLabel, MetricType, MetricValue, Plugin};
use falco_plugin::extract::{ExtractFieldInfo, ExtractPlugin, ExtractRequest, field};
use falco_plugin::parse::{EventInput, ParseInput, ParsePlugin};
use falco_plugin::serde::Deserialize;
use falco_plugin::tables::{TableReader, TablesInput};

use crate::engine::{Tables, View};
use crate::event::{ProcessEvent, SyscallEvent};
use crate::packed::packed;
use crate::start::Starts;
use crate::tree::{Ancestor, Counts, DEEPEST, Origin, Process, Tree};

/// Descriptors of a process that are looked at for server sockets.
const MOST_DESCRIPTORS: usize = 4096;

/// A process with so many descriptors is asked for its ports once a while only.
const MANY_DESCRIPTORS: usize = 128;

/// Events during which the ports of such a process are taken as they were.
const KEEP_PORTS: usize = 100_000;

/// Processes whose ports are kept.
const MOST_KEPT: usize = 1024;

/// `init_config` of the plugin, all optional.
#[derive(Debug, Deserialize)]
#[serde(crate = "falco_plugin::serde", deny_unknown_fields, default)]
struct Config {
    /// The most ancestors of a process, 2 to 16. Of more those in the middle are left out.
    depth: usize,
    /// Whether names and files are remembered; without them memory is half.
    names: bool,
    /// The most processes remembered, at least 1,024.
    processes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { depth: DEEPEST, names: true, processes: 131_072 }
    }
}

impl Config {
    fn read(text: &str) -> Result<Self> {
        let config: Self =
            if text.trim().is_empty() { Self::default() } else { serde_json::from_str(text).context("init_config")? };
        ensure!((2..=DEEPEST).contains(&config.depth), "init_config: depth must be 2 to {DEEPEST}");
        ensure!(config.processes >= 1024, "init_config: processes must be at least 1024");
        Ok(config)
    }
}

struct Ports {
    start: u64,
    asked: usize,
    held: Vec<u16>,
}

/// The state of the plugin.
pub struct Lineage {
    tree: Tree,
    tables: Tables,
    starts: Starts,
    names: bool,
    opened: bool,
    ports: HashMap<u32, Ports>,
    panics: u64,
}

impl Plugin for Lineage {
    const NAME: &'static CStr = c"lineage";
    const PLUGIN_VERSION: &'static CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => panic!("a version holds no NUL"),
        };
    const DESCRIPTION: &'static CStr = c"The true ancestry of every process, as it was when it was forked";
    const CONTACT: &'static CStr = c"https://github.com/falco-correlator/falco-correlator";
    type ConfigType = String;

    fn new(input: Option<&TablesInput>, config: String) -> Result<Self, Error> {
        let config = Config::read(&config)?;
        Ok(Self {
            tree: Tree::new(config.depth, config.processes),
            tables: Tables::open(input)?,
            starts: Starts::new(),
            names: config.names,
            opened: false,
            ports: HashMap::new(),
            panics: 0,
        })
    }

    fn get_metrics(&mut self) -> impl IntoIterator<Item = Metric> {
        let Counts { lost, refused, shortened, swept } = self.tree.counts;
        let count = |name, value| Metric::new(MetricLabel::new(name, MetricType::Monotonic), MetricValue::U64(value));
        let level = MetricLabel::new(c"processes", MetricType::NonMonotonic);
        [
            Metric::new(level, MetricValue::U64(self.tree.len() as u64)),
            count(c"lost", lost),
            count(c"refused", refused),
            count(c"shortened", shortened),
            count(c"swept", swept),
            count(c"panics", self.panics),
        ]
    }
}

impl ParsePlugin for Lineage {
    type Event<'a> = ProcessEvent<'a>;

    fn parse_event(&mut self, event: &EventInput<ProcessEvent<'_>>, input: &ParseInput) -> Result<()> {
        let event = event.event()?;
        self.guarded(|this| {
            let view = this.tables.read(&input.reader, &this.starts);
            if !this.opened {
                this.opened = true;
                for pid in view.processes() {
                    this.tree.adopt(pid, Origin::Proc, &view);
                }
            }
            match event {
                ProcessEvent::Born(mut born) => {
                    born.name = if this.names { born.name } else { b"" };
                    this.tree.born(&born, &view);
                }
                ProcessEvent::Forked(mut forked) => {
                    forked.name = if this.names { forked.name } else { b"" };
                    this.tree.forked(&forked, &view);
                }
                ProcessEvent::Exec(mut exec) => {
                    if !this.names {
                        (exec.name, exec.file) = (b"", b"");
                    }
                    this.tree.exec(&exec, &view);
                }
                ProcessEvent::Exited(tid) => this.tree.exited(tid, &view),
                ProcessEvent::Other => {}
            }
            Some(())
        });
        Ok(())
    }
}

type Request<'c, 'e, 'r, 't> = ExtractRequest<'c, 'e, 'r, 't, Lineage>;

#[allow(clippy::needless_pass_by_value, reason = "the SDK gives requests by value")]
impl Lineage {
    /// Run what must never take Falco down: a panic is counted, and gives nothing.
    fn guarded<T>(&mut self, run: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        catch_unwind(AssertUnwindSafe(|| run(self))).unwrap_or_else(|_| {
            self.panics += 1;
            None
        })
    }

    /// What a field says of the process that an event belongs to.
    fn about<T>(&mut self, request: &Request, say: impl FnOnce(&Process) -> T) -> Result<Option<T>> {
        let tid = request.event.event()?.tid;
        Ok(self.guarded(|this| {
            let view = this.tables.read(request.table_reader, &this.starts);
            let (_, process) = process(&mut this.tree, tid, &view)?;
            Some(say(process))
        }))
    }

    fn pids(&mut self, request: Request) -> Result<Option<Vec<u64>>> {
        self.about(&request, |each| nearest_first(each).map(|each| u64::from(each.pid)).collect())
    }

    fn names(&mut self, request: Request) -> Result<Option<Vec<CString>>> {
        self.about(&request, |each| nearest_first(each).map(|each| text(&each.image.name)).collect())
    }

    fn files(&mut self, request: Request) -> Result<Option<Vec<CString>>> {
        self.about(&request, |each| nearest_first(each).map(|each| text(&each.image.file)).collect())
    }

    fn depth(&mut self, request: Request) -> Result<Option<u64>> {
        self.about(&request, |each| u64::from(each.line.depth))
    }

    fn root(&mut self, request: Request) -> Result<Option<CString>> {
        self.about(&request, |each| text(&each.line.ancestors.first().map_or(&each.image, |each| &each.image).file))
    }

    fn entered(&mut self, request: Request) -> Result<Option<bool>> {
        self.about(&request, |each| each.entered)
    }

    fn exact(&mut self, request: Request) -> Result<Option<bool>> {
        self.about(&request, |each| {
            each.origin != Origin::Lost && each.line.ancestors.iter().all(|each| each.origin != Origin::Lost)
        })
    }

    fn serves(&mut self, request: Request) -> Result<Option<Vec<u64>>> {
        let input = request.event.event()?;
        let now = request.event.event_number();
        Ok(self.guarded(|this| {
            let view = this.tables.read(request.table_reader, &this.starts);
            let (_, process) = process(&mut this.tree, input.tid, &view)?;
            let held = process.line.ancestors.iter().map(|each| ports(&mut this.ports, &view, each, now));
            let mut found: Vec<u64> = held.flatten().map(u64::from).collect();
            found.sort_unstable();
            found.dedup();
            (!found.is_empty()).then_some(found)
        }))
    }

    fn packed(&mut self, request: Request) -> Result<Option<CString>> {
        let input = request.event.event()?;
        let now = request.event.event_number();
        Ok(self.guarded(|this| {
            let view = this.tables.read(request.table_reader, &this.starts);
            let (pid, process) = process(&mut this.tree, input.tid, &view)?;
            let ancestors = &process.line.ancestors;
            let held: Vec<Vec<u16>> = ancestors.iter().map(|each| ports(&mut this.ports, &view, each, now)).collect();
            let session = view.session(pid).unwrap_or_default();
            Some(text(packed(pid, process, session, &held).as_bytes()))
        }))
    }
}

fn process<'t, R: TableReader>(tree: &'t mut Tree, tid: i64, view: &View<R>) -> Option<(u32, &'t Process)> {
    let tid = u32::try_from(tid).ok()?;
    let pid = tree.leader(tid, view)?;
    Some((pid, tree.find(pid, view)?))
}

/// The ports that an ancestor holds now. One with very many descriptors is not asked for every alert.
fn ports<R: TableReader>(kept: &mut HashMap<u32, Ports>, view: &View<R>, of: &Ancestor, now: usize) -> Vec<u16> {
    if let Some(known) = kept.get(&of.pid) {
        if known.start == of.start && now.saturating_sub(known.asked) < KEEP_PORTS {
            return known.held.clone();
        }
    }
    let (ports, seen) = view.serves(of.pid, MOST_DESCRIPTORS);
    if seen >= MANY_DESCRIPTORS {
        if kept.len() >= MOST_KEPT {
            kept.clear();
        }
        kept.insert(of.pid, Ports { start: of.start, asked: now, held: ports.clone() });
    }
    ports
}

fn nearest_first(process: &Process) -> impl Iterator<Item = &Ancestor> {
    process.line.ancestors.iter().rev()
}

fn text(bytes: &[u8]) -> CString {
    CString::new(bytes).unwrap_or_default()
}

impl ExtractPlugin for Lineage {
    type Event<'a> = SyscallEvent;
    type ExtractContext = ();

    const EXTRACT_FIELDS: &'static [ExtractFieldInfo<Self>] = &[
        field("lineage.pids", &Self::pids)
            .with_display("Ancestor pids")
            .with_description("The pids of the ancestors that the process had when it was forked, its parent first"),
        field("lineage.names", &Self::names)
            .with_display("Ancestor names")
            .with_description("The names of those ancestors at the time of the fork, the parent's first"),
        field("lineage.files", &Self::files).with_display("Ancestor files").with_description(
            "The resolved files that those ancestors ran at the time of the fork, the parent's first",
        ),
        field("lineage.depth", &Self::depth)
            .with_display("Ancestor count")
            .with_description("How many ancestors the process has in truth, also those that are not kept"),
        field("lineage.root", &Self::root)
            .with_display("Oldest ancestor")
            .with_description("The resolved file of the oldest ancestor, or of the process if it has none"),
        field("lineage.entered", &Self::entered).with_display("Entered").with_description(
            "Whether the process, or an ancestor, came into its pid namespace from outside: docker exec, kubectl exec",
        ),
        field("lineage.exact", &Self::exact).with_display("Exact").with_description(
            "Whether no fork in the ancestry was lost; what was there before Falco is as /proc showed it",
        ),
        field("lineage.serves", &Self::serves)
            .with_display("Served ports")
            .with_description("The TCP ports at which an ancestor holds a server socket now"),
        field("lineage.packed", &Self::packed)
            .with_display("Packed ancestry")
            .with_description("Everything that Falco Correlator asks of a process, in one text"),
    ];
}
