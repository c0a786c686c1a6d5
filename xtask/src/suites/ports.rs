//! Free loopback ports for servers that a suite starts.

use anyhow::{Context, Result};
use std::net::TcpListener;
use std::ops::Range;

/// Below the ports that the kernel gives to outgoing connections: one of those may take a port between the moment that it
/// is found free here and the moment that the server binds it.
const RANGE: Range<u16> = 20_000..32_000;

/// The first of `count` ports in a row that are all free. Where the search starts depends on the process, so that two runs
/// at the same time do not find the same ones.
pub fn free(count: u16) -> Result<u16> {
    let steps = u32::from((RANGE.end - RANGE.start) / count);
    let candidates = (0..steps).map(|step| (std::process::id() + step) % steps);
    let mut firsts = candidates.filter_map(|step| Some(RANGE.start + u16::try_from(step).ok()? * count));
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    firsts.find(|first| (0..count).all(|next| is_free(first + next))).context("no free ports")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_in_use_are_passed_over() {
        let first = free(2).unwrap();
        let _held = TcpListener::bind(("127.0.0.1", first + 1)).unwrap();
        let other = free(2).unwrap();
        assert!(RANGE.contains(&first) && RANGE.contains(&other) && other != first);
    }
}
