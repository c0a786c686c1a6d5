//! One rule each.

use super::*;

fn code(error: ResponseError) -> i16 {
    error.code()
}

#[test]
fn the_first_member_leads_and_gets_what_it_assigns() {
    let mut table = Table::new();
    let ticket = table.join(join("", "a"));
    let answer = table.joined(ticket).clone();
    assert_eq!((answer.error_code, answer.generation_id, &*answer.leader, &*answer.member_id), (0, 1, "a", "a"));
    assert_eq!(answer.protocol_name.as_deref(), Some("range"));
    assert_eq!(answer.members.len(), 1);
    assert_eq!(table.group.state(), State::CompletingRebalance);
    let ticket = table.sync(sync_as("a", 1, &[("a", "all of it")]));
    assert_eq!(&table.synced(ticket).assignment[..], b"all of it");
    assert_eq!(table.group.state(), State::Stable);
    let kept = table.kept.last().unwrap();
    assert_eq!((kept.generation, &kept.members[0].assignment[..]), (1, &b"all of it"[..]));
}

#[test]
fn an_assignment_is_heard_of_only_once_it_is_kept() {
    let mut table = Table::new();
    table.join(join("", "a"));
    table.hold = true;
    let ticket = table.sync(sync_as("a", 1, &[("a", "x")]));
    assert!(table.waits(ticket));
    assert_eq!(table.group.state(), State::CompletingRebalance);
    table.release(Ok(()));
    assert_eq!(&table.synced(ticket).assignment[..], b"x");
}

#[test]
fn an_assignment_that_cannot_be_kept_is_an_error_and_a_rebalance() {
    let mut table = Table::new();
    table.join(join("", "a"));
    table.hold = true;
    let ticket = table.sync(sync_as("a", 1, &[("a", "x")]));
    table.release(Err(ResponseError::CoordinatorNotAvailable));
    assert_eq!(table.synced(ticket).error_code, code(ResponseError::CoordinatorNotAvailable));
    assert_eq!(table.group.state(), State::PreparingRebalance);
}

#[test]
fn a_kept_assignment_of_an_old_generation_changes_nothing() {
    let mut table = Table::new();
    table.join(join("", "a"));
    table.hold = true;
    table.sync(sync_as("a", 1, &[("a", "x")]));
    table.join(join("", "b"));
    assert_eq!(table.group.state(), State::PreparingRebalance);
    table.join(join("a", ""));
    assert_eq!((table.group.state(), table.group.generation()), (State::CompletingRebalance, 2));
    table.release(Ok(()));
    assert_eq!(table.group.state(), State::CompletingRebalance);
}

#[test]
fn a_new_member_must_come_a_second_time_when_it_can() {
    let mut table = Table::new();
    let first = table.join(Join { id_required: true, ..join("", "a") });
    let answer = table.joined(first).clone();
    assert_eq!((answer.error_code, &*answer.member_id), (code(ResponseError::MemberIdRequired), "a"));
    assert_eq!(table.group.state(), State::Empty);
    let second = table.join(Join { id_required: true, ..join("a", "") });
    assert_eq!(table.joined(second).generation_id, 1);
}

#[test]
fn an_id_that_is_given_out_ends_with_the_session() {
    let mut table = Table::new();
    table.join(Join { id_required: true, ..join("", "a") });
    table.pass(10_000);
    let ticket = table.join(join("a", ""));
    assert_eq!(table.joined(ticket).error_code, code(ResponseError::UnknownMemberId));
}

#[test]
fn a_rebalance_waits_for_ids_that_are_given_out() {
    let mut table = Table::stable(&["a"]);
    table.join(Join { id_required: true, ..join("", "b") });
    let leader = table.join(join("a", ""));
    assert!(table.waits(leader), "b has an id and may come");
    table.pass(10_000);
    assert_eq!(table.joined(leader).generation_id, 2);
}

#[test]
fn the_first_members_wait_for_others_but_not_for_ever() {
    let mut table = Table::with(Rules { initial_delay_ms: 3_000, ..RULES });
    let a = table.join(join("", "a"));
    table.pass(2_999);
    assert!(table.waits(a));
    let b = table.join(join("", "b"));
    table.pass(1);
    assert!(table.waits(a), "the delay begins anew, because one came");
    table.pass(3_000);
    assert_eq!((table.joined(a).generation_id, table.joined(b).generation_id), (1, 1));
    let mut table = Table::with(Rules { initial_delay_ms: 3_000, ..RULES });
    let first = table.join(Join { rebalance_timeout_ms: 7_000, ..join("", "m0") });
    for number in 1..5 {
        table.pass(2_500);
        table.join(join("", &format!("m{number}")));
    }
    assert_eq!(table.joined(first).generation_id, 1, "no longer than its time to rebalance");
}

