// The frame of the drivers in JavaScript; see protocol.py for the commands and their answers.

import { createInterface } from "node:readline";

export const payload = { to: "somebody@example.org", subject: "welcome", n: 1 };
export const mostAtOnce = 8;

/** Seconds of the host's monotonic clock, the same in all processes. */
export const monotonic = () => Number(process.hrtime.bigint()) / 1e9;

/** Seconds since 1970. */
export const now = () => (performance.timeOrigin + performance.now()) / 1000;

/** The no-op handlers' tally. */
export class Count {
  done = 0;
  first = 0;
  add() {
    if (!this.done) this.first = now();
    this.done += 1;
  }
  drained() {
    return { done: this.done, first: this.first };
  }
}

export const say = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`);

/** Resolves with the next line from the runner, or when it is gone. */
export const line = () =>
  new Promise((resolve) => {
    const input = createInterface({ input: process.stdin });
    input.once("line", () => input.close());
    input.once("close", resolve);
  });

/** Seconds that `work` takes. */
export const timed = async (work) => {
  const started = monotonic();
  await work();
  return monotonic() - started;
};

/** `count` in pieces of up to `size`. */
export function* chunks(count, size) {
  for (let done = 0; done < count; done += size) yield Math.min(size, count - done);
}

/** Calls `enqueue` at an even rate, with payloads that hold the moment of the call. */
export const atRate = async (enqueue, rate, seconds) => {
  const begin = monotonic();
  const count = Math.max(1, Math.floor(rate * seconds));
  const running = new Set();
  for (let number = 0; number < count; number++) {
    const pause = begin + number / rate - monotonic();
    if (pause > 0) await new Promise((resolve) => setTimeout(resolve, pause * 1000));
    while (running.size >= mostAtOnce) await Promise.race(running);
    const one = enqueue({ sent_at: monotonic() }).finally(() => running.delete(one));
    running.add(one);
  }
  await Promise.all(running);
  return { sent: count, seconds: monotonic() - begin };
};

/** Runs the command that the command line names. `make` takes the DSN and gives the driver. */
export const main = async (make) => {
  const [dsn, , command, ...rest] = process.argv.slice(2);
  const driver = make(dsn);
  const numbers = rest.map(Number);
  const ready = () => say({ ready: true });
  if (command === "drain") say(await driver.drain(async () => (ready(), await line())));
  else if (command === "serve") say({ latencies: await driver.serve(ready) });
  else if (command === "send") say(await driver.send(...numbers));
  else if (command === "enqueue" || command === "single")
    say({ seconds: await driver[command](...numbers) });
  else say((await driver[command]()) ?? {});
  process.exit(0);
};
