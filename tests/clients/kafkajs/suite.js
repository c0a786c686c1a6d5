// The suite of kafkajs: records, groups, positions and administration. The codecs that the client leaves to its users are
// those that they bring: kafkajs-snappy, and libraries for lz4 and zstd.

'use strict'

const lz4 = require('lz4-napi')
const snappy = require('kafkajs-snappy')
const zstd = require('@bokuweb/zstd-wasm')
const groups = require('./groups')
const { CompressionCodecs, CompressionTypes, check, content, equal, fails, main, name, numbered, same, samples, sleep, until } = require('./harness')

const DESCRIBE_TOPIC = 2
const DESCRIBE_BROKER = 4

CompressionCodecs[CompressionTypes.Snappy] = snappy
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: (encoder) => lz4.compressFrame(encoder.buffer),
  decompress: (bytes) => lz4.decompressFrame(bytes),
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async (encoder) => Buffer.from(zstd.compress(encoder.buffer)),
  decompress: async (bytes) => Buffer.from(zstd.decompress(bytes)),
})

const { collect } = groups

async function everyCodecAndAcksLevelIsReadBackAsSent(run) {
  await zstd.init()
  const count = run.scale(200, 3000)
  const wanted = samples(count)
  const codecs = { none: 0, gzip: 1, snappy: 2, lz4: 3, zstd: 4 }
  const topics = []
  for (const [codec, compression] of Object.entries(codecs)) {
    for (const acks of [0, 1, -1]) {
      const topic = await run.create(`codec-${codec}-${acks}`, 1)
      topics.push(topic)
      const answers = await run.fill(topic, 0, wanted.slice(0, count / 2), { acks, compression })
      check(acks === 0 || answers[0].baseOffset === '0', `${topic}: ${JSON.stringify(answers)}`)
      await run.fill(topic, 0, wanted.slice(count / 2), { acks, compression })
    }
  }
  // One consumer for them all: each one joins a group first.
  const found = await collect(run, topics, count * topics.length)
  for (const topic of topics) {
    const mine = found.filter((record) => record.topic === topic)
    same(mine.map((record) => content(record.message)), wanted, topic)
    same(mine.map((record) => Number(record.message.offset)), wanted.map((_, i) => i), `${topic}, offsets`)
  }
}

async function anIdempotentProducerKeepsOrderAndCount(run) {
  const count = run.scale(2000, 100_000)
  const topic = await run.create('idempotent', 1)
  await run.producer({ idempotent: true, maxInFlightRequests: 1 }, async (producer) => {
    for (let i = 0; i < count; i += 100) {
      const messages = Array.from({ length: 100 }, (_, k) => ({ value: String(i + k), partition: 0 }))
      const [answer] = await producer.send({ topic, acks: -1, messages })
      equal(Number(answer.baseOffset), i, 'base offset')
    }
  })
  const found = await collect(run, [topic], count)
  same(found.map(({ message }) => message.value.toString()), Array.from({ length: count }, (_, i) => String(i)), 'values')
}

async function theTimeOfARecordIsTheProducersOrTheLogs(run) {
  const old = { value: 'old', timestamp: '1000000000000' }
  const own = await run.create('create-time', 1)
  await run.fill(own, 0, [old])
  const appended = await run.create('append-time', 1, { 'message.timestamp.type': 'LogAppendTime' })
  const before = Date.now()
  await run.fill(appended, 0, [old, old])
  const after = Date.now()
  for (const { topic, message } of await collect(run, [own, appended], 3)) {
    if (topic === own) equal(message.timestamp, old.timestamp, "the producer's time")
    else check(before <= message.timestamp && message.timestamp <= after, `append time ${message.timestamp}`)
  }
  const ahead = { value: 'ahead', timestamp: String(Date.now() + 2 * 3_600_000) }
  await fails(run.fill(own, 0, [ahead]), 'INVALID_TIMESTAMP', 'two hours ahead')
  await fails(run.fill(own, 0, [{ value: Buffer.alloc(1_100_000) }]), 'MESSAGE_TOO_LARGE', 'a record over the limit')
}

