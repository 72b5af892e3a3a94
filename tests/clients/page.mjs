// The page in Chromium: signed in, asked, deleted live, released, paused, audited; by keyboard, without JavaScript, in light and dark, on
// a phone and on a desk. axe finds nothing serious, and the browser's console stays empty.
//
//   node page.mjs URL OPERATOR_TOKEN DELETE_TOKEN [FOLDER_FOR_SCREENSHOTS]
//
// The server has `--min-budget 2` and a fresh store, so that a deletion is held after a few.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const [url, operator, deleter, folder] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu"],
});
const problems = [];
let checks = 0;

const wide = { width: 1280, height: 900 };
const narrow = { width: 360, height: 740 };

/** A page of its own; what the browser complains about is noted. Expected refusals are named by status. */
async function open({ colorScheme = "light", viewport = wide, javaScriptEnabled = true, refusals = [] } = {}) {
  const context = await browser.newContext({ colorScheme, viewport, javaScriptEnabled });
  const page = await context.newPage();
  page.on("console", (message) => {
    const expected = refusals.some((status) => message.text().includes(`status of ${status}`));
    if (["error", "warning"].includes(message.type()) && !expected) problems.push(`console: ${message.text()} at ${page.url()}`);
  });
  page.on("pageerror", (error) => problems.push(`script: ${error.message}`));
  page.on("requestfailed", (request) => {
    // A page that is left ends its events and its icon; a download ends its navigation.
    const ends = /\/ui\/(events|icon.svg|receipts\/.*)$/.test(request.url());
    if (!ends) problems.push(`request failed: ${request.url()} ${request.failure()?.errorText}`);
  });
  page.setDefaultTimeout(15_000);
  return page;
}

async function signIn(page, token = operator) {
  await page.goto(`${url}/ui`);
  await page.getByLabel(/Token/).fill(token);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.waitForURL(/\/ui$/);
}

/** axe's serious findings, things wider than the screen, and a screenshot. */
async function look(page, name) {
  checks += 1;
  if (folder) await page.screenshot({ path: `${folder}/${name}.png`, fullPage: true });
  const wider = await page.evaluate?.(() => document.documentElement.scrollWidth - document.documentElement.clientWidth).catch(() => 0);
  if (wider > 0) problems.push(`${name}: the page is ${wider} px wider than the screen`);
  // As the tools of a browser do it: not as a script of the page, which its policy would refuse.
  const found = await page.evaluate(`${axe}; axe.run(document, { resultTypes: ["violations"] })`).catch((error) => ({ violations: [], error }));
  if (found.error) problems.push(`${name}: axe could not run: ${found.error.message}`);
  for (const violation of found.violations) {
    const line = `${name}: axe ${violation.impact} ${violation.id}: ${violation.nodes.map((node) => node.html.slice(0, 120)).join(" | ")}`;
    if (["serious", "critical"].includes(violation.impact)) problems.push(line);
    else console.log(line);
  }
}

async function step(name, work) {
  try {
    await work();
    console.log(`ok ${name}`);
  } catch (error) {
    problems.push(`${name}: ${error.message.split("\n").slice(0, 6).join(" / ")}`);
    console.log(`FAILED ${name}`);
  }
}

async function remove(request) {
  const headers = { authorization: `Bearer ${request.token ?? deleter}`, "content-type": "application/json" };
  const body = JSON.stringify({ request_id: request.id, subjects: request.subjects ?? [], records: request.records ?? [] });
  const answer = await fetch(`${url}/deletions`, { method: "POST", headers, body });
  return { status: answer.status, body: await answer.json() };
}

const numbers = Array.from({ length: 784 }, (_, index) => (index * 37) % 255).join(",");

await step("a wrong token is refused in words", async () => {
  const page = await open({ refusals: [401, 403] });
  await page.goto(`${url}/ui`);
  assert.match(page.url(), /sign-in$/);
  await look(page, "sign-in-light-wide");
  await page.getByLabel(/Token/).fill("s3t_wrong_token");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("alert").waitFor();
  await look(page, "sign-in-refused");
  await page.context().close();
});

