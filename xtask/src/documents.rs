//! Pages that are generated from the product's tables, so that they cannot drift from the code: the server prints them
//! (`headwater docs NAME`) or the golden cases tell them, `cargo xtask docs` writes them, and `check` fails when a committed
//! page differs.

use crate::differences;
use crate::workspace::{QUICK, Workspace, capture, read};
use anyhow::{Context, Result};
use std::path::Path;
use std::process::Command;

/// The pages that the server prints: file, and what `headwater docs` calls it.
const PAGES: &[(&str, &str)] = &[("docs/operations.md", "operations"), ("docs/configuration.md", "configuration")];

/// The page that comes from the golden cases.
const DIFFERENCES: &str = "docs/differences.md";

/// Pages that are stale or missing.
pub fn findings(workspace: &Workspace) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for (file, page) in pages(workspace)? {
        match (page, read(&workspace.root.join(file))) {
            (Ok(generated), Ok(committed)) if generated == committed => {}
            (Ok(_), _) => findings.push(format!("{file} is stale: run `cargo xtask docs`")),
            (Err(error), _) => findings.push(format!("{error:#}")),
        }
    }
    Ok(findings)
}

/// Writes every page.
pub fn write(workspace: &Workspace) -> Result<()> {
    for (file, page) in pages(workspace)? {
        std::fs::write(workspace.root.join(file), page?).with_context(|| format!("cannot write {file}"))?;
    }
    Ok(())
}

/// Every page as it should be.
fn pages(workspace: &Workspace) -> Result<Vec<(&'static str, Result<String>)>> {
    let binary = workspace.build("headwater", QUICK)?;
    let mut pages: Vec<_> = PAGES.iter().map(|(file, name)| (*file, generate(&binary, name))).collect();
    pages.push((DIFFERENCES, differences::page(workspace)));
    Ok(pages)
}

fn generate(binary: &Path, name: &str) -> Result<String> {
    capture(Command::new(binary).args(["docs", name])).with_context(|| format!("page `{name}`"))
}
