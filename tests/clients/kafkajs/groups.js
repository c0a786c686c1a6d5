// Consumers of kafkajs are always in a group: what holds of members, their commits and their positions, and of the group
// that an administrator sees.

'use strict'

const net = require('node:net')
const { AssignerProtocol } = require('kafkajs')
const { check, content, equal, fails, name, numbered, same, samples, sleep, until } = require('./harness')

/** A member of a group, and what it has seen. */
class Member {
  constructor(run, group, settings = {}) {
    this.sockets = new Set()
    this.cut = false
    this.owned = {}
    this.records = []
    this.joins = 0
    const socketFactory = ({ host, port, onConnect }) => {
      const socket = net.connect({ host, port }, onConnect)
      socket.setKeepAlive(true)
      if (this.cut) socket.destroy(new Error('cut off'))
      this.sockets.add(socket)
      return socket
    }
    const retry = { initialRetryTime: 50, retries: 5, restartOnFailure: async () => !this.cut }
    this.consumer = run.kafka({ socketFactory }).consumer({
      groupId: group, sessionTimeout: 6000, rebalanceTimeout: 10_000, heartbeatInterval: 200, maxWaitTimeInMs: 100,
      allowAutoTopicCreation: false, retry, ...settings,
    })
    this.consumer.on(this.consumer.events.GROUP_JOIN, ({ payload }) => {
      this.joins++
      this.owned = payload.memberAssignment
      this.payload = payload
    })
    this.consumer.on(this.consumer.events.REBALANCING, () => {
      this.owned = {}
    })
  }

  /** Joins. Without options each record is kept, and the client commits by itself. */
  async start(topics, options = {}) {
    await this.consumer.connect()
    await this.consumer.subscribe({ topics, fromBeginning: true })
    const keep = { eachMessage: async (record) => void this.records.push(record) }
    await this.consumer.run({ ...(options.eachBatch ? {} : keep), ...options })
    return this
  }

  assigned(topic) {
    return [...(this.owned[topic] ?? [])].sort((a, b) => a - b)
  }

  async leave() {
    await this.consumer.disconnect()
    this.owned = {}
  }

  /** Cuts it off from the broker, as if its machine had lost power. */
  crash() {
    this.cut = true
    for (const socket of this.sockets) socket.destroy(new Error('cut off'))
    this.owned = {}
    this.consumer.disconnect().catch(() => {}) // it cannot say goodbye
  }
}

/** The first records of topics: so many, or until the function says that it is enough. */
async function collect(run, topics, enough) {
  const done = typeof enough === 'number' ? (found) => found.length >= enough : enough
  const member = await new Member(run, name('collect')).start(topics)
  try {
    await until(`records (${typeof enough === 'number' ? enough : 'to the end'})`, () => done(member.records))
    return member.records
  } finally {
    await member.leave()
  }
}

async function described(admin, group) {
  return (await admin.describeGroups([group])).groups[0]
}

const assignedTo = (found, topic) => found.members.map(({ memberAssignment }) =>
  (memberAssignment.length > 0 && AssignerProtocol.MemberAssignment.decode(memberAssignment)?.assignment[topic]) || [])

/** Whether each partition has exactly one owner. */
function complete(assigned, partitions) {
  const all = assigned.flat().sort((a, b) => a - b)
  return all.length === partitions && all.every((partition, i) => partition === i)
}

/** Waits until the members share all partitions, and the broker says so too. */
async function settled(admin, group, topic, partitions, members, ms) {
  let last = ''
  const holds = async () => {
    const found = await described(admin, group)
    const own = members.map((member) => member.assigned(topic))
    last = JSON.stringify([found.state, assignedTo(found, topic), own])
    return found.state === 'Stable' && found.members.length === members.length &&
      complete(assignedTo(found, topic), partitions) && complete(own, partitions) && found
  }
  return until(`${members.length} members settle`, holds, ms).catch((error) => {
    throw new Error(`${error.message}: ${last}`)
  })
}

const empty = (admin, group) => until('the group is empty', async () => (await described(admin, group)).state === 'Empty')

/** The group's offsets by partition; those without one are absent. */
async function committed(admin, groupId, topic) {
  const found = await admin.fetchOffsets({ groupId, topics: [topic] })
  const offsets = found[0].partitions.map(({ partition, offset }) => [partition, Number(offset)])
  return Object.fromEntries(offsets.filter(([, offset]) => offset >= 0))
}