for (const colorScheme of ["light", "dark"]) {
  for (const [size, viewport] of Object.entries({ wide, narrow })) {
    await step(`overview, ${colorScheme}, ${size}`, async () => {
      const page = await open({ colorScheme, viewport });
      await page.goto(`${url}/ui/sign-in`);
      await look(page, `sign-in-${colorScheme}-${size}`);
      await signIn(page);
      for (const title of ["What answers", "How long will it last?", "Is it fast?", "What happened", "Ask", "Is it proven?"]) {
        await page.getByRole("heading", { name: title, exact: true }).waitFor();
      }
      await look(page, `overview-${colorScheme}-${size}`);
      await page.context().close();
    });
  }
}

await step("an answer", async () => {
  const page = await open();
  await signIn(page);
  await page.getByLabel("or its numbers").fill(numbers);
  await page.getByRole("button", { name: "Answer" }).click();
  await page.getByText(/It knows of epoch/).waitFor();
  await look(page, "answer");
  await page.getByLabel("or its numbers").fill("these are words");
  await page.getByRole("button", { name: "Answer" }).click();
  await page.getByText("the box takes numbers with commas between").waitFor();
  await look(page, "answer-refused");
  await page.context().close();
});

await step("a deletion is seen without reload", async () => {
  const page = await open();
  await signIn(page);
  let loads = 0;
  page.on("load", () => (loads += 1));
  const before = await page.locator("#promise").innerText();
  const made = await remove({ id: "page-1", subjects: ["owner-0007"] });
  assert.ok([201, 202].includes(made.status), JSON.stringify(made));
  await page.waitForFunction((before) => document.querySelector("#promise").innerText !== before, before);
  assert.equal(loads, 0);
  await look(page, "deleted-live");
  await page.reload();
  await page.getByRole("cell", { name: "page-1", exact: true }).waitFor();
  await look(page, "history");
  await page.context().close();
});

