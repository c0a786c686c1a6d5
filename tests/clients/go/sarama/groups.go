package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"

	. "headwater/clients/harness"
)

var groupCases = []Case{
	{Name: "members_share_the_partitions_under_every_assignor", Body: assignors},
	{Name: "a_cooperative_rebalance_moves_only_what_it_must", Body: cooperative},
	{Name: "a_group_goes_on_where_it_has_committed", Body: commits},
	{Name: "a_static_member_comes_back_without_a_rebalance", Body: static},
	{Name: "offsets_of_a_group_are_listed_altered_and_deleted", Body: offsets},
	{Name: "churn_loses_no_record_and_takes_no_commit_back", Body: churn},
}

// member is a consumer of a group; it is its own handler.
type member struct {
	group   sarama.ConsumerGroup
	cable   *Cable
	topic   string
	process func(*sarama.ConsumerMessage)
	stop    context.CancelFunc
	ended   chan struct{}

	mutex    sync.Mutex
	session  sarama.ConsumerGroupSession
	sessions int
	claims   int
	messages []*sarama.ConsumerMessage
	failed   error
}

// join makes a member. Each message goes to process and is committed soon; without the function it is kept and left to
// the automatic commit.
func join(run *Run, group, topic string, process func(*sarama.ConsumerMessage), changes ...func(*sarama.Config)) *member {
	ctx, stop := context.WithCancel(run)
	made := &member{cable: &Cable{}, topic: topic, process: process, stop: stop, ended: make(chan struct{})}
	config := settings(changes...)
	config.Net.Proxy.Enable = true
	config.Net.Proxy.Dialer = made.cable
	config.Consumer.Offsets.AutoCommit.Enable = process == nil
	config.Consumer.Offsets.AutoCommit.Interval = 200 * time.Millisecond
	made.group = Must(sarama.NewConsumerGroup([]string{run.Bootstrap}, group, config))
	go func() {
		defer close(made.ended)
		for ctx.Err() == nil {
			if err := made.group.Consume(ctx, []string{topic}, made); err != nil {
				made.mutex.Lock()
				made.failed = err
				made.mutex.Unlock()
				if errors.Is(err, sarama.ErrFencedInstancedId) || errors.Is(err, sarama.ErrClosedConsumerGroup) {
					return
				}
				time.Sleep(50 * time.Millisecond)
			}
		}
	}()
	return made
}

// Setup is called when a session begins.
func (member *member) Setup(session sarama.ConsumerGroupSession) error {
	member.mutex.Lock()
	defer member.mutex.Unlock()
	member.session = session
	member.sessions++
	return nil
}

// Cleanup is called when it has ended.
func (member *member) Cleanup(sarama.ConsumerGroupSession) error {
	member.mutex.Lock()
	defer member.mutex.Unlock()
	member.session = nil
	return nil
}

// ConsumeClaim reads one partition.
func (member *member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	member.mutex.Lock()
	member.claims++
	member.mutex.Unlock()
	again := time.NewTicker(200 * time.Millisecond)
	defer again.Stop()
	for {
		select {
		case <-again.C:
			// A commit may have failed, in a rebalance say; without a message, this one repeats it.
			if member.process != nil {
				session.Commit()
			}
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			if member.process != nil {
				member.process(message)
				session.MarkMessage(message, "")
				// A commit waits for the fetch before it on the one connection, so it is for all that is here.
				if len(claim.Messages()) == 0 {
					session.Commit()
				}
				continue
			}
			member.mutex.Lock()
			member.messages = append(member.messages, message)
			member.mutex.Unlock()
			session.MarkMessage(message, "")
		case <-session.Context().Done():
			return nil
		}
	}
}

// Assigned are the partitions of the session, if there is one.
func (member *member) Assigned() []int32 {
	member.mutex.Lock()
	defer member.mutex.Unlock()
	if member.session == nil {
		return []int32{}
	}
	return slices.Sorted(slices.Values(member.session.Claims()[member.topic]))
}

func (member *member) count() int {
	member.mutex.Lock()
	defer member.mutex.Unlock()
	return len(member.messages)
}

func (member *member) started() int {
	member.mutex.Lock()
	defer member.mutex.Unlock()
	return member.claims
}

// Leave ends it, and with it its membership, unless it is static.
func (member *member) Leave() {
	member.stop()
	<-member.ended
	Ok(member.group.Close(), "close")
}

