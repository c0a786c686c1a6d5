package main

import (
	"bytes"
	"fmt"
	"math/rand"
	"time"

	"github.com/IBM/sarama"

	. "headwater/clients/harness"
)

var recordCases = []Case{
	{Name: "every_codec_and_acks_level_is_read_back_as_sent", Body: codecs},
	{Name: "an_idempotent_producer_keeps_order_and_count", Body: idempotence},
	{Name: "records_over_the_limit_are_refused_and_others_pass", Body: sizes},
	{Name: "the_time_of_a_record_is_the_producers_or_the_logs", Body: timestamps},
	{Name: "a_consumer_replays_from_any_position", Body: replay},
	{Name: "offsets_are_found_by_time", Body: times},
	{Name: "a_compacted_topic_keeps_the_latest_of_each_key", Body: compaction},
	{Name: "older_protocols_are_served", Body: older},
}

func idempotent(config *sarama.Config) {
	config.Producer.Idempotent = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Net.MaxOpenRequests = 1
}

func codecs(run *Run) {
	count := run.Scale(200, 5000)
	samples := Samples(count)
	for _, codec := range []sarama.CompressionCodec{sarama.CompressionNone, sarama.CompressionGZIP, sarama.CompressionSnappy, sarama.CompressionLZ4, sarama.CompressionZSTD} {
		for _, acks := range []sarama.RequiredAcks{sarama.NoResponse, sarama.WaitForLocal, sarama.WaitForAll} {
			what := fmt.Sprintf("%s, acks=%d", codec, acks)
			topic := create(run, fmt.Sprintf("codec-%s-%d", codec, acks), 1)
			offsets := fill(run, topic, 0, samples, func(config *sarama.Config) {
				config.Producer.Compression = codec
				config.Producer.RequiredAcks = acks
				config.Producer.Flush.Frequency = 5 * time.Millisecond
			})
			if acks != sarama.NoResponse {
				Same(offsets, upTo(count), what+", offsets")
			}
			found := read(run, topic, 0, sarama.OffsetOldest, count)
			SameSamples(samplesOf(found), samples, what)
			for i, message := range found {
				Equal(message.Offset, int64(i), what+", offset")
			}
		}
	}
}

func idempotence(run *Run) {
	count := run.Scale(5000, 200_000)
	topic := create(run, "idempotent", 1)
	samples := numbered(count)
	offsets := fill(run, topic, 0, samples, idempotent, func(config *sarama.Config) { config.Producer.Flush.MaxMessages = 20 })
	Same(offsets, upTo(count), "offsets")
	for i, message := range read(run, topic, 0, sarama.OffsetOldest, count) {
		Equal(string(message.Value), string(samples[i].Value), "value")
	}
}

func sizes(run *Run) {
	random := rand.New(rand.NewSource(1))
	large := func(size int) Sample {
		value := make([]byte, size)
		random.Read(value)
		return Sample{Value: value, TimestampMs: time.Now().UnixMilli()}
	}
	topic := create(run, "large", 1)
	wide := create(run, "larger", 1, "max.message.bytes", "6000000")
	limit := func(config *sarama.Config) { config.Producer.MaxMessageBytes = 8_000_000 }
	near, larger := large(1_048_400), large(5_900_000)
	Same(fill(run, topic, 0, []Sample{near}, limit), []int64{0}, "near the limit")
	_, err := send(run, topic, 0, []Sample{large(1_048_700)}, limit)
	Fails(err, sarama.ErrMessageSizeTooLarge, "a record over the limit")
	Same(fill(run, wide, 0, []Sample{larger}, limit), []int64{0}, "a higher limit")
	found := read(run, wide, 0, 0, 1, func(config *sarama.Config) { config.Consumer.Fetch.Default = 10_000 })
	Check(bytes.Equal(found[0].Value, larger.Value), "the larger record came back with other bytes")
}

func timestamps(run *Run) {
	old := Sample{Value: []byte("old"), TimestampMs: 1_000_000_000_000}
	own := create(run, "create-time", 1)
	fill(run, own, 0, []Sample{old})
	Equal(read(run, own, 0, 0, 1)[0].Timestamp.UnixMilli(), old.TimestampMs, "the producer's time")
	appended := create(run, "append-time", 1, "message.timestamp.type", "LogAppendTime")
	before := time.Now().UnixMilli()
	fill(run, appended, 0, []Sample{old, old})
	after := time.Now().UnixMilli()
	for _, message := range read(run, appended, 0, 0, 2) {
		at := message.Timestamp.UnixMilli()
		Check(before <= at && at <= after, "append time %d not in %d..%d", at, before, after)
	}
	_, err := send(run, own, 0, []Sample{{Value: []byte("ahead"), TimestampMs: time.Now().Add(2 * time.Hour).UnixMilli()}})
	Fails(err, sarama.ErrInvalidTimestamp, "two hours ahead")
}

