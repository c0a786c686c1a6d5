package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	. "headwater/clients/harness"
)

var groupCases = []Case{
	{Name: "members_share_the_partitions_under_every_assignor", Body: assignors},
	{Name: "a_cooperative_rebalance_moves_only_what_it_must", Body: cooperative},
	{Name: "a_group_goes_on_where_it_has_committed", Body: commits},
	{Name: "a_static_member_comes_back_without_a_rebalance", Body: static},
	{Name: "a_pattern_finds_topics_that_come_later", Body: pattern},
	{Name: "offsets_of_a_group_are_listed_altered_and_deleted", Body: offsets},
	{Name: "churn_loses_no_record_and_takes_no_commit_back", Body: churn},
}

var startOffset = kgo.NewOffset().AtStart()

// member is a consumer of a group that polls until it is closed.
type member struct {
	*kgo.Client
	cable *Cable
	stop  context.CancelFunc
	ended chan struct{}

	mutex   sync.Mutex
	owned   map[string]map[int32]bool
	lost    int
	revoked int
	records []*kgo.Record
}

// join makes a member. What it polls goes to process, before it may lose its partitions, and is then committed;
// without the function it is kept and committed by the client.
func join(run *Run, group string, topics []string, process func(*kgo.Record), options ...kgo.Opt) *member {
	ctx, stop := context.WithCancel(run)
	made := &member{cable: &Cable{}, stop: stop, ended: make(chan struct{}), owned: map[string]map[int32]bool{}}
	options = append([]kgo.Opt{
		kgo.ConsumerGroup(group), kgo.ConsumeTopics(topics...), kgo.ConsumeResetOffset(startOffset),
		kgo.HeartbeatInterval(200 * time.Millisecond), kgo.SessionTimeout(6 * time.Second), kgo.RebalanceTimeout(10 * time.Second),
		kgo.Dialer(made.cable.DialContext), kgo.BlockRebalanceOnPoll(), kgo.FetchMaxWait(200 * time.Millisecond),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, gained map[string][]int32) { made.change(gained, true) }),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
			made.revoked += made.change(gone, false)
		}),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
			made.lost += made.change(gone, false)
		}),
	}, options...)
	if process != nil {
		options = append(options, kgo.DisableAutoCommit())
	}
	made.Client = client(run, options...)
	go func() {
		defer close(made.ended)
		for ctx.Err() == nil {
			wait, cancel := contextWithTimeout(ctx, 200*time.Millisecond)
			records := made.PollFetches(wait).Records()
			cancel()
			for _, record := range records {
				if process != nil {
					process(record)
				}
			}
			if process == nil {
				made.mutex.Lock()
				made.records = append(made.records, records...)
				made.mutex.Unlock()
			} else {
				// What cannot be committed now is so after a later poll, or processed again by the next owner.
				_ = made.CommitUncommittedOffsets(ctx)
			}
			made.AllowRebalance()
		}
	}()
	return made
}

func (member *member) change(partitions map[string][]int32, owns bool) (count int) {
	member.mutex.Lock()
	defer member.mutex.Unlock()
	for topic, numbers := range partitions {
		if member.owned[topic] == nil {
			member.owned[topic] = map[int32]bool{}
		}
		for _, number := range numbers {
			count++
			if owns {
				member.owned[topic][number] = true
			} else {
				delete(member.owned[topic], number)
			}
		}
	}
	return count
}

// Owned are the partitions of a topic.
func (member *member) Owned(topic string) []int32 {
	member.mutex.Lock()
	defer member.mutex.Unlock()
	return slices.Sorted(maps.Keys(member.owned[topic]))
}

func (member *member) count() int {
	member.mutex.Lock()
	defer member.mutex.Unlock()
	return len(member.records)
}

// Leave ends it: its offsets are committed when the client does that, and it leaves the group, unless it is static.
func (member *member) Leave() {
	member.stop()
	<-member.ended
	member.CloseAllowingRebalance()
}

func (member *member) Crash() {
	member.cable.Cut()
	member.stop()
	go member.CloseAllowingRebalance() // it tries for a while to say goodbye
}

// described is a group as the broker sees it; before its first member it is not there, and has no state.
func described(run *Run, admin *kadm.Client, group string) kadm.DescribedGroup {
	found := Must(admin.DescribeGroups(run, group))[group]
	Check(found.Err == nil || found.Err == kerr.GroupIDNotFound, "describe %s: %v", group, found.Err)
	return found
}

func assigned(found kadm.DescribedGroup, topic string) [][]int32 {
	all := [][]int32{}
	for _, member := range found.Members {
		mine := []int32{}
		if assigned, is := member.Assigned.AsConsumer(); is {
			for _, each := range assigned.Topics {
				if each.Topic == topic {
					mine = append(mine, each.Partitions...)
				}
			}
		}
		all = append(all, mine)
	}
	return all
}

