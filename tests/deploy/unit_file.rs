//! The systemd unit: what it must say, and that systemd itself finds nothing wrong with it.

use crate::deploy;
use anyhow::{Context, Result, ensure};
use headwater_tests::server::program;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

/// The unit's directives by section; one that stands more than once has all its values.
type Unit = BTreeMap<String, BTreeMap<String, Vec<String>>>;

/// What each section may hold here. A directive that systemd does not know it passes over with a warning, so a misspelling
/// would silently do nothing.
const KNOWN: &[(&str, &[&str])] = &[
    ("Unit", &["Description", "Documentation", "After", "Wants", "StartLimitIntervalSec", "StartLimitBurst"]),
    (
        "Service",
        &[
            "AmbientCapabilities",
            "CapabilityBoundingSet",
            "ConfigurationDirectory",
            "DynamicUser",
            "Environment",
            "EnvironmentFile",
            "ExecStart",
            "KillSignal",
            "LimitMEMLOCK",
            "LimitNOFILE",
            "LockPersonality",
            "MemoryDenyWriteExecute",
            "MemorySwapMax",
            "NoNewPrivileges",
            "PrivateDevices",
            "PrivateTmp",
            "PrivateUsers",
            "ProtectClock",
            "ProtectControlGroups",
            "ProtectHome",
            "ProtectHostname",
            "ProtectKernelLogs",
            "ProtectKernelModules",
            "ProtectKernelTunables",
            "ProtectProc",
            "ProtectSystem",
            "RemoveIPC",
            "Restart",
            "RestartPreventExitStatus",
            "RestartSec",
            "RestrictAddressFamilies",
            "RestrictNamespaces",
            "RestrictRealtime",
            "RestrictSUIDSGID",
            "StateDirectory",
            "StateDirectoryMode",
            "SystemCallArchitectures",
            "SystemCallErrorNumber",
            "SystemCallFilter",
            "TimeoutStopSec",
            "Type",
            "UMask",
        ],
    ),
    ("Install", &["WantedBy"]),
];

fn parse(text: &str) -> Result<Unit> {
    let mut unit = Unit::new();
    let mut section = None;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = Some(name.to_owned());
            continue;
        }
        let (name, value) = line.split_once('=').with_context(|| format!("no directive: {line}"))?;
        let section = section.clone().with_context(|| format!("before the first section: {line}"))?;
        unit.entry(section).or_default().entry(name.to_owned()).or_default().push(value.to_owned());
    }
    Ok(unit)
}

#[test]
fn the_unit_knows_its_directives_and_asks_for_what_the_server_needs() -> Result<()> {
    let unit = parse(&deploy("headwater.service")?)?;
    for (section, directives) in &unit {
        let (_, known) = KNOWN.iter().find(|(name, _)| name == section).with_context(|| format!("[{section}]"))?;
        for name in directives.keys() {
            ensure!(known.contains(&name.as_str()), "[{section}] has no {name}");
        }
    }
    let service = &unit["Service"];
    let one = |name: &str| -> Result<&str> {
        match service.get(name).map(Vec::as_slice) {
            Some([value]) => Ok(value),
            other => anyhow::bail!("{name} is {other:?}"),
        }
    };
    // Segments take 4,096 by default and at most half, connections 10,000, the server itself 128.
    ensure!(one("LimitNOFILE")?.parse::<u64>()? >= 4096 + 10_000 + 128, "too few open files");
    let locked = one("LimitMEMLOCK")?.strip_suffix('M').context("not in MiB")?.parse::<u64>()?;
    ensure!(locked >= 8, "registered buffers take 4 MiB");
    ensure!(one("Type")? == "exec", "the server does not notify systemd");
    ensure!(one("KillSignal")? == "SIGTERM", "a clean end begins with SIGTERM");
    // Draining takes 10 s at most, sealing and the checkpoint what the medium needs.
    ensure!(one("TimeoutStopSec")?.parse::<u64>()? >= 30, "too little time to end");
    ensure!(one("StateDirectory")? == "headwater" && one("DynamicUser")? == "yes", "no user and folder of its own");
    ensure!(one("Environment")? == "HEADWATER_DATA_DIR=/var/lib/headwater", "data beside the state directory");
    for (name, value) in [
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("PrivateTmp", "yes"),
        ("MemoryDenyWriteExecute", "yes"),
        ("CapabilityBoundingSet", ""),
    ] {
        ensure!(one(name)? == value, "{name} is {}", one(name)?);
    }
    let filters = &service["SystemCallFilter"];
    ensure!(filters[0] == "@system-service", "{filters:?}: io_uring comes with @aio, which is in @system-service");
    ensure!(!filters[1..].iter().any(|filter| filter.contains("@aio") || filter.contains("@resources")), "{filters:?}");
    Ok(())
}

#[test]
fn systemd_finds_nothing_wrong_with_it() -> Result<()> {
    let there = Command::new("systemd-analyze").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !there.is_ok_and(|status| status.success()) {
        ensure!(std::env::var("CI").as_deref() != Ok("true"), "there is no systemd-analyze here");
        println!("skipped: there is no systemd-analyze here");
        return Ok(());
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let path = folder.path().join("headwater.service");
    // It looks whether the program is there.
    let installed = "ExecStart=/usr/local/bin/headwater ";
    let unit = deploy("headwater.service")?;
    ensure!(unit.contains(installed), "another ExecStart");
    std::fs::write(&path, unit.replace(installed, &format!("ExecStart={} ", program()?.display())))?;
    analyze(&["verify", "--man=no"], &path)?;
    // Exposure from 0 (nothing) to 10 (everything), here times ten: a sandbox that was taken away shows.
    analyze(&["security", "--offline=true", "--no-pager", "--threshold=20"], &path)
}

fn analyze(arguments: &[&str], unit: &Path) -> Result<()> {
    let output = Command::new("systemd-analyze").args(arguments).arg(unit).output()?;
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    if said.contains("unrecognized option") || said.contains("Unknown command verb") {
        println!("skipped: this systemd-analyze is too old for {}", arguments[0]);
        return Ok(());
    }
    ensure!(output.status.success(), "systemd-analyze {arguments:?}: {said}");
    // What it only warns about would be passed over at the start.
    let warned = said.lines().find(|line| line.contains("headwater.service:") && arguments[0] == "verify");
    ensure!(warned.is_none(), "systemd-analyze {arguments:?}: {said}");
    Ok(())
}

#[test]
fn what_is_no_unit_is_refused() {
    assert!(parse("Type=exec\n[Service]").is_err() && parse("[Service]\nType").is_err());
    let unit = parse("# no\n[A]\nb=c=d\nb=\n").unwrap();
    assert_eq!(unit["A"]["b"], ["c=d", ""]);
}
