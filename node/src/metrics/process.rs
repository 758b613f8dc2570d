//! What the system says of this process, where it says so in files (Linux): the metrics that
//! Prometheus' own client libraries have, under the same names.

use std::fs;

use super::text::{Kind, Page};

/// Parts of a second in which Linux tells CPU time to programs: `USER_HZ` is 100 on every
/// architecture that Rust runs on.
const TICKS_A_SECOND: f64 = 100.0;

/// What could be read.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Process {
    cpu_s: Option<f64>,
    resident: Option<u64>,
    virtual_: Option<u64>,
    threads: Option<u64>,
    open_fds: Option<u64>,
    max_fds: Option<u64>,
}

impl Process {
    /// Reads a few small files that the kernel makes up: no disk is waited for.
    pub(super) fn read() -> Self {
        let text = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
        let status = text("status");
        Self {
            cpu_s: cpu_s(&text("stat")),
            resident: field(&status, "VmRSS:").map(|kib| kib * 1_024),
            virtual_: field(&status, "VmSize:").map(|kib| kib * 1_024),
            threads: field(&status, "Threads:"),
            // One of them is the folder itself, being read.
            open_fds: fs::read_dir("/proc/self/fd").ok().map(|all| (all.count() as u64).saturating_sub(1)),
            max_fds: field(&text("limits"), "Max open files"),
        }
    }

    pub(super) fn write(&self, page: &mut Page) {
        use Kind::{Counter, Gauge};
        if let Some(cpu_s) = self.cpu_s {
            let help = "CPU time that the process has used, user and system.";
            page.one("process_cpu_seconds_total", Counter, help, cpu_s);
        }
        let gauges = [
            ("process_resident_memory_bytes", self.resident, "Memory of the process that is in RAM."),
            ("process_virtual_memory_bytes", self.virtual_, "Address space of the process."),
            ("process_threads", self.threads, "Threads of the process."),
            ("process_open_fds", self.open_fds, "Open files and sockets."),
            ("process_max_fds", self.max_fds, "Open files and sockets that the process may have."),
        ];
        for (name, value, help) in gauges {
            if let Some(value) = value {
                page.one(name, Gauge, help, value);
            }
        }
    }
}

/// User and system time: fields 14 and 15. The second may have spaces and parentheses in it.
fn cpu_s(stat: &str) -> Option<f64> {
    let after_name = stat.rsplit_once(')')?.1;
    let mut ticks = after_name.split_whitespace().skip(11).map(str::parse::<u64>);
    let (user, system) = (ticks.next()?.ok()?, ticks.next()?.ok()?);
    Some((user + system) as f64 / TICKS_A_SECOND)
}

/// The first number of the line that begins so.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read_whatever_the_process_is_called() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 100 0 0 0 250 75 0 0 20 0 9 0 100 1000 200";
        assert_eq!(cpu_s(stat), Some(3.25));
        assert_eq!(cpu_s(""), None);
        let limits = "Limit   Soft   Hard   Units\nMax open files            1024   524288   files\n";
        assert_eq!(field(limits, "Max open files"), Some(1_024));
        assert_eq!(field("Max open files            unlimited unlimited files", "Max open files"), None);
        assert_eq!(field("VmRSS:\t    8 kB\n", "VmRSS:"), Some(8));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_memory_and_files() {
        let process = Process::read();
        assert!(process.resident > Some(100_000) && process.open_fds > Some(2), "{process:?}");
        assert!(process.max_fds >= process.open_fds && process.threads >= Some(1), "{process:?}");
    }
}
