package harness

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"time"
)

// Member is a consumer of a group under churn.
type Member interface {
	// Leave ends it as a program does that shuts down.
	Leave()
	// Crash cuts it off from the broker, as if its machine had lost power.
	Crash()
	// Assigned are the partitions that it owns now, as it sees it.
	Assigned() []int32
}

// Churn is a group whose members come and go while records are produced. A client brings the functions.
type Churn struct {
	Partitions int
	// Start makes a member, which hands every record that it has processed to the log before it commits it.
	Start func(number int, log *ProcessedLog) Member
	// Produce sends one record to a partition and returns its offset.
	Produce func(partition int32) (int64, error)
	// Committed asks the broker for the group's offsets; partitions without one are absent.
	Committed func() (map[int32]int64, error)
	// Described asks the broker for the group's state and the assignment of each member.
	Described func() (state string, assigned [][]int32)
}

// ProcessedLog is what the members of a group have processed.
type ProcessedLog struct {
	mutex  sync.Mutex
	counts map[int32]map[int64]int
}

// Add notes that a record was processed.
func (log *ProcessedLog) Add(partition int32, offset int64) {
	log.mutex.Lock()
	defer log.mutex.Unlock()
	if log.counts[partition] == nil {
		log.counts[partition] = map[int64]int{}
	}
	log.counts[partition][offset]++
}

// missing is the first record below the ends that nobody processed.
func (log *ProcessedLog) missing(ends map[int32]int64) (what string) {
	log.mutex.Lock()
	defer log.mutex.Unlock()
	for partition, end := range ends {
		for offset := range end {
			if log.counts[partition][offset] == 0 {
				return fmt.Sprintf("offset %d of partition %d (end %d)", offset, partition, end)
			}
		}
	}
	return ""
}

// repeats counts how often a record was processed again.
func (log *ProcessedLog) repeats() (count int) {
	log.mutex.Lock()
	defer log.mutex.Unlock()
	for _, offsets := range log.counts {
		for _, times := range offsets {
			count += times - 1
		}
	}
	return count
}

// Through runs the churn: members join and leave, crash when that is asked for, and what must hold is checked. Every
// record is processed at least once, committed offsets never go back, and at the end the assignment is complete and
// disjoint, with the broker and the members of one mind about it.
func (churn *Churn) Through(run *Run, rounds int, crashes bool) {
	log := &ProcessedLog{counts: map[int32]map[int64]int{}}
	stop := make(chan struct{})
	var stopped sync.Once
	end := func() { stopped.Do(func() { close(stop) }) }
	defer end()
	ends := map[int32]int64{}
	produced := async(func() error { return churn.produce(stop, ends) })
	watched := async(func() error { return churn.watch(stop) })

	number := 0
	members := []Member{}
	join := func() {
		members = append(members, churn.Start(number, log))
		number++
	}
	defer func() {
		for _, member := range members {
			member.Leave()
		}
	}()
	join()
	join()
	for round := range rounds {
		join()
		churn.settled(run, members, 30*time.Second)
		first := members[0]
		members = members[1:]
		if crashes && round%2 == 0 {
			first.Crash() // the group waits for its session to end
		} else {
			first.Leave()
		}
		if round%2 == 1 {
			join() // while the group is at it
		}
		churn.settled(run, members, 40*time.Second)
	}
	end()
	Ok(<-produced, "the producer")
	Ok(<-watched, "committed offsets")
	Check(len(ends) == churn.Partitions, "records went to %d partitions only", len(ends))
	UntilWithin(run, 30*time.Second, "everything is processed", func() bool { return log.missing(ends) == "" })
	UntilWithin(run, 30*time.Second, "everything is committed", func() bool {
		return maps.Equal(Must(churn.Committed()), ends)
	})
	churn.settled(run, members, 30*time.Second)
	fmt.Printf("churn: %d records, %d processed again, %d members\n", sum(ends), log.repeats(), number)
}

