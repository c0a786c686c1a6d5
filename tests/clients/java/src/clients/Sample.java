package clients;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Random;
import java.util.stream.StreamSupport;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;

/** A record as a producer gives it, and as a consumer must find it. Bytes are kept as text, to compare and to show. */
record Sample(String key, String value, List<String> headers, long timestamp) {
    private static final HexFormat HEX = HexFormat.of();

    static Sample of(byte[] key, byte[] value, List<Header> headers, long timestamp) {
        List<String> texts = headers.stream().map(header -> header.key() + "=" + hex(header.value())).toList();
        return new Sample(hex(key), hex(value), texts, timestamp);
    }

    static Sample of(String value) {
        return of(null, value.getBytes(StandardCharsets.UTF_8), List.of(), System.currentTimeMillis());
    }

    static Sample of(ConsumerRecord<byte[], byte[]> record) {
        List<Header> headers = StreamSupport.stream(record.headers().spliterator(), false).toList();
        return of(record.key(), record.value(), headers, record.timestamp());
    }

    static List<Sample> of(List<ConsumerRecord<byte[], byte[]>> records) {
        return records.stream().map(Sample::of).toList();
    }

    ProducerRecord<byte[], byte[]> record(String topic, int partition) {
        List<Header> parsed = headers.stream().map(Sample::header).toList();
        return new ProducerRecord<>(topic, partition, timestamp, bytes(key), bytes(value), parsed);
    }

    /** Records of every shape, always the same ones: no, empty and binary keys; null, empty, repetitive and random
     * values; no headers, repeated names, null and empty header values. */
    static List<Sample> samples(int count, long firstTimestamp) {
        var random = new Random(7);
        var samples = new ArrayList<Sample>();
        for (int i = 0; i < count; i++) {
            byte[] value = switch (i % 5) {
                case 0 -> ("value " + i).getBytes(StandardCharsets.UTF_8);
                case 1 -> new byte[0];
                case 2 -> randomBytes(random, 1 + i % 700);
                case 3 -> "again and again ".repeat(1 + i % 200).getBytes(StandardCharsets.UTF_8);
                default -> null;
            };
            byte[] key = switch (i % 4) {
                case 0 -> ("key " + i % 10).getBytes(StandardCharsets.UTF_8);
                case 1 -> null;
                case 2 -> new byte[0];
                default -> new byte[] {0, -1, (byte) i};
            };
            List<Header> headers = switch (i % 3) {
                case 0 -> List.of();
                case 1 -> List.of(new RecordHeader("trace", new byte[] {0, 1, -1}));
                default -> List.of(new RecordHeader("name", new byte[] {1}), new RecordHeader("name", null),
                        new RecordHeader("", new byte[0]), new RecordHeader("länge", new byte[300]));
            };
            samples.add(of(key, value, headers, firstTimestamp + i));
        }
        return samples;
    }

    static List<Sample> samples(int count) {
        return samples(count, System.currentTimeMillis() - count);
    }

    /** Bytes that no codec makes smaller. */
    static byte[] randomBytes(Random random, int size) {
        byte[] bytes = new byte[size];
        random.nextBytes(bytes);
        return bytes;
    }

    private static Header header(String text) {
        int split = text.lastIndexOf('=');
        return new RecordHeader(text.substring(0, split), bytes(text.substring(split + 1)));
    }

    private static String hex(byte[] bytes) {
        return bytes == null ? "null" : HEX.formatHex(bytes);
    }

    private static byte[] bytes(String hex) {
        return hex.equals("null") ? null : HEX.parseHex(hex);
    }
}
