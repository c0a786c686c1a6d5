package harness

import (
	"fmt"
	"math/rand"
	"strings"
	"time"
)

// Sample is a record as a producer gives it, and as a consumer must find it.
type Sample struct {
	Key, Value  []byte // nil is null
	Headers     []Header
	TimestampMs int64
}

// Header is one header of a record.
type Header struct {
	Name  string
	Value []byte
}

// Samples are records of every shape, always the same ones: no, empty and binary keys; null, empty, repetitive and
// random values; no headers, repeated names, empty header values.
func Samples(count int) []Sample {
	random := rand.New(rand.NewSource(7))
	first := time.Now().UnixMilli() - int64(count)
	samples := make([]Sample, count)
	for i := range samples {
		sample := Sample{TimestampMs: first + int64(i)}
		switch i % 5 {
		case 0:
			sample.Value = fmt.Appendf(nil, "value %d", i)
		case 1:
			sample.Value = []byte{}
		case 2:
			sample.Value = make([]byte, 1+i%700)
			random.Read(sample.Value)
		case 3:
			sample.Value = []byte(strings.Repeat("again and again ", 1+i%200))
		}
		switch i % 4 {
		case 0:
			sample.Key = fmt.Appendf(nil, "key %d", i%10)
		case 2:
			sample.Key = []byte{}
		case 3:
			sample.Key = []byte{0, 255, byte(i)}
		}
		switch i % 3 {
		case 1:
			sample.Headers = []Header{{Name: "trace", Value: []byte{0, 1, 255}}}
		case 2:
			sample.Headers = []Header{{Name: "name", Value: []byte("one")}, {Name: "name", Value: []byte("two")}, {Name: "", Value: []byte{}},
				{Name: "länge", Value: []byte(strings.Repeat("x", 300))}}
		}
		samples[i] = sample
	}
	return samples
}

// Text shows a sample such that two of them are equal when their texts are: null and empty differ.
func (sample Sample) String() string {
	var text strings.Builder
	for _, bytes := range [][]byte{sample.Key, sample.Value} {
		if bytes == nil {
			text.WriteString("null ")
		} else {
			fmt.Fprintf(&text, "%x. ", bytes)
		}
	}
	for _, header := range sample.Headers {
		fmt.Fprintf(&text, "%s=%x ", header.Name, header.Value)
	}
	fmt.Fprintf(&text, "at %d", sample.TimestampMs)
	return text.String()
}

// SameSamples compares records one by one.
func SameSamples(found, wanted []Sample, what string) {
	for i := range min(len(found), len(wanted)) {
		Equal(found[i].String(), wanted[i].String(), fmt.Sprintf("%s, record %d", what, i))
	}
	Equal(len(found), len(wanted), what+", number of records")
}
