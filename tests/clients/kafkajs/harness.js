// What the files of the kafkajs suite share: cases and their report, assertions, waiting with a deadline, samples, and
// clients of the run's broker.
//
// A case is an async function; `main` runs those given to it against the broker that --bootstrap names and prints a line
// for each, and last `N passed, N failed, N skipped`. It exits with 1 when a case failed. Each case makes topics and
// groups of its own.

'use strict'

const assert = require('node:assert')
const crypto = require('node:crypto')
const net = require('node:net')
const { parseArgs } = require('node:util')

process.env.KAFKAJS_NO_PARTITIONER_WARNING = '1'
// The client computes a timer from a time that may have passed; Node warns of that, and takes it as one millisecond.
process.removeAllListeners('warning')
const { CompressionCodecs, CompressionTypes, Kafka, logLevel } = require('kafkajs')

const CASE_MS_MAX = 120_000

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

/** What a case gets: the broker, and whether the long form is asked for. */
class Run {
  constructor(bootstrap, full) {
    this.bootstrap = bootstrap
    this.full = full
  }

  scale(short, long) {
    return this.full ? long : short
  }

  kafka(settings = {}) {
    const retry = { initialRetryTime: 50, retries: 5 }
    return new Kafka({ clientId: 'suite', brokers: [this.bootstrap], logLevel: logLevel.NOTHING, retry, ...settings })
  }

  /** Does something with a connected administrator. */
  async admin(work) {
    return use(this.kafka().admin(), work)
  }

  /** Does something with a connected producer. */
  async producer(settings, work) {
    return use(this.kafka().producer({ allowAutoTopicCreation: false, ...settings }), work)
  }

  /** A new topic, visible in metadata. */
  async create(what, partitions, settings = {}) {
    const topic = name(what)
    const configEntries = Object.entries(settings).map(([name, value]) => ({ name, value }))
    await this.admin((admin) => admin.createTopics({ topics: [{ topic, numPartitions: partitions, configEntries }] }))
    return topic
  }

  /** Sends messages to one partition in order; returns the answers. */
  async fill(topic, partition, messages, { settings = {}, ...options } = {}) {
    const addressed = messages.map((message) => ({ ...message, partition }))
    return this.producer(settings, (producer) => producer.send({ topic, messages: addressed, ...options }))
  }
}

async function use(client, work) {
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.disconnect()
  }
}

/** A new name for a topic or a group. */
const name = (what) => `${what}-${crypto.randomBytes(4).toString('hex')}`

function check(holds, what) {
  if (!holds) throw new Error(what)
}

function equal(found, wanted, what) {
  try {
    assert.deepStrictEqual(found, wanted)
  } catch {
    throw new Error(`${what}: found ${brief(found)}, wanted ${brief(wanted)}`)
  }
}

/** Compares one by one, so that a failure names the first that differs. */
function same(found, wanted, what) {
  for (let i = 0; i < Math.min(found.length, wanted.length); i++) equal(found[i], wanted[i], `${what}, number ${i}`)
  equal(found.length, wanted.length, `${what}, how many`)
}

/** Checks that the promise fails with an error of this type, as the protocol names it. */
async function fails(promise, type, what) {
  const error = await promise.then(
    (value) => {
      throw new Error(`${what}: no error, but ${brief(value)}`)
    },
    (error) => error
  )
  const types = [error.type, error.cause?.type, error.cause?.cause?.type, ...(error.errors ?? []).map((each) => each.type),
    ...(error.groups ?? []).map((each) => each.error?.type), ...(error.partitions ?? error.cause?.partitions ?? []).map((each) => each.error?.type)]
  check(types.includes(type), `${what}: found ${error.stack}, wanted ${type}`)
  return error
}

/** Waits until the condition holds, and returns what it found. */
async function until(what, condition, ms = 30_000) {
  const deadline = Date.now() + ms
  for (;;) {
    const found = await condition()
    if (found) return found
    check(Date.now() < deadline, `${what}: not within ${ms} ms`)
    await sleep(20)
  }
}

function brief(value) {
  const text = JSON.stringify(value) ?? String(value)
  return text.length <= 300 ? text : `${text.slice(0, 300)}... (${text.length} characters)`
}

/** Records of every shape, always the same ones: no, empty and binary keys; null, empty, repetitive and random values; no
 * headers, repeated names, empty header values. */
function samples(count) {
  let state = 7
  const random = (size) => {
    const bytes = Buffer.alloc(size)
    for (let i = 0; i < size; i++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0
      bytes[i] = state >>> 24
    }
    return bytes
  }
  const values = [
    (i) => Buffer.from(`value ${i}`),
    () => Buffer.alloc(0),
    (i) => random(1 + (i % 700)),
    (i) => Buffer.from('again and again '.repeat(1 + (i % 200))),
    () => null,
  ]
  const keys = [(i) => Buffer.from(`key ${i % 10}`), () => null, () => Buffer.alloc(0), (i) => Buffer.from([0, 255, i % 256])]
  const headers = [
    {},
    { trace: Buffer.from([0, 1, 255]) },
    { name: [Buffer.from('one'), Buffer.from('two')], '': Buffer.alloc(0), länge: Buffer.from('x'.repeat(300)) },
  ]
  const first = Date.now() - count
  return Array.from({ length: count }, (_, i) => ({
    key: keys[i % 4](i),
    value: values[i % 5](i),
    headers: headers[i % 3],
    timestamp: String(first + i),
  }))
}

/** What of a record is compared. */
const content = ({ key, value, headers, timestamp }) => ({ key, value, headers, timestamp })

/** So many small records that name their place. */
const numbered = (count) => Array.from({ length: count }, (_, i) => ({ value: String(i) }))

/** Runs the cases and ends the process. */
async function main(cases) {
  const { values: options } = parseArgs({
    options: {
      bootstrap: { type: 'string', default: process.env.HEADWATER_BOOTSTRAP },
      full: { type: 'boolean', default: false },
      only: { type: 'string', default: '' },
    },
  })
  if (!options.bootstrap) {
    console.error('--bootstrap or HEADWATER_BOOTSTRAP names the broker')
    process.exit(2)
  }
  const run = new Run(options.bootstrap, options.full)
  let passed = 0
  let failed = 0
  for (const each of cases.filter((each) => each.name.includes(options.only))) {
    const start = Date.now()
    let timer
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`not done after ${CASE_MS_MAX} ms`)), CASE_MS_MAX)
    })
    const error = await reachable(run)
      .then(() => Promise.race([each(run), late]))
      .then(() => null, (error) => error)
    clearTimeout(timer)
    const seconds = ((Date.now() - start) / 1000).toFixed(1)
    if (error) {
      failed++
      console.log(error.stack)
      console.log(`FAIL ${each.name} (${seconds} s): ${String(error.message).split('\n')[0]}`)
    } else {
      passed++
      console.log(`PASS ${each.name} (${seconds} s)`)
    }
  }
  console.log(`${passed} passed, ${failed} failed, 0 skipped`)
  // Not a return: a client that hangs on a broken broker must not hang the suite.
  process.exit(failed > 0 || passed === 0 ? 1 : 0)
}

/** Asked before each case: once the broker is gone, the rest need not wait for their clients to notice. */
function reachable(run) {
  const [host, port] = run.bootstrap.split(':')
  return new Promise((resolve, reject) => {
    const socket = net.connect({ host, port: Number(port), timeout: 5000 }, () => {
      socket.destroy()
      resolve()
    })
    socket.on('error', reject)
  })
}

module.exports = { CompressionCodecs, CompressionTypes, check, content, equal, fails, main, name, numbered, same, samples, sleep, until, use }
