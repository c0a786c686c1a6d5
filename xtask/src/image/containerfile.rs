//! Reads the last stage of a Containerfile: as much of the language as ours needs, and an error for everything else, so that
//! the image made without a container program cannot silently differ.

use super::tar::Owner;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What the last stage says.
#[derive(Debug, Default)]
pub struct Stage {
    /// What is copied into it: source, path in the image, owner.
    pub copies: Vec<(String, String, Owner)>,
    user: String,
    environment: Vec<String>,
    volumes: Vec<String>,
    ports: Vec<String>,
    labels: BTreeMap<String, String>,
    stop_signal: String,
    health: Value,
    entrypoint: Value,
    command: Value,
}

impl Stage {
    /// The last stage of this Containerfile, which must start from nothing.
    pub fn last(text: &str) -> Result<Stage> {
        let instructions = instructions(text);
        let start = instructions.iter().rposition(|(name, _)| name == "FROM").context("has no FROM")?;
        let (first, rest) = instructions[start..].split_first().context("has no FROM")?;
        ensure!(first.1 == "scratch", "the last stage is FROM {}, and not FROM scratch", first.1);
        let mut stage = Stage::default();
        for (name, value) in rest {
            stage.take(name, value).with_context(|| format!("{name} {value}"))?;
        }
        Ok(stage)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<()> {
        match name {
            "COPY" => self.copies.push(copy(value)?),
            "USER" => self.user = value.to_owned(),
            "ENV" => {
                self.environment.extend(pairs(value)?.into_iter().map(|(name, value)| format!("{name}={value}")));
            }
            "LABEL" => self.labels.extend(pairs(value)?),
            "VOLUME" => self.volumes.push(value.to_owned()),
            "EXPOSE" => self.ports.extend(value.split_whitespace().map(|port| format!("{port}/tcp"))),
            "STOPSIGNAL" => self.stop_signal = value.to_owned(),
            "HEALTHCHECK" => self.health = health(value)?,
            "ENTRYPOINT" => self.entrypoint = exec_form(value)?,
            "CMD" => self.command = exec_form(value)?,
            _ => bail!("is not understood here"),
        }
        Ok(())
    }

    /// The `config` part of an image's configuration.
    pub fn config(&self) -> Value {
        let set = |names: &[String]| names.iter().map(|name| (name.clone(), json!({}))).collect::<Value>();
        json!({
            "User": self.user,
            "Env": self.environment,
            "Entrypoint": self.entrypoint,
            "Cmd": self.command,
            "ExposedPorts": set(&self.ports),
            "Volumes": set(&self.volumes),
            "Labels": self.labels,
            "StopSignal": self.stop_signal,
            // No part of the OCI format, but Docker and BuildKit keep it there and others pass over it.
            "Healthcheck": self.health,
        })
    }
}

/// The instructions: lines that end with a backslash go on, comments and empty lines do not count.
fn instructions(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut whole = vec![String::new()];
    for line in lines {
        let last = whole.len() - 1;
        match line.strip_suffix('\\') {
            Some(part) => whole[last].push_str(part),
            None => {
                whole[last].push_str(line);
                whole.push(String::new());
            }
        }
    }
    let split = |line: &String| {
        line.split_once(char::is_whitespace).map(|(name, value)| (name.to_ascii_uppercase(), value.trim().to_owned()))
    };
    whole.iter().filter_map(split).collect()
}

/// `NAME=VALUE NAME="a value"`.
fn pairs(text: &str) -> Result<Vec<(String, String)>> {
    let mut rest = text.trim();
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').context("is not NAME=VALUE")?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').context("has an open quote")?,
            None => after.split_once(char::is_whitespace).unwrap_or((after, "")),
        };
        found.push((name.to_owned(), value.to_owned()));
        rest = after.trim_start();
    }
    Ok(found)
}

/// `["program", "argument"]`: the other form needs a shell, and there is none.
fn exec_form(text: &str) -> Result<Value> {
    let words: Vec<String> = serde_json::from_str(text).context("is not a JSON list of words")?;
    Ok(json!(words))
}

/// `--interval=10s ... CMD ["program"]`, times in nanoseconds.
fn health(text: &str) -> Result<Value> {
    let (options, command) = text.split_once("CMD").context("has no CMD")?;
    let mut words: Vec<String> = serde_json::from_str(command.trim()).context("is not a JSON list of words")?;
    words.insert(0, "CMD".to_owned());
    let mut check = json!({ "Test": words });
    for option in options.split_whitespace() {
        let (name, value) = option.split_once('=').context("an option without a value")?;
        let seconds = || -> Result<u64> { Ok(value.strip_suffix('s').context("is not in seconds")?.parse::<u64>()?) };
        match name {
            "--interval" => check["Interval"] = json!(seconds()? * 1_000_000_000),
            "--timeout" => check["Timeout"] = json!(seconds()? * 1_000_000_000),
            "--start-period" => check["StartPeriod"] = json!(seconds()? * 1_000_000_000),
            "--retries" => check["Retries"] = json!(value.parse::<u64>()?),
            _ => bail!("{name} is not understood here"),
        }
    }
    Ok(check)
}

/// `--from=STAGE [--chown=USER:GROUP] SOURCE PATH`.
fn copy(text: &str) -> Result<(String, String, Owner)> {
    let (mut owner, mut places) = (Owner::default(), Vec::new());
    for word in text.split_whitespace() {
        if let Some(ids) = word.strip_prefix("--chown=") {
            let (user, group) = ids.split_once(':').context("is not USER:GROUP")?;
            owner = Owner { user: user.parse()?, group: group.parse()? };
        } else if word.starts_with("--") {
            ensure!(word.starts_with("--from="), "{word} is not understood here");
        } else {
            places.push(word.to_owned());
        }
    }
    match <[String; 2]>::try_from(places) {
        Ok([source, path]) => Ok((source, path, owner)),
        Err(_) => bail!("copies one thing to one place"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_stage_is_read_and_the_others_are_not() {
        let text = "FROM rust AS build\nRUN make \\\n    && install\n# the image\nFROM scratch\nLABEL a=\"b c\" \\\n  d=e\n\
                    COPY --from=build --chown=7:8 /image/data /data\nUSER 7:8\nENV A=/data\nEXPOSE 1 2\nVOLUME /data\n\
                    HEALTHCHECK --interval=10s --retries=3 CMD [\"/headwater\", \"health\"]\nCMD [\"serve\"]\n";
        let stage = Stage::last(text).unwrap();
        assert_eq!(stage.copies, [("/image/data".into(), "/data".into(), Owner { user: 7, group: 8 })]);
        let config = stage.config();
        assert_eq!(config["Labels"], json!({ "a": "b c", "d": "e" }));
        assert_eq!(config["ExposedPorts"], json!({ "1/tcp": {}, "2/tcp": {} }));
        assert_eq!(config["Env"], json!(["A=/data"]));
        let check = json!({ "Test": ["CMD", "/headwater", "health"], "Interval": 10_000_000_000u64, "Retries": 3 });
        assert_eq!(config["Healthcheck"], check);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in [
            "RUN make",
            "FROM debian",
            "FROM scratch\nRUN make",
            "FROM scratch\nCMD serve",
            "FROM scratch\nCOPY a b c",
            "FROM scratch\nCOPY --chmod=7 a b",
            "FROM scratch\nENV A",
            "FROM scratch\nENV A=\"b",
            "FROM scratch\nHEALTHCHECK --interval=1m CMD [\"a\"]",
        ] {
            assert!(Stage::last(text).is_err(), "{text}");
        }
    }
}
