//! The project's own commands, so that a fresh clone needs only cargo: `cargo xtask check`, `cargo xtask test`,
//! `cargo xtask image` and `cargo xtask docs`. Nothing here is part of the product.
//!
//! - `check` is what every commit passes: formatting, clippy, `tidy`, `dependencies`, fresh `documents`.
//! - `test` walks the table in `suites::table`: the Rust tests, then real clients against a broker that it starts.
#![allow(
    clippy::disallowed_methods,
    reason = "a tool for the developer's machine, not the product: there is no simulated one"
)]

mod check;
mod command;
mod dependencies;
mod differences;
mod documents;
mod image;
mod suites;
mod tidy;
mod workspace;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own commands")]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Formatting, clippy, tidy, dependencies, generated pages: what every commit passes
    Check,
    /// The tests: Rust, then real clients; the last line sums up
    Test(suites::Options),
    /// The container image as an OCI image layout, made without a container program
    Image(image::Options),
    /// Writes the generated pages under docs/
    Docs,
}

fn main() -> ExitCode {
    let outcome = workspace::Workspace::load().and_then(|workspace| match Cli::parse().command {
        Task::Check => check::run(&workspace),
        Task::Test(options) => suites::run(&workspace, &options),
        Task::Image(options) => image::run(&workspace, &options).map(|()| true),
        Task::Docs => documents::write(&workspace).map(|()| true),
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
