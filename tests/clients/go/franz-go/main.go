// Command franz-go is the suite of the franz-go client: records, groups, positions and administration.
package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	. "headwater/clients/harness"
)

func main() {
	Main(slices.Concat(recordCases, positionCases, groupCases, adminCases))
}

// client is a franz-go client of the run's broker.
func client(run *Run, options ...kgo.Opt) *kgo.Client {
	return Must(kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(run.Bootstrap), kgo.MetadataMinAge(50 * time.Millisecond)}, options...)...))
}

func admin(run *Run) *kadm.Client {
	return kadm.NewClient(client(run))
}

// create makes a topic, and waits until it is visible. Settings come in pairs: name, value.
func create(run *Run, what string, partitions int32, settings ...string) string {
	topic := Name(what)
	configs := map[string]*string{}
	for i := 0; i+1 < len(settings); i += 2 {
		configs[settings[i]] = &settings[i+1]
	}
	admin := admin(run)
	defer admin.Close()
	created := Must(admin.CreateTopic(run, partitions, -1, configs, topic))
	Equal(created.NumPartitions, partitions, "partitions created")
	Until(run, "the topic is visible", func() bool { return visible(run, admin, topic) == int(partitions) })
	return topic
}

// visible is how many partitions of a topic have a leader; none when it is not there.
func visible(run *Run, admin *kadm.Client, topic string) (count int) {
	for _, partition := range Must(admin.ListTopics(run, topic))[topic].Partitions {
		if partition.Err == nil && partition.Leader >= 0 {
			count++
		}
	}
	return count
}

func record(topic string, partition int32, sample Sample) *kgo.Record {
	record := &kgo.Record{Topic: topic, Partition: partition, Key: sample.Key, Value: sample.Value,
		Timestamp: time.UnixMilli(sample.TimestampMs)}
	for _, header := range sample.Headers {
		record.Headers = append(record.Headers, kgo.RecordHeader{Key: header.Name, Value: header.Value})
	}
	return record
}

func sampleOf(record *kgo.Record) Sample {
	sample := Sample{Key: record.Key, Value: record.Value, TimestampMs: record.Timestamp.UnixMilli()}
	for _, header := range record.Headers {
		sample.Headers = append(sample.Headers, Header{Name: header.Key, Value: header.Value})
	}
	return sample
}

func samplesOf(records []*kgo.Record) []Sample {
	samples := make([]Sample, len(records))
	for i, record := range records {
		samples[i] = sampleOf(record)
	}
	return samples
}

// fill sends the samples to one partition in order, and returns their offsets.
func fill(run *Run, topic string, partition int32, samples []Sample, options ...kgo.Opt) []int64 {
	producer := client(run, append(options, kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	defer producer.Close()
	records := make([]*kgo.Record, len(samples))
	for i, sample := range samples {
		records[i] = record(topic, partition, sample)
	}
	Ok(producer.ProduceSync(run, records...).FirstErr(), "produce")
	offsets := make([]int64, len(records))
	for i, record := range records {
		offsets[i] = record.Offset
	}
	return offsets
}

// numbered are so many small records that name their place.
func numbered(count int) []Sample {
	samples := make([]Sample, count)
	for i := range samples {
		samples[i] = Sample{Value: fmt.Appendf(nil, "%d", i), TimestampMs: time.Now().UnixMilli()}
	}
	return samples
}

// read polls the next records; an error when they do not come.
func read(run *Run, consumer *kgo.Client, count int) []*kgo.Record {
	found := []*kgo.Record{}
	deadline := time.Now().Add(30 * time.Second)
	for len(found) < count {
		Check(time.Now().Before(deadline), "%d of %d records within 30 s", len(found), count)
		found = append(found, poll(run, consumer, time.Second)...)
	}
	return found
}

// poll asks once, and waits for at most this long.
func poll(run *Run, consumer *kgo.Client, wait time.Duration) []*kgo.Record {
	ctx, cancel := contextWithTimeout(run, wait)
	defer cancel()
	fetches := consumer.PollFetches(ctx)
	for _, failed := range fetches.Errors() {
		Check(ctx.Err() != nil, "fetch of %s %d: %v", failed.Topic, failed.Partition, failed.Err)
	}
	return fetches.Records()
}

// from is a position in one partition for kgo.ConsumePartitions.
func from(topic string, partition int32, offset kgo.Offset) kgo.Opt {
	return kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: offset}})
}

// upTo is 0, 1, ... below the count.
func upTo(count int) []int64 {
	offsets := make([]int64, count)
	for i := range offsets {
		offsets[i] = int64(i)
	}
	return offsets
}