#[test]
fn members_that_do_not_rejoin_in_time_are_out() {
    let mut table = Table::stable(&["a", "b"]);
    let c = table.join(join("", "c"));
    for _ in 0..12 {
        table.pass(5_000);
        let _ = (table.heartbeat("a", 2), table.heartbeat("b", 2));
        if !table.waits(c) {
            break;
        }
    }
    assert_eq!(table.joined(c).generation_id, 3);
    assert_eq!(table.joined(c).members.len(), 1);
    assert_eq!(table.heartbeat("a", 3), Err(ResponseError::UnknownMemberId));
}

#[test]
fn a_silent_member_is_out_and_the_others_hear_of_it() {
    let mut table = Table::stable(&["a", "b"]);
    table.pass(9_000);
    assert_eq!(table.heartbeat("a", 2), Ok(()));
    table.pass(1_500);
    assert_eq!(table.group.state(), State::PreparingRebalance);
    assert_eq!(table.heartbeat("a", 2), Err(ResponseError::RebalanceInProgress));
    assert_eq!(table.heartbeat("b", 2), Err(ResponseError::UnknownMemberId));
    let a = table.join(join("a", ""));
    assert_eq!(table.joined(a).members.len(), 1);
}

#[test]
fn members_that_wait_need_not_be_heard_of() {
    let mut table = Table::stable(&["a", "b"]);
    let a = table.join(join("a", ""));
    for _ in 0..5 {
        table.pass(9_000);
        assert_eq!(table.heartbeat("b", 2), Err(ResponseError::RebalanceInProgress));
    }
    assert!(table.waits(a), "its session is over five times");
    table.join(join("b", ""));
    assert_eq!(table.joined(a).members.len(), 2);
}

#[test]
fn a_new_member_that_waits_for_too_long_is_out() {
    let mut table = Table::stable(&["a"]);
    let b = table.join(Join { rebalance_timeout_ms: 1_000_000, ..join("", "b") });
    for _ in 0..40 {
        table.pass(9_000);
        let _ = table.heartbeat("a", 1);
    }
    assert_eq!(table.joined(b).error_code, code(ResponseError::UnknownMemberId));
}

#[test]
fn members_that_do_not_come_for_their_assignment_are_out() {
    let mut table = Table::new();
    table.join(join("", "a"));
    table.join(join("", "b"));
    table.join(join("a", ""));
    let leader = table.sync(sync_as("a", 2, &[("a", "x")]));
    assert_eq!(&table.synced(leader).assignment[..], b"x");
    for _ in 0..12 {
        table.pass(5_000);
        let _ = (table.heartbeat("a", 2), table.heartbeat("b", 2));
    }
    assert_eq!(table.group.state(), State::PreparingRebalance);
    assert_eq!(table.heartbeat("b", 2), Err(ResponseError::UnknownMemberId));
    assert_eq!(table.heartbeat("a", 2), Err(ResponseError::RebalanceInProgress));
}

#[test]
fn a_rebalance_takes_members_away_from_waiting_for_the_leader() {
    let mut table = Table::new();
    table.join(join("", "a"));
    table.join(join("", "b"));
    table.join(join("a", ""));
    let waiting = table.sync(sync_as("b", 2, &[]));
    table.join(join("", "c"));
    assert_eq!(table.synced(waiting).error_code, code(ResponseError::RebalanceInProgress));
}

#[test]
fn the_last_one_out_leaves_an_empty_group_that_is_kept() {
    let mut table = Table::stable(&["a"]);
    assert_eq!(table.leave("a", None), Ok(()));
    assert_eq!((table.group.state(), table.group.generation()), (State::Empty, 2));
    let kept = table.kept.last().unwrap();
    assert_eq!((&*kept.protocol_type, kept.generation, kept.protocol.is_none()), ("consumer", 2, true));
    assert!(kept.members.is_empty() && kept.leader.is_none());
    assert_eq!(table.leave("a", None), Err(ResponseError::UnknownMemberId));
}

