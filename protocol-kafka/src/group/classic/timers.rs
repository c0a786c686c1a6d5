//! What happens when time is up.

use super::{Effects, Group, Moment, Rules, State};
use kafka_protocol::protocol::StrBytes;

/// The wait for members to join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JoinTimer {
    /// The group was empty: its first members wait a while for others, and again as long as others come, but no longer than
    /// the time to rebalance.
    Initial { at: u64, delay_ms: i32, remaining_ms: i32 },
    /// Members have so long to rejoin.
    Rebalance { at: u64 },
}

impl JoinTimer {
    fn at(self) -> u64 {
        match self {
            JoinTimer::Initial { at, .. } | JoinTimer::Rebalance { at } => at,
        }
    }
}

impl Group {
    /// When something is due next.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        let sessions = self.members.values().filter_map(|member| member.session);
        let others = [self.join_timer.map(JoinTimer::at), self.sync_timer];
        sessions.chain(self.pending.values().copied()).chain(others.into_iter().flatten()).min()
    }

    /// Does what is due.
    pub(crate) fn expire(&mut self, now: Moment, rules: &Rules, effects: &mut Effects) {
        if let Some(timer) = self.join_timer
            && timer.at() <= now.ms
        {
            self.expire_join(now, rules, timer, effects);
        }
        if self.sync_timer.is_some_and(|at| at <= now.ms) {
            self.expire_sync(now, rules, effects);
        }
        let pending = self.pending.iter().filter(|(_, until)| **until <= now.ms).map(|(id, _)| id.clone());
        let pending: Vec<StrBytes> = pending.collect();
        for id in pending {
            self.remove(&id, effects);
            if self.state == State::PreparingRebalance && self.all_joined() {
                self.complete_join(now, effects);
            }
        }
        let is_due = |at: Option<u64>| at.is_some_and(|at| at <= now.ms);
        let due = self.members.iter().filter(|(_, member)| is_due(member.session)).map(|(id, _)| id.clone());
        let due: Vec<StrBytes> = due.collect();
        for id in due {
            self.expire_session(now, rules, &id, effects);
        }
    }

    fn expire_join(&mut self, now: Moment, rules: &Rules, timer: JoinTimer, effects: &mut Effects) {
        match timer {
            JoinTimer::Initial { delay_ms, remaining_ms, .. } if self.has_grown && remaining_ms != 0 => {
                self.has_grown = false;
                let next_ms = rules.initial_delay_ms.min(remaining_ms);
                let remaining_ms = remaining_ms.saturating_sub(delay_ms).max(0);
                let at = effects.arm(now.after(next_ms));
                self.join_timer = Some(JoinTimer::Initial { at, delay_ms: next_ms, remaining_ms });
            }
            JoinTimer::Initial { .. } | JoinTimer::Rebalance { .. } => self.complete_join(now, effects),
        }
    }

    /// Members that have not come for their assignment are out.
    fn expire_sync(&mut self, now: Moment, rules: &Rules, effects: &mut Effects) {
        self.sync_timer = None;
        let is_on = matches!(self.state, State::CompletingRebalance | State::Stable);
        if !is_on || self.pending_sync.is_empty() {
            return;
        }
        for id in std::mem::take(&mut self.pending_sync) {
            self.remove(&id, effects);
            effects.expired += 1;
        }
        self.prepare(now, rules, effects);
    }

    fn expire_session(&mut self, now: Moment, rules: &Rules, id: &StrBytes, effects: &mut Effects) {
        let Some(member) = self.members.get_mut(id) else { return };
        // Another one's end may have refreshed it.
        if member.session.is_none_or(|at| at > now.ms) {
            return;
        }
        member.session = None;
        if member.is_excused() {
            return;
        }
        self.remove(id, effects);
        effects.expired += 1;
        match self.state {
            State::Stable | State::CompletingRebalance => self.rebalance(now, rules, effects),
            State::PreparingRebalance if self.all_joined() => self.complete_join(now, effects),
            State::PreparingRebalance | State::Empty => {}
        }
    }
}
