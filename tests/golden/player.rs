//! One course through the steps of a case: the connections, and what has been learnt on the way.

use crate::codec::project;
use crate::coordinated;
use crate::mask::Masks;
use crate::scenario::{self, Part, Scenario, Step, versioned};
use crate::schema::Api;
use crate::wire::Wire;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

pub type Apis = BTreeMap<String, Api>;

/// How long a step that parks watches for an answer that must not come.
const PARK: Duration = Duration::from_millis(200);

pub struct Player<'a> {
    apis: &'a Apis,
    address: SocketAddr,
    masks: Masks,
    connections: BTreeMap<String, Connection<'a>>,
    unordered: &'a [String],
}

struct Connection<'a> {
    wire: Wire,
    /// The steps whose answers are to be received, with the versions at which they were sent.
    sent: VecDeque<(&'a Step, i16)>,
}

/// What playing a step at one version gave.
pub struct Played {
    /// The request's bytes, where the step sends one.
    pub frame: Vec<u8>,
    /// The masked answer, where it receives one.
    pub answer: Option<Value>,
}

impl<'a> Player<'a> {
    pub fn new(apis: &'a Apis, address: SocketAddr, scenario: &'a Scenario, masks: Masks) -> Player<'a> {
        Player { apis, address, masks, connections: BTreeMap::new(), unordered: &scenario.unordered }
    }

    /// Plays one step at all of its versions.
    pub fn step(&mut self, step: &'a Step, mut each: impl FnMut(i16, Result<Played>) -> Result<()>) -> Result<()> {
        std::thread::sleep(Duration::from_millis(step.pause_ms));
        for version in scenario::versions(step)? {
            let played = self.play(step, version);
            let what = || format!("{} at version {version} ({}): {}", step.api, step.about, step.request);
            each(version, played.with_context(what))?;
        }
        if step.part == Part::Park {
            std::thread::sleep(PARK);
            for version in scenario::versions(step)? {
                let parked = self.stays_parked(step, version);
                if let Err(error) =
                    parked.with_context(|| format!("{} at version {version} ({})", step.api, step.about))
                {
                    each(version, Err(error))?;
                }
            }
        }
        Ok(())
    }

    fn play(&mut self, step: &'a Step, version: i16) -> Result<Played> {
        let api = self.apis.get(&step.api).context("unknown API")?;
        let name = versioned(&step.connection, version);
        let connection = self
            .connections
            .entry(name)
            .or_insert_with(|| Connection { wire: Wire::new(self.address), sent: VecDeque::new() });
        let mut frame = Vec::new();
        if step.part != Part::Receive {
            let request = self.masks.fill(&step.request, version)?;
            let request = project(&api.request.fields, version, &request);
            frame = connection.wire.send(api, version, &request)?;
            if step.part == Part::Unanswered {
                connection.wire.forget();
                return Ok(Played { frame, answer: None });
            }
            connection.sent.push_back((step, version));
        }
        if !step.part.has_answer() {
            return Ok(Played { frame, answer: None });
        }
        let (asked, version_asked) = connection.sent.pop_front().context("nothing was sent")?;
        if (&asked.api, version_asked) != (&step.api, version) {
            bail!("{} at version {version_asked} was sent", asked.api);
        }
        let mut answer = connection.wire.receive(api)?;
        if !asked.records_of.is_empty() {
            answer = coordinated::read(&answer, &asked.records_of)?;
        }
        if let (Some(""), Some(id)) = (asked.request["MemberId"].as_str(), answer["MemberId"].as_str())
            && !id.is_empty()
        {
            let name = if asked.member.is_empty() { &asked.connection } else { &asked.member };
            self.masks.learn_member(name, version, id);
        }
        if let Some(id) = answer["SessionId"].as_i64().filter(|id| *id > 0) {
            self.masks.learn_session(&versioned(&asked.connection, version), id);
        }
        let answer = self.masks.cover(&api.response.fields, version, &answer);
        let mut answer = Masks::restore(&asked.request, version, &answer);
        for path in self.unordered {
            scenario::sort(&mut answer, &path.split('.').collect::<Vec<_>>());
        }
        Ok(Played { frame, answer: Some(answer) })
    }

    fn stays_parked(&mut self, step: &Step, version: i16) -> Result<()> {
        let connection = self.connections.get_mut(&versioned(&step.connection, version)).context("no connection")?;
        if connection.wire.has_answer()? {
            bail!("answered at once, though it should wait");
        }
        Ok(())
    }
}