#[test]
fn a_follower_that_joins_again_unchanged_gets_its_generation() {
    let mut table = Table::stable(&["a", "b"]);
    let b = table.join(join("b", ""));
    assert_eq!((table.joined(b).generation_id, table.joined(b).members.len()), (2, 0));
    assert_eq!(table.group.state(), State::Stable);
    table.join(join("a", ""));
    assert_eq!(table.group.state(), State::PreparingRebalance, "the leader asks for a rebalance");
}

#[test]
fn a_member_with_other_metadata_makes_a_rebalance() {
    let mut table = Table::stable(&["a", "b"]);
    table.join(Join { protocols: vec![(text("range"), Bytes::from_static(b"other"))], ..join("b", "") });
    assert_eq!(table.group.state(), State::PreparingRebalance);
}

#[test]
fn members_vote_for_a_protocol_that_all_support() {
    let mut table = Table::new();
    table.join(join_as("", "a", &["roundrobin", "range"]));
    table.join(join_as("", "b", &["range", "sticky"]));
    let a = table.join(join_as("a", "", &["roundrobin", "range"]));
    assert_eq!(table.joined(a).protocol_name.as_deref(), Some("range"));
    let c = table.join(join_as("", "c", &["sticky"]));
    assert_eq!(table.joined(c).error_code, code(ResponseError::InconsistentGroupProtocol));
    let d = table.join(Join { protocol_type: text("connect"), ..join("", "d") });
    assert_eq!(table.joined(d).error_code, code(ResponseError::InconsistentGroupProtocol));
    let mut table = Table::new();
    let none = table.join(join_as("", "a", &[]));
    assert_eq!(table.joined(none).error_code, code(ResponseError::InconsistentGroupProtocol));
}

#[test]
fn a_sync_says_what_it_believes_and_is_told_when_that_is_wrong() {
    let mut table = Table::stable(&["a"]);
    let mut ask = |sync: Sync| {
        let ticket = table.sync(sync);
        table.synced(ticket).error_code
    };
    let good = sync_as("a", 1, &[]);
    assert_eq!(ask(good.clone()), 0);
    assert_eq!(ask(sync_as("a", 2, &[])), code(ResponseError::IllegalGeneration));
    assert_eq!(ask(sync_as("z", 1, &[])), code(ResponseError::UnknownMemberId));
    let inconsistent = code(ResponseError::InconsistentGroupProtocol);
    assert_eq!(ask(Sync { protocol: Some(text("sticky")), ..good.clone() }), inconsistent);
    assert_eq!(ask(Sync { protocol_type: Some(text("connect")), ..good.clone() }), inconsistent);
    assert_eq!(ask(Sync { protocol: Some(text("range")), ..good }), 0);
}

#[test]
fn a_static_member_comes_back_without_a_rebalance() {
    let mut table = Table::new();
    table.join(static_join("i", "", "a1"));
    table.assign(&["a1"]);
    table.hold = true;
    let back = table.join(static_join("i", "", "a2"));
    assert!(table.waits(back), "until its new id is kept");
    assert_eq!(&*table.kept.last().unwrap().members[0].id, "a2");
    table.release(Ok(()));
    let answer = table.joined(back);
    assert_eq!((answer.generation_id, &*answer.member_id, &*answer.leader), (1, "a2", "a2"));
    assert!(answer.skip_assignment);
    assert_eq!(table.group.state(), State::Stable);
    table.hold = false;
    let sync = table.sync(sync_as("a2", 1, &[]));
    assert_eq!(&table.synced(sync).assignment[..], b"a1", "what its old id was assigned");
    let old = Sync { instance_id: Some(text("i")), ..sync_as("a1", 1, &[]) };
    let old = table.sync(old);
    assert_eq!(table.synced(old).error_code, code(ResponseError::FencedInstanceId));
}

#[test]
fn a_static_leader_of_an_older_client_comes_back_as_a_follower() {
    let mut table = Table::new();
    table.join(static_join("i", "", "a1"));
    table.assign(&["a1"]);
    let back = table.join(Join { may_skip_assignment: false, ..static_join("i", "", "a2") });
    let answer = table.joined(back);
    assert_eq!((&*answer.leader, answer.members.len(), answer.skip_assignment), ("a1", 0, false));
}

#[test]
fn a_static_member_whose_return_cannot_be_kept_has_its_old_id_again() {
    let mut table = Table::new();
    table.join(static_join("i", "", "a1"));
    table.assign(&["a1"]);
    table.hold = true;
    let back = table.join(static_join("i", "", "a2"));
    table.release(Err(ResponseError::NotCoordinator));
    assert_eq!(table.joined(back).error_code, code(ResponseError::NotCoordinator));
    assert_eq!(table.heartbeat("a1", 1), Ok(()));
    assert_eq!(table.heartbeat("a2", 1), Err(ResponseError::UnknownMemberId));
}

