//! The plugin under the SDK's own runner: real events as bytes, a table of threads, no engine.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::time::{Duration, Instant};

use falco_event::events::RawEvent;
use falco_plugin::anyhow::{Error, Result};
use falco_plugin::base::Plugin;
use falco_plugin::parse::{ParseInput, ParsePlugin};
use falco_plugin::source::{EventBatch, EventInput, SourcePlugin, SourcePluginInstance};
use falco_plugin::static_plugin;
use falco_plugin::tables::{TablesInput, export};
use falco_plugin_runner::{CapturingPluginRunner, Event, ExtractedField, MetricValue, PluginRunner};

use super::{Random, provoke};
use crate::plugin::Lineage;

static_plugin!(pub LINEAGE_API = Lineage);
static_plugin!(ENGINE_API = FakeEngine);

type Descriptors = export::Table<i64, Descriptor>;
type Threads = export::Table<i64, Thread>;

#[derive(export::Entry)]
struct Descriptor {
    r#type: export::Public<u8>,
    socket_ipv4_server_port: export::Public<u16>,
    socket_ipv4_server_l4_proto: export::Public<u8>,
    socket_ipv6_server_port: export::Public<u16>,
    socket_ipv6_server_l4_proto: export::Public<u8>,
}

#[derive(export::Entry)]
struct Thread {
    tid: export::Public<i64>,
    pid: export::Public<i64>,
    ptid: export::Public<i64>,
    vpid: export::Public<i64>,
    pidns_init_start_ts: export::Public<u64>,
    sid: export::Public<i64>,
    tty: export::Public<u32>,
    loginuid: export::Public<u32>,
    comm: export::Public<CString>,
    exe_path: export::Public<CString>,
    file_descriptors: Box<Descriptors>,
}

