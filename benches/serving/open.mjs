// Open loop with autocannon: requests leave at a rate, whether or not answers come.
//   node open.mjs AUTOCANNON URL RATE SECONDS
import { createRequire } from "node:module";
const [path, url, rate, seconds] = process.argv.slice(2);
const autocannon = createRequire(import.meta.url)(path);
const features = Array.from({ length: 784 }, (_, index) => ((index + 1) * 37) % 255);
const result = await autocannon({
  url,
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ inputs: { features } }),
  connections: Number(process.env.CONNECTIONS ?? Math.min(512, Math.max(16, Math.ceil(rate / 8)))),
  overallRate: Number(rate),
  duration: Number(seconds),
  timeout: 15,
});
const of = (status) => result.statusCodeStats[status]?.count ?? 0;
const { p50, p99 } = result.latency;
console.log(
  `answers/s ${Math.round(of(200) / result.duration)}, refused/s ${Math.round(of(429) / result.duration)}, p50 ${p50} ms, p99 ${p99} ms, errors ${result.errors}, timeouts ${result.timeouts}`,
);
