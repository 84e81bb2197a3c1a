// A browser for the tests in tests/e2e/browser.rs: reads a command a line, as JSON, and answers each with a line.
//
//   {"do": "open", "url": …, "width": …, "height": …, "scheme": "light" | "dark"}   a window of its own, which becomes the current one
//   {"do": "evaluate", "code": …}     what an expression comes to in the current window
//   {"do": "back"}                    closes it; the one before is current again
//   {"do": "press", "key": …}
//   {"do": "picture", "file": …}      a PNG of the whole page
//   {"do": "axe"}                     what axe-core finds wrong
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const profile = await mkdtemp(join(tmpdir(), "virtlab-browser-"));
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: "/usr/bin/chromium",
  args: [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
  ],
});
const windows = [];
let page;
// What went wrong in any window: an exception, or something that the policy of the page forbids.
const complaints = [];

const commands = {
  async open({ url, width, height, scheme }) {
    page = await browser.newPage();
    windows.push(page);
    page.on("pageerror", (error) => complaints.push(String(error)));
    page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
    await page.setViewportSize({ width, height });
    await page.emulateMedia({ colorScheme: scheme });
    await page.goto(url);
  },
  async back() {
    await windows.pop().close();
    page = windows.at(-1);
    await page.bringToFront();
  },
  evaluate: ({ code }) => page.evaluate(code),
  press: ({ key }) => page.keyboard.press(key),
  async picture({ file }) {
    await page.screenshot({ path: file, fullPage: true });
  },
  async axe() {
    await page.evaluate(axe);
    const { violations } = await page.evaluate("axe.run()");
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map((it) => `${it.html} (${it.failureSummary})`).join("\n")}`);
  },
  complaints: () => complaints,
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  let answer;
  try {
    answer = { value: (await commands[command.do](command)) ?? null };
  } catch (error) {
    answer = { error: String(error) };
  }
  console.log(JSON.stringify(answer));
}
await browser.close();
await rm(profile, { recursive: true, force: true });