// settled waits until the members share all partitions of the topic, and the broker says so too.
func settled(run *Run, admin *kadm.Client, group, topic string, partitions int, members ...*member) kadm.DescribedGroup {
	var found kadm.DescribedGroup
	Until(run, fmt.Sprintf("%d members settle", len(members)), func() bool {
		found = described(run, admin, group)
		own := [][]int32{}
		for _, member := range members {
			own = append(own, member.Owned(topic))
		}
		return found.State == "Stable" && len(found.Members) == len(members) &&
			Complete(assigned(found, topic), partitions) && Complete(own, partitions)
	})
	return found
}

func assignors(run *Run) {
	admin := admin(run)
	defer admin.Close()
	topic := create(run, "assign", 6)
	for _, balancer := range []kgo.GroupBalancer{kgo.RangeBalancer(), kgo.RoundRobinBalancer(), kgo.StickyBalancer(), kgo.CooperativeStickyBalancer()} {
		name := balancer.ProtocolName()
		group := Name(name)
		members := []*member{}
		for count := range run.Scale(2, 4) {
			members = append(members, join(run, group, []string{topic}, nil, kgo.Balancers(balancer), kgo.ClientID(fmt.Sprint("client-", count))))
			found := settled(run, admin, group, topic, 6, members...)
			Equal(found.Protocol, name, "protocol")
			Equal(found.ProtocolType, "consumer", "protocol type")
			Check(slices.ContainsFunc(found.Members, func(member kadm.DescribedGroupMember) bool {
				return member.ClientID == fmt.Sprint("client-", count) && member.ClientHost == "/127.0.0.1"
			}), "members: %+v", found.Members)
			for _, partitions := range assigned(found, topic) {
				least, most := 6/len(members), (6+len(members)-1)/len(members)
				Check(len(partitions) >= least && len(partitions) <= most, "%s is not fair: %v", name, assigned(found, topic))
			}
		}
		members[0].Leave()
		settled(run, admin, group, topic, 6, members[1:]...)
		for _, member := range members[1:] {
			member.Leave()
		}
		Until(run, "the group is empty", func() bool { return described(run, admin, group).State == "Empty" })
	}
}

func cooperative(run *Run) {
	admin := admin(run)
	defer admin.Close()
	topic, group := create(run, "cooperative", 6), Name("cooperative")
	first := join(run, group, []string{topic}, nil)
	defer first.Leave()
	Equal(settled(run, admin, group, topic, 6, first).Protocol, "cooperative-sticky", "the client's own choice")
	second := join(run, group, []string{topic}, nil)
	settled(run, admin, group, topic, 6, first, second)
	Equal([]int{first.revoked, first.lost}, []int{3, 0}, "partitions that the first member gave away")
	kept := first.Owned(topic)
	second.Leave()
	settled(run, admin, group, topic, 6, first)
	Equal([]int{first.revoked, first.lost}, []int{3, 0}, "partitions that it gave away since")
	for _, partition := range kept {
		Check(slices.Contains(first.Owned(topic), partition), "it lost partition %d", partition)
	}
}

func commits(run *Run) {
	admin := admin(run)
	defer admin.Close()
	topic := create(run, "commits", 1)
	fill(run, topic, 0, numbered(100))
	group := Name("manual")
	options := []kgo.Opt{kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(startOffset), kgo.DisableAutoCommit(), kgo.HeartbeatInterval(200 * time.Millisecond)}
	consumer := client(run, options...)
	found := read(run, consumer, 100)
	Ok(consumer.CommitRecords(run, found[:40]...), "commit 40")
	Equal(committed(run, admin, group, topic), map[int32]int64{0: 40}, "committed")
	consumer.Close()
	consumer = client(run, options...)
	found = read(run, consumer, 60)
	Equal(found[0].Offset, int64(40), "where the group goes on")
	Ok(consumer.CommitUncommittedOffsets(run), "commit what was polled")
	consumer.Close()
	Equal(committed(run, admin, group, topic), map[int32]int64{0: 100}, "committed")

	// By the client itself: at intervals while it runs, and when it ends.
	group = Name("automatic")
	member := join(run, group, []string{topic}, nil, kgo.AutoCommitInterval(200*time.Millisecond))
	Until(run, "all are polled", func() bool { return member.count() == 100 })
	Until(run, "they are committed at the interval", func() bool { return committed(run, admin, group, topic)[0] == 100 })
	member.Leave()
	fill(run, topic, 0, numbered(10))
	consumer = client(run, kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.AutoCommitInterval(time.Hour), kgo.HeartbeatInterval(200*time.Millisecond))
	Equal(read(run, consumer, 10)[0].Offset, int64(100), "where the group goes on")
	poll(run, consumer, time.Millisecond) // what a poll returned is committed once the next one has begun
	consumer.Close()
	Equal(committed(run, admin, group, topic), map[int32]int64{0: 110}, "committed when it ended")
}

