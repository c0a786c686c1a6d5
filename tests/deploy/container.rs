//! The container file and the compose file: what makes the container small in rights, and a health check that works.

use crate::metrics_page::busy_server;
use crate::{deploy, yaml};
use anyhow::{Context, Result, ensure};
use headwater_tests::server::program;
use serde_json::Value;
use std::process::Command;

/// The binary, without the test's own settings, which would be unknown options.
fn headwater() -> Result<Command> {
    let mut command = Command::new(program()?);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HEADWATER_")) {
        command.env_remove(name);
    }
    Ok(command)
}

/// The value of the last stage's instruction of that name; a backslash at a line's end joins lines.
fn instruction(text: &str, name: &str) -> Result<String> {
    let joined = text.replace("\\\n", " ");
    let last = joined.rsplit("\nFROM ").next().unwrap_or_default();
    let mut found = last.lines().filter_map(|line| line.strip_prefix(name)).filter(|rest| rest.starts_with(' '));
    Ok(found.next_back().with_context(|| format!("no {name}"))?.trim().to_owned())
}

#[test]
fn the_image_is_the_binary_alone_and_runs_as_nobody() -> Result<()> {
    let text = deploy("Containerfile")?;
    ensure!(text.replace("\\\n", " ").rsplit("\nFROM ").next().is_some_and(|last| last.starts_with("scratch\n")));
    let user = instruction(&text, "USER")?;
    for id in user.split(':') {
        ensure!(id.parse::<u32>().is_ok_and(|id| id >= 1000), "USER {user}: not numbers of an ordinary user");
    }
    ensure!(text.contains(&format!("--chown={user} /image/data /data")), "the data folder belongs to somebody else");
    ensure!(instruction(&text, "VOLUME")? == "/data" && instruction(&text, "ENV")? == "HEADWATER_DATA_DIR=/data");
    ensure!(instruction(&text, "STOPSIGNAL")? == "SIGTERM" && instruction(&text, "EXPOSE")? == "9092 9600");
    for name in ["ENTRYPOINT", "CMD"] {
        ensure!(instruction(&text, name)?.starts_with("[\""), "{name} needs a shell, and there is none");
    }
    Ok(())
}

#[test]
fn the_health_check_tells_a_running_server_from_none() -> Result<()> {
    let check = instruction(&deploy("Containerfile")?, "HEALTHCHECK")?;
    let (_, words) = check.split_once("CMD ").context("no command")?;
    let words: Vec<String> = serde_json::from_str(words)?;
    ensure!(words[0] == "/headwater", "{words:?}");
    let compose = yaml::parse(&deploy("compose.yaml")?)?;
    let test = items(&compose["services"]["headwater"]["healthcheck"]["test"]);
    ensure!(test.split_first().is_some_and(|(kind, rest)| kind == "CMD" && rest == words), "{test:?}");
    let run = |admin: &str| -> Result<Option<i32>> {
        Ok(headwater()?.args(&words[1..]).env("HEADWATER_ADMIN", admin).output()?.status.code())
    };
    let (setup, server) = busy_server()?;
    // As in the compose file, where the server listens on every address of its container.
    let everywhere = format!("0.0.0.0:{}", server.admin.port());
    ensure!(run(&everywhere)? == Some(0), "a server that runs is not well");
    server.terminate()?;
    ensure!(run(&everywhere)? == Some(1), "a server that is gone is well");
    setup.check_log()
}

#[test]
fn every_service_has_few_rights_and_is_reached_from_this_machine_alone() -> Result<()> {
    let compose = yaml::parse(&deploy("compose.yaml")?)?;
    let services = compose["services"].as_object().context("no services")?;
    let declared = compose["volumes"].as_object().context("no volumes")?;
    for (name, service) in services {
        ensure!(service["read_only"] == "true", "{name} may write its root");
        ensure!(service["cap_drop"][0] == "ALL", "{name} keeps capabilities");
        ensure!(service["security_opt"][0] == "no-new-privileges:true", "{name} may gain privileges");
        ensure!(service["restart"] == "unless-stopped", "{name} is not started again");
        ensure!(service["privileged"].is_null() && service["network_mode"].is_null(), "{name} leaves its container");
        for port in items(&service["ports"]) {
            ensure!(port.starts_with("127.0.0.1:"), "{name}: {port} can be reached from other machines");
        }
        ensure!(!items(&service["tmpfs"]).is_empty(), "{name} has no place for temporary files");
        for volume in items(&service["volumes"]) {
            let (source, _) = volume.split_once(':').context("a volume without a place")?;
            match source.strip_prefix("./") {
                Some(path) => {
                    ensure!(volume.ends_with(":ro"), "{name} may change {path}");
                    ensure!(crate::path(path).is_dir(), "{name}: deploy/{path} is no folder");
                }
                None => ensure!(declared.contains_key(source), "{name}: the volume {source} is not declared"),
            }
        }
    }
    let server = &services["headwater"];
    for limit in ["nofile", "memlock"] {
        let hard = server["ulimits"][limit]["hard"].as_str().and_then(|hard| hard.parse::<u64>().ok());
        let least = if limit == "nofile" { 4096 + 10_000 + 128 } else { 8 << 20 };
        ensure!(hard.is_some_and(|hard| hard >= least), "{limit} is {hard:?}");
    }
    ensure!(items(&server["volumes"]) == ["data:/data"], "the data is not in a volume");
    ensure!(server["build"]["dockerfile"] == "deploy/Containerfile", "another container file");
    Ok(())
}

#[test]
fn the_server_takes_the_settings_of_the_compose_file() -> Result<()> {
    let compose = yaml::parse(&deploy("compose.yaml")?)?;
    let environment = compose["services"]["headwater"]["environment"].as_object().context("no environment")?;
    let mut check = headwater()?;
    check.args(["config", "show", "--output", "json"]).env("HEADWATER_DATA_DIR", "/data");
    for (name, value) in environment {
        let value = value.as_str().with_context(|| format!("{name} has no value"))?;
        // `${NAME:-default}` is the default, as long as nobody sets NAME.
        let value = value.rsplit_once(":-").map_or(value, |(_, default)| default.trim_end_matches('}'));
        check.env(name, value);
    }
    let output = check.output()?;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");
    ensure!(!said.contains("is not an option"), "{said}");
    // Prometheus asks by a name that the admin port answers to.
    let prometheus = yaml::parse(&deploy("prometheus/prometheus.yml")?)?;
    let target = items(&prometheus["scrape_configs"][0]["static_configs"][0]["targets"]).remove(0);
    ensure!(environment["HEADWATER_ADMIN_HOSTS"] == target.split(':').next().unwrap_or_default(), "asked as {target}");
    Ok(())
}

/// The words of a list, or none.
fn items(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}