async function offsetsAreFoundByTime(run) {
  const topic = await run.create('times', 1)
  const first = Date.now() - 100_000
  for (let batch = 0; batch < 3; batch++) {
    const messages = Array.from({ length: 10 }, (_, i) => ({ value: 'v', timestamp: String(first + (batch * 10 + i) * 1000) }))
    await run.fill(topic, 0, messages, { compression: batch === 1 ? 1 : 0 })
  }
  await run.admin(async (admin) => {
    for (const [at, offset] of [[-5000, 0], [0, 0], [1, 1], [14_500, 15], [29_000, 29], [29_001, 30]]) {
      const [found] = await admin.fetchTopicOffsetsByTimestamp(topic, first + at)
      equal(found.offset, String(offset), `offset at ${at} ms`)
    }
    equal(await admin.fetchTopicOffsets(topic), [{ partition: 0, offset: '30', high: '30', low: '0' }], 'ends')
  })
}

// In the long form the log is waited for until records are gone from it; what is left must be the latest of each key, at
// its old offset and in order.
async function aCompactedTopicKeepsTheLatestOfEachKey(run) {
  const topic = await run.create('compacted', 1, { 'cleanup.policy': 'compact', 'min.cleanable.dirty.ratio': '0.01',
    'segment.ms': '1000', 'max.compaction.lag.ms': '1000', 'delete.retention.ms': '0' })
  const count = run.scale(200, 10_000)
  const messages = Array.from({ length: count }, (_, i) => ({ key: `key ${(i * 7) % 50}`, value: String(i) }))
  const latest = Object.fromEntries(messages.map(({ key, value }) => [key, value]))
  await run.fill(topic, 0, messages)
  const view = async () => {
    const marker = name('end')
    await run.fill(topic, 0, [{ key: 'end', value: marker }])
    const records = await collect(run, [topic], (found) => found.at(-1)?.message.value.toString() === marker)
    const state = {}
    let next = 0
    for (const { message } of records) {
      check(Number(message.offset) >= next, `offset ${message.offset} after ${next - 1}`)
      next = Number(message.offset) + 1
      if (Number(message.offset) < count) {
        equal(message.value.toString(), message.offset, 'value at its old offset')
        state[message.key.toString()] = message.value.toString()
      }
    }
    equal(state, latest, 'state')
    return records.length
  }
  await view()
  if (run.full) {
    await until('the log is compacted', async () => (await sleep(2000)) || (await view()) < count / 2, 100_000)
  }
}

