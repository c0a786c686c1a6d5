//! The differential test: a case is played against the reference and against Headwater at the same time, step by step, and
//! each answer of one is compared with that of the other. Both get the same bytes, but for what one server alone can know:
//! the ids that it gave out. How many requests that concerned is counted.

use crate::play::{self, CHANGES, SETTLE, place};
use crate::player::{Apis, Played, Player};
use crate::raw;
use crate::scenario::{self, Scenario, Step};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What playing a case on both sides showed.
#[derive(Default)]
pub struct Found {
    /// Requests sent to each.
    pub requests: u32,
    /// Those among them whose bytes had to differ.
    pub substituted: u32,
    /// One line per place in an answer that differs.
    pub differences: Vec<String>,
}

/// The two servers.
#[derive(Clone, Copy)]
pub struct Pair {
    pub reference: SocketAddr,
    pub ours: SocketAddr,
}

/// Plays every case file, sends the frames of `raw.rs`, and prints a line for each; the counts of cases that agreed and that did not.
pub fn run(apis: &Apis, pair: Pair, paths: &[PathBuf]) -> Result<(u32, u32)> {
    let mut cases = Vec::new();
    for path in paths {
        cases.push((path, play::load(path)?));
    }
    // The reference makes topics of its own for groups, and what lists every topic shows them: those cases come last.
    cases.sort_by_key(|(_, scenario)| play::needs_coordinator(scenario));
    let (mut passed, mut failed) = (0, 0);
    for (path, scenario) in &cases {
        let name = path.file_stem().context("no name")?.to_string_lossy();
        match differ(apis, pair, scenario) {
            Ok(found) if found.differences.is_empty() => {
                passed += 1;
                println!(
                    "PASS {name}: {} requests, {} with ids of each server's own",
                    found.requests, found.substituted
                );
            }
            Ok(found) => {
                failed += 1;
                println!("FAIL {name}: {} differences in {} requests", found.differences.len(), found.requests);
                found.differences.iter().for_each(|line| println!("  {line}"));
            }
            Err(error) => {
                failed += 1;
                println!("FAIL {name}: {error:#}");
            }
        }
    }
    // Last, because the frames make the reference keep topics for groups too.
    wipe(apis, pair)?;
    let found = raw::differences(apis, &raw::watch(apis, pair.ours)?, &raw::watch(apis, pair.reference)?)?;
    match found.len() {
        0 => passed += 1,
        _ => failed += 1,
    }
    println!("{} raw frames: {} differences", if found.is_empty() { "PASS" } else { "FAIL" }, found.len());
    found.iter().for_each(|line| println!("  {line}"));
    Ok((passed, failed))
}

/// The case files of a folder, by name.
#[allow(clippy::disallowed_methods, reason = "a test's own files")]
pub fn case_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// Neither has anything of the case before.
fn wipe(apis: &Apis, pair: Pair) -> Result<()> {
    for (side, address) in [("the reference", pair.reference), ("Headwater", pair.ours)] {
        play::wipe(apis, address).with_context(|| format!("wiping {side}"))?;
    }
    Ok(())
}

fn differ(apis: &Apis, pair: Pair, scenario: &Scenario) -> Result<Found> {
    wipe(apis, pair)?;
    let masks = |address, settle| play::set_up(apis, address, scenario, settle);
    let mut reference = Player::new(apis, pair.reference, scenario, masks(pair.reference, SETTLE)?);
    let mut ours = Player::new(apis, pair.ours, scenario, masks(pair.ours, Duration::ZERO)?);
    let mut found = Found::default();
    for (index, step) in scenario.steps.iter().enumerate() {
        // Both at once, so that what the servers do by the clock meets the same course of time.
        let (theirs, answers) = std::thread::scope(|scope| {
            let theirs = scope.spawn(|| play_step(&mut reference, step, SETTLE));
            let answers = play_step(&mut ours, step, Duration::ZERO);
            (theirs.join(), answers)
        });
        let mut theirs = theirs.map_err(|_| anyhow::anyhow!("playing against the reference panicked"))?;
        for (version, played) in answers {
            let place = place(index, step, version);
            let expected = theirs.remove(&version).context("the reference was not asked")?;
            let expected = expected.with_context(|| format!("the reference, {place}"))?;
            match played {
                Ok(played) => compare(step, &place, &played, &expected, &mut found),
                Err(error) => found.differences.push(format!("{place}: {error:#}")),
            }
        }
    }
    Ok(found)
}

/// Plays the step at all of its versions; the last word on each version counts.
fn play_step<'a>(player: &mut Player<'a>, step: &'a Step, settle: Duration) -> BTreeMap<i16, Result<Played>> {
    let mut results = BTreeMap::new();
    let played = player.step(step, |version, played| {
        results.insert(version, played);
        if CHANGES.contains(&step.api.as_str()) {
            std::thread::sleep(settle);
        }
        Ok(())
    });
    if let Err(error) = played {
        results.insert(i16::MAX, Err(error));
    }
    results
}

fn compare(step: &Step, place: &str, ours: &Played, reference: &Played, found: &mut Found) {
    if !reference.frame.is_empty() {
        found.requests += 1;
        found.substituted += u32::from(ours.frame != reference.frame);
    }
    if let (Some(answer), Some(expected)) = (&ours.answer, &reference.answer) {
        let lines = scenario::check(step, answer, expected);
        found.differences.extend(lines.into_iter().map(|line| format!("{place} {line}")));
    }
}
