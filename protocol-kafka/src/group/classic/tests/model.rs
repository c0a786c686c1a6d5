//! Random inputs in any order, with what must hold after each of them, whatever they are.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Input {
    Join { who: u8, id: Named, stable: bool, id_required: bool, protocols: u8, session: u8, rebalance: u8 },
    Sync { who: u8, generation: i8, count: u8 },
    Heartbeat { who: u8, generation: i8 },
    Leave { who: u8, by_instance: bool },
    Commit { who: u8, generation: i8 },
    Pass(u16),
    Release(bool),
    Restart,
}

/// Under which id a client joins.
#[derive(Clone, Copy, Debug)]
enum Named {
    None,
    Its,
    Wrong,
}

fn input() -> impl Strategy<Value = Input> {
    let who = 0..6u8;
    let named = prop_oneof![3 => Just(Named::None), 6 => Just(Named::Its), 1 => Just(Named::Wrong)];
    let generation = prop_oneof![8 => Just(0i8), 1 => Just(-1i8), 1 => Just(1i8)];
    let join = (who.clone(), named, any::<bool>(), any::<bool>(), 0..4u8, 0..3u8, 0..5u8);
    prop_oneof![
        8 => join.prop_map(|(who, id, stable, id_required, protocols, session, rebalance)| {
            Input::Join { who, id, stable, id_required, protocols, session, rebalance }
        }),
        8 => (who.clone(), generation.clone(), 0..6u8)
            .prop_map(|(who, generation, count)| Input::Sync { who, generation, count }),
        4 => (who.clone(), generation.clone()).prop_map(|(who, generation)| Input::Heartbeat { who, generation }),
        2 => (who.clone(), any::<bool>()).prop_map(|(who, by_instance)| Input::Leave { who, by_instance }),
        2 => (who, generation).prop_map(|(who, generation)| Input::Commit { who, generation }),
        5 => (0..20_000u16).prop_map(Input::Pass),
        4 => any::<bool>().prop_map(Input::Release),
        1 => Just(Input::Restart),
    ]
}

/// What a naive client knows of itself.
#[derive(Clone, Default)]
struct Client {
    id: Option<StrBytes>,
    instance: bool,
    ticket: Option<Ticket>,
}

struct World {
    table: Table,
    clients: Vec<Client>,
    ids: u32,
    /// The largest generation that a client was told, and by which members it was made up.
    generation: i32,
    assigned: HashMap<i32, HashMap<StrBytes, Bytes>>,
}

impl World {
    fn new() -> World {
        let mut table =
            Table::with(Rules { initial_delay_ms: 300, members_max: 4, pending_max: 3, bytes_max: usize::MAX });
        table.hold = true;
        World { table, clients: vec![Client::default(); 6], ids: 0, generation: 0, assigned: HashMap::new() }
    }

    fn id_of(&self, who: u8) -> StrBytes {
        self.clients[usize::from(who)].id.clone().unwrap_or_default()
    }

    fn generation_by(&self, offset: i8) -> i32 {
        self.table.group.generation() + i32::from(offset)
    }

    fn instance(&self, who: u8) -> Option<StrBytes> {
        self.clients[usize::from(who)].instance.then(|| text(&format!("instance-{}", who % 4)))
    }

    fn put(&mut self, input: &Input) {
        match *input {
            Input::Join { who, id, stable, id_required, protocols, session, rebalance } => {
                self.ids += 1;
                let new_id = format!("m{}", self.ids);
                self.clients[usize::from(who)].instance = stable;
                let names: &[&str] =
                    [&["range", "sticky"][..], &["sticky", "range"], &["range"], &[]][usize::from(protocols)];
                let member_id = match id {
                    Named::None => StrBytes::new(),
                    Named::Its => self.id_of(who),
                    Named::Wrong => text("wrong"),
                };
                let join = Join {
                    member_id,
                    instance_id: self.instance(who),
                    id_required,
                    session_timeout_ms: 5_000 * (1 + i32::from(session)),
                    // Clients may leave no time at all.
                    rebalance_timeout_ms: [4_000, 8_000, 12_000, 0, -1][usize::from(rebalance)],
                    ..join_as("", &new_id, names)
                };
                let ticket = self.table.join(join);
                self.clients[usize::from(who)].ticket = Some(ticket);
            }
            Input::Sync { who, generation, count } => {
                let ids: Vec<StrBytes> = self.table.group.members.keys().take(usize::from(count)).cloned().collect();
                let assignments: Vec<(StrBytes, Bytes)> =
                    ids.into_iter().map(|id| (id.clone(), id.into_bytes())).collect();
                let sync = Sync {
                    instance_id: self.instance(who),
                    assignments,
                    ..sync_as(&self.id_of(who), self.generation_by(generation), &[])
                };
                self.table.sync(sync);
            }
            Input::Heartbeat { who, generation } => {
                let _ = self.table.heartbeat(&self.id_of(who), self.generation_by(generation));
            }
            Input::Leave { who, by_instance } => {
                let instance = self.instance(who);
                let id = if by_instance { StrBytes::new() } else { self.id_of(who) };
                let _ = self.table.leave(&id, instance.as_deref());
            }
            Input::Commit { who, generation } => {
                let (id, generation) = (self.id_of(who), self.generation_by(generation));
                let now = at(self.table.now);
                let mut effects = Effects::default();
                let outcome = self.table.group.check_commit(now, &id, None, generation, &mut effects);
                self.table.take(effects);
                if outcome.is_ok() && generation >= 0 {
                    assert!(self.table.group.members.contains_key(&id), "a stranger commits");
                    assert_eq!(generation, self.table.group.generation());
                }
            }
            Input::Pass(ms) => self.table.pass(u64::from(ms)),
            Input::Release(is_kept) => {
                self.table.release(if is_kept { Ok(()) } else { Err(ResponseError::CoordinatorNotAvailable) });
            }
            Input::Restart => self.restart(),
        }
        self.learn();
    }

