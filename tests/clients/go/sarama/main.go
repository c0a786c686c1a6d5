// Command sarama is the suite of the sarama client: records, groups, positions and administration.
package main

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/IBM/sarama"

	. "headwater/clients/harness"
)

func main() {
	Main(slices.Concat(recordCases, groupCases, adminCases))
}

// settings are those of the newest protocol that the client knows, unless a change says otherwise.
func settings(changes ...func(*sarama.Config)) *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.Producer.Return.Successes = true
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Group.Session.Timeout = 6 * time.Second
	config.Consumer.Group.Heartbeat.Interval = 200 * time.Millisecond
	config.Consumer.Group.Rebalance.Timeout = 10 * time.Second
	config.Consumer.Group.Rebalance.Retry.Backoff = 100 * time.Millisecond
	config.Consumer.MaxWaitTime = 50 * time.Millisecond
	config.Metadata.Retry.Backoff = 100 * time.Millisecond
	for _, change := range changes {
		change(config)
	}
	return config
}

func client(run *Run, changes ...func(*sarama.Config)) sarama.Client {
	return Must(sarama.NewClient([]string{run.Bootstrap}, settings(changes...)))
}

func admin(run *Run) sarama.ClusterAdmin {
	return Must(sarama.NewClusterAdmin([]string{run.Bootstrap}, settings()))
}

// create makes a topic, and waits until it is visible. Settings come in pairs: name, value.
func create(run *Run, what string, partitions int32, pairs ...string) string {
	topic := Name(what)
	detail := &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: -1, ConfigEntries: map[string]*string{}}
	for i := 0; i+1 < len(pairs); i += 2 {
		detail.ConfigEntries[pairs[i]] = &pairs[i+1]
	}
	admin := admin(run)
	defer admin.Close()
	Ok(admin.CreateTopic(topic, detail, false), "create "+topic)
	Until(run, "the topic is visible", func() bool { return visible(admin, topic) == int(partitions) })
	return topic
}

// visible is how many partitions of a topic have a leader; none when it is not there.
func visible(admin sarama.ClusterAdmin, topic string) (count int) {
	for _, found := range Must(admin.DescribeTopics([]string{topic})) {
		for _, partition := range found.Partitions {
			if partition.Err == sarama.ErrNoError && partition.Leader >= 0 {
				count++
			}
		}
	}
	return count
}

func message(topic string, partition int32, sample Sample) *sarama.ProducerMessage {
	message := &sarama.ProducerMessage{Topic: topic, Partition: partition, Timestamp: time.UnixMilli(sample.TimestampMs)}
	if sample.Key != nil {
		message.Key = sarama.ByteEncoder(sample.Key)
	}
	if sample.Value != nil {
		message.Value = sarama.ByteEncoder(sample.Value)
	}
	for _, header := range sample.Headers {
		message.Headers = append(message.Headers, sarama.RecordHeader{Key: []byte(header.Name), Value: header.Value})
	}
	return message
}

func samplesOf(messages []*sarama.ConsumerMessage) []Sample {
	samples := make([]Sample, len(messages))
	for i, message := range messages {
		samples[i] = Sample{Key: message.Key, Value: message.Value, TimestampMs: message.Timestamp.UnixMilli()}
		for _, header := range message.Headers {
			samples[i].Headers = append(samples[i].Headers, Header{Name: string(header.Key), Value: header.Value})
		}
	}
	return samples
}

// send produces the samples to one partition in order, and returns their offsets.
func send(run *Run, topic string, partition int32, samples []Sample, changes ...func(*sarama.Config)) ([]int64, error) {
	producer := Must(sarama.NewAsyncProducer([]string{run.Bootstrap}, settings(changes...)))
	sent := make([]*sarama.ProducerMessage, len(samples))
	go func() {
		for i, sample := range samples {
			sent[i] = message(topic, partition, sample)
			producer.Input() <- sent[i]
		}
	}()
	var failed error
	for range samples {
		select {
		case <-producer.Successes():
		case failure := <-producer.Errors():
			failed = errors.Join(failed, failure.Err)
		case <-run.Done():
			return nil, run.Err()
		}
	}
	offsets := make([]int64, len(samples))
	for i, message := range sent {
		offsets[i] = message.Offset
	}
	return offsets, errors.Join(failed, producer.Close())
}

func fill(run *Run, topic string, partition int32, samples []Sample, changes ...func(*sarama.Config)) []int64 {
	return Must(send(run, topic, partition, samples, changes...))
}

// read takes the next records of a partition from an offset on; an error when they do not come.
func read(run *Run, topic string, partition int32, offset int64, count int, changes ...func(*sarama.Config)) []*sarama.ConsumerMessage {
	consumer := Must(sarama.NewConsumer([]string{run.Bootstrap}, settings(changes...)))
	defer consumer.Close()
	of := Must(consumer.ConsumePartition(topic, partition, offset))
	defer of.Close()
	return take(run, of, count)
}

func take(run *Run, of sarama.PartitionConsumer, count int) []*sarama.ConsumerMessage {
	found := []*sarama.ConsumerMessage{}
	late := time.After(30 * time.Second)
	for len(found) < count {
		select {
		case message := <-of.Messages():
			found = append(found, message)
		case <-late:
			Check(false, "%d of %d records within 30 s", len(found), count)
		case <-run.Done():
			Check(false, "%d of %d records: %v", len(found), count, run.Err())
		}
	}
	return found
}

func numbered(count int) []Sample {
	samples := make([]Sample, count)
	for i := range samples {
		samples[i] = Sample{Value: fmt.Appendf(nil, "%d", i), TimestampMs: time.Now().UnixMilli()}
	}
	return samples
}

// upTo is 0, 1, ... below the count.
func upTo(count int) []int64 {
	offsets := make([]int64, count)
	for i := range offsets {
		offsets[i] = int64(i)
	}
	return offsets
}
