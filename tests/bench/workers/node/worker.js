// The worker as a team writes it by hand: look the message up, handle it, mark it, ack it; on an
// error wait, publish again with a higher count, and ack. Prints the seconds from the first delivery
// to the last ack.
'use strict'
const amqp = require('amqplib')
const { Pool } = require('pg')
const Redis = require('ioredis')

const { RABBITMQ_URL, DATABASE_URL, REDIS_URL, QUEUE, COUNT, PREFETCH } = process.env
const EXCHANGE = 'opsdesk.events'
const MAX_RETRIES = 3
const FIRST_DELAY_MS = 1000
const MAX_DELAY_MS = 30000

const pool = new Pool({ connectionString: DATABASE_URL })
const redis = new Redis(REDIS_URL) // connected as the guide has it; the handler below needs no key
let handled = 0
let line = ''

async function isProcessed(id, type) {
  const client = await pool.connect()
  try {
    const found = await client.query(
      'SELECT 1 FROM processed_events WHERE event_id = $1 AND event_type = $2 LIMIT 1', [id, type])
    return found.rows.length > 0
  } finally {
    client.release()
  }
}

async function markProcessed(id, type) {
  const client = await pool.connect()
  try {
    await client.query(
      'INSERT INTO processed_events (event_id, event_type, processor_name, processed_at) ' +
      "VALUES ($1, $2, 'worker', NOW()) ON CONFLICT (event_id) DO NOTHING", [id, type])
  } finally {
    client.release()
  }
}

async function handle(event) {
  const ticket = event.payload
  line = `ticket created ${ticket.id} ${ticket.title} ${ticket.ownerId}`
}

async function retry(channel, message, count) {
  const delay = Math.min(FIRST_DELAY_MS * 2 ** count, MAX_DELAY_MS)
  await new Promise((resolve) => setTimeout(resolve, delay))
  channel.publish(EXCHANGE, message.fields.routingKey, message.content, {
    persistent: true,
    headers: { ...message.properties.headers, 'x-retry-count': count + 1 },
    messageId: message.properties.messageId,
  })
  channel.ack(message)
}

async function take(channel, message, type) {
  const id = message.properties.messageId || message.fields.deliveryTag.toString()
  try {
    if (!(await isProcessed(id, type))) {
      await handle(JSON.parse(message.content.toString()))
      await markProcessed(id, type)
    }
    channel.ack(message)
  } catch (error) {
    const count = message.properties.headers?.['x-retry-count'] || 0
    if (count < MAX_RETRIES) await retry(channel, message, count)
    else channel.nack(message, false, false)
  }
}

async function main() {
  await pool.query('SELECT 1')
  await redis.ping()
  const connection = await amqp.connect(RABBITMQ_URL)
  const channel = await connection.createChannel()
  await channel.prefetch(Number(PREFETCH))
  let firstMs = 0
  let finished
  const done = new Promise((resolve) => { finished = resolve })
  await channel.consume(QUEUE, async (message) => {
    if (!firstMs) firstMs = performance.now()
    await take(channel, message, 'ticket.created')
    if (++handled === Number(COUNT)) finished()
  })
  await done
  console.log(((performance.now() - firstMs) / 1000).toFixed(6))
  // A quorum queue learns of acks a moment later than the broker: one whose channel closes before
  // that takes their messages back.
  await new Promise((resolve) => setTimeout(resolve, 500))
  await channel.close()
  await connection.close()
  await pool.end()
  redis.disconnect()
  return line
}

main().catch((error) => {
  console.error(error)
  process.exit(1)
})