func (member *member) Crash() {
	member.cable.Cut()
	member.stop()
	go member.group.Close() // it tries for a while to say goodbye
}

func described(admin sarama.ClusterAdmin, group string) *sarama.GroupDescription {
	found := Must(admin.DescribeConsumerGroups([]string{group}))[0]
	Check(found.Err == sarama.ErrNoError || found.Err == sarama.ErrGroupIDNotFound, "describe %s: %v", group, found.Err)
	return found
}

func assigned(found *sarama.GroupDescription, topic string) [][]int32 {
	all := [][]int32{}
	for _, member := range found.Members {
		mine := []int32{}
		if len(member.MemberAssignment) > 0 {
			mine = append(mine, Must(member.GetMemberAssignment()).Topics[topic]...)
		}
		all = append(all, mine)
	}
	return all
}

// settled waits until the members share all partitions, and the broker says so too.
func settled(run *Run, admin sarama.ClusterAdmin, group string, partitions int, members ...*member) *sarama.GroupDescription {
	var found *sarama.GroupDescription
	Until(run, fmt.Sprintf("%d members settle", len(members)), func() bool {
		found = described(admin, group)
		own := [][]int32{}
		for _, member := range members {
			own = append(own, member.Assigned())
		}
		return found.State == "Stable" && len(found.Members) == len(members) &&
			Complete(assigned(found, members[0].topic), partitions) && Complete(own, partitions)
	})
	return found
}

func strategy(made sarama.BalanceStrategy) func(*sarama.Config) {
	return func(config *sarama.Config) {
		config.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{made}
	}
}

func assignors(run *Run) {
	admin := admin(run)
	defer admin.Close()
	topic := create(run, "assign", 6)
	for name, made := range map[string]func() sarama.BalanceStrategy{"range": sarama.NewBalanceStrategyRange, "roundrobin": sarama.NewBalanceStrategyRoundRobin,
		"sticky": sarama.NewBalanceStrategySticky, "cooperative-sticky": sarama.NewBalanceStrategyCooperativeSticky} {
		group := Name(name)
		members := []*member{}
		for range run.Scale(2, 4) {
			members = append(members, join(run, group, topic, nil, strategy(made())))
			found := settled(run, admin, group, 6, members...)
			Equal([]string{found.ProtocolType, found.Protocol}, []string{"consumer", name}, "protocol")
			for _, partitions := range assigned(found, topic) {
				least, most := 6/len(members), (6+len(members)-1)/len(members)
				Check(len(partitions) >= least && len(partitions) <= most, "%s is not fair: %v", name, assigned(found, topic))
			}
		}
		members[0].Leave()
		settled(run, admin, group, 6, members[1:]...)
		for _, member := range members[1:] {
			member.Leave()
		}
		Until(run, "the group is empty", func() bool { return described(admin, group).State == "Empty" })
	}
}

func cooperative(run *Run) {
	admin := admin(run)
	defer admin.Close()
	topic, group := create(run, "cooperative", 6), Name("cooperative")
	first := join(run, group, topic, nil, strategy(sarama.NewBalanceStrategyCooperativeSticky()))
	defer first.Leave()
	settled(run, admin, group, 6, first)
	before := first.Assigned()
	second := join(run, group, topic, nil, strategy(sarama.NewBalanceStrategyCooperativeSticky()))
	settled(run, admin, group, 6, first, second)
	for _, partition := range first.Assigned() {
		Check(slices.Contains(before, partition), "it got partition %d", partition)
	}
	Equal([]int{first.sessions, first.started()}, []int{1, 6}, "sessions and claims that were begun")
	second.Leave()
	settled(run, admin, group, 6, first)
	Until(run, "the three partitions come back", func() bool { return first.started() == 9 })
	Equal(first.sessions, 1, "sessions")
}

