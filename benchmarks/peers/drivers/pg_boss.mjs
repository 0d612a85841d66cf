// pg-boss: drained by fetch in batches and complete with arrays, since its work() has no end.

import { readFileSync } from "node:fs";
import { PgBoss } from "pg-boss";
import { atRate, chunks, Count, line, main, monotonic, mostAtOnce, payload, timed } from "./protocol.mjs";

const queue = "bench";
const batchSize = 1_000;
const loops = 2;
const chunk = 10_000;

const version = (name) => JSON.parse(readFileSync(`node_modules/${name}/package.json`, "utf8")).version;

class Boss {
  constructor(dsn) {
    this.dsn = dsn;
  }

  async started(options = {}) {
    const boss = new PgBoss({ connectionString: this.dsn, schedule: false, ...options });
    boss.on("error", (error) => console.error(error.message));
    await boss.start();
    return boss;
  }

  info() {
    return {
      versions: { "pg-boss": version("pg-boss"), pg: version("pg"), node: process.versions.node },
      settings: {
        handlers: "async",
        batchSize: String(batchSize),
        loops: `${loops} of fetch and complete per process`,
        "pick-up": "useListenNotify, and notify on the queue",
        "finished jobs": "kept for 7 days (default)",
      },
      unfinished: `select count(*) from pgboss.job where name = '${queue}' and state < 'completed'`,
      finished: `select count(*) from pgboss.job where name = '${queue}' and state = 'completed'`,
      table: "pgboss.job",
      claim: "for update.*skip locked",
    };
  }

  async setup() {
    const boss = await this.started();
    await boss.createQueue(queue, { notify: true });
    await boss.stop({ graceful: false });
  }

  async enqueue(count) {
    const boss = await this.started({ max: 2 });
    return timed(async () => {
      for (const size of chunks(count, chunk)) await boss.insert(queue, Array(size).fill({ data: payload }));
    });
  }

  async single(count) {
    const boss = await this.started({ max: 1, supervise: false });
    return timed(async () => {
      for (let number = 0; number < count; number++) await boss.send(queue, payload);
    });
  }

  async drain(begin) {
    const boss = await this.started();
    const count = new Count();
    const noop = async () => count.add();
    const loop = async () => {
      for (;;) {
        const jobs = await boss.fetch(queue, { batchSize });
        if (jobs.length === 0) return;
        for (const job of jobs) await noop(job);
        await boss.complete(queue, jobs.map((job) => job.id));
      }
    };
    await begin();
    await Promise.all(Array.from({ length: loops }, loop));
    return count.drained();
  }

  async serve(ready) {
    const boss = await this.started({ useListenNotify: true });
    const latencies = [];
    await boss.work(queue, { batchSize: 100, burstWhenBatchFull: true }, async (jobs) => {
      const started = monotonic();
      for (const job of jobs) latencies.push(started - job.data.sent_at);
    });
    ready();
    await line();
    await boss.stop({ graceful: false });
    return latencies;
  }

  async send(rate, seconds) {
    const boss = await this.started({ max: mostAtOnce, supervise: false });
    return atRate((sent) => boss.send(queue, sent), rate, seconds);
  }
}

await main((dsn) => new Boss(dsn));