async function membersShareThePartitions(run) {
  const topic = await run.create('assign', 6)
  const group = name('assign')
  await run.admin(async (admin) => {
    const members = []
    for (let count = 1; count <= run.scale(3, 6); count++) {
      members.push(await new Member(run, group).start([topic]))
      const found = await settled(admin, group, topic, 6, members)
      equal([found.protocolType, found.protocol], ['consumer', 'RoundRobinAssigner'], 'protocol')
      for (const mine of assignedTo(found, topic)) {
        check(mine.length >= Math.floor(6 / count) && mine.length <= Math.ceil(6 / count), `not fair: ${JSON.stringify(assignedTo(found, topic))}`)
      }
    }
    await members.shift().leave()
    await settled(admin, group, topic, 6, members)
    await Promise.all(members.map((member) => member.leave()))
    await empty(admin, group)
  })
}

async function aGroupGoesOnWhereItHasCommitted(run) {
  const topic = await run.create('commits', 1)
  await run.fill(topic, 0, numbered(100))
  await run.admin(async (admin) => {
    let group = name('manual')
    let member = await new Member(run, group).start([topic], { autoCommit: false })
    await until('all are polled', () => member.records.length === 100)
    equal(await committed(admin, group, topic), {}, 'nothing is committed')
    await member.consumer.commitOffsets([{ topic, partition: 0, offset: '40', metadata: 'forty' }])
    const [{ partitions }] = await admin.fetchOffsets({ groupId: group, topics: [topic] })
    equal([partitions[0].offset, partitions[0].metadata], ['40', 'forty'], 'committed')
    await member.leave()
    member = await new Member(run, group).start([topic], { autoCommit: false })
    await until('the rest is polled', () => member.records.length === 60)
    equal(member.records[0].message.offset, '40', 'where the group goes on')
    await member.leave()

    group = name('automatic')
    member = await new Member(run, group).start([topic], { autoCommitInterval: 100 })
    await until('all are polled', () => member.records.length === 100)
    await until('they are committed', async () => (await committed(admin, group, topic))[0] === 100)
    await member.leave()
    await run.fill(topic, 0, numbered(10))
    member = await new Member(run, group).start([topic], { autoCommitThreshold: 5 })
    await until('ten more', () => member.records.length === 10)
    await member.leave()
    equal(await committed(admin, group, topic), { 0: 110 }, 'committed when it ended')
  })
}

async function aRunningConsumerSeeksPausesAndResumes(run) {
  const count = run.scale(500, 10_000)
  const topic = await run.create('seek', 2)
  const wanted = samples(count)
  await run.fill(topic, 0, wanted, { compression: 1 })
  const member = await new Member(run, name('seek')).start([topic])
  await until('all come', () => member.records.length === count)
  same(member.records.map(({ message }) => content(message)), wanted, 'records')
  for (const start of [count / 2, count - 1, 0]) {
    member.records.length = 0
    member.consumer.seek({ topic, partition: 0, offset: String(start) })
    await until(`records from ${start}`, () => member.records.length === count - start)
    same(member.records.map(({ message }) => content(message)), wanted.slice(start), `replay from ${start}`)
  }
  member.consumer.pause([{ topic, partitions: [0] }])
  member.records.length = 0
  await run.fill(topic, 0, numbered(1))
  await run.fill(topic, 1, numbered(1))
  await until('a record of the other partition', () => member.records.length === 1)
  await sleep(300)
  equal(member.records.map(({ partition }) => partition), [1], 'partitions while one is paused')
  member.consumer.resume([{ topic, partitions: [0] }])
  await until('the paused one comes', () => member.records.length === 2)
  await member.leave()
}

async function aPatternFindsTopics(run) {
  const prefix = name('pattern')
  const topics = [await run.create(prefix, 1), await run.create(prefix, 2)]
  const member = await new Member(run, name('pattern')).start([new RegExp(`^${prefix}-`)])
  for (const topic of topics) await run.fill(topic, 0, numbered(2))
  await until('records of both', () => member.records.length === 4)
  equal(member.assigned(topics[1]), [0, 1], 'partitions')
  await member.leave()
}

async function offsetsOfAGroupAreListedSetAndDeleted(run) {
  const topic = await run.create('offsets', 3)
  const groupId = name('offsets')
  await run.fill(topic, 0, numbered(20))
  await run.admin(async (admin) => {
    // The administrator's own call is a consumer that waits five seconds for records, so the short form brings one itself.
    const set = async (...partitions) => {
      if (run.full) return admin.setOffsets({ groupId, topic, partitions })
      const member = await new Member(run, groupId).start([topic], { autoCommit: false })
      await member.consumer.commitOffsets(partitions.map((partition) => ({ topic, ...partition })))
      await member.leave()
    }
    await set({ partition: 0, offset: '5' }, { partition: 2, offset: '0' })
    equal(await committed(admin, groupId, topic), { 0: 5, 2: 0 }, 'committed')
    const listed = (await admin.listGroups()).groups.find((group) => group.groupId === groupId)
    check(listed, 'the group is not listed')
    const member = await new Member(run, groupId).start([topic])
    await settled(admin, groupId, topic, 3, [member])
    await until('records from the committed offset on', () => member.records.length === 15)
    await fails(admin.deleteGroups([groupId]), 'NON_EMPTY_GROUP', 'delete a group with a member')
    await member.leave()
    await empty(admin, groupId)
    if (run.full) {
      await admin.resetOffsets({ groupId, topic, earliest: true })
      const resolved = await admin.fetchOffsets({ groupId, topics: [topic], resolveOffsets: true })
      equal(resolved[0].partitions.map(({ offset }) => offset), ['0', '0', '0'], 'after a reset to the beginning')
    } else {
      await set({ partition: 0, offset: '0' })
    }
    const again = await new Member(run, groupId).start([topic])
    await until('they come again', () => again.records.length === 20)
    await again.leave()
    await empty(admin, groupId)
    await admin.deleteGroups([groupId])
    check(!(await admin.listGroups()).groups.some((group) => group.groupId === groupId), 'it is still listed')
    await fails(admin.deleteGroups([groupId]), 'GROUP_ID_NOT_FOUND', 'delete it again')
    equal(await committed(admin, groupId, topic), {}, 'its offsets')
  })
}

