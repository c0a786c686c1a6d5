//! Pages that are generated from the product's tables, so that they cannot drift from the code: the server prints them
//! (`headwater docs NAME`), `cargo xtask docs` writes them, and `check` fails when a committed page differs.

use crate::workspace::{Workspace, capture, read};
use anyhow::{Context, Result};
use std::path::Path;
use std::process::Command;

/// The pages: file, and what `headwater docs` calls it.
const PAGES: &[(&str, &str)] = &[("docs/operations.md", "operations"), ("docs/configuration.md", "configuration")];

/// Pages that are stale or missing.
pub fn findings(workspace: &Workspace) -> Result<Vec<String>> {
    let binary = workspace.build("headwater")?;
    let mut findings = Vec::new();
    for (file, name) in PAGES {
        match (generate(&binary, name), read(&workspace.root.join(file))) {
            (Ok(generated), Ok(committed)) if generated == committed => {}
            (Ok(_), _) => findings.push(format!("{file} is stale: run `cargo xtask docs`")),
            (Err(error), _) => findings.push(format!("{error:#}")),
        }
    }
    Ok(findings)
}

/// Writes every page.
pub fn write(workspace: &Workspace) -> Result<()> {
    let binary = workspace.build("headwater")?;
    for (file, name) in PAGES {
        let page = generate(&binary, name)?;
        std::fs::write(workspace.root.join(file), page).with_context(|| format!("cannot write {file}"))?;
    }
    Ok(())
}

fn generate(binary: &Path, name: &str) -> Result<String> {
    capture(Command::new(binary).args(["docs", name])).with_context(|| format!("page `{name}`"))
}