func commits(run *Run) {
	admin := admin(run)
	defer admin.Close()
	topic := create(run, "commits", 1)
	fill(run, topic, 0, numbered(100))
	group := Name("manual")
	var mutex sync.Mutex
	seen := []int64{}
	note := func(message *sarama.ConsumerMessage) {
		mutex.Lock()
		defer mutex.Unlock()
		seen = append(seen, message.Offset)
	}
	member := join(run, group, topic, note)
	Until(run, "each message is committed", func() bool { return committed(admin, group, topic, 1)[0] == 100 })
	member.Leave()
	fill(run, topic, 0, numbered(10))
	member = join(run, group, topic, note)
	Until(run, "the rest is committed", func() bool { return committed(admin, group, topic, 1)[0] == 110 })
	member.Leave()
	Same(seen, upTo(110), "offsets over both members")

	group = Name("automatic")
	member = join(run, group, topic, nil)
	Until(run, "all come", func() bool { return member.count() == 110 })
	Until(run, "they are committed at the interval", func() bool { return committed(admin, group, topic, 1)[0] == 110 })
	fill(run, topic, 0, numbered(10))
	Until(run, "ten more come", func() bool { return member.count() == 120 })
	member.Leave()
	Equal(committed(admin, group, topic, 1), map[int32]int64{0: 120}, "committed when it ended")

	// By hand, without members.
	client := client(run)
	defer client.Close()
	manager := Must(sarama.NewOffsetManagerFromClient(Name("by-hand"), client))
	partition := Must(manager.ManagePartition(topic, 0))
	next, _ := partition.NextOffset()
	Equal(next, int64(sarama.OffsetOldest), "before a commit")
	partition.MarkOffset(17, "seventeen")
	manager.Commit()
	partition.ResetOffset(3, "three")
	manager.Commit()
	partition.AsyncClose()
	Ok(manager.Close(), "close")
}

// committed are the group's offsets; partitions without one are absent.
func committed(admin sarama.ClusterAdmin, group, topic string, partitions int32) map[int32]int64 {
	return Must(committedNow(admin, group, topic, partitions))
}

func committedNow(admin sarama.ClusterAdmin, group, topic string, partitions int32) (map[int32]int64, error) {
	numbers := make([]int32, partitions)
	for i := range numbers {
		numbers[i] = int32(i)
	}
	found, err := admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: numbers})
	if err != nil {
		return nil, err
	}
	offsets := map[int32]int64{}
	for _, partition := range numbers {
		block := found.GetBlock(topic, partition)
		if block == nil || block.Err != sarama.ErrNoError {
			return nil, fmt.Errorf("offset of partition %d: %+v", partition, block)
		}
		if block.Offset >= 0 {
			offsets[partition] = block.Offset
		}
	}
	return offsets, nil
}

func static(run *Run) {
	admin := admin(run)
	defer admin.Close()
	topic, group := create(run, "static", 4), Name("static")
	start := func(instance string) *member {
		return join(run, group, topic, nil, func(config *sarama.Config) { config.Consumer.Group.InstanceId = instance })
	}
	first, second := start("one"), start("two")
	settled(run, admin, group, 4, first, second)
	owned, generation := first.Assigned(), second.session.GenerationID()
	first.Leave() // a static member stays in the group
	Equal(len(described(admin, group).Members), 2, "members while one is away")
	first = start("one")
	settled(run, admin, group, 4, first, second)
	Equal(first.Assigned(), owned, "its partitions")
	Equal(first.session.GenerationID(), generation, "generation after it came back")
	Equal(second.sessions, 1, "sessions of the other one since they both are there")
	// Another one with its name takes its place, and the old one is fenced.
	taker := start("one")
	<-first.ended
	Fails(first.failed, sarama.ErrFencedInstancedId, "the old one")
	first.Leave()
	settled(run, admin, group, 4, taker, second)
	taker.Leave()
	second.Leave()
	left := Must(admin.RemoveMemberFromConsumerGroup(group, []string{"one", "two", "nobody"}))
	errs := []sarama.KError{}
	for _, member := range left.Members {
		errs = append(errs, member.Err)
	}
	Equal(errs, []sarama.KError{sarama.ErrNoError, sarama.ErrNoError, sarama.ErrUnknownMemberId}, "removal of instances")
	Until(run, "the group is empty", func() bool { return described(admin, group).State == "Empty" })
}

