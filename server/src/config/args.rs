//! The options as command line flags, made from the table.

use super::options::OPTIONS;
use super::topic_defaults;
use clap::builder::ArgAction;
use clap::{Arg, ArgMatches, Command};
use std::path::PathBuf;

/// What the command line set: pairs of key and text, and the file's path.
#[derive(Debug, Default, Clone)]
pub struct ConfigArgs {
    pub config: Option<PathBuf>,
    pub values: Vec<(String, String)>,
}

impl clap::Args for ConfigArgs {
    fn augment_args(command: Command) -> Command {
        let mut command = command.arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .value_parser(clap::value_parser!(PathBuf))
                .help("Read options from this TOML file [env: HEADWATER_CONFIG]"),
        );
        for row in OPTIONS {
            let default = if row.default.is_empty() { String::new() } else { format!(" [default: {}]", row.default) };
            let mut arg = Arg::new(row.key)
                .long(row.flag())
                .action(ArgAction::Set)
                .help(format!("{}{default} [env: {}]", row.help, row.env()))
                .hide_short_help(row.key.contains('.'));
            arg = match row.value_name {
                "" => arg.num_args(0..=1).require_equals(true).default_missing_value("true").value_name("BOOL"),
                name => arg.value_name(name),
            };
            command = command.arg(arg);
        }
        command.arg(
            Arg::new(topic_defaults::FLAG)
                .long(topic_defaults::FLAG)
                .value_name("NAME=VALUE")
                .action(ArgAction::Append)
                .help(format!(
                    "A Kafka topic setting for topics that do not say otherwise; may be repeated [env: {}]",
                    topic_defaults::ENV
                ))
                .hide_short_help(true),
        )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for ConfigArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<ConfigArgs, clap::Error> {
        let mut args = ConfigArgs { config: matches.get_one::<PathBuf>("config").cloned(), values: Vec::new() };
        for row in OPTIONS {
            if let Some(value) = matches.get_one::<String>(row.key) {
                args.values.push((row.key.to_owned(), value.clone()));
            }
        }
        for pair in matches.get_many::<String>(topic_defaults::FLAG).unwrap_or_default() {
            let (name, value) = topic_defaults::parse_pair(pair)
                .map_err(|why| clap::Error::raw(clap::error::ErrorKind::ValueValidation, format!("{why}\n")))?;
            args.values.push((format!("{}{name}", topic_defaults::PREFIX), value));
        }
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
