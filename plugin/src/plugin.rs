//! The plugin: events go into the tree, fields come out of it.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::panic::{AssertUnwindSafe, catch_unwind};

use falco_plugin::anyhow::{Context, Error, Result, anyhow, ensure};
use falco_plugin::base::{Metric, MetricLabel, MetricType, MetricValue, Plugin};
use falco_plugin::extract::{ExtractFieldInfo, ExtractPlugin, ExtractRequest, field};
use falco_plugin::parse::{EventInput, ParseInput, ParsePlugin};
use falco_plugin::serde::Deserialize;
use falco_plugin::tables::{LazyTableReader, TableReader, TablesInput};

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
        shielded(|| {
            let config = Config::read(&config)?;
            let mut tree = Tree::new(config.depth, config.processes);
            tree.names = config.names;
            Ok(Self {
                tree,
                tables: Tables::open(input)?,
                starts: Starts::new(),
                opened: false,
                ports: HashMap::new(),
                panics: 0,
            })
        })?
    }

    fn get_metrics(&mut self) -> impl IntoIterator<Item = Metric> {
        let found = self.guarded(|this| {
            let Counts { lost, refused, shortened, swept } = this.tree.counts;
            let level = MetricLabel::new(c"processes", MetricType::NonMonotonic);
            let mut found = vec![Metric::new(level, MetricValue::U64(this.tree.len() as u64))];
            let counts = [(c"lost", lost), (c"refused", refused), (c"shortened", shortened), (c"swept", swept)];
            for (name, count) in counts.into_iter().chain([(c"panics", this.panics)]) {
                found.push(Metric::new(MetricLabel::new(name, MetricType::Monotonic), MetricValue::U64(count)));
            }
            Some(found)
        });
        found.unwrap_or_default()
    }
}

impl ParsePlugin for Lineage {
    type Event<'a> = ProcessEvent<'a>;

    fn parse_event(&mut self, event: &EventInput<ProcessEvent<'_>>, input: &ParseInput) -> Result<()> {
        self.guarded(|this| {
            let event = event.event().ok()?;
            let view = this.tables.read(&input.reader, &this.starts);
            if !this.opened {
                this.opened = true;
                for pid in view.processes() {
                    this.tree.adopt(pid, Origin::Proc, &view);
                }
            }
            match event {
                ProcessEvent::Born(born) => this.tree.born(&born, &view),
                ProcessEvent::Forked(forked) => this.tree.forked(&forked, &view),
                ProcessEvent::Exec(exec) => this.tree.exec(&exec, &view),
                ProcessEvent::Exited(tid) => this.tree.exited(tid, &view),
                ProcessEvent::Other => {}
            }
            Some(())
        });
        Ok(())
    }
}

type Request<'c, 'e, 'r, 't> = ExtractRequest<'c, 'e, 'r, 't, Lineage>;

/// A process that fields are asked of.
struct Asked<'a> {
    pid: u32,
    process: &'a Process,
    view: View<'a, LazyTableReader<'a>>,
    kept: &'a mut HashMap<u32, Ports>,
    now: usize,
}

impl Asked<'_> {
    fn ancestors(&self) -> &[Ancestor] {
        &self.process.line.ancestors
    }

    fn nearest_first<T>(&self, say: impl Fn(&Ancestor) -> T) -> Vec<T> {
        self.ancestors().iter().rev().map(say).collect()
    }

    /// The ports that each ancestor holds now. One with very many descriptors is not asked for every alert.
    fn ports(&mut self) -> Vec<Vec<u16>> {
        let Self { process, view, kept, now, .. } = self;
        process.line.ancestors.iter().map(|each| ports(kept, view, each, *now)).collect()
    }
}

#[allow(clippy::needless_pass_by_value, reason = "the SDK gives requests by value")]
impl Lineage {
    /// Run what must never take Falco down: a panic is counted, and gives nothing.
    fn guarded<T>(&mut self, run: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        shielded(|| run(self)).unwrap_or_else(|_| {
            self.panics += 1;
            None
        })
    }

