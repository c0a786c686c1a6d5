//! What a load costs: the server's CPU and memory, the whole machine's CPU, and the generator's own.

use crate::kafka::Error;
use crate::kafka::process::Usage;
use crate::{machine, sys};
use serde::Serialize;

/// Readings at the start of an interval.
pub struct Begin {
    server: Option<(u32, Usage)>,
    busy_s: f64,
    own_s: f64,
}

/// What was used in the interval.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Cost {
    /// CPU seconds of the server's process.
    pub server_cpu_s: Option<f64>,
    /// The server at the end: CPU since its start, memory.
    pub server: Option<Usage>,
    /// CPU seconds that the machine was busy, with everything on it: the kernel's writeback counts, and other work too.
    pub machine_busy_s: f64,
    /// CPU seconds of the generator, and of the client processes that it ran.
    pub generator_cpu_s: f64,
    /// The server's CPU seconds for 10^9 bytes.
    pub server_cpu_s_per_gb: Option<f64>,
    /// The machine's, without the generator's own.
    pub machine_cpu_s_per_gb: f64,
    /// The generator's.
    pub generator_cpu_s_per_gb: f64,
}

/// Begins to count, with the server of that process id, if it is known.
pub fn begin(server: Option<u32>) -> Result<Begin, Error> {
    let read = |pid| Usage::of(pid).map(|usage| (pid, usage));
    let server = server
        .map(read)
        .transpose()
        .map_err(|error| Error::Answer(format!("the process of the server cannot be looked at (--pid): {error}")))?;
    Ok(Begin { server, busy_s: machine::busy_cpu_s(), own_s: own_cpu_s() })
}

/// What this process has used, and the clients that it ran to their end.
fn own_cpu_s() -> f64 {
    sys::cpu_seconds() + sys::children_cpu_seconds()
}

impl Begin {
    /// Ends: what was used since, for so many bytes.
    pub fn end(&self, bytes: u64) -> Result<Cost, Error> {
        let (busy, own) = (machine::busy_cpu_s() - self.busy_s, own_cpu_s() - self.own_s);
        let server = self.server.map(|(pid, _)| Usage::of(pid)).transpose()?;
        let cpu = server.zip(self.server).map(|(after, (_, before))| after.cpu_s() - before.cpu_s());
        let per_gb = |seconds: f64| if bytes == 0 { 0.0 } else { seconds * 1e9 / bytes as f64 };
        Ok(Cost {
            server_cpu_s: cpu,
            server,
            machine_busy_s: busy,
            generator_cpu_s: own,
            server_cpu_s_per_gb: cpu.map(per_gb),
            machine_cpu_s_per_gb: per_gb((busy - own).max(0.0)),
            generator_cpu_s_per_gb: per_gb(own),
        })
    }
}
