package main

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	. "headwater/clients/harness"
)

var positionCases = []Case{
	{Name: "a_consumer_replays_from_any_position", Body: replay},
	{Name: "offsets_are_found_by_time", Body: times},
	{Name: "a_paused_partition_is_silent_until_it_is_resumed", Body: pausing},
	{Name: "a_compacted_topic_keeps_the_latest_of_each_key", Body: compaction},
}

func replay(run *Run) {
	count := run.Scale(2000, 50_000)
	topic := create(run, "seek", 1)
	samples := Samples(count)
	fill(run, topic, 0, samples, kgo.ProducerBatchCompression(kgo.ZstdCompression()))
	for _, start := range []int{count / 2, 1, count - 1, 0} {
		consumer := client(run, from(topic, 0, kgo.NewOffset().At(int64(start))))
		found := read(run, consumer, count-start)
		Equal(found[0].Offset, int64(start), "first offset")
		SameSamples(samplesOf(found), samples[start:], fmt.Sprintf("replay from %d", start))
		consumer.Close()
	}
	// Relative to the ends.
	for offset, first := range map[kgo.Offset]int64{kgo.NewOffset().AtStart().Relative(3): 3,
		kgo.NewOffset().AtEnd().Relative(-2):    int64(count) - 2,
		kgo.NewOffset().At(int64(count) + 1000): 0} { // out of range: reset to the start, as the option says
		consumer := client(run, from(topic, 0, offset), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		Equal(read(run, consumer, 1)[0].Offset, first, fmt.Sprintf("first offset of %v", offset))
		consumer.Close()
	}
	committed := client(run, from(topic, 0, kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	defer committed.Close()
	Equal(len(read(run, committed, count)), count, "records under read_committed")
}

func times(run *Run) {
	topic := create(run, "times", 1)
	first := time.Now().UnixMilli() - 100_000
	// Three batches, so that the answer lies in the middle of one as well as between two.
	for batch, codec := range []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.Lz4Compression()} {
		samples := make([]Sample, 10)
		for i := range samples {
			samples[i] = Sample{Value: []byte("v"), TimestampMs: first + int64(batch*10+i)*1000}
		}
		fill(run, topic, 0, samples, kgo.ProducerBatchCompression(codec), kgo.ProducerLinger(100*time.Millisecond))
	}
	admin := admin(run)
	defer admin.Close()
	for _, ask := range [][2]int64{{-5000, 0}, {0, 0}, {1, 1}, {14_500, 15}, {29_000, 29}} {
		listed := one(Must(admin.ListOffsetsAfterMilli(run, first+ask[0], topic)), topic)
		Equal(listed.Offset, ask[1], fmt.Sprintf("offset at %d ms", ask[0]))
		consumer := client(run, from(topic, 0, kgo.NewOffset().AfterMilli(first+ask[0])))
		Equal(read(run, consumer, 1)[0].Offset, ask[1], fmt.Sprintf("first record at %d ms", ask[0]))
		consumer.Close()
	}
	// After the last record, the client falls back to the end.
	Equal(one(Must(admin.ListOffsetsAfterMilli(run, first+29_001, topic)), topic).Offset, int64(30), "after the last")
	Equal(one(Must(admin.ListStartOffsets(run, topic)), topic).Offset, int64(0), "start")
	Equal(one(Must(admin.ListEndOffsets(run, topic)), topic).Offset, int64(30), "end")
	Equal(one(Must(admin.ListCommittedOffsets(run, topic)), topic).Offset, int64(30), "last stable offset")
	latest := one(Must(admin.ListMaxTimestampOffsets(run, topic)), topic)
	Equal([]int64{latest.Offset, latest.Timestamp}, []int64{29, first + 29_000}, "offset of the largest timestamp")
	Equal(one(Must(admin.ListLocalLogStartOffsets(run, topic)), topic).Offset, int64(0), "local start")
	epochs := Must(admin.OffsetForLeaderEpoch(run, kadm.OffsetForLeaderEpochRequest{topic: {0: latest.LeaderEpoch}}))
	Equal(epochs[topic][0].EndOffset, int64(30), "end of the leader's epoch")
}

// one is the only partition's answer.
func one(listed kadm.ListedOffsets, topic string) kadm.ListedOffset {
	found, is := listed.Lookup(topic, 0)
	Check(is, "no answer for %s", topic)
	Ok(found.Err, topic)
	return found
}

func pausing(run *Run) {
	topic := create(run, "pause", 2)
	consumer := client(run, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond))
	defer consumer.Close()
	fill(run, topic, 0, numbered(1))
	fill(run, topic, 1, numbered(1))
	read(run, consumer, 2)
	consumer.PauseFetchPartitions(map[string][]int32{topic: {0}})
	fill(run, topic, 0, numbered(1))
	fill(run, topic, 1, numbered(1))
	Equal(read(run, consumer, 1)[0].Partition, int32(1), "partition of what comes")
	Equal(len(poll(run, consumer, 300*time.Millisecond)), 0, "records of the paused partition")
	consumer.ResumeFetchPartitions(map[string][]int32{topic: {0}})
	Equal(read(run, consumer, 1)[0].Partition, int32(0), "partition of what comes after that")
	// A running consumer is set to another position.
	consumer.SetOffsets(map[string]map[int32]kgo.EpochOffset{topic: {1: {Epoch: -1, Offset: 0}}})
	found := read(run, consumer, 2)
	Equal([]int64{found[0].Offset, found[1].Offset}, []int64{0, 1}, "offsets after the seek")
}

// compaction: in the long form the log is waited for until records are gone from it; what is left must be the latest of
// each key, at its old offset and in order.
func compaction(run *Run) {
	topic := create(run, "compacted", 1, "cleanup.policy", "compact", "min.cleanable.dirty.ratio", "0.01",
		"segment.ms", "1000", "max.compaction.lag.ms", "1000", "delete.retention.ms", "0")
	count, keys := run.Scale(500, 20_000), 50
	samples := make([]Sample, count)
	latest := map[string]string{}
	for i := range samples {
		key := fmt.Sprintf("key %d", i*7%keys)
		samples[i] = Sample{Key: []byte(key), Value: fmt.Appendf(nil, "%d", i), TimestampMs: time.Now().UnixMilli()}
		latest[key] = string(samples[i].Value)
	}
	fill(run, topic, 0, samples)
	view := func() (records int, state map[string]string) {
		end := one(ends(run, topic), topic).Offset
		consumer := client(run, from(topic, 0, kgo.NewOffset().AtStart()))
		defer consumer.Close()
		state, next := map[string]string{}, int64(0)
		for next < end {
			for _, record := range read(run, consumer, 1) {
				Check(record.Offset >= next, "offset %d after %d", record.Offset, next-1)
				next = record.Offset + 1
				records++
				if key := string(record.Key); key != "end" {
					state[key] = string(record.Value)
				}
				if int(record.Offset) < count {
					Equal(string(record.Value), fmt.Sprint(record.Offset), "value at its old offset")
				}
			}
		}
		return records, state
	}
	records, state := view()
	Check(records >= len(latest), "%d records", records)
	Equal(state, latest, "state before compaction")
	if !run.Full {
		return
	}
	UntilWithin(run, 100*time.Second, "the log is compacted", func() bool {
		time.Sleep(2 * time.Second)
		fill(run, topic, 0, []Sample{{Key: []byte("end"), Value: []byte("x"), TimestampMs: time.Now().UnixMilli()}})
		records, state = view()
		Equal(state, latest, "state")
		return records < count/2
	})
}

func ends(run *Run, topic string) kadm.ListedOffsets {
	admin := admin(run)
	defer admin.Close()
	return Must(admin.ListEndOffsets(run, topic))
}