// Members join, leave and crash while records are produced. Every record is processed at least once, committed offsets
// never go back, and at the end the assignment is complete and disjoint.
async function churnLosesNoRecordAndTakesNoCommitBack(run) {
  const partitions = run.scale(6, 12)
  const topic = await run.create('churn', partitions)
  const group = name('churn')
  const processed = Array.from({ length: partitions }, () => new Map())
  const ends = Array.from({ length: partitions }, () => 0)
  const eachBatch = async ({ batch, resolveOffset, commitOffsetsIfNecessary, uncommittedOffsets, heartbeat, isRunning, isStale }) => {
    for (const message of batch.messages) {
      if (!isRunning() || isStale()) break
      const seen = processed[batch.partition]
      seen.set(Number(message.offset), (seen.get(Number(message.offset)) ?? 0) + 1)
      resolveOffset(message.offset)
    }
    await commitOffsetsIfNecessary(uncommittedOffsets())
    await heartbeat()
  }
  const join = () => new Member(run, group).start([topic], { autoCommit: false, eachBatch, eachBatchAutoResolve: false, partitionsConsumedConcurrently: 2 })
  let stopped = false
  let members = []
  await run.admin((admin) => run.producer({ idempotent: true, maxInFlightRequests: 1 }, async (producer) => {
    const produce = async () => {
      for (let i = 0; !stopped; i++) {
        const partition = i % partitions
        const [answer] = await producer.send({ topic, acks: -1, messages: [{ value: String(i), partition }] })
        equal(Number(answer.baseOffset), ends[partition]++, `offset in partition ${partition}`)
        await sleep(2)
      }
    }
    const watch = async () => {
      for (let last = {}; !stopped; await sleep(50)) {
        const now = await committed(admin, group, topic)
        for (const partition of Object.keys(last)) {
          check(now[partition] >= last[partition], `partition ${partition} went back from ${last[partition]} to ${now[partition]}`)
        }
        last = now
      }
    }
    const beside = Promise.all([produce(), watch()])
    beside.catch(() => {}) // awaited below; until then a failure is not an unhandled one
    try {
      members = [await join(), await join()]
      for (let round = 0; round < run.scale(2, 4); round++) {
        members.push(await join())
        await settled(admin, group, topic, partitions, members)
        const first = members.shift()
        if (run.full && round % 2 === 0) first.crash()
        else await first.leave()
        if (round % 2 === 1) members.push(await join())
        await settled(admin, group, topic, partitions, members, 40_000)
      }
      stopped = true
      await beside
      await until('everything is processed', () => ends.every((end, partition) => processed[partition].size === end)).catch((error) => {
        const holes = ends.map((end, partition) => Array.from({ length: end }, (_, i) => i).filter((i) => !processed[partition].has(i)))
        throw new Error(`${error.message}: ends ${ends}, missing ${JSON.stringify(holes)}`)
      })
      await until('everything is committed', async () => {
        const now = await committed(admin, group, topic)
        return ends.every((end, partition) => now[partition] === end)
      })
      await settled(admin, group, topic, partitions, members)
    } finally {
      stopped = true
      await Promise.all(members.map((member) => member.leave()))
    }
  }))
  const repeats = processed.flatMap((seen) => [...seen.values()]).reduce((sum, times) => sum + times - 1, 0)
  console.log(`churn: ${ends.reduce((sum, end) => sum + end)} records, ${repeats} processed again`)
}

module.exports = {
  collect,
  cases: [
    membersShareThePartitions,
    aGroupGoesOnWhereItHasCommitted,
    aRunningConsumerSeeksPausesAndResumes,
    aPatternFindsTopics,
    offsetsOfAGroupAreListedSetAndDeleted,
    churnLosesNoRecordAndTakesNoCommitBack,
  ],
}
