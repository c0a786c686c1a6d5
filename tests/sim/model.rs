//! What must be there and what may: the effects of all that the engine was asked, in the order in which it queued them.
//!
//! An answer of whatever kind vouches for everything queued before it, since the engine has one log in one order. So the state
//! after a crash must be that after some prefix of the events, and the prefix must hold every event that was answered (or, for
//! a power cut in mode `os`, every event that is durable even there).

use crate::compacted::Passes;
use crate::expectation::Expectation;
use crate::state::{Event, Key, State};
use headwater_engine::{Ack, Pending, ProducerId, Stopped, Topic, TopicError, TopicId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// An answer that is awaited, and what it must say.
pub enum Answer {
    Ack(Ack),
    Created(Pending<Result<Arc<Topic>, TopicError>>, Result<Key, TopicError>),
    Changed(Pending<Result<(), TopicError>>, Result<(), TopicError>),
    Producer(Pending<Result<ProducerId, TopicError>>),
}

/// An answer that came.
enum Said {
    Done,
    Created(Arc<Topic>, Key),
    Producer(i64),
    Wrong(String),
}

impl Answer {
    fn take(&mut self) -> Option<Result<Said, Stopped>> {
        Some(match self {
            Answer::Ack(ack) => ack.poll_done()?.map(|()| Said::Done),
            Answer::Created(pending, expected) => pending.take_done()?.map(|said| match (said, expected) {
                (Ok(topic), Ok(key)) => Said::Created(topic, *key),
                (Err(said), Err(expected)) if said == *expected => Said::Done,
                (Ok(_), Err(expected)) => Said::Wrong(format!("a topic was created where {expected} was due")),
                (Err(said), _) => Said::Wrong(format!("creating a topic was refused: {said}")),
            }),
            Answer::Changed(pending, expected) => pending.take_done()?.map(|said| match said == *expected {
                true => Said::Done,
                false => Said::Wrong(format!("a change of a topic was answered {said:?} instead of {expected:?}")),
            }),
            Answer::Producer(pending) => pending.take_done()?.map(|said| match said {
                Ok(id) => Said::Producer(id.0),
                Err(error) => Said::Wrong(format!("a producer id was refused: {error}")),
            }),
        })
    }
}

struct Entry {
    event: Event,
    /// None for what nobody is told of.
    answer: Option<Answer>,
    /// The engine has dropped it unanswered, as it does when it stops.
    is_stopped: bool,
    syncs: bool,
}

/// See the module.
#[derive(Default)]
pub struct Model {
    /// What a power cut leaves at least.
    floor: State,
    /// Events since the floor.
    log: VecDeque<Entry>,
    /// How many of them were answered.
    answered: usize,
    /// How many of them are durable once the checkpoint under way is.
    captured: usize,
    /// All that was answered: what readers see.
    pub published: State,
    /// All that was asked: what the next request is judged by.
    pub decided: State,
    /// Handles on topics whose creation was answered, those that are gone included.
    pub handles: BTreeMap<Key, Arc<Topic>>,
    pub next_key: Key,
    pub ids: BTreeSet<TopicId>,
    pub producers: BTreeSet<i64>,
    pub passes: Passes,
    /// The latest epoch that served.
    pub epoch: Option<i32>,
    pub data_id: Option<TopicId>,
    /// Whether answers wait for the medium where a topic does not say.
    pub is_os: bool,
    wrong: Option<String>,
}

impl Model {
    /// A model of an empty folder.
    pub fn new(is_os: bool) -> Model {
        Model { is_os, ..Model::default() }
    }

    /// A copy that knows what must be found after a power cut or a kill at this moment, and nothing of answers to come.
    pub fn snapshot(&self, is_power_cut: bool) -> Model {
        let unanswered = |entry: &Entry| Entry { event: entry.event.clone(), answer: None, ..*entry };
        let (published, answered) = if is_power_cut { (&self.floor, 0) } else { (&self.published, self.answered) };
        Model {
            floor: self.floor.clone(),
            log: self.log.iter().map(unanswered).collect(),
            answered,
            captured: 0,
            published: published.clone(),
            decided: self.decided.clone(),
            handles: BTreeMap::new(),
            next_key: self.next_key,
            ids: self.ids.clone(),
            producers: self.producers.clone(),
            passes: self.passes.clone(),
            epoch: self.epoch,
            data_id: self.data_id,
            is_os: self.is_os,
            wrong: None,
        }
    }

    /// The engine was opened and shows this state.
    pub fn restart(&mut self, state: State) {
        (self.floor, self.published, self.decided) = (state.clone(), state.clone(), state);
        self.log.clear();
        (self.answered, self.captured) = (0, 0);
        self.handles.clear();
    }

    /// The engine has queued something. `syncs` says that it is durable when answered.
    pub fn push(&mut self, event: Event, answer: Option<Answer>, syncs: bool) {
        self.decided.apply(&event);
        let syncs = syncs || !self.is_os || event.always_syncs();
        self.log.push_back(Entry { event, answer, is_stopped: false, syncs });
    }

    /// Takes in what was answered meanwhile.
    pub fn poll(&mut self) {
        let mut said = Vec::new();
        for (index, entry) in self.log.iter_mut().enumerate().skip(self.answered) {
            match entry.answer.as_mut().filter(|_| !entry.is_stopped).and_then(Answer::take) {
                Some(Ok(what)) => said.push((index, what)),
                Some(Err(Stopped)) => entry.is_stopped = true,
                None => {}
            }
        }
        let Some((last, _)) = said.last() else { return };
        let last = *last;
        for index in self.answered..=last {
            if self.log[index].answer.is_some() && said.iter().all(|(at, _)| *at != index) {
                let (missing, later) = (&self.log[index].event, &self.log[last].event);
                self.note_wrong(format!("'{later}' was answered before '{missing}', which was queued before it"));
            }
        }
        self.publish(last + 1);
        said.into_iter().for_each(|(_, what)| self.learn(what));
        self.raise_floor_to_synced();
    }

    /// Events before `count` are published.
    fn publish(&mut self, count: usize) {
        for index in self.answered..count {
            self.published.apply(&self.log[index].event);
        }
        self.answered = count;
    }

    fn raise_floor_to_synced(&mut self) {
        let synced = (0..self.answered).rev().find(|index| self.log[*index].syncs);
        self.raise_floor(synced.map_or(0, |index| index + 1));
    }

    fn learn(&mut self, said: Said) {
        match said {
            Said::Done => {}
            Said::Wrong(why) => self.note_wrong(why),
            Said::Producer(id) => {
                if !self.producers.insert(id) {
                    self.note_wrong(format!("producer id {id} was given twice"));
                }
            }
            Said::Created(topic, key) => {
                if !self.ids.insert(topic.id()) {
                    self.note_wrong(format!("topic id {} was given twice", topic.id()));
                }
                // Unanswered changes may have been made to copies of it.
                for state in [&mut self.published, &mut self.decided] {
                    if let Some(known) = state.topics.get_mut(&key) {
                        known.id = Some(topic.id());
                    }
                }
                self.handles.insert(key, topic);
            }
        }
    }

    /// Everything up to the event before `count` is durable.
    fn raise_floor(&mut self, count: usize) {
        for _ in 0..count {
            if let Some(entry) = self.log.pop_front() {
                self.floor.apply(&entry.event);
            }
        }
        if count > 0 {
            for (key, topic) in &mut self.floor.topics {
                topic.id = topic.id.or_else(|| self.handles.get(key).map(|topic| topic.id()));
            }
            self.answered -= count;
            self.captured = self.captured.saturating_sub(count);
        }
    }

    /// A checkpoint will cover all that is answered now.
    pub fn checkpoint_began(&mut self) {
        self.captured = self.answered;
    }

    /// It is durable.
    pub fn checkpoint_ended(&mut self) {
        let captured = std::mem::take(&mut self.captured);
        self.raise_floor(captured);
    }

    /// All unanswered events were dropped, as must be when the engine is gone.
    pub fn check_stopped(&mut self) -> Result<(), String> {
        self.poll();
        match self.log.iter().skip(self.answered).find(|entry| entry.answer.is_some() && !entry.is_stopped) {
            Some(entry) => Err(format!("whoever asked for '{}' waits for ever", entry.event)),
            None => Ok(()),
        }
    }

    /// Whether something was asked and not answered yet.
    pub fn waits(&self) -> bool {
        self.log.iter().skip(self.answered).any(|entry| entry.answer.is_some())
    }

    /// Where the log starts, now that it is known. Fails when it may not start there.
    pub fn resolve(&mut self, key: Key, index: usize, log_start: i64) -> Result<(), String> {
        let is_known = |state: &State| {
            state.partition(key, index).is_none_or(|partition| partition.starts().any(|start| start == log_start))
        };
        while !is_known(&self.published) && self.log.get(self.answered).is_some_and(|entry| entry.answer.is_none()) {
            // Nobody is told of what retention does; this shows that it was done.
            self.publish(self.answered + 1);
            self.raise_floor_to_synced();
        }
        let Some(partition) = self.published.partition_mut(key, index) else { return Ok(()) };
        if !partition.starts().any(|start| start == log_start) {
            let starts: Vec<i64> = partition.starts().collect();
            return Err(format!("#{key}/{index} starts at {log_start}, where only {starts:?} are due"));
        }
        if !partition.other_starts.is_empty() {
            partition.resolve(log_start);
            if self.answered == 0
                && let Some(partition) = self.floor.partition_mut(key, index)
            {
                partition.resolve(log_start);
            }
        }
        Ok(())
    }

    pub fn note_wrong(&mut self, why: String) {
        self.wrong.get_or_insert(why);
    }

    pub fn check(&self) -> Result<(), String> {
        self.wrong.clone().map_or(Ok(()), Err)
    }

    /// What must be found by whoever opens the disk as a power cut or a kill leaves it.
    pub fn expectation(&self, is_power_cut: bool) -> Expectation {
        let (base, skip) = if is_power_cut { (&self.floor, 0) } else { (&self.published, self.answered) };
        Expectation {
            base: base.clone(),
            tail: self.log.iter().skip(skip).map(|entry| entry.event.clone()).collect(),
            epoch: self.epoch,
            data_id: self.data_id,
            ids: self.ids.clone(),
            passes: self.passes.clone(),
        }
    }
}
