//! Plots as SVG text: self-contained, readable on a light and on a dark page.
//!
//! - [`percentiles`]: a latency curve, the percentiles spread out by their nines.
//! - [`over_time`]: a figure while a run lasts.
//! - [`bars`]: a group of bars for each case, a bar for each of those compared, with its least and greatest.
//!
//! Each gives the whole file. Points that are no numbers are left out; with nothing left, the plot says so. What is drawn in
//! which colour follows from the order in which names first come, so two plots of the same brokers agree.

mod bars;
mod canvas;
mod curves;
mod scale;
#[cfg(test)]
mod tests;

pub use bars::{Bar, bars};
pub use curves::{Curve, Series, over_time, percentiles};