/// A process of the fake engine's table: pid, parent, name, file, and its server sockets as (type, protocol, port).
pub struct Row(pub i64, pub i64, pub &'static CStr, pub &'static CStr, pub &'static [(u8, u8, u16)]);

thread_local! {
    static EVENTS: RefCell<VecDeque<Vec<u8>>> = const { RefCell::new(VecDeque::new()) };
    static ROWS: RefCell<Vec<Row>> = const { RefCell::new(Vec::new()) };
}

struct FakeEngine(Box<Threads>);

impl FakeEngine {
    fn fill(&mut self) -> Result<()> {
        for Row(pid, parent, name, file, servers) in ROWS.with_borrow_mut(std::mem::take) {
            let mut thread = self.0.create_entry()?;
            (*thread.tid, *thread.pid, *thread.ptid, *thread.vpid, *thread.sid) = (pid, pid, parent, pid, 77);
            (*thread.tty, *thread.loginuid, *thread.pidns_init_start_ts) = (34816, u32::MAX, 1);
            (*thread.comm, *thread.exe_path) = (name.into(), file.into());
            for (number, (kind, protocol, port)) in (3..).zip(servers) {
                let mut descriptor = thread.file_descriptors.create_entry()?;
                *descriptor.r#type = *kind;
                *descriptor.socket_ipv4_server_l4_proto = if *kind == 5 { *protocol } else { 0 };
                *descriptor.socket_ipv4_server_port = if *kind == 5 { *port } else { 0 };
                *descriptor.socket_ipv6_server_l4_proto = if *kind == 6 { *protocol } else { 0 };
                *descriptor.socket_ipv6_server_port = if *kind == 6 { *port } else { 0 };
                thread.file_descriptors.insert(&number, descriptor);
            }
            self.0.insert(&pid, thread);
        }
        Ok(())
    }
}

impl Plugin for FakeEngine {
    const NAME: &'static CStr = c"engine";
    const PLUGIN_VERSION: &'static CStr = c"0.0.0";
    const DESCRIPTION: &'static CStr = c"a table of threads and the events of a test";
    const CONTACT: &'static CStr = c"none";
    type ConfigType = ();

    fn new(input: Option<&TablesInput>, (): ()) -> Result<Self, Error> {
        let mut engine = Self(input.expect("tables").add_table(Threads::new(c"threads")?)?);
        engine.fill()?;
        Ok(engine)
    }
}

impl ParsePlugin for FakeEngine {
    type Event<'a> = RawEvent<'a>;

    fn parse_event(&mut self, _: &EventInput<RawEvent>, _: &ParseInput) -> Result<()> {
        Ok(())
    }
}

struct Stream;

impl SourcePlugin for FakeEngine {
    type Instance = Stream;
    const EVENT_SOURCE: &'static CStr = c"";
    const PLUGIN_ID: u32 = 0;
    type Event<'a> = RawEvent<'a>;

    fn open(&mut self, _: Option<&str>) -> Result<Stream> {
        Ok(Stream)
    }

    fn event_to_string(&mut self, _: &EventInput<RawEvent>) -> Result<CString> {
        Ok(CString::default())
    }
}

impl SourcePluginInstance for Stream {
    type Plugin = FakeEngine;

    fn next_batch(&mut self, engine: &mut FakeEngine, batch: &mut EventBatch) -> Result<()> {
        engine.fill()?;
        if let Some(event) = EVENTS.with_borrow_mut(VecDeque::pop_front) {
            batch.add(event.as_slice())?;
        }
        Ok(())
    }
}

/// The bytes of an event.
pub fn raw(kind: u16, time: u64, tid: i64, params: &[Vec<u8>]) -> Vec<u8> {
    let size: usize = params.iter().map(|each| each.len() + 2).sum();
    let mut event = Vec::new();
    event.extend(time.to_ne_bytes());
    event.extend(tid.to_ne_bytes());
    event.extend(u32::try_from(26 + size).unwrap().to_ne_bytes());
    event.extend(kind.to_ne_bytes());
    event.extend(u32::try_from(params.len()).unwrap().to_ne_bytes());
    for param in params {
        event.extend(u16::try_from(param.len()).unwrap().to_ne_bytes());
    }
    event.extend(params.concat());
    event
}

fn number(value: i64) -> Vec<u8> {
    value.to_ne_bytes().to_vec()
}

fn c_text(value: &str) -> Vec<u8> {
    [value.as_bytes(), b"\0"].concat()
}

/// The clone event of a child.
pub fn clone_child(time: u64, pid: i64, parent: i64, name: &str) -> Vec<u8> {
    let mut params = vec![Vec::new(); 21];
    for (index, value) in [(0, 0), (3, pid), (4, pid), (5, parent), (18, pid), (19, pid), (20, 1)] {
        params[index] = number(value);
    }
    params[13] = c_text(name);
    params[15] = 0_u32.to_ne_bytes().to_vec();
    raw(223, time, pid, &params)
}

/// A successful execve.
pub fn execve(time: u64, pid: i64, parent: i64, name: &str, file: &str) -> Vec<u8> {
    let mut params = vec![Vec::new(); 31];
    for (index, value) in [(0, 0), (3, pid), (4, pid), (5, parent)] {
        params[index] = number(value);
    }
    params[13] = c_text(name);
    params[27] = c_text(file);
    raw(293, time, pid, &params)
}

/// A runner with the plugin, a table of threads, and what is to happen.
pub fn play(rows: Vec<Row>, config: &CStr) -> CapturingPluginRunner {
    ROWS.set(rows);
    let mut runner = PluginRunner::new();
    runner.register_plugin(&ENGINE_API, c"").unwrap();
    runner.register_plugin(&LINEAGE_API, config).unwrap();
    runner.start_capture().unwrap()
}

/// One event happens.
pub fn happen(runner: &mut CapturingPluginRunner, event: Vec<u8>) -> Event {
    EVENTS.with_borrow_mut(|events| events.push_back(event));
    runner.next_event().unwrap()
}

/// A field of an event, as Falco would print it.
pub fn field(runner: &mut CapturingPluginRunner, event: &Event, name: &str) -> String {
    match runner.extract_field(event, name).expect("a known field").expect("no failure") {
        ExtractedField::Vec(found) => found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        found => found.to_string(),
    }
}

/// Pids that no machine has, so that /proc knows nothing of them.
fn machine() -> Vec<Row> {
    vec![
        Row(9_000_001, 0, c"systemd", c"/lib/systemd/systemd", &[]),
        Row(
            9_000_800,
            9_000_001,
            c"nginx",
            c"/usr/sbin/nginx",
            &[(5, 2, 80), (6, 2, 443), (5, 3, 53), (8, 2, 9), (5, 2, 0)],
        ),
        Row(9_000_801, 9_000_800, c"nginx", c"/usr/sbin/nginx", &[(5, 2, 80)]),
    ]
}

#[test]
fn a_shell_after_a_double_fork_still_descends_from_the_server() {
    let mut runner = play(machine(), c"");
    happen(&mut runner, clone_child(10, 900, 9_000_801, "nginx"));
    happen(&mut runner, clone_child(20, 901, 900, "nginx"));
    happen(&mut runner, raw(186, 25, 900, &[]));
    let event = happen(&mut runner, execve(30, 901, 1, "sh", "/usr/bin/dash"));
    assert_eq!(field(&mut runner, &event, "lineage.pids"), "900 9000801 9000800 9000001");
    assert_eq!(field(&mut runner, &event, "lineage.names"), "nginx nginx nginx systemd");
    assert_eq!(field(&mut runner, &event, "lineage.depth"), "4");
    assert_eq!(field(&mut runner, &event, "lineage.root"), "/lib/systemd/systemd");
    assert_eq!(field(&mut runner, &event, "lineage.entered"), "false");
    assert_eq!(field(&mut runner, &event, "lineage.exact"), "true");
    assert_eq!(field(&mut runner, &event, "lineage.serves"), "80 443");
}

#[test]
fn the_packed_field_is_the_golden_one() {
    let mut runner = play(machine(), c"");
    happen(&mut runner, clone_child(10, 900, 9_000_801, "nginx"));
    let event = happen(&mut runner, execve(30, 900, 9_000_801, "sh", "/usr/bin/da|sh"));
    assert_eq!(
        field(&mut runner, &event, "lineage.packed"),
        "=1;900;10;0;0;0;0;3;f;9000001:0:p 9000800:0:p:80,443 9000801:0:p:80;/lib/systemd/systemd||/usr/sbin/nginx|\
         |/usr/sbin/nginx||/usr/bin/da?sh|sh"
    );
}

#[test]
fn session_terminal_and_login_come_from_the_table() {
    let mut runner = play(machine(), c"");
    let event = happen(&mut runner, execve(30, 9_000_801, 9_000_800, "sh", "/bin/sh"));
    let packed = field(&mut runner, &event, "lineage.packed");
    assert_eq!(packed.split(';').skip(3).take(6).collect::<Vec<_>>(), ["77", "34816", "-1", "9000801", "2", "p"]);
}

#[test]
fn a_process_that_nobody_knows_has_no_fields() {
    let mut runner = play(machine(), c"");
    let event = happen(&mut runner, raw(3, 1, 4242, &[]));
    for name in ["lineage.pids", "lineage.names", "lineage.depth", "lineage.packed", "lineage.serves"] {
        assert_eq!(field(&mut runner, &event, name), "<NA>", "{name}");
    }
}

#[test]
fn without_names_nothing_is_remembered_but_numbers() {
    let mut runner = play(machine(), c"{\"names\": false}");
    happen(&mut runner, clone_child(10, 900, 9_000_801, "nginx"));
    happen(&mut runner, execve(15, 900, 9_000_801, "sh", "/bin/sh"));
    let event = happen(&mut runner, clone_child(20, 901, 900, "sh"));
    assert_eq!(field(&mut runner, &event, "lineage.pids"), "900 9000801 9000800 9000001");
    assert!(!field(&mut runner, &event, "lineage.files").contains("/bin/sh"));
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused_with_the_reason() {
    for (config, reason) in [
        (c"{\"depth\": 1}", "depth must be 2 to 16"),
        (c"{\"processes\": 3}", "processes must be at least 1024"),
        (c"{\"deep\": 3}", "unknown field"),
        (c"depth", "init_config"),
    ] {
        ROWS.set(machine());
        let mut runner = PluginRunner::new();
        runner.register_plugin(&ENGINE_API, c"").unwrap();
        let error = format!("{:?}", runner.register_plugin(&LINEAGE_API, config).unwrap_err());
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn an_engine_whose_tables_differ_is_refused_with_a_clear_word() {
    let error = format!("{:?}", PluginRunner::new().register_plugin(&LINEAGE_API, c"").unwrap_err());
    assert!(error.contains("lineage fits Falco 0.40 to 0.44"), "{error}");
}

/// Every field of the plugin.
pub const FIELDS: [&str; 9] = [
    "lineage.pids",
    "lineage.names",
    "lineage.files",
    "lineage.depth",
    "lineage.root",
    "lineage.entered",
    "lineage.exact",
    "lineage.serves",
    "lineage.packed",
];

/// A metric of the plugin.
pub fn metric(runner: &mut CapturingPluginRunner, name: &str) -> u64 {
    let found = runner.get_metrics().into_iter().find(|each| each.name == name).expect("a known metric");
    if let MetricValue::U64(value) = found.value { value } else { panic!("{name} is no number") }
}

#[test]
fn a_panic_in_any_callback_is_caught_and_counted_and_its_fields_are_empty() {
    let mut runner = play(machine(), c"");
    happen(&mut runner, clone_child(10, 900, 9_000_801, "nginx"));
    provoke(true);
    let event = happen(&mut runner, execve(30, 900, 9_000_801, "sh", "/bin/sh"));
    for name in FIELDS {
        assert_eq!(field(&mut runner, &event, name), "<NA>", "{name}");
    }
    assert!(runner.get_metrics().is_empty());
    provoke(false);
    assert_eq!(metric(&mut runner, "lineage.panics"), 1 + 9 + 1);
    let event = happen(&mut runner, execve(40, 900, 9_000_801, "sh", "/bin/sh"));
    assert_eq!(field(&mut runner, &event, "lineage.pids"), "9000801 9000800 9000001");
}

#[test]
fn a_panic_at_the_start_is_refused_with_a_word() {
    ROWS.set(machine());
    let mut runner = PluginRunner::new();
    runner.register_plugin(&ENGINE_API, c"").unwrap();
    provoke(true);
    let error = format!("{:?}", runner.register_plugin(&LINEAGE_API, c"").unwrap_err());
    provoke(false);
    assert!(error.contains("lineage failed"), "{error}");
}

#[test]
fn the_metrics_tell_how_many_processes_are_remembered() {
    let mut runner = play(machine(), c"");
    happen(&mut runner, clone_child(10, 900, 9_000_801, "nginx"));
    assert_eq!(metric(&mut runner, "lineage.processes"), 4);
    assert_eq!(metric(&mut runner, "lineage.lost"), 0);
}

#[test]
fn events_of_any_bytes_neither_fail_nor_panic() {
    fuzzed(super::times("FUZZ_EVENTS", 20_000), Duration::MAX);
}

/// `FUZZ_SECONDS=3600 cargo test --release -- --ignored hour`
#[test]
#[ignore = "as long as one likes"]
fn an_hour_of_events_of_any_bytes() {
    fuzzed(u64::MAX, Duration::from_secs(super::times("FUZZ_SECONDS", 60)));
}

/// Plays events, of which some are as Falco makes them, and some have bytes, parameters or lengths that are wrong.
fn fuzzed(most: u64, longest: Duration) {
    let mut runner = play(machine(), c"{\"processes\": 1024}");
    let mut random = Random::new(super::times("FUZZ_SEED", 5));
    let (begin, mut played) = (Instant::now(), 0);
    while played < most && (played % 1024 != 0 || begin.elapsed() < longest) {
        played += 1;
        let mut event = some_event(&mut random, played * 1_000_000);
        for _ in 0..[0, 0, 1, 4][random.below(4)] {
            if event.len() > 26 {
                let place = 26 + random.below(event.len() - 26);
                event[place] = u8::try_from(random.below(256)).unwrap();
            }
        }
        let event = happen(&mut runner, event);
        if random.once_in(4) {
            field(&mut runner, &event, FIELDS[random.below(FIELDS.len())]);
        }
    }
    println!("{played} events, {} processes remembered", metric(&mut runner, "lineage.processes"));
    assert_eq!(metric(&mut runner, "lineage.panics"), 0);
    assert!(metric(&mut runner, "lineage.processes") <= 1024);
}

fn some_event(random: &mut Random, time: u64) -> Vec<u8> {
    let kind = [223, 225, 227, 335, 293, 331, 186, 3][random.below(8)];
    let mut pid = || i64::try_from(random.below(3000)).unwrap();
    let (own, parent, inner) = (pid(), pid(), pid());
    if random.once_in(8) {
        let params: Vec<Vec<u8>> = (0..random.below(33)).map(|_| vec![7; random.below(300)]).collect();
        return raw(kind, time, own, &params);
    }
    let mut params = vec![Vec::new(); 31];
    let result = [0, 0, inner, -2][random.below(4)];
    let name = ["sh", "", "a|b;c", "sixteen letters ", "\u{fffd}"][random.below(5)];
    for (index, value) in
        [(0, result), (3, own), (4, own), (5, parent), (18, own), (19, [own, 1, inner][random.below(3)])]
    {
        params[index] = number(value);
    }
    params[13] = c_text(name);
    params[15] = (1_u32 << random.below(32)).to_ne_bytes().to_vec();
    params[20] = number(i64::try_from(random.below(5)).unwrap());
    params[27] = c_text(&"/x".repeat(random.below(300)));
    raw(kind, time, own, &params)
}