await step("a request that is held is released", async () => {
  // Until a shard has two left, requests are done at once.
  let held;
  for (let turn = 0; turn < 20 && !held; turn += 1) {
    const made = await remove({ id: `braked-${turn}`, subjects: [`owner-00${20 + turn}`], token: operator });
    assert.ok([201, 202].includes(made.status), JSON.stringify(made));
    if (made.body.phase === "held") held = made.body.request_id;
  }
  assert.ok(held, "no request was held");
  for (const [size, viewport] of Object.entries({ wide, narrow })) {
    const page = await open({ viewport, colorScheme: size === "wide" ? "light" : "dark" });
    await signIn(page);
    await look(page, `held-${size}`);
    if (size === "narrow") {
      await page.getByRole("button", { name: `Release ${held}` }).click();
      await page.waitForURL(/#history$/);
      assert.equal(await page.getByRole("button", { name: `Release ${held}` }).count(), 0);
      await look(page, "released-narrow-dark");
    }
    await page.context().close();
  }
});

await step("repair is paused and resumed", async () => {
  const page = await open();
  await signIn(page);
  await page.getByRole("button", { name: "Pause" }).click();
  await page.getByText("Paused: no repair starts until it is resumed.").waitFor();
  await look(page, "paused");
  await page.getByRole("button", { name: "Resume" }).click();
  await page.getByRole("button", { name: "Pause" }).waitFor();
  await page.getByRole("button", { name: "Repair now" }).click();
  await page.waitForURL(/#how-long$/);
  await look(page, "repairing");
  await page.context().close();
});

await step("an audit and its report", async () => {
  const page = await open();
  await signIn(page);
  await page.getByRole("button", { name: "Audit now" }).click();
  await page.waitForURL(/\/ui\/audits\//);
  for (let turn = 0; turn < 100 && (await page.getByText(/goes on/).count()) > 0; turn += 1) {
    await page.waitForTimeout(100);
    await page.reload();
  }
  await page.getByRole("heading", { name: "Checks" }).waitFor();
  await look(page, "audit-light-wide");
  await page.setViewportSize(narrow);
  await page.emulateMedia({ colorScheme: "dark" });
  await look(page, "audit-dark-narrow");
  await page.context().close();
});

await step("a receipt is downloaded", async () => {
  const page = await open();
  await signIn(page);
  const link = page.getByRole("link", { name: "Receipt of page-1" });
  const [download] = await Promise.all([page.waitForEvent("download"), link.click()]);
  assert.equal(download.suggestedFilename(), "receipt.json");
  const receipt = JSON.parse(readFileSync(await download.path(), "utf8"));
  assert.ok(receipt.effect, "the receipt has no effect");
  await page.context().close();
});

await step("without JavaScript", async () => {
  const page = await open({ javaScriptEnabled: false });
  await signIn(page);
  await page.getByRole("cell", { name: "page-1", exact: true }).waitFor();
  await page.getByLabel("or its numbers").fill(numbers);
  await page.getByRole("button", { name: "Answer" }).click();
  await page.getByText(/It knows of epoch/).waitFor();
  await page.getByRole("button", { name: "Pause" }).click();
  await page.getByRole("button", { name: "Resume" }).click();
  await page.getByLabel("Request id").fill("page");
  await page.getByRole("button", { name: "Search" }).click();
  await page.waitForURL(/search=page/);
  if (folder) await page.screenshot({ path: `${folder}/no-javascript-search.png`, fullPage: true });
  await page.getByRole("link", { name: "Show the newest" }).click();
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.waitForURL(/sign-in$/);
  await page.goto(`${url}/ui`);
  assert.match(page.url(), /sign-in$/, "whoever signed out is let in");
  await page.context().close();
});

await step("by keyboard alone", async () => {
  const page = await open();
  await page.goto(`${url}/ui/sign-in`);
  const focused = () => page.evaluate(() => document.activeElement?.textContent?.trim() || document.activeElement?.id || document.activeElement?.name);
  /** Tab until a thing has the focus; it has to be visible, with a mark around it. */
  const tabTo = async (wanted) => {
    for (let turn = 0; turn < 60; turn += 1) {
      await page.keyboard.press("Tab");
      const name = await focused();
      const marked = await page.evaluate(() => {
        const element = document.activeElement;
        if (!element || element === document.body) return true;
        return getComputedStyle(element).outlineStyle !== "none";
      });
      assert.ok(marked, `the focus on ${name} cannot be seen`);
      if (name && wanted.test(name)) return;
    }
    assert.fail(`${wanted} is not reached by Tab`);
  };
  assert.equal(await focused(), "token", "the sign-in does not begin in its field");
  await page.keyboard.type(operator);
  await page.keyboard.press("Enter");
  await page.waitForURL(/\/ui$/);
  await page.keyboard.press("Tab");
  assert.match(await focused(), /To the content/);
  await look(page, "skip-link");
  await page.keyboard.press("Enter");
  await tabTo(/^Pause$/);
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Resume" }).waitFor();
  await tabTo(/^Resume$/);
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Pause" }).waitFor();
  await tabTo(/^text$/);
  await page.keyboard.insertText(numbers);
  await tabTo(/^Answer$/);
  await page.keyboard.press("Enter");
  await page.getByText(/It knows of epoch/).waitFor();
  await tabTo(/^Audit now$/);
  await page.keyboard.press("Enter");
  await page.waitForURL(/\/ui\/audits\//);
  await page.context().close();
});

await step("the live view does not take what somebody types or holds", async () => {
  const page = await open();
  await signIn(page);
  await page.getByRole("button", { name: "Pause" }).focus();
  await page.waitForTimeout(3000);
  assert.equal(await page.evaluate(() => document.activeElement?.textContent), "Pause");
  await page.context().close();
});

await browser.close();
console.log(`${checks} states looked at`);
for (const problem of problems) console.error(`PROBLEM ${problem}`);
process.exit(problems.length > 0 ? 1 : 0);
