//! The kernel settings: each one is explained, and a setting that this kernel has.

use crate::deploy;
use anyhow::{Context, Result, ensure};
use std::path::Path;

#[test]
fn every_kernel_setting_exists_and_is_explained() -> Result<()> {
    let readme = deploy("README.md")?;
    let mut count = 0;
    for line in deploy("99-headwater.conf")?.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, value) = line.split_once(" = ").with_context(|| format!("no setting: {line}"))?;
        ensure!(value.split_whitespace().all(|number| number.parse::<u64>().is_ok()), "{line}: no number");
        ensure!(readme.contains(&format!("`{name}`")), "deploy/README.md does not explain {name}");
        let place = Path::new("/proc/sys").join(name.replace('.', "/"));
        // In a container some are hidden, but not the folder that they are in.
        let shown = place.parent().is_some_and(Path::is_dir);
        ensure!(!shown || place.exists() || name.starts_with("net."), "{name} is no setting of this kernel");
        count += 1;
    }
    ensure!(count > 4, "only {count} settings");
    Ok(())
}