    /// What a field says of the process that an event belongs to.
    #[allow(clippy::unnecessary_wraps, reason = "the SDK wants a result")]
    fn about<T>(&mut self, request: &Request, say: impl FnOnce(Asked) -> Option<T>) -> Result<Option<T>> {
        Ok(self.guarded(|this| {
            let tid = u32::try_from(request.event.event().ok()?.tid).ok()?;
            let view = this.tables.read(request.table_reader, &this.starts);
            let pid = this.tree.leader(tid, &view)?;
            let process = this.tree.find(pid, &view)?;
            say(Asked { pid, process, view, kept: &mut this.ports, now: request.event.event_number() })
        }))
    }

    fn pids(&mut self, request: Request) -> Result<Option<Vec<u64>>> {
        self.about(&request, |asked| Some(asked.nearest_first(|each| u64::from(each.pid))))
    }

    fn names(&mut self, request: Request) -> Result<Option<Vec<CString>>> {
        self.about(&request, |asked| Some(asked.nearest_first(|each| text(&each.image.name))))
    }

    fn files(&mut self, request: Request) -> Result<Option<Vec<CString>>> {
        self.about(&request, |asked| Some(asked.nearest_first(|each| text(&each.image.file))))
    }

    fn depth(&mut self, request: Request) -> Result<Option<u64>> {
        self.about(&request, |asked| Some(u64::from(asked.process.line.depth)))
    }

    fn root(&mut self, request: Request) -> Result<Option<CString>> {
        self.about(&request, |asked| {
            let oldest = asked.ancestors().first().map_or(&asked.process.image, |each| &each.image);
            Some(text(&oldest.file))
        })
    }

    fn entered(&mut self, request: Request) -> Result<Option<bool>> {
        self.about(&request, |asked| Some(asked.process.entered))
    }

    fn exact(&mut self, request: Request) -> Result<Option<bool>> {
        self.about(&request, |asked| {
            let was_seen = |origin| origin != Origin::Lost;
            Some(was_seen(asked.process.origin) && asked.ancestors().iter().all(|each| was_seen(each.origin)))
        })
    }

    fn serves(&mut self, request: Request) -> Result<Option<Vec<u64>>> {
        self.about(&request, |mut asked| {
            let mut found: Vec<u64> = asked.ports().into_iter().flatten().map(u64::from).collect();
            found.sort_unstable();
            found.dedup();
            (!found.is_empty()).then_some(found)
        })
    }

    fn packed(&mut self, request: Request) -> Result<Option<CString>> {
        self.about(&request, |mut asked| {
            let session = asked.view.session(asked.pid).unwrap_or_default();
            let ports = asked.ports();
            Some(text(packed(asked.pid, asked.process, session, &ports).as_bytes()))
        })
    }
}

/// Run what must never take Falco down, and give a panic as an error.
fn shielded<T>(run: impl FnOnce() -> T) -> Result<T> {
    catch_unwind(AssertUnwindSafe(|| {
        #[cfg(test)]
        crate::tests::panic_if_asked();
        run()
    }))
    .map_err(|_| anyhow!("lineage failed; standard error says where"))
}

/// The ports that an ancestor holds now.
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

fn text(bytes: &[u8]) -> CString {
    CString::new(bytes).unwrap_or_default()
}

impl ExtractPlugin for Lineage {
    type Event<'a> = SyscallEvent;
    type ExtractContext = ();

    const EXTRACT_FIELDS: &'static [ExtractFieldInfo<Self>] = &[
        field("lineage.pids", &Self::pids).with_description("Pids of its ancestors, the parent's first"),
        field("lineage.names", &Self::names).with_description("Their names when they forked"),
        field("lineage.files", &Self::files).with_description("The resolved files that they ran when they forked"),
        field("lineage.depth", &Self::depth).with_description("How many ancestors there are in truth"),
        field("lineage.root", &Self::root).with_description("File of the oldest ancestor, or its own if it has none"),
        field("lineage.entered", &Self::entered).with_description("Whether docker exec or the like brought it in"),
        field("lineage.exact", &Self::exact).with_description("Whether no fork in the ancestry was lost"),
        field("lineage.serves", &Self::serves).with_description("TCP ports of ancestors' server sockets"),
        field("lineage.packed", &Self::packed).with_description("All of it in one text, as FORMAT.md specifies"),
    ];
}