func (churn *Churn) produce(stop <-chan struct{}, ends map[int32]int64) error {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return nil
		case <-time.After(2 * time.Millisecond):
		}
		partition := int32(i % churn.Partitions)
		offset, err := churn.Produce(partition)
		if err != nil {
			return err
		}
		if offset != ends[partition] {
			return fmt.Errorf("partition %d: offset %d after %d", partition, offset, ends[partition]-1)
		}
		ends[partition] = offset + 1
	}
}

func (churn *Churn) watch(stop <-chan struct{}) error {
	last := map[int32]int64{}
	for {
		select {
		case <-stop:
			return nil
		case <-time.After(50 * time.Millisecond):
		}
		committed, err := churn.Committed()
		if err != nil {
			return err
		}
		for partition, before := range last {
			if now, is := committed[partition]; !is || now < before {
				return fmt.Errorf("partition %d went back from %d to %d (there: %v)", partition, before, now, is)
			}
		}
		last = committed
	}
}

// settled waits until the group is stable, each partition has one owner, and each member sees the same as the broker.
func (churn *Churn) settled(run *Run, members []Member, limit time.Duration) {
	var last string
	deadline := time.Now().Add(limit)
	for {
		state, described := churn.Described()
		seen := [][]int32{}
		for _, member := range members {
			seen = append(seen, member.Assigned())
		}
		last = fmt.Sprintf("%s, described %v, seen %v", state, described, seen)
		if state == "Stable" && len(described) == len(members) && Complete(described, churn.Partitions) &&
			slices.Equal(sorted(described), sorted(seen)) {
			return
		}
		Check(time.Now().Before(deadline) && run.Err() == nil, "the group does not settle within %v: %s", limit, last)
		time.Sleep(20 * time.Millisecond)
	}
}

// Complete is whether each partition has exactly one owner.
func Complete(assigned [][]int32, partitions int) bool {
	all := slices.Concat(assigned...)
	slices.Sort(all)
	wanted := make([]int32, partitions)
	for i := range wanted {
		wanted[i] = int32(i)
	}
	return slices.Equal(all, wanted)
}

// sorted is a form in which two assignments compare, whichever the order of members and partitions.
func sorted(assigned [][]int32) []string {
	texts := []string{}
	for _, partitions := range assigned {
		partitions = slices.Clone(partitions)
		slices.Sort(partitions)
		texts = append(texts, fmt.Sprint(partitions))
	}
	slices.Sort(texts)
	return texts
}

func sum(ends map[int32]int64) (total int64) {
	for _, end := range ends {
		total += end
	}
	return total
}

// async runs a function beside the case; its error comes through the channel.
func async(work func() error) <-chan error {
	ended := make(chan error, 1)
	go func() { ended <- work() }()
	return ended
}

// Cable is what a client dials through, so that it can be cut.
type Cable struct {
	mutex       sync.Mutex
	cut         bool
	connections []net.Conn
}

// DialContext connects, unless the cable is cut.
func (cable *Cable) DialContext(ctx context.Context, network, host string) (net.Conn, error) {
	var dialer net.Dialer
	connection, err := dialer.DialContext(ctx, network, host)
	if err != nil {
		return nil, err
	}
	cable.mutex.Lock()
	defer cable.mutex.Unlock()
	if cable.cut {
		connection.Close()
		return nil, net.ErrClosed
	}
	cable.connections = append(cable.connections, connection)
	return connection, nil
}

// Cut closes every connection and lets no new one through.
func (cable *Cable) Cut() {
	cable.mutex.Lock()
	defer cable.mutex.Unlock()
	cable.cut = true
	for _, connection := range cable.connections {
		connection.Close()
	}
}

// Dial is for clients that know no context.
func (cable *Cable) Dial(network, host string) (net.Conn, error) {
	return cable.DialContext(context.Background(), network, host)
}