func committed(run *Run, admin *kadm.Client, group, topic string) map[int32]int64 {
	found, err := committedNow(run, admin, group, topic)
	Ok(err, "offsets of "+group)
	return found
}

func committedNow(ctx context.Context, admin *kadm.Client, group, topic string) (map[int32]int64, error) {
	all, err := admin.FetchOffsets(ctx, group)
	if err != nil {
		return nil, err
	}
	offsets := map[int32]int64{}
	for _, each := range all.Sorted() {
		if each.Err != nil {
			return nil, each.Err
		}
		if each.Topic == topic && each.At >= 0 {
			offsets[each.Partition] = each.At
		}
	}
	return offsets, nil
}

func static(run *Run) {
	admin := admin(run)
	defer admin.Close()
	topic, group := create(run, "static", 4), Name("static")
	// Under this assignor a member says the same when it comes back; a sticky one tells what it owned, which is news.
	start := func(instance string) *member {
		return join(run, group, []string{topic}, nil, kgo.InstanceID(instance), kgo.Balancers(kgo.RangeBalancer()))
	}
	first, second := start("one"), start("two")
	settled(run, admin, group, topic, 4, first, second)
	owned := first.Owned(topic)
	firstId, generation := first.GroupMetadata()
	_, before := second.GroupMetadata()
	Equal(generation, before, "generation")
	first.Leave() // a static member stays in the group
	Equal(len(described(run, admin, group).Members), 2, "members while one is away")
	first = start("one")
	settled(run, admin, group, topic, 4, first, second)
	Equal(first.Owned(topic), owned, "its partitions")
	nextId, generation := first.GroupMetadata()
	Equal(generation, before, "generation after it came back")
	Check(nextId != firstId, "the member id is the old one")
	// Another one with its name takes its place; the old one is fenced, and gets no partitions any more.
	taker := start("one")
	settled(run, admin, group, topic, 4, taker, second)
	Until(run, "the old one is fenced", func() bool { return len(first.Owned(topic)) == 0 })
	first.Leave()
	taker.Leave()
	Equal(len(described(run, admin, group).Members), 2, "members")
	left := Must(admin.LeaveGroup(run, kadm.LeaveGroup(group).InstanceIDs("one", "nobody").Reason("test")))
	Ok(left["one"].Err, "an instance is removed")
	Fails(left["nobody"].Err, kerr.UnknownMemberID, "an instance that is not there")
	settled(run, admin, group, topic, 4, second)
	second.Leave()
	Ok(Must(admin.LeaveGroup(run, kadm.LeaveGroup(group).InstanceIDs("two")))["two"].Err, "the last one is removed")
	Until(run, "the group is empty", func() bool { return described(run, admin, group).State == "Empty" })
}

func pattern(run *Run) {
	admin := admin(run)
	defer admin.Close()
	prefix, group := Name("pattern"), Name("pattern")
	first := create(run, prefix, 1)
	fill(run, first, 0, numbered(3))
	member := join(run, group, []string{"^" + prefix + "-.*"}, nil, kgo.ConsumeRegex(), kgo.MetadataMaxAge(300*time.Millisecond))
	defer member.Leave()
	Until(run, "the first topic's records", func() bool { return member.count() == 3 })
	second := create(run, prefix, 2)
	fill(run, second, 1, numbered(4))
	Until(run, "the second topic's records", func() bool { return member.count() == 7 })
	Equal(member.Owned(second), []int32{0, 1}, "partitions of the topic that came later")
}