    /// The process is killed: what was to be kept last is there, and nobody who waits gets an answer.
    fn restart(&mut self) {
        let Some(record) = self.table.kept.last().cloned() else { return };
        self.table.held.clear();
        let mut effects = Effects::default();
        let now = at(self.table.now);
        self.table.group = Group::restore(record.clone(), now, &self.table.rules, &mut effects);
        if self.table.group.state() == State::Stable {
            assert_eq!(self.table.group.record(), record, "a group goes on as it was kept");
        }
        self.table.take(effects);
        for client in &mut self.clients {
            client.ticket = None;
        }
    }

    /// Clients read their answers.
    fn learn(&mut self) {
        for client in &mut self.clients {
            let Some(ticket) = client.ticket else { continue };
            let Some(Reply::Join(answer)) = self.table.answers.get(&ticket) else { continue };
            client.ticket = None;
            if answer.error_code == 0 || answer.error_code == ResponseError::MemberIdRequired.code() {
                client.id = Some(answer.member_id.clone());
            }
            if answer.error_code == 0 {
                assert!(answer.generation_id > 0 && !answer.leader.is_empty());
                let leads = answer.leader == answer.member_id;
                assert!(leads || answer.members.is_empty(), "only a leader is told of the members");
                self.generation = self.generation.max(answer.generation_id);
            }
        }
    }

    fn check(&mut self) {
        let group = &self.table.group;
        let joined = group.members.values().filter(|member| member.join.is_some()).count();
        assert_eq!(group.joined, joined, "those who wait are counted");
        let members: usize = group.members.iter().map(|(id, member)| member.bytes(id)).sum();
        let pending: usize = group.pending.keys().map(|id| 128 + id.len()).sum();
        assert_eq!(group.bytes, members + pending, "bytes are counted");
        let mut supported: HashMap<StrBytes, usize> = HashMap::new();
        for (name, _) in group.members.values().flat_map(|member| &member.protocols) {
            *supported.entry(name.clone()).or_default() += 1;
        }
        assert_eq!(group.supported, supported, "protocols are counted");
        let statics = group.members.iter().filter_map(|(id, member)| Some((member.instance_id.clone()?, id.clone())));
        assert_eq!(group.static_members, statics.collect::<HashMap<_, _>>(), "static members are known by name");
        assert_eq!(group.leader.is_some(), !group.members.is_empty(), "somebody leads a group with members");
        assert!(group.leader.as_ref().is_none_or(|leader| group.members.contains_key(leader)));
        assert!(group.pending.keys().all(|id| !group.members.contains_key(id)));
        assert!(group.pending_sync.iter().all(|id| group.members.contains_key(id)));
        // Static members that do not rejoin stay for their session, beside as many as may join.
        assert!(group.joined <= 4 && group.pending.len() <= 3, "bounds hold");
        match group.state {
            State::Empty => assert!(group.members.is_empty() && group.protocol.is_none()),
            State::PreparingRebalance => {
                assert!(group.join_timer.is_some(), "the wait ends some time");
                assert!(group.members.values().all(|member| member.sync.is_none()));
            }
            State::CompletingRebalance | State::Stable => {
                assert!(!group.members.is_empty() && group.protocol.is_some() && group.join_timer.is_none());
                let everybody = group.members.len();
                let protocol = group.protocol.clone().unwrap_or_default();
                assert_eq!(group.supported.get(&protocol), Some(&everybody), "all support the protocol in use");
                assert_eq!(group.sync_timer.is_none(), group.pending_sync.is_empty());
            }
        }
        // A dynamic member always has an end, unless it waits.
        for member in group.members.values() {
            assert!(member.session.is_some() || member.is_excused(), "a member could stay for ever: {member:?}");
        }
        // Whatever is promised to one generation is the same for everybody in it.
        if group.state == State::Stable {
            let assigned = self.assigned.entry(group.generation).or_default();
            for member in group.members.values().filter(|member| member.instance_id.is_none()) {
                let id = group.members.iter().find(|(_, other)| std::ptr::eq(*other, member)).map(|(id, _)| id.clone());
                let before = assigned.entry(id.unwrap_or_default()).or_insert_with(|| member.assignment.clone());
                assert_eq!(*before, member.assignment, "an assignment changes within a generation");
            }
        }
        // Only a group without anybody, or one whose record is on its way, has nothing to wait for.
        let is_held = !self.table.held.is_empty();
        assert!(group.next_deadline().is_some() || group.is_unused() || is_held, "nothing will ever happen");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_comes_the_group_stays_whole(inputs in prop::collection::vec(input(), 1..120)) {
        let mut world = World::new();
        for input in &inputs {
            world.put(input);
            world.check();
        }
        // In the end, when nobody is heard of any more, nobody is left, and nobody waits.
        world.table.hold = false;
        world.table.release(Ok(()));
        world.table.pass(10_000_000);
        prop_assert_eq!(world.table.group.state(), State::Empty);
        prop_assert!(world.table.group.is_unused());
    }
}