async function topicsAreCreatedGrownListedAndDeleted(run) {
  await run.admin(async (admin) => {
    const topic = name('life')
    const wanted = { topic, numPartitions: 3, replicationFactor: 1, configEntries: [{ name: 'retention.ms', value: '3600000' }] }
    check(await admin.createTopics({ topics: [wanted], validateOnly: true, waitForLeaders: false }), 'validate')
    check(!(await admin.listTopics()).includes(topic), 'validating made a topic')
    check(await admin.createTopics({ topics: [wanted] }), 'create')
    equal(await admin.createTopics({ topics: [wanted] }), false, 'the same again')
    check((await admin.listTopics()).includes(topic), 'the topic is not listed')
    const partitions = async () => (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions.length
    equal(await partitions(), 3, 'partitions')
    await fails(admin.createTopics({ topics: [{ topic: 'no spaces!' }] }), 'INVALID_TOPIC_EXCEPTION', 'a bad name')
    await fails(admin.createTopics({ topics: [{ topic: name('replicas'), replicationFactor: 3 }] }), 'INVALID_REPLICATION_FACTOR', 'three replicas')
    await admin.createPartitions({ topicPartitions: [{ topic, count: 5 }] })
    await until('five partitions', async () => (await partitions()) === 5)
    await fails(admin.createPartitions({ topicPartitions: [{ topic, count: 2 }] }), 'INVALID_PARTITIONS', 'fewer partitions')
    await run.fill(topic, 4, numbered(3))
    await admin.deleteTopics({ topics: [topic] })
    await until('the topic is gone', async () => !(await admin.listTopics()).includes(topic))
    await fails(admin.deleteTopics({ topics: [topic] }), 'UNKNOWN_TOPIC_OR_PARTITION', 'deleting it twice')
  })
}

async function settingsOfATopicAreDescribedAndAltered(run) {
  const topic = await run.create('settings', 1, { 'retention.ms': '3600000' })
  await run.admin(async (admin) => {
    const described = async () => {
      const { resources } = await admin.describeConfigs({ includeSynonyms: true, resources: [{ type: DESCRIBE_TOPIC, name: topic }] })
      return Object.fromEntries(resources[0].configEntries.map((entry) => [entry.configName, entry]))
    }
    const retention = (await described())['retention.ms']
    equal([retention.configValue, retention.configSource, retention.isDefault], ['3600000', 1, false], 'a set value')
    equal((await described())['segment.bytes'].configSource, 5, 'source of a default')
    const alter = (...configEntries) => admin.alterConfigs({ validateOnly: false, resources: [{ type: DESCRIBE_TOPIC, name: topic, configEntries }] })
    // This client's call states all settings: what it leaves out goes back to the default.
    await alter({ name: 'cleanup.policy', value: 'compact' }, { name: 'max.message.bytes', value: '2000000' })
    await until('the settings are as stated', async () => {
      const now = await described()
      return now['cleanup.policy'].configValue === 'compact' && now['max.message.bytes'].configValue === '2000000' &&
        now['retention.ms'].configValue === '604800000'
    })
    await fails(alter({ name: 'retention.ms', value: 'soon' }), 'INVALID_CONFIG', 'a bad value')
    await fails(alter({ name: 'no.such.setting', value: '1' }), 'INVALID_CONFIG', 'an unknown setting')
    const { brokers } = await admin.describeCluster()
    const node = await admin.describeConfigs({ resources: [{ type: DESCRIBE_BROKER, name: String(brokers[0].nodeId) }] })
    check(node.resources[0].configEntries.length > 0, 'no settings of the broker')
  })
}

async function deletedRecordsAreGoneAndOffsetsStay(run) {
  const topic = await run.create('cut', 1)
  await run.fill(topic, 0, numbered(100))
  await run.admin(async (admin) => {
    const ends = async () => (await admin.fetchTopicOffsets(topic)).map(({ low, high }) => [low, high])
    equal(await ends(), [['0', '100']], 'ends') // asked first: the next call goes by the metadata that this one loads
    await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '40' }] })
    equal(await ends(), [['40', '100']], 'ends')
    const found = await collect(run, [topic], 60)
    equal([found[0].message.offset, found.length], ['40', 60], 'first offset')
    await fails(admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '101' }] }), 'OFFSET_OUT_OF_RANGE', 'beyond the end')
    await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '-1' }] })
    equal(await ends(), [['100', '100']], 'ends')
  })
  equal((await run.fill(topic, 0, numbered(1)))[0].baseOffset, '100', 'the next offset')
}

async function oneNodeAnswersForTheCluster(run) {
  const topic = await run.create('cluster', 2)
  await run.admin(async (admin) => {
    const { brokers, controller, clusterId } = await admin.describeCluster()
    equal(brokers.map(({ nodeId, host, port }) => [nodeId, `${host}:${port}`]), [[controller, run.bootstrap]], 'nodes')
    check(clusterId, 'no cluster id')
    equal((await admin.listPartitionReassignments({ topics: [{ topic, partitions: [0, 1] }] })).topics, [], 'reassignments')
    await admin.alterPartitionReassignments({ topics: [{ topic, partitionAssignment: [{ partition: 0, replicas: [controller] }] }] })
    const elsewhere = { topic, partitionAssignment: [{ partition: 0, replicas: [controller + 77] }] }
    await fails(admin.alterPartitionReassignments({ topics: [elsewhere] }), 'INVALID_REPLICA_ASSIGNMENT', 'a node that is not there')
  })
}

main([
  everyCodecAndAcksLevelIsReadBackAsSent,
  anIdempotentProducerKeepsOrderAndCount,
  theTimeOfARecordIsTheProducersOrTheLogs,
  offsetsAreFoundByTime,
  aCompactedTopicKeepsTheLatestOfEachKey,
  ...groups.cases,
  topicsAreCreatedGrownListedAndDeleted,
  settingsOfATopicAreDescribedAndAltered,
  deletedRecordsAreGoneAndOffsetsStay,
  oneNodeAnswersForTheCluster,
])
