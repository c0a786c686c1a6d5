//! The state machine by rule, and against a naive model.

use super::*;

#[path = "tests/model.rs"]
mod model;
#[path = "tests/rules.rs"]
mod rules;

const RULES: Rules = Rules { initial_delay_ms: 0, members_max: 100, pending_max: 100, bytes_max: 1 << 20 };

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn at(ms: u64) -> Moment {
    Moment { ms, wall: 1_000_000 + ms as i64 }
}

/// A join of a consumer that supports these protocols, each with its own name as metadata.
fn join_as(id: &str, new_id: &str, protocols: &[&str]) -> Join {
    Join {
        member_id: text(id),
        instance_id: None,
        client_id: text("client"),
        client_host: text("/127.0.0.1"),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: text("consumer"),
        protocols: protocols.iter().map(|name| (text(name), Bytes::copy_from_slice(name.as_bytes()))).collect(),
        new_id: text(new_id),
        id_required: false,
        may_skip_assignment: true,
    }
}

fn join(id: &str, new_id: &str) -> Join {
    join_as(id, new_id, &["range"])
}

fn static_join(instance_id: &str, id: &str, new_id: &str) -> Join {
    Join { instance_id: Some(text(instance_id)), ..join(id, new_id) }
}

fn sync_as(id: &str, generation: i32, assignments: &[(&str, &str)]) -> Sync {
    Sync {
        member_id: text(id),
        instance_id: None,
        generation,
        protocol_type: None,
        protocol: None,
        assignments: assignments.iter().map(|(id, to)| (text(id), Bytes::copy_from_slice(to.as_bytes()))).collect(),
    }
}

/// A group with a hand on its inputs; what it wants kept is kept at once unless `hold` says to wait.
struct Table {
    group: Group,
    rules: Rules,
    now: u64,
    next: Ticket,
    answers: HashMap<Ticket, Reply>,
    kept: Vec<GroupRecord>,
    hold: bool,
    held: Vec<Then>,
}

impl Table {
    fn new() -> Table {
        Table::with(RULES)
    }

    fn with(rules: Rules) -> Table {
        let group = Group::new(at(0));
        let (answers, kept, held) = Default::default();
        Table { group, rules, now: 0, next: 1, answers, kept, hold: false, held }
    }

    fn take(&mut self, effects: Effects) {
        let mut effects = effects;
        loop {
            for (ticket, reply) in effects.replies {
                assert!(self.answers.insert(ticket, reply).is_none(), "ticket {ticket} is answered twice");
            }
            let mut further = Effects::default();
            for persist in effects.persist {
                self.kept.push(persist.record);
                match persist.then {
                    Some(then) if self.hold => self.held.push(then),
                    Some(then) => self.group.persisted(at(self.now), &self.rules, then, Ok(()), &mut further),
                    None => {}
                }
            }
            if effects.due.is_some_and(|due| due <= self.now) {
                self.group.expire(at(self.now), &self.rules, &mut further);
            }
            if further == Effects::default() {
                break;
            }
            effects = further;
        }
    }

    fn release(&mut self, kept: Result<(), ResponseError>) {
        for then in std::mem::take(&mut self.held) {
            let mut effects = Effects::default();
            self.group.persisted(at(self.now), &self.rules, then, kept, &mut effects);
            self.take(effects);
        }
    }

    fn join(&mut self, join: Join) -> Ticket {
        let ticket = self.next;
        self.next += 1;
        let mut effects = Effects::default();
        self.group.join(at(self.now), &self.rules, ticket, join, &mut effects);
        self.take(effects);
        ticket
    }

    fn sync(&mut self, sync: Sync) -> Ticket {
        let ticket = self.next;
        self.next += 1;
        let mut effects = Effects::default();
        self.group.sync(ticket, sync, &mut effects);
        self.take(effects);
        ticket
    }

    fn heartbeat(&mut self, id: &str, generation: i32) -> Result<(), ResponseError> {
        let mut effects = Effects::default();
        let outcome = self.group.heartbeat(at(self.now), &text(id), None, generation, &mut effects);
        self.take(effects);
        outcome
    }

    fn leave(&mut self, id: &str, instance_id: Option<&str>) -> Result<(), ResponseError> {
        let mut effects = Effects::default();
        let leaving = Leaving { member_id: text(id), instance_id: instance_id.map(text) };
        let outcome = self.group.leave(at(self.now), &self.rules, &[leaving], &mut effects);
        self.take(effects);
        outcome[0]
    }

    /// Lets time pass, one deadline after the other.
    fn pass(&mut self, ms: u64) {
        let until = self.now + ms;
        while let Some(due) = self.group.next_deadline().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            let mut effects = Effects::default();
            self.group.expire(at(self.now), &self.rules, &mut effects);
            self.take(effects);
        }
        self.now = until;
    }

    fn joined(&self, ticket: Ticket) -> &JoinGroupResponse {
        match self.answers.get(&ticket) {
            Some(Reply::Join(answer)) => answer,
            other => panic!("{other:?} for a join"),
        }
    }

    fn synced(&self, ticket: Ticket) -> &SyncGroupResponse {
        match self.answers.get(&ticket) {
            Some(Reply::Sync(answer)) => answer,
            other => panic!("{other:?} for a sync"),
        }
    }

    fn waits(&self, ticket: Ticket) -> bool {
        !self.answers.contains_key(&ticket)
    }

    /// A stable group of these members; the first one leads.
    fn stable(ids: &[&str]) -> Table {
        let mut table = Table::new();
        table.gather(ids);
        table
    }

    fn gather(&mut self, ids: &[&str]) {
        self.join(join("", ids[0]));
        for id in &ids[1..] {
            self.join(join("", id));
        }
        // Those who joined first rejoin for the last one.
        for id in &ids[..ids.len() - 1] {
            self.join(join(id, ""));
        }
        self.assign(ids);
    }

    /// The leader assigns to each its own id.
    fn assign(&mut self, ids: &[&str]) {
        let leader = self.group.leader.clone().expect("a leader");
        let generation = self.group.generation();
        let assignments: Vec<(&str, &str)> = ids.iter().map(|id| (*id, *id)).collect();
        for id in ids.iter().filter(|id| **id != &*leader) {
            self.sync(sync_as(id, generation, &[]));
        }
        self.sync(sync_as(&leader, generation, &assignments));
        assert_eq!(self.group.state(), State::Stable);
    }
}