func replay(run *Run) {
	count := run.Scale(2000, 50_000)
	topic := create(run, "seek", 1)
	samples := Samples(count)
	fill(run, topic, 0, samples, func(config *sarama.Config) { config.Producer.Compression = sarama.CompressionZSTD })
	for _, start := range []int{count / 2, 1, count - 1, 0} {
		found := read(run, topic, 0, int64(start), count-start)
		Equal(found[0].Offset, int64(start), "first offset")
		SameSamples(samplesOf(found), samples[start:], fmt.Sprintf("replay from %d", start))
	}
	committed := func(config *sarama.Config) { config.Consumer.IsolationLevel = sarama.ReadCommitted }
	Equal(len(read(run, topic, 0, 0, count, committed)), count, "records under read_committed")
	consumer := Must(sarama.NewConsumer([]string{run.Bootstrap}, settings()))
	defer consumer.Close()
	_, err := consumer.ConsumePartition(topic, 0, int64(count)+1000)
	Fails(err, sarama.ErrOffsetOutOfRange, "a position past the end")
	newest := Must(consumer.ConsumePartition(topic, 0, sarama.OffsetNewest))
	defer newest.Close()
	Equal(newest.HighWaterMarkOffset() <= int64(count), true, "high watermark")
	newest.Pause()
	fill(run, topic, 0, numbered(1))
	select {
	case message := <-newest.Messages():
		Check(false, "offset %d came from a paused partition", message.Offset)
	case <-time.After(500 * time.Millisecond):
	}
	newest.Resume()
	Equal(take(run, newest, 1)[0].Offset, int64(count), "offset of the first record after the end")
	Equal(newest.HighWaterMarkOffset(), int64(count)+1, "high watermark")
}

func times(run *Run) {
	topic := create(run, "times", 1)
	first := time.Now().UnixMilli() - 100_000
	// Three batches, so that the answer lies in the middle of one as well as between two.
	for batch, codec := range []sarama.CompressionCodec{sarama.CompressionNone, sarama.CompressionGZIP, sarama.CompressionLZ4} {
		samples := make([]Sample, 10)
		for i := range samples {
			samples[i] = Sample{Value: []byte("v"), TimestampMs: first + int64(batch*10+i)*1000}
		}
		fill(run, topic, 0, samples, func(config *sarama.Config) {
			config.Producer.Compression = codec
			config.Producer.Flush.Messages = 10
		})
	}
	client := client(run)
	defer client.Close()
	admin := Must(sarama.NewClusterAdminFromClient(client))
	for _, ask := range [][2]int64{{-5000, 0}, {0, 0}, {1, 1}, {14_500, 15}, {29_000, 29}, {29_001, -1}} {
		Equal(Must(client.GetOffset(topic, 0, first+ask[0])), ask[1], fmt.Sprintf("offset at %d ms", ask[0]))
		listed := Must(admin.ListOffsets(map[string]map[int32]int64{topic: {0: first + ask[0]}}, nil))[topic][0]
		Equal(listed.Offset, ask[1], fmt.Sprintf("the administrator's at %d ms", ask[0]))
	}
	Equal(Must(client.GetOffset(topic, 0, sarama.OffsetOldest)), int64(0), "start")
	Equal(Must(client.GetOffset(topic, 0, sarama.OffsetNewest)), int64(30), "end")
	missing := Must(admin.ListOffsets(map[string]map[int32]int64{topic: {0: sarama.OffsetNewest}}, &sarama.ListOffsetsOptions{IsolationLevel: sarama.ReadCommitted}))
	Equal(missing[topic][0].Offset, int64(30), "last stable offset")
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
	client := client(run)
	defer client.Close()
	fill(run, topic, 0, samples)
	view := func() int {
		end := Must(client.GetOffset(topic, 0, sarama.OffsetNewest))
		consumer := Must(sarama.NewConsumerFromClient(client))
		of := Must(consumer.ConsumePartition(topic, 0, sarama.OffsetOldest))
		defer of.Close()
		state, records := map[string]string{}, 0
		for next := int64(0); next < end; records++ {
			message := take(run, of, 1)[0]
			Check(message.Offset >= next, "offset %d after %d", message.Offset, next-1)
			next = message.Offset + 1
			if message.Offset < int64(count) {
				Equal(string(message.Value), fmt.Sprint(message.Offset), "value at its old offset")
				state[string(message.Key)] = string(message.Value)
			}
		}
		Equal(state, latest, "state")
		return records
	}
	view()
	if run.Full {
		UntilWithin(run, 100*time.Second, "the log is compacted", func() bool {
			time.Sleep(2 * time.Second)
			fill(run, topic, 0, []Sample{{Key: []byte("end"), Value: []byte("x"), TimestampMs: time.Now().UnixMilli()}})
			return view() < count/2
		})
	}
}

// older: what the client does when it is told that the broker is an old one; record batches stay those of 0.11.
func older(run *Run) {
	samples := Samples(100)
	for _, version := range []sarama.KafkaVersion{sarama.V0_11_0_0, sarama.V1_0_0_0, sarama.V2_1_0_0, sarama.V3_0_0_0} {
		of := func(config *sarama.Config) { config.Version = version }
		topic, group := create(run, "older", 1), Name("older")
		_, err := send(run, topic, 0, samples, of, idempotent)
		Check(err == nil, "%v: %v", version, err)
		SameSamples(samplesOf(read(run, topic, 0, 0, 100, of)), samples, version.String())
		member := join(run, group, topic, nil, of)
		Until(run, fmt.Sprintf("%v: a group reads them", version), func() bool { return member.count() == 100 })
		member.Leave()
		client := client(run, of)
		manager := Must(sarama.NewOffsetManagerFromClient(group, client))
		partition := Must(manager.ManagePartition(topic, 0))
		next, _ := partition.NextOffset()
		Equal(next, int64(100), version.String()+": committed")
		Ok(manager.Close(), "close")
		Ok(client.Close(), "close")
	}
}
