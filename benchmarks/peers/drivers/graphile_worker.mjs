// graphile-worker with the settings of its own published performance test.

import { readFileSync } from "node:fs";
import { Logger, makeWorkerUtils, run, runMigrations, runOnce } from "graphile-worker";
import pg from "pg";
import { atRate, chunks, Count, line, main, monotonic, mostAtOnce, payload, timed } from "./protocol.mjs";

const concurrentJobs = 24;
const localQueueSize = 500;
const chunk = 20_000;
const logger = new Logger(() => (level, message) => {
  if (level === "error") console.error(message);
});
process.env.NO_LOG_SUCCESS = "1";

const version = (name) => JSON.parse(readFileSync(`node_modules/${name}/package.json`, "utf8")).version;

class GraphileWorker {
  constructor(dsn) {
    this.dsn = dsn;
  }

  options() {
    return {
      logger,
      noHandleSignals: true,
      preset: {
        worker: {
          connectionString: this.dsn,
          concurrentJobs,
          maxPoolSize: concurrentJobs + 1,
          localQueue: { size: localQueueSize },
          completeJobBatchDelay: 0,
          failJobBatchDelay: 0,
        },
      },
    };
  }

  info() {
    return {
      versions: { "graphile-worker": version("graphile-worker"), pg: version("pg"), node: process.versions.node },
      settings: {
        handlers: "async",
        concurrentJobs: String(concurrentJobs),
        "localQueue.size": String(localQueueSize),
        completeJobBatchDelay: "0",
        failJobBatchDelay: "0",
        "finished jobs": "deleted",
      },
      unfinished: "select count(*) from graphile_worker._private_jobs",
      finished: null,
      table: "graphile_worker._private_jobs",
      claim: "for update.*skip locked",
    };
  }

  async setup() {
    await runMigrations(this.options());
  }

  // The statement of its performance test: add_jobs without returning the jobs.
  async enqueue(count) {
    return this.connected(1, (pool) =>
      timed(async () => {
        for (const size of chunks(count, chunk)) {
          const jobs = Array(size).fill({ identifier: "noop", payload });
          await pool.query(
            "select 1 from graphile_worker.add_jobs(array(" +
              "select json_populate_recordset(null::graphile_worker.job_spec, $1::json)))",
            [JSON.stringify(jobs)],
          );
        }
      }),
    );
  }

  async single(count) {
    return this.connected(1, (pool) =>
      timed(async () => {
        const utils = await makeWorkerUtils({ logger, pgPool: pool });
        for (let number = 0; number < count; number++) await utils.addJob("noop", payload);
      }),
    );
  }

  async drain(begin) {
    const count = new Count();
    await begin();
    await runOnce(this.options(), { noop: async () => count.add() });
    return count.drained();
  }

  async serve(ready) {
    const latencies = [];
    const runner = await run(this.options(), {
      ping: async ({ sent_at }) => latencies.push(monotonic() - sent_at) && undefined,
    });
    ready();
    await line();
    await runner.stop();
    return latencies;
  }

  async send(rate, seconds) {
    return this.connected(mostAtOnce, async (pool) => {
      const utils = await makeWorkerUtils({ logger, pgPool: pool });
      return atRate((sent) => utils.addJob("ping", sent), rate, seconds);
    });
  }

  async connected(max, work) {
    const pool = new pg.Pool({ connectionString: this.dsn, max });
    pool.on("error", () => {});
    await pool.query("select 1");
    return work(pool);
  }
}

await main((dsn) => new GraphileWorker(dsn));