#[test]
fn a_static_member_whose_return_is_kept_late_has_a_session_again() {
    let mut table = Table::new();
    table.join(static_join("i", "", "a1"));
    table.assign(&["a1"]);
    table.hold = true;
    let back = table.join(static_join("i", "", "a2"));
    // Longer than its session. It waits, so it stays.
    table.pass(20_000);
    table.release(Ok(()));
    assert_eq!(table.joined(back).error_code, 0);
    table.pass(9_999);
    assert_eq!(table.group.state(), State::Stable);
    table.pass(1);
    assert_eq!(table.group.state(), State::Empty, "nothing was heard of it");
}

#[test]
fn a_leader_that_assigns_twice_is_taken_at_its_first_word() {
    let mut table = Table::new();
    table.join(join("", "a1"));
    table.hold = true;
    let first = table.sync(sync_as("a1", 1, &[("a1", "first")]));
    let second = table.sync(sync_as("a1", 1, &[("a1", "second")]));
    assert_eq!(table.kept.last().unwrap().members[0].assignment, "first");
    table.release(Ok(()));
    assert_eq!(table.synced(first).error_code, code(ResponseError::RebalanceInProgress));
    assert_eq!(&table.synced(second).assignment[..], b"first");
}

#[test]
fn a_static_member_that_changes_makes_a_rebalance_when_the_protocol_changes() {
    let mut table = Table::new();
    table.join(static_join("i", "", "a1"));
    table.assign(&["a1"]);
    let other = Join { protocols: vec![(text("sticky"), Bytes::new())], ..static_join("i", "", "a2") };
    let refused = table.join(other);
    assert_eq!(table.joined(refused).error_code, code(ResponseError::InconsistentGroupProtocol), "as the reference");
    let both = ["sticky", "range"].map(|name| (text(name), Bytes::new())).to_vec();
    let back = table.join(Join { protocols: both, ..static_join("i", "", "a3") });
    assert_eq!(table.joined(back).generation_id, 2);
    assert_eq!(table.joined(back).protocol_name.as_deref(), Some("sticky"));
}

#[test]
fn two_static_members_with_one_name_fence_each_other() {
    let mut table = Table::stable(&["z"]);
    let first = table.join(static_join("i", "", "a1"));
    assert!(table.waits(first));
    let second = table.join(static_join("i", "", "a2"));
    assert_eq!(table.joined(first).error_code, code(ResponseError::FencedInstanceId));
    assert!(table.waits(second));
    let wrong = table.join(static_join("i", "a1", ""));
    assert_eq!(table.joined(wrong).error_code, code(ResponseError::FencedInstanceId));
    let stranger = table.join(static_join("other", "a2", ""));
    assert_eq!(table.joined(stranger).error_code, code(ResponseError::UnknownMemberId));
}

#[test]
fn a_static_member_stays_through_a_rebalance_that_it_misses() {
    let mut table = Table::new();
    table.join(static_join("i", "", "a"));
    table.assign(&["a"]);
    let b = table.join(Join { rebalance_timeout_ms: 1_000, ..join("", "b") });
    for _ in 0..61 {
        table.pass(1_000);
        let _ = table.heartbeat("a", 1);
    }
    assert_eq!((table.joined(b).generation_id, table.joined(b).members.len()), (2, 2));
}

#[test]
fn an_administrator_removes_static_members_by_name() {
    let mut table = Table::new();
    table.join(static_join("i", "", "a"));
    table.assign(&["a"]);
    assert_eq!(table.leave("", Some("other")), Err(ResponseError::UnknownMemberId));
    assert_eq!(table.leave("b", Some("i")), Err(ResponseError::FencedInstanceId));
    assert_eq!(table.leave("", Some("i")), Ok(()));
    assert_eq!(table.group.state(), State::Empty);
}

#[test]
fn a_full_group_takes_nobody_else() {
    let mut table = Table::with(Rules { members_max: 1, ..RULES });
    table.join(join("", "a"));
    table.assign(&["a"]);
    let b = table.join(join("", "b"));
    assert_eq!(table.joined(b).error_code, code(ResponseError::GroupMaxSizeReached));
    let a = table.join(join("a", ""));
    assert_eq!(table.joined(a).generation_id, 2);
}