func offsets(run *Run) {
	admin := admin(run)
	defer admin.Close()
	topic, other, group := create(run, "offsets", 3), create(run, "other", 1), Name("offsets")
	fill(run, topic, 0, numbered(20))
	alter := func(offsets map[string]map[int32]sarama.OffsetAndMetadata) sarama.KError {
		answer := Must(admin.AlterConsumerGroupOffsets(group, offsets, nil))
		for _, partitions := range answer.Errors {
			for _, err := range partitions {
				if err != sarama.ErrNoError {
					return err
				}
			}
		}
		return sarama.ErrNoError
	}
	none := sarama.ErrNoError
	Equal(alter(map[string]map[int32]sarama.OffsetAndMetadata{topic: {0: {Offset: 5, Metadata: "five", LeaderEpoch: -1}, 2: {Offset: 0, LeaderEpoch: -1}},
		other: {0: {Offset: 7, LeaderEpoch: -1}}}), none, "commit to a new group")
	block := Must(admin.ListConsumerGroupOffsets(group, nil)).GetBlock(topic, 0)
	Check(block.Offset == 5 && block.Metadata == "five", "found %+v", block)
	Equal(committed(admin, group, topic, 3), map[int32]int64{0: 5, 2: 0}, "committed")
	batch := Must(admin.ListConsumerGroupOffsetsBatch(map[string]map[string][]int32{group: nil, Name("missing"): nil}))
	Equal(len(batch), 2, "groups in one answer")
	Equal(alter(map[string]map[int32]sarama.OffsetAndMetadata{Name("missing"): {0: {Offset: 1, LeaderEpoch: -1}}}), sarama.ErrUnknownTopicOrPartition, "commit to a missing topic")
	_, listed := Must(admin.ListConsumerGroups())[group]
	Check(listed, "the group is not listed")
	Equal(Must(admin.Coordinator(group)).ID(), Must(admin.Controller()).ID(), "coordinator of the only node")

	// While it is subscribed to, the offsets of a topic stay.
	member := join(run, group, topic, nil)
	settled(run, admin, group, 3, member)
	Until(run, "records from the committed offset on", func() bool { return member.count() == 15 })
	Fails(admin.DeleteConsumerGroupOffset(group, topic, 0), sarama.ErrGroupSubscribedToTopic, "delete an offset in use")
	Ok(admin.DeleteConsumerGroupOffset(group, other, 0), "delete an offset of another topic")
	Equal(len(committed(admin, group, other, 1)), 0, "offsets of the other topic")
	Fails(admin.DeleteConsumerGroup(group), sarama.ErrNonEmptyGroup, "delete a group with a member")
	back := map[string]map[int32]sarama.OffsetAndMetadata{topic: {0: {Offset: 1, LeaderEpoch: -1}}}
	Equal(alter(back), sarama.ErrUnknownMemberId, "alter the offsets of a group with a member")
	member.Leave()
	Until(run, "the group is empty", func() bool { return described(admin, group).State == "Empty" })
	Equal(alter(back), none, "set back")
	member = join(run, group, topic, nil)
	Until(run, "they come again", func() bool { return member.count() == 19 })
	member.Leave()
	Until(run, "the group is empty again", func() bool { return described(admin, group).State == "Empty" })
	Ok(admin.DeleteConsumerGroup(group), "delete the group")
	_, listed = Must(admin.ListConsumerGroups())[group]
	Check(!listed, "it is still listed")
	Fails(admin.DeleteConsumerGroup(group), sarama.ErrGroupIDNotFound, "delete it again")
}

func churn(run *Run) {
	strategies := []func() sarama.BalanceStrategy{sarama.NewBalanceStrategyRange}
	if run.Full {
		strategies = append(strategies, sarama.NewBalanceStrategySticky, sarama.NewBalanceStrategyCooperativeSticky)
	}
	admin := admin(run)
	defer admin.Close()
	producer := Must(sarama.NewSyncProducer([]string{run.Bootstrap}, settings(idempotent)))
	defer producer.Close()
	for i, made := range strategies {
		partitions := run.Scale(6, 12)
		topic, group := create(run, "churn", int32(partitions)), Name("churn")
		churn := Churn{
			Partitions: partitions,
			Start: func(number int, log *ProcessedLog) Member {
				process := func(message *sarama.ConsumerMessage) { log.Add(message.Partition, message.Offset) }
				return join(run, group, topic, process, strategy(made()))
			},
			Produce: func(partition int32) (int64, error) {
				_, offset, err := producer.SendMessage(message(topic, partition, Sample{Value: []byte("v"), TimestampMs: time.Now().UnixMilli()}))
				return offset, err
			},
			Committed: func() (map[int32]int64, error) { return committedNow(admin, group, topic, int32(partitions)) },
			Described: func() (string, [][]int32) {
				found := described(admin, group)
				return found.State, assigned(found, topic)
			},
		}
		churn.Through(run, run.Scale(2, max(2, 4-2*i)), run.Full)
	}
}
