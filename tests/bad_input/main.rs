//! Clients that misbehave, one way each, against a server process, while a well-behaved producer and consumer go on: they are
//! unharmed, the server neither ends nor panics, and its memory stays within a bound. Mutated frames by the million are tried
//! in-process (protocol-kafka/tests). And disks that are full or broken.
#![allow(clippy::disallowed_methods, reason = "these tests run real processes on a real disk, by the real clock")]

mod admin;
mod besides;
mod bombs;
mod broken_disk;
mod bystander;
mod connections;
mod counts;
mod filesystem;
mod frames;
mod full_disk;
mod ledger;
mod samples;
mod unread;

/// Below the target folder, so that it lies on a disk and not in memory.
const FOLDER: &str = env!("CARGO_TARGET_TMPDIR");