#[test]
fn a_restored_group_goes_on_without_a_rebalance() {
    let table = Table::stable(&["a", "b"]);
    let kept = table.kept.last().unwrap().clone();
    let mut effects = Effects::default();
    let group = Group::restore(kept.clone(), at(77_000), &RULES, &mut effects);
    assert_eq!(effects.due, Some(87_000), "sessions start anew");
    let mut again = Table { group, now: 77_000, ..Table::new() };
    assert_eq!(again.group.record(), kept);
    assert_eq!(again.heartbeat("a", 2), Ok(()));
    let sync = again.sync(sync_as("b", 2, &[]));
    assert_eq!(&again.synced(sync).assignment[..], b"b");
    let rejoin = again.join(join("b", ""));
    assert_eq!(again.joined(rejoin).generation_id, 2);
}

#[test]
fn commits_are_taken_from_members_and_from_outside_when_nobody_is_in() {
    let mut table = Table::stable(&["a"]);
    let mut commit =
        |id: &str, generation| table.group.check_commit(at(0), &text(id), None, generation, &mut Effects::default());
    assert_eq!(commit("a", 1), Ok(()));
    assert_eq!(commit("a", 0), Err(ResponseError::IllegalGeneration));
    assert_eq!(commit("b", 1), Err(ResponseError::UnknownMemberId));
    assert_eq!(commit("", -1), Err(ResponseError::UnknownMemberId));
    table.leave("a", None).unwrap();
    let outside = table.group.check_commit(at(0), &text(""), None, -1, &mut Effects::default());
    assert_eq!(outside, Ok(()));
}

#[test]
fn a_commit_between_join_and_sync_has_to_wait() {
    let mut table = Table::new();
    table.join(join("", "a"));
    let commit = table.group.check_commit(at(0), &text("a"), None, 1, &mut Effects::default());
    assert_eq!(commit, Err(ResponseError::RebalanceInProgress));
}

#[test]
fn the_topics_of_consumers_are_known() {
    let mut table = Table::new();
    let metadata = Bytes::from_static(b"\0\0\0\0\0\x01\0\x06orders\xff\xff\xff\xff");
    table.join(Join { protocols: vec![(text("range"), metadata)], ..join("", "a") });
    assert!(table.group.is_subscribed(&text("orders")) && !table.group.is_subscribed(&text("others")));
    table.leave("a", None).unwrap();
    assert!(!table.group.is_subscribed(&text("orders")));
}

/// A static member came back with no time to rebalance. When a pending id then left, the wait for it was begun and over at once,
/// and begun again, for ever, under the group's lock.
#[test]
fn no_time_to_rebalance_is_a_short_time() {
    for timeout in [0, -1, i32::MIN] {
        let mut table = Table::new();
        table.join(static_join("i", "", "a1"));
        table.sync(sync_as("a1", 1, &[("a1", "x")]));
        table.join(Join { rebalance_timeout_ms: timeout, ..static_join("i", "", "a2") });
        assert_eq!(table.group.state(), State::Stable);
        table.join(Join { id_required: true, ..join("", "pending") });
        assert_eq!(table.leave("pending", None), Ok(()));
        assert_eq!(table.group.state(), State::PreparingRebalance);
    }
}

#[test]
fn a_member_that_is_too_large_is_not_taken() {
    let mut table = Table::with(Rules { bytes_max: 2_300, ..RULES });
    table.join(join("", "a"));
    let large = Join { protocols: vec![(text("range"), Bytes::from(vec![0; 1_500]))], ..join("", "b") };
    let refused = table.join(large.clone());
    assert_eq!(table.joined(refused).error_code, code(ResponseError::GroupMaxSizeReached));
    // Ids that are given out count too.
    for new_id in ["c", "d", "e"] {
        table.join(Join { id_required: true, ..join("", new_id) });
    }
    assert!(table.group.bytes() <= 2_300);
    // A member that comes back as it is needs no more than it has, whatever the bound.
    let mut alone = Table::stable(&["a"]);
    alone.rules.bytes_max = 0;
    let again = alone.join(join("a", ""));
    assert_eq!(alone.joined(again).error_code, 0);
    let grown = alone.join(Join { member_id: text("a"), ..large });
    assert_eq!(alone.joined(grown).error_code, code(ResponseError::GroupMaxSizeReached));
    assert!(alone.group.members.contains_key(&text("a")), "it stays as it was");
}
