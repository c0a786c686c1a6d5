//! Records the golden cases from a reference broker.
//!
//! ```text
//! golden-record record HOST:PORT CASE.json...    plays the cases and writes the answers into the files
//! golden-record show HOST:PORT CASE.json...      plays them and prints the answers
//! golden-record check HOST:PORT CASE.json...     plays them and prints where the answers differ from the recorded ones
//! golden-record raw HOST:PORT FILE               sends the frames that nobody means to send, and writes what is seen
//! golden-record differ REFERENCE OURS FOLDER     plays the folder's cases against both, and prints where they differ
//! golden-record condense FOLDER                  prints messages.txt from Kafka's message definitions
//! ```
//!
//! `record` wants a broker of its own with no topics on it, started by `benches/peers/kafka.sh`, whose settings the cases
//! rely on: every case starts from no topics and no groups, and all are deleted after it. `raw`, and cases that read the
//! records of groups, want it fresh.
#![allow(dead_code, reason = "each of the two programs uses a part of the modules")]

mod batch;
mod codec;
mod condense;
mod coordinated;
mod differ;
mod mask;
mod play;
mod player;
mod raw;
mod scenario;
mod schema;
mod wire;

use anyhow::{Context, Result, bail};
use std::path::PathBuf;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["condense", folder] => print!("{}", condense::condense(&PathBuf::from(folder))?),
        ["raw", address, file] => {
            let address = address.parse().context("HOST:PORT, as numbers")?;
            raw::save(&PathBuf::from(file), &raw::watch(&schema::apis()?, address)?)?;
        }
        ["differ", reference, ours, folder] => {
            let parse = |text: &str| text.parse().context("HOST:PORT, as numbers");
            let pair = differ::Pair { reference: parse(reference)?, ours: parse(ours)? };
            let (passed, failed) = differ::run(&schema::apis()?, pair, &differ::case_files(&PathBuf::from(folder))?)?;
            println!("{passed} passed, {failed} failed, 0 skipped");
            if failed > 0 {
                std::process::exit(1);
            }
        }
        [verb @ ("record" | "show" | "check"), address, cases @ ..] => {
            let apis = schema::apis()?;
            for case in cases {
                let path = PathBuf::from(case);
                let mut scenario = play::load(&path)?;
                let address = address.parse().context("HOST:PORT, as numbers")?;
                // What an interrupted run left behind.
                play::wipe(&apis, address)?;
                if *verb == "check" {
                    play::compare(&apis, address, &scenario, play::SETTLE)?
                        .iter()
                        .for_each(|line| println!("{case}: {line}"));
                } else {
                    play::record(&apis, address, &mut scenario)?;
                    let text = scenario::pretty(&serde_json::to_value(&scenario)?)?;
                    match *verb {
                        "show" => print!("{text}"),
                        _ => play::save(&path, &text)?,
                    }
                }
                play::wipe(&apis, address)?;
            }
        }
        _ => bail!(
            "golden-record record|show|check HOST:PORT CASE.json... | raw HOST:PORT FILE | differ REFERENCE OURS FOLDER | condense FOLDER"
        ),
    }
    Ok(())
}
