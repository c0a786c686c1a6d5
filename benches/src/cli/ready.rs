//! `headwater bench ready`.

use super::broker::Broker;
use super::output::{Output, print};
use crate::kafka::{Error, ready};
use clap::Args;
use serde::Serialize;
use std::time::Duration;

/// Waits until a topic serves.
#[derive(Debug, Args)]
pub struct ReadyArgs {
    #[command(flatten)]
    broker: Broker,
    /// The topic
    #[arg(long, default_value = "bench")]
    topic: String,
    /// Make the topic with so many partitions when it is missing
    #[arg(long)]
    partitions: Option<i32>,
    /// Give up after this long
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
    timeout: f64,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Serialize)]
struct Ready {
    partitions: i32,
    seconds: f64,
}

impl ReadyArgs {
    /// Waits.
    pub fn run(&self) -> Result<(), Error> {
        let wait = Duration::try_from_secs_f64(self.timeout).map_err(|error| Error::Answer(error.to_string()))?;
        let (took, partitions) = ready::wait(self.broker.address()?, &self.topic, self.partitions, wait)?;
        let ready = Ready { partitions, seconds: took.as_secs_f64() };
        let text = format!("{} partitions of {} after {:.3} s\n", ready.partitions, self.topic, ready.seconds);
        print(self.output, &ready, || text)
    }
}
