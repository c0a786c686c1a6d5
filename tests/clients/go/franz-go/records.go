package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	. "headwater/clients/harness"
)

var recordCases = []Case{
	{Name: "every_codec_and_acks_level_is_read_back_as_sent", Body: codecs},
	{Name: "an_idempotent_producer_keeps_order_and_count", Body: idempotence},
	{Name: "records_over_the_limit_are_refused_and_others_pass", Body: sizes},
	{Name: "the_time_of_a_record_is_the_producers_or_the_logs", Body: timestamps},
}

func contextWithTimeout(parent context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(parent, limit)
}

func codecs(run *Run) {
	count := run.Scale(200, 5000)
	samples := Samples(count)
	byName := map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(),
		"snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}
	for name, codec := range byName {
		for acks, level := range map[string]kgo.Acks{"0": kgo.NoAck(), "1": kgo.LeaderAck(), "all": kgo.AllISRAcks()} {
			what := fmt.Sprintf("%s, acks=%s", name, acks)
			topic := create(run, "codec-"+name+"-"+acks, 1)
			options := []kgo.Opt{kgo.ProducerBatchCompression(codec), kgo.RequiredAcks(level), kgo.ProducerLinger(5 * time.Millisecond)}
			if acks != "all" {
				options = append(options, kgo.DisableIdempotentWrite())
			}
			offsets := fill(run, topic, 0, samples, options...)
			if acks != "0" {
				Same(offsets, upTo(count), what+", offsets")
			}
			consumer := client(run, from(topic, 0, kgo.NewOffset().AtStart()))
			found := read(run, consumer, count)
			consumer.Close()
			SameSamples(samplesOf(found), samples, what)
			for i, record := range found {
				Equal(record.Offset, int64(i), what+", offset")
			}
		}
	}
}

func idempotence(run *Run) {
	count := run.Scale(20_000, 300_000)
	topic := create(run, "idempotent", 1)
	samples := numbered(count)
	// Small batches; the client keeps several of them in flight.
	offsets := fill(run, topic, 0, samples, kgo.ProducerBatchMaxBytes(1024), kgo.ProducerLinger(0), kgo.MaxBufferedRecords(count))
	Same(offsets, upTo(count), "offsets")
	consumer := client(run, from(topic, 0, kgo.NewOffset().AtStart()))
	defer consumer.Close()
	for i, record := range read(run, consumer, count) {
		Equal(string(record.Value), string(samples[i].Value), "value")
	}
}

func sizes(run *Run) {
	random := rand.New(rand.NewSource(1))
	large := func(size int) []byte {
		value := make([]byte, size)
		random.Read(value)
		return value
	}
	topic := create(run, "large", 1)
	wide := create(run, "larger", 1, "max.message.bytes", "6000000")
	producer := client(run, kgo.ProducerBatchMaxBytes(8_000_000), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer producer.Close()
	near, larger := large(1_048_400), large(5_900_000)
	send := func(topic string, value []byte) error {
		return producer.ProduceSync(run, &kgo.Record{Topic: topic, Value: value}).FirstErr()
	}
	Ok(send(topic, near), "near the limit")
	Fails(send(topic, large(1_048_700)), kerr.MessageTooLarge, "a record over the limit")
	Ok(send(wide, larger), "a higher limit")
	Ok(send(wide, []byte("after")), "after it")
	// Larger than what the consumer asks for: the first batch comes all the same.
	consumer := client(run, from(wide, 0, kgo.NewOffset().AtStart()), kgo.FetchMaxPartitionBytes(10_000), kgo.FetchMaxBytes(10_000))
	defer consumer.Close()
	found := read(run, consumer, 2)
	Check(bytes.Equal(found[0].Value, larger), "the larger record came back with other bytes")
	Equal(string(found[1].Value), "after", "the record after it")
}

func timestamps(run *Run) {
	old := Sample{Value: []byte("old"), TimestampMs: 1_000_000_000_000}
	own := create(run, "create-time", 1)
	fill(run, own, 0, []Sample{old})
	appended := create(run, "append-time", 1, "message.timestamp.type", "LogAppendTime")
	before := time.Now().UnixMilli()
	fill(run, appended, 0, []Sample{old, old})
	after := time.Now().UnixMilli()
	first := func(topic string, count int) []*kgo.Record {
		consumer := client(run, from(topic, 0, startOffset))
		defer consumer.Close()
		return read(run, consumer, count)
	}
	record := first(own, 1)[0]
	Equal(record.Timestamp.UnixMilli(), old.TimestampMs, "the producer's time")
	Equal(record.Attrs.TimestampType(), int8(0), "type of the producer's time")
	for _, record := range first(appended, 2) {
		at := record.Timestamp.UnixMilli()
		Check(before <= at && at <= after, "append time %d not in %d..%d", at, before, after)
		Equal(record.Attrs.TimestampType(), int8(1), "type of the log's time")
	}
	ahead := &kgo.Record{Topic: own, Value: []byte("ahead"), Timestamp: time.Now().Add(2 * time.Hour)}
	producer := client(run)
	defer producer.Close()
	Fails(producer.ProduceSync(run, ahead).FirstErr(), kerr.InvalidTimestamp, "two hours ahead")
}
