//! `lineage`, a Falco plugin: the true ancestry of every process.
//!
//! Falco's own `proc.aname` follows the parents of today, so a daemon that forked twice descends from init. This plugin
//! sees every fork and remembers who a process descends from: setsid, double forks, a parent's death and reparenting
//! change nothing.

mod engine;
mod event;
mod packed;
mod plugin;
mod start;
mod tree;

#[cfg(test)]
mod tests;

#[cfg(not(test))]
mod exports {
    use falco_plugin::{extract_plugin, parse_plugin, plugin};

    use crate::plugin::Lineage;

    // 3.10.0 is the plugin interface of Falco 0.40: nothing newer is used.
    plugin!(unsafe { 3; 10; 0 } => Lineage);
    parse_plugin!(Lineage);
    extract_plugin!(Lineage);

    /// The schema of events that this plugin reads; Falco >= 0.42 asks, and without an answer counts 3.0.0 and stops.
    ///
    /// The released SDK does not export this function yet: to be dropped when it does.
    #[allow(unsafe_code, reason = "an exported name is an unsafe attribute; the function itself is safe")]
    #[unsafe(no_mangle)]
    pub extern "C" fn plugin_get_required_event_schema_version() -> *const std::ffi::c_char {
        c"4.0.0".as_ptr()
    }
}