func offsets(run *Run) {
	admin := admin(run)
	defer admin.Close()
	topic, other, group := create(run, "offsets", 3), create(run, "other", 1), Name("offsets")
	fill(run, topic, 0, numbered(20))
	var set kadm.Offsets
	set.Add(kadm.Offset{Topic: topic, Partition: 0, At: 5, LeaderEpoch: 0, Metadata: "five"})
	set.AddOffset(topic, 2, 0, -1)
	set.AddOffset(other, 0, 7, -1)
	Ok(admin.CommitAllOffsets(run, group, set), "commit to a new group")
	found, is := Must(admin.FetchOffsets(run, group)).Lookup(topic, 0)
	Check(is && found.At == 5 && found.Metadata == "five", "found %+v", found)
	Equal(committed(run, admin, group, topic), map[int32]int64{0: 5, 2: 0}, "committed")
	Equal(len(Must(admin.FetchOffsetsForTopics(run, group, other))), 1, "topics that were asked for")
	many := admin.FetchManyOffsets(run, group, Name("missing"))
	Ok(many.Error(), "offsets of two groups")
	Equal(len(many[group].Fetched), 2, "topics of the group")
	var bad kadm.Offsets
	bad.AddOffset(Name("missing"), 0, 1, -1)
	Fails(admin.CommitAllOffsets(run, group, bad), kerr.UnknownTopicOrPartition, "commit to a missing topic")

	listed := Must(admin.ListGroups(run))
	Equal([]string{listed[group].State, listed[group].GroupType}, []string{"Empty", "classic"}, "the group in the list")
	Check(slices.Contains(Must(admin.ListGroups(run, "Empty")).Groups(), group), "not among the empty ones")
	Check(!slices.Contains(Must(admin.ListGroups(run, "Stable")).Groups(), group), "among the stable ones")
	Check(slices.Contains(Must(admin.ListGroupsByType(run, []string{"classic"})).Groups(), group), "not among the classic ones")
	lag := Must(admin.Lag(run, group))[group]
	Ok(lag.Error(), "lag")
	Equal(lag.Lag[topic][0].Lag, int64(15), "lag")
	Ok(admin.FindGroupCoordinators(run, group, Name("missing")).Error(), "coordinators")

	// While it is subscribed to, the offsets of a topic stay.
	member := join(run, group, []string{topic}, nil, kgo.AutoCommitInterval(time.Hour))
	settled(run, admin, group, topic, 3, member)
	Until(run, "records from the committed offset on", func() bool { return member.count() == 15 })
	topicOffsets := kadm.TopicsSet{}
	topicOffsets.Add(topic, 0)
	Fails(Must(admin.DeleteOffsets(run, group, topicOffsets))[topic][0], kerr.GroupSubscribedToTopic, "delete an offset in use")
	otherOffsets := kadm.TopicsSet{}
	otherOffsets.Add(other, 0)
	Ok(Must(admin.DeleteOffsets(run, group, otherOffsets))[other][0], "delete an offset of another topic")
	Equal(len(committed(run, admin, group, other)), 0, "offsets of the other topic")
	_, err := admin.DeleteGroup(run, group)
	Fails(err, kerr.NonEmptyGroup, "delete a group with a member")
	var back kadm.Offsets
	back.AddOffset(topic, 0, 1, -1)
	Check(admin.CommitAllOffsets(run, group, back) != nil, "offsets of a group with a member were altered from outside")
	member.Leave()
	Until(run, "the group is empty", func() bool { return described(run, admin, group).State == "Empty" })
	Ok(admin.CommitAllOffsets(run, group, back), "set back")
	member = join(run, group, []string{topic}, nil)
	Until(run, "they come again", func() bool { return member.count() == 19 })
	member.Leave()
	Until(run, "the group is empty again", func() bool { return described(run, admin, group).State == "Empty" })
	_, err = admin.DeleteGroup(run, group)
	Ok(err, "delete the group")
	Check(!slices.Contains(Must(admin.ListGroups(run)).Groups(), group), "it is still listed")
	_, err = admin.DeleteGroup(run, group)
	Fails(err, kerr.GroupIDNotFound, "delete it again")
	gone := Must(admin.DescribeGroups(run, group))[group]
	Check(gone.State == "Dead" || gone.Err == kerr.GroupIDNotFound, "described after that: %+v", gone)
	Equal(len(committed(run, admin, group, topic)), 0, "its offsets")
}

func churn(run *Run) {
	balancers := []kgo.GroupBalancer{kgo.CooperativeStickyBalancer()}
	if run.Full {
		balancers = append(balancers, kgo.RangeBalancer(), kgo.StickyBalancer())
	}
	admin := admin(run)
	defer admin.Close()
	producer := client(run, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0))
	defer producer.Close()
	for i, balancer := range balancers {
		partitions := run.Scale(6, 12)
		topic, group := create(run, "churn", int32(partitions)), Name("churn")
		churn := Churn{
			Partitions: partitions,
			Start: func(number int, log *ProcessedLog) Member {
				process := func(record *kgo.Record) { log.Add(record.Partition, record.Offset) }
				return churner{join(run, group, []string{topic}, process, kgo.Balancers(balancer)), topic}
			},
			Produce: func(partition int32) (int64, error) {
				sent := producer.ProduceSync(run, &kgo.Record{Topic: topic, Partition: partition, Value: []byte("v")})
				return sent[0].Record.Offset, sent.FirstErr()
			},
			Committed: func() (map[int32]int64, error) { return committedNow(run, admin, group, topic) },
			Described: func() (string, [][]int32) {
				found := described(run, admin, group)
				return found.State, assigned(found, topic)
			},
		}
		churn.Through(run, run.Scale(2, max(2, 4-2*i)), run.Full)
	}
}

type churner struct {
	*member
	topic string
}

func (churner churner) Assigned() []int32 { return churner.Owned(churner.topic) }
